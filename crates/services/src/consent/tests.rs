use record::control::{Action, Control, Create, Delegate, Revoke, RevokeReason};
use record::{Seq, Signer, SigningKey, Statement};
use ring::rand::SystemRandom;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;

fn said(key: &SigningKey, log: &str, publish: Publish, at_ms: u64) -> Said {
    let consent = Consent {
        log: LogOrigin::new(log).expect("an origin"),
        key: key.key_id(),
        publish,
        at_ms,
    };
    let signature = key.consent(&consent, &SystemRandom::new());
    Said {
        key: STANDARD.encode(key.public().spki()),
        publish: publish.as_str().to_owned(),
        at_ms,
        signature: STANDARD.encode(signature.expect("randomness")),
        about: None,
        controls: Vec::new(),
    }
}

#[test]
fn the_latest_word_of_the_key_itself_holds_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let consents = Consents::open(dir.path(), "log.example");
    let key = SigningKey::generate(&SystemRandom::new()).expect("a key");
    let (yes, no) = (Publish::Records, Publish::None);
    let first = said(&key, "log.example", yes, NOW_MS);
    assert_eq!(
        consents.hear(first.clone(), NOW_MS, |_| Ok(())).ok(),
        Some(key.key_id())
    );
    assert!(consents.keys().contains_key(&key.key_id()));
    let again = Consents::open(dir.path(), "log.example");
    assert!(again.keys().contains_key(&key.key_id()));

    let code = |said: Said| {
        consents
            .hear(said, NOW_MS, |_| Ok(()))
            .expect_err("refused")
            .code
    };
    assert_eq!(code(said(&key, "log.example", no, NOW_MS - 1)), "stale");
    assert_eq!(
        code(said(&key, "other.example", no, NOW_MS + 1)),
        "bad_signature"
    );
    let ahead = NOW_MS + AHEAD_MAX_MS + 1;
    assert_eq!(code(said(&key, "log.example", no, ahead)), "malformed");
    let mut forged = said(&key, "log.example", no, NOW_MS + 1);
    forged.publish = "records".to_owned();
    assert_eq!(code(forged), "bad_signature");

    let last = said(&key, "log.example", no, NOW_MS + 1);
    consents
        .hear(last, NOW_MS, |_| panic!("taking it back needs no leave"))
        .expect("taken");
    assert!(consents.keys().is_empty());
    // The old word, sent again by somebody who saw it.
    assert_eq!(code(first), "stale");

    std::fs::write(dir.path().join(CONSENT_FILE), "{").expect("written");
    let damaged = Consents::open(dir.path(), "log.example");
    let word = said(&key, "log.example", yes, NOW_MS + 2);
    assert_eq!(
        damaged
            .hear(word, NOW_MS, |_| Ok(()))
            .expect_err("shut")
            .code,
        "unavailable"
    );
}

/// Keys are free to make, so one that may not append shows nothing and takes no room.
#[test]
fn a_key_without_leave_is_not_kept_and_none_of_a_stranger_takes_no_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let consents = Consents::open(dir.path(), "log.example");
    let key = SigningKey::generate(&SystemRandom::new()).expect("a key");
    let never = |_| Err(Refusal::new("not_admitted", "no"));
    let word = |publish, at_ms| said(&key, "log.example", publish, at_ms);
    let heard = consents.hear(word(Publish::Records, NOW_MS), NOW_MS, never);
    assert_eq!(heard.expect_err("refused").code, "not_admitted");
    let heard = consents.hear(word(Publish::None, NOW_MS), NOW_MS, never);
    assert_eq!(heard, Ok(key.key_id()));
    assert!(!dir.path().join(CONSENT_FILE).exists());
}

/// Whoever stole an instance key shows what it signed; its signer ends the key and has the last word.
#[test]
fn the_root_key_takes_back_the_word_of_a_key_that_ended() {
    let random = SystemRandom::new();
    let key = || SigningKey::generate(&random).expect("a key");
    let (root, stolen) = (key(), key());
    let controls = controls(&root, &stolen);
    let dir = tempfile::tempdir().expect("a directory");
    let consents = Consents::open(dir.path(), "log.example");
    let hear = |said| consents.hear(said, NOW_MS, |_| Ok(()));
    let shows = |at_ms| said(&stolen, "log.example", Publish::Records, at_ms);
    hear(shows(NOW_MS)).expect("taken");

    let ends = |by: &SigningKey, publish, controls: &[serde_json::Value]| {
        let consent = Consent {
            log: LogOrigin::new("log.example").expect("an origin"),
            key: stolen.key_id(),
            publish,
            at_ms: NOW_MS + 1,
        };
        let signature = by.consent(&consent, &random).expect("randomness");
        Said {
            key: STANDARD.encode(by.public().spki()),
            publish: publish.as_str().to_owned(),
            at_ms: NOW_MS + 1,
            signature: STANDARD.encode(signature),
            about: Some(stolen.key_id()),
            controls: controls.to_vec(),
        }
    };
    let none = Publish::None;
    let code = |said| hear(said).expect_err("refused").code;
    assert_eq!(
        code(ends(&root, none, &controls[..2])),
        "malformed",
        "it has not ended"
    );
    assert_eq!(
        code(ends(&key(), none, &controls)),
        "malformed",
        "a stranger"
    );
    assert_eq!(code(ends(&root, Publish::Records, &controls)), "malformed");
    assert!(consents.keys().contains_key(&stolen.key_id()));

    hear(ends(&root, none, &controls)).expect("taken");
    let first = &controls[0];
    let create = Envelope::from_json(first.to_string().as_bytes()).expect("an envelope");
    let signer = SignerId::new(create.record_id().digest());
    let pair = (signer, stolen.key_id());
    assert_eq!(*consents.ended(), BTreeSet::from([pair]));
    // Whatever the thief says: over a restart too.
    hear(shows(NOW_MS + 2)).expect("a word for what names other signers");
    let again = Consents::open(dir.path(), "log.example");
    assert!(again.ended().contains(&pair));
    // Anybody may name anybody's key, and so ends it for himself alone.
    let other = key();
    let own = self::controls(&other, &stolen);
    hear(ends(&other, none, &own)).expect("taken");
    assert_eq!(consents.ended().len(), 2);
}

/// A signer begins, lets a key sign, and ends it.
fn controls(root: &SigningKey, instance: &SigningKey) -> Vec<serde_json::Value> {
    let create = Create {
        name: "s".parse().expect("a name"),
        roles: vec!["observer".parse().expect("a word")],
        home_log: LogOrigin::new("log.example").expect("an origin"),
        recovery: None,
    };
    let delegate = Action::Delegate(Delegate {
        key: *instance.public(),
        name: None,
    });
    let revoke = Action::Revoke(Revoke {
        key_id: instance.key_id(),
        reason: RevokeReason::Compromised,
    });
    let at_ms = record::bucket::start_ms(NOW_MS);
    let (mut id, mut previous) = (None, None);
    let mut told = Vec::new();
    for (seq, action) in (1..).zip([Action::Create(create), delegate, revoke]) {
        let control = Control {
            seq: Seq::new(seq).expect("a number"),
            previous,
            at_ms,
            action,
        };
        let signer = Signer {
            id,
            key: *root.public(),
        };
        let statement = Statement::new(signer, control).expect("valid");
        let envelope = root.sign_statement(&statement, &SystemRandom::new());
        let envelope = envelope.expect("randomness");
        previous = Some(envelope.record_id());
        id = id.or(Some(SignerId::new(envelope.record_id().digest())));
        told.push(serde_json::from_slice(&envelope.to_json()).expect("JSON"));
    }
    told
}

/// Made-up keys that fill all places make room for one another, and for whoever signs something.
#[test]
fn words_of_keys_that_never_signed_a_record_make_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Consents {
        places: 3,
        ..Consents::open(dir.path(), "log.example")
    };
    let consents = open();
    let keys: Vec<_> = (0..6)
        .map(|_| SigningKey::generate(&SystemRandom::new()).expect("a key"))
        .collect();
    let says = |consents: &Consents, at: usize| {
        let word = said(
            &keys[at],
            "log.example",
            Publish::Records,
            NOW_MS + at as u64,
        );
        consents.hear(word, NOW_MS + 10, |_| Ok(())).map(|_| ())
    };
    let shown = |consents: &Consents| {
        let shown = consents.keys();
        (0..keys.len())
            .filter(|at| shown.contains_key(&keys[*at].key_id()))
            .collect::<Vec<_>>()
    };
    (0..3).for_each(|at| says(&consents, at).expect("there is room"));
    consents.signed(keys[0].key_id());
    says(&consents, 3).expect("the second makes room");
    assert_eq!(shown(&consents), [0, 2, 3]);
    // Kept over a restart.
    let consents = open();
    consents.signed(keys[2].key_id());
    consents.signed(keys[3].key_id());
    let full = says(&consents, 4).expect_err("all of them signed something");
    assert_eq!(full.code, "too_many_keys");
    assert_eq!(shown(&consents), [0, 2, 3]);
}
