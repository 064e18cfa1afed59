//! Like streams stay alike; unlike ones are found.

use super::*;
use crate::testing::Draws;

const ALPHA: Alpha = Alpha::FIVE_PERCENT;

/// Whether parity is ever rejected, and after how many pairs, up to 5,000.
fn rejected_after(first: f64, second: f64, correlation: f64, draws: &mut Draws) -> Option<u64> {
    let mut parity = Parity::new();
    for _ in 0..5000 {
        // What both streams share (the hour, the load) shows in both scores of a pair.
        let common = draws.batch_chance(0.5, correlation) * 2.0;
        let (x, y) = (
            draws.flip((first * common).min(1.0)),
            draws.flip((second * common).min(1.0)),
        );
        parity.add(f64::from(x), f64::from(y));
        if parity.rejects(ALPHA) {
            return Some(parity.pairs());
        }
    }
    None
}

/// Odds of a wrong alarm: with a true level of 5 % the rejections on 200 paths have mean 10 and
/// standard deviation 3.1; the limit of 27 is more than five deviations up.
#[test]
fn like_streams_are_seldom_called_unlike() {
    let mut draws = Draws::new(0x9a17);
    let wrong = (0..200)
        .filter(|_| rejected_after(0.1, 0.1, 0.1, &mut draws).is_some())
        .count();
    assert!(wrong <= 27, "{wrong} of 200");
}

#[test]
fn unlike_streams_are_found_whichever_is_worse() {
    let mut draws = Draws::new(0x0ff5);
    for (first, second) in [(0.02, 0.15), (0.15, 0.02)] {
        for _ in 0..50 {
            let pairs = rejected_after(first, second, 0.1, &mut draws);
            assert!(pairs.is_some_and(|pairs| pairs < 600), "{pairs:?}");
        }
    }
}

#[test]
fn nonsense_is_no_pair() {
    let mut parity = Parity::default();
    parity.add(f64::NAN, 0.5);
    parity.add(0.5, 1.5);
    assert_eq!((parity.pairs(), parity.ln_e()), (0, 0.0));
}
