//! Reading a history: figures per endpoint, and the digest of the whole.

use std::collections::BTreeMap;

use record::digest::Sha256;
use record::{Digest, Endpoint, Fault, NumberedKind, Outcome};
use serde::Serialize;

use super::incident::Incident;
use super::numbers::Numbers;
use super::state::{EndpointState, Histogram, Receipts};
use super::{Applied, History, LATE_AFTER_MS, Observers, UNKNOWN_TOLERATED_PPM};
use crate::level::{Alpha, Interval};
use crate::share;

mod dimension;
mod group;
mod judgements;
mod verdict;

pub use dimension::{
    CellReport, DetectorReport, DetectorState, DimensionReport, EpochReport, QuantileBands,
    UNMEASURED,
};
pub use group::{GroupDimension, GroupReport};
pub use judgements::JudgementsReport;
pub use verdict::VerdictReport;

/// What the interval of a report covers, in words that stand beside it.
pub(crate) const COVERS: &str = "the mean chance of being served well that the calls so far had; not the \
                          future, and not the long-run rate where failures come in bursts";

/// The version of the digest's layout.
const DIGEST_CONTEXT: &[u8] = b"longrun history v5\n";

/// Records that are not part of any figure, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Of a kind that is not known here.
    pub unknown_kind: u64,
    /// Signed by a key that may not, or out of its control chain.
    pub not_authorised: u64,
    /// Of a signer whose home log is another one.
    pub other_home: u64,
    /// The same record again.
    pub repeated: u64,
    /// With a number that was taken.
    pub number_taken: u64,
    /// With a number that was settled before the window of remembered records.
    pub unresolved: u64,
    /// Judgements of answers that are not in the history.
    pub orphan: u64,
    /// Judgements of answers of which something else was said before.
    pub judged_otherwise: u64,
}

impl Skipped {
    pub(super) fn count(&mut self, applied: Applied) {
        match applied {
            // What is not counted of an observer is told at the endpoint.
            Applied::Counted | Applied::OtherObserver | Applied::LateSuccess => {}
            Applied::UnknownKind => self.unknown_kind += 1,
            Applied::NotAuthorised => self.not_authorised += 1,
            Applied::OtherHome => self.other_home += 1,
            Applied::Repeated => self.repeated += 1,
            Applied::NumberTaken => self.number_taken += 1,
            Applied::Unresolved => self.unresolved += 1,
            Applied::Orphan => self.orphan += 1,
            Applied::JudgedOtherwise => self.judged_otherwise += 1,
        }
    }

    fn values(&self) -> [u64; 8] {
        [
            self.unknown_kind,
            self.not_authorised,
            self.other_home,
            self.repeated,
            self.number_taken,
            self.unresolved,
            self.orphan,
            self.judged_otherwise,
        ]
    }
}

/// A history as people and programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Digest of the state: equal on every machine that folded the same records in this way.
    pub digest: Digest,
    /// Records that were folded.
    pub records: u64,
    /// Those that are part of no figure.
    pub skipped: Skipped,
    /// Error probability of every interval, ppm.
    pub alpha_ppm: u32,
    /// What the intervals cover.
    pub covers: &'static str,
    /// The fold's clock, Unix ms: the latest end that a counted observation has claimed.
    pub clock_ms: u64,
    /// The policy names no observer, so nothing is counted and no figure means anything.
    pub trusts_nobody: bool,
    /// Dimensions that no record measures yet.
    pub unmeasured: [&'static str; 1],
    /// By provider, then by model.
    pub endpoints: Vec<EndpointReport>,
    /// Each model across its providers.
    pub models: Vec<GroupReport>,
    /// Each provider across its models.
    pub providers: Vec<GroupReport>,
}

/// The history of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointReport {
    /// Provider id, or the origin of one that has not joined.
    pub provider: String,
    /// Model.
    pub model: String,
    /// Attempts observed.
    pub calls: u64,
    /// Answers that were whole, well formed and in time.
    pub successes: u64,
    /// Attempts that failed by the provider's fault.
    pub failures: u64,
    /// Attempts that were answered 429; part of neither.
    pub rate_limited: u64,
    /// Attempts by outcome; what did not happen is left out.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Attempts that were not `ok`, by fault.
    pub faults: BTreeMap<&'static str, u64>,
    /// Interval for the mean chance of success among successes and failures, valid under drift,
    /// ppm, rounded outward.
    pub interval_ppm: [u32; 2],
    /// The interval if every unknown number were a failure (lower end) or a success (upper end).
    pub worst_case_ppm: [u32; 2],
    /// The lower end, ppm, unknown numbers counted as failures where they are more than is tolerated.
    /// Calls that ask to be safe are routed by no more than this; others by the mean that is expected,
    /// in which they count as well: [`History::known_ppm`].
    pub lower_ppm: u32,
    /// Numbers of observations that were given out and have no outcome (voided or long missing).
    pub unknown: u64,
    /// Whether the unknown numbers count as failures.
    pub unknown_counts: bool,
    /// Numbers named by voids after a crash or a full spool.
    pub voids: u64,
    /// What voids say of those numbers' outcomes.
    pub voided_outcomes: BTreeMap<&'static str, u64>,
    /// Numbers that are missing below a later one, those of calls under way included.
    pub gaps: u64,
    /// Streams with such gaps.
    pub streams_with_gaps: u64,
    /// Numbered streams about this endpoint.
    pub streams: u64,
    /// Receipts.
    pub receipts: Receipts,
    /// Numbers of receipts that are missing.
    pub receipt_gaps: u64,
    /// Receipts in the log that no observation names: the provider's word alone.
    pub receipts_unobserved: u64,
    /// Only one side keeps records: that none was left out is then that side's claim.
    pub unilateral: bool,
    /// Observations that were logged late; where observers are named, the successes among them are
    /// in no other figure.
    pub late: u64,
    /// Observations of observers that the policy does not count, and of the provider itself.
    pub other_observers: u64,
    /// Numbers that have two records.
    pub equivocations: u64,
    /// Numbers that have both a record and a void.
    pub contradictions: u64,
    /// Earliest start, Unix ms.
    pub first_ms: Option<u64>,
    /// Latest end, Unix ms.
    pub last_ms: Option<u64>,
    /// Time to the first token, where one came.
    pub first_token: Quantiles,
    /// Median gap between tokens of successes that were streamed.
    pub inter_token: Quantiles,
    /// Time to the end of successes.
    pub total: Quantiles,
    /// Bands for the quantiles of that time, calls that were given up included.
    pub total_bands: QuantileBands,
    /// Attempts that were checks of the observer's own; they are in every other figure too.
    pub checks: u64,
    /// What was said of its answers.
    pub judgements: JudgementsReport,
    /// Dimension by dimension.
    pub dimensions: Vec<DimensionReport>,
    /// Spells of failure, by rule.
    pub incidents: IncidentsReport,
    /// Hours in which attempts were observed.
    pub known_hours: u64,
    /// Hours since the first without any: about these nothing is known.
    pub unknown_hours: u64,
}

/// The incidents of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentsReport {
    /// How many there were, one that lasts included.
    pub count: u64,
    /// How long those that are over lasted together, ms.
    pub closed_ms: u64,
    /// Since when one lasts, Unix ms.
    pub open_since_ms: Option<u64>,
    /// The latest, oldest first.
    pub recent: Vec<Incident>,
}

/// Lower edges of the buckets at three quantiles, µs, and the buckets themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Half are in this bucket or below.
    pub p50_us: Option<u64>,
    /// Nine in ten.
    pub p90_us: Option<u64>,
    /// All but one in a hundred.
    pub p99_us: Option<u64>,
    /// Lower edge in µs, count.
    pub buckets: Vec<(u64, u64)>,
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Self {
        Self {
            p50_us: histogram.quantile_us(500_000),
            p90_us: histogram.quantile_us(900_000),
            p99_us: histogram.quantile_us(990_000),
            buckets: histogram.buckets().collect(),
        }
    }
}

/// Missing numbers of one endpoint, summed over its streams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gaps {
    streams: u64,
    streams_with_gaps: u64,
    missing: u64,
    overdue: u64,
    receipts: u64,
}

impl History {
    /// Every figure of every endpoint, in order of provider and model.
    #[must_use]
    pub fn report(&self, alpha: Alpha) -> Report {
        let endpoints: Vec<EndpointReport> = self
            .places
            .iter()
            .map(|(endpoint, place)| self.endpoint_report(endpoint, *place, alpha))
            .collect();
        let states = self.places.values().map(|place| &*self.states[*place]);
        let members: Vec<_> = endpoints.iter().zip(states).collect();
        let models = group::groups(&members, |endpoint| &endpoint.model, alpha);
        let providers = group::groups(&members, |endpoint| &endpoint.provider, alpha);
        Report {
            digest: self.digest(),
            records: self.records,
            skipped: self.skipped,
            alpha_ppm: alpha.ppm(),
            covers: COVERS,
            clock_ms: self.clock_ms,
            trusts_nobody: matches!(&self.policy.observers, Observers::Only(named) if named.is_empty()),
            unmeasured: UNMEASURED,
            endpoints,
            models,
            providers,
        }
    }

    /// What routing asks: the lower end for one endpoint, ppm, and how many outcomes it rests on.
    /// Both are 0 for an endpoint without a history.
    #[must_use]
    pub fn lower_ppm(&self, endpoint: &Endpoint, alpha: Alpha) -> (u32, u64) {
        let Some(place) = self.places.get(endpoint) else {
            return (0, 0);
        };
        let state = &self.states[*place];
        let (unknown, counts) = unknown(state, &self.gaps(*place));
        let (successes, failures) = (state.successes(), state.failures);
        let judged = successes + failures;
        let failures = if counts { failures + unknown } else { failures };
        let lower = share::lower_bound(
            share::float(successes),
            successes + failures,
            alpha.split(2),
        );
        (Interval { lower, upper: 1.0 }.lower_ppm(), judged)
    }

    /// Of an endpoint's outcomes and the numbers that nothing is said of, the share of outcomes, ppm: all of
    /// it, where those numbers are so few that they do not count, or where nothing was judged. Numbers that
    /// their observer voids are left out: no endpoint can make them, and a power cut at the observer's must
    /// not cost the endpoints that he uses their place.
    #[must_use]
    pub fn known_ppm(&self, endpoint: &Endpoint) -> u32 {
        let Some(place) = self.places.get(endpoint) else {
            return 1_000_000;
        };
        let state = &self.states[*place];
        let judged = u128::from(state.successes() + state.failures);
        let gaps = self.gaps(*place);
        match unknown(state, &gaps) {
            (_, true) if judged > 0 => {
                let share = judged * 1_000_000 / (judged + u128::from(gaps.overdue));
                u32::try_from(share).unwrap_or(1_000_000)
            }
            _ => 1_000_000,
        }
    }

    /// SHA-256 over the whole state in a fixed order.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(DIGEST_CONTEXT);
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        };
        text(
            self.policy
                .origin
                .as_ref()
                .map_or("", |origin| origin.as_str()),
        );
        match &self.policy.observers {
            Observers::All => text("all"),
            Observers::Own(own) => {
                text("own");
                text(&own.to_hex());
            }
            Observers::Only(observers) => observers.iter().for_each(|o| text(&o.to_hex())),
        }
        for value in [
            self.policy.window_records as u64,
            self.records,
            self.clock_ms,
        ] {
            hasher.update(&value.to_be_bytes());
        }
        for value in self.skipped.values() {
            hasher.update(&value.to_be_bytes());
        }
        for (signer, chain) in &self.signers {
            hasher.update(signer.as_ref());
            hasher.update(chain.head().as_ref());
        }
        for (endpoint, served) in &self.served {
            let name = endpoint.to_string();
            hasher.update(&(name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
            hasher.update(served.as_ref());
        }
        for (endpoint, place) in &self.places {
            let name = endpoint.to_string();
            hasher.update(&(name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
            self.states[*place].digest_into(&mut hasher);
            for ((_, kind, key), numbers) in self.streams_of(*place) {
                hasher.update(kind.as_str().as_bytes());
                hasher.update(key.as_ref());
                digest_numbers(numbers, &mut hasher);
            }
        }
        hasher.finish()
    }

    fn endpoint_report(&self, endpoint: &Endpoint, place: usize, alpha: Alpha) -> EndpointReport {
        let state = &self.states[place];
        let gaps = self.gaps(place);
        let (unknown, unknown_counts) = unknown(state, &gaps);
        let (successes, failures) = (state.successes(), state.failures);
        let interval = share::of_counts(successes, failures, alpha);
        let worst = [
            share::of_counts(successes, failures + unknown, alpha).lower_ppm(),
            share::of_counts(successes + unknown, failures, alpha).upper_ppm(),
        ];
        let receipts = state.receipts;
        let (known_hours, unknown_hours) = state.hours.known_and_unknown(self.clock_ms);
        let two_sides = receipts.logged + receipts.verified > 0 && state.calls > 0;
        EndpointReport {
            provider: endpoint.provider.to_string(),
            model: endpoint.model.to_string(),
            calls: state.calls,
            successes,
            failures,
            rate_limited: named(&state.outcomes, Outcome::ALL.iter().map(|o| o.as_str()))
                .get(Outcome::RateLimited.as_str())
                .copied()
                .unwrap_or(0),
            outcomes: named(&state.outcomes, Outcome::ALL.iter().map(|o| o.as_str())),
            faults: named(&state.faults, Fault::ALL.iter().map(|f| f.as_str())),
            interval_ppm: interval.ends_ppm(),
            worst_case_ppm: worst,
            lower_ppm: if unknown_counts {
                worst[0]
            } else {
                interval.lower_ppm()
            },
            unknown,
            unknown_counts,
            voids: state.voided,
            voided_outcomes: named(
                &state.voided_outcomes,
                Outcome::ALL.iter().map(|o| o.as_str()),
            ),
            gaps: gaps.missing,
            streams_with_gaps: gaps.streams_with_gaps,
            streams: gaps.streams,
            receipts,
            receipt_gaps: gaps.receipts,
            receipts_unobserved: receipts.logged.saturating_sub(receipts.joined),
            unilateral: !two_sides,
            late: state.late,
            other_observers: state.other_observers,
            equivocations: state.equivocations,
            contradictions: state.contradictions,
            first_ms: state.first_ms,
            last_ms: state.last_ms,
            first_token: Quantiles::of(&state.first_token.lifetime.finished),
            inter_token: Quantiles::of(&state.inter_token.lifetime.finished),
            total: Quantiles::of(&state.total.finished),
            total_bands: QuantileBands::of(&state.total, alpha),
            checks: state.checks,
            judgements: JudgementsReport::of(state),
            dimensions: dimension::dimensions(state, alpha),
            incidents: IncidentsReport {
                count: state.incidents.count,
                closed_ms: state.incidents.closed_ms,
                open_since_ms: state.incidents.open_since_ms(),
                recent: state.incidents.recent.iter().copied().collect(),
            },
            known_hours,
            unknown_hours,
        }
    }

    fn streams_of(&self, place: usize) -> impl Iterator<Item = (&super::StreamKey, &Numbers)> {
        const LOWEST: record::KeyId = record::KeyId::from_bytes([0; 32]);
        const HIGHEST: record::KeyId = record::KeyId::from_bytes([0xff; 32]);
        let first = (place, NumberedKind::ALL[0], LOWEST);
        let last = (
            place,
            NumberedKind::ALL[NumberedKind::ALL.len() - 1],
            HIGHEST,
        );
        self.numbers.range(first..=last)
    }

    fn gaps(&self, place: usize) -> Gaps {
        let overdue_ms = self.clock_ms.saturating_sub(LATE_AFTER_MS);
        let mut gaps = Gaps::default();
        for ((_, kind, _), numbers) in self.streams_of(place) {
            let missing = numbers.missing();
            gaps.streams += 1;
            gaps.streams_with_gaps += u64::from(missing > 0);
            match kind {
                NumberedKind::Receipt => gaps.receipts += missing,
                NumberedKind::Observation => {
                    gaps.missing += missing;
                    gaps.overdue += numbers.missing_since(overdue_ms);
                }
            }
        }
        gaps
    }
}

/// How many numbers have no outcome, and whether they are too many to be overlooked.
pub(super) fn unknown(state: &EndpointState, gaps: &Gaps) -> (u64, bool) {
    let unknown = state.voided + gaps.overdue;
    let given_out = u128::from(state.calls + unknown);
    let tolerated = given_out * u128::from(UNKNOWN_TOLERATED_PPM) / 1_000_000;
    (unknown, u128::from(unknown) > tolerated)
}

fn named(counts: &[u64], names: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, u64> {
    names
        .zip(counts.iter().copied())
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn digest_numbers(numbers: &Numbers, hasher: &mut Sha256) {
    hasher.update(&numbers.highest.to_be_bytes());
    hasher.update(&numbers.lost.to_be_bytes());
    for runs in [&numbers.missing, &numbers.voided] {
        hasher.update(&(runs.len() as u64).to_be_bytes());
        for run in runs {
            for value in [run.first, run.last, run.noticed_ms] {
                hasher.update(&value.to_be_bytes());
            }
        }
    }
}
