//! What counts, once; what does not; and that two machines agree.

use super::*;
use crate::level::Alpha;
use crate::route::Candidate;

mod dimensions;
mod judgements;
pub(crate) mod party;

use party::{Party, START_MS, See, joined, origin, outside};

/// A log in memory: records in order.
struct Log {
    history: History,
    index: u64,
}

impl Log {
    fn new(parties: &[&Party]) -> Self {
        Self::under(Policy::own_log(origin()), parties)
    }

    fn under(policy: Policy, parties: &[&Party]) -> Self {
        let mut log = Self {
            history: History::new(policy),
            index: 0,
        };
        for party in parties {
            for control in &party.controls {
                assert_eq!(log.add(control), Applied::Counted);
            }
        }
        log
    }

    fn add(&mut self, record: &Record) -> Applied {
        let applied = self.history.apply(record, self.index);
        self.index += 1;
        applied
    }

    fn report(&self) -> Report {
        self.history.report(Alpha::FIVE_PERCENT)
    }

    fn only(&self) -> EndpointReport {
        let mut report = self.report();
        assert_eq!(report.endpoints.len(), 1);
        report.endpoints.remove(0)
    }
}

#[test]
fn only_the_providers_failures_count_against_it() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let seen = [
        See::ok(),
        See::ok(),
        See::failed(Outcome::ProviderError, Fault::Provider),
        See::failed(Outcome::Timeout, Fault::Network),
        See::failed(Outcome::RateLimited, Fault::Client),
        See::failed(Outcome::Canceled, Fault::Client),
        See::failed(Outcome::ClientError, Fault::Client),
        See::failed(Outcome::GatewayError, Fault::Gateway),
        See::failed(Outcome::Truncated, Fault::Provider),
    ];
    for (seq, see) in (1..).zip(&seen) {
        assert_eq!(
            log.add(&caller.observe(&endpoint, seq, see)),
            Applied::Counted
        );
    }
    let report = log.only();
    assert_eq!((report.calls, report.successes, report.failures), (9, 2, 2));
    assert_eq!(report.rate_limited, 1);
    assert_eq!(report.outcomes.values().sum::<u64>(), 9);
    assert_eq!(report.outcomes["truncated"], 1);
    assert_eq!(report.faults["client"], 3);
    assert_eq!(report.faults.values().sum::<u64>(), 7, "ok has no fault");
    let interval = crate::share::of_counts(2, 2, Alpha::FIVE_PERCENT);
    assert_eq!(
        report.interval_ppm,
        [interval.lower_ppm(), interval.upper_ppm()]
    );
    assert_eq!(
        log.history.lower_ppm(&endpoint, Alpha::FIVE_PERCENT),
        (report.lower_ppm, 4)
    );
    assert_eq!(
        report.total.p50_us,
        Some(19024),
        "failed attempts are in no latency"
    );
    assert_eq!(report.total.buckets, [(19024, 2)]);
}

#[test]
fn a_receipt_and_its_observation_are_one_inference_in_either_order() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoint = joined(&provider, "m");
    let receipts: Vec<Record> = (1..=4)
        .map(|seq| provider.receipt(&endpoint, seq))
        .collect();
    let mut log = Log::new(&[&caller, &provider]);
    // Receipt first, observation first, receipt never observed, receipt never logged.
    log.add(&receipts[0]);
    log.add(&caller.observe(&endpoint, 1, &See::with_receipt(&receipts[0])));
    log.add(&caller.observe(&endpoint, 2, &See::with_receipt(&receipts[1])));
    log.add(&receipts[1]);
    log.add(&receipts[2]);
    log.add(&caller.observe(&endpoint, 3, &See::with_receipt(&receipts[3])));
    let report = log.only();
    assert_eq!((report.calls, report.successes), (3, 3));
    assert_eq!((report.receipts.logged, report.receipts.joined), (3, 2));
    assert_eq!(
        (report.receipts.verified, report.receipts_unobserved),
        (3, 1)
    );
    assert!(!report.unilateral);
}

#[test]
fn a_receipt_named_by_two_observations_is_joined_once() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoint = joined(&provider, "m");
    let receipt = provider.receipt(&endpoint, 1);
    let mut log = Log::new(&[&caller, &provider]);
    log.add(&receipt);
    log.add(&caller.observe(&endpoint, 1, &See::with_receipt(&receipt)));
    log.add(&caller.observe(&endpoint, 2, &See::with_receipt(&receipt)));
    assert_eq!(log.only().receipts.joined, 1);
}

#[test]
fn missing_and_invalid_receipts_are_told_apart() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoint = joined(&provider, "m");
    let mut log = Log::new(&[&caller, &provider]);
    log.add(&caller.observe(&endpoint, 1, &See::ok()));
    log.add(&caller.observe(
        &endpoint,
        2,
        &See {
            receipt_invalid: true,
            ..See::ok()
        },
    ));
    let report = log.only();
    assert_eq!((report.receipts.missing, report.receipts.invalid), (1, 1));
    assert!(
        report.unilateral,
        "a provider that shows no receipt leaves only our side"
    );
}

#[test]
fn one_side_alone_is_unilateral() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let mut log = Log::new(&[&caller, &provider]);
    log.add(&caller.observe(&outside("m"), 1, &See::ok()));
    assert!(log.only().unilateral);
    let mut log = Log::new(&[&caller, &provider]);
    log.add(&provider.receipt(&joined(&provider, "m"), 1));
    let report = log.only();
    assert!(report.unilateral);
    assert_eq!(
        (report.calls, report.lower_ppm),
        (0, 0),
        "a provider does not grade itself"
    );
}

#[test]
fn a_record_counts_once_and_a_number_used_twice_is_named() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let first = caller.observe(&endpoint, 1, &See::ok());
    let other = caller.observe(
        &endpoint,
        1,
        &See::failed(Outcome::Timeout, Fault::Provider),
    );
    assert_eq!(log.add(&first), Applied::Counted);
    assert_eq!(log.add(&first), Applied::Repeated);
    assert_eq!(log.add(&other), Applied::NumberTaken);
    let report = log.only();
    assert_eq!(
        (report.calls, report.failures, report.equivocations),
        (1, 0, 1)
    );
    let skipped = log.report().skipped;
    assert_eq!((skipped.repeated, skipped.number_taken), (1, 1));
}

#[test]
fn beyond_the_window_a_repeat_is_unresolved_and_still_not_counted() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let policy = Policy {
        window_records: 3,
        ..Policy::own_log(origin())
    };
    let mut log = Log::under(policy, &[&caller]);
    let first = caller.observe(&endpoint, 1, &See::ok());
    log.add(&first);
    for seq in 2..=5 {
        log.add(&caller.observe(&endpoint, seq, &See::ok()));
    }
    assert_eq!(log.add(&first), Applied::Unresolved);
    assert_eq!((log.only().calls, log.report().skipped.unresolved), (5, 1));
}

#[test]
fn a_gap_is_unknown_once_it_is_overdue() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    log.add(&caller.observe(&endpoint, 1, &See::ok()));
    log.add(&caller.observe(&endpoint, 4, &See::ok()));
    let report = log.only();
    assert_eq!(
        (report.gaps, report.streams_with_gaps, report.unknown),
        (2, 1, 0)
    );
    let later = See {
        start_ms: START_MS + LATE_AFTER_MS + 20_000,
        ..See::ok()
    };
    log.add(&caller.observe(&endpoint, 5, &later));
    let report = log.only();
    assert_eq!(
        (report.gaps, report.unknown, report.unknown_counts),
        (2, 2, true)
    );
    assert!(report.lower_ppm < report.interval_ppm[0]);
    assert_eq!(report.lower_ppm, report.worst_case_ppm[0]);
    // Three outcomes, and two numbers that count as failures: in what routing goes by as well.
    let known_ppm = log.history.known_ppm(&endpoint);
    assert_eq!(known_ppm, 600_000);
    let expected = Candidate {
        success_ppm: 990_000,
        lower_ppm: 900_000,
        ..Candidate::unknown(0)
    };
    let expected = expected.known_of(known_ppm);
    assert_eq!(
        (expected.success_ppm, expected.lower_ppm),
        (594_000, 594_000)
    );
    log.add(&caller.observe(&endpoint, 2, &later));
    log.add(&caller.observe(&endpoint, 3, &later));
    let report = log.only();
    assert_eq!((report.gaps, report.unknown, report.calls), (0, 0, 5));
    assert_eq!(log.history.known_ppm(&endpoint), 1_000_000);
}

#[test]
fn voids_are_unknown_unless_nothing_was_sent() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    log.add(&caller.observe(&endpoint, 1, &See::ok()));
    assert_eq!(
        log.add(&caller.void(&endpoint, 2, 9, Reason::Unused)),
        Applied::Counted
    );
    assert_eq!((log.only().unknown, log.only().voids), (0, 0));
    assert_eq!(
        log.add(&caller.void(&endpoint, 10, 12, Reason::Crash)),
        Applied::Counted
    );
    let report = log.only();
    assert_eq!(
        (report.unknown, report.voids, report.unknown_counts),
        (3, 3, true)
    );
    let known = crate::share::of_counts(1, 0, Alpha::FIVE_PERCENT);
    let worst = crate::share::of_counts(1, 3, Alpha::FIVE_PERCENT);
    assert_eq!(report.interval_ppm, [known.lower_ppm(), known.upper_ppm()]);
    assert_eq!(report.worst_case_ppm, [worst.lower_ppm(), 1_000_000]);
    // Said again, and a record for a number that was given up.
    assert_eq!(
        log.add(&caller.void(&endpoint, 10, 12, Reason::Crash)),
        Applied::Repeated
    );
    assert_eq!(
        log.add(&caller.observe(&endpoint, 11, &See::ok())),
        Applied::NumberTaken
    );
    // A void of a number that has a record.
    assert_eq!(
        log.add(&caller.void(&endpoint, 1, 1, Reason::Crash)),
        Applied::NumberTaken
    );
    assert_eq!(
        (
            log.only().calls,
            log.only().unknown,
            log.only().contradictions
        ),
        (1, 3, 1)
    );
}

#[test]
fn a_thousandth_of_unknown_numbers_is_shown_but_not_held_against_anyone() {
    let mut state = EndpointState::new();
    state.calls = 1998;
    state.voided = 2;
    let gaps = report::Gaps::default();
    assert_eq!(report::unknown(&state, &gaps), (2, false));
    state.voided = 3;
    assert_eq!(report::unknown(&state, &gaps), (3, true));
}

#[test]
fn a_late_record_of_ones_own_counts_and_is_marked() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let now = See {
        start_ms: START_MS + 2 * LATE_AFTER_MS,
        ..See::ok()
    };
    log.add(&caller.observe(&endpoint, 1, &now));
    log.add(&caller.observe(
        &endpoint,
        2,
        &See::failed(Outcome::Timeout, Fault::Provider),
    ));
    let report = log.only();
    assert_eq!((report.late, report.calls, report.failures), (1, 2, 1));
    assert_eq!(
        (report.first_ms, report.last_ms),
        (Some(START_MS), Some(now.start_ms + 19))
    );
}

#[test]
fn a_kind_that_nobody_knows_is_kept_out_of_the_figures() {
    let caller = Party::new("caller");
    let mut log = Log::new(&[&caller]);
    assert_eq!(log.add(&caller.forecast()), Applied::UnknownKind);
    assert_eq!(
        (
            log.report().skipped.unknown_kind,
            log.report().endpoints.len()
        ),
        (1, 0)
    );
}

#[test]
fn a_key_counts_only_while_it_is_delegated() {
    let (mut caller, stranger, endpoint) =
        (Party::new("caller"), Party::new("stranger"), outside("m"));
    let mut log = Log::new(&[&caller]);
    assert_eq!(
        log.add(&stranger.observe(&endpoint, 1, &See::ok())),
        Applied::NotAuthorised
    );
    assert_eq!(
        log.add(&caller.observe(&endpoint, 1, &See::ok())),
        Applied::Counted
    );
    let revocation = caller.revoke();
    assert_eq!(log.add(&revocation), Applied::Counted);
    assert_eq!(
        log.add(&caller.observe(&endpoint, 2, &See::ok())),
        Applied::NotAuthorised
    );
    assert_eq!(log.only().calls, 1);
    // A control record out of its chain changes nothing.
    assert_eq!(log.add(&stranger.controls[1]), Applied::NotAuthorised);
}

#[test]
fn records_count_in_their_signers_home_log_only() {
    let (mut caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let observation = caller.observe(&endpoint, 1, &See::ok());
    let elsewhere = Policy::own_log(LogOrigin::new("example.org/other").expect("an origin"));
    let mut other = Log::under(elsewhere, &[&caller]);
    assert_eq!(other.add(&observation), Applied::OtherHome);
    assert_eq!(log.add(&observation), Applied::Counted);
    let mut no_log = Log::under(Policy::without_log(), &[&caller]);
    assert_eq!(no_log.add(&observation), Applied::Counted);
    // After the signer moved, the old log takes no more of its records into account.
    let moved = caller.move_home("example.org/other");
    assert_eq!(log.add(&moved), Applied::Counted);
    let after = caller.observe(&endpoint, 2, &See::ok());
    assert_eq!(log.add(&after), Applied::OtherHome);
    // The new log holds the whole chain, and counts from where it names that log.
    let elsewhere = Policy::own_log(LogOrigin::new("example.org/other").expect("an origin"));
    let mut other = Log::under(elsewhere, &[&caller]);
    assert_eq!(other.add(&after), Applied::Counted);
}

#[test]
fn an_observer_that_the_policy_does_not_name_is_shown_apart() {
    let (caller, stranger, endpoint) = (Party::new("me"), Party::new("other"), outside("m"));
    let policy = Policy {
        observers: Observers::Only(vec![caller.id]),
        ..Policy::own_log(origin())
    };
    let mut log = Log::under(policy, &[&caller, &stranger]);
    log.add(&caller.observe(&endpoint, 1, &See::ok()));
    let failed = See::failed(Outcome::Timeout, Fault::Provider);
    assert_eq!(
        log.add(&stranger.observe(&endpoint, 1, &failed)),
        Applied::OtherObserver
    );
    assert_eq!(
        log.add(&stranger.void(&endpoint, 2, 900, Reason::Crash)),
        Applied::OtherObserver
    );
    let report = log.only();
    assert_eq!(
        (report.calls, report.failures, report.other_observers),
        (1, 0, 1)
    );
    assert_eq!((report.voids, report.unknown, report.streams), (0, 0, 1));
}

#[test]
fn a_provider_does_not_observe_itself() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let own = joined(&provider, "m");
    let only = Policy {
        observers: Observers::Only(vec![caller.id, provider.id]),
        ..Policy::own_log(origin())
    };
    for policy in [only, Policy::own_log(origin())] {
        let mut log = Log::under(policy, &[&caller, &provider]);
        log.add(&caller.observe(&own, 1, &See::ok()));
        let praise = provider.observe(&own, 1, &See::ok());
        assert_eq!(log.add(&praise), Applied::OtherObserver);
        let report = log.only();
        assert_eq!((report.calls, report.other_observers), (1, 1));
    }
}

#[test]
fn a_stranger_in_ones_own_log_changes_no_figure() {
    let (me, stranger, endpoint) = (Party::new("me"), Party::new("other"), outside("m"));
    let policy = || Policy::own_records(me.id, origin());
    let (mut alone, mut shared) = (
        Log::under(policy(), &[&me]),
        Log::under(policy(), &[&me, &stranger]),
    );
    let failed = See::failed(Outcome::Timeout, Fault::Provider);
    let mine = me.observe(&endpoint, 1, &See::ok());
    let theirs = stranger.observe(&endpoint, 1, &failed);
    assert_eq!(shared.add(&theirs), Applied::OtherObserver);
    for log in [&mut alone, &mut shared] {
        assert_eq!(log.add(&mine), Applied::Counted);
    }
    let (alone, mut shared) = (alone.only(), shared.only());
    assert_eq!(shared.other_observers, 1);
    shared.other_observers = 0;
    assert_eq!(shared, alone);
}

#[test]
fn late_successes_count_only_where_every_record_is_ones_own() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let only = Policy {
        observers: Observers::Only(vec![caller.id]),
        ..Policy::own_log(origin())
    };
    let own = Policy::own_records(caller.id, origin());
    for (policy, counted) in [(only, 2), (own, 3), (Policy::own_log(origin()), 3)] {
        let mut log = Log::under(policy, &[&caller]);
        let now = See {
            start_ms: START_MS + 2 * LATE_AFTER_MS,
            ..See::ok()
        };
        let failed = See::failed(Outcome::Timeout, Fault::Provider);
        for (seq, see) in (1..).zip([now, See::ok(), failed]) {
            log.add(&caller.observe(&endpoint, seq, &see));
        }
        let report = log.only();
        assert_eq!((report.calls, report.failures), (counted, 1));
        assert_eq!((report.late, report.gaps), (2, 0));
    }
}

#[test]
fn a_receipt_from_the_future_does_not_move_the_clock() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoint = joined(&provider, "m");
    let mut log = Log::new(&[&caller, &provider]);
    log.add(&caller.observe(&endpoint, 1, &See::ok()));
    let clock_ms = log.report().clock_ms;
    let future = provider.receipt_at(&endpoint, 1, 4 * START_MS);
    assert_eq!(log.add(&future), Applied::Counted);
    assert_eq!(log.report().clock_ms, clock_ms);
    log.add(&caller.observe(&endpoint, 2, &See::ok()));
    let report = log.only();
    assert_eq!((report.late, report.receipts.logged), (0, 1));
}

#[test]
fn nothing_known_is_said_as_such() {
    let history = History::new(Policy::without_log());
    assert_eq!(
        history.lower_ppm(&outside("m"), Alpha::FIVE_PERCENT),
        (0, 0)
    );
    assert_eq!(history.report(Alpha::FIVE_PERCENT).endpoints, []);
    let caller = Party::new("caller");
    let mut log = Log::new(&[&caller]);
    log.add(&caller.observe(
        &outside("m"),
        1,
        &See::failed(Outcome::Canceled, Fault::Client),
    ));
    let report = log.only();
    assert_eq!((report.interval_ppm, report.calls), ([0, 1_000_000], 1));
}

#[test]
fn the_same_records_give_the_same_bytes_and_any_change_shows() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoints = [joined(&provider, "m"), outside("a"), outside("b")];
    let mut records: Vec<Record> = [&caller, &provider]
        .into_iter()
        .flat_map(|party| party.controls.iter().cloned())
        .collect();
    for (seq, endpoint) in (0..30u64).zip(endpoints.iter().cycle()) {
        records.push(caller.observe(endpoint, seq / 3 + 1, &See::ok()));
    }
    records.push(provider.receipt(&endpoints[0], 1));
    records.push(caller.void(&endpoints[1], 11, 12, Reason::SpoolFull));
    let fold = |records: &[Record]| {
        let mut history = History::new(Policy::own_log(origin()));
        for (index, record) in (0..).zip(records) {
            history.apply(record, index);
        }
        history
    };
    let (whole, again) = (fold(&records), fold(&records));
    assert_eq!(whole.digest(), again.digest());
    let json = |history: &History| {
        serde_json::to_string(&history.report(Alpha::FIVE_PERCENT)).expect("serialises")
    };
    assert_eq!(json(&whole), json(&again));
    // A fold that is carried on equals one that is made anew.
    let (head, tail) = records.split_at(20);
    let mut continued = fold(head);
    for (index, record) in (20..).zip(tail) {
        continued.apply(record, index);
    }
    assert_eq!(continued.digest(), whole.digest());
    // Leaving one out or doubling one shows.
    for at in 4..records.len() {
        let mut shorter = records.clone();
        shorter.remove(at);
        assert_ne!(
            fold(&shorter).digest(),
            whole.digest(),
            "without record {at}"
        );
        let mut doubled = records.clone();
        doubled.insert(at, records[at].clone());
        assert_ne!(
            fold(&doubled).digest(),
            whole.digest(),
            "with record {at} twice"
        );
    }
}

#[test]
fn quantiles_come_from_the_buckets() {
    let mut histogram = Histogram::new();
    assert_eq!(histogram.quantile_us(500_000), None);
    for us in [500, 1000, 1_000_000, 2_000_000, u64::MAX >> 12] {
        histogram.add(record::bucket::duration_us(us));
    }
    let edges: Vec<u64> = histogram.buckets().map(|(edge, _)| edge).collect();
    let want: Vec<u64> = [500, 1000, 1_000_000, 2_000_000, u64::MAX >> 12]
        .map(|us| record::bucket::duration_us(us).us())
        .to_vec();
    assert_eq!(edges, want, "the edges are those of the format");
    assert_eq!(histogram.quantile_us(500_000), Some(want[2]));
    assert_eq!(histogram.quantile_us(0), Some(0));
    assert_eq!(histogram.quantile_us(1_000_000), Some(want[4]));
}
