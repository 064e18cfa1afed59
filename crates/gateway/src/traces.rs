//! OpenTelemetry traces: a span for every call, and one for each of its attempts.
//!
//! ```text
//! request ─▶ Tracer::begin ─▶ CallTrace ───────────▶ the answer's end ─▶ server span ─┐
//!                                └▶ AttemptTrace ─▶ the observation ─▶ client span ───┤
//!                                        └▶ `traceparent` to the endpoint             ▼
//!                                                                      queue ─▶ batches ─▶ OTLP
//! ```
//!
//! Spans hold names, numbers and times, and nothing of what was said. They are made after the fact,
//! and handed to a bounded queue that never waits: one that is full drops spans, and counts them. A
//! task of its own posts them as OTLP over HTTP in protobuf. Without a receiver in the configuration
//! none of this exists, and a call costs one look at an `Option`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderMap;
use prost::Message as _;
use ring::rand::SecureRandom;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::traces::TracesConfig;
use crate::lock::lock;

pub(crate) mod attempt;
pub(crate) mod attributes;
mod call;
mod context;
mod export;
mod otlp;
pub(crate) mod sampler;

pub(crate) use attempt::AttemptTrace;
pub(crate) use call::{Arrival, CallTrace};

use attributes::Convention;
use context::{Context, Parent, SpanId, TraceId};

/// How long what waits may take to be posted when the gateway stops.
const FLUSH: Duration = Duration::from_secs(5);

/// What an endpoint is told of the trace that came with a call, for a span of all ones; `None` if what
/// came is no trace.
#[must_use]
pub fn passed_on(came: &HeaderMap) -> Option<HeaderMap> {
    let parent = Parent::of(came)?;
    let sampled = parent.sampled;
    let context = Context::new(Some(parent), TraceId([0xff; 16]), sampled);
    let mut headers = HeaderMap::new();
    context.tell(SpanId([0xff; 8]), true, &mut headers);
    Some(headers)
}

/// How many spans a receiver says that it rejected, by its answer in protobuf; none by one that cannot
/// be read.
#[must_use]
pub fn rejected_spans(answer: &[u8]) -> u64 {
    let said = otlp::ExportTraceServiceResponse::decode(answer).ok();
    let partly = said.and_then(|said| said.partial_success);
    partly.map_or(0, |it| u64::try_from(it.rejected_spans).unwrap_or(0))
}

/// Traces calls.
pub(crate) struct Tracer {
    spans: Arc<Spans>,
    config: TracesConfig,
    stop: watch::Sender<bool>,
    exporting: Mutex<Option<JoinHandle<()>>>,
}

/// The way of spans to the receiver.
pub(crate) struct Spans {
    queue: mpsc::Sender<otlp::Span>,
    convention: Convention,
    counts: Counts,
}

/// What became of spans, since the start.
#[derive(Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// Spans of the batch that is gathered or posted, which are out of the queue.
    held: AtomicU64,
    again: AtomicU64,
    error: Mutex<Option<String>>,
}

/// How exporting goes; for the status and the metrics.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    /// Spans that wait: in the queue, or in the batch that is gathered or posted.
    pub(crate) waiting: u64,
    /// Spans that the receiver took.
    pub(crate) exported: u64,
    /// Spans for which the queue had no room.
    pub(crate) dropped: u64,
    /// Spans that the receiver did not take.
    pub(crate) failed: u64,
    /// How often a batch was posted again.
    pub(crate) again: u64,
    /// What the last post failed with.
    pub(crate) error: Option<String>,
}

impl Spans {
    /// Hands a span over, or counts it as dropped.
    fn submit(&self, span: otlp::Span) {
        if self.queue.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tracer {
    /// Starts the task that posts. `instance` tells this gateway from others of its name.
    pub(crate) fn start(config: TracesConfig, instance: &str) -> Self {
        let (queue, waiting) = mpsc::channel(config.batches.queue_max);
        let spans = Arc::new(Spans {
            queue,
            convention: config.convention,
            counts: Counts::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let export = export::Export::new(&config, instance, Arc::clone(&spans));
        Self {
            exporting: Mutex::new(Some(tokio::spawn(export.run(waiting, stopped)))),
            spans,
            config,
            stop,
        }
    }

    /// A call came, with these headers. None if this machine has no randomness to name it with.
    pub(crate) fn begin(
        &self,
        headers: &HeaderMap,
        arrival: &Arrival<'_>,
        random: &dyn SecureRandom,
    ) -> Option<Arc<CallTrace>> {
        let mut bytes = [0; 24];
        random.fill(&mut bytes).ok()?;
        let [trace @ .., _, _, _, _, _, _, _, _] = bytes;
        let [.., a, b, c, d, e, f, g, h] = bytes;
        let parent = Parent::of(headers);
        let fresh = TraceId(trace);
        let id = parent.as_ref().map_or(fresh, |parent| parent.trace);
        let sampled = self.config.sampler.keeps(parent.as_ref(), id);
        let context = Context::new(parent.clone(), fresh, sampled);
        let span = SpanId([a, b, c, d, e, f, g, h]);
        let propagate = self.config.propagate;
        let trace = CallTrace::new(&self.spans, parent, (context, span), arrival, propagate);
        Some(Arc::new(trace))
    }

    pub(crate) fn told(&self) -> Told {
        let Spans { queue, counts, .. } = &*self.spans;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Told {
            waiting: (queue.max_capacity() - queue.capacity()) as u64 + count(&counts.held),
            exported: count(&counts.exported),
            dropped: count(&counts.dropped),
            failed: count(&counts.failed),
            again: count(&counts.again),
            error: lock(&counts.error).clone(),
        }
    }

    /// Posts what waits, for at most [`FLUSH`]; spans that come later are dropped.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let exporting = lock(&self.exporting).take();
        if let Some(mut exporting) = exporting
            && tokio::time::timeout(FLUSH, &mut exporting).await.is_err()
        {
            let waiting = self.told().waiting;
            tracing::warn!(waiting, "the receiver of traces did not take all in time");
            exporting.abort();
        }
    }
}
