//! Decoders over damaged input: never a panic, and what is read writes back to the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

use proptest::prelude::*;
use record::{Bundle, Digest};
use tlog::bundle::{
    BODY_BYTES_MAX, BundleError, decode_bodies, decode_entries, encode_bodies, encode_entries,
};
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::log_policy::LogPolicy;
use tlog::merkle::leaf_hash;
use tlog::note::{Note, NoteSigner, VerifierKey};
use tlog::policy::TrustPolicy;
use tlog::tile::{Resource, Span, Tile, TileId};
use tlog::verify::{FileKind, verify_file};

#[test]
fn bundles_hold_exactly_what_their_names_promise() {
    let entries = [b"one".to_vec(), vec![7; 65_535], b"x".to_vec()];
    let bytes = encode_entries(&entries).unwrap();
    assert_eq!(bytes[..5], [0, 3, b'o', b'n', b'e']);
    assert_eq!(decode_entries(&bytes, 3).unwrap(), entries);
    for width in [1, 2, 4, 256] {
        assert!(decode_entries(&bytes, width).is_err(), "{width}");
    }
    for end in 0..bytes.len().min(20) {
        assert!(decode_entries(&bytes[..end], 3).is_err());
    }
    assert_eq!(
        decode_entries(&[], 1),
        Err(BundleError::Count { expected: 1 })
    );
    assert_eq!(decode_entries(&[0], 1), Err(BundleError::Truncated(0)));
    assert!(matches!(
        decode_entries(&[0, 0], 1),
        Err(BundleError::Length {
            item: 0,
            bytes: 0,
            ..
        })
    ));
    assert!(encode_entries(&[vec![0; 65_536]]).is_err());
    assert!(encode_entries(&[Vec::new()]).is_err());
    assert!(encode_entries::<Vec<u8>>(&[]).is_err());
    assert!(encode_entries(&vec![b"x"; 257]).is_err());
    encode_entries(&vec![b"x"; 256]).unwrap();
}

#[test]
fn an_erased_body_is_a_length_of_zero() {
    let bodies = [Some(b"one".to_vec()), None, Some(vec![7; 70_000])];
    let bytes = encode_bodies(&bodies).unwrap();
    assert_eq!(bytes[..11], [0, 0, 0, 3, b'o', b'n', b'e', 0, 0, 0, 0]);
    let back: Vec<_> = decode_bodies(&bytes, 3)
        .unwrap()
        .into_iter()
        .map(|b| b.map(<[u8]>::to_vec))
        .collect();
    assert_eq!(back, bodies);
    assert!(decode_bodies(&bytes, 2).is_err() && decode_bodies(&bytes, 4).is_err());
    assert!(
        encode_bodies(&[Some(Vec::new())]).is_err(),
        "an empty body would read as erased"
    );
    assert!(encode_bodies(&[Some(vec![0; BODY_BYTES_MAX + 1])]).is_err());
    let too_long = u32::try_from(BODY_BYTES_MAX + 1).unwrap().to_be_bytes();
    assert!(matches!(
        decode_bodies(&too_long, 1),
        Err(BundleError::Length { .. })
    ));
    assert!(decode_bodies(&[0xff; 4], 1).is_err());
}

/// Whole files of every kind, to be damaged.
fn samples() -> Vec<Vec<u8>> {
    let log = NoteSigner::from_seed("log.example", &[1; 32]).unwrap();
    let checkpoint = Checkpoint {
        origin: "log.example".to_owned(),
        size: 3,
        root: leaf_hash(b"x"),
    };
    let vkey = log.verifier().to_vkey();
    vec![
        checkpoint.sign(&log).unwrap().to_bytes(),
        vkey.clone().into_bytes(),
        format!("log {vkey}\nquorum none\n").into_bytes(),
        format!(r#"{{"longrun_policy":1,"log_policy":["log {vkey}","quorum none"],"signers":[]}}"#).into_bytes(),
        encode_entries(&[b"one", b"two"]).unwrap(),
        encode_bodies(&[Some(b"one"), None]).unwrap(),
        b"tile/entries/x001/x234/067.p/8".to_vec(),
        br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{},"dsseEnvelope":{}}"#.to_vec(),
        br#"{"attempts":[{"bundles":{"observation":{"a":1},"receipt":null}}]}"#.to_vec(),
    ]
}

fn read_as_everything(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
    }
    if let Ok(signed) = SignedCheckpoint::parse(bytes) {
        assert_eq!(signed.to_bytes(), bytes);
    }
    for width in [1, 2, 256] {
        if let Ok(entries) = decode_entries(bytes, width) {
            assert_eq!(encode_entries(&entries).unwrap(), bytes);
        }
        if let Ok(bodies) = decode_bodies(bytes, width) {
            assert_eq!(encode_bodies(&bodies).unwrap(), bytes);
        }
        let id = TileId {
            level: 0,
            span: Span::new(0, width).unwrap(),
        };
        if let Ok(tile) = Tile::from_bytes(id, bytes) {
            assert_eq!(tile.to_bytes(), bytes);
        }
    }
    let _ = LogPolicy::parse(bytes);
    let _ = TrustPolicy::parse(bytes);
    let _ = Bundle::from_json(bytes);
    let _ = FileKind::detect(bytes);
    let _ = verify_file(bytes, None);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(key) = text.parse::<VerifierKey>() {
            assert_eq!(key.to_string(), text);
        }
        if let Some(resource) = Resource::parse(text) {
            assert_eq!(resource.to_string(), text);
        }
        let _ = NoteSigner::from_skey(text);
        let _ = Checkpoint::parse_text(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_files_never_panic(
        which in 0usize..9,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let mut bytes = samples().swap_remove(which);
        for (place, byte, what) in changes {
            let at = place.index(bytes.len() + 1);
            match what {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
            read_as_everything(&bytes);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn paths_come_back(level in 0u8..64, index in any::<u64>(), width in 1u16..=256) {
        let span = Span::new(index, width).unwrap();
        for resource in [Resource::Tile(TileId { level, span }), Resource::Entries(span), Resource::Bodies(span)] {
            prop_assert_eq!(Resource::parse(&resource.to_string()), Some(resource));
        }
    }

    #[test]
    fn checkpoints_come_back(origin in "[a-z./0-9]{1,40}", size in 1u64..1 << 63, root in any::<[u8; 32]>()) {
        let checkpoint = Checkpoint { origin, size, root: Digest::from_bytes(root) };
        prop_assert_eq!(&Checkpoint::parse_text(&checkpoint.to_text()).unwrap(), &checkpoint);
    }
}

#[test]
fn every_sample_is_good_before_it_is_damaged() {
    for bytes in samples() {
        read_as_everything(&bytes);
    }
    let [checkpoint, vkey, lines, policy, ..] = &samples()[..] else {
        panic!("samples")
    };
    SignedCheckpoint::parse(checkpoint).unwrap();
    std::str::from_utf8(vkey)
        .unwrap()
        .parse::<VerifierKey>()
        .unwrap();
    LogPolicy::parse(lines).unwrap();
    TrustPolicy::parse(policy).unwrap();
}
