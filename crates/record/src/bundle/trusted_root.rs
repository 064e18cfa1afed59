//! Sigstore's trusted root for logs of ours: what `@sigstore/verify` and its kin take as trust.
//!
//! It holds the logs and nothing else: no certificate authority, no certificate log, no
//! timestamp authority. Signers' keys are handed to those tools apart, by key id.

use crate::base64;
use crate::digest::{Digest, Sha256};
use crate::json::{Object, Value};

/// `mediaType` of a trusted root.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";

/// DER of an Ed25519 SubjectPublicKeyInfo up to the key (RFC 8410).
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// C2SP signature type of an Ed25519 note signature.
const NOTE_ED25519: u8 = 1;

/// A log to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedLog<'a> {
    /// The name of its note key, which is its origin line.
    pub name: &'a str,
    /// Its Ed25519 public key.
    pub ed25519: &'a [u8; 32],
}

/// The log's id in Sigstore's sense: SHA-256(name ‖ LF ‖ 01 ‖ key). Its first four bytes are the
/// key id of the checkpoint's signature line.
pub fn log_id(name: &str, ed25519: &[u8; 32]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update(&[b'\n', NOTE_ED25519]);
    hasher.update(ed25519);
    hasher.finish()
}

/// The trusted root of these logs, as compact JSON.
pub fn trusted_root_json(logs: &[TrustedLog<'_>]) -> Vec<u8> {
    let logs = logs
        .iter()
        .map(|log| Value::from(log_object(log)))
        .collect();
    let none = || Value::Array(Vec::new());
    let root = Object::new()
        .with("mediaType", MEDIA_TYPE)
        .with("tlogs", Value::Array(logs))
        .with("certificateAuthorities", none())
        .with("ctlogs", none())
        .with("timestampAuthorities", none());
    Value::from(root).to_bytes()
}

fn log_object(log: &TrustedLog<'_>) -> Object<'static> {
    let spki = [ED25519_SPKI_PREFIX.as_slice(), log.ed25519].concat();
    let id = base64::encode(log_id(log.name, log.ed25519).as_bytes());
    let valid = Object::new().with("start", "1970-01-01T00:00:00Z");
    let key = Object::new()
        .with("rawBytes", base64::encode(&spki))
        .with("keyDetails", "PKIX_ED25519")
        .with("validFor", valid);
    Object::new()
        // Tools look for the note's key name inside the base URL; nothing is fetched from it.
        .with("baseUrl", format!("https://{}", log.name))
        .with("hashAlgorithm", "SHA2_256")
        .with("publicKey", key)
        .with("logId", Object::new().with("keyId", id.clone()))
        .with("checkpointKeyId", Object::new().with("keyId", id))
}
