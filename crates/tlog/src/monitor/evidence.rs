//! Evidence of a split view: two checkpoints that one log signed and that cannot both be true.
//!
//! ```json
//! {"longrun_evidence": 1, "kind": "split_view", "checkpoints": ["<note>", "<note>"],
//!  "proof": ["<hex>", …], "seen": ["<where>", "<where>"]}
//! ```
//!
//! The notes are verbatim, smaller size first. At one size two roots are proof enough. At two sizes
//! `proof` holds hashes that lead to the root of the larger checkpoint and, as RFC 9162's
//! consistency proofs do, to the root of its first leaves; that is not the root of the smaller one.
//! Since the first root is the signed one, the second follows from what the log signed, and nobody
//! but the log can make such a file. `seen` says where the monitor got the two; it proves nothing.

use record::Digest;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::proof::{PROOF_HASHES_MAX, ProofError, prefix_roots};

/// The only version there is.
pub const EVIDENCE_VERSION: u32 = 1;
/// Bytes of the largest evidence that is read.
pub const EVIDENCE_BYTES_MAX: usize = 4 * 1024 * 1024;
const KIND: &str = "split_view";

/// Two checkpoints that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The smaller one.
    pub older: SignedCheckpoint,
    /// The larger one, or the other of the same size.
    pub newer: SignedCheckpoint,
    /// What shows that the newer does not extend the older; empty at one size.
    pub proof: Vec<Digest>,
    /// Where the two were seen, as the monitor says.
    pub seen: [String; 2],
}

/// Why a file is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// It is not of this form.
    #[error("not evidence of this version: {0}")]
    Malformed(String),
    /// One of the checkpoints is none.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoints are of two logs.
    #[error("the checkpoints are of {0} and of {1}; two logs may well differ")]
    TwoLogs(String, String),
    /// The hashes do not fit the sizes.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The hashes do not lead to the root of the newer checkpoint, so they say nothing about it.
    #[error("the proof does not lead to the root of the newer checkpoint")]
    OtherTree,
    /// The checkpoints agree.
    #[error("the checkpoints do not contradict each other")]
    Consistent,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    longrun_evidence: u32,
    kind: String,
    checkpoints: [String; 2],
    proof: Vec<Digest>,
    seen: [String; 2],
}

impl Evidence {
    /// Evidence from checkpoints in the order of their sizes; [`Evidence::check`] says whether it
    /// is any.
    #[must_use]
    pub fn new(older: &SignedCheckpoint, newer: &SignedCheckpoint, proof: Vec<Digest>) -> Self {
        Self {
            older: older.clone(),
            newer: newer.clone(),
            proof,
            seen: [String::new(), String::new()],
        }
    }

    /// The file, in JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = File {
            longrun_evidence: EVIDENCE_VERSION,
            kind: KIND.to_owned(),
            checkpoints: [&self.older, &self.newer].map(|signed| signed.note().to_string()),
            proof: self.proof.clone(),
            seen: self.seen.clone(),
        };
        // Strings and hashes can always be written.
        let mut bytes = serde_json::to_vec_pretty(&file).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads a file. Neither signatures nor the contradiction are checked.
    ///
    /// # Errors
    /// [`EvidenceError::Malformed`] or [`EvidenceError::Checkpoint`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let malformed = |reason: String| EvidenceError::Malformed(reason);
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(malformed("it is too large".to_owned()));
        }
        let file: File =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if file.longrun_evidence != EVIDENCE_VERSION || file.kind != KIND {
            return Err(malformed(format!(
                "version {} of kind {}; this program reads version {EVIDENCE_VERSION} of {KIND}",
                file.longrun_evidence, file.kind
            )));
        }
        if file.proof.len() > PROOF_HASHES_MAX + 1 {
            return Err(malformed("more hashes than any tree needs".to_owned()));
        }
        let [older, newer] = file.checkpoints;
        Ok(Self {
            older: SignedCheckpoint::parse(older.as_bytes())?,
            newer: SignedCheckpoint::parse(newer.as_bytes())?,
            proof: file.proof,
            seen: file.seen,
        })
    }

    /// The origin that both checkpoints name, if [`Evidence::check`] holds.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.newer.checkpoint().origin
    }

    /// Checks that the checkpoints cannot both be true. Who signed them is another question.
    ///
    /// # Errors
    /// [`EvidenceError`] saying why this proves nothing.
    pub fn check(&self) -> Result<(), EvidenceError> {
        let (old, new) = (self.older.checkpoint(), self.newer.checkpoint());
        if old.origin != new.origin {
            return Err(EvidenceError::TwoLogs(
                old.origin.clone(),
                new.origin.clone(),
            ));
        }
        if old.size == new.size {
            let length = ProofError::Length {
                hashes: self.proof.len(),
            };
            return match (self.proof.is_empty(), old.root == new.root) {
                (false, _) => Err(length.into()),
                (true, true) => Err(EvidenceError::Consistent),
                (true, false) => Ok(()),
            };
        }
        let (before, after) = prefix_roots(old.size, new.size, &self.proof)?;
        if after != new.root {
            return Err(EvidenceError::OtherTree);
        }
        if before == old.root {
            return Err(EvidenceError::Consistent);
        }
        Ok(())
    }
}
