//! Has anything changed, where there is no reference? A conformal test martingale.
//!
//! Scores arrive in buckets (durations do). Each gets the smoothed rank
//! `p = (#{larger} + U·#{equal}) / n` among all scores so far, itself included, with a `U` in
//! `(0, 1)` that the caller draws from a seed. While the scores are exchangeable these are
//! independent and uniform, whatever their distribution (Vovk, Gammerman and Shafer, *Algorithmic
//! Learning in a Random World*, chapter 8), and the *Simple Jumper* bets against that:
//!
//! ```text
//! C_ε ← (1 − J)·C_ε + J·C/3,   C_ε ← C_ε·(1 + ε·(p − ½)),   ε ∈ {−1, 0, 1},   C = Σ C_ε
//! ```
//!
//! `C` ever reaches `1/α` with probability at most `α`. Exchangeable is a strong word: a rhythm of
//! day and night, or bursts, break it. So this raises a question; it opens no epoch.

/// The share of capital that moves between the bettors at each step.
pub const JUMP: f64 = 0.01;

/// The bettors, each with a third of the capital.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimpleJumper {
    /// For ε = −1, 0 and 1.
    capital: [f64; 3],
    /// Binary orders of magnitude that were moved out of `capital`, so that it neither overflows
    /// nor vanishes.
    exponent: i64,
}

impl SimpleJumper {
    /// All bettors alike, together 1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capital: [1.0 / 3.0; 3],
            exponent: 0,
        }
    }

    /// Takes one rank in `[0, 1]`; anything else is ignored.
    pub fn add(&mut self, p: f64) {
        if !(0.0..=1.0).contains(&p) {
            return;
        }
        let [down, stay, up] = self.capital;
        let third = JUMP * (down + stay + up) / 3.0;
        let moved = |capital: f64| (1.0 - JUMP) * capital + third;
        let bet = p - 0.5;
        self.capital = [
            moved(down) * (1.0 - bet),
            moved(stay),
            moved(up) * (1.0 + bet),
        ];
        let total = self.total();
        if !(LOW..=HIGH).contains(&total) {
            let (_, exponent) = libm::frexp(total);
            self.capital = self.capital.map(|c| libm::ldexp(c, -exponent));
            self.exponent += i64::from(exponent);
        }
    }

    /// `ln C`.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let exponent = self.exponent as f64;
        libm::log(self.total()) + exponent * core::f64::consts::LN_2
    }

    fn total(&self) -> f64 {
        let [down, stay, up] = self.capital;
        down + stay + up
    }
}

/// Capital is kept between these by whole powers of two, which change no digit.
const LOW: f64 = 1e-100;
/// See [`LOW`].
const HIGH: f64 = 1e100;

impl Default for SimpleJumper {
    fn default() -> Self {
        Self::new()
    }
}

/// Ranks among scores that fall into `N` buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks<const N: usize> {
    /// A Fenwick tree of counts: a rank costs about log₂ N sums.
    tree: [u64; N],
    units: u64,
}

impl<const N: usize> Ranks<N> {
    /// No score yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tree: [0; N],
            units: 0,
        }
    }

    /// Counts a score in `bucket` and says its smoothed rank: small for a score that is larger
    /// than most. `u` in `(0, 1)` breaks ties and has to be drawn independently of the score.
    /// A bucket that does not exist has no rank.
    pub fn rank(&mut self, bucket: usize, u: f64) -> Option<f64> {
        if bucket >= N {
            return None;
        }
        let mut place = bucket + 1;
        while place <= N {
            self.tree[place - 1] += 1;
            place += lowest_bit(place);
        }
        self.units += 1;
        let (up_to, below) = (self.up_to(bucket + 1), self.up_to(bucket));
        let (larger, equal) = (self.units - up_to, up_to - below);
        let float = crate::share::float;
        Some((float(larger) + u * float(equal)) / float(self.units))
    }

    /// Scores in the first `buckets` buckets.
    fn up_to(&self, buckets: usize) -> u64 {
        let (mut place, mut sum) = (buckets, 0);
        while place > 0 {
            sum += self.tree[place - 1];
            place -= lowest_bit(place);
        }
        sum
    }
}

impl<const N: usize> Default for Ranks<N> {
    fn default() -> Self {
        Self::new()
    }
}

fn lowest_bit(place: usize) -> usize {
    place & place.wrapping_neg()
}

#[cfg(test)]
mod tests;
