//! Which entries of a log go into a history, found in one pass over it.
//!
//! Control records stand before what they allow, so whether one belongs to a selection shows only
//! later. So a history is written in two passes: this one reads every statement and keeps indices,
//! the second copies bytes.

use std::collections::{BTreeMap, BTreeSet};

use record::{KeyId, Predicate, Record, SignerId};

use super::Selection;
use super::account::Account;

/// A history being planned.
#[derive(Debug, Default)]
pub struct Planner {
    selection: Selection,
    account: Account,
    entries: Vec<u64>,
    records: u64,
    controls: BTreeMap<SignerId, Vec<(u64, Record)>>,
    signers: BTreeSet<SignerId>,
    keys: BTreeSet<KeyId>,
    erased: Vec<(u64, KeyId)>,
}

/// What goes into a history.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Indices in the log, ascending: records, and leaves whose bodies were erased.
    pub entries: Vec<u64>,
    /// How many of them are records.
    pub records: u64,
    /// How many are erased.
    pub erased: u64,
    /// The account of the records.
    pub account: Account,
}

impl Planner {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            ..Self::default()
        }
    }

    /// A record of the log; they come in its order.
    pub fn record(&mut self, record: &Record, index: u64) {
        if matches!(record.statement.predicate, Predicate::Control(_)) {
            let controls = self.controls.entry(record.signer_id()).or_default();
            controls.push((index, record.clone()));
            return;
        }
        if !self.selection.picks(record) {
            return;
        }
        self.account.add(record, index);
        self.entries.push(index);
        self.records += 1;
        self.signers.insert(record.signer_id());
        // Whoever counts a summary's bundles again must know whose keys its observer let sign.
        if let Predicate::Summary(summary) = &record.statement.predicate
            && self.selection.summaries
        {
            self.signers.insert(summary.observer);
        }
        self.keys.insert(record.key().key_id());
    }

    /// An entry whose body was erased, and the key in its leaf. What it was about is not known; it
    /// goes into the history if that key signed anything in it.
    pub fn erased(&mut self, index: u64, key: KeyId) {
        self.erased.push((index, key));
    }

    /// The plan.
    #[must_use]
    pub fn finish(mut self) -> Plan {
        let whole = self.selection.is_whole();
        for (signer, controls) in &self.controls {
            if whole || self.signers.contains(signer) {
                for (index, control) in controls {
                    self.account.add(control, *index);
                    self.entries.push(*index);
                    self.records += 1;
                }
            }
        }
        let before = self.entries.len();
        for (index, key) in &self.erased {
            if whole || self.keys.contains(key) {
                self.entries.push(*index);
            }
        }
        let erased = u64::try_from(self.entries.len() - before).unwrap_or(u64::MAX);
        self.entries.sort_unstable();
        Plan {
            entries: self.entries,
            records: self.records,
            erased,
            account: self.account,
        }
    }
}
