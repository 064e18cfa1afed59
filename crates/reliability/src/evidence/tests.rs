//! Ville's rule, and confirmations that end in each of the three verdicts.

use super::*;
use crate::testing::Draws;

#[test]
fn evidence_of_one_over_alpha_rejects() {
    let alpha = Alpha::new(0.01).expect("a level");
    assert!(!rejects(libm::log(99.9), alpha));
    assert!(rejects(libm::log(100.1), alpha));
    assert!(!rejects(f64::NAN, alpha), "no evidence rejects nothing");
}

#[test]
fn the_mean_of_exponentials_neither_overflows_nor_vanishes() {
    assert!((ln_mean_exp(&[1000.0, 1000.0]) - 1000.0).abs() < 1e-12);
    let one_left = ln_mean_exp(&[-2000.0, f64::NEG_INFINITY]);
    assert!((one_left + 2000.0 + core::f64::consts::LN_2).abs() < 1e-9);
    assert_eq!(ln_mean_exp(&[f64::NEG_INFINITY; 2]), f64::NEG_INFINITY);
}

fn verdict_after(items: u32, rate: f64, seed: u64) -> Verdict {
    let means = Means::new(0.02, 0.10).expect("registered means");
    let mut confirmation = Confirmation::default();
    let mut draws = Draws::new(seed);
    for _ in 0..items {
        confirmation.add(f64::from(draws.flip(rate)), &means);
    }
    confirmation.verdict()
}

#[test]
fn a_change_that_lasts_is_confirmed_and_one_that_is_gone_is_transient() {
    for seed in 0..20 {
        assert_eq!(verdict_after(1000, 0.12, seed), Verdict::Changed);
        assert_eq!(verdict_after(1000, 0.01, seed), Verdict::Transient);
        assert_ne!(verdict_after(1000, 0.05, seed), Verdict::Transient);
        assert_eq!(verdict_after(5, 0.02, seed), Verdict::Undecided);
    }
    assert!(Means::new(0.1, 0.1).is_none());
    assert!(Means::new(0.0, 0.1).is_none());
}

/// Under the baseline itself, 1,000 confirmations of 2,000 items each: a wrong `Changed` has
/// probability 10⁻⁴ each, so more than 3 of them have probability below 10⁻⁵.
#[test]
fn an_unchanged_stream_is_not_called_changed() {
    let wrong = (0..1000)
        .filter(|seed| verdict_after(2000, 0.02, 0xf2e5 + seed) == Verdict::Changed)
        .count();
    assert!(wrong <= 3, "{wrong} of 1000");
}
