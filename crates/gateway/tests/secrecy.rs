//! Keys, prompts and answers reach neither logs nor records nor the disk.
//!
//! Alone in its file: the subscriber that gathers every line of every level is the process's own.

mod support;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gateway::config::Secret;
use support::faulty::signer::{Flaw, Node};
use support::faulty::{Fault, Faulty, Script};
use support::{MODEL, Running, chat, config, endpoint, prompt};

const KEY: &str = "sk-test-key-that-nobody-may-print";

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
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let node = Node::new(MODEL, "log.example/test", Flaw::None);
    let upstream = Faulty::node(MODEL, Script::Always(Fault::None), node.clone()).await;
    let mut config = config();
    let mut keyed = endpoint(&upstream);
    keyed.api_key = Some(Secret::new(KEY).expect("a key"));
    config.endpoints = vec![keyed];
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

    let logged = lines.0.lock().expect("whole").clone();
    assert!(
        contains(&logged, "a receipt is invalid"),
        "the lines are gathered"
    );
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
    for text in [prompt(), KEY, "t3 t4"] {
        assert!(!contains(&logged, text), "{text:?} was logged");
        assert!(!contains(told.as_bytes(), text), "{text:?} is told");
        for path in &paths {
            let bytes = std::fs::read(path).expect("readable");
            assert!(!contains(&bytes, text), "{text:?} is in {}", path.display());
        }
    }
    for secret in secrets {
        assert!(!contains(&logged, &secret), "a content secret was logged");
    }
}
