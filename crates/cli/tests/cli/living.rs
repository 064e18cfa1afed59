//! The commands of a working day, each against the network that `longrun up` makes: a wrong path, field
//! or exit code shows here.

use crate::support::{Http, Place, chat, printed, run, text};
use serde_json::Value;

#[test]
fn every_command_that_asks_a_gateway_gets_its_answer() {
    let place = Place::default();
    let mut network = place.up("net");
    let gateway = network.url("gateway");
    let http = Http::default();
    let mut call = String::new();
    for _ in 0..3 {
        let answer = http.post(
            &format!("{gateway}/v1/chat/completions"),
            chat("What is 3 + 4?"),
        );
        assert_eq!(answer.status, 200);
        call = answer.header("x-longrun-call").to_owned();
    }
    let url = format!("{gateway}/longrun/v1/calls/{call}");
    http.until(&url, |answer| answer.status == 200);
    let history = format!("{gateway}/longrun/v1/history");
    let is_folded = |it: &Value| it["endpoints"][0]["calls"].as_u64() > Some(0);
    let known = http
        .until(&history, |answer| is_folded(&answer.json()))
        .json();
    let provider = known["endpoints"][0]["provider"].as_str().expect("an id");
    let asks = |words: &[&str]| printed(&[words, &["--gateway", &gateway]].concat());
    let json = |words: &[&str]| -> Value {
        let printed = asks(&[words, &["--json"]].concat());
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{words:?}: {error}: {printed}"))
    };

    let report = asks(&["report", "--since", "1h"]);
    assert!(report.contains("longrun-demo"), "{report}");
    assert!(json(&["report", "--since", "1h"])["account"]["endpoints"].is_array());
    let html = place.path("report.html");
    asks(&["report", "--since", "1h", "--html", &html]);
    let html = std::fs::read_to_string(&html).expect("written");
    assert!(
        html.contains("<svg") && !html.contains("<script"),
        "plots, and no script"
    );

    let top = asks(&["top"]);
    assert!(
        top.contains("honest") && top.contains("SERVED WELL"),
        "{top}"
    );
    let forecasts = asks(&["forecast", "show"]);
    assert!(forecasts.contains("longrun-demo"), "{forecasts}");
    let why = asks(&["route", "explain", &call]);
    assert!(why.starts_with("Asked first: "), "{why}");
    assert!(json(&["route", "explain", &call])["order"].is_array());
    let drill = asks(&["route", "drill", "--without", provider]);
    assert!(drill.contains("Answers there would be"), "{drill}");
    let log = place.path("net/log");
    assert!(printed(&["history", "show", "--log", &log]).contains("longrun-demo"));

    let nobody = run(&["route", "explain", &"0".repeat(32), "--gateway", &gateway]);
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody.stderr));
    let silent = run(&["report", "--gateway", "http://127.0.0.1:1"]);
    assert_ne!(silent.status.code(), Some(0));
    assert!(
        text(&silent.stderr).contains("127.0.0.1:1"),
        "names the culprit"
    );
}

#[test]
fn checks_are_added_run_and_told() {
    let place = Place::default();
    let mut network = place.up("net");
    let gateway = network.url("gateway");
    place.write(
        "cases.jsonl",
        r#"{"name":"sum","model":"longrun-demo","prompt":"What is 3 + 4?","assert":[{"type":"contains","value":"7"}]}"#,
    );
    let dir = place.path("net/gateway");
    let cases = place.path("cases.jsonl");
    printed(&["check", "add", &cases, "--dir", &dir]);
    assert!(printed(&["check", "list", "--dir", &dir]).contains("sum"));
    let http = Http::default();
    let url = format!("{gateway}/longrun/v1/checks");
    http.until(&url, |answer| text(&answer.body).contains("\"sum\""));
    let ran = printed(&["check", "run", "--gateway", &gateway]);
    assert!(ran.contains("sum"), "{ran}");
    let status = printed(&["check", "status", "--gateway", &gateway, "--json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert!(status.to_string().contains("sum"), "{status:#}");
    printed(&["check", "remove", "sum", "--dir", &dir]);
    assert!(!printed(&["check", "list", "--dir", &dir]).contains("sum"));
}

#[test]
fn a_configuration_of_litellm_becomes_one_that_a_gateway_reads() {
    let place = Place::default();
    place.write(
        "config.yaml",
        "model_list:\n  - model_name: fast\n    litellm_params:\n      model: openai/gpt-x\n      \
         api_base: http://127.0.0.1:9/v1\n      api_key: os.environ/SOME_KEY\n",
    );
    let (from, out) = (place.path("config.yaml"), place.path("longrun.toml"));
    let imported = run(&["import", "litellm", &from, "--out", &out]);
    assert_eq!(
        imported.status.code(),
        Some(0),
        "{}",
        text(&imported.stderr)
    );
    let toml = std::fs::read_to_string(&out).expect("written");
    assert!(
        toml.contains("http://127.0.0.1:9/v1") && toml.contains("SOME_KEY"),
        "{toml}"
    );
    assert!(toml.contains("fast"), "{toml}");
}
