//! Alarm when a mean has risen, with a bound on false alarms: a Shiryaev–Roberts e-detector.
//!
//! Scores `x` in `[0, 1]` arrive unit by unit. The null hypothesis is `E[x | past] ≤ m₀`, with a
//! baseline `m₀` that was fixed before `x`. Nine bettors multiply
//!
//! ```text
//! e_k = 1 + λ_k·(x/m₀ − 1),    λ_k = min(.95, (ρ_k − 1)·m₀/(1 − m₀)),    R_k ← (R_k + w)·e_k
//! ```
//!
//! and `R` is their mean (Shin, Ramdas and Rinaldo, arXiv 2203.03532). The bet of bettor `k` is the
//! likelihood ratio of a change from `m₀` to `ρ_k·m₀`, so bets follow the size of the baseline.
//!
//! **The bound.** `w` is the time since the last unit as a share of a year, fixed before `x` is
//! seen. Under the null `R` drifts upward by at most `w` per unit. The alarm is raised at
//! `R ≥ 1/budget`, and then `R` restarts from 0; so `R + alarms/budget` drifts upward by at most
//! the elapsed time, and the expected number of false alarms by time `t` is at most
//! `t × budget`: restarts included, whatever the dependence between streams.
//!
//! **What it needs.** One unit is one response or one window of time, never a token, and the null
//! must hold *given the past*. Outages that last longer than a unit break that: during an outage
//! the next unit is bad almost surely. So units are chosen longer than the outages are.

/// How much larger than the baseline the mean is that each bettor bets on.
pub const RATIOS: [f64; 9] = [1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 25.0, 45.0];
/// No bettor risks more than this share of its capital.
const LAMBDA_MAX: f64 = 0.95;
/// A year of 365 days, ms.
pub const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// A baseline with the bets that suit it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    m0: f64,
    lambdas: [f64; RATIOS.len()],
}

impl Baseline {
    /// The bets against a mean of at most `m0`; `None` unless `0 < m0 < 1`: against a mean of 1
    /// there is nothing to find, and a baseline of exactly 0 is refuted by one failure.
    #[must_use]
    pub fn new(m0: f64) -> Option<Self> {
        if !(m0 > 0.0 && m0 < 1.0) {
            return None;
        }
        let lambdas = RATIOS.map(|ratio| LAMBDA_MAX.min((ratio - 1.0) * m0 / (1.0 - m0)));
        Some(Self { m0, lambdas })
    }

    /// The mean that is tolerated.
    #[must_use]
    pub fn m0(&self) -> f64 {
        self.m0
    }

    /// The mean that bettor `k` bets on: for one yes-or-no outcome its bet is the likelihood ratio of
    /// this mean to `m₀`. `None` if there is no such bettor.
    #[must_use]
    pub fn bet_on(&self, bettor: usize) -> Option<f64> {
        let lambda = self.lambdas.get(bettor)?;
        Some(self.m0 + lambda * (1.0 - self.m0))
    }

    /// What each bettor's capital is multiplied by after the score `x`.
    #[must_use]
    pub fn factors(&self, x: f64) -> [f64; RATIOS.len()] {
        let excess = x / self.m0 - 1.0;
        self.lambdas.map(|lambda| 1.0 + lambda * excess)
    }

    /// The same for bettors on a fall, whose hypothesis is `E[x | past] ≥ m₀`: bettor `k` takes
    /// the likelihood ratio of a change from `m₀` to `m₀/ρ_k`.
    #[must_use]
    pub fn falling_factors(&self, x: f64) -> [f64; RATIOS.len()] {
        let excess = x / self.m0 - 1.0;
        let odds = self.m0 / (1.0 - self.m0);
        RATIOS.map(|ratio| 1.0 - (1.0 - 1.0 / ratio) * odds * excess)
    }
}

/// Expected false alarms per year that a detector may raise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget(f64);

impl Budget {
    /// One false alarm a year over a network of 6,000 streams.
    pub const NETWORK: Self = Self(1.0 / 6000.0);

    /// A positive number of false alarms per year; `None` otherwise.
    #[must_use]
    pub fn per_year(budget: f64) -> Option<Self> {
        (budget > 0.0 && budget.is_finite()).then_some(Self(budget))
    }

    /// The level at which the alarm is raised.
    #[must_use]
    pub fn threshold(self) -> f64 {
        1.0 / self.0
    }
}

/// The evidence for a rise, and the alarms so far. Linear `f64`: between alarms `R` stays below
/// the threshold times the largest factor of one unit, and far above the smallest number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Detector {
    evidence: [f64; RATIOS.len()],
    alarms: u64,
}

impl Detector {
    /// Takes one score in `[0, 1]`, judged against `baseline`, after `years` since the last unit.
    /// Whether the alarm is raised now; the detector has then started anew.
    ///
    /// The baseline may differ from unit to unit (a stratum has its own), as long as it and
    /// `years` were fixed before the score was seen. A score outside its range is ignored.
    pub fn step(&mut self, x: f64, baseline: &Baseline, years: f64, budget: Budget) -> bool {
        if !((0.0..=1.0).contains(&x) && years >= 0.0) {
            return false;
        }
        advance(&mut self.evidence, &baseline.factors(x), years);
        let alarm = self.evidence() >= budget.threshold();
        if alarm {
            self.evidence = [0.0; RATIOS.len()];
            self.alarms += 1;
        }
        alarm
    }

    /// Which bettor leads once it has taken this score, the first of those that do: what it bets on is
    /// what an alarm on this score suspects.
    #[must_use]
    pub fn leader(&self, x: f64, baseline: &Baseline, years: f64) -> usize {
        let mut evidence = self.evidence;
        advance(&mut evidence, &baseline.factors(x), years);
        let (mut leader, mut most) = (0, evidence[0]);
        for (bettor, evidence) in evidence.into_iter().enumerate() {
            if evidence > most {
                (leader, most) = (bettor, evidence);
            }
        }
        leader
    }

    /// The same count of alarms without any evidence: after a change that was announced.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self {
            evidence: [0.0; RATIOS.len()],
            alarms: self.alarms,
        }
    }

    /// `R`: the mean of the bettors' evidence, in years. The alarm is raised at `1/budget`.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.evidence.iter().sum::<f64>() / crate::share::float(RATIOS.len() as u64)
    }

    /// Evidence bettor by bettor, for a digest of the state.
    #[must_use]
    pub fn bettors(&self) -> &[f64; RATIOS.len()] {
        &self.evidence
    }

    /// Alarms raised so far.
    #[must_use]
    pub fn alarms(&self) -> u64 {
        self.alarms
    }
}

/// One step of the recursion, for each bettor.
fn advance(evidence: &mut [f64], factors: &[f64], weight: f64) {
    for (evidence, factor) in evidence.iter_mut().zip(factors) {
        *evidence = (*evidence + weight) * factor;
    }
}

/// Units until a rise from `m0` to `m1` is found, about: `ln(B·I)/I` with the threshold `B` in
/// units and the information `I` of one yes-or-no unit (Lorden's bound with the constant that
/// simulations show). Infinite unless `0 < m0 < m1 < 1`.
#[must_use]
pub fn delay_units(m0: f64, m1: f64, threshold_units: f64) -> f64 {
    if !(0.0 < m0 && m0 < m1 && m1 < 1.0) {
        return f64::INFINITY;
    }
    let information = m1 * libm::log(m1 / m0) + (1.0 - m1) * (libm::log1p(-m1) - libm::log1p(-m0));
    let evidence = libm::log(threshold_units * information);
    if evidence > 0.0 {
        evidence / information
    } else {
        1.0
    }
}

/// The smallest mean above `m0` that is found within `units`, about; `None` if none is.
#[must_use]
pub fn smallest_rise(m0: f64, units: f64, threshold_units: f64) -> Option<f64> {
    let found = |m1: f64| delay_units(m0, m1, threshold_units) <= units;
    let (mut low, mut high) = (m0, 1.0 - 1e-6);
    if !found(high) {
        return None;
    }
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if found(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests;
