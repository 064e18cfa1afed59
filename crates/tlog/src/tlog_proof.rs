//! Proofs as files of their own, after C2SP tlog-proof (<https://c2sp.org/tlog-proof>).
//!
//! A proof holds an index, an inclusion path and a checkpoint with its cosignatures; the entry is
//! not in it. Ours carry the record's DSSE envelope as `extra`, from which the entry follows; like
//! all of `extra` it is trusted for nothing until its leaf hash fits the proof.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::{Bundle, Digest};

use crate::checkpoint::{CheckpointError, SignedCheckpoint, decode_hash};
use crate::proof::PROOF_HASHES_MAX;
use crate::tile::parse_decimal;

/// The first line.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Bytes of the largest proof that is read.
pub const PROOF_BYTES_MAX: usize = 1024 * 1024;

/// Why a proof was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlogProofError {
    /// The lines before the checkpoint.
    #[error("not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A proof that an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Not authenticated; in ours, the envelope in JSON.
    pub extra: Option<Vec<u8>>,
    /// Index of the entry.
    pub index: u64,
    /// From the leaf's sibling to the root's child.
    pub hashes: Vec<Digest>,
    /// The checkpoint, verbatim.
    pub checkpoint: SignedCheckpoint,
}

impl TlogProof {
    /// The proof in a bundle, with its envelope.
    ///
    /// # Errors
    /// [`TlogProofError::Checkpoint`] if the bundle's checkpoint is none.
    pub fn of_bundle(bundle: &Bundle) -> Result<Self, TlogProofError> {
        Ok(Self {
            extra: Some(bundle.envelope.to_json()),
            index: bundle.entry.index,
            hashes: bundle.entry.hashes.clone(),
            checkpoint: SignedCheckpoint::parse(bundle.entry.checkpoint.as_bytes())?,
        })
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "extra {}", STANDARD.encode(extra));
        }
        let _ = writeln!(text, "index {}", self.index);
        for hash in &self.hashes {
            let _ = writeln!(text, "{}", STANDARD.encode(hash.as_bytes()));
        }
        let _ = write!(text, "\n{}", self.checkpoint.note());
        text.into_bytes()
    }

    /// Reads a proof; nothing is verified.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        use TlogProofError::Malformed;
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(Malformed("it is too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("it is not UTF-8"))?;
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(Malformed("there is no empty line before a checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(Malformed("the first line is another"));
        }
        let extra = match lines.next_if(|line| line.starts_with("extra ")) {
            Some(line) => {
                let encoded = line.split_once(' ').map_or("", |(_, encoded)| encoded);
                let decoded = STANDARD.decode(encoded);
                Some(decoded.map_err(|_| Malformed("`extra` is not base64"))?)
            }
            None => None,
        };
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(parse_decimal)
            .ok_or(Malformed("there is no index line"))?;
        let hashes = lines
            .map(|line| decode_hash(line).ok_or(Malformed("a hash is not base64 of 32 bytes")))
            .collect::<Result<Vec<_>, _>>()?;
        if hashes.len() > PROOF_HASHES_MAX {
            return Err(Malformed("it has more hashes than any tree needs"));
        }
        let checkpoint = SignedCheckpoint::parse(checkpoint.as_bytes())?;
        Ok(Self {
            extra,
            index,
            hashes,
            checkpoint,
        })
    }
}
