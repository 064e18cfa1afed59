use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::openai::FinishReason;

const CHUNK: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
const LAST: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

/// Reads one request, returns its head.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |value| value.parse().expect("a length"));
            if body.len() >= length {
                return text;
            }
        }
        let count = stream.read(&mut piece).await.expect("a request");
        assert!(count > 0, "the client left before its request was whole");
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// A server that plays `answer` to its first connection, piece by piece, and then closes.
/// The handle gives the request as it came.
async fn scripted(answer: Vec<String>) -> (Upstream, tokio::task::JoinHandle<String>) {
    scripted_within(answer, Deadlines::default()).await
}

async fn scripted_within(
    answer: Vec<String>,
    deadlines: Deadlines,
) -> (Upstream, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let request = read_request(&mut stream).await;
        for piece in answer {
            if piece == "hang" {
                std::future::pending::<()>().await;
            }
            stream.write_all(piece.as_bytes()).await.expect("written");
            stream.flush().await.expect("flushed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        request
    });
    let key = ApiKey::new("sk-very-secret").expect("a key");
    let upstream = Upstream::new(
        &format!("http://{address}"),
        Some(key),
        crate::http::client(),
        deadlines,
    )
    .expect("a URL");
    (upstream, server)
}

fn stream_of(frames: &[&str]) -> Vec<String> {
    let mut answer = vec!["HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()];
    answer.extend(
        frames
            .iter()
            .map(|frame| format!("{:x}\r\n{frame}\r\n", frame.len())),
    );
    answer
}

async fn chat(upstream: &Upstream) -> Result<Reply, UpstreamError> {
    let mut headers = HeaderMap::new();
    headers.insert("x-longrun-nonce", HeaderValue::from_static("00"));
    upstream
        .chat(Bytes::from_static(b"{\"model\":\"m\"}"), headers)
        .await
}

async fn drain(events: &mut Events) -> (String, Option<UpstreamError>) {
    let mut raw = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => raw.push_str(&String::from_utf8_lossy(&event.event.raw)),
            Err(error) => return (raw, Some(error)),
        }
    }
    (raw, None)
}

#[tokio::test]
async fn a_stream_passes_through_untouched() {
    let comment = ": keep-alive\n\n";
    let receipt = "event: longrun.receipt\ndata: not json\n\n";
    let mut script = stream_of(&[CHUNK, comment, LAST, receipt, "data: [DONE]\n\n"]);
    script.push("0\r\n\r\n".to_owned());
    let (upstream, server) = scripted(script).await;
    let reply = chat(&upstream).await.expect("a reply");
    assert!(reply.is_event_stream());
    let mut events = reply.into_events();
    let first = events.next().await.expect("an event").expect("a chunk");
    assert!(first.chunk.expect("a summary").has_content);
    assert!(!events.is_complete());
    let (raw, error) = drain(&mut events).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(raw, format!("{comment}{LAST}{receipt}data: [DONE]\n\n"));
    assert!(events.is_complete());
    let request = server.await.expect("the server is well");
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    assert!(request.contains("authorization: Bearer sk-very-secret\r\n"));
    assert!(request.contains("x-longrun-nonce: 00\r\n"));
    assert!(request.ends_with("\r\n\r\n{\"model\":\"m\"}"));
    let shown = format!("{upstream:?}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_cut_never_looks_like_an_end() {
    // The body ends properly, the answer does not.
    let mut script = stream_of(&[CHUNK, CHUNK]);
    script.push("0\r\n\r\n".to_owned());
    let (upstream, _server) = scripted(script).await;
    let mut events = chat(&upstream).await.expect("a reply").into_events();
    let (raw, error) = drain(&mut events).await;
    assert_eq!(raw, format!("{CHUNK}{CHUNK}"));
    assert!(
        matches!(error, Some(UpstreamError::Cut { .. })),
        "{error:?}"
    );
    assert!(events.next().await.is_none());

    // The connection dies in the middle of a frame.
    let (upstream, _server) = scripted(stream_of(&[CHUNK, "data: {\"choi"])).await;
    let mut events = chat(&upstream).await.expect("a reply").into_events();
    let (raw, error) = drain(&mut events).await;
    assert_eq!(raw, CHUNK);
    assert!(
        matches!(error, Some(UpstreamError::Cut { received_bytes, .. }) if received_bytes > 80),
        "{error:?}"
    );

    // A finish reason without [DONE] is an end; [DONE] without its blank line too.
    for ending in [LAST, "data: [DONE]\n"] {
        let mut script = stream_of(&[CHUNK, ending]);
        script.push("0\r\n\r\n".to_owned());
        let (upstream, _server) = scripted(script).await;
        let mut events = chat(&upstream).await.expect("a reply").into_events();
        let (raw, error) = drain(&mut events).await;
        assert!(error.is_none() && events.is_complete(), "{error:?}");
        assert_eq!(raw, format!("{CHUNK}{ending}"));
    }
}

#[tokio::test]
async fn garbage_and_errors_in_a_stream_are_told_apart() {
    let (upstream, _server) = scripted(stream_of(&[CHUNK, "data: {oops\n\n", LAST])).await;
    let mut events = chat(&upstream).await.expect("a reply").into_events();
    let (_, error) = drain(&mut events).await;
    assert!(
        matches!(error, Some(UpstreamError::Malformed { .. })),
        "{error:?}"
    );

    let broken = "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"code\":500}}\n\n";
    let (upstream, _server) = scripted(stream_of(&[CHUNK, broken])).await;
    let mut events = chat(&upstream).await.expect("a reply").into_events();
    let (_, error) = drain(&mut events).await;
    let Some(UpstreamError::InStream { error, raw }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.message, "out of memory");
    assert_eq!(raw, broken);

    let (upstream, _server) = scripted(vec!["SSH-2.0-OpenSSH_9.2\r\n".to_owned()]).await;
    let error = chat(&upstream).await.expect_err("not HTTP");
    assert!(
        matches!(error, UpstreamError::Malformed { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn statuses_come_with_their_bodies() {
    let body = "{\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}";
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (upstream, _server) = scripted(vec![head, body.to_owned()]).await;
    let error = chat(&upstream).await.expect_err("a 429");
    let UpstreamError::Status {
        status,
        body: got,
        retry_after_s,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((*status, *retry_after_s), (429, Some(7)));
    assert_eq!(got, body);
    let shown = error.to_api_error();
    assert_eq!(shown.code.as_deref(), Some("rate_limit_exceeded"));
    assert_eq!(shown.retry_after_s, Some(7));

    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (upstream, _server) = scripted(vec![moved.to_owned()]).await;
    let error = chat(&upstream).await.expect_err("not followed");
    assert!(matches!(error, UpstreamError::Status { status: 302, .. }));
}

#[tokio::test]
async fn silence_is_a_timeout_of_its_stage() {
    // One short deadline for each stage: the others must not be late, however busy the machine is.
    let short_head = Deadlines {
        head: Duration::from_millis(300),
        ..Deadlines::default()
    };
    let (upstream, server) = scripted_within(vec!["hang".to_owned()], short_head).await;
    let error = chat(&upstream).await.expect_err("no head");
    assert!(
        matches!(
            error,
            UpstreamError::Timeout {
                stage: Stage::Head,
                after_ms: 300
            }
        ),
        "{error:?}"
    );
    server.abort();

    let mut script = stream_of(&[CHUNK]);
    script.push("hang".to_owned());
    let short_idle = Deadlines {
        idle: Duration::from_millis(200),
        ..Deadlines::default()
    };
    let (upstream, server) = scripted_within(script, short_idle).await;
    let mut events = chat(&upstream).await.expect("a reply").into_events();
    let (_, error) = drain(&mut events).await;
    assert!(
        matches!(
            error,
            Some(UpstreamError::Timeout {
                stage: Stage::Idle,
                ..
            })
        ),
        "{error:?}"
    );
    server.abort();

    // Never idle, and done long after its time. The head has to come within that time as well.
    let slow = stream_of(&vec![CHUNK; 5000]);
    let short_total = Deadlines {
        total: Duration::from_secs(2),
        ..Deadlines::default()
    };
    let (upstream, server) = scripted_within(slow, short_total).await;
    let mut events = chat(&upstream).await.expect("a reply").into_events();
    let (_, error) = drain(&mut events).await;
    assert!(
        matches!(
            error,
            Some(UpstreamError::Timeout {
                stage: Stage::Total,
                ..
            })
        ),
        "{error:?}"
    );
    server.abort();
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let client = crate::http::client();
    let upstream = Upstream::new(
        &format!("http://{address}/v1/"),
        None,
        client.clone(),
        Deadlines::default(),
    )
    .expect("a URL");
    let error = chat(&upstream).await.expect_err("refused");
    assert!(
        matches!(
            error,
            UpstreamError::Connect {
                reason: ConnectFailure::Refused,
                ..
            }
        ),
        "{error:?}"
    );
    let short = Deadlines {
        head: Duration::from_millis(300),
        ..Deadlines::default()
    };
    let upstream = Upstream::new("http://name.invalid", None, client, short).expect("a URL");
    let error = chat(&upstream).await.expect_err("no such name");
    assert!(
        matches!(
            error,
            UpstreamError::Connect { reason: ConnectFailure::Name, .. }
                // A machine without a resolver may take longer to say so.
                | UpstreamError::Timeout { stage: Stage::Head, .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_record_of_tls_is_no_answer_and_names_what_to_change() {
    // An alert: "handshake failure", and "decode error" in two pieces.
    for pieces in [
        &["\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}"][..],
        &["\u{15}", "\u{3}\u{1}\0\u{2}\u{2}2"],
    ] {
        let pieces = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let (upstream, _server) = scripted(pieces).await;
        let error = chat(&upstream).await.expect_err("no HTTP");
        let UpstreamError::Connect { reason, detail } = error else {
            panic!("{error:?}");
        };
        assert_eq!(reason, ConnectFailure::Scheme);
        assert!(detail.contains("https://"), "{detail}");
    }
    let (upstream, _server) = scripted(vec!["\u{1}\u{3}\u{3}".to_owned()]).await;
    let error = chat(&upstream).await.expect_err("no HTTP");
    assert!(
        matches!(error, UpstreamError::Malformed { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn dropping_the_events_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_request(&mut stream).await;
        for piece in stream_of(&[CHUNK]) {
            stream.write_all(piece.as_bytes()).await.expect("written");
        }
        // The client hangs up: a read gives nothing, or the reset.
        let mut rest = [0u8; 16];
        stream.read(&mut rest).await.map_or(0, |count| count)
    });
    let upstream = Upstream::new(
        &format!("http://{address}"),
        None,
        crate::http::client(),
        Deadlines::default(),
    )
    .expect("a URL");
    let mut events = chat(&upstream).await.expect("a reply").into_events();
    let first = events.next().await.expect("an event").expect("a chunk");
    assert_eq!(
        first.chunk.expect("a summary").finish_reason,
        None::<FinishReason>
    );
    drop(events);
    let left = tokio::time::timeout(Duration::from_secs(20), server)
        .await
        .expect("the hang-up arrives")
        .expect("the server is well");
    assert_eq!(left, 0);
}

#[test]
fn lists_of_models_are_read_whatever_else_is_in_them() {
    for list in [
        r#"{"data":[{"id":"m","type":"model","created_at":"2026-01-01"}],"has_more":false}"#,
        r#" [{"id":"m","created":null,"pricing":{"input":0.1}}]"#,
    ] {
        assert_eq!(model_names(list.as_bytes()).expect(list), ["m"]);
    }
    for none in ["", "{}", r#"{"data":{}}"#, r#"[{"name":"m"}]"#, "<html>"] {
        assert!(model_names(none.as_bytes()).is_err(), "{none}");
    }
}

#[test]
fn anthropic_lists_its_models_under_its_own_headers_and_nobody_else_sees_them() {
    let key = ApiKey::new("sk-ant-x").expect("a key");
    let mut headers = HeaderMap::new();
    key.sign_listing("api.openai.com", &mut headers);
    assert!(headers.is_empty());
    key.sign_listing("api.anthropic.com", &mut headers);
    assert_eq!(headers["x-api-key"], "sk-ant-x");
    assert!(headers["x-api-key"].is_sensitive());
    assert_eq!(headers["anthropic-version"], "2023-06-01");
}

#[tokio::test]
async fn models_are_listed_and_answers_are_bounded() {
    let body = "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":1,\"owned_by\":\"x\",\"odd\":1}]}";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (upstream, server) = scripted(vec![answer.clone()]).await;
    let models = upstream.models().await.expect("a list");
    assert_eq!(models, ["m"]);
    assert!(server.await.expect("well").starts_with("GET /v1/models "));

    let (upstream, _server) = scripted(vec![answer.clone()]).await;
    let reply = chat(&upstream).await.expect("a reply");
    assert!(!reply.is_event_stream());
    let error = reply.bytes(10).await.expect_err("over the limit");
    assert!(matches!(error, UpstreamError::TooLarge { limit_bytes: 10 }));

    // A body that promises more than it brings.
    let short = answer.replace("content-length: ", "content-length: 9");
    let (upstream, _server) = scripted(vec![short]).await;
    let error = chat(&upstream)
        .await
        .expect("a head")
        .bytes(1 << 20)
        .await
        .expect_err("cut");
    assert!(matches!(error, UpstreamError::Cut { .. }), "{error:?}");

    let packed = answer.replace("content-type", "content-encoding: gzip\r\ncontent-type");
    let (upstream, _server) = scripted(vec![packed]).await;
    let error = chat(&upstream).await.expect_err("compressed");
    assert!(
        matches!(error, UpstreamError::Malformed { .. }),
        "{error:?}"
    );
}

#[test]
fn unusable_set_ups_are_refused() {
    let client = crate::http::client();
    for url in [
        "",
        "api.example.com",
        "ftp://x/v1",
        "http://",
        "https://key@host/v1",
        "https://h/v1?key=1",
        "https://h/v1#a",
    ] {
        let error =
            Upstream::new(url, None, client.clone(), Deadlines::default()).expect_err("unusable");
        assert!(matches!(error, ConfigError::Url { .. }), "{url}");
        assert!(!error.to_string().contains("key@"), "{error}");
    }
    for (url, base) in [
        ("https://api.example.com", "https://api.example.com/v1"),
        ("http://h:8080/openai/v1/", "http://h:8080/openai/v1"),
    ] {
        let upstream =
            Upstream::new(url, None, client.clone(), Deadlines::default()).expect("usable");
        assert_eq!(upstream.base_url(), base);
    }
    assert_eq!(ApiKey::new(" \n").expect_err("empty"), ConfigError::Key);
    let error = ApiKey::new("sk-secret\nx").expect_err("line break");
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn when_to_come_back_is_read_in_every_form() {
    type Row = (&'static [(&'static str, &'static str)], Option<u32>);
    let rows: &[Row] = &[
        (&[], None),
        (&[("retry-after", "7")], Some(7)),
        (&[("retry-after", " 0.2 ")], Some(1)),
        (&[("retry-after", "-5")], Some(0)),
        (&[("retry-after", "1e99")], Some(u32::MAX)),
        (&[("retry-after", "soon")], None),
        (&[("retry-after-ms", "1500"), ("retry-after", "9")], Some(2)),
        (&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")], None),
        (
            &[
                ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"),
            ],
            Some(30),
        ),
        (
            &[
                ("date", "Wed, 21 Oct 2015 07:29:00 GMT"),
                ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"),
            ],
            Some(0),
        ),
    ];
    for (given, seconds) in rows {
        let mut headers = HeaderMap::new();
        for (name, value) in *given {
            let name: http::HeaderName = name.parse().expect("a name");
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(retry_after_s(&headers), *seconds, "{given:?}");
    }
}
