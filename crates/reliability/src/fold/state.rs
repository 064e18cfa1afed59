//! What is kept per endpoint: integers, and the evidence of detectors.

use record::Outcome;
use record::bucket::{DURATION_OCTAVE_US, DurationUs};
use record::digest::Sha256;
use record::observation::{Observation, ReceiptCheck, Verdict};

use super::dimension::{
    AVAILABILITY, Cause, Duration, Durations, Latency, Shares, VERDICTS, given_up,
};
use super::incident::Incidents;
use super::judged::Judged;
use super::strata::stratum;
use super::suspicion::Suspected;
use super::{fault_index, outcome_index};

/// Kinds of outcome.
pub(super) const OUTCOMES: usize = Outcome::ALL.len();
/// Kinds of fault.
pub(super) const FAULTS: usize = record::Fault::ALL.len();

/// How many of the watched dimensions, the first ones, are about attempts themselves; the others
/// follow from judgements that come later.
pub(crate) const OF_ATTEMPTS: usize = 5;
/// The dimensions that are watched, and no alarm in any.
pub(super) const NO_ALARMS: [(&str, u64); 8] = [
    ("availability", 0),
    ("first_token", 0),
    ("inter_token", 0),
    ("schema", 0),
    ("tools", 0),
    ("correctness_checks", 0),
    ("correctness_reports", 0),
    ("consistency", 0),
];

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

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0.iter()) {
            *count += more;
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
        self.quantile_index(share_ppm).map(edge_us)
    }

    /// The number of that bucket.
    pub(super) fn quantile_index(&self, share_ppm: u32) -> Option<usize> {
        let total = u128::from(self.count());
        // The rank of the wanted duration, from 1, rounded up.
        let rank = (total * u128::from(share_ppm)).div_ceil(1_000_000).max(1);
        let mut below = 0u128;
        self.0.iter().position(|count| {
            below += u128::from(*count);
            below >= rank
        })
    }

    /// Every count, by number of the bucket.
    pub(super) fn counts(&self) -> &[u64] {
        &self.0[..]
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        for (edge, count) in self.buckets() {
            hasher.update(&edge.to_be_bytes());
            hasher.update(&count.to_be_bytes());
        }
        hasher.update(&u64::MAX.to_be_bytes());
    }
}

/// The lower edge of the bucket that [`DurationUs::index`] numbers so, µs.
pub(crate) fn edge_us(index: usize) -> u64 {
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
    pub(super) hours: Hours,
    pub(super) incidents: Incidents,
    pub(super) availability: Shares,
    pub(super) schema: Shares,
    pub(super) tools: Shares,
    pub(super) first_token: Latency,
    pub(super) inter_token: Latency,
    pub(super) total: Durations,
    /// Attempts that were checks of the observer's own.
    pub(super) checks: u64,
    /// What answers were worth, once anybody has said so.
    pub(super) judged: Option<Box<Judged>>,
}

/// Hours of the fold's clock in which attempts were observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hours {
    first: Option<u64>,
    last: u64,
    known: u64,
}

impl Hours {
    fn add(&mut self, now_ms: u64) {
        let hour = now_ms / (3600 * 1000);
        if self.first.is_none() || hour > self.last {
            self.known += 1;
            self.last = hour;
        }
        self.first.get_or_insert(hour);
    }

    /// Hours with an attempt, and hours without any between the first and `clock_ms`.
    pub(super) fn known_and_unknown(self, clock_ms: u64) -> (u64, u64) {
        let Some(first) = self.first else {
            return (0, 0);
        };
        let elapsed = (clock_ms / (3600 * 1000)).max(self.last) - first + 1;
        (self.known, elapsed - self.known)
    }
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
            hours: Hours::default(),
            incidents: Incidents::default(),
            availability: Shares::new(),
            schema: Shares::new(),
            tools: Shares::new(),
            first_token: Latency::new(),
            inter_token: Latency::new(),
            total: Durations::new(),
            checks: 0,
            judged: None,
        }
    }

    pub(super) fn judged_mut(&mut self) -> &mut Judged {
        self.judged.get_or_insert_with(|| Box::new(Judged::new()))
    }

    /// Counts an attempt. `now_ms` is the fold's clock: a late record enters everything that goes
    /// by time at the moment at which it arrives; without, it enters nothing of that.
    pub(super) fn observe(
        &mut self,
        seen: &Observation,
        end_ms: u64,
        late: bool,
        now_ms: Option<u64>,
    ) {
        let start_ms = seen.timing.start_ms.ms();
        self.calls += 1;
        self.late += u64::from(late);
        self.checks += u64::from(seen.conditions.purpose.is_some());
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
        if let Some(now_ms) = now_ms {
            self.hours.add(now_ms);
        }
        self.judge(seen, now_ms);
        self.time(seen, now_ms);
    }

    /// What is good or bad about an attempt.
    fn judge(&mut self, seen: &Observation, now_ms: Option<u64>) {
        let stratum = stratum(&seen.conditions);
        let failed = seen.counts_against_endpoint();
        if failed || seen.outcome == Outcome::Ok {
            self.availability
                .add(failed, stratum, now_ms, &AVAILABILITY);
            if let Some(now_ms) = now_ms {
                self.incidents.add(failed, now_ms);
            }
        }
        for (shares, verdict) in [
            (&mut self.schema, seen.schema),
            (&mut self.tools, seen.tools),
        ] {
            if verdict != Verdict::NotChecked {
                shares.add(verdict == Verdict::Failed, stratum, now_ms, &VERDICTS);
            }
        }
    }

    /// How long an attempt took. A failed one says how fast it failed, not how fast the endpoint
    /// answers; one that was given up would have lasted at least as long as it did.
    fn time(&mut self, seen: &Observation, now_ms: Option<u64>) {
        let stratum = stratum(&seen.conditions);
        let (timing, ok) = (&seen.timing, seen.outcome == Outcome::Ok);
        let given_up = given_up(seen.outcome);
        if !(ok || given_up) {
            return;
        }
        let first_token = match timing.ttft_us {
            Some(first_token) => Some(Duration::Finished(first_token)),
            None => given_up.then_some(Duration::GivenUp(timing.total_us)),
        };
        if let Some(first_token) = first_token {
            self.first_token.add(first_token, stratum, now_ms);
        }
        if let (true, Some(gaps)) = (ok, &timing.inter_token) {
            let gap = Duration::Finished(gaps.p50_us);
            self.inter_token.add(gap, stratum, now_ms);
        }
        self.total.add(if ok {
            Duration::Finished(timing.total_us)
        } else {
            Duration::GivenUp(timing.total_us)
        });
    }

    /// Opens an epoch in every dimension: something else is served from now on.
    pub(super) fn restart(&mut self, now_ms: u64) {
        for (shares, rule) in [
            (&mut self.availability, &AVAILABILITY),
            (&mut self.schema, &VERDICTS),
            (&mut self.tools, &VERDICTS),
        ] {
            shares.restart(now_ms, Cause::Manifest, rule);
        }
        for latency in [&mut self.first_token, &mut self.inter_token] {
            latency.restart(now_ms, Cause::Manifest);
        }
        if let Some(judged) = &mut self.judged {
            judged.restart(now_ms);
        }
    }

    /// Alarms of all detectors so far.
    pub(super) fn alarms(&self) -> u64 {
        self.alarms_by_dimension().iter().map(|(_, n)| n).sum()
    }

    /// Alarms of each detector so far.
    pub(super) fn alarms_by_dimension(&self) -> [(&'static str, u64); 8] {
        let watches = [
            &self.availability.watch,
            &self.first_token.watch,
            &self.inter_token.watch,
            &self.schema.watch,
            &self.tools.watch,
        ];
        let mut alarms = NO_ALARMS;
        for ((_, count), watch) in alarms.iter_mut().zip(watches) {
            *count = watch.watched().alarms;
        }
        let judged = self.judged.iter().flat_map(|it| it.series());
        for ((_, count), series) in alarms.iter_mut().skip(watches.len()).zip(judged) {
            *count = series.watch.watched().alarms;
        }
        alarms
    }

    /// The latest alarms of each detector with what came of them, oldest first.
    pub(super) fn suspected(&self) -> impl Iterator<Item = (&'static str, &Suspected)> {
        let of_attempts = [
            &self.availability.alarms,
            &self.first_token.alarms,
            &self.inter_token.alarms,
            &self.schema.alarms,
            &self.tools.alarms,
        ];
        let judged = self.judged.iter().flat_map(|it| it.series());
        let all = of_attempts.into_iter().chain(judged.map(|it| &it.alarms));
        NO_ALARMS.iter().zip(all).flat_map(|((name, _), verdicts)| {
            let recent = verdicts.iter().flat_map(|it| it.recent.iter());
            recent.map(|it| (*name, it))
        })
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
            self.hours.first.unwrap_or(u64::MAX),
            self.hours.last,
            self.hours.known,
            self.checks,
            u64::from(self.judged.is_some()),
        ];
        let tables = [
            &self.outcomes[..],
            &self.faults[..],
            &self.voided_outcomes[..],
        ];
        for value in plain.iter().chain(tables.into_iter().flatten()) {
            hasher.update(&value.to_be_bytes());
        }
        self.incidents.digest_into(hasher);
        for shares in [&self.availability, &self.schema, &self.tools] {
            shares.digest_into(hasher);
        }
        for latency in [&self.first_token, &self.inter_token] {
            latency.digest_into(hasher);
        }
        self.total.finished.digest_into(hasher);
        self.total.censored.digest_into(hasher);
        if let Some(judged) = &self.judged {
            judged.digest_into(hasher);
        }
    }
}
