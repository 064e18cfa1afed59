//! Summaries: made from a log, carried by a history file, put together, and counted again by bundles.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

mod common;
#[path = "common/story.rs"]
mod story;

use std::collections::BTreeMap;

use record::Record;
use record::control::LogOrigin;
use record::summary::{BUNDLE_ENTRIES, Summary};
use story::{Story, observe, only, outside, summaries_of};
use tlog::history::{HistoryReader, Item, Selection};
use tlog::summary::{ChainOf, Counts, Recount, Summaries, compare};
use tlog::verify::history::{HistoryCheck, HistoryReport, open};
use tlog::verify::{Status, Verdict};

/// Reads and judges a file of summaries.
fn check(story: &Story, bytes: &[u8]) -> (HistoryReport, Summaries) {
    let mut reader = HistoryReader::open(bytes).unwrap();
    let mut check = HistoryCheck::new(reader.header().clone());
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Record(item) => check.record(&item.place, &open(item.signature, item.statement)),
            Item::Erased(item) => check.erased(&item),
            Item::Tail(gap) => check.tail(&gap),
            Item::Stream(told) => check.stream(&told),
            Item::Signer(told) => check.signer(&told),
        }
        check.is_within_limits().unwrap();
    }
    let summaries = check.summaries().clone();
    (check.finish(Some(&story.policy()), None), summaries)
}

fn chain<'a>(summaries: &'a Summaries, model: &str) -> &'a ChainOf {
    let mut chains = summaries.chains();
    let found = chains.find(|(_, it)| it.endpoint().model.as_str() == model);
    found.unwrap().1
}

fn recount(story: &Story, bundle: u64) -> Recount {
    let mut recount = Recount::default();
    let entries = bundle * BUNDLE_ENTRIES..(bundle + 1) * BUNDLE_ENTRIES;
    for index in entries {
        if story.erased.contains(&index) {
            recount.erased();
        } else {
            recount.record(&story.records[usize::try_from(index).unwrap()]);
        }
    }
    recount
}

/// Observations by model within whole bundles, straight from the story.
fn counted(story: &Story, end: u64) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in &story.records[..usize::try_from(end).unwrap()] {
        if let record::Predicate::Observation(seen) = &record.statement.predicate {
            *counts
                .entry(seen.stream.endpoint.model.to_string())
                .or_default() += 1;
        }
    }
    counts
}

#[test]
fn summaries_stand_for_the_records_and_every_bundle_counts_again() {
    let mut story = Story::new(200);
    let end = story.size() / BUNDLE_ENTRIES * BUNDLE_ENTRIES;
    assert!(end >= 3 * BUNDLE_ENTRIES);
    assert_eq!(story.summarise(|_| {}), 3, "one for each endpoint");
    let bytes = story.export(&summaries_of(Selection::default()));
    assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
    let (report, summaries) = check(&story, &bytes);
    assert_eq!(report.report.verdict, Verdict::Valid, "{report:#?}");
    assert_eq!(
        report.records,
        3 + 2,
        "summaries, and their signer's controls"
    );
    let counts = counted(&story, end);
    for (_, chain) in summaries.chains() {
        let model = chain.endpoint().model.to_string();
        // The body of one observation of `a` was erased before.
        let lost = u64::from(model == "a");
        assert_eq!(chain.counts().calls, counts[&model] - lost, "{model}");
        assert_eq!((chain.covers_to(), chain.summaries()), (end, 1));
        for bundle in 0..end / BUNDLE_ENTRIES {
            compare(chain, bundle, &recount(&story, bundle)).unwrap();
        }
    }
    assert_eq!(
        chain(&summaries, "a").unknown(),
        3,
        "voided, missing, erased"
    );
    let (report, summaries) = check(&story, &story.export(&summaries_of(only(&[outside("b")]))));
    assert_eq!(report.report.verdict, Verdict::Valid, "{report:#?}");
    assert_eq!(summaries.chains().count(), 1);
}

#[test]
fn a_chain_is_carried_on_and_what_is_missing_from_it_shows() {
    let mut story = Story::new(70);
    assert_eq!(story.summarise(|_| {}), 3);
    assert_eq!(story.stretches().len(), 0, "no whole bundle is new");
    for number in 71..=400 {
        let record = observe(&story.caller, &outside("a"), number, None);
        story.append(record);
    }
    assert_eq!(story.summarise(|_| {}), 3);
    let (report, summaries) = check(&story, &story.export(&summaries_of(Selection::default())));
    assert_eq!(report.report.verdict, Verdict::Valid, "{report:#?}");
    let a = chain(&summaries, "a");
    assert_eq!((a.summaries(), a.covers_to() % BUNDLE_ENTRIES), (2, 0));
    for bundle in 0..a.covers_to() / BUNDLE_ENTRIES {
        compare(a, bundle, &recount(&story, bundle)).unwrap();
    }
    let quiet = chain(&summaries, "b");
    assert_eq!(quiet.covers_to(), a.covers_to(), "nothing is a summary too");

    // The first summary of `a` is left out, with a fitting proof and account.
    let selection = summaries_of(only(&[outside("a")]));
    let mut plan = story.plan(&selection);
    let is_summary = |index: &u64| {
        let record: &Record = &story.records[usize::try_from(*index).unwrap()];
        matches!(record.statement.predicate, record::Predicate::Summary(_))
    };
    let first = plan.entries.iter().position(is_summary).unwrap();
    plan.entries.remove(first);
    let bytes = story.file(&selection, &plan, story.items(&plan.entries));
    let (report, _) = check(&story, &bytes);
    assert_eq!(report.report.verdict, Verdict::Invalid);
    let why = &report.report.check("summaries").unwrap().reason;
    assert!(why.contains("number 2 of its chain"), "{why}");
}

#[test]
fn a_misstated_bundle_shows_when_it_is_drawn_and_in_no_other() {
    let mut story = Story::new(200);
    story.summarise(|summary| {
        if summary.endpoint == outside("b") {
            summary.bundles[1].good -= 1;
            summary.bundles[1].bad += 1;
        }
    });
    let (report, summaries) = check(&story, &story.export(&summaries_of(Selection::default())));
    assert_eq!(report.report.verdict, Verdict::Valid, "it fits together");
    let b = chain(&summaries, "b");
    let wrong: Vec<u64> = (0..3)
        .filter(|bundle| compare(b, *bundle, &recount(&story, *bundle)).is_err())
        .collect();
    assert_eq!(wrong, [1]);
    let why = compare(b, 1, &recount(&story, 1)).unwrap_err();
    assert!(why.contains("0 bad, 0 rate-limited in the log"), "{why}");
    // A body that was erased since may have been any of the calls, but only one.
    let mut story = Story::new(200);
    story.summarise(|_| {});
    let (_, summaries) = check(&story, &story.export(&summaries_of(Selection::default())));
    let b = chain(&summaries, "b");
    let mut one_less = Recount::default();
    let bundle = story.records.iter().take(256).filter(|record| {
        !matches!(&record.statement.predicate,
            record::Predicate::Observation(seen) if seen.stream.endpoint == outside("b"))
    });
    bundle.for_each(|record| one_less.record(record));
    let Counts { calls, .. } = b.bundle(0);
    assert!(compare(b, 0, &one_less).is_err());
    (0..calls).for_each(|_| one_less.erased());
    assert!(compare(b, 0, &one_less).is_ok());
}

#[test]
fn a_summary_of_what_is_yet_to_come_or_of_more_numbers_than_calls_is_named() {
    for (change, says) in [
        (
            (|summary: &mut Summary| summary.to += 64 * BUNDLE_ENTRIES) as fn(&mut Summary),
            "the log had",
        ),
        (
            |summary| summary.streams[0].records = summary.streams[0].highest,
            "bundles hold",
        ),
        (|summary| summary.streams.clear(), "no number has a record"),
        (
            |summary| summary.log = LogOrigin::new("log.example/other").unwrap(),
            "another log",
        ),
    ] {
        let mut story = Story::new(70);
        story.summarise(|summary| {
            if summary.endpoint == outside("a") {
                change(summary);
            }
        });
        let bytes = story.export(&summaries_of(only(&[outside("a")])));
        let (report, summaries) = check(&story, &bytes);
        assert_eq!(report.report.verdict, Verdict::Invalid, "{says}");
        let check = report.report.check("summaries").unwrap();
        assert_eq!(check.status, Status::Failed);
        assert!(check.reason.contains(says), "{}", check.reason);
        assert_eq!(summaries.bundles_covered(), 0, "it counts for nothing");
    }
}
