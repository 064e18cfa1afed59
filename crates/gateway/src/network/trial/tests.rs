use super::*;

fn key(number: u32) -> KeyId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    KeyId::from_bytes(bytes)
}

/// An address of its own for each.
fn own(key: &KeyId) -> Option<KeyId> {
    Some(*key)
}

fn keys(numbers: std::ops::Range<u32>) -> BTreeSet<KeyId> {
    numbers.map(key).collect()
}

#[test]
fn who_fails_is_left_alone_for_an_hour_also_if_the_offer_goes_and_comes() {
    let mut trials = Trials::default();
    let mut draw = Draw::numbered(1, 1);
    trials.offered(&keys(0..1), 0);
    assert_eq!(trials.seat(0, &mut draw, own), [key(0)]);
    trials.failed(&key(0), 1000);
    for now_ms in [1001, 2000, DROPPED_MS + 999] {
        trials.offered(&keys(0..0), now_ms);
        trials.offered(&keys(0..1), now_ms);
        assert!(trials.seat(now_ms, &mut draw, own).is_empty(), "{now_ms}");
    }
    let later_ms = DROPPED_MS + 1000;
    trials.offered(&keys(0..1), later_ms);
    assert_eq!(trials.seat(later_ms, &mut draw, own), [key(0)]);
    trials.failed(&key(0), later_ms);
    let twice = Stage::Dropped {
        until_ms: later_ms + 2 * DROPPED_MS,
    };
    assert_eq!(trials.stage(&key(0)), Some(twice));
}

#[test]
fn a_node_with_a_record_that_was_not_there_is_looked_for_again_soon() {
    let (mut trials, mut draw) = (Trials::default(), Draw::numbered(1, 1));
    let all = keys(0..1);
    trials.offered(&all, 0);
    assert_eq!(trials.seat(0, &mut draw, own).len(), 1);
    for round in 0..3 {
        let at_ms = round * AGAIN_MS;
        trials.missed(&key(0), at_ms);
        trials.offered(&all, at_ms + AGAIN_MS - 1);
        assert!(trials.seat(at_ms + AGAIN_MS - 1, &mut draw, own).is_empty());
        trials.offered(&all, at_ms + AGAIN_MS);
        assert_eq!(trials.seat(at_ms + AGAIN_MS, &mut draw, own).len(), 1);
    }
}

#[test]
fn a_seat_that_is_not_used_goes_to_another_and_the_ordinary_keep_their_place() {
    let mut trials = Trials::default();
    let mut draw = Draw::numbered(1, 1);
    trials.offered(&keys(0..1), 0);
    trials.seat(0, &mut draw, own);
    trials.graduated(&key(0));
    let all = keys(0..1000);
    trials.offered(&all, 0);
    assert_eq!(trials.seat(0, &mut draw, own).len(), SEATS);
    assert!(trials.seat(0, &mut draw, own).is_empty(), "no seat is free");
    trials.offered(&all, TENURE_MS);
    assert_eq!(trials.counts(), [999, 0, 1, 0]);
    assert_eq!(trials.seat(TENURE_MS, &mut draw, own).len(), SEATS);
    trials.offered(&keys(0..0), TENURE_MS);
    assert_eq!(trials.counts(), [0; 4], "withdrawn, and nobody failed");
}

#[test]
fn trials_are_as_rare_as_the_share_says_in_any_stretch_of_calls() {
    let mut credit = Credit::default();
    let spent: Vec<bool> = (0..5000).map(|_| credit.spend(20_000)).collect();
    assert!(spent[0], "the first comes at once");
    for calls in [1, 49, 50, 51, 500, 4000] {
        let most = spent
            .windows(calls)
            .map(|window| window.iter().filter(|it| **it).count())
            .max();
        assert_eq!(most, Some(calls.div_ceil(50)), "{calls}");
    }
    assert!((0..100).all(|_| !Credit::default().spend(0)));
}

/// 1,000 nodes that serve and 10,000 that do not: half are not there, half fail their first call.
/// An hour and a half of 20 calls a second, in which the false ones come back under the same keys.
#[test]
fn a_flood_of_false_nodes_costs_the_share_of_trials_and_no_more() {
    const HONEST: u32 = 1000;
    let all = keys(0..11_000);
    let honest = keys(0..HONEST);
    let absent = keys(HONEST..6000);
    let mut trials = Trials::default();
    let mut credit = Credit::default();
    let (mut calls, mut tried) = (0u64, 0u64);
    let mut served: BTreeMap<KeyId, u32> = BTreeMap::new();
    let mut failed_at: BTreeMap<KeyId, u64> = BTreeMap::new();
    let mut seated: BTreeSet<KeyId> = BTreeSet::new();
    for step in 0..540 {
        let now_ms = step * 10_000;
        trials.offered(&all, now_ms);
        seated.retain(|key| matches!(trials.stage(key), Some(Stage::Trying { .. })));
        let mut draw = Draw::numbered(7, step);
        for key in trials.seat(now_ms, &mut draw, own) {
            if absent.contains(&key) {
                trials.failed(&key, now_ms);
            } else {
                seated.insert(key);
            }
        }
        assert!(seated.len() <= SEATS, "no more than the seats are tried");
        for _ in 0..200 {
            calls += 1;
            if seated.is_empty() || !credit.spend(20_000) {
                continue;
            }
            tried += 1;
            let at = usize::try_from(draw.below(seated.len() as u64)).expect("small");
            let key = *seated.iter().nth(at).expect("within");
            if honest.contains(&key) {
                let count = served.entry(key).or_default();
                *count += 1;
                if *count == 20 {
                    trials.graduated(&key);
                    seated.remove(&key);
                }
            } else {
                let before = failed_at.insert(key, now_ms);
                assert!(before.is_none_or(|at_ms| now_ms >= at_ms + DROPPED_MS));
                trials.failed(&key, now_ms);
                seated.remove(&key);
            }
        }
    }
    assert!(tried <= calls.div_ceil(50), "{tried} of {calls}");
    assert!(tried > calls / 60, "and the share is used");
    assert!(trials.nodes.len() <= 11_000);
    // Seats went to everybody: of 1,000 honest ones many were tried although ten times as many
    // false ones wanted the seats.
    assert!(
        served.len() > 50,
        "{} honest nodes were tried",
        served.len()
    );
}

/// Whoever names the address of another node in ten thousand offers holds it up for as long as one
/// check takes: the check says whose address it is.
#[test]
fn many_keys_that_name_one_address_are_one_in_the_lot() {
    let all = keys(0..10_001);
    let mut trials = Trials::default();
    trials.offered(&all, 0);
    let last = key(10_000);
    let address = |key: &KeyId| Some(*key == last);
    let seated = trials.seat(0, &mut Draw::numbered(1, 1), address);
    assert_eq!(seated.len(), 2);
    assert!(seated.contains(&last));
    // It was asked just now, so nobody else who names it is asked.
    let none = |_: &KeyId| None::<bool>;
    assert!(trials.seat(0, &mut Draw::numbered(1, 2), none).is_empty());
    // Whose it is waits no longer.
    let holder = key(4711);
    assert!(trials.take(&holder, 0));
    assert!(!trials.take(&holder, 0), "it has a seat");
}
