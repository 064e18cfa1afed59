//! Who may append, and how much.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use record::control::{Action, Control, Delegate, Revoke, RevokeReason, Rotate};
use record::{KeyId, RecordId, Seq, Signer, SignerId, SigningKey, Statement, bucket};
use ring::rand::SystemRandom;
use services::admission::Submission;
use services::quota::{
    ADMISSION_FILE, AdmittedKey, DELEGATED_PER_KEY_MAX, Gate, Quota, Rules, WORDS_PER_ADDRESS_MAX,
    Who,
};
use tempfile::TempDir;

use common::{NOON_MS, SetClock};

fn key(number: u8) -> KeyId {
    KeyId::from_bytes([number; 32])
}

fn quota(records_per_s: u32, burst: u32) -> Quota {
    Quota {
        records_per_s,
        burst,
    }
}

/// How many of `tries` records get through at this moment.
fn through(gate: &Gate, number: u8, tries: u32) -> u32 {
    (0..tries)
        .filter(|_| gate.charge_key(key(number)).is_ok())
        .count() as u32
}

#[test]
fn a_burst_at_once_and_the_rate_in_the_long_run() {
    let clock = SetClock::at(NOON_MS);
    let mut rules = Rules::new(Who::Anyone);
    rules.per_key = quota(10, 50);
    let gate = Gate::new(rules, Arc::new(clock.clone()));
    assert_eq!(through(&gate, 1, 200), 50);
    assert_eq!(through(&gate, 2, 200), 50, "another key has its own");
    clock.set(NOON_MS + 99);
    assert_eq!(through(&gate, 1, 10), 0);
    clock.set(NOON_MS + 100);
    assert_eq!(through(&gate, 1, 10), 1);
    clock.set(NOON_MS + 2_100);
    assert_eq!(through(&gate, 1, 100), 20);
    let mut passed = 0;
    for second in 10..110 {
        clock.set(NOON_MS + second * 1000);
        passed += through(&gate, 1, 1000);
    }
    assert!(
        (50 + 99 * 10..=50 + 99 * 10 + 10).contains(&passed),
        "{passed}"
    );
    let refusal = gate.charge_key(key(1)).unwrap_err();
    assert_eq!(refusal.code, "rate_limited");
}

/// Made-up keys would fill the table of words, and then no honest key could say one.
#[test]
fn words_on_publishing_need_leave_and_strangers_have_few_a_day() {
    let clock = SetClock::at(NOON_MS);
    let closed = Gate::new(Rules::new(Who::Admitted), Arc::new(clock.clone()));
    let code = |gate: &Gate, number, address| {
        let charged = gate.charge_word(key(number), address);
        charged.err().map(|refusal| refusal.code)
    };
    assert_eq!(code(&closed, 1, None), Some("not_admitted"));

    let mut rules = Rules::open();
    rules.admit(AdmittedKey {
        key: key(255),
        name: String::new(),
        quota: None,
    });
    let open = Gate::new(rules, Arc::new(clock.clone()));
    let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let one = address("2001:db8::1");
    for number in 0..WORDS_PER_ADDRESS_MAX {
        assert_eq!(code(&open, number as u8, one), None);
    }
    let same = address("2001:db8::2");
    assert_eq!(code(&open, 200, same), Some("rate_limited"));
    assert_eq!(code(&open, 200, address("192.0.2.1")), None);
    assert_eq!(
        code(&open, 255, same),
        None,
        "a listed key is not a stranger"
    );
    clock.set(NOON_MS + 86_400_000);
    assert_eq!(code(&open, 200, same), None);
}

#[test]
fn a_clock_that_goes_back_blocks_nobody_for_long() {
    let clock = SetClock::at(NOON_MS);
    let mut rules = Rules::new(Who::Anyone);
    rules.per_key = quota(10, 50);
    let gate = Gate::new(rules, Arc::new(clock.clone()));
    assert_eq!(through(&gate, 1, 100), 50);
    clock.set(NOON_MS - 86_400_000);
    assert_eq!(through(&gate, 1, 100), 0, "nor does it free anything");
    clock.set(NOON_MS - 86_400_000 + 5_000);
    assert_eq!(through(&gate, 1, 100), 50);
}

#[test]
fn only_listed_keys_where_the_log_says_so() {
    let mut rules = Rules::new(Who::Admitted);
    rules.per_key = quota(1, 5);
    rules.admit(AdmittedKey {
        key: key(1),
        name: "a node".to_owned(),
        quota: None,
    });
    rules.admit(AdmittedKey {
        key: key(2),
        name: String::new(),
        quota: Some(quota(1, 7)),
    });
    let gate = Gate::new(rules.clone(), Arc::new(SetClock::at(NOON_MS)));
    assert_eq!(
        (
            through(&gate, 1, 20),
            through(&gate, 2, 20),
            through(&gate, 3, 20)
        ),
        (5, 7, 0)
    );
    assert_eq!(gate.charge_key(key(3)).unwrap_err().code, "not_admitted");
    assert!(rules.remove(key(2)));
    assert!(!rules.remove(key(2)));
    assert_eq!(rules.admitted.len(), 1);
}

#[test]
fn addresses_are_charged_for_all_that_they_send() {
    let mut rules = Rules::new(Who::Anyone);
    let (one, two): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "::1".parse().unwrap());
    let clock = SetClock::at(NOON_MS);
    let free = Gate::new(rules.clone(), Arc::new(clock.clone()));
    free.charge_address(one, u32::MAX).unwrap();
    rules.per_address = Some(quota(100, 1000));
    let gate = Gate::new(rules, Arc::new(clock));
    gate.charge_address(one, 900).unwrap();
    assert_eq!(
        gate.charge_address(one, 101).unwrap_err().code,
        "rate_limited"
    );
    gate.charge_address(one, 100).unwrap();
    gate.charge_address(two, 1000).unwrap();
    gate.charge_address(two, 1).unwrap_err();
}

#[test]
fn rules_are_kept_in_the_directory_and_taken_up_while_the_log_runs() {
    let directory = TempDir::new().unwrap();
    assert_eq!(Rules::load(directory.path()).unwrap(), None);
    let clock = SetClock::at(NOON_MS);
    let gate = Gate::open(directory.path(), Arc::new(clock.clone())).unwrap();
    let refusal = gate.charge_key(key(9)).unwrap_err();
    assert_eq!(
        refusal.code, "not_admitted",
        "nobody, until somebody is listed"
    );

    let mut rules = Rules::new(Who::Admitted);
    rules.admit(AdmittedKey {
        key: key(1),
        name: "one".to_owned(),
        quota: Some(quota(5, 5)),
    });
    rules.save(directory.path()).unwrap();
    assert_eq!(Rules::load(directory.path()).unwrap(), Some(rules));
    clock.set(NOON_MS + 1_000);
    assert_eq!(gate.charge_key(key(9)).unwrap_err().code, "not_admitted");
    gate.charge_key(key(1)).unwrap();

    // Rules that cannot be read change nothing in a log that runs, and keep one from starting.
    std::fs::write(directory.path().join(ADMISSION_FILE), "{").unwrap();
    clock.set(NOON_MS + 3_000);
    gate.charge_key(key(1)).unwrap();
    assert!(Gate::open(directory.path(), Arc::new(clock)).is_err());
}

#[test]
fn rules_are_read_strictly() {
    let good = String::from_utf8(serde_json::to_vec(&Rules::new(Who::Anyone)).unwrap()).unwrap();
    assert_eq!(
        Rules::parse(good.as_bytes()).unwrap(),
        Rules::new(Who::Anyone)
    );
    for (what, text) in [
        (
            "version",
            good.replace("\"longrun_admission\":1", "\"longrun_admission\":2"),
        ),
        ("unknown member", good.replace("\"who\"", "\"whom\"")),
        ("unknown word", good.replace("\"anyone\"", "\"everyone\"")),
        (
            "no rate",
            good.replace("\"records_per_s\":20000", "\"records_per_s\":0"),
        ),
        ("no burst", good.replace("\"burst\":200000", "\"burst\":0")),
        ("negative", good.replace("\"burst\":200000", "\"burst\":-1")),
        (
            "fraction",
            good.replace("\"burst\":200000", "\"burst\":1.5"),
        ),
        (
            "bad key",
            good.replace("\"admitted\":[]", "\"admitted\":[{\"key\":\"xyz\"}]"),
        ),
    ] {
        assert_ne!(text, good, "{what}");
        assert!(Rules::parse(text.as_bytes()).is_err(), "{what}");
    }
}

/// A control record by which a root acts on an instance key, or on its own.
fn control(root: &SigningKey, action: Action) -> Submission {
    control_at(root, 2, action)
}

/// The same as the control record with this number.
fn control_at(root: &SigningKey, seq: u64, action: Action) -> Submission {
    let random = SystemRandom::new();
    let control = Control {
        seq: Seq::new(seq).unwrap(),
        previous: Some(RecordId::new(record::sha256(b"the one before"))),
        at_ms: bucket::start_ms(NOON_MS),
        action,
    };
    let signer = Signer {
        id: Some(SignerId::new(record::sha256(b"the first one"))),
        key: *root.public(),
    };
    let statement = Statement::new(signer, control).unwrap();
    let envelope = root.sign_statement(&statement, &random).unwrap();
    Submission::admit(&envelope.to_json()).unwrap()
}

fn delegates(key: &SigningKey) -> Action {
    Action::Delegate(Delegate {
        key: *key.public(),
        name: None,
    })
}

#[test]
fn admission_reaches_whom_a_listed_key_delegates_and_no_further() {
    let random = SystemRandom::new();
    let new = || SigningKey::generate(&random).unwrap();
    let (root, instance, next_root, late, stranger) = (new(), new(), new(), new(), new());
    let directory = TempDir::new().unwrap();
    let clock = SetClock::at(NOON_MS);
    let open = || Gate::open(directory.path(), Arc::new(clock.clone())).unwrap();
    let gate = open();
    gate.update(|rules| {
        rules.admit(AdmittedKey {
            key: root.key_id(),
            name: "a node".to_owned(),
            quota: Some(quota(1, 10)),
        });
    })
    .unwrap();

    // A stranger admits nobody, itself included.
    let refusal = gate.charge(&control(&stranger, delegates(&instance)));
    assert_eq!(refusal.unwrap_err().code, "not_admitted");
    gate.charge_key(instance.key_id()).unwrap_err();

    // The root does, and both draw on one quota: 1 record so far, 9 left.
    gate.charge(&control(&root, delegates(&instance))).unwrap();
    let paid = (0..20).filter(|_| gate.charge_key(instance.key_id()).is_ok());
    assert_eq!(paid.count(), 9);
    let refusal = gate.charge_key(root.key_id()).unwrap_err();
    assert_eq!(refusal.code, "rate_limited");

    // A rotated root goes on, and so do keys that the new one delegates.
    clock.set(NOON_MS + 10_000);
    let rotation = Action::Rotate(Rotate {
        key: *next_root.public(),
        recovery: None,
    });
    gate.charge(&control(&root, rotation)).unwrap();
    gate.charge(&control(&next_root, delegates(&late))).unwrap();
    gate.charge_key(late.key_id()).unwrap();

    // All of that is known to a log that starts again.
    drop(gate);
    let gate = open();
    gate.charge_key(late.key_id()).unwrap();

    // A revoked key is nobody again, and so are all once the listed key is taken off.
    let revocation = Action::Revoke(Revoke {
        key_id: late.key_id(),
        reason: RevokeReason::Compromised,
    });
    gate.charge(&control(&next_root, revocation)).unwrap();
    gate.charge_key(late.key_id()).unwrap_err();
    gate.charge_key(instance.key_id()).unwrap();
    gate.update(|rules| assert!(rules.remove(root.key_id())))
        .unwrap();
    gate.charge_key(instance.key_id()).unwrap_err();
}

/// An old delegation brings a revoked key not back, and instance keys admit nobody.
#[test]
fn a_delegation_counts_once_and_only_from_a_root() {
    let random = SystemRandom::new();
    let new = || SigningKey::generate(&random).unwrap();
    let (root, next, third, instance, other) = (new(), new(), new(), new(), new());
    let directory = TempDir::new().unwrap();
    let open = || Gate::open(directory.path(), Arc::new(SetClock::at(NOON_MS))).unwrap();
    let gate = open();
    let admit = |gate: &Gate, key: KeyId| {
        let (name, quota) = (String::new(), None);
        let change = |rules: &mut Rules| rules.admit(AdmittedKey { key, name, quota });
        gate.update(change).unwrap();
    };
    admit(&gate, root.key_id());
    let rotates = |key: &SigningKey| {
        let (key, recovery) = (*key.public(), None);
        Action::Rotate(Rotate { key, recovery })
    };
    let revokes = |key: &SigningKey| {
        let (key_id, reason) = (key.key_id(), RevokeReason::Compromised);
        Action::Revoke(Revoke { key_id, reason })
    };
    let (delegation, rotation) = (
        control_at(&root, 2, delegates(&instance)),
        control_at(&root, 3, rotates(&next)),
    );
    gate.charge(&delegation).unwrap();
    gate.charge(&rotation).unwrap();

    // Whoever still has the root that was rotated away ends nobody and begins nobody.
    for word in [revokes(&instance), revokes(&next), delegates(&other)] {
        gate.charge(&control_at(&root, 1_000_000, word)).unwrap();
    }
    gate.charge_key(instance.key_id()).unwrap();
    gate.charge_key(next.key_id()).unwrap();
    gate.charge_key(other.key_id()).unwrap_err();

    // An instance key neither brings another in nor puts one out.
    gate.charge(&control_at(&instance, 4, delegates(&other)))
        .unwrap();
    gate.charge_key(other.key_id()).unwrap_err();
    gate.charge(&control_at(&instance, 4, revokes(&next)))
        .unwrap();
    gate.charge_key(next.key_id()).unwrap();

    // Once revoked, it stays out when the old record comes again, also after a start.
    gate.charge(&control_at(&next, 4, revokes(&instance)))
        .unwrap();
    gate.charge(&delegation).unwrap();
    gate.charge_key(instance.key_id()).unwrap_err();
    drop(gate);
    let gate = open();
    gate.charge(&delegation).unwrap();
    gate.charge_key(instance.key_id()).unwrap_err();
    gate.charge(&control_at(&next, 5, delegates(&instance)))
        .unwrap();
    gate.charge_key(instance.key_id()).unwrap();

    // A root that was rotated away is none any more, also when it sends the old rotation.
    gate.charge(&control_at(&next, 6, rotates(&third))).unwrap();
    gate.charge(&rotation).unwrap();
    gate.charge(&control_at(&next, 7, delegates(&other)))
        .unwrap();
    gate.charge_key(other.key_id()).unwrap_err();
    gate.charge(&control_at(&third, 7, delegates(&other)))
        .unwrap();
    gate.charge_key(other.key_id()).unwrap();

    // Whom nobody who is listed pays for may be taken over by another listed key.
    let heir = new();
    gate.update(|rules| assert!(rules.remove(root.key_id())))
        .unwrap();
    admit(&gate, heir.key_id());
    gate.charge_key(other.key_id()).unwrap_err();
    gate.charge(&control_at(&heir, 2, delegates(&other)))
        .unwrap();
    gate.charge_key(other.key_id()).unwrap();
}

/// A recovery key only rotates; it is needed again the next time that a root is lost.
#[test]
fn a_listed_recovery_key_replaces_a_lost_root_more_than_once() {
    let random = SystemRandom::new();
    let new = || SigningKey::generate(&random).unwrap();
    let (recovery, second, third, instance) = (new(), new(), new(), new());
    let directory = TempDir::new().unwrap();
    let gate = Gate::open(directory.path(), Arc::new(SetClock::at(NOON_MS))).unwrap();
    gate.update(|rules| {
        rules.admit(AdmittedKey {
            key: recovery.key_id(),
            name: String::new(),
            quota: None,
        });
    })
    .unwrap();
    let rotates = |key: &SigningKey| {
        let (key, recovery) = (*key.public(), None);
        Action::Rotate(Rotate { key, recovery })
    };
    for (seq, root) in [(5, &second), (9, &third)] {
        gate.charge(&control_at(&recovery, seq, rotates(root)))
            .unwrap();
        gate.charge(&control_at(root, seq + 1, delegates(&instance)))
            .unwrap();
        gate.charge_key(root.key_id()).unwrap();
    }
    gate.charge_key(instance.key_id()).unwrap();
}

#[test]
fn an_ipv6_network_is_one_address() {
    let mut rules = Rules::new(Who::Anyone);
    rules.per_address = Some(quota(1, 10));
    let gate = Gate::new(rules, Arc::new(SetClock::at(NOON_MS)));
    let charge = |address: &str| gate.charge_address(address.parse().unwrap(), 10).is_ok();
    assert!(charge("2001:db8::1"));
    assert!(!charge("2001:db8::ffff:2"), "the same /64");
    assert!(charge("2001:db8:0:1::1"));
    assert!(charge("192.0.2.1"));
    assert!(!charge("::ffff:192.0.2.1"), "the same in another form");
    assert!(charge("::ffff:192.0.2.2"));
}

#[test]
fn one_listed_key_cannot_bring_in_everybody() {
    let random = SystemRandom::new();
    let root = SigningKey::generate(&random).unwrap();
    let gate = Gate::new(Rules::default(), Arc::new(SetClock::at(NOON_MS)));
    gate.update(|rules| {
        rules.admit(AdmittedKey {
            key: root.key_id(),
            name: String::new(),
            quota: None,
        });
    })
    .unwrap();
    let mut outcomes = (0..=DELEGATED_PER_KEY_MAX).map(|_| {
        let instance = SigningKey::generate(&random).unwrap();
        gate.charge(&control(&root, delegates(&instance)))
    });
    assert!(
        outcomes
            .by_ref()
            .take(DELEGATED_PER_KEY_MAX)
            .all(|o| o.is_ok())
    );
    assert_eq!(outcomes.next().unwrap().unwrap_err().code, "too_many_keys");
}
