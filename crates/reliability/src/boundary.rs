//! Running-mean bound for scores that hardly vary: the gamma-exponential mixture.
//!
//! For scores in a range of width `c` and any predictable guesses `x̂ᵢ`, the distance of the running
//! mean from the mean `m̄ₙ` of the chances given the past stays, at all `n` at once, below
//! `u(Vₙ)/n` on each side with probability `1 − α`, where `Vₙ = Σ (xᵢ − x̂ᵢ)²` (Howard, Ramdas,
//! McAuliffe and Sekhon 2021, arXiv 1810.08240, theorem 4; the mixture is their proposition 9).
//! Drift and dependence are allowed, as in [`crate::share`]; here the width follows the spread of
//! the scores instead of their mean.

use crate::level::{Alpha, Interval};
use crate::special::{ln_gamma, ln_gamma_p};

/// `u(v)`: the gamma-exponential mixture boundary, tightest near the variance `v_opt`, for scores
/// in a range of width `scale`. One side, crossed ever with probability at most `alpha`.
#[must_use]
pub fn gamma_exponential(v: f64, alpha: Alpha, v_opt: f64, scale: f64) -> f64 {
    let square = scale * scale;
    let rho = best_rho(v_opt, 2.0 * alpha.value());
    let (prior, shape) = (rho / square, (v + rho) / square);
    let constant = prior * libm::log(prior) - ln_gamma(prior) - ln_gamma_p(prior, prior);
    let ln_mixture = |sum: f64| {
        let drift = (scale * sum + v) / square;
        constant + ln_gamma(shape) + ln_gamma_p(shape, drift + prior)
            - shape * libm::log(drift + prior)
            + drift
    };
    root(ln_mixture, -libm::log(alpha.value()))
}

/// The `ρ` that makes a mixture tightest at variance `v` (their proposition 3).
pub(crate) fn best_rho(v: f64, alpha: f64) -> f64 {
    let two = -2.0 * libm::log(alpha);
    v / (two + libm::log1p(two))
}

/// Where an increasing function with a value below `threshold` at 0 reaches it, rounded up.
pub(crate) fn root(function: impl Fn(f64) -> f64, threshold: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while function(high) < threshold {
        low = high;
        high *= 2.0;
        if high > 1e15 {
            return f64::INFINITY;
        }
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if function(middle) < threshold {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Scores in `[0, 1]` with the sums that their running-mean bound needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningMean {
    units: u64,
    total: f64,
    variance: f64,
}

impl RunningMean {
    /// The variance at which the bound is tightest: a few dozen units that vary a little.
    pub const V_OPT: f64 = 10.0;

    /// Takes one score in `[0, 1]`. What lies outside, NaN included, is no score and is ignored.
    pub fn add(&mut self, x: f64) {
        if !(0.0..=1.0).contains(&x) {
            return;
        }
        let distance = x - self.guess();
        self.variance += distance * distance;
        self.units += 1;
        self.total += x;
    }

    /// The interval for the running mean of the chances; half of `alpha` goes to each side.
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Interval {
        if self.units == 0 {
            return Interval::UNKNOWN;
        }
        let n = crate::share::float(self.units);
        let width = gamma_exponential(self.variance, alpha.split(2), Self::V_OPT, 1.0) / n;
        let mean = self.total / n;
        Interval {
            lower: (mean - width).max(0.0),
            upper: (mean + width).min(1.0),
        }
    }

    /// What the next score is compared with: known before it.
    fn guess(&self) -> f64 {
        if self.units == 0 {
            0.5
        } else {
            self.total / crate::share::float(self.units)
        }
    }
}

#[cfg(test)]
mod tests;
