//! A history on its way: exported where the log is, verified and folded elsewhere, imported there;
//! and one of calls that were never in a log.

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Http, Server, chat, run, text};

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", text(&output.stderr)))
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("UTF-8").to_owned()
}

/// A network that has answered a few calls and was stopped.
fn stopped_network(dir: &Path) {
    let mut network = network(dir, 4);
    assert!(network.interrupt().success(), "Ctrl-C stops it cleanly");
}

/// A network that has answered so many calls, all of them in its log.
fn network(dir: &Path, calls: u64) -> Server {
    let network_dir = path(dir, "net");
    let mut network = Server::start(&[
        "up",
        "--dir",
        &network_dir,
        "--listen",
        "127.0.0.1:0",
        "--seed",
        "7",
        "--no-traffic",
    ]);
    let (gateway, http) = (network.url("gateway"), Http::default());
    let asked: Vec<String> = (0..calls)
        .map(|_| {
            let url = format!("{gateway}/v1/chat/completions");
            let answer = http.post(&url, chat("What is 3 + 4?"));
            answer.header("x-longrun-call").to_owned()
        })
        .collect();
    for call in asked {
        let url = format!("{gateway}/longrun/v1/calls/{call}");
        http.until(&url, |answer| answer.status == 200);
    }
    network
}

#[test]
fn summaries_are_signed_carried_and_counted_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    // A receipt and an observation each: more than one bundle of 256 entries.
    let mut network = network(dir, 140);
    let (log, to) = (path(dir, "net/log"), network.url("log"));
    let signer = path(dir, "summariser");
    let summarise = [
        "history",
        "summarise",
        "--log",
        &log,
        "--to",
        &to,
        "--signer",
        &signer,
    ];
    let written = run(&summarise);
    assert!(written.status.success(), "{}", text(&written.stderr));
    assert!(!text(&written.stdout).contains("wrote     0 summaries"));
    let again = run(&summarise);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(
        text(&again.stdout).contains("wrote     0 summaries"),
        "nothing is said twice: {}",
        text(&again.stdout)
    );
    assert!(network.interrupt().success(), "Ctrl-C stops it cleanly");

    let (file, trust) = (path(dir, "summaries"), path(dir, "trust"));
    let exported = run(&[
        "history",
        "export",
        "--log",
        &log,
        "--summaries",
        "--out",
        &file,
    ]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    assert!(
        run(&["trust", "export", "--log", &log, "--out", &trust])
            .status
            .success()
    );
    let policy = path(dir, "trust/policy.json");
    let verify = ["history", "verify", &file, "--policy", &policy, "--json"];
    let offline = json(&verify);
    assert_eq!(offline["verdict"], "valid", "{offline:#}");
    assert_eq!(offline["recounted"], Value::Null);
    let counted = json(&[&verify[..], &["--log", &log]].concat());
    assert_eq!(counted["verdict"], "valid", "{counted:#}");
    assert_eq!(counted["recounted"]["drawn"], counted["recounted"]["of"]);
    let calls = |told: &Value| -> u64 {
        let chains = told["summaries"].as_array().expect("a list");
        chains.iter().filter_map(|it| it["calls"].as_u64()).sum()
    };
    assert!((1..=256).contains(&calls(&counted)), "{counted:#}");
    let words = run(&[&verify[..5], &["--log", &log]].concat());
    assert!(text(&words.stdout).contains("it misses one misstated bundle with probability"));
    let refused = run(&[
        "history", "import", &file, "--policy", &policy, "--dir", &trust,
    ]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
}

#[test]
fn a_history_gives_the_same_digest_wherever_it_is_folded() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    stopped_network(dir);
    let (log, policy) = (path(dir, "net/log"), path(dir, "net/trust/policy.json"));
    let whole = json(&["history", "show", "--log", &log, "--json"]);
    let endpoint = &whole["endpoints"][0];
    let name = |member: &str| endpoint[member].as_str().expect("text").to_owned();
    let name = format!("{}/{}", name("provider"), name("model"));
    for (file, selection) in [
        ("whole", vec![]),
        ("one", vec!["--endpoint", name.as_str()]),
    ] {
        let file = path(dir, file);
        let mut show = vec!["history", "show", "--log", &log, "--json"];
        let mut export = vec!["history", "export", "--log", &log, "--out", &file];
        show.extend(&selection);
        export.extend(&selection);
        let exported = run(&export);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        let verified = json(&["history", "verify", &file, "--policy", &policy, "--json"]);
        assert_eq!(verified["verdict"], "valid", "{verified:#}");
        let home = json(&show);
        assert_eq!(verified["history"], home, "digest and every figure");
        let general = run(&["verify", &file, "--policy", &policy]);
        assert_eq!(general.status.code(), Some(0), "{}", text(&general.stdout));
        let digest = home["digest"].as_str().expect("a digest");
        assert!(text(&general.stdout).contains(digest));
        assert_eq!(run(&["verify", &file]).status.code(), Some(3));
    }

    let imported = path(dir, "imported");
    let import = run(&[
        "history",
        "import",
        &path(dir, "whole"),
        "--policy",
        &policy,
        "--dir",
        &imported,
    ]);
    assert!(import.status.success(), "{}", text(&import.stderr));
    let shown = json(&[
        "history",
        "show",
        "--log",
        &log,
        "--imported",
        &imported,
        "--json",
    ]);
    assert_eq!(shown["imported"][0]["together"]["state"], "too_few");
    assert_eq!(shown["digest"], whole["digest"], "never added to one's own");
    let forget = |digest: &str| run(&["history", "forget", digest, "--dir", &imported]);
    let unknown = forget("nosuchdigest");
    assert_eq!(unknown.status.code(), Some(1));
    let digest = whole["digest"].as_str().expect("a digest");
    assert!(text(&unknown.stderr).contains(digest), "it says which ones");
    assert!(forget(&digest[..12]).status.success());
    let left = std::fs::read_dir(&imported).expect("it stays");
    assert_eq!(left.count(), 0, "both files are gone");

    let mut altered = std::fs::read(path(dir, "one")).expect("exported");
    let at = altered.len() / 2;
    altered[at] ^= 1;
    let file = path(dir, "altered");
    std::fs::write(&file, &altered).expect("written");
    let refused = run(&["verify", &file, "--policy", &policy]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let refused = run(&[
        "history", "import", &file, "--policy", &policy, "--dir", &imported,
    ]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
}

#[test]
fn calls_that_were_never_in_a_log_are_marked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = path(dir.path(), "calls.jsonl");
    let line = |status: u16| {
        format!(
            r#"{{"time":"2026-01-02T03:04:05Z","provider":"https://api.example.com","model":"m","status":{status},"total_ms":12}}"#
        )
    };
    std::fs::write(&file, format!("{}\n{}\n", line(200), line(503))).expect("written");
    let found = json(&["history", "compute", &file, "--json"]);
    assert_eq!(found["evidence"], "imported");
    assert_eq!(found["history"]["endpoints"][0]["failures"], 1);
    std::fs::write(&file, "{}\n").expect("written");
    let refused = run(&["history", "compute", &file]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("line 1"),
        "{}",
        text(&refused.stderr)
    );
    std::fs::write(&file, "").expect("written");
    assert_eq!(
        run(&["history", "compute", &file]).status.code(),
        Some(2),
        "n = 0"
    );
}
