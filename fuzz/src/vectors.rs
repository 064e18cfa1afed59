//! The repository's vectors as seeds, and what in them is genuine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use record::{Bundle, Envelope, RecordId};
use serde_json::Value;
use tlog::checkpoint::SignedCheckpoint;

/// The vectors' folder.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

/// One file.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn file(path: &str) -> Vec<u8> {
    fs::read(folder().join(path)).unwrap_or_else(|error| panic!("vectors/{path}: {error}"))
}

/// All files whose path below `vectors/` ends so, in the order of their paths.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn files(ending: &str) -> Vec<Vec<u8>> {
    let found: Vec<_> = everything()
        .iter()
        .filter(|(path, _)| path.ends_with(ending))
        .map(|(_, bytes)| bytes.clone())
        .collect();
    assert!(!found.is_empty(), "no vector ends in {ending}");
    found
}

/// Every string below the member of this name, at any depth, in a JSON file.
#[must_use]
pub fn strings(path: &str, member: &str) -> Vec<Vec<u8>> {
    fn collect(value: &Value, wanted: bool, member: &str, into: &mut Vec<Vec<u8>>) {
        match value {
            Value::String(text) if wanted => into.push(text.clone().into_bytes()),
            Value::Array(items) => items
                .iter()
                .for_each(|item| collect(item, wanted, member, into)),
            Value::Object(members) => members
                .iter()
                .for_each(|(name, value)| collect(value, wanted || name == member, member, into)),
            _ => {}
        }
    }
    let value = serde_json::from_slice(&file(path)).expect("a vector is JSON");
    let mut found = Vec::new();
    collect(&value, false, member, &mut found);
    assert!(!found.is_empty(), "{path} has no strings under {member}");
    found
}

/// Path below `vectors/` and content.
fn everything() -> &'static [(String, Vec<u8>)] {
    static ALL: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
        let (root, mut found) = (folder(), Vec::new());
        let mut pending = vec![root.clone()];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).expect("the vectors are readable");
                pending.extend(entries.map(|entry| entry.expect("readable").path()));
            } else {
                let name = path.strip_prefix(&root).expect("it is below the root");
                let bytes = fs::read(&path).expect("the vectors are readable");
                found.push((name.to_string_lossy().into_owned(), bytes));
            }
        }
        found.sort();
        found
    });
    &ALL
}

/// The records that somebody with a key signed. Verified once, when first asked for.
pub fn genuine_records() -> &'static BTreeSet<RecordId> {
    static GENUINE: LazyLock<BTreeSet<RecordId>> = LazyLock::new(|| {
        everything()
            .iter()
            .flat_map(|(_, bytes)| envelopes(bytes))
            .filter_map(|envelope| envelope.open().ok())
            .map(|record| record.id)
            .collect()
    });
    assert!(GENUINE.len() > 20, "the vectors hold records");
    &GENUINE
}

/// The texts of checkpoints that appear anywhere in the vectors. All that a key signed are here.
pub fn genuine_checkpoints() -> &'static BTreeSet<String> {
    static GENUINE: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let whole = everything().iter().map(|(_, bytes)| bytes.clone());
        let nested = everything().iter().flat_map(|(_, bytes)| texts(bytes));
        whole
            .chain(nested)
            .flat_map(|bytes| {
                // A request and a proof have lines before the checkpoint.
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let behind = text.split_once("\n\n").map(|(_, rest)| rest.to_owned());
                [Some(text), behind].into_iter().flatten()
            })
            .filter_map(|text| SignedCheckpoint::parse(text.as_bytes()).ok())
            .map(|signed| signed.checkpoint().to_text())
            .collect()
    });
    assert!(GENUINE.len() > 3, "the vectors hold checkpoints");
    &GENUINE
}

fn envelopes(bytes: &[u8]) -> Vec<Envelope> {
    let own = Envelope::from_json(bytes).ok();
    let of_bundle = Bundle::from_json(bytes).ok().map(|bundle| bundle.envelope);
    let nested = objects(bytes);
    let nested = nested.iter().filter_map(|bytes| {
        let bundle = Bundle::from_json(bytes).map(|bundle| bundle.envelope);
        bundle.or_else(|_| Envelope::from_json(bytes)).ok()
    });
    own.into_iter().chain(of_bundle).chain(nested).collect()
}

/// Every object inside a JSON document, written again.
fn objects(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    visit(bytes, &mut |value| {
        if value.is_object() {
            found.push(value.to_string().into_bytes());
        }
    });
    found
}

/// Every string inside a JSON document.
fn texts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    visit(bytes, &mut |value| {
        if let Value::String(text) = value {
            found.push(text.clone().into_bytes());
        }
    });
    found
}

fn visit(bytes: &[u8], see: &mut dyn FnMut(&Value)) {
    fn walk(value: &Value, see: &mut dyn FnMut(&Value)) {
        see(value);
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
            Value::Object(members) => members.values().for_each(|item| walk(item, see)),
            _ => {}
        }
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        walk(&value, see);
    }
}
