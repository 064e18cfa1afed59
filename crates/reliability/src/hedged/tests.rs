//! Published values, edges, width and coverage.

use super::*;
use crate::testing::Draws;

const ALPHA: Alpha = Alpha::FIVE_PERCENT;

/// `betting_mart` of the confseq project at m = ½: capital after the first and the last score.
#[test]
fn the_bets_are_the_published_ones() {
    let scores = [0.9, 0.8, 1.0, 0.7, 0.95, 0.6, 0.85, 0.9, 0.99, 0.75];
    let mut hedged = Hedged::new(ALPHA);
    let capital = |hedged: &Hedged| {
        let rival = hedged.rivals[HALF];
        0.5 * rival.larger.max(rival.smaller)
    };
    hedged.add(scores[0]);
    assert!((capital(&hedged) - 0.7).abs() < 1e-12);
    for score in &scores[1..] {
        hedged.add(*score);
    }
    assert!((capital(&hedged) - 9.196_713_78).abs() < 1e-7);
}

#[test]
fn the_grid_reaches_a_millionth_at_both_ends() {
    assert_eq!(candidate(0), SMALLEST);
    assert_eq!(candidate(HALF), 0.5);
    assert_eq!(candidate(GRID - 1), 1.0 - SMALLEST);
    assert!(GRID_POINTS.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn nothing_and_nonsense_exclude_nothing() {
    let mut hedged = Hedged::new(ALPHA);
    for nonsense in [f64::NAN, -0.1, 1.1] {
        hedged.add(nonsense);
    }
    assert_eq!((hedged.units(), hedged.interval()), (0, Interval::UNKNOWN));
}

#[test]
fn a_clean_record_excludes_all_but_small_means() {
    let mut hedged = Hedged::new(ALPHA);
    (0..3000).for_each(|_| hedged.add(0.0));
    let got = hedged.interval();
    assert_eq!(got.lower, 0.0);
    assert!(got.upper < 0.004, "{got:?}");
}

#[test]
fn scores_that_hardly_vary_are_told_more_exactly_than_by_their_sum() {
    let mut hedged = Hedged::new(ALPHA);
    let mut draws = Draws::new(7);
    let mut total = 0.0;
    for _ in 0..1000 {
        let score = 0.3 + 0.02 * (draws.unit() - 0.5);
        hedged.add(score);
        total += score;
    }
    let got = hedged.interval();
    let by_sum = crate::share::interval(total, 1000, ALPHA);
    assert!(got.lower <= 0.3 && got.upper >= 0.3, "{got:?}");
    assert!(
        3.0 * (got.upper - got.lower) < by_sum.upper - by_sum.lower,
        "{got:?}"
    );
}

/// Draws a score.
type Score = fn(&mut Draws) -> f64;

/// The truth is excluded, ever, on at most 5 % of paths: for rare yes-or-no scores, for batches of
/// 20 with correlation 0.1, and for bursts within units, at each of 10,000 looks.
///
/// Odds of a wrong alarm: with a true ever-miss of 5 % the misses on 500 paths have mean 25 and
/// standard deviation 4.9; the limit of 50 is five deviations up (below 10⁻⁶).
#[test]
fn looking_at_every_step_keeps_the_level() {
    let kinds: [(f64, Score); 3] = [
        (0.01, |draws| f64::from(draws.flip(0.01))),
        (0.02, |draws| {
            let chance = draws.batch_chance(0.02, 0.1);
            f64::from((0..20).map(|_| draws.flip(chance)).sum::<u32>()) / 20.0
        }),
        (0.025, |draws| {
            let burst = draws.flip(0.05) == 1;
            if burst { draws.unit() } else { 0.0 }
        }),
    ];
    for (kind, (truth, score)) in kinds.into_iter().enumerate() {
        let mut draws = Draws::new(0xbe75 + kind as u64);
        let missed: u32 = (0..500)
            .map(|_| {
                // The one candidate that is the truth, beside scores that make the bets.
                let mut hedged = Hedged {
                    rivals: Box::new([]),
                    ..Hedged::new(ALPHA)
                };
                let mut rival = Rival {
                    larger: 1.0,
                    smaller: 1.0,
                };
                for _ in 0..10_000 {
                    let x = score(&mut draws);
                    rival.play(x, truth, hedged.bet(), ALPHA);
                    hedged.add(x);
                }
                u32::from(rival.excluded())
            })
            .sum();
        assert!(missed <= 50, "kind {kind}: {missed} of 500 paths missed");
        assert!(missed > 0, "a simulation that never misses checks nothing");
    }
}
