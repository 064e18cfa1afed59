//! What a crash, a change and another history leave of a journal.

use record::void::{OutcomeCounts, Range, Reason, Void, VoidStream};
use record::{Endpoint, NumberedKind, Seq, Signer, SigningKey, Statement, sha256};
use ring::rand::SystemRandom;

use super::*;

/// A record with this number; the kind does not matter here.
fn record(number: u64) -> Record {
    let random = SystemRandom::new();
    let key = SigningKey::generate(&random).expect("a key");
    let signer = Signer {
        id: Some(SignerId::new(sha256(b"somebody"))),
        key: *key.public(),
    };
    let seq = Seq::new(number).expect("a number");
    let void = Void {
        stream: VoidStream {
            endpoint: Endpoint {
                provider: "https://api.example.com".parse().expect("an origin"),
                model: "m".parse().expect("a name"),
            },
            kind: NumberedKind::Observation,
        },
        at_ms: record::bucket::start_ms(0),
        ranges: vec![Range {
            first: seq,
            last: seq,
        }],
        reason: Reason::Crash,
        outcomes: OutcomeCounts::default(),
    };
    let statement = Statement::new(signer, void).expect("a statement");
    key.sign_record(statement, &random).expect("a record")
}

fn of() -> Of {
    Of::new(SignerId::new(sha256(b"somebody")), None)
}

fn at(position: usize) -> Reached {
    Reached::Spool {
        position: i64::try_from(position).expect("a few"),
    }
}

/// The ids that a journal holds, in order.
fn held(journal: &Journal) -> Vec<record::RecordId> {
    let mut ids = Vec::new();
    let each = |fact: Fact<'_>| {
        let Fact::Record(record, index) = fact else {
            panic!("{fact:?}");
        };
        assert_eq!(index, ids.len() as u64);
        ids.push(record.id);
    };
    journal.replay(each).expect("it is whole");
    ids
}

/// A journal of these records in steps of three, and where each step ends in the file.
fn written(dir: &Path, records: &[Record]) -> Vec<(u64, usize)> {
    let mut journal = Journal::open(dir, &of()).expect("a new one");
    let mut ends = vec![(journal.file.length(), 0)];
    for (index, record) in records.iter().enumerate() {
        journal.note(record, index as u64);
        if index % 3 == 2 {
            journal.keep(&at(index + 1), true).expect("written");
            ends.push((journal.file.length(), index + 1));
        }
    }
    ends
}

fn ids(records: &[Record]) -> Vec<record::RecordId> {
    records.iter().map(|record| record.id).collect()
}

/// Wherever a write was cut off, what is in front of it counts, and what follows is there once.
#[test]
fn a_crash_anywhere_leaves_what_was_kept_before_and_nothing_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let records: Vec<Record> = (1..=9).map(record).collect();
    let ends = written(dir.path(), &records);
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).expect("there");
    let first = usize::try_from(ends[0].0).expect("small");
    for length in (first..=whole.len()).step_by(7).chain([whole.len()]) {
        std::fs::write(&path, &whole[..length]).expect("written");
        let kept = ends.iter().rev().find(|(end, _)| *end <= length as u64);
        let kept = kept.expect("the beginning is whole").1;
        let mut journal = Journal::open(dir.path(), &of()).expect("it opens");
        assert_eq!(held(&journal), ids(&records[..kept]), "{length} bytes");
        assert_eq!(journal.reached(), (kept > 0).then(|| at(kept)).as_ref());
        // The source gives what is behind it.
        for (index, record) in records.iter().enumerate().skip(kept) {
            journal.note(record, index as u64);
        }
        journal.keep(&at(records.len()), true).expect("written");
        drop(journal);
        let journal = Journal::open(dir.path(), &of()).expect("it opens");
        assert_eq!(held(&journal), ids(&records), "{length} bytes");
    }
}

#[test]
fn a_changed_byte_ends_it_there_and_nothing_changed_is_folded() {
    let dir = tempfile::tempdir().expect("a directory");
    let records: Vec<Record> = (1..=6).map(record).collect();
    let ends = written(dir.path(), &records);
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).expect("there");
    for at_byte in (0..whole.len()).step_by(11) {
        let mut changed = whole.clone();
        changed[at_byte] ^= 1 << (at_byte % 8);
        std::fs::write(&path, &changed).expect("written");
        let kept = ends.iter().rev().find(|(end, _)| *end <= at_byte as u64);
        let kept = kept.map_or(0, |(_, kept)| *kept);
        let journal = Journal::open(dir.path(), &of()).expect("it opens");
        assert_eq!(held(&journal), ids(&records[..kept]), "byte {at_byte}");
    }
}

#[test]
fn what_nothing_vouches_for_is_not_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let records: Vec<Record> = (1..=4).map(record).collect();
    let mut journal = Journal::open(dir.path(), &of()).expect("a new one");
    journal.note(&records[0], 0);
    journal.keep(&at(1), true).expect("written");
    journal.note(&records[1], 1);
    while journal.waiting.len() < SPILL_BYTES {
        journal.note(&records[2], 1);
    }
    let before = journal.file.length();
    journal.spill().expect("written");
    assert!(journal.file.length() > before && journal.waiting.is_empty());
    assert!(
        journal.keep(&at(1), false).is_ok(),
        "nothing new is vouched for"
    );
    drop(journal);
    let journal = Journal::open(dir.path(), &of()).expect("it opens");
    assert_eq!(held(&journal), ids(&records[..1]));
    assert_eq!(journal.file.length(), before, "it is cut off");
}

#[test]
fn a_journal_of_another_history_or_version_begins_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let records: Vec<Record> = (1..=3).map(record).collect();
    written(dir.path(), &records);
    let before = std::fs::read(dir.path().join(FILE)).expect("there");
    let another = Of::new(SignerId::new(sha256(b"somebody")), Some("log".to_owned()));
    let journal = Journal::open(dir.path(), &another).expect("it opens");
    assert!(held(&journal).is_empty() && journal.reached().is_none());
    let aside = std::fs::read(dir.path().join(ASIDE)).expect("it was laid aside");
    assert_eq!(aside, before);
    let taken = Journal::open(dir.path(), &another)
        .err()
        .expect("it is open");
    assert!(taken.to_string().contains("another gateway"), "{taken}");
    drop(journal);
    let later = Of {
        longrun_history_journal: VERSION + 1,
        ..another
    };
    drop(Journal::open(dir.path(), &later).expect("it opens"));
    std::fs::write(dir.path().join(FILE), b"something else").expect("written");
    let journal = Journal::open(dir.path(), &of()).expect("it opens");
    assert!(held(&journal).is_empty());
}

#[test]
fn a_place_in_a_log_is_one_only_with_its_root() {
    let mut frontier = Frontier::default();
    (0..21_u8).for_each(|leaf| frontier.push(sha256(&[leaf])));
    let root = frontier.root();
    let place = Reached::Log { frontier, root };
    let bytes = place.to_bytes();
    assert_eq!(Reached::from_bytes(&bytes).as_ref(), Some(&place));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let read = Reached::from_bytes(&changed);
        assert!(read.is_none(), "byte {at}: {read:?}");
    }
    let spool = at(77);
    assert_eq!(Reached::from_bytes(&spool.to_bytes()), Some(spool));
}
