//! Several logs, merged: real logs over HTTP, one of them down, one late, one that shows another past;
//! and the same fold again from the journal, after a restart and on another machine.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::log::Log;
use crate::support::{MODEL, Running, chat, config, endpoint};
use axum::extract::State;
use gateway::config::{GatewayConfig, MergedConfig, Secret};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use recorder::{Clock, Context, SystemClock};
use reliability::merge::Rule;
use serde_json::Value;
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

/// A proxy in front of a log that alters one answer when it is told to.
#[derive(Clone)]
struct Proxy {
    log: String,
    client: engine::http::Client,
    /// What is in the path of the next answer to be altered.
    next: Arc<Mutex<Option<&'static str>>>,
}

impl Proxy {
    async fn start(log: String) -> (Self, String) {
        let proxy = Self {
            log,
            client: engine::http::client(),
            next: Arc::default(),
        };
        let pass = |State(this): State<Self>, uri: Uri, headers: HeaderMap| async move {
            this.pass(&uri, &headers).await
        };
        let router = axum::Router::new().fallback(pass).with_state(proxy.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(axum::serve(listener, router).into_future());
        (proxy, url)
    }

    async fn pass(&self, uri: &Uri, headers: &HeaderMap) -> (StatusCode, Vec<u8>) {
        let mut request = Request::get(format!("{}{}", self.log, uri.path()));
        if let Some(token) = headers.get(header::AUTHORIZATION) {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Full::default()).expect("a request");
        let answer = self.client.request(request).await.expect("it answers");
        let (head, body) = answer.into_parts();
        let mut body = body.collect().await.expect("whole").to_bytes().to_vec();
        let mut next = self.next.lock().expect("whole");
        if next.is_some_and(|part| uri.path().contains(part)) {
            // The last hash of a tile is one of those that are new.
            *body.last_mut().expect("not empty") ^= 1;
            *next = None;
        }
        (head.status, body)
    }

    fn alter(&self, part: &'static str) {
        *self.next.lock().expect("whole") = Some(part);
    }

    fn has_altered(&self) -> bool {
        self.next.lock().expect("whole").is_none()
    }
}

/// The machine's clock, so many milliseconds behind.
#[derive(Default)]
struct Behind(AtomicU64);

impl Clock for Behind {
    fn unix_ms(&self) -> u64 {
        SystemClock.unix_ms() - self.0.load(Ordering::Relaxed)
    }
}

/// A policy that names the logs, and the gateways of all as observers.
async fn policy(regions: &[&Region]) -> Vec<u8> {
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

/// A gateway that merges the logs; its journal lies in `dir`.
fn merging(regions: &[&Region], policy_file: &Path, dir: &Path) -> GatewayConfig {
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
    fs::write(&policy_file, policy(&[&east, &west]).await).expect("written");
    let configured = |dir: &Path| {
        let mut config = merging(&[&east, &west], &policy_file, dir);
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
    let why = down["logs"][1]["error"].as_str().expect("a reason");
    assert!(why.contains("refused"), "{why}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_damaged_is_read_again_and_refuses_nobody() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let east = Region::start("log.example/east", &upstream).await;
    let (proxy, url) = Proxy::start(east.log().url()).await;
    let files = tempfile::tempdir().expect("a directory");
    let policy_file = files.path().join("policy");
    let text = String::from_utf8(policy(&[&east]).await).expect("JSON");
    fs::write(&policy_file, text.replace(&east.log().url(), &url)).expect("written");
    let configured = |dir: &str| merging(&[&east], &policy_file, &files.path().join(dir));
    let gateway = Running::start(configured("first"), None).await;
    east.call(2).await;
    merged_until(&gateway, "before", |it| calls(it) == 2).await;

    // One byte of a tile, once: the log signed nothing that contradicts itself.
    proxy.alter("/tile/0/");
    east.call(1).await;
    let done = |it: &Value| it["logs"][0]["refused"].is_string() || calls(it) == 3;
    let tile = merged_until(&gateway, "a tile", done).await;
    assert!(tile["logs"][0]["refused"].is_null(), "{tile:#}");
    assert!(proxy.has_altered());

    // A bundle of bodies, once: it is asked for again, although the log does not grow any more.
    proxy.alter("/bodies/");
    let second = Running::start(configured("second"), None).await;
    let bodies = merged_until(&second, "a bundle", |it| calls(it) == 3).await;
    assert!(proxy.has_altered());
    let digest = &bodies["history"]["digest"];
    assert_eq!(digest, &tile["history"]["digest"]);
    second.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_time_does_not_go_back_with_the_clock() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let east = Region::start("log.example/east", &upstream).await;
    let files = tempfile::tempdir().expect("a directory");
    let (policy_file, journal) = (files.path().join("policy"), files.path().join("journal"));
    fs::write(&policy_file, policy(&[&east]).await).expect("written");
    let mut config = merging(&[&east], &policy_file, &journal);
    config.merged.as_mut().expect("set").rule.timeout_ms = 60_000;
    let behind = Arc::new(Behind::default());
    let context = Context {
        clock: Arc::clone(&behind) as Arc<dyn Clock>,
        ..Context::system().expect("randomness")
    };
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = Running::start_with(directory, config, None, context).await;
    east.call(2).await;
    merged_until(&gateway, "before", |it| calls(it) == 2).await;

    // Far back: nothing is written until it is right again, and the state says so.
    behind.0.store(3_600_000, Ordering::Relaxed);
    let wrong = |it: &Value| {
        let error = it["error"].as_str();
        error.is_some_and(|why| why.contains("behind that of the last reading"))
    };
    merged_until(&gateway, "far back", wrong).await;
    east.call(1).await;

    // A little: it goes on, and no line is of a time before another's.
    behind.0.store(5_000, Ordering::Relaxed);
    let on = merged_until(&gateway, "a little back", |it| calls(it) == 3).await;
    assert!(on["error"].is_null(), "{on:#}");
    gateway.stop().await;
    let text = fs::read_to_string(journal.join("journal.jsonl")).expect("there");
    let lines = text.lines().map(serde_json::from_str);
    let times: Vec<u64> = lines
        .filter_map(|line: Result<Value, _>| line.expect("JSON")["seen_ms"].as_u64())
        .collect();
    assert!(times.len() >= 2, "{text}");
    assert!(times.is_sorted(), "{times:?}");
}
