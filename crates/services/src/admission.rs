//! What the log takes: one DSSE envelope whose signature verifies under the key named inside it.
//!
//! Pure and slow (one P-256 verification), so it runs beside the sequencer, never in it. Whoever
//! re-signs somebody else's statement is refused here: the statement names the key.

use record::control::Action;
use record::leaf::Leaf;
use record::{Envelope, ErrorKind, KeyId, Predicate, RecordId};
use serde::Serialize;

/// A record that the log will take: verified, with the bytes that are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub(crate) id: RecordId,
    pub(crate) key: KeyId,
    pub(crate) leaf: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) keys: Option<KeyChange>,
}

/// What a control record changes about the keys that speak for its signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyChange {
    /// The number of the control record.
    pub(crate) seq: u64,
    /// What it says.
    pub(crate) says: KeyWord,
}

/// What a control record says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyWord {
    /// This key speaks for the signer too.
    Begins(KeyId),
    /// This one is the root key from now on, and the one that signed this is not any more.
    Rotates(KeyId),
    /// This one does not any more.
    Ends(KeyId),
}

impl KeyChange {
    /// A change of owner is none: the new owner's key asks for admission itself.
    fn of(record: &record::Record) -> Option<Self> {
        let Predicate::Control(control) = &record.statement.predicate else {
            return None;
        };
        let says = match &control.action {
            Action::Delegate(delegate) => KeyWord::Begins(delegate.key.key_id()),
            Action::Rotate(rotate) => KeyWord::Rotates(rotate.key.key_id()),
            Action::Revoke(revoke) => KeyWord::Ends(revoke.key_id),
            _ => return None,
        };
        let seq = control.seq.number();
        Some(Self { seq, says })
    }
}

/// Why a record was not taken. The code is stable; the message is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong, in one word: `malformed`, `too_large`, `bad_signature`, or that the log may
    /// take the same record later: `overloaded`, `unavailable`, `rate_limited`, `not_admitted`.
    pub code: &'static str,
    /// The same in a sentence.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl Submission {
    /// Reads and verifies an envelope in JSON.
    ///
    /// # Errors
    /// [`Refusal`] with `malformed`, `too_large` or `bad_signature`.
    pub fn admit(envelope: &[u8]) -> Result<Self, Refusal> {
        let envelope = Envelope::from_json(envelope).map_err(|error| refuse(&error))?;
        let record = envelope.open().map_err(|error| refuse(&error))?;
        Ok(Self::of(&record))
    }

    /// A record that was verified already.
    #[must_use]
    pub fn of(record: &record::Record) -> Self {
        Self {
            id: record.id,
            key: record.key().key_id(),
            // Not `Leaf::of`, which would hash the statement for its id once more.
            leaf: Leaf {
                record_id: record.id,
                signature: record.envelope.signature().to_vec(),
                key: *record.key(),
            }
            .to_bytes(),
            body: record.envelope.payload().to_vec(),
            keys: KeyChange::of(record),
        }
    }

    /// The record's id.
    #[must_use]
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Bytes of leaf and body: what it takes up while it waits.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.leaf.len() + self.body.len()
    }
}

fn refuse(error: &record::Error) -> Refusal {
    let code = match error.kind() {
        ErrorKind::Limit => "too_large",
        ErrorKind::Signature => "bad_signature",
        _ => "malformed",
    };
    Refusal::new(code, error.to_string())
}
