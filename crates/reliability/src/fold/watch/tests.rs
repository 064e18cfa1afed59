//! Units close in order, baselines are learned, rises are found, and false alarms stay rare on
//! outages that cluster as real ones do.

use super::*;
use crate::fold::dimension::{AVAILABILITY, LATENCY, VERDICTS};
use crate::testing::Draws;

const HOUR: u64 = 3600 * 1000;

/// Feeds whole units: `unit(n)` says how many outcomes of unit `n` were good and bad.
fn feed(
    watch: &mut Watch,
    rule: &Rule,
    from: u64,
    to: u64,
    mut unit: impl FnMut(u64) -> (u32, u32),
) -> u64 {
    let mut alarms = 0;
    for window in from..to {
        let (good, bad) = unit(window);
        for outcome in 0..good + bad {
            let now_ms = window * rule.unit_ms + u64::from(outcome);
            alarms += u64::from(
                watch
                    .add(Tally::one(outcome < bad), 0, now_ms, 1, rule)
                    .is_some(),
            );
        }
    }
    alarms
}

#[test]
fn a_unit_is_judged_once_the_next_one_begins() {
    let mut watch = Watch::new();
    for minute in 0..60 {
        let score = Tally::one(minute % 2 == 0);
        assert_eq!(watch.add(score, 0, minute * 60_000, 1, &VERDICTS), None);
    }
    assert_eq!(watch.watched().units, 0);
    watch.add(Tally::one(false), 0, HOUR, 1, &VERDICTS);
    assert_eq!(
        (watch.watched().units, watch.learned[0].total_ppm),
        (1, 500_000)
    );
    // A late outcome counts where it arrives.
    watch.add(Tally::one(true), 0, 10, 1, &VERDICTS);
    assert_eq!(watch.open[0], Tally { good: 1, bad: 1 });
}

#[test]
fn a_learned_baseline_lies_above_the_mean_and_sinks_towards_it() {
    let mut draws = Draws::new(0xba5e);
    let mut watch = Watch::new();
    let mut unit = |_| {
        let bad = (0..20).map(|_| draws.flip(0.02)).sum::<u32>();
        (20 - bad, bad)
    };
    feed(&mut watch, &VERDICTS, 0, 300, &mut unit);
    let early = watch.watched().m0.expect("it watches");
    feed(&mut watch, &VERDICTS, 300, 2100, &mut unit);
    let late = watch.watched().m0.expect("it watches");
    assert!(0.02 < late && late < early && early < 0.2, "{late} {early}");
    assert!(late < 0.06, "{late}");
    let frozen = watch.ceilings;
    feed(&mut watch, &VERDICTS, 2100, 2200, |_| (20, 0));
    assert_eq!(watch.ceilings, frozen);
    assert!(watch.found_within(30, &VERDICTS) < watch.found_within(7, &VERDICTS));
}

#[test]
fn a_rise_is_found_and_the_watch_starts_anew() {
    let mut draws = Draws::new(0x0a1a);
    let mut watch = Watch::new();
    let mut at = |rate: f64| {
        let bad = (0..20).map(|_| draws.flip(rate)).sum::<u32>();
        (20 - bad, bad)
    };
    assert_eq!(feed(&mut watch, &VERDICTS, 0, 2000, |_| at(0.02)), 0);
    let alarms = feed(&mut watch, &VERDICTS, 2000, 2200, |_| at(0.3));
    assert!(alarms >= 1, "no alarm in 200 hours at 30 %");
    watch.restart();
    let anew = watch.watched();
    assert_eq!((anew.m0, anew.units, anew.evidence), (None, 0, 0.0));
    assert_eq!(anew.alarms, alarms);
}

#[test]
fn a_cell_is_judged_by_its_own_baseline() {
    let mut watch = Watch::new();
    // Short prompts never fail, long ones fail every time; then only long ones come.
    let mut alarms = 0;
    for window in 0..2500u64 {
        let now_ms = window * VERDICTS.unit_ms;
        let long_only = window >= 2000;
        for outcome in 0..20 {
            let stratum = usize::from(long_only || outcome == 0);
            let bad = stratum == 1 && outcome % 2 == 0;
            let alarm = watch.add(Tally::one(bad), stratum, now_ms + outcome, 1, &VERDICTS);
            alarms += u64::from(alarm.is_some());
        }
    }
    assert_eq!(
        alarms, 0,
        "a change of the mix is no change of the endpoint"
    );
}

/// Hours of outage in each window of a year-long stretch: gaps of 95 hours on average that cluster
/// (their spread is 2.2 times their mean), log-normal repairs with a median of one hour.
fn outages(draws: &mut Draws, hours: f64, window_hours: f64, mut add: impl FnMut(u64, f64)) {
    let mut now = 0.0;
    loop {
        // Gamma with shape 0.2: mean 1, spread 2.2.
        now += 95.0 * draws.gamma(0.2) / 0.2;
        let mut left = draws.log_normal(1.0, 1.35);
        while left > 0.0 {
            if now >= hours {
                return;
            }
            let window = libm::floor(now / window_hours);
            let here = left.min((window + 1.0) * window_hours - now).max(1e-9);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small whole number"
            )]
            add(window as u64, here / window_hours);
            now += here;
            left -= here;
        }
    }
}

/// False alarms of the weekly watch at a budget that is laxer than the product's, so that a short
/// simulation can tell: 2,000 stream-years at one alarm in 50 years allow 40. Were 40 the
/// expectation, more than 80 would have probability below 10⁻⁷. The same outages on five-minute
/// units break the promise at once, which is why units are weeks.
#[test]
fn clustered_outages_raise_few_alarms_on_weeks_and_many_on_minutes() {
    let budget = Budget::per_year(1.0 / 50.0).expect("a budget");
    let run = |units_a_year: u32, years: u32, seed: u64| {
        let mut draws = Draws::new(seed);
        let baseline = Baseline::new(0.05).expect("a baseline");
        let mut alarms = 0;
        for _ in 0..years {
            let units = f64::from(units_a_year);
            let mut scores = vec![0.0f64; units_a_year as usize];
            outages(&mut draws, 8760.0, 8760.0 / units, |window, share| {
                if let Some(score) = usize::try_from(window)
                    .ok()
                    .and_then(|at| scores.get_mut(at))
                {
                    *score = (*score + share).min(1.0);
                }
            });
            let mut detector = Detector::default();
            for score in &scores {
                detector.step(*score, &baseline, 1.0 / units, budget);
            }
            alarms += detector.alarms();
        }
        alarms
    };
    let weekly = run(52, 2000, 0x3ee6);
    assert!(weekly <= 80, "{weekly} alarms on weeks");
    let five_minutes = run(105_120, 5, 0x5e1f);
    assert!(
        five_minutes > 20,
        "{five_minutes} alarms on five-minute units"
    );
}

#[test]
fn units_are_whole_hours() {
    for rule in [AVAILABILITY, LATENCY, VERDICTS] {
        assert_eq!(rule.unit_ms % HOUR, 0);
        assert!(rule.declared.is_none_or(|m0| m0 < M0_MAX));
    }
}
