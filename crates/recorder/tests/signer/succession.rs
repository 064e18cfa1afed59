//! Keys change under one identity, whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use record::control::{Chain, Owner, RevokeReason};
use record::{Bundle, Envelope, Outcome, Record, SigningKey};
use recorder::{Context, Recorder, Succession};
use ring::rand::SystemRandom;

use crate::common::*;

fn context() -> Context {
    Context::system().expect("randomness")
}

fn succession(signer: &Signer) -> Succession {
    Succession::open(&signer.config, context()).expect("opens")
}

fn keys(signer: &Signer) -> PathBuf {
    signer.config.directory.join("keys")
}

fn key(file: &Path) -> SigningKey {
    let pem = fs::read_to_string(file).expect("a key file");
    SigningKey::from_pem(&pem, &SystemRandom::new()).expect("a key")
}

fn retired(signer: &Signer, name: &str) -> PathBuf {
    let files = fs::read_dir(keys(signer)).expect("read");
    let mut files = files.map(|file| file.expect("read").path());
    let is_it = |file: &PathBuf| {
        let found = file.file_name().and_then(|it| it.to_str()).unwrap_or("");
        found.starts_with(&format!("{name}.")) && found.ends_with(".retired.pem")
    };
    files.find(is_it).expect("the key before is kept")
}

fn controls(recorder: &Recorder) -> Vec<Record> {
    let controls = recorder.identity().controls().iter().cloned();
    controls
        .map(|it| Envelope::open(it).expect("well signed"))
        .collect()
}

fn chain(recorder: &Recorder) -> Chain {
    Chain::of(&controls(recorder)).expect("a chain")
}

/// Puts the key files back to where they were before the change took its last step.
fn unmove(signer: &Signer, name: &str) {
    let file = keys(signer).join(format!("{name}.pem"));
    fs::rename(&file, keys(signer).join(format!("{name}.next.pem"))).expect("moved");
    fs::rename(retired(signer, name), file).expect("moved");
}

#[tokio::test]
async fn a_rotation_cut_short_is_finished_or_did_not_happen() {
    let signer = Signer::new(None);
    let id = signer.open().identity().id();
    let first = key(&keys(&signer).join("root.pem")).key_id();

    // A key that no control record names was never heard of.
    let waiting = keys(&signer).join("root.next.pem");
    fs::copy(keys(&signer).join("instance.pem"), &waiting).expect("copied");
    assert_eq!(signer.open().identity().root_key_id(), first);
    assert!(!waiting.exists());

    // One that a record names moves in, whether or not it had.
    let mut owner = succession(&signer);
    owner.rotate_root(None).expect("rotated");
    owner.close().expect("closed");
    let second = key(&keys(&signer).join("root.pem")).key_id();
    assert_ne!(first, second);
    unmove(&signer, "root");
    let recorder = signer.open();
    assert_eq!(
        (recorder.identity().id(), recorder.identity().root_key_id()),
        (id, second)
    );
    assert_eq!(key(&retired(&signer, "root")).key_id(), first);
    drop(recorder);

    let before = key(&keys(&signer).join("instance.pem")).key_id();
    let mut owner = succession(&signer);
    owner
        .rotate_instance(RevokeReason::Retired)
        .expect("rotated");
    owner.close().expect("closed");
    unmove(&signer, "instance");
    let recorder = signer.open();
    let now = recorder.identity().key_id();
    assert_ne!(before, now);
    assert!(
        chain(&recorder)
            .valid_instances()
            .all(|it| it.key.key_id() == now)
    );
    drop(recorder);

    // Between the end of one instance key and the beginning of the next.
    let mut owner = succession(&signer);
    owner.revoke(now, RevokeReason::Lost).expect("revoked");
    owner.close().expect("closed");
    let refused = Recorder::open(&signer.config, context()).map(|_| ());
    let refused = refused.expect_err("the key has ended").to_string();
    assert!(refused.contains("has revoked"), "{refused}");
    let fresh = SigningKey::generate(&SystemRandom::new()).expect("a key");
    let waiting = keys(&signer).join("instance.next.pem");
    fs::copy(keys(&signer).join("instance.pem"), &waiting).expect("copied, for its mode");
    fs::write(&waiting, fresh.to_pem()).expect("written");
    let recorder = signer.open();
    assert_eq!(recorder.identity().key_id(), fresh.key_id());
    assert_eq!(chain(&recorder).valid_instances().count(), 1);
}

/// What an ended key signed is in the log before its end, or it would not count.
#[tokio::test]
async fn a_new_instance_key_begins_its_own_numbers_after_the_old_ones_are_logged() {
    let log = FakeLog::start().await;
    log.set(Mood::Down);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    let old = recorder.identity().key_id();
    let before = record_one(&recorder, "m", 1, Outcome::Ok).await;
    let again = record_one(&recorder, "m", 2, Outcome::Ok).await;
    recorder
        .close(std::time::Duration::ZERO)
        .await
        .expect("closed");
    drop(recorder);

    let mut owner = succession(&signer);
    let [revoked, delegated] = owner
        .rotate_instance(RevokeReason::Compromised)
        .expect("rotated")[..]
    else {
        panic!("an end and a beginning");
    };
    owner.close().expect("closed");
    log.set(Mood::SlowOthers);
    let recorder = signer.open();
    assert!(recorder.identity().has_had(old));
    assert_eq!(number(&recorder, "m").await.seq().number(), 1);
    let after = record_one(&recorder, "m", 3, Outcome::Ok).await;
    all_published(&recorder).await;
    let ids = log.ids();
    let places = [before, again, revoked, delegated, after]
        .map(|id| ids.iter().position(|it| *it == id).expect("logged"));
    assert!(places.is_sorted(), "{places:?}");

    for (id, key) in [(before, old), (after, recorder.identity().key_id())] {
        let entry = recorder.entry(id).await.expect("read").expect("kept");
        assert_eq!(entry.record.key().key_id(), key);
        assert!(entry.secret.is_some(), "its content can still be opened");
    }
}

#[tokio::test]
async fn what_waits_is_sent_in_smaller_requests_to_a_narrow_log() {
    let log = FakeLog::start().await;
    log.set(Mood::Down);
    let signer = Signer::new(Some(log.home()));
    let recorder = signer.open();
    for tag in 0..6 {
        record_one(&recorder, "m", tag, Outcome::Ok).await;
    }
    let patience = std::time::Duration::ZERO;
    recorder.close(patience).await.expect("closed");
    drop(recorder);
    log.set(Mood::Narrow(1));
    let owner = succession(&signer);
    let left = owner.send(&signer.config, patience).await.expect("sent");
    assert_eq!(left, None);
    assert_eq!(log.ids().len(), 8, "two control records and six of calls");
    owner.close().expect("closed");
}

#[tokio::test]
async fn a_lost_directory_is_replaced_by_the_recovery_key_and_no_other() {
    let mut signer = Signer::new(None);
    let kept_elsewhere = tempfile::tempdir().expect("a directory");
    let file = kept_elsewhere.path().join("recovery.pem");
    signer.config.recovery_file = Some(file.clone());
    let recorder = signer.open();
    let (id, lost) = (recorder.identity().id(), recorder.identity().key_id());
    let public = controls(&recorder);
    drop(recorder);

    let elsewhere = Signer::new(None);
    let random = SystemRandom::new();
    let stranger = SigningKey::generate(&random).expect("a key");
    let mut owner = Succession::of(&elsewhere.config, context(), &public).expect("opens");
    let refused = owner.recover(&stranger).expect_err("not its key");
    assert!(
        refused.to_string().contains("only the root key"),
        "{refused}"
    );
    owner.recover(&key(&file)).expect("recovered");
    owner.close().expect("closed");

    let recorder = elsewhere.open();
    assert_eq!(recorder.identity().id(), id);
    let now = chain(&recorder);
    assert_eq!((now.records().len(), now.valid_instances().count()), (4, 1));
    assert!(now.valid_instances().all(|span| span.key.key_id() != lost));
    assert_eq!(
        now.recovery().map(record::PublicKey::key_id),
        Some(key(&file).key_id())
    );
    let later = controls(&recorder);
    drop(recorder);

    // What the old directory lacks, it learns; its keys do not come back.
    let mut old = Succession::of(&signer.config, context(), &later).expect("opens");
    let refused = old.rotate_root(None).expect_err("another is in force");
    assert!(
        refused.to_string().contains("not the root key"),
        "{refused}"
    );
    old.close().expect("closed");
}

/// As after a theft: the log lists the recovery key and the stolen root key no more.
#[tokio::test]
async fn what_the_log_has_is_not_sent_again_by_a_key_that_it_admits_no_more() {
    let log = FakeLog::start().await;
    let mut signer = Signer::new(Some(log.home()));
    let recovery = signer.config.directory.with_extension("recovery.pem");
    signer.config.recovery_file = Some(recovery.clone());
    let recorder = signer.open();
    let stolen = recorder.identity().root_key_id();
    all_published(&recorder).await;
    let public = controls(&recorder);
    let logged: Vec<Bundle> = {
        let entries = recorder.pinned().await.expect("read");
        let bundles = entries.iter().map(|entry| entry.bundle().expect("logged"));
        bundles.collect()
    };
    drop(recorder);
    log.set(Mood::Without(stolen));

    let new = Signer::new(Some(log.home()));
    let mut owner = Succession::of(&new.config, context(), &public).expect("opens");
    let mut damaged = logged.clone();
    damaged[0].entry.hashes.clear();
    let refused = owner.note_logged(&new.config, &damaged);
    let refused = refused.expect_err("proves nothing").to_string();
    assert!(refused.contains("proof"), "{refused}");
    owner.note_logged(&new.config, &logged).expect("proven");
    let places = |owner: &Succession| {
        let story = owner.story().expect("read");
        let places = story.into_iter().map(|(_, index)| index);
        places.collect::<Vec<_>>()
    };
    assert_eq!(places(&owner), [Some(0), Some(1)]);
    owner.recover(&key(&recovery)).expect("recovered");
    let patience = std::time::Duration::from_secs(60);
    let trouble = owner.send(&new.config, patience).await.expect("sent");
    assert_eq!(trouble, None);
    assert_eq!(places(&owner), [Some(0), Some(1), Some(2), Some(3)]);
    owner.close().expect("closed");

    let recorder = new.open();
    let after = record_one(&recorder, "m", 1, Outcome::Ok).await;
    all_published(&recorder).await;
    assert!(log.ids().contains(&after));
    let first = recorder.entry(public[0].id).await.expect("read");
    assert!(is_published(&first.expect("kept")), "with its proof");
}

#[tokio::test]
async fn a_recovery_cut_short_in_a_new_directory_is_finished_at_the_next_start() {
    let mut signer = Signer::new(None);
    let file = signer.config.directory.with_extension("recovery.pem");
    signer.config.recovery_file = Some(file.clone());
    let public = controls(&signer.open());

    let whole = Signer::new(None);
    let mut owner = Succession::of(&whole.config, context(), &public).expect("opens");
    owner.recover(&key(&file)).expect("recovered");
    let story = owner.story().expect("read");
    owner.close().expect("closed");

    // The same directory as it is when the second of its two records was not written.
    let cut = Signer::new(None);
    let without_last: Vec<Record> = story[..3].iter().map(|(it, _)| it.clone()).collect();
    let owner = Succession::of(&cut.config, context(), &without_last).expect("opens");
    owner.close().expect("closed");
    for name in ["root", "instance"] {
        let made = keys(&whole).join(format!("{name}.pem"));
        fs::copy(made, keys(&cut).join(format!("{name}.next.pem"))).expect("copied");
    }
    let recorder = cut.open();
    let now = chain(&recorder);
    assert_eq!((now.records().len(), now.valid_instances().count()), (4, 1));
    assert_eq!(
        recorder.identity().key_id(),
        key(&keys(&whole).join("instance.pem")).key_id()
    );
}

#[tokio::test]
async fn the_directory_says_who_its_signer_is_also_after_another_began() {
    let signer = Signer::new(None);
    let said = || fs::read_to_string(signer.config.directory.join(recorder::ID_FILE));
    let first = signer.open().identity().id();
    assert_eq!(said().expect("written"), format!("{first}\n"));
    for file in fs::read_dir(&signer.config.directory).expect("read") {
        let file = file.expect("read").path();
        let name = file.file_name().and_then(|it| it.to_str()).unwrap_or("");
        if name.starts_with(store::spool::SPOOL_FILE) {
            fs::remove_file(file).expect("removed");
        }
    }
    fs::remove_file(keys(&signer).join("root.pem")).expect("removed");
    let second = signer.open().identity().id();
    assert_ne!(first, second);
    assert_eq!(said().expect("written"), format!("{second}\n"));
}

#[tokio::test]
async fn a_new_owner_goes_on_with_a_root_key_made_elsewhere() {
    let signer = Signer::new(None);
    let id = signer.open().identity().id();
    let root = SigningKey::generate(&SystemRandom::new()).expect("a key");
    let mut seller = succession(&signer);
    let owner = Owner {
        name: "the buyer".parse().expect("a name"),
        key: *root.public(),
        recovery: None,
    };
    seller.hand_over(owner).expect("handed over");
    let refused = seller.rotate_root(None).expect_err("it is not theirs");
    assert!(
        refused.to_string().contains("not the root key"),
        "{refused}"
    );
    assert!(!seller.signs());
    let public = seller.story().expect("read");
    let public: Vec<Record> = public.into_iter().map(|(record, _)| record).collect();
    seller.close().expect("closed");
    assert!(Recorder::open(&signer.config, context()).is_err());

    let bought = Signer::new(None);
    let mut buyer = Succession::of(&bought.config, context(), &public).expect("opens");
    buyer.take_root(&root).expect("taken");
    buyer.close().expect("closed");
    let recorder = bought.open();
    let now = chain(&recorder);
    assert_eq!(recorder.identity().id(), id);
    assert_eq!(now.name().as_str(), "the buyer");
    assert_eq!(
        (now.owner_changes().len(), now.valid_instances().count()),
        (1, 1)
    );
    drop(recorder);

    // In the seller's own directory the same, and the key from before stays beside.
    let sold = key(&keys(&signer).join("root.pem")).key_id();
    let mut buyer = succession(&signer);
    buyer.take_root(&root).expect("taken");
    buyer.close().expect("closed");
    assert_eq!(key(&keys(&signer).join("root.pem")).key_id(), root.key_id());
    assert_eq!(key(&retired(&signer, "root")).key_id(), sold);
}
