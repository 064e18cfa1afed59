//! A history as one file: records, one proof for all of them, and an account of every number.
//!
//! A log's records, or those about some endpoints, with everything that a stranger needs to check
//! them offline and to fold them into the same digest as at home. The layout is in
//! `docs/format.md`, section 19: a line of text, then frames. Records come in the order of the
//! log; between them stand the hashes of the subtrees that hold none, so that the file as a whole
//! is one [multi-proof](crate::multiproof) to the checkpoint in its header. After them comes the
//! [account](account) of each stream's numbers and each signer's control records.
//!
//! Reading and writing stream: a reader holds one frame and the account. Nothing in the file is
//! trusted; [`crate::verify::history`] checks it.

use record::json;
use serde::{Deserialize, Serialize};

use crate::checkpoint::SignedCheckpoint;
use crate::multiproof::GAP_HASHES_MAX;

pub mod account;
mod plan;
mod read;
pub mod runs;
mod selection;
mod write;

pub use plan::{Plan, Planner};
pub use read::HistoryReader;
pub use selection::{SELECTED_MAX, Selection, SelectionError, endpoint_of};
pub use write::HistoryWriter;

use record::Digest;

/// How the file starts; the number is the version of the layout.
pub const MAGIC: &[u8] = b"longrun history 1\n";
/// Records in one file. Beyond that, select endpoints and write several.
pub const RECORDS_MAX: u64 = 10_000_000;
/// Bytes of the largest frame that is not a record: the account of a stream with very many gaps.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of the largest record or erased entry, with the hashes before it.
pub const ENTRY_BYTES_MAX: usize = 8 + 8 + 1 + GAP_HASHES_MAX * 32 + 1 + 72 + json::STATEMENT.bytes;
/// Bytes of kind and length before each frame.
const FRAME_HEAD_BYTES: usize = 5;

/// Why a file could not be read, or not be written, as a history.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// It starts as something else.
    #[error("not a history: {0}")]
    NotAHistory(String),
    /// It ends too early.
    #[error("the history is cut short: it ends after {after}")]
    CutShort {
        /// The last thing that was whole, such as `entry 17 of the log`.
        after: String,
    },
    /// A frame that is not what it must be.
    #[error("after {after}: {why}")]
    Malformed {
        /// The last thing that was whole.
        after: String,
        /// What is wrong with what follows.
        why: String,
    },
    /// Too much for one file.
    #[error("{0}")]
    TooLarge(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a history is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The checkpoint that everything in the file is proven against.
    pub checkpoint: SignedCheckpoint,
    /// Which of the log's records are meant to be in it.
    pub selection: Selection,
    /// How many records follow.
    pub records: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderJson {
    checkpoint: String,
    selection: selection::SelectionJson,
    records: u64,
}

impl Header {
    fn to_json(&self) -> Vec<u8> {
        let json = HeaderJson {
            checkpoint: self.checkpoint.note().to_string(),
            selection: self.selection.to_json(),
            records: self.records,
        };
        serde_json::to_vec(&json).expect("texts and numbers serialise")
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json: HeaderJson = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if json.records > RECORDS_MAX {
            return Err(format!(
                "{} records; a history has at most {RECORDS_MAX}",
                json.records
            ));
        }
        Ok(Self {
            checkpoint: SignedCheckpoint::parse(json.checkpoint.as_bytes())
                .map_err(|error| error.to_string())?,
            selection: Selection::from_json(&json.selection).map_err(|error| error.to_string())?,
            records: json.records,
        })
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its index in the log.
    pub index: u64,
    /// The first entry after the one before it in the file: those up to `index` are passed over.
    /// It follows from the file; said all the same, it names what somebody cut out.
    pub from: u64,
    /// The hashes that stand for what is passed over.
    pub gap: Vec<Digest>,
}

/// An entry of the log whose statement is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordItem {
    /// Where it stands in the log, and what is passed over before it.
    pub place: Place,
    /// The signature as it was logged; the leaf follows from it and the statement.
    pub signature: Vec<u8>,
    /// The statement's bytes.
    pub statement: Vec<u8>,
}

/// An entry of the log whose body was erased: all that is left is its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedItem {
    /// Where it stands in the log, and what is passed over before it.
    pub place: Place,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
}

/// One frame after the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `R`: an entry with its statement.
    Record(RecordItem),
    /// `X`: an entry without.
    Erased(ErasedItem),
    /// `T`: the hashes that stand for the entries after the last one, up to the checkpoint's size.
    Tail(Vec<Digest>),
    /// `S`: the numbers of one stream.
    Stream(account::StreamAccount),
    /// `C`: the control records of one signer.
    Signer(account::SignerAccount),
}

/// Kinds of frames, as bytes of the file.
mod kind {
    pub(super) const HEADER: u8 = b'H';
    pub(super) const RECORD: u8 = b'R';
    pub(super) const ERASED: u8 = b'X';
    pub(super) const TAIL: u8 = b'T';
    pub(super) const STREAM: u8 = b'S';
    pub(super) const SIGNER: u8 = b'C';
    pub(super) const END: u8 = b'E';
}

impl Item {
    /// Decodes the payload of a frame.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, String> {
        match kind {
            kind::RECORD => {
                let (place, rest) = place(payload)?;
                let (length, rest) = rest.split_first().ok_or(SHORT)?;
                let (signature, statement) =
                    rest.split_at_checked(usize::from(*length)).ok_or(SHORT)?;
                if statement.is_empty() {
                    return Err("a record without a statement".to_owned());
                }
                Ok(Self::Record(RecordItem {
                    place,
                    signature: signature.to_vec(),
                    statement: statement.to_vec(),
                }))
            }
            kind::ERASED => {
                let (place, leaf) = place(payload)?;
                let leaf = leaf.to_vec();
                Ok(Self::Erased(ErasedItem { place, leaf }))
            }
            kind::TAIL => {
                let (gap, rest) = hashes(payload)?;
                if rest.is_empty() {
                    Ok(Self::Tail(gap))
                } else {
                    Err("bytes after the last hash".to_owned())
                }
            }
            kind::STREAM => from_json(payload).map(Self::Stream),
            kind::SIGNER => from_json(payload).map(Self::Signer),
            other => Err(format!("a frame of unknown kind {other:#04x}")),
        }
    }

    /// The kind and the payload of its frame.
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Record(item) => {
                let mut payload = place_bytes(&item.place);
                payload.push(count(item.signature.len()));
                payload.extend_from_slice(&item.signature);
                payload.extend_from_slice(&item.statement);
                (kind::RECORD, payload)
            }
            Self::Erased(item) => {
                let mut payload = place_bytes(&item.place);
                payload.extend_from_slice(&item.leaf);
                (kind::ERASED, payload)
            }
            Self::Tail(gap) => (kind::TAIL, hash_bytes(gap)),
            Self::Stream(account) => (kind::STREAM, to_json(account)),
            Self::Signer(account) => (kind::SIGNER, to_json(account)),
        }
    }
}

const SHORT: &str = "a frame that is too short";

fn place(payload: &[u8]) -> Result<(Place, &[u8]), String> {
    let (from, rest) = payload.split_first_chunk::<8>().ok_or(SHORT)?;
    let (index, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
    let (gap, rest) = hashes(rest)?;
    let place = Place {
        index: u64::from_be_bytes(*index),
        from: u64::from_be_bytes(*from),
        gap,
    };
    Ok((place, rest))
}

fn hashes(bytes: &[u8]) -> Result<(Vec<Digest>, &[u8]), String> {
    let (count, rest) = bytes.split_first().ok_or(SHORT)?;
    let count = usize::from(*count);
    if count > GAP_HASHES_MAX {
        return Err(format!("{count} hashes; no gap needs so many"));
    }
    let (hashes, rest) = rest.split_at_checked(count * 32).ok_or(SHORT)?;
    let (hashes, _) = hashes.as_chunks::<32>();
    let hashes = hashes.iter().map(|hash| Digest::from_bytes(*hash));
    Ok((hashes.collect(), rest))
}

fn place_bytes(place: &Place) -> Vec<u8> {
    let mut bytes = place.from.to_be_bytes().to_vec();
    bytes.extend_from_slice(&place.index.to_be_bytes());
    bytes.extend_from_slice(&hash_bytes(&place.gap));
    bytes
}

fn hash_bytes(gap: &[Digest]) -> Vec<u8> {
    let mut bytes = vec![count(gap.len())];
    for hash in gap {
        bytes.extend_from_slice(hash.as_bytes());
    }
    bytes
}

/// Lengths that the writer has checked; a longer one would be refused by every reader.
fn count(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn from_json<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

fn to_json<T: Serialize>(account: &T) -> Vec<u8> {
    serde_json::to_vec(account).expect("texts and numbers serialise")
}
