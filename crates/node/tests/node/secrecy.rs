//! Prompts, answers, secrets and keys do not reach logs or what is stored.

use std::io::Write;
use std::sync::{Arc, Mutex};

use engine::upstream::{ApiKey, Deadlines, Upstream};
use node::Served;
use tracing_subscriber::fmt::MakeWriter;

use crate::common::{Fixture, MODEL, SECRET, chat, recorder};
use crate::scripted::says;

const PROMPT: &str = "the-prompt-that-nobody-may-see";
const KEY: &str = "sk-the-key-that-nobody-may-see";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Captured;

    fn make_writer(&'a self) -> Captured {
        self.clone()
    }
}

#[tokio::test]
async fn neither_logs_nor_files_hold_content_or_keys() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(captured.clone());
    // Everything that any thread of this test binary says, libraries included.
    subscriber.try_init().expect("the only one");

    let it = Fixture::start().await;
    for (seq, stream) in [(1, false), (2, true)] {
        it.post(chat(PROMPT, stream), Some(seq)).await;
        it.post(
            chat(PROMPT, stream).replace("user", "us\u{7f}er"),
            Some(seq + 2),
        )
        .await;
    }
    for body in [
        format!("{{\"model\":\"{PROMPT}\",\"messages\":[]}}"),
        format!("{{\"{PROMPT}"),
        format!("{{\"model\":\"{MODEL}\",\"messages\":\"{PROMPT}\"}}"),
        format!("{{\"model\":\"{MODEL}\",\"temperature\":\"{PROMPT}\",\"messages\":[]}}"),
    ] {
        it.post(body, Some(9)).await;
    }
    it.post(chat(says::BREAK, false), Some(10)).await;
    it.post(chat(says::CUT, true), Some(11)).await;

    // Through another node, with a key; and to an upstream that is not there.
    let deadlines = Deadlines::default();
    let key = || Some(ApiKey::new(KEY).expect("a key"));
    let url = format!("http://{}/v1", it.node.address());
    let up = Upstream::new(&url, key(), engine::http::client(), deadlines).expect("a URL");
    let gone = Upstream::new(
        "http://127.0.0.1:9/v1",
        key(),
        engine::http::client(),
        deadlines,
    );
    let directory = it.directory.clone();
    let models = vec![
        Served::upstream(up, MODEL),
        Served::upstream(gone.expect("a URL"), "gone"),
    ];
    let front = Fixture::serving(
        recorder(&directory.path().join("front")),
        models,
        directory.clone(),
    )
    .await;
    assert_eq!(front.post(chat(PROMPT, true), Some(1)).await.text(), PROMPT);
    assert_eq!(
        front
            .post(chat(PROMPT, false).replace(MODEL, "gone"), Some(2))
            .await
            .status,
        502
    );
    for fixture in [it, front] {
        fixture
            .node
            .shutdown(std::time::Duration::from_secs(1))
            .await
            .expect("in order");
    }

    let log = captured.0.lock().expect("whole").clone();
    let said = String::from_utf8_lossy(&log);
    assert!(said.contains("the node listens"), "the capture works");
    let secret = hex::encode(SECRET);
    for forbidden in [PROMPT, KEY, secret.as_str()] {
        let line = said.lines().find(|line| line.contains(forbidden));
        assert!(line.is_none(), "{line:?}");
        for file in walk(directory.path()) {
            let bytes = std::fs::read(&file).expect("readable");
            let held = bytes
                .windows(forbidden.len())
                .any(|at| at == forbidden.as_bytes());
            assert!(!held, "{} holds {forbidden}", file.display());
        }
    }
    for file in walk(directory.path()) {
        let bytes = std::fs::read(&file).expect("readable");
        assert!(
            !bytes.windows(32).any(|at| at == SECRET),
            "{} holds the secret",
            file.display()
        );
    }
}

fn walk(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).expect("readable");
    entries
        .flat_map(|entry| {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
