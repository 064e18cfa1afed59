//! `GET /metrics`: what a Prometheus server sees, in the OpenMetrics text format.
//!
//! Names and labels are ours and stay; `docs/gateway.md` lists them, and a test holds the list.
//! Counters and histograms grow as attempts are recorded, off the path of an answer; gauges are
//! read at the scrape. Labels hold providers, models, routes and names of keys: nothing that a
//! caller can make up, so the number of series is bounded by the configuration; those of objectives and
//! of concentration by constants as well.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

mod living;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reliability::forecast::fold::ToldObjective;

use crate::observe::Facts;
use crate::status::Status;

/// The content type of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How every name starts.
const PREFIX: &str = "longrun_gateway";
/// Upper ends of the buckets of times, seconds: from a local model's first token to a day's
/// longest answer.
const SECONDS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Endpoint {
    provider: Arc<String>,
    model: Arc<String>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    provider: Arc<String>,
    model: Arc<String>,
    outcome: &'static str,
    /// Empty for `ok`.
    fault: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    route: Cow<'static, str>,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    /// The name of the key; empty where no key is needed.
    caller: String,
    model: Arc<String>,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Site {
    provider: String,
    model: String,
    url: String,
    /// What tells two accounts at one URL apart; empty where the configuration gives no name.
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Fate {
    fate: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

/// What is counted while the gateway runs.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    attempts: Family<Attempt, Counter>,
    tokens: Family<Tokens, Counter>,
    attempt_seconds: Family<Endpoint, Histogram, fn() -> Histogram>,
    first_token_seconds: Family<Endpoint, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let times = || -> Family<Endpoint, Histogram, fn() -> Histogram> {
            Family::new_with_constructor(|| Histogram::new(SECONDS))
        };
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            requests: Family::default(),
            attempts: Family::default(),
            tokens: Family::default(),
            attempt_seconds: times(),
            first_token_seconds: times(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "requests",
            "HTTP requests by route and status",
            metrics.requests.clone(),
        );
        registry.register(
            "attempts",
            "Attempts at endpoints by outcome class and fault",
            metrics.attempts.clone(),
        );
        registry.register(
            "tokens",
            "Tokens as answers told them",
            metrics.tokens.clone(),
        );
        registry.register(
            "attempt_seconds",
            "From sending an attempt to its end",
            metrics.attempt_seconds.clone(),
        );
        registry.register(
            "first_token_seconds",
            "From sending an attempt to its first token",
            metrics.first_token_seconds.clone(),
        );
        metrics
    }

    /// A request was answered; `route` is a pattern, never what the caller sent.
    pub(crate) fn request(&self, route: impl Into<Cow<'static, str>>, status: u16) {
        let route = route.into();
        let label = Request { route, status };
        self.requests.get_or_create(&label).inc();
    }

    /// An attempt ended.
    pub(crate) fn attempt(&self, facts: &Facts) {
        let row = facts.seen.row();
        let endpoint = Endpoint {
            provider: Arc::clone(&facts.live.provider),
            model: Arc::clone(&facts.live.model),
        };
        let label = Attempt {
            provider: Arc::clone(&endpoint.provider),
            model: Arc::clone(&endpoint.model),
            outcome: row.outcome.as_str(),
            fault: row.fault.map_or("", |fault| fault.as_str()),
        };
        self.attempts.get_or_create(&label).inc();
        let total = seconds(facts.total_us);
        self.attempt_seconds.get_or_create(&endpoint).observe(total);
        if let Some(us) = facts.first_token_us {
            let first = self.first_token_seconds.get_or_create(&endpoint);
            first.observe(seconds(us));
        }
        if let Some((prompt, completion)) = facts.usage {
            let caller = facts.ticket.caller.name().unwrap_or("");
            for (kind, tokens) in [("prompt", prompt), ("completion", completion)] {
                let label = Tokens {
                    caller: caller.to_owned(),
                    model: Arc::clone(&endpoint.model),
                    kind,
                };
                self.tokens.get_or_create(&label).inc_by(tokens);
            }
        }
    }

    /// The whole text, with the gauges as `status` and `objectives` show them.
    pub(crate) fn text(
        &self,
        status: &Status,
        objectives: &[ToldObjective],
    ) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode_registry(&mut out, &self.registry)?;
        let mut gauges = gauges(status);
        living::objectives(&mut gauges, status, objectives);
        if let Some(told) = &status.alarms {
            living::alarms(&mut gauges, told);
        }
        if let Some(told) = &status.traces {
            living::traces(&mut gauges, told);
        }
        living::concentration(&mut gauges, &status.concentration);
        if !status.networks.is_empty() {
            living::networks(&mut gauges, &status.networks);
        }
        text::encode_registry(&mut out, &gauges)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

fn gauges(status: &Status) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    let version = Family::<Version, Gauge>::default();
    let label = Version {
        version: status.version,
    };
    version.get_or_create(&label).set(1);
    registry.register("version", "What runs", version);
    let mut plain = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let started = Duration::from_millis(status.started_ms).as_secs_f64();
    plain("start_time_seconds", "Unix time of the start", started);
    let spool = &status.spool;
    plain(
        "spool_waiting_records",
        "Records that wait for the log",
        count(spool.waiting),
    );
    plain(
        "spool_waiting_bytes",
        "Bytes of records that wait for the log",
        count(spool.waiting_bytes),
    );
    let oldest = Duration::from_millis(spool.oldest_waiting_age_ms.unwrap_or(0));
    plain(
        "spool_oldest_waiting_seconds",
        "Age of the oldest record that waits for the log",
        oldest.as_secs_f64(),
    );
    plain(
        "spool_disk_up",
        "Whether the spool's disk takes what it is given",
        yes(spool.disk_ok),
    );
    plain(
        "log_up",
        "Whether the last exchange with the log went well; 1 without a log",
        yes(spool.log_error.is_none()),
    );
    let log_size = status.log.as_ref().and_then(|log| log.size);
    plain(
        "log_entries",
        "Entries of the log that are folded into the history",
        count(log_size.unwrap_or(0)),
    );
    if let Some(ahead_s) = status.clock_ahead_s {
        let apart = Duration::from_secs(ahead_s.unsigned_abs()).as_secs_f64();
        plain(
            "clock_ahead_seconds",
            "How far this machine's clock is ahead of what a log said last",
            if ahead_s < 0 { -apart } else { apart },
        );
    }
    if let Some(keys) = status.keys {
        plain("callers", "Callers with a key", count(keys as u64));
    }
    registry.register(
        "records",
        "Records since the start, by what became of them",
        fates(status),
    );
    endpoint_gauges(&mut registry, status);
    registry
}

fn fates(status: &Status) -> Family<Fate, Counter> {
    let spool = &status.spool;
    let family = Family::<Fate, Counter>::default();
    for (fate, number) in [
        ("recorded", spool.recorded),
        ("unrecorded", spool.unrecorded),
        ("voided", spool.voided),
        ("refused", spool.refused),
    ] {
        family.get_or_create(&Fate { fate }).inc_by(number);
    }
    family
}

fn endpoint_gauges(registry: &mut Registry, status: &Status) {
    type Each = Family<Site, Gauge<f64, AtomicU64>>;
    let (up, resting, open) = (Each::default(), Each::default(), Each::default());
    let breaker = Each::default();
    let (lower, judged) = (Each::default(), Each::default());
    let cost = Each::default();
    for endpoint in &status.endpoints {
        let site = Site {
            provider: endpoint.provider.clone().unwrap_or_default(),
            model: endpoint.model.clone().unwrap_or_default(),
            url: endpoint.url.clone(),
            name: endpoint.name.clone().unwrap_or_default(),
        };
        let set = |family: &Each, value| family.get_or_create(&site).set(value);
        set(&up, yes(endpoint.state == "ready"));
        set(&resting, yes(endpoint.resting));
        let is_open = match endpoint.breaker {
            "open" => 1.0,
            "half_open" => 0.5,
            _ => 0.0,
        };
        set(&breaker, is_open);
        set(&open, count(endpoint.open));
        set(&lower, f64::from(endpoint.lower_ppm) / 1e6);
        set(&judged, count(endpoint.judged));
        set(&cost, count(endpoint.cost_micro) / 1e6);
    }
    registry.register(
        "endpoint_up",
        "Whether the endpoint said who it is and what it serves when it was asked last",
        up,
    );
    registry.register(
        "endpoint_resting",
        "Whether it is tried last, for failures just now",
        resting,
    );
    registry.register(
        "breaker_open",
        "Whether its breaker is open: 1, or 0.5 while it is tried again",
        breaker,
    );
    registry.register(
        "cost_dollars",
        "What answers cost since the start, by the declared prices",
        cost,
    );
    registry.register("attempts_open", "Attempts under way", open);
    registry.register(
        "history_lower_bound_ratio",
        "Lower end of the interval of its history; calls that ask to be safe go by no more",
        lower,
    );
    registry.register(
        "history_judged_outcomes",
        "Outcomes that the interval rests on",
        judged,
    );
}

fn yes(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

/// Counts past 2⁵³ lose their last digits, which no graph shows.
fn count(number: u64) -> f64 {
    number as f64
}
