//! A signer at work with a log that behaves.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::*;
use record::control::{Action, Chain};
use record::{Envelope, NumberedKind, Outcome, Predicate, Record};
use recorder::{Recorded, RecorderError, State};
use tlog::checkpoint::SignedCheckpoint;
use tlog::note::NoteVerifier;

#[tokio::test]
async fn a_signer_begins_with_its_control_records_and_keeps_them() {
    let log = FakeLog::start().await;
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    let id = recorder.identity().id();
    let record = record_one(&recorder, "m", 1, Outcome::Ok).await;
    all_published(&recorder).await;

    let controls: Vec<Record> = recorder
        .identity()
        .controls()
        .iter()
        .map(|envelope| envelope.clone().open().expect("verifies"))
        .collect();
    let chain = Chain::of(&controls).expect("a chain");
    assert_eq!(chain.signer(), id);
    assert_eq!(chain.home_log().as_str(), "example.com/log");
    assert!(
        chain
            .valid_instances()
            .any(|span| &span.key == recorder.identity().key())
    );
    assert!(
        matches!(&controls[1].statement.predicate, Predicate::Control(control)
        if matches!(control.action, Action::Delegate(_)))
    );
    // In the log before anything that builds on them.
    assert_eq!(log.ids()[..3], [controls[0].id, controls[1].id, record]);

    recorder
        .close(Duration::from_secs(5))
        .await
        .expect("closed");
    drop(recorder);
    let again = signer.open();
    assert_eq!(again.identity().id(), id, "the identity stays");
    assert_eq!(
        again.identity().controls().len(),
        2,
        "nothing is signed twice"
    );
    all_published(&again).await;
    assert_eq!(log.ids().len(), 3);
}

#[tokio::test]
async fn a_call_is_pending_and_then_has_its_proof() {
    let log = FakeLog::start().await;
    log.set(Mood::Down);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    let first = number(&recorder, "m").await;
    let (secret, seq) = (first.secret().clone(), first.seq());
    let recorded = recorder
        .record(first, draft_of(&recorder, 7).await)
        .expect_err("another number");
    assert!(
        matches!(recorded, RecorderError::OtherNumber { .. }),
        "{recorded}"
    );
    assert_eq!(seq.number(), 1);

    let number = number(&recorder, "m").await;
    assert_ne!(number.secret(), &secret, "every attempt has its own");
    let (secret, seq) = (number.secret().clone(), number.seq());
    let draft = draft(&number, call(7), Outcome::Ok);
    let Recorded::Queued(queued) = recorder.record(number, draft).expect("signed") else {
        panic!("there is room")
    };
    let id = queued.id();
    // No waiting: the look-up sees what was queued before it.
    let entries = recorder.by_call(call(7)).await.expect("read");
    let [entry] = &entries[..] else {
        panic!("one attempt, not {}", entries.len())
    };
    assert_eq!((entry.id(), entry.seq), (id, Some(seq)));
    assert_eq!(
        entry.secret.as_ref(),
        Some(&secret),
        "derived again, never stored"
    );
    assert_eq!(entry.private, b"beside it");
    assert!(matches!(entry.state, State::Pending) && entry.bundle().is_none());
    assert!(recorder.by_call(call(8)).await.expect("read").is_empty());

    log.set(Mood::Well);
    all_published(&recorder).await;
    let bundle = recorder.bundle(id).await.expect("read").expect("published");
    let record = bundle.open().expect("leaf, key and statement are one");
    assert_eq!(record.id, id);
    let verifier = NoteVerifier::from_vkey(&log.vkey).expect("a key");
    let checkpoint = SignedCheckpoint::open(bundle.entry.checkpoint.as_bytes(), &verifier);
    assert_eq!(
        checkpoint.expect("signed by the log").checkpoint().root,
        bundle.entry.root_hash
    );
    tlog::proof::verify_inclusion(
        &record::leaf::leaf_hash(&bundle.entry.canonical_body),
        bundle.entry.index,
        bundle.entry.tree_size,
        &bundle.entry.hashes,
        &bundle.entry.root_hash,
    )
    .expect("in the tree");
    // And the file form survives.
    let reread = record::Bundle::from_json(&bundle.to_json()).expect("reads");
    assert_eq!(reread.open().expect("opens").id, id);
}

async fn draft_of(recorder: &recorder::Recorder, tag: u8) -> recorder::Draft {
    let other = number(recorder, "another model").await;
    draft(&other, call(tag), Outcome::Ok)
}

#[tokio::test]
async fn numbers_are_consecutive_whoever_takes_them() {
    let signer = Signer::new(None);
    let recorder = signer.open();
    let stream = recorder.stream(&endpoint("m"), NumberedKind::Observation);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let stream = stream.clone();
        tasks.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..250 {
                let number = stream.number().await.expect("a number");
                taken.push((number.seq().number(), number.nonce()));
            }
            taken
        }));
    }
    let mut numbers = BTreeSet::new();
    let mut nonces = BTreeSet::new();
    for task in tasks {
        for (number, nonce) in task.await.expect("no panic") {
            assert!(numbers.insert(number), "{number} twice");
            assert!(nonces.insert(nonce), "a nonce twice");
        }
    }
    assert_eq!(numbers, (1..=2000).collect());
    let marks = recorder.high_marks().await.expect("read");
    assert_eq!(marks.len(), 1);
    assert!(marks[0].2 >= 2000);
    // Another model is another stream.
    assert_eq!(number(&recorder, "other").await.seq().number(), 1);
}

#[tokio::test]
async fn a_kept_receipt_gets_its_proof_beside_the_call() {
    let log = FakeLog::start().await;
    let (ours, theirs) = (Signer::new(Some(log.home())), Signer::new(Some(log.home())));
    let (ours, theirs) = (ours.open(), theirs.open());
    let foreign = number(&theirs, "m").await;
    let draft = draft(&foreign, call(1), Outcome::Ok);
    let Recorded::Queued(queued) = theirs.record(foreign, draft).expect("signed") else {
        panic!("there is room")
    };
    let receipt: Envelope = queued.envelope().clone();
    record_one(&ours, "m", 1, Outcome::Ok).await;
    ours.keep(receipt.clone(), Some(call(1)), vec![])
        .durable()
        .await
        .expect("kept");
    assert!(
        ours.keep(receipt.clone(), Some(call(1)), vec![])
            .durable()
            .await
            .is_none(),
        "once"
    );
    all_published(&ours).await;
    let entries = ours.by_call(call(1)).await.expect("read");
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(is_published));
    assert_eq!(entries[1].id(), receipt.record_id());
    assert_eq!(
        (entries[1].seq, entries[1].secret.as_ref()),
        (None, None),
        "not ours"
    );
    let bundle = entries[1].bundle().expect("published");
    assert_eq!(
        bundle.open().expect("verifies").signer_id(),
        theirs.identity().id()
    );
}

#[tokio::test]
async fn a_number_given_back_is_used_again_and_one_dropped_is_voided() {
    let signer = Signer::new(None);
    let recorder = signer.open();
    let first = number(&recorder, "m").await;
    let (seq, nonce) = (first.seq(), first.nonce());
    first.give_back();
    let again = number(&recorder, "m").await;
    assert_eq!((again.seq(), again.nonce()), (seq, nonce));
    drop(again);
    number(&recorder, "m").await.give_back();
    assert_eq!(recorder.status().await.expect("a status").to_void, 1);
    recorder.close(Duration::ZERO).await.expect("closed");
    drop(recorder);

    let recorder = signer.open();
    let voids: Vec<_> = everything(&recorder)
        .await
        .into_iter()
        .filter_map(|entry| match entry.record.statement.predicate {
            Predicate::Void(void) => Some((
                void.reason.as_str(),
                void.ranges[0].first.number(),
                void.count(),
            )),
            _ => None,
        })
        .collect();
    assert_eq!(voids, [("crash", 1, 1), ("unused", 2, 1)]);
    assert_eq!(
        number(&recorder, "m").await.seq().number(),
        3,
        "goes on where it stopped"
    );
}

#[tokio::test]
async fn many_records_share_commits_and_requests() {
    let log = FakeLog::start().await;
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    let stream = recorder.stream(&endpoint("m"), NumberedKind::Observation);
    let mut waiting = Vec::new();
    for i in 0..1000u32 {
        let number = stream.number().await.expect("a number");
        let draft = draft(
            &number,
            call(u8::try_from(i % 251).expect("small")),
            Outcome::Ok,
        );
        waiting.push(recorder.record(number, draft).expect("signed"));
    }
    for recorded in waiting {
        recorded.durable().await.expect("durable");
    }
    all_published(&recorder).await;
    let status = recorder.status().await.expect("a status");
    assert_eq!(
        (status.recorded, status.unrecorded, status.refused),
        (1002 - 2, 0, 0)
    );
    assert!(
        status.published == 1002 && status.oldest_pending_age_ms.is_none(),
        "{status:?}"
    );
    assert_eq!(log.ids().len(), 1002);
    let requests = log.logged.lock().expect("whole").requests;
    assert!(requests < 500, "{requests} requests");
}

/// As after a kill: what was handed out is voided, what was not goes on.
#[tokio::test]
async fn a_lost_process_costs_the_numbers_it_had_handed_out() {
    let signer = Signer::new(None);
    let recorder = signer.open();
    record_one(&recorder, "m", 1, Outcome::Ok).await;
    for _ in 0..2 {
        std::mem::forget(number(&recorder, "m").await);
    }
    record_one(&recorder, "m", 2, Outcome::Ok).await;
    drop(recorder);
    // The forgotten numbers keep the spool open, as a process would that nobody can ask.
    let copy = tempfile::tempdir().expect("a temporary directory");
    let status = std::process::Command::new("cp")
        .args(["-a", "."])
        .arg(copy.path())
        .current_dir(&signer.config.directory)
        .status();
    assert!(status.expect("copied").success());
    let config = recorder::Config {
        directory: copy.path().to_owned(),
        ..signer.config.clone()
    };
    let context = recorder::Context::system().expect("randomness");
    let recorder = recorder::Recorder::open(&config, context).expect("opens");
    assert_eq!(recorder.status().await.expect("a status").voided, 2);
    assert_eq!(number(&recorder, "m").await.seq().number(), 5);
}

#[tokio::test]
async fn nothing_overtakes_a_control_record() {
    let log = FakeLog::start().await;
    log.set(Mood::SlowControls);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    for tag in 0..10 {
        record_one(&recorder, "m", tag, Outcome::Ok).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all_published(&recorder).await;
    let controls: Vec<_> = recorder
        .identity()
        .controls()
        .iter()
        .map(record::Envelope::record_id)
        .collect();
    assert_eq!(log.ids()[..2], controls);
}
