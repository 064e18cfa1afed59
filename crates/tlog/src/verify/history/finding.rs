//! What does not hold, by name.

use std::collections::BTreeMap;
use std::ops::Range;

use record::{RecordId, StreamId};
use serde::Serialize;

use crate::history::account::StreamAccount;
use crate::history::runs::Runs;

/// Findings that are listed one by one; the rest are counted.
pub const LISTED_MAX: usize = 100;

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that it failed.
    pub check: &'static str,
    /// The entries of the log that are concerned, first and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<[u64; 2]>,
    /// The record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordId>,
    /// The stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// The numbers of that stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Runs>,
    /// What is wrong.
    pub why: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.entries {
            Some([first, last]) if first == last => write!(f, "entry {first}: ")?,
            Some([first, last]) => write!(f, "entries {first} to {last}: ")?,
            None => {}
        }
        if let Some(record) = &self.record {
            write!(f, "record {record}: ")?;
        }
        if let (Some(stream), Some(numbers)) = (&self.stream, &self.numbers) {
            write!(f, "stream {stream}, number {numbers}: ")?;
        }
        f.write_str(&self.why)
    }
}

/// All that does not hold; bounded.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    listed: Vec<Finding>,
    counts: BTreeMap<&'static str, u64>,
}

impl Findings {
    /// The file as a whole, or a part that has no place in the log.
    pub(super) fn file(&mut self, check: &'static str, why: String) {
        self.add(check, why, |finding| finding);
    }

    pub(super) fn entry(&mut self, check: &'static str, index: u64, why: String) {
        let entries = Some([index, index]);
        self.add(check, why, |finding| Finding { entries, ..finding });
    }

    pub(super) fn record(&mut self, check: &'static str, index: u64, id: RecordId, why: String) {
        let (entries, record) = (Some([index, index]), Some(id));
        self.add(check, why, |finding| Finding {
            entries,
            record,
            ..finding
        });
    }

    pub(super) fn gap(&mut self, check: &'static str, gap: &Range<u64>, why: String) {
        let entries = Some([gap.start, gap.end.saturating_sub(1).max(gap.start)]);
        self.add(check, why, |finding| Finding { entries, ..finding });
    }

    /// Nothing if there are no such numbers.
    pub(super) fn numbers(&mut self, of: &StreamAccount, numbers: Runs, why: &str) {
        if numbers.is_empty() {
            return;
        }
        let why = format!("{why} ({} of {}/{})", of.kind, of.provider, of.model);
        self.add("numbers", why, |finding| Finding {
            stream: Some(of.stream),
            numbers: Some(numbers),
            ..finding
        });
    }

    fn add(&mut self, check: &'static str, why: String, fill: impl FnOnce(Finding) -> Finding) {
        *self.counts.entry(check).or_default() += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(fill(Finding {
                check,
                entries: None,
                record: None,
                stream: None,
                numbers: None,
                why,
            }));
        }
    }

    /// How many.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn has(&self, check: &str) -> bool {
        self.counts.contains_key(check)
    }

    /// The first finding of a check, and how many more there are.
    pub(super) fn summary(&self, check: &str) -> Option<String> {
        let count = *self.counts.get(check)?;
        let first = self.listed.iter().find(|finding| finding.check == check);
        let first = first.map_or_else(|| "see the other findings".to_owned(), ToString::to_string);
        Some(match count {
            1 => first,
            more => format!("{first} (and {} more)", more - 1),
        })
    }

    pub(super) fn into_listed(self) -> Vec<Finding> {
        self.listed
    }
}
