//! P-256 keys: making, storing as PEM, signing, verifying.
//!
//! Signatures are ECDSA over SHA-256 in ASN.1 DER (`PKIX_ECDSA_P256_SHA_256` in Sigstore's
//! words). Private keys travel as PKCS#8 PEM (RFC 5958), public ones as SubjectPublicKeyInfo
//! (RFC 5480); only the uncompressed form on the named curve is accepted, so one key has one
//! encoding and one id. Files and their modes are the caller's business.

use std::fmt;

use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};

use crate::challenge::Challenge;
use crate::consent::Consent;
use crate::digest::{KeyId, hmac_sha256, sha256};
use crate::envelope::{Envelope, pae};
use crate::error::{Code, Error, Result};
use crate::statement::{Record, Statement};

/// DER of a P-256 SubjectPublicKeyInfo up to the point: 26 bytes.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Bytes of an uncompressed point: 04, then x and y.
const POINT_BYTES: usize = 65;

/// Bytes of a P-256 SubjectPublicKeyInfo.
pub const SPKI_BYTES: usize = SPKI_PREFIX.len() + POINT_BYTES;

/// Longest PEM file of a private key that is read.
pub const PEM_BYTES_MAX: usize = 4096;

/// Longest signature in bytes: two 33-byte integers in DER.
pub const SIGNATURE_BYTES_MAX: usize = 72;

const PRIVATE_TAG: &str = "PRIVATE KEY";
const PUBLIC_TAG: &str = "PUBLIC KEY";

/// A P-256 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; SPKI_BYTES]);

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in DER. Whether the point is on the curve shows when a
    /// signature is verified.
    ///
    /// # Errors
    /// [`Code::BadKey`] for anything but an uncompressed P-256 key.
    pub fn from_spki(der: &[u8]) -> Result<Self> {
        match <[u8; SPKI_BYTES]>::try_from(der) {
            Ok(spki) if spki.starts_with(&SPKI_PREFIX) && spki[SPKI_PREFIX.len()] == 4 => {
                Ok(Self(spki))
            }
            _ => Err(Error::new(
                Code::BadKey,
                "not the SubjectPublicKeyInfo of an uncompressed P-256 key",
            )),
        }
    }

    /// Reads a `PUBLIC KEY` PEM block.
    ///
    /// # Errors
    /// [`Code::BadKey`].
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::from_spki(&pem_block(text, PUBLIC_TAG)?)
    }

    /// A `PUBLIC KEY` PEM block, as `openssl` reads it.
    pub fn to_pem(&self) -> String {
        pem::encode_config(&pem::Pem::new(PUBLIC_TAG, self.0), line_feeds())
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8; SPKI_BYTES] {
        &self.0
    }

    /// SHA-256 of [`PublicKey::spki`].
    pub fn key_id(&self) -> KeyId {
        KeyId::new(sha256(&self.0))
    }

    /// Checks an ASN.1 DER signature over `message`.
    ///
    /// # Errors
    /// [`Code::BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        let point = &self.0[SPKI_PREFIX.len()..];
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(message, signature)
            .map_err(|_| {
                Error::new(
                    Code::BadSignature,
                    format!("the signature does not verify under key {}", self.key_id()),
                )
            })
    }

    fn from_point(point: &[u8]) -> Result<Self> {
        let mut spki = [0; SPKI_BYTES];
        if point.len() != POINT_BYTES {
            return Err(Error::new(Code::BadKey, "not an uncompressed P-256 point"));
        }
        spki[..SPKI_PREFIX.len()].copy_from_slice(&SPKI_PREFIX);
        spki[SPKI_PREFIX.len()..].copy_from_slice(point);
        Self::from_spki(&spki)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.key_id())
    }
}

/// A P-256 private key. It never shows its secret in `Debug`.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// [`Code::BadKey`] if the random source fails.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random)
            .map_err(|_| Error::new(Code::BadKey, "the random source of this machine failed"))?;
        Self::from_pkcs8(document.as_ref(), random)
    }

    /// Reads a `PRIVATE KEY` PEM block (PKCS#8, unencrypted, P-256).
    ///
    /// # Errors
    /// [`Code::BadKey`], saying what is wrong but nothing about the key.
    pub fn from_pem(text: &str, random: &dyn SecureRandom) -> Result<Self> {
        Self::from_pkcs8(&pem_block(text, PRIVATE_TAG)?, random)
    }

    /// Reads PKCS#8 in DER.
    ///
    /// # Errors
    /// [`Code::BadKey`].
    pub fn from_pkcs8(der: &[u8], random: &dyn SecureRandom) -> Result<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, random).map_err(
            |why| {
                Error::new(
                    Code::BadKey,
                    format!(
                        "not an unencrypted PKCS#8 P-256 private key with its public half: {why}"
                    ),
                )
            },
        )?;
        let public = PublicKey::from_point(pair.public_key().as_ref())?;
        Ok(Self {
            pair,
            pkcs8: der.to_vec(),
            public,
        })
    }

    /// A `PRIVATE KEY` PEM block. This is the secret itself: store it with mode 0600.
    pub fn to_pem(&self) -> String {
        pem::encode_config(
            &pem::Pem::new(PRIVATE_TAG, self.pkcs8.as_slice()),
            line_feeds(),
        )
    }

    /// A secret for another use, told apart by its name: it says nothing of this key, and nobody
    /// without this key can make it.
    pub fn secret_for(&self, name: &str) -> [u8; 32] {
        *hmac_sha256(&self.pkcs8, name.as_bytes()).as_bytes()
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The id of the public half.
    pub fn key_id(&self) -> KeyId {
        self.public.key_id()
    }

    /// Signs a statement. What a verifier would refuse is refused here, before it is signed.
    ///
    /// # Errors
    /// [`Code::KeyMismatch`] if the statement names another key, and everything that
    /// [`Statement::from_payload`] refuses.
    pub fn sign_statement(
        &self,
        statement: &Statement,
        random: &dyn SecureRandom,
    ) -> Result<Envelope> {
        self.sign_checked(statement, statement.to_payload()?, random)
    }

    /// The record of a statement, signed as [`SigningKey::sign_statement`] does.
    ///
    /// # Errors
    /// As [`SigningKey::sign_statement`].
    pub fn sign_record(&self, statement: Statement, random: &dyn SecureRandom) -> Result<Record> {
        let envelope = self.sign_statement(&statement, random)?;
        Ok(Record::assembled(statement, envelope))
    }

    /// Signs the bytes of a statement as they are.
    ///
    /// # Errors
    /// As [`SigningKey::sign_statement`].
    pub fn sign(&self, payload: &[u8], random: &dyn SecureRandom) -> Result<Envelope> {
        let statement = Statement::from_payload(payload)?;
        self.sign_checked(&statement, payload.to_vec(), random)
    }

    /// Proves that this key is held, to whoever asks: an ASN.1 DER signature over the challenge's
    /// text.
    ///
    /// # Errors
    /// [`Code::BadKey`] if the random source fails.
    pub fn prove(&self, asked: &Challenge, random: &dyn SecureRandom) -> Result<Vec<u8>> {
        self.sign_text(&asked.to_string(), random)
    }

    /// Says what strangers may read of this key's records.
    ///
    /// # Errors
    /// [`Code::BadKey`] if the random source fails.
    pub fn consent(&self, said: &Consent, random: &dyn SecureRandom) -> Result<Vec<u8>> {
        self.sign_text(&said.to_string(), random)
    }

    fn sign_text(&self, text: &str, random: &dyn SecureRandom) -> Result<Vec<u8>> {
        let signature = self
            .pair
            .sign(random, text.as_bytes())
            .map_err(|_| Error::new(Code::BadKey, "the random source of this machine failed"))?;
        Ok(signature.as_ref().to_vec())
    }

    /// Signs bytes that say `statement`, if it names this key.
    fn sign_checked(
        &self,
        statement: &Statement,
        payload: Vec<u8>,
        random: &dyn SecureRandom,
    ) -> Result<Envelope> {
        if statement.signer.key != self.public {
            return Err(Error::new(
                Code::KeyMismatch,
                format!(
                    "the statement names key {}, but key {} signs",
                    statement.signer.key.key_id(),
                    self.key_id()
                ),
            )
            .under("predicate.signer.key"));
        }
        let signature = self
            .pair
            .sign(random, &pae(&payload))
            .map_err(|_| Error::new(Code::BadKey, "the random source of this machine failed"))?;
        Envelope::new(payload, signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret not shown)", self.key_id())
    }
}

fn line_feeds() -> pem::EncodeConfig {
    pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)
}

/// The contents of the one PEM block in `text`, which must have this tag.
fn pem_block(text: &str, tag: &str) -> Result<Vec<u8>> {
    if text.len() > PEM_BYTES_MAX {
        return Err(Error::new(
            Code::TooLarge,
            format!(
                "{} bytes; a key file has at most {PEM_BYTES_MAX}",
                text.len()
            ),
        ));
    }
    let blocks =
        pem::parse_many(text).map_err(|_| Error::new(Code::BadKey, "the file is not PEM"))?;
    match blocks.as_slice() {
        [block] if block.tag() == tag => Ok(block.contents().to_vec()),
        [block] => Err(Error::new(
            Code::BadKey,
            format!("expected a '{tag}' block, found '{}'", block.tag()),
        )),
        blocks => Err(Error::new(
            Code::BadKey,
            format!("expected one PEM block, found {}", blocks.len()),
        )),
    }
}

#[cfg(test)]
mod tests;
