//! A history on its way: exported where the log is, verified and folded elsewhere, imported there;
//! and one of calls that were never in a log.

use std::path::Path;

use crate::support::{Http, Server, chat, longrun, run, text};
use record::bucket::start_ms;
use record::control::LogOrigin;
use record::summary::{BundleCounts, StreamNumbers, Summary};
use record::{Endpoint, KeyId, Seq};
use serde_json::Value;

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
    digests_of_the_gateway_are_made_again(dir, &mut network);
    assert!(network.interrupt().success(), "Ctrl-C stops it cleanly");
}

/// Folded for the observer alone, a log gives the digest that its gateway shows.
fn digests_of_the_gateway_are_made_again(dir: &Path, network: &mut Server) {
    let (gateway, log) = (network.url("gateway"), path(dir, "net/log"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        // Both read on meanwhile.
        let of = |what: &str| {
            Http::default()
                .get(&format!("{gateway}/longrun/v1/{what}"))
                .json()
        };
        let observer = of("status")["observer"].as_str().expect("an id").to_owned();
        let show = [
            "history",
            "show",
            "--log",
            &log,
            "--observer",
            &observer,
            "--json",
        ];
        let (told, made) = (of("history"), json(&show));
        if told["digest"] == made["digest"] {
            assert!(made["endpoints"][0]["calls"].as_u64() > Some(0), "{made:#}");
            // A mistyped id has no history of nothing.
            let nobody = "0".repeat(64);
            let asked = ["history", "show", "--log", &log, "--observer", &nobody];
            let refused = longrun().args(asked).output().expect("it runs");
            let said = text(&refused.stderr);
            assert!(
                !refused.status.success() && said.contains(&observer),
                "{said}"
            );
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{} records have {}, and {} have {}",
            told["records"],
            told["digest"],
            made["records"],
            made["digest"]
        );
    }
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
    let summarise = || {
        let from_to = ["--log", &log, "--to", &to, "--signer", &signer];
        let written = run(&[&["history", "summarise"], &from_to[..]].concat());
        assert!(written.status.success(), "{}", text(&written.stderr));
        text(&written.stdout)
    };
    let copy = path(dir, "copy");
    let copied = std::process::Command::new("cp")
        .args(["-r", &log, &copy])
        .status();
    assert!(copied.expect("cp").success());
    assert!(!summarise().contains("wrote     0 summaries"));
    // A copy from before lacks what was signed since: its numbers would be signed twice.
    let old = [
        "history",
        "summarise",
        "--log",
        &copy,
        "--to",
        &to,
        "--signer",
        &signer,
    ];
    let refused = run(&old);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("old copy"),
        "{}",
        text(&refused.stderr)
    );
    let again = summarise();
    assert!(again.contains("wrote     0 summaries"), "{again}");
    let export = |name: &str| {
        let file = path(dir, name);
        let export = [
            "history",
            "export",
            "--log",
            &log,
            "--summaries",
            "--out",
            &file,
        ];
        let exported = run(&export);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        file
    };
    let file = export("summaries");
    let told = json(&["history", "verify", &file, "--json"]);
    misstate(dir, &to, &told["summaries"][0]);
    let with_a_lie = export("with-a-lie");
    assert!(network.interrupt().success(), "Ctrl-C stops it cleanly");

    let trust = path(dir, "trust");
    assert!(
        run(&["trust", "export", "--log", &log, "--out", &trust])
            .status
            .success()
    );
    let policy = path(dir, "trust/policy.json");
    let verify = |file: &str, more: &[&str]| {
        json(
            &[
                &["history", "verify", file, "--policy", &policy, "--json"],
                more,
            ]
            .concat(),
        )
    };
    let offline = verify(&file, &[]);
    assert_eq!(offline["verdict"], "valid", "{offline:#}");
    assert_eq!(offline["recounted"], Value::Null);
    let counted = verify(&file, &["--log", &log]);
    assert_eq!(counted["verdict"], "valid", "{counted:#}");
    let recounted = &counted["recounted"];
    assert_eq!(recounted["drawn"], recounted["of"]);
    assert_eq!(recounted["drawn"], recounted["compared"]);
    assert_eq!(
        recounted["forgiven"],
        serde_json::json!({"bundles": 0, "calls": 0})
    );
    assert_eq!(recounted["unsummarised"], serde_json::json!([]));
    let chains = counted["summaries"].as_array().expect("a list");
    let calls: u64 = chains.iter().filter_map(|it| it["calls"].as_u64()).sum();
    assert!((1..=256).contains(&calls), "{counted:#}");
    let words = run(&[
        "history", "verify", &file, "--policy", &policy, "--log", &log,
    ]);
    assert!(text(&words.stdout).contains("it misses one misstated bundle with probability"));
    // Imported, it is what its observers saw, marked as summed up; counted again where the log is at hand.
    let imported = path(dir, "imported");
    let import = [
        "history", "import", &file, "--policy", &policy, "--dir", &imported, "--log", &log,
    ];
    let told = run(&import);
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(
        text(&told.stdout).contains("were counted again"),
        "{}",
        text(&told.stdout)
    );
    let show = [
        "history",
        "show",
        "--log",
        &log,
        "--imported",
        &imported,
        "--json",
    ];
    let shown = json(&show);
    let chain = chains.iter().max_by_key(|it| it["successes"].as_u64());
    let chain = chain.expect("a chain");
    let mut others = shown["imported"].as_array().expect("a list").iter();
    let of = others.find(|it| it["provider"] == chain["provider"]);
    let of = of.expect("its endpoint");
    assert_eq!(of["together"]["state"], "too_few", "{of:#}");
    let observer = chain["observer"].as_str().expect("an id");
    let seen = &of["observers"][observer];
    assert_eq!(seen["successes"], chain["successes"], "{shown:#}");
    assert_eq!(seen["summed_up_by"], chain["signer"]);

    // It fits together, and only counting again shows it.
    assert_eq!(verify(&with_a_lie, &[])["verdict"], "valid");
    let caught = verify(&with_a_lie, &["--log", &log]);
    assert_eq!(caught["verdict"], "invalid", "{caught:#}");
    assert_eq!(caught["summaries"], Value::Null, "nothing is told of it");
    let finding = &caught["file"]["findings"][0];
    assert_eq!(finding["check"], "summaries", "{caught:#}");
    assert_eq!(finding["entries"], serde_json::json!([0, 255]));
}

/// Somebody else's summary of the first bundle, of the endpoint and observer of `told`: one good call.
fn misstate(dir: &Path, log_url: &str, told: &Value) {
    let word = |member: &str| told[member].as_str().expect("text");
    let about = Http::default()
        .get(&format!("{log_url}/longrun/v1/log"))
        .json();
    let mut config = recorder::Config::new(dir.join("liar"), "liar", "summariser");
    config.home_log = Some(recorder::HomeLog {
        url: log_url.to_owned(),
        vkey: about["vkey"].as_str().expect("a key").to_owned(),
    });
    let summary = Summary {
        at_ms: start_ms(1_790_000_000_000),
        log: LogOrigin::new(about["origin"].as_str().expect("text")).expect("an origin"),
        endpoint: Endpoint {
            provider: word("provider").parse().expect("a provider"),
            model: word("model").parse().expect("a model"),
        },
        observer: word("observer").parse().expect("an id"),
        seq: Seq::new(1).expect("a number"),
        previous: None,
        from: 0,
        to: 256,
        bundles: vec![BundleCounts {
            bundle: 0,
            calls: 1,
            good: 1,
            bad: 0,
            rate_limited: 0,
        }],
        streams: vec![StreamNumbers {
            key: KeyId::from_bytes([1; 32]),
            highest: 1,
            records: 1,
            voided: 0,
            unused: 0,
            missing: 0,
        }],
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let context = recorder::Context::system().expect("a machine");
        let recorder = recorder::Recorder::open(&config, context).expect("a signer");
        let said = recorder.say(summary).expect("a statement");
        assert!(said.durable().await.is_some());
        let patience = std::time::Duration::from_secs(60);
        recorder.close(patience).await.expect("closed");
    });
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
