//! `vectors/tlog/verify`: files under trust policies, with the exit status and every check of each.
//!
//! P-256 signatures are random, so these files are made once and then only read.

use record::control::{Action, HomeLog, LogOrigin, Revoke, RevokeReason};
use record::leaf::Leaf;
use record::{Bundle, Envelope};
use serde_json::{Value, json};
use tlog::checkpoint::SignedCheckpoint;
use tlog::merkle::leaf_hash;
use tlog::note::Note;
use tlog::policy::{PolicyFile, TrustPolicy};
use tlog::tlog_proof::TlogProof;
use tlog::verify::Verifier;

use crate::common::{Identity, TinyLog, World, fresh};
use crate::{Files, TIME_S, pretty, witness};

/// File, policy, exit status.
const VERDICTS: &[(&str, Option<&str>, u8)] = &[
    ("bundle.json", Some("policy.json"), 0),
    ("bundle.json", Some("policy-witnessed.json"), 0),
    ("bundle.json", Some("policy-two-of-three.json"), 3),
    ("bundle.json", Some("policy-foreign.json"), 3),
    ("bundle.json", Some("policy-revoked.json"), 0),
    ("bundle.json", None, 3),
    ("bundle-unwitnessed.json", Some("policy.json"), 0),
    ("bundle-unwitnessed.json", Some("policy-witnessed.json"), 3),
    (
        "bundle-witnessed-twice.json",
        Some("policy-two-of-three.json"),
        0,
    ),
    (
        "bundle-early-witness.json",
        Some("policy-witnessed.json"),
        0,
    ),
    ("bundle-broken-proof.json", Some("policy.json"), 1),
    ("bundle-broken-proof.json", None, 1),
    ("bundle-other-index.json", Some("policy.json"), 1),
    ("bundle-other-size.json", Some("policy.json"), 1),
    ("bundle-other-root.json", None, 1),
    ("bundle-changed-payload.json", Some("policy.json"), 1),
    ("bundle-changed-signature.json", Some("policy.json"), 1),
    ("bundle-signed-again.json", Some("policy.json"), 1),
    ("bundle-leaf-of-another-key.json", Some("policy.json"), 1),
    ("bundle-hint-of-another-key.json", Some("policy.json"), 1),
    ("bundle-unknown-key.json", Some("policy.json"), 3),
    ("bundle-before-delegation.json", Some("policy.json"), 3),
    (
        "bundle-before-delegation.json",
        Some("policy-later.json"),
        1,
    ),
    (
        "bundle-after-revocation.json",
        Some("policy-revoked.json"),
        1,
    ),
    ("bundle-after-revocation.json", Some("policy.json"), 0),
    ("bundle-forged-checkpoint.json", Some("policy.json"), 1),
    (
        "bundle-forged-checkpoint.json",
        Some("policy-foreign.json"),
        3,
    ),
    (
        "bundle-forged-cosignature.json",
        Some("policy-witnessed.json"),
        1,
    ),
    ("bundle-forged-cosignature.json", None, 3),
    ("bundle-impostor.json", Some("policy.json"), 3),
    (
        "bundle-not-the-home-log.json",
        Some("policy-two-logs.json"),
        3,
    ),
    ("bundle-without-checkpoint.json", Some("policy.json"), 1),
    ("control.json", Some("policy.json"), 0),
    ("control-later.json", Some("policy.json"), 3),
    ("record.tlog-proof", Some("policy-witnessed.json"), 0),
    ("record.tlog-proof", None, 3),
    ("record-broken.tlog-proof", Some("policy.json"), 1),
    ("record-changed.tlog-proof", Some("policy.json"), 1),
    ("record-alone.tlog-proof", Some("policy.json"), 3),
    ("envelope.json", Some("policy.json"), 3),
    ("checkpoint.txt", Some("policy-witnessed.json"), 0),
    ("checkpoint.txt", Some("policy-foreign.json"), 3),
    ("call.json", Some("policy.json"), 0),
    ("call-one-bad.json", Some("policy.json"), 1),
    ("call-pending.json", Some("policy.json"), 2),
    ("call-decoy-path.json", Some("policy.json"), 1),
    ("call-decoy-empty.json", Some("policy.json"), 1),
    ("policy.json", Some("policy.json"), 3),
    ("policy-other-order.json", None, 2),
    ("policy-without-create.json", None, 2),
    ("policy-unknown-member.json", None, 2),
    ("policy-control-changed.json", None, 2),
    ("policy-signer-twice.json", None, 2),
    ("statement.json", Some("policy.json"), 2),
    ("text.txt", Some("policy.json"), 2),
];

/// A proof, the record that it is about beside it, policy, exit status.
const BESIDE: &[(&str, &str, &str, u8)] = &[
    ("record-alone.tlog-proof", "envelope.json", "policy.json", 0),
    ("record-alone.tlog-proof", "bundle.json", "policy.json", 0),
    ("record-alone.tlog-proof", "control.json", "policy.json", 1),
    (
        "record-broken.tlog-proof",
        "envelope.json",
        "policy.json",
        1,
    ),
    (
        "record-changed.tlog-proof",
        "envelope.json",
        "policy.json",
        0,
    ),
];

/// Makes all of them anew.
pub(crate) fn verdicts() -> Files {
    let world = World::new();
    let mut files = Files::new();
    bundles(&world, &mut files);
    proofs_and_calls(&world, &mut files);
    policies(&world, &mut files);
    others(world, &mut files);
    files
        .into_iter()
        .map(|(name, bytes)| (format!("verify/{name}"), bytes))
        .collect()
}

fn lines(log: &TinyLog, quorum: &[&str]) -> Vec<String> {
    let witnesses = (1..=3).map(|n| format!("witness w{n} {}", witness(n).verifier().to_vkey()));
    let mut lines = vec![log.policy_line()];
    lines.extend(witnesses);
    lines.extend(quorum.iter().map(|line| (*line).to_owned()));
    lines
}

fn cosigned(log: &TinyLog, witnesses: &[(u8, u64)]) -> SignedCheckpoint {
    let mut signed = log.checkpoint();
    for (number, time_s) in witnesses {
        let line = witness(*number).cosign(&signed, *time_s);
        signed.note_mut().add(line);
    }
    signed
}

/// The checkpoint with the last byte of one of its signatures changed.
fn forged(signed: &SignedCheckpoint, which: usize) -> String {
    let mut note = Note::new(signed.note().text()).unwrap();
    for (number, line) in signed.note().signatures().iter().enumerate() {
        let mut line = line.clone();
        if number == which {
            *line.signature.last_mut().unwrap() ^= 1;
        }
        note.add(line);
    }
    note.to_string()
}

fn good(world: &World) -> Bundle {
    let signed = cosigned(&world.log, &[(1, TIME_S + 60)]);
    world.log.bundle_with(&world.record, world.index, &signed)
}

fn bundles(world: &World, files: &mut Files) {
    let good = good(world);
    let signed = cosigned(&world.log, &[(1, TIME_S + 60)]);
    let mut add = |name: &str, change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        files.insert(format!("bundle{name}.json"), bundle.to_json());
    };
    let with = |signed: &SignedCheckpoint| signed.note().to_string();
    let envelope =
        |payload: Vec<u8>, signature: Vec<u8>| Envelope::new(payload, signature).unwrap();
    let (payload, signature) = (good.envelope.payload(), good.envelope.signature());
    let changed = |bytes: &[u8], place: usize| {
        let mut bytes = bytes.to_vec();
        bytes[place] ^= 1;
        bytes
    };
    let digit = payload.len() - payload.iter().rev().position(u8::is_ascii_digit).unwrap() - 1;
    add("", &|_| {});
    add("-unwitnessed", &|b| {
        b.entry.checkpoint = with(&world.log.checkpoint());
    });
    let twice = [(1, TIME_S + 60), (3, TIME_S + 61)];
    add("-witnessed-twice", &|b| {
        b.entry.checkpoint = with(&cosigned(&world.log, &twice));
    });
    let early = [(1, TIME_S - 3600)];
    add("-early-witness", &|b| {
        b.entry.checkpoint = with(&cosigned(&world.log, &early));
    });
    add("-broken-proof", &|b| {
        b.entry.hashes[0] = leaf_hash(b"another");
    });
    add("-other-index", &|b| b.entry.index = 1);
    add("-other-size", &|b| b.entry.tree_size += 1);
    add("-other-root", &|b| {
        b.entry.root_hash = leaf_hash(b"another");
    });
    add("-changed-payload", &|b| {
        b.envelope = envelope(changed(payload, digit), signature.to_vec());
    });
    add("-changed-signature", &|b| {
        b.envelope = envelope(payload.to_vec(), changed(signature, signature.len() - 1));
    });
    // The same record, signed a second time: another signature than the one that is logged.
    add("-signed-again", &|b| {
        b.envelope = world.signer.say(1).envelope;
    });
    add("-hint-of-another-key", &|b| b.key_hint = fresh().key_id());
    add("-forged-checkpoint", &|b| {
        b.entry.checkpoint = forged(&signed, 0);
    });
    add("-forged-cosignature", &|b| {
        b.entry.checkpoint = forged(&signed, 1);
    });
    add("-without-checkpoint", &|b| {
        "no checkpoint".clone_into(&mut b.entry.checkpoint);
    });
    files.insert("checkpoint.txt".to_owned(), signed.to_bytes());
}

fn proofs_and_calls(world: &World, files: &mut Files) {
    let good = good(world);
    let proof = TlogProof::of_bundle(&good).unwrap();
    let mut add = |name: &str, change: &dyn Fn(&mut TlogProof)| {
        let mut proof = proof.clone();
        change(&mut proof);
        files.insert(format!("record{name}.tlog-proof"), proof.to_bytes());
    };
    add("", &|_| {});
    add("-alone", &|p| p.extra = None);
    add("-broken", &|p| p.hashes[0] = leaf_hash(b"another"));
    let another = world.signer.say(2).envelope.to_json();
    add("-changed", &|p| p.extra = Some(another.clone()));
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let bundle = json(&good.to_json());
    let broken = json(&files["bundle-broken-proof.json"]);
    let call = |receipt: &Value| {
        pretty(&json!({"call": "00", "state": "published", "attempts": [
            {"attempt": 1, "fault": null, "bundles": {"observation": bundle, "receipt": receipt}},
        ]}))
    };
    files.insert("call.json".to_owned(), call(&Value::Null));
    files.insert("call-one-bad.json".to_owned(), call(&broken));
    // Members whose names spell the path of the bad record, or nothing at all, stand beside it.
    let attempts = |receipt: &Value| json!([{"attempt": 1, "bundles": {"receipt": receipt}}]);
    let decoy = json!({"attempts": attempts(&broken), "attempts[0].bundles.receipt": bundle});
    files.insert("call-decoy-path.json".to_owned(), pretty(&decoy));
    // In this order: the reader must come to the decoy last.
    let [bad, good] = [&broken, &bundle].map(|receipt| attempts(receipt).to_string());
    let decoy = format!("{{\"attempts\":{bad},\"\":{{\"attempts\":{good}}}}}\n");
    files.insert("call-decoy-empty.json".to_owned(), decoy.into_bytes());
    let pending = json!({"call": "00", "state": "recorded", "attempts": [{"attempt": 1}]});
    files.insert("call-pending.json".to_owned(), pretty(&pending));
    // Signed and in no log: it never will be, or it waits.
    let signed = json(&world.record.envelope.to_json());
    for state in ["recorded", "pending"] {
        let attempt = json!({"attempt": 1, "state": state, "envelopes": {"observation": signed},
                             "bundles": {"observation": null, "receipt": null}});
        let call = json!({"call": "00", "state": state, "attempts": [attempt]});
        files.insert(format!("call-signed-{state}.json"), pretty(&call));
    }
    files.insert("envelope.json".to_owned(), world.record.envelope.to_json());
    files.insert(
        "statement.json".to_owned(),
        world.record.envelope.payload().to_vec(),
    );
    files.insert("text.txt".to_owned(), b"no record\n".to_vec());
    let (delegate, index) = &world.controls[1];
    let control = world.log.bundle(delegate, *index).to_json();
    files.insert("control.json".to_owned(), control);
}

fn policies(world: &World, files: &mut Files) {
    let mut add = |name: &str, quorum: &[&str]| {
        let file = world.file(&lines(&world.log, quorum)).to_json().unwrap();
        files.insert(format!("policy{name}.json"), file);
    };
    add("", &["quorum none"]);
    add("-witnessed", &["quorum w1"]);
    add("-two-of-three", &["group g 2 w1 w2 w3", "quorum g"]);
    let foreign = [
        TinyLog::new("log.example/foreign", 9).policy_line(),
        "quorum none".to_owned(),
    ];
    let foreign = PolicyFile::new(foreign.to_vec()).to_json().unwrap();
    files.insert("policy-foreign.json".to_owned(), foreign);
    // Policies that are refused.
    let policy: Value = serde_json::from_slice(&files["policy.json"]).unwrap();
    let mut refused = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut policy = policy.clone();
        change(&mut policy);
        files.insert(format!("policy-{name}.json"), pretty(&policy));
    };
    refused("other-order", &|p| {
        p["signers"][0]["controls"]
            .as_array_mut()
            .unwrap()
            .reverse();
    });
    refused("without-create", &|p| {
        p["signers"][0]["controls"]
            .as_array_mut()
            .unwrap()
            .remove(0);
    });
    refused("unknown-member", &|p| {
        p["signers"][0]["role"] = json!(["provider"]);
    });
    refused("control-changed", &|p| {
        let entry = &mut p["signers"][0]["controls"][1]["verificationMaterial"]["tlogEntries"][0];
        entry["inclusionProof"]["hashes"][0] =
            json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    });
    refused("signer-twice", &|p| {
        let signer = p["signers"][0].clone();
        p["signers"].as_array_mut().unwrap().push(signer);
    });
}

/// Records beside the good one, in this log and in others.
fn others(mut world: World, files: &mut Files) {
    let policy_of =
        |world: &World, quorum: &[&str]| world.file(&lines(&world.log, quorum)).to_json();
    let mut false_log = TinyLog::new("log.example", 66);
    let (mut impostor, create) = Identity::new(&false_log);
    false_log.append(&create);
    false_log.append(&impostor.delegate());
    let record = impostor.say(1);
    let index = false_log.append(&record);
    let bundle = false_log.bundle(&record, index).to_json();
    files.insert("bundle-impostor.json".to_owned(), bundle);

    let mut other = TinyLog::new("log.example/other", 3);
    let index = other.append(&world.record);
    let bundle = other.bundle(&world.record, index).to_json();
    files.insert("bundle-not-the-home-log.json".to_owned(), bundle);
    let two_logs = policy_of(&world, &[&other.policy_line(), "quorum none"]).unwrap();
    files.insert("policy-two-logs.json".to_owned(), two_logs);

    let stranger = world.signer.say_with(&fresh(), 3);
    let index = world.log.append(&stranger);
    let bundle = world.log.bundle(&stranger, index).to_json();
    files.insert("bundle-unknown-key.json".to_owned(), bundle);

    // A leaf in the log that names another key than the statement, everything else as it should be.
    let record = world.signer.say(4);
    let leaf = Leaf::of(&record.envelope, fresh().public()).to_bytes();
    let index = world.log.append_leaf(leaf);
    let bundle = world.log.bundle(&record, index).to_json();
    files.insert("bundle-leaf-of-another-key.json".to_owned(), bundle);

    // Signed by the key before the entry that delegates it: the policy knows only a later one.
    let honest = std::mem::replace(&mut world.signer.instance, fresh());
    let early = world.signer.say(5);
    let index = world.log.append(&early);
    let delegate = world.signer.delegate();
    let at = world.log.append(&delegate);
    let bundle = world.log.bundle(&early, index).to_json();
    files.insert("bundle-before-delegation.json".to_owned(), bundle);
    world.controls.push((delegate, at));
    let both = policy_of(&world, &["quorum none"]).unwrap();
    files.insert("policy-later.json".to_owned(), both);
    world.signer.instance = honest;

    world.control(Action::Revoke(Revoke {
        key_id: world.signer.instance.key_id(),
        reason: RevokeReason::Retired,
    }));
    let late = world.signer.say(6);
    let index = world.log.append(&late);
    let revoked = policy_of(&world, &["quorum none"]).unwrap();
    files.insert("policy-revoked.json".to_owned(), revoked);
    let bundle = world.log.bundle(&late, index).to_json();
    files.insert("bundle-after-revocation.json".to_owned(), bundle);

    world.control(Action::HomeLog(HomeLog {
        home_log: LogOrigin::new("log.example/2").unwrap(),
    }));
    let (later, index) = world.controls.last().unwrap();
    let bundle = world.log.bundle(later, *index).to_json();
    files.insert("control-later.json".to_owned(), bundle);
}

/// What `longrun verify` makes of the committed files.
pub(crate) fn index(found: &Files) -> Vec<u8> {
    let plain = VERDICTS
        .iter()
        .map(|(file, policy, exit)| (*file, None, *policy, *exit));
    let beside = BESIDE
        .iter()
        .map(|(file, record, policy, exit)| (*file, Some(*record), Some(*policy), *exit));
    let cases: Vec<Value> = plain
        .chain(beside)
        .map(|(file, record, policy, exit)| case(found, file, record, policy, exit))
        .collect();
    pretty(&cases.into())
}

fn case(found: &Files, file: &str, record: Option<&str>, policy: Option<&str>, exit: u8) -> Value {
    let bytes = |name: &str| found[&format!("verify/{name}")].as_slice();
    let parsed = policy.map(|name| TrustPolicy::parse(bytes(name)).unwrap());
    let mut verifier = Verifier::new(parsed.as_ref());
    if let Some(name) = record {
        let envelope = match Bundle::from_json(bytes(name)) {
            Ok(bundle) => bundle.envelope,
            Err(_) => Envelope::from_json(bytes(name)).unwrap(),
        };
        verifier = verifier.about(envelope);
    }
    let report = verifier.verify_file(bytes(file));
    assert_eq!(
        report.verdict.exit_code(),
        exit,
        "{file}, {policy:?}: {report:#?}"
    );
    let reports: Vec<Value> = report
        .reports
        .iter()
        .map(|report| {
            let checks: serde_json::Map<String, Value> = report
                .checks
                .iter()
                .map(|check| (check.name.to_owned(), json!(check.status)))
                .collect();
            json!({"verdict": report.verdict, "record": report.record, "checks": checks})
        })
        .collect();
    let place = |name: &str| format!("verify/{name}");
    json!({
        "file": place(file),
        "kind": report.kind,
        "policy": policy.map(place),
        "record": record.map(place),
        "exit": exit,
        "reports": reports,
    })
}
