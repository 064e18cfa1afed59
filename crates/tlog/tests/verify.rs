//! Verification under policies: what is valid, what is broken, what is merely not trusted.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

mod common;

use common::{AT_MS, Identity, TinyLog, World, fresh};
use record::control::{Action, HomeLog, LogOrigin, Revoke, RevokeReason, Rotate};
use record::{Bundle, Envelope};
use tlog::checkpoint::SignedCheckpoint;
use tlog::cosignature::WitnessSigner;
use tlog::merkle::leaf_hash;
use tlog::policy::{PolicyFile, TrustPolicy};
use tlog::tlog_proof::TlogProof;
use tlog::verify::{FileKind, Report, Status, Verdict, Verifier, verify_bundle, verify_file};

fn status(report: &Report, name: &str) -> Status {
    report
        .check(name)
        .unwrap_or_else(|| panic!("no check {name}: {report:#?}"))
        .status
}

fn assert_checks(report: &Report, expected: &[(&str, Status)]) {
    for (name, expected) in expected {
        assert_eq!(status(report, name), *expected, "{name}: {report:#?}");
    }
}

use Status::{Failed, NotChecked, Passed};

#[test]
fn a_record_is_valid_under_a_policy_that_the_verifier_brings() {
    let world = World::new();
    let policy = world.policy();
    let report = verify_bundle(&world.bundle().to_json(), Some(&policy));
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    assert_checks(
        &report,
        &[
            ("format", Passed),
            ("signature", Passed),
            ("leaf", Passed),
            ("inclusion", Passed),
            ("checkpoint", Passed),
            ("quorum", NotChecked),
            ("signer", Passed),
            ("time", NotChecked),
            ("content", NotChecked),
        ],
    );
    assert_eq!(report.record, Some(world.record.id));
    assert_eq!(report.signer, Some(world.signer.id));
    assert_eq!(report.record_kind.as_deref(), Some("void:v1"));
    assert_eq!(report.verdict.exit_code(), 0);
}

#[test]
fn without_a_policy_nothing_is_trusted_and_everything_else_is_checked() {
    let world = World::new();
    let report = verify_bundle(&world.bundle().to_json(), None);
    assert_eq!(
        (report.verdict, report.verdict.exit_code()),
        (Verdict::IntactButUntrusted, 3)
    );
    assert_checks(
        &report,
        &[
            ("signature", Passed),
            ("leaf", Passed),
            ("inclusion", Passed),
            ("checkpoint", NotChecked),
            ("quorum", NotChecked),
            ("signer", NotChecked),
        ],
    );
}

#[test]
fn control_records_are_valid_when_the_policy_has_them() {
    let mut world = World::new();
    let policy = world.policy();
    for (record, index) in &world.controls {
        let report = verify_bundle(&world.log.bundle(record, *index).to_json(), Some(&policy));
        assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    }
    world.control(Action::HomeLog(HomeLog {
        home_log: LogOrigin::new("log.example/2").unwrap(),
    }));
    let (later, index) = world.controls.last().unwrap();
    let report = verify_bundle(&world.log.bundle(later, *index).to_json(), Some(&policy));
    assert_eq!(report.verdict, Verdict::IntactButUntrusted, "{report:#?}");
}

/// Every part of a bundle, changed so that it still reads as a bundle.
#[test]
fn every_change_to_a_bundle_is_found() {
    let world = World::new();
    let policy = world.policy();
    let good = world.bundle();
    let other = world.signer.say(2);
    let resigned = world.signer.say(1);
    assert_eq!(resigned.id, world.record.id);
    let change = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle
    };
    let envelope = |payload: &[u8], signature: &[u8]| {
        Envelope::new(payload.to_vec(), signature.to_vec()).unwrap()
    };
    let (payload, signature) = (good.envelope.payload(), good.envelope.signature());
    let mut changed_payload = payload.to_vec();
    let place = changed_payload.len() - 30;
    changed_payload[place] ^= 1;
    let mut changed_signature = signature.to_vec();
    *changed_signature.last_mut().unwrap() ^= 1;
    let cases = [
        (
            "signature",
            change(&|b| b.envelope = envelope(&changed_payload, signature)),
        ),
        (
            "signature",
            change(&|b| b.envelope = envelope(payload, &changed_signature)),
        ),
        (
            "signature",
            change(&|b| b.envelope = envelope(payload, other.envelope.signature())),
        ),
        ("leaf", change(&|b| b.envelope = other.envelope.clone())),
        ("leaf", change(&|b| b.envelope = resigned.envelope.clone())),
        ("leaf", change(&|b| b.key_hint = fresh().key_id())),
        ("leaf", change(&|b| b.entry.canonical_body.push(b' '))),
        (
            "inclusion",
            change(&|b| b.entry.canonical_body = world.log.leaves[0].clone()),
        ),
        (
            "inclusion",
            change(&|b| b.entry.hashes[0] = leaf_hash(b"x")),
        ),
        ("inclusion", change(&|b| b.entry.hashes.clear())),
        (
            "inclusion",
            change(&|b| b.entry.hashes.push(leaf_hash(b"x"))),
        ),
        ("inclusion", change(&|b| b.entry.index = 1)),
        ("inclusion", change(&|b| b.entry.tree_size += 1)),
        (
            "inclusion",
            change(&|b| b.entry.root_hash = leaf_hash(b"x")),
        ),
        (
            "checkpoint",
            change(&|b| b.entry.checkpoint = b.entry.checkpoint.replacen("\n3\n", "\n4\n", 1)),
        ),
        (
            "checkpoint",
            change(&|b| b.entry.checkpoint = forge(&b.entry.checkpoint)),
        ),
        (
            "checkpoint",
            change(&|b| b.entry.checkpoint = "rubbish".to_owned()),
        ),
    ];
    for (number, (check, bundle)) in cases.iter().enumerate() {
        let report = verify_bundle(&bundle.to_json(), Some(&policy));
        assert_eq!(
            report.verdict,
            Verdict::Invalid,
            "case {number}: {report:#?}"
        );
        assert_eq!(status(&report, check), Failed, "case {number}: {report:#?}");
        assert_eq!(report.verdict.exit_code(), 1);
    }
    // The same without a policy, except for what only a policy can judge.
    for (check, bundle) in cases.iter().filter(|(check, _)| *check != "checkpoint") {
        let report = verify_bundle(&bundle.to_json(), None);
        assert_eq!(
            (report.verdict, status(&report, check)),
            (Verdict::Invalid, Failed)
        );
    }
}

/// The last byte of the log's signature, changed.
fn forge(checkpoint: &str) -> String {
    let mut signed = SignedCheckpoint::parse(checkpoint.as_bytes()).unwrap();
    let mut line = signed.note().signatures()[0].clone();
    *line.signature.last_mut().unwrap() ^= 1;
    let mut note = tlog::note::Note::new(signed.note().text()).unwrap();
    note.add(line);
    *signed.note_mut() = note;
    signed.note().to_string()
}

#[test]
fn trust_material_inside_the_file_never_trusts_itself() {
    let world = World::new();
    // A whole false world: the same names, other keys, everything consistent in itself.
    let mut false_log = TinyLog::new("log.example", 66);
    let (mut impostor, create) = Identity::new(&false_log);
    false_log.append(&create);
    false_log.append(&impostor.delegate());
    let record = impostor.say(1);
    let index = false_log.append(&record);
    let bundle = false_log.bundle(&record, index);
    let report = verify_bundle(&bundle.to_json(), Some(&world.policy()));
    assert_eq!(report.verdict, Verdict::IntactButUntrusted, "{report:#?}");
    assert_checks(
        &report,
        &[
            ("inclusion", Passed),
            ("checkpoint", Failed),
            ("signer", Failed),
        ],
    );
    assert!(
        report
            .check("checkpoint")
            .unwrap()
            .reason
            .contains("not signed with the key")
    );

    // The signer is known, but the log is not: keys have no place there.
    let record = world.signer.say(1);
    let index = false_log.append(&record);
    let report = verify_bundle(
        &false_log.bundle(&record, index).to_json(),
        Some(&world.policy()),
    );
    assert_eq!(report.verdict, Verdict::IntactButUntrusted);
    assert_checks(&report, &[("checkpoint", Failed), ("signer", NotChecked)]);

    // The log is known, the signer is not.
    let mut world = world;
    let index = world.log.append(&create);
    let report = verify_bundle(
        &world.log.bundle(&create, index).to_json(),
        Some(&world.policy()),
    );
    assert_eq!(report.verdict, Verdict::IntactButUntrusted);
    assert_checks(&report, &[("checkpoint", Passed), ("signer", Failed)]);
}

#[test]
fn keys_are_valid_between_places_in_the_home_log() {
    let mut world = World::new();
    // Logged before the key was delegated.
    let mut log = TinyLog::new("log.example", 1);
    let (mut signer, create) = Identity::new(&log);
    let mut controls = vec![(create.clone(), log.append(&create))];
    let early = signer.say(1);
    let early_index = log.append(&early);
    let delegate = signer.delegate();
    controls.push((delegate.clone(), log.append(&delegate)));
    let early_world = World {
        log,
        signer,
        record: early,
        index: early_index,
        controls,
    };
    let report = verify_bundle(&early_world.bundle().to_json(), Some(&early_world.policy()));
    assert_eq!(
        (report.verdict, status(&report, "signer")),
        (Verdict::Invalid, Failed),
        "{report:#?}"
    );

    // Logged after the key was revoked; what came before stays valid.
    let key_id = world.signer.instance.key_id();
    world.control(Action::Revoke(Revoke {
        key_id,
        reason: RevokeReason::Retired,
    }));
    let late = world.signer.say(2);
    let index = world.log.append(&late);
    let policy = world.policy();
    let report = verify_bundle(&world.log.bundle(&late, index).to_json(), Some(&policy));
    assert_eq!(
        (report.verdict, status(&report, "signer")),
        (Verdict::Invalid, Failed),
        "{report:#?}"
    );
    let report = verify_bundle(&world.bundle().to_json(), Some(&policy));
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");

    // A key that the policy has no delegation for: perhaps the policy is old.
    let stranger = world.signer.say_with(&fresh(), 3);
    let index = world.log.append(&stranger);
    let report = verify_bundle(&world.log.bundle(&stranger, index).to_json(), Some(&policy));
    assert_eq!(report.verdict, Verdict::IntactButUntrusted, "{report:#?}");

    // A known log that was never the signer's home log.
    let mut other = TinyLog::new("log.example/other", 3);
    let index = other.append(&world.record);
    let lines = [
        world.log.policy_line(),
        other.policy_line(),
        "quorum none".to_owned(),
    ];
    let policy = world.policy_with(&lines);
    let report = verify_bundle(&other.bundle(&world.record, index).to_json(), Some(&policy));
    assert_eq!(report.verdict, Verdict::IntactButUntrusted, "{report:#?}");
    assert_checks(&report, &[("checkpoint", Passed), ("signer", Failed)]);
}

#[test]
fn the_quorum_of_the_policy_is_asked_for() {
    let world = World::new();
    let witness = WitnessSigner::from_seed("witness.example", &[9; 32]).unwrap();
    let lines = [
        world.log.policy_line(),
        format!("witness w {}", witness.verifier().to_vkey()),
        "quorum w".to_owned(),
    ];
    let policy = world.policy_with(&lines);
    let report = verify_bundle(&world.bundle().to_json(), Some(&policy));
    assert_eq!(report.verdict, Verdict::IntactButUntrusted, "{report:#?}");
    assert_eq!(status(&report, "quorum"), Failed);

    let cosigned_at = |time_s: u64| {
        let mut signed = world.log.checkpoint();
        let line = witness.cosign(&signed, time_s);
        signed.note_mut().add(line);
        world.log.bundle_with(&world.record, world.index, &signed)
    };
    let report = verify_bundle(&cosigned_at(AT_MS / 1000 + 60).to_json(), Some(&policy));
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    assert_checks(&report, &[("quorum", Passed), ("time", Passed)]);

    // Witnesses saw it an hour before it says it was made.
    let report = verify_bundle(&cosigned_at(AT_MS / 1000 - 3600).to_json(), Some(&policy));
    assert_eq!(
        (report.verdict, status(&report, "time")),
        (Verdict::Valid, NotChecked)
    );
    assert!(report.check("time").unwrap().reason.contains("false"));

    // A forged cosignature is no missing one.
    let mut bundle = cosigned_at(AT_MS / 1000);
    let mut signed = SignedCheckpoint::parse(bundle.entry.checkpoint.as_bytes()).unwrap();
    let mut line = signed.note().signatures()[1].clone();
    line.signature[40] ^= 1;
    let mut note = tlog::note::Note::new(signed.note().text()).unwrap();
    note.add(signed.note().signatures()[0].clone());
    note.add(line);
    *signed.note_mut() = note;
    bundle.entry.checkpoint = signed.note().to_string();
    let report = verify_bundle(&bundle.to_json(), Some(&policy));
    assert_eq!(
        (report.verdict, status(&report, "quorum")),
        (Verdict::Invalid, Failed)
    );
}

#[test]
fn a_verifier_remembers_checkpoints_but_not_verdicts() {
    let mut world = World::new();
    let later = world.signer.say(2);
    let index = world.log.append(&later);
    let policy = world.policy();
    let mut verifier = Verifier::new(Some(&policy));
    let good = [world.bundle(), world.log.bundle(&later, index)];
    for bundle in &good {
        assert_eq!(
            verifier.verify_bundle(&bundle.to_json()).verdict,
            Verdict::Valid
        );
    }
    let mut swapped = good[0].clone();
    swapped.entry.hashes = good[1].entry.hashes.clone();
    swapped.entry.tree_size = good[1].entry.tree_size;
    swapped.entry.root_hash = good[1].entry.root_hash;
    swapped.entry.checkpoint = good[1].entry.checkpoint.clone();
    assert_eq!(
        verifier.verify_bundle(&swapped.to_json()).verdict,
        Verdict::Invalid
    );
    let mut forged = good[0].clone();
    forged.entry.checkpoint = forge(&forged.entry.checkpoint);
    assert_eq!(
        verifier.verify_bundle(&forged.to_json()).verdict,
        Verdict::Invalid
    );
}

#[test]
fn files_are_recognised_whatever_they_are_called() {
    let world = World::new();
    let policy = world.policy();
    let file = |bytes: &[u8]| verify_file(bytes, Some(&policy));

    let bundle = file(&world.bundle().to_json());
    assert_eq!(
        (bundle.kind, bundle.verdict),
        (FileKind::Bundle, Verdict::Valid)
    );

    let envelope = file(&world.record.envelope.to_json());
    assert_eq!(
        (envelope.kind, envelope.verdict),
        (FileKind::Envelope, Verdict::IntactButUntrusted)
    );
    assert_checks(
        &envelope.reports[0],
        &[("signature", Passed), ("inclusion", NotChecked)],
    );
    let mut broken = world.record.envelope.signature().to_vec();
    broken[10] ^= 1;
    let broken = Envelope::new(world.record.envelope.payload().to_vec(), broken).unwrap();
    assert_eq!(file(&broken.to_json()).verdict, Verdict::Invalid);

    let checkpoint = world.log.checkpoint();
    let checked = file(&checkpoint.to_bytes());
    assert_eq!(
        (checked.kind, checked.verdict),
        (FileKind::Checkpoint, Verdict::Valid)
    );
    let foreign = TinyLog::new("log.example/foreign", 5).checkpoint();
    assert_eq!(
        file(&foreign.to_bytes()).verdict,
        Verdict::IntactButUntrusted
    );
    assert_eq!(
        file(forge(&checkpoint.note().to_string()).as_bytes()).verdict,
        Verdict::Invalid
    );

    let own = world
        .file(&[world.log.policy_line(), "quorum none".to_owned()])
        .to_json()
        .unwrap();
    let policy_file = file(&own);
    assert_eq!(
        (policy_file.kind, policy_file.verdict),
        (FileKind::Policy, Verdict::IntactButUntrusted)
    );

    for (kind, bytes) in [
        (
            FileKind::Statement,
            world.record.envelope.payload().to_vec(),
        ),
        (
            FileKind::TrustedRoot,
            record::bundle::trusted_root_json(&[]),
        ),
        (FileKind::Unknown, b"{}".to_vec()),
        (FileKind::Unknown, b"[1, 2]".to_vec()),
        (FileKind::Unknown, Vec::new()),
        (FileKind::Unknown, vec![0xff; 100]),
        (
            FileKind::Unknown,
            b"{\"mediaType\": \"text/plain\"}".to_vec(),
        ),
        (
            FileKind::Bundle,
            format!("{{\"mediaType\":\"{}\"}}", record::bundle::MEDIA_TYPE).into_bytes(),
        ),
        (FileKind::Policy, b"{\"longrun_policy\": 2}".to_vec()),
    ] {
        let report = file(&bytes);
        assert_eq!(
            (report.kind, report.verdict),
            (kind, Verdict::Unusable),
            "{report:#?}"
        );
        assert_eq!(report.verdict.exit_code(), 2);
    }
}

#[test]
fn the_answer_about_a_call_is_as_good_as_its_worst_bundle() {
    let world = World::new();
    let policy = world.policy();
    let bundle = String::from_utf8(world.bundle().to_json()).unwrap();
    let mut broken = world.bundle();
    broken.entry.hashes.pop();
    let broken = String::from_utf8(broken.to_json()).unwrap();
    let call = |observation: &str, receipt: &str| {
        format!(
            r#"{{"state":"published","attempts":[{{"seq":1,"secret":"00","bundles":{{"observation":{observation},"receipt":{receipt}}}}}]}}"#
        )
    };
    let check = |text: String| {
        let report = verify_file(text.as_bytes(), Some(&policy));
        assert_eq!(report.kind, FileKind::Call);
        report
    };
    let both = check(call(&bundle, &bundle));
    assert_eq!((both.verdict, both.reports.len()), (Verdict::Valid, 2));
    assert_eq!(both.reports[1].part.as_deref(), Some("attempt 1, receipt"));
    assert_eq!(check(call(&bundle, "null")).reports.len(), 1);
    assert_eq!(check(call(&bundle, &broken)).verdict, Verdict::Invalid);
    assert_eq!(
        check(r#"{"state":"pending","attempts":[]}"#.to_owned()).verdict,
        Verdict::Unusable
    );
    assert_eq!(check(call("7", "null")).verdict, Verdict::Unusable);

    // Without a log nothing is published, ever: what was signed is looked at all the same.
    let envelope = String::from_utf8(world.record.envelope.to_json()).unwrap();
    let without_log = |state: &str, envelope: &str| {
        check(format!(
            r#"{{"state":"{state}","attempts":[{{"state":"{state}","bundles":{{"observation":null,"receipt":null}},"envelopes":{{"observation":{envelope},"receipt":null}}}}]}}"#
        ))
    };
    let kept = without_log("recorded", &envelope);
    let alone = verify_file(envelope.as_bytes(), Some(&policy));
    assert_eq!(kept.verdict, alone.verdict, "{kept:#?}");
    assert_eq!(status(&kept.reports[0], "signature"), Passed);
    assert_eq!(status(&kept.reports[0], "inclusion"), NotChecked);
    let payload = envelope.replace("\"payload\":\"", "\"payload\":\"AAAA");
    assert_ne!(without_log("recorded", &payload).verdict, alone.verdict);
    let waiting = without_log("pending", &envelope);
    assert_eq!(waiting.verdict, Verdict::Unusable, "{waiting:#?}");
}

#[test]
fn policies_are_refused_for_anything_that_does_not_hold() {
    let mut world = World::new();
    let lines = [world.log.policy_line(), "quorum none".to_owned()];
    let good = String::from_utf8(world.file(&lines).to_json().unwrap()).unwrap();
    TrustPolicy::parse(good.as_bytes()).unwrap();
    let refused = |text: &str, words: &str| {
        let error = TrustPolicy::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    refused("{", "EOF");
    refused(
        &good.replace("\"longrun_policy\": 1", "\"longrun_policy\": 2"),
        "version 2",
    );
    refused(
        &good.replace("\"signers\"", "\"signer\""),
        "unknown field `signer`",
    );
    refused(
        &good.replace("\"roles\"", "\"role\""),
        "unknown field `role`",
    );
    refused(&good.replace("quorum none", "quorum any"), "policy line 2");
    let other_id = fresh().key_id().to_hex();
    refused(
        &good.replace(&world.signer.id.to_hex(), &other_id),
        "its control records are those of",
    );

    let with = |lines: &[String], controls: &[Bundle]| {
        let mut file = PolicyFile::new(lines.to_vec());
        file.add_signer(world.signer.id, "them", &[], controls)
            .unwrap();
        String::from_utf8(file.to_json().unwrap()).unwrap()
    };
    let bundles: Vec<Bundle> = world
        .controls
        .iter()
        .map(|(record, index)| world.log.bundle(record, *index))
        .collect();
    refused(&with(&lines, &[]), "no control records");
    refused(&with(&lines, &bundles[1..]), "control 1");
    refused(
        &with(&lines, &[bundles[0].clone(), world.bundle()]),
        "control 2",
    );
    let mut tampered = bundles.clone();
    tampered[1].entry.hashes[0] = leaf_hash(b"x");
    refused(
        &with(&lines, &tampered),
        "control 2: the proof leads to another root",
    );
    let mut forged = bundles.clone();
    forged[1].entry.checkpoint = forge(&forged[1].entry.checkpoint);
    refused(
        &with(&lines, &forged),
        "control 2: the signature of log.example does not verify",
    );
    let foreign = [
        TinyLog::new("log.example/x", 9).policy_line(),
        lines[1].clone(),
    ];
    refused(&with(&foreign, &bundles), "no log of this policy");

    // Control records count in the home log alone, and the home log may move.
    let mut other = TinyLog::new("log.example/2", 2);
    let both = [lines[0].clone(), other.policy_line(), lines[1].clone()];
    let at = other.append(&world.controls[1].0);
    let elsewhere = [bundles[0].clone(), other.bundle(&world.controls[1].0, at)];
    refused(&with(&both, &elsewhere), "home log is log.example");
    let moved = Action::HomeLog(HomeLog {
        home_log: LogOrigin::new("log.example/2").unwrap(),
    });
    world.control(moved);
    let rotate = world.signer.control(Action::Rotate(Rotate {
        key: *fresh().public(),
        recovery: None,
    }));
    let at = other.append(&rotate);
    let mut file = PolicyFile::new(both.to_vec());
    let mut bundles: Vec<Bundle> = world
        .controls
        .iter()
        .map(|(record, index)| world.log.bundle(record, *index))
        .collect();
    bundles.push(other.bundle(&rotate, at));
    file.add_signer(world.signer.id, "them", &[], &bundles)
        .unwrap();
    let policy = TrustPolicy::parse(&file.to_json().unwrap()).unwrap();
    let signer = policy.signer(world.signer.id).unwrap();
    assert!(
        signer.position("log.example/2", 0).unwrap() > signer.position("log.example", 99).unwrap()
    );
    assert_eq!(signer.position("log.example/3", 0), None);
}

#[test]
fn a_tlog_proof_is_verified_like_the_bundle_it_came_from() {
    let world = World::new();
    let policy = world.policy();
    let proof = TlogProof::of_bundle(&world.bundle()).unwrap();
    let bytes = proof.to_bytes();
    assert_eq!(TlogProof::parse(&bytes).unwrap(), proof);
    let report = verify_file(&bytes, Some(&policy));
    assert_eq!(
        (report.kind, report.verdict),
        (FileKind::Proof, Verdict::Valid),
        "{report:#?}"
    );
    let own = &report.reports[0];
    assert_eq!(own.record, Some(world.record.id));
    let checks = [
        ("signature", Passed),
        ("leaf", Passed),
        ("inclusion", Passed),
        ("signer", Passed),
    ];
    assert_checks(own, &checks);

    // Without the record, or with another one.
    let bare = TlogProof {
        extra: None,
        ..proof.clone()
    };
    let report = verify_file(&bare.to_bytes(), Some(&policy));
    assert_eq!(report.verdict, Verdict::IntactButUntrusted);
    assert_checks(
        &report.reports[0],
        &[("inclusion", NotChecked), ("checkpoint", Passed)],
    );
    let other = Some(world.signer.say(2).envelope.to_json());
    let swapped = TlogProof {
        extra: other,
        ..proof.clone()
    };
    assert_eq!(
        verify_file(&swapped.to_bytes(), Some(&policy)).verdict,
        Verdict::Invalid
    );
    let moved = TlogProof {
        index: 1,
        ..proof.clone()
    };
    assert_eq!(
        verify_file(&moved.to_bytes(), Some(&policy)).verdict,
        Verdict::Invalid
    );

    let text = String::from_utf8(bytes).unwrap();
    for (what, changed) in [
        ("version", text.replace("@v1", "@v2")),
        ("no index", text.replace("index 2\n", "")),
        ("leading zero", text.replace("index 2", "index 02")),
        ("extra after the index", {
            let extra = text.lines().nth(1).unwrap();
            text.replacen(&format!("{extra}\n"), "", 1)
                .replace("index 2\n", &format!("index 2\n{extra}\n"))
        }),
        ("extra not base64", text.replace("extra ", "extra !")),
        ("short hash", text.replacen("=\n\n", "\n\n", 1)),
        (
            "no checkpoint",
            text.split_once("\n\n").unwrap().0.to_owned(),
        ),
        (
            "a second checkpoint",
            format!("{text}{}", world.log.checkpoint().note()),
        ),
    ] {
        assert!(TlogProof::parse(changed.as_bytes()).is_err(), "{what}");
    }
}
