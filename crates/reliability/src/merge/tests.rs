//! One order whatever the order of arrival; waiting, time-outs and late records; copies count once.

use super::*;
use crate::fold::party::{Party, See, outside};
use crate::fold::{Applied, History, Policy};

const BUCKET: u64 = Rule::DEFAULT.bucket_ms;

fn log(name: &str) -> LogOrigin {
    LogOrigin::new(format!("example.org/{name}")).expect("an origin")
}

fn placed(origin: &LogOrigin, index: u64, record: &Record) -> Placed {
    Placed {
        origin: origin.clone(),
        index,
        record: record.clone(),
    }
}

fn order(buckets: &[Bucket]) -> Vec<(u64, String, u64)> {
    let records = buckets.iter().flat_map(|bucket| {
        bucket.records.iter().map(|placed| {
            (
                bucket.start_ms / BUCKET,
                placed.origin.to_string(),
                placed.index,
            )
        })
    });
    records.collect()
}

#[test]
fn arrival_does_not_matter() {
    let (a, b) = (log("a"), log("b"));
    let record = &Party::new("caller").controls[0];
    let mut all = vec![
        (placed(&a, 0, record), 5 * BUCKET),
        (placed(&b, 7, record), 5 * BUCKET + 1),
        (placed(&a, 1, record), 5 * BUCKET + 9),
        (placed(&a, 2, record), 6 * BUCKET),
        (placed(&b, 8, record), 6 * BUCKET + 3),
    ];
    let want = [
        (5, "a", 0),
        (5, "a", 1),
        (5, "b", 7),
        (6, "a", 2),
        (6, "b", 8),
    ]
    .map(|(bucket, name, index)| (bucket, format!("example.org/{name}"), index));
    for _ in 0..all.len() {
        all.rotate_left(1);
        let mut merger = Merger::new([b.clone(), a.clone()], Rule::DEFAULT);
        for (placed, logged_ms) in &all {
            merger
                .add(placed.clone(), *logged_ms)
                .expect("a log of the policy");
        }
        assert!(
            merger.ready(0).is_empty(),
            "no log has said that it is past"
        );
        merger.checkpoint(&a, 7 * BUCKET).expect("known");
        assert!(merger.ready(0).is_empty(), "the other one has not");
        merger.checkpoint(&b, 7 * BUCKET).expect("known");
        let buckets = merger.ready(0);
        assert_eq!(order(&buckets), want);
        assert!(buckets.iter().all(|bucket| bucket.without.is_empty()));
        assert_eq!(merger.waiting(), 0);
    }
}

#[test]
fn a_silent_log_is_not_waited_for_longer_than_stated_and_comes_late() {
    let (a, b) = (log("a"), log("b"));
    let record = &Party::new("caller").controls[0];
    let mut merger = Merger::new([a.clone(), b.clone()], Rule::DEFAULT);
    merger
        .add(placed(&a, 0, record), 5 * BUCKET)
        .expect("known");
    merger.checkpoint(&a, 6 * BUCKET).expect("known");
    let due_ms = 6 * BUCKET + Rule::DEFAULT.timeout_ms;
    assert!(merger.ready(due_ms - 1).is_empty());
    let buckets = merger.ready(due_ms);
    assert_eq!(buckets[0].without, std::slice::from_ref(&b));
    // What the silent log had for that bucket enters the open one.
    merger
        .add(placed(&b, 0, record), 5 * BUCKET)
        .expect("known");
    merger.checkpoint(&a, 8 * BUCKET).expect("known");
    merger.checkpoint(&b, 8 * BUCKET).expect("known");
    assert_eq!(order(&merger.ready(due_ms)), [(6, b.to_string(), 0)]);
}

#[test]
fn a_log_that_nobody_named_is_refused() {
    let record = &Party::new("caller").controls[0];
    let mut merger = Merger::new([log("a")], Rule::DEFAULT);
    let refusal = merger.add(placed(&log("b"), 0, record), 0);
    assert_eq!(refusal, Err(MergeError::UnknownLog(log("b"))));
    assert!(merger.checkpoint(&log("b"), 0).is_err());
}

#[test]
fn a_record_counts_from_its_home_log_alone() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let (home, other) = (crate::fold::party::origin(), log("other"));
    let observation = caller.observe(&endpoint, 1, &See::ok());
    let all: Vec<&Record> = caller.controls.iter().chain([&observation]).collect();
    let mut history = History::new(Policy::without_log());
    for (index, record) in (100..).zip(&all) {
        let applied = history.apply_from(record, &other, index);
        assert_ne!(applied, Applied::Counted, "nothing of this log counts");
    }
    for (index, record) in (0..).zip(&all) {
        assert_eq!(history.apply_from(record, &home, index), Applied::Counted);
    }
    assert_eq!(
        history.apply_from(&observation, &other, 103),
        Applied::OtherHome
    );
    assert_eq!(
        history.apply_from(&observation, &home, 9),
        Applied::Repeated
    );
    let report = history.report(crate::level::Alpha::FIVE_PERCENT);
    assert_eq!(report.endpoints[0].calls, 1);
}
