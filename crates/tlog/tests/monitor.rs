//! A monitor's judgement: honest growth, two faces, rollbacks, tiles that are wrong or gone.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

mod common;

use common::Tiles;
use record::Digest;
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::cosignature::WitnessSigner;
use tlog::growth::Edge;
use tlog::log_policy::LogPolicy;
use tlog::merkle::leaf_hash;
use tlog::monitor::{
    Evidence, EvidenceError, Followed, Sighting, StateError, Trouble, UNPROVEN_MAX, WitnessMark,
};
use tlog::note::NoteSigner;
use tlog::policy::TrustPolicy;
use tlog::verify::{FileKind, Status, Verdict, verify_file};

const ORIGIN: &str = "log.example/two-faces";

fn key() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, &[9; 32]).unwrap()
}

/// One face of a log: all of its leaves up to `common` are everyone's, those after are its own.
struct Face {
    edge: Edge,
    tiles: Tiles,
    common: u64,
    name: &'static str,
}

impl Face {
    fn new(name: &'static str, common: u64) -> Self {
        Self {
            edge: Edge::empty(),
            tiles: Tiles::default(),
            common,
            name,
        }
    }

    fn grow(&mut self, size: u64) -> SignedCheckpoint {
        let leaf = |n: u64| {
            let whose = if n < self.common { "all" } else { self.name };
            leaf_hash(format!("{whose} {n}").as_bytes())
        };
        let leaves: Vec<Digest> = (self.edge.size()..size).map(leaf).collect();
        self.tiles.write(self.edge.append(&leaves));
        self.checkpoint()
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size: self.edge.size(),
            root: self.edge.root(),
        }
        .sign(&key())
        .unwrap()
    }
}

fn followed() -> Followed {
    Followed::new(key().verifier())
}

fn rebuild_all(followed: &mut Followed, tiles: &Tiles) {
    while followed.rebuilt() < followed.size() {
        followed.rebuild(tiles, 3).unwrap();
    }
}

#[test]
fn an_honest_log_grows_and_is_computed_again() {
    let (mut face, mut followed) = (Face::new("honest", 0), followed());
    let mut before = Vec::new();
    let mut last = 0;
    for size in [0, 1, 2, 255, 256, 257, 1000, 1024, 65_536, 66_000, 70_001] {
        let signed = face.grow(size);
        let expected = match before.len() {
            0 => Sighting::First,
            _ => Sighting::Grew { from: last },
        };
        assert_eq!(followed.consider(&signed, &face.tiles), Ok(expected));
        assert_eq!(followed.consider(&signed, &face.tiles), Ok(Sighting::Same));
        rebuild_all(&mut followed, &face.tiles);
        // Through the file and back, as another run would find it.
        followed = Followed::parse(&followed.to_bytes(), &key().verifier()).unwrap();
        before.push(signed);
        last = size;
    }
    let earlier = Sighting::Earlier { latest: last };
    for signed in before.iter().filter(|s| s.checkpoint().size < last) {
        let judged = followed.consider(signed, &face.tiles);
        assert_eq!(judged, Ok(earlier.clone()), "{}", signed.checkpoint().size);
    }
    assert!(followed.unproven().is_empty() && followed.contradicted().is_empty());
}

fn evidence_of(judged: Result<Sighting, Trouble>) -> Evidence {
    match judged {
        Ok(Sighting::Split(evidence)) => *evidence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_faces_are_proven_at_every_pair_of_sizes() {
    let sizes = [1, 2, 3, 8, 100, 256, 257, 512, 700];
    for common in [0, 5, 255, 256] {
        for seen in sizes.into_iter().filter(|size| *size > common) {
            for hidden in sizes.into_iter().filter(|size| *size > common) {
                let (mut one, mut two) = (Face::new("one", common), Face::new("two", common));
                let mut followed = followed();
                let first = one.grow(seen);
                followed.consider(&first, &one.tiles).unwrap();
                let other = two.grow(hidden);
                // Whichever is larger, the log must serve that one's tiles to be judged.
                let tiles = if hidden > seen {
                    &two.tiles
                } else {
                    &one.tiles
                };
                let evidence = evidence_of(followed.consider(&other, tiles));
                assert_eq!(evidence.check(), Ok(()), "{common} {seen} {hidden}");
                assert_eq!(followed.size(), seen, "the history that was believed stays");
                let read = Evidence::parse(&evidence.to_bytes()).unwrap();
                assert_eq!(read, evidence);

                followed.contradicted_by(&other, "file".to_owned());
                let again = followed.consider(&other, tiles).unwrap();
                assert!(matches!(again, Sighting::KnownSplit(known) if known.evidence == "file"));
            }
        }
    }
}

#[test]
fn a_face_that_is_hidden_is_proven_once_the_log_passes_it() {
    let (mut one, mut two) = (Face::new("one", 10), Face::new("two", 10));
    let mut followed = followed();
    followed.consider(&one.grow(12), &one.tiles).unwrap();
    // A witness cosigned the other face, further on; the log serves no tiles of it.
    let hidden = two.grow(20);
    assert!(matches!(
        followed.consider(&hidden, &one.tiles),
        Err(Trouble::Tile(_))
    ));
    let mut followed = Followed::parse(&followed.to_bytes(), &key().verifier()).unwrap();
    assert_eq!(followed.unproven(), std::slice::from_ref(&hidden));
    followed.consider(&one.grow(300), &one.tiles).unwrap();
    let found = followed.reconsider(&one.tiles);
    let [(signed, judged)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(signed, &hidden);
    assert_eq!(evidence_of(judged.clone()).check(), Ok(()));
    assert!(followed.unproven().is_empty());
}

#[test]
fn two_roots_at_one_size_need_no_tiles() {
    let (mut one, mut two) = (Face::new("one", 10), Face::new("two", 10));
    let mut followed = followed();
    let nothing = Tiles::default();
    followed.consider(&one.grow(20), &nothing).unwrap_err();
    let evidence = evidence_of(followed.consider(&two.grow(20), &nothing));
    assert_eq!(evidence.check(), Ok(()));
    followed.contradicted_by(&two.checkpoint(), "kept".to_owned());
    let again = followed.consider(&two.checkpoint(), &nothing);
    assert!(matches!(again, Ok(Sighting::KnownSplit(_))), "{again:?}");
}

#[test]
fn a_log_that_was_set_back_and_went_another_way_is_proven_once_it_is_past() {
    let (mut one, mut two) = (Face::new("one", 40), Face::new("two", 40));
    let mut followed = followed();
    followed.consider(&one.grow(60), &one.tiles).unwrap();
    let set_back = two.grow(30);
    let judged = followed.consider(&set_back, &one.tiles);
    assert_eq!(judged, Ok(Sighting::Earlier { latest: 60 }));
    // The tiles of what it had signed are gone: nothing is proven, and nothing forgotten.
    let beside = two.grow(50);
    assert!(followed.consider(&beside, &two.tiles).is_err());
    let evidence = evidence_of(followed.consider(&two.grow(61), &two.tiles));
    assert_eq!(evidence.check(), Ok(()));
    assert_eq!(followed.unproven(), [beside]);
}

#[test]
fn tiles_that_are_wrong_or_gone_are_named_and_nothing_is_remembered_of_them() {
    let mut face = Face::new("honest", 0);
    let signed = face.grow(3000);
    let mut followed = followed();
    followed.consider(&signed, &face.tiles).unwrap();
    followed.rebuild(&face.tiles, 4).unwrap();
    assert_eq!(followed.rebuilt(), 1024);

    let mut wrong = face.tiles.clone();
    wrong.0.get_mut(&(0, 6)).unwrap()[17] = leaf_hash(b"another");
    let named = followed.rebuild(&wrong, 100).unwrap_err();
    assert_eq!(
        named.to_string(),
        "tile/0/006 is not that of the tree that the log signed"
    );
    let mut gone = face.tiles.clone();
    gone.0.remove(&(0, 5));
    let named = followed.rebuild(&gone, 100).unwrap_err();
    assert_eq!(named.to_string(), "tile/0/005 is missing");
    assert_eq!(followed.rebuilt(), 1024);
    followed.rebuild(&face.tiles, 100).unwrap();
    assert_eq!(followed.rebuilt(), 3000);

    // A root that the tiles do not give proves nothing to others, but it is not believed.
    let next = face.grow(3001);
    let mut wrong = face.tiles.clone();
    wrong.0.get_mut(&(1, 0)).unwrap()[2] = leaf_hash(b"another");
    let judged = followed.consider(&next, &wrong);
    assert_eq!(judged, Err(Trouble::OtherTree { size: 3001 }));
    assert_eq!(followed.size(), 3000);
}

#[test]
fn a_full_tile_above_the_lowest_is_compared_too() {
    let mut face = Face::new("honest", 0);
    let signed = face.grow(65_536 + 300);
    let mut wrong = face.tiles.clone();
    // Not on the path of any proof that is made here, and still compared.
    let mut followed = followed();
    followed.consider(&signed, &face.tiles).unwrap();
    wrong.0.get_mut(&(1, 0)).unwrap()[9] = leaf_hash(b"another");
    let named = (0..300).find_map(|_| followed.rebuild(&wrong, 16).err());
    assert!(named.is_some(), "{}", followed.rebuilt());
}

#[test]
fn only_what_the_log_signed_is_considered() {
    let (mut face, mut followed) = (Face::new("honest", 0), followed());
    let signed = face.grow(5);
    let stranger = NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
    let forged = signed.checkpoint().sign(&stranger).unwrap();
    assert!(matches!(
        followed.consider(&forged, &face.tiles),
        Err(Trouble::Checkpoint(_))
    ));
    let mut other = signed.checkpoint().clone();
    other.origin = "log.example/other".to_owned();
    let other_key = NoteSigner::from_seed(&other.origin, &[9; 32]).unwrap();
    let other = other.sign(&other_key).unwrap();
    assert!(matches!(
        followed.consider(&other, &face.tiles),
        Err(Trouble::Checkpoint(_))
    ));
    assert!(followed.unproven().is_empty(), "a stranger fills no memory");
    for size in 10..200 {
        face.grow(size);
        let _ = followed.consider(&face.checkpoint(), &Tiles::default());
    }
    assert_eq!(followed.unproven().len(), UNPROVEN_MAX);
}

#[test]
fn kept_state_that_is_damaged_or_anothers_is_refused() {
    let (mut face, mut followed) = (Face::new("honest", 0), followed());
    followed.consider(&face.grow(300), &face.tiles).unwrap();
    rebuild_all(&mut followed, &face.tiles);
    let mark = WitnessMark { size: 9, time_s: 5 };
    assert_eq!(followed.witness_at("w", mark), None);
    let text = String::from_utf8(followed.to_bytes()).unwrap();
    let parse = |text: &str| Followed::parse(text.as_bytes(), &key().verifier());
    assert_eq!(parse(&text).unwrap(), followed);
    let back = WitnessMark { size: 8, time_s: 6 };
    assert_eq!(followed.witness_at("w", back), Some(mark));

    let stranger = NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
    let others = Followed::parse(text.as_bytes(), &stranger.verifier());
    assert!(matches!(others, Err(StateError::OtherLog(_))));
    for (from, to) in [
        ("\"longrun_monitor\":1", "\"longrun_monitor\":2"),
        ("\"size\":300,\"levels\"", "\"size\":301,\"levels\""),
        ("\\n300\\n", "\\n299\\n"),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        assert!(parse(&text.replacen(from, to, 1)).is_err(), "{from}");
    }
}

fn policy(witness: &WitnessSigner) -> TrustPolicy {
    let lines = format!(
        "log {}\nwitness w {}\nquorum none\n",
        key().verifier().to_vkey(),
        witness.verifier().to_vkey()
    );
    TrustPolicy::of_logs(LogPolicy::parse(lines.as_bytes()).unwrap())
}

#[test]
fn evidence_is_verified_by_anybody_with_the_logs_key() {
    let (mut one, mut two) = (Face::new("one", 3), Face::new("two", 3));
    let witness = WitnessSigner::from_seed("witness.example/w", &[4; 32]).unwrap();
    let mut older = one.grow(100);
    let line = witness.cosign(&older, 1_700_000_000);
    older.note_mut().add(line);
    let mut followed = followed();
    followed.consider(&older, &one.tiles).unwrap();
    let evidence = evidence_of(followed.consider(&two.grow(200), &two.tiles));
    let file = evidence.to_bytes();

    let trusted = policy(&witness);
    let report = verify_file(&file, Some(&trusted));
    assert_eq!(report.kind, FileKind::Evidence);
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    let checks = &report.reports[0];
    assert_eq!(checks.check("split").unwrap().status, Status::Passed);
    let said = &checks.check("witnesses").unwrap().reason;
    assert!(
        said.contains("first is cosigned by w, the second by no"),
        "{said}"
    );
    let report = verify_file(&file, None);
    assert_eq!(report.verdict, Verdict::IntactButUntrusted);

    // Whoever makes it up is found out.
    let mut honest = Face::new("one", 3);
    honest.grow(100);
    let grown = honest.grow(200);
    let mut followed = Followed::new(key().verifier());
    followed.consider(&older, &honest.tiles).unwrap();
    let judged = followed.consider(&grown, &honest.tiles);
    assert_eq!(judged, Ok(Sighting::Grew { from: 100 }));
    let proof = tlog::proof::TreeView::new(&honest.tiles, 200)
        .prefix(100)
        .unwrap();
    let false_claim = Evidence::new(&older, &grown, proof);
    assert_eq!(false_claim.check(), Err(EvidenceError::Consistent));
    let report = verify_file(&false_claim.to_bytes(), Some(&trusted));
    assert_eq!(report.verdict, Verdict::Invalid);
    let mut bent = false_claim.clone();
    bent.proof[0] = leaf_hash(b"bent");
    assert_eq!(bent.check(), Err(EvidenceError::OtherTree));
    bent.proof.clear();
    assert!(matches!(bent.check(), Err(EvidenceError::Proof(_))));
    let same = Evidence::new(&older, &older, Vec::new());
    assert_eq!(same.check(), Err(EvidenceError::Consistent));

    // Notes that another key signed say nothing about this log.
    let stranger = NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
    let forged = Evidence::new(
        &evidence.older,
        &evidence.newer.checkpoint().sign(&stranger).unwrap(),
        evidence.proof.clone(),
    );
    let report = verify_file(&forged.to_bytes(), Some(&trusted));
    assert_eq!(report.verdict, Verdict::IntactButUntrusted, "{report:#?}");
    let text = String::from_utf8(file).unwrap();
    let tampered = text.replacen("\\n200\\n", "\\n201\\n", 1);
    assert_ne!(tampered, text);
    let report = verify_file(tampered.as_bytes(), Some(&trusted));
    assert_eq!(report.verdict, Verdict::Invalid, "{report:#?}");
}
