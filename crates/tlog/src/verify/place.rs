//! A record's place: inclusion, the checkpoint's log, its witnesses, and what they say about time.

use record::{LogEntry, Predicate, Record};

use super::report::Draft;
use crate::checkpoint::SignedCheckpoint;
use crate::log_policy::Witnessing;
use crate::merkle::leaf_hash;
use crate::note::NoteError;
use crate::policy::TrustPolicy;
use crate::proof::verify_inclusion;

/// How far a claimed time may lie after the witnesses' before it is said to be false.
pub const CLOCK_TOLERANCE_S: u64 = 300;

/// What a policy says about one checkpoint; computed once per checkpoint.
#[derive(Debug)]
pub(super) struct CheckpointFacts {
    signed: SignedCheckpoint,
    /// Whether a log of the policy signed it; `None` without a policy.
    log: Option<Result<bool, NoteError>>,
    witnessing: Option<Result<Witnessing, NoteError>>,
}

/// Where a record is logged, as far as it was shown.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) origin: String,
    pub(super) index: u64,
    /// Whether inclusion and the log's signature hold under the policy.
    pub(super) trusted: bool,
    /// The earliest time that a known witness gives for the checkpoint, POSIX seconds.
    pub(super) cosigned_s: Option<u64>,
}

impl CheckpointFacts {
    pub(super) fn new(signed: SignedCheckpoint, policy: Option<&TrustPolicy>) -> Self {
        let log = policy.map(|policy| {
            policy
                .logs()
                .log_that_signed(&signed)
                .map(|found| found.is_some())
        });
        let witnessing = policy.map(|policy| policy.logs().witnessing(&signed));
        Self {
            signed,
            log,
            witnessing,
        }
    }

    /// Adds the checks `checkpoint` and `quorum`.
    pub(super) fn report(&self, draft: &mut Draft, policy: Option<&TrustPolicy>) {
        let origin = &self.signed.checkpoint().origin;
        match &self.log {
            None => draft.not_checked(
                "checkpoint",
                format!("no policy was given, so the log {origin} is not known to you"),
            ),
            Some(Ok(true)) => {
                draft.passed(
                    "checkpoint",
                    format!("signed by {origin}, a log of your policy"),
                );
            }
            Some(Ok(false)) => {
                let listed = policy
                    .is_some_and(|p| p.logs().logs().iter().any(|log| log.key.name() == origin));
                let reason = if listed {
                    format!("not signed with the key that your policy has for {origin}")
                } else {
                    format!("the log {origin} is not in your policy")
                };
                draft.untrusted("checkpoint", reason);
            }
            Some(Err(error)) => draft.failed("checkpoint", error),
        }
        match &self.witnessing {
            None => draft.not_checked("quorum", "no policy was given, so no witness is known"),
            Some(Err(error)) => draft.failed("quorum", error),
            Some(Ok(Witnessing { quorum: None, .. })) => {
                draft.not_asked("quorum", "your policy asks for no witnesses");
            }
            Some(Ok(Witnessing {
                quorum: Some(true),
                cosigned,
            })) => {
                draft.passed("quorum", format!("cosigned by {}", names(cosigned)));
            }
            Some(Ok(Witnessing {
                quorum: Some(false),
                cosigned,
            })) => {
                let who = names(cosigned);
                draft.untrusted("quorum", format!("too few witnesses of your policy: {who}"));
            }
        }
    }

    pub(super) fn cosigned_s(&self) -> Option<u64> {
        let witnessing = self.witnessing.as_ref()?.as_ref().ok()?;
        witnessing
            .cosigned
            .iter()
            .map(|(_, cosigned)| cosigned.time_s)
            .min()
    }
}

fn names(cosigned: &[(String, crate::cosignature::Cosigned)]) -> String {
    if cosigned.is_empty() {
        return "none".to_owned();
    }
    cosigned
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Adds the checks `inclusion`, `checkpoint` and `quorum`. The place counts only if inclusion
/// holds.
pub(super) fn check_place(
    draft: &mut Draft,
    entry: &LogEntry,
    facts: &CheckpointFacts,
    policy: Option<&TrustPolicy>,
) -> Option<Place> {
    let checkpoint = facts.signed.checkpoint();
    let contradicts = entry.tree_size != checkpoint.size || entry.root_hash != checkpoint.root;
    let included = verify_inclusion(
        &leaf_hash(&entry.canonical_body),
        entry.index,
        checkpoint.size,
        &entry.hashes,
        &checkpoint.root,
    );
    let holds = match (contradicts, included) {
        (true, _) => {
            draft.failed(
                "inclusion",
                "size or root differ from those in the checkpoint",
            );
            false
        }
        (false, Err(error)) => {
            draft.failed("inclusion", error);
            false
        }
        (false, Ok(())) => {
            let (index, size) = (entry.index, checkpoint.size);
            draft.passed(
                "inclusion",
                format!("entry {index} of {size} in {}", checkpoint.origin),
            );
            true
        }
    };
    facts.report(draft, policy);
    holds.then(|| Place {
        origin: checkpoint.origin.clone(),
        index: entry.index,
        trusted: matches!(facts.log, Some(Ok(true))),
        cosigned_s: facts.cosigned_s(),
    })
}

/// Adds the check `time`, which never decides: a time is a claim, and a cosigned checkpoint shows
/// that the record is no younger than that.
pub(super) fn check_time(draft: &mut Draft, record: Option<&Record>, place: Option<&Place>) {
    let Some(claimed_ms) = record.and_then(claimed_ms) else {
        draft.not_asked("time", "the record claims no time that could be compared");
        return;
    };
    let cosigned_s = place.and_then(|place| place.cosigned_s);
    let Some(cosigned_s) = cosigned_s else {
        draft.not_asked(
            "time",
            "a time is a claim; no witness of your policy bounds it here",
        );
        return;
    };
    if claimed_ms / 1000 > cosigned_s.saturating_add(CLOCK_TOLERANCE_S) {
        draft.not_asked("time", format!("the claimed time is after {cosigned_s} (POSIX seconds), when witnesses had seen the record: it is false"));
    } else {
        let reason = format!(
            "witnesses had seen the record by {cosigned_s} (POSIX seconds); when it was made is the signer's claim"
        );
        draft.passed("time", reason);
    }
}

fn claimed_ms(record: &Record) -> Option<u64> {
    match &record.statement.predicate {
        Predicate::Control(control) => Some(control.at_ms.ms()),
        Predicate::Manifest(manifest) => Some(manifest.at_ms.ms()),
        Predicate::Receipt(receipt) => Some(receipt.timing.start_ms.ms()),
        Predicate::Observation(observation) => Some(observation.timing.start_ms.ms()),
        Predicate::Void(void) => Some(void.at_ms.ms()),
        Predicate::Forecast(forecast) => Some(forecast.at_ms.ms()),
        Predicate::Judgement(judged) => Some(judged.at_ms.ms()),
        Predicate::Summary(summary) => Some(summary.at_ms.ms()),
        _ => None,
    }
}
