//! The figures of one dimension.

use record::bucket::DurationUs;
use serde::Serialize;

use super::VerdictReport;
use crate::fold::dimension::{
    AVAILABILITY, Alarms, Cause, Durations, Epoch, JUDGED, LATENCY, Latency, Shares, VERDICTS,
};
use crate::fold::judged::{Judged, WHOLE_PPM};
use crate::fold::state::{EndpointState, edge_us};
use crate::fold::strata::{STRATA, Tally, by_cell, standardised};
use crate::fold::watch::{Rule, STREAMS, Watch};
use crate::latency::{Bands, QuantileBand};
use crate::level::{Alpha, Interval};

/// Dimensions that no record measures yet. They are named, so that nobody takes their absence
/// for a good figure.
pub const UNMEASURED: [&str; 1] = ["fidelity"];

/// One dimension of an endpoint. Shares are those of good outcomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DimensionReport {
    /// Its name.
    pub dimension: &'static str,
    /// Outcomes, durations or batches of repeats that were judged.
    pub judged: u64,
    /// How many of them were bad; absent for durations and batches.
    pub bad: Option<u64>,
    /// The share of good outcomes over the whole history, valid under drift.
    pub lifetime_ppm: Option<[u32; 2]>,
    /// The same since the current epoch began.
    pub current_ppm: Option<[u32; 2]>,
    /// The same as if every endpoint had one mix of conditions.
    pub standardised_ppm: Option<[u32; 2]>,
    /// Weight of the conditions of that mix of which nothing is known.
    pub standardised_unknown_ppm: Option<u32>,
    /// The same by conditions, all of them at once; of what is judged afterwards, and only where
    /// something was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<CellReport>,
    /// Quantiles over the whole history.
    pub lifetime_bands: Option<QuantileBands>,
    /// Quantiles since the current epoch began.
    pub current_bands: Option<QuantileBands>,
    /// The current epoch.
    pub epoch: EpochReport,
    /// What its detector has.
    pub detector: DetectorReport,
    /// Its latest alarms with what came of them, oldest first; the last one may be open.
    pub verdicts: Vec<VerdictReport>,
}

/// One cell of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CellReport {
    /// Prompts of more than 4,096 tokens.
    pub long_prompt: bool,
    /// More than four open attempts.
    pub busy: bool,
    /// Saturday or Sunday.
    pub weekend: bool,
    /// Answers or batches.
    pub judged: u64,
    /// Where the mean lies.
    pub interval_ppm: [u32; 2],
}

/// An epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EpochReport {
    /// From 1.
    pub number: u64,
    /// When it began, Unix ms.
    pub since_ms: Option<u64>,
    /// Why.
    pub cause: Cause,
}

impl EpochReport {
    fn of(epoch: Epoch) -> Self {
        Self {
            number: epoch.number,
            since_ms: epoch.since_ms,
            cause: epoch.cause,
        }
    }
}

/// Bands in which quantiles lie, all of them at once, µs: `[from, below]`; nothing bounds a band
/// without a second end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QuantileBands {
    /// Half of all durations are at most this.
    pub p50_us: (u64, Option<u64>),
    /// Nine in ten are.
    pub p90_us: (u64, Option<u64>),
    /// All but one in a hundred are.
    pub p99_us: (u64, Option<u64>),
    /// Calls that were given up before; they lasted at least as long as they did.
    pub given_up: u64,
}

impl QuantileBands {
    pub(super) fn of(durations: &Durations, alpha: Alpha) -> Self {
        let (finished, censored) = (durations.finished.counts(), durations.censored.counts());
        let bands = Bands::new(finished, censored, alpha);
        let band = |share| edges(bands.quantile(share));
        Self {
            p50_us: band(0.5),
            p90_us: band(0.9),
            p99_us: band(0.99),
            given_up: durations.censored.count(),
        }
    }
}

/// The lower edge of the first bucket and the upper edge of the last one.
fn edges(band: QuantileBand) -> (u64, Option<u64>) {
    let above = |last: usize| (last + 1 < DurationUs::COUNT).then(|| edge_us(last + 1));
    (edge_us(band.first), band.last.and_then(above))
}

/// A detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DetectorReport {
    /// Whether it learns what is usual, or watches.
    pub state: DetectorState,
    /// Length of a unit, hours.
    pub unit_hours: u64,
    /// Units so far: of this epoch, or with a declared baseline since the last alarm.
    pub units: u64,
    /// The mean share of bad outcomes per unit that is tolerated.
    pub baseline_ppm: Option<u32>,
    /// Whether that was declared, not learned.
    pub declared: bool,
    /// Evidence of a rise, as a share of what raises the alarm.
    pub evidence_ppm: u32,
    /// Alarms so far; each opened an epoch.
    pub alarms: u64,
    /// False alarms are at most one a year, in expectation, over this many streams.
    pub streams: u32,
    /// The smallest mean share that 7 days in every window would show, about.
    pub found_in_7_days_ppm: Option<u32>,
    /// And 30 days.
    pub found_in_30_days_ppm: Option<u32>,
    /// For durations: above this they are slow, µs.
    pub slow_above_us: Option<u64>,
}

/// What a detector is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectorState {
    /// Not enough is known to bet against.
    Learning,
    /// It bets.
    Watching,
}

impl DetectorReport {
    fn of(watch: &Watch, rule: &Rule, slow_above: Option<usize>) -> Self {
        let watched = watch.watched();
        let share = |value: f64| Interval {
            lower: 0.0,
            upper: value,
        };
        let found = |days| watch.found_within(days, rule).map(|m| share(m).upper_ppm());
        Self {
            state: match watched.m0 {
                Some(_) => DetectorState::Watching,
                None => DetectorState::Learning,
            },
            unit_hours: rule.unit_ms / (3600 * 1000),
            units: watched.units,
            baseline_ppm: watched.m0.map(|m0| share(m0).upper_ppm()),
            declared: rule.declared.is_some(),
            evidence_ppm: share(watched.evidence).upper_ppm(),
            alarms: watched.alarms,
            streams: STREAMS,
            found_in_7_days_ppm: found(7),
            found_in_30_days_ppm: found(30),
            slow_above_us: slow_above.map(|last| edge_us(last + 1)),
        }
    }
}

/// Every dimension that records measure.
pub(super) fn dimensions(state: &EndpointState, alpha: Alpha) -> Vec<DimensionReport> {
    let mut all = vec![
        of_shares("availability", &state.availability, &AVAILABILITY, alpha),
        of_latency("first_token", &state.first_token, alpha),
        of_latency("inter_token", &state.inter_token, alpha),
        of_shares("schema", &state.schema, &VERDICTS, alpha),
        of_shares("tools", &state.tools, &VERDICTS, alpha),
    ];
    let nobody = Judged::new();
    let judged = state.judged.as_deref().unwrap_or(&nobody);
    for (dimension, shares, whole) in [
        ("correctness_checks", &judged.checked, 1),
        ("correctness_reports", &judged.reported, 1),
        ("consistency", &judged.agreement, WHOLE_PPM),
    ] {
        all.push(DimensionReport {
            cells: cells(&shares.lifetime, whole, alpha),
            ..of_scores(dimension, shares, whole, &JUDGED, alpha)
        });
    }
    all
}

fn of_shares(
    dimension: &'static str,
    shares: &Shares,
    rule: &Rule,
    alpha: Alpha,
) -> DimensionReport {
    of_scores(dimension, shares, 1, rule, alpha)
}

/// The conditions under which something was judged.
pub(super) fn cells(tallies: &[Tally; STRATA], whole: u64, alpha: Alpha) -> Vec<CellReport> {
    let each = tallies.iter().enumerate();
    let tried = each.filter(|(_, tally)| tally.judged() > 0);
    let cell = |(place, tally): (usize, &Tally)| CellReport {
        long_prompt: place & 1 != 0,
        busy: place & 2 != 0,
        weekend: place & 4 != 0,
        judged: tally.judged() / whole,
        interval_ppm: tally.interval(whole, by_cell(alpha)).ends_ppm(),
    };
    tried.map(cell).collect()
}

/// Shares, or scores that add `whole` each.
fn of_scores(
    dimension: &'static str,
    shares: &Shares,
    whole: u64,
    rule: &Rule,
    alpha: Alpha,
) -> DimensionReport {
    let lifetime = Tally::sum(&shares.lifetime);
    let (standard, unknown) = standardised(&shares.lifetime, whole, alpha);
    DimensionReport {
        dimension,
        judged: lifetime.judged() / whole,
        bad: (whole == 1).then_some(lifetime.bad),
        lifetime_ppm: Some(lifetime.interval(whole, alpha).ends_ppm()),
        current_ppm: Some(shares.current.interval(whole, alpha).ends_ppm()),
        standardised_ppm: Some(standard.ends_ppm()),
        standardised_unknown_ppm: Some(unknown),
        cells: Vec::new(),
        lifetime_bands: None,
        current_bands: None,
        epoch: EpochReport::of(shares.epoch),
        detector: DetectorReport::of(&shares.watch, rule, None),
        verdicts: verdicts(&shares.alarms),
    }
}

fn of_latency(dimension: &'static str, latency: &Latency, alpha: Alpha) -> DimensionReport {
    DimensionReport {
        dimension,
        judged: latency.lifetime.finished.count(),
        bad: None,
        lifetime_ppm: None,
        current_ppm: None,
        standardised_ppm: None,
        standardised_unknown_ppm: None,
        cells: Vec::new(),
        lifetime_bands: Some(QuantileBands::of(&latency.lifetime, alpha)),
        current_bands: Some(QuantileBands::of(&latency.current, alpha)),
        epoch: EpochReport::of(latency.epoch),
        detector: DetectorReport::of(&latency.watch, &LATENCY, latency.slow_above),
        verdicts: verdicts(&latency.alarms),
    }
}

fn verdicts(alarms: &Alarms) -> Vec<VerdictReport> {
    let recent = alarms.iter().flat_map(|it| it.recent.iter());
    recent.map(VerdictReport::of).collect()
}
