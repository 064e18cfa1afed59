//! Dimensions apart, epochs, incidents, known hours, groups, and one digest over all of it.

use record::observation::{PromptClass, Verdict};

use super::*;
use crate::evidence::Verdict as Reached;
use crate::share;

const HOUR_MS: u64 = 3600 * 1000;
const ALPHA: Alpha = Alpha::FIVE_PERCENT;

fn dimension<'a>(report: &'a EndpointReport, name: &str) -> &'a DimensionReport {
    let found = report.dimensions.iter().find(|d| d.dimension == name);
    found.expect("every dimension is reported")
}

fn at(start_ms: u64) -> See {
    See {
        start_ms: START_MS + start_ms,
        ..See::ok()
    }
}

#[test]
fn dimensions_are_kept_apart() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let violation = See {
        schema: Verdict::Failed,
        ..See::failed(Outcome::SchemaViolation, Fault::Unknown)
    };
    let valid = See {
        schema: Verdict::Passed,
        ..See::ok()
    };
    for (seq, see) in (1..).zip([See::ok(), valid, valid, violation]) {
        log.add(&caller.observe(&endpoint, seq, &see));
    }
    let report = log.only();
    let (availability, schema) = (
        dimension(&report, "availability"),
        dimension(&report, "schema"),
    );
    assert_eq!((availability.judged, availability.bad), (3, Some(0)));
    assert_eq!((schema.judged, schema.bad), (3, Some(1)));
    assert_eq!(
        schema.lifetime_ppm,
        Some(share::of_counts(2, 1, ALPHA).ends_ppm())
    );
    assert_eq!(dimension(&report, "tools").judged, 0);
    assert_eq!(
        dimension(&report, "tools").lifetime_ppm,
        Some([0, 1_000_000])
    );
    assert_eq!(dimension(&report, "first_token").judged, 3);
    assert_eq!(log.report().unmeasured, UNMEASURED);
}

#[test]
fn a_policy_that_trusts_nobody_says_so() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let policy = Policy {
        observers: Observers::Only(Vec::new()),
        ..Policy::own_log(origin())
    };
    let mut log = Log::under(policy, &[&caller]);
    log.add(&caller.observe(&endpoint, 1, &See::ok()));
    let report = log.report();
    assert!(report.trusts_nobody);
    assert_eq!(report.endpoints[0].interval_ppm, [0, 1_000_000]);
    assert!(!Log::new(&[&caller]).report().trusts_nobody);
}

#[test]
fn calls_that_were_given_up_are_censored() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    for seq in 1..=40 {
        let see = if seq % 2 == 0 {
            See {
                total_us: 4_000_000,
                ..See::failed(Outcome::Canceled, Fault::Client)
            }
        } else {
            See::ok()
        };
        log.add(&caller.observe(&endpoint, seq, &see));
    }
    let report = log.only();
    let first_token = dimension(&report, "first_token");
    let bands = first_token.lifetime_bands.expect("a duration has bands");
    assert_eq!((first_token.judged, bands.given_up), (20, 20));
    assert_eq!(bands.p99_us.1, None, "half of the calls never got there");
    assert_eq!(report.total_bands.given_up, 20);
    assert_eq!(report.total.p99_us, Some(19024), "of successes");
}

#[test]
fn another_manifest_opens_an_epoch_and_the_same_one_again_does_not() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoint = joined(&provider, "m");
    let mut log = Log::new(&[&caller, &provider]);
    log.add(&provider.manifest("m", "f16", START_MS));
    assert_eq!(log.report().endpoints, [], "nobody called yet");
    log.add(&caller.observe(&endpoint, 1, &See::ok()));
    log.add(&provider.manifest("m", "f16", START_MS + 60_000));
    log.add(&provider.manifest("other", "q4_0", START_MS + 60_000));
    let epoch = |log: &Log| dimension(&log.only(), "availability").epoch;
    assert_eq!((epoch(&log).number, epoch(&log).cause), (1, Cause::Start));
    log.add(&provider.manifest("m", "q4_0", START_MS + 60_000));
    log.add(&caller.observe(&endpoint, 2, &at(60_000)));
    assert_eq!(
        (epoch(&log).number, epoch(&log).cause),
        (2, Cause::Manifest)
    );
    let report = log.only();
    let availability = dimension(&report, "availability");
    assert_eq!(availability.judged, 2, "the history goes on");
    let one = share::of_counts(1, 0, ALPHA).ends_ppm();
    assert_eq!(availability.current_ppm, Some(one));
}

#[test]
fn a_manifest_a_week_does_not_silence_the_detector_of_availability() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoint = joined(&provider, "m");
    let mut log = Log::new(&[&caller, &provider]);
    let mut seq = 0;
    for week in 0..12 {
        let precision = if week % 2 == 0 { "f16" } else { "q4_0" };
        log.add(&provider.manifest("m", precision, START_MS));
        for call in 0..10 {
            seq += 1;
            let see = See {
                start_ms: START_MS + (week * 168 + call) * HOUR_MS,
                ..See::failed(Outcome::Timeout, Fault::Provider)
            };
            log.add(&caller.observe(&endpoint, seq, &see));
        }
    }
    let report = log.only();
    let availability = dimension(&report, "availability");
    assert!(availability.epoch.number > 12);
    assert!(availability.detector.alarms > 0);
    assert_eq!(log.history.alarms(&endpoint), availability.detector.alarms);
}

#[test]
fn a_schema_that_breaks_raises_the_alarm_and_opens_an_epoch_there_alone() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let mut seq = 0;
    let mut hour = |hour: u64, verdict, log: &mut Log| {
        seq += 1;
        let see = See {
            schema: verdict,
            ..at(hour * HOUR_MS)
        };
        log.add(&caller.observe(&endpoint, seq, &see));
    };
    (0..400).for_each(|n| hour(n, Verdict::Passed, &mut log));
    let before = log.only();
    let detector = dimension(&before, "schema").detector;
    assert_eq!(
        (detector.state, detector.alarms),
        (DetectorState::Watching, 0)
    );
    assert!(detector.baseline_ppm.is_some_and(|m0| m0 < 200_000));
    assert!(detector.found_in_30_days_ppm < detector.found_in_7_days_ppm);
    (400..420).for_each(|n| hour(n, Verdict::Failed, &mut log));
    let after = log.only();
    let schema = dimension(&after, "schema");
    assert_eq!(
        (schema.detector.alarms, schema.epoch.cause),
        (1, Cause::Alarm)
    );
    assert_eq!(schema.epoch.number, 2);
    assert_eq!(dimension(&after, "availability").epoch.number, 1);
    assert!(schema.lifetime_ppm.expect("a share")[0] > 800_000);
    assert_eq!(schema.current_ppm.expect("a share")[0], 0);
}

#[test]
fn an_alarm_is_confirmed_by_what_comes_after_it() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let mut seq = 0;
    let mut hours = |hours: std::ops::Range<u64>, verdict, log: &mut Log| {
        for hour in hours {
            seq += 1;
            let see = See {
                schema: verdict,
                ..at(hour * HOUR_MS)
            };
            log.add(&caller.observe(&endpoint, seq, &see));
        }
    };
    hours(0..400, Verdict::Passed, &mut log);
    assert_eq!(log.history.suspected_since_ms(&endpoint), None);
    hours(400..412, Verdict::Failed, &mut log);
    let open = log.only();
    let [alarm] = &dimension(&open, "schema").verdicts[..] else {
        panic!("one alarm: {open:#?}");
    };
    assert_eq!(log.history.suspected_since_ms(&endpoint), Some(alarm.at_ms));
    assert_eq!((alarm.verdict, alarm.ended_ms), (Reached::Undecided, None));
    assert!(alarm.at_ms > START_MS + 400 * HOUR_MS && alarm.tolerated_ppm < alarm.suspected_ppm);
    let before = log.history.digest();
    hours(412..460, Verdict::Failed, &mut log);
    let settled = log.only();
    let [(of, told)] = &log.history.verdicts(&endpoint).collect::<Vec<_>>()[..] else {
        panic!("one alarm: {settled:#?}");
    };
    assert_eq!(
        (*of, told.alarm, told.verdict),
        ("schema", 1, Reached::Changed)
    );
    assert!(
        told.units < 15 && told.in_words.starts_with("confirmed by"),
        "{told:?}"
    );
    assert_eq!(log.history.suspected_since_ms(&endpoint), None);
    assert_ne!(log.history.digest(), before);
    assert_eq!(dimension(&settled, "tools").verdicts, []);
}

#[test]
fn incidents_and_unknown_hours_are_told() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    let minute = 60_000;
    for seq in 1..=120u64 {
        let see = See {
            start_ms: START_MS + seq * minute,
            ..if (30..40).contains(&seq) {
                See::failed(Outcome::ProviderError, Fault::Provider)
            } else {
                See::ok()
            }
        };
        log.add(&caller.observe(&endpoint, seq, &see));
    }
    let report = log.only();
    assert_eq!(
        (report.incidents.count, report.incidents.open_since_ms),
        (1, None)
    );
    let [incident] = report.incidents.recent[..] else {
        panic!("one incident: {:?}", report.incidents);
    };
    // The first failure fell into the block before, which it did not spoil.
    assert_eq!(incident.start_ms, START_MS + 31 * minute + 19);
    assert_eq!(incident.failed, 9);
    assert_eq!(
        report.known_hours + report.unknown_hours,
        (START_MS + 120 * minute) / HOUR_MS - (START_MS + minute) / HOUR_MS + 1
    );
    log.add(&caller.observe(&endpoint, 121, &at(100 * HOUR_MS)));
    assert!(log.only().unknown_hours > 90);
}

#[test]
fn conditions_that_nobody_tried_are_unknown() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let mut log = Log::new(&[&caller]);
    for seq in 1..=100 {
        log.add(&caller.observe(&endpoint, seq, &See::ok()));
    }
    let unknown = |log: &Log| {
        let report = log.only();
        let availability = dimension(&report, "availability").clone();
        availability.standardised_unknown_ppm.expect("a share")
    };
    let short_only = unknown(&log);
    let long = See {
        prompt: PromptClass::Long,
        ..See::ok()
    };
    log.add(&caller.observe(&endpoint, 101, &long));
    assert!(unknown(&log) < short_only && short_only < 1_000_000);
}

#[test]
fn models_and_providers_are_summed_above_their_endpoints() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let mut log = Log::new(&[&caller, &provider]);
    let fails = See::failed(Outcome::Timeout, Fault::Provider);
    log.add(&caller.observe(&outside("m"), 1, &See::ok()));
    log.add(&caller.observe(&outside("n"), 1, &fails));
    log.add(&caller.observe(&joined(&provider, "m"), 1, &See::ok()));
    let report = log.report();
    let figures = |groups: &[GroupReport]| -> Vec<(String, u64, u64, u64)> {
        let figure = |g: &GroupReport| (g.name.clone(), g.endpoints, g.successes, g.failures);
        groups.iter().map(figure).collect()
    };
    assert_eq!(
        figures(&report.models),
        [("m".to_owned(), 2, 2, 0), ("n".to_owned(), 1, 0, 1)]
    );
    assert_eq!(report.providers.len(), 2);
    assert_eq!(report.providers.iter().map(|p| p.calls).sum::<u64>(), 3);
    let of = |group: &GroupReport, name: &str| {
        let found = group.dimensions.iter().find(|it| it.dimension == name);
        found.expect("every dimension is summed").clone()
    };
    let (m, n) = (&report.models[0], &report.models[1]);
    let availability = of(m, "availability");
    assert_eq!((availability.judged, availability.bad), (2, Some(0)));
    assert_eq!(availability.endpoints, 2);
    assert_eq!(availability.lifetime_ppm, Some(m.interval_ppm));
    assert_eq!(
        availability.cells.len(),
        1,
        "one mix of conditions was tried"
    );
    let first_token = of(m, "first_token");
    assert_eq!((first_token.judged, first_token.endpoints), (2, 2));
    assert!(first_token.lifetime_bands.is_some());
    assert_eq!(of(m, "schema").lifetime_ppm, Some([0, 1_000_000]));
    assert_eq!(n.outcomes["timeout"], 1);
    assert_eq!(n.unknown, 0);
}

/// Folded in one go, in steps, on a copy, and under other names of the same machine: one digest.
/// What the detectors hold is in it: two histories with equal counts in another order of time
/// differ.
#[test]
fn the_digest_covers_evidence_and_does_not_depend_on_how_one_got_there() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let observe = |seq: u64, hour: u64, verdict| {
        let see = See {
            schema: verdict,
            ..at(hour * HOUR_MS)
        };
        caller.observe(&endpoint, seq, &see)
    };
    let run = |failing: std::ops::Range<u64>| -> Vec<Record> {
        (1..=300)
            .map(|n| {
                let failed = failing.contains(&n);
                observe(
                    n,
                    n,
                    if failed {
                        Verdict::Failed
                    } else {
                        Verdict::Passed
                    },
                )
            })
            .collect()
    };
    let fold = |records: &[Record], steps: usize| {
        let mut history = History::new(Policy::own_log(origin()));
        let controls = caller.controls.iter();
        let all: Vec<&Record> = controls.chain(records).collect();
        let mut index = 0;
        for chunk in all.chunks(steps) {
            let mut next = history.clone();
            for record in chunk {
                next.apply(record, index);
                index += 1;
            }
            history = next;
        }
        history.digest()
    };
    let (early, late) = (run(100..110), run(200..210));
    let whole = fold(&early, usize::MAX);
    assert_eq!(fold(&early, 1), whole);
    assert_eq!(fold(&early, 37), whole);
    assert_ne!(fold(&late, usize::MAX), whole);
}
