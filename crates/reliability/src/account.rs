//! An account of a span of time: everything that a report or a page tells of it, from the folds of one
//! log.
//!
//! [`follow`] folds one record into a history, its forecasts and its timeline, so that all of them speak
//! of the same records. [`Account::of`] reads them. Whoever has the same log, the same
//! rules and the same span gets the same account, running gateway or not.

use record::{Endpoint, Predicate, Record};
use serde::Serialize;

use crate::concentration::Concentration;
use crate::fold::{
    Applied, DimensionReport, EndpointReport, History, Incident, OF_ATTEMPTS, VerdictReport,
};
use crate::forecast::fold::{Forecasts, Told, ToldObjective};
use crate::level::Alpha;
use crate::share;
use crate::timeline::{AlarmAt, Attempts, Durations, SPAN_MAX_MS, Span, Timeline};

/// The version of the layout; it changes when a field changes its meaning or goes.
pub const VERSION: u32 = 1;
/// Bins that the history of an endpoint is told in, about.
const BINS: u64 = 168;
/// Endpoints that an account tells of, the busiest of the span first.
pub const ENDPOINTS_MAX: usize = 50;

/// What the bands cover, in words that stand beside them.
pub const COVERS: &str = "each interval covers the mean chance of being served well that the calls of its own \
                          span had, with 95 %; of 20 such intervals one may miss. It says nothing of the \
                          future, and it is too narrow for a long-run rate where failures come in bursts";

/// Folds a record into a history and what follows it: a new alarm is dated, and one about attempts
/// widens forecasts. What is judged afterwards does not: who reports more wrong answers has not
/// changed how the endpoint answers.
pub fn follow(
    (history, forecasts, timeline): (&mut History, &mut Forecasts, &mut Timeline),
    record: &Record,
    index: u64,
) -> Applied {
    let alarms = &mut Vec::new();
    let applied = follow_forecasts((history, forecasts), record, index, |endpoint, alarm| {
        alarms.push((endpoint.clone(), alarm));
    });
    if applied == Applied::Counted {
        timeline.apply(record);
    }
    for (endpoint, alarm) in alarms {
        timeline.alarm(endpoint, *alarm);
    }
    applied
}

/// The same without a timeline; `raised` is told each new alarm.
pub fn follow_forecasts(
    (history, forecasts): (&mut History, &mut Forecasts),
    record: &Record,
    index: u64,
    mut raised: impl FnMut(&Endpoint, AlarmAt),
) -> Applied {
    let about = match &record.statement.predicate {
        Predicate::Observation(seen) => Some(&seen.stream.endpoint),
        Predicate::Judgement(judged) => Some(&judged.endpoint),
        _ => None,
    };
    let before = about.map(|endpoint| history.alarms_by_dimension(endpoint));
    let applied = history.apply(record, index);
    if applied != Applied::Counted {
        return applied;
    }
    forecasts.apply(record);
    if let (Some(endpoint), Some(before)) = (about, before) {
        let after = history.alarms_by_dimension(endpoint);
        let pairs = after.into_iter().zip(before).enumerate();
        for (place, ((dimension, number), (_, before))) in pairs {
            if number > before {
                if place < OF_ATTEMPTS {
                    forecasts.alarm(endpoint);
                }
                let at_ms = history.clock_ms();
                raised(
                    endpoint,
                    AlarmAt {
                        at_ms,
                        dimension,
                        number,
                    },
                );
            }
        }
    }
    applied
}

/// An alarm, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlarmTold {
    /// The alarm.
    #[serde(flatten)]
    pub alarm: AlarmAt,
    /// What the units after it say; absent for one so old that it is told no longer.
    pub verdict: Option<VerdictReport>,
}

/// The latest alarms about an endpoint, oldest first.
#[must_use]
pub fn alarms(history: &History, timeline: &Timeline, endpoint: &Endpoint) -> Vec<AlarmTold> {
    let verdicts: Vec<_> = history.verdicts(endpoint).collect();
    let told = |alarm: AlarmAt| {
        let of_it = |(dimension, verdict): &&(&str, VerdictReport)| {
            (*dimension, verdict.alarm) == (alarm.dimension, alarm.number)
        };
        let verdict = verdicts.iter().find(of_it).map(|(_, it)| it.clone());
        AlarmTold { alarm, verdict }
    };
    timeline.alarms(endpoint).map(told).collect()
}

/// What happened in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// [`VERSION`].
    pub version: u32,
    /// The span, Unix ms. Figures of it begin with the cell that its start falls in.
    pub since_ms: u64,
    /// When it was made, Unix ms.
    pub now_ms: u64,
    /// Records that the history rests on, from before the span too.
    pub records: u64,
    /// The fold's clock, Unix ms: the latest end of a counted attempt.
    pub clock_ms: u64,
    /// Error probability of every interval, ppm.
    pub alpha_ppm: u32,
    /// What the intervals cover.
    pub covers: &'static str,
    /// The policy names no observer, so no figure means anything.
    pub trusts_nobody: bool,
    /// Length of a bin, ms.
    pub bin_ms: u64,
    /// By attempts in the span, busiest first.
    pub endpoints: Vec<EndpointAccount>,
    /// Endpoints that are left out because there are more than [`ENDPOINTS_MAX`].
    pub endpoints_left_out: u64,
    /// How the attempts of the span are spread over providers.
    pub providers: Concentration,
}

/// One endpoint over the span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointAccount {
    /// Provider id, or the origin of one that has not joined.
    pub provider: String,
    /// Model.
    pub model: String,
    /// Attempts of the span.
    pub attempts: Attempts,
    /// Interval of the span, ppm; absent where nothing was judged.
    pub interval_ppm: Option<[u32; 2]>,
    /// The interval of the whole history, valid under drift, ppm.
    pub lifetime_ppm: [u32; 2],
    /// Attempts of the whole history.
    pub calls: u64,
    /// Bins of the span in which somebody called, oldest first.
    pub bins: Vec<Bin>,
    /// Where the latency of the span begins, Unix ms: by whole hours, or days past two days.
    pub latency_since_ms: u64,
    /// Time to the first token of answers that were served well.
    pub first_token: Times,
    /// Time to their end.
    pub total: Times,
    /// Incidents that touch the span, of the latest that are kept.
    pub incidents: Vec<Incident>,
    /// All incidents of the whole history.
    pub incidents_ever: u64,
    /// Regime alarms in the span, of the latest that are kept.
    pub alarms: Vec<AlarmTold>,
    /// Alarms of the whole history, all dimensions together.
    pub alarms_ever: u64,
    /// Dimension by dimension, over the whole history.
    pub dimensions: Vec<DimensionReport>,
    /// Numbers without an outcome, over the whole history.
    pub unknown: u64,
    /// Whether they count as failures.
    pub unknown_counts: bool,
    /// Hours of the whole history with attempts, and without any.
    pub known_hours: u64,
    /// Hours about which nothing is known.
    pub unknown_hours: u64,
    /// Only one side keeps records.
    pub unilateral: bool,
    /// Objectives, error budgets and burn rates.
    pub objectives: Vec<ToldObjective>,
    /// Forecasts, beside outcomes and scores.
    pub forecasts: Vec<Told>,
}

/// Attempts of one bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// When it begins, Unix ms.
    pub start_ms: u64,
    /// Attempts.
    #[serde(flatten)]
    pub attempts: Attempts,
    /// Interval of this bin alone, ppm; absent where nothing was judged.
    pub interval_ppm: Option<[u32; 2]>,
}

/// Quantiles and distribution of durations: lower edges of buckets, µs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// Half are in this bucket or below.
    pub p50_us: Option<u64>,
    /// Nine in ten.
    pub p90_us: Option<u64>,
    /// All but one in twenty.
    pub p95_us: Option<u64>,
    /// All but one in a hundred.
    pub p99_us: Option<u64>,
    /// Lower edge in µs, count.
    pub buckets: Vec<(u64, u64)>,
}

impl Times {
    fn of(durations: &Durations) -> Self {
        Self {
            count: durations.count(),
            p50_us: durations.quantile_us(500_000),
            p90_us: durations.quantile_us(900_000),
            p95_us: durations.quantile_us(950_000),
            p99_us: durations.quantile_us(990_000),
            buckets: durations.buckets().collect(),
        }
    }
}

impl Account {
    /// The account from `since_ms` to `now_ms`; a span of more than [`SPAN_MAX_MS`] is cut to that.
    #[must_use]
    pub fn of(
        (history, forecasts, timeline): (&History, &Forecasts, &Timeline),
        since_ms: u64,
        now_ms: u64,
        alpha: Alpha,
    ) -> Self {
        let since_ms = since_ms.max(now_ms.saturating_sub(SPAN_MAX_MS)).min(now_ms);
        let report = history.report(alpha);
        let objectives = forecasts.objectives(now_ms);
        let told = forecasts.told();
        let wanted_bin_ms = (now_ms - since_ms) / BINS;
        let mut bin_ms = 0;
        let mut endpoints: Vec<(Span, Endpoint, &EndpointReport)> = Vec::new();
        for report in &report.endpoints {
            // Both were printed from the same values.
            let (Ok(provider), Ok(model)) = (report.provider.parse(), report.model.parse()) else {
                continue;
            };
            let endpoint = Endpoint { provider, model };
            let span = timeline.span(&endpoint, since_ms, now_ms);
            endpoints.push((span, endpoint, report));
        }
        let providers = endpoints
            .iter()
            .map(|(span, _, report)| (report.provider.clone(), span.attempts.calls));
        let providers = Concentration::of(providers);
        endpoints.sort_by_key(|(span, ..)| std::cmp::Reverse(span.attempts.calls));
        let left_out = endpoints.len().saturating_sub(ENDPOINTS_MAX);
        endpoints.truncate(ENDPOINTS_MAX);
        let bin_of = |(span, endpoint, report): (Span, Endpoint, &EndpointReport)| {
            let (bins, length_ms) = timeline.bins(&endpoint, since_ms, now_ms, wanted_bin_ms);
            bin_ms = length_ms;
            let mut alarms = alarms(history, timeline, &endpoint);
            alarms.retain(|it| it.alarm.at_ms >= since_ms);
            let incidents = history.incidents(&endpoint);
            let touches = |it: &Incident| it.end_ms.is_none_or(|end_ms| end_ms >= since_ms);
            EndpointAccount {
                bins: bins.into_iter().map(|bin| Bin::of(bin, alpha)).collect(),
                incidents: incidents.filter(touches).collect(),
                alarms,
                objectives: of_endpoint(&objectives, |it| (&it.provider, &it.model), report),
                forecasts: of_endpoint(&told, |it| (&it.provider, &it.model), report),
                ..EndpointAccount::of(&span, report, alpha)
            }
        };
        let endpoints = endpoints.into_iter().map(bin_of).collect();
        Self {
            version: VERSION,
            since_ms,
            now_ms,
            records: report.records,
            clock_ms: report.clock_ms,
            alpha_ppm: alpha.ppm(),
            covers: COVERS,
            trusts_nobody: report.trusts_nobody,
            bin_ms,
            endpoints,
            endpoints_left_out: left_out as u64,
            providers,
        }
    }
}

impl EndpointAccount {
    /// What the report and the span say; what has to be looked for elsewhere is still empty.
    fn of(span: &Span, report: &EndpointReport, alpha: Alpha) -> Self {
        Self {
            provider: report.provider.clone(),
            model: report.model.clone(),
            attempts: span.attempts,
            interval_ppm: interval_ppm(&span.attempts, alpha),
            lifetime_ppm: report.interval_ppm,
            calls: report.calls,
            bins: Vec::new(),
            latency_since_ms: span.latency_since_ms,
            first_token: Times::of(&span.latency.first_token),
            total: Times::of(&span.latency.total),
            incidents: Vec::new(),
            incidents_ever: report.incidents.count,
            alarms: Vec::new(),
            alarms_ever: report.dimensions.iter().map(|d| d.detector.alarms).sum(),
            dimensions: report.dimensions.clone(),
            unknown: report.unknown,
            unknown_counts: report.unknown_counts,
            known_hours: report.known_hours,
            unknown_hours: report.unknown_hours,
            unilateral: report.unilateral,
            objectives: Vec::new(),
            forecasts: Vec::new(),
        }
    }
}

impl Bin {
    fn of((start_ms, attempts): (u64, Attempts), alpha: Alpha) -> Self {
        Self {
            start_ms,
            interval_ppm: interval_ppm(&attempts, alpha),
            attempts,
        }
    }
}

/// Those of `all` that are about the endpoint of `report`.
fn of_endpoint<T: Clone>(
    all: &[T],
    about: impl Fn(&T) -> (&String, &String),
    report: &EndpointReport,
) -> Vec<T> {
    let same = |it: &&T| about(it) == (&report.provider, &report.model);
    all.iter().filter(same).cloned().collect()
}

fn interval_ppm(attempts: &Attempts, alpha: Alpha) -> Option<[u32; 2]> {
    let judged = attempts.good + attempts.bad;
    (judged > 0).then(|| share::of_counts(attempts.good, attempts.bad, alpha).ends_ppm())
}
