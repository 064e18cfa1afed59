//! Verdicts are wrong as rarely as they say, and nothing that raised an alarm confirms it.

use super::*;
use crate::fold::dimension::{AVAILABILITY, Shares, VERDICTS};
use crate::testing::Draws;

/// An alarm about a baseline of 2 % that bettor 4 led: it suspects about 10 %.
fn suspected(rule: &Rule) -> Verdicts {
    let m0 = rule.declared.unwrap_or(0.02);
    let baseline = Baseline::new(m0).expect("a baseline");
    let mut verdicts = Verdicts::default();
    verdicts.begin(1, 0, Suspicion::new([m0; STRATA], &baseline, 4));
    verdicts
}

/// Feeds units of 20 outcomes, until there is a verdict.
fn feed(verdicts: &mut Verdicts, rule: &Rule, units: u64, mut bad: impl FnMut() -> u32) {
    for unit in 0..units {
        let bad = bad();
        for outcome in 0..20 {
            let at_ms = unit * rule.unit_ms + u64::from(outcome);
            verdicts.add(Tally::one(outcome < bad), 0, at_ms, rule);
        }
        if verdicts.open().is_none() {
            return;
        }
    }
}

fn verdict(verdicts: &Verdicts) -> (Verdict, u64) {
    let last = verdicts.recent.back().expect("an alarm");
    assert_eq!(last.ended_ms.is_some(), last.verdict != Verdict::Undecided);
    (last.verdict, last.units)
}

/// Twenty outcomes of a unit, that go wrong together: each is a copy of one of three draws.
fn together(draws: &mut Draws, rate: f64) -> u32 {
    (0..3).map(|n| draws.flip(rate) * [7, 7, 6][n]).sum()
}

#[test]
fn what_lasts_is_confirmed_and_what_is_gone_is_not() {
    let mut draws = Draws::new(0x5a5b);
    for _ in 0..20 {
        let mut lasts = suspected(&VERDICTS);
        feed(&mut lasts, &VERDICTS, 5000, || together(&mut draws, 0.12));
        assert_eq!(verdict(&lasts).0, Verdict::Changed);
        let mut gone = suspected(&VERDICTS);
        feed(&mut gone, &VERDICTS, 5000, || together(&mut draws, 0.01));
        assert_eq!(verdict(&gone).0, Verdict::Transient);
    }
    // Half of the attempts of each week fail: five weeks say so.
    let mut weeks = suspected(&AVAILABILITY);
    feed(&mut weeks, &AVAILABILITY, 50, || 10);
    assert!(verdict(&weeks).1 <= 6, "{:?}", verdict(&weeks));
    let mut few = suspected(&VERDICTS);
    feed(&mut few, &VERDICTS, 3, || 20);
    assert_eq!(
        verdict(&few),
        (Verdict::Undecided, 2),
        "the third unit is open"
    );
}

/// A false `changed` has probability 10⁻⁴ for each of 400 alarms over what has not changed: two or
/// more have probability below 10⁻³ together. The outcomes of a unit go wrong together.
#[test]
fn what_has_not_changed_is_hardly_ever_called_changed() {
    let mut draws = Draws::new(0x00fa);
    let wrong = (0..400)
        .filter(|_| {
            let mut verdicts = suspected(&VERDICTS);
            feed(&mut verdicts, &VERDICTS, 300, || together(&mut draws, 0.02));
            verdict(&verdicts).0 == Verdict::Changed
        })
        .count();
    assert!(wrong <= 1, "{wrong} of 400");
}

/// What raised the alarm goes on as it was: that is never called transient, however bold the bettor who
/// led; and what falls back is. 20 outcomes a unit, through the watch that raises the alarm.
#[test]
fn what_goes_on_as_it_was_is_never_transient() {
    let mut draws = Draws::new(0x60e5);
    for rate in [0.1, 0.15, 0.2, 0.3, 0.4] {
        for after in [rate, 0.01] {
            let mut shares = Shares::new();
            let mut unit = 0;
            let mut week = |rate: f64, shares: &mut Shares| {
                for outcome in 0..20 {
                    let at_ms = unit * AVAILABILITY.unit_ms + outcome;
                    shares.add(draws.flip(rate) == 1, 0, Some(at_ms), &AVAILABILITY);
                }
                unit += 1;
            };
            while shares.alarms.is_none() {
                week(rate, &mut shares);
            }
            let first = |shares: &Shares| {
                let all = shares.alarms.as_ref().expect("an alarm");
                all.recent[0].clone()
            };
            for _ in 0..500 {
                if first(&shares).ended_ms.is_some() {
                    break;
                }
                week(after, &mut shares);
            }
            let verdict = first(&shares).verdict;
            if after < 0.05 {
                assert_eq!(verdict, Verdict::Transient, "{rate}");
            } else {
                assert_ne!(verdict, Verdict::Transient, "{rate}");
            }
        }
    }
}

#[test]
fn a_verdict_stands_and_what_is_not_decided_gives_way() {
    let mut verdicts = suspected(&VERDICTS);
    feed(&mut verdicts, &VERDICTS, 100, || 20);
    let (first, units) = verdict(&verdicts);
    assert_eq!(first, Verdict::Changed);
    feed(&mut verdicts, &VERDICTS, 100, || 0);
    assert_eq!(verdict(&verdicts), (Verdict::Changed, units));

    let suspicion = verdicts.recent[0].suspicion;
    for alarm in 2..=KEPT as u64 + 2 {
        verdicts.begin(alarm, alarm, suspicion);
        assert_eq!(verdicts.open().map(|it| it.alarm), Some(alarm));
        verdicts.give_up(alarm + 1);
    }
    assert_eq!(verdicts.recent.len(), KEPT);
    let last = verdicts.recent.back().expect("an alarm");
    assert_eq!(
        (last.verdict, last.ended_ms),
        (Verdict::Undecided, Some(KEPT as u64 + 3))
    );
}

#[test]
fn conditions_without_a_baseline_confirm_nothing() {
    let baseline = Baseline::new(0.02).expect("a baseline");
    let mut ceilings = [1.0; STRATA];
    ceilings[0] = 0.02;
    let mut verdicts = Verdicts::default();
    verdicts.begin(1, 0, Suspicion::new(ceilings, &baseline, 4));
    for unit in 0..500 {
        verdicts.add(Tally::one(true), 1, unit * VERDICTS.unit_ms, &VERDICTS);
    }
    assert_eq!(verdict(&verdicts), (Verdict::Undecided, 0));
}
