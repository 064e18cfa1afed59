//! `vectors/history`: histories, golden and broken, for whoever implements the format in another
//! language. P-256 signatures are random, so they are made once and then only read:
//! `cargo test -p tlog --test history_vectors -- --ignored regenerate` writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

mod common;
#[path = "common/story.rs"]
mod story;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use story::{Story, only, outside, summaries_of};
use tlog::history::account::Account;
use tlog::history::{Item, Plan, Selection};
use tlog::policy::TrustPolicy;
use tlog::verify::history::verify_history;

type Files = BTreeMap<String, Vec<u8>>;

const CALLS: u64 = 9;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/history")
}

/// File, what it is, the exit code under the policy, and the check that fails.
type Case = (
    &'static str,
    &'static str,
    Vec<u8>,
    u8,
    Option<&'static str>,
);

/// The story goes on, past the first bundle, and the caller sums it up.
fn summary_cases(story: &mut Story) -> Vec<Case> {
    for number in CALLS + 1.. {
        if story.size() >= 300 {
            break;
        }
        let record = story::observe(&story.caller, &outside("a"), number, None);
        story.append(record);
    }
    story.summarise(|_| {});
    let more = story.size() / 256 * 256 + 256;
    for number in 400.. {
        if story.size() > more {
            break;
        }
        let record = story::observe(&story.caller, &outside("a"), number, None);
        story.append(record);
    }
    story.summarise(|_| {});
    let selection = summaries_of(only(&[outside("a")]));
    let mut plan = story.plan(&selection);
    let all = story.file(&selection, &plan, story.items(&plan.entries));
    let is_summary = |index: &u64| {
        let record = &story.records[usize::try_from(*index).unwrap()];
        matches!(record.statement.predicate, record::Predicate::Summary(_))
    };
    let first = plan.entries.iter().position(is_summary).unwrap();
    plan.entries.remove(first);
    vec![
        (
            "golden/summaries.history",
            "two summaries of one endpoint in the place of its records",
            all,
            0,
            None,
        ),
        (
            "broken/summary-left-out.history",
            "the first of two summaries is gone, and proof and account fit",
            story.file(&selection, &plan, story.items(&plan.entries)),
            1,
            Some("summaries"),
        ),
    ]
}

fn cases(story: &Story) -> Vec<Case> {
    let whole = Selection::default();
    let selection = only(&[outside("a")]);
    let provider = Selection {
        providers: [story.joined().provider].into(),
        ..Selection::default()
    };
    let plan = story.plan(&selection);
    let entries = plan.entries.clone();
    let broken = |change: &dyn Fn(&mut Vec<Item>)| {
        let mut items = story.items(&entries);
        change(&mut items);
        story.file(&selection, &plan, items)
    };
    let altered = broken(&|items| {
        let Item::Record(item) = &mut items[3] else {
            unreachable!("entry 3 of the selection is a record")
        };
        let at = item.statement.len() - 40;
        item.statement[at] ^= 1;
    });
    let without = |gone: usize, account: bool| {
        let mut fewer = entries.clone();
        fewer.remove(gone);
        let mut plan = story.plan(&selection);
        if account {
            plan.account = account_of(story, &fewer);
        }
        story.file(&selection, &plan, story.items(&fewer))
    };
    let whole_plan = story.plan(&whole);
    let mut most = whole_plan.entries.clone();
    most.remove(6);
    let gap_in_whole = Plan {
        account: account_of(story, &most),
        ..whole_plan
    };
    let foreign = Story::new(CALLS).log.checkpoint();
    let full = story.export(&selection);
    vec![
        (
            "golden/whole.history",
            "a whole log: no hash is needed; the body of one entry was erased",
            story.export(&whole),
            0,
            None,
        ),
        (
            "golden/endpoint.history",
            "one endpoint: number 3 is voided, 5 missing, 7 erased",
            full.clone(),
            0,
            None,
        ),
        (
            "golden/provider.history",
            "all endpoints of a provider that has joined",
            story.export(&provider),
            0,
            None,
        ),
        (
            "golden/skilfully-shortened.history",
            "a record left out with a proof and an account that fit: its number reads missing",
            without(5, true),
            0,
            None,
        ),
        (
            "broken/altered.history",
            "one bit of a statement is another",
            altered,
            1,
            Some("signature"),
        ),
        (
            "broken/cut-out.history",
            "the frame of one record is gone",
            broken(&|items| drop(items.remove(5))),
            1,
            Some("order"),
        ),
        (
            "broken/left-out.history",
            "a record is gone, and the proof fits",
            without(5, false),
            1,
            Some("numbers"),
        ),
        (
            "broken/left-out-of-whole.history",
            "an entry of a whole log is gone, and proof and account fit",
            story.file(&whole, &gap_in_whole, story.items(&most)),
            1,
            Some("complete"),
        ),
        (
            "broken/doubled.history",
            "a record is there twice",
            broken(&|items| {
                let again = items[4].clone();
                items.insert(5, again);
            }),
            1,
            Some("order"),
        ),
        (
            "broken/reordered.history",
            "two records have changed places",
            broken(&|items| items.swap(4, 5)),
            1,
            Some("order"),
        ),
        (
            "broken/foreign-root.history",
            "the checkpoint is of another tree",
            story.file_with(foreign, &selection, &plan, story.items(&entries)),
            1,
            Some("inclusion"),
        ),
        (
            "broken/cut-short.history",
            "the end is missing",
            full[..full.len() - 300].to_vec(),
            1,
            Some("format"),
        ),
        (
            "broken/other-signers.history",
            "the same log key, and signers that the policy does not have",
            Story::new(2).export(&whole),
            3,
            Some("signer"),
        ),
        (
            "broken/no-history.history",
            "another version",
            b"longrun history 2\n".to_vec(),
            2,
            None,
        ),
    ]
}

fn account_of(story: &Story, entries: &[u64]) -> Account {
    let mut account = Account::default();
    for index in entries.iter().filter(|index| !story.erased.contains(index)) {
        account.add(&story.records[usize::try_from(*index).unwrap()], *index);
    }
    account
}

fn made() -> Files {
    let mut story = Story::new(CALLS);
    let mut files = Files::from([(
        "policy.json".to_owned(),
        story.policy_file().to_json().unwrap(),
    )]);
    let mut index = Vec::new();
    let mut all = cases(&story);
    all.extend(summary_cases(&mut story));
    for (file, what, bytes, exit, failed) in all {
        index.push(json!({"file": file, "what": what, "exit": exit, "failed": failed}));
        files.insert(file.to_owned(), bytes);
    }
    let mut text =
        serde_json::to_vec_pretty(&json!({"policy": "policy.json", "files": index})).unwrap();
    text.push(b'\n');
    files.insert("index.json".to_owned(), text);
    files
}

#[test]
fn the_vectors_are_what_their_index_says() {
    let read = |name: &str| fs::read(folder().join(name)).unwrap();
    let index: Value = serde_json::from_slice(&read("index.json")).unwrap();
    let policy = TrustPolicy::parse(&read("policy.json")).unwrap();
    let files = index["files"].as_array().unwrap();
    assert!(files.len() > 12);
    for case in files {
        let name = case["file"].as_str().unwrap();
        let exit = case["exit"].as_u64().unwrap();
        match verify_history(&read(name), Some(&policy), None) {
            Ok(found) => {
                let report = &found.report;
                assert_eq!(
                    u64::from(report.verdict.exit_code()),
                    exit,
                    "{name}: {report:#?}"
                );
                if let Some(check) = case["failed"].as_str() {
                    let check = report.check(check).unwrap();
                    assert_eq!(check.status, tlog::verify::Status::Failed, "{name}");
                }
            }
            Err(_) => assert_eq!(exit, 2, "{name}"),
        }
    }
    let mut listed: Vec<_> = files
        .iter()
        .map(|case| case["file"].as_str().unwrap().to_owned())
        .collect();
    listed.sort();
    let mut there: Vec<String> = ["golden", "broken"]
        .iter()
        .flat_map(|folder_name| {
            let entries = fs::read_dir(folder().join(folder_name)).unwrap();
            entries.map(move |entry| {
                format!(
                    "{folder_name}/{}",
                    entry.unwrap().file_name().to_str().unwrap()
                )
            })
        })
        .collect();
    there.sort();
    assert_eq!(there, listed);
}

/// What is made now must behave as the files do, which were made once.
#[test]
fn cases_made_anew_behave_alike() {
    let mut story = Story::new(CALLS);
    let policy = story.policy();
    let mut all = cases(&story);
    all.extend(summary_cases(&mut story));
    for (name, _, bytes, exit, _) in all {
        let found = verify_history(&bytes, Some(&policy), None);
        let code = found.map_or(2, |found| found.report.verdict.exit_code());
        assert_eq!(code, exit, "{name}");
    }
}

#[test]
#[ignore = "writes the vectors anew"]
fn regenerate() {
    for part in ["golden", "broken"] {
        let _ = fs::remove_dir_all(folder().join(part));
        fs::create_dir_all(folder().join(part)).unwrap();
    }
    for (name, bytes) in made() {
        fs::write(folder().join(name), bytes).unwrap();
    }
}
