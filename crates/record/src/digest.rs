//! SHA-256, HMAC-SHA-256, and the ids made of them.
//!
//! A digest is 32 bytes, written as 64 lower-case hex digits; upper case is refused so that
//! one digest has one spelling. Ids are digests with a meaning; the types keep a record id from
//! being passed where a key id belongs.

use std::fmt;
use std::str::FromStr;

use crate::error::{Code, Error, Result};

/// Bytes of a SHA-256 digest.
pub const DIGEST_BYTES: usize = 32;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; DIGEST_BYTES]);

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(bytes);
    hasher.finish()
}

/// HMAC-SHA-256 of `message` under `key`.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Digest {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    Digest::from_ring(ring::hmac::sign(&key, message).as_ref())
}

/// SHA-256 over bytes that arrive in pieces.
#[derive(Clone)]
pub struct Sha256(ring::digest::Context);

impl Sha256 {
    /// The digest of nothing yet.
    pub fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest::from_ring(self.0.finish().as_ref())
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256(..)")
    }
}

impl Digest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; DIGEST_BYTES]) -> Self {
        Self(bytes)
    }

    /// The digest in a slice, which must be 32 bytes long.
    ///
    /// # Errors
    /// [`Code::BadValue`] for another length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        match bytes.try_into() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Err(Error::new(
                Code::BadValue,
                format!("a digest has {DIGEST_BYTES} bytes, not {}", bytes.len()),
            )),
        }
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        encode_hex(&self.0)
    }

    fn from_ring(bytes: &[u8]) -> Self {
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(bytes);
        Self(digest)
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; DIGEST_BYTES];
        decode_hex(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Lower-case hex of at most 32 bytes. `hex::encode` collects digit by digit and takes ten times as long.
fn encode_hex(bytes: &[u8]) -> String {
    let mut digits = [0; 2 * DIGEST_BYTES];
    let digits = &mut digits[..2 * bytes.len()];
    hex::encode_to_slice(bytes, digits).expect("two digits a byte");
    std::str::from_utf8(digits)
        .expect("hex digits are ASCII")
        .to_owned()
}

/// Fills `out` from exactly its length of lower-case hex.
pub(crate) fn decode_hex(text: &str, out: &mut [u8]) -> Result<()> {
    let upper = |c: u8| c.is_ascii_uppercase();
    if hex::decode_to_slice(text, out).is_err() || text.bytes().any(upper) {
        return Err(Error::new(
            Code::BadHex,
            format!("expected {} lower-case hex digits", out.len() * 2),
        ));
    }
    Ok(())
}

macro_rules! shown_as_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.to_hex())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(
                &self,
                to: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                to.serialize_str(&self.to_hex())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                from: D,
            ) -> std::result::Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Digest);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; DIGEST_BYTES]) -> Self {
                Self(Digest::from_bytes(bytes))
            }

            /// The id that is this digest.
            pub const fn new(digest: Digest) -> Self {
                Self(digest)
            }

            /// The digest itself.
            pub const fn digest(&self) -> Digest {
                self.0
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
                self.0.as_bytes()
            }

            /// 64 lower-case hex digits.
            pub fn to_hex(&self) -> String {
                self.0.to_hex()
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self.0.as_ref()
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                text.parse().map(Self)
            }
        }

        shown_as_hex!($name);
    )+};
}

ids! {
    /// SHA-256 of the DSSE pre-authentication encoding of a record.
    RecordId;
    /// SHA-256 of a public key's SubjectPublicKeyInfo in DER.
    KeyId;
    /// A provider, observer or other identity: the id of its first `control` record.
    SignerId;
    /// A numbered stream: one key, one endpoint, one kind.
    StreamId;
}

shown_as_hex!(Digest);

/// 16 random bytes, written as 32 lower-case hex digits.
macro_rules! short_ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// A fresh one.
            ///
            /// # Errors
            /// [`Code::BadKey`] if the random source fails.
            pub fn generate(random: &dyn ring::rand::SecureRandom) -> Result<Self> {
                let mut bytes = [0; 16];
                fill_random(random, &mut bytes)?;
                Ok(Self(bytes))
            }

            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// 32 lower-case hex digits.
            pub fn to_hex(&self) -> String {
                encode_hex(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let mut bytes = [0; 16];
                decode_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        shown_as_hex!($name);
    )+};
}

short_ids! {
    /// One call of an application; all its attempts share it.
    CallId;
    /// Chosen by the caller for one attempt, and bound by both sides.
    Nonce;
}

/// Fills `out` from the random source the caller passed in.
pub(crate) fn fill_random(random: &dyn ring::rand::SecureRandom, out: &mut [u8]) -> Result<()> {
    random
        .fill(out)
        .map_err(|_| Error::new(Code::BadKey, "the random source of this machine failed"))
}
