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
//! bucket says so ([`Bucket::without`]): another machine that had waited longer may differ.
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
        let mut ready = Vec::new();
        while let Some((bucket, _, _)) = self.waiting.keys().next() {
            let bucket = *bucket;
            if !self.is_due(bucket, now_ms) {
                break;
            }
            let Some(first) = self.logs.keys().next().cloned() else {
                break;
            };
            let rest = self.waiting.split_off(&(bucket + 1, first, 0));
            let due = std::mem::replace(&mut self.waiting, rest);
            let end_ms = self.end_ms(bucket);
            ready.push(Bucket {
                start_ms: bucket.saturating_mul(self.rule.bucket_ms),
                without: self
                    .logs
                    .iter()
                    .filter(|(_, latest)| **latest < end_ms)
                    .map(|(origin, _)| origin.clone())
                    .collect(),
                records: due
                    .into_iter()
                    .map(|((_, origin, index), record)| Placed {
                        origin,
                        index,
                        record,
                    })
                    .collect(),
            });
            self.open = bucket + 1;
        }
        // Empty buckets whose time has come are closed too: what is late for them is late.
        let all_past = self.logs.values().min().copied().unwrap_or(0);
        let given_up = now_ms.saturating_sub(self.rule.timeout_ms);
        self.open = self.open.max(all_past.max(given_up) / self.rule.bucket_ms);
        ready
    }

    /// Records that wait for a log to catch up.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn is_due(&self, bucket: u64, now_ms: u64) -> bool {
        let end_ms = self.end_ms(bucket);
        end_ms.saturating_add(self.rule.timeout_ms) <= now_ms
            || self.logs.values().all(|latest| *latest >= end_ms)
    }

    fn end_ms(&self, bucket: u64) -> u64 {
        bucket.saturating_add(1).saturating_mul(self.rule.bucket_ms)
    }
}

#[cfg(test)]
mod tests;
