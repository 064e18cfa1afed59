//! Several logs, merged: real logs over HTTP, one of them down, one late, one that shows another past;
//! and the same fold again from the journal, after a restart and on another machine.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway::config::{GatewayConfig, MergedConfig, Secret};
use reliability::merge::Rule;
use serde_json::Value;
use support::faulty::{Fault, Faulty, Script};
use support::log::Log;
use support::{MODEL, Running, chat, config, endpoint};
use tlog::policy::PolicyFile;

/// On a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(60);
/// Short enough for a test; long enough for a log that is there to be asked several times.
const RULE: Rule = Rule {
    bucket_ms: 200,
    timeout_ms: 2_000,
};

/// A log with a gateway of its own that keeps its records there.
struct Region {
    origin: &'static str,
    /// None while it is down.
    log: Option<Log>,
    gateway: Running,
}

impl Region {
    async fn start(origin: &'static str, upstream: &Faulty) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let log = Log::start_as(origin, directory, listen).await;
        let gateway = log.gateway(&[upstream]).await;
        Self {
            origin,
            log: Some(log),
            gateway,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("it is up")
    }

    async fn take_down(&mut self) -> (tempfile::TempDir, std::net::SocketAddr) {
        self.log.take().expect("it is up").stop().await
    }

    async fn bring_up(&mut self, directory: tempfile::TempDir, address: std::net::SocketAddr) {
        self.log = Some(Log::start_as(self.origin, directory, address).await);
    }

    async fn call(&self, times: usize) {
        for _ in 0..times {
            assert_eq!(self.gateway.post(chat(false)).await.status, 200);
        }
    }
}

/// A policy that names both logs, and the gateways of both as observers.
async fn policy(regions: [&Region; 2]) -> Vec<u8> {
    let line = |region: &Region| format!("log {} {}", region.log().vkey, region.log().url());
    let mut lines: Vec<String> = regions.iter().map(|region| line(region)).collect();
    lines.push("quorum none".to_owned());
    let mut policy = PolicyFile::new(lines);
    for region in regions {
        let identity = region.gateway.recorder.identity();
        let mut controls = Vec::new();
        for control in identity.controls() {
            let id = control.clone().open().expect("signed").id;
            controls.push(published(&region.gateway, id).await);
        }
        policy
            .add_signer(identity.id(), "a region", &["observer"], &controls)
            .expect("a signer");
    }
    policy.to_json().expect("JSON")
}

/// A record with its proof, once it is in the log.
async fn published(gateway: &Running, id: record::RecordId) -> record::Bundle {
    let begun = Instant::now();
    loop {
        if let Some(bundle) = gateway.recorder.bundle(id).await.expect("the spool reads") {
            return bundle;
        }
        assert!(begun.elapsed() < LONG, "{id} was not published");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A gateway that merges both logs; its journal lies in `dir`.
fn merging(regions: [&Region; 2], policy_file: &Path, dir: &Path) -> GatewayConfig {
    let mut merged = MergedConfig::new(policy_file.to_owned(), dir.to_owned());
    merged.rule = RULE;
    for region in regions {
        let token = Secret::new(&region.log().token).expect("a token");
        merged.read_tokens.insert(region.origin.to_owned(), token);
    }
    let mut config = config();
    config.merged = Some(merged);
    config
}

async fn merged_until(gateway: &Running, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let merged = gateway.get("/longrun/v1/history/merged").await.json();
        if done(&merged) {
            return merged;
        }
        assert!(begun.elapsed() < LONG, "{what}: {merged:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn calls(merged: &Value) -> u64 {
    merged["history"]["endpoints"][0]["calls"]
        .as_u64()
        .unwrap_or(0)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (from, to) = {
            let entry = entry.expect("an entry");
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_logs_are_one_history_and_the_journal_makes_it_again() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let east = Region::start("log.example/east", &upstream).await;
    let mut west = Region::start("log.example/west", &upstream).await;
    let files = tempfile::tempdir().expect("a directory");
    let (policy_file, journal) = (files.path().join("policy"), files.path().join("journal"));
    fs::write(&policy_file, policy([&east, &west]).await).expect("written");
    let configured = |dir: &Path| {
        let mut config = merging([&east, &west], &policy_file, dir);
        config.endpoints = vec![endpoint(&upstream)];
        config
    };
    let (first, second) = (configured(&journal), files.path().join("elsewhere"));
    let elsewhere = configured(&second);

    // What both saw is one history, beside the gateway's own; two observers say nothing for routing.
    east.call(2).await;
    west.call(3).await;
    let gateway = Running::start(first.clone(), None).await;
    merged_until(&gateway, "both are there", |it| calls(it) == 5).await;
    let history = gateway.history().await;
    assert!(history["endpoints"].as_array().expect("own").is_empty());
    let together = &history["imported"]["endpoints"][0]["together"];
    assert_eq!(
        (&together["state"], &together["observers"]),
        (&"too_few".into(), &2.into())
    );

    // One log is down: after the stated time the other's records are folded without it.
    let (directory, address) = west.take_down().await;
    let before = tempfile::tempdir().expect("a directory");
    copy(directory.path(), before.path());
    east.call(2).await;
    let down = merged_until(&gateway, "one is down", |it| calls(it) == 7).await;
    assert_eq!(down["logs"][1]["origin"], "log.example/west");
    assert!(down["logs"][1]["not_waited_for"].as_u64() >= Some(1));
    assert!(down["logs"][1]["error"].is_string(), "{down:#}");
    assert!(down["logs"][0]["error"].is_null(), "{down:#}");

    // It is back, and its records come late: nothing is lost.
    west.call(2).await;
    west.bring_up(directory, address).await;
    let late = merged_until(&gateway, "it is back", |it| calls(it) == 9).await;
    let digest = &late["history"]["digest"];

    // The same after a restart, and on another machine that has the journal.
    let own = gateway.stop().await;
    copy(&journal, &second);
    let again = Running::start_in(own, first.clone(), None).await;
    let other = Running::start(elsewhere, None).await;
    for gateway in [&again, &other] {
        let made = |it: &Value| it["to_replay"] == 0 && calls(it) == 9;
        let made = merged_until(gateway, "made again", made).await;
        assert_eq!(&made["history"]["digest"], digest);
        assert_eq!(made["changed"], 0);
    }
    other.stop().await;

    // The west goes back to where it was, and on from there with other records: it is refused, with
    // the two checkpoints that prove it, and the fold is made again without it.
    let (_gone, address) = west.take_down().await;
    west.bring_up(before, address).await;
    west.call(4).await;
    let refused = |it: &Value| it["logs"][1]["refused"].is_string() && calls(it) == 4;
    let refused = merged_until(&again, "another past", refused).await;
    assert_eq!(refused["to_replay"], 0);
    east.call(1).await;
    let on = merged_until(&again, "the other goes on", |it| calls(it) == 5).await;
    let own = again.stop().await;
    let text = fs::read_to_string(journal.join("journal.jsonl")).expect("there");
    let line: Value = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|line| line["kind"] == "refused")
        .expect("a line");
    for note in ["before", "checkpoint"] {
        let note = line[note].as_str().expect("a note");
        assert!(note.starts_with("log.example/west\n"), "{note}");
    }
    assert_ne!(line["before"], line["checkpoint"]);

    // A crash in the middle of a line leaves a piece, which is cut off.
    fs::write(
        journal.join("journal.jsonl"),
        format!("{text}{{\"kind\":\"re"),
    )
    .expect("written");
    let again = Running::start_in(own, first, None).await;
    let made = |it: &Value| it["to_replay"] == 0 && calls(it) == 5;
    let made = merged_until(&again, "after the refusal", made).await;
    assert_eq!(made["history"]["digest"], on["history"]["digest"]);
    assert!(made["logs"][1]["refused"].is_string());
    again.stop().await;
}
