//! Golden values, edges, and coverage by seeded simulations.

use super::*;
use crate::kt;
use crate::testing::Draws;

const ALPHA: Alpha = Alpha::FIVE_PERCENT;

fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "got {got}, want {want}");
}

/// Computed with numpy from the formula.
#[test]
fn bounds_match_their_golden_values() {
    let rows = [
        (5.0, 5, 0.366_591_577_032, 1.0),
        (50.0, 50, 0.904_520_161_292, 1.0),
        (990.0, 1000, 0.973_913_985_001, 0.997_857_426_815),
        (10.0, 1000, 0.002_142_573_185, 0.026_086_014_999),
        (99_000.0, 100_000, 0.988_765_422_493, 0.991_139_772_558),
        (999_000.0, 1_000_000, 0.998_875_874_308, 0.999_114_447_273),
        (12.5, 40, 0.092_636_820_173, 0.601_286_971_315),
    ];
    for (total, units, lower, upper) in rows {
        let got = interval(total, units, ALPHA);
        close(got.lower, lower, 1e-9);
        close(got.upper, upper, 1e-9);
    }
    let weights: f64 = (1..=RUNGS).map(|rung| 1.0 / f64::from(rung)).sum();
    close(weights, WEIGHTS_TOTAL, 1e-12);
}

#[test]
fn nothing_and_nonsense_exclude_nothing() {
    for (total, units) in [(0.0, 0), (-1.0, 5), (6.0, 5), (f64::NAN, 5)] {
        assert_eq!(interval(total, units, ALPHA), Interval::UNKNOWN);
    }
    assert_eq!(interval(0.0, 40, ALPHA).lower, 0.0);
    assert_eq!(interval(40.0, 40, ALPHA).upper, 1.0);
}

#[test]
fn huge_counts_stay_around_the_share() {
    let got = of_counts(999_000_000_000, 1_000_000_000, ALPHA);
    assert!(got.lower < 0.999 && got.upper > 0.999, "{got:?}");
    assert!(got.upper - got.lower < 1e-6, "{got:?}");
}

#[test]
fn it_is_about_as_narrow_as_the_interval_for_independent_outcomes() {
    for (successes, failures) in [(50, 0), (990, 10), (99_000, 1000), (999_000, 1000)] {
        let (ours, theirs) = (
            of_counts(successes, failures, ALPHA),
            kt::interval(successes, failures, ALPHA),
        );
        let (ours, theirs) = (ours.upper - ours.lower, theirs.upper - theirs.lower);
        assert!(ours < 1.1 * theirs, "{ours} against {theirs}");
    }
}

/// When the interval is looked at: always at first, then at one look in `every`.
fn looked_at(look: u32, every: u32) -> bool {
    look <= 100 || look.is_multiple_of(every)
}

/// Paths on which the interval ever excludes the mean chance so far, at the looks that are taken.
fn ever_missed(world: World, every: u32) -> u32 {
    const LOOKS: u32 = 10_000;
    let mut draws = Draws::new(0x5ea1_2026);
    let mut missed = 0;
    for _ in 0..PATHS {
        let (mut total, mut chances, mut last, mut miss) = (0.0, 0.0, 0.0, false);
        for look in 1..=LOOKS {
            let (chance, score) = world(look, last, &mut draws);
            (total, chances, last) = (total + score, chances + chance, score);
            if !miss && looked_at(look, every) {
                let got = interval(total, look.into(), ALPHA);
                let truth = chances / f64::from(look);
                miss = !(got.lower..=got.upper).contains(&truth);
            }
        }
        missed += u32::from(miss);
    }
    missed
}

/// Odds of a wrong alarm in each test below: were the true ever-miss as high as 5 %, the misses on
/// 500 paths would have mean 25 and standard deviation 4.9; the limit of 50 is five deviations up,
/// passed with probability below 10⁻⁶. Seeds are fixed, so nothing flickers.
const PATHS: u32 = 500;
/// See [`PATHS`].
const LIMIT: u32 = 50;
/// One look in so many is taken where there is no time for all.
const SPARSE: u32 = 50;

/// What happens: the chance of the unit with this number, given the last score, and its score.
type World = fn(u32, f64, &mut Draws) -> (f64, f64);

const WORLDS: [(&str, World); 4] = [
    ("independent outcomes", independent),
    ("chances that drift, jump and follow the past", drifting),
    ("batches as units", batches),
    ("bursts within units", bursts),
];

fn independent(_: u32, _: f64, draws: &mut Draws) -> (f64, f64) {
    (0.03, f64::from(draws.flip(0.03)))
}

fn drifting(look: u32, last: f64, draws: &mut Draws) -> (f64, f64) {
    let wave = 0.05 + 0.04 * libm::sin(f64::from(look) / 700.0);
    let jump = if look > 6000 { 0.2 } else { 0.0 };
    let chance = wave + jump + 0.5 * last;
    (chance, f64::from(draws.flip(chance)))
}

fn batches(_: u32, _: f64, draws: &mut Draws) -> (f64, f64) {
    (0.02, batch_share(draws))
}

/// One unit in twenty holds a burst that takes up any part of it.
fn bursts(_: u32, _: f64, draws: &mut Draws) -> (f64, f64) {
    let burst = draws.flip(0.05) == 1;
    (0.025, if burst { draws.unit() } else { 0.0 })
}

#[test]
fn what_was_served_is_covered_however_it_came_about() {
    for (name, world) in WORLDS {
        let missed = ever_missed(world, SPARSE);
        assert!(missed <= LIMIT, "{name}: {missed} of {PATHS} paths missed");
    }
}

/// The same at each of the 10,000 looks.
#[test]
#[ignore = "about two minutes in the release profile"]
fn promises_hold_at_every_look() {
    for (name, world) in WORLDS {
        let missed = ever_missed(world, 1);
        eprintln!("{name}: ever missed on {missed} of {PATHS} paths, {LIMIT} allowed");
        assert!(missed <= LIMIT, "{name}");
    }
}

/// The share of failures in a batch of 20 with correlation 0.1 around a long-run rate of 2 %.
fn batch_share(draws: &mut Draws) -> f64 {
    let chance = draws.batch_chance(0.02, 0.1);
    f64::from((0..20).map(|_| draws.flip(chance)).sum::<u32>()) / 20.0
}

/// The control: taken item by item as if they were independent, the same batches make the KT
/// interval miss the long-run rate several times as often as it promises, while batches as
/// units are covered.
#[test]
fn items_of_batches_are_not_independent_units() {
    let mut draws = Draws::new(0x1ce_b0a7);
    let (mut items_missed, mut units_missed) = (0, 0);
    for _ in 0..PATHS {
        let (mut failed, mut miss, mut unit_miss) = (0.0, false, false);
        for batch in 1..=1000u32 {
            failed += 20.0 * batch_share(&mut draws);
            let n = 20 * u64::from(batch);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small whole number"
            )]
            let failures = libm::round(failed) as u64;
            let evidence = kt::ln_e(failures, n - failures, 0.02);
            miss |= evidence >= -libm::log(ALPHA.value());
            if looked_at(batch, 25) {
                let got = interval(failed / 20.0, batch.into(), ALPHA);
                unit_miss |= !(got.lower..=got.upper).contains(&0.02);
            }
        }
        items_missed += u32::from(miss);
        units_missed += u32::from(unit_miss);
    }
    assert!(
        items_missed > 3 * LIMIT / 2,
        "the control missed on {items_missed} of {PATHS}"
    );
    assert!(units_missed <= LIMIT, "{units_missed} of {PATHS} missed");
}
