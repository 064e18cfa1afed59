//! Keys, prompts and answers reach neither logs nor records nor traces nor the disk.
//!
//! Alone in its file: the subscriber that gathers every line of every level, as text and as JSON, is
//! the process's own.

#[path = "gateway/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use gateway::config::Secret;
use gateway::keys::{Grant, KeyFile};
use http_body_util::Full;
use ring::rand::SystemRandom;
use serde_json::json;
use support::faulty::signer::{Flaw, Node, unbase64};
use support::faulty::{Fault, Faulty, Script, Surface};
use support::otlp::{self, Receiver};
use support::{Answer, MODEL, PATIENCE, Running, chat, config, endpoint, prompt};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const KEY: &str = "sk-test-key-that-nobody-may-print";
const RECEIVER_KEY: &str = "key-of-the-receiver-of-traces";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every line of every level that this process logs, as text and as JSON.
fn gathered() -> &'static [Lines; 2] {
    static GATHERED: OnceLock<[Lines; 2]> = OnceLock::new();
    GATHERED.get_or_init(|| {
        let (lines, objects) = (Lines::default(), Lines::default());
        let (text, json) = (lines.clone(), objects.clone());
        let as_text = fmt::layer().with_ansi(false);
        let as_json = fmt::layer().with_ansi(false).json();
        tracing_subscriber::registry()
            .with(as_text.with_writer(move || text.clone()))
            .with(as_json.with_writer(move || json.clone()))
            .with(LevelFilter::TRACE)
            .init();
        [lines, objects]
    })
}

impl Lines {
    fn so_far(&self) -> Vec<u8> {
        self.0.lock().expect("whole").clone()
    }
}

fn files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// None of these texts is in what was seen, nor in the files.
fn assert_nowhere(texts: &[&str], seen: &[(&str, Vec<u8>)], paths: &[PathBuf]) {
    for text in texts {
        for (what, bytes) in seen {
            assert!(!contains(bytes, text), "{text:?} is in the {what}");
        }
        for path in paths {
            let bytes = std::fs::read(path).expect("readable");
            assert!(!contains(&bytes, text), "{text:?} is in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_said_is_kept() {
    let lines = gathered();
    let (receiver, url) = Receiver::start().await;
    let node = Node::new(MODEL, "log.example/test");
    let upstream = Faulty::node(MODEL, Script::Always(Fault::None), node).await;
    let mut config = config();
    let mut keyed = endpoint(&upstream);
    keyed.api_key = Some(Secret::new(KEY).expect("a key"));
    config.endpoints = vec![keyed];
    let headers = format!("authorization=Bearer%20{RECEIVER_KEY}");
    config.traces = otlp::traces(&url, &[("OTEL_EXPORTER_OTLP_HEADERS", &headers)]);
    let gateway = Running::start(config, None).await;
    for fault in [
        Fault::None,
        Fault::Cut(3),
        Fault::BadJson,
        Fault::WebPage,
        Fault::Status(401),
        Fault::Status(422),
        Fault::ErrorAfter(2),
        Fault::Slam,
    ] {
        upstream.now(Script::Always(fault));
        for streamed in [false, true] {
            gateway.post(chat(streamed)).await;
        }
    }
    upstream.now(Script::Always(Fault::Receipt(Flaw::BadSignature)));
    let last = gateway.post(chat(false)).await;
    gateway.post(format!("{{\"model\":\"{}\",", prompt())).await;
    gateway.post(chat(false).replace(MODEL, "unknown")).await;
    gateway.call(&last.call()).await;
    let sent = upstream.requests();
    assert_eq!(
        sent[0].header("authorization"),
        Some(format!("Bearer {KEY}").as_str())
    );
    let told = format!("{} {}", gateway.status().await, gateway.history().await);
    let directory = gateway.stop().await;

    let logged = lines.each_ref().map(Lines::so_far);
    for logged in &logged {
        let marks = ["a receipt is invalid", "TRACE"];
        let gathered = marks.iter().all(|mark| contains(logged, mark));
        assert!(gathered, "the lines are gathered, of every level");
    }
    let object = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    let [_, json] = &logged;
    assert!(String::from_utf8_lossy(json).lines().all(object));
    let traced: Vec<u8> = {
        let posts = receiver.posts.lock().expect("whole");
        let bearer = format!("Bearer {RECEIVER_KEY}");
        assert!(
            posts
                .iter()
                .all(|(head, _)| head["authorization"] == bearer)
        );
        posts.iter().flat_map(|(_, body)| body.to_vec()).collect()
    };
    assert!(contains(&traced, &last.call()), "the spans are gathered");
    let [plain, json] = logged;
    let seen = [("lines", plain), ("objects", json), ("spans", traced)];
    let mut paths = Vec::new();
    files(directory.path(), &mut paths);
    assert!(
        paths.iter().any(|path| path.ends_with("spool.sqlite")),
        "{paths:?}"
    );
    let secrets: Vec<String> = sent
        .iter()
        .filter_map(|r| r.header("x-longrun-secret"))
        .map(str::to_owned)
        .collect();
    let texts = [prompt(), KEY, RECEIVER_KEY, "t3 t4"];
    assert_nowhere(&texts, &seen, &paths);
    assert_nowhere(&texts, &[("told", told.into_bytes())], &[]);
    for secret in secrets {
        for (what, bytes) in &seen {
            assert!(
                !contains(bytes, &secret),
                "a content secret is in the {what}"
            );
        }
    }
}

/// A gateway whose callers need keys, with the keys of a caller and of an operator.
async fn with_keys(upstream: &Faulty) -> (Running, [String; 2]) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.toml");
    let mut file = KeyFile::default();
    let mut add = |name: &str, is_operator: bool| {
        let key = file.add(name, Grant::default(), is_operator, 0, &SystemRandom::new());
        key.expect("a new name").reveal().to_owned()
    };
    let keys = [add("ann", false), add("ops", true)];
    std::fs::write(&path, file.to_text()).expect("written");
    let mut config = config();
    let mut keyed = endpoint(upstream);
    keyed.api_key = Some(Secret::new(KEY).expect("a key"));
    config.endpoints = vec![keyed];
    config.keys_file = Some(path);
    (Running::start_in(directory, config, None).await, keys)
}

/// A request with the prompt in it.
fn ask(surface: Surface, streamed: bool) -> String {
    let mut body = match surface {
        Surface::Chat => json!({"messages": [{"role": "user", "content": prompt()}]}),
        Surface::Completions => json!({"prompt": prompt()}),
        Surface::Embeddings | Surface::Responses => json!({"input": prompt()}),
    };
    body["model"] = MODEL.into();
    body["stream"] = streamed.into();
    body.to_string()
}

async fn get(gateway: &Running, path: &str, key: &str) -> Answer {
    let request = hyper::Request::get(format!("{}{path}", gateway.url))
        .header("authorization", format!("Bearer {key}"));
    let request = request.body(Full::default()).expect("a request");
    gateway.send(request).await
}

/// The records of a call once they are there, opened: payloads are base64 in an envelope.
async fn records(gateway: &Running, call: &str, key: &str) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        let answer = get(gateway, &format!("/longrun/v1/calls/{call}"), key).await;
        if answer.status == 200 {
            let told = answer.json();
            let attempts = told["attempts"].as_array().expect("attempts").iter();
            let payloads: Vec<u8> = attempts
                .map(|it| &it["envelopes"]["observation"]["payload"])
                .flat_map(|payload| unbase64(payload.as_str().expect("a payload")))
                .collect();
            assert!(contains(&payloads, call), "the record names its call");
            return [answer.body.to_vec(), payloads].concat();
        }
        assert!(begun.elapsed() < PATIENCE, "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a caller is told nothing of what an upstream that does this says: it speaks of the gateway's key.
fn is_about_the_key(fault: Fault) -> bool {
    matches!(fault, Fault::Echo(400..=403) | Fault::EchoAfter(_))
}

/// An upstream that says again what it was sent, in its answers and in its errors: a caller hears of it what
/// is an answer; an error with the key of the gateway in it is not for him, and nothing of either is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_upstream_says_again_is_kept_nowhere() {
    let lines = gathered();
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let (gateway, [caller, operator]) = with_keys(&upstream).await;
    let bearer = format!("Bearer {caller}");
    let mut told = Vec::new();
    for fault in [
        Fault::Echo(200),
        Fault::Echo(400),
        Fault::Echo(401),
        Fault::Echo(402),
        Fault::Echo(403),
        Fault::Echo(422),
        Fault::Echo(500),
        Fault::EchoAfter(0),
        Fault::EchoAfter(3),
    ] {
        upstream.now(Script::Always(fault));
        for (surface, streamed) in Surface::ALL
            .into_iter()
            .flat_map(|surface| [(surface, false), (surface, true)])
            .filter(|asked| *asked != (Surface::Embeddings, true))
        {
            let body = ask(surface, streamed);
            let headers = [("authorization", bearer.as_str())];
            let answer = gateway.post_to(surface.path(), &body, &headers).await;
            let what = format!("{fault:?}, {surface:?}, streamed: {streamed}");
            if is_about_the_key(fault) {
                assert!(!contains(&answer.body, KEY), "{what}: {}", answer.text());
                let is_explained = contains(&answer.body, "endpoint_credentials");
                assert!(is_explained, "{what}: {}", answer.text());
            } else if fault != Fault::Echo(200) {
                assert!(!contains(&answer.body, KEY), "{what}: {}", answer.text());
                let is_said = contains(&answer.body, "repeats the key");
                assert!(is_said, "{what}: {}", answer.text());
            } else {
                let is_echoed = contains(&answer.body, prompt());
                assert!(is_echoed, "{what}: {}", answer.text());
            }
            told.extend(records(&gateway, &answer.call(), &caller).await);
        }
    }
    for path in ["/longrun/v1/status", "/longrun/v1/history", "/metrics"] {
        let answer = get(&gateway, path, &operator).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        told.extend_from_slice(&answer.body);
    }
    for sent in upstream.requests() {
        assert_eq!(
            sent.header("authorization"),
            Some(format!("Bearer {KEY}").as_str())
        );
    }
    let directory = gateway.stop().await;
    let [plain, json] = lines.each_ref().map(Lines::so_far);
    assert!(contains(&plain, "TRACE"), "the lines are gathered");
    let mut paths = Vec::new();
    files(directory.path(), &mut paths);
    assert!(
        paths.iter().any(|path| path.ends_with("spool.sqlite")),
        "{paths:?}"
    );
    let texts = [prompt(), KEY, caller.as_str(), operator.as_str()];
    let seen = [("lines", plain), ("objects", json), ("told", told)];
    assert_nowhere(&texts, &seen, &paths);
}
