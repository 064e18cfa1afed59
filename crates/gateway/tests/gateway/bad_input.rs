//! Bad input from callers and bad behaviour of endpoints: each with a clear error, nothing lost.

use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, PATIENCE, QUICK, chat, config, endpoint, in_front_of};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn behaving() -> (Faulty, crate::support::Running) {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    (upstream, gateway)
}

/// Waits until the upstream has noticed that nobody waits for it any more.
async fn abandoned(upstream: &Faulty) {
    let begun = Instant::now();
    while upstream.abandoned() == 0 {
        assert!(
            begun.elapsed() < PATIENCE,
            "the upstream still answers to nobody"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_request_is_refused_with_the_field() {
    let (upstream, gateway) = behaving().await;
    let rows: &[(&str, Option<&str>)] = &[
        ("", None),
        ("this is no JSON", None),
        ("[1,2]", None),
        (
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
        ),
        (
            r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
        ),
        (r#"{"model":"test-model","messages":"x"}"#, Some("messages")),
        (
            r#"{"model":"test-model","messages":[{"role":"user","content":"x"}],"stream":1}"#,
            Some("stream"),
        ),
        (
            r#"{"model":"test-model","messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#,
            Some("temperature"),
        ),
    ];
    for (body, param) in rows {
        let answer = gateway.post((*body).to_owned()).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert_eq!(error["param"].as_str(), *param, "{body}");
        assert!(!answer.call().is_empty(), "every answer names its call");
    }
    assert_eq!(upstream.requests().len(), 0, "nothing of it was forwarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_model_is_refused_with_those_there_are() {
    let (_upstream, gateway) = behaving().await;
    let answer = gateway.post(chat(false).replace(MODEL, "gpt-9")).await;
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status, &error["code"]),
        (404, &"model_not_found".into())
    );
    let message = error["message"].as_str().expect("a message");
    assert!(
        message.contains("gpt-9") && message.contains(MODEL),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_20_mb_is_refused_announced_or_not() {
    let (upstream, gateway) = behaving().await;
    let large = format!(
        "{{\"model\":\"{MODEL}\",\"x\":\"{}\"}}",
        "y".repeat(20 << 20)
    );
    let answer = gateway.post(large).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (413, Some("request_too_large"))
    );
    // In chunks, so that nobody is told the length beforehand.
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address)
        .await
        .expect("connects");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        let piece = format!("{:x}\r\n{}\r\n", 1 << 20, "y".repeat(1 << 20));
        for _ in 0..20 {
            writer
                .write_all(piece.as_bytes())
                .await
                .expect("it is read to its end");
        }
        writer
            .write_all(b"0\r\n\r\n")
            .await
            .expect("it is read to its end");
        writer
    });
    let mut answer = vec![0; 12];
    reader.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 413");
    sending.await.expect("all of it was sent");
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(
        gateway.post(chat(false)).await.status,
        200,
        "it goes on serving"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&upstream)];
    config.limits.request = Duration::from_millis(200);
    let gateway = crate::support::Running::start(config, None).await;
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address)
        .await
        .expect("connects");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: 99\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 408");
}

/// After the first token a failure is said in the stream, in a form that clients raise; the stream
/// does not end as a good one does, and the observation names what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_off_never_looks_like_success() {
    let bad = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&bad)];
    config.limits.response_max_bytes = 3 << 20;
    let gateway = crate::support::Running::start(config, None).await;
    let rows: &[(Fault, &str, &str)] = &[
        (Fault::Cut(3), "truncated", "provider"),
        (Fault::EndEarly(3), "truncated", "provider"),
        (Fault::Stall(3), "timeout", "provider"),
        (Fault::BadJson, "malformed", "provider"),
        (Fault::BadChunk(3), "truncated", "provider"),
        (Fault::ErrorAfter(3), "provider_error", "provider"),
        (Fault::Endless, "malformed", "provider"),
    ];
    for (fault, outcome, culprit) in rows {
        bad.now(Script::Always(*fault));
        let before = bad.requests().len();
        let answer = gateway.post(chat(true)).await;
        assert_eq!(answer.status, 200, "{fault:?}: {}", answer.text());
        let events = answer.events();
        assert!(
            !events.iter().any(|event| event.contains("[DONE]")),
            "{fault:?}"
        );
        assert!(
            events
                .iter()
                .any(|event| event.contains("t1 ") || event.contains("role"))
        );
        let last: serde_json::Value =
            serde_json::from_str(events.last().expect("events")).expect("JSON");
        let error = &last["error"];
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{fault:?}: {last}"
        );
        assert!(
            error["type"].is_string() && error.get("code").is_some(),
            "{fault:?}: {last}"
        );
        assert_eq!(bad.requests().len(), before + 1, "{fault:?}: not restarted");
        let want: [(String, String); 1] = [((*outcome).into(), (*culprit).into())];
        assert_eq!(gateway.outcomes(&answer.call()).await, want, "{fault:?}");
    }
}

/// An answer that takes longer than it may, although it keeps coming.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_without_end_are_ended() {
    let endless = Fault::Long {
        tokens: usize::MAX,
        gap_us: 20_000,
    };
    let upstream = Faulty::api(MODEL, Script::Always(endless)).await;
    // Only the whole is too long: on a busy machine a token may be late, which is another failure.
    let gateway = crate::support::start(&[&upstream], |config| {
        config.endpoints[0].timeouts.first_token = PATIENCE;
        config.endpoints[0].timeouts.gap = PATIENCE;
    })
    .await;
    let begun = Instant::now();
    let answer = gateway.post(chat(true)).await;
    assert!(begun.elapsed() >= QUICK.total && begun.elapsed() < PATIENCE);
    assert!(
        answer
            .events()
            .last()
            .is_some_and(|event| event.contains("\"error\""))
    );
    assert_eq!(
        gateway.outcomes(&answer.call()).await,
        [("timeout".into(), "unknown".into())]
    );
    abandoned(&upstream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_answer_that_breaks_off_is_an_error() {
    let bad = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&bad)];
    config.limits.response_max_bytes = 1 << 20;
    let gateway = crate::support::Running::start(config, None).await;
    let rows: &[(Fault, u16, &str, &str)] = &[
        (Fault::Cut(0), 502, "truncated", "provider"),
        (Fault::Stall(0), 504, "timeout", "provider"),
        (Fault::Hang, 504, "timeout", "provider"),
        (Fault::Endless, 502, "malformed", "provider"),
        (Fault::Garbage, 502, "malformed", "provider"),
        (Fault::WebPage, 502, "malformed", "provider"),
        (Fault::BadJson, 502, "malformed", "provider"),
        (Fault::ErrorInside, 502, "provider_error", "provider"),
        (Fault::Slam, 502, "truncated", "provider"),
        (Fault::Redirect, 502, "malformed", "provider"),
        (Fault::Status(500), 500, "provider_error", "provider"),
        (Fault::Status(529), 529, "capacity", "provider"),
    ];
    for (fault, status, outcome, culprit) in rows {
        bad.now(Script::Always(*fault));
        let answer = gateway.post(chat(false)).await;
        assert_eq!(answer.status, *status, "{fault:?}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string(), "{fault:?}");
        let want: [(String, String); 1] = [((*outcome).into(), (*culprit).into())];
        assert_eq!(gateway.outcomes(&answer.call()).await, want, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_event_larger_than_any_is_malformed() {
    let bad = Faulty::api(MODEL, Script::Always(Fault::HugeEvent)).await;
    let gateway = in_front_of(&[&bad]).await;
    let answer = gateway.post(chat(true)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(
        gateway.outcomes(&answer.call()).await,
        [("malformed".into(), "provider".into())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_vanishes_cancels_the_endpoint() {
    for fault in [Fault::Stall(3), Fault::Hang] {
        let upstream = Faulty::api(MODEL, Script::Always(fault)).await;
        let mut config = config();
        let mut endpoint = endpoint(&upstream);
        // Only the caller's leaving can end this.
        endpoint.timeouts.gap = PATIENCE;
        endpoint.timeouts.first_token = PATIENCE;
        endpoint.timeouts.total = PATIENCE;
        config.endpoints = vec![endpoint];
        let gateway = crate::support::Running::start(config, None).await;
        let address = gateway.url.trim_start_matches("http://").to_owned();
        let mut stream = tokio::net::TcpStream::connect(&address)
            .await
            .expect("connects");
        let body = chat(true);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let begun = Instant::now();
        while upstream.requests().is_empty() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if fault != Fault::Hang {
            let mut some = vec![0; 200];
            stream
                .read_exact(&mut some)
                .await
                .expect("a part of the answer");
        }
        drop(stream);
        abandoned(&upstream).await;
        let status = loop {
            let status = gateway.status().await;
            if status["recent"]
                .as_array()
                .is_some_and(|recent| !recent.is_empty())
            {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "{status:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let call = status["recent"][0]["call"]
            .as_str()
            .expect("a call")
            .to_owned();
        let outcomes = gateway.outcomes(&call).await;
        assert_eq!(
            outcomes,
            [("canceled".into(), "client".into())],
            "{fault:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_read_is_dropped() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::Endless)).await;
    let mut config = config();
    let mut endpoint = endpoint(&upstream);
    endpoint.timeouts.total = PATIENCE;
    config.endpoints = vec![endpoint];
    config.limits.write_stall = Duration::from_millis(300);
    config.limits.response_max_bytes = usize::MAX >> 1;
    let gateway = crate::support::Running::start(config, None).await;
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address)
        .await
        .expect("connects");
    let body = chat(true);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    // It never reads. The buffers of the sockets fill up, and then the gateway loses patience.
    abandoned(&upstream).await;
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_foreign_names_are_not_served() {
    let (upstream, gateway) = behaving().await;
    for (header, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let request = hyper::Request::post(format!("{}/v1/chat/completions", gateway.url))
            .header(header, value)
            .body(http_body_util::Full::new(Bytes::from(chat(false))))
            .expect("a request");
        let answer = gateway.send(request).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (403, Some("forbidden"))
        );
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_not_there_yet_is_said_to_be_awaited_and_joins_later() {
    let mut config = config();
    // Held and not listened on, so that nobody else gets it meanwhile.
    let port = tokio::net::TcpSocket::new_v4().expect("a socket");
    port.bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let address = port.local_addr().expect("bound");
    let mut absent =
        gateway::config::EndpointConfig::at(&format!("http://{address}")).expect("a URL");
    absent.models = vec![MODEL.to_owned()];
    config.endpoints = vec![absent];
    let gateway = crate::support::Running::start(config, None).await;
    let answer = gateway.post(chat(false)).await;
    assert_eq!(
        answer.json()["error"]["code"],
        "endpoint_unreachable",
        "{}",
        answer.text()
    );
    assert_eq!(answer.status, 503);
    // A caller is told what callers can do: the status is not for them.
    let told = "Please retry in a moment; if it stays so, tell the operator";
    assert!(answer.text().contains(told), "{}", answer.text());
    let status = gateway.status().await;
    assert_eq!(status["endpoints"][0]["state"], "unreachable", "{status:#}");
    assert!(status["endpoints"][0]["why"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = config();
    config.listen = taken.local_addr().expect("bound");
    let directory = tempfile::tempdir().expect("a directory");
    let context = recorder::Context::system().expect("randomness");
    let signer = recorder::Config::new(directory.path(), "g", "observer");
    let recorder = recorder::Recorder::open(&signer, context.clone()).expect("a signer");
    let refused = gateway::serve(config, recorder, context, [0; 32], axum::Router::new()).await;
    let Err(error) = refused else {
        panic!("the port is taken")
    };
    assert!(
        error
            .to_string()
            .contains(&taken.local_addr().expect("bound").to_string()),
        "{error}"
    );
}

/// Odd requests in pieces, one byte at a time, are still requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_small_pieces_is_put_together() {
    let (upstream, gateway) = behaving().await;
    let body = chat(false);
    let pieces: Vec<Result<_, std::convert::Infallible>> = body
        .bytes()
        .map(|byte| Ok(http_body::Frame::data(Bytes::copy_from_slice(&[byte]))))
        .collect();
    let client: hyper_util::client::legacy::Client<_, _> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build_http();
    let request = hyper::Request::post(format!("{}/v1/chat/completions", gateway.url))
        .body(StreamBody::new(futures_util::stream::iter(pieces)))
        .expect("a request");
    let answer = client.request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.expect("whole");
    assert_eq!(upstream.requests()[0].body, body.as_bytes());
}

/// A gateway that is stopped cuts off what takes too long, and says that this was its own doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_cuts_off_is_the_gateways_fault() {
    let endless = Fault::Long {
        tokens: usize::MAX,
        gap_us: 5_000,
    };
    let upstream = Faulty::api(MODEL, Script::Always(endless)).await;
    let mut config = config();
    let mut patient = endpoint(&upstream);
    patient.timeouts.total = PATIENCE;
    config.endpoints = vec![patient];
    let mut gateway = crate::support::Running::start(config, None).await;
    let answer = gateway.open(chat(true)).await;
    let call = answer.headers()["x-longrun-call"].to_str().expect("text");
    let call: record::CallId = call.parse().expect("a call id");
    let mut body = answer.into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    let handle = gateway.handle.take().expect("running");
    handle.stop_within(Duration::from_millis(100)).await;
    let entries = gateway.recorder.by_call(call).await.expect("readable");
    let [entry] = entries.as_slice() else {
        panic!("{} records", entries.len())
    };
    let record::Predicate::Observation(seen) = &entry.record.statement.predicate else {
        panic!("an observation")
    };
    assert_eq!(seen.outcome, record::Outcome::GatewayError);
    assert_eq!(seen.fault, Some(record::Fault::Gateway));
}
