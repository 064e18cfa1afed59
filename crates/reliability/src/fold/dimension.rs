//! What is kept apart: one series per dimension of an endpoint.

use record::Outcome;
use record::bucket::DurationUs;
use record::digest::Sha256;

use super::state::Histogram;
use super::strata::{STRATA, Tally};
use super::suspicion::{Suspicion, Verdicts};
use super::watch::{Rule, Watch};

const HOUR_MS: u64 = 3600 * 1000;

/// A week: longer than outages last, so that a bad unit says little about the next one.
pub(super) const AVAILABILITY: Rule = Rule {
    unit_ms: 7 * 24 * HOUR_MS,
    // A week in which one attempt in twenty fails is a bad one, whoever the endpoint is. A learned
    // baseline would need years of weeks.
    declared: Some(0.05),
    learned_units: 0,
};

/// A day: longer than nearly all slow spells.
pub(super) const LATENCY: Rule = Rule {
    unit_ms: 24 * HOUR_MS,
    declared: None,
    learned_units: 180,
};

/// An hour: whatever requests of one hour have in common counts once.
pub(super) const VERDICTS: Rule = Rule {
    unit_ms: HOUR_MS,
    declared: None,
    learned_units: 2000,
};

/// A day: answers that are judged in one day often have a case, a batch of reports or a change of the
/// application in common.
pub(super) const JUDGED: Rule = Rule {
    unit_ms: 24 * HOUR_MS,
    declared: None,
    learned_units: 180,
};

/// Durations of an epoch after which it is fixed what counts as slow.
pub(super) const SLOW_AFTER: u64 = 200;
/// Slow is what lies above the bucket that this share of those durations does not exceed, ppm.
pub(super) const SLOW_SHARE_PPM: u32 = 900_000;

/// Why an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The history began.
    Start,
    /// The detector of this dimension raised the alarm.
    Alarm,
    /// The provider's manifest changed.
    Manifest,
}

/// A stretch of a history in which nothing is known to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    /// From 1.
    pub(super) number: u64,
    /// When it began, Unix ms; absent in a history without outcomes.
    pub(super) since_ms: Option<u64>,
    pub(super) cause: Cause,
}

impl Epoch {
    const FIRST: Self = Self {
        number: 1,
        since_ms: None,
        cause: Cause::Start,
    };

    fn next(self, since_ms: u64, cause: Cause) -> Self {
        Self {
            number: self.number + 1,
            since_ms: Some(since_ms),
            cause,
        }
    }

    fn digest_into(self, hasher: &mut Sha256) {
        let since_ms = self.since_ms.unwrap_or(u64::MAX);
        for value in [self.number, since_ms, self.cause as u64] {
            hasher.update(&value.to_be_bytes());
        }
    }
}

/// What its alarms were worth, once there was one.
pub(super) type Alarms = Option<Box<Verdicts>>;

/// Begins to confirm the alarm that `watch` has just raised.
fn suspect(alarms: &mut Alarms, watch: &Watch, now_ms: u64, suspicion: Suspicion) {
    let verdicts = alarms.get_or_insert_with(Box::default);
    verdicts.begin(watch.watched().alarms, now_ms, suspicion);
}

fn digest_alarms(alarms: &Alarms, hasher: &mut Sha256) {
    hasher.update(&u64::from(alarms.is_some()).to_be_bytes());
    if let Some(verdicts) = alarms {
        verdicts.digest_into(hasher);
    }
}

/// A dimension whose outcomes are good or bad.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shares {
    pub(super) lifetime: [Tally; STRATA],
    pub(super) current: Tally,
    pub(super) epoch: Epoch,
    pub(super) watch: Watch,
    pub(super) alarms: Alarms,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self {
            lifetime: [Tally::default(); STRATA],
            current: Tally::default(),
            epoch: Epoch::FIRST,
            watch: Watch::new(),
            alarms: None,
        }
    }

    pub(super) fn add(&mut self, bad: bool, stratum: usize, now_ms: Option<u64>, rule: &Rule) {
        self.add_score(Tally::one(bad), stratum, now_ms, rule);
    }

    /// Adds a score: how much of it is good and how much bad. Scores of one series have one sum. One
    /// without a time is of the whole history alone, of no epoch and no unit.
    pub(super) fn add_score(
        &mut self,
        score: Tally,
        stratum: usize,
        now_ms: Option<u64>,
        rule: &Rule,
    ) {
        self.lifetime[stratum].add(score);
        let Some(now_ms) = now_ms else { return };
        if let Some(verdicts) = &mut self.alarms {
            verdicts.add(score, stratum, now_ms, rule);
        }
        let epoch = self.epoch.number;
        if let Some(suspicion) = self.watch.add(score, stratum, now_ms, epoch, rule) {
            self.restart(now_ms, Cause::Alarm, rule);
            suspect(&mut self.alarms, &self.watch, now_ms, suspicion);
        }
        self.epoch.since_ms.get_or_insert(now_ms);
        self.current.add(score);
    }

    /// Opens an epoch. What is judged against a declared baseline is watched on over a changed manifest:
    /// the baseline does not depend on what is served, and evidence that a provider could wipe out
    /// with a manifest a week would be none.
    pub(super) fn restart(&mut self, now_ms: u64, cause: Cause, rule: &Rule) {
        self.epoch = self.epoch.next(now_ms, cause);
        self.current = Tally::default();
        if cause == Cause::Alarm || rule.declared.is_none() {
            self.watch.restart();
            if let Some(verdicts) = &mut self.alarms {
                verdicts.give_up(now_ms);
            }
        }
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        for tally in self.lifetime.iter().chain([&self.current]) {
            hasher.update(&tally.good.to_be_bytes());
            hasher.update(&tally.bad.to_be_bytes());
        }
        self.epoch.digest_into(hasher);
        self.watch.digest_into(hasher);
        digest_alarms(&self.alarms, hasher);
    }
}

/// Durations, of calls that came that far and of calls that were given up before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Durations {
    pub(super) finished: Histogram,
    pub(super) censored: Histogram,
}

impl Durations {
    pub(super) fn new() -> Self {
        Self {
            finished: Histogram::new(),
            censored: Histogram::new(),
        }
    }

    pub(super) fn add(&mut self, duration: Duration) {
        match duration {
            Duration::Finished(duration) => self.finished.add(duration),
            Duration::GivenUp(after) => self.censored.add(after),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.finished.merge(&other.finished);
        self.censored.merge(&other.censored);
    }
}

/// One duration of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duration {
    /// It was measured.
    Finished(DurationUs),
    /// The call was given up after this long: right censored.
    GivenUp(DurationUs),
}

/// A dimension that is a duration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Latency {
    pub(super) lifetime: Durations,
    pub(super) current: Durations,
    pub(super) epoch: Epoch,
    /// Number of the bucket above which a duration of this epoch is slow.
    pub(super) slow_above: Option<usize>,
    pub(super) watch: Watch,
    pub(super) alarms: Alarms,
    /// The limit that held when the last alarm was raised: what is suspected is more beyond that one.
    pub(super) suspected_above: Option<usize>,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self {
            lifetime: Durations::new(),
            current: Durations::new(),
            epoch: Epoch::FIRST,
            slow_above: None,
            watch: Watch::new(),
            alarms: None,
            suspected_above: None,
        }
    }

    /// Adds a duration; one without a time is of the whole history alone.
    pub(super) fn add(&mut self, duration: Duration, stratum: usize, now_ms: Option<u64>) {
        self.lifetime.add(duration);
        let Some(now_ms) = now_ms else { return };
        let slow_by = |limit: Option<usize>| {
            let slow = limit.and_then(|limit| is_slow(duration, limit));
            slow.map(Tally::one)
        };
        if let (Some(verdicts), Some(slow)) = (&mut self.alarms, slow_by(self.suspected_above)) {
            verdicts.add(slow, stratum, now_ms, &LATENCY);
        }
        // What sets the limit is not judged by it.
        let epoch = self.epoch.number;
        if let Some(slow) = slow_by(self.slow_above)
            && let Some(suspicion) = self.watch.add(slow, stratum, now_ms, epoch, &LATENCY)
        {
            self.suspected_above = self.slow_above;
            self.restart(now_ms, Cause::Alarm);
            suspect(&mut self.alarms, &self.watch, now_ms, suspicion);
        }
        self.epoch.since_ms.get_or_insert(now_ms);
        self.current.add(duration);
        if self.slow_above.is_none() && self.current.finished.count() >= SLOW_AFTER {
            self.slow_above = self.current.finished.quantile_index(SLOW_SHARE_PPM);
        }
    }

    pub(super) fn restart(&mut self, now_ms: u64, cause: Cause) {
        self.epoch = self.epoch.next(now_ms, cause);
        self.current = Durations::new();
        self.slow_above = None;
        self.watch.restart();
        if let Some(verdicts) = &mut self.alarms {
            verdicts.give_up(now_ms);
        }
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        for durations in [&self.lifetime, &self.current] {
            durations.finished.digest_into(hasher);
            durations.censored.digest_into(hasher);
        }
        self.epoch.digest_into(hasher);
        let slow_above = self.slow_above.map_or(u64::MAX, |limit| limit as u64);
        hasher.update(&slow_above.to_be_bytes());
        self.watch.digest_into(hasher);
        let suspected_above = self.suspected_above.map_or(u64::MAX, |limit| limit as u64);
        hasher.update(&suspected_above.to_be_bytes());
        digest_alarms(&self.alarms, hasher);
    }
}

/// Whether a duration is slow; nobody knows for a call that was given up before the limit.
fn is_slow(duration: Duration, limit: usize) -> Option<bool> {
    match duration {
        Duration::Finished(duration) => Some(duration.index() > limit),
        Duration::GivenUp(after) => (after.index() > limit).then_some(true),
    }
}

/// Whether an attempt was given up, rather than answered or refused.
pub(super) fn given_up(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Canceled | Outcome::Timeout)
}
