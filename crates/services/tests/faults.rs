//! Sunlight's table of failures: every operation of a round fails, before it happened or after,
//! and nothing that was answered is lost, nothing is forked, and the same batch goes in again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::ops::Range;
use std::sync::LazyLock;

use common::{Author, MemoryLog, append};
use services::admission::Submission;
use services::sequencer::SubmitError;
use store::Blobs as _;
use store::memory::{Effect, Fault, Operation};

/// Signed once; signing is what takes time here.
static RECORDS: LazyLock<Vec<Submission>> = LazyLock::new(|| Author::new().submissions(0..1200));

fn submissions(numbers: Range<u64>) -> Vec<Submission> {
    let [from, to] = [numbers.start, numbers.end].map(|n| usize::try_from(n).unwrap());
    RECORDS[from..to].to_vec()
}

/// What a caller and the log may expect of one failure.
struct Expected {
    /// Whether the sequencer ends.
    fatal: bool,
    /// Whether the batch is in the tree afterwards.
    logged: bool,
}

/// Entries before, and in the batch. The later ones complete tiles and reach level 1.
const SIZES: [(u64, u64); 4] = [(0, 5), (250, 20), (256, 256), (700, 400)];

fn run(operation: Operation, path_prefix: &str, effect: Effect, expected: &Expected) {
    run_at(&SIZES, operation, path_prefix, effect, expected);
}

fn run_at(
    sizes: &[(u64, u64)],
    operation: Operation,
    path_prefix: &str,
    effect: Effect,
    expected: &Expected,
) {
    for (before, batch) in sizes {
        // A log that goes on must hold as it is, and after the next start as well.
        for reload in [false, true] {
            if reload || !expected.fatal {
                let context =
                    format!("{operation:?} {path_prefix} {effect:?} at {before}+{batch}, {reload}");
                let fault = Fault {
                    operation,
                    path_prefix: path_prefix.to_owned(),
                    effect,
                    after: 0,
                };
                strike(*before, *batch, fault, expected, reload, &context);
            }
        }
    }
}

fn strike(before: u64, batch: u64, fault: Fault, expected: &Expected, reload: bool, context: &str) {
    let log = MemoryLog::new();
    let sequencer = log.start().unwrap();
    if before > 0 {
        append(&sequencer, submissions(0..before)).unwrap();
    }
    let records = submissions(before..before + batch);
    log.store.fail(fault);
    let error = append(&sequencer, records.clone()).unwrap_err();
    assert!(
        matches!(error, SubmitError::Failed(_)),
        "{context}: {error}"
    );
    assert_eq!(log.store.pending_faults(), 0, "{context}");
    // The thread needs a moment to end after it has answered.
    if expected.fatal {
        sequencer.stop();
    }
    assert_eq!(sequencer.failure().is_some(), expected.fatal, "{context}");
    let committed = before + if expected.logged { batch } else { 0 };
    assert_eq!(log.committed(), committed, "{context}");
    // The whole tree, as the failure left it: what is published holds.
    let fsck = || {
        log.fsck()
            .unwrap_or_else(|error| panic!("{context}: {error}"))
    };
    let left = fsck();
    assert_eq!(left.size, log.checkpoint().size, "{context}");
    assert!((before..=committed).contains(&left.size), "{context}");

    let sequencer = if reload {
        if expected.fatal {
            let again = append(&sequencer, records.clone()).unwrap_err();
            assert!(
                matches!(again, SubmitError::Stopped(_)),
                "{context}: {again}"
            );
        }
        sequencer.stop();
        let started = log.start();
        let started = started.unwrap_or_else(|error| panic!("{context}: {error}"));
        // A start publishes what is committed, and no more.
        assert_eq!(log.checkpoint().size, committed, "{context}");
        assert_eq!(fsck().size, committed, "{context}");
        started
    } else {
        sequencer
    };
    // The same batch again: places as if nothing had happened, whether or not it was logged.
    let places = append(&sequencer, records).unwrap();
    let wanted: Vec<u64> = (before..before + batch).collect();
    assert_eq!(places, wanted, "{context}");
    assert_eq!(fsck().size, before + batch, "{context}");
    let staged = log.store.list("staging").unwrap();
    assert_eq!(staged, Vec::<String>::new(), "{context}");

    // And once more from the files, as after any crash.
    sequencer.stop();
    let sequencer = log
        .start()
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    let next = submissions(before + batch..before + batch + 1);
    assert_eq!(
        append(&sequencer, next).unwrap(),
        [before + batch],
        "{context}"
    );
    fsck();
}

const GOES_ON: Expected = Expected {
    fatal: false,
    logged: false,
};
const GOES_ON_LOGGED: Expected = Expected {
    fatal: false,
    logged: true,
};
const ENDS: Expected = Expected {
    fatal: true,
    logged: false,
};
const ENDS_LOGGED: Expected = Expected {
    fatal: true,
    logged: true,
};

#[test]
fn staging() {
    run(
        Operation::PutNew,
        "staging/",
        Effect::NotPersisted,
        &GOES_ON,
    );
    run(
        Operation::PutNew,
        "staging/",
        Effect::PersistedAnyway,
        &GOES_ON,
    );
}

#[test]
fn head_swap() {
    run(Operation::Swap, "", Effect::NotPersisted, &ENDS);
    run(Operation::Swap, "", Effect::PersistedAnyway, &ENDS_LOGGED);
}

#[test]
fn level_0_tile() {
    run(
        Operation::PutNew,
        "tile/0/",
        Effect::NotPersisted,
        &ENDS_LOGGED,
    );
    run(
        Operation::PutNew,
        "tile/0/",
        Effect::PersistedAnyway,
        &ENDS_LOGGED,
    );
}

/// Tiles above the leaves' come with them, in trees that reach so far.
#[test]
fn level_1_tile() {
    for effect in [Effect::NotPersisted, Effect::PersistedAnyway] {
        run_at(
            &SIZES[1..],
            Operation::PutNew,
            "tile/1/",
            effect,
            &ENDS_LOGGED,
        );
    }
}

#[test]
fn data_tile() {
    run(
        Operation::PutNew,
        "tile/entries/",
        Effect::NotPersisted,
        &ENDS_LOGGED,
    );
    run(
        Operation::PutNew,
        "tile/entries/",
        Effect::PersistedAnyway,
        &ENDS_LOGGED,
    );
}

#[test]
fn body() {
    run(
        Operation::PutNew,
        "bodies/",
        Effect::NotPersisted,
        &ENDS_LOGGED,
    );
    run(
        Operation::PutNew,
        "bodies/",
        Effect::PersistedAnyway,
        &ENDS_LOGGED,
    );
}

#[test]
fn checkpoint() {
    run(
        Operation::PutReplace,
        "checkpoint",
        Effect::NotPersisted,
        &GOES_ON_LOGGED,
    );
    run(
        Operation::PutReplace,
        "checkpoint",
        Effect::PersistedAnyway,
        &GOES_ON_LOGGED,
    );
}

/// Failures of what happens after the answer harm nobody.
#[test]
fn clearing_away() {
    for (operation, path_prefix) in [
        (Operation::Delete, "staging/"),
        (Operation::List, "staging"),
        (Operation::List, "tile/0"),
        (Operation::Delete, "bodies/"),
    ] {
        for effect in [Effect::NotPersisted, Effect::PersistedAnyway] {
            let log = MemoryLog::new();
            let sequencer = log.start().unwrap();
            append(&sequencer, submissions(0..200)).unwrap();
            log.store.fail(Fault {
                operation,
                path_prefix: path_prefix.to_owned(),
                effect,
                after: 0,
            });
            append(&sequencer, submissions(200..300)).unwrap();
            append(&sequencer, submissions(300..301)).unwrap();
            assert_eq!(log.store.pending_faults(), 0, "{operation:?} {path_prefix}");
            sequencer.stop();
            append(&log.start().unwrap(), submissions(301..302)).unwrap();
            assert_eq!(log.fsck().unwrap().size, 302);
            assert_eq!(log.store.list("staging").unwrap(), Vec::<String>::new());
        }
    }
}

/// Two failures in a row: the round fails, and so does the start that would finish it.
#[test]
fn failures_while_recovering() {
    for (operation, path_prefix) in [
        (Operation::PutNew, "tile/0/"),
        (Operation::PutNew, "bodies/"),
        (Operation::PutReplace, "checkpoint"),
        (Operation::Read, "tile/"),
        (Operation::Read, "staging/"),
        (Operation::Load, ""),
    ] {
        for effect in [Effect::NotPersisted, Effect::PersistedAnyway] {
            let log = MemoryLog::new();
            let sequencer = log.start().unwrap();
            append(&sequencer, submissions(0..200)).unwrap();
            log.store.fail(Fault {
                operation: Operation::PutNew,
                path_prefix: "tile/entries/".to_owned(),
                effect: Effect::NotPersisted,
                after: 0,
            });
            let batch = submissions(200..600);
            append(&sequencer, batch.clone()).unwrap_err();
            sequencer.stop();
            log.store.fail(Fault {
                operation,
                path_prefix: path_prefix.to_owned(),
                effect,
                after: 0,
            });
            assert!(log.start().is_err(), "{operation:?} {path_prefix}");
            let sequencer = log.start().unwrap();
            assert_eq!(
                append(&sequencer, batch).unwrap(),
                (200..600).collect::<Vec<_>>()
            );
            assert_eq!(log.fsck().unwrap().size, 600);
        }
    }
}

/// Any operation at all fails, in any position: whatever was answered stays.
#[test]
fn any_operation_at_any_moment() {
    let batches: Vec<_> = [(0, 3), (3, 250), (253, 10), (263, 40), (303, 1)]
        .map(|(from, n)| submissions(from..from + n))
        .into();
    let operations = [
        Operation::PutNew,
        Operation::PutReplace,
        Operation::Read,
        Operation::Delete,
        Operation::List,
        Operation::Swap,
    ];
    let mut struck = 0;
    for operation in operations {
        for effect in [Effect::NotPersisted, Effect::PersistedAnyway] {
            for after in (0..40).step_by(5) {
                let log = MemoryLog::new();
                let mut sequencer = log.start().unwrap();
                log.store.fail(Fault {
                    operation,
                    path_prefix: String::new(),
                    effect,
                    after,
                });
                for batch in &batches {
                    // A retry meets no second fault.
                    let mut attempts = 0;
                    while append(&sequencer, batch.clone()).is_err() {
                        attempts += 1;
                        assert!(attempts < 4, "{operation:?} {effect:?} {after}");
                        sequencer.stop();
                        if let Ok(started) = log.start() {
                            sequencer = started;
                        }
                    }
                }
                struck += usize::from(log.store.pending_faults() == 0);
                sequencer.stop();
                // A fault that has not struck must not strike the check.
                let log = MemoryLog {
                    store: log.store.snapshot(),
                    ..log
                };
                let report = log.fsck().unwrap();
                assert_eq!(report.size, 304, "{operation:?} {effect:?} {after}");
            }
        }
    }
    assert!(struck > 20, "only {struck} faults struck");
}
