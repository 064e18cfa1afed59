//! What endpoints have in common, as a prior for those with thin records: partial pooling.
//!
//! Each endpoint's failure rate is taken to be drawn from one `Beta(κμ, κ(1 − μ))`, whose mean and
//! strength are those under which the counts are most likely (beta-binomial maximum likelihood).
//! An endpoint with `s` and `f` is then expected to fail with `(κμ + f)/(κ + s + f)`: near the common
//! mean while there is little of its own, near its own rate once there is much. This is a
//! forecast and no evidence: intervals of histories never use it.

use crate::special::ln_beta;

/// A Beta distribution of failure rates, by its mean and the number of attempts that it is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// Mean failure rate.
    pub mean: f64,
    /// Attempts that it weighs as much as.
    pub strength: f64,
}

/// Endpoints that a fit looks at, at most; the rest add little and cost time.
const ENDPOINTS_MAX: usize = 256;
/// Largest strength: however alike endpoints are, a hundred outcomes of one's own count for more.
const STRENGTH_MAX: f64 = 100.0;
const STRENGTH_MIN: f64 = 0.5;
const MEAN_MIN: f64 = 1e-5;
/// Rounds of alternating between the two parameters.
const ROUNDS: usize = 12;
/// Halvings of a golden-section search: the bracket shrinks below 10⁻⁵ of its width.
const SECTIONS: usize = 24;

impl Pool {
    /// Before anything is known of any endpoint: about one failure in fifty, worth little.
    pub const UNKNOWN: Self = Self {
        mean: 0.02,
        strength: 2.0,
    };

    /// The most likely pool behind `(successes, failures)` of endpoints; with fewer than three that
    /// have any, [`Pool::UNKNOWN`].
    #[must_use]
    pub fn fit(counts: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let seen: Vec<(f64, f64)> = counts
            .into_iter()
            .filter(|(s, f)| s + f > 0.0)
            .take(ENDPOINTS_MAX)
            .collect();
        if seen.len() < 3 {
            return Self::UNKNOWN;
        }
        let mut pool = Self::UNKNOWN;
        for _ in 0..ROUNDS {
            let ln_mean = maximum(libm::log(MEAN_MIN), libm::log(0.9), |ln| {
                ln_likelihood(&seen, libm::exp(ln), pool.strength)
            });
            pool.mean = libm::exp(ln_mean);
            let ln_strength = maximum(libm::log(STRENGTH_MIN), libm::log(STRENGTH_MAX), |ln| {
                ln_likelihood(&seen, pool.mean, libm::exp(ln))
            });
            pool.strength = libm::exp(ln_strength);
        }
        pool
    }

    /// The expected failure rate of an endpoint with these counts.
    #[must_use]
    pub fn failure_rate(&self, successes: f64, failures: f64) -> f64 {
        (self.strength * self.mean + failures) / (self.strength + successes + failures)
    }

    /// The probability that among `attempts` more at most `most` fail: the beta-binomial
    /// predictive. Costs one step per failure that is allowed.
    #[must_use]
    pub fn at_most(&self, successes: f64, failures: f64, attempts: u32, most: u32) -> f64 {
        if most >= attempts {
            return 1.0;
        }
        let n = f64::from(attempts);
        let a = self.strength * self.mean + failures;
        let b = self.strength * (1.0 - self.mean) + successes;
        let mut term = libm::exp(ln_beta(a, b + n) - ln_beta(a, b));
        let mut sum = term;
        for k in 0..most {
            let k = f64::from(k);
            term *= (n - k) / (k + 1.0) * (a + k) / (b + n - k - 1.0);
            sum += term;
        }
        sum.min(1.0)
    }
}

fn ln_likelihood(seen: &[(f64, f64)], mean: f64, strength: f64) -> f64 {
    let (a, b) = (strength * mean, strength * (1.0 - mean));
    let own = ln_beta(a, b);
    seen.iter().map(|(s, f)| ln_beta(a + f, b + s) - own).sum()
}

/// Where a function with one peak is largest, by golden-section search.
fn maximum(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let (mut left, mut right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
    let (mut at_left, mut at_right) = (f(left), f(right));
    for _ in 0..SECTIONS {
        if at_left >= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - GOLDEN * (high - low);
            at_left = f(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + GOLDEN * (high - low);
            at_right = f(right);
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64, within: f64) {
        assert!((found - wanted).abs() <= within, "{found}, not {wanted}");
    }

    #[test]
    fn thin_records_lean_on_the_pool_and_long_ones_do_not() {
        let pool = Pool {
            mean: 0.1,
            strength: 10.0,
        };
        near(pool.failure_rate(0.0, 0.0), 0.1, 1e-12);
        near(pool.failure_rate(5.0, 0.0), 1.0 / 15.0, 1e-12);
        near(pool.failure_rate(9900.0, 100.0), 101.0 / 10_010.0, 1e-12);
    }

    #[test]
    fn the_predictive_is_beta_binomial() {
        // A uniform prior makes every count equally likely.
        let uniform = Pool {
            mean: 0.5,
            strength: 2.0,
        };
        for most in 0..10 {
            let wanted = f64::from(most + 1) / 11.0;
            near(uniform.at_most(0.0, 0.0, 10, most), wanted, 1e-12);
        }
        // scipy.stats.betabinom(100, 3.5, 196.5).cdf(2)
        let pool = Pool {
            mean: 0.25,
            strength: 2.0,
        };
        near(
            pool.at_most(195.0, 3.0, 100, 2),
            0.735_375_602_805_98,
            1e-10,
        );
        assert_eq!(pool.at_most(1.0, 1.0, 3, 3), 1.0);
    }

    #[test]
    fn the_fit_is_where_the_likelihood_is_largest() {
        let counts = [
            (95.0, 5.0),
            (180.0, 20.0),
            (49.0, 1.0),
            (290.0, 10.0),
            (60.0, 12.0),
        ];
        let pool = Pool::fit(counts);
        // Nelder–Mead on scipy.special.betaln.
        near(pool.mean, 0.073_588, 2e-4);
        near(pool.strength, 38.238, 0.2);
        assert_eq!(Pool::fit(counts[..2].iter().copied()), Pool::UNKNOWN);
    }
}
