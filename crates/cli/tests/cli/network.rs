//! The main job as its user lives it: `longrun up`, a call, its record, a stranger's check; a
//! killed process, a tampered file.

use std::path::Path;

use crate::support::{Http, Server, chat, longrun, printed, run, text};
use serde_json::{Value, json};

fn up(dir: &Path, more: &[&str]) -> Server {
    let dir = dir.to_str().expect("temporary paths are UTF-8");
    Server::start(
        &[
            &["up", "--dir", dir, "--listen", "127.0.0.1:0", "--seed", "7"],
            more,
        ]
        .concat(),
    )
}

/// Makes one call and waits until its records are published.
fn call(http: &Http, gateway: &str) -> (String, Value) {
    let answer = http.post(
        &format!("{gateway}/v1/chat/completions"),
        chat("What is 3 + 4?"),
    );
    let call = answer.header("x-longrun-call").to_owned();
    let url = format!("{gateway}/longrun/v1/calls/{call}");
    (call, http.until(&url, |answer| answer.status == 200).json())
}

fn outcome_counts(history: &Value) -> u64 {
    let endpoints = history["endpoints"].as_array().expect("endpoints");
    endpoints
        .iter()
        .map(|e| e["calls"].as_u64().expect("a count"))
        .sum()
}

#[test]
fn a_call_leaves_records_that_a_stranger_can_check() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut network = up(dir.path(), &["--no-traffic"]);
    let gateway = network.url("gateway");
    let http = Http::default();
    let (call, records) = call(&http, &gateway);
    assert_eq!(records["state"], "published");

    let out = dir.path().join("call");
    let out_text = out.to_str().expect("UTF-8");
    let fetched = run(&[
        "record",
        "fetch",
        &call,
        "--gateway",
        &gateway,
        "--out",
        out_text,
    ]);
    assert!(fetched.status.success(), "{}", text(&fetched.stderr));
    let bundle = out.join("attempt-1.observation.sigstore.json");
    let bundle = bundle.to_str().expect("UTF-8");
    let policy = dir.path().join("trust/policy.json");
    let policy = policy.to_str().expect("UTF-8");

    let verified = run(&["verify", bundle, "--policy", policy]);
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        text(&verified.stdout)
    );
    let untrusting = run(&["verify", bundle]);
    assert_eq!(
        untrusting.status.code(),
        Some(3),
        "{}",
        text(&untrusting.stdout)
    );
    let json = run(&["verify", bundle, "--policy", policy, "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["verdict"], "valid");

    // Its gateway's directory is enough to see what would be public: the log lies beside it.
    let directory = dir.path().join("gateway");
    let directory = directory.to_str().expect("UTF-8");
    let dry = printed(&["publish", "--dry-run", "--dir", directory]);
    assert!(dry.contains("1 observation:v1"), "{dry}");
    let log_url = network.url("log");
    let token = dir.path().join("log/read.token");
    let dry = [
        "publish",
        "--dry-run",
        "--dir",
        directory,
        "--log",
        &log_url,
    ];
    let by_url = [&dry[..], &["--read-token", token.to_str().expect("UTF-8")]].concat();
    assert!(printed(&by_url).contains("1 observation:v1"));

    let mut tampered: Value =
        serde_json::from_slice(&std::fs::read(bundle).expect("fetched")).expect("JSON");
    let payload = tampered["dsseEnvelope"]["payload"]
        .as_str()
        .expect("base64")
        .to_owned();
    // One bit of one character: still base64, another statement.
    let changed = payload.replacen('e', "f", 1);
    assert_ne!(payload, changed);
    tampered["dsseEnvelope"]["payload"] = changed.into();
    let path = dir.path().join("tampered.json");
    std::fs::write(&path, tampered.to_string()).expect("written");
    let path = path.to_str().expect("UTF-8");
    let refused = run(&["verify", path, "--policy", policy]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));

    // Many records in one file, a line each: every one is checked.
    let one: Value =
        serde_json::from_slice(&std::fs::read(bundle).expect("fetched")).expect("JSON");
    let lines = dir.path().join("lines.jsonl");
    let path = lines.to_str().expect("UTF-8");
    std::fs::write(&lines, format!("{one}\n\n{one}\n")).expect("written");
    let verified = run(&["verify", path, "--policy", policy]);
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        text(&verified.stdout)
    );
    assert!(text(&verified.stdout).contains("lines.jsonl, line 3"));
    std::fs::write(&lines, format!("{one}\n{tampered}\n")).expect("written");
    let refused = run(&["verify", path, "--policy", policy]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));

    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, b"\x00\xffnot a record").expect("written");
    let garbage = garbage.to_str().expect("UTF-8");
    assert_eq!(
        run(&["verify", garbage, "--policy", policy]).status.code(),
        Some(2)
    );
    assert!(network.interrupt().success(), "Ctrl-C stops it cleanly");
}

#[test]
fn what_was_asked_and_answered_opens_the_commitments() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut network = up(dir.path(), &["--no-traffic"]);
    let gateway = network.url("gateway");
    let http = Http::default();
    for stream in [false, true] {
        let mut request: Value = serde_json::from_str(&chat("Repeat: red blue")).expect("JSON");
        request["stream"] = stream.into();
        let request = request.to_string();
        // The flaky node may cut a stream; the next call goes elsewhere.
        let answer = (0..10)
            .map(|_| http.post(&format!("{gateway}/v1/chat/completions"), request.clone()))
            .find(|a| a.status == 200 && !text(&a.body).contains("\"error\""))
            .expect("one of ten calls is answered");
        let call = answer.header("x-longrun-call").to_owned();
        let out = dir.path().join(format!("call-{stream}"));
        let out_text = out.to_str().expect("UTF-8");
        let fetched = run(&[
            "record",
            "fetch",
            &call,
            "--gateway",
            &gateway,
            "--out",
            out_text,
        ]);
        assert!(fetched.status.success(), "{}", text(&fetched.stderr));
        let file = |name: &str| out.join(name).to_str().expect("UTF-8").to_owned();
        let last = (1..)
            .take_while(|n| Path::new(&file(&format!("attempt-{n}.secret"))).exists())
            .last()
            .expect("an attempt");
        std::fs::write(file("request"), &request).expect("written");
        std::fs::write(file("response"), &answer.body).expect("written");
        let disclose = |request: &str| {
            run(&[
                "record",
                "disclose",
                &file(&format!("attempt-{last}.receipt.sigstore.json")),
                "--secret",
                &file(&format!("attempt-{last}.secret")),
                "--request",
                request,
                "--response",
                &file("response"),
            ])
        };
        let opened = disclose(&file("request"));
        assert_eq!(opened.status.code(), Some(0), "{}", text(&opened.stdout));
        std::fs::write(file("other"), chat("Repeat: red green")).expect("written");
        assert_eq!(disclose(&file("other")).status.code(), Some(1));
    }
    a_prompt_is_scored_through_the_gateway(&http, &gateway);
}

/// What an auditor asks: token ids in, log probabilities out, and a receipt that holds.
fn a_prompt_is_scored_through_the_gateway(http: &Http, gateway: &str) {
    let asked: Value = serde_json::from_str(&chat("x")).expect("JSON");
    let request = json!({"model": asked["model"], "prompt": [300, 301, 302], "echo": true,
        "logprobs": 1, "max_tokens": 0});
    let url = format!("{gateway}/v1/completions");
    let answer = (0..10)
        .map(|_| http.post(&url, request.to_string()))
        .find(|answer| answer.status == 200)
        .expect("one of ten calls is answered");
    let scores = answer.json()["choices"][0]["logprobs"]["token_logprobs"].clone();
    let scores: Vec<Option<f64>> = serde_json::from_value(scores).expect("three numbers");
    assert!(matches!(scores[..], [None, Some(second), Some(third)] if second < 0.0 && third < 0.0));
    let call = answer.header("x-longrun-call");
    let url = format!("{gateway}/longrun/v1/calls/{call}");
    let records = http.until(&url, |answer| answer.status == 200).json();
    let last = records["attempts"].as_array().and_then(|all| all.last());
    assert_eq!(last.expect("an attempt")["receipt_check"], "verified");
}

#[test]
fn a_killed_network_carries_on_and_accounts_for_every_number() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let http = Http::default();
    let mut published = Vec::new();
    let mut calls_before = 0;
    let mut report = Value::Null;
    for round in 0..3 {
        let mut network = up(dir.path(), &[]);
        let gateway = network.url("gateway");
        for earlier in &published {
            let url = format!("{gateway}/longrun/v1/calls/{earlier}");
            assert_eq!(
                http.get(&url).status,
                200,
                "round {round}: {earlier} is gone"
            );
        }
        published.push(call(&http, &gateway).0);
        let history = http
            .until(&format!("{gateway}/longrun/v1/history"), |answer| {
                answer.status == 200 && outcome_counts(&answer.json()) > calls_before
            })
            .json();
        calls_before = outcome_counts(&history);
        if round == 2 {
            // What the application is told to be recorded is, whatever comes next.
            let last = published.last().expect("just made");
            let url = format!("{gateway}/longrun/v1/calls/{last}/outcome");
            let told = http.post(&url, r#"{"correct":true,"note":"as it should be"}"#);
            network.kill();
            assert_eq!(told.status, 200, "{}", text(&told.body));
            report = told.json()["record"].clone();
            break;
        }
        // In the middle of traffic: a call is under way as the process dies.
        let url = format!("{gateway}/v1/chat/completions");
        let (send, done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = Http::default().try_post(&url, chat("Repeat: stone river lamp"));
            let _ = send.send(());
        });
        std::thread::sleep(std::time::Duration::from_millis(15 * (round + 1)));
        network.kill();
        let _ = done.recv_timeout(crate::support::PATIENCE);
    }

    let mut network = up(dir.path(), &["--no-traffic"]);
    let gateway = network.url("gateway");
    let last = published.last().expect("three calls");
    let url = format!("{gateway}/longrun/v1/calls/{last}");
    let judged = http.get(&url).json()["judgements"][0].clone();
    assert!(report.is_string() && judged["record"] == report, "{judged}");
    assert_eq!(judged["note"], "as it should be");
    let history = http
        .until(&format!("{gateway}/longrun/v1/history"), |answer| {
            answer.status == 200
                && answer.json()["endpoints"]
                    .as_array()
                    .is_some_and(|endpoints| {
                        !endpoints.is_empty()
                            && endpoints
                                .iter()
                                .all(|e| e["gaps"] == 0 && e["receipt_gaps"] == 0)
                    })
        })
        .json();
    let endpoints = history["endpoints"].as_array().expect("endpoints");
    assert!(
        endpoints
            .iter()
            .all(|e| e["equivocations"] == 0 && e["contradictions"] == 0)
    );
    assert!(network.interrupt().success());

    let log = dir.path().join("log");
    let log = log.to_str().expect("UTF-8");
    let fsck = run(&["log", "fsck", log]);
    assert_eq!(
        fsck.status.code(),
        Some(0),
        "{}{}",
        text(&fsck.stdout),
        text(&fsck.stderr)
    );
    let shown = run(&["history", "show", "--log", log, "--json"]);
    let again = run(&["history", "show", "--log", log, "--json"]);
    assert_eq!(shown.stdout, again.stdout, "one log, one history");
}

#[test]
fn a_failing_node_loses_traffic() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut network = up(dir.path(), &["--no-traffic"]);
    let gateway = network.url("gateway");
    let http = Http::default();
    // Every endpoint gets 20 calls before it is judged, and later a share of the 5 % that explore.
    let calls = 240;
    for _ in 0..calls {
        http.post(
            &format!("{gateway}/v1/chat/completions"),
            chat("What is 1 + 1?"),
        );
    }
    let history = http
        .until(&format!("{gateway}/longrun/v1/history"), |answer| {
            answer.status == 200 && outcome_counts(&answer.json()) >= calls
        })
        .json();
    let mut shares: Vec<(u64, u64)> = history["endpoints"]
        .as_array()
        .expect("endpoints")
        .iter()
        .map(|e| {
            (
                e["failures"].as_u64().expect("a count"),
                e["calls"].as_u64().expect("a count"),
            )
        })
        .collect();
    shares.sort_unstable();
    assert_eq!(shares.len(), 3, "{history:#}");
    let (failures, flaky_calls) = shares[2];
    assert!(failures > 0, "the flaky node never failed: {shares:?}");
    assert!(
        flaky_calls * 5 < calls,
        "the flaky node kept its traffic: {shares:?}"
    );
}

#[test]
fn what_cannot_start_says_why() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let up_dir = dir.path().join("up");
    let up_dir = up_dir.to_str().expect("UTF-8");
    let refused = run(&["up", "--dir", up_dir, "--listen", &address, "--no-traffic"]);
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains(&address),
        "{}",
        text(&refused.stderr)
    );

    let foreign = dir.path().join("foreign");
    std::fs::create_dir_all(foreign.join("log")).expect("made");
    std::fs::write(foreign.join("log/VERSION"), "longrun log 99\n").expect("written");
    let foreign_text = foreign.to_str().expect("UTF-8");
    let refused = run(&[
        "up",
        "--dir",
        foreign_text,
        "--listen",
        "127.0.0.1:0",
        "--no-traffic",
    ]);
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("longrun log 99"),
        "{}",
        text(&refused.stderr)
    );
    let untouched = std::fs::read_to_string(foreign.join("log/VERSION")).expect("still there");
    assert_eq!(untouched, "longrun log 99\n");

    let not_a_model = dir.path().join("model.gguf");
    std::fs::write(&not_a_model, b"GGUF\x03\0\0\0 truncated").expect("written");
    let node_dir = dir.path().join("node");
    let refused = longrun()
        .args(["node", "--listen", "127.0.0.1:0", "--model"])
        .arg(&not_a_model)
        .arg("--dir")
        .arg(&node_dir)
        .output()
        .expect("the binary runs");
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("model.gguf"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut first = up(dir.path(), &["--no-traffic"]);
    let _ = first.url("gateway");
    let dir_text = dir.path().to_str().expect("UTF-8");
    let second = run(&[
        "up",
        "--dir",
        dir_text,
        "--listen",
        "127.0.0.1:0",
        "--no-traffic",
    ]);
    assert!(!second.status.success());
    assert!(
        text(&second.stderr).contains("another process"),
        "{}",
        text(&second.stderr)
    );
}

#[test]
fn keys_are_made_for_their_owner_alone_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("key.pem");
    let name = file.to_str().expect("UTF-8");
    let made = run(&["key", "new", name]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mode = std::fs::metadata(&file)
        .expect("written")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&file).expect("written");
    assert!(
        !run(&["key", "new", name]).status.success(),
        "an existing key is never replaced"
    );
    assert_eq!(before, std::fs::read(&file).expect("still there"));
    let shown = run(&["key", "show", name]);
    assert!(text(&made.stdout).contains(text(&shown.stdout).lines().next().expect("a line")));
    assert!(!text(&shown.stdout).contains("PRIVATE"));
    assert_eq!(
        run(&["key", "show", "/nonexistent/key.pem"]).status.code(),
        Some(2)
    );
}
