//! What happened just now, for the page and for whoever asks about a call: bounded, in memory,
//! and without anything that was said.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use record::observation::ReceiptCheck;
use record::{CallId, Fault, Outcome, Provider, RecordId};
use serde::Serialize;

use crate::catalog::Live;
use crate::lock::lock;
use crate::observe::Facts;

/// Attempts that are remembered.
pub(crate) const KEPT: usize = 256;
/// Attempts that a status shows.
pub(crate) const SHOWN: usize = 40;

/// An attempt that ended.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) call: CallId,
    pub(crate) attempt: u32,
    pub(crate) live: Arc<Live>,
    pub(crate) at_ms: u64,
    pub(crate) outcome: Outcome,
    pub(crate) fault: Option<Fault>,
    pub(crate) first_token_us: Option<u64>,
    pub(crate) total_us: u64,
    pub(crate) receipt: ReceiptCheck,
    /// None if it is not recorded.
    pub(crate) record: Option<RecordId>,
    pub(crate) published: bool,
}

impl Ended {
    pub(crate) fn of(facts: &Facts, receipt: ReceiptCheck) -> Self {
        let row = facts.seen.row();
        Self {
            call: facts.call,
            attempt: facts.attempt,
            live: Arc::clone(&facts.live),
            at_ms: facts.start_ms,
            outcome: row.outcome,
            fault: row.fault,
            first_token_us: facts.first_token_us,
            total_us: facts.total_us,
            receipt,
            record: None,
            published: false,
        }
    }
}

/// A recent attempt as the status shows it.
#[derive(Serialize)]
pub(crate) struct Shown {
    call: CallId,
    attempt: u32,
    at_ms: u64,
    name: Option<String>,
    provider: String,
    model: String,
    outcome: &'static str,
    fault: Option<&'static str>,
    first_token_us: Option<u64>,
    total_us: u64,
    /// `None` where none is expected.
    receipt: Option<&'static str>,
    record: &'static str,
}

impl Shown {
    fn of(ended: &Ended) -> Self {
        let id = &ended.live.id;
        Self {
            call: ended.call,
            attempt: ended.attempt,
            at_ms: ended.at_ms,
            name: ended.live.site.config.name.clone(),
            provider: id.provider.to_string(),
            model: id.model.to_string(),
            outcome: ended.outcome.as_str(),
            fault: ended.fault.map(|fault| fault.as_str()),
            first_token_us: ended.first_token_us,
            total_us: ended.total_us,
            receipt: matches!(id.provider, Provider::Joined(_)).then(|| ended.receipt.as_str()),
            record: match (ended.record, ended.published) {
                (None, _) => "unrecorded",
                (Some(_), false) => "recorded",
                (Some(_), true) => "published",
            },
        }
    }
}

/// Calls under way and attempts that ended.
#[derive(Default)]
pub(crate) struct Recent {
    /// Oldest first.
    ended: Mutex<VecDeque<Ended>>,
    /// Call → what of it is not recorded yet: the call itself, and its attempts.
    open: Mutex<HashMap<CallId, u32>>,
}

impl Recent {
    /// Notes that something of a call is under way; each takes one [`Recent::closed`].
    pub(crate) fn opened(&self, call: CallId) {
        *lock(&self.open).entry(call).or_insert(0) += 1;
    }

    pub(crate) fn closed(&self, call: CallId) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&call) {
            *count -= 1;
            if *count == 0 {
                open.remove(&call);
            }
        }
    }

    pub(crate) fn ended(&self, ended: Ended) {
        let call = ended.call;
        let mut kept = lock(&self.ended);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(ended);
        drop(kept);
        self.closed(call);
    }

    /// Notes that a record is in the log.
    pub(crate) fn published(&self, id: RecordId) {
        let mut kept = lock(&self.ended);
        if let Some(ended) = kept.iter_mut().rev().find(|ended| ended.record == Some(id)) {
            ended.published = true;
        }
    }

    /// Whether any of a call is not recorded yet.
    pub(crate) fn is_open(&self, call: CallId) -> bool {
        lock(&self.open).contains_key(&call)
    }

    /// Attempts of a call that are remembered.
    pub(crate) fn of(&self, call: CallId) -> Vec<Ended> {
        let kept = lock(&self.ended);
        let wanted = |ended: &&Ended| ended.call == call;
        kept.iter().filter(wanted).cloned().collect()
    }

    /// The latest attempts, newest first.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        lock(&self.ended)
            .iter()
            .rev()
            .take(SHOWN)
            .map(Shown::of)
            .collect()
    }
}
