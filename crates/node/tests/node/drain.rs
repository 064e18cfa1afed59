//! Starting and stopping.

use std::sync::Arc;
use std::time::Duration;

use node::{ErrorKind, NodeConfig, NodeError, Served};
use record::{Outcome, Predicate};
use serde_json::Value;

use crate::common::{Fixture, MODEL, chat, recorder};
use crate::scripted::{Scripted, says};

/// Runs a request beside a shutdown that starts once the request is under way.
async fn beside_shutdown(
    says: &str,
    patience: Duration,
) -> (crate::common::Answered, Arc<tempfile::TempDir>) {
    let it = Fixture::start().await;
    let directory = it.directory.clone();
    let client = engine::http::client();
    let mut request = hyper::Request::post(it.url("/v1/chat/completions"));
    for (name, value) in crate::common::recording(1) {
        request = request.header(name, value);
    }
    let body = bytes::Bytes::from(chat(says, true));
    let request = request
        .body(http_body_util::Full::new(body.clone()))
        .expect("a request");
    let response = client.request(request).await.expect("begins");
    let (head, answer) = response.into_parts();
    let url = it.url("/healthz");
    let shutdown = tokio::spawn(it.node.shutdown(patience));
    let read = http_body_util::BodyExt::collect(answer)
        .await
        .expect("ends in order")
        .to_bytes();
    shutdown.await.expect("no panic").expect("in order");
    let late = hyper::Request::get(url)
        .body(http_body_util::Full::default())
        .expect("a request");
    assert!(
        engine::http::client().request(late).await.is_err(),
        "nobody listens any more"
    );
    let (status, headers) = (head.status.as_u16(), head.headers);
    (
        crate::common::Answered {
            status,
            headers,
            request: body,
            body: read,
        },
        directory,
    )
}

#[tokio::test]
async fn running_answers_finish() {
    let (answered, directory) = beside_shutdown(says::STEADY, Duration::from_secs(10)).await;
    assert!(answered.is_done());
    answered.checked(Outcome::Ok, 1);
    // The next start continues, with nothing to void.
    let recorder = recorder(&directory.path().join("node"));
    let entries = recorder.entries(0, 100).await.expect("read");
    assert!(
        entries
            .iter()
            .all(|(_, it)| !matches!(it.record.statement.predicate, Predicate::Void(_)))
    );
    assert_eq!(entries.len(), 4, "two controls, a manifest, a receipt");
}

#[tokio::test]
async fn answers_without_end_are_interrupted_and_say_so() {
    for says in [says::TALK, says::THINK] {
        let (answered, _) = beside_shutdown(says, Duration::from_millis(100)).await;
        assert!(!answered.is_done());
        let payloads = answered.payloads();
        let last: Value = serde_json::from_slice(payloads.last().expect("some")).expect("JSON");
        assert_eq!(last["error"]["code"], "shutting_down");
        answered.checked(Outcome::Truncated, 1);
    }
}

fn config(directory: &tempfile::TempDir, models: Vec<Served>, listen: &str) -> NodeConfig {
    let recorder = recorder(&directory.path().join(format!("node-{}", models.len())));
    NodeConfig {
        listen: listen.parse().expect("an address"),
        recorder,
        models,
    }
}

async fn refusal(config: NodeConfig) -> NodeError {
    let error = node::serve(config).await.map(|_| ()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup);
    error
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let parrot = || Served::engine(Arc::new(Scripted::new(MODEL)));
    let none = refusal(config(&directory, vec![], "127.0.0.1:0")).await;
    assert!(none.to_string().contains("at least one model"));
    let twice = refusal(config(&directory, vec![parrot(), parrot()], "127.0.0.1:0")).await;
    assert!(twice.to_string().contains("parrot"), "{twice}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let in_use = refusal(config(&directory, vec![parrot()], &address)).await;
    assert!(in_use.to_string().contains(&address), "{in_use}");

    let unnamed = Served::engine(Arc::new(Scripted::new("")));
    let unnamed = refusal(config(&directory, vec![unnamed], "127.0.0.1:0")).await;
    assert!(unnamed.to_string().starts_with("models:"), "{unnamed}");
}
