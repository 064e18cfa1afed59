//! What an endpoint can be expected to do now: its figures for routing, one outcome at a time.
//!
//! A lifetime share answers too late: after 10,000 good answers a dead endpoint needs thousands of
//! failures to fall behind. So two things are kept beside each other.
//!
//! - **Rates.** Failures and successes are discounted with half-lives of 16, 128 and 1,024
//!   outcomes, each a beta posterior on the pooled prior; what is expected is their mixture, weighted
//!   by how well each foretold the outcomes so far (Bayes with a small fixed share, as in Herbster
//!   and Warmuth, "Tracking the Best Expert", 1998). A steady endpoint is judged by its long record,
//!   one that slides by its short one.
//! - **Up or down.** The probability that the endpoint is in an outage: a two-state filter, in which a
//!   failure of an otherwise good endpoint weighs much. After a few it is left. While nobody asks it
//!   the probability falls with the time, so it is found again once it has recovered. Each outage
//!   is a *strike*: every strike doubles the time until it is tried again, up to about an hour,
//!   and strikes are forgotten with a half-life of six hours. An endpoint that flaps in whatever
//!   pattern is therefore asked a few times per outage and, struck often enough, about once an hour.
//!
//! This is a forecast, not evidence: histories and their intervals do not use it. Constant memory, and
//! an outcome costs about a dozen logarithms. Time is the caller's, in ms.

use super::{Candidate, WHOLE_PPM};
use crate::forecast::pool::Pool;

/// Half-lives of the rates, in outcomes.
const HALF_LIVES: [f64; 3] = [16.0, 128.0, 1024.0];
/// What the weights of the rates give back to each other with every outcome.
const SHARED: f64 = 0.002;
/// Failure rate during an outage.
const DOWN_FAILS: f64 = 0.75;
/// Probability that an outage began just before a call, at least: so low that one failure in a good
/// record costs little trust, and so high that a second one costs nearly all.
const DOWN_AT_LEAST: f64 = 0.0005;
/// Time until an endpoint with no strikes is tried again after an outage, ms.
const RETRY_MS: f64 = 60_000.0;
/// Doublings of that time, at most: 64 minutes.
const STRIKES_MAX: f64 = 6.0;
/// Half-life of strikes, ms.
const STRIKE_HALF_LIFE_MS: f64 = 6.0 * 3_600_000.0;
/// Below this probability of being down the endpoint counts as up again.
const UP_BELOW: f64 = 0.2;
/// Weight of a rate below which it is not believed any more.
const BELIEVED: f64 = 0.01;
/// Time without an outcome after which any of the rates might hold again, ms.
const FORGOTTEN_MS: u64 = 3_600_000;
/// Standard deviations between the mean and either end: one-sided 95 %.
const Z: f64 = 1.645;
/// What is kept of a time or rate when another one comes: about the last thirty count.
const KEPT: f64 = 0.97;

/// What an attempt showed, as far as routing is concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Served well, and within the objective if there is one.
    pub good: bool,
    /// Time to the first token, µs, of an attempt that was served well.
    pub first_token_us: Option<u64>,
    /// Tokens per second.
    pub throughput: Option<f64>,
}

impl Outcome {
    /// One of which only this is known.
    #[must_use]
    pub fn of(good: bool) -> Self {
        Self {
            good,
            first_token_us: None,
            throughput: None,
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pool: Pool,
    judged: u64,
    rates: [Rate; HALF_LIVES.len()],
    /// What follows from the rates.
    up: Up,
    down: f64,
    /// In an outage: left, and not trusted before it has shown itself again.
    out: bool,
    last_ms: u64,
    strikes: f64,
    struck_ms: u64,
    /// Discounted mean of the logarithm of the time to the first token, and of the throughput.
    ln_first_token: Option<f64>,
    ln_throughput: Option<f64>,
}

/// What can be expected while it is up, worked out after each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Up {
    /// Failure rate.
    fails: f64,
    /// Variance of what is known of it.
    spread: f64,
    /// The success that it might have: the upper end of the best rate that is still believed.
    at_best: f64,
    /// And of any rate.
    once: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    good: f64,
    bad: f64,
    weight: f64,
}

impl Standing {
    /// Nothing is known but what endpoints have in common.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        let rate = Rate {
            good: 0.0,
            bad: 0.0,
            weight: 1.0 / HALF_LIVES.len() as f64,
        };
        let mut standing = Self {
            pool,
            judged: 0,
            rates: [rate; HALF_LIVES.len()],
            up: Up::default(),
            down: DOWN_AT_LEAST,
            out: false,
            last_ms: 0,
            strikes: 0.0,
            struck_ms: 0,
            ln_first_token: None,
            ln_throughput: None,
        };
        standing.work_out();
        standing
    }

    /// Takes an outcome that was known at `at_ms`.
    pub fn observe(&mut self, at_ms: u64, outcome: &Outcome) {
        let good = outcome.good;
        let before = self.down_at(at_ms);
        let up_fails = self.up.fails;
        let said = |fails: f64| if good { 1.0 - fails } else { fails };
        let (if_down, if_up) = (said(DOWN_FAILS), said(up_fails));
        let joint = before * if_down;
        self.down = joint / (joint + (1.0 - before) * if_up);
        // What fails in an outage says nothing about the rate outside.
        let weight = if self.out && !good { 0.0 } else { 1.0 - before };
        self.learn_rates(good, weight);
        if !self.out && self.down > 0.5 {
            self.out = true;
            self.strikes = (self.strikes_at(at_ms) + 1.0).min(STRIKES_MAX);
            self.struck_ms = at_ms;
        } else if self.out && !good {
            // Tried again, and failed again.
            self.strikes = (self.strikes_at(at_ms) + 1.0).min(STRIKES_MAX);
            self.struck_ms = at_ms;
        } else if self.out && self.down < UP_BELOW {
            self.out = false;
        }
        self.judged += 1;
        self.last_ms = self.last_ms.max(at_ms);
        if let Some(us) = outcome.first_token_us {
            learn_ln(&mut self.ln_first_token, us as f64);
        }
        if let Some(rate) = outcome.throughput {
            learn_ln(&mut self.ln_throughput, rate);
        }
    }

    /// Something else is served there now (another manifest, another owner), or a detector raised an
    /// alarm: what was known is worth little from here on.
    pub fn regime_changed(&mut self) {
        for (rate, half_life) in self.rates.iter_mut().zip(HALF_LIVES) {
            let scale = (8.0 / half_life).min(1.0);
            rate.good *= scale;
            rate.bad *= scale;
            rate.weight = 1.0 / HALF_LIVES.len() as f64;
        }
        self.work_out();
    }

    /// Replaces the common prior.
    pub fn pool(&mut self, pool: Pool) {
        self.pool = pool;
        self.work_out();
    }

    /// Judged outcomes.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// Probability that it is in an outage.
    #[must_use]
    pub fn down_at(&self, now_ms: u64) -> f64 {
        let age = now_ms.saturating_sub(self.last_ms) as f64;
        // Outages tend to last: the longer one has lasted, the longer it still will. So what is left
        // of the suspicion falls with the age, not exponentially.
        let retry = self.retry_ms(now_ms);
        let left = self.down * retry / (retry + age);
        left.max(DOWN_AT_LEAST)
    }

    /// The figures at `now_ms`, under a place of the caller's own list.
    #[must_use]
    pub fn candidate(&self, place: u32, now_ms: u64) -> Candidate {
        let down = self.down_at(now_ms);
        let Up { fails, spread, .. } = self.up;
        let mean = (1.0 - down) * (1.0 - fails) + down * (1.0 - DOWN_FAILS);
        let gap = DOWN_FAILS - fails;
        let low = Z * libm::sqrt(spread + down * (1.0 - down) * gap * gap);
        let silence_ms = now_ms.saturating_sub(self.last_ms);
        let best = if self.out && !self.may_be_tried(now_ms) {
            mean
        } else if silence_ms >= FORGOTTEN_MS {
            self.up.once
        } else {
            self.up.at_best
        };
        Candidate {
            place,
            success_ppm: ppm(mean),
            lower_ppm: ppm(mean - low),
            upper_ppm: ppm(best),
            judged: self.judged,
            first_token_us: self.ln_first_token.map(from_ln),
            throughput: self
                .ln_throughput
                .map(|ln| u32::try_from(from_ln(ln)).unwrap_or(u32::MAX)),
            ..Candidate::unknown(place)
        }
    }

    fn work_out(&mut self) {
        let mut up = Up::default();
        let mut weight = 0.0;
        for rate in &self.rates {
            let fails = self.pool.failure_rate(rate.good, rate.bad);
            let seen = rate.good + rate.bad + self.pool.strength + 1.0;
            let high = 1.0 - fails + Z * libm::sqrt(fails * (1.0 - fails) / seen);
            up.fails += rate.weight * fails;
            weight += rate.weight * seen;
            up.once = high.max(up.once);
            if rate.weight >= BELIEVED {
                up.at_best = high.max(up.at_best);
            }
        }
        up.fails = up.fails.clamp(1e-4, 0.99);
        up.spread = up.fails * (1.0 - up.fails) / weight;
        self.up = up;
    }

    fn may_be_tried(&self, now_ms: u64) -> bool {
        let age = now_ms.saturating_sub(self.last_ms) as f64;
        // After a first good answer the next trial need not wait.
        age >= self.retry_ms(now_ms) || self.down < 0.9
    }

    fn strikes_at(&self, now_ms: u64) -> f64 {
        let age = now_ms.saturating_sub(self.struck_ms) as f64;
        self.strikes * libm::exp2(-age / STRIKE_HALF_LIFE_MS)
    }

    fn retry_ms(&self, now_ms: u64) -> f64 {
        if self.strikes == 0.0 {
            return RETRY_MS;
        }
        RETRY_MS * libm::exp2(self.strikes_at(now_ms))
    }

    fn learn_rates(&mut self, good: bool, weight: f64) {
        let mut total = 0.0;
        for (rate, half_life) in self.rates.iter_mut().zip(HALF_LIVES) {
            let fails = self.pool.failure_rate(rate.good, rate.bad);
            let said = if good { 1.0 - fails } else { fails };
            rate.weight *= libm::pow(said.max(1e-9), weight);
            total += rate.weight;
            let kept = libm::exp2(-weight / half_life);
            rate.good *= kept;
            rate.bad *= kept;
            if good {
                rate.good += weight;
            } else {
                rate.bad += weight;
            }
        }
        let even = SHARED / HALF_LIVES.len() as f64;
        for rate in &mut self.rates {
            rate.weight = (1.0 - SHARED) * rate.weight / total + even;
        }
        self.work_out();
    }
}

fn learn_ln(mean: &mut Option<f64>, value: f64) {
    let ln = libm::log(value.max(1.0));
    *mean = Some(mean.map_or(ln, |have| KEPT * have + (1.0 - KEPT) * ln));
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast of a number that is at least 1"
)]
fn from_ln(ln: f64) -> u64 {
    libm::round(libm::exp(ln)) as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to [0, 10^6] before the cast"
)]
fn ppm(share: f64) -> u32 {
    libm::round(share.clamp(0.0, 1.0) * f64::from(WHOLE_PPM)) as u32
}

#[cfg(test)]
mod tests;
