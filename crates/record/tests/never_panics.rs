//! Whatever bytes arrive, every reader answers; and what it accepts, it means.
//!
//! Seeded mutations of the vectors: the same bytes on every machine. A failure prints its seed.
#![expect(
    clippy::disallowed_methods,
    reason = "the shell around the core: reads the vectors"
)]

use std::path::{Path, PathBuf};

use record::content::{
    Exact, Given, disclose, split_opening, sse_bytes_of_capture, without_longrun_member,
};
use record::leaf::Leaf;
use record::{Bundle, Envelope, Predicate, PublicKey, SigningKey, Statement, json};
use ring::rand::SystemRandom;

/// Mutations of each file.
const ROUNDS: u64 = 150;

/// Files beyond this are the same few bytes over and over.
const FILE_BYTES_MAX: usize = 10_000;

fn vectors() -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/record");
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).expect("readable");
                found.push((path, bytes));
            }
        }
    }
    found.retain(|(_, bytes)| bytes.len() <= FILE_BYTES_MAX);
    found.sort();
    assert!(found.len() > 100);
    found
}

/// SplitMix64: small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).expect("below a usize")
    }
}

const TOKENS: [&str; 18] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\u0000",
    "\\ud800",
    "null",
    "-0",
    "1e9",
    "0.5",
    "9007199254740992",
    "\u{feff}",
    "data: ",
    "\r\n",
    ",\"longrun\":{",
];

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(40)).min(bytes.len());
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.truncate(at),
            3 => {
                let copied = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                bytes.splice(to..to, copied);
            }
            4 => {
                let token = TOKENS[dice.below(TOKENS.len())];
                bytes.splice(at..at, token.bytes());
            }
            5 => {
                let token = TOKENS[dice.below(TOKENS.len())];
                bytes.splice(at..end, token.bytes());
            }
            _ => {
                let byte = dice.next().to_le_bytes()[0];
                bytes.splice(at..at, [byte]);
            }
        }
    }
}

/// Gives the bytes to every reader. What is accepted must survive being written again.
fn read_all(bytes: &[u8], random: &SystemRandom) {
    if let Ok(statement) = Statement::from_payload(bytes) {
        let again = statement
            .to_payload()
            .expect("what was read can be written");
        let read = Statement::from_payload(&again).expect("and read again");
        match &statement.predicate {
            // Members that this version does not know are in the bytes, not in the struct.
            Predicate::Unknown { kind, .. } => assert_eq!(read.predicate.kind(), kind),
            _ => assert_eq!(read, statement),
        }
        let given = Given {
            request: Some(bytes),
            response: Some(bytes),
            ..Given::default()
        };
        let _ = disclose(&statement, &given);
    }
    if let Ok(envelope) = Envelope::from_json(bytes) {
        assert_eq!(
            Envelope::from_json(&envelope.to_json()).as_ref(),
            Ok(&envelope)
        );
        let _ = envelope.clone().open_unverified();
        let _ = envelope.open();
    }
    if let Ok(leaf) = Leaf::parse(bytes) {
        assert_eq!(leaf.to_bytes(), bytes, "a leaf has one spelling");
    }
    if let Ok(bundle) = Bundle::from_json(bytes) {
        assert_eq!(Bundle::from_json(&bundle.to_json()).as_ref(), Ok(&bundle));
        let _ = bundle.open();
    }
    if let Ok(exact) = Exact::from_bytes(bytes) {
        assert_eq!(Exact::from_bytes(&exact.to_bytes()), Ok(exact));
    }
    if let Ok(value) = json::Value::from_slice(bytes, &json::STATEMENT) {
        assert_eq!(
            json::Value::from_slice(&value.to_bytes(), &json::STATEMENT),
            Ok(value)
        );
    }
    let _ = sse_bytes_of_capture(bytes);
    if let Some(rest) = without_longrun_member(bytes) {
        assert!(rest.len() < bytes.len());
    }
    let _ = split_opening(bytes);
    let _ = PublicKey::from_spki(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = SigningKey::from_pem(text, random);
        let _ = PublicKey::from_pem(text);
    }
}

#[test]
fn mutated_files_are_answered() {
    let random = SystemRandom::new();
    for (number, (path, original)) in (0u64..).zip(vectors()) {
        for round in 0..ROUNDS {
            let seed = number * 1_000_000 + round;
            let mut dice = Dice(seed);
            let mut bytes = original.clone();
            mutate(&mut bytes, &mut dice);
            let outcome = std::panic::catch_unwind(|| read_all(&bytes, &random));
            assert!(outcome.is_ok(), "{} with seed {seed}", path.display());
        }
    }
}

#[test]
fn noise_is_answered() {
    let random = SystemRandom::new();
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let length = dice.below(300);
        let bytes: Vec<u8> = (0..length).map(|_| dice.next().to_le_bytes()[0]).collect();
        read_all(&bytes, &random);
        let tokens: String = (0..dice.below(60))
            .map(|_| TOKENS[dice.below(TOKENS.len())])
            .collect();
        read_all(tokens.as_bytes(), &random);
    }
}
