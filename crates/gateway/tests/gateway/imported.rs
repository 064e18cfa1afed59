//! Evidence of others: shown beside the gateway's own under its own policy, borrowed by routing while
//! an endpoint is cold, and never part of the history.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::support::faulty::signer::Node;
use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, config, endpoint};
use gateway::config::{GatewayConfig, ImportedConfig};
use record::leaf::{leaf_body, leaf_hash};
use record::{Bundle, LogEntry, SignerId};
use reliability::imported::{EndpointSummary, Seen, Summary};
use ring::rand::SystemRandom;
use serde_json::Value;
use tlog::checkpoint::Checkpoint;
use tlog::note::NoteSigner;
use tlog::policy::PolicyFile;

/// A policy that names these signers, each with a log of its own that holds one control record.
fn policy(signers: &[Node]) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut bundles = Vec::new();
    for (number, node) in signers.iter().enumerate() {
        let origin = origin(number);
        let key = NoteSigner::generate(&origin, &SystemRandom::new()).expect("a key");
        let first = node.statements().remove(0).open().expect("signed");
        let leaf = leaf_body(&first.envelope, first.key());
        let checkpoint = Checkpoint {
            origin: origin.clone(),
            size: 1,
            root: leaf_hash(&leaf),
        };
        let signed = checkpoint.sign(&key).expect("signs");
        let entry = LogEntry {
            index: 0,
            log_id: record::bundle::log_id(&origin, key.verifier().public()),
            tree_size: 1,
            root_hash: checkpoint.root,
            hashes: Vec::new(),
            checkpoint: String::from_utf8(signed.to_bytes()).expect("text"),
            canonical_body: leaf,
        };
        lines.push(format!("log {}", key.verifier().to_vkey()));
        bundles.push((first.signer_id(), Bundle::new(&first, entry)));
    }
    lines.push("quorum none".to_owned());
    let mut policy = PolicyFile::new(lines);
    for (id, bundle) in bundles {
        policy
            .add_signer(id, "somebody", &["observer"], &[bundle])
            .expect("a signer");
    }
    policy.to_json().expect("JSON")
}

fn origin(number: usize) -> String {
    format!("log.example/{number}")
}

fn id(node: &Node) -> SignerId {
    node.statements()
        .remove(0)
        .open()
        .expect("signed")
        .signer_id()
}

/// What these observers saw of an endpoint, as `longrun history import` keeps it.
fn summary(name: &str, observers: &[Node], upstreams: &[(&Faulty, Seen)]) -> Summary {
    let each = |seen: &Seen| observers.iter().map(|node| (id(node), *seen)).collect();
    let endpoints = upstreams.iter().map(|(upstream, seen)| EndpointSummary {
        provider: upstream.origin(),
        model: MODEL.to_owned(),
        observers: each(seen),
    });
    Summary {
        origin: "log.example/elsewhere".to_owned(),
        size: 9,
        digest: record::sha256(name.as_bytes()),
        records: 9,
        of_summaries: false,
        signers: BTreeMap::new(),
        endpoints: endpoints.collect(),
    }
}

fn write(dir: &Path, summary: &Summary) {
    fs::create_dir_all(dir).expect("a directory");
    let path = dir.join(format!("{}.json", summary.digest));
    fs::write(path, serde_json::to_vec(summary).expect("JSON")).expect("written");
}

async fn history_until(gateway: &Running, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let history = gateway.history().await;
        if done(&history["imported"]) {
            return history;
        }
        let elapsed_s = begun.elapsed().as_secs();
        assert!(elapsed_s < 60, "{history:#}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Chats that an upstream was asked for.
fn completions(upstream: &Faulty) -> usize {
    let requests = upstream.requests().into_iter();
    requests
        .filter(|request| request.head.contains("/completions"))
        .count()
}

/// Success that is expected of each endpoint, in percent.
async fn expected(gateway: &Running) -> Vec<u64> {
    let status = gateway.status().await;
    let endpoints = status["endpoints"].as_array().expect("endpoints").iter();
    let percent = |endpoint: &Value| endpoint["success_ppm"].as_u64().expect("ppm") / 10_000;
    endpoints.map(percent).collect()
}

#[tokio::test]
async fn others_are_believed_while_nothing_better_is_known_and_only_if_the_policy_names_them() {
    let bad = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let good = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let observers: Vec<Node> = (0..20)
        .map(|number| Node::new(MODEL, &origin(number)))
        .collect();
    let files = tempfile::tempdir().expect("a directory");
    let (dir, policy_file) = (files.path().join("imported"), files.path().join("policy"));
    let configured = || -> GatewayConfig {
        let mut config = config();
        config.endpoints = vec![endpoint(&bad), endpoint(&good)];
        config.imported = Some(ImportedConfig {
            dir: dir.clone(),
            policy_file: policy_file.clone(),
        });
        config
    };
    let seen = |successes, failures| Seen {
        successes,
        failures,
        summed_up_by: None,
    };
    let told = summary(
        "one",
        &observers,
        &[(&bad, seen(40, 60)), (&good, seen(999, 1))],
    );
    write(&dir, &told);

    // Nineteen are too few, whatever they say.
    fs::write(&policy_file, policy(&observers[..19])).expect("written");
    let gateway = Running::start(configured(), None).await;
    let history = history_until(&gateway, |imported| !imported["histories"][0].is_null()).await;
    let imported = &history["imported"];
    assert_eq!(imported["histories"][0]["not_in_policy"], 1, "{imported:#}");
    assert_eq!(imported["endpoints"][0]["together"]["state"], "too_few");
    assert_eq!(
        expected(&gateway).await,
        [97, 97],
        "what all have in common"
    );

    fs::write(&policy_file, policy(&observers)).expect("written");
    let together = |imported: &Value| imported["endpoints"][0]["together"].clone();
    let history = history_until(&gateway, |it| together(it)["state"] == "averaged").await;
    let told = &history["imported"]["endpoints"];
    assert_eq!(told[0]["together"]["observers"], 20);
    assert_eq!(told[0]["observers"].as_object().expect("them").len(), 20);
    let script = include_str!("../../../web/src/assets/others.js");
    crate::page::check(script, "other", &told[0]);
    let own = history["endpoints"].as_array().expect("a list");
    assert!(own.is_empty(), "never part of one's own");
    assert_eq!(expected(&gateway).await, [39, 99]);

    // It weighs as much as ten outcomes of one's own, and nothing once there are twenty.
    let answer = gateway.post(chat(false)).await;
    assert_eq!((answer.status, completions(&bad)), (200, 0));
    let path = format!("/longrun/v1/calls/{}/route", answer.call());
    let route = gateway.get(&path).await.json();
    assert_eq!(route["order"][0]["other_observers"], 20, "{route:#}");
    let own = gateway
        .history_until(|history| history["endpoints"][0]["calls"] == 1)
        .await["endpoints"]
        .clone();

    // The same after a restart, and gone when it is taken away.
    let directory = gateway.stop().await;
    let again = Running::start_in(directory, configured(), None).await;
    history_until(&again, |it| together(it)["state"] == "averaged").await;
    // It answers before it has folded its own records again.
    let history = again
        .history_until(|history| history["endpoints"][0]["calls"] == 1)
        .await;
    assert_eq!(history["endpoints"], own);
    fs::remove_dir_all(&dir).expect("removed");
    history_until(&again, |it| it["endpoints"] == Value::Array(Vec::new())).await;
    assert_eq!(expected(&again).await[0], 97);

    // A file that cannot be read is named, and the rest stays as it was.
    write(&dir, &summary("two", &observers, &[(&bad, seen(1, 1))]));
    fs::write(dir.join("three.json"), b"{}").expect("written");
    // The other file may be seen half written first.
    let names_it = |it: &Value| {
        it["error"]
            .as_str()
            .is_some_and(|e| e.contains("three.json"))
    };
    history_until(&again, names_it).await;
    again.stop().await;
}
