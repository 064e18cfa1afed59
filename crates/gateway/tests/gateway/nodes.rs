//! What becomes of nodes that were found: away, at several addresses, over a restart, ended, renewed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::post;
use gateway::config::{EndpointConfig, EndpointKind};
use record::bucket::start_ms;
use record::control::{Action, Revoke, RevokeReason};
use serde_json::Value;

use crate::offers::{
    PATIENCE, Party, canned, gateway_config, log, log_that_stops, now_ms, offer, port, send, serve,
    serve_with, takes, until,
};
use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, endpoint};

/// A port where nobody listens, and an address for it.
async fn nobody() -> String {
    let (listener, address) = port().await;
    drop(listener);
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_whose_nodes_are_away_is_no_unknown_one() {
    let (log, _directory) = log().await;
    let away = Party::new("away");
    let offered = away.offers(offer(1, &nobody().await, away.manifest.record_id()));
    takes(&log, &away, &[&offered]).await;
    let gateway = Running::start(gateway_config(&log, true), None).await;
    until(&gateway, |network| network["dropped"] == 1).await;
    let answer = gateway.post(chat(false)).await;
    let told = answer.json();
    assert_eq!(
        (answer.status, &told["error"]["code"]),
        (503, &"nodes_away".into())
    );
    assert!(!answer.header("retry-after").is_empty());
    // A caller is told what callers can do: the status is not for them.
    let message = told["error"]["message"].as_str().expect("words");
    assert!(
        message.contains("Please retry in 5 s; if it stays so, tell the operator"),
        "{message}"
    );
    let unknown = gateway.get("/v1/models/nobody-offers-it").await;
    assert_eq!(unknown.status, 404);
    let says = format!("nobody who offers it can be asked now: {MODEL}.");
    assert!(unknown.text().contains(&says), "{}", unknown.text());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_failed_its_trial_is_away_and_no_preference_is_blamed() {
    let (log, _directory) = log().await;
    let failing = Party::new("failing");
    let fails = post(|| async { StatusCode::INTERNAL_SERVER_ERROR });
    let address = serve_with(failing.clone(), fails).await;
    let offered = failing.offers(offer(1, &address, failing.manifest.record_id()));
    takes(&log, &failing, &[&offered]).await;
    let gateway = Running::start(gateway_config(&log, true), None).await;
    until(&gateway, |network| network["trying"] == 1).await;
    // Until its failure is taken note of it may be asked again.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let refused = loop {
        let answer = gateway.post(chat(false)).await;
        if !answer.headers.contains_key("x-longrun-endpoint") {
            break answer;
        }
        assert_eq!(answer.status, 500);
        assert!(
            tokio::time::Instant::now() < deadline,
            "it is asked for good"
        );
    };
    let told = refused.json();
    assert_eq!(
        (refused.status, &told["error"]["code"]),
        (503, &"nodes_away".into())
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_addresses_of_an_offer_are_tried_in_order() {
    let (log, _directory) = log().await;
    let honest = Party::new("honest");
    let (victim, asked) = canned(404, "").await;
    let mut several = offer(1, &nobody().await, honest.manifest.record_id());
    for further in [victim, serve(honest.clone()).await] {
        several.addresses.push(further.parse().expect("an origin"));
    }
    takes(&log, &honest, &[&honest.offers(several)]).await;
    let gateway = Running::start(gateway_config(&log, true), None).await;
    let refused = until(&gateway, |network| network["trying"] == 1).await;
    assert!(
        refused[&honest.id.to_hex()].contains("proves no key"),
        "the second: {refused:#?}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let answer = gateway.post(chat(false)).await;
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{}/{MODEL}", honest.id)
    );
    gateway.stop().await;
}

/// A trial may fail, and then somebody else is to answer: a call that is not tried twice is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_allows_one_attempt_is_no_trial() {
    let (log, _directory) = log().await;
    let honest = Party::new("honest");
    let address = serve(honest.clone()).await;
    let offered = honest.offers(offer(1, &address, honest.manifest.record_id()));
    takes(&log, &honest, &[&offered]).await;
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = gateway_config(&log, true);
    config.endpoints = vec![endpoint(&upstream)];
    config.routing.trial_ppm = 200_000;
    let gateway = Running::start(config, None).await;
    until(&gateway, |network| network["trying"] == 1).await;
    let at_node = format!("{}/{MODEL}", honest.id);
    let asks_it = async |headers: &[(&str, &str)]| {
        let path = "/v1/chat/completions";
        let answer = gateway.post_to(path, &chat(false), headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("x-longrun-endpoint") == at_node
    };
    for _ in 0..20 {
        assert!(!asks_it(&[("x-longrun-attempts-max", "1")]).await);
    }
    let mut calls = 0;
    while !asks_it(&[]).await {
        calls += 1;
        assert!(calls < 20, "one of five is a trial");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_known_over_a_restart_while_their_log_is_away() {
    let (log, _directory, running) = log_that_stops().await;
    let honest = Party::new("honest");
    let address = serve(honest.clone()).await;
    let offered = honest.offers(offer(1, &address, honest.manifest.record_id()));
    takes(&log, &honest, &[&offered]).await;
    let gateway = Running::start(gateway_config(&log, true), None).await;
    until(&gateway, |network| {
        network["trying"] == 1 && network["as_of_ms"].is_null()
    })
    .await;
    let kept = gateway.directory.path().join("signer/networks");
    let has_nodes = |file: &Path| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.contains("\"index\"")
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let file = loop {
        let mut files = std::fs::read_dir(&kept).into_iter().flatten().flatten();
        let file = files.find(|it| it.path().extension().is_some_and(|it| it == "json"));
        match file.map(|it| it.path()).filter(|file| has_nodes(file)) {
            Some(file) => break file,
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "it keeps what it knows"
        );
    };
    let directory = gateway.stop().await;
    running.abort();
    let _ = running.await;

    let again = Running::start_in(directory, gateway_config(&log, true), None).await;
    until(&again, |network| network["trying"] == 1).await;
    let status = again.get("/longrun/v1/status").await.json();
    let network = &status["networks"][0];
    let (as_of, now) = (network["as_of_ms"].as_u64(), status["now_ms"].as_u64());
    assert!(
        as_of.is_some() && as_of <= now && !network["error"].is_null(),
        "{network:#}"
    );
    let answer = again.post(chat(false)).await;
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{}/{MODEL}", honest.id)
    );
    let directory = again.stop().await;

    // What is damaged is not used.
    let text = std::fs::read_to_string(&file).expect("it is there");
    let damaged = text.replacen("\"payload\":\"ey", "\"payload\":\"fy", 1);
    assert_ne!(damaged, text);
    std::fs::write(&file, damaged).expect("written");
    let third = Running::start_in(directory, gateway_config(&log, true), None).await;
    let answer = third.post(chat(false)).await;
    assert_eq!(answer.json()["error"]["code"], "network_unread");
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_the_configuration_is_not_used_when_the_log_says_that_its_key_ended() {
    let (log, _directory) = log().await;
    let mut party = Party::new("configured");
    let address = serve(party.clone()).await;
    takes(&log, &party, &[]).await;
    let mut config = gateway_config(&log, true);
    let mut endpoint = EndpointConfig::at(&format!("{address}/v1")).expect("a URL");
    endpoint.kind = EndpointKind::Node;
    endpoint.models = vec![MODEL.to_owned()];
    config.endpoints = vec![endpoint];
    let gateway = Running::start(config, None).await;
    let answer = gateway.post(chat(false)).await;
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{}/{MODEL}", party.id)
    );
    // Its own description goes on as if nothing had happened.
    party.control(Action::Revoke(Revoke {
        key_id: party.instance.key_id(),
        reason: RevokeReason::Compromised,
    }));
    takes(&log, &party, &[]).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = gateway.get("/longrun/v1/status").await.json();
        let endpoint = &status["endpoints"][0];
        if endpoint["state"] == "refused" {
            let why = endpoint["why"].as_str().unwrap_or_default();
            assert!(why.contains("has ended"), "{why}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{endpoint:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(gateway.post(chat(false)).await.status, 503);
    gateway.stop().await;
}

/// The machine's clock, and how far it is moved ahead, ms.
struct Moved(Arc<AtomicU64>);

impl recorder::Clock for Moved {
    fn unix_ms(&self) -> u64 {
        now_ms() + self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_renewed_goes_on_and_one_that_is_not_ends_while_the_gateway_runs() {
    const HOUR_MS: u64 = 3_600_000;
    let (log, directory) = log().await;
    let (renewed, silent) = (Party::new("renewed"), Party::new("silent"));
    for party in [&renewed, &silent] {
        let offered = offer(1, &serve(party.clone()).await, party.manifest.record_id());
        takes(&log, party, &[&party.offers(offered)]).await;
    }
    let ahead = Arc::new(AtomicU64::new(0));
    let context = recorder::Context {
        clock: Arc::new(Moved(Arc::clone(&ahead))),
        ..recorder::Context::system().expect("randomness")
    };
    let config = gateway_config(&log, true);
    let gateway = Running::start_with(directory, config, None, context).await;
    until(&gateway, |network| network["trying"] == 2).await;
    let status = gateway.get("/longrun/v1/status").await.json();
    let endpoints = status["endpoints"].as_array().expect("a list");
    let there = |it: &&Value| it["provider"] == renewed.id.to_hex();
    let url = endpoints.iter().find(there).expect("it is tried")["url"].as_str();
    let own = url.expect("a URL").trim_end_matches("/v1").to_owned();
    let mut next = offer(2, &own, renewed.manifest.record_id());
    next.until_ms = start_ms(now_ms() + 2 * HOUR_MS);
    let size = status["networks"][0]["size"].as_u64().expect("a number");
    let said = renewed.offers(next);
    send(&log, &[&said]).await;
    until(&gateway, |network| network["size"].as_u64() > Some(size)).await;

    ahead.store(HOUR_MS * 3 / 2, Ordering::Relaxed);
    until(&gateway, |network| network["trying"] == 1).await;
    let answer = gateway.post(chat(false)).await;
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{}/{MODEL}", renewed.id)
    );
    ahead.store(HOUR_MS * 3, Ordering::Relaxed);
    until(&gateway, |network| network["trying"] == 0).await;
    assert_eq!(
        gateway.post(chat(false)).await.status,
        404,
        "nobody offers it"
    );
    gateway.stop().await;
}
