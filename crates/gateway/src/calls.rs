//! `GET /longrun/v1/calls/<id>`: the records of a call, once they are in the log.
//!
//! 202 while something of it is under way or waits for the log, then 200 with the bundles. A gateway
//! without a log answers 200 with the signed envelopes alone once they are durable. What is told includes
//! the secrets that open the commitments, so it is for whoever made the call.

use engine::openai::ApiError;
use record::content::Exact;
use record::observation::{Observation, ReceiptCheck};
use record::{CallId, Predicate, RecordId};
use recorder::{Entry, RecorderError, State};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::gateway::Gateway;
use crate::observe::Beside;
use crate::recent::Ended;

/// The records of a call.
#[derive(Serialize)]
pub(crate) struct Call {
    call: CallId,
    /// `pending`, `published`, `recorded` (there is no log to publish in), `refused` or
    /// `unrecorded`.
    state: &'static str,
    attempts: Vec<Told>,
    /// What was said of its answers.
    judgements: Vec<ToldJudgement>,
}

#[derive(Serialize)]
struct ToldJudgement {
    record: RecordId,
    source: &'static str,
    correct: Option<bool>,
    groups: Option<Vec<u32>>,
    /// As it was reported; it stays on this machine.
    note: Option<String>,
    bundle: Option<Box<RawValue>>,
    envelope: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Told {
    endpoint: String,
    attempt: u32,
    seq: Option<u64>,
    outcome: &'static str,
    fault: Option<&'static str>,
    receipt_check: &'static str,
    /// Record id of the observation; `None` if there is none.
    record: Option<String>,
    /// Opens the commitments of observation and receipt.
    secret: Option<String>,
    /// The exact values behind the coarse ones, as they are committed to.
    exact: Option<Value>,
    state: &'static str,
    /// Why the log will not take the record.
    refused: Option<String>,
    bundles: Bundles,
    /// The signed envelopes, without proof of their place in a log.
    envelopes: Bundles,
    /// A receipt that did not hold, as it came.
    faulty_receipt: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Bundles {
    observation: Option<Box<RawValue>>,
    receipt: Option<Box<RawValue>>,
}

impl Bundles {
    const NONE: Self = Self {
        observation: None,
        receipt: None,
    };
}

/// Attempts that got no record, and those whose record the disk then did not take. `ended` was looked
/// up before the `entries`.
pub(crate) fn unrecorded<'a>(
    ended: &'a [Ended],
    entries: &'a [Entry],
) -> impl Iterator<Item = &'a Ended> {
    let is_kept = |id| entries.iter().any(|entry| entry.id() == id);
    ended
        .iter()
        .filter(move |it| !it.record.is_some_and(is_kept))
}

/// Looks a call up. `Ok(None)`: nobody here knows it (any more).
pub(crate) async fn look_up(
    gateway: &Gateway,
    call: CallId,
) -> Result<Option<Call>, RecorderError> {
    // Before the spool is read: what ends in between is then in the spool.
    let open = gateway.recent.is_open(call);
    let ended = gateway.recent.of(call);
    let entries = gateway.recorder.by_call(call).await?;
    let published_is_possible = gateway.recorder.home_log().is_some();
    let mut attempts: Vec<Told> = Vec::new();
    for entry in &entries {
        if let Predicate::Observation(seen) = &entry.record.statement.predicate {
            let receipt = seen
                .receipt
                .and_then(|id| entries.iter().find(|e| e.id() == id));
            attempts.push(told(entry, seen, receipt, published_is_possible));
        }
    }
    attempts.extend(unrecorded(&ended, &entries).map(told_unrecorded));
    attempts.sort_by_key(|told| told.attempt);
    if attempts.is_empty() && !open {
        return Ok(None);
    }
    let any = |state| attempts.iter().any(|told| told.state == state);
    let state = if open || any("pending") {
        "pending"
    } else if any("refused") {
        "refused"
    } else if any("published") {
        "published"
    } else if any("recorded") {
        "recorded"
    } else {
        "unrecorded"
    };
    Ok(Some(Call {
        call,
        state,
        attempts,
        judgements: entries.iter().filter_map(told_judgement).collect(),
    }))
}

impl Call {
    pub(crate) fn is_pending(&self) -> bool {
        self.state == "pending"
    }
}

fn told(entry: &Entry, seen: &Observation, receipt: Option<&Entry>, has_log: bool) -> Told {
    // A kept receipt that the log will not take from us does not hold the call up.
    let waits = receipt.is_some_and(|receipt| matches!(receipt.state, State::Pending));
    let (state, refused) = match &entry.state {
        State::Pending if !has_log => ("recorded", None),
        State::Pending => ("pending", None),
        State::Published(_) if waits => ("pending", None),
        State::Published(_) => ("published", None),
        State::Refused { reason } => ("refused", Some(reason.clone())),
    };
    let beside = Beside::read(&entry.private);
    let exact = Exact::from_bytes(beside.exact).ok();
    let came = beside.receipt.and_then(|bytes| raw(bytes.to_vec()));
    let holds = seen.receipt_check == ReceiptCheck::Verified;
    let (held, faulty) = if holds { (came, None) } else { (None, came) };
    Told {
        endpoint: seen.stream.endpoint.to_string(),
        attempt: seen.attempt,
        seq: Some(seen.stream.seq.number()),
        outcome: seen.outcome.as_str(),
        fault: seen.fault.map(|fault| fault.as_str()),
        receipt_check: seen.receipt_check.as_str(),
        record: Some(entry.id().to_hex()),
        secret: entry.secret.as_ref().map(record::Secret::reveal_hex),
        exact: exact.and_then(|_| serde_json::from_slice(beside.exact).ok()),
        state,
        refused,
        bundles: Bundles {
            observation: bundle(entry),
            receipt: receipt.and_then(bundle),
        },
        envelopes: Bundles {
            observation: envelope(entry),
            receipt: receipt.and_then(envelope).or(held),
        },
        faulty_receipt: faulty,
    }
}

fn told_judgement(entry: &Entry) -> Option<ToldJudgement> {
    let Predicate::Judgement(judged) = &entry.record.statement.predicate else {
        return None;
    };
    let note = String::from_utf8_lossy(&entry.private);
    Some(ToldJudgement {
        record: entry.id(),
        source: judged.source.as_str(),
        correct: judged.correct,
        groups: judged.groups.clone(),
        note: (!note.is_empty()).then(|| note.into_owned()),
        bundle: bundle(entry),
        envelope: envelope(entry),
    })
}

fn told_unrecorded(ended: &Ended) -> Told {
    Told {
        endpoint: ended.live.id.to_string(),
        attempt: ended.attempt,
        seq: None,
        outcome: ended.outcome.as_str(),
        fault: ended.fault.map(|fault| fault.as_str()),
        receipt_check: ended.receipt.as_str(),
        record: None,
        secret: None,
        exact: None,
        state: "unrecorded",
        refused: None,
        bundles: Bundles::NONE,
        envelopes: Bundles::NONE,
        faulty_receipt: None,
    }
}

/// A bundle as the bytes that it is: other tools compare them.
fn bundle(entry: &Entry) -> Option<Box<RawValue>> {
    raw(entry.bundle()?.to_json())
}

fn envelope(entry: &Entry) -> Option<Box<RawValue>> {
    raw(entry.record.envelope.to_json())
}

fn raw(json: Vec<u8>) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(json).ok()?).ok()
}

/// What to say when nobody knows a call.
pub(crate) fn unknown(gateway: &Gateway, call: &str) -> ApiError {
    let why = match gateway.recorder.let_go() {
        0 => "old calls are forgotten.".to_owned(),
        count => format!(
            "without a home log the newest records are kept (`spool.records_max`): {count} older ones \
             were let go of and are nowhere any more. What they said stays in the history."
        ),
    };
    let message = format!(
        "No call `{call}` is known here; the id is in the header x-longrun-call of an answer, and {why}"
    );
    ApiError::new(404, "invalid_request_error", message).with_code("call_not_found")
}
