//! Leases, uses, closes and crashes.

use super::*;

fn numbers(blocks: &[Block]) -> Vec<(String, u64, u32)> {
    blocks
        .iter()
        .map(|b| (b.stream_name.clone(), b.range.first, b.range.count))
        .collect()
}

/// As if the machine had been restarted: nothing is known of the last process.
fn reboot(fixture: &Fixture) {
    let file = fixture.directory.path().join(MARKS_FILE);
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[16] ^= 1;
    std::fs::write(&file, bytes).expect("written");
}

fn settle_all(spool: &Spool, tag: u64, lost: &[Block]) {
    let settles = lost.iter().map(|block| block.range).collect();
    append(
        spool,
        NewRow {
            settles,
            urgent: true,
            ..row(tag, None)
        },
    )
    .expect("void");
}

#[test]
fn a_number_has_one_record() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let block = lease(&spool, "s", 4);
    let stream = block.range.stream;
    append(&spool, row(1, Some((stream, 2)))).expect("first use");
    let again = append(&spool, row(2, Some((stream, 2)))).expect_err("second use");
    assert!(
        matches!(&again, SpoolError::NumberUsed { stream, seq: 2 } if stream == "s"),
        "{again}"
    );
    let outside = append(&spool, row(3, Some((stream, 5)))).expect_err("never leased");
    assert!(
        matches!(outside, SpoolError::NumberNotLeased { seq: 5, .. }),
        "{outside}"
    );
    // None of the refusals used a number up or left a row behind.
    append(&spool, row(4, Some((stream, 3)))).expect("still free");
    assert_eq!(spool.pending(0, 9, 999).expect("read").len(), 2);
    assert_eq!(spool.counts().pending_rows, 2);
    // A void over a used number is refused as a whole.
    let settles = vec![Range {
        stream,
        first: 1,
        count: 3,
    }];
    let void = append(
        &spool,
        NewRow {
            settles,
            ..row(5, None)
        },
    )
    .expect_err("2 is used");
    assert!(
        matches!(void, SpoolError::NumberUsed { seq: 2, .. }),
        "{void}"
    );
    append(&spool, row(6, Some((stream, 1)))).expect("1 was given back");
}

#[test]
fn a_number_stays_used_after_its_block_is_settled_and_its_row_pruned() {
    let mut fixture = Fixture::new();
    fixture.limits.published_rows = 1;
    let spool = fixture.open().spool;
    let stream = lease(&spool, "s", 8).range.stream;
    for seq in 1..=8 {
        append(&spool, row(seq, Some((stream, seq)))).expect("appended");
    }
    let answers = (1..=8).map(|n| published(n, 0)).collect();
    spool.settle(b"note", answers).expect("settled");
    spool.flush().expect("prunes");
    assert!(
        spool.by_id(&row(1, None).id).expect("read").is_none(),
        "pruned"
    );
    let again = append(&spool, row(9, Some((stream, 1)))).expect_err("used");
    assert!(
        matches!(again, SpoolError::NumberNotLeased { seq: 1, .. }),
        "{again}"
    );
    assert_eq!(lease(&spool, "s", 8).range.first, 9);
}

#[test]
fn a_killed_process_loses_what_it_handed_out_a_power_cut_all_it_had_leased() {
    for (power_cut, lost, resumed) in [
        (
            false,
            vec![("a", 2, 1), ("a", 5, 2)],
            vec![("a", 7, 2), ("b", 3, 2)],
        ),
        (true, vec![("a", 2, 1), ("a", 5, 4), ("b", 3, 2)], vec![]),
    ] {
        let fixture = Fixture::new();
        let opened = fixture.open();
        assert!(opened.lost.is_empty() && opened.resumed.is_empty());
        let spool = opened.spool;
        let a = lease(&spool, "a", 8).range.stream;
        let b = lease(&spool, "b", 4).range.stream;
        for (tag, number) in [
            (1, (a, 1)),
            (2, (a, 3)),
            (3, (a, 4)),
            (4, (b, 1)),
            (5, (b, 2)),
        ] {
            append(&spool, row(tag, Some(number))).expect("appended");
        }
        spool.issue(a, 6).expect("marked");
        drop(spool); // no close: as good as a kill
        if power_cut {
            reboot(&fixture);
        }
        let owned = |blocks: Vec<(&str, u64, u32)>| {
            blocks
                .into_iter()
                .map(|(name, first, count)| (name.to_owned(), first, count))
                .collect::<Vec<_>>()
        };
        let opened = fixture.open();
        assert_eq!(numbers(&opened.lost), owned(lost), "power cut: {power_cut}");
        assert_eq!(
            numbers(&opened.resumed),
            owned(resumed),
            "power cut: {power_cut}"
        );
        assert_eq!(opened.lost[0].secret, SECRET);
        // One row settles them; a second crash right after finds nothing more.
        settle_all(&opened.spool, 6, &opened.lost);
        let again = opened.resumed;
        drop(opened.spool);
        let opened = fixture.open();
        assert!(
            opened.lost.is_empty() && opened.resumed == again,
            "{:?}",
            opened.lost
        );
        assert_eq!(
            lease(&opened.spool, "a", 8).range.first,
            9,
            "numbers are never leased twice"
        );
        assert_eq!(
            opened.spool.high_marks().expect("read"),
            [("a".into(), 16), ("b".into(), 4)]
        );
    }
}

#[test]
fn a_block_whose_numbers_never_left_is_whole_after_a_kill() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let stream = lease(&spool, "a", 4).range.stream;
    spool.issue(stream, 2).expect("marked");
    lease(&spool, "a", 4);
    drop(spool);
    let opened = fixture.open();
    assert_eq!(numbers(&opened.lost), [("a".into(), 1, 2)]);
    assert_eq!(
        numbers(&opened.resumed),
        [("a".into(), 3, 2), ("a".into(), 5, 4)]
    );
}

#[test]
fn an_orderly_close_gives_unused_numbers_back_once() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let stream = lease(&spool, "a", 8).range.stream;
    append(&spool, row(1, Some((stream, 1)))).expect("appended");
    let unused = Range {
        stream,
        first: 4,
        count: 5,
    };
    let wrong = spool
        .close(vec![Range {
            first: 1,
            count: 8,
            ..unused
        }])
        .expect_err("1 is used");
    assert!(
        matches!(wrong, SpoolError::NumberUsed { seq: 1, .. }),
        "{wrong}"
    );
    spool.close(vec![unused]).expect("closed");
    assert!(matches!(
        append(&spool, row(9, None)),
        Err(SpoolError::Closed)
    ));
    drop(spool);

    reboot(&fixture); // the note is in the database: a restart of the machine does not matter
    let opened = fixture.open();
    assert_eq!(
        numbers(&opened.lost),
        [("a".into(), 2, 2)],
        "handed out, never recorded"
    );
    assert_eq!(numbers(&opened.resumed), [("a".into(), 4, 5)]);
    append(&opened.spool, row(2, Some((stream, 4)))).expect("continues");
    drop(opened);
    reboot(&fixture); // a power cut: the note must not be believed a second time
    let opened = fixture.open();
    assert_eq!(
        numbers(&opened.lost),
        [("a".into(), 2, 2), ("a".into(), 5, 4)]
    );
    assert!(opened.resumed.is_empty());
}

/// The next block is leased while half of the one before is left: its first number is not where the
/// stream is.
#[test]
fn what_a_close_left_over_is_not_lost_with_the_next_block_after_a_restart_of_the_machine() {
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    let stream = lease(&spool, "a", 16).range.stream;
    for seq in 1..=8 {
        append(&spool, row(seq, Some((stream, seq)))).expect("appended");
    }
    let unused = Range {
        stream,
        first: 9,
        count: 8,
    };
    spool.close(vec![unused]).expect("closed");
    drop(spool);

    reboot(&fixture);
    let opened = fixture.open();
    assert_eq!(numbers(&opened.resumed), [("a".into(), 9, 8)]);
    lease(&opened.spool, "a", 16);
    drop(opened); // a kill
    let opened = fixture.open();
    assert!(opened.lost.is_empty(), "{:?}", opened.lost);
    assert_eq!(
        numbers(&opened.resumed),
        [("a".into(), 9, 8), ("a".into(), 17, 16)]
    );
}
