//! The words between signer and log: a request of newline-delimited envelopes, and an answer
//! that is believed only as far as it is proven. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::leaf::{Leaf, leaf_body, leaf_hash};
use record::{Digest, Envelope, LogEntry, PublicKey, SignerId};
use serde::Deserialize;
use store::spool::{Pending, Settled};
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::note::NoteVerifier;
use tlog::proof::verify_inclusion;

use crate::packed::unpack;

/// Codes under which the log may take the same record later.
const AGAIN: &[&str] = &[
    "busy",
    "not_admitted",
    "overloaded",
    "rate_limited",
    "unavailable",
    "internal",
    "timeout",
];

/// Those of them that are about the key that signed.
const ABOUT_THE_KEY: &[&str] = &["not_admitted", "rate_limited"];

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The key that most of the rows are signed with.
    pub key: PublicKey,
    /// The identity that the sender's own rows name.
    pub id: SignerId,
}

impl Sender {
    /// Whether a row is somebody else's, kept for its proof alone.
    fn only_keeps(&self, row: &Pending) -> bool {
        let record = unpack(&row.envelope).and_then(Envelope::open_unverified);
        !row.pinned && record.is_ok_and(|record| record.signer_id() != self.id)
    }
}

/// What the log said about a batch, checked.
#[derive(Debug)]
pub struct Answer {
    /// The checkpoint, a signed note.
    pub checkpoint: Vec<u8>,
    /// Rows that are done.
    pub settled: Vec<Settled>,
    /// Rows to send again, with what the log said.
    pub again: Vec<(i64, String)>,
}

#[derive(Deserialize)]
struct Reply {
    checkpoint: String,
    entries: Vec<EntryReply>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EntryReply {
    Error {
        error: ErrorReply,
    },
    Logged {
        id: Digest,
        index: u64,
        leaf: String,
        proof: Vec<String>,
    },
}

#[derive(Deserialize)]
struct ErrorReply {
    code: String,
    message: String,
}

/// Why an answer is not believed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log's answer is not acceptable: {0}")]
pub struct Unbelievable(String);

fn not<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Unbelievable + '_ {
    move |error| Unbelievable(format!("{what}: {error}"))
}

/// What is sent for a row that cannot be read: the log refuses it, and the others need not wait.
const UNREADABLE: &[u8] = b"{}";

/// The request's body.
pub(super) fn body(rows: &[Pending]) -> Vec<u8> {
    let mut body = Vec::new();
    for row in rows {
        match unpack(&row.envelope) {
            Ok(envelope) => body.extend_from_slice(&envelope.to_json()),
            Err(_) => body.extend_from_slice(UNREADABLE),
        }
        body.push(b'\n');
    }
    body
}

/// Reads an answer to these rows and checks every proof in it.
///
/// A record of one's own that the log admits nobody for, or has taken enough of, is taken later.
/// Somebody else's is given up then: its signer can end its key, or use up what it may append, at any
/// time, and what is sent after it must not wait for that. Its signer logs it as well.
///
/// # Errors
/// [`Unbelievable`], which says what is not proven.
pub fn read_answer(
    bytes: &[u8],
    rows: &[Pending],
    log: &NoteVerifier,
    sender: &Sender,
) -> Result<Answer, Unbelievable> {
    let reply: Reply = serde_json::from_slice(bytes).map_err(not("not the expected JSON"))?;
    if reply.entries.len() != rows.len() {
        return Err(Unbelievable(format!(
            "{} entries for {} records",
            reply.entries.len(),
            rows.len()
        )));
    }
    let mut answer = Answer {
        checkpoint: Vec::new(),
        settled: Vec::new(),
        again: Vec::new(),
    };
    let mut checkpoint = None;
    for (row, entry) in rows.iter().zip(reply.entries) {
        match entry {
            EntryReply::Error { error }
                if AGAIN.contains(&error.code.as_str())
                    && !(ABOUT_THE_KEY.contains(&error.code.as_str())
                        && sender.only_keeps(row)) =>
            {
                answer
                    .again
                    .push((row.n, format!("{}: {}", error.code, error.message)));
            }
            EntryReply::Error { error } => {
                let reason = format!("{}: {}", error.code, error.message);
                answer.settled.push(Settled::Refused { n: row.n, reason });
            }
            EntryReply::Logged {
                id,
                index,
                leaf,
                proof,
            } => {
                if checkpoint.is_none() {
                    let opened = SignedCheckpoint::open(reply.checkpoint.as_bytes(), log);
                    checkpoint = Some(opened.map_err(not("checkpoint"))?.checkpoint().clone());
                }
                let Some(checkpoint) = &checkpoint else {
                    continue;
                };
                if id.as_bytes() != &row.id {
                    return Err(Unbelievable(format!("entry {id} where another was sent")));
                }
                answer
                    .settled
                    .push(logged(row, index, &leaf, &proof, checkpoint, &sender.key)?);
            }
        }
    }
    answer.checkpoint = reply.checkpoint.into_bytes();
    Ok(answer)
}

fn logged(
    row: &Pending,
    index: u64,
    leaf: &str,
    proof: &[String],
    checkpoint: &Checkpoint,
    own: &PublicKey,
) -> Result<Settled, Unbelievable> {
    let leaf = STANDARD.decode(leaf).map_err(not("leaf"))?;
    let hashes = proof
        .iter()
        .map(|hash| {
            let bytes = STANDARD.decode(hash).map_err(not("proof"))?;
            Digest::from_slice(&bytes).map_err(not("proof"))
        })
        .collect::<Result<Vec<Digest>, Unbelievable>>()?;
    published(row, index, leaf, &hashes, checkpoint, own)
}

/// What the log said elsewhere of a row, checked as if it were its answer.
pub(crate) fn logged_before(
    row: &Pending,
    entry: &LogEntry,
    log: &NoteVerifier,
    own: &PublicKey,
) -> Result<Settled, Unbelievable> {
    let signed = SignedCheckpoint::open(entry.checkpoint.as_bytes(), log);
    let signed = signed.map_err(not("checkpoint"))?;
    let leaf = entry.canonical_body.clone();
    published(
        row,
        entry.index,
        leaf,
        &entry.hashes,
        signed.checkpoint(),
        own,
    )
}

fn published(
    row: &Pending,
    index: u64,
    leaf: Vec<u8>,
    hashes: &[Digest],
    checkpoint: &Checkpoint,
    own: &PublicKey,
) -> Result<Settled, Unbelievable> {
    verify_inclusion(
        &leaf_hash(&leaf),
        index,
        checkpoint.size,
        hashes,
        &checkpoint.root,
    )
    .map_err(not("proof"))?;
    Ok(Settled::Published {
        n: row.n,
        index,
        leaf: unless_expected(row, leaf, own)?,
        proof: hashes.iter().flat_map(|hash| *hash.as_bytes()).collect(),
    })
}

/// The leaf, unless it is the one that the row's envelope gives; refused if it is another
/// record's or another signer's.
fn unless_expected(
    row: &Pending,
    leaf: Vec<u8>,
    own: &PublicKey,
) -> Result<Option<Vec<u8>>, Unbelievable> {
    let envelope = unpack(&row.envelope).map_err(not("row"))?;
    if leaf_body(&envelope, own) == leaf {
        return Ok(None);
    }
    let record = envelope.open_unverified().map_err(not("row"))?;
    if leaf_body(&record.envelope, record.key()) == leaf {
        return Ok(None);
    }
    let parsed = Leaf::parse(&leaf).map_err(not("leaf"))?;
    if parsed.record_id != record.id || &parsed.key != record.key() {
        return Err(Unbelievable(format!(
            "the leaf is not that of record {}",
            record.id
        )));
    }
    Ok(Some(leaf))
}
