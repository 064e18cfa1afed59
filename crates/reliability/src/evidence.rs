//! Evidence against one hypothesis, and the verdict that it allows.
//!
//! An e-process starts at 1 and does not grow in expectation while its hypothesis holds. By
//! Ville's inequality it ever reaches `1/α` with probability at most `α`, so a verdict may be
//! read at any time. Unlike [`crate::detector`], which waits for a change, this judges what comes
//! afterwards: a suspicion is confirmed on units that had no part in raising it.

use crate::detector::{Baseline, RATIOS};
use crate::level::Alpha;

/// The capital of bettors against one hypothesis, in logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    ln_capital: [f64; RATIOS.len()],
}

impl Evidence {
    /// Multiplies the capital of each bettor by what one unit made of it.
    pub fn multiply(&mut self, factors: [f64; RATIOS.len()]) {
        for (ln_capital, factor) in self.ln_capital.iter_mut().zip(factors) {
            *ln_capital += libm::log(factor);
        }
    }

    /// `ln E`: the mean capital of the bettors, in logarithms.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        ln_mean_exp(&self.ln_capital)
    }

    /// The capital of each bettor, in logarithms, for a digest of the state.
    #[must_use]
    pub fn bettors(&self) -> &[f64; RATIOS.len()] {
        &self.ln_capital
    }

    /// Whether the hypothesis is rejected: wrongly, ever, with probability at most `alpha`.
    #[must_use]
    pub fn rejects(&self, alpha: Alpha) -> bool {
        rejects(self.ln_e(), alpha)
    }
}

/// Ville's inequality as a rule: evidence of `1/α` rejects at level `α`.
#[must_use]
pub fn rejects(ln_e: f64, alpha: Alpha) -> bool {
    ln_e >= -libm::log(alpha.value())
}

/// What fresh units say about a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The mean is above the baseline.
    Changed,
    /// Later units reject that the mean is as high as the suspicion said.
    Transient,
    /// Neither, so far.
    Undecided,
}

/// The two means that a unit is judged against, both fixed before its score is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means {
    baseline: Baseline,
    suspected: Baseline,
}

impl Means {
    /// The baseline `m0` and the suspected mean `m1`; `None` unless `0 < m0 < m1 < 1`.
    #[must_use]
    pub fn new(m0: f64, m1: f64) -> Option<Self> {
        if m0 >= m1 {
            return None;
        }
        Some(Self {
            baseline: Baseline::new(m0)?,
            suspected: Baseline::new(m1)?,
        })
    }
}

/// The confirmation of an alarm on units that were not part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Confirmation {
    /// Against `E[x] ≤ m₀`.
    risen: Evidence,
    /// Against `E[x] ≥ m₁`: the mean is as high as was suspected.
    gone: Evidence,
}

impl Confirmation {
    /// The level of either verdict: evidence of 10,000.
    pub const ALPHA: Alpha = Alpha::VERDICT;

    /// Takes the score of one fresh unit, in `[0, 1]`; anything else is ignored.
    pub fn add(&mut self, x: f64, means: &Means) {
        if (0.0..=1.0).contains(&x) {
            self.risen.multiply(means.baseline.factors(x));
            self.gone.multiply(means.suspected.falling_factors(x));
        }
    }

    /// The verdict so far. Where both hypotheses are rejected the mean is above the baseline, and a mean
    /// between the two is no return to what was: while anything speaks for a rise, nothing is over.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.risen.rejects(Self::ALPHA) {
            Verdict::Changed
        } else if self.gone.rejects(Self::ALPHA) && self.risen.ln_e() < 0.0 {
            Verdict::Transient
        } else {
            Verdict::Undecided
        }
    }

    /// Evidence against the baseline, and against the suspected mean.
    #[must_use]
    pub fn evidence(&self) -> [&Evidence; 2] {
        [&self.risen, &self.gone]
    }
}

/// `ln` of the mean of exponentials, in the order of the slice.
pub(crate) fn ln_mean_exp(logarithms: &[f64]) -> f64 {
    let largest = logarithms.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    let sum: f64 = logarithms
        .iter()
        .map(|logarithm| libm::exp(logarithm - largest))
        .sum();
    largest + libm::log(sum / crate::share::float(logarithms.len() as u64))
}

#[cfg(test)]
mod tests;
