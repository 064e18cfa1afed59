//! What a witness does, after C2SP tlog-witness (<https://c2sp.org/tlog-witness>): pure.
//!
//! A witness remembers, for each log, the latest checkpoint that it cosigned, and cosigns another
//! only if that extends it. Here are the request and the decision. Whoever runs a witness must
//! make the new state durable *before* the cosignature leaves, in one step with the comparison of
//! the old one ([`Witnessed::to_bytes`] is what to compare and swap).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::Digest;

use crate::checkpoint::{Checkpoint, SignedCheckpoint, decode_hash};
use crate::note::{NOTE_BYTES_MAX, NoteError, NoteVerifier, SignatureLine};
use crate::proof::{PROOF_HASHES_MAX, verify_consistency};
use crate::tile::parse_decimal;

/// Bytes of the largest request.
pub const REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + 64 * 1024;

/// Why a witness does not cosign, with the HTTP status that the protocol gives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: not a request, or the old size is above the new one.
    #[error("bad request: {0}")]
    Malformed(String),
    /// 404: not a log that this witness follows.
    #[error("unknown log {0}")]
    UnknownLog(String),
    /// 403: no key of that log signed.
    #[error("no trusted key signed the checkpoint of {0}")]
    NotSigned(String),
    /// 409: the request does not start where this witness is, or the log shows two roots at one
    /// size. The answer is the size that the witness is at.
    #[error("the latest cosigned size is {0}")]
    Conflict(u64),
    /// 422: the proof does not hold.
    #[error("the consistency proof does not hold: {0}")]
    BadProof(String),
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotSigned(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Conflict(_) => 409,
            Self::BadProof(_) => 422,
        }
    }
}

/// A request to cosign: `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness is thought to be at.
    pub old_size: u64,
    /// Consistency from that size.
    pub proof: Vec<Digest>,
    /// The checkpoint to cosign.
    pub checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// The body of the request.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", STANDARD.encode(hash.as_bytes()));
        }
        let _ = write!(text, "\n{}", self.checkpoint.note());
        text.into_bytes()
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let bad = |reason: &str| Refusal::Malformed(reason.to_owned());
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(bad("too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| bad("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(parse_decimal)
            .ok_or_else(|| bad("the first line is not `old <size>`"))?;
        let proof = lines
            .map(|line| decode_hash(line).ok_or_else(|| bad("a proof line is not a base64 hash")))
            .collect::<Result<Vec<_>, _>>()?;
        if proof.len() > PROOF_HASHES_MAX {
            return Err(bad("more proof lines than any tree needs"));
        }
        let checkpoint = SignedCheckpoint::parse(checkpoint.as_bytes())
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(Self {
            old_size,
            proof,
            checkpoint,
        })
    }
}

/// The latest checkpoint of a log that a witness cosigned, and when. Kept as the whole signed
/// note: size and root alone could not prove a log's misbehaviour to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// When, POSIX seconds.
    pub time_s: u64,
    /// What.
    pub checkpoint: SignedCheckpoint,
}

impl Witnessed {
    /// The state to keep.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("time {}\n{}", self.time_s, self.checkpoint.note()).into_bytes()
    }

    /// Reads kept state; `None` if it is damaged.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"time ")?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let time_s = parse_decimal(std::str::from_utf8(&rest[..end]).ok()?)?;
        let checkpoint = SignedCheckpoint::parse(&rest[end + 1..]).ok()?;
        Some(Self { time_s, checkpoint })
    }

    fn checkpoint(&self) -> &Checkpoint {
        self.checkpoint.checkpoint()
    }
}

/// Decides whether to cosign. `keys` are those of the logs that the witness follows; a log may
/// have several. `latest` is the state for the checkpoint's origin. The answer is the new state,
/// to be made durable before anything is signed. Its time never goes back.
///
/// # Errors
/// [`Refusal`], in the order of the specification.
pub fn decide(
    keys: &[NoteVerifier],
    latest: Option<&Witnessed>,
    request: &AddCheckpoint,
    now_s: u64,
) -> Result<Witnessed, Refusal> {
    let new = request.checkpoint.checkpoint();
    let own: Vec<_> = keys.iter().filter(|key| key.name() == new.origin).collect();
    if own.is_empty() {
        return Err(Refusal::UnknownLog(new.origin.clone()));
    }
    let signed = own
        .iter()
        .any(|key| matches!(request.checkpoint.note().is_signed_by(key), Ok(true)));
    if !signed {
        return Err(Refusal::NotSigned(new.origin.clone()));
    }
    if request.old_size > new.size {
        return Err(Refusal::Malformed(
            "the old size is above the checkpoint's".to_owned(),
        ));
    }
    let (size, root) = match latest {
        Some(latest) => (latest.checkpoint().size, latest.checkpoint().root),
        None => (0, crate::merkle::empty_root()),
    };
    if request.old_size != size || (size == new.size && root != new.root) {
        return Err(Refusal::Conflict(size));
    }
    verify_consistency((size, &root), (new.size, &new.root), &request.proof)
        .map_err(|error| Refusal::BadProof(error.to_string()))?;
    let time_s = latest.map_or(now_s, |latest| now_s.max(latest.time_s));
    Ok(Witnessed {
        time_s,
        checkpoint: request.checkpoint.clone(),
    })
}

/// Reads a witness's answer: one or more signature lines.
///
/// # Errors
/// [`NoteError::Malformed`].
pub fn parse_cosignatures(bytes: &[u8]) -> Result<Vec<SignatureLine>, NoteError> {
    let text = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
    let lines = text
        .strip_suffix('\n')
        .ok_or(NoteError::Malformed("no newline at the end"))?;
    lines.split('\n').map(SignatureLine::parse).collect()
}
