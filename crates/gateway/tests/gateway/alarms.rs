//! The webhook: what is posted when, to a receiver that fails and comes back, over a restart.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, config, endpoint, prompt};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::config::{AlarmsConfig, Secret};
use recorder::{Clock, Context};
use ring::hmac;
use serde_json::Value;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const MINUTE_MS: u64 = 60_000;
const NOW_MS: u64 = 1_790_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

struct Hands(AtomicU64);

impl Clock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A receiver that refuses the first so many and takes the rest, with what it took.
#[derive(Clone, Default)]
struct Receiver {
    refuse: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    took: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    async fn start(&self) -> String {
        async fn take(
            State(receiver): State<Receiver>,
            headers: HeaderMap,
            body: axum::body::Bytes,
        ) -> StatusCode {
            let left = receiver.refuse.load(Ordering::SeqCst);
            if left > 0 {
                receiver.refuse.store(left - 1, Ordering::SeqCst);
                receiver.refused.fetch_add(1, Ordering::SeqCst);
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let header = |name: &str| headers[name].to_str().expect("text").to_owned();
            let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
            let key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
            let signed = [format!("{id}.{at}.").as_bytes(), &body].concat();
            let signature = header("webhook-signature");
            let tag = STANDARD.decode(&signature["v1,".len()..]).expect("base64");
            hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed, &tag)
                .expect("the signature holds");
            assert!(!String::from_utf8_lossy(&body).contains(prompt()));
            let event: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(
                (&event["id"], &event["version"]),
                (&Value::from(id), &1.into())
            );
            receiver.took.lock().expect("whole").push(event);
            StatusCode::NO_CONTENT
        }
        let router = axum::Router::new()
            .route("/hook", post(take))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    /// The types of what was taken, sorted, once there are as many as these.
    async fn until(&self, wanted: &[&str]) {
        let begun = Instant::now();
        loop {
            let mut kinds: Vec<String> = self.types();
            kinds.sort();
            if kinds == wanted {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{kinds:?} instead of {wanted:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn types(&self) -> Vec<String> {
        let took = self.took.lock().expect("whole");
        let word = |event: &Value| event["type"].as_str().expect("a type").to_owned();
        took.iter().map(word).collect()
    }
}

async fn start(
    upstream: &Faulty,
    (url, state): (&str, &Path),
    hands: &Arc<Hands>,
    directory: tempfile::TempDir,
) -> Running {
    let mut config = config();
    config.endpoints = vec![endpoint(upstream)];
    let secret = Secret::new(SECRET).expect("a secret");
    let mut alarms = AlarmsConfig::new(url, Some(secret)).expect("a webhook");
    alarms.state_file = Some(state.to_path_buf());
    config.alarms = Some(alarms);
    let context = Context {
        clock: Arc::clone(hands) as Arc<dyn Clock>,
        ..Context::system().expect("randomness")
    };
    Running::start_with(directory, config, None, context).await
}

#[tokio::test]
async fn trouble_is_told_once_although_the_receiver_fails_and_the_gateway_restarts() {
    let failing = vec![
        Fault::Status(500),
        Fault::Status(500),
        Fault::Status(500),
        Fault::None,
    ];
    let upstream = Faulty::api(MODEL, Script::InTurn(failing)).await;
    let receiver = Receiver::default();
    receiver.refuse.store(2, Ordering::SeqCst);
    let url = receiver.start().await;
    let hands = Arc::new(Hands(AtomicU64::new(NOW_MS)));
    let kept = tempfile::tempdir().expect("a directory");
    let state = kept.path().join("alarms.json");
    let signer = tempfile::tempdir().expect("a directory");
    let gateway = start(&upstream, (&url, &state), &hands, signer).await;

    for _ in 0..3 {
        gateway.post(chat(false)).await;
    }
    // Three failures of three: an incident, and the budget burns over every pair of windows. Over the
    // shortest it no longer does twenty minutes later.
    let first = [
        "burn.started",
        "burn.started",
        "burn.started",
        "incident.opened",
    ];
    receiver.until(&first).await;
    assert_eq!(receiver.refused.load(Ordering::SeqCst), 2);
    let status = gateway.status().await;
    assert_eq!(status["alarms"]["waiting"], 0);
    assert_eq!(status["alarms"]["failed"], 2);
    {
        let took = receiver.took.lock().expect("whole");
        let opened = took.iter().find(|event| event["type"] == "incident.opened");
        let opened = opened.expect("told");
        assert_eq!(opened["data"]["failed"], 3);
        assert_eq!(opened["provider"], upstream.origin());
    }

    // Nobody is there when the incident ends; the gateway stops, and starts again.
    receiver.refuse.store(1_000, Ordering::SeqCst);
    hands.0.store(NOW_MS + 20 * MINUTE_MS, Ordering::SeqCst);
    for minute in [20, 21, 22, 26] {
        hands.0.store(NOW_MS + minute * MINUTE_MS, Ordering::SeqCst);
        gateway.post(chat(false)).await;
    }
    let begun = Instant::now();
    while receiver.refused.load(Ordering::SeqCst) < 3 {
        assert!(
            begun.elapsed() < PATIENCE,
            "the end of the incident is not told"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let signer = gateway.stop().await;
    receiver.refuse.store(0, Ordering::SeqCst);
    let again = start(&upstream, (&url, &state), &hands, signer).await;
    let all = [
        "burn.ended",
        "burn.started",
        "burn.started",
        "burn.started",
        "incident.closed",
        "incident.opened",
    ];
    receiver.until(&all).await;
    again.stop().await;
}

/// Detectors of availability fold weeks, so weeks pass on the test's clock. Nothing but calls makes
/// this history.
#[tokio::test]
async fn an_endpoint_that_fails_more_than_it_did_raises_an_alarm_that_outlives_a_restart() {
    const WEEK_MS: u64 = 7 * 24 * 60 * MINUTE_MS;
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let hands = Arc::new(Hands(AtomicU64::new(NOW_MS)));
    let kept = tempfile::tempdir().expect("a directory");
    let state = kept.path().join("alarms.json");
    let signer = tempfile::tempdir().expect("a directory");
    let gateway = start(&upstream, (&url, &state), &hands, signer).await;
    let availability = |history: &Value| {
        let dimensions = history["endpoints"][0]["dimensions"].as_array().cloned();
        let mut dimensions = dimensions.into_iter().flatten();
        let found = dimensions.find(|it| it["dimension"] == "availability");
        found.map_or(0, |it| it["detector"]["alarms"].as_u64().unwrap_or(0))
    };
    for week in 0..8 {
        hands.0.store(NOW_MS + week * WEEK_MS, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(gateway.post(chat(false)).await.status, 200);
        }
    }
    let good = gateway
        .history_until(|it| it["endpoints"][0]["calls"] == 24)
        .await;
    assert_eq!(availability(&good), 0, "{good:#}");
    assert!(!receiver.types().contains(&"regime.alarm".to_owned()));

    // What was there at the first look is no news to the webhook: the file says that it was.
    let begun = Instant::now();
    while !state.exists() {
        assert!(begun.elapsed() < PATIENCE, "nobody looks");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    upstream.now(Script::Always(Fault::Status(500)));
    for week in 8..20 {
        hands.0.store(NOW_MS + week * WEEK_MS, Ordering::SeqCst);
        gateway.post(chat(false)).await;
    }
    gateway.history_until(|it| availability(it) > 0).await;
    let begun = Instant::now();
    while !receiver.types().contains(&"regime.alarm".to_owned()) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", receiver.types());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = {
        let took = receiver.took.lock().expect("whole");
        let alarm = took.iter().find(|event| event["type"] == "regime.alarm");
        alarm.expect("told").clone()
    };
    assert_eq!(told["data"]["dimension"], "availability");
    assert_eq!(told["provider"], upstream.origin());
    let account = gateway.get("/longrun/v1/account").await.json();
    assert!(
        account["endpoints"][0]["alarms_ever"].as_u64() > Some(0),
        "{account:#}"
    );
    let metrics = gateway.get("/metrics").await.text();
    let posted = "longrun_gateway_alarms_total{fate=\"posted\"}";
    let posted = metrics.lines().find_map(|line| line.strip_prefix(posted));
    let posted = posted.and_then(|it| it.trim().parse::<f64>().ok());
    assert!(posted > Some(0.0), "{metrics}");

    let before = gateway
        .history_until(|it| it["endpoints"][0]["calls"] == 36)
        .await;
    let signer = gateway.stop().await;
    let again = start(&upstream, (&url, &state), &hands, signer).await;
    let after = again
        .history_until(|it| it["records"] == before["records"])
        .await;
    assert_eq!(after["digest"], before["digest"]);
    assert_eq!(availability(&after), availability(&before));
    again.stop().await;
}

/// By its figures, which the failures behind the alarm are in, and not because its breaker is open: too
/// few calls fail for that.
#[tokio::test]
async fn an_endpoint_with_an_alarm_is_asked_after_one_that_is_well() {
    const WEEK_MS: u64 = 7 * 24 * 60 * MINUTE_MS;
    let worsens = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let well = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&worsens), endpoint(&well)];
    let hands = Arc::new(Hands(AtomicU64::new(NOW_MS)));
    let context = Context {
        clock: Arc::clone(&hands) as Arc<dyn Clock>,
        ..Context::system().expect("randomness")
    };
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = Running::start_with(directory, config, None, context).await;
    let ask = async |provider: Value| {
        let body = chat(false).replacen('{', &format!(r#"{{"provider":{provider},"#), 1);
        gateway.post(body).await
    };
    let only = |upstream: &Faulty| {
        let origin = upstream.origin();
        ask(serde_json::json!({"only": [origin], "allow_fallbacks": false}))
    };
    // A call with a demand does not explore.
    let chosen = async || {
        let answer = ask(serde_json::json!({"min_success": 0.01})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let path = format!("/longrun/v1/calls/{}/route", answer.call());
        gateway.get(&path).await.json()
    };
    let starts_with = |told: &Value, upstream: &Faulty| {
        let asked = told["asked_first"].as_str().expect("somebody");
        asked.starts_with(&format!("{}/", upstream.origin()))
    };
    let of = |history: &Value| {
        let endpoints = history["endpoints"].as_array().expect("a list").iter();
        let mut endpoints = endpoints.filter(|it| it["provider"] == worsens.origin());
        endpoints.next().cloned().unwrap_or_default()
    };
    let alarms = |history: &Value| {
        let dimensions = of(history)["dimensions"].as_array().cloned();
        let mut dimensions = dimensions.into_iter().flatten();
        let found = dimensions.find(|it| it["dimension"] == "availability");
        found.map_or(0, |it| it["detector"]["alarms"].as_u64().unwrap_or(0))
    };
    let mut calls = 0;
    for week in 0..8 {
        hands.0.store(NOW_MS + week * WEEK_MS, Ordering::SeqCst);
        for upstream in [&worsens, &worsens, &worsens, &well] {
            assert_eq!(only(upstream).await.status, 200);
        }
        calls += 3;
    }
    gateway.history_until(|it| of(it)["calls"] == calls).await;
    let told = chosen().await;
    assert!(
        starts_with(&told, &worsens),
        "it has the longer record: {told:#}"
    );
    calls += 1;

    // A third of its calls fail.
    for week in 8.. {
        assert!(week < 60, "no alarm");
        hands.0.store(NOW_MS + week * WEEK_MS, Ordering::SeqCst);
        for fault in [Fault::None, Fault::None, Fault::Status(500)] {
            worsens.now(Script::Always(fault));
            only(&worsens).await;
        }
        calls += 3;
        let history = gateway.history_until(|it| of(it)["calls"] == calls).await;
        if alarms(&history) > 0 {
            break;
        }
    }
    worsens.now(Script::Always(Fault::None));
    let asked = worsens.requests().len();
    let told = chosen().await;
    assert!(starts_with(&told, &well), "{told:#}");
    assert_eq!(told["order_why"], "record", "{told:#}");
    assert_eq!(told["order"][1]["resting"], false, "{told:#}");
    assert_eq!(worsens.requests().len(), asked);
    gateway.stop().await;
}
