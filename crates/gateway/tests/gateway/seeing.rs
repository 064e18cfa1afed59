//! What an operator sees: metrics, health, readiness; and what a gateway without a configuration
//! finds.

use std::path::Path;
use std::time::Duration;

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, config, endpoint, in_front_of, prompt};
use gateway::discover::{Local, local_servers};

fn good() -> Script {
    Script::Always(Fault::None)
}

/// The metrics that `docs/gateway.md` lists.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway.md");
    let page = std::fs::read_to_string(page).expect("the page exists");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| metric |"))
        .skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).expect("a name").to_owned())
        .collect()
}

/// The metrics, once a series of this name is among them.
async fn metrics_with(gateway: &Running, series: &str) -> String {
    let begun = std::time::Instant::now();
    loop {
        let text = gateway.get("/metrics").await.text();
        if text.contains(series) {
            return text;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn metrics_are_those_that_are_documented_and_count() {
    let failing = Script::InTurn(vec![Fault::Status(500), Fault::None]);
    let upstream = Faulty::api(MODEL, failing).await;
    let gateway = in_front_of(&[&upstream]).await;
    for streamed in [false, true, true] {
        let answer = gateway.post(chat(streamed)).await;
        gateway.call(&answer.call()).await;
    }
    gateway.get("/made/up").await;
    // Records are folded, and shares worked out, every few seconds.
    let text = metrics_with(&gateway, "concentration_index{").await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(
        !text.contains(prompt()) && !text.contains("made/up"),
        "{text}"
    );
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().expect("a name").to_owned())
        .collect();
    let mut listed = documented();
    // Only where keys are needed, a webhook is told, calls are traced, a log says what time it is, or nodes
    // are found in a network.
    let elsewhere = [
        "clock_ahead_seconds",
        "callers",
        "alarms",
        "alarms_waiting",
        "spans",
        "spans_waiting",
        "span_batches_posted_again",
        "network_nodes",
        "network_up",
    ];
    listed.retain(|name| {
        !elsewhere
            .iter()
            .any(|it| *name == format!("longrun_gateway_{it}"))
    });
    names.sort();
    listed.sort();
    assert_eq!(names, listed);
    let provider = upstream.origin();
    let chats = r#"requests_total{route="/v1/chat/completions",status="200"}"#;
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        let value = line.unwrap_or_else(|| panic!("{series} is missing in\n{text}"));
        value.trim().parse().expect("a number")
    };
    assert!(value(&format!("longrun_gateway_{chats}")) >= 2.0);
    assert!(value(r#"longrun_gateway_requests_total{route="other",status="404"}"#) >= 1.0);
    let attempts = |outcome: &str, fault: &str| {
        value(&format!(
            "longrun_gateway_attempts_total{{provider=\"{provider}\",model=\"{MODEL}\",\
             outcome=\"{outcome}\",fault=\"{fault}\"}}"
        ))
    };
    assert!(attempts("ok", "") >= 2.0);
    assert!((attempts("provider_error", "provider") - 1.0).abs() < f64::EPSILON);
    let labels = format!("{{provider=\"{provider}\",model=\"{MODEL}\"}}");
    assert!(
        value(&format!(
            "longrun_gateway_first_token_seconds_count{labels}"
        )) >= 2.0
    );
    let tokens =
        format!("longrun_gateway_tokens_total{{caller=\"\",model=\"{MODEL}\",kind=\"prompt\"}}");
    assert!(value(&tokens) >= 10.0);
    let shares = "longrun_gateway_concentration_effective_number{by=\"origin\",window=\"hour\"}";
    assert!((value(shares) - 1.0).abs() < f64::EPSILON);
    let about = format!("{{objective=\"availability\",provider=\"{provider}\",model=\"{MODEL}\"");
    let objective =
        |name: &str, rest: &str| value(&format!("longrun_gateway_objective_{name}{about}{rest}"));
    assert!((objective("target_ratio", "}") - 0.99).abs() < 1e-9);
    assert!(
        objective("burn_rate", ",window=\"5m\"}") > 10.0,
        "one of four failed"
    );
    let paged = objective("burning", ",severity=\"page\",window=\"1h\"}");
    assert!((paged - 1.0).abs() < f64::EPSILON);
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_is_ready_when_something_can_answer() {
    let upstream = Faulty::api(MODEL, good()).await;
    let ready = in_front_of(&[&upstream]).await;
    let answer = ready.get("/readyz").await;
    assert_eq!(
        (answer.status, answer.json()["status"].as_str()),
        (200, Some("ready"))
    );
    ready.stop().await;

    let idle = crate::support::Running::start(config(), None).await;
    assert_eq!(
        idle.get("/healthz").await.status,
        200,
        "it is alive all the same"
    );
    let answer = idle.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("no endpoint"), "{}", answer.text());
    idle.stop().await;
}

#[tokio::test]
async fn model_servers_are_found_where_they_listen_and_nothing_else_is() {
    let server = Faulty::api("a-model", good()).await;
    // Something that speaks no HTTP, and a port where nobody listens.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        listener.local_addr().expect("an address").port()
    };
    // A gateway of ours lists models too, and is no model server.
    let gateway = in_front_of(&[&server]).await;
    let local = |name, port| Local { name, port };
    let gateway_port = gateway.handle.as_ref().expect("running").address().port();
    let found = local_servers(&[
        local("closed", closed),
        local("silent", silent.local_addr().expect("an address").port()),
        local("a gateway", gateway_port),
        local("a server", server.address.port()),
    ])
    .await;
    let names: Vec<_> = found.iter().map(|f| (f.name, f.models.clone())).collect();
    assert_eq!(names, [("a server", vec!["a-model".to_owned()])]);
    assert_eq!(
        found[0].endpoint.api.to_string(),
        format!("{}/v1", server.url())
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_drill_says_what_would_be_left_without_a_provider() {
    let (gone, other) = (
        Faulty::api(MODEL, good()).await,
        Faulty::api(MODEL, good()).await,
    );
    let alone = Faulty::api("a-model-of-its-own", good()).await;
    let gateway = in_front_of(&[&gone, &other, &alone]).await;
    let messages = serde_json::json!([{"role": "user", "content": prompt()}]);
    for (upstream, model, calls) in [
        (&gone, MODEL, 3),
        (&other, MODEL, 2),
        (&alone, "a-model-of-its-own", 1),
    ] {
        let only = serde_json::json!({"only": [upstream.origin()]});
        let body = serde_json::json!({"model": model, "messages": messages, "provider": only});
        for _ in 0..calls {
            assert_eq!(gateway.post(body.to_string()).await.status, 200);
        }
    }
    let all = |history: &serde_json::Value| {
        let each = history["endpoints"].as_array().expect("endpoints").iter();
        each.map(|it| it["successes"].as_u64().unwrap_or(0))
            .sum::<u64>()
            == 6
    };
    gateway.history_until(all).await;
    let drill = |without: String| {
        let path = format!("/longrun/v1/drill?without={without}");
        let gateway = &gateway;
        async move { gateway.get(&path).await }
    };
    let told = drill(gone.origin()).await.json();
    assert_eq!([&told["calls"], &told["asked"]], [6, 3], "{told:#}");
    assert_eq!([&told["answered"], &told["not_served"]], [6, 0], "{told:#}");
    assert_eq!(
        (&told["survive"], &told["is_cut"]),
        (&6.into(), &false.into())
    );
    let fate = &told["fates"][0];
    let instead = fate["instead"].as_str().expect("somebody");
    assert!(instead.starts_with(&other.origin()), "{fate:#}");
    assert_eq!(
        (&fate["judged"], &fate["interval"][1]),
        (&2.into(), &3.into())
    );
    assert!(fate["cost"].is_null(), "no price was declared: {fate:#}");

    let told = drill(alone.origin()).await.json();
    assert_eq!([&told["asked"], &told["not_served"]], [1, 1], "{told:#}");
    assert_eq!([&told["survive"], &told["interval"][1]], [5, 5], "{told:#}");
    assert_eq!(
        told["unserved"][0]["model"], "a-model-of-its-own",
        "{told:#}"
    );
    let unknown = drill("https://nobody.example".to_owned()).await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.text().contains(&gone.origin()),
        "{}",
        unknown.text()
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_drill_without_a_stranger_names_everybody_who_could_be_meant() {
    let (mine, theirs) = (
        Faulty::api(MODEL, good()).await,
        Faulty::api(MODEL, good()).await,
    );
    let (mut first, mut second) = (endpoint(&mine), endpoint(&theirs));
    first.name = Some("upstairs".to_owned());
    second.owner = Some("A Company".to_owned());
    let mut config = config();
    config.endpoints = vec![first, second];
    let gateway = Running::start(config, None).await;
    let unknown = gateway.get("/longrun/v1/drill?without=nobody").await;
    let said = unknown.text();
    assert_eq!(unknown.status, 404, "{said}");
    for known in ["upstairs", &mine.origin(), &theirs.origin(), "A Company"] {
        assert!(said.contains(known), "{known}: {said}");
        let path = format!("/longrun/v1/drill?without={}", known.replace(' ', "%20"));
        assert_eq!(gateway.get(&path).await.status, 200, "{known}");
    }
    gateway.stop().await;
}
