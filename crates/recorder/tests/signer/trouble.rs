//! A log that misbehaves, a spool without room.

use std::time::Duration;

use crate::common::*;
use record::{Outcome, Predicate};
use recorder::{Recorded, Recorder, State, WhyUnrecorded};

/// Waits until the signer says what is wrong with the log.
async fn noticed(recorder: &Recorder) {
    while recorder
        .status()
        .await
        .expect("a status")
        .log_error
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_log_that_is_away_costs_nothing_but_time() {
    let log = FakeLog::start().await;
    log.set(Mood::Down);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    for tag in 0..20 {
        record_one(&recorder, "m", tag, Outcome::Ok).await;
    }
    let seen = async {
        loop {
            let status = recorder.status().await.expect("a status");
            if let Some(error) = status.log_error {
                break (error, status.pending, status.oldest_pending_age_ms);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (error, pending, age) = tokio::time::timeout(Duration::from_secs(10), seen)
        .await
        .expect("noticed");
    assert!(error.contains("come back later"), "{error}");
    assert!(pending == 22 && age.is_some());
    log.set(Mood::Well);
    all_published(&recorder).await;
    let status = recorder.status().await.expect("a status");
    assert_eq!((status.published, status.log_error), (22, None));
    assert!(status.last_published_ms.is_some());
}

#[tokio::test]
async fn nothing_counts_as_published_on_a_lie() {
    for (mood, says) in [(Mood::Lying, "proof"), (Mood::Impostor, "checkpoint")] {
        let log = FakeLog::start().await;
        log.set(mood);
        let signer = Signer::new(Some(log.home()));
        let recorder = signer.open();
        let id = record_one(&recorder, "m", 1, Outcome::Ok).await;
        let noticed = async {
            loop {
                if let Some(error) = recorder.status().await.expect("a status").log_error {
                    break error;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(10), noticed)
            .await
            .expect("noticed");
        assert!(error.contains(says), "{mood:?}: {error}");
        assert!(
            everything(&recorder)
                .await
                .iter()
                .all(|entry| !is_published(entry))
        );
        assert!(recorder.bundle(id).await.expect("read").is_none());
        log.set(Mood::Well);
        all_published(&recorder).await;
        assert!(recorder.bundle(id).await.expect("read").is_some());
    }
}

#[tokio::test]
async fn a_refusal_is_final_a_deferral_is_not() {
    let log = FakeLog::start().await;
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    all_published(&recorder).await;
    log.set(Mood::Refusing);
    let refused = record_one(&recorder, "m", 1, Outcome::Ok).await;
    all_published(&recorder).await;
    let entry = recorder.entry(refused).await.expect("read").expect("kept");
    assert!(matches!(&entry.state, State::Refused { reason } if reason.contains("bad_signature")));

    log.set(Mood::Busy);
    for tag in 2..12 {
        record_one(&recorder, "m", tag, Outcome::Ok).await;
    }
    all_published(&recorder).await;
    let status = recorder.status().await.expect("a status");
    assert_eq!((status.published, status.refused), (12, 1));
}

#[tokio::test]
async fn a_signer_that_is_not_admitted_yet_keeps_its_records() {
    let log = FakeLog::start().await;
    log.set(Mood::Unadmitted);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    let id = record_one(&recorder, "m", 1, Outcome::Ok).await;
    noticed(&recorder).await;
    let waiting = recorder.entry(id).await.expect("read").expect("kept");
    assert!(
        matches!(waiting.state, State::Pending),
        "{:?}",
        waiting.state
    );
    log.set(Mood::Well);
    all_published(&recorder).await;
    let status = recorder.status().await.expect("a status");
    assert_eq!((status.published, status.refused), (3, 0));
}

#[tokio::test]
async fn a_log_that_answers_and_takes_nothing_is_asked_ever_more_seldom() {
    let log = FakeLog::start().await;
    log.set(Mood::Unadmitted);
    let mut signer = Signer::new(Some(log.home()));
    signer.config.shipping.retry_max = Duration::from_secs(60);
    let recorder = signer.open();
    let requests = || log.logged.lock().expect("whole").requests;
    noticed(&recorder).await;
    let before = requests();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Waits of at least 5, 10, 20, … ms: within a second eight fit. A slow machine makes fewer.
    let meanwhile = requests() - before;
    assert!(meanwhile <= 9, "{meanwhile}");
}

#[tokio::test]
async fn a_record_of_others_that_nobody_admits_holds_nothing_up() {
    let other = Signer::new(None);
    let other = other.open();
    let theirs = record_one(&other, "m", 1, Outcome::Ok).await;
    let theirs = other.entry(theirs).await.expect("read").expect("kept");
    let log = FakeLog::start().await;
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    log.set(Mood::Admitting(recorder.identity().id()));
    let kept = recorder.keep(theirs.record.envelope.clone(), None, Vec::new());
    assert!(kept.durable().await.is_some());
    let ours = record_one(&recorder, "m", 1, Outcome::Ok).await;
    all_published(&recorder).await;
    let entry = async |id| {
        let entry = recorder.entry(id).await.expect("read");
        entry.expect("kept").state
    };
    let kept = entry(theirs.id()).await;
    assert!(matches!(kept, State::Refused { reason } if reason.contains("not_admitted")));
    assert!(matches!(entry(ours).await, State::Published(_)));
}

#[tokio::test]
async fn a_narrow_log_gets_smaller_requests() {
    let log = FakeLog::start().await;
    log.set(Mood::Down);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    for tag in 0..30 {
        record_one(&recorder, "m", tag, Outcome::Ok).await;
    }
    log.set(Mood::Narrow(4));
    all_published(&recorder).await;
    assert_eq!(log.ids().len(), 32);
}

#[tokio::test]
async fn a_log_that_takes_a_few_records_at_a_time_is_not_sent_all_of_them_each_time() {
    let log = FakeLog::start().await;
    log.set(Mood::Down);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    for tag in 0..60 {
        record_one(&recorder, "m", tag, Outcome::Ok).await;
    }
    log.set(Mood::Rationing(3));
    let lines = || log.logged.lock().expect("whole").lines;
    let before = lines();
    all_published(&recorder).await;
    let sent = lines() - before;
    // All of them once, and then three, six, three, …; sent whole each time they were some 600.
    assert!(sent <= 180, "{sent} sent for 62");
    assert_eq!(log.ids().len(), 62);
    let status = recorder.status().await.expect("a status");
    assert_eq!((status.published, status.refused), (62, 0));
}

#[tokio::test]
async fn a_full_spool_counts_what_it_cannot_keep_and_one_void_says_so() {
    let log = FakeLog::start().await;
    log.set(Mood::Down);
    let mut signer = Signer::new(Some(log.home()));
    signer.config.spool.pending_rows = 6;
    let recorder = signer.open();
    for tag in 0..4 {
        record_one(&recorder, "m", tag, Outcome::Ok).await;
    }
    assert!(!recorder.expects_to_record());
    for outcome in [Outcome::Ok, Outcome::Ok, Outcome::Timeout] {
        let number = number(&recorder, "m").await;
        let draft = draft(&number, call(9), outcome);
        let recorded = recorder
            .record(number, draft)
            .expect("no error: the answer goes on");
        assert!(matches!(
            recorded,
            Recorded::Unrecorded(WhyUnrecorded::SpoolFull)
        ));
    }
    let status = recorder.status().await.expect("a status");
    assert_eq!(
        (status.unrecorded, status.to_void, status.pending),
        (3, 3, 6)
    );

    log.set(Mood::Well);
    let voided = async {
        while recorder.status().await.expect("a status").voided < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), voided)
        .await
        .expect("voided");
    assert!(recorder.expects_to_record());
    record_one(&recorder, "m", 5, Outcome::Ok).await;
    all_published(&recorder).await;
    let voids: Vec<_> = everything(&recorder)
        .await
        .into_iter()
        .filter_map(|entry| match entry.record.statement.predicate {
            Predicate::Void(void) => Some(void),
            _ => None,
        })
        .collect();
    let [void] = &voids[..] else {
        panic!("one void, not {}", voids.len())
    };
    assert_eq!(void.reason.as_str(), "spool_full");
    assert_eq!((void.ranges[0].first.number(), void.count()), (5, 3));
    assert_eq!(
        (
            void.outcomes.count(Outcome::Ok),
            void.outcomes.count(Outcome::Timeout)
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn a_close_ships_what_it_can_and_voids_the_rest() {
    let log = FakeLog::start().await;
    let mut signer = Signer::new(Some(log.home()));
    signer.config.spool.pending_rows = 4;
    log.set(Mood::Down);
    let recorder = signer.open();
    record_one(&recorder, "m", 1, Outcome::Ok).await;
    record_one(&recorder, "m", 2, Outcome::Ok).await;
    let number = number(&recorder, "m").await;
    let unrecorded = draft(&number, call(3), Outcome::Ok);
    assert!(matches!(
        recorder.record(number, unrecorded),
        Ok(Recorded::Unrecorded(_))
    ));
    log.set(Mood::Well);
    recorder
        .close(Duration::from_secs(10))
        .await
        .expect("closed");
    assert!(matches!(
        recorder
            .lease(&endpoint("m"), record::NumberedKind::Observation)
            .await,
        Err(recorder::RecorderError::Closed)
    ));
    drop(recorder);
    assert_eq!(
        log.ids().len(),
        5,
        "controls, two records and the void were shipped"
    );
    let recorder = signer.open();
    let status = recorder.status().await.expect("a status");
    assert_eq!(
        (status.pending, status.voided),
        (0, 0),
        "nothing was left to account for"
    );
}
