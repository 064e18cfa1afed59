//! Who may append, and how much.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use record::KeyId;
use services::quota::{ADMISSION_FILE, AdmittedKey, Gate, Quota, Rules, Who};
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
    gate.charge_key(key(9)).unwrap();

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
    let good = String::from_utf8(serde_json::to_vec(&Rules::default()).unwrap()).unwrap();
    assert_eq!(Rules::parse(good.as_bytes()).unwrap(), Rules::default());
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
