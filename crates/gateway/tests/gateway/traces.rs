//! Traces, as a receiver of OTLP gets them: spans of calls and attempts, and nothing of what was
//! said.

use std::time::Duration;

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::otlp::{self, Receiver};
use crate::support::{MODEL, PATIENCE, Running, chat, config, endpoint, prompt};
use http::StatusCode;

const KEY: &str = "the-key-of-the-receiver";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A gateway in front of these upstreams that posts its spans to `url`.
async fn traced(upstreams: &[&Faulty], url: &str, more: &[(&str, &str)]) -> Running {
    let mut config = config();
    config.endpoints = upstreams.iter().map(|it| endpoint(it)).collect();
    config.traces = otlp::traces(url, more);
    Running::start(config, None).await
}

/// What became of spans, once there are enough of a fate.
async fn fates(gateway: &Running, fate: &str, at_least: u64) -> serde_json::Value {
    let begun = std::time::Instant::now();
    loop {
        let traces = gateway.status().await["traces"].clone();
        if traces[fate]
            .as_u64()
            .is_some_and(|number| number >= at_least)
        {
            return traces;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{traces:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn always(fault: Fault) -> Script {
    Script::Always(fault)
}

#[tokio::test]
async fn a_call_is_a_span_and_so_is_each_of_its_attempts() {
    let (receiver, url) = Receiver::start().await;
    let broken = Faulty::api(MODEL, always(Fault::Status(500))).await;
    let well = Faulty::api(MODEL, always(Fault::None)).await;
    let latest = (
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "gen_ai_latest_experimental",
    );
    let headers = format!("x-key={KEY}");
    let keyed = ("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str());
    let gateway = traced(&[&broken, &well], &url, &[latest, keyed]).await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let first = format!(
        r#"{{"order":["{}"],"allow_fallbacks":true}}"#,
        broken.origin()
    );
    let body = chat(true).replacen('{', &format!(r#"{{"provider":{first},"#), 1);
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1")];
    let answer = gateway
        .post_to("/v1/chat/completions", &body, &headers)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let call = answer.call();
    gateway.stop().await;

    let mut spans = receiver.spans();
    spans.sort_by_key(|span| (span.kind, span.start_ns));
    let [server, failed, good] = spans.as_slice() else {
        panic!("{spans:#?}");
    };
    for span in &spans {
        assert_eq!(
            (span.trace.as_str(), span.state.as_str()),
            (TRACE, "vendor=1")
        );
        assert_eq!(span.attributes["longrun.call"], call);
        assert_eq!(span.resource["service.name"], "longrun-gateway");
        assert!(
            server.start_ns <= span.start_ns && span.end_ns <= server.end_ns,
            "{spans:#?}"
        );
    }
    assert_eq!((server.kind, server.parent.as_str()), (2, PARENT));
    assert_eq!(server.name, "POST /v1/chat/completions");
    assert_eq!(server.attributes["http.response.status_code"], "200");
    assert!(!server.failed, "{server:#?}");

    let name = format!("chat {MODEL}");
    for (span, upstream) in [(failed, &broken), (good, &well)] {
        assert_eq!((span.kind, span.name.as_str()), (3, name.as_str()));
        assert_eq!(span.parent, server.id);
        // The endpoint was told this very attempt.
        let told = &upstream.requests()[0];
        let expected = format!("00-{TRACE}-{}-01", span.id);
        assert_eq!(told.header("traceparent"), Some(expected.as_str()));
        // What the caller's own systems say among themselves is not for outside APIs.
        assert_eq!(told.header("tracestate"), None);
        let attribute = |key: &str| span.attributes[key].as_str();
        assert_eq!(attribute("gen_ai.operation.name"), "chat");
        assert_eq!(attribute("gen_ai.provider.name"), "openai");
        assert_eq!(attribute("gen_ai.request.model"), MODEL);
        assert_eq!(attribute("server.address"), "127.0.0.1");
        assert_eq!(
            attribute("server.port"),
            upstream.address.port().to_string()
        );
        assert_eq!(attribute("gen_ai.request.stream"), "1");
    }
    assert!(failed.failed && !good.failed);
    assert_eq!(failed.attributes["error.type"], "provider_error");
    assert_eq!(failed.attributes["longrun.fault"], "provider");
    assert_eq!(failed.attributes["http.response.status_code"], "500");
    assert_eq!(good.attributes["longrun.attempt"], "2");
    assert_eq!(good.attributes["longrun.outcome"], "ok");
    assert_eq!(good.attributes["gen_ai.response.finish_reasons"], "stop");
    assert_eq!(good.attributes["gen_ai.response.model"], MODEL);
    assert!(good.attributes.contains_key("gen_ai.response.id"));
    let first: f64 = good.attributes["gen_ai.response.time_to_first_chunk"]
        .parse()
        .expect("s");
    assert!((0.0..60.0).contains(&first));

    let posts = receiver.posts.lock().expect("whole");
    let (headers, _) = &posts[0];
    assert_eq!(headers["x-key"], KEY);
    assert_eq!(headers["content-type"], "application/x-protobuf");
    for (_, body) in posts.iter() {
        let text = String::from_utf8_lossy(body);
        assert!(!text.contains(prompt()) && !text.contains("t3"), "{text}");
    }
}

#[tokio::test]
async fn without_the_switch_names_are_those_of_the_frozen_version() {
    let (receiver, url) = Receiver::start().await;
    let upstream = Faulty::api(MODEL, always(Fault::None)).await;
    let gateway = traced(&[&upstream], &url, &[("OTEL_PROPAGATORS", "none")]).await;
    assert_eq!(gateway.post(chat(false)).await.status, 200);
    let unknown = gateway.post(chat(false).replace(MODEL, "unknown")).await;
    assert_eq!(unknown.status, 404);
    gateway.stop().await;
    let spans = receiver.spans();
    let attempt = spans
        .iter()
        .find(|span| span.kind == 3)
        .expect("an attempt");
    assert_eq!(attempt.attributes["gen_ai.system"], "openai");
    assert!(!attempt.attributes.contains_key("gen_ai.provider.name"));
    assert_eq!(attempt.attributes["gen_ai.response.finish_reasons"], "stop");
    let tokens = ["input", "output"].map(|it| format!("gen_ai.usage.{it}_tokens"));
    assert!(
        tokens.iter().all(|it| attempt.attributes.contains_key(it)),
        "{attempt:#?}"
    );
    assert_eq!(attempt.schema, "https://opentelemetry.io/schemas/1.36.0");
    assert_eq!(upstream.requests()[0].header("traceparent"), None);
    // A call that was refused is a span of its own, in a trace of its own.
    let servers: Vec<_> = spans.iter().filter(|span| span.kind == 2).collect();
    let refused = servers
        .iter()
        .find(|span| span.attributes["http.response.status_code"] == "404");
    let refused = refused.expect("a span of the refusal");
    assert!(refused.parent.is_empty() && refused.trace != attempt.trace && !refused.failed);
}

#[tokio::test]
async fn what_a_caller_does_not_sample_is_only_passed_on() {
    let (receiver, url) = Receiver::start().await;
    let upstream = Faulty::api(MODEL, always(Fault::None)).await;
    let gateway = traced(&[&upstream], &url, &[]).await;
    let parent = format!("00-{TRACE}-{PARENT}-00");
    let headers = [("traceparent", parent.as_str())];
    let path = "/v1/chat/completions";
    let answer = gateway.post_to(path, &chat(false), &headers).await;
    assert_eq!(answer.status, 200);
    let told = upstream.requests()[0]
        .header("traceparent")
        .expect("told")
        .to_owned();
    assert!(
        told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"),
        "{told}"
    );
    assert!(
        !told.contains(PARENT),
        "the attempt has a span id of its own"
    );
    gateway.stop().await;
    assert!(receiver.spans().is_empty());
}

#[tokio::test]
async fn a_caller_that_leaves_ends_both_spans() {
    let (receiver, url) = Receiver::start().await;
    let upstream = Faulty::api(MODEL, always(Fault::Stall(3))).await;
    let mut config = config();
    let mut patient = endpoint(&upstream);
    // Only the caller's leaving can end this.
    patient.timeouts.gap = PATIENCE * 3;
    patient.timeouts.total = PATIENCE * 3;
    config.endpoints = vec![patient];
    config.traces = otlp::traces(&url, &[]);
    let gateway = Running::start(config, None).await;
    let answer = gateway.open(chat(true)).await;
    assert_eq!(answer.status(), 200);
    drop(answer);
    fates(&gateway, "exported", 2).await;
    gateway.stop().await;
    let spans = receiver.spans();
    let of = |kind| spans.iter().find(|span| span.kind == kind).expect("a span");
    let (call, attempt) = (of(2), of(3));
    assert_eq!(call.attributes["error.type"], "canceled");
    assert!(call.failed);
    // That is nobody's error at the endpoint.
    assert_eq!(attempt.attributes["longrun.outcome"], "canceled");
    assert!(!attempt.failed && !attempt.attributes.contains_key("error.type"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_of_the_call_too() {
    let (receiver, url) = Receiver::start().await;
    let upstream = Faulty::api(MODEL, always(Fault::Cut(3))).await;
    let gateway = traced(&[&upstream], &url, &[]).await;
    assert_eq!(gateway.post(chat(true)).await.status, 200);
    gateway.stop().await;
    let spans = receiver.spans();
    assert_eq!(spans.len(), 2);
    for span in spans {
        assert!(span.failed, "{span:#?}");
        assert_eq!(span.attributes["error.type"], "truncated", "{span:#?}");
    }
}

#[tokio::test]
async fn a_receiver_that_comes_back_gets_what_waited_and_one_that_refuses_loses_it() {
    let (receiver, url) = Receiver::start().await;
    let upstream = Faulty::api(MODEL, always(Fault::None)).await;
    let gateway = traced(&[&upstream], &url, &[]).await;
    *receiver.refusals.lock().expect("whole") = vec![StatusCode::SERVICE_UNAVAILABLE];
    gateway.post(chat(false)).await;
    let told = fates(&gateway, "exported", 2).await;
    assert_eq!(told["failed"], 0, "{told:#}");
    assert_eq!(receiver.spans().len(), 2);

    *receiver.refusals.lock().expect("whole") = vec![StatusCode::BAD_REQUEST; 2];
    gateway.post(chat(false)).await;
    let told = fates(&gateway, "failed", 1).await;
    assert_eq!(told["error"], "it answered 400 Bad Request", "{told:#}");
    let metrics = gateway.get("/metrics").await.text();
    assert!(
        metrics.contains("longrun_gateway_spans_total{fate=\"failed\"}"),
        "{metrics}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn no_call_waits_for_a_receiver_and_what_finds_no_room_is_counted() {
    // It takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let upstream = Faulty::api(MODEL, always(Fault::None)).await;
    let small = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
    ];
    let gateway = traced(&[&upstream], &url, &small).await;
    for streamed in [false, true].into_iter().cycle().take(16) {
        assert_eq!(gateway.post(chat(streamed)).await.status, 200);
    }
    // 32 spans: at most four are being posted, and four wait.
    let told = fates(&gateway, "dropped", 24).await;
    assert_eq!(told["exported"], 0, "{told:#}");
    // Nor does the stop: what cannot be flushed is given up after a while.
    gateway.stop().await;
}

#[tokio::test]
async fn a_port_of_grpc_is_told_at_the_first_post_and_what_waits_is_counted() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    // Servers of gRPC begin with their settings, a frame of HTTP/2, before or after they read.
    for speaks_first in [true, false] {
        let grpc = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let grpc = grpc.expect("a port");
        let url = format!("http://{}", grpc.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = grpc.accept().await {
                if !speaks_first {
                    let _ = stream.read(&mut [0; 64]).await;
                }
                let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        });
        let upstream = Faulty::api(MODEL, always(Fault::None)).await;
        let gateway = traced(&[&upstream], &url, &[]).await;
        gateway.post(chat(false)).await;
        let told = fates(&gateway, "again", 1).await;
        let error = told["error"].as_str().expect("an error");
        assert!(error.contains("4318"), "{told:#}");
        assert_eq!(
            (&told["waiting"], &told["failed"]),
            (&2.into(), &0.into()),
            "{told:#}"
        );
        gateway.stop().await;
    }
}
