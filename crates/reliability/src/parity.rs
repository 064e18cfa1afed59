//! Are two streams treated alike? A sequential two-sample test by betting.
//!
//! Pairs of scores in `[0, 1]` arrive, one from each stream (what looked like an audit and what
//! looked like traffic; provider A and provider B). The null hypothesis is `E[x − y | past] = 0`.
//! Bettors with stakes `±λ` multiply `1 + λ·(x − y)`, and the evidence is their mean capital: an
//! e-process, read under Ville's inequality at any time (Shekhar and Ramdas, arXiv 2109.11761, with the
//! score itself as the witness function).
//!
//! It finds a difference of means. Streams with one mean and different spreads look alike to it.

use crate::evidence::{ln_mean_exp, rejects};
use crate::level::Alpha;

/// Stakes on either side.
const STAKES: [f64; 8] = [0.9, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015, 0.0075];

/// Evidence against parity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parity {
    /// Capital of those who bet that the first stream scores higher, in logarithms.
    first_higher: [f64; STAKES.len()],
    /// And of those who bet that it scores lower.
    first_lower: [f64; STAKES.len()],
    pairs: u64,
}

impl Parity {
    /// No pair yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            first_higher: [0.0; STAKES.len()],
            first_lower: [0.0; STAKES.len()],
            pairs: 0,
        }
    }

    /// Takes one pair; scores outside `[0, 1]` are ignored with their partner.
    pub fn add(&mut self, first: f64, second: f64) {
        let unit = 0.0..=1.0;
        if !(unit.contains(&first) && unit.contains(&second)) {
            return;
        }
        let difference = first - second;
        for (place, stake) in STAKES.iter().enumerate() {
            self.first_higher[place] += libm::log1p(stake * difference);
            self.first_lower[place] += libm::log1p(-stake * difference);
        }
        self.pairs += 1;
    }

    /// Pairs taken.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// `ln E` against parity.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        ln_mean_exp(&[
            ln_mean_exp(&self.first_higher),
            ln_mean_exp(&self.first_lower),
        ])
    }

    /// Whether parity is rejected: wrongly, ever, with probability at most `alpha`.
    #[must_use]
    pub fn rejects(&self, alpha: Alpha) -> bool {
        rejects(self.ln_e(), alpha)
    }
}

impl Default for Parity {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
