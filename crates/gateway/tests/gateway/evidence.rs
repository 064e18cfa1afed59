//! Records: receipts checked before they are vouched for, bundles that verify, histories that
//! follow the log and are the same after a restart, and what happens when the log is away.

use std::time::{Duration, Instant};

use crate::support::faulty::signer::{Flaw, Node};
use crate::support::faulty::{Fault, Faulty, Script, plain_answer};
use crate::support::log::{Log, ORIGIN};
use crate::support::{MODEL, PATIENCE, Running, chat, config, endpoint, in_front_of};
use record::Bundle;
use record::content::{Disclosure, Given, disclose};
use serde_json::Value;

async fn node() -> (Node, Faulty) {
    let node = Node::new(MODEL, ORIGIN);
    let upstream = Faulty::node(MODEL, Script::Always(Fault::None), node.clone()).await;
    (node, upstream)
}

fn only(history: &Value) -> &Value {
    let endpoints = history["endpoints"].as_array().expect("endpoints");
    assert_eq!(endpoints.len(), 1, "{history:#}");
    &endpoints[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outside_api_is_told_nothing_and_a_node_what_it_needs() {
    let outside = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&outside]).await;
    gateway.post(chat(false)).await;
    assert!(
        !outside.requests()[0]
            .head
            .to_lowercase()
            .contains("longrun")
    );
    assert!(
        !outside.requests()[0]
            .head
            .to_lowercase()
            .contains("authorization")
    );
    let (_, joined) = node().await;
    let gateway = in_front_of(&[&joined]).await;
    gateway.post(chat(false)).await;
    let request = &joined.requests()[0];
    assert_eq!(request.header("x-longrun-secret").map(str::len), Some(64));
    assert_eq!(request.header("x-longrun-nonce").map(str::len), Some(32));
    assert_eq!(request.header("x-longrun-seq"), Some("1"));
    let key = gateway.recorder.identity().key_id().to_hex();
    assert_eq!(request.header("x-longrun-observer"), Some(key.as_str()));
}

/// The main road: call, 202, 200, bundles, openings, history; then the same history after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_becomes_evidence_that_opens_and_a_history_that_survives() {
    let log = Log::start().await;
    let (node, upstream) = node().await;
    log.takes(&node).await;
    let gateway = log.gateway(&[&upstream]).await;
    let (plain, streamed) = (
        gateway.post(chat(false)).await,
        gateway.post(chat(true)).await,
    );
    assert!(
        !streamed.text().contains("longrun.receipt"),
        "its own event stays in the gateway"
    );
    for (answer, request) in [(&plain, chat(false)), (&streamed, chat(true))] {
        let told = gateway.call(&answer.call()).await;
        assert_eq!(
            (&told["state"], &told["call"]),
            (&"published".into(), &answer.call().into())
        );
        let attempt = &told["attempts"][0];
        assert_eq!(attempt["receipt_check"], "verified", "{attempt:#}");
        let secret = attempt["secret"]
            .as_str()
            .expect("a secret")
            .parse()
            .expect("64 digits");
        let given = Given {
            secret: Some(&secret),
            request: Some(request.as_bytes()),
            response: Some(&answer.body),
            ..Given::default()
        };
        for kind in ["observation", "receipt"] {
            let bundle = Bundle::from_json(attempt["bundles"][kind].to_string().as_bytes());
            let record = bundle
                .expect("a bundle")
                .open()
                .expect("its signature holds");
            let parts = disclose(&record.statement, &given).expect("an exchange");
            let matched = parts
                .iter()
                .filter(|p| matches!(p.disclosure, Disclosure::Matches(_)));
            assert_eq!(matched.count(), 2, "{kind}: {parts:?}");
        }
    }
    let history = gateway
        .history_until(|h| only_calls(h) == 2 && joined(h) == 2)
        .await;
    let endpoint = only(&history);
    assert_eq!(
        (&endpoint["successes"], &endpoint["unilateral"]),
        (&2.into(), &false.into())
    );
    assert_eq!(
        (&endpoint["receipts"]["verified"], &endpoint["gaps"]),
        (&2.into(), &0.into())
    );
    assert_eq!(history["log"]["origin"], ORIGIN);
    let recent = gateway.status().await["recent"].clone();
    assert_eq!(
        (&recent[0]["record"], &recent[0]["receipt"]),
        (&"published".into(), &"verified".into())
    );

    let directory = gateway.stop().await;
    let again = Running::start_in(directory, log.config(&[&upstream]), Some(log.home())).await;
    let rebuilt = again
        .history_until(|h| h["records"] == history["records"])
        .await;
    assert_eq!(
        rebuilt["digest"], history["digest"],
        "rebuilt from the log, to the bit"
    );
    let next = again.post(chat(false)).await;
    assert_eq!(
        again.call(&next.call()).await["attempts"][0]["seq"],
        3,
        "numbers go on"
    );
}

fn only_calls(history: &Value) -> u64 {
    history["endpoints"][0]["calls"].as_u64().unwrap_or(0)
}

fn joined(history: &Value) -> u64 {
    history["endpoints"][0]["receipts"]["joined"]
        .as_u64()
        .unwrap_or(0)
}

/// One row per way in which a receipt can be wrong; the answer goes through in every case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_is_vouched_for_only_if_it_holds() {
    let (_, upstream) = node().await;
    let gateway = in_front_of(&[&upstream]).await;
    let rows = [
        (Flaw::None, "verified"),
        (Flaw::Missing, "missing"),
        (Flaw::BadSignature, "invalid"),
        (Flaw::OtherRequest, "invalid"),
        (Flaw::OtherResponse, "invalid"),
        (Flaw::OtherSeq, "invalid"),
        (Flaw::OtherUsage, "invalid"),
        (Flaw::Garbage, "invalid"),
        (Flaw::ForeignKey, "invalid"),
        (Flaw::UnknownManifest, "invalid"),
        (Flaw::Replayed, "invalid"),
    ];
    for (flaw, want) in rows {
        upstream.now(Script::Always(Fault::Receipt(flaw)));
        for streamed in [false, true] {
            let answer = gateway.post(chat(streamed)).await;
            assert_eq!(answer.status, 200, "{flaw:?}");
            let told = gateway.call(&answer.call()).await;
            let attempt = &told["attempts"][0];
            assert_eq!(
                attempt["outcome"], "ok",
                "{flaw:?}: the answer itself was good"
            );
            assert_eq!(
                attempt["receipt_check"], want,
                "{flaw:?} streamed {streamed}"
            );
            // A receipt that does not hold is not handed out as if it did.
            assert_eq!(
                attempt["envelopes"]["receipt"].is_null(),
                want != "verified",
                "{flaw:?}"
            );
        }
    }
    let history = gateway.history_until(|h| only_calls(h) == 22).await;
    let receipts = &only(&history)["receipts"];
    assert_eq!(
        (&receipts["verified"], &receipts["missing"]),
        (&2.into(), &2.into())
    );
    assert_eq!(receipts["invalid"], 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_manifest_is_asked_for_before_its_receipt_is_called_invalid() {
    let (node, upstream) = node().await;
    let gateway = in_front_of(&[&upstream]).await;
    node.publish_manifest("q4_0");
    let answer = gateway.post(chat(false)).await;
    let told = gateway.call(&answer.call()).await;
    assert_eq!(told["attempts"][0]["receipt_check"], "verified", "{told:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_of_a_failed_answer_is_checked_too() {
    let (_node, upstream) = node().await;
    let gateway = in_front_of(&[&upstream]).await;
    upstream.now(Script::Always(Fault::Status(503)));
    let answer = gateway.post(chat(false)).await;
    let told = gateway.call(&answer.call()).await;
    let attempt = &told["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["receipt_check"]),
        (&"capacity".into(), &"verified".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_the_one_expected_is_not_used() {
    let (_, upstream) = node().await;
    let mut config = config();
    let mut pinned = endpoint(&upstream);
    pinned.provider = Some("0".repeat(64));
    config.endpoints = vec![pinned];
    let gateway = Running::start(config, None).await;
    let status = gateway.status().await;
    assert_eq!(status["endpoints"][0]["state"], "refused", "{status:#}");
    let why = status["endpoints"][0]["why"].as_str().expect("a reason");
    assert!(why.contains(&"0".repeat(64)), "{why}");
    assert_eq!(gateway.post(chat(false)).await.status, 404);
    assert_eq!(upstream.requests().len(), 0, "nothing was sent there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_do_not_wait_for_a_log_that_is_away() {
    let log = Log::start().await;
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let (config, home) = (log.config(&[&upstream]), log.home());
    let (directory, address) = log.stop().await;
    let gateway = Running::start(config, Some(home)).await;
    let begun = Instant::now();
    let answer = gateway.post(chat(false)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(answer.json()["longrun"]["evidence"], "recorded");
    let pending = gateway
        .get(&format!("/longrun/v1/calls/{}", answer.call()))
        .await;
    assert_eq!(
        (pending.status, &pending.json()["state"]),
        (202, &"pending".into())
    );
    // The log is asked beside the answers, so its trouble may be known a little later.
    let begun = Instant::now();
    loop {
        let status = gateway.status().await;
        if status["log"]["error"].is_string() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _log = Log::start_in(directory, address).await;
    let told = gateway.call(&answer.call()).await;
    assert_eq!(told["state"], "published");
    let history = gateway.history_until(|h| only_calls(h) == 1).await;
    assert!(only(&history)["unilateral"].as_bool().expect("a flag"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_is_said_and_answers_go_on() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let log = Log::start().await;
    let (mut config, home) = (log.config(&[&upstream]), log.home());
    config.spool.records_max = 6;
    log.stop().await;
    let gateway = Running::start(config, Some(home)).await;
    let mut evidence = Vec::new();
    let mut last = String::new();
    for _ in 0..12 {
        let answer = gateway.post(chat(false)).await;
        assert_eq!(answer.status, 200);
        evidence.push(
            answer.json()["longrun"]["evidence"]
                .as_str()
                .expect("a word")
                .to_owned(),
        );
        last = answer.call();
        // Nothing gets to the log, so none of these is settled; but each ends.
        let begun = Instant::now();
        while gateway
            .get(&format!("/longrun/v1/calls/{last}"))
            .await
            .json()["attempts"][0]
            .is_null()
        {
            assert!(begun.elapsed() < PATIENCE, "{last} does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(evidence[0], "recorded");
    assert_eq!(evidence[11], "unrecorded");
    let told = gateway.call(&last).await;
    assert_eq!(
        (&told["state"], &told["attempts"][0]["outcome"]),
        (&"unrecorded".into(), &"ok".into())
    );
    let status = gateway.status().await;
    assert!(
        status["spool"]["unrecorded"].as_u64() >= Some(6),
        "{status:#}"
    );
}

/// The record steers: an endpoint that fails now and then loses its traffic to one that does not,
/// and keeps being tried a little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_loses_traffic_because_of_its_record() {
    let log = Log::start().await;
    let flaky = Script::Seeded {
        seed: 5,
        share_ppm: 400_000,
    };
    let bad = Faulty::api(MODEL, flaky).await;
    let good = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = log.config(&[&bad, &good]);
    config.routing.exploration_ppm = 50_000;
    config.routing.seed = 11;
    let gateway = Running::start(config, Some(log.home())).await;
    for round in 0..6 {
        for _ in 0..20 {
            let answer = gateway.post(chat(round % 2 == 0)).await;
            assert!(answer.status == 200 || answer.status >= 400);
        }
        let attempts = bad.requests().len() + good.requests().len();
        let want = u64::try_from(attempts).expect("few");
        gateway.history_until(|h| total_calls(h) == want).await;
    }
    let before = (bad.requests().len(), good.requests().len());
    for _ in 0..60 {
        gateway.post(chat(false)).await;
    }
    let late = (
        bad.requests().len() - before.0,
        good.requests().len() - before.1,
    );
    assert!(
        late.0 * 4 < late.1,
        "of the last 60 calls the bad one got {} first",
        late.0
    );
    let history = gateway.history().await;
    let lower = |upstream: &Faulty| {
        let endpoints = history["endpoints"].as_array().expect("endpoints");
        let found = endpoints
            .iter()
            .find(|e| e["provider"] == upstream.origin().as_str());
        found.expect("its history")["lower_ppm"]
            .as_u64()
            .expect("a number")
    };
    assert!(lower(&bad) < lower(&good), "{history:#}");
}

fn total_calls(history: &Value) -> u64 {
    let endpoints = history["endpoints"].as_array().expect("endpoints");
    endpoints
        .iter()
        .map(|e| e["calls"].as_u64().unwrap_or(0))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_log_the_history_comes_from_the_spool_and_survives_too() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    for _ in 0..5 {
        gateway.post(chat(false)).await;
    }
    let history = gateway.history_until(|h| only_calls(h) == 5).await;
    assert!(history["log"].is_null());
    let directory = gateway.stop().await;
    let mut config = config();
    config.endpoints = vec![endpoint(&upstream)];
    let again = Running::start_in(directory, config, None).await;
    let rebuilt = again.history_until(|h| only_calls(h) == 5).await;
    assert_eq!(rebuilt["digest"], history["digest"]);
}

/// A log whose checkpoint does not fit its entries is not believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_goes_back_is_not_followed() {
    let log = Log::start().await;
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = log.gateway(&[&upstream]).await;
    gateway.post(chat(false)).await;
    let history = gateway.history_until(|h| only_calls(h) == 1).await;
    // The same key and address, and an empty tree: a log restored from nothing.
    let (directory, address) = log.stop().await;
    let fresh = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(fresh.path().join("log")).expect("made");
    for file in ["log.key", "read.token", "VERSION"] {
        let from = directory.path().join("log").join(file);
        std::fs::copy(from, fresh.path().join("log").join(file)).expect("copied");
    }
    let restored = Log::start_in(fresh, address).await;
    let begun = Instant::now();
    loop {
        let status = gateway.status().await;
        let said = status["log"]["error"].as_str().unwrap_or("").to_owned();
        if said.contains("contradicts itself") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        gateway.history().await["digest"],
        history["digest"],
        "what was known stays"
    );
    drop(restored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marked_answer_opens_with_the_members_taken_out() {
    let (_node, upstream) = node().await;
    let gateway = in_front_of(&[&upstream]).await;
    let answer = gateway.post(chat(false)).await;
    let unmarked = record::content::without_longrun_member(&answer.body).expect("it is marked");
    assert_eq!(unmarked, plain_answer(MODEL));
}
