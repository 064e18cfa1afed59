//! Scores of single forecasts. All are losses: smaller is better, and nobody gains by saying
//! anything else than what he expects (Gneiting and Raftery, "Strictly Proper Scoring Rules,
//! Prediction, and Estimation", 2007).

/// Probabilities are kept this far from 0 and 1 in the logarithmic score, so that one mistake
/// costs at most `ln 10⁴`.
pub const LOG_CLIP: f64 = 1e-4;

/// Brier score of a probability: the squared distance from what happened.
#[must_use]
pub fn brier(probability: f64, happened: bool) -> f64 {
    let miss = probability - indicator(happened);
    miss * miss
}

/// Logarithmic score, nats: minus the logarithm of what was said of what happened.
#[must_use]
pub fn log(probability: f64, happened: bool) -> f64 {
    let said = if happened {
        probability
    } else {
        1.0 - probability
    };
    -libm::log(said.clamp(LOG_CLIP, 1.0 - LOG_CLIP))
}

/// Pinball loss of a quantile at `level`.
#[must_use]
pub fn pinball(quantile: f64, level: f64, value: f64) -> f64 {
    let above = value - quantile;
    if above >= 0.0 {
        level * above
    } else {
        (level - 1.0) * above
    }
}

/// Score of a central interval that is meant to miss with probability `miss`: its width, and
/// `2/miss` times the distance by which it misses.
#[must_use]
pub fn interval(lower: f64, upper: f64, miss: f64, value: f64) -> f64 {
    let outside = (lower - value).max(value - upper).max(0.0);
    upper - lower + 2.0 / miss * outside
}

/// Continuous ranked probability score of a distribution that puts `weight` on each `value`, in
/// ascending order of values: `∫ (F(x) − 1{x ≥ observed})² dx`. Weights need not add up to one;
/// where they add up to nothing the distribution says nothing, and the score is 0.
#[must_use]
pub fn crps(steps: &[(f64, f64)], observed: f64) -> f64 {
    let total: f64 = steps.iter().map(|(_, weight)| weight).sum();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return 0.0;
    };
    if total <= 0.0 {
        return 0.0;
    }
    // Outside the steps F is 0 or 1, and the integrand 1 as far as the observation.
    let mut score = (first.0 - observed).max(0.0) + (observed - last.0).max(0.0);
    let mut below = 0.0;
    for pair in steps.windows(2) {
        let (from, to) = (pair[0].0, pair[1].0);
        below += pair[0].1;
        let share = below / total;
        let split = observed.clamp(from, to);
        score += share * share * (split - from) + (1.0 - share) * (1.0 - share) * (to - split);
    }
    score
}

pub(crate) fn indicator(happened: bool) -> f64 {
    if happened { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-12, "{found}, not {wanted}");
    }

    #[test]
    fn scores_of_single_forecasts() {
        close(brier(0.25, true), 0.5625);
        close(brier(0.25, false), 0.0625);
        close(log(0.25, true), libm::log(4.0));
        close(log(1.0, false), libm::log(1e4));
        close(pinball(0.5, 0.9, 0.7), 0.18);
        close(pinball(0.5, 0.9, 0.4), 0.01);
        close(interval(0.2, 0.6, 0.1, 0.5), 0.4);
        close(interval(0.2, 0.6, 0.1, 0.7), 0.4 + 2.0);
        assert_eq!(crps(&[], 0.3), 0.0);
        close(crps(&[(0.5, 2.0)], 0.2), 0.3);
        close(crps(&[(0.0, 1.0), (1.0, 1.0)], 0.0), 0.25);
    }

    #[test]
    fn crps_of_a_standard_normal_is_the_golden_one() {
        let text = include_str!("../../../../vectors/statistics.json");
        let vectors: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let golden = &vectors["crps_standard_normal"][0];
        let density = |x: f64| libm::exp(-0.5 * x * x);
        let steps: Vec<(f64, f64)> = (-8_000..=8_000)
            .map(|i| f64::from(i) / 1000.0)
            .map(|x| (x, density(x)))
            .collect();
        let found = crps(&steps, golden["x"].as_f64().expect("a number"));
        let wanted = golden["crps"].as_f64().expect("a number");
        assert!((found - wanted).abs() < 1e-5, "{found}, not {wanted}");
    }

    #[test]
    fn saying_what_one_expects_is_best() {
        let expected = |said: f64, score: fn(f64, bool) -> f64| {
            0.3 * score(said, true) + 0.7 * score(said, false)
        };
        for other in [0.1, 0.2, 0.29, 0.31, 0.5, 0.9] {
            assert!(expected(0.3, brier) < expected(other, brier));
            assert!(expected(0.3, log) < expected(other, log));
        }
    }
}
