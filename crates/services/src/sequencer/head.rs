//! The head: the last checkpoint that was signed, and when. The one value that is swapped.

use tlog::checkpoint::{CheckpointError, SignedCheckpoint};
use tlog::note::NoteVerifier;

const MAGIC: &str = "longrun head 1\n";
const TIME: &str = "time ";

/// The last committed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// When it was committed, Unix ms; never decreases.
    pub(crate) committed_ms: u64,
    pub(crate) checkpoint: SignedCheckpoint,
}

/// Why a head cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("it is not a head of this version")]
    Malformed,
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Head {
    pub(crate) fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{MAGIC}{TIME}{}\n", self.committed_ms).into_bytes();
        out.extend_from_slice(&self.checkpoint.to_bytes());
        out
    }

    /// Reads a head and checks that the log with this key signed it.
    pub(crate) fn open(bytes: &[u8], log: &NoteVerifier) -> Result<Self, HeadError> {
        let rest = bytes
            .strip_prefix(MAGIC.as_bytes())
            .ok_or(HeadError::Malformed)?;
        let rest = rest
            .strip_prefix(TIME.as_bytes())
            .ok_or(HeadError::Malformed)?;
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(HeadError::Malformed)?;
        let committed_ms = std::str::from_utf8(&rest[..end])
            .ok()
            .and_then(|time| time.parse().ok())
            .ok_or(HeadError::Malformed)?;
        Ok(Self {
            committed_ms,
            checkpoint: SignedCheckpoint::open(&rest[end + 1..], log)?,
        })
    }
}
