//! Content is committed, never logged: secrets, salts, commitments, openings.
//!
//! One 32-byte secret per attempt, made by the caller and told to a joined node. From it comes
//! one salt per part, salt = HMAC-SHA-256(secret, part name), and every digest derived from content
//! is SHA-256(salt ‖ bytes): a short answer cannot be guessed from its digest, and one part can
//! be opened without the others. An opening file is salt ‖ bytes, so plain `sha256sum` checks it.

use std::fmt;
use std::str::FromStr;

use ring::rand::SecureRandom;

use crate::digest::{Digest, Sha256, decode_hex, fill_random, hmac_sha256};
use crate::error::{Code, Error, Result};
use crate::field::words;

mod disclose;
mod exact;
mod sse;

pub use disclose::{DisclosedPart, Disclosure, Given, Interpretation, disclose};
pub use exact::Exact;
pub use sse::{sse_bytes, sse_bytes_of_capture, without_longrun_member};

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

words! {
    /// The parts of an exchange that are committed to apart.
    pub enum Part {
        /// The request's bytes between gateway and node.
        Request = "request",
        /// The response's bytes between gateway and node; of server-sent events, [`sse_bytes`].
        Response = "response",
        /// The token ids; see [`token_bytes`].
        Tokens = "tokens",
        /// The exact values behind the coarse ones; see [`Exact`].
        Exact = "exact",
    }
}

/// The secret of one attempt. Whoever has it can check guesses of the content.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// The secret with these bytes.
    pub const fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// A fresh one.
    ///
    /// # Errors
    /// [`Code::BadKey`] if the random source fails.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        fill_random(random, &mut bytes)?;
        Ok(Self(bytes))
    }

    /// The 32 bytes, for storing and for telling the node.
    pub const fn reveal(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// 64 lower-case hex digits, for storing and for telling the node.
    pub fn reveal_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The salt of one part.
    pub fn salt(&self, part: Part) -> Salt {
        Salt(hmac_sha256(&self.0, part.as_str().as_bytes()))
    }

    /// The commitment to the bytes of one part.
    pub fn commit(&self, part: Part, bytes: &[u8]) -> Digest {
        self.salt(part).commit(bytes)
    }
}

impl FromStr for Secret {
    type Err = Error;

    /// Reads 64 lower-case hex digits.
    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        decode_hex(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// The salt of one part; opens that part and no other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(Digest);

impl Salt {
    /// The salt with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes))
    }

    /// The 32 bytes.
    pub const fn reveal(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// SHA-256(salt ‖ bytes).
    pub fn commit(&self, bytes: &[u8]) -> Digest {
        let mut commitment = Commitment::start(self);
        commitment.update(bytes);
        commitment.finish()
    }

    /// The opening file of `bytes`: salt ‖ bytes.
    pub fn opening(&self, bytes: &[u8]) -> Vec<u8> {
        [self.reveal().as_slice(), bytes].concat()
    }
}

impl FromStr for Salt {
    type Err = Error;

    /// Reads 64 lower-case hex digits.
    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(not shown)")
    }
}

/// The salt of one part: HMAC-SHA-256(secret, part name).
pub fn salt(secret: &Secret, part: Part) -> Salt {
    secret.salt(part)
}

/// The commitment to bytes under a salt: SHA-256(salt ‖ bytes).
pub fn commit(salt: &Salt, bytes: &[u8]) -> Digest {
    salt.commit(bytes)
}

/// A commitment to bytes that arrive in pieces, as streams do.
#[derive(Debug, Clone)]
pub struct Commitment {
    hasher: Sha256,
    payloads: u64,
}

impl Commitment {
    /// The commitment to nothing yet.
    pub fn start(salt: &Salt) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(salt.reveal());
        Self {
            hasher,
            payloads: 0,
        }
    }

    /// Adds bytes of a body that is not a stream of events.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Adds the `data` of one server-sent event, LF between events. Leave out `[DONE]` and
    /// Longrun's own events; [`sse_bytes`] is the same over all of them at once.
    pub fn update_event(&mut self, data: &[u8]) {
        if self.payloads > 0 {
            self.hasher.update(b"\n");
        }
        self.hasher.update(data);
        self.payloads += 1;
    }

    /// The commitment to all that was added.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// Splits an opening file into salt and bytes.
///
/// # Errors
/// [`Code::BadValue`] if it is shorter than a salt.
pub fn split_opening(file: &[u8]) -> Result<(Salt, &[u8])> {
    match file.split_first_chunk::<32>() {
        Some((salt, bytes)) => Ok((Salt::from_bytes(*salt), bytes)),
        None => Err(Error::new(
            Code::BadValue,
            "an opening starts with a salt of 32 bytes; this file is shorter",
        )),
    }
}

/// The bytes under a `tokens` commitment: how many sequences there are, then for each its
/// length and its ids; every number is 4 bytes, big-endian. The first sequence is the prompt,
/// then one per choice. `None` if a length does not fit.
pub fn token_bytes(sequences: &[&[u32]]) -> Option<Vec<u8>> {
    let mut out =
        Vec::with_capacity(4 + sequences.iter().map(|ids| 4 + 4 * ids.len()).sum::<usize>());
    out.extend_from_slice(&u32::try_from(sequences.len()).ok()?.to_be_bytes());
    for ids in sequences {
        out.extend_from_slice(&u32::try_from(ids.len()).ok()?.to_be_bytes());
        for id in *ids {
            out.extend_from_slice(&id.to_be_bytes());
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
