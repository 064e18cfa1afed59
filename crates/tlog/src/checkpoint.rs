//! Checkpoints, after C2SP tlog-checkpoint (<https://c2sp.org/tlog-checkpoint>).
//!
//! A checkpoint is a signed note of origin, size and root. None with extension lines is produced
//! and none is accepted: they are not auditable, and not every cosignature covers them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::Digest;

use crate::merkle::empty_root;
use crate::note::{Note, NoteError, NoteSigner, NoteVerifier};
use crate::tile::parse_decimal;

/// Sizes stay below this, so that they fit a signed integer everywhere.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text inside it.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It is another log's.
    #[error("checkpoint of {found}, expected {expected}")]
    OtherOrigin {
        /// The origin in the checkpoint.
        found: String,
        /// The origin of the key it was checked with.
        expected: String,
    },
}

/// What a log commits to: that its first `size` entries have this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Entries in it.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The three lines that are signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root.as_bytes())
        )
    }

    /// Parses the signed text.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        use CheckpointError::Malformed;
        let body = text
            .strip_suffix('\n')
            .ok_or(Malformed("no newline at the end"))?;
        let lines: Vec<&str> = body.split('\n').collect();
        let [origin, size, root] = lines[..] else {
            return Err(Malformed(
                "expected exactly the three lines origin, size and root",
            ));
        };
        if origin.is_empty() {
            return Err(Malformed("the origin is empty"));
        }
        let size = parse_decimal(size)
            .filter(|size| *size <= SIZE_MAX)
            .ok_or(Malformed("the size is not a decimal number"))?;
        let root = decode_hash(root).ok_or(Malformed("the root is not a base64 hash"))?;
        if size == 0 && root != empty_root() {
            return Err(Malformed("an empty tree has another root"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }

    /// Signs the checkpoint as the log that it is of.
    ///
    /// # Errors
    /// [`CheckpointError::OtherOrigin`] if the key has another name than the origin.
    pub fn sign(&self, signer: &NoteSigner) -> Result<SignedCheckpoint, CheckpointError> {
        if signer.name() != self.origin {
            return Err(CheckpointError::OtherOrigin {
                found: self.origin.clone(),
                expected: signer.name().to_owned(),
            });
        }
        let mut note = Note::new(self.to_text())?;
        signer.sign(&mut note);
        Ok(SignedCheckpoint {
            checkpoint: self.clone(),
            note,
        })
    }
}

/// A checkpoint with its signature lines. Parsing verifies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Parses a note that is a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        Ok(Self {
            checkpoint: Checkpoint::parse_text(note.text())?,
            note,
        })
    }

    /// Parses a checkpoint and checks that the log with this key signed it under its own name.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(bytes: &[u8], log: &NoteVerifier) -> Result<Self, CheckpointError> {
        let signed = Self::parse(bytes)?;
        signed.verify(log)?;
        Ok(signed)
    }

    /// Checks that the log with this key signed it under its own name.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(&self, log: &NoteVerifier) -> Result<(), CheckpointError> {
        if self.checkpoint.origin != log.name() {
            return Err(CheckpointError::OtherOrigin {
                found: self.checkpoint.origin.clone(),
                expected: log.name().to_owned(),
            });
        }
        if self.note.is_signed_by(log)? {
            Ok(())
        } else {
            Err(NoteError::Unsigned.into())
        }
    }

    /// What it says.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The note, to add signatures to.
    pub fn note_mut(&mut self) -> &mut Note {
        &mut self.note
    }

    /// The note's text form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.note.to_string().into_bytes()
    }
}

/// One hash in canonical base64.
pub(crate) fn decode_hash(text: &str) -> Option<Digest> {
    let bytes = STANDARD.decode(text).ok()?;
    <[u8; 32]>::try_from(bytes.as_slice())
        .ok()
        .map(Digest::from_bytes)
}
