//! A node that nobody can connect to over TCP: its offer names its key alone, and a gateway that may
//! dial by key finds it, checks it, asks it.

use std::time::{Duration, Instant};

use crate::support::{Answer, Http, PATIENCE, Place, Server, chat, network_of, run, text};
use serde_json::Value;

fn provider_of(status: &Value) -> Option<String> {
    status["endpoints"][0]["provider"]
        .as_str()
        .map(str::to_owned)
}

fn streamed() -> String {
    let mut request: Value = serde_json::from_str(&chat("Repeat: red blue")).expect("JSON");
    request["stream"] = true.into();
    request.to_string()
}

/// Waits until the records of a call hold a receipt of the node that verifies.
fn has_receipt(http: &Http, gateway: &str, answer: &Answer) {
    let call = answer.header("x-longrun-call");
    http.until(&format!("{gateway}/longrun/v1/calls/{call}"), |it| {
        let attempts = if it.status < 300 {
            it.json()["attempts"].clone()
        } else {
            Value::Null
        };
        let last = attempts.as_array().and_then(|all| all.last());
        last.is_some_and(|it| it["receipt_check"] == "verified")
    });
}

#[test]
fn a_node_is_found_and_asked_by_its_key_alone() {
    let place = Place::default();
    let mut log = place.log("log");
    let log_url = log.url("log");
    let joining = ["--join", &log_url, "--dial-udp", "127.0.0.1:0"];
    let mut node = place.node("node", &joining);
    let by_key = node.word("address", "iroh://");
    assert!(by_key.contains("?direct=127.0.0.1:"), "{by_key}");
    let key_url = format!("{}/v1", by_key.split('?').next().expect("a key"));

    // Off unless it is asked for: the offer is seen, and of no use.
    let http = Http::default();
    let network = network_of(&log_url);
    let mut gateway = place.gateway(&network);
    let url = gateway.url("gateway");
    let status_url = format!("{url}/longrun/v1/status");
    let seen = http.until(&status_url, |it| it.json()["networks"][0]["dropped"] == 1);
    let why = seen.json()["networks"][0]["refused"][0]["why"].clone();
    assert!(
        why.as_str().is_some_and(|it| it.contains("dial_by_key")),
        "{why}"
    );
    assert!(gateway.interrupt().success());

    let mut gateway = place.gateway(&format!("dial_by_key = true\n{network}"));
    let url = gateway.url("gateway");
    let status_url = format!("{url}/longrun/v1/status");
    let status = http
        .until(&status_url, |it| provider_of(&it.json()).is_some())
        .json();
    assert_eq!(status["endpoints"][0]["url"], key_url);
    let chat_url = format!("{url}/v1/chat/completions");
    let answer = http.post(&chat_url, chat("What is 3 + 4?"));
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    let provider = provider_of(&status).expect("seen above");
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{provider}/longrun-demo")
    );
    has_receipt(&http, &url, &answer);
    let answer = http.post(&chat_url, streamed());
    assert!(
        text(&answer.body).ends_with("data: [DONE]\n\n"),
        "{}",
        text(&answer.body)
    );
    has_receipt(&http, &url, &answer);

    assert!(
        node.interrupt().success(),
        "it withdraws and stops in order"
    );
    assert!(gateway.interrupt().success());
    assert!(log.interrupt().success());
}

#[test]
fn a_node_that_was_killed_is_found_again_and_another_key_is_not() {
    let place = Place::default();
    let mut relay = Server::start(&["relay", "--listen", "127.0.0.1:0"]);
    let relay_url = relay.url("relay");
    let ways = ["--dial-relay", relay_url.as_str()];
    let mut node = place.node("node", &ways);
    let by_key = node.word("by key", "iroh://");
    let mut other = place.node("other", &ways);
    let gone = other.word("by key", "iroh://");
    assert!(other.interrupt().success());
    let endpoint = |url: &str| format!("[[endpoint]]\nurl = \"{url}\"\n");
    // The first is asked once it is ready; nobody holds the key of the second any more.
    let mut gateway = place.gateway(&[endpoint(&by_key), endpoint(&gone)].concat());
    let url = gateway.url("gateway");
    let http = Http::default();
    let chat_url = format!("{url}/v1/chat/completions");
    let answered = || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = http.post(&chat_url, chat("What is 3 + 4?"));
            if answer.status == 200 {
                return answer;
            }
            assert!(Instant::now() < deadline, "{}", text(&answer.body));
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    has_receipt(&http, &url, &answered());
    node.kill();
    let mut node = place.node("node", &ways);
    assert_eq!(
        node.word("by key", "iroh://"),
        by_key,
        "its key is made from the same one"
    );
    has_receipt(&http, &url, &answered());
    let status = http.get(&format!("{url}/longrun/v1/status")).json();
    let silent = status["endpoints"].as_array().expect("two").iter();
    let silent: Vec<_> = silent.filter(|it| it["state"] != "ready").collect();
    assert_eq!(silent.len(), 1, "{status:#}");
    assert_eq!(
        silent[0]["url"],
        format!("{}/v1", gone.split('?').next().expect("a key"))
    );
    assert!(gateway.interrupt().success());
    assert!(node.interrupt().success());
    assert!(relay.interrupt().success());
}

#[test]
fn ways_that_lead_nowhere_are_refused_before_anything_starts() {
    let place = Place::default();
    let node = |more: &[&str]| {
        let dir = place.path("node");
        let model = crate::support::demo_model().display().to_string();
        let output = run(&[&["node", "--model", &model, "--dir", &dir][..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(!place.dir().join("node").exists(), "nothing was made");
        text(&output.stderr)
    };
    for (more, culprit) in [
        (&["--dial-relay", "relay.example.org"][..], "--dial-relay"),
        (
            &["--dial-relay", "https://relay.example.org/x"],
            "--dial-relay",
        ),
        (&["--dial-udp", "0.0.0.0:7413"][..], "unspecified"),
    ] {
        let said = node(more);
        assert!(said.contains(culprit), "{said}");
    }
}
