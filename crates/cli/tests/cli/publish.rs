//! What a gateway keeps to itself, publishes, and hands back.

use crate::support::{Http, Place, chat, printed, run, text};
use serde_json::Value;

#[test]
fn records_are_private_until_their_signer_says_otherwise_and_nodes_get_their_half() {
    let place = Place::default();
    let path = |name: &str| place.path(name);
    let mut log = place.log("log");
    let log_url = log.url("log");
    let mut node = place.node("node", &["--log", &log_url]);
    let node_url = node.url("node");
    let config = |publish: &str| {
        format!(
            "publish = \"{publish}\"\nhand_back = true\n[log]\nurl = \"{log_url}\"\n\
             read_token_file = \"log/read.token\"\n[[endpoint]]\nurl = \"{node_url}\"\n"
        )
    };
    let mut gateway = place.gateway(&config("none"));
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

    place.write("longrun.toml", &config("records"));
    gateway.signal("HUP");
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while calls() == 0 {
        assert!(std::time::Instant::now() < deadline, "it stayed private");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    printed(&["publish", "none", "--dir", &gateway_dir]);
    assert_eq!(calls(), 0);

    // The node has what the gateway saw, and knows which receipt nobody answered for.
    let handed = place.path("node/observations.jsonl");
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

    // Whoever has the file, and a policy from elsewhere, folds both halves into a history.
    let trust = path("trust");
    printed(&["trust", "export", "--log", &path("log"), "--out", &trust]);
    let policy = format!("{trust}/policy.json");
    let compute = ["history", "compute", &out, "--from", "receipts", "--json"];
    let computed = printed(&[&compute[..], &["--policy", &policy]].concat());
    let computed: Value = serde_json::from_str(&computed).expect("JSON");
    let endpoint = &computed["history"]["endpoints"][0];
    assert_eq!(
        (&computed["evidence"], &computed["strangers"]),
        (&"imported".into(), &0.into())
    );
    assert_eq!(
        (&endpoint["calls"], &endpoint["successes"]),
        (&1.into(), &1.into())
    );
    let receipts = &endpoint["receipts"];
    assert_eq!(
        (&receipts["logged"], &receipts["joined"]),
        (&2.into(), &1.into())
    );
    let alone: Value = serde_json::from_str(&printed(&compute)).expect("JSON");
    assert_eq!(alone["strangers"], 1, "{alone:#}");
    assert_eq!(
        alone["history"]["endpoints"][0]["calls"], 0,
        "the provider's word alone"
    );
    // A file names no observer: whoever writes it could put in a signer of his own.
    let known = std::fs::read_to_string(&policy).expect("written");
    let known: Value = serde_json::from_str(&known).expect("JSON");
    let controls = known["signers"].as_array().expect("signers").iter();
    let controls = controls.flat_map(|signer| signer["controls"].as_array().expect("controls"));
    let all: Vec<String> = controls.map(Value::to_string).collect();
    let stuffed = path("stuffed.jsonl");
    std::fs::write(&stuffed, format!("{}\n{halves}", all.join("\n"))).expect("written");
    let named = [
        "history", "compute", &stuffed, "--from", "receipts", "--json",
    ];
    let named: Value = serde_json::from_str(&printed(&named)).expect("JSON");
    let calls = &named["history"]["endpoints"][0]["calls"];
    assert_eq!((&named["strangers"], calls), (&1.into(), &0.into()));
    let verified = run(&["verify", &out, "--policy", &policy]);
    let told = text(&verified.stdout);
    assert!(
        told.contains("line 5") && !told.contains("INVALID"),
        "{told}"
    );
}

/// What a gateway shows strangers is what it said at the end of a stretch, and no single call.
#[test]
fn summaries_alone_are_shown_and_another_machine_verifies_them() {
    let place = Place::default();
    let path = |name: &str| place.path(name);
    let mut log = place.log("log");
    let log_url = log.url("log");
    let mut node = place.node("node", &["--log", &log_url]);
    let node_url = node.url("node");
    let config = format!(
        "publish = \"summaries\"\n[log]\nurl = \"{log_url}\"\n\
         read_token_file = \"log/read.token\"\n[[endpoint]]\nurl = \"{node_url}\"\n"
    );
    let mut gateway = place.gateway(&config);
    let (url, http) = (gateway.url("gateway"), Http::default());
    let done = |calls: u64| {
        http.until(&format!("{url}/longrun/v1/history"), |it| {
            it.json()["endpoints"][0]["calls"] == calls
        });
    };
    // Only whole bundles of 256 entries are summarised: an observation and a receipt each.
    for _ in 0..130 {
        let answer = http.post(
            &format!("{url}/v1/chat/completions"),
            chat("What is 1 + 1?"),
        );
        assert_eq!(answer.status, 200);
    }
    done(130);
    assert!(gateway.interrupt().success(), "it may not sign meanwhile");
    let (token, signer) = (path("log/read.token"), path("gateway"));
    let summarise = [
        "history",
        "summarise",
        "--log",
        &log_url,
        "--read-token",
        &token,
    ];
    let told = printed(&[&summarise[..], &["--signer", &signer]].concat());
    assert!(!told.contains("wrote     0 summaries"), "{told}");

    // Another machine has the log's URL, and a policy from its owner.
    let trust = path("trust");
    printed(&["trust", "export", "--log", &path("log"), "--out", &trust]);
    let (policy, file) = (format!("{trust}/policy.json"), path("stranger.history"));
    let published = ["--log", &log_url, "--published", "--json"];
    let shown = printed(&[&["history", "show"], &published[..]].concat());
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        shown["endpoints"],
        serde_json::json!([]),
        "no call is shown"
    );
    let export = [
        "history",
        "export",
        "--log",
        &log_url,
        "--published",
        "--out",
        &file,
    ];
    printed(&[&export[..], &["--summaries"]].concat());
    let told = printed(&["history", "verify", &file, "--policy", &policy, "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["verdict"], "valid", "{told:#}");
    let calls = told["summaries"][0]["calls"].as_u64().expect("a count");
    assert!((100..=130).contains(&calls), "{told:#}");

    printed(&["publish", "none", "--dir", &signer]);
    let refused = run(&[&export[..], &["--summaries"]].concat());
    let why = text(&refused.stderr);
    assert!(why.contains("has no summaries"), "{why}");
}
