//! What is counted per endpoint: integers and nothing else.

use record::Outcome;
use record::bucket::{DURATION_OCTAVE_US, DurationUs};
use record::digest::Sha256;
use record::observation::{Observation, ReceiptCheck};

use super::{fault_index, outcome_index};

/// Kinds of outcome.
pub(super) const OUTCOMES: usize = Outcome::ALL.len();
/// Kinds of fault.
pub(super) const FAULTS: usize = record::Fault::ALL.len();

/// Durations counted by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(Box<[u64; DurationUs::COUNT]>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self(Box::new([0; DurationUs::COUNT]))
    }

    pub(super) fn add(&mut self, duration: DurationUs) {
        if let Some(count) = self.0.get_mut(duration.index()) {
            *count += 1;
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Buckets that are not empty: lower edge in µs, and how many durations fell into it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let edges = (0..DurationUs::COUNT).map(edge_us);
        edges
            .zip(self.0.iter().copied())
            .filter(|(_, count)| *count > 0)
    }

    /// The bucket that the given share of durations does not exceed: its lower edge, µs.
    #[must_use]
    pub fn quantile_us(&self, share_ppm: u32) -> Option<u64> {
        let total = u128::from(self.count());
        // The rank of the wanted duration, from 1, rounded up.
        let rank = (total * u128::from(share_ppm)).div_ceil(1_000_000).max(1);
        let mut below = 0u128;
        self.buckets().find_map(|(edge, count)| {
            below += u128::from(count);
            (below >= rank).then_some(edge)
        })
    }

    fn digest_into(&self, hasher: &mut Sha256) {
        for (edge, count) in self.buckets() {
            hasher.update(&edge.to_be_bytes());
            hasher.update(&count.to_be_bytes());
        }
        hasher.update(&u64::MAX.to_be_bytes());
    }
}

/// The lower edge of the bucket that [`DurationUs::index`] numbers so, µs.
fn edge_us(index: usize) -> u64 {
    index.checked_sub(1).map_or(0, |step| {
        let octave = DURATION_OCTAVE_US.len();
        DURATION_OCTAVE_US[step % octave] << (step / octave)
    })
}

/// Receipts of an endpoint, from both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Receipts {
    /// Receipts in the log.
    pub logged: u64,
    /// Of those, the ones whose observation was found as well.
    pub joined: u64,
    /// Observations whose receipt was checked and held.
    pub verified: u64,
    /// Observations to which no receipt came although the provider has joined.
    pub missing: u64,
    /// Observations whose receipt did not verify or said something else.
    pub invalid: u64,
    /// Receipts that were logged late.
    pub late: u64,
    /// Numbers of receipts that the provider voided (crash or full spool).
    pub voided: u64,
}

/// Counts of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct EndpointState {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) outcomes: [u64; OUTCOMES],
    pub(super) faults: [u64; FAULTS],
    pub(super) receipts: Receipts,
    pub(super) late: u64,
    pub(super) other_observers: u64,
    pub(super) voided: u64,
    pub(super) voided_outcomes: [u64; OUTCOMES],
    pub(super) unused: u64,
    pub(super) equivocations: u64,
    pub(super) contradictions: u64,
    pub(super) first_ms: Option<u64>,
    pub(super) last_ms: Option<u64>,
    pub(super) first_token: Histogram,
    pub(super) inter_token: Histogram,
    pub(super) total: Histogram,
}

impl EndpointState {
    pub(super) fn new() -> Self {
        Self {
            calls: 0,
            failures: 0,
            outcomes: [0; OUTCOMES],
            faults: [0; FAULTS],
            receipts: Receipts::default(),
            late: 0,
            other_observers: 0,
            voided: 0,
            voided_outcomes: [0; OUTCOMES],
            unused: 0,
            equivocations: 0,
            contradictions: 0,
            first_ms: None,
            last_ms: None,
            first_token: Histogram::new(),
            inter_token: Histogram::new(),
            total: Histogram::new(),
        }
    }

    pub(super) fn observe(&mut self, seen: &Observation, start_ms: u64, end_ms: u64, late: bool) {
        self.calls += 1;
        self.late += u64::from(late);
        self.outcomes[outcome_index(seen.outcome)] += 1;
        if let Some(fault) = seen.fault {
            self.faults[fault_index(fault)] += 1;
        }
        self.failures += u64::from(seen.counts_against_endpoint());
        match seen.receipt_check {
            ReceiptCheck::Verified => self.receipts.verified += 1,
            ReceiptCheck::Missing => self.receipts.missing += 1,
            ReceiptCheck::Invalid => self.receipts.invalid += 1,
            ReceiptCheck::NotJoined => {}
        }
        self.first_ms = Some(self.first_ms.map_or(start_ms, |first| first.min(start_ms)));
        self.last_ms = Some(self.last_ms.map_or(end_ms, |last| last.max(end_ms)));
        // A failed attempt's times say how fast it failed, not how fast the endpoint answers.
        if seen.outcome == Outcome::Ok {
            if let Some(first_token) = seen.timing.ttft_us {
                self.first_token.add(first_token);
            }
            if let Some(gaps) = &seen.timing.inter_token {
                self.inter_token.add(gaps.p50_us);
            }
            self.total.add(seen.timing.total_us);
        }
    }

    /// Answers that were whole, well formed and in time.
    pub(super) fn successes(&self) -> u64 {
        self.outcomes[outcome_index(Outcome::Ok)]
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        let receipts = &self.receipts;
        let plain = [
            self.calls,
            self.failures,
            receipts.logged,
            receipts.joined,
            receipts.verified,
            receipts.missing,
            receipts.invalid,
            receipts.late,
            receipts.voided,
            self.late,
            self.other_observers,
            self.voided,
            self.unused,
            self.equivocations,
            self.contradictions,
            self.first_ms.unwrap_or(u64::MAX),
            self.last_ms.unwrap_or(u64::MAX),
        ];
        let tables = [
            &self.outcomes[..],
            &self.faults[..],
            &self.voided_outcomes[..],
        ];
        for value in plain.iter().chain(tables.into_iter().flatten()) {
            hasher.update(&value.to_be_bytes());
        }
        for histogram in [&self.first_token, &self.inter_token, &self.total] {
            histogram.digest_into(hasher);
        }
    }
}
