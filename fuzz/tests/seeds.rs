//! Every target over its seeds, over small changes of each, and over what fuzzing once found.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz::{Target, target, targets};

/// Changes of each seed. A seed of the vectors is changed alike on every run.
const CHANGES: u64 = 12;

fn run(target: &Target, input: &[u8], what: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    assert!(
        outcome.is_ok(),
        "{} fails on {what}: {}",
        target.name,
        String::from_utf8_lossy(input).escape_debug()
    );
}

/// A flipped bit, a byte more or less, a cut, a repeated part: splitmix64 decides where.
fn changed(seed: &[u8], number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.len() as u64;
    let mut next = |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below.max(1) as u64).unwrap()
    };
    let mut bytes = seed.to_vec();
    if bytes.is_empty() {
        return vec![u8::try_from(next(256)).unwrap()];
    }
    let at = next(bytes.len());
    match next(6) {
        0 => bytes[at] ^= 1 << next(8),
        1 => bytes[at] = u8::try_from(next(256)).unwrap(),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, b"\0\n\"\\{}[]0-1 \xff"[next(13)]),
        4 => bytes.truncate(at),
        _ => {
            let part = bytes[at..bytes.len().min(at + 1 + next(40))].to_vec();
            let to = next(bytes.len());
            bytes.splice(to..to, part);
        }
    }
    bytes
}

#[test]
fn every_seed_and_every_change_of_it() {
    for target in targets() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        run(&target, b"", "nothing");
        for (at, seed) in seeds.iter().enumerate() {
            run(&target, seed, &format!("seed {at}"));
            for number in 0..CHANGES {
                let what = format!("change {number} of seed {at}");
                run(&target, &changed(seed, number), &what);
            }
        }
    }
}

/// `found/<target>/*`: each once broke something.
#[test]
fn what_was_found_once_stays_fixed() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    for folder in fs::read_dir(found).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let target = target(&name).unwrap_or_else(|| panic!("found/{name} is no target"));
        for input in fs::read_dir(&folder).unwrap() {
            let path = input.unwrap().path();
            run(
                &target,
                &fs::read(&path).unwrap(),
                &path.display().to_string(),
            );
        }
    }
}
