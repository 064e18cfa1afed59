//! `vectors/tlog`: files for whoever implements these formats in another language, kept in step
//! with the code. `cargo test -p tlog --test vectors -- --ignored regenerate` writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

#[path = "../common/mod.rs"]
mod common;
mod notes;
mod verdicts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::Tiles;
use record::Digest;
use serde_json::{Value, json};
use tlog::bundle::{decode_bodies, decode_entries, encode_bodies, encode_entries};
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::cosignature::{WitnessSigner, WitnessVerifier};
use tlog::growth::Edge;
use tlog::merkle::{leaf_hash, root};
use tlog::note::{NoteSigner, NoteVerifier};
use tlog::proof::{TreeView, verify_consistency, verify_inclusion};
use tlog::tile::{Resource, Span, TileId};
use tlog::witness::{AddCheckpoint, Witnessed, decide};

type Files = BTreeMap<String, Vec<u8>>;

const ORIGIN: &str = "vectors.longrun.example/log";
const TIME_S: u64 = 1_700_000_000;
/// Sizes around the boundaries of subtrees and tiles.
const SIZES: [u64; 13] = [1, 2, 3, 4, 7, 8, 255, 256, 257, 300, 511, 512, 1000];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/tlog")
}

fn log_key() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, &[1; 32]).unwrap()
}

fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(
        &format!("witness.longrun.example/w{number}"),
        &[100 + number; 32],
    )
    .unwrap()
}

/// Entry `n` of the vectors' log is the text `entry <n>`.
fn entry(number: u64) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

fn leaf(number: u64) -> Digest {
    leaf_hash(&entry(number))
}

fn tiles_of(size: u64) -> Tiles {
    let mut tiles = Tiles::default();
    tiles.write(Edge::empty().append(&(0..size).map(leaf).collect::<Vec<_>>()));
    tiles
}

fn hex(hashes: &[Digest]) -> Value {
    hashes.iter().map(Digest::to_hex).collect::<Vec<_>>().into()
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap();
    bytes.push(b'\n');
    bytes
}

fn paths() -> Value {
    let tile = |level, span| Resource::Tile(TileId { level, span });
    let good: Vec<Value> = [
        (json!({"tile": 0, "index": 0}), tile(0, Span::full(0))),
        (
            json!({"tile": 0, "index": 273, "width": 112}),
            tile(0, Span::new(273, 112).unwrap()),
        ),
        (
            json!({"tile": 63, "index": 1_234_067}),
            tile(63, Span::full(1_234_067)),
        ),
        (
            json!({"entries": true, "index": 999}),
            Resource::Entries(Span::full(999)),
        ),
        (
            json!({"entries": true, "index": 1000, "width": 1}),
            Resource::Entries(Span::new(1000, 1).unwrap()),
        ),
        (
            json!({"bodies": true, "index": 1_000_000, "width": 255}),
            Resource::Bodies(Span::new(1_000_000, 255).unwrap()),
        ),
    ]
    .into_iter()
    .map(|(what, resource)| json!({"names": what, "path": resource.to_string()}))
    .collect();
    let bad = [
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000/",
        "tile/0/../000",
        "/tile/0/000",
    ];
    for path in bad {
        assert_eq!(Resource::parse(path), None, "{path}");
    }
    json!({"good": good, "bad": bad})
}

fn keys() -> Value {
    let log = log_key();
    let witnesses: Vec<Value> = (1..=3)
        .map(|number| {
            let witness = witness(number);
            json!({"name": witness.name(), "skey": witness.to_skey().trim_end(), "vkey": witness.verifier().to_vkey()})
        })
        .collect();
    json!({
        "log": {"name": ORIGIN, "skey": log.to_skey().trim_end(), "vkey": log.verifier().to_vkey()},
        "witnesses": witnesses,
    })
}

fn proofs() -> Value {
    let tiles = tiles_of(1000);
    let at = |size: u64| TreeView::new(&tiles, size).root().unwrap();
    let (mut inclusion, mut consistency) = (Vec::new(), Vec::new());
    for size in SIZES {
        let view = TreeView::new(&tiles, size);
        let mut indices = vec![0, 1, size / 3, size / 2, size.saturating_sub(2), size - 1];
        indices.retain(|index| *index < size);
        indices.sort_unstable();
        indices.dedup();
        for index in indices {
            let proof = view.inclusion(index).unwrap();
            verify_inclusion(&leaf(index), index, size, &proof, &at(size)).unwrap();
            inclusion.push(json!({
                "index": index, "size": size, "leaf_hash": leaf(index).to_hex(),
                "root": at(size).to_hex(), "proof": hex(&proof), "holds": true,
            }));
        }
        for old in SIZES.into_iter().filter(|old| *old <= size) {
            let proof = view.consistency(old).unwrap();
            verify_consistency((old, &at(old)), (size, &at(size)), &proof).unwrap();
            consistency.push(json!({
                "old_size": old, "old_root": at(old).to_hex(), "size": size,
                "root": at(size).to_hex(), "proof": hex(&proof), "holds": true,
            }));
        }
    }
    let good = TreeView::new(&tiles, 300).inclusion(255).unwrap();
    let mut broken = |why: &str, index: u64, size: u64, proof: &[Digest], root: Digest| {
        assert!(
            verify_inclusion(&leaf(255), index, size, proof, &root).is_err(),
            "{why}"
        );
        inclusion.push(json!({
            "index": index, "size": size, "leaf_hash": leaf(255).to_hex(), "root": root.to_hex(),
            "proof": hex(proof), "holds": false, "why": why,
        }));
    };
    let changed = |proof: &[Digest]| {
        let mut proof = proof.to_vec();
        *proof.last_mut().unwrap() = leaf(0);
        proof
    };
    broken("another index", 254, 300, &good, at(300));
    broken("last hash changed", 255, 300, &changed(&good), at(300));
    broken("no hashes", 255, 300, &[], at(300));
    broken("tree of one", 0, 1, &[], at(300));
    broken("empty tree", 0, 0, &[], at(300));
    broken("another root", 255, 300, &good, at(299));
    broken("another size", 255, 256, &good, at(256));
    broken("index outside", 300, 300, &good, at(300));
    broken("too short", 255, 300, &good[1..], at(300));
    broken(
        "too long",
        255,
        300,
        &[good.clone(), vec![leaf(0)]].concat(),
        at(300),
    );
    broken(
        "order reversed",
        255,
        300,
        &good.iter().rev().copied().collect::<Vec<_>>(),
        at(300),
    );
    let good = TreeView::new(&tiles, 300).consistency(257).unwrap();
    let mut broken = |why: &str, old: u64, size: u64, proof: &[Digest], root: Digest| {
        assert!(
            verify_consistency((old, &at(old)), (size, &root), proof).is_err(),
            "{why}"
        );
        consistency.push(json!({
            "old_size": old, "old_root": at(old).to_hex(), "size": size, "root": root.to_hex(),
            "proof": hex(proof), "holds": false, "why": why,
        }));
    };
    broken("another root", 257, 300, &good, at(299));
    broken("another old size", 256, 300, &good, at(300));
    broken("shrinks", 300, 257, &good, at(257));
    broken("last hash changed", 257, 300, &changed(&good), at(300));
    broken("no hashes", 257, 300, &[], at(300));
    broken(
        "too long",
        257,
        300,
        &[good.clone(), vec![leaf(0)]].concat(),
        at(300),
    );
    broken("hashes for the same size", 300, 300, &good, at(300));
    broken("too short", 257, 300, &good[1..], at(300));
    broken("same size, another root", 300, 300, &[], at(299));
    json!({"entry": "entry <n>", "inclusion": inclusion, "consistency": consistency})
}

/// A log of 300 entries as static files; body 7 was erased.
fn static_log(files: &mut Files) {
    let (mut edge, size) = (Edge::empty(), 300);
    for tile in edge.append(&(0..size).map(leaf).collect::<Vec<_>>()) {
        files.insert(format!("log/{}", tile.id), tile.to_bytes());
    }
    for span in [Span::full(0), Span::new(1, 44).unwrap()] {
        let first = span.index() * 256;
        let numbers = first..first + u64::from(span.width());
        let entries: Vec<_> = numbers.clone().map(entry).collect();
        let body = |n| (n != 7).then(|| format!("body of {n}").into_bytes());
        let bodies: Vec<_> = numbers.map(body).collect();
        files.insert(
            format!("log/{}", Resource::Entries(span)),
            encode_entries(&entries).unwrap(),
        );
        files.insert(
            format!("log/{}", Resource::Bodies(span)),
            encode_bodies(&bodies).unwrap(),
        );
    }
    files.insert("log/checkpoint".to_owned(), signed(size).to_bytes());
}

fn signed(size: u64) -> SignedCheckpoint {
    let root = root(&(0..size).map(leaf).collect::<Vec<_>>());
    Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root,
    }
    .sign(&log_key())
    .unwrap()
}

fn cosigned(size: u64, witnesses: &[u8]) -> SignedCheckpoint {
    let mut checkpoint = signed(size);
    for number in witnesses {
        let line = witness(*number).cosign(&checkpoint, TIME_S + u64::from(*number));
        checkpoint.note_mut().add(line);
    }
    checkpoint
}

/// Requests to a witness that is at 257 of the vectors' log, with the status each gets.
fn witnessing() -> Value {
    let tiles = tiles_of(1000);
    let latest = Witnessed {
        time_s: TIME_S,
        checkpoint: signed(257),
    };
    let request = |old: u64, size: u64| AddCheckpoint {
        old_size: old,
        proof: TreeView::new(&tiles, size)
            .consistency(old.min(size))
            .unwrap(),
        checkpoint: signed(size),
    };
    let stranger = NoteSigner::from_seed("stranger.example", &[66; 32]).unwrap();
    let stranger = Checkpoint {
        origin: stranger.name().to_owned(),
        ..signed(300).checkpoint().clone()
    }
    .sign(&stranger)
    .unwrap();
    let forged = {
        let text = signed(300)
            .note()
            .to_string()
            .replacen("\n300\n", "\n301\n", 1);
        SignedCheckpoint::parse(text.as_bytes()).unwrap()
    };
    let fork = Checkpoint {
        root: leaf(0),
        ..signed(257).checkpoint().clone()
    }
    .sign(&log_key())
    .unwrap();
    let mut wrong_proof = request(257, 300);
    wrong_proof.proof[0] = leaf(0);
    let cases = [
        ("extends", request(257, 300), 200),
        ("the same again", request(257, 257), 200),
        ("from another size", request(256, 300), 409),
        ("from nothing", request(0, 300), 409),
        (
            "a fork at the same size",
            AddCheckpoint {
                checkpoint: fork,
                ..request(257, 257)
            },
            409,
        ),
        ("a wrong proof", wrong_proof, 422),
        ("backwards", request(257, 256), 400),
        (
            "unknown log",
            AddCheckpoint {
                checkpoint: stranger,
                ..request(257, 300)
            },
            404,
        ),
        (
            "forged",
            AddCheckpoint {
                checkpoint: forged,
                ..request(257, 300)
            },
            403,
        ),
    ];
    let cases: Vec<Value> = cases
        .into_iter()
        .map(|(what, request, status)| {
            let decided = decide(&[log_key().verifier()], Some(&latest), &request, TIME_S);
            assert_eq!(
                decided.map_or_else(|refusal| refusal.status(), |_| 200),
                status,
                "{what}"
            );
            assert_eq!(AddCheckpoint::parse(&request.to_bytes()).unwrap(), request);
            let body = String::from_utf8(request.to_bytes()).unwrap();
            json!({"what": what, "body": body, "status": status})
        })
        .collect();
    json!({"latest_size": 257, "requests": cases})
}

/// Everything that follows from fixed keys.
fn fixed() -> Files {
    let mut files = Files::from([
        ("paths.json".to_owned(), pretty(&paths())),
        ("keys.json".to_owned(), pretty(&keys())),
        ("proofs.json".to_owned(), pretty(&proofs())),
        ("witness.json".to_owned(), pretty(&witnessing())),
    ]);
    static_log(&mut files);
    notes::checkpoints(&mut files);
    notes::policies(&mut files);
    notes::proof_files(&mut files);
    files
}

/// Every file below the folder.
fn found() -> Files {
    let mut files = Files::new();
    let mut pending = vec![folder()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path
                    .strip_prefix(folder())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_vectors_are_what_the_code_makes() {
    let mut found = found();
    assert!(found.remove("README.md").is_some());
    let index = found.remove("verify.json").unwrap();
    assert!(index == verdicts::index(&found), "verify.json differs");
    let random: Vec<String> = found
        .keys()
        .filter(|name| name.starts_with("verify/"))
        .cloned()
        .collect();
    for name in &random {
        found.remove(name);
    }
    assert_eq!(random, verdicts::verdicts().into_keys().collect::<Vec<_>>());
    let expected = fixed();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{name} differs");
    }
}

/// The static log, read as a stranger would.
#[test]
fn the_static_log_holds() {
    let files = found();
    let keys: Value = serde_json::from_slice(&files["keys.json"]).unwrap();
    let vkey = NoteVerifier::from_vkey(keys["log"]["vkey"].as_str().unwrap()).unwrap();
    let signed = SignedCheckpoint::open(&files["log/checkpoint"], &vkey).unwrap();
    let mut leaves = Vec::new();
    let (mut erased, mut present) = (0, 0);
    for (number, width) in [(0, 256), (1, 44)] {
        let span = Span::new(number, width).unwrap();
        let entries =
            decode_entries(&files[&format!("log/{}", Resource::Entries(span))], width).unwrap();
        leaves.extend(entries.into_iter().map(leaf_hash));
        let bodies = &files[&format!("log/{}", Resource::Bodies(span))];
        for body in decode_bodies(bodies, width).unwrap() {
            *(if body.is_some() {
                &mut present
            } else {
                &mut erased
            }) += 1;
        }
    }
    assert_eq!(root(&leaves), signed.checkpoint().root);
    assert_eq!((present, erased), (299, 1));
    for witness in keys["witnesses"].as_array().unwrap() {
        WitnessVerifier::from_vkey(witness["vkey"].as_str().unwrap()).unwrap();
    }
}

#[test]
#[ignore = "writes vectors/tlog anew, after a deliberate change"]
fn regenerate() {
    let readme = fs::read(folder().join("README.md")).unwrap();
    let mut files = fixed();
    files.extend(verdicts::verdicts());
    files.insert("verify.json".to_owned(), verdicts::index(&files));
    files.insert("README.md".to_owned(), readme);
    fs::remove_dir_all(folder()).unwrap();
    for (name, bytes) in files {
        let path = folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
