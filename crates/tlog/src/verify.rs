//! Does this file hold? Every check by name, and one verdict.
//!
//! A check passed, failed or was not made, each with its reason; what was not checked is said, not
//! passed over. Trust comes from a [`TrustPolicy`] that the verifier brings: keys, checkpoints and
//! identities inside a file can show that the file is intact, never that it is to be believed.

use std::collections::HashMap;
use std::sync::Arc;

use record::leaf::{Leaf, leaf_body};
use record::{Bundle, Envelope, KeyId, LogEntry, Record};
use serde::Serialize;

use crate::checkpoint::SignedCheckpoint;
use crate::policy::TrustPolicy;
use crate::tlog_proof::TlogProof;

mod evidence;
pub mod history;
mod kind;
mod place;
mod report;
mod signer;

pub use kind::FileKind;
pub use place::CLOCK_TOLERANCE_S;
pub use report::{Check, Report, Status, Verdict};

use kind::Nested;
use place::{CheckpointFacts, check_place};
use report::Draft;

/// Bytes of the largest file that is looked at.
pub const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Verified checkpoints that a [`Verifier`] remembers.
pub const CHECKPOINTS_CACHED_MAX: usize = 1024;

/// What a file turned out to be, and how everything in it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// What it is.
    pub kind: FileKind,
    /// One report per record in it; exactly one unless the file holds several.
    pub reports: Vec<Report>,
    /// The worst verdict of all.
    pub verdict: Verdict,
}

/// Verifies files under one policy, and remembers the checkpoints it has verified.
#[derive(Debug)]
pub struct Verifier<'p> {
    policy: Option<&'p TrustPolicy>,
    record: Option<Envelope>,
    checkpoints: HashMap<String, Arc<CheckpointFacts>>,
}

impl<'p> Verifier<'p> {
    /// A verifier with a policy, or with none: then nothing is trusted.
    #[must_use]
    pub fn new(policy: Option<&'p TrustPolicy>) -> Self {
        Self {
            policy,
            record: None,
            checkpoints: HashMap::new(),
        }
    }

    /// Gives the record that tlog-proofs are about. A proof need not carry it then; if it does, the
    /// one given here counts.
    #[must_use]
    pub fn about(mut self, record: Envelope) -> Self {
        self.record = Some(record);
        self
    }

    /// Finds out what the file is and verifies it.
    pub fn verify_file(&mut self, bytes: &[u8]) -> FileReport {
        let kind = FileKind::detect(bytes);
        let reports = match kind {
            FileKind::Bundle => vec![self.verify_bundle(bytes)],
            FileKind::Envelope => vec![self.verify_envelope(bytes)],
            FileKind::Checkpoint => vec![self.verify_checkpoint(bytes)],
            FileKind::Proof => vec![self.verify_proof(bytes)],
            FileKind::Call => self.verify_call(bytes),
            FileKind::Policy => vec![verify_policy(bytes)],
            FileKind::Evidence => vec![self.verify_evidence(bytes)],
            FileKind::History => vec![self.verify_history(bytes)],
            FileKind::Statement | FileKind::TrustedRoot | FileKind::Unknown => {
                vec![Draft::unusable("format", kind.why_unusable()).finish()]
            }
        };
        let verdict = reports
            .iter()
            .map(|report| report.verdict)
            .max_by_key(|v| v.severity());
        FileReport {
            kind,
            verdict: verdict.unwrap_or(Verdict::Unusable),
            reports,
        }
    }

    /// Verifies a Sigstore bundle: a record with its place in a log.
    pub fn verify_bundle(&mut self, bytes: &[u8]) -> Report {
        let bundle = match Bundle::from_json(bytes) {
            Ok(bundle) => bundle,
            Err(error) => return Draft::unusable("format", error).finish(),
        };
        let mut draft = Draft::default();
        draft.passed("format", "a Sigstore bundle v0.3 with one record");
        let record = open(&mut draft, bundle.envelope);
        match &record {
            Some(record) => match check_leaf(&bundle.entry, bundle.key_hint, record) {
                Ok(()) => draft.passed("leaf", "it is the leaf of this record, signature and key"),
                Err(error) => draft.failed("leaf", error),
            },
            None => draft.not_checked("leaf", "there is no verified record to compare it with"),
        }
        let place = self.place(&mut draft, &bundle.entry);
        signer::check_signer(&mut draft, self.policy, record.as_ref(), place.as_ref());
        place::check_time(&mut draft, record.as_ref(), place.as_ref());
        draft.content_not_checked();
        draft.finish()
    }

    /// Verifies a signed statement that comes without a proof of logging.
    pub fn verify_envelope(&mut self, bytes: &[u8]) -> Report {
        let envelope = match Envelope::from_json(bytes) {
            Ok(envelope) => envelope,
            Err(error) => return Draft::unusable("format", error).finish(),
        };
        let mut draft = Draft::default();
        draft.passed("format", "a DSSE envelope with one signature");
        let record = open(&mut draft, envelope);
        let reason = "the file has no proof that the record is logged";
        for check in ["leaf", "inclusion", "checkpoint", "quorum"] {
            draft.not_checked(check, reason);
        }
        signer::check_signer(&mut draft, self.policy, record.as_ref(), None);
        place::check_time(&mut draft, record.as_ref(), None);
        draft.content_not_checked();
        draft.finish()
    }

    /// Verifies a checkpoint on its own.
    pub fn verify_checkpoint(&mut self, bytes: &[u8]) -> Report {
        let signed = match SignedCheckpoint::parse(bytes) {
            Ok(signed) => signed,
            Err(error) => return Draft::unusable("format", error).finish(),
        };
        let mut draft = Draft::default();
        let said = signed.checkpoint();
        let reason = format!("checkpoint of {} at size {}", said.origin, said.size);
        draft.passed("format", reason);
        CheckpointFacts::new(signed, self.policy).report(&mut draft, self.policy);
        draft.finish()
    }

    /// Verifies a C2SP tlog-proof. The entry is not in it: it follows from the record, which was
    /// given ([`Verifier::about`]) or is carried beside. Without it only the checkpoint can be
    /// checked.
    pub fn verify_proof(&mut self, bytes: &[u8]) -> Report {
        let proof = match TlogProof::parse(bytes) {
            Ok(proof) => proof,
            Err(error) => return Draft::unusable("format", error).finish(),
        };
        let mut draft = Draft::default();
        draft.passed("format", "a C2SP tlog-proof");
        let carried = || Envelope::from_json(proof.extra.as_deref()?).ok();
        let record = match self.record.clone().or_else(carried) {
            Some(envelope) => open(&mut draft, envelope),
            None => {
                let reason = "the proof does not carry the record that it is about";
                draft.not_checked("signature", reason);
                None
            }
        };
        let Some(record) = record else {
            for check in ["leaf", "inclusion"] {
                draft.not_checked(check, "there is no verified record to look for");
            }
            CheckpointFacts::new(proof.checkpoint, self.policy).report(&mut draft, self.policy);
            return draft.finish();
        };
        draft.passed("leaf", "it follows from the record");
        let checkpoint = proof.checkpoint.checkpoint();
        let entry = LogEntry {
            index: proof.index,
            log_id: checkpoint.root,
            tree_size: checkpoint.size,
            root_hash: checkpoint.root,
            canonical_body: leaf_body(&record.envelope, record.key()),
            checkpoint: proof.checkpoint.note().to_string(),
            hashes: proof.hashes,
        };
        let place = self.place(&mut draft, &entry);
        signer::check_signer(&mut draft, self.policy, Some(&record), place.as_ref());
        place::check_time(&mut draft, Some(&record), place.as_ref());
        draft.content_not_checked();
        draft.finish()
    }

    /// Verifies a history; [`history`] tells more, and verifies large ones.
    pub fn verify_history(&mut self, bytes: &[u8]) -> Report {
        match history::verify_history(bytes, self.policy, None) {
            Ok(found) => found.report,
            Err(error) => Draft::unusable("format", error).finish(),
        }
    }

    /// A gateway's answer about one call: each of its bundles. Where there are none and none are to
    /// come, because the gateway has no log or that refused them, each of its envelopes.
    fn verify_call(&mut self, bytes: &[u8]) -> Vec<Report> {
        let nested = match Nested::read(bytes) {
            Ok(nested) => nested,
            Err(error) => return vec![Draft::unusable("format", error).finish()],
        };
        if nested.bundles.is_empty() && nested.envelopes.is_empty() {
            let reason = "the call has no published records yet; ask again later";
            return vec![Draft::unusable("format", reason).finish()];
        }
        let bundles = nested.bundles.iter();
        let mut reports: Vec<Report> = bundles
            .map(|(name, bundle)| self.verify_bundle(bundle.as_bytes()).named(name))
            .collect();
        if reports.is_empty() {
            let envelopes = nested.envelopes.iter();
            reports.extend(
                envelopes
                    .map(|(name, envelope)| self.verify_envelope(envelope.as_bytes()).named(name)),
            );
        }
        reports
    }

    fn place(&mut self, draft: &mut Draft, entry: &LogEntry) -> Option<place::Place> {
        let facts = match self.checkpoints.get(&entry.checkpoint) {
            Some(facts) => facts.clone(),
            None => match SignedCheckpoint::parse(entry.checkpoint.as_bytes()) {
                Ok(signed) => {
                    let facts = Arc::new(CheckpointFacts::new(signed, self.policy));
                    if self.checkpoints.len() >= CHECKPOINTS_CACHED_MAX {
                        self.checkpoints.clear();
                    }
                    self.checkpoints
                        .insert(entry.checkpoint.clone(), facts.clone());
                    facts
                }
                Err(error) => {
                    draft.not_checked("inclusion", "there is no usable checkpoint");
                    draft.failed("checkpoint", error);
                    draft.not_checked("quorum", "there is no usable checkpoint");
                    return None;
                }
            },
        };
        check_place(draft, entry, &facts, self.policy)
    }
}

/// Finds out what a file is and verifies it; see [`Verifier::verify_file`].
#[must_use]
pub fn verify_file(bytes: &[u8], policy: Option<&TrustPolicy>) -> FileReport {
    Verifier::new(policy).verify_file(bytes)
}

/// Verifies one Sigstore bundle; see [`Verifier::verify_bundle`].
#[must_use]
pub fn verify_bundle(bytes: &[u8], policy: Option<&TrustPolicy>) -> Report {
    Verifier::new(policy).verify_bundle(bytes)
}

/// Reads the statement and verifies its signature under the key it names.
fn open(draft: &mut Draft, envelope: Envelope) -> Option<Record> {
    match envelope.open() {
        Ok(record) => {
            let key = record.key().key_id();
            draft.about(&record);
            draft.passed(
                "signature",
                format!("made with the key that the statement names, {key}"),
            );
            Some(record)
        }
        Err(error) => {
            draft.failed("signature", error);
            None
        }
    }
}

/// The leaf, the hint, the signature and the statement must name one key and one record.
fn check_leaf(entry: &LogEntry, hint: KeyId, record: &Record) -> Result<(), String> {
    Leaf::parse(&entry.canonical_body)
        .and_then(|leaf| leaf.check(record))
        .map_err(|error| error.to_string())?;
    let key = record.key().key_id();
    if hint != key {
        return Err(format!("the bundle hints at key {hint}, not {key}"));
    }
    Ok(())
}

/// A policy is read, not believed: it is what others are judged by.
fn verify_policy(bytes: &[u8]) -> Report {
    match TrustPolicy::parse(bytes) {
        Ok(policy) => {
            let (logs, signers) = (policy.logs().logs().len(), policy.signers().len());
            let mut draft = Draft::default();
            draft.passed(
                "format",
                format!("a trust policy of {logs} logs and {signers} signers"),
            );
            draft.untrusted(
                "policy",
                "a policy vouches for nothing; use it with --policy",
            );
            draft.finish()
        }
        Err(error) => Draft::unusable("format", error).finish(),
    }
}
