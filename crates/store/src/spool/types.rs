//! What goes into a spool and what comes out: bytes and plain rows.

use std::path::PathBuf;
use std::time::Duration;

/// Name of the database in a signer directory.
pub const SPOOL_FILE: &str = "spool.sqlite";
/// Name of the file beside it that says how far numbers were handed out.
pub const MARKS_FILE: &str = "issued";
/// Rows that may be pending (appended, not yet settled by the log) before appends are refused.
pub const PENDING_ROWS_MAX: u64 = 1_000_000;
/// Bytes of envelopes and private parts that may be pending before appends are refused.
pub const PENDING_BYTES_MAX: u64 = 2 << 30;
/// Published rows that are kept for look-ups. Those that the log refused count with them.
pub const PUBLISHED_ROWS_MAX: u64 = 200_000;
/// Bytes of their envelopes and private parts.
pub const PUBLISHED_BYTES_MAX: u64 = 512 << 20;
/// How long the writer gathers appends before it commits them. With the commit itself this
/// stays within the promised 20 ms on a disk that syncs in 10 ms.
pub const LINGER: Duration = Duration::from_millis(10);
/// Numbers in one lease, at most.
pub const BLOCK_NUMBERS_MAX: u32 = 1024;
/// Bytes of one envelope, at most. The log's limit for a body is lower; this one only protects
/// the database.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Bytes of one row's private part, at most.
pub const PRIVATE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a stream's name, at most.
pub const STREAM_NAME_BYTES_MAX: usize = 1024;

/// Bounds of a spool, and its commit rhythm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`PENDING_ROWS_MAX`].
    pub pending_rows: u64,
    /// See [`PENDING_BYTES_MAX`].
    pub pending_bytes: u64,
    /// No log will ever take what is pending: beyond these bounds the oldest rows are let go of, as far
    /// as [`Spool::let_go_through`](super::Spool::let_go_through) says, and nothing is refused unless that
    /// falls behind by an eighth.
    pub lets_go: bool,
    /// See [`PUBLISHED_ROWS_MAX`].
    pub published_rows: u64,
    /// See [`PUBLISHED_BYTES_MAX`].
    pub published_bytes: u64,
    /// See [`LINGER`].
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pending_rows: PENDING_ROWS_MAX,
            pending_bytes: PENDING_BYTES_MAX,
            lets_go: false,
            published_rows: PUBLISHED_ROWS_MAX,
            published_bytes: PUBLISHED_BYTES_MAX,
            linger: LINGER,
        }
    }
}

/// Rows that may be pending beyond the bounds where the oldest are let go of, besides an eighth: they
/// arrive while others go.
const SLACK_ROWS: u64 = 4096;
/// Bytes of those.
const SLACK_BYTES: u64 = 16 << 20;

impl Limits {
    /// Rows and bytes beyond which an append is refused.
    pub(super) fn refuse_beyond(&self) -> (u64, u64) {
        let (rows, bytes) = (self.pending_rows, self.pending_bytes);
        if !self.lets_go {
            return (rows, bytes);
        }
        (
            rows.saturating_add(rows / 8 + SLACK_ROWS),
            bytes.saturating_add(bytes / 8 + SLACK_BYTES),
        )
    }
}

/// Why the spool refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The pending part has reached a limit. Nothing was stored; try again once rows were shipped.
    #[error(
        "the spool is full: {rows} rows, {bytes} bytes wait for a log to take them; see to it that there \
         is one and that it answers, or raise the limits of the spool"
    )]
    Full {
        /// Rows pending.
        rows: u64,
        /// Bytes pending.
        bytes: u64,
    },
    /// The number already has a record or a void. Nothing was stored.
    #[error("number {seq} of stream {stream:?} was used before; a number belongs to one record")]
    NumberUsed {
        /// Name of the stream.
        stream: String,
        /// The number.
        seq: u64,
    },
    /// The number lies in no open block of the stream. Nothing was stored.
    #[error("number {seq} of stream {stream:?} was never leased, or its block is settled")]
    NumberNotLeased {
        /// Name of the stream.
        stream: String,
        /// The number.
        seq: u64,
    },
    /// A row with this id is already stored. Nothing was stored. Checked for rows without a
    /// number; the others are as unique as their numbers.
    #[error("record {id} is already in the spool")]
    Duplicate {
        /// The record id in hex.
        id: String,
    },
    /// An argument is outside its stated bounds.
    #[error("{what} is {found}; the limit is {limit}")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// What was given.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The directory or file cannot be used as it is; it was left untouched.
    #[error("{path}: {reason}")]
    Unusable {
        /// Directory or file.
        path: PathBuf,
        /// What is wrong and what to do about it.
        reason: String,
    },
    /// SQLite or the disk failed. What was being written is not durable.
    #[error("spool database: {0}")]
    Database(String),
    /// The writer has stopped; nothing can be stored any more.
    #[error("the spool is closed")]
    Closed,
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> SpoolError {
        SpoolError::Database(error.to_string())
    }
}

/// A row of the stream table: a short name for (endpoint, kind) within this signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) i64);

/// A run of consecutive numbers of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The stream.
    pub stream: StreamId,
    /// First number.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// Numbers that were leased, with everything needed to go on from them or to void them.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// The numbers.
    pub range: Range,
    /// Name of the stream, as given to [`Spool::lease`](super::Spool::lease).
    pub stream_name: String,
    /// The secret given to [`Spool::lease`](super::Spool::lease).
    pub secret: [u8; 32],
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block")
            .field("range", &self.range)
            .field("stream_name", &self.stream_name)
            .finish_non_exhaustive()
    }
}

/// What a signer hands over to be kept and shipped.
#[derive(Debug, Clone, Default)]
pub struct NewRow {
    /// Record id.
    pub id: [u8; 32],
    /// The number this record is filed under, if its kind is numbered.
    pub number: Option<(StreamId, u64)>,
    /// Numbers that this row settles besides its own: what a `void` names.
    pub settles: Vec<Range>,
    /// The call it belongs to.
    pub call: Option<[u8; 16]>,
    /// What goes to the log, in the form that whoever ships it chose.
    pub envelope: Vec<u8>,
    /// What stays here, for whoever looks the row up. Never shipped.
    pub private: Vec<u8>,
    /// Time of appending, Unix ms.
    pub at_ms: u64,
    /// Never pruned (a signer's `control` records, its manifests).
    pub pinned: bool,
    /// Stored even when the spool is full: for the few rows that account for what was not.
    pub urgent: bool,
    /// Somebody waits for it: commit at once instead of gathering for [`Limits::linger`].
    pub prompt: bool,
}

impl NewRow {
    pub(super) fn bytes(&self) -> u64 {
        (self.envelope.len() + self.private.len()) as u64
    }
}

/// A row on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Position in the spool.
    pub n: i64,
    /// Record id.
    pub id: [u8; 32],
    /// What goes to the log.
    pub envelope: Vec<u8>,
    /// As in [`NewRow::pinned`].
    pub pinned: bool,
}

/// The log's answer for one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is in the log.
    Published {
        /// Position in the spool.
        n: i64,
        /// Index of the leaf.
        index: u64,
        /// The leaf, if it is not the one that the envelope itself gives.
        leaf: Option<Vec<u8>>,
        /// Inclusion proof, concatenated hashes, leaf sibling first.
        proof: Vec<u8>,
    },
    /// The log will never take it. It is kept, with the reason, and not sent again.
    Refused {
        /// Position in the spool.
        n: i64,
        /// What the log said.
        reason: String,
    },
}

/// Counters, all of them since the spool was created except where they say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows appended and not settled, including those that wait for their commit.
    pub pending_rows: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
    /// Rows published and still kept.
    pub published_rows: u64,
    /// Bytes of those.
    pub published_bytes: u64,
    /// Rows that the log refused, still kept.
    pub refused_rows: u64,
    /// Bytes of those.
    pub refused_bytes: u64,
    /// Rows that no log had taken when they were let go of.
    pub let_go_rows: u64,
    /// Commits by this process.
    pub commits: u64,
    /// Rows committed by this process.
    pub committed_rows: u64,
}
