//! One order whatever the order of arrival; waiting, time-outs and late records; copies count once.

use super::*;
use crate::fold::party::{Party, See, outside};
use crate::fold::{Applied, History, LATE_AFTER_MS, Observers, Policy};

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

#[test]
fn what_was_closed_is_closed_the_same_again_without_a_clock() {
    let (a, b) = (log("a"), log("b"));
    let record = &Party::new("caller").controls[0];
    let mut live = Merger::new([a.clone(), b.clone()], Rule::DEFAULT);
    live.add(placed(&a, 0, record), 6 * BUCKET).expect("known");
    live.checkpoint(&a, 6 * BUCKET).expect("known");
    let given_up_ms = 7 * BUCKET + Rule::DEFAULT.timeout_ms;
    assert_eq!(live.due(given_up_ms - 1), None);
    assert_eq!(live.due(given_up_ms), Some(7 * BUCKET));
    assert_eq!(live.behind(7 * BUCKET), [a.clone(), b.clone()]);
    let first = live.close(7 * BUCKET);
    live.add(placed(&b, 0, record), 6 * BUCKET + 1)
        .expect("known");
    // A log that nobody waits for any more holds nothing up.
    live.let_go(&b);
    live.checkpoint(&a, 8 * BUCKET).expect("known");
    assert_eq!(live.due(0), Some(8 * BUCKET));
    let then = live.close(8 * BUCKET);

    let mut again = Merger::new([a.clone(), b.clone()], Rule::DEFAULT);
    again.add(placed(&a, 0, record), 6 * BUCKET).expect("known");
    assert_eq!(order(&again.close(7 * BUCKET)), order(&first));
    again
        .add(placed(&b, 0, record), 6 * BUCKET + 1)
        .expect("known");
    assert_eq!(order(&again.close(8 * BUCKET)), order(&then));
    assert_eq!(order(&then), [(7, b.to_string(), 0)]);
}

#[test]
fn the_backlog_of_another_log_is_not_late() {
    let (east, mut west, endpoint) = (Party::new("east"), Party::new("west"), outside("m"));
    let (home, other) = (crate::fold::party::origin(), log("other"));
    west.move_home(other.as_str());
    let mut history = History::new(Policy {
        observers: Observers::Only(vec![east.id, west.id]),
        ..Policy::without_log()
    });
    let controls = east.controls.iter().chain(&west.controls);
    for (index, record) in (0..).zip(controls) {
        assert_eq!(history.apply_from(record, &home, index), Applied::Counted);
    }
    let at = |start_ms| See {
        start_ms,
        ..See::ok()
    };
    let (then, now) = (See::ok(), at(See::ok().start_ms + 3 * LATE_AFTER_MS));
    let mut take = |party: &Party, log: &LogOrigin, seq, see| {
        history.apply_from(&party.observe(&endpoint, seq, see), log, 10 + seq)
    };
    assert_eq!(take(&east, &home, 1, &now), Applied::Counted);
    // What the east saw by now says nothing about when the west logged this.
    assert_eq!(take(&west, &other, 1, &then), Applied::Counted);
    assert_eq!(take(&west, &other, 2, &now), Applied::Counted);
    assert_eq!(take(&west, &other, 3, &then), Applied::LateSuccess);
}

/// Last month's outage, read today for the first time, is none of today.
#[test]
fn the_backlog_of_another_log_makes_no_trouble_of_now() {
    let (east, mut west) = (Party::new("east"), Party::new("west"));
    let maker = Party::new("maker");
    let endpoint = crate::fold::party::joined(&maker, "m");
    let (home, other) = (crate::fold::party::origin(), log("other"));
    west.move_home(other.as_str());
    let mut history = History::new(Policy {
        observers: Observers::Only(vec![east.id, west.id]),
        ..Policy::without_log()
    });
    let parties = [&east, &west, &maker];
    let controls = parties.iter().flat_map(|party| &party.controls);
    for (index, record) in (0..).zip(controls) {
        assert_eq!(history.apply_from(record, &home, index), Applied::Counted);
    }
    let (then_ms, month_ms) = (See::ok().start_ms, 30 * 24 * 3600 * 1000);
    let ok = See {
        start_ms: then_ms + month_ms,
        ..See::ok()
    };
    let failed = See::failed(record::Outcome::Timeout, record::Fault::Provider);
    let mut index = 20;
    let mut take = |record: &Record, log: &LogOrigin| {
        index += 1;
        assert_eq!(history.apply_from(record, log, index), Applied::Counted);
    };
    take(&maker.manifest("m", "f16", then_ms), &home);
    take(&east.observe(&endpoint, 1, &ok), &home);
    for seq in 1..=10 {
        take(&west.observe(&endpoint, seq, &failed), &other);
    }
    take(&maker.manifest("m", "q4", then_ms + 3_600_000), &home);
    let report = history.report(crate::level::Alpha::FIVE_PERCENT);
    let told = &report.endpoints[0];
    assert_eq!((told.calls, told.failures, told.late), (11, 10, 10));
    assert_eq!(told.incidents.count, 0, "{:?}", told.incidents);
    let availability = &told.dimensions[0];
    assert_eq!((availability.judged, availability.bad), (11, Some(10)));
    assert_eq!(availability.epoch.number, 1);
    let of_now = crate::share::of_counts(1, 0, crate::level::Alpha::FIVE_PERCENT);
    assert_eq!(availability.current_ppm, Some(of_now.ends_ppm()));

    // The same in a log of one's own is told when it comes: nobody else dates it.
    let mut own = History::new(Policy::without_log());
    let records = (2..=11).map(|seq| east.observe(&endpoint, seq, &failed));
    let first = east.observe(&endpoint, 1, &ok);
    let all: Vec<Record> = [first].into_iter().chain(records).collect();
    for (index, record) in (0..).zip(east.controls.iter().chain(&all)) {
        own.apply(record, index);
    }
    let report = own.report(crate::level::Alpha::FIVE_PERCENT);
    assert_eq!(report.endpoints[0].incidents.count, 1);
}
