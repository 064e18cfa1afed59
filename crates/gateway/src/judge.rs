//! `POST /longrun/v1/calls/<id>/outcome`: the application says whether an answer was right.
//!
//! A signed judgement of the observation that the answer left, durable before the caller is told so.
//! Who made the call may say it, once: the same again is answered with the same record, the opposite is
//! refused, so that nobody decides about an answer in view of the history. The note stays on this
//! machine, beside the record.

use engine::openai::ApiError;
use record::judgement::{Answer, Judgement, Source};
use record::observation::Observation;
use record::{CallId, Outcome, Predicate, RecordId, bucket};
use recorder::{Entry, RecorderError};
use serde::{Deserialize, Serialize};

use crate::calls;
use crate::gateway::Gateway;

/// Longest body, bytes.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 10;
/// Longest note, bytes.
const NOTE_BYTES_MAX: usize = 4096;

/// What the application says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    correct: bool,
    note: Option<String>,
}

/// What is on record then.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    call: CallId,
    endpoint: String,
    /// The observation that was judged.
    observation: RecordId,
    /// The judgement.
    record: RecordId,
    correct: bool,
}

impl Said {
    pub(crate) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let said: Self = serde_json::from_slice(body).map_err(|error| {
            let message = format!(
                "The body is not {{\"correct\": true or false, \"note\": an optional text}}: {error}."
            );
            ApiError::new(400, "invalid_request_error", message)
        })?;
        let length = said.note.as_ref().map_or(0, String::len);
        if length > NOTE_BYTES_MAX {
            let message = format!("`note` has {length} bytes; {NOTE_BYTES_MAX} are allowed.");
            let error = ApiError::new(400, "invalid_request_error", message);
            return Err(error.with_param("note"));
        }
        Ok(said)
    }
}

/// Why nothing was recorded.
pub(crate) enum Refusal {
    /// For the caller.
    Caller(ApiError),
    /// The spool.
    Spool(RecorderError),
}

impl From<RecorderError> for Refusal {
    fn from(error: RecorderError) -> Self {
        Self::Spool(error)
    }
}

/// Records what the application says of a call that it made.
pub(crate) async fn report(gateway: &Gateway, call: CallId, said: Said) -> Result<Judged, Refusal> {
    // One at a time: of two that come at once, the second must see the first.
    let alone = gateway.judging.lock().await;
    let open = gateway.recent.is_open(call);
    let ended = gateway.recent.of(call);
    let entries = gateway.recorder.by_call(call).await?;
    if open {
        let message = "The call has not ended yet; report once its answer is complete.";
        return Err(conflict("call_not_finished", message));
    }
    let Some((entry, seen)) = answered(&entries) else {
        let unrecorded = calls::unrecorded(&ended, &entries).next().is_some();
        let none = entries.is_empty() && !unrecorded;
        return Err(if none {
            Refusal::Caller(calls::unknown(gateway, &call.to_hex()))
        } else if unrecorded {
            conflict(
                "call_unrecorded",
                "The answer of this call is not on record.",
            )
        } else {
            conflict(
                "call_without_answer",
                "No attempt of this call was answered.",
            )
        });
    };
    let judged = |record, correct| Judged {
        call,
        endpoint: seen.stream.endpoint.to_string(),
        observation: entry.id(),
        record,
        correct,
    };
    if let Some((record, before)) = reported(&entries, entry.id()) {
        if before == said.correct {
            drop(alone);
            // It may be on its way to the disk only.
            gateway.recorder.flush().await?;
            return match gateway.recorder.entry(record).await? {
                Some(_) => Ok(judged(record, before)),
                None => Err(unrecorded_report()),
            };
        }
        let message = format!(
            "It was reported before as correct: {before} (record {record}). The first report counts."
        );
        return Err(conflict("outcome_already_reported", &message));
    }
    let judgement = Judgement {
        at_ms: bucket::start_ms(gateway.clock.unix_ms()),
        endpoint: seen.stream.endpoint.clone(),
        observer: entry.record.key().key_id(),
        answers: vec![Answer {
            record: entry.id(),
            seq: seen.stream.seq,
        }],
        conditions: seen.conditions.clone(),
        source: Source::Reported,
        correct: Some(said.correct),
        groups: None,
        check: None,
    };
    let note = said.note.unwrap_or_default().into_bytes();
    let recorded = gateway.recorder.say_of(Some(call), judgement, note)?;
    // Whoever comes now finds it, durable or not: nobody waits for another's disk.
    drop(alone);
    match recorded.durable().await {
        Some((record, _)) => Ok(judged(record, said.correct)),
        None => Err(unrecorded_report()),
    }
}

fn unrecorded_report() -> Refusal {
    let message = "The report is not recorded: the spool is full or its disk fails. Please retry.";
    let error = ApiError::new(503, "server_error", message);
    Refusal::Caller(error.with_code("unrecorded").with_retry_after(10))
}

/// The attempt that answered: the one that went well, else the last that got anything.
pub(crate) fn answered(entries: &[Entry]) -> Option<(&Entry, &Observation)> {
    let seen = entries
        .iter()
        .filter_map(|entry| match &entry.record.statement.predicate {
            Predicate::Observation(seen) => Some((entry, &**seen)),
            _ => None,
        });
    // Something came back that was an answer: an error's body is a response too.
    let some = seen.filter(|(entry, seen)| {
        let answered = seen
            .http_status
            .is_none_or(|status| (200..300).contains(&status.code()));
        answered && entry.record.statement.response().is_some()
    });
    some.max_by_key(|(_, seen)| (seen.outcome == Outcome::Ok, seen.attempt))
}

fn reported(entries: &[Entry], of: RecordId) -> Option<(RecordId, bool)> {
    entries.iter().find_map(|entry| {
        let Predicate::Judgement(judged) = &entry.record.statement.predicate else {
            return None;
        };
        let same = judged.source == Source::Reported && judged.answers[0].record == of;
        judged
            .correct
            .filter(|_| same)
            .map(|correct| (entry.id(), correct))
    })
}

fn conflict(code: &str, message: &str) -> Refusal {
    Refusal::Caller(ApiError::new(409, "invalid_request_error", message).with_code(code))
}
