//! A stream that breaks off goes on at another endpoint where the caller allows it, and only with the
//! text that he has already.

use std::time::Instant;

use crate::support::faulty::signer::Node;
use crate::support::faulty::{Fault, Faulty, Script, Surface, TOKENS, token};
use crate::support::{Answer, MODEL, PATIENCE, Running, config, endpoint};
use gateway::config::GatewayConfig;
use serde_json::{Value, json};

const ALLOWED: [(&str, &str); 1] = [("x-longrun-continue", "true")];

async fn api(fault: Fault) -> Faulty {
    Faulty::api(MODEL, Script::Always(fault)).await
}

/// A gateway that asks these in this order, and the request that says so.
async fn in_turn(upstreams: &[&Faulty]) -> (Running, Value) {
    in_turn_with(upstreams, |_| {}).await
}

/// The same, configured further.
async fn in_turn_with(
    upstreams: &[&Faulty],
    adjust: impl FnOnce(&mut GatewayConfig),
) -> (Running, Value) {
    let names = ["first", "second", "third"];
    let mut config = config();
    for (upstream, name) in upstreams.iter().zip(names) {
        let mut endpoint = endpoint(upstream);
        endpoint.name = Some(name.to_owned());
        endpoint.timeouts.total = PATIENCE;
        config.endpoints.push(endpoint);
    }
    adjust(&mut config);
    let body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": true,
        "temperature": 0,
        "provider": {"order": &names[..upstreams.len()]},
    });
    (Running::start(config, None).await, body)
}

async fn ask(gateway: &Running, body: &Value) -> Answer {
    let path = "/v1/chat/completions";
    gateway.post_to(path, &body.to_string(), &ALLOWED).await
}

/// The text of a stream, and whether it ended well.
fn read(answer: &Answer) -> (String, bool) {
    let mut text = String::new();
    let frames = answer.text();
    let payloads = frames
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    for payload in payloads.filter(|payload| *payload != "[DONE]") {
        let chunk: Value = serde_json::from_str(payload).expect("JSON");
        let choice = &chunk["choices"][0];
        let piece = [&choice["delta"]["content"], &choice["text"]];
        text += piece.iter().find_map(|it| it.as_str()).unwrap_or("");
    }
    (text, frames.trim_end().ends_with("data: [DONE]"))
}

fn tokens(count: usize) -> String {
    (0..count).map(token).collect()
}

fn pair(outcome: &str, fault: &str) -> (String, String) {
    (outcome.to_owned(), fault.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_has_the_whole_text_and_the_second_endpoint_vouches_for_all_of_it() {
    let cut = api(Fault::Cut(4)).await;
    let node = Node::new(MODEL, "log.test");
    let whole = Faulty::node(MODEL, Script::Always(Fault::None), node).await;
    let (gateway, body) = in_turn(&[&cut, &whole]).await;
    let answer = ask(&gateway, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(read(&answer), (tokens(TOKENS), true), "{}", answer.text());
    let call = gateway.call(&answer.call()).await;
    let attempts = call["attempts"].as_array().expect("attempts");
    let told: Vec<_> = attempts
        .iter()
        .map(|a| (&a["outcome"], &a["receipt_check"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!("truncated"), &json!("not_joined")),
            (&json!("ok"), &json!("verified"))
        ]
    );
    // The head named who began; the mark at the end names whose answer it is.
    let began = answer.header("x-longrun-endpoint");
    assert!(began.starts_with(&cut.origin()), "{began}");
    let text = answer.text();
    let mark = text.split_once(r#""longrun":"#).expect("a mark").1;
    let endpoint = mark.split_once(r#""endpoint":""#).expect("an endpoint").1;
    assert!(!endpoint.starts_with(&cut.origin()), "{endpoint}");
}

/// In whatever way a stream breaks off after its first token: what it was is on record, and the caller
/// sees nothing of it but a comment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_break_off_is_gone_on_from() {
    for (surface, fault, outcome) in [
        (Surface::Chat, Fault::Stall(4), "timeout"),
        (Surface::Chat, Fault::EndEarly(4), "truncated"),
        (Surface::Chat, Fault::BadChunk(4), "truncated"),
        (Surface::Chat, Fault::BadJson, "malformed"),
        (Surface::Chat, Fault::ErrorAfter(4), "provider_error"),
        (Surface::Completions, Fault::Cut(4), "truncated"),
    ] {
        let broken = api(fault).await;
        let node = Node::new(MODEL, "log.test");
        let whole = Faulty::node(MODEL, Script::Always(Fault::None), node).await;
        let (gateway, mut body) = in_turn_with(&[&broken, &whole], |config| {
            for endpoint in &mut config.endpoints {
                endpoint.timeouts.first_token = PATIENCE;
                // Only a stall is to run into a deadline.
                if !matches!(fault, Fault::Stall(_)) {
                    endpoint.timeouts.gap = PATIENCE;
                }
            }
            config.endpoints[1].timeouts.gap = PATIENCE;
        })
        .await;
        if surface == Surface::Completions {
            let members = body.as_object_mut().expect("an object");
            members.remove("messages");
            members.insert("prompt".to_owned(), json!("hello"));
        }
        let asked = body.to_string();
        let answer = gateway.post_to(surface.path(), &asked, &ALLOWED).await;
        let text = answer.text();
        let what = format!("{fault:?}, {surface:?}: {text}");
        assert_eq!(answer.status, 200, "{what}");
        assert_eq!(read(&answer), (tokens(TOKENS), true), "{what}");
        assert!(!text.contains(r#""error""#), "{what}");
        assert!(text.contains("\n: the endpoint broke off"), "{what}");
        let call = gateway.call(&answer.call()).await;
        let attempts = call["attempts"].as_array().expect("attempts").iter();
        let told: Value = attempts
            .map(|a| json!([a["outcome"], a["fault"], a["receipt_check"]]))
            .collect();
        let expected = json!([
            [outcome, "provider", "not_joined"],
            ["ok", null, "verified"]
        ]);
        assert_eq!(told, expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_break_is_gone_on_with_too_within_the_attempts_of_a_call() {
    let (first, second) = (api(Fault::Cut(5)).await, api(Fault::Cut(2)).await);
    let third = api(Fault::None).await;
    let (gateway, body) = in_turn(&[&first, &second, &third]).await;
    let answer = ask(&gateway, &body).await;
    assert_eq!(read(&answer), (tokens(TOKENS), true), "{}", answer.text());
    let cut = || pair("truncated", "provider");
    let outcomes = gateway.outcomes(&answer.call()).await;
    assert_eq!(outcomes, [cut(), cut(), pair("ok", "-")]);

    // Nobody is left after the second.
    let (gateway, body) = in_turn(&[&first, &second]).await;
    let answer = ask(&gateway, &body).await;
    assert_eq!(read(&answer), (tokens(5), false), "{}", answer.text());
    assert!(answer.text().contains(r#""error""#), "{}", answer.text());
    assert_eq!(gateway.outcomes(&answer.call()).await, [cut(), cut()]);
}

/// Comments keep a connection alive, and are no answer: whoever goes on has as long to begin as whoever is
/// asked first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_on_has_to_begin_in_time() {
    let (cut, silent) = (api(Fault::Cut(4)).await, api(Fault::OnlyComments).await);
    let whole = api(Fault::None).await;
    let (gateway, body) = in_turn(&[&cut, &silent, &whole]).await;
    let begun = Instant::now();
    let answer = ask(&gateway, &body).await;
    assert!(
        begun.elapsed() < PATIENCE / 2,
        "the time for all of an answer"
    );
    assert_eq!(read(&answer), (tokens(TOKENS), true), "{}", answer.text());
    let outcomes = gateway.outcomes(&answer.call()).await;
    let expected = [
        pair("truncated", "provider"),
        pair("timeout", "provider"),
        pair("ok", "-"),
    ];
    assert_eq!(outcomes, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_text_ends_the_stream_and_is_held_against_nobody() {
    let cut = api(Fault::Cut(4)).await;
    let shorter = api(Fault::Pair).await;
    let (gateway, body) = in_turn(&[&cut, &shorter]).await;
    let answer = ask(&gateway, &body).await;
    assert_eq!(read(&answer), (tokens(4), false), "{}", answer.text());
    assert!(answer.text().contains(r#""error""#), "{}", answer.text());
    let outcomes = gateway.outcomes(&answer.call()).await;
    assert_eq!(
        outcomes,
        [pair("truncated", "provider"), pair("canceled", "gateway")]
    );
}

/// A hedge and a continuation would give two attempts one number: whoever wants both gets no hedge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_go_on_is_not_hedged() {
    let (silent, whole) = (api(Fault::Hang).await, api(Fault::None).await);
    let (gateway, body) = in_turn(&[&silent, &whole]).await;
    let hedge = ("x-longrun-hedge-ms", "10");
    let (path, body) = ("/v1/chat/completions", body.to_string());
    let hedged = gateway.post_to(path, &body, &[hedge]).await;
    let outcomes = gateway.outcomes(&hedged.call()).await;
    assert!(
        outcomes.contains(&pair("canceled", "gateway")),
        "{outcomes:?}"
    );
    let both = gateway.post_to(path, &body, &[hedge, ALLOWED[0]]).await;
    assert_eq!(read(&both), (tokens(TOKENS), true), "{}", both.text());
    let outcomes = gateway.outcomes(&both.call()).await;
    assert_eq!(outcomes, [pair("timeout", "provider"), pair("ok", "-")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_on_unasked_or_where_the_text_would_be_another() {
    let (cut, whole) = (api(Fault::Cut(4)).await, api(Fault::None).await);
    let (gateway, mut body) = in_turn(&[&cut, &whole]).await;
    let unasked = gateway.post(body.to_string()).await;
    assert_eq!(read(&unasked), (tokens(4), false));
    assert_eq!(whole.requests().len(), 0, "nobody else was asked");
    for (member, value) in [
        ("temperature", json!(0.7)),
        ("n", json!(2)),
        ("stream", json!(false)),
    ] {
        let before = body[member].take();
        body[member] = value;
        let refused = ask(&gateway, &body).await;
        assert_eq!(refused.status, 400, "{member}: {}", refused.text());
        assert_eq!(refused.json()["error"]["code"], "invalid_header");
        body[member] = before;
    }
}
