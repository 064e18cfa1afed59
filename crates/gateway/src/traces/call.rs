//! The span of a call: from its request to the last byte of its answer.
//!
//! An HTTP server span (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>, stable) that
//! names the call. Attempts are its children.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Waker, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use engine::openai::Surface;
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use record::CallId;
use tokio::time::Instant;

use super::context::{Context, Parent, SpanId};
use super::otlp::{self, KeyValue, SpanKind};
use super::{Spans, attributes};
use crate::callers::Caller;
use crate::lock::lock;

/// A call that is traced, or whose trace at least goes on to endpoints.
pub(crate) struct CallTrace {
    pub(super) spans: Arc<Spans>,
    pub(super) context: Context,
    pub(super) span: SpanId,
    parent: Option<SpanId>,
    pub(super) surface: Surface,
    pub(super) call: CallId,
    caller: Option<String>,
    pub(super) begun: Instant,
    begun_unix_ms: u64,
    /// Whether endpoints are told of the trace.
    propagate: bool,
    /// What went wrong with the latest attempt.
    attempt_error: Mutex<Option<&'static str>>,
}

/// When and as what a call came.
pub(crate) struct Arrival<'a> {
    pub(crate) surface: Surface,
    pub(crate) call: CallId,
    pub(crate) caller: &'a Caller,
    pub(crate) unix_ms: u64,
}

impl CallTrace {
    pub(super) fn new(
        spans: &Arc<Spans>,
        parent: Option<Parent>,
        (context, span): (Context, SpanId),
        arrival: &Arrival<'_>,
        propagate: bool,
    ) -> Self {
        Self {
            spans: Arc::clone(spans),
            context,
            span,
            parent: parent.map(|parent| parent.span),
            surface: arrival.surface,
            call: arrival.call,
            caller: arrival.caller.name().map(str::to_owned),
            begun: Instant::now(),
            begun_unix_ms: arrival.unix_ms,
            propagate,
            attempt_error: Mutex::default(),
        }
    }

    /// Tells an endpoint which attempt of which trace asks it.
    pub(super) fn tell(&self, attempt: SpanId, with_state: bool, headers: &mut HeaderMap) {
        if self.propagate {
            self.context.tell(attempt, with_state, headers);
        }
    }

    /// How the latest attempt ended. A stream that breaks off has said 200 by then.
    pub(super) fn attempt_ended(&self, error: Option<&'static str>) {
        *lock(&self.attempt_error) = error;
    }

    /// The Unix time of a moment of this call, in ns. All of a call's times rest on one look at the
    /// wall clock, so that a clock that is set in between cannot turn spans inside out.
    pub(super) fn unix_ns(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begun).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        (self.begun_unix_ms.saturating_mul(1_000_000)).saturating_add(since)
    }

    /// The answer, which ends the span when it was sent, or when its caller went away.
    pub(crate) fn follow(self: Arc<Self>, answer: Response) -> Response {
        if !self.context.sampled {
            return answer;
        }
        let mut ending = Ending {
            status: answer.status(),
            sent: false,
            trace: self,
        };
        answer.map(move |body| {
            ending.sent = http_body::Body::is_end_stream(&body);
            Body::new(Followed { body, ending })
        })
    }

    fn end(&self, status: StatusCode, sent: bool) {
        let path = self.surface.path();
        let mut attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", format!("/v1{path}")),
            KeyValue::new("url.path", format!("/v1{path}")),
            KeyValue::new("http.response.status_code", u64::from(status.as_u16())),
            KeyValue::new(attributes::CALL, self.call.to_hex()),
        ];
        if let Some(caller) = &self.caller {
            attributes.push(KeyValue::new(attributes::CALLER, caller.as_str()));
        }
        let mut failed = None;
        if status.is_server_error() {
            failed = Some(status.as_u16().to_string());
        } else if !sent {
            failed = Some("canceled".to_owned());
        } else if status.is_success() {
            // The answer ended in an error event.
            failed = lock(&self.attempt_error).map(str::to_owned);
        }
        if let Some(error) = &failed {
            attributes.push(KeyValue::new("error.type", error.as_str()));
        }
        let remote = self.parent.map_or(0, |_| otlp::FLAG_IS_REMOTE);
        self.spans.submit(otlp::Span {
            trace_id: self.context.trace.0.to_vec(),
            span_id: self.span.0.to_vec(),
            trace_state: self.context.state().to_owned(),
            parent_span_id: self.parent.map_or_else(Vec::new, |span| span.0.to_vec()),
            name: format!("POST /v1{path}"),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: self.unix_ns(self.begun),
            end_time_unix_nano: self.unix_ns(Instant::now()),
            attributes,
            status: attributes::status(failed.is_some()),
            flags: u32::from(self.context.flags()) | otlp::FLAG_HAS_IS_REMOTE | remote,
        });
    }
}

/// Ends the span of a call when it is dropped.
struct Ending {
    trace: Arc<CallTrace>,
    status: StatusCode,
    /// The whole answer was taken by the connection.
    sent: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.trace.end(self.status, self.sent);
    }
}

/// The body of an answer, watched for its end.
struct Followed {
    body: Body,
    ending: Ending,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(waker);
        if let Poll::Ready(frame) = &polled {
            // A server that knows the length does not ask once more for nothing.
            self.ending.sent = frame.is_none() || self.body.is_end_stream();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
