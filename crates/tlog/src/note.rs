//! Signed notes, after C2SP signed-note (<https://c2sp.org/signed-note>), and their Ed25519 keys.
//!
//! A note is text, a blank line and signature lines `— <name> base64(key id ‖ signature)`. Parsing
//! is strict: UTF-8 without control characters, names without spaces or plus, canonical base64.
//! Signatures of unknown keys are ignored; a bad signature of a known key condemns the whole note.
//! Types other than Ed25519 (0x01) are carried but not checked here; witnesses' timestamped ones
//! (0x04) are in [`crate::cosignature`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::sha256;

mod key;

pub use key::{NoteSigner, NoteVerifier, VerifierKey};

/// Signature lines that a note may carry. The specification asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;
/// Bytes of the largest note that is looked at.
pub const NOTE_BYTES_MAX: usize = 512 * 1024;
/// Bytes of the longest key name.
pub const NAME_BYTES_MAX: usize = 1024;

/// Signature type of Ed25519 over the note's text.
pub const TYPE_ED25519: u8 = 0x01;
/// Signature type of timestamped Ed25519 cosignatures.
pub const TYPE_COSIGNATURE: u8 = 0x04;

/// Why a note or a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Larger than is looked at.
    #[error("note of {0} bytes; the limit is {NOTE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Not a key.
    #[error("not a {kind}: {reason}")]
    Key {
        /// What it should have been.
        kind: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A known key's signature does not verify.
    #[error("the signature of {0} does not verify")]
    BadSignature(String),
    /// No known key signed.
    #[error("none of the known keys signed this note")]
    Unsigned,
    /// The random number generator failed.
    #[error("no randomness for a new key")]
    Randomness,
}

/// First four bytes of SHA-256(name ‖ LF ‖ type ‖ public key): tells keys apart, proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 4]);

impl KeyHash {
    /// The key id that the specification recommends.
    #[must_use]
    pub fn of(name: &str, key_type: u8, public: &[u8]) -> Self {
        let mut input = Vec::with_capacity(name.len() + 2 + public.len());
        input.extend_from_slice(name.as_bytes());
        input.push(b'\n');
        input.push(key_type);
        input.extend_from_slice(public);
        let digest = sha256(&input);
        let bytes = digest.as_bytes();
        Self([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// Key name.
    pub name: String,
    /// Key id.
    pub key: KeyHash,
    /// What follows the key id; its form depends on the type of the key.
    pub signature: Vec<u8>,
}

impl SignatureLine {
    /// Parses `— name base64`, without its newline.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix("— ").ok_or(NoteError::Malformed(
            "a signature line does not start with an em dash and a space",
        ))?;
        let (name, encoded) = rest
            .split_once(' ')
            .ok_or(NoteError::Malformed("a signature line has no signature"))?;
        check_name(name).map_err(NoteError::Malformed)?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| NoteError::Malformed("a signature is not base64"))?;
        let Some((key, signature)) = bytes
            .split_first_chunk::<4>()
            .filter(|(_, s)| !s.is_empty())
        else {
            return Err(NoteError::Malformed("a signature is too short"));
        };
        Ok(Self {
            name: name.to_owned(),
            key: KeyHash(*key),
            signature: signature.to_vec(),
        })
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key.0.to_vec();
        bytes.extend_from_slice(&self.signature);
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A parsed note. Its text means nothing until a known key's signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// A note of this text without signatures yet.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if the text does not end in a newline or has control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, NoteError> {
        let text = text.into();
        check_text(&text)?;
        Ok(Self {
            text,
            signatures: Vec::new(),
        })
    }

    /// Parses a note.
    ///
    /// # Errors
    /// [`NoteError`] saying which rule of the format is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let note =
            std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        let split = note
            .rfind("\n\n")
            .ok_or(NoteError::Malformed("no blank line before the signatures"))?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        check_text(text)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed(
            "the last signature line has no newline",
        ))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == SIGNATURES_MAX {
                return Err(NoteError::Malformed("too many signatures"));
            }
            if line.bytes().any(|byte| byte < 0x20) {
                return Err(NoteError::Malformed("control characters"));
            }
            signatures.push(SignatureLine::parse(line)?);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The signed text, its last newline included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, in order.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// Adds a signature line unless the same one is there.
    pub fn add(&mut self, line: SignatureLine) {
        if !self.signatures.contains(&line) {
            self.signatures.push(line);
        }
    }

    /// Whether this key signed.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if it is claimed to have signed and did not.
    pub fn is_signed_by(&self, key: &NoteVerifier) -> Result<bool, NoteError> {
        let mut signed = false;
        for line in self.signatures.iter().filter(|line| key.is_named_in(line)) {
            if !key.verify(self.text.as_bytes(), &line.signature) {
                return Err(NoteError::BadSignature(key.name().to_owned()));
            }
            signed = true;
        }
        Ok(signed)
    }

    /// The known keys that signed, in the order given; other signatures are ignored.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if a known key's signature does not verify,
    /// [`NoteError::Unsigned`] if no known key signed.
    pub fn verify<'k>(
        &self,
        known: &'k [NoteVerifier],
    ) -> Result<Vec<&'k NoteVerifier>, NoteError> {
        let mut signed = Vec::new();
        for key in known {
            if self.is_signed_by(key)? {
                signed.push(key);
            }
        }
        if signed.is_empty() {
            Err(NoteError::Unsigned)
        } else {
            Ok(signed)
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// A key name is not empty and has neither Unicode spaces nor plus; control characters would break
/// the note.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a key name is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("a key name is too long");
    }
    if name
        .chars()
        .any(|c| c.is_whitespace() || c == '+' || u32::from(c) < 0x20)
    {
        return Err("a key name has a space or a plus in it");
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end in a newline"));
    }
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed("control characters"));
    }
    Ok(())
}
