//! Judgements: joined to their observations, once, in the order of the log.

use record::observation::Purpose;

use super::party::Said;
use super::*;
use crate::share;

const ALPHA: Alpha = Alpha::FIVE_PERCENT;

fn dimension<'a>(report: &'a EndpointReport, name: &str) -> &'a DimensionReport {
    let found = report.dimensions.iter().find(|d| d.dimension == name);
    found.expect("every dimension is reported")
}

/// A log with so many answers of one endpoint, and their observations.
fn answered(caller: &Party, endpoint: &Endpoint, count: u64) -> (Log, Vec<Record>) {
    let mut log = Log::new(&[caller]);
    let seen: Vec<Record> = (1..=count)
        .map(|seq| caller.observe(endpoint, seq, &See::ok()))
        .collect();
    for record in &seen {
        assert_eq!(log.add(record), Applied::Counted);
    }
    (log, seen)
}

#[test]
fn reports_and_checks_are_series_of_their_own() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let (mut log, seen) = answered(&caller, &endpoint, 4);
    let before = log.history.digest();
    for (at, said) in [
        (0, Said::Reported(false)),
        (1, Said::Reported(true)),
        (2, Said::Checked(true)),
        (3, Said::Checked(false)),
        (0, Said::Checked(true)),
    ] {
        let judged = caller.judge(&endpoint, &[(&seen[at], at as u64 + 1)], said);
        assert_eq!(log.add(&judged), Applied::Counted);
    }
    let report = log.only();
    let (checks, reports) = (
        dimension(&report, "correctness_checks"),
        dimension(&report, "correctness_reports"),
    );
    assert_eq!((checks.judged, checks.bad), (3, Some(1)));
    assert_eq!((reports.judged, reports.bad), (2, Some(1)));
    let ends = share::of_counts(2, 1, ALPHA).ends_ppm();
    assert_eq!(checks.lifetime_ppm, Some(ends));
    assert_eq!(checks.cells.len(), 1, "one mix of conditions was tried");
    assert_eq!(report.judgements.checked_wrong, 1);
    assert_eq!(dimension(&report, "consistency").judged, 0);
    assert_eq!(report.calls, 4, "a judgement is no call");
    assert_eq!(report.failures, 0, "a wrong answer is no failed attempt");
    assert_ne!(log.history.digest(), before);
}

#[test]
fn the_first_judgement_counts_and_the_others_are_shown() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let (mut log, seen) = answered(&caller, &endpoint, 1);
    let mut judge = |said| log.add(&caller.judge(&endpoint, &[(&seen[0], 1)], said));
    assert_eq!(judge(Said::Reported(true)), Applied::Counted);
    assert_eq!(judge(Said::Reported(true)), Applied::Repeated);
    assert_eq!(judge(Said::Reported(false)), Applied::JudgedOtherwise);
    let report = log.only();
    assert_eq!(
        (report.judgements.reported, report.judgements.reported_wrong),
        (1, 0)
    );
    assert_eq!(
        (report.judgements.repeated, report.judgements.contradicted),
        (1, 1)
    );
    assert_eq!(log.report().skipped.judged_otherwise, 1);
}

#[test]
fn orphans_are_counted_and_nothing_else() {
    let (caller, other) = (Party::new("caller"), Party::new("other"));
    let endpoint = outside("m");
    let (mut log, seen) = answered(&caller, &endpoint, 2);
    for control in &other.controls {
        log.add(control);
    }
    // Another number, another record of the number, somebody else's observation, no such endpoint.
    let said = Said::Reported(false);
    let stray = caller.observe(&endpoint, 2, &See::ok());
    let orphans = [
        caller.judge(&endpoint, &[(&seen[0], 3)], said),
        caller.judge(&endpoint, &[(&stray, 2)], said),
        other.judge(&endpoint, &[(&seen[0], 1)], said),
        caller.judge(&outside("unheard of"), &[(&seen[0], 1)], said),
        caller.judge(&endpoint, &[(&seen[0], 1), (&stray, 2)], Said::Agree(&[2])),
    ];
    for orphan in &orphans {
        assert_eq!(log.add(orphan), Applied::Orphan);
    }
    let report = log.only();
    assert_eq!(report.judgements.orphans, 4);
    assert_eq!(report.judgements.reported + report.judgements.batches, 0);
    assert_eq!(log.report().skipped.orphan, 5, "one of them of no endpoint");
}

#[test]
fn beyond_the_window_the_number_says_that_there_was_an_observation() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let policy = Policy {
        window_records: 10,
        ..Policy::own_log(origin())
    };
    let mut log = Log::under(policy, &[&caller]);
    let first = caller.observe(&endpoint, 1, &See::ok());
    log.add(&first);
    for seq in (2..=40).filter(|seq| *seq != 7) {
        log.add(&caller.observe(&endpoint, seq, &See::ok()));
    }
    let judge = |seq| caller.judge(&endpoint, &[(&first, seq)], Said::Reported(false));
    assert_eq!(log.add(&judge(1)), Applied::Counted);
    assert_eq!(
        log.add(&judge(7)),
        Applied::Orphan,
        "that number is missing"
    );
    assert_eq!(log.add(&judge(41)), Applied::Orphan, "that one is to come");
}

#[test]
fn agreement_is_one_score_for_each_batch() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let (mut log, seen) = answered(&caller, &endpoint, 9);
    let answers: Vec<(&Record, u64)> = seen.iter().zip(1..).collect();
    // 6 of 10 pairs agree, then 1 of 1, then none of 1.
    for (batch, groups) in [
        (&answers[..5], &[4, 1][..]),
        (&answers[5..7], &[2]),
        (&answers[7..], &[1, 1]),
    ] {
        let judged = caller.judge(&endpoint, batch, Said::Agree(groups));
        assert_eq!(log.add(&judged), Applied::Counted);
        assert_eq!(log.add(&judged), Applied::Repeated);
    }
    let report = log.only();
    let consistency = dimension(&report, "consistency");
    assert_eq!((consistency.judged, consistency.bad), (3, None));
    let ends = share::interval(1.6, 3, ALPHA).ends_ppm();
    assert_eq!(consistency.lifetime_ppm, Some(ends));
    assert_eq!(report.judgements.agreement_ppm, Some(533_333));
    assert_eq!(report.judgements.commonest_ppm, Some(766_666));
}

#[test]
fn no_answer_counts_in_two_batches() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let (mut log, seen) = answered(&caller, &endpoint, 8);
    let answers: Vec<(&Record, u64)> = seen.iter().zip(1..).collect();
    let mut judge = |batch: &[(&Record, u64)]| {
        let groups = [u32::try_from(batch.len()).expect("few")];
        log.add(&caller.judge(&endpoint, batch, Said::Agree(&groups)))
    };
    assert_eq!(judge(&answers[..3]), Applied::Counted);
    assert_eq!(judge(&answers[..3]), Applied::Repeated);
    // Of the same size and agreement, and yet another batch.
    assert_eq!(judge(&answers[2..5]), Applied::JudgedOtherwise);
    // What stood in a batch that did not count is free.
    assert_eq!(judge(&answers[3..6]), Applied::Counted);
    assert_eq!(judge(&answers[1..8]), Applied::JudgedOtherwise);
    assert_eq!(log.only().judgements.batches, 2);
}

#[test]
fn a_provider_does_not_judge_itself_and_strangers_do_not_count() {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoint = joined(&provider, "m");
    let policy = Policy {
        observers: Observers::Only(vec![caller.id]),
        ..Policy::own_log(origin())
    };
    let stranger = Party::new("stranger");
    let mut log = Log::under(policy, &[&caller, &provider, &stranger]);
    let seen = caller.observe(&endpoint, 1, &See::ok());
    log.add(&seen);
    for party in [&provider, &stranger] {
        let praise = party.judge(&endpoint, &[(&seen, 1)], Said::Reported(true));
        assert_eq!(log.add(&praise), Applied::OtherObserver);
    }
    let report = log.only();
    assert_eq!(report.judgements.other_observers, 2);
    assert_eq!(report.judgements.reported, 0);
}

#[test]
fn checks_are_told_apart_and_two_machines_agree() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let check = See {
        purpose: Some(Purpose::Check),
        ..See::ok()
    };
    let mut records = caller.controls.clone();
    for seq in 1..=300 {
        let see = if seq % 3 == 0 { check } else { See::ok() };
        let day = START_MS + seq * 8 * 3600 * 1000;
        let seen = caller.observe(
            &endpoint,
            seq,
            &See {
                start_ms: day,
                ..see
            },
        );
        let said = if seq % 3 == 0 {
            Said::Checked(seq % 2 == 0)
        } else {
            Said::Reported(seq % 5 != 0)
        };
        let judged = caller.judge(&endpoint, &[(&seen, seq)], said);
        records.extend([seen, judged]);
    }
    let fold = |records: &[Record]| {
        let mut history = History::new(Policy::own_log(origin()));
        for (index, record) in (0..).zip(records) {
            history.apply(record, index);
        }
        history
    };
    let whole = fold(&records);
    let report = whole.report(ALPHA).endpoints.remove(0);
    assert_eq!((report.calls, report.checks), (300, 100));
    assert_eq!(report.judgements.checked, 100);
    // Stopped anywhere and carried on, it is the same; without one judgement it is not.
    let mut halved = fold(&records[..301]).clone();
    for (index, record) in (0..).zip(&records).skip(301) {
        halved.apply(record, index);
    }
    assert_eq!(whole.digest(), halved.digest());
    assert_ne!(whole.digest(), fold(&records[..records.len() - 1]).digest());
}
