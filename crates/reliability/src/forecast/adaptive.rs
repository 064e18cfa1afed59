//! Adaptive conformal inference: intervals that keep their coverage whatever the process does.
//!
//! An interval at level `α_t` is made from past outcomes, and `α_{t+1} = α_t + γ(α − err_t)` once it
//! is known whether it missed (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution
//! Shift", 2021). Then, without any assumption,
//!
//! ```text
//! |mean err − α| ≤ (max(α₁, 1 − α₁) + γ) / (γ T)
//! ```
//!
//! which needs that `α_t` may leave `[0, 1]`: at or below 0 everything is issued, at or above 1
//! nothing. Several step sizes run side by side, and what is issued is their average, weighted by
//! how well each did lately (as in Zaffran et al., "Adaptive Conformal Predictions for Time Series",
//! 2022, with exponential weights on the pinball loss of the level).

/// The step sizes that run side by side. Coverage is within one point from 19,100, 4,850 and
/// 1,290 outcomes on, as the bound above says.
pub const GAMMAS: [f64; 3] = [0.005, 0.02, 0.08];

/// What an interval is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Issue {
    /// Every value: the level is at or below 0.
    Everything,
    /// The values that are not excluded at this level, strictly between 0 and 1.
    Level(f64),
    /// No value: the level is at or above 1.
    Nothing,
}

impl Issue {
    fn of(level: f64) -> Self {
        if level <= 0.0 {
            Self::Everything
        } else if level >= 1.0 {
            Self::Nothing
        } else {
            Self::Level(level)
        }
    }

    /// Whether it misses an outcome that the past excludes at every level above `threshold` (its
    /// conformal p-value).
    #[must_use]
    pub fn misses(self, threshold: f64) -> bool {
        match self {
            Self::Everything => false,
            Self::Level(level) => level > threshold,
            Self::Nothing => true,
        }
    }
}

/// One step size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    gamma: f64,
    level: f64,
}

impl Step {
    /// Starts at the level that is aimed at.
    #[must_use]
    pub fn new(gamma: f64, miss: f64) -> Self {
        Self { gamma, level: miss }
    }

    /// The level `α_t`; it may lie outside `[0, 1]`.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.level
    }

    /// What to issue now.
    #[must_use]
    pub fn issue(&self) -> Issue {
        Issue::of(self.level)
    }

    /// Learns whether what was issued missed.
    pub fn learn(&mut self, miss: f64, missed: bool) {
        self.level += self.gamma * (miss - super::score::indicator(missed));
    }
}

/// The step sizes of [`GAMMAS`] together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    miss: f64,
    steps: [Step; GAMMAS.len()],
    /// Discounted pinball loss of each.
    losses: [f64; GAMMAS.len()],
    /// Keeps the coverage of the average: the same rule on top of it. The average of the levels lies
    /// within 0.08 of `[0, 1]`, so the shift never exceeds about 1.1, and the coverage of what
    /// is issued is within `1.1 / (0.02 T)` of its aim: one point from 5,500 outcomes on.
    shift: f64,
}

/// What is kept of a loss per outcome; the weights look back about fifty outcomes.
const LOSS_KEPT: f64 = 0.98;
/// How sharply weights follow losses.
const SHARPNESS: f64 = 2.0;
/// Step size of the correction of the average.
const SHIFT_GAMMA: f64 = 0.02;

impl Adaptive {
    /// Aims at missing a share `miss` of outcomes.
    #[must_use]
    pub fn new(miss: f64) -> Self {
        Self {
            miss,
            steps: GAMMAS.map(|gamma| Step::new(gamma, miss)),
            losses: [0.0; GAMMAS.len()],
            shift: 0.0,
        }
    }

    /// The share of outcomes that it is meant to miss.
    #[must_use]
    pub fn miss(&self) -> f64 {
        self.miss
    }

    /// What to issue now: the weighted average of the levels, corrected.
    #[must_use]
    pub fn issue(&self) -> Issue {
        Issue::of(self.level())
    }

    fn level(&self) -> f64 {
        let best = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
        let (mut sum, mut total) = (0.0, 0.0);
        for (step, loss) in self.steps.iter().zip(self.losses) {
            let weight = libm::exp(SHARPNESS * (best - loss));
            sum += weight * step.level;
            total += weight;
        }
        sum / total + self.shift
    }

    /// Learns the conformal p-value of an outcome (the share of past outcomes at least as odd, so
    /// the level above which it was excluded when the interval was made) and whether what had been
    /// issued `missed` it. With several steps ahead this happens when the outcome is known,
    /// not before.
    pub fn learn(&mut self, threshold: f64, missed: bool) {
        for (step, loss) in self.steps.iter_mut().zip(&mut self.losses) {
            *loss = LOSS_KEPT * *loss + super::score::pinball(step.level, self.miss, threshold);
            let missed = step.issue().misses(threshold);
            step.learn(self.miss, missed);
        }
        self.shift += SHIFT_GAMMA * (self.miss - super::score::indicator(missed));
    }
}

#[cfg(test)]
mod tests;
