//! Always-valid interval for the mean chance of what was served, valid under drift.
//!
//! Let `x₁ … xₙ` be scores in `[0, 1]` (an attempt that failed: 1, one that did not: 0), and `mᵢ`
//! the chance that unit `i` had, given everything before it. The interval covers the running mean
//! `m̄ₙ = (m₁ + … + mₙ)/n`, at every `n` at once, with probability `1 − α`. Nothing is assumed:
//! the chances may drift, jump and depend on the past in any way.
//!
//! For every `λ` the product of `exp(λxᵢ) / (1 − mᵢ + mᵢ·e^λ)` is a supermartingale
//! that starts at 1, because a score in `[0, 1]` has `E exp(λx) ≤ 1 − m + m·e^λ` (Hoeffding 1963,
//! lemma 1). The logarithm is concave, so the denominators multiply to at most
//! `(1 − m̄ + m̄·e^λ)ⁿ`. Hence, by Ville's inequality,
//!
//! ```text
//! exp(λS) / (1 − m̄ + m̄·e^λ)ⁿ < 1/α_λ      for all n, with probability 1 − α_λ,
//! ```
//!
//! with `S = x₁ + … + xₙ`, which solves for `m̄` in closed form. (Howard, Ramdas, McAuliffe and
//! Sekhon 2021, arXiv 1810.08240, call this the sub-Bernoulli case.) A ladder of `λ` shares `α`
//! among its rungs, and the best rung is the bound: no rung fails with probability `1 − α`.
//!
//! The state is two numbers, `S` and `n`: integers where scores are. Near the size of the
//! Krichevsky–Trofimov interval up to 10³ units, narrower beyond.

use crate::level::{Alpha, Interval};

/// Rungs of the ladder: `λ = 16, 8, …, 2·10⁻⁶`. The smallest suits 10¹² units.
const RUNGS: u32 = 24;
/// The largest `λ`: more certainty than `e¹⁶` per unit is never of use.
const LAMBDA_MAX: f64 = 16.0;
/// `1/1 + 1/2 + … + 1/24`: rung `k` takes the share `1/k` of this of the error probability.
const WEIGHTS_TOTAL: f64 = 3.775_958_177_753_507;

/// The interval for the mean chance behind `total`, the sum of `units` scores in `[0, 1]`; half of
/// `alpha` goes to each side.
///
/// A `total` outside `[0, units]`, NaN included, comes from no scores: everything is possible.
#[must_use]
pub fn interval(total: f64, units: u64, alpha: Alpha) -> Interval {
    let half = alpha.split(2);
    Interval {
        lower: lower_bound(total, units, half),
        upper: upper_bound(total, units, half),
    }
}

/// The interval for the share of successes among counted successes and failures.
#[must_use]
pub fn of_counts(successes: u64, failures: u64, alpha: Alpha) -> Interval {
    interval(float(successes), successes + failures, alpha)
}

/// The lower end alone, with all of `alpha` on that side.
#[must_use]
pub fn lower_bound(total: f64, units: u64, alpha: Alpha) -> f64 {
    let n = float(units);
    if units == 0 || !(0.0..=n).contains(&total) {
        return 0.0;
    }
    let ln_alpha = libm::log(alpha.value() / WEIGHTS_TOTAL);
    let mut lambda = LAMBDA_MAX;
    let mut best = 0.0;
    for rung in 1..=RUNGS {
        // 1 − m + m·e^λ ≥ exp((λS + ln α_λ)/n), rounded down by a hair.
        let exponent = (lambda * total + ln_alpha - libm::log(f64::from(rung))) / n;
        let bound = libm::expm1(exponent) / libm::expm1(lambda) * (1.0 - ROUNDING) - ROUNDING;
        if bound > best {
            best = bound;
        }
        lambda *= 0.5;
    }
    best
}

/// The upper end alone, with all of `alpha` on that side.
#[must_use]
pub fn upper_bound(total: f64, units: u64, alpha: Alpha) -> f64 {
    1.0 - lower_bound(float(units) - total, units, alpha)
}

/// From how many to how many of `of` units come out good, where the mean of their chances, each given
/// what came before it, lies in `chance`; half of `alpha` goes to each side.
///
/// By the supermartingale above at the best `λ` for that mean: `k` of `n` or more (or fewer, on the other
/// side) have a probability of `exp(−n·kl(k/n, m̄))` at most (Hoeffding 1963, theorem 1).
#[must_use]
pub fn count_within(of: u64, chance: Interval, alpha: Alpha) -> [u64; 2] {
    let most = -libm::log(alpha.split(2).value());
    let n = float(of);
    // Counts from here on are too far from the chance `m`; `m` itself never is.
    let tail = |m: f64| {
        let (mut inside, mut beyond) = (0, of + 1);
        while inside + 1 < beyond {
            let k = inside + (beyond - inside) / 2;
            let share = float(k) / n;
            if share <= m || n * divergence(share, m) <= most {
                inside = k;
            } else {
                beyond = k;
            }
        }
        inside
    };
    // Good ones are few where bad ones are many.
    [of - tail(1.0 - chance.lower), tail(chance.upper)]
}

/// The divergence of Kullback and Leibler between two chances, `q > p`, in nats.
fn divergence(q: f64, p: f64) -> f64 {
    let part = |q: f64, p: f64| if q > 0.0 { q * libm::log(q / p) } else { 0.0 };
    part(q, p) + part(1.0 - q, 1.0 - p)
}

/// Far more than what `libm` and the cancellation above can be off by.
const ROUNDING: f64 = 1e-12;

/// Counts beyond 2⁵³ are not reached.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 are not reached"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
