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

use common::{Identity, sign};
use record::Record;
use record::control::LogOrigin;
use record::summary::{BUNDLE_ENTRIES, Summary};
use story::{Story, observe, only, outside, summaries_of};
use tlog::history::{HistoryReader, Item, Selection};
use tlog::summary::{ChainOf, Counts, Recount, Summaries};
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

fn entry(story: &Story, index: u64) -> &Record {
    &story.records[usize::try_from(index).unwrap()]
}

/// Compares what a bundle holds with what is said of it, by the keys of the caller; the calls that are lost.
fn compare(story: &Story, of: &ChainOf, bundle: u64, recount: &Recount) -> Result<u64, String> {
    let own = story.caller.instance.key_id();
    tlog::summary::compare(of, bundle, recount, |key| *key == own)
}

fn recount(story: &Story, bundle: u64) -> Recount {
    let mut recount = Recount::default();
    let entries = bundle * BUNDLE_ENTRIES..(bundle + 1) * BUNDLE_ENTRIES;
    for index in entries {
        if story.erased.contains(&index) {
            recount.erased(entry(story, index).key().key_id());
        } else {
            recount.record(entry(story, index));
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
        "summaries, and their signer's controls, who is the observer too"
    );
    let counts = counted(&story, end);
    for (_, chain) in summaries.chains() {
        let model = chain.endpoint().model.to_string();
        // The body of one observation of `a` was erased before.
        let lost = u64::from(model == "a");
        assert_eq!(chain.counts().calls, counts[&model] - lost, "{model}");
        assert_eq!((chain.covers_to(), chain.summaries()), (end, 1));
        for bundle in 0..end / BUNDLE_ENTRIES {
            compare(&story, chain, bundle, &recount(&story, bundle)).unwrap();
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
    assert_eq!(story.summarise(|_| {}), 3, "the rest of the others' calls");
    for number in 401..=800 {
        let record = observe(&story.caller, &outside("a"), number, None);
        story.append(record);
    }
    assert_eq!(story.summarise(|_| {}), 1, "the others have nothing new");
    let (report, summaries) = check(&story, &story.export(&summaries_of(Selection::default())));
    assert_eq!(report.report.verdict, Verdict::Valid, "{report:#?}");
    let a = chain(&summaries, "a");
    assert_eq!((a.summaries(), a.covers_to() % BUNDLE_ENTRIES), (3, 0));
    for bundle in 0..a.covers_to() / BUNDLE_ENTRIES {
        compare(&story, a, bundle, &recount(&story, bundle)).unwrap();
    }
    let quiet = chain(&summaries, "b");
    assert!(quiet.summaries() == 2 && quiet.covers_to() < a.covers_to());

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
fn a_chain_goes_on_after_bodies_were_erased() {
    let mut story = Story::new(200);
    story.summarise(|_| {});
    let of_a = |record: &Record| {
        matches!(&record.statement.predicate,
            record::Predicate::Observation(seen) if seen.stream.endpoint == outside("a"))
    };
    let erased: Vec<u64> = (0..)
        .zip(&story.records)
        .filter(|(_, record)| of_a(record))
        .map(|(index, _)| index)
        .take(150)
        .collect();
    story.erased.extend(erased);
    for number in 201..=300 {
        let record = observe(&story.caller, &outside("a"), number, None);
        story.append(record);
    }
    (0..BUNDLE_ENTRIES).for_each(|number| {
        let record = observe(&story.caller, &outside("b"), 201 + number, None);
        story.append(record);
    });
    assert!(story.summarise(|_| {}) >= 2);
    let (report, summaries) = check(&story, &story.export(&summaries_of(Selection::default())));
    assert_eq!(report.report.verdict, Verdict::Valid, "{report:#?}");
    assert_eq!(chain(&summaries, "a").summaries(), 2);
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
        .filter(|bundle| compare(&story, b, *bundle, &recount(&story, *bundle)).is_err())
        .collect();
    assert_eq!(wrong, [1]);
    let why = compare(&story, b, 1, &recount(&story, 1)).unwrap_err();
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
    assert!(compare(&story, b, 0, &one_less).is_err());
    let (own, others) = (
        story.caller.instance.key_id(),
        story.provider.instance.key_id(),
    );
    (0..calls).for_each(|_| one_less.erased(others));
    let erased = compare(&story, b, 0, &one_less);
    assert!(erased.is_err(), "somebody else's bodies forgive nothing");
    (0..calls).for_each(|_| one_less.erased(own));
    assert_eq!(
        compare(&story, b, 0, &one_less),
        Ok(calls),
        "and it is told"
    );
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

/// A file of everybody's summaries of `a`, where a stranger signed one that begins in the middle.
fn with_a_strangers(change: impl Fn(&mut Summary)) -> (Story, Identity) {
    let mut story = Story::new(200);
    story.summarise(|_| {});
    let (mut stranger, first) = Identity::new(&story.log);
    story.append(first);
    let delegated = stranger.delegate();
    story.append(delegated);
    let is_summary = |record: &&Record| {
        matches!(&record.statement.predicate,
            record::Predicate::Summary(it) if it.endpoint == outside("a"))
    };
    let theirs = story.records.iter().find(is_summary).unwrap();
    let record::Predicate::Summary(theirs) = &theirs.statement.predicate else {
        unreachable!("it is one")
    };
    let mut summary = (**theirs).clone();
    change(&mut summary);
    story.append(sign(&stranger.instance, Some(stranger.id), summary));
    (story, stranger)
}

#[test]
fn a_strangers_chain_that_does_not_hold_breaks_nobody_elses() {
    let (story, stranger) = with_a_strangers(|summary| {
        summary.log = LogOrigin::new("log.example/other").unwrap();
    });
    let everybodys = summaries_of(only(&[outside("a")]));
    let (report, summaries) = check(&story, &story.export(&everybodys));
    assert_eq!(
        report.report.verdict,
        Verdict::IntactButUntrusted,
        "{report:#?}"
    );
    let said = report.report.check("summaries").unwrap();
    assert_eq!(said.status, Status::Passed);
    assert!(said.reason.contains("contradict"), "{}", said.reason);
    let signers: Vec<_> = summaries.chains().map(|((by, ..), _)| *by).collect();
    assert_eq!(signers, [story.caller.id]);

    // Whoever exports names whose chains are meant.
    let own = Selection {
        signers: [story.caller.id].into(),
        ..everybodys
    };
    let (report, summaries) = check(&story, &story.export(&own));
    assert_eq!(report.report.verdict, Verdict::Valid, "{report:#?}");
    assert!(summaries.broken().is_empty() && summaries.chains().count() == 1);
    let theirs = Selection {
        signers: [stranger.id].into(),
        ..own
    };
    let (report, _) = check(&story, &story.export(&theirs));
    assert_eq!(report.report.verdict, Verdict::IntactButUntrusted);
}

#[test]
fn the_observers_control_records_come_with_a_summary_of_another_signer() {
    let (story, stranger) = with_a_strangers(|_| {});
    let theirs = Selection {
        signers: [stranger.id].into(),
        ..summaries_of(Selection::default())
    };
    let bytes = story.export(&theirs);
    let mut reader = HistoryReader::open(&bytes[..]).unwrap();
    let mut check = HistoryCheck::new(reader.header().clone());
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Record(item) = item {
            check.record(&item.place, &open(item.signature, item.statement));
        }
    }
    let chain = check.chain(story.caller.id).expect("the observer's");
    assert_eq!(chain.instances().len(), 1);
    assert_eq!(check.summaries().chains().count(), 1);
}
