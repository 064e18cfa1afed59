//! Sigstore bundle v0.3: one record with its place in a log, as one JSON file.
//!
//! A DSSE envelope, a public-key hint, and one transparency-log entry with inclusion proof and
//! checkpoint. Members and spelling follow the protobuf JSON mapping of
//! `dev.sigstore.bundle.v1`. Nothing here verifies Merkle proofs or checkpoint signatures, and
//! nothing in a bundle is trusted because it is in the bundle: keys and logs come from a policy.
//! Witness cosignatures are lines of the checkpoint; Sigstore's tools carry and ignore them.

use crate::base64;
use crate::digest::{Digest, KeyId};
use crate::envelope::Envelope;
use crate::error::{Code, Error, Result};
use crate::json::{self, Object, Value};
use crate::leaf::{self, Leaf};
use crate::statement::Record;

mod trusted_root;

pub use trusted_root::{TrustedLog, log_id, trusted_root_json};

/// `mediaType` of a bundle.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Most hashes of an inclusion proof: trees of up to 2^63 leaves.
pub const PROOF_HASHES_MAX: usize = 63;

/// Longest checkpoint in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 60_000;

/// A record with its place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The signed statement.
    pub envelope: Envelope,
    /// Id of the key that signed, as a hint to find it; verified against the statement on opening.
    pub key_hint: KeyId,
    /// Where it is logged.
    pub entry: LogEntry,
}

/// One entry of a log, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Index of the entry, from 0.
    pub index: u64,
    /// Sigstore's log id: [`log_id`] of the log's name and key. A hint.
    pub log_id: Digest,
    /// Size of the tree that the proof is for.
    pub tree_size: u64,
    /// Root of that tree; the checkpoint states it too.
    pub root_hash: Digest,
    /// Sibling hashes, from the leaf up.
    pub hashes: Vec<Digest>,
    /// The signed checkpoint, verbatim, with all its signature lines.
    pub checkpoint: String,
    /// The canonical leaf bytes.
    pub canonical_body: Vec<u8>,
}

impl Bundle {
    /// Puts a bundle together.
    pub fn new(record: &Record, entry: LogEntry) -> Self {
        Self {
            envelope: record.envelope.clone(),
            key_hint: record.key().key_id(),
            entry,
        }
    }

    /// Opens the envelope, and refuses a bundle whose leaf, signature and statement do not name
    /// one key and one record. Proof and checkpoint are verified elsewhere.
    ///
    /// # Errors
    /// What [`Envelope::open`] and [`Leaf::parse`] refuse, [`Code::DigestMismatch`],
    /// [`Code::KeyMismatch`].
    pub fn open(&self) -> Result<Record> {
        let record = self
            .envelope
            .clone()
            .open()
            .map_err(|error| error.under("dsseEnvelope"))?;
        let in_body = |error: Error| error.under("canonicalizedBody");
        Leaf::parse(&self.entry.canonical_body)
            .map_err(in_body)?
            .check(&record)
            .map_err(in_body)?;
        if self.key_hint != record.key().key_id() {
            return Err(Error::new(
                Code::KeyMismatch,
                format!(
                    "hints at key {}, the statement names {}",
                    self.key_hint,
                    record.key().key_id()
                ),
            )
            .under("verificationMaterial.publicKey.hint"));
        }
        Ok(record)
    }

    /// The bundle as compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let entry = &self.entry;
        let index = entry.index.to_string();
        let hashes = entry
            .hashes
            .iter()
            .map(|hash| base64::encode(hash.as_bytes()).into());
        let proof = Object::new()
            .with("logIndex", index.clone())
            .with("rootHash", base64::encode(entry.root_hash.as_bytes()))
            .with("treeSize", entry.tree_size.to_string())
            .with("hashes", Value::Array(hashes.collect()))
            .with(
                "checkpoint",
                Object::new().with("envelope", entry.checkpoint.as_str()),
            );
        let kind = Object::new()
            .with("kind", leaf::KIND)
            .with("version", leaf::VERSION);
        let entry = Object::new()
            .with("logIndex", index)
            .with(
                "logId",
                Object::new().with("keyId", base64::encode(entry.log_id.as_bytes())),
            )
            .with("kindVersion", kind)
            .with("inclusionProof", proof)
            .with("canonicalizedBody", base64::encode(&entry.canonical_body));
        let material = Object::new()
            .with(
                "publicKey",
                Object::new().with("hint", self.key_hint.to_hex()),
            )
            .with("tlogEntries", Value::Array(vec![entry.into()]));
        let bundle = Object::new()
            .with("mediaType", MEDIA_TYPE)
            .with("verificationMaterial", material)
            .with("dsseEnvelope", self.envelope.to_value());
        Value::from(bundle).to_bytes()
    }

    /// Reads a bundle. Members that a bundle of ours does not have are refused, except the few
    /// that other tools write with an empty meaning (`integratedTime` 0, `keyid`); zeros and
    /// empty lists may be left out, as protobuf does.
    ///
    /// # Errors
    /// Kinds `Syntax`, `Limit`, `Field`, and [`Code::SignatureCount`].
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let value = Value::from_slice(bytes, &json::BUNDLE)?;
        let bundle = value.expect_object()?;
        bundle.only(&["mediaType", "verificationMaterial", "dsseEnvelope"])?;
        let media_type = text(bundle, "mediaType")?;
        if media_type != MEDIA_TYPE {
            return Err(
                Error::new(Code::BadValue, format!("must be {MEDIA_TYPE}")).under("mediaType")
            );
        }
        let envelope = Envelope::from_value(bundle.required("dsseEnvelope")?)
            .map_err(|error| error.under("dsseEnvelope"))?;
        let (key_hint, entry) = read_material(bundle.required("verificationMaterial")?)
            .map_err(|error| error.under("verificationMaterial"))?;
        Ok(Self {
            envelope,
            key_hint,
            entry,
        })
    }
}

fn read_material(value: &Value<'_>) -> Result<(KeyId, LogEntry)> {
    let material = value.expect_object()?;
    material.only(&["publicKey", "tlogEntries"])?;
    let key = object(material, "publicKey")?;
    let hint = key
        .only(&["hint"])
        .and_then(|()| text(key, "hint"))
        .and_then(|hint| hint.parse().map_err(|error: Error| error.under("hint")))
        .map_err(|error| error.under("publicKey"))?;
    let entries = material
        .required("tlogEntries")?
        .expect_array()
        .map_err(|error| error.under("tlogEntries"))?;
    let [entry] = entries else {
        return Err(Error::new(
            Code::BadValue,
            format!("exactly one log entry is allowed, found {}", entries.len()),
        )
        .under("tlogEntries"));
    };
    let entry = read_entry(entry).map_err(|error| error.at_index(0).under("tlogEntries"))?;
    Ok((hint, entry))
}

fn read_entry(value: &Value<'_>) -> Result<LogEntry> {
    let entry = value.expect_object()?;
    entry.only(&[
        "logIndex",
        "logId",
        "kindVersion",
        "integratedTime",
        "inclusionProof",
        "canonicalizedBody",
    ])?;
    if number_or_zero(entry, "integratedTime")? != 0 {
        return Err(Error::new(
            Code::BadValue,
            "must be 0 or absent: a log of this kind gives no time of its own",
        )
        .under("integratedTime"));
    }
    let kind = object(entry, "kindVersion")?;
    let named = (text(kind, "kind")?, text(kind, "version")?);
    if named != (leaf::KIND, leaf::VERSION) {
        return Err(Error::new(
            Code::BadValue,
            format!("must be {} {}", leaf::KIND, leaf::VERSION),
        )
        .under("kindVersion"));
    }
    let index = number_or_zero(entry, "logIndex")?;
    let log_id = digest(object(entry, "logId")?, "keyId").map_err(|error| error.under("logId"))?;
    let canonical_body = bytes_of(entry, "canonicalizedBody")?;
    let in_proof = |error: Error| error.under("inclusionProof");
    let proof = object(entry, "inclusionProof")?;
    let (tree_size, root_hash, hashes, checkpoint) = read_proof(proof, index).map_err(in_proof)?;
    Ok(LogEntry {
        index,
        log_id,
        tree_size,
        root_hash,
        hashes,
        checkpoint,
        canonical_body,
    })
}

fn read_proof(proof: &Object<'_>, index: u64) -> Result<(u64, Digest, Vec<Digest>, String)> {
    proof.only(&["logIndex", "rootHash", "treeSize", "hashes", "checkpoint"])?;
    if number_or_zero(proof, "logIndex")? != index {
        return Err(Error::new(
            Code::Contradiction,
            format!("must be {index}, the entry's own index"),
        )
        .under("logIndex"));
    }
    let tree_size = number(proof, "treeSize")?;
    if index >= tree_size {
        return Err(Error::new(
            Code::Contradiction,
            format!("entry {index} is not in a tree of {tree_size}"),
        )
        .under("treeSize"));
    }
    let hashes = read_hashes(proof.member("hashes")).map_err(|error| error.under("hashes"))?;
    let checkpoint = text(object(proof, "checkpoint")?, "envelope")
        .map_err(|error| error.under("checkpoint"))?;
    if checkpoint.len() > CHECKPOINT_BYTES_MAX {
        return Err(Error::new(
            Code::StringTooLong,
            format!("a checkpoint of more than {CHECKPOINT_BYTES_MAX} bytes"),
        )
        .under("checkpoint.envelope"));
    }
    Ok((
        tree_size,
        digest(proof, "rootHash")?,
        hashes,
        checkpoint.to_owned(),
    ))
}

/// A tree of one leaf has no hashes, and protobuf leaves empty lists out.
fn read_hashes(value: Option<&Value<'_>>) -> Result<Vec<Digest>> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let hashes = value.expect_array()?;
    if hashes.len() > PROOF_HASHES_MAX {
        return Err(Error::new(
            Code::TooManyItems,
            format!("more than {PROOF_HASHES_MAX} hashes"),
        ));
    }
    hashes
        .iter()
        .enumerate()
        .map(|(index, hash)| {
            hash.expect_str()
                .and_then(base64::decode)
                .and_then(|bytes| Digest::from_slice(&bytes))
                .map_err(|error| error.at_index(index))
        })
        .collect()
}

fn object<'a>(parent: &'a Object<'a>, name: &str) -> Result<&'a Object<'a>> {
    parent
        .required(name)?
        .expect_object()
        .map_err(|error| error.under(name))
}

fn text<'a>(parent: &'a Object<'_>, name: &str) -> Result<&'a str> {
    parent
        .required(name)?
        .expect_str()
        .map_err(|error| error.under(name))
}

fn bytes_of(parent: &Object<'_>, name: &str) -> Result<Vec<u8>> {
    text(parent, name).and_then(|text| base64::decode(text).map_err(|error| error.under(name)))
}

fn digest(parent: &Object<'_>, name: &str) -> Result<Digest> {
    bytes_of(parent, name)
        .and_then(|bytes| Digest::from_slice(&bytes).map_err(|error| error.under(name)))
}

/// Protobuf may leave out a zero.
fn number_or_zero(parent: &Object<'_>, name: &str) -> Result<u64> {
    match parent.member(name) {
        Some(_) => number(parent, name),
        None => Ok(0),
    }
}

/// A 64-bit number, which protobuf writes as a string; one spelling only.
fn number(parent: &Object<'_>, name: &str) -> Result<u64> {
    let text = text(parent, name)?;
    text.parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text && i64::try_from(*number).is_ok())
        .ok_or_else(|| {
            Error::new(
                Code::BadValue,
                "not a whole number of 0 to 2^63-1 in a string",
            )
            .under(name)
        })
}

#[cfg(test)]
mod tests;
