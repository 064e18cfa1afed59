//! A log of a few leaves, computed the long way: RFC 6962 by its definition, C2SP checkpoint.
//!
//! It shares no code with the product's log, so it is a second opinion on it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use record::digest::Sha256;
use record::{Digest, LogEntry, bundle, leaf};

/// Name of the toy log's note key, and its origin line.
pub const ORIGIN: &str = "log.example/longrun-vectors";

/// Name of the toy witness.
pub const WITNESS: &str = "witness.example/longrun-vectors";

/// When the toy witness signed, Unix s.
const WITNESSED_AT_S: u64 = 1_763_600_000;

pub struct ToyLog {
    pub key: SigningKey,
    pub witness: SigningKey,
    leaves: Vec<Vec<u8>>,
}

impl ToyLog {
    /// Keys of 32 equal bytes: 0x11 signs the log, 0x22 the witness.
    pub fn new(leaves: Vec<Vec<u8>>) -> Self {
        Self {
            key: SigningKey::from_bytes(&[0x11; 32]),
            witness: SigningKey::from_bytes(&[0x22; 32]),
            leaves,
        }
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    pub fn vkey(&self) -> String {
        vkey(ORIGIN, 1, &self.key)
    }

    pub fn witness_vkey(&self) -> String {
        vkey(WITNESS, 4, &self.witness)
    }

    pub fn root(&self) -> Digest {
        tree_hash(&self.leaves)
    }

    pub fn checkpoint(&self) -> String {
        let root = STANDARD.encode(self.root());
        let body = format!("{ORIGIN}\n{}\n{root}\n", self.leaves.len());
        let signature = self.key.sign(body.as_bytes()).to_bytes();
        let log_line = line(ORIGIN, 1, &self.key, &signature);

        let witnessed = format!("cosignature/v1\ntime {WITNESSED_AT_S}\n{body}");
        let cosignature = self.witness.sign(witnessed.as_bytes()).to_bytes();
        let timed = [WITNESSED_AT_S.to_be_bytes().as_slice(), &cosignature].concat();
        let witness_line = line(WITNESS, 4, &self.witness, &timed);
        format!("{body}\n{log_line}{witness_line}")
    }

    pub fn entry(&self, index: usize) -> LogEntry {
        LogEntry {
            index: index as u64,
            log_id: bundle::log_id(ORIGIN, &self.public_key()),
            tree_size: self.leaves.len() as u64,
            root_hash: self.root(),
            hashes: path(index, &self.leaves),
            checkpoint: self.checkpoint(),
            canonical_body: self.leaves[index].clone(),
        }
    }
}

fn vkey(name: &str, kind: u8, key: &SigningKey) -> String {
    let public = [&[kind], key.verifying_key().as_bytes().as_slice()].concat();
    let id = hex::encode(key_id(name, &public));
    format!("{name}+{id}+{}", STANDARD.encode(public))
}

fn line(name: &str, kind: u8, key: &SigningKey, signature: &[u8]) -> String {
    let public = [&[kind], key.verifying_key().as_bytes().as_slice()].concat();
    let body = [key_id(name, &public).as_slice(), signature].concat();
    format!("\u{2014} {name} {}\n", STANDARD.encode(body))
}

fn key_id(name: &str, typed_key: &[u8]) -> [u8; 4] {
    let digest = record::sha256(&[name.as_bytes(), b"\n", typed_key].concat());
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

/// MTH of RFC 6962, section 2.1.
fn tree_hash(leaves: &[Vec<u8>]) -> Digest {
    match leaves {
        [] => record::sha256(b""),
        [only] => leaf::leaf_hash(only),
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node(tree_hash(left), tree_hash(right))
        }
    }
}

/// PATH of RFC 6962, section 2.1.1.
fn path(index: usize, leaves: &[Vec<u8>]) -> Vec<Digest> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut hashes, sibling) = if index < at {
        (path(index, left), tree_hash(right))
    } else {
        (path(index - at, right), tree_hash(left))
    };
    hashes.push(sibling);
    hashes
}

/// The largest power of two smaller than `n`.
fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

fn node(left: Digest, right: Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(&[1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}
