//! Golden values, delays, false alarms, and what a token-level likelihood ratio does.

use serde::Deserialize;

use super::*;
use crate::testing::Draws;

#[derive(Deserialize)]
struct Vectors {
    e_sr_bernoulli: Bernoulli,
    e_cusum_bernoulli: Bernoulli,
    e_sr_bounded: Bounded,
}

#[derive(Deserialize)]
struct Bernoulli {
    p0: f64,
    p1: f64,
    x: Vec<f64>,
    r: f64,
}

#[derive(Deserialize)]
struct Bounded {
    m0: f64,
    lambda: Vec<f64>,
    x: Vec<f64>,
    r: f64,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../../vectors/statistics.json"))
        .expect("the vectors are valid JSON")
}

fn baseline(m0: f64) -> Baseline {
    Baseline::new(m0).expect("between 0 and 1")
}

#[test]
fn the_recursion_matches_its_golden_values() {
    let row = vectors().e_sr_bounded;
    let mut evidence = vec![0.0; row.lambda.len()];
    for x in &row.x {
        let factors: Vec<f64> = row
            .lambda
            .iter()
            .map(|lambda| 1.0 + lambda * (x / row.m0 - 1.0))
            .collect();
        advance(&mut evidence, &factors, 1.0);
    }
    let mean = evidence.iter().sum::<f64>() / f64::from(3u32);
    assert!((mean - row.r).abs() < 1e-9, "{mean}");
}

/// A bet at ratio ρ is the likelihood ratio of m₀ → ρ·m₀. CUSUM, which the product does not use,
/// is run beside it: its golden value checks the factors a second time.
#[test]
fn the_bets_are_likelihood_ratios() {
    let (row, cusum) = (vectors().e_sr_bernoulli, vectors().e_cusum_bernoulli);
    let lambda = (row.p1 / row.p0 - 1.0) * row.p0 / (1.0 - row.p0);
    let (mut sr, mut max) = ([0.0], 0.0f64);
    for (x, other) in row.x.iter().zip(&cusum.x) {
        assert_eq!(x, other);
        let factor = 1.0 + lambda * (x / row.p0 - 1.0);
        let ratio = if *x > 0.0 {
            row.p1 / row.p0
        } else {
            (1.0 - row.p1) / (1.0 - row.p0)
        };
        assert!((factor - ratio).abs() < 1e-12);
        advance(&mut sr, &[factor], 1.0);
        max = max.max(1.0) * factor;
    }
    assert!((sr[0] - row.r).abs() < 1e-9, "{}", sr[0]);
    assert!((max - cusum.r).abs() < 1e-9, "{max}");
    let ours = baseline(row.p0).lambdas[2];
    assert!((ours - row.p0 / (1.0 - row.p0)).abs() < 1e-15, "ratio 2");
}

#[test]
fn baselines_that_leave_nothing_to_find_are_refused() {
    for m0 in [0.0, 1.0, -0.1, 2.0, f64::NAN] {
        assert!(Baseline::new(m0).is_none());
    }
    for m0 in [1e-6, 0.5, 0.999] {
        let bets = baseline(m0);
        for x in [0.0, 1.0] {
            let factors = [bets.factors(x), bets.falling_factors(x)].concat();
            assert!(factors.iter().all(|factor| *factor > 0.02));
        }
    }
    assert!(Budget::per_year(0.0).is_none() && Budget::per_year(f64::NAN).is_none());
    assert!((Budget::NETWORK.threshold() - 6000.0).abs() < 1e-9);
}

#[test]
fn nonsense_changes_nothing() {
    let mut detector = Detector::default();
    for (x, years) in [(f64::NAN, 1.0), (1.1, 1.0), (0.5, -1.0), (0.5, f64::NAN)] {
        assert!(!detector.step(x, &baseline(0.1), years, Budget::NETWORK));
    }
    assert_eq!(detector, Detector::default());
}

/// Units until the alarm after a change at the start, which is the worst time for a change.
fn delay(m0: f64, m1: f64, threshold: f64, draws: &mut Draws) -> u32 {
    let budget = Budget::per_year(1.0 / threshold).expect("a budget");
    let bets = baseline(m0);
    let mut detector = Detector::default();
    let mut units = 0;
    loop {
        units += 1;
        let x = f64::from(draws.flip(m1));
        if detector.step(x, &bets, 1.0, budget) {
            return units;
        }
    }
}

fn mean_delay(m0: f64, m1: f64, threshold: f64, runs: u32, seed: u64) -> f64 {
    let mut draws = Draws::new(seed);
    let total: u32 = (0..runs)
        .map(|_| delay(m0, m1, threshold, &mut draws))
        .sum();
    f64::from(total) / f64::from(runs)
}

/// Thresholds in units: two of convenience, and that of one stream of 7,300 responses a year in a
/// network of 6,000 with one false alarm a year.
const THRESHOLDS: [f64; 3] = [1e3, 1e4, 4.4e7];

/// The mean delay is within 15 % of `ln(B·I)/I` with a known baseline. The mean of 2,000 runs is
/// known to about 1.2 %, so the margin is not used up by chance.
#[test]
fn delays_are_within_15_percent_of_the_bound() {
    for threshold in THRESHOLDS {
        for m1 in [0.05, 0.10] {
            let want = delay_units(0.02, m1, threshold);
            let got = mean_delay(0.02, m1, threshold, 2000, 0xde1a);
            assert!(
                (got / want - 1.0).abs() < 0.15,
                "0.02 → {m1} at {threshold}: {got} against {want}"
            );
        }
    }
}

/// A change from one in a thousand to three in a thousand, at the network's threshold. The mean of
/// 200 runs has a standard error of about 3 %.
#[test]
fn small_shares_are_watched_too() {
    let got = mean_delay(0.001, 0.003, THRESHOLDS[2], 200, 0x0003);
    assert!(got <= 10_000.0, "{got}");
}

/// Correlated responses in batches, under a null that holds exactly: the expected number of alarms
/// within the budget. 400 streams over 10 years of daily units at a budget of one alarm in 20
/// stream-years allow 200; the alarms counted are fewer, and were their expectation 200, more
/// than 290 would have probability below 10⁻⁸.
#[test]
fn alarms_on_correlated_responses_stay_within_the_budget() {
    let mut draws = Draws::new(0xa1a2);
    let (bets, budget) = (baseline(0.02), Budget::per_year(0.05).expect("a budget"));
    let mut alarms = 0;
    for _ in 0..400 {
        let mut detector = Detector::default();
        for _ in 0..3650 {
            let chance = draws.batch_chance(0.02, 0.1);
            let x = f64::from((0..20).map(|_| draws.flip(chance)).sum::<u32>()) / 20.0;
            detector.step(x, &bets, 1.0 / 365.0, budget);
        }
        alarms += detector.alarms();
    }
    assert!(alarms <= 290, "{alarms}");
    assert!(alarms > 0, "a simulation without alarms checks nothing");
}

/// Why the unit is a response: mismatching tokens cluster within responses. With a share of 2 %
/// and a correlation of .03 within a response, a detector that multiplies the likelihood ratio of
/// every token (threshold: one false alarm in 7,300 responses) alarms every few dozen responses,
/// while bets on whole responses keep the promise on the same stream.
#[test]
fn a_likelihood_ratio_per_token_breaks_the_promise() {
    const TOKENS: u32 = 256;
    const RESPONSES: f64 = 7300.0;
    let mut draws = Draws::new(0x70cc);
    let bets = baseline(0.02);
    let (hit, miss) = (libm::log(0.05 / 0.02), libm::log(0.95 / 0.98));
    let mut by_token = 0.0;
    let mut by_response = Detector::default();
    let (mut token_alarms, mut response_alarms) = (0, 0);
    let budget = Budget::per_year(1.0 / RESPONSES).expect("a budget");
    for _ in 0..20_000 {
        let chance = draws.batch_chance(0.02, 0.03);
        let mismatches: u32 = (0..TOKENS).map(|_| draws.flip(chance)).sum();
        let ln_ratio = f64::from(mismatches) * hit + f64::from(TOKENS - mismatches) * miss;
        by_token = (by_token + f64::from(TOKENS)) * libm::exp(ln_ratio);
        if by_token >= RESPONSES * f64::from(TOKENS) {
            token_alarms += 1;
            by_token = 0.0;
        }
        let x = f64::from(mismatches) / f64::from(TOKENS);
        response_alarms += u32::from(by_response.step(x, &bets, 1.0, budget));
    }
    assert!(
        token_alarms > 100,
        "one per response would be 20,000; promised were 3: {token_alarms}"
    );
    // Promised are 2.7 in expectation; more than 12 would have probability below 10⁻⁴.
    assert!(response_alarms <= 12, "{response_alarms}");
}

#[test]
fn what_can_be_found_in_time_is_monotone_and_honest() {
    let threshold = 4.4e7;
    let rise = smallest_rise(0.02, 500.0, threshold).expect("found");
    assert!((delay_units(0.02, rise, threshold) - 500.0).abs() < 1.0);
    assert!(smallest_rise(0.02, 5000.0, threshold).expect("found") < rise);
    assert_eq!(smallest_rise(0.5, 1.0, threshold), None);
    for (m0, m1) in [(0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.5, 0.2)] {
        assert_eq!(delay_units(m0, m1, threshold), f64::INFINITY);
    }
}
