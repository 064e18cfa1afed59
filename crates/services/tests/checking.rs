//! Checking a log from its files: interrupted and gone on with, and with the cosignatures of others.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::{AT_ONCE, Author, append};
use record::Envelope;
use services::admission::Submission;
use services::fsck::{self, FsckError, FsckOptions, FsckReport, Progress};
use services::log::{Log, LogOptions};
use tempfile::TempDir;
use tlog::checkpoint::SignedCheckpoint;
use tlog::cosignature::WitnessSigner;
use tlog::log_policy::LogPolicy;

/// More than one step of a check.
const ENTRIES: u64 = 65_536 + 700;

/// A log of records whose signature is one record's: nothing checks it here, and making one for each
/// would take most of the test.
fn large(directory: &Path) -> Log {
    let template = Author::new().envelope(0);
    let payload = String::from_utf8(template.payload().to_vec()).unwrap();
    let log = Log::open(
        directory,
        LogOptions {
            period: AT_ONCE,
            ..LogOptions::default()
        },
    )
    .unwrap();
    let submission = |number: u64| {
        let payload = payload.replacen("record 0", &format!("record {number}"), 1);
        let envelope = Envelope::new(payload.into_bytes(), template.signature().to_vec()).unwrap();
        Submission::of(&envelope.open_unverified().unwrap())
    };
    let numbers: Vec<u64> = (0..ENTRIES).collect();
    for batch in numbers.chunks(4000) {
        let batch = batch.iter().map(|number| submission(*number)).collect();
        log.sequencer().submit_and_wait(batch).unwrap();
    }
    log
}

fn options(state: &Path) -> FsckOptions {
    FsckOptions {
        state: Some(state.to_owned()),
        ..FsckOptions::default()
    }
}

/// Checks until the first report of progress, and is killed there.
fn interrupted(directory: &Path, options: &FsckOptions) {
    let killed = |progress: Progress| {
        assert_eq!(progress.entries_total, ENTRIES);
        panic!("killed at {}", progress.entries_done);
    };
    let steps = std::cell::Cell::new(0);
    let checked = catch_unwind(AssertUnwindSafe(|| {
        fsck::run(directory, options, |progress| {
            // The state of a step is kept after it was reported.
            steps.set(steps.get() + 1);
            if steps.get() == 2 {
                killed(progress);
            }
        })
    }));
    assert!(checked.is_err());
}

fn check(directory: &Path, options: &FsckOptions) -> Result<FsckReport, FsckError> {
    fsck::run(directory, options, |_| {})
}

#[test]
fn an_interrupted_check_goes_on_where_it_was_if_the_log_is_still_the_same() {
    let keep = TempDir::new().unwrap();
    let (directory, state) = (keep.path().join("log"), keep.path().join("state.json"));
    let log = large(&directory);
    log.stop();
    drop(log);
    let options = options(&state);
    let whole = check(&directory, &FsckOptions::default()).unwrap();
    assert_eq!((whole.size, whole.resumed_from), (ENTRIES, 0));

    interrupted(&directory, &options);
    assert!(state.exists());
    let resumed = check(&directory, &options).unwrap();
    assert_eq!(
        resumed,
        FsckReport {
            resumed_from: 65_536,
            ..whole.clone()
        },
        "with the counts of both parts"
    );
    assert!(!state.exists(), "the next check begins anew");

    // What was checked before is not read again; what comes after is.
    interrupted(&directory, &options);
    let (before, after) = ("tile/entries/003", "tile/entries/257");
    let good = fs::read(directory.join(before)).unwrap();
    fs::write(directory.join(before), b"damaged").unwrap();
    assert!(check(&directory, &options).is_ok());
    let named = check(&directory, &options).unwrap_err().to_string();
    assert!(named.starts_with(before), "{named}");
    fs::write(directory.join(before), &good).unwrap();
    interrupted(&directory, &options);
    fs::remove_file(directory.join(after)).unwrap();
    let named = check(&directory, &options).unwrap_err().to_string();
    assert!(named.starts_with(after), "{named}");

    // State of something else is not believed: another kind of check, another log.
    let with_signatures = FsckOptions {
        signatures: true,
        ..options.clone()
    };
    assert!(state.exists());
    let named = check(&directory, &with_signatures).unwrap_err().to_string();
    assert!(
        named.contains("bodies/000"),
        "from the start, where signatures are false: {named}"
    );
    let small = Log::open(&keep.path().join("small"), LogOptions::default()).unwrap();
    append(small.sequencer(), Author::new().submissions(0..5)).unwrap();
    small.stop();
    assert_eq!(check(small.directory(), &options).unwrap().resumed_from, 0);

    // The same size and key, and another root for what was checked.
    fs::write(&state, b"not json").unwrap();
    assert!(matches!(
        check(&directory, &options),
        Err(FsckError::Unusable(_))
    ));
}

#[test]
fn state_of_a_tree_that_the_log_did_not_sign_is_not_believed() {
    let keep = TempDir::new().unwrap();
    let (directory, state) = (keep.path().join("log"), keep.path().join("state.json"));
    let log = large(&directory);
    log.stop();
    let options = options(&state);
    interrupted(&directory, &options);
    let text = fs::read_to_string(&state).unwrap();
    let start = text.find("\"levels\":[[").unwrap();
    let hash = text[start..].find(|c: char| c.is_ascii_digit()).unwrap() + start;
    let mut bent = text.into_bytes();
    bent[hash] = if bent[hash] == b'1' { b'2' } else { b'1' };
    fs::write(&state, bent).unwrap();
    assert_eq!(check(&directory, &options).unwrap().resumed_from, 0);
}

#[test]
fn cosignatures_of_known_witnesses_are_checked() {
    let keep = TempDir::new().unwrap();
    let directory = keep.path().join("log");
    let log = Log::open(&directory, LogOptions::default()).unwrap();
    append(log.sequencer(), Author::new().submissions(0..5)).unwrap();
    log.stop();
    drop(log);
    let witness = |number: u8| {
        WitnessSigner::from_seed(&format!("witness.example/{number}"), &[number; 32]).unwrap()
    };
    let lines = |numbers: &[u8], quorum: &str| {
        let mut text = String::new();
        for number in numbers {
            text += &format!(
                "witness w{number} {}\n",
                witness(*number).verifier().to_vkey()
            );
        }
        text + &format!("quorum {quorum}\n")
    };
    let path = directory.join("checkpoint");
    let mut signed = SignedCheckpoint::parse(&fs::read(&path).unwrap()).unwrap();
    let line = witness(1).cosign(&signed, 1_700_000_000);
    signed.note_mut().add(line);
    fs::write(&path, signed.to_bytes()).unwrap();
    let with = |text: &str| FsckOptions {
        policy: Some(LogPolicy::parse(text.as_bytes()).unwrap()),
        ..FsckOptions::default()
    };
    let report = check(&directory, &FsckOptions::default()).unwrap();
    assert_eq!((report.quorum, report.cosigned.len()), (None, 0));
    let report = check(&directory, &with(&lines(&[1, 2], "w1"))).unwrap();
    assert_eq!(
        (report.quorum, report.cosigned),
        (Some(true), vec!["w1".to_owned()])
    );
    let report = check(&directory, &with(&lines(&[1, 2], "w2"))).unwrap();
    assert_eq!(report.quorum, Some(false));
    // Without a policy, the log's own.
    fs::write(directory.join("witnesses"), lines(&[1], "w1")).unwrap();
    let report = check(&directory, &FsckOptions::default()).unwrap();
    assert_eq!(report.quorum, Some(true));

    let mut line = witness(1).cosign(&signed, 1_700_000_000);
    line.signature[20] ^= 1;
    let mut bad = SignedCheckpoint::parse(&fs::read(&path).unwrap()).unwrap();
    bad.note_mut().add(line);
    fs::write(&path, bad.to_bytes()).unwrap();
    let named = check(&directory, &FsckOptions::default())
        .unwrap_err()
        .to_string();
    assert!(named.starts_with("checkpoint: "), "{named}");
}
