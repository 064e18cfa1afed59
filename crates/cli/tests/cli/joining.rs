//! A node that nobody configured: it joins, is found, is tried, and leaves.

use crate::support::{Http, Place, chat};
use serde_json::Value;

fn network(status: &Value) -> &Value {
    &status["networks"][0]
}

#[test]
fn a_node_joins_is_tried_and_leaves_and_nobody_configured_it() {
    let place = Place::default();
    let mut up = place.up("up");
    let (gateway, log) = (up.url("gateway"), up.url("log"));
    let model = up.word("longrun node --model", &place.path("up"));
    assert!(std::path::Path::new(&model).is_file(), "{model}");
    let http = Http::default();
    let mut node = place.node("node", &["--join", &log]);
    let url = node.url("address");
    assert_eq!(node.url("reached"), url, "it asked its own address");
    let about = http.until(&format!("{url}/longrun/v1/node"), |it| it.status == 200);
    let provider = about.json()["provider"].as_str().expect("an id").to_owned();
    let status_url = format!("{gateway}/longrun/v1/status");
    http.until(&status_url, |it| network(&it.json())["trying"] == 1);

    // The first call that could be a trial is one; the next are not for a while.
    let ask = || {
        http.post(
            &format!("{gateway}/v1/chat/completions"),
            chat("What is 3 + 4?"),
        )
    };
    let asked: Vec<String> = (0..5)
        .map(|_| ask().header("x-longrun-endpoint").to_owned())
        .collect();
    let there = format!("{provider}/longrun-demo");
    assert_eq!(asked[0], there);
    assert!(!asked[1..].contains(&there), "{asked:?}");

    assert!(
        node.interrupt().success(),
        "it withdraws and stops in order"
    );
    let gone = http.until(&status_url, |it| network(&it.json())["trying"] == 0);
    let network = network(&gone.json()).clone();
    assert_eq!(
        (&network["dropped"], &network["error"]),
        (&0.into(), &Value::Null)
    );
    assert!(up.interrupt().success());
}
