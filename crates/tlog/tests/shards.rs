//! Links between shards: both logs sign, the end is the end, and nothing else is taken for a link.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::cosignature::WitnessSigner;
use tlog::merkle::leaf_hash;
use tlog::note::{Note, NoteSigner};
use tlog::shard::{Link, LinkError};

fn key(number: u8) -> NoteSigner {
    NoteSigner::from_seed(&format!("log.example/{number}"), &[number; 32]).unwrap()
}

fn last(signer: &NoteSigner, size: u64) -> SignedCheckpoint {
    let checkpoint = Checkpoint {
        origin: signer.name().to_owned(),
        size,
        root: leaf_hash(&size.to_be_bytes()),
    };
    let mut signed = checkpoint.sign(signer).unwrap();
    let witness = WitnessSigner::from_seed("witness.example/w", &[77; 32]).unwrap();
    let line = witness.cosign(&signed, 1_700_000_000);
    signed.note_mut().add(line);
    signed
}

#[test]
fn a_link_says_what_both_logs_signed() {
    let (old, new) = (key(1), key(2));
    let end = last(&old, 1234);
    for url in [None, Some("https://log.example/2")] {
        let link = Link::sign(&old, &new, &end, url).unwrap();
        let read = Link::parse(&link.to_bytes()).unwrap();
        assert_eq!(read, link);
        assert_eq!(read.predecessor(), &old.verifier());
        assert_eq!(read.successor(), &new.verifier());
        assert_eq!((read.size(), read.url()), (1234, url));
        assert_eq!(read.last(), &end, "with its cosignatures");
    }
}

#[test]
fn what_two_logs_did_not_sign_is_no_link() {
    let (old, new) = (key(1), key(2));
    let end = last(&old, 9);
    let refused = |link: Result<Link, LinkError>| link.unwrap_err();
    assert_eq!(
        refused(Link::sign(&old, &old, &end, None)),
        LinkError::SameLog
    );
    let renamed = NoteSigner::from_seed("log.example/other", &[1; 32]).unwrap();
    assert_eq!(
        refused(Link::sign(&old, &renamed, &end, None)),
        LinkError::SameLog
    );
    let others = Link::sign(&new, &old, &end, None);
    assert!(matches!(refused(others), LinkError::Final(_)));
    let broken = Link::sign(&old, &new, &end, Some("http://a\nsize 10"));
    assert!(matches!(refused(broken), LinkError::Malformed(_)));

    let good = String::from_utf8(Link::sign(&old, &new, &end, None).unwrap().to_bytes()).unwrap();
    for (from, to) in [
        ("size 9", "size 8"),
        ("\"longrun_shard\": 1", "\"longrun_shard\": 2"),
        ("longrun log shard v1", "longrun log shard v2"),
        ("\\n9\\n", "\\n8\\n"),
        ("\"final\"", "\"finale\""),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(
            Link::parse(good.replacen(from, to, 1).as_bytes()).is_err(),
            "{from}"
        );
    }
    // The last checkpoint of another moment.
    let later = serde_json::to_string(&last(&old, 10).note().to_string()).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&good).unwrap();
    file["final"] = serde_json::from_str(&later).unwrap();
    assert_eq!(
        refused(Link::parse(file.to_string().as_bytes())),
        LinkError::OtherFinal
    );
    // Signed by one of the two.
    let mut file: serde_json::Value = serde_json::from_str(&good).unwrap();
    let note = Note::parse(file["link"].as_str().unwrap().as_bytes()).unwrap();
    let mut alone = Note::new(note.text().to_owned()).unwrap();
    old.sign(&mut alone);
    file["link"] = alone.to_string().into();
    assert_eq!(
        refused(Link::parse(file.to_string().as_bytes())),
        LinkError::Note(tlog::note::NoteError::Unsigned)
    );
}

#[test]
fn a_link_is_no_checkpoint() {
    let (old, new) = (key(1), key(2));
    let link = Link::sign(&old, &new, &last(&old, 9), None).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&link.to_bytes()).unwrap();
    let note = file["link"].as_str().unwrap();
    assert!(SignedCheckpoint::parse(note.as_bytes()).is_err());
}
