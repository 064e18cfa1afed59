//! The fold of several logs: the lines of a journal and the records they speak of, into one history.
//!
//! Nothing here looks at a clock or at a network: a line is applied when it is in the journal, and the
//! lines alone say what is folded in which order. So the fold that grew and the fold that is made
//! again are the same.

use std::collections::BTreeMap;

use record::control::LogOrigin;
use record::{Record, SignerId};
use reliability::fold::{Applied, History, Observers, Policy, WINDOW_RECORDS};
use reliability::imported::Tally;
use reliability::merge::{Bucket, Merger, Placed, Rule, WAITING_MAX};
use tlog::policy::TrustPolicy;

use super::ROLE;
use super::source::STEP;

/// Several logs, folded.
pub(super) struct Fold {
    merger: Merger,
    pub(super) history: History,
    /// What each observer saw.
    pub(super) tally: Tally,
    pub(super) closed_before_ms: u64,
    /// Logs that were not waited for → how often.
    pub(super) not_waited_for: BTreeMap<String, u64>,
}

/// Nothing: what stands in the place of a fold that is worked on elsewhere.
impl Default for Fold {
    fn default() -> Self {
        Self::of(Merger::new([], Rule::DEFAULT), Vec::new(), 0)
    }
}

impl Fold {
    pub(super) fn new(policy: &TrustPolicy, logs: &[LogOrigin], rule: Rule) -> Self {
        let signers = policy.signers().iter();
        let observers = signers.filter(|signer| signer.roles.iter().any(|role| role == ROLE));
        let mut observers: Vec<_> = observers.map(|signer| signer.id).collect();
        observers.sort_unstable();
        let merger = Merger::new(logs.iter().cloned(), rule);
        Self::of(merger, observers, WINDOW_RECORDS)
    }

    fn of(merger: Merger, observers: Vec<SignerId>, window_records: usize) -> Self {
        Self {
            merger,
            history: History::new(Policy {
                observers: Observers::Only(observers),
                origin: None,
                window_records,
            }),
            tally: Tally::default(),
            closed_before_ms: 0,
            not_waited_for: BTreeMap::new(),
        }
    }

    /// Whether the records of another step can wait here.
    pub(super) fn has_room(&self) -> bool {
        self.merger.waiting() + usize::try_from(STEP).unwrap_or(usize::MAX) <= WAITING_MAX
    }

    pub(super) fn waiting(&self) -> usize {
        self.merger.waiting()
    }

    /// A log was read: these records of it were not there before `seen_ms`. Where there is no room (a
    /// policy that names more signers than the one under which the journal was written), what waits is
    /// folded first: that too is decided by the lines alone.
    pub(super) fn read(&mut self, log: &LogOrigin, seen_ms: u64, records: Vec<(u64, Record)>) {
        if let Some(before_ms) = self.merger.last_end_ms().filter(|_| !self.has_room()) {
            self.close(before_ms, &[]);
        }
        for (index, record) in records {
            let placed = Placed {
                origin: log.clone(),
                index,
                record,
            };
            self.merger
                .add(placed, seen_ms)
                .expect("the log is of the policy, and there is room");
        }
        self.heard(log, seen_ms);
    }

    /// A log had nothing new at `at_ms`. Decides only how long it is waited for.
    pub(super) fn heard(&mut self, log: &LogOrigin, at_ms: u64) {
        self.merger
            .checkpoint(log, at_ms)
            .expect("the log is of the policy");
    }

    /// A log is not waited for any more.
    pub(super) fn let_go(&mut self, log: &LogOrigin) {
        self.merger.let_go(log);
    }

    /// What is to be closed now, if anything: up to when, and who was not waited for.
    pub(super) fn due(&self, now_ms: u64) -> Option<(u64, Vec<String>)> {
        let before_ms = self.merger.due(now_ms)?;
        let behind = self.merger.behind(before_ms);
        Some((before_ms, behind.iter().map(ToString::to_string).collect()))
    }

    /// Folds what lies before `before_ms`.
    pub(super) fn close(&mut self, before_ms: u64, without: &[String]) {
        for bucket in self.merger.close(before_ms) {
            self.fold(&bucket);
        }
        for log in without {
            *self.not_waited_for.entry(log.clone()).or_default() += 1;
        }
        self.closed_before_ms = before_ms;
    }

    fn fold(&mut self, bucket: &Bucket) {
        for placed in &bucket.records {
            let (record, log) = (&placed.record, &placed.origin);
            if self.history.apply_from(record, log, placed.index) == Applied::Counted {
                self.tally.add(record);
            }
        }
    }
}
