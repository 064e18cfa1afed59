use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

mod claim;
mod crash;
mod numbers;

const SECRET: [u8; 32] = [7; 32];

struct Fixture {
    directory: tempfile::TempDir,
    limits: Limits,
}

impl Fixture {
    fn new() -> Fixture {
        let limits = Limits {
            linger: Duration::from_millis(1),
            ..Limits::default()
        };
        Fixture {
            directory: tempfile::tempdir().expect("a temporary directory"),
            limits,
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("spool.sqlite")
    }

    fn open(&self) -> Opened {
        Spool::open(&self.file(), self.limits.clone()).expect("the spool opens")
    }
}

fn lease(spool: &Spool, stream: &str, count: u32) -> Block {
    let (answer, block) = mpsc::channel();
    spool
        .lease(
            stream,
            count,
            SECRET,
            Box::new(move |block| answer.send(block).expect("asked")),
        )
        .expect("queued");
    block.recv().expect("answered").expect("leased")
}

fn append(spool: &Spool, row: NewRow) -> Result<i64, SpoolError> {
    let (answer, outcome) = mpsc::channel();
    spool.append(
        row,
        Box::new(move |outcome| answer.send(outcome).expect("asked")),
    )?;
    outcome.recv().expect("answered")
}

/// A row whose id, envelope and time all come from `tag`.
fn row(tag: u64, number: Option<(StreamId, u64)>) -> NewRow {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&tag.to_be_bytes());
    let envelope = format!("envelope {tag}").into_bytes();
    NewRow {
        id,
        number,
        envelope,
        at_ms: 1000 + tag,
        ..NewRow::default()
    }
}

fn published(n: i64, index: u64) -> Settled {
    Settled::Published {
        n,
        index,
        leaf: None,
        proof: vec![index.to_be_bytes()[7]; 64],
    }
}

#[test]
fn a_row_goes_out_and_comes_back_with_its_place() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let block = lease(&spool, "receipt a/b", 4);
    let mut first = row(1, Some((block.range.stream, 1)));
    first.call = Some([9; 16]);
    first.private = b"kept here".to_vec();
    let position = append(&spool, first.clone()).expect("appended");

    let pending = spool.pending(0, 10, 1 << 20).expect("read");
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].n, position);
    assert_eq!(pending[0].envelope, b"envelope 1");
    assert_eq!(spool.oldest_pending_ms().expect("read"), Some(1001));
    let waiting = spool.by_id(&first.id).expect("read").expect("there");
    assert_eq!(waiting.state, RowState::Pending);

    spool
        .settle(b"the note", vec![published(pending[0].n, 41)])
        .expect("settled");
    let rows = spool.by_call(&[9; 16]).expect("read");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].private, b"kept here");
    assert_eq!(rows[0].number, Some((block.range.stream, 1)));
    let place = Place {
        index: 41,
        leaf: None,
        proof: vec![41; 64],
        checkpoint: b"the note".to_vec(),
    };
    assert_eq!(rows[0].state, RowState::Published(place));
    assert!(spool.pending(0, 10, 1 << 20).expect("read").is_empty());
    assert_eq!(
        spool.secret_of(block.range.stream, 1).expect("read"),
        Some(SECRET)
    );
    let counts = spool.counts();
    assert_eq!(
        (
            counts.pending_rows,
            counts.pending_bytes,
            counts.published_rows
        ),
        (0, 0, 1)
    );
    // A late repetition of the same answer changes nothing.
    spool
        .settle(b"other", vec![published(pending[0].n, 99)])
        .expect("ignored");
    assert_eq!(
        spool.counts(),
        Counts {
            commits: counts.commits + 1,
            ..counts
        }
    );
    assert_eq!(spool.by_call(&[9; 16]).expect("read"), rows);
}

#[test]
fn a_refused_row_keeps_its_reason_and_is_not_sent_again() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    append(&spool, row(1, None)).expect("appended");
    let n = spool.pending(0, 1, 1).expect("read")[0].n;
    spool
        .settle(
            b"",
            vec![Settled::Refused {
                n,
                reason: "no quota".into(),
            }],
        )
        .expect("settled");
    let found = spool.by_id(&row(1, None).id).expect("read").expect("there");
    assert_eq!(
        found.state,
        RowState::Refused {
            reason: "no quota".into()
        }
    );
    assert_eq!(
        (spool.counts().pending_rows, spool.counts().refused_rows),
        (0, 1)
    );
}

#[test]
fn a_row_without_a_number_is_stored_once() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let both = mpsc::channel();
    for _ in 0..2 {
        // In one group, most likely; in two, it is the same.
        let answer = both.0.clone();
        let done = Box::new(move |outcome: Result<i64, SpoolError>| {
            answer.send(outcome.is_ok()).expect("asked");
        });
        spool.append(row(1, None), done).expect("queued");
    }
    assert!(
        both.1.recv().expect("answered") != both.1.recv().expect("answered"),
        "one of them"
    );
    let later = append(&spool, row(1, None)).expect_err("stored");
    assert!(matches!(&later, SpoolError::Duplicate { id } if id.starts_with("0000000000000001")));
    drop(spool);
    let spool = fixture.open().spool;
    assert!(matches!(
        append(&spool, row(1, None)),
        Err(SpoolError::Duplicate { .. })
    ));
    assert_eq!(spool.counts().pending_rows, 1);
}

/// Rows move from memory to the indexes in chunks; nobody may lose sight of one meanwhile.
#[test]
fn every_row_is_found_before_during_and_after_it_is_indexed() {
    let fixture = Fixture::new();
    let mut spool = fixture.open().spool;
    let total = 2 * recent::TAIL_ROWS as u64 + 700;
    let spread = |tag: u64| {
        let mut row = row(tag, None);
        row.id[..8].copy_from_slice(&tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        row.id[8..16].copy_from_slice(&tag.to_be_bytes());
        row.call = Some(row.id[..16].try_into().expect("sixteen bytes"));
        row
    };
    for tag in 0..total {
        let done =
            Box::new(|outcome: Result<i64, SpoolError>| assert!(outcome.is_ok(), "appended"));
        spool.append(spread(tag), done).expect("queued");
        if tag % 611 != 0 {
            continue;
        }
        spool.flush().expect("flushed");
        for tag in (0..=tag).step_by(97).chain([tag]) {
            let wanted = spread(tag);
            let found = spool.by_id(&wanted.id).expect("read").expect("by id");
            assert_eq!(found.envelope, wanted.envelope);
            let found = spool.by_call(&wanted.call.expect("given")).expect("read");
            assert_eq!(
                found.iter().map(|it| it.id).collect::<Vec<_>>(),
                [wanted.id]
            );
        }
        if tag % 5 == 0 {
            drop(spool);
            spool = fixture.open().spool;
        }
    }
}

#[test]
fn a_full_spool_refuses_at_once_and_takes_what_is_urgent() {
    let mut fixture = Fixture::new();
    fixture.limits.pending_rows = 3;
    let spool = fixture.open().spool;
    for tag in 1..=3 {
        append(&spool, row(tag, None)).expect("room");
    }
    assert!(!spool.has_room(10));
    let full = append(&spool, row(4, None)).expect_err("full");
    assert!(matches!(full, SpoolError::Full { rows: 3, .. }), "{full}");
    append(
        &spool,
        NewRow {
            urgent: true,
            ..row(5, None)
        },
    )
    .expect("urgent");
    spool
        .settle(b"note", (1..=4).map(|n| published(n, 0)).collect())
        .expect("settled");
    assert!(spool.has_room(10));
    append(&spool, row(4, None)).expect("room again");

    fixture.limits.pending_bytes = 20;
    drop(spool);
    let spool = fixture.open().spool;
    assert_eq!(
        spool.counts().pending_bytes,
        10,
        "what was pending still counts"
    );
    append(&spool, row(6, None)).expect("just fits");
    assert!(matches!(
        append(&spool, row(7, None)),
        Err(SpoolError::Full { bytes: 20, .. })
    ));
}

#[test]
fn old_published_rows_go_pinned_and_pending_ones_stay() {
    let mut fixture = Fixture::new();
    fixture.limits.published_rows = 80;
    let spool = fixture.open().spool;
    append(
        &spool,
        NewRow {
            pinned: true,
            ..row(1, None)
        },
    )
    .expect("appended");
    append(&spool, row(2, None)).expect("appended");
    let stream = lease(&spool, "s", 300).range.stream;
    for seq in 1..=300 {
        let done =
            Box::new(|outcome: Result<i64, SpoolError>| assert!(outcome.is_ok(), "appended"));
        spool
            .append(row(10 + seq, Some((stream, seq))), done)
            .expect("queued");
    }
    spool.flush().expect("flushed");
    spool
        .settle(b"one", vec![published(1, 0)])
        .expect("settled");
    for n in 3..=302u32 {
        let note = format!("note {n}");
        spool
            .settle(note.as_bytes(), vec![published(n.into(), n.into())])
            .expect("settled");
    }
    let kept = spool.rows(0, 1000).expect("read");
    assert!(kept.len() <= 80 + 80 / 8 + 2, "{} rows kept", kept.len());
    assert!(
        matches!(kept[0].state, RowState::Published(_)) && kept[0].n == 1,
        "pinned"
    );
    assert!(
        matches!(kept[1].state, RowState::Pending) && kept[1].n == 2,
        "pending"
    );
    assert_eq!(
        kept.last().map(|row| row.n),
        Some(302),
        "the newest is kept"
    );
    assert_eq!(spool.pinned().expect("read"), vec![kept[0].clone()]);
    let last = kept.last().and_then(|row| row.number).expect("numbered");
    assert_eq!(spool.secret_of(last.0, last.1).expect("read"), Some(SECRET));
    assert_eq!(spool.counts().published_rows, kept.len() as u64 - 1);
    drop(spool);
    let reopened = fixture.open();
    assert_eq!(
        reopened.spool.counts().published_rows,
        kept.len() as u64 - 1
    );
    assert!(reopened.lost.is_empty());
}

/// Where no log takes rows the newest stay, as far as nobody needs the others; nothing is refused, and a
/// number that is gone stays used.
#[test]
fn without_a_log_the_oldest_rows_are_let_go_of() {
    let mut fixture = Fixture::new();
    fixture.limits.pending_rows = 40;
    fixture.limits.lets_go = true;
    let spool = fixture.open().spool;
    let block = lease(&spool, "s", 1024);
    let pinned = NewRow {
        pinned: true,
        ..row(9_999, None)
    };
    append(&spool, pinned).expect("stored");
    let number = |seq: u64| Some((block.range.stream, seq));
    for seq in 1..=100 {
        append(&spool, row(seq, number(seq))).expect("nobody needs room for this few");
    }
    assert_eq!(spool.counts().pending_rows, 101, "all may still be needed");
    // The first row is the pinned one.
    spool.let_go_through(51);
    for seq in 101..=140 {
        append(&spool, row(seq, number(seq))).expect("stored");
    }
    let counts = spool.counts();
    assert_eq!((counts.let_go_rows, spool.gone_through()), (50, 51));
    assert_eq!(counts.pending_rows, 91);
    spool.let_go_through(i64::MAX);
    for seq in 141..=300 {
        append(&spool, row(seq, number(seq))).expect("stored");
        assert!(spool.counts().pending_rows <= 140);
    }
    let counts = spool.counts();
    assert!((35..=46).contains(&counts.pending_rows), "{counts:?}");
    assert_eq!(counts.let_go_rows + counts.pending_rows, 301);
    let kept: Vec<u64> = spool
        .rows(0, 2000)
        .expect("read")
        .iter()
        .filter_map(|row| row.number.map(|(_, seq)| seq))
        .collect();
    let newest: Vec<u64> = (300 - kept.len() as u64 + 1..=300).collect();
    assert_eq!(kept, newest, "the newest, without a gap");
    assert_eq!(spool.pinned().expect("read").len(), 1);
    let first = spool.first_numbers(0).expect("read");
    assert_eq!(first, [("s".to_owned(), newest[0])]);
    assert!(matches!(
        append(&spool, row(5, number(5))),
        Err(SpoolError::NumberUsed { .. })
    ));
    let before = (spool.counts().let_go_rows, spool.gone_through());
    spool.close(Vec::new()).expect("closed");
    drop(spool);
    let again = fixture.open();
    assert_eq!(again.spool.counts().let_go_rows, before.0);
    assert_eq!(again.spool.gone_through(), before.1);
    let lost: u32 = again.lost.iter().map(|block| block.range.count).sum();
    assert_eq!(lost, 0, "what is gone is not lost");
}

/// Nobody allows any to go: then the bounds hold, an eighth later.
#[test]
fn rows_that_are_needed_are_not_let_go_of() {
    let mut fixture = Fixture::new();
    (fixture.limits.pending_rows, fixture.limits.lets_go) = (8, true);
    let spool = fixture.open().spool;
    let (mut stored, mut full) = (0, None);
    for tag in 0..10_000 {
        match spool.append(row(tag, None), Box::new(|_| {})) {
            Ok(()) => stored += 1,
            Err(error) => full = full.or(Some(error)),
        }
    }
    assert!(matches!(full, Some(SpoolError::Full { .. })), "{full:?}");
    spool.flush().expect("written");
    assert_eq!(spool.rows(0, 20_000).expect("read").len(), stored);
}

/// The spool of an earlier version is taken over as it is.
#[test]
fn a_spool_of_an_earlier_version_goes_on() {
    let columns = "ALTER TABLE tally DROP COLUMN let_go_rows;
                   ALTER TABLE tally DROP COLUMN gone_through;";
    goes_on_from(1, columns);
    goes_on_from(2, "");
}

fn goes_on_from(version: i32, undo: &str) {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    append(&spool, row(1, None)).expect("stored");
    spool.close(Vec::new()).expect("closed");
    drop(spool);
    let connection = rusqlite::Connection::open(fixture.file()).expect("opens");
    connection
        .execute_batch(&format!("{undo} PRAGMA user_version = {version};"))
        .expect("as it was");
    drop(connection);
    let again = fixture.open().spool;
    assert_eq!((again.counts().pending_rows, again.gone_through()), (1, 0));
    append(&again, row(2, None)).expect("stored");
}

#[test]
fn index_entries_go_after_their_rows() {
    let mut fixture = Fixture::new();
    fixture.limits.published_rows = 500;
    let spool = fixture.open().spool;
    let mut n = 0;
    for batch in 0..100u64 {
        for tag in batch * 200..(batch + 1) * 200 {
            let mut row = row(tag, None);
            // Spread over the keys, as digests are.
            row.id[..8].copy_from_slice(&tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            row.call = Some(row.id[..16].try_into().expect("sixteen bytes"));
            let done =
                Box::new(|outcome: Result<i64, SpoolError>| assert!(outcome.is_ok(), "appended"));
            spool.append(row, done).expect("queued");
        }
        spool.flush().expect("flushed");
        let answers = (0..200).map(|_| {
            n += 1;
            published(n, 0)
        });
        spool.settle(b"note", answers.collect()).expect("settled");
    }
    let look = rusqlite::Connection::open(fixture.file()).expect("opens");
    let count = |table| {
        let sql = format!("SELECT count(*) FROM {table}");
        look.query_row(&sql, [], |row| row.get::<_, i64>(0))
            .expect("counted")
    };
    assert!(count("record") < 1000, "{} rows", count("record"));
    for index in ["by_id", "by_call"] {
        assert!(
            count(index) < 15_000,
            "{} entries in {index} after 20,000 rows",
            count(index)
        );
    }
}

#[test]
fn published_bytes_are_bounded_too() {
    let mut fixture = Fixture::new();
    fixture.limits.published_bytes = 100;
    let spool = fixture.open().spool;
    for tag in 1..=30 {
        append(&spool, row(tag, None)).expect("appended");
        let n = spool.pending(0, 1, 1).expect("read")[0].n;
        spool
            .settle(b"note", vec![published(n, tag)])
            .expect("settled");
        spool.flush().expect("prunes");
    }
    assert!(
        spool.counts().published_bytes <= 120,
        "{:?}",
        spool.counts()
    );
}

/// One answer of the log settles hundreds of rows; all that are too many go with it.
#[test]
fn the_bounds_hold_for_many_rows_at_once_and_for_refused_ones() {
    let mut fixture = Fixture::new();
    fixture.limits.published_bytes = 100;
    let settled = |spool: &Spool, tags: std::ops::RangeInclusive<u64>, refuses: bool| {
        let answers = tags.map(|tag| {
            let n = append(spool, row(tag, None)).expect("appended");
            if refuses {
                let reason = "no quota".to_owned();
                return Settled::Refused { n, reason };
            }
            published(n, tag)
        });
        spool.settle(b"note", answers.collect()).expect("settled");
        spool.counts()
    };
    let spool = fixture.open().spool;
    // Twelve bytes each: eight of them fit, and no more go than have to.
    let counts = settled(&spool, 100..=129, false);
    assert_eq!((counts.published_rows, counts.published_bytes), (8, 96));
    let counts = settled(&spool, 130..=159, true);
    assert_eq!((counts.published_rows, counts.published_bytes), (0, 0));
    assert_eq!((counts.refused_rows, counts.refused_bytes), (8, 96));
    assert_eq!(spool.rows(0, 1000).expect("read").len(), 8);
    drop(spool);

    fixture.limits.published_rows = 4;
    let spool = fixture.open().spool;
    let found = spool.counts();
    assert_eq!((found.refused_rows, found.refused_bytes), (8, 96));
    let counts = settled(&spool, 160..=161, true);
    assert_eq!((counts.refused_rows, counts.refused_bytes), (4, 48));
}

#[test]
fn appends_are_committed_in_groups() {
    let mut fixture = Fixture::new();
    fixture.limits.linger = Duration::from_millis(5);
    let spool = fixture.open().spool;
    let rows = 500;
    let (answer, outcomes) = mpsc::channel();
    for tag in 0..rows {
        let answer = answer.clone();
        let done = Box::new(move |outcome| answer.send(outcome).expect("asked"));
        spool.append(row(tag, None), done).expect("queued");
    }
    for _ in 0..rows {
        outcomes.recv().expect("answered").expect("durable");
    }
    let counts = spool.counts();
    assert_eq!(counts.committed_rows, rows);
    assert!(
        counts.commits <= rows / 10,
        "{} commits for {rows} rows",
        counts.commits
    );
}

#[test]
fn a_failed_commit_is_not_recorded_and_leaves_its_numbers_free() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let stream = lease(&spool, "s", 4).range.stream;
    let intruder = rusqlite::Connection::open(fixture.file()).expect("opens");
    intruder.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let began = std::time::Instant::now();
    let failed = append(&spool, row(1, Some((stream, 1)))).expect_err("locked out");
    assert!(matches!(failed, SpoolError::Database(_)), "{failed}");
    assert!(!spool.is_well());
    assert_eq!(spool.counts().pending_rows, 0);
    intruder.execute_batch("ROLLBACK").expect("unlocks");
    spool.flush().expect("there is nothing to write");
    // Unless this took so long that the writer has tried the disk meanwhile.
    let was_tried = began.elapsed() > writer::TRY_AGAIN;
    assert!(was_tried || !spool.is_well(), "nothing was written");

    // And in the middle of the transaction, when its numbers are marked already.
    let trap =
        "CREATE TRIGGER trap BEFORE UPDATE ON lease BEGIN SELECT RAISE(ABORT, 'a trap'); END";
    intruder.execute_batch(trap).expect("set");
    let failed = append(&spool, row(1, Some((stream, 1)))).expect_err("trapped");
    assert!(matches!(failed, SpoolError::Database(_)), "{failed}");
    intruder
        .execute_batch("DROP TRIGGER trap")
        .expect("removed");

    append(&spool, row(1, Some((stream, 1)))).expect("recovers");
    assert!(spool.is_well());
}

#[test]
fn a_sick_disk_is_found_well_again_though_nobody_writes() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let intruder = rusqlite::Connection::open(fixture.file()).expect("opens");
    let trap =
        "CREATE TRIGGER trap BEFORE INSERT ON lease BEGIN SELECT RAISE(ABORT, 'a trap'); END";
    intruder.execute_batch(trap).expect("set");
    let (answer, block) = mpsc::channel();
    let done = Box::new(move |block| answer.send(block).expect("asked"));
    spool.lease("s", 4, SECRET, done).expect("queued");
    block.recv().expect("answered").expect_err("trapped");
    assert!(!spool.is_well());
    // Those who ask for the status meanwhile write nothing and keep nobody from trying.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !spool.is_well() {
        assert!(std::time::Instant::now() < deadline, "nobody tries");
        spool.flush().expect("there is nothing to write");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sizes_are_bounded() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let large = NewRow {
        envelope: vec![0; ENVELOPE_BYTES_MAX + 1],
        ..row(1, None)
    };
    assert!(matches!(
        append(&spool, large),
        Err(SpoolError::TooLarge { .. })
    ));
    let ignore = || Box::new(|_| panic!("not queued"));
    let count = BLOCK_NUMBERS_MAX + 1;
    assert!(matches!(
        spool.lease("s", count, SECRET, ignore()),
        Err(SpoolError::TooLarge { .. })
    ));
    let name = "s".repeat(STREAM_NAME_BYTES_MAX + 1);
    assert!(matches!(
        spool.lease(&name, 1, SECRET, ignore()),
        Err(SpoolError::TooLarge { .. })
    ));
    // A batch is bounded in bytes, but never empty while something waits.
    append(&spool, row(1, None)).expect("appended");
    append(&spool, row(2, None)).expect("appended");
    assert_eq!(spool.pending(0, 10, 1).expect("read").len(), 1);
    assert_eq!(spool.pending(0, 10, 1 << 20).expect("read").len(), 2);
    assert_eq!(spool.pending(1, 10, 1 << 20).expect("read")[0].n, 2);
}
