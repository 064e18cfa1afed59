//! Records of several logs in one order: merge records, never evidence.
//!
//! A record that counts twice raises several times the false alarms it should, so evidence that
//! was worked out apart is never multiplied; records are put into one order and folded once.
//!
//! **The order** is (log-time bucket, origin of the log, index). The log time of a record is that of
//! the first checkpoint that covers it, never what its signer claims. A bucket is folded once
//! every log of the policy has a checkpoint past its end, or, for a log that keeps silent, once
//! [`Rule::timeout_ms`] has passed since. What arrives for a bucket that was folded enters the
//! one that is open: late, and nothing before it changes.
//!
//! Two machines that saw every log in time fold the same order. Where a log was not waited for, the
//! bucket says so ([`Bucket::without`]): another machine that had waited longer may differ. So whoever
//! has to come to the same order again writes down when each checkpoint was first seen, and up to
//! where buckets were closed ([`Merger::due`], [`Merger::close`]).
//!
//! **Once.** The fold counts a record from its signer's home log alone
//! ([`crate::fold::History::apply_from`]), so a copy in another log, before or after, changes no
//! figure.

use std::collections::BTreeMap;

use record::Record;
use record::control::LogOrigin;

/// Most records that may wait. A log that is read far ahead of the others waits with its reader.
pub const WAITING_MAX: usize = 100_000;

/// How records of several logs are merged. Part of the policy: another rule is another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Length of a bucket of log time, ms; at least 1.
    pub bucket_ms: u64,
    /// How long a bucket waits for a log without a checkpoint past it, ms.
    pub timeout_ms: u64,
}

impl Rule {
    /// Buckets of ten seconds; a log that is silent for ten minutes is not waited for.
    pub const DEFAULT: Self = Self {
        bucket_ms: 10_000,
        timeout_ms: 10 * 60 * 1000,
    };
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The log is not of the policy.
    #[error(
        "log {0} is not one that this history is folded from; add it to the policy, or leave its records out"
    )]
    UnknownLog(LogOrigin),
    /// Too many wait.
    #[error(
        "{WAITING_MAX} records wait for logs that are behind; read those first, then this one again"
    )]
    Full,
}

/// A record at its place in a log.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The log.
    pub origin: LogOrigin,
    /// Its index there.
    pub index: u64,
    /// The record.
    pub record: Record,
}

/// A bucket whose time has come.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// When it began, Unix ms of log time.
    pub start_ms: u64,
    /// Logs that had no checkpoint past it when their time was up.
    pub without: Vec<LogOrigin>,
    /// Its records in order.
    pub records: Vec<Placed>,
}

/// Puts records of several logs into one order.
#[derive(Clone, Debug)]
pub struct Merger {
    rule: Rule,
    /// Log → time of its latest checkpoint, Unix ms.
    logs: BTreeMap<LogOrigin, u64>,
    waiting: BTreeMap<(u64, LogOrigin, u64), Record>,
    /// The first bucket that was not folded.
    open: u64,
}

impl Merger {
    /// For the logs of a policy. Buckets of no length are taken as of 1 ms.
    #[must_use]
    pub fn new(logs: impl IntoIterator<Item = LogOrigin>, rule: Rule) -> Self {
        Self {
            rule: Rule {
                bucket_ms: rule.bucket_ms.max(1),
                ..rule
            },
            logs: logs.into_iter().map(|log| (log, 0)).collect(),
            waiting: BTreeMap::new(),
            open: 0,
        }
    }

    /// Takes the record at `index` of a log, first covered by a checkpoint of `logged_ms`. The same
    /// place twice is one record.
    ///
    /// # Errors
    /// [`MergeError`] for a log that is not of the policy, or when too many wait.
    pub fn add(&mut self, placed: Placed, logged_ms: u64) -> Result<(), MergeError> {
        if !self.logs.contains_key(&placed.origin) {
            return Err(MergeError::UnknownLog(placed.origin));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(MergeError::Full);
        }
        let bucket = (logged_ms / self.rule.bucket_ms).max(self.open);
        let key = (bucket, placed.origin, placed.index);
        self.waiting.entry(key).or_insert(placed.record);
        Ok(())
    }

    /// Notes a checkpoint: every record that the log covered before `at_ms` has been added.
    ///
    /// # Errors
    /// [`MergeError::UnknownLog`].
    pub fn checkpoint(&mut self, origin: &LogOrigin, at_ms: u64) -> Result<(), MergeError> {
        match self.logs.get_mut(origin) {
            Some(latest) => {
                *latest = at_ms.max(*latest);
                Ok(())
            }
            None => Err(MergeError::UnknownLog(origin.clone())),
        }
    }

    /// The buckets whose time has come, in order; `now_ms` decides only whether a silent log is
    /// still waited for.
    pub fn ready(&mut self, now_ms: u64) -> Vec<Bucket> {
        self.close(self.horizon_ms(now_ms))
    }

    /// Where the first bucket begins that still has to wait, if records lie in those before it: what
    /// to hand to [`Merger::close`], once that was written down.
    #[must_use]
    pub fn due(&self, now_ms: u64) -> Option<u64> {
        let horizon_ms = self.horizon_ms(now_ms);
        let (first, _, _) = self.waiting.keys().next()?;
        (self.end_ms(*first) <= horizon_ms).then_some(horizon_ms)
    }

    /// Folds every bucket that ends by `before_ms`, whoever was not waited for: the same records and
    /// the same calls give the same order, whatever a clock says. Empty ones are closed too: what
    /// is late for them is late.
    pub fn close(&mut self, before_ms: u64) -> Vec<Bucket> {
        let mut closed = Vec::new();
        while let Some((bucket, _, _)) = self.waiting.keys().next() {
            let bucket = *bucket;
            let Some(first) = self.logs.keys().next().cloned() else {
                break;
            };
            if self.end_ms(bucket) > before_ms {
                break;
            }
            let rest = self.waiting.split_off(&(bucket + 1, first, 0));
            let due = std::mem::replace(&mut self.waiting, rest);
            let placed = |((_, origin, index), record)| Placed {
                origin,
                index,
                record,
            };
            closed.push(Bucket {
                start_ms: bucket.saturating_mul(self.rule.bucket_ms),
                without: self.behind(self.end_ms(bucket)),
                records: due.into_iter().map(placed).collect(),
            });
        }
        self.open = self.open.max(before_ms / self.rule.bucket_ms);
        closed
    }

    /// Where the last bucket with a record that waits ends, Unix ms.
    #[must_use]
    pub fn last_end_ms(&self) -> Option<u64> {
        let (last, _, _) = self.waiting.keys().next_back()?;
        Some(self.end_ms(*last))
    }

    /// Logs without a checkpoint at or past `at_ms`.
    #[must_use]
    pub fn behind(&self, at_ms: u64) -> Vec<LogOrigin> {
        let behind = self.logs.iter().filter(|(_, latest)| **latest < at_ms);
        behind.map(|(origin, _)| origin.clone()).collect()
    }

    /// Waits for a log no longer, for good.
    pub fn let_go(&mut self, origin: &LogOrigin) {
        if let Some(latest) = self.logs.get_mut(origin) {
            *latest = u64::MAX;
        }
    }

    /// Records that wait for a log to catch up.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Where the first bucket begins that has to wait, Unix ms.
    fn horizon_ms(&self, now_ms: u64) -> u64 {
        let all_past = self.logs.values().min().copied().unwrap_or(0);
        let given_up = now_ms.saturating_sub(self.rule.timeout_ms);
        let reached = all_past.max(given_up);
        reached - reached % self.rule.bucket_ms
    }

    fn end_ms(&self, bucket: u64) -> u64 {
        bucket.saturating_add(1).saturating_mul(self.rule.bucket_ms)
    }
}

#[cfg(test)]
mod tests;
