//! Golden values, ranks, level and power.

use serde::Deserialize;

use super::*;
use crate::testing::Draws;

#[derive(Deserialize)]
struct Vectors {
    simple_jumper: Row,
}

#[derive(Deserialize)]
struct Row {
    jump: f64,
    p: Vec<f64>,
    capital: Vec<f64>,
}

#[test]
fn the_jumper_matches_its_golden_values() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../../../vectors/statistics.json"))
            .expect("the vectors are valid JSON");
    let row = vectors.simple_jumper;
    assert_eq!(row.jump, JUMP);
    let mut jumper = SimpleJumper::new();
    for (p, capital) in row.p.iter().zip(&row.capital) {
        jumper.add(*p);
        assert!((libm::exp(jumper.ln_e()) - capital).abs() < 1e-11);
    }
}

#[test]
fn capital_beyond_every_exponent_is_still_a_number() {
    let mut jumper = SimpleJumper::default();
    (0..10_000).for_each(|_| jumper.add(0.0));
    let rich = jumper.ln_e();
    assert!(rich > 3000.0 && rich.is_finite());
    jumper.add(f64::NAN);
    assert_eq!(jumper.ln_e(), rich);
}

#[test]
fn a_rank_counts_what_is_larger_and_a_part_of_what_is_equal() {
    let mut ranks = Ranks::<10>::default();
    assert_eq!(ranks.rank(4, 0.5), Some(0.5));
    assert_eq!(ranks.rank(7, 0.5), Some(0.25));
    assert_eq!(ranks.rank(4, 0.5), Some((1.0 + 1.0) / 3.0));
    assert_eq!(ranks.rank(0, 0.0), Some(0.75));
    assert_eq!(ranks.rank(10, 0.5), None);
}

fn evidence(calls: u32, change_at: u32, draws: &mut Draws) -> f64 {
    let mut ranks = Ranks::<40>::new();
    let mut jumper = SimpleJumper::new();
    let mut most = 0.0f64;
    for call in 0..calls {
        let slower = if call < change_at { 1.0 } else { 1.5 };
        let steps = 4.0 * libm::log2(slower * draws.log_normal(20.0, 0.5).max(1.0));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and capped"
        )]
        let bucket = (steps.max(0.0) as usize).min(39);
        let p = ranks.rank(bucket, draws.unit()).expect("a bucket");
        jumper.add(p);
        most = most.max(jumper.ln_e());
    }
    most
}

/// Odds of a wrong alarm: with a true level of 5 % the rejections on 400 paths have mean 20 and
/// standard deviation 4.4; the limit of 42 is five deviations up.
#[test]
fn an_unchanged_stream_seldom_reaches_one_over_alpha() {
    let mut draws = Draws::new(0x1d1e);
    let wrong = (0..400)
        .filter(|_| evidence(2000, 2000, &mut draws) >= libm::log(20.0))
        .count();
    assert!(wrong <= 42, "{wrong} of 400");
}

#[test]
fn a_stream_that_slows_down_by_half_is_noticed() {
    let mut draws = Draws::new(0x510e);
    for _ in 0..20 {
        assert!(evidence(1500, 1000, &mut draws) >= libm::log(1e4));
    }
}
