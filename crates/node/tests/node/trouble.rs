//! Requests that are no good, engines that fail, clients that leave.

use std::time::Duration;

use engine::faulty::Faults;
use record::Outcome;
use record::receipt::Finish;
use recorder::HomeLog;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Fixture, MODEL, chat, recording};
use crate::scripted::says;

#[tokio::test]
async fn what_is_no_inference_gets_an_error_and_no_receipt() {
    let it = Fixture::start().await;
    let unknown = chat("hi", false).replace(MODEL, "owl");
    for (body, status, says) in [
        ("{", 400, "not valid JSON"),
        ("[]", 400, "must be a JSON object"),
        ("{\"messages\":[]}", 400, "model"),
        ("{\"model\":7,\"messages\":[]}", 400, "model"),
        ("", 400, "JSON"),
        (unknown.as_str(), 404, "parrot"),
    ] {
        let answered = it.post(body.to_owned(), Some(1)).await;
        assert_eq!(answered.status, status, "{body}");
        let error = answered.error();
        assert!(error.contains(says), "{body}: {error}");
        assert!(answered.headers.get(node::RECEIPT).is_none());
    }
    for (method, path, status) in [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/", 404),
    ] {
        let request = hyper::Request::builder().method(method).uri(it.url(path));
        let response = it
            .send(
                request
                    .body(http_body_util::Full::default())
                    .expect("a request"),
            )
            .await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
    }
    assert!(it.receipts().await.is_empty());
}

#[tokio::test]
async fn headers_that_cannot_be_meant_are_refused() {
    let it = Fixture::start().await;
    let request =
        hyper::Request::post(it.url("/v1/chat/completions")).header(node::SECRET, "short");
    let body = http_body_util::Full::new(chat("hi", false).into());
    let response = it.send(request.body(body).expect("a request")).await;
    assert_eq!(response.status().as_u16(), 400);
    assert!(it.receipts().await.is_empty());
}

#[tokio::test]
async fn web_pages_are_not_answered() {
    let it = Fixture::start().await;
    let request = hyper::Request::post(it.url("/v1/chat/completions"))
        .header("origin", "https://page.example.com")
        .header("content-type", "text/plain");
    let body = http_body_util::Full::new(chat("hi", false).into());
    let response = it.send(request.body(body).expect("a request")).await;
    assert_eq!(response.status().as_u16(), 403);
    assert!(it.receipts().await.is_empty());
}

#[tokio::test]
async fn a_body_of_twenty_megabytes_is_refused_politely() {
    let it = Fixture::start().await;
    let body =
        json!({"model": MODEL, "messages": [{"role": "user", "content": "x".repeat(20 << 20)}]});
    let answered = it.post(body.to_string(), Some(1)).await;
    assert_eq!(answered.status, 413);
    assert!(answered.error().contains("10485760"));
    assert!(it.receipts().await.is_empty());
    assert_eq!(it.post(chat("still here", false), None).await.status, 200);
}

#[tokio::test]
async fn refused_parameters_are_an_inference_with_a_receipt() {
    let it = Fixture::start().await;
    for (seq, (field, value)) in (1..).zip([
        ("temperature", json!(9)),
        ("n", json!(3)),
        ("max_tokens", json!("many")),
    ]) {
        let mut body: Value = serde_json::from_str(&chat("hi", seq == 2)).expect("JSON");
        body[field] = value;
        let answered = it.post(body.to_string(), Some(seq)).await;
        assert_eq!(answered.status, 400);
        assert!(answered.error().contains(field), "{}", answered.error());
        let receipt = answered.checked(Outcome::ClientError, seq);
        assert!(receipt.finish.is_none() && receipt.usage.is_none());
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let it = Fixture::start().await;
    for stream in [false, true] {
        let seq = 1 + u64::from(stream);
        let answered = it.post(chat(says::BUSY, stream), Some(seq)).await;
        assert_eq!(answered.status, 503);
        assert_eq!(answered.headers["retry-after"], "3");
        assert!(answered.error().contains("queue is full"));
        answered.checked(Outcome::Capacity, seq);
    }
}

#[tokio::test]
async fn beyond_its_seats_a_model_turns_callers_away() {
    let it = Fixture::with(|_| {}, |served| served.in_flight_max = 1).await;
    let mut first = open(&it, &chat(says::THINK, true), 1).await;
    read_until(&mut first, "assistant").await;
    let answered = it.post(chat("hello", false), Some(2)).await;
    assert_eq!(
        (answered.status, answered.headers["retry-after"].as_bytes()),
        (503, &b"1"[..])
    );
    answered.checked(Outcome::Capacity, 2);
    drop(first);
    it.canceled(1).await;
    it.receipt(1).await;
    let answered = it.post(chat("hello", false), Some(3)).await;
    answered.checked(Outcome::Ok, 3);
}

#[tokio::test]
async fn a_failing_engine_is_owned_up_to() {
    let it = Fixture::start().await;
    let answered = it.post(chat(says::BREAK, true), Some(1)).await;
    assert_eq!(answered.status, 500);
    answered.checked(Outcome::ProviderError, 1);
    let answered = it.post(chat(says::BREAK_LATER, false), Some(2)).await;
    assert_eq!(answered.status, 500);
    answered.checked(Outcome::ProviderError, 2);
    let answered = it.post(chat(says::CUT, false), Some(3)).await;
    assert_eq!(answered.status, 500);
    answered.checked(Outcome::Truncated, 3);
}

#[tokio::test]
async fn a_stream_that_breaks_off_does_not_look_like_one_that_ended() {
    let it = Fixture::start().await;
    for (seq, says, outcome) in [
        (1, says::BREAK_LATER, Outcome::ProviderError),
        (2, says::CUT, Outcome::Truncated),
    ] {
        let answered = it.post(chat(says, true), Some(seq)).await;
        assert_eq!(answered.status, 200);
        assert!(!answered.is_done());
        let payloads = answered.payloads();
        let last: Value = serde_json::from_slice(payloads.last().expect("some")).expect("JSON");
        assert!(last["error"]["message"].is_string());
        let receipt = answered.checked(outcome, seq);
        assert_eq!(receipt.finish, Some(Finish::Error));
    }
}

#[tokio::test]
async fn faults_on_purpose_leave_receipts_too() {
    let faults = Faults {
        seed: 1,
        failure_ppm: 400_000,
        cut_ppm: 300_000,
        ..Faults::NONE
    };
    let it = Fixture::with(|_| {}, |served| served.faults = Some(faults)).await;
    let mut seen = std::collections::BTreeMap::<Outcome, u32>::new();
    for seq in 1..=40 {
        let answered = it.post(chat("some words to be cut", true), Some(seq)).await;
        let record::Predicate::Receipt(receipt) = answered.receipt().statement.predicate else {
            panic!("not a receipt")
        };
        answered.checked(receipt.outcome, seq);
        *seen.entry(receipt.outcome).or_default() += 1;
    }
    assert!(
        seen[&Outcome::Ok] > 3 && seen[&Outcome::ProviderError] > 15,
        "{seen:?}"
    );
}

/// A raw connection, so that it can be dropped at will.
async fn open(it: &Fixture, body: &str, seq: u64) -> TcpStream {
    let mut stream = TcpStream::connect(it.node.address())
        .await
        .expect("connects");
    let headers: String = recording(seq)
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: node\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

async fn read_until(stream: &mut TcpStream, wanted: &str) {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer));
        let read = read.await.expect("in time").expect("readable");
        assert!(read > 0, "the connection ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_engine_and_the_receipt_says_so() {
    let it = Fixture::start().await;
    // In the middle of a stream.
    let mut client = open(&it, &chat(says::TALK, true), 1).await;
    read_until(&mut client, "and ").await;
    drop(client);
    it.canceled(1).await;
    let (record, receipt) = it.receipt(1).await;
    assert_eq!(
        (receipt.outcome, receipt.finish),
        (Outcome::Canceled, Some(Finish::Canceled))
    );
    assert_eq!(receipt.http_status.code(), 200);
    assert!(record.statement.response().is_some(), "something was sent");

    // Before the first token of a stream.
    let mut client = open(&it, &chat(says::THINK, true), 2).await;
    read_until(&mut client, "assistant").await;
    drop(client);
    it.canceled(2).await;
    assert_eq!(it.receipt(2).await.1.outcome, Outcome::Canceled);

    // While waiting for an answer in one piece, and while waiting in the queue.
    for (seq, says) in [(3, says::THINK), (4, says::QUEUE)] {
        let client = open(&it, &chat(says, false), seq).await;
        let count = usize::try_from(seq).expect("small");
        it.asked(count).await;
        drop(client);
        it.canceled(count).await;
        let (record, receipt) = it.receipt(seq).await;
        assert_eq!(
            (receipt.outcome, receipt.http_status.code()),
            (Outcome::Canceled, 499)
        );
        assert!(record.statement.response().is_none(), "nothing was sent");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_inference() {
    let it = Fixture::start().await;
    let mut stream = TcpStream::connect(it.node.address())
        .await
        .expect("connects");
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: node\r\ncontent-length: 500\r\n\r\n{\"model\"";
    stream.write_all(head.as_bytes()).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(stream);
    it.post(chat("next", false), Some(1))
        .await
        .checked(Outcome::Ok, 1);
    assert_eq!(it.receipts().await.len(), 1);
}

#[tokio::test]
async fn with_a_full_spool_answers_go_on_without_receipts() {
    // Two control records and one manifest are in it from the start, and the log takes nothing.
    let away = HomeLog {
        url: "http://127.0.0.1:9".to_owned(),
        vkey: "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".to_owned(),
    };
    let full = |config: &mut recorder::Config| {
        config.spool.pending_rows = 4;
        config.home_log = Some(away);
    };
    let it = Fixture::with(full, |_| {}).await;
    it.post(chat("kept", false), Some(1))
        .await
        .checked(Outcome::Ok, 1);
    for stream in [false, true] {
        let answered = it.post(chat("not kept", stream), Some(2)).await;
        assert_eq!(answered.status, 200);
        assert!(answered.headers.get(node::RECEIPT).is_none());
        assert!(answered.events().iter().all(|event| event.name.is_none()));
        assert!(!stream || answered.is_done());
    }
    let status = it.node.recorder().status().await.expect("a status");
    assert_eq!((status.unrecorded, status.to_void), (2, 2));
}
