//! What `tlog` reads: notes, keys, checkpoints, paths, tiles, bundles, proofs, requests.

use std::sync::LazyLock;

use record::Digest;
use tlog::bundle::{decode_bodies, decode_entries, encode_bodies, encode_entries};
use tlog::checkpoint::SignedCheckpoint;
use tlog::cosignature::{WitnessSigner, WitnessVerifier};
use tlog::note::{Note, NoteSigner, NoteVerifier, SignatureLine, VerifierKey};
use tlog::proof::{verify_consistency, verify_inclusion};
use tlog::tile::{Resource, Span, Tile, TileId, WIDTH};
use tlog::tlog_proof::TlogProof;
use tlog::witness::{AddCheckpoint, Witnessed, decide, parse_cosignatures};

use crate::Target;
use crate::vectors::{self, file, files, genuine_checkpoints, strings};

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "note",
        run: read_note,
        seeds: || [files(".txt"), files("checkpoint")].concat(),
    },
    Target {
        name: "vkey",
        run: read_vkey,
        seeds: || {
            [
                strings("tlog/keys.json", "vkey"),
                strings("tlog/keys.json", "skey"),
            ]
            .concat()
        },
    },
    Target {
        name: "checkpoint",
        run: read_checkpoint,
        seeds: || [files(".txt"), files("checkpoint")].concat(),
    },
    Target {
        name: "tile-path",
        run: read_path,
        seeds: || {
            [
                strings("tlog/paths.json", "path"),
                strings("tlog/paths.json", "bad"),
            ]
            .concat()
        },
    },
    Target {
        name: "tile",
        run: read_tile,
        seeds: || {
            let (full, partial) = (
                file("tlog/log/tile/0/000"),
                file("tlog/log/tile/0/001.p/44"),
            );
            vec![behind(255, &full), behind(43, &partial)]
        },
    },
    Target {
        name: "entry-bundle",
        run: read_entries,
        seeds: || {
            let partial = file("tlog/log/tile/entries/001.p/44");
            vec![behind(43, &partial), behind(0, b"\0\x01a")]
        },
    },
    Target {
        name: "body-bundle",
        run: read_bodies,
        seeds: || {
            let partial = file("tlog/log/bodies/001.p/44");
            vec![behind(43, &partial), behind(1, b"\0\0\0\x01a\0\0\0\0")]
        },
    },
    Target {
        name: "tlog-proof",
        run: read_proof,
        seeds: || files(".tlog-proof"),
    },
    Target {
        name: "witness-request",
        run: read_request,
        seeds: || strings("tlog/witness.json", "body"),
    },
    Target {
        name: "cosignature",
        run: read_cosignatures,
        seeds: || {
            let cosigned = file("tlog/checkpoints/cosigned.txt");
            let text = String::from_utf8_lossy(&cosigned).into_owned();
            let lines = text.split_once("\n\n").expect("a note").1.to_owned();
            vec![cosigned, lines.into_bytes()]
        },
    },
    Target {
        name: "merkle-proof",
        run: check_proof,
        seeds: merkle_seeds,
    },
];

/// A seed whose first byte is the width, less one.
fn behind(width: u8, bytes: &[u8]) -> Vec<u8> {
    [&[width], bytes].concat()
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

static LOG: LazyLock<NoteVerifier> = LazyLock::new(|| {
    let keys = strings("tlog/keys.json", "log");
    let mut vkeys = keys.iter().filter_map(|key| utf8(key));
    vkeys
        .find_map(|key| NoteVerifier::from_vkey(key).ok())
        .expect("the vectors have a log")
});

static WITNESSES: LazyLock<Vec<WitnessVerifier>> = LazyLock::new(|| {
    let keys = strings("tlog/keys.json", "witnesses");
    let found: Vec<_> = keys
        .iter()
        .filter_map(|key| WitnessVerifier::from_vkey(utf8(key)?).ok())
        .collect();
    assert!(!found.is_empty(), "the vectors have witnesses");
    found
});

fn read_note(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        let written = note.to_string();
        assert_eq!(written.as_bytes(), bytes, "one spelling only");
        let _ = note.is_signed_by(&LOG);
    }
}

fn read_vkey(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(key) = NoteVerifier::from_vkey(text) {
        assert_eq!(NoteVerifier::from_vkey(&key.to_vkey()), Ok(key));
    }
    if let Ok(key) = WitnessVerifier::from_vkey(text) {
        assert_eq!(WitnessVerifier::from_vkey(&key.to_vkey()), Ok(key));
    }
    if let Ok(key) = NoteSigner::from_skey(text) {
        let again = NoteSigner::from_skey(&key.to_skey()).expect("it was written");
        assert_eq!(again.verifier(), key.verifier());
    }
    if let Ok(key) = WitnessSigner::from_skey(text) {
        let again = WitnessSigner::from_skey(&key.to_skey()).expect("it was written");
        assert_eq!(again.verifier(), key.verifier());
    }
}

fn assert_genuine(checkpoint: &SignedCheckpoint) {
    let text = checkpoint.checkpoint().to_text();
    assert!(
        genuine_checkpoints().contains(&text),
        "a forged checkpoint: {text}"
    );
}

fn read_checkpoint(bytes: &[u8]) {
    let Ok(checkpoint) = SignedCheckpoint::parse(bytes) else {
        return;
    };
    assert_eq!(checkpoint.to_bytes(), bytes, "one spelling only");
    if checkpoint.verify(&LOG).is_ok() {
        assert_genuine(&checkpoint);
    }
    for witness in WITNESSES.iter() {
        if let Ok(Some(_)) = witness.find(&checkpoint) {
            assert_genuine(&checkpoint);
        }
    }
}

fn read_path(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    if let Some(resource) = Resource::parse(text) {
        assert_eq!(resource.to_string(), text, "one spelling only");
    }
    if let Some(span) = Span::parse(text) {
        assert_eq!(span.to_string(), text, "one spelling only");
    }
}

/// The width that the first byte says, 1 to 256, and the rest.
fn with_width(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (width, rest) = bytes.split_first()?;
    Some((u16::from(*width) + 1, rest))
}

fn read_tile(bytes: &[u8]) {
    let Some((width, bytes)) = with_width(bytes) else {
        return;
    };
    let span = Span::new(7, width).expect("1 to 256");
    let id = TileId { level: 0, span };
    match Tile::from_bytes(id, bytes) {
        Ok(tile) => assert_eq!(tile.to_bytes(), bytes),
        Err(_) => assert_ne!(bytes.len(), 32 * usize::from(width)),
    }
}

fn read_entries(bytes: &[u8]) {
    let Some((width, bytes)) = with_width(bytes) else {
        return;
    };
    if let Ok(entries) = decode_entries(bytes, width) {
        assert_eq!(entries.len(), usize::from(width));
        assert_eq!(encode_entries(&entries).as_deref(), Ok(bytes));
    }
}

fn read_bodies(bytes: &[u8]) {
    let Some((width, bytes)) = with_width(bytes) else {
        return;
    };
    if let Ok(bodies) = decode_bodies(bytes, width) {
        assert_eq!(bodies.len(), usize::from(width));
        assert_eq!(encode_bodies(&bodies).as_deref(), Ok(bytes));
    }
}

fn read_proof(bytes: &[u8]) {
    if let Ok(proof) = TlogProof::parse(bytes) {
        assert_eq!(proof.to_bytes(), bytes, "one spelling only");
    }
}

/// What a witness that knows nothing, and one that knows the log at some size, make of a request:
/// they take only what the log signed and what extends what they know.
fn read_request(bytes: &[u8]) {
    if let Some(known) = Witnessed::parse(bytes) {
        assert_eq!(known.to_bytes(), bytes, "one spelling only");
    }
    let Ok(request) = AddCheckpoint::parse(bytes) else {
        return;
    };
    assert_eq!(request.to_bytes(), bytes, "one spelling only");
    let latest = Witnessed {
        time_s: 1_700_000_000,
        checkpoint: request.checkpoint.clone(),
    };
    for known in [None, Some(&latest)] {
        if let Ok(taken) = decide(std::slice::from_ref(&*LOG), known, &request, 5) {
            assert_genuine(&taken.checkpoint);
            assert!(taken.time_s >= known.map_or(5, |known| known.time_s));
        }
    }
}

fn read_cosignatures(bytes: &[u8]) {
    if let Ok(lines) = parse_cosignatures(bytes) {
        let written: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(written.as_bytes(), bytes, "one spelling only");
    }
    if let Some(Ok(line)) = utf8(bytes).map(SignatureLine::parse) {
        assert_eq!(SignatureLine::parse(&line.to_string()), Ok(line));
    }
}

/// Index or old size, size, then hashes: leaf or old root, root, path. A proof that holds does not
/// hold for anything else.
fn check_proof(bytes: &[u8]) {
    let (numbers, hashes) = bytes.split_at(bytes.len().min(16));
    let Some((first, size)) = numbers.split_first_chunk::<8>() else {
        return;
    };
    let Ok(size) = <[u8; 8]>::try_from(size) else {
        return;
    };
    let (first, size) = (u64::from_be_bytes(*first), u64::from_be_bytes(size));
    let hashes: Vec<Digest> = hashes
        .chunks_exact(32)
        .filter_map(|hash| Digest::from_slice(hash).ok())
        .collect();
    let [a, b, path @ ..] = hashes.as_slice() else {
        return;
    };
    if verify_inclusion(a, first, size, path, b).is_ok() {
        assert!(first < size, "an index beyond the tree");
        let changed = record::sha256(a.as_bytes());
        assert!(verify_inclusion(&changed, first, size, path, b).is_err());
        assert!(verify_inclusion(a, first, size, path, &changed).is_err());
        let longer = [path, &[changed]].concat();
        assert!(verify_inclusion(a, first, size, &longer, b).is_err());
    }
    if verify_consistency((first, a), (size, b), path).is_ok() {
        assert!(first <= size, "a tree that shrank");
        let changed = record::sha256(b.as_bytes());
        assert!(verify_consistency((first, a), (size, &changed), path).is_err());
        if first > 0 {
            assert!(verify_consistency((first, &changed), (size, b), path).is_err());
        }
    }
}

fn merkle_seeds() -> Vec<Vec<u8>> {
    let proofs: serde_json::Value =
        serde_json::from_slice(&file("tlog/proofs.json")).expect("a vector is JSON");
    let hash = |value: &serde_json::Value| {
        let digest: Digest = value
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a digest in hex");
        digest.as_bytes().to_vec()
    };
    let number = |value: &serde_json::Value| value.as_u64().expect("a number").to_be_bytes();
    let seed = |case: &serde_json::Value, names: [&str; 4]| {
        let [first, size, a, b] = names.map(|name| &case[name]);
        let path = case["proof"].as_array().expect("a path");
        let numbers = [number(first), number(size)].concat();
        let hashes = [a, b].into_iter().chain(path).flat_map(hash);
        numbers.into_iter().chain(hashes).collect::<Vec<u8>>()
    };
    let cases = proofs["inclusion"].as_array().expect("cases");
    assert!(
        cases.len() > 3 && WIDTH == 256,
        "{}",
        vectors::folder().display()
    );
    cases
        .iter()
        .take(60)
        .map(|case| seed(case, ["index", "size", "leaf_hash", "root"]))
        .collect()
}
