//! Ed25519 keys of notes: verifier keys (`<name>+<id>+<base64>`) and signing keys in the text form
//! of Go's `note` package.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use ring::rand::SecureRandom;

use super::{KeyHash, Note, NoteError, SignatureLine, TYPE_ED25519, check_name};

/// A public key as a verifier key (`<name>+<id>+<base64>`): any type can be written and read, only
/// Ed25519 ones can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Key name.
    pub name: String,
    /// Signature type.
    pub key_type: u8,
    /// Public key in the form of that type.
    pub public: Vec<u8>,
}

impl VerifierKey {
    /// The key's id.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.name, self.key_type, &self.public)
    }

    /// The key as Ed25519, if it is of the type asked for and not a weak point.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub(crate) fn ed25519(&self, key_type: u8) -> Result<VerifyingKey, NoteError> {
        let refuse = |reason| NoteError::Key {
            kind: "verifier key",
            reason,
        };
        if self.key_type != key_type {
            return Err(refuse("the type of signature is another"));
        }
        let bytes = <&[u8; 32]>::try_from(self.public.as_slice())
            .map_err(|_| refuse("an Ed25519 key has 32 bytes"))?;
        VerifyingKey::from_bytes(bytes)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or(refuse("not a usable Ed25519 key"))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let refuse = |reason| NoteError::Key {
            kind: "verifier key",
            reason,
        };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse("expected <name>+<id>+<base64>"));
        };
        check_name(name).map_err(refuse)?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| refuse("the key is not base64"))?;
        let (key_type, public) = bytes.split_first().ok_or(refuse("the key is empty"))?;
        let key = Self {
            name: name.to_owned(),
            key_type: *key_type,
            public: public.to_vec(),
        };
        if key.hash().to_string() != id {
            return Err(refuse("the id does not belong to name and key"));
        }
        Ok(key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.key_type];
        bytes.extend_from_slice(&self.public);
        write!(
            f,
            "{}+{}+{}",
            self.name,
            self.hash(),
            STANDARD.encode(bytes)
        )
    }
}

/// An Ed25519 key that notes are checked with (type 0x01).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteVerifier {
    name: String,
    hash: KeyHash,
    key: VerifyingKey,
}

impl NoteVerifier {
    /// Reads a verifier key; refuses other types than Ed25519 and weak keys.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn from_vkey(text: &str) -> Result<Self, NoteError> {
        let key: VerifierKey = text.parse()?;
        Ok(Self {
            hash: key.hash(),
            key: key.ed25519(TYPE_ED25519)?,
            name: key.name,
        })
    }

    /// The verifier key.
    #[must_use]
    pub fn to_vkey(&self) -> String {
        let public = self.key.as_bytes().to_vec();
        VerifierKey {
            name: self.name.clone(),
            key_type: TYPE_ED25519,
            public,
        }
        .to_string()
    }

    /// Key name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Key id.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    /// The public key, 32 bytes.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// Whether a signature line claims to be from this key.
    #[must_use]
    pub fn is_named_in(&self, line: &SignatureLine) -> bool {
        line.key == self.hash && line.name == self.name
    }

    /// Strict Ed25519 verification: no malleable signatures, no weak keys.
    #[must_use]
    pub fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(text, &signature).is_ok())
    }
}

/// An Ed25519 key that signs notes (type 0x01). Its text form, `PRIVATE+KEY+<name>+<id>+<base64>`,
/// is that of Go's `note` package.
#[derive(Clone)]
pub struct NoteSigner {
    name: String,
    key: SigningKey,
}

const SIGNER_PREFIX: &str = "PRIVATE+KEY+";

impl NoteSigner {
    /// A new key.
    ///
    /// # Errors
    /// [`NoteError`] if the name cannot be a key name or there is no randomness.
    pub fn generate(name: &str, random: &dyn SecureRandom) -> Result<Self, NoteError> {
        let mut seed = [0u8; 32];
        random.fill(&mut seed).map_err(|_| NoteError::Randomness)?;
        Self::from_seed(name, &seed)
    }

    /// The key of this seed.
    ///
    /// # Errors
    /// [`NoteError::Key`] if the name cannot be a key name.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name).map_err(|reason| NoteError::Key {
            kind: "key name",
            reason,
        })?;
        Ok(Self {
            name: name.to_owned(),
            key: SigningKey::from_bytes(seed),
        })
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`]; the message does not repeat the key.
    pub fn from_skey(text: &str) -> Result<Self, NoteError> {
        Self::from_skey_of_type(text, TYPE_ED25519)
    }

    pub(crate) fn from_skey_of_type(text: &str, expected: u8) -> Result<Self, NoteError> {
        let refuse = |reason| NoteError::Key {
            kind: "signing key",
            reason,
        };
        let rest = text
            .trim_end_matches('\n')
            .strip_prefix(SIGNER_PREFIX)
            .ok_or(refuse("it does not start with PRIVATE+KEY+"))?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse("expected PRIVATE+KEY+<name>+<id>+<base64>"));
        };
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| refuse("the key is not base64"))?;
        let (key_type, seed) = bytes.split_first().ok_or(refuse("the key is empty"))?;
        if *key_type != expected {
            return Err(refuse("the type of signature is another"));
        }
        let seed =
            <&[u8; 32]>::try_from(seed).map_err(|_| refuse("an Ed25519 seed has 32 bytes"))?;
        let signer = Self::from_seed(name, seed)?;
        if KeyHash::of(name, expected, signer.verifier().public()).to_string() != id {
            return Err(refuse("the id does not belong to name and key"));
        }
        Ok(signer)
    }

    /// The text form, with a final newline. Keep it in a file only its owner can read.
    #[must_use]
    pub fn to_skey(&self) -> String {
        self.to_skey_of_type(TYPE_ED25519)
    }

    pub(crate) fn to_skey_of_type(&self, key_type: u8) -> String {
        let mut bytes = vec![key_type];
        bytes.extend_from_slice(self.key.as_bytes());
        let hash = KeyHash::of(&self.name, key_type, self.verifier().public());
        format!(
            "{SIGNER_PREFIX}{}+{hash}+{}\n",
            self.name,
            STANDARD.encode(bytes)
        )
    }

    /// Key name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> NoteVerifier {
        let key = self.key.verifying_key();
        let hash = KeyHash::of(&self.name, TYPE_ED25519, key.as_bytes());
        NoteVerifier {
            name: self.name.clone(),
            hash,
            key,
        }
    }

    /// Signs a note in place.
    pub fn sign(&self, note: &mut Note) {
        let signature = self.key.sign(note.text.as_bytes()).to_bytes().to_vec();
        note.add(SignatureLine {
            name: self.name.clone(),
            key: self.verifier().hash(),
            signature,
        });
    }

    pub(crate) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoteSigner")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
