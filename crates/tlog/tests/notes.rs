//! Notes, checkpoints and cosignatures: vectors by others, and every rule of the formats.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

use ring::rand::SystemRandom;
use tlog::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use tlog::cosignature::{WitnessSigner, WitnessVerifier};
use tlog::merkle::{empty_root, leaf_hash};
use tlog::note::{
    Note, NoteError, NoteSigner, NoteVerifier, SIGNATURES_MAX, SignatureLine, VerifierKey,
};

/// The key and note in the documentation of Go's golang.org/x/mod/sumdb/note.
const GO_SKEY: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                       then you don't know what your problem is.\n";
const GO_SIGNATURE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";

fn signer(name: &str, seed: u8) -> NoteSigner {
    NoteSigner::from_seed(name, &[seed; 32]).unwrap()
}

#[test]
fn notes_are_those_of_go() {
    let signer = NoteSigner::from_skey(GO_SKEY).unwrap();
    assert_eq!(signer.verifier().to_vkey(), GO_VKEY);
    assert_eq!(signer.to_skey().trim_end(), GO_SKEY);
    let mut note = Note::new(GO_TEXT).unwrap();
    signer.sign(&mut note);
    let expected = format!("{GO_TEXT}\n{GO_SIGNATURE}\n");
    assert_eq!(note.to_string(), expected);
    let parsed = Note::parse(expected.as_bytes()).unwrap();
    assert_eq!(parsed, note);
    let known = [NoteVerifier::from_vkey(GO_VKEY).unwrap()];
    assert_eq!(parsed.verify(&known).unwrap(), [&known[0]]);
}

#[test]
fn text_may_have_blank_lines_and_the_last_one_separates() {
    let signer = signer("quasimodo.example", 1);
    let mut note = Note::new("Ognuno sta solo\n\n\nè subito sera.\n").unwrap();
    signer.sign(&mut note);
    let parsed = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(parsed.text(), "Ognuno sta solo\n\n\nè subito sera.\n");
    assert!(parsed.is_signed_by(&signer.verifier()).unwrap());
}

#[test]
fn unknown_keys_are_ignored_and_known_bad_ones_are_not() {
    let (ours, other) = (signer("a.example", 1), signer("b.example", 2));
    let mut note = Note::new("text\n").unwrap();
    other.sign(&mut note);
    assert_eq!(
        note.verify(&[ours.verifier()]).unwrap_err(),
        NoteError::Unsigned
    );
    ours.sign(&mut note);
    assert_eq!(note.verify(&[ours.verifier()]).unwrap().len(), 1);

    // A name we know with an id we do not, and an id we know under another name.
    let line = note.signatures()[1].clone();
    let mut strangers = Note::new("text\n").unwrap();
    strangers.add(SignatureLine {
        name: "b.example".to_owned(),
        ..line.clone()
    });
    let mut id = line.key;
    id.0[0] ^= 1;
    strangers.add(SignatureLine {
        key: id,
        ..line.clone()
    });
    assert_eq!(
        strangers.verify(&[ours.verifier()]).unwrap_err(),
        NoteError::Unsigned
    );

    // A signature that claims to be ours and is not condemns the note, even beside a good one.
    for place in 0..line.signature.len() {
        let mut bad = line.clone();
        bad.signature[place] ^= 1;
        let mut forged = note.clone();
        forged.add(bad);
        assert_eq!(
            forged.verify(&[ours.verifier()]).unwrap_err(),
            NoteError::BadSignature("a.example".to_owned())
        );
    }
    for signature in [vec![1], vec![0; 63], vec![0; 65]] {
        let mut forged = Note::new("text\n").unwrap();
        forged.add(SignatureLine {
            signature,
            ..line.clone()
        });
        assert!(matches!(
            forged.verify(&[ours.verifier()]),
            Err(NoteError::BadSignature(_))
        ));
    }
    let mut changed = Note::new("test\n").unwrap();
    changed.add(line);
    assert!(matches!(
        changed.verify(&[ours.verifier()]),
        Err(NoteError::BadSignature(_))
    ));
}

#[test]
fn sixteen_signatures_are_fine_and_endless_ones_are_not() {
    let mut note = Note::new("text\n").unwrap();
    for seed in 1..=16 {
        signer(&format!("log.example/{seed}"), seed).sign(&mut note);
    }
    let parsed = Note::parse(note.to_string().as_bytes()).unwrap();
    let last = signer("log.example/16", 16).verifier();
    assert!(parsed.is_signed_by(&last).unwrap());
    for number in 0..SIGNATURES_MAX {
        signer(&format!("x{number}"), 99).sign(&mut note);
    }
    assert_eq!(
        Note::parse(note.to_string().as_bytes()),
        Err(NoteError::Malformed("too many signatures"))
    );
    let huge = format!(
        "{}\n\n— a AAAAAAA=\n",
        "x".repeat(tlog::note::NOTE_BYTES_MAX)
    );
    assert!(matches!(
        Note::parse(huge.as_bytes()),
        Err(NoteError::TooLarge(_))
    ));
}

#[test]
fn every_rule_of_the_note_format_is_kept() {
    let good = format!("{GO_TEXT}\n{GO_SIGNATURE}\n");
    Note::parse(good.as_bytes()).unwrap();
    let sig = GO_SIGNATURE;
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no signatures", format!("{GO_TEXT}\n").into_bytes()),
        ("no blank line", format!("{GO_TEXT}{sig}\n").into_bytes()),
        (
            "no newline at the end",
            format!("{GO_TEXT}\n{sig}").into_bytes(),
        ),
        ("a blank line at the end", format!("{good}\n").into_bytes()),
        (
            "text without newline",
            format!("\n\n{sig}\n")
                .replacen("\n\n", "x\n", 1)
                .into_bytes(),
        ),
        ("carriage returns", good.replace('\n', "\r\n").into_bytes()),
        ("tab in the text", good.replacen(' ', "\t", 1).into_bytes()),
        ("zero byte", good.replacen(' ', "\0", 1).into_bytes()),
        (
            "not UTF-8",
            [b"\xff\xfe".as_slice(), good.as_bytes()].concat(),
        ),
        (
            "hyphen instead of dash",
            good.replace('—', "-").into_bytes(),
        ),
        (
            "two spaces",
            good.replace("— Peter", "—  Peter").into_bytes(),
        ),
        (
            "no name",
            good.replace("— PeterNeumann ", "— ").into_bytes(),
        ),
        (
            "plus in the name",
            good.replace("— PeterNeumann", "— Peter+Neumann")
                .into_bytes(),
        ),
        (
            "no-break space in the name",
            good.replace("— PeterNeumann", "— Peter\u{a0}Neumann")
                .into_bytes(),
        ),
        ("not base64", good.replace("x08go", "x08g!").into_bytes()),
        ("no padding", good.replace("nAM=\n", "nAM\n").into_bytes()),
        (
            "base64 with loose bits",
            good.replace("nAM=\n", "nAN=\n").into_bytes(),
        ),
        (
            "key id alone",
            format!("{GO_TEXT}\n— PeterNeumann x08gow==\n").into_bytes(),
        ),
        (
            "something after the signatures",
            format!("{good}more\n").into_bytes(),
        ),
    ];
    for (what, bytes) in bad {
        assert!(Note::parse(&bytes).is_err(), "{what}");
    }
    assert!(Note::new("no newline").is_err());
    assert!(Note::new("bell\u{7}\n").is_err());
}

#[test]
fn keys_are_read_strictly() {
    let weak = VerifierKey {
        name: "a".to_owned(),
        key_type: 1,
        public: vec![0; 32],
    };
    for (what, text) in [
        ("weak point", weak.to_string()),
        ("other id", GO_VKEY.replace("c74f20a3", "c74f20a4")),
        ("upper-case id", GO_VKEY.replace("c74f20a3", "C74F20A3")),
        ("no id", "PeterNeumann".to_owned()),
        ("no name", GO_VKEY.replace("PeterNeumann", "")),
        (
            "space in the name",
            GO_VKEY.replace("PeterNeumann", "Peter Neumann"),
        ),
        ("not base64", GO_VKEY.replace("ARpc", "ARp!")),
        ("no key", "a+00000000+".to_owned()),
        (
            "too short",
            VerifierKey {
                name: "a".to_owned(),
                key_type: 1,
                public: vec![1; 31],
            }
            .to_string(),
        ),
        (
            "other type",
            VerifierKey {
                name: "a".to_owned(),
                key_type: 4,
                public: vec![1; 32],
            }
            .to_string(),
        ),
    ] {
        assert!(NoteVerifier::from_vkey(&text).is_err(), "{what}");
    }
    for text in [
        "",
        "PRIVATE+KEY+",
        "PRIVATE+KEY+a+b",
        &GO_SKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY,
    ] {
        let error = NoteSigner::from_skey(text).unwrap_err().to_string();
        assert!(
            !error.contains("AYEKF"),
            "the key is in the message: {error}"
        );
    }
    for name in ["", "with space", "with+plus", "with\ttab", "with\u{2003}em"] {
        assert!(NoteSigner::from_seed(name, &[1; 32]).is_err(), "{name:?}");
    }
    let fresh = NoteSigner::generate("log.example", &SystemRandom::new()).unwrap();
    assert_eq!(
        NoteSigner::from_skey(&fresh.to_skey()).unwrap().verifier(),
        NoteVerifier::from_vkey(&fresh.verifier().to_vkey()).unwrap()
    );
    assert!(!format!("{fresh:?}").contains("key"), "{fresh:?}");
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "log.example".to_owned(),
        size: 7,
        root: leaf_hash(b"x"),
    }
}

#[test]
fn checkpoints_are_signed_under_their_own_name() {
    let log = signer("log.example", 1);
    let signed = checkpoint().sign(&log).unwrap();
    let opened = SignedCheckpoint::open(&signed.to_bytes(), &log.verifier()).unwrap();
    assert_eq!(opened.checkpoint(), &checkpoint());
    let other = signer("other.example", 1);
    assert!(matches!(
        checkpoint().sign(&other),
        Err(CheckpointError::OtherOrigin { .. })
    ));
    assert!(matches!(
        opened.verify(&other.verifier()),
        Err(CheckpointError::OtherOrigin { .. })
    ));
    assert!(opened.verify(&signer("log.example", 2).verifier()).is_err());
}

#[test]
fn every_rule_of_the_checkpoint_format_is_kept() {
    let good = checkpoint().to_text();
    assert_eq!(Checkpoint::parse_text(&good).unwrap(), checkpoint());
    let root = good.lines().nth(2).unwrap().to_owned();
    let empty = Checkpoint {
        size: 0,
        root: empty_root(),
        ..checkpoint()
    };
    assert_eq!(Checkpoint::parse_text(&empty.to_text()).unwrap(), empty);
    for (what, text) in [
        ("empty", String::new()),
        ("no newline", good.trim_end().to_owned()),
        ("two lines", "log.example\n7\n".to_owned()),
        ("extension lines", format!("{good}extra\n")),
        ("an empty extension line", format!("{good}\n")),
        ("no origin", format!("\n7\n{root}\n")),
        ("leading zero", format!("log.example\n07\n{root}\n")),
        ("sign", format!("log.example\n+7\n{root}\n")),
        ("space", format!("log.example\n7 \n{root}\n")),
        ("hex", format!("log.example\n0x7\n{root}\n")),
        (
            "above 2^63",
            format!("log.example\n9223372036854775808\n{root}\n"),
        ),
        (
            "above 2^64",
            format!("log.example\n18446744073709551616\n{root}\n"),
        ),
        ("short root", format!("log.example\n7\n{}\n", &root[..40])),
        (
            "root in URL alphabet",
            format!("log.example\n7\n{}\n", root.replace(['+', '/'], "-")),
        ),
        (
            "an empty tree with a root",
            format!("log.example\n0\n{root}\n"),
        ),
    ] {
        assert!(Checkpoint::parse_text(&text).is_err(), "{what}");
    }
    let largest = Checkpoint {
        size: i64::MAX as u64,
        ..checkpoint()
    };
    assert_eq!(Checkpoint::parse_text(&largest.to_text()).unwrap(), largest);
}

#[test]
fn cosignatures_bind_time_and_checkpoint() {
    let signed = checkpoint().sign(&signer("log.example", 1)).unwrap();
    let witness = WitnessSigner::from_seed("witness.example/w1", &[9; 32]).unwrap();
    let verifier = witness.verifier();
    assert_eq!(verifier.find(&signed).unwrap(), None);

    let line = witness.cosign(&signed, 1_700_000_000);
    assert_eq!(line.signature.len(), 72);
    let mut cosigned = signed.clone();
    cosigned.note_mut().add(line.clone());
    let parsed = SignedCheckpoint::parse(&cosigned.to_bytes()).unwrap();
    assert_eq!(
        verifier.find(&parsed).unwrap().unwrap().time_s,
        1_700_000_000
    );
    // The log's own signature still stands beside it.
    parsed.verify(&signer("log.example", 1).verifier()).unwrap();

    // The latest of several counts.
    cosigned
        .note_mut()
        .add(witness.cosign(&signed, 1_600_000_000));
    cosigned
        .note_mut()
        .add(witness.cosign(&signed, 1_800_000_000));
    assert_eq!(
        verifier.find(&cosigned).unwrap().unwrap().time_s,
        1_800_000_000
    );

    // Another time, another checkpoint, a changed signature: refused, not ignored.
    for place in 0..72 {
        let mut bad = line.clone();
        bad.signature[place] ^= 0x40;
        let mut forged = signed.clone();
        forged.note_mut().add(bad);
        assert!(verifier.find(&forged).is_err(), "byte {place}");
    }
    let later = Checkpoint {
        size: 8,
        ..checkpoint()
    };
    let mut moved = later.sign(&signer("log.example", 1)).unwrap();
    moved.note_mut().add(line.clone());
    assert!(verifier.find(&moved).is_err());
    // An ordinary note signature by the same key is another key id, and is ignored.
    let log_like = signer("witness.example/w1", 9);
    let mut note_signed = signed.clone();
    log_like.sign(note_signed.note_mut());
    assert_eq!(verifier.find(&note_signed).unwrap(), None);
}

#[test]
fn witness_keys_have_their_own_type() {
    let witness = WitnessSigner::generate("witness.example", &SystemRandom::new()).unwrap();
    let vkey = witness.verifier().to_vkey();
    assert_eq!(
        WitnessVerifier::from_vkey(&vkey).unwrap(),
        witness.verifier()
    );
    assert!(NoteVerifier::from_vkey(&vkey).is_err());
    assert!(WitnessVerifier::from_vkey(GO_VKEY).is_err());
    let again = WitnessSigner::from_skey(&witness.to_skey()).unwrap();
    assert_eq!(again.verifier(), witness.verifier());
    assert!(NoteSigner::from_skey(&witness.to_skey()).is_err());
    assert!(WitnessSigner::from_skey(GO_SKEY).is_err());
}

/// The example cosigned checkpoint in the tlog-cosignature specification: its lines parse, and its
/// key ids and time are where the format puts them. (The specification gives no keys for it.)
#[test]
fn the_specifications_example_parses() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    let signed = SignedCheckpoint::parse(text.as_bytes()).unwrap();
    assert_eq!(signed.checkpoint().size, 20_852_163);
    assert_eq!(signed.to_bytes(), text.as_bytes());
    let cosignature = &signed.note().signatures()[1];
    assert_eq!(cosignature.key.to_string(), "8d66cf3f");
    let (time, signature) = cosignature.signature.split_first_chunk::<8>().unwrap();
    assert_eq!(
        (u64::from_be_bytes(*time), signature.len()),
        (1_679_315_147, 64)
    );
}
