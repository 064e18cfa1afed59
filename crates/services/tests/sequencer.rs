//! The sequencer over memory: places, duplicates, push-back, stopping, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{AT_ONCE, Author, Gated, MemoryLog, NOON_MS, append, check_answer, key, verifier};
use services::sequencer::{
    BATCH_RECORDS_MAX, LogParts, OpenError, QUEUE_RECORDS_MAX, Sequencer, SubmitError,
};
use store::memory::{Memory, Operation};
use store::seen::MemorySeen;
use store::{Blobs, Heads};
use tlog::checkpoint::SignedCheckpoint;

fn refusal(result: Result<Sequencer, OpenError>) -> String {
    match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn records_get_places_in_order_with_proofs() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    assert_eq!(
        sequencer.published().checkpoint.size,
        0,
        "a new log publishes the empty tree"
    );
    let mut next = 0;
    for batch in [1u64, 2, 252, 1, 1, 255, 256, 513, 3] {
        let places = append(&sequencer, author.submissions(next..next + batch)).unwrap();
        assert_eq!(places, (next..next + batch).collect::<Vec<_>>());
        next += batch;
        assert_eq!(sequencer.published().checkpoint.size, next);
        assert_eq!(log.checkpoint(), sequencer.published().checkpoint);
    }
    let report = log.fsck().unwrap();
    assert_eq!((report.size, report.bodies), (next, next));
}

#[test]
fn partial_files_go_once_full_and_staging_is_empty() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    let sizes = [100, 200, 256, 300, 512, 520];
    let mut from = 0;
    for size in sizes {
        append(&sequencer, author.submissions(from..size)).unwrap();
        from = size;
    }
    let partial: Vec<String> = ["tile", "bodies", "staging"]
        .iter()
        .flat_map(|directory| log.store.list(directory).unwrap())
        .filter(|path| path.contains(".p/") || path.starts_with("staging"))
        .collect();
    // Only those of the tree as it is, and the level-1 ones of every published size.
    assert_eq!(
        partial,
        [
            "tile/0/002.p/8",
            "tile/1/000.p/1",
            "tile/1/000.p/2",
            "tile/entries/002.p/8",
            "bodies/002.p/8"
        ]
    );
    log.fsck().unwrap();
}

#[test]
fn nothing_new_makes_no_round() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    let batch = author.submissions(0..3);
    append(&sequencer, batch.clone()).unwrap();
    let (totals, writes) = (sequencer.totals(), written(&log.store));
    assert_eq!(append(&sequencer, batch).unwrap(), [0, 1, 2]);
    assert_eq!(append(&sequencer, Vec::new()).unwrap(), Vec::<u64>::new());
    assert_eq!(sequencer.totals(), totals);
    assert_eq!(written(&log.store), writes, "duplicates write nothing");
    assert_eq!(totals.rounds, 1);
}

fn written(store: &Memory) -> usize {
    let writes = [Operation::PutNew, Operation::PutReplace, Operation::Swap];
    store
        .operations()
        .iter()
        .filter(|(operation, _)| writes.contains(operation))
        .count()
}

#[test]
fn duplicates_get_the_first_index_and_the_logged_leaf() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    let first = author.submission(1);
    // The same statement signed again: another signature, the same record.
    let again = author.submission(1);
    assert_eq!(first.id(), again.id());
    assert_ne!(first, again);

    // Twice in one batch, then in a later round, then after a restart.
    let batch = vec![author.submission(0), first.clone(), again.clone()];
    let answer = sequencer.submit_and_wait(batch.clone()).unwrap();
    check_answer(&batch, &answer);
    let placed: Vec<_> = answer
        .placed
        .iter()
        .map(|placed| placed.as_ref().unwrap())
        .collect();
    assert_eq!(
        placed
            .iter()
            .map(|p| (p.index, p.known))
            .collect::<Vec<_>>(),
        [(0, false), (1, false), (1, true)]
    );
    assert_eq!(placed[1].leaf, placed[2].leaf);

    let later = sequencer
        .submit_and_wait(vec![again.clone(), author.submission(2)])
        .unwrap();
    check_answer(&[again.clone(), author.submission(2)], &later);
    let found = later.placed[0].as_ref().unwrap();
    assert_eq!(
        (found.index, found.known, &found.leaf),
        (1, true, &placed[1].leaf)
    );
    assert_eq!(later.placed[1].as_ref().unwrap().index, 2);

    sequencer.stop();
    let sequencer = log.start().unwrap();
    let found = sequencer.submit_and_wait(vec![again.clone()]).unwrap();
    check_answer(&[again], &found);
    let found = found.placed[0].as_ref().unwrap();
    assert_eq!((found.index, &found.leaf), (1, &placed[1].leaf));
    assert_eq!(log.fsck().unwrap().size, 3);
}

#[test]
fn duplicates_are_recognised_within_the_window_and_not_beyond() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let start = || {
        let parts = LogParts {
            seen: Box::new(MemorySeen::new(300)),
            ..log.parts()
        };
        Sequencer::start(parts, AT_ONCE).unwrap()
    };
    let sequencer = start();
    append(&sequencer, author.submissions(0..700)).unwrap();
    assert_eq!(
        append(&sequencer, author.submissions(400..402)).unwrap(),
        [400, 401]
    );
    drop(sequencer);
    let sequencer = start();
    assert_eq!(
        append(&sequencer, author.submissions(400..402)).unwrap(),
        [400, 401]
    );
    assert_eq!(
        append(&sequencer, author.submissions(399..400)).unwrap(),
        [700]
    );
    assert_eq!(
        append(&sequencer, author.submissions(399..400)).unwrap(),
        [700]
    );
    log.fsck().unwrap();
}

#[test]
fn an_index_of_another_log_is_not_believed() {
    let (log, author) = (MemoryLog::new(), Author::new());
    append(&log.start().unwrap(), author.submissions(0..10)).unwrap();
    // An index that covers the same number of entries, of which none is ours.
    let mut foreign = MemorySeen::default();
    let ids: Vec<[u8; 32]> = (0..10).map(|n| [n; 32]).collect();
    store::Seen::extend(&mut foreign, 0, &ids).unwrap();
    let parts = LogParts {
        seen: Box::new(foreign),
        ..log.parts()
    };
    let sequencer = Sequencer::start(parts, AT_ONCE).unwrap();
    assert_eq!(
        append(&sequencer, author.submissions(3..5)).unwrap(),
        [3, 4]
    );
}

#[test]
fn an_index_that_lost_its_beginning_is_made_again() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let records = author.submissions(0..10);
    append(&log.start().unwrap(), records.clone()).unwrap();
    let mut cut = MemorySeen::default();
    store::Seen::restart(&mut cut, 5).unwrap();
    let ids: Vec<[u8; 32]> = records.iter().map(|r| *r.id().as_bytes()).collect();
    store::Seen::extend(&mut cut, 5, &ids[5..]).unwrap();
    let parts = LogParts {
        seen: Box::new(cut),
        ..log.parts()
    };
    let sequencer = Sequencer::start(parts, AT_ONCE).unwrap();
    assert_eq!(
        append(&sequencer, records[3..6].to_vec()).unwrap(),
        [3, 4, 5]
    );
}

#[test]
fn a_full_queue_pushes_back_and_takes_more_later() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let gated = Gated {
        store: log.store.clone(),
        ..Gated::default()
    };
    let parts = LogParts {
        blobs: Arc::new(gated.clone()),
        ..log.parts()
    };
    let sequencer = Sequencer::start(parts, AT_ONCE).unwrap();
    gated.shut();
    // The same few records over and over: the queue counts them, the log does not.
    let records = author.submissions(0..8).into_iter().cycle();
    let batch: Vec<_> = records.take(BATCH_RECORDS_MAX).collect();
    let too_large: Vec<_> = batch
        .iter()
        .cloned()
        .chain([author.submission(0)])
        .collect();
    assert_eq!(
        sequencer.submit(too_large).unwrap_err(),
        SubmitError::TooLarge
    );
    let waiting: Vec<_> = (0..QUEUE_RECORDS_MAX / BATCH_RECORDS_MAX)
        .map(|_| sequencer.submit(batch.clone()).unwrap())
        .collect();
    for _ in 0..3 {
        assert_eq!(
            sequencer.submit(author.submissions(9..10)).unwrap_err(),
            SubmitError::Full
        );
    }
    gated.open();
    for answer in waiting {
        check_answer(&batch, &answer.blocking_recv().unwrap().unwrap());
    }
    assert_eq!(append(&sequencer, author.submissions(9..10)).unwrap(), [8]);
    assert_eq!(log.fsck().unwrap().size, 9);
}

#[test]
fn stopping_finishes_what_was_accepted_and_takes_no_more() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = Sequencer::start(log.parts(), Duration::from_secs(3600)).unwrap();
    append(&sequencer, author.submissions(0..1)).unwrap();
    // None of these would be sequenced within the hour.
    let batches: Vec<_> = (0..5)
        .map(|n| author.submissions(1 + n * 10..11 + n * 10))
        .collect();
    let waiting: Vec<_> = batches
        .iter()
        .map(|batch| sequencer.submit(batch.clone()).unwrap())
        .collect();
    sequencer.stop();
    for (batch, answer) in batches.iter().zip(waiting) {
        check_answer(batch, &answer.blocking_recv().unwrap().unwrap());
    }
    assert!(matches!(
        sequencer.submit(author.submissions(99..100)),
        Err(SubmitError::Stopped(_))
    ));
    assert_eq!(sequencer.failure(), None);
    assert_eq!(log.fsck().unwrap().size, 51);
}

#[test]
fn many_callers_at_once_each_get_their_own_place() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = Sequencer::start(log.parts(), Duration::from_millis(2)).unwrap();
    let mut places: Vec<u64> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8u64)
            .map(|caller| {
                let (sequencer, author) = (&sequencer, &author);
                scope.spawn(move || {
                    let mut places = Vec::new();
                    for batch in 0..10u64 {
                        let from = caller * 1000 + batch * 10;
                        places.extend(
                            append(sequencer, author.submissions(from..from + 10)).unwrap(),
                        );
                    }
                    places
                })
            })
            .collect();
        callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect()
    });
    places.sort_unstable();
    assert_eq!(places, (0..800).collect::<Vec<_>>());
    assert_eq!(log.fsck().unwrap().size, 800);
}

#[test]
fn the_second_of_two_sequencers_on_one_log_stops() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let (first, second) = (log.start().unwrap(), log.start().unwrap());
    append(&first, author.submissions(0..5)).unwrap();
    let error = append(&second, author.submissions(5..8)).unwrap_err();
    assert!(
        matches!(&error, SubmitError::Failed(reason) if reason.contains("the head is not what it was")),
        "{error}"
    );
    let stopped = append(&second, author.submissions(8..9)).unwrap_err();
    assert!(matches!(stopped, SubmitError::Stopped(_)), "{stopped}");
    assert!(second.failure().is_some());
    append(&first, author.submissions(5..8)).unwrap();
    assert_eq!(log.fsck().unwrap().size, 8);
}

#[test]
fn time_that_goes_backwards_is_not_followed() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    append(&sequencer, author.submissions(0..1)).unwrap();
    let time = |log: &MemoryLog| {
        let head = String::from_utf8(log.store.load().unwrap().unwrap()).unwrap();
        head.lines()
            .nth(1)
            .unwrap()
            .strip_prefix("time ")
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert_eq!(time(&log), NOON_MS);
    log.clock.set(NOON_MS - 3_600_000);
    append(&sequencer, author.submissions(1..2)).unwrap();
    assert_eq!(time(&log), NOON_MS, "heads never go back in time");
    log.clock.set(NOON_MS + 1);
    append(&sequencer, author.submissions(2..3)).unwrap();
    assert_eq!(time(&log), NOON_MS + 1);
    sequencer.stop();
    // A little behind is a clock that was corrected; far behind is a head from the future.
    log.clock
        .set(NOON_MS - services::sequencer::FUTURE_TOLERANCE_MS + 1);
    log.start().unwrap().stop();
    log.clock
        .set(NOON_MS - services::sequencer::FUTURE_TOLERANCE_MS);
    let before = log.store.snapshot();
    let refused = refusal(log.start());
    assert!(refused.contains("from the future"), "{refused}");
    assert_same(&before, &log.store);
}

fn assert_same(before: &Memory, after: &Memory) {
    assert_eq!(before.load().unwrap(), after.load().unwrap());
    for directory in ["tile", "bodies", "staging"] {
        let paths = before.list(directory).unwrap();
        assert_eq!(paths, after.list(directory).unwrap());
        for path in paths {
            assert_eq!(
                before.read(&path).unwrap(),
                after.read(&path).unwrap(),
                "{path}"
            );
        }
    }
    assert_eq!(
        before.read("checkpoint").unwrap(),
        after.read("checkpoint").unwrap()
    );
}

#[test]
fn a_log_that_contradicts_itself_is_refused_and_left_alone() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    append(&sequencer, author.submissions(0..300)).unwrap();
    let old = log.store.snapshot();
    append(&sequencer, author.submissions(300..700)).unwrap();
    sequencer.stop();
    let old_head = old.load().unwrap();
    let read = |path: &str| log.store.read(path).unwrap().unwrap();

    // Another log's checkpoint of the same size: signed with the same key, but forked.
    let forked = MemoryLog::new();
    append(&forked.start().unwrap(), author.submissions(5000..5700)).unwrap();
    let fork = forked.store.read("checkpoint").unwrap();

    let mut flipped_tile = read("tile/0/002.p/188");
    flipped_tile[40] ^= 1;
    let mut flipped_entries = read("tile/entries/002.p/188");
    flipped_entries[100] ^= 1;
    let mut flipped_bodies = read("bodies/002.p/188");
    flipped_bodies[100] ^= 1;
    let truncated = |path: &str| read(path)[..read(path).len() - 1].to_vec();
    type Case<'c> = (
        &'c str,
        Vec<(&'c str, Option<Vec<u8>>)>,
        Option<Option<Vec<u8>>>,
    );
    let cases: Vec<Case<'_>> = vec![
        ("ahead of the head", vec![], Some(old_head.clone())),
        ("its head is gone", vec![], Some(None)),
        ("its head is gone", vec![("checkpoint", None)], Some(None)),
        (
            "the head: ",
            vec![],
            Some(Some(b"longrun head 2\n".to_vec())),
        ),
        ("checkpoint is gone", vec![("checkpoint", None)], None),
        (
            "checkpoint: ",
            vec![("checkpoint", Some(b"rubbish".to_vec()))],
            None,
        ),
        ("the log is forked", vec![("checkpoint", fork)], None),
        (
            "and staging/700-",
            vec![("checkpoint", old.read("checkpoint").unwrap())],
            None,
        ),
        (
            "tile/0/002.p/188 is missing",
            vec![("tile/0/002.p/188", None)],
            None,
        ),
        (
            "tile/0/002.p/188 has 6015 bytes",
            vec![("tile/0/002.p/188", Some(truncated("tile/0/002.p/188")))],
            None,
        ),
        (
            "does not hash to tile/0/002.p/188",
            vec![("tile/0/002.p/188", Some(flipped_tile))],
            None,
        ),
        (
            "do not give the root",
            vec![("tile/1/000.p/2", Some(vec![0; 64]))],
            None,
        ),
        (
            "does not hash to tile/0/002.p/188",
            vec![("tile/entries/002.p/188", Some(flipped_entries))],
            None,
        ),
        (
            "tile/entries/002.p/188: ",
            vec![(
                "tile/entries/002.p/188",
                Some(truncated("tile/entries/002.p/188")),
            )],
            None,
        ),
        (
            "bodies/002.p/188",
            vec![("bodies/002.p/188", Some(flipped_bodies))],
            None,
        ),
        ("bodies/002.p/188", vec![("bodies/002.p/188", None)], None),
    ];
    for (words, changes, head) in cases {
        let broken = MemoryLog {
            store: log.store.snapshot(),
            clock: log.clock.clone(),
        };
        for (path, bytes) in changes {
            broken.store.tamper(path, bytes);
        }
        if let Some(head) = head {
            broken.store.tamper_head(head);
        }
        let before = broken.store.snapshot();
        let refused = refusal(broken.start());
        assert!(refused.contains(words), "{words}: {refused}");
        assert_same(&before, &broken.store);
    }
    log.start().unwrap();
}

#[test]
fn another_key_or_name_does_not_open_the_log() {
    let log = MemoryLog::new();
    log.start().unwrap().stop();
    for key in [
        tlog::note::NoteSigner::from_seed(common::ORIGIN, &[8; 32]).unwrap(),
        tlog::note::NoteSigner::from_seed("log.example/other", &[7; 32]).unwrap(),
    ] {
        let refused = refusal(Sequencer::start(LogParts { key, ..log.parts() }, AT_ONCE));
        assert!(refused.contains("nothing was changed"), "{refused}");
    }
}

#[test]
fn a_crash_between_commit_and_publication_is_finished_at_the_start() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    append(&sequencer, author.submissions(0..250)).unwrap();
    let before = log.store.snapshot();
    let batch = author.submissions(250..600);
    append(&sequencer, batch.clone()).unwrap();
    sequencer.stop();
    let after = log.store.snapshot();

    // As the disk looks when power goes just after the swap: the new head, the staged bundle,
    // and none of the new files.
    let staged = {
        let failing = MemoryLog {
            store: before.snapshot(),
            clock: log.clock.clone(),
        };
        let sequencer = failing.start().unwrap();
        failing.store.fail(store::memory::Fault {
            operation: Operation::Swap,
            path_prefix: String::new(),
            effect: store::memory::Effect::PersistedAnyway,
            after: 0,
        });
        append(&sequencer, batch.clone()).unwrap_err();
        failing
    };
    assert_eq!((staged.checkpoint().size, staged.committed()), (250, 600));
    assert_eq!(staged.store.list("staging").unwrap().len(), 1);

    // A damaged bundle is noticed; the whole one is applied.
    let path = staged.store.list("staging").unwrap().remove(0);
    let damaged = MemoryLog {
        store: staged.store.snapshot(),
        clock: log.clock.clone(),
    };
    let mut bytes = staged.store.read(&path).unwrap().unwrap();
    bytes[1000] ^= 1;
    damaged.store.tamper(&path, Some(bytes));
    assert!(refusal(damaged.start()).contains("is damaged"));

    let sequencer = staged.start().unwrap();
    assert_eq!(staged.checkpoint().size, 600);
    assert_eq!(staged.store.list("staging").unwrap(), Vec::<String>::new());
    assert_eq!(
        append(&sequencer, batch).unwrap(),
        (250..600).collect::<Vec<_>>()
    );
    staged.fsck().unwrap();
    // The very files that an undisturbed round leaves.
    assert_eq!(
        after.list("tile").unwrap(),
        staged.store.list("tile").unwrap()
    );
}

#[test]
fn a_head_that_does_not_extend_what_was_published_is_refused() {
    let author = Author::new();
    let published = MemoryLog::new();
    append(&published.start().unwrap(), author.submissions(0..10)).unwrap();
    let other = MemoryLog::new();
    append(&other.start().unwrap(), author.submissions(100..120)).unwrap();
    // The other log's files and head under this log's smaller checkpoint.
    other
        .store
        .tamper("checkpoint", published.store.read("checkpoint").unwrap());
    let size_and_root = {
        let head = String::from_utf8(other.store.load().unwrap().unwrap()).unwrap();
        let signed =
            SignedCheckpoint::open(head.splitn(3, '\n').nth(2).unwrap().as_bytes(), &verifier())
                .unwrap();
        format!("{}-{}", signed.checkpoint().size, signed.checkpoint().root)
    };
    // A staged round that adds nothing to those 20 entries: the files are there already.
    let mut staged = b"longrun staging 1\n\0\0\0\0\0\0\0\x14\0\0\0\0".to_vec();
    staged.extend_from_slice(record::sha256(&staged.clone()).as_bytes());
    other
        .store
        .tamper(&format!("staging/{size_and_root}"), Some(staged));
    let refused = refusal(other.start());
    assert!(
        refused.contains("does not extend the published checkpoint"),
        "{refused}"
    );
}

#[test]
fn the_key_in_the_parts_is_the_one_that_signs() {
    let log = MemoryLog::new();
    let sequencer = Sequencer::start(
        LogParts {
            key: key(),
            ..log.parts()
        },
        AT_ONCE,
    )
    .unwrap();
    let note = sequencer.published().note.clone();
    SignedCheckpoint::open(note.as_bytes(), &verifier()).unwrap();
    let heads: Arc<dyn Heads> = Arc::new(log.store.clone());
    assert!(heads.load().unwrap().unwrap().ends_with(note.as_bytes()));
}
