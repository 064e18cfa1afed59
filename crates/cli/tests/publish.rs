//! What a gateway keeps to itself, publishes, and hands back.

mod support;

use serde_json::Value;
use support::{Http, Server, chat, demo_model, run, text};

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out
}

#[test]
fn records_are_private_until_their_signer_says_otherwise_and_nodes_get_their_half() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut log = Server::start(&[
        "log",
        "serve",
        "--open",
        "--dir",
        &path("log"),
        "--listen",
        "127.0.0.1:0",
    ]);
    let log_url = log.url("log");
    let mut node = Server::start(&[
        "node",
        "--model",
        &demo_model().display().to_string(),
        "--model-name",
        "longrun-demo",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        &path("node"),
        "--log",
        &log_url,
    ]);
    let node_url = node.url("node");
    let config = |publish: &str| {
        let text = format!(
            "publish = \"{publish}\"\nhand_back = true\n[log]\nurl = \"{log_url}\"\n\
             read_token_file = \"log/read.token\"\n[[endpoint]]\nurl = \"{node_url}\"\n"
        );
        std::fs::write(dir.path().join("longrun.toml"), text).expect("written");
    };
    config("none");
    let mut gateway = Server::start(&[
        "gateway",
        "--config",
        &path("longrun.toml"),
        "--dir",
        &path("gateway"),
        "--listen",
        "127.0.0.1:0",
    ]);
    let url = gateway.url("gateway");
    let http = Http::default();
    let answer = http.post(
        &format!("{url}/v1/chat/completions"),
        chat("What is 3 + 4?"),
    );
    assert_eq!(answer.status, 200);
    // The node's half for a caller that keeps nothing.
    let alone = http.post(
        &format!("{node_url}/chat/completions"),
        chat("What is 1 + 1?"),
    );
    assert_eq!(alone.status, 200);
    http.until(&format!("{url}/longrun/v1/history"), |it| {
        it.json()["endpoints"][0]["calls"] == 1
    });

    // Strangers see that there are records, and none of what they say.
    let calls = || {
        let shown = printed(&[
            "history",
            "show",
            "--log",
            &log_url,
            "--published",
            "--json",
        ]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        shown["endpoints"][0]["calls"].as_u64().unwrap_or(0)
    };
    assert_eq!(calls(), 0);
    let (gateway_dir, token) = (path("gateway"), path("log/read.token"));
    let dry = [
        "publish",
        "--dry-run",
        "--dir",
        &gateway_dir,
        "--read-token",
        &token,
    ];
    let shown = printed(&dry);
    assert!(
        shown.contains("1 observation:v1, the last of them whole"),
        "{shown}"
    );
    assert!(shown.contains("\"receipt_check\": \"verified\""), "{shown}");
    let all = printed(&[&dry[..], &["--all"]].concat());
    let observations = all
        .lines()
        .filter(|it| it.contains("urn:longrun:observation"));
    assert_eq!(observations.count(), 1, "{all}");
    assert_eq!(calls(), 0, "a dry run changes nothing");

    config("records");
    let hangup = std::process::Command::new("kill")
        .args(["-HUP", &gateway.id().to_string()])
        .status();
    assert!(hangup.expect("kill is there").success());
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while calls() == 0 {
        assert!(std::time::Instant::now() < deadline, "it stayed private");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    printed(&["publish", "none", "--dir", &gateway_dir]);
    assert_eq!(calls(), 0);

    // The node has what the gateway saw, and knows which receipt nobody answered for.
    let handed = dir.path().join("node/observations.jsonl");
    while std::fs::read_to_string(&handed)
        .unwrap_or_default()
        .is_empty()
    {
        assert!(
            std::time::Instant::now() < deadline,
            "nothing was handed back"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let stranger = std::fs::read_to_string(&handed).expect("read");
    let again = http.post(
        &format!(
            "{}/longrun/v1/observations",
            node_url.trim_end_matches("/v1")
        ),
        stranger,
    );
    assert_eq!(
        again.json()["kept"],
        1,
        "what it has already it takes again"
    );
    assert!(node.interrupt().success());
    let (node_dir, out) = (path("node"), path("halves.jsonl"));
    let told = printed(&["provider", "receipts", "--dir", &node_dir, "--out", &out]);
    assert!(
        told.contains("receipts  2\nmatched   1\nunmatched 1\n"),
        "{told}"
    );
    let halves = std::fs::read_to_string(&out).expect("written");
    // Two control records, two receipts, an observation.
    assert_eq!(halves.lines().count(), 5, "{halves}");
}
