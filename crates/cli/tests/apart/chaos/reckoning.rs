//! What must hold in the end, and what is told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::callers::{Answered, Seen};
use super::parties::Diary;
use super::reader::Gone;
use crate::support::{Http, Place, printed, run, text};

/// How long after its record was in the log nobody may be answered by a node that has gone.
const GRACE: Duration = Duration::from_secs(60);
/// An observation is durable a moment after its answer was whole (about 20 ms; this is for a machine
/// with other things to do). A gateway that is killed in between voids its number.
const MOMENT: Duration = Duration::from_secs(1);
/// Calls whose records are fetched and verified as a stranger would.
const VERIFIED: usize = 24;

#[expect(clippy::print_stdout, reason = "the report")]
pub(super) fn told(diary: &Diary, seen: &[Seen], gone: &[Gone]) {
    let answered: usize = seen.iter().map(|it| it.answered.len()).sum();
    let mut failed: BTreeMap<&str, usize> = BTreeMap::new();
    for (why, count) in seen.iter().flat_map(|it| &it.failed) {
        *failed.entry(why).or_default() += count;
    }
    let unanswered: usize = failed.values().sum();
    println!("answered  {answered} calls");
    println!("failed    {unanswered} calls, as their callers saw it");
    for (why, count) in failed {
        println!("          {count:5} {why}");
    }
    let longest = seen.iter().map(|it| it.longest).max();
    let (longest, at) = longest.unwrap_or_default();
    println!(
        "longest   {:.1} s without an answer for one caller, until {:.1} s",
        longest.as_secs_f64(),
        at.as_secs_f64()
    );
    for gone in gone {
        let after = answers(seen).filter(|it| it.provider == gone.provider && it.at >= gone.at);
        let until = back(diary, gone);
        let after: Vec<f64> = after
            .filter(|it| it.at < until)
            .map(|it| (it.at - gone.at).as_secs_f64())
            .collect();
        let last = after.iter().copied().fold(0.0, f64::max);
        println!(
            "{:9} {} (entry {}) at {:.1} s: {} answers after that, the last {last:.1} s later",
            gone.why,
            &gone.provider[..12],
            gone.index,
            gone.at.as_secs_f64(),
            after.len(),
        );
    }
}

fn answers(seen: &[Seen]) -> impl Iterator<Item = &Answered> {
    seen.iter().flat_map(|it| &it.answered)
}

/// When a node that had gone offered again.
fn back(diary: &Diary, gone: &Gone) -> Duration {
    let back = diary.back.lock().expect("no panic");
    let mut back = back
        .iter()
        .filter(|(at, who)| *at >= gone.at && *who == gone.provider);
    back.next().map_or(Duration::MAX, |(at, _)| *at)
}

pub(super) fn nobody_answered_who_had_gone(diary: &Diary, seen: &[Seen], gone: &[Gone]) {
    for gone in gone {
        let (from, until) = (gone.at + GRACE, back(diary, gone));
        let late =
            answers(seen).find(|it| it.provider == gone.provider && it.at > from && it.at < until);
        assert!(late.is_none(), "{gone:?} and {late:?}");
    }
}

/// Every answer's records are published; those that a killed gateway took with it are told.
#[expect(clippy::print_stdout, reason = "the report")]
pub(super) fn every_answer_is_recorded(
    place: &Place,
    (gateway_url, key): (&str, &str),
    diary: &Diary,
    seen: &[Seen],
) {
    let (http, mut voided, mut lost) = (Http::with_key(key), Vec::new(), Vec::new());
    let mut published = Vec::new();
    let killed = diary.gateway_killed.lock().expect("no panic").clone();
    for answer in answers(seen) {
        let found = http.get(&format!("{gateway_url}/longrun/v1/calls/{}", answer.call));
        if found.status == 200 && is_whole(&found.json(), &answer.provider) {
            published.push(answer.call.as_str());
            continue;
        }
        let mut kills = killed.iter().filter_map(|at| at.checked_sub(answer.at));
        match kills.find(|before| *before <= MOMENT) {
            Some(before) => voided.push(before),
            None => lost.push((answer.clone(), text(&found.body))),
        }
    }
    println!("published {} answers' records", published.len());
    let latest = voided.iter().max().copied().unwrap_or_default();
    println!(
        "voided    {} answers that were whole at most {} ms before the gateway was killed",
        voided.len(),
        latest.as_millis()
    );
    assert!(
        lost.is_empty(),
        "{} answers are lost: {:#?}",
        lost.len(),
        lost.first()
    );

    let trust = place.path("trust");
    printed(&[
        "trust",
        "export",
        "--log",
        &place.path("log"),
        "--out",
        &trust,
    ]);
    let policy = format!("{trust}/policy.json");
    let step = (published.len() / VERIFIED).max(1);
    let (mut verified, mut ended) = (0, 0);
    for call in published.iter().step_by(step) {
        let out = place.path(&format!("call-{call}"));
        let fetch = [
            "record",
            "fetch",
            call,
            "--gateway",
            gateway_url,
            "--api-key",
            key,
        ];
        printed(&[&fetch[..], &["--out", &out]].concat());
        for file in std::fs::read_dir(&out).expect("fetched") {
            let file = file.expect("readable").path().display().to_string();
            if file.ends_with(".sigstore.json") {
                let checked = run(&["verify", &file, "--policy", &policy]);
                let said = text(&checked.stdout);
                if checked.status.success() {
                    verified += 1;
                } else {
                    // Signed in time, and in the log after its key had ended: told as that.
                    let is_receipt = file.ends_with(".receipt.sigstore.json");
                    assert!(is_receipt && said.contains("had no valid key"), "{said}");
                    ended += 1;
                }
            }
        }
    }
    println!(
        "verified  {verified} bundles of {} of them; {ended} receipts came after the end of their key",
        published.len().div_ceil(step)
    );
}

/// Whether everything of a call is in the log, and the last attempt is the one that answered.
fn is_whole(call: &Value, provider: &str) -> bool {
    let last = call["attempts"].as_array().and_then(|all| all.last());
    let last = last.filter(|_| call["state"] == "published");
    last.is_some_and(|it| {
        let there = it["endpoint"]
            .as_str()
            .is_some_and(|it| it.starts_with(provider));
        there && it["outcome"] == "ok" && it["bundles"]["observation"].is_object()
    })
}

/// The log's files hold, and every number of every stream is accounted for: by a record, by a void, or
/// by a record that came after the end of the key that signed it and does not count.
#[expect(clippy::print_stdout, reason = "the report")]
pub(super) fn files_hold(place: &Place, gone: &[Gone]) {
    let log = place.path("log");
    let fsck = run(&["log", "fsck", &log, "--signatures"]);
    let said = text(&fsck.stdout) + &text(&fsck.stderr);
    assert!(fsck.status.success(), "{said}");
    println!("fsck      {}", said.lines().next_back().unwrap_or_default());
    let shown = printed(&["history", "show", "--log", &log, "--json"]);
    let history: Value = serde_json::from_str(&shown).expect("JSON");
    let mut lacking = 0;
    for endpoint in history["endpoints"].as_array().expect("endpoints") {
        let number = |member: &str| endpoint[member].as_u64().expect("a number");
        println!(
            "endpoint  {}: {} calls, {} failures; gaps {} and {} of receipts",
            &endpoint["provider"].as_str().expect("an id")[..12],
            number("calls"),
            number("failures"),
            number("gaps"),
            number("receipt_gaps"),
        );
        let provider = endpoint["provider"].as_str().expect("an id");
        let revoked = |it: &Gone| it.why == "revoked" && it.provider == provider;
        let may_lack = gone.iter().any(revoked);
        lacking += number("receipt_gaps");
        assert!(may_lack || number("receipt_gaps") == 0, "{endpoint:#}");
        for member in ["gaps", "equivocations", "contradictions"] {
            assert_eq!(endpoint[member], 0, "{member}: {endpoint:#}");
        }
    }
    let too_late = history["skipped"]["not_authorised"].as_u64();
    let too_late = too_late.expect("a count");
    println!("too late  {too_late} records of a key that had ended; {lacking} numbers lack one");
    assert!(lacking <= too_late, "{:#}", history["skipped"]);
}
