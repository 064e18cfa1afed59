//! Spans in batches to a receiver: OTLP over HTTP, in protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! A batch goes when it is full or its first span has waited long enough. One that the receiver
//! cannot take just now (429, 502, 503, 504, no connection) is posted again after a pause; any other
//! refusal loses it, as the specification asks. Whatever is lost is counted. While a batch is posted
//! again, spans gather in the queue, and what finds no room there is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
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
/// Bytes that are read of a receiver's answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Posts spans.
pub(super) struct Export {
    config: TracesConfig,
    resource: Resource,
    client: Client,
    spans: Arc<Spans>,
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
        let body = Bytes::from(self.request(batch).encode_to_vec());
        let counts = &self.spans.counts;
        let mut pause = PAUSE_MIN;
        let mut again = 0;
        let why = loop {
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(number);
                    add(&counts.exported, number - rejected);
                    add(&counts.failed, rejected);
                    *lock(&counts.error) =
                        (rejected > 0).then(|| "it rejected some spans".to_owned());
                    return;
                }
                Err(Refused::Never(why)) => break why,
                Err(Refused::Later(why, asked)) => {
                    // Who stops has no time for pauses.
                    if again == AGAIN_MAX || *stopped.borrow() {
                        break why;
                    }
                    *lock(&counts.error) = Some(why);
                    let wait = asked.unwrap_or(pause).min(PAUSE_MAX);
                    let _ = tokio::time::timeout(wait, stopped.wait_for(|stop| *stop)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    again += 1;
                }
            }
        };
        tracing::warn!(why, spans = number, "traces were not taken");
        add(&counts.failed, number);
        *lock(&counts.error) = Some(why);
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
            let answer = self.client.request(request).await.ok()?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok();
            Some((head, body.map(http_body_util::Collected::to_bytes)))
        };
        let (head, body) = match tokio::time::timeout(self.config.timeout, exchange).await {
            Err(_) => return Err(Refused::Later("it did not answer in time".to_owned(), None)),
            Ok(None) => return Err(Refused::Later("it cannot be reached".to_owned(), None)),
            Ok(Some(answer)) => answer,
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

fn add(count: &AtomicU64, number: u64) {
    count.fetch_add(number, Ordering::Relaxed);
}
