//! Spans in batches to a receiver: OTLP over HTTP, in protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! A batch goes when it is full or its first span has waited long enough. One that the receiver
//! cannot take just now (429, 502, 503, 504, no connection) is posted again after a pause; any other
//! refusal loses it, as the specification asks. Whatever is lost is counted. While a batch is posted
//! again, spans gather in the queue, and what finds no room there is dropped. The first refusal of a
//! batch after one that was taken is told at once: what comes to nothing only at the end of all pauses
//! would be told a minute later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
use engine::upstream::{ConnectFailure, connect_failure};
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Spans;
use super::otlp::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
    Span,
};
use crate::config::traces::TracesConfig;
use crate::lock::lock;

/// The first pause before a batch is posted again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause, whatever a receiver asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a batch is posted again.
const AGAIN_MAX: u32 = 5;
/// Where receivers speak gRPC, and where OTLP over HTTP, by custom
/// (<https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-default-port>).
const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;
/// Bytes that are read of a receiver's answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Posts spans.
pub(super) struct Export {
    config: TracesConfig,
    resource: Resource,
    client: Client,
    spans: Arc<Spans>,
    /// The receiver took nothing when it was asked last, and that was told.
    refusing: AtomicBool,
}

/// Why a batch was not taken.
enum Refused {
    /// It may be taken later.
    Later(String, Option<Duration>),
    /// It will not.
    Never(String),
}

impl Export {
    pub(super) fn new(config: &TracesConfig, instance: &str, spans: Arc<Spans>) -> Self {
        let mut attributes = vec![
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ];
        for (key, value) in &config.resource {
            // What was configured goes before what is known anyway.
            attributes.retain(|ours| ours.key != *key);
            attributes.push(KeyValue::new(key, value.as_str()));
        }
        Self {
            config: config.clone(),
            resource: Resource { attributes },
            client: engine::http::client(),
            spans,
            refusing: AtomicBool::new(false),
        }
    }

    /// Posts batches until it is stopped, and then what is left.
    pub(super) async fn run(
        self,
        mut waiting: mpsc::Receiver<Span>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let most = self.config.batches.batch_max;
        loop {
            let mut batch = Vec::with_capacity(most.min(64));
            let mut until = None;
            while batch.len() < most {
                let room = most - batch.len();
                let due = until.unwrap_or_else(Instant::now);
                tokio::select! {
                    biased;
                    // Closed, it still gives out what it holds.
                    _ = stopped.wait_for(|stop| *stop), if !waiting.is_closed() => waiting.close(),
                    taken = waiting.recv_many(&mut batch, room) => {
                        if taken == 0 {
                            break;
                        }
                        add(&self.spans.counts.held, taken as u64);
                        until.get_or_insert_with(|| Instant::now() + self.config.batches.delay);
                    }
                    () = tokio::time::sleep_until(due), if until.is_some() => break,
                }
            }
            if batch.is_empty() {
                return;
            }
            self.export(batch, &mut stopped).await;
        }
    }

    /// Posts one batch, again and again if need be.
    async fn export(&self, batch: Vec<Span>, stopped: &mut watch::Receiver<bool>) {
        let number = batch.len() as u64;
        let counts = &self.spans.counts;
        let body = Bytes::from(self.request(batch).encode_to_vec());
        match self.post_until(&body, stopped).await {
            Ok(rejected) => {
                self.refusing.store(false, Ordering::Relaxed);
                let rejected = rejected.min(number);
                add(&counts.exported, number - rejected);
                add(&counts.failed, rejected);
                *lock(&counts.error) = (rejected > 0).then(|| "it rejected some spans".to_owned());
            }
            Err(why) => {
                tracing::warn!(why, spans = number, "traces were not taken");
                add(&counts.failed, number);
                *lock(&counts.error) = Some(why);
            }
        }
        counts.held.store(0, Ordering::Relaxed);
    }

    /// Posts a batch until the receiver took it, and says how many spans it rejected; or why it will
    /// not be posted again.
    async fn post_until(
        &self,
        body: &Bytes,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<u64, String> {
        let counts = &self.spans.counts;
        let mut pause = PAUSE_MIN;
        let mut again = 0;
        loop {
            let (why, asked) = match self.post(body.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(Refused::Never(why)) => return Err(why),
                Err(Refused::Later(why, asked)) => (why, asked),
            };
            // Who stops has no time for pauses.
            if again == AGAIN_MAX || *stopped.borrow() {
                return Err(why);
            }
            *lock(&counts.error) = Some(why.clone());
            if !self.refusing.swap(true, Ordering::Relaxed) {
                tracing::warn!(why, "traces are not taken; they are posted again");
            }
            let wait = asked.unwrap_or(pause).min(PAUSE_MAX);
            let _ = tokio::time::timeout(wait, stopped.wait_for(|stop| *stop)).await;
            pause = (pause * 2).min(PAUSE_MAX);
            again += 1;
            add(&counts.again, 1);
        }
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "longrun.gateway".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                    schema_url: self.config.convention.schema_url().to_owned(),
                }],
            }],
        }
    }

    /// Posts a batch once, and says how many of its spans were rejected. What went wrong holds
    /// nothing of the address or of what the receiver wrote.
    async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        let mut request = Request::post(self.config.endpoint.0.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, "longrun-gateway");
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|error| Refused::Never(error.to_string()))?;
        let exchange = async {
            let answer = self.client.request(request).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok();
            Ok((head, body.map(http_body_util::Collected::to_bytes)))
        };
        let port = self.config.endpoint.0.port_u16();
        let (head, body) = match tokio::time::timeout(self.config.timeout, exchange).await {
            Err(_) => {
                let why = hinted("it did not answer in time", port == Some(GRPC_PORT));
                return Err(Refused::Later(why, None));
            }
            Ok(Err(error)) => return Err(Refused::Later(unreached(&error, port), None)),
            Ok(Ok(answer)) => answer,
        };
        if head.status.is_success() {
            return Ok(body.map_or(0, |body| super::rejected_spans(&body)));
        }
        let why = format!("it answered {}", head.status);
        Err(match head.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let after = head
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|it| it.to_str().ok());
                let seconds = after.and_then(|it| it.trim().parse().ok());
                Refused::Later(why, seconds.map(Duration::from_secs))
            }
            _ => Refused::Never(why),
        })
    }
}

/// Why a post got no answer, in words of our own. A server of gRPC answers HTTP/1.1 with frames of
/// HTTP/2, which are no answer, or closes the connection.
fn unreached(error: &hyper_util::client::legacy::Error, port: Option<u16>) -> String {
    if error.is_connect() {
        let why = match connect_failure(error) {
            ConnectFailure::Refused => "it cannot be reached: nothing listens there",
            ConnectFailure::TimedOut => "it cannot be reached: no connection in time",
            ConnectFailure::Name => "it cannot be reached: its name is not found",
            ConnectFailure::Expired => "it cannot be reached: its certificate has expired",
            ConnectFailure::Untrusted => "it cannot be reached: its certificate is not trusted",
            ConnectFailure::Tls => "it cannot be reached: TLS failed",
            ConnectFailure::Scheme => {
                "it cannot be reached: it does not speak TLS; does its URL begin with http://?"
            }
            ConnectFailure::Other => "it cannot be reached",
        };
        return why.to_owned();
    }
    // A receiver that restarts does so as well, where nothing speaks for gRPC.
    hinted("it gave no answer in HTTP/1.1", port != Some(HTTP_PORT))
}

/// What went wrong, with what most often is the reason where a receiver does not speak HTTP/1.1.
fn hinted(why: &str, grpc: bool) -> String {
    let hint = "; port 4317 is usually for gRPC, and OTLP over HTTP, which is spoken here, at 4318";
    format!("{why}{}", if grpc { hint } else { "" })
}

fn add(count: &AtomicU64, number: u64) {
    count.fetch_add(number, Ordering::Relaxed);
}
