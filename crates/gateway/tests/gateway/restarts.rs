//! What a gateway knows after a restart, an orderly one and another, with a log and without: the same,
//! to the bit, from its journal, from the log, and from both.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::faulty::signer::Node;
use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::log::{Log, ORIGIN};
use crate::support::{MODEL, PATIENCE, Running, chat, config, endpoint};

/// The journal of a gateway whose directory this is.
fn journal(directory: &tempfile::TempDir) -> std::path::PathBuf {
    directory.path().join("signer").join("history.journal")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

fn only(history: &Value) -> &Value {
    let endpoints = history["endpoints"].as_array().expect("endpoints");
    assert_eq!(endpoints.len(), 1, "{history:#}");
    &endpoints[0]
}

fn only_calls(history: &Value) -> u64 {
    history["endpoints"][0]["calls"].as_u64().unwrap_or(0)
}

fn joined(history: &Value) -> u64 {
    history["endpoints"][0]["receipts"]["joined"]
        .as_u64()
        .unwrap_or(0)
}

async fn post(gateway: &Running, count: usize) -> Vec<String> {
    let mut calls = Vec::new();
    for _ in 0..count {
        let answer = gateway.post(chat(false)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["longrun"]["evidence"], "recorded");
        calls.push(answer.call());
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_is_there_before_its_log_is_and_goes_on_with_it() {
    let log = Log::start().await;
    let node = Node::new(MODEL, ORIGIN);
    let upstream = Faulty::node(MODEL, Script::Always(Fault::None), node.clone()).await;
    log.takes(&node).await;
    let gateway = log.gateway(&[&upstream]).await;
    let calls = post(&gateway, 5).await;
    gateway.call(&calls[4]).await;
    let before = gateway
        .history_until(|h| only_calls(h) == 5 && joined(h) == 5)
        .await;
    assert!(gateway.get("/readyz").await.json()["history_read"].is_null());
    let directory = gateway.stop().await;

    // The log is away: what is known comes from the journal.
    let (config, home) = (log.config(&[&upstream]), log.home());
    let (log_directory, address) = log.stop().await;
    let gateway = Running::start_in(directory, config.clone(), Some(home.clone())).await;
    let again = gateway.history_until(|h| only_calls(h) == 5).await;
    assert_eq!(again["digest"], before["digest"], "from the journal");
    let ready = gateway.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["history_read"]["read"]),
        (200, &0.into())
    );

    let log = Log::start_in(log_directory, address).await;
    post(&gateway, 3).await;
    let incremental = gateway
        .history_until(|h| only_calls(h) == 8 && joined(h) == 8)
        .await;
    assert!(gateway.get("/readyz").await.json()["history_read"].is_null());

    // A machine that stops here: the journal has five calls, the log eight. Once as it is, once with a
    // journal that was changed, and once without one.
    for damage in ["nothing", "a bit", "all of it"] {
        let image = tempfile::tempdir().expect("a directory");
        copy(gateway.directory.path(), image.path());
        let file = journal(&image);
        let mut bytes = std::fs::read(&file).expect("it is there");
        match damage {
            "nothing" => {}
            "a bit" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                std::fs::write(&file, &bytes).expect("written");
            }
            _ => std::fs::remove_file(&file).expect("removed"),
        }
        let other = Running::start_in(image, config.clone(), Some(home.clone())).await;
        let rebuilt = other
            .history_until(|h| h["records"] == incremental["records"])
            .await;
        assert_eq!(
            rebuilt["digest"], incremental["digest"],
            "{damage} was lost"
        );
        other.stop().await;
    }
    gateway.stop().await;
    drop(log);
}

/// The same key and address, and another tree: the journal does not stand against it after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_its_log_contradicts_is_let_go_of() {
    let log = Log::start().await;
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = log.gateway(&[&upstream]).await;
    post(&gateway, 2).await;
    gateway.history_until(|h| only_calls(h) == 2).await;
    let directory = gateway.stop().await;
    let (config, home) = (log.config(&[&upstream]), log.home());
    let (log_directory, address) = log.stop().await;
    let fresh = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(fresh.path().join("log")).expect("made");
    for file in ["log.key", "read.token", "VERSION"] {
        let from = log_directory.path().join("log").join(file);
        std::fs::copy(from, fresh.path().join("log").join(file)).expect("copied");
    }
    let restored = Log::start_in(fresh, address).await;
    let gateway = Running::start_in(directory, config, Some(home)).await;
    let begun = Instant::now();
    while only_calls(&gateway.history().await) > 0 {
        assert!(
            begun.elapsed() < PATIENCE,
            "what the log denies is still shown"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.stop().await;
    drop(restored);
}

/// What a kill in the middle of a write leaves of the journal: a part of it, or its length with zeros in
/// place of what did not reach the disk. The spool has the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_broke_off_anywhere_gives_the_same_history() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&upstream)];
    // A forecast is signed by the clock of the machine, and would be one record more in some copies.
    config.objectives.clear();
    let mut directory = tempfile::tempdir().expect("a directory");
    // Each stop writes a frame.
    for round in 1..=3 {
        let gateway = Running::start_in(directory, config.clone(), None).await;
        post(&gateway, 2).await;
        gateway.history_until(|h| only_calls(h) == 2 * round).await;
        directory = gateway.stop().await;
    }
    let whole = std::fs::read(journal(&directory)).expect("it is there");
    let restarted = async |left: Option<&[u8]>| {
        let image = tempfile::tempdir().expect("a directory");
        copy(directory.path(), image.path());
        match left {
            Some(left) => std::fs::write(journal(&image), left).expect("written"),
            None => std::fs::remove_file(journal(&image)).expect("removed"),
        }
        let gateway = Running::start_in(image, config.clone(), None).await;
        let history = gateway.history_until(|h| only_calls(h) == 6).await;
        gateway.stop().await;
        (history["records"].clone(), history["digest"].clone())
    };
    let from_the_source = restarted(None).await;
    assert_eq!(restarted(Some(&whole)).await, from_the_source, "whole");
    for cut in 0..14 {
        let at = whole.len() * cut / 14;
        let mut left = whole[..at].to_vec();
        if cut % 2 == 1 {
            left.resize(whole.len(), 0);
        }
        let made = restarted(Some(&left)).await;
        assert_eq!(made, from_the_source, "{at} of {} bytes", whole.len());
    }
}

/// Without a log the newest records are kept, and recording never ends; what the others said stays in
/// the history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_log_recording_never_ends() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&upstream)];
    // A forecast between the two looks at the history would change its digest.
    config.objectives.clear();
    config.spool.records_max = 40;
    let gateway = Running::start(config.clone(), None).await;
    let first = post(&gateway, 60).await.remove(0);
    gateway.history_until(|h| only_calls(h) == 60).await;
    // At a stop, as every half minute, all that was folded is in the journal, and may go.
    let directory = gateway.stop().await;
    let gateway = Running::start_in(directory, config.clone(), None).await;
    let begun = Instant::now();
    let mut calls = 60;
    while gateway.status().await["spool"]["let_go"] == 0 {
        post(&gateway, 10).await;
        calls += 10;
        assert!(begun.elapsed() < PATIENCE, "nothing is let go of");
    }
    let history = gateway.history_until(|h| only_calls(h) == calls).await;
    let endpoint = only(&history);
    assert_eq!(
        (&endpoint["unknown"], &endpoint["gaps"]),
        (&0.into(), &0.into())
    );
    let gone = gateway.get(&format!("/longrun/v1/calls/{first}")).await;
    assert_eq!(gone.status, 404);
    assert!(gone.text().contains("were let go of"), "{}", gone.text());

    let directory = gateway.stop().await;
    let gateway = Running::start_in(directory, config.clone(), None).await;
    let again = gateway.history_until(|h| only_calls(h) == calls).await;
    assert_eq!(again["digest"], history["digest"]);
    let directory = gateway.stop().await;

    // Without the journal the history is that of the records that are kept: none of the others is
    // missing in it.
    std::fs::remove_file(journal(&directory)).expect("it was there");
    let gateway = Running::start_in(directory, config, None).await;
    let less = gateway.history_until(|h| only_calls(h) > 0).await;
    let endpoint = only(&less);
    assert!(only_calls(&less) < calls);
    assert_eq!(
        (&endpoint["unknown"], &endpoint["gaps"]),
        (&0.into(), &0.into())
    );
}
