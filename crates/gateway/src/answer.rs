//! What goes back to the caller: the endpoint's bytes, with the call's name on them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use engine::openai::ApiError;
use engine::sse::Event;
use futures_util::stream::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::StreamBody;
use record::CallId;

use crate::catalog::Live;

/// Names the call; on every answer to one.
pub const CALL_HEADER: HeaderName = HeaderName::from_static("x-longrun-call");
/// Names the endpoint that answered, `provider/model`.
pub const ENDPOINT_HEADER: HeaderName = HeaderName::from_static("x-longrun-endpoint");

/// Says what nobody met, where the caller takes the best there is.
pub const WARNING_HEADER: HeaderName = HeaderName::from_static("x-longrun-warning");

/// Headers of an endpoint that its callers may want. Whose account it is, as
/// `openai-organization` says, is not among them.
pub(crate) const PASSED_ON: &[&str] = &["x-request-id", "openai-processing-ms", "openai-version"];
/// How those headers begin that tell what is left of a limit.
pub(crate) const LIMIT_HEADERS: &str = "x-ratelimit-";

/// An answer, ready to be sent.
pub(crate) struct Answer(pub(crate) Response);

impl Answer {
    /// An answer in one piece.
    pub(crate) fn whole(
        status: StatusCode,
        headers: &HeaderMap,
        call: CallId,
        live: &Live,
        parts: VecDeque<Bytes>,
    ) -> Self {
        let mut answer = Response::new(Body::new(Pieces::new(parts)));
        *answer.status_mut() = status;
        name(answer.headers_mut(), headers, call, Some(live));
        Self(answer)
    }

    /// A stream of frames.
    pub(crate) fn stream(
        status: StatusCode,
        headers: &HeaderMap,
        call: CallId,
        live: &Live,
        frames: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Self {
        let frames = frames.map(|frame| Ok::<_, std::convert::Infallible>(Frame::data(frame)));
        let mut answer = Response::new(Body::new(StreamBody::new(frames)));
        *answer.status_mut() = status;
        let ours = answer.headers_mut();
        name(ours, headers, call, Some(live));
        ours.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Proxies in front of this gateway are not to gather events either.
        ours.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Self(answer)
    }

    /// An error in OpenAI's shape.
    pub(crate) fn error(error: &ApiError, call: Option<CallId>, live: Option<&Live>) -> Self {
        Self::error_body(error, error.to_body(), call, live)
    }

    /// An error whose body is the endpoint's own.
    pub(crate) fn error_body(
        error: &ApiError,
        body: Bytes,
        call: Option<CallId>,
        live: Option<&Live>,
    ) -> Self {
        let mut answer = Response::new(Body::from(body));
        *answer.status_mut() =
            StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = error.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(call) = call {
            name(headers, &HeaderMap::new(), call, live);
        }
        Self(answer)
    }
}

impl Answer {
    /// The same with a warning.
    pub(crate) fn warned(mut self, warning: Option<HeaderValue>) -> Self {
        if let Some(warning) = warning {
            self.0.headers_mut().insert(WARNING_HEADER, warning);
        }
        self
    }
}

fn name(ours: &mut HeaderMap, theirs: &HeaderMap, call: CallId, live: Option<&Live>) {
    let call = HeaderValue::from_str(&call.to_hex()).expect("hex is a header");
    ours.insert(CALL_HEADER, call);
    if let Some(live) = live {
        ours.insert(ENDPOINT_HEADER, live.header.clone());
    }
    if let Some(kind) = theirs.get(CONTENT_TYPE) {
        ours.insert(CONTENT_TYPE, kind.clone());
    }
    for (name, value) in theirs {
        let text = name.as_str();
        if PASSED_ON.contains(&text) || text.starts_with(LIMIT_HEADERS) {
            ours.append(name.clone(), value.clone());
        }
    }
}

/// The member that an answer's final object gets, with the comma before it.
fn member(call: CallId, live: &Live, evidence: &str) -> String {
    let endpoint = &live.json;
    format!(r#","longrun":{{"call":"{call}","endpoint":{endpoint},"evidence":"{evidence}"}}"#)
}

/// The bytes of an answer with the member before the final `}`; taking it out again gives the
/// endpoint's own bytes. Bytes that do not end in an object with members stay as they are.
pub(crate) fn marked(bytes: &Bytes, call: CallId, live: &Live, evidence: &str) -> VecDeque<Bytes> {
    match member_place(bytes) {
        None => VecDeque::from([bytes.clone()]),
        Some(place) => VecDeque::from([
            bytes.slice(..place),
            Bytes::from(member(call, live, evidence)),
            bytes.slice(place..),
        ]),
    }
}

/// An event with the member before the final `}` of its data, in one frame. An event whose data
/// has more than one line, or does not come last, stays as it is: `raw` and `data` differ there.
pub(crate) fn marked_event(event: &Event, call: CallId, live: &Live, evidence: &str) -> Bytes {
    let ends = |data: &Bytes| {
        !data.contains(&b'\n') && event.raw.trim_ascii_end().ends_with(data.trim_ascii_end())
    };
    if !event.data.as_ref().is_some_and(ends) {
        return event.raw.clone();
    }
    let Some(place) = member_place(&event.raw) else {
        return event.raw.clone();
    };
    let member = member(call, live, evidence);
    let mut frame = BytesMut::with_capacity(event.raw.len() + member.len());
    frame.extend_from_slice(&event.raw[..place]);
    frame.extend_from_slice(member.as_bytes());
    frame.extend_from_slice(&event.raw[place..]);
    frame.freeze()
}

/// Where the final `}` stands, if an object with members ends there.
fn member_place(bytes: &[u8]) -> Option<usize> {
    let end = bytes.trim_ascii_end();
    let before = end.strip_suffix(b"}")?.trim_ascii_end();
    let empty = before.ends_with(b"{") || before.ends_with(b",") || before.is_empty();
    (!empty).then_some(end.len() - 1)
}

/// A body of a few pieces, whose length is known.
struct Pieces {
    parts: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    fn new(parts: VecDeque<Bytes>) -> Self {
        let left = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts, left }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let part = self.parts.pop_front();
        if let Some(part) = &part {
            self.left -= part.len() as u64;
        }
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_goes_before_the_final_brace() {
        for (bytes, place) in [
            (&br#"{"a":1}"#[..], Some(6)),
            (b"{\"a\":{\"b\":2} }\n\n", Some(13)),
            (b"data: {\"a\":1}\n\n", Some(12)),
            (b"{}", None),
            (b"{ }", None),
            (b"[1]", None),
            (b"", None),
            (b"}", None),
        ] {
            assert_eq!(
                member_place(bytes),
                place,
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
