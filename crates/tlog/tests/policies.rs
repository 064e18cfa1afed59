//! C2SP tlog-policy: parsing to the letter, and quorums against brute force.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::cosignature::WitnessSigner;
use tlog::log_policy::LogPolicy;
use tlog::merkle::leaf_hash;
use tlog::note::{NoteError, NoteSigner};

fn log(seed: u8) -> NoteSigner {
    NoteSigner::from_seed(&format!("log.example/{seed}"), &[seed; 32]).unwrap()
}

fn witness(seed: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.example/{seed}"), &[100 + seed; 32]).unwrap()
}

fn log_line(seed: u8) -> String {
    format!("log {}\n", log(seed).verifier().to_vkey())
}

fn witness_line(name: &str, seed: u8) -> String {
    format!("witness {name} {}\n", witness(seed).verifier().to_vkey())
}

/// The two-level example of the specification.
fn example() -> String {
    let mut text = log_line(1);
    for (name, seed) in [("X1", 1), ("X2", 2), ("X3", 3)] {
        text += &witness_line(name, seed);
    }
    text += "group X-witnesses 2 X1 X2 X3\n\n";
    for (name, seed) in [("Y1", 4), ("Y2", 5), ("Y3", 6)] {
        text += &witness_line(name, seed);
    }
    text += "group Y-witnesses any Y1 Y2 Y3\n\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n";
    text
}

fn signed() -> SignedCheckpoint {
    let origin = log(1).name().to_owned();
    Checkpoint {
        origin,
        size: 9,
        root: leaf_hash(b"r"),
    }
    .sign(&log(1))
    .unwrap()
}

#[test]
fn the_example_of_the_specification_counts_as_it_says() {
    let policy = LogPolicy::parse(example().as_bytes()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (1, 6));
    for subset in 0u8..64 {
        let mut checkpoint = signed();
        for seed in (1..=6).filter(|seed| subset & (1 << (seed - 1)) != 0) {
            let line = witness(seed).cosign(&checkpoint, 1_700_000_000 + u64::from(seed));
            checkpoint.note_mut().add(line);
        }
        let witnessing = policy.witnessing(&checkpoint).unwrap();
        let expected = (subset & 7).count_ones() >= 2 && subset >> 3 != 0;
        assert_eq!(witnessing.quorum, Some(expected), "{subset:06b}");
        assert_eq!(witnessing.cosigned.len(), subset.count_ones() as usize);
        assert!(policy.log_that_signed(&checkpoint).unwrap().is_some());
    }
}

#[test]
fn none_asks_for_nothing_and_one_witness_for_one() {
    let none = LogPolicy::parse((log_line(1) + "quorum none\n").as_bytes()).unwrap();
    assert_eq!(none.witnessing(&signed()).unwrap().quorum, None);
    let one = witness_line("w", 1) + "quorum w";
    let one = LogPolicy::parse(one.as_bytes()).unwrap();
    assert_eq!(one.witnessing(&signed()).unwrap().quorum, Some(false));
    let mut checkpoint = signed();
    let line = witness(1).cosign(&checkpoint, 1);
    checkpoint.note_mut().add(line);
    assert_eq!(one.witnessing(&checkpoint).unwrap().quorum, Some(true));
    assert_eq!(
        one.log_that_signed(&checkpoint).unwrap(),
        None,
        "it lists no log"
    );
}

#[test]
fn a_forged_signature_of_a_known_key_is_an_error_not_an_absence() {
    let policy = LogPolicy::parse(example().as_bytes()).unwrap();
    let mut checkpoint = signed();
    let mut line = witness(1).cosign(&checkpoint, 1);
    line.signature[20] ^= 1;
    checkpoint.note_mut().add(line);
    assert!(matches!(
        policy.witnessing(&checkpoint),
        Err(NoteError::BadSignature(_))
    ));
    let mut text = String::from_utf8(signed().to_bytes()).unwrap();
    text = text.replacen("\n9\n", "\n8\n", 1);
    let changed = SignedCheckpoint::parse(text.as_bytes()).unwrap();
    assert!(matches!(
        policy.log_that_signed(&changed),
        Err(NoteError::BadSignature(_))
    ));
}

#[test]
fn layout_is_free_and_names_are_octets() {
    let tabs = example()
        .replace(' ', "\t \t")
        .replace("quorum", "  # comment\n \t\nquorum");
    let (plain, tabs) = (
        LogPolicy::parse(example().as_bytes()),
        LogPolicy::parse(tabs.as_bytes()),
    );
    assert_eq!(plain, tabs);
    // K and the Kelvin sign are different names, and neither needs to be UTF-8.
    let vkey = |seed| witness(seed).verifier().to_vkey();
    let text = [
        b"witness K ".as_slice(),
        vkey(1).as_bytes(),
        b"\nwitness \xe2\x84\xaa ",
        vkey(2).as_bytes(),
        b"\nwitness \xff\xfe ",
        vkey(3).as_bytes(),
        b" https://w3.example\ngroup g 2 K \xe2\x84\xaa \xff\xfe\nquorum g",
    ]
    .concat();
    let policy = LogPolicy::parse(&text).unwrap();
    assert_eq!(policy.witnesses().len(), 3);
    assert_eq!(
        policy.witnesses()[2].url.as_deref(),
        Some("https://w3.example")
    );
}

#[test]
fn every_rule_of_the_policy_format_is_kept() {
    let (l1, w1, w2) = (log_line(1), witness_line("a", 1), witness_line("b", 2));
    let same_key_other_name = format!(
        "witness b {}\n",
        WitnessSigner::from_seed("other", &[101; 32])
            .unwrap()
            .verifier()
            .to_vkey()
    );
    let same_log_other_name = format!(
        "log {}\n",
        NoteSigner::from_seed("other", &[1; 32])
            .unwrap()
            .verifier()
            .to_vkey()
    );
    let cases = [
        ("no quorum", l1.clone(), 1),
        ("nothing", String::new(), 1),
        ("two quorums", "quorum none\nquorum none\n".to_owned(), 2),
        ("unknown quorum", "quorum a\n".to_owned(), 1),
        ("quorum before its witness", format!("quorum a\n{w1}"), 1),
        ("quorum without name", "quorum\n".to_owned(), 1),
        ("quorum with two names", "quorum a b\n".to_owned(), 1),
        ("unknown word", "logs x\nquorum none\n".to_owned(), 1),
        ("word in capitals", "QUORUM none\n".to_owned(), 1),
        ("log twice", format!("{l1}{l1}quorum none\n"), 2),
        (
            "log key twice",
            format!("{l1}{same_log_other_name}quorum none\n"),
            2,
        ),
        (
            "witness key twice",
            format!("{w1}{same_key_other_name}quorum none\n"),
            2,
        ),
        (
            "witness name twice",
            format!("{w1}{}quorum none\n", w2.replace(" b ", " a ")),
            2,
        ),
        (
            "witness called none",
            w1.replace(" a ", " none ") + "quorum none\n",
            1,
        ),
        (
            "log key as witness",
            format!("witness a {}\nquorum none\n", log(1).verifier().to_vkey()),
            1,
        ),
        (
            "witness key as log",
            format!("log {}\nquorum none\n", witness(1).verifier().to_vkey()),
            1,
        ),
        (
            "group without members",
            format!("{w1}group g any\nquorum none\n"),
            2,
        ),
        (
            "group of nobody known",
            "group g any a\nquorum none\n".to_owned(),
            1,
        ),
        (
            "group of itself",
            format!("{w1}group g any g\nquorum none\n"),
            2,
        ),
        (
            "group of none",
            "group g any none\nquorum none\n".to_owned(),
            1,
        ),
        (
            "group name taken",
            format!("{w1}{w2}group a any b\nquorum none\n"),
            3,
        ),
        (
            "group called none",
            format!("{w1}group none any a\nquorum none\n"),
            2,
        ),
        ("k of zero", format!("{w1}group g 0 a\nquorum none\n"), 2),
        ("k above n", format!("{w1}group g 2 a\nquorum none\n"), 2),
        (
            "k with zero in front",
            format!("{w1}group g 01 a\nquorum none\n"),
            2,
        ),
        ("k with sign", format!("{w1}group g +1 a\nquorum none\n"), 2),
        (
            "k in words",
            format!("{w1}group g most a\nquorum none\n"),
            2,
        ),
        (
            "member twice",
            format!("{w1}{w2}group g 2 a a\nquorum none\n"),
            3,
        ),
        (
            "member of two groups",
            format!("{w1}{w2}group g any a b\ngroup h any a\nquorum none\n"),
            4,
        ),
        ("carriage return", "quorum none\r\n".to_owned(), 1),
        ("form feed", "\u{c}quorum none\n".to_owned(), 1),
        (
            "too many items",
            format!("{} u x\nquorum none\n", l1.trim_end()),
            1,
        ),
        (
            "bad key",
            "log a+00000000+AAAA\nquorum none\n".to_owned(),
            1,
        ),
    ];
    for (what, text, line) in cases {
        let error = LogPolicy::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{what}: {error}");
    }
}

#[test]
fn thirty_two_of_each_are_supported() {
    let mut text = String::new();
    for seed in 0..32 {
        text += &log_line(seed);
        text += &witness_line(&format!("w{seed}"), seed);
        let before = if seed == 0 {
            String::new()
        } else {
            format!("g{}", seed - 1)
        };
        text += &format!("group g{seed} all w{seed} {before}\n");
    }
    text += "quorum g31\n";
    let policy = LogPolicy::parse(text.as_bytes()).unwrap();
    let mut checkpoint = signed();
    for seed in 0..32 {
        assert_eq!(policy.witnessing(&checkpoint).unwrap().quorum, Some(false));
        let line = witness(seed).cosign(&checkpoint, 1);
        checkpoint.note_mut().add(line);
    }
    assert_eq!(policy.witnessing(&checkpoint).unwrap().quorum, Some(true));
}
