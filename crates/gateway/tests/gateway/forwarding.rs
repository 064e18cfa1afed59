//! What goes through unharmed: bytes in both directions, headers, choices, failover.

use std::sync::Arc;

use crate::support::faulty::{Fault, Faulty, Script, TOKENS, plain_answer, stream_events, token};
use crate::support::{MODEL, PATIENCE, Running, chat, config, endpoint, in_front_of};
use gateway::config::{EndpointConfig, EndpointKind};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The answer without the member that the gateway added.
fn without_member(bytes: &[u8]) -> Vec<u8> {
    record::content::without_longrun_member(bytes).expect("the member is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_answer_and_its_request_pass_byte_for_byte() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    let body = format!(
        "{{ \"zeta\": [1, 2.50, null],\n\t\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\
         \"content\":\"caf\\u00e9\",\"cache\":true}}], \"alpha\":{{\"deep\":1e3}} }}"
    );
    let answer = gateway.post(body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(without_member(&answer.body), plain_answer(MODEL));
    assert_eq!(upstream.requests()[0].body, body.as_bytes());
    let json = answer.json();
    assert_eq!(json["longrun"]["call"], answer.call());
    assert_eq!(json["longrun"]["evidence"], "recorded");
    assert_eq!(
        json["longrun"]["endpoint"],
        answer.header("x-longrun-endpoint")
    );
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{}/{MODEL}", upstream.origin())
    );
    assert_eq!(
        answer.header("content-length"),
        answer.body.len().to_string()
    );
    assert_eq!(
        gateway.outcomes(&answer.call()).await,
        [("ok".into(), "-".into())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_passes_event_for_event() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    let answer = gateway.post(chat(true)).await;
    assert_eq!(
        answer.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    let mut events = answer.events();
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let marked = events
        .iter()
        .position(|event| event.contains("longrun"))
        .expect("marked");
    let json: Value = serde_json::from_str(&events[marked]).expect("JSON");
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    assert_eq!(json["longrun"]["call"], answer.call());
    let unmarked = without_member(events[marked].as_bytes());
    events[marked] = String::from_utf8(unmarked).expect("UTF-8");
    assert_eq!(events, stream_events(MODEL));
    let told = gateway.call(&answer.call()).await;
    let attempt = &told["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["seq"]),
        (&"ok".into(), &1.into())
    );
    assert_eq!(attempt["exact"]["completion_tokens"], TOKENS);
    assert!(attempt["exact"]["ttft_us"].as_u64() <= attempt["exact"]["total_us"].as_u64());
}

/// An endpoint that waits for a word after each token of an answer.
async fn on_word(word: Arc<Notify>) -> EndpointConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let word = Arc::clone(&word);
            tokio::spawn(async move {
                // When it fails, the gateway has hung up, and the caller is told why.
                let _ = answer_on_word(stream, &word).await;
            });
        }
    });
    let mut endpoint = EndpointConfig::at(&format!("http://{address}")).expect("a URL");
    endpoint.kind = EndpointKind::Openai;
    endpoint.models = vec![MODEL.to_owned()];
    endpoint
}

async fn answer_on_word(mut stream: TcpStream, word: &Notify) -> std::io::Result<()> {
    let mut request: Vec<u8> = Vec::new();
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for event in stream_events(MODEL) {
        let frame = format!("data: {event}\n\n");
        stream.write_all(frame.as_bytes()).await?;
        if (0..TOKENS).any(|number| event.contains(&token(number))) {
            word.notified().await;
        }
    }
    stream.write_all(b"data: [DONE]\n\n").await
}

/// The endpoint sends no token before the caller has the one before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_arrive_one_by_one_and_not_at_the_end() {
    let word = Arc::new(Notify::new());
    let mut config = config();
    config.endpoints = vec![on_word(Arc::clone(&word)).await];
    let gateway = Running::start(config, None).await;
    let in_turn = async {
        let mut body = gateway.open(chat(true)).await.into_body();
        let (mut text, mut tokens) = (String::new(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.expect("whole").into_data() else {
                continue;
            };
            text.push_str(&String::from_utf8_lossy(&data));
            if tokens < TOKENS && text.contains(&token(tokens)) {
                tokens += 1;
                word.notify_one();
            }
        }
        (text, tokens)
    };
    let (text, tokens) = tokio::time::timeout(PATIENCE, in_turn)
        .await
        .expect("what came goes on before the rest comes");
    assert_eq!(tokens, TOKENS, "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_leaves_done_out_gets_it_added() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::NoDone)).await;
    let gateway = in_front_of(&[&upstream]).await;
    let answer = gateway.post(chat(true)).await;
    assert_eq!(answer.events().pop().as_deref(), Some("[DONE]"));
    assert_eq!(
        gateway.outcomes(&answer.call()).await,
        [("ok".into(), "-".into())]
    );
}

/// Whatever fails before the first token is tried at the other endpoint; both attempts are on
/// record under one call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_before_the_first_token_go_to_the_next_endpoint() {
    let good = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let bad = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let rows: &[(Fault, bool, &str, &str)] = &[
        (Fault::Status(500), false, "provider_error", "provider"),
        (Fault::Status(503), true, "capacity", "provider"),
        (Fault::Status(429), false, "rate_limited", "client"),
        (Fault::Status(401), true, "client_error", "gateway"),
        (Fault::Status(404), false, "client_error", "unknown"),
        (Fault::Redirect, false, "malformed", "provider"),
        (Fault::Garbage, true, "malformed", "provider"),
        (Fault::WebPage, true, "malformed", "provider"),
        (Fault::WebPage, false, "malformed", "provider"),
        (Fault::BadJson, false, "malformed", "provider"),
        (Fault::ErrorInside, true, "provider_error", "provider"),
        (Fault::ErrorInside, false, "provider_error", "provider"),
        (Fault::Slam, true, "truncated", "provider"),
        (Fault::Cut(0), true, "truncated", "provider"),
        (Fault::Cut(0), false, "truncated", "provider"),
        (Fault::EndEarly(0), true, "truncated", "provider"),
        (Fault::BadChunk(0), true, "truncated", "provider"),
        (Fault::Hang, true, "timeout", "provider"),
        (Fault::OnlyComments, true, "timeout", "provider"),
        (Fault::Stall(0), true, "timeout", "provider"),
    ];
    for (fault, streamed, outcome, culprit) in rows {
        bad.now(Script::Always(*fault));
        // One that remembers nothing of the fault before.
        let gateway = in_front_of(&[&bad, &good]).await;
        // Which of the two is first is a matter of luck: until the bad one was.
        let mut tried = false;
        for _ in 0..400 {
            let before = bad.requests().len();
            let answer = gateway.post(chat(*streamed)).await;
            assert_eq!(answer.status, 200, "{fault:?}: {}", answer.text());
            assert!(
                answer.text().contains("t7 "),
                "{fault:?}: {}",
                answer.text()
            );
            assert!(!answer.text().contains("\"error\""), "{fault:?}");
            if bad.requests().len() > before {
                let want: [(String, String); 2] = [
                    ((*outcome).into(), (*culprit).into()),
                    ("ok".into(), "-".into()),
                ];
                assert_eq!(gateway.outcomes(&answer.call()).await, want, "{fault:?}");
                tried = true;
                break;
            }
        }
        assert!(tried, "{fault:?} was never chosen first");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_goes_to_the_next_endpoint_and_rests() {
    let good = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    let mut dead = gateway::config::EndpointConfig::at("http://127.0.0.1:1").expect("a URL");
    dead.kind = gateway::config::EndpointKind::Openai;
    dead.models = vec![MODEL.to_owned()];
    config.endpoints = vec![dead, endpoint(&good)];
    let gateway = crate::support::Running::start(config, None).await;
    let mut seen = 0;
    for _ in 0..30 {
        let answer = gateway.post(chat(false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let outcomes = gateway.outcomes(&answer.call()).await;
        if outcomes.len() == 2 {
            seen += 1;
            assert_eq!(outcomes[0], ("connection".into(), "provider".into()));
            let status = gateway.status().await;
            let rests = status["endpoints"].as_array().expect("endpoints").iter();
            assert_eq!(
                rests.filter(|e| e["resting"] == true).count(),
                1,
                "{status:#}"
            );
        }
    }
    assert_eq!(seen, 1, "while it rests it is not asked first again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_request_are_passed_on_and_not_tried_elsewhere() {
    let one = Faulty::api(MODEL, Script::Always(Fault::Status(422))).await;
    let other = Faulty::api(MODEL, Script::Always(Fault::Status(422))).await;
    let gateway = in_front_of(&[&one, &other]).await;
    let answer = gateway.post(chat(false)).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json()["error"]["code"],
        "made_to_fail",
        "the endpoint's own words"
    );
    assert_eq!(one.requests().len() + other.requests().len(), 1);
    let outcomes = gateway.outcomes(&answer.call()).await;
    assert_eq!(outcomes, [("client_error".into(), "client".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_endpoint_fails_the_last_error_says_so() {
    let one = Faulty::api(MODEL, Script::Always(Fault::Status(429))).await;
    let other = Faulty::api(MODEL, Script::Always(Fault::Status(429))).await;
    let gateway = in_front_of(&[&one, &other]).await;
    let answer = gateway.post(chat(true)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    assert_eq!(gateway.outcomes(&answer.call()).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_says_about_our_key_stays_here() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::Status(401))).await;
    let gateway = in_front_of(&[&upstream]).await;
    let answer = gateway.post(chat(false)).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"]["code"], "endpoint_credentials");
    assert!(!answer.text().contains("made to fail"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_health_and_unknown_paths_are_answered() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    let models = gateway.get("/v1/models").await.json();
    assert_eq!(
        (&models["object"], &models["data"][0]["id"]),
        (&"list".into(), &MODEL.into())
    );
    let one = gateway.get(&format!("/v1/models/{MODEL}")).await;
    assert_eq!((one.status, one.json()["id"].as_str()), (200, Some(MODEL)));
    assert_eq!(
        gateway.get("/v1/models/none/such").await.json()["error"]["code"],
        "model_not_found"
    );
    assert_eq!(gateway.get("/healthz").await.json()["status"], "ok");
    let lost = gateway.get("/v1/nowhere").await;
    assert_eq!(
        (lost.status, lost.json()["error"]["code"].as_str()),
        (404, Some("unknown_url"))
    );
    let wrong = gateway.get("/v1/chat/completions").await;
    assert_eq!(wrong.status, 405);
    assert_eq!(gateway.get("/longrun/v1/calls/nonsense").await.status, 404);
    let unknown = gateway
        .get(&format!("/longrun/v1/calls/{}", "0".repeat(32)))
        .await;
    assert_eq!(unknown.json()["error"]["code"], "call_not_found");
}
