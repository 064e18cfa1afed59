//! Checks at work: asked through the path of every call, judged, within their budget.

use std::path::Path;

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, PATIENCE, Running, config, endpoint};
use gateway::checks::{self, Checks};
use serde_json::Value;

async fn with_checks(upstream: &Faulty, lines: &str, calls_per_day: u64) -> Running {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join(checks::FILE);
    let mut checks = Checks::default();
    let cases = checks::read(Path::new("cases.jsonl"), lines, Some(MODEL)).expect("cases");
    checks.add(cases).expect("few");
    checks.budget.calls_per_day = calls_per_day;
    std::fs::write(&file, checks.to_text()).expect("written");
    let mut config = config();
    config.endpoints = vec![endpoint(upstream)];
    config.checks_file = Some(file);
    Running::start_in(directory, config, None).await
}

async fn told_until(gateway: &Running, done: impl Fn(&Value) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let told = gateway.get("/longrun/v1/checks").await.json();
        if done(&told) {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "{told:#}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn checks_are_asked_judged_and_told_apart() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let lines = r#"{"name":"any","prompt":"p","assert":[{"type":"regex","value":"."},{"type":"agreement","repeats":3}]}
{"name":"impossible","prompt":"p","assert":[{"type":"equals","value":"what nobody says"}]}
{"name":"elsewhere","model":"unheard-of","prompt":"p","assert":[{"type":"is-json"}]}"#;
    let gateway = with_checks(&upstream, lines, 100).await;
    let history = gateway
        .history_until(|history| {
            let judged = &history["endpoints"][0]["judgements"];
            judged["checked"] == 4 && judged["batches"] == 1
        })
        .await;
    let about = &history["endpoints"][0];
    assert_eq!((&about["calls"], &about["checks"]), (&4.into(), &4.into()));
    assert_eq!(about["judgements"]["checked_wrong"], 1);
    assert_eq!(about["judgements"]["agreement_ppm"], 1_000_000);
    assert_eq!(about["judgements"]["orphans"], 0);
    let told = told_until(&gateway, |told| {
        told["results"].as_array().is_some_and(|it| it.len() == 2)
    })
    .await;
    assert_eq!(told["unserved"][0], "elsewhere: unheard-of");
    let result = |name: &str| {
        let all = told["results"].as_array().expect("results");
        all.iter()
            .find(|it| it["case"] == name)
            .expect(name)
            .clone()
    };
    assert_eq!(result("any")["passed"], true);
    assert_eq!(result("any")["groups"], serde_json::json!([3]));
    assert_eq!(result("impossible")["failed"][0]["type"], "equals");
    gateway.stop().await;
}

#[tokio::test]
async fn a_run_by_hand_stays_within_the_budget() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let line = r#"{"name":"any","prompt":"p","assert":[{"type":"regex","value":"."}]}"#;
    let gateway = with_checks(&upstream, line, 2).await;
    let spent = |told: &Value| told["endpoints"][0]["calls_today"].as_u64();
    told_until(&gateway, |told| spent(told) == Some(1)).await;
    for calls in [2, 2] {
        let answer = gateway.post_to("/longrun/v1/checks/run", "", &[]).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let told = told_until(&gateway, |told| told["waiting"] == 0).await;
        assert_eq!(spent(&told), Some(calls));
    }
    let told = gateway.get("/longrun/v1/checks").await.json();
    assert!(
        told["results"][0]["why"]
            .as_str()
            .is_some_and(|why| why.contains("budget")),
        "{told:#}"
    );
    assert_eq!(upstream.requests().len(), 2);
    gateway.stop().await;
}
