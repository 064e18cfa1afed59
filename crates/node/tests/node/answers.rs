//! What a caller gets, and what the receipt says about it.

use engine::openai::Usage;
use record::content::{Exact, Part, token_bytes};
use record::receipt::{Finish, ResponseFormat};
use record::{Outcome, Provider, Secret};
use serde_json::json;

use crate::common::{Fixture, MODEL, SECRET, chat, recording};
use crate::scripted::says;

#[tokio::test]
async fn an_answer_in_one_piece_comes_with_its_receipt() {
    let it = Fixture::start().await;
    let body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "so many words"}],
        "temperature": 0.25, "top_p": 0.5, "seed": 42, "max_tokens": 5, "stop": ["x", "y"],
        "logprobs": true, "top_logprobs": 0,
    });
    let answered = it.post(body.to_string(), Some(31)).await;
    assert_eq!(answered.status, 200);
    let answer = answered.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "so many words");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        answer["choices"][0]["logprobs"]["content"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    assert_eq!(answer["usage"]["total_tokens"], 12);
    assert!(
        answer["id"]
            .as_str()
            .expect("an id")
            .starts_with("chatcmpl-")
    );

    let receipt = answered.checked(Outcome::Ok, 31);
    assert_eq!(
        receipt.stream.endpoint.provider,
        Provider::Joined(it.node.provider())
    );
    assert_eq!(
        (
            receipt.stream.endpoint.model.as_str(),
            receipt.stream.seq.number()
        ),
        (MODEL, 1)
    );
    let executed = &receipt.executed;
    assert_eq!(executed.temperature_ppm.map(|t| t.ppm()), Some(250_000));
    assert_eq!(executed.top_p_ppm.map(|p| p.ppm()), Some(500_000));
    assert_eq!(executed.seed.map(|seed| seed.0), Some(42));
    assert_eq!(
        (executed.max_tokens, executed.stop, executed.n),
        (Some(5), 2, 1)
    );
    assert_eq!((executed.logprobs, executed.tools), (Some(0), 0));
    assert_eq!(executed.response_format, ResponseFormat::Text);
    assert_eq!(receipt.finish, Some(Finish::Stop));
    assert!(!receipt.streamed);
    // Coarse in public, exact behind the commitment.
    let usage = receipt.usage.expect("counted");
    assert_eq!(
        (
            usage.prompt_tokens.tokens(),
            usage.completion_tokens.tokens()
        ),
        (8, 3)
    );
    let tokens = token_bytes(&[&[7, 8, 9], &[100, 101, 102]]).expect("short");
    let secret = Secret::from_bytes(SECRET);
    assert_eq!(
        receipt.commitments.tokens,
        Some(secret.commit(Part::Tokens, &tokens))
    );
    let (_, _, entry) = it.receipts().await.remove(0);
    assert_eq!(
        receipt.commitments.exact,
        secret.commit(Part::Exact, &entry.private)
    );
    let exact = Exact::from_bytes(&entry.private).expect("opens");
    assert_eq!(
        (exact.prompt_tokens, exact.completion_tokens),
        (Some(9), Some(3))
    );
    assert!(exact.total_us > 0 && exact.start_ms >= receipt.timing.start_ms.ms());
}

#[tokio::test]
async fn a_stream_ends_in_its_receipt_and_then_done() {
    let it = Fixture::start().await;
    let answered = it.post(chat("one two three", true), Some(1)).await;
    assert_eq!(answered.status, 200);
    assert_eq!(answered.text(), "one two three");
    let events = answered.events();
    let names: Vec<bool> = events.iter().map(|event| event.name.is_some()).collect();
    assert_eq!(names, [false, false, false, false, false, true, false]);
    assert!(answered.is_done());
    let receipt = answered.checked(Outcome::Ok, 1);
    assert!(receipt.streamed && receipt.timing.ttft_us.is_some());

    // The usage chunk comes only if it is asked for, before the receipt, and is committed to.
    let mut body: serde_json::Value = serde_json::from_str(&chat("a b", true)).expect("JSON");
    body["stream_options"] = json!({"include_usage": true});
    let answered = it.post(body.to_string(), Some(2)).await;
    let last: serde_json::Value =
        serde_json::from_slice(answered.payloads().last().expect("some")).expect("JSON");
    let usage: Usage = serde_json::from_value(last["usage"].clone()).expect("usage");
    assert_eq!(
        (
            usage.completion_tokens,
            last["choices"].as_array().map(Vec::len)
        ),
        (2, Some(0))
    );
    answered.checked(Outcome::Ok, 2);
}

#[tokio::test]
async fn a_plain_client_sees_a_plain_stream_and_there_is_a_receipt_all_the_same() {
    let it = Fixture::start().await;
    let answered = it.post(chat("one two", true), None).await;
    assert!(answered.is_done());
    assert!(answered.events().iter().all(|event| event.name.is_none()));
    let (record, receipt) = it.receipt(1).await;
    assert_eq!(
        (receipt.outcome, receipt.caller.is_none()),
        (Outcome::Ok, true)
    );
    // Committed under a secret of the node's own, so nobody can guess the content.
    let guess = Secret::from_bytes([0; 32]).commit(Part::Request, &answered.request);
    assert_ne!(record.statement.request(), Some(guess));
    let entry = it
        .node
        .recorder()
        .entry(record.id)
        .await
        .expect("read")
        .expect("kept");
    let own = entry.secret.expect("leased with the number");
    assert_eq!(
        record.statement.request(),
        Some(own.commit(Part::Request, &answered.request))
    );
}

#[tokio::test]
async fn the_executed_seed_is_drawn_here_if_the_caller_gives_none() {
    let it = Fixture::start().await;
    let mut seeds = std::collections::BTreeSet::new();
    for seq in 1..=3 {
        let receipt = it
            .post(chat("hello", false), Some(seq))
            .await
            .checked(Outcome::Ok, seq);
        seeds.insert(receipt.executed.seed.expect("stated").0);
    }
    assert_eq!(seeds.len(), 3);
}

#[tokio::test]
async fn numbers_follow_each_other_whatever_happens() {
    let it = Fixture::start().await;
    for (seq, says) in (1..).zip(["fine", says::BUSY, "fine", says::BREAK, says::CUT, "fine"]) {
        it.post(chat(says, seq % 2 == 0), Some(seq)).await;
    }
    let numbers: Vec<u64> = it
        .receipts()
        .await
        .iter()
        .map(|(_, receipt, _)| receipt.stream.seq.number())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn fifty_at_once_get_fifty_receipts() {
    let it = std::sync::Arc::new(Fixture::start().await);
    let calls = (1..=50u64).map(|seq| {
        let it = it.clone();
        tokio::spawn(async move {
            let answered = it
                .post(chat(&format!("number {seq}"), seq % 2 == 0), Some(seq))
                .await;
            let receipt = answered.checked(Outcome::Ok, seq);
            receipt.stream.seq.number()
        })
    });
    let mut numbers = std::collections::BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        assert!(numbers.insert(call.await.expect("no panic")));
    }
    assert_eq!(numbers, (1..=50).collect());
}

/// How long each piece of an answer in six events, 5 ms apart, was waited for, ms.
async fn waits_ms(it: &Fixture, seq: u64) -> Vec<u128> {
    use futures_util::StreamExt;
    use http_body_util::{BodyExt, Full};
    let mut request = hyper::Request::post(it.url("/v1/chat/completions"));
    for (name, value) in recording(seq) {
        request = request.header(name, value);
    }
    let body = Full::new(chat(says::BRIEF, true).into());
    let response = it.send(request.body(body).expect("a request")).await;
    let mut body = response.into_body().into_data_stream();
    let mut last = std::time::Instant::now();
    let mut waits = Vec::new();
    while let Some(piece) = body.next().await {
        piece.expect("a piece");
        waits.push(last.elapsed().as_millis());
        last = std::time::Instant::now();
    }
    waits
}

/// Nagle's algorithm would hold the second small event of an answer back until the first is
/// acknowledged, 40 ms later, once the connection looks like questions and answers. It stalls nearly all
/// of many short streams over one connection; a machine that is busy with other things, some.
#[tokio::test]
async fn streams_do_not_stall() {
    const STREAMS: u64 = 40;
    let it = Fixture::start().await;
    let (mut smooth, mut all) = (0, Vec::new());
    for seq in 1..=STREAMS {
        let waits = waits_ms(&it, seq).await;
        // The last pieces wait for the receipt, and so for the disk.
        let stalled = waits.iter().take(3).any(|&wait| wait >= 35);
        let waited_for = waits.iter().filter(|&&wait| wait > 0).count();
        smooth += u64::from(!stalled && waited_for > 3);
        all.push(waits);
    }
    assert!(
        smooth > STREAMS / 4,
        "{smooth} of {STREAMS} streams came piece by piece and without a stall: {all:?}"
    );
}

#[tokio::test]
async fn a_node_says_what_it_is() {
    let it = Fixture::start().await;
    let (status, models) = it.get("/v1/models").await;
    assert_eq!(
        (status, models["data"][0]["id"].as_str()),
        (200, Some(MODEL))
    );
    assert_eq!(it.get("/healthz").await.0, 200);
    let (_, about) = it.get("/longrun/v1/node").await;
    assert_eq!(
        about["provider"].as_str(),
        Some(it.node.provider().to_hex().as_str())
    );
    assert!(about["log"].is_null() && about["log_url"].is_null());
    let open = |value: &serde_json::Value| {
        let envelope = record::Envelope::from_json(value.to_string().as_bytes());
        envelope.and_then(record::Envelope::open).expect("verifies")
    };
    let controls: Vec<_> = about["controls"]
        .as_array()
        .expect("a list")
        .iter()
        .map(open)
        .collect();
    let chain = record::control::Chain::of(&controls).expect("a chain");
    assert_eq!(chain.signer(), it.node.provider());
    let manifest = open(&about["manifests"][0]);
    assert_eq!(manifest.signer_id(), it.node.provider());
    let receipt = it
        .post(chat("hello", false), Some(1))
        .await
        .checked(Outcome::Ok, 1);
    assert_eq!(receipt.manifest, manifest.id);
}
