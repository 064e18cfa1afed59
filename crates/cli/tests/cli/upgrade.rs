//! `longrun record upgrade`: a record that was logged while the witness was down gets a proof to a
//! checkpoint that the witness cosigned.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::{Http, Server, run, text, word_after};
use record::control::{Control, Create, LogOrigin, SignerName};
use record::{Bundle, Record, Signer, SigningKey, Statement, bucket};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use tlog::policy::PolicyFile;
use tlog::tlog_proof::TlogProof;

const ORIGIN: &str = "log.example/upgraded";

fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// The first record of a new signer.
fn somebody() -> Record {
    let random = SystemRandom::new();
    let key = SigningKey::generate(&random).expect("randomness");
    let create = Create {
        name: SignerName::new("somebody").expect("a name"),
        roles: vec!["provider".parse().expect("a role")],
        home_log: LogOrigin::new(ORIGIN).expect("an origin"),
        recovery: None,
    };
    let signer = Signer {
        id: None,
        key: *key.public(),
    };
    let control = Control::create(bucket::start_ms(1_700_000_000_000), create);
    let statement = Statement::new(signer, control).expect("a statement");
    let envelope = key.sign_statement(&statement, &random).expect("signed");
    envelope.open().expect("it was just signed")
}

/// Logs a record, and makes a bundle of it and of what the log answers.
fn append(http: &Http, log_url: &str, record: &Record) -> Bundle {
    let envelope = record.envelope.to_json();
    let answer = http.post(&format!("{log_url}/longrun/v1/records"), envelope.clone());
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    let answer = answer.json();
    let entry = &answer["entries"][0];
    let checkpoint = answer["checkpoint"].as_str().expect("a checkpoint");
    let lines: Vec<&str> = checkpoint.lines().collect();
    let index = entry["index"].to_string();
    let bundle = json!({
        "mediaType": record::bundle::MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": record.key().key_id().to_string()},
            "tlogEntries": [{
                "logIndex": index,
                // A hint, which nobody asks for here.
                "logId": {"keyId": lines[2]},
                "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
                "inclusionProof": {
                    "logIndex": index,
                    "rootHash": lines[2],
                    "treeSize": lines[1],
                    "hashes": entry["proof"],
                    "checkpoint": {"envelope": checkpoint},
                },
                "canonicalizedBody": entry["leaf"],
            }],
        },
        "dsseEnvelope": serde_json::from_slice::<Value>(&envelope).expect("JSON"),
    });
    Bundle::from_json(bundle.to_string().as_bytes()).expect("a bundle")
}

fn verdict(file: &Path, policy: &Path) -> Option<i32> {
    let verified = run(&["verify", arg(file), "--policy", arg(policy)]);
    verified.status.code()
}

fn upgrade(file: &Path, policy: &Path, wait_s: &str) -> (Option<i32>, String) {
    let policy = arg(policy);
    let upgraded = run(&[
        "record",
        "upgrade",
        arg(file),
        "--policy",
        policy,
        "--wait-s",
        wait_s,
    ]);
    (upgraded.status.code(), text(&upgraded.stderr))
}

#[test]
fn a_record_that_was_logged_without_witnesses_gets_a_cosigned_proof_later() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let made = run(&["log", "init", arg(&path("log")), "--origin", ORIGIN]);
    let vkey = word_after(&text(&made.stdout), "vkey");
    // The witness makes its key and goes; something else keeps its port and never answers.
    let witness = |listen: &str| {
        let directory = path("witness");
        Server::start(&[
            "witness",
            "--dir",
            arg(&directory),
            "--listen",
            listen,
            "--log",
            &vkey,
        ])
    };
    let mut first = witness("127.0.0.1:0");
    let witness_url = first.url("witness");
    let witness_key = Http::default()
        .get(&format!("{witness_url}/longrun/v1/witness"))
        .json();
    let witness_key = witness_key["vkey"].as_str().expect("a key").to_owned();
    assert!(first.interrupt().success());
    let address = witness_url.trim_start_matches("http://");
    let silent = TcpListener::bind(address).expect("the witness is gone");

    let witnesses = format!("witness w {witness_key} {witness_url}\nquorum w\n");
    std::fs::write(path("witnesses"), &witnesses).expect("written");
    let mut log = Server::start(&[
        "log",
        "serve",
        "--dir",
        arg(&path("log")),
        "--listen",
        "127.0.0.1:0",
        "--open",
        "--witnesses",
        arg(&path("witnesses")),
    ]);
    let (log_url, http) = (log.url("log"), Http::default());
    let record = somebody();
    let bundle = append(&http, &log_url, &record);
    let lines = [
        format!("log {vkey} {log_url}"),
        format!("witness w {witness_key}"),
        "quorum w".to_owned(),
    ];
    let mut policy = PolicyFile::new(lines.to_vec());
    let controls = std::slice::from_ref(&bundle);
    policy
        .add_signer(record.signer_id(), "somebody", &[], controls)
        .expect("a policy");
    std::fs::write(path("policy.json"), policy.to_json().expect("JSON")).expect("written");
    let (file, proof, policy) = (
        path("r.sigstore.json"),
        path("r.tlog-proof"),
        path("policy.json"),
    );
    std::fs::write(&file, bundle.to_json()).expect("written");
    let as_proof = TlogProof::of_bundle(&bundle).expect("a proof");
    std::fs::write(&proof, as_proof.to_bytes()).expect("written");
    assert_eq!(verdict(&file, &policy), Some(3), "no witness has seen it");

    let (status, said) = upgrade(&file, &policy, "0");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("not the quorum of your policy"), "{said}");
    assert_eq!(
        std::fs::read(&file).expect("there"),
        bundle.to_json(),
        "left as it was"
    );

    drop(silent);
    let _witness = witness(address);
    append(&http, &log_url, &somebody());
    for file in [&file, &proof] {
        let (status, said) = upgrade(file, &policy, "60");
        assert_eq!(status, Some(0), "{said}");
        assert_eq!(verdict(file, &policy), Some(0), "{}", file.display());
    }
    let upgraded = Bundle::from_json(&std::fs::read(&file).expect("there")).expect("a bundle");
    assert_eq!(upgraded.envelope, bundle.envelope);
    assert!(upgraded.entry.tree_size > bundle.entry.tree_size);

    let stranger = PolicyFile::new(vec!["quorum none".to_owned()])
        .to_json()
        .expect("JSON");
    std::fs::write(path("stranger.json"), stranger).expect("written");
    let (status, said) = upgrade(&file, &path("stranger.json"), "0");
    assert_eq!(status, Some(2), "{said}");
}
