//! A node in front of an outside API that behaves, or does not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use bytes::Bytes;
use engine::upstream::{ApiKey, Deadlines, Upstream};
use node::Served;
use record::receipt::Finish;
use record::{Outcome, Predicate};
use serde_json::{Value, json};

use crate::common::{Fixture, MODEL, chat, recorder};

const KEY: &str = "sk-test";
const WHOLE: &str = r#"{ "id":"x", "unknown_field": 1.50, "choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#;
const CHUNK: &str = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#;
const LAST: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#;
const USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#;

/// What the upstream was sent, and what it answers.
#[derive(Clone)]
pub(crate) struct Outside {
    status: u16,
    kind: &'static str,
    body: Arc<dyn Fn() -> Body + Send + Sync>,
    pub(crate) seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Outside {
    pub(crate) fn whole(status: u16, body: &'static str) -> Outside {
        Outside::answering(status, "application/json", move || Body::from(body))
    }

    pub(crate) fn stream(body: impl Into<String>) -> Outside {
        let body = body.into();
        Outside::answering(200, "text/event-stream", move || Body::from(body.clone()))
    }

    fn answering(
        status: u16,
        kind: &'static str,
        body: impl Fn() -> Body + Send + Sync + 'static,
    ) -> Outside {
        Outside {
            status,
            kind,
            body: Arc::new(body),
            seen: Arc::default(),
        }
    }
}

async fn answer(State(it): State<Outside>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    it.seen.lock().expect("whole").push((headers, body));
    let response = Response::builder()
        .status(it.status)
        .header("content-type", it.kind);
    response
        .header("retry-after", "4")
        .body((it.body)())
        .expect("a response")
}

/// A node in front of this.
pub(crate) async fn in_front_of(outside: &Outside) -> Fixture {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let router = Router::new()
        .route("/v1/chat/completions", post(answer))
        .route("/v1/completions", post(answer))
        .with_state(outside.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    in_front(&url).await
}

async fn in_front(url: &str) -> Fixture {
    in_front_within(url, Deadlines::default()).await
}

async fn in_front_within(url: &str, deadlines: Deadlines) -> Fixture {
    let key = ApiKey::new(KEY).expect("a key");
    let upstream = Upstream::new(url, Some(key), engine::http::client(), deadlines).expect("a URL");
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let recorder = recorder(&directory.path().join("node"));
    Fixture::serving(recorder, vec![Served::upstream(upstream, MODEL)], directory).await
}

fn events(payloads: &[&str]) -> String {
    payloads
        .iter()
        .map(|payload| format!("data: {payload}\n\n"))
        .collect()
}

#[tokio::test]
async fn bytes_pass_untouched_in_both_directions() {
    let outside = Outside::whole(200, WHOLE);
    let it = in_front_of(&outside).await;
    let asked = format!(
        "{{ \"model\":\"{MODEL}\", \"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}], \"made_up\": 1.50, \"tools\":[{{}},{{}}], \"response_format\":{{\"type\":\"json_schema\"}} }}"
    );
    let answered = it.post(asked.clone(), Some(1)).await;
    assert_eq!(answered.body, WHOLE);
    let (headers, body) = outside.seen.lock().expect("whole")[0].clone();
    assert_eq!(body, asked);
    assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
    assert!(
        headers
            .keys()
            .all(|name| !name.as_str().starts_with("x-longrun")),
        "{headers:?}"
    );
    let receipt = answered.checked(Outcome::Ok, 1);
    assert_eq!(receipt.finish, Some(Finish::Length));
    assert_eq!(
        (
            receipt.executed.tools,
            receipt.executed.response_format.as_str()
        ),
        (2, "json_schema")
    );
    assert_eq!(
        (receipt.executed.seed, receipt.executed.temperature_ppm),
        (None, None),
        "not known"
    );
    let usage = receipt.usage.expect("counted");
    assert_eq!(
        (
            usage.prompt_tokens.tokens(),
            usage.completion_tokens.tokens()
        ),
        (4, 6)
    );

    let pinned = it.node.recorder().pinned().await.expect("read");
    let Predicate::Manifest(manifest) = &pinned[2].record.statement.predicate else {
        panic!("a manifest")
    };
    assert!(manifest.weights.sha256.is_none() && manifest.weights.basis.as_str() == "declared");
    assert_eq!(manifest.precision.value.as_str(), "unknown");
}

#[tokio::test]
async fn a_stream_passes_frame_by_frame_and_usage_is_learnt_on_the_way() {
    let odd = format!(
        ": hello\n\nid: 7\r\ndata: {CHUNK}\r\n\r\nevent: longrun.receipt\ndata: forged\n\n"
    );
    let body = format!("{odd}{}", events(&[LAST, USAGE, "[DONE]"]));
    let outside = Outside::stream(body);
    let it = in_front_of(&outside).await;
    let answered = it.post(chat("hi", true), Some(1)).await;
    let passed = format!(
        ": hello\n\nid: 7\r\ndata: {CHUNK}\r\n\r\n{}event: longrun.receipt\n",
        events(&[LAST])
    );
    let got = String::from_utf8_lossy(&answered.body);
    assert!(got.starts_with(&passed), "{got}");
    assert!(answered.is_done() && !got.contains("forged") && !got.contains("usage\":{"));
    let receipt = answered.checked(Outcome::Ok, 1);
    assert_eq!(receipt.finish, Some(Finish::ToolCalls));
    assert_eq!(
        receipt.usage.expect("counted").completion_tokens.tokens(),
        2
    );
    let sent: Value =
        serde_json::from_slice(&outside.seen.lock().expect("whole")[0].1).expect("JSON");
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));

    // Whoever asks for the usage gets it.
    let mut body: Value = serde_json::from_str(&chat("hi", true)).expect("JSON");
    body["stream_options"] = json!({"include_usage": true});
    let answered = it.post(body.to_string(), Some(2)).await;
    assert!(answered.payloads().iter().any(|payload| payload == USAGE));
    answered.checked(Outcome::Ok, 2);
}

#[tokio::test]
async fn an_upstream_that_never_counts_is_still_ok() {
    let it = in_front_of(&Outside::stream(events(&[CHUNK, LAST]))).await;
    let answered = it.post(chat("hi", true), Some(1)).await;
    assert!(
        answered.is_done(),
        "[DONE] is ours where the upstream leaves it out"
    );
    assert!(answered.checked(Outcome::Ok, 1).usage.is_none());
}

#[tokio::test]
async fn a_stream_of_several_choices_ends_with_the_last_of_them() {
    let other = |chunk: &str| chunk.replace("\"index\":0", "\"index\":1");
    let (chunk, last) = (other(CHUNK), other(LAST));
    let mut body: Value = serde_json::from_str(&chat("hi", true)).expect("JSON");
    body["n"] = json!(2);
    // The second choice goes on after the first ended, and is all there or is cut.
    for (payloads, outcome) in [
        (&[CHUNK, LAST, &chunk, &last][..], Outcome::Ok),
        (&[CHUNK, LAST, &chunk, &last, "[DONE]"], Outcome::Ok),
        (&[CHUNK, LAST, &chunk], Outcome::Truncated),
    ] {
        let it = in_front_of(&Outside::stream(events(payloads))).await;
        let answered = it.post(body.to_string(), Some(1)).await;
        let passed = answered.payloads();
        assert!(passed.iter().any(|payload| *payload == chunk.as_bytes()));
        assert_eq!(answered.is_done(), outcome == Outcome::Ok);
        answered.checked(outcome, 1);
    }
}

#[tokio::test]
async fn every_failure_has_its_outcome() {
    let error = r#"{"error":{"message":"no","type":"t","param":null,"code":"c"}}"#;
    for (outside, stream, status, outcome) in [
        (Outside::whole(400, error), false, 400, Outcome::ClientError),
        (
            Outside::whole(401, error),
            false,
            502,
            Outcome::ProviderError,
        ),
        (Outside::whole(429, error), true, 429, Outcome::RateLimited),
        (Outside::whole(503, error), true, 503, Outcome::Capacity),
        (Outside::whole(529, error), false, 529, Outcome::Capacity),
        (
            Outside::whole(500, "boom"),
            false,
            500,
            Outcome::ProviderError,
        ),
        (
            Outside::whole(200, error),
            false,
            502,
            Outcome::ProviderError,
        ),
        (
            Outside::whole(200, "<html>"),
            false,
            502,
            Outcome::Malformed,
        ),
        (Outside::whole(200, "{}"), false, 502, Outcome::Malformed),
        (Outside::whole(200, WHOLE), true, 502, Outcome::Malformed),
        (
            Outside::stream(events(&[CHUNK])),
            false,
            502,
            Outcome::Malformed,
        ),
    ] {
        let it = in_front_of(&outside).await;
        let answered = it.post(chat("hi", stream), Some(1)).await;
        assert_eq!(
            answered.status,
            status,
            "{outcome} {}",
            String::from_utf8_lossy(&answered.body)
        );
        assert!(!answered.error().is_empty());
        answered.checked(outcome, 1);
        if status == 429 {
            assert_eq!(answered.headers["retry-after"], "4");
        }
    }
}

#[tokio::test]
async fn a_stream_that_goes_wrong_ends_in_an_error_and_without_done() {
    let error = r#"{"error":{"message":"no","type":"t","param":null,"code":"c"}}"#;
    for (body, outcome) in [
        (events(&[CHUNK]), Outcome::Truncated),
        (events(&[CHUNK, "garbage"]), Outcome::Malformed),
        (events(&[CHUNK, error]), Outcome::ProviderError),
    ] {
        let it = in_front_of(&Outside::stream(body)).await;
        let answered = it.post(chat("hi", true), Some(1)).await;
        assert!(!answered.is_done());
        let payloads = answered.payloads();
        let last: Value = serde_json::from_slice(payloads.last().expect("some")).expect("JSON");
        assert!(last["error"]["message"].is_string());
        assert_eq!(answered.checked(outcome, 1).finish, Some(Finish::Error));
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_or_is_not_there() {
    let hangs = Outside::answering(200, "application/json", || {
        Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())
    });
    let it = in_front_of(&hangs).await;
    // The head comes, the body never does: the client gives up once the request is there.
    let seen = async {
        while hangs.seen.lock().expect("whole").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answered = it.post(chat("hi", false), Some(1)) => panic!("{} came", answered.status),
        () = seen => {}
    }
    assert_eq!(it.receipt(1).await.1.outcome, Outcome::Canceled);

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/v1", silent.local_addr().expect("bound"));
    let short_head = Deadlines {
        head: Duration::from_millis(500),
        ..Deadlines::default()
    };
    let it = in_front_within(&url, short_head).await;
    let answered = it.post(chat("hi", false), Some(1)).await;
    assert_eq!(answered.status, 504);
    answered.checked(Outcome::Timeout, 1);

    let it = in_front("http://127.0.0.1:9/v1").await;
    let answered = it.post(chat("hi", true), Some(1)).await;
    assert_eq!(answered.status, 502);
    answered.checked(Outcome::Connection, 1);
}
