//! The page and the gateway speak of the same things: every field that the script reads is in the
//! answers that it asks for.

use std::collections::BTreeSet;

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, config, endpoint, in_front_of};
use gateway::config::{ImportedConfig, NetworkConfig};
use serde_json::Value;

/// The names behind `variable.` in a script, methods left out.
fn fields<'a>(script: &'a str, variable: &str) -> BTreeSet<&'a str> {
    let dotted = format!("{variable}.");
    let mut found = BTreeSet::new();
    for (at, _) in script.match_indices(&dotted) {
        let before = script[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '.' || before == '_' {
            continue;
        }
        let rest = &script[at + dotted.len()..];
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if !rest[end..].starts_with('(') {
            found.insert(&rest[..end]);
        }
    }
    found
}

pub(crate) fn check(script: &str, variable: &str, value: &Value) {
    let read = fields(script, variable);
    assert!(!read.is_empty(), "the script reads {variable}");
    for name in read {
        assert!(
            value.get(name).is_some(),
            "{variable}.{name} is not in {value:#}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_reads_what_the_gateway_says() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    gateway.post(chat(true)).await;
    let history = gateway
        .history_until(|h| !h["endpoints"][0]["calls"].is_null())
        .await;
    let status = gateway.status().await;
    let (_, script) = include_str!("../../../web/src/assets/page.js")
        .split_once("\"use strict\";")
        .expect("the script is strict");
    check(script, "status", &status);
    check(script, "history", &history);
    check(script, "endpoint", &status["endpoints"][0]);
    check(script, "attempt", &status["recent"][0]);
    check(script, "known", &history["endpoints"][0]);
    check(script, "past", &history["endpoints"][0]);
    for name in fields(script, "known.receipts") {
        assert!(
            history["endpoints"][0]["receipts"].get(name).is_some(),
            "receipts.{name}"
        );
    }
    for name in fields(script, "status.spool") {
        assert!(status["spool"].get(name).is_some(), "spool.{name}");
    }
    // Without a log the field is there and null.
    assert!(status["log"].is_null());
}

/// The same for models and providers, networks, and what others saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_beside_the_endpoints_is_what_the_gateway_says() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let (mut config, files) = (config(), tempfile::tempdir().expect("a directory"));
    config.endpoints = vec![endpoint(&upstream)];
    // A network that nobody reaches, and nobody's evidence.
    let log = "http://127.0.0.1:9".parse().expect("a URL");
    config.networks = vec![NetworkConfig::of(log)];
    config.imported = Some(ImportedConfig {
        dir: files.path().join("imported"),
        policy_file: files.path().join("policy"),
    });
    let gateway = Running::start(config, None).await;
    gateway.post(chat(true)).await;
    let history = gateway
        .history_until(|h| h["endpoints"][0]["calls"] == 1)
        .await;
    let status = gateway.status().await;
    let merged = gateway.get("/longrun/v1/history/merged").await.json();
    let (_, script) = include_str!("../../../web/src/assets/others.js")
        .split_once("\"use strict\";")
        .expect("the script is strict");
    check(script, "history", &history);
    check(script, "status", &status);
    check(script, "merged", &merged);
    check(script, "imported", &history["imported"]);
    check(script, "network", &status["networks"][0]);
    let group = &history["models"][0];
    check(script, "group", group);
    for dimension in group["dimensions"].as_array().expect("dimensions") {
        check(script, "dimension", dimension);
    }
}

/// The same for the plots of what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plots_read_what_the_gateway_says() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    gateway.post(chat(true)).await;
    gateway
        .history_until(|h| h["endpoints"][0]["calls"] == 1)
        .await;
    let account = gateway
        .get("/longrun/v1/account?since_s=86400")
        .await
        .json();
    let (_, script) = include_str!("../../../web/src/assets/living.js")
        .split_once("\"use strict\";")
        .expect("the script is strict");
    check(script, "account", &account);
    for name in ["since_ms", "now_ms", "bin_ms"] {
        assert!(account[name].is_u64(), "{name} in {account:#}");
    }
    let endpoint = &account["endpoints"][0];
    check(script, "endpoint", endpoint);
    for dimension in endpoint["dimensions"].as_array().expect("dimensions") {
        check(script, "dimension", dimension);
        assert!(dimension["detector"]["alarms"].is_u64() && dimension["epoch"]["number"].is_u64());
        assert!(dimension["verdicts"].is_array(), "{dimension:#}");
    }
    let bins = endpoint["bins"].as_array().expect("bins");
    let bin = bins.iter().find(|bin| !bin["interval_ppm"].is_null());
    check(script, "bin", bin.expect("one with a call"));
    for times in ["first_token", "total"] {
        check(script, "times", &endpoint[times]);
        assert!(endpoint[times]["buckets"][0][1].is_u64(), "{endpoint:#}");
    }
    let objective = &endpoint["objectives"][0];
    for name in [
        "objective",
        "target_ppm",
        "budget_left_thousandths",
        "alarms",
    ] {
        assert!(
            objective.get(name).is_some(),
            "objective.{name} in {objective:#}"
        );
    }
    check(script, "forecast", &endpoint["forecasts"][0]);
    let window = &endpoint["forecasts"][0]["windows"][0];
    for name in ["length", "ended", "scores"] {
        assert!(!window[name].is_null(), "{name} in {window:#}");
    }
    let predictability = &window["scores"]["predictability"];
    assert!(predictability["covered"].is_u64() && predictability["ended"].is_u64());
    assert!(predictability.get("mean_width_ppm").is_some());
    let status = gateway.status().await;
    check(script, "status", &status);
}
