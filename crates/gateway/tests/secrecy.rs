//! Keys, prompts and answers reach neither logs nor records nor traces nor the disk.
//!
//! Alone in its file: the subscriber that gathers every line of every level, as text and as JSON, is
//! the process's own.

#[path = "gateway/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gateway::config::Secret;
use support::faulty::signer::{Flaw, Node};
use support::faulty::{Fault, Faulty, Script};
use support::otlp::{self, Receiver};
use support::{MODEL, Running, chat, config, endpoint, prompt};
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

fn files(directory: &Path, into: &mut Vec<std::path::PathBuf>) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_said_is_kept() {
    let (lines, objects) = (Lines::default(), Lines::default());
    let (text, json) = (lines.clone(), objects.clone());
    let as_text = fmt::layer().with_ansi(false);
    let as_json = fmt::layer().with_ansi(false).json();
    tracing_subscriber::registry()
        .with(as_text.with_writer(move || text.clone()))
        .with(as_json.with_writer(move || json.clone()))
        .with(LevelFilter::TRACE)
        .init();
    let (receiver, url) = Receiver::start().await;
    let node = Node::new(MODEL, "log.example/test", Flaw::None);
    let upstream = Faulty::node(MODEL, Script::Always(Fault::None), node.clone()).await;
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
    node.now(Flaw::BadSignature);
    upstream.now(Script::Always(Fault::None));
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

    let logged = [&lines, &objects].map(|it| it.0.lock().expect("whole").clone());
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
    for text in [prompt(), KEY, RECEIVER_KEY, "t3 t4"] {
        for (what, bytes) in &seen {
            assert!(!contains(bytes, text), "{text:?} is in the {what}");
        }
        assert!(!contains(told.as_bytes(), text), "{text:?} is told");
        for path in &paths {
            let bytes = std::fs::read(path).expect("readable");
            assert!(!contains(&bytes, text), "{text:?} is in {}", path.display());
        }
    }
    for secret in secrets {
        for (what, bytes) in &seen {
            assert!(
                !contains(bytes, &secret),
                "a content secret is in the {what}"
            );
        }
    }
}
