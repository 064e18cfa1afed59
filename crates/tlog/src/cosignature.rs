//! Witness cosignatures, after C2SP tlog-cosignature (<https://c2sp.org/tlog-cosignature>),
//! Ed25519 form (type 0x04).
//!
//! A cosignature is a signature line whose signature is a POSIX time (big-endian uint64) and an
//! Ed25519 signature over `cosignature/v1`, that time and the whole text of the checkpoint. It says
//! that at that time this was the largest consistent tree that the witness had seen of the log.
//! ML-DSA-44 cosignatures (0x06) are left alone.

use ed25519_dalek::{Signature, VerifyingKey};
use ring::rand::SecureRandom;

use crate::checkpoint::SignedCheckpoint;
use crate::note::{
    KeyHash, Note, NoteError, NoteSigner, SignatureLine, TYPE_COSIGNATURE, VerifierKey,
};

const TIME_BYTES: usize = 8;

/// A cosignature that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cosigned {
    /// When the witness says it signed, in POSIX seconds.
    pub time_s: u64,
}

/// A witness's key for checking (type 0x04).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessVerifier {
    name: String,
    hash: KeyHash,
    key: VerifyingKey,
}

impl WitnessVerifier {
    /// Reads a verifier key of type 0x04.
    ///
    /// # Errors
    /// [`NoteError::Key`] for other types and weak keys.
    pub fn from_vkey(text: &str) -> Result<Self, NoteError> {
        Self::from_key(text.parse()?)
    }

    pub(crate) fn from_key(key: VerifierKey) -> Result<Self, NoteError> {
        let hash = key.hash();
        Ok(Self {
            hash,
            key: key.ed25519(TYPE_COSIGNATURE)?,
            name: key.name,
        })
    }

    /// The verifier key.
    #[must_use]
    pub fn to_vkey(&self) -> String {
        let public = self.key.as_bytes().to_vec();
        VerifierKey {
            name: self.name.clone(),
            key_type: TYPE_COSIGNATURE,
            public,
        }
        .to_string()
    }

    /// Key name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key, 32 bytes.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The latest valid cosignature of this witness on a checkpoint, if it has one.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if a line claims to be this witness's and does not verify.
    pub fn find(&self, checkpoint: &SignedCheckpoint) -> Result<Option<Cosigned>, NoteError> {
        let note = checkpoint.note();
        let mut latest: Option<Cosigned> = None;
        for line in note.signatures() {
            if line.key != self.hash || line.name != self.name {
                continue;
            }
            let cosigned = self
                .verify(note, line)
                .ok_or_else(|| NoteError::BadSignature(self.name.clone()))?;
            if latest.is_none_or(|before| before.time_s < cosigned.time_s) {
                latest = Some(cosigned);
            }
        }
        Ok(latest)
    }

    fn verify(&self, note: &Note, line: &SignatureLine) -> Option<Cosigned> {
        let (time, signature) = line.signature.split_first_chunk::<TIME_BYTES>()?;
        let time_s = u64::from_be_bytes(*time);
        if i64::try_from(time_s).is_err() {
            return None;
        }
        let signature = Signature::from_slice(signature).ok()?;
        self.key
            .verify_strict(&signed_message(time_s, note), &signature)
            .ok()?;
        Some(Cosigned { time_s })
    }
}

/// A witness's signing key. Its text form is that of [`NoteSigner`] with the prefix and type of a
/// cosigner; the key must serve no other purpose, because the signed message does not name it.
#[derive(Debug, Clone)]
pub struct WitnessSigner {
    key: NoteSigner,
}

impl WitnessSigner {
    /// A new key.
    ///
    /// # Errors
    /// [`NoteError`] if the name cannot be a key name or there is no randomness.
    pub fn generate(name: &str, random: &dyn SecureRandom) -> Result<Self, NoteError> {
        Ok(Self {
            key: NoteSigner::generate(name, random)?,
        })
    }

    /// The key of this seed.
    ///
    /// # Errors
    /// [`NoteError::Key`] if the name cannot be a key name.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        Ok(Self {
            key: NoteSigner::from_seed(name, seed)?,
        })
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn from_skey(text: &str) -> Result<Self, NoteError> {
        Ok(Self {
            key: NoteSigner::from_skey_of_type(text, TYPE_COSIGNATURE)?,
        })
    }

    /// The text form, with a final newline.
    #[must_use]
    pub fn to_skey(&self) -> String {
        self.key.to_skey_of_type(TYPE_COSIGNATURE)
    }

    /// Key name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> WitnessVerifier {
        let log_key = self.key.verifier();
        let hash = KeyHash::of(self.key.name(), TYPE_COSIGNATURE, log_key.public());
        WitnessVerifier {
            name: self.key.name().to_owned(),
            hash,
            key: *log_key.key(),
        }
    }

    /// The cosignature line for a checkpoint. The caller has checked that the checkpoint is the
    /// log's and consistent with everything it cosigned before.
    #[must_use]
    pub fn cosign(&self, checkpoint: &SignedCheckpoint, time_s: u64) -> SignatureLine {
        let time_s = time_s.min(i64::MAX as u64);
        let mut signature = time_s.to_be_bytes().to_vec();
        signature.extend_from_slice(
            &self
                .key
                .sign_bytes(&signed_message(time_s, checkpoint.note())),
        );
        let verifier = self.verifier();
        SignatureLine {
            name: verifier.name,
            key: verifier.hash,
            signature,
        }
    }
}

fn signed_message(time_s: u64, note: &Note) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{}", note.text()).into_bytes()
}
