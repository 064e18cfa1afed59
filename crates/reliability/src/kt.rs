//! Always-valid interval for a share of successes: the Krichevsky–Trofimov mixture.
//!
//! For `s` successes and `f` failures the evidence against a share `p` is
//!
//! ```text
//! ln E(p) = ln B(s + ½, f + ½) − ln B(½, ½) − s·ln p − f·ln(1 − p)
//! ```
//!
//! and the confidence sequence at level `1 − α` is `{p : E(p) < 1/α}` (Ville's inequality). It
//! may be read after every observation, or only at the bad moments, without losing its level:
//! that is why it is used here instead of a fixed-sample interval.
//!
//! What it covers: the one share behind independent outcomes, one outcome per unit. Where failures
//! come in bursts, or the share drifts, there is no such share: [`crate::share`] then covers the
//! mean chance of what was served, and nothing covers the long-run rate but longer units.

pub use crate::level::{Alpha, AlphaOutOfRange, Interval};

/// The confidence sequence for `successes` and `failures`, read now.
///
/// Costs about a hundred logarithms. Counts up to 10⁹ are exact to better than 10⁻⁹; beyond that
/// the error grows with the count but stays far below the width of the interval.
#[must_use]
pub fn interval(successes: u64, failures: u64, alpha: Alpha) -> Interval {
    Interval {
        lower: lower_bound(successes, failures, alpha),
        upper: 1.0 - lower_bound(failures, successes, alpha),
    }
}

/// The lower end of [`interval`] alone, at half the cost: what routing asks for.
#[must_use]
pub fn lower_bound(successes: u64, failures: u64, alpha: Alpha) -> f64 {
    if successes == 0 {
        return 0.0;
    }
    let counts = Counts::of(successes, failures);
    let threshold = -libm::log(alpha.value());
    // E is convex with its minimum at the observed share, where it is below 1 and so below 1/α.
    let (mut outside, mut inside) = (0.0, counts.share);
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (outside + inside);
        if middle <= outside || middle >= inside {
            break;
        }
        if counts.ln_e(middle) < threshold {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    outside
}

/// More halvings than `f64` has mantissa bits: the loop stops by itself once the ends touch.
const BISECTIONS: u32 = 80;

/// `ln E(p)`: the logarithm of the evidence against the share `p` (see the module's formula).
///
/// A `p` outside `[0, 1]`, NaN included, is excluded by any evidence: the result is infinite.
#[must_use]
pub fn ln_e(successes: u64, failures: u64, p: f64) -> f64 {
    if (0.0..=1.0).contains(&p) {
        Counts::of(successes, failures).ln_e(p)
    } else {
        f64::INFINITY
    }
}

/// Counts with the part of `ln E` that does not depend on `p`.
///
/// The textbook form subtracts numbers of the size of `n·ln n`. Split at the observed share
/// `p̂ = s/n` nothing large is left: `ln E(p) = regret + s·ln(p̂/p) + f·ln((1−p̂)/(1−p))`.
struct Counts {
    successes: f64,
    failures: f64,
    share: f64,
    regret: f64,
}

impl Counts {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts beyond 2^53 are not reached"
    )]
    fn of(successes: u64, failures: u64) -> Self {
        let (s, f) = (successes as f64, failures as f64);
        let n = s + f;
        let share = if n > 0.0 { s / n } else { 0.5 };
        let regret = half_excess(s) + half_excess(f) - one_excess(n) - LN_PI;
        Self {
            successes: s,
            failures: f,
            share,
            regret,
        }
    }

    fn ln_e(&self, p: f64) -> f64 {
        let mut total = self.regret;
        if self.successes > 0.0 {
            total += self.successes * (libm::log(self.share) - libm::log(p));
        }
        if self.failures > 0.0 {
            total += self.failures * (libm::log1p(-self.share) - libm::log1p(-p));
        }
        total
    }
}

/// `ln π = ln B(½, ½)`.
const LN_PI: f64 = 1.144_729_885_849_400_2;
/// `½·ln 2π`.
const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_8;
/// From here on Stirling's series is exact to 10⁻¹² with the terms kept below.
const SERIES_FROM: f64 = 16.0;

/// `ln Γ(x + ½) − x·ln x + x`.
fn half_excess(x: f64) -> f64 {
    if x < SERIES_FROM {
        return libm::lgamma(x + 0.5) - x_ln_x(x) + x;
    }
    let r = 1.0 / x;
    let r2 = r * r;
    HALF_LN_TWO_PI - r * (1.0 / 24.0 - r2 * (7.0 / 2880.0 - r2 * (31.0 / 40320.0)))
}

/// `ln Γ(x + 1) − x·ln x + x`.
fn one_excess(x: f64) -> f64 {
    if x < SERIES_FROM {
        return libm::lgamma(x + 1.0) - x_ln_x(x) + x;
    }
    let r = 1.0 / x;
    let r2 = r * r;
    HALF_LN_TWO_PI
        + 0.5 * libm::log(x)
        + r * (1.0 / 12.0 - r2 * (1.0 / 360.0 - r2 * (1.0 / 1260.0 - r2 * (1.0 / 1680.0))))
}

fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { x * libm::log(x) } else { 0.0 }
}

#[cfg(test)]
mod tests;
