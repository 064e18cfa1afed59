//! What was recorded, and where it stands: by record, by call, and as a Sigstore bundle.

use record::bundle::log_id;
use record::leaf::{Leaf, leaf_body};
use record::{Bundle, CallId, Digest, Envelope, LogEntry, Record, RecordId, Secret, Seq};
use store::spool::{self, Place, Row, RowState, Spool};
use tlog::checkpoint::SignedCheckpoint;
use tlog::note::NoteVerifier;

use crate::error::RecorderError;
use crate::identity::Identity;
use crate::numbers::content_secret;
use crate::packed::unpack;

/// One record that this signer keeps.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The record. If the log had it before, with another signature, this is the logged one.
    pub record: Record,
    /// The call it belongs to.
    pub call: Option<CallId>,
    /// Its number, if it is one of this signer's numbered records.
    pub seq: Option<Seq>,
    /// The content secret that was leased with the number.
    pub secret: Option<Secret>,
    /// What was stored beside it, never shipped.
    pub private: Vec<u8>,
    /// When it was recorded, Unix ms.
    pub at_ms: u64,
    /// Where it stands.
    pub state: State,
}

/// Where a record stands.
#[derive(Debug, Clone)]
pub enum State {
    /// Durable here, not in the log yet.
    Pending,
    /// In the home log: this is the evidence.
    Published(Box<LogEntry>),
    /// The log will not take it.
    Refused {
        /// What the log said.
        reason: String,
    },
}

impl Entry {
    /// The record with its proof, once published.
    #[must_use]
    pub fn bundle(&self) -> Option<Bundle> {
        match &self.state {
            State::Published(entry) => Some(Bundle::new(&self.record, (**entry).clone())),
            State::Pending | State::Refused { .. } => None,
        }
    }

    /// The record's id.
    #[must_use]
    pub fn id(&self) -> RecordId {
        self.record.id
    }
}

/// The record of a row, as it was stored.
pub(crate) fn record_of(row: &Row) -> Result<Record, RecorderError> {
    // Verified before it was stored; the directory is this process's own.
    unpack(&row.envelope)
        .and_then(Envelope::open_unverified)
        .map_err(|error| RecorderError::Damaged(format!("row {} of the spool: {error}", row.n)))
}

/// Turns a row into an entry. Only numbers of the signer's `own` instance keys have secrets.
pub(crate) fn entry(
    row: Row,
    spool: &Spool,
    home: Option<&NoteVerifier>,
    own: &Identity,
) -> Result<Entry, RecorderError> {
    let damaged = |error: &dyn std::fmt::Display| {
        RecorderError::Damaged(format!("row {} of the spool: {error}", row.n))
    };
    let mut record = record_of(&row)?;
    let secret = match row.number {
        Some(number) => secret(&record, spool, number, own)?,
        None => None,
    };
    let state = match row.state {
        RowState::Pending => State::Pending,
        RowState::Refused { reason } => State::Refused { reason },
        RowState::Published(place) => {
            let home = home.ok_or_else(|| damaged(&"it is published, but no log is configured"))?;
            if let Some(leaf) = &place.leaf {
                record = with_logged_signature(&record, leaf).map_err(|error| damaged(&error))?;
            }
            State::Published(Box::new(log_entry(&record, place, home)?))
        }
    };
    Ok(Entry {
        record,
        call: row.call.map(CallId::from_bytes),
        seq: row.number.and_then(|(_, seq)| Seq::new(seq).ok()),
        secret,
        private: row.private,
        at_ms: row.at_ms,
        state,
    })
}

fn secret(
    record: &Record,
    spool: &Spool,
    (stream, seq): (spool::StreamId, u64),
    own: &Identity,
) -> Result<Option<Secret>, RecorderError> {
    let Some((id, numbered)) = record.stream() else {
        return Ok(None);
    };
    if !own.has_had(record.key().key_id()) || numbered.number() != seq {
        return Ok(None);
    }
    Ok(spool
        .secret_of(stream, seq)?
        .map(|lease| content_secret(&lease, id, numbered)))
}

/// The log keeps the first of several signatures of one statement; the leaf holds that one.
fn with_logged_signature(record: &Record, leaf: &[u8]) -> Result<Record, record::Error> {
    let leaf = Leaf::parse(leaf)?;
    Envelope::new(record.envelope.payload().to_vec(), leaf.signature)?.open()
}

fn log_entry(
    record: &Record,
    place: Place,
    home: &NoteVerifier,
) -> Result<LogEntry, RecorderError> {
    let damaged = |what: &str| RecorderError::Damaged(format!("record {}: {what}", record.id));
    let signed = SignedCheckpoint::parse(&place.checkpoint).map_err(|e| damaged(&e.to_string()))?;
    let checkpoint = String::from_utf8(place.checkpoint).map_err(|e| damaged(&e.to_string()))?;
    let (hashes, rest) = place.proof.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(damaged("its proof is cut short"));
    }
    Ok(LogEntry {
        index: place.index,
        log_id: log_id(home.name(), home.public()),
        tree_size: signed.checkpoint().size,
        root_hash: signed.checkpoint().root,
        hashes: hashes.iter().copied().map(Digest::from_bytes).collect(),
        checkpoint,
        canonical_body: place
            .leaf
            .unwrap_or_else(|| leaf_body(&record.envelope, record.key())),
    })
}
