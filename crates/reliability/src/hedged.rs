//! Always-valid interval for the mean of scores in `[0, 1]`: hedged betting.
//!
//! Against every candidate mean `m` two bettors play, one on larger and one on smaller scores:
//!
//! ```text
//! K±(m) = Π (1 ± λᵢ·(xᵢ − m)),   λᵢ = √(2·ln(2/α) / (σ̂²ᵢ₋₁·i·ln(1 + i))),  λᵢ ≤ ½/m or ½/(1 − m)
//! ```
//!
//! and the interval is every `m` with `max(½·K⁺, ½·K⁻) < 1/α` (Waudby-Smith and Ramdas,
//! arXiv 2010.09686, section 4.4 and equations 24 to 26).
//!
//! It assumes that every unit has the same mean given the past. It adapts to the spread of the
//! scores: scores that hardly vary give a much narrower interval than [`crate::share`], which in
//! turn needs no such assumption.
//!
//! Candidates lie on a grid that is logarithmic towards both ends, down to 10⁻⁶ and up to
//! 1 − 10⁻⁶, so that shares of one in a thousand are resolved; the ends of the interval are
//! rounded outward to the next candidate. State: two numbers per candidate, about 8 KB. One unit
//! costs two products per candidate.

use crate::level::{Alpha, Interval};

/// Candidates below one half, as many above, and one half itself.
const HALF: usize = 250;
/// Candidates.
const GRID: usize = 2 * HALF + 1;
/// The candidate next to 0; its mirror image is next to 1.
const SMALLEST: f64 = 1e-6;

/// Scores so far, and the bets against every candidate mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedged {
    alpha: Alpha,
    units: u64,
    total: f64,
    /// Sum of squared distances from the running mean.
    spread: f64,
    rivals: Box<[Rival]>,
}

/// The two bettors against one candidate mean.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rival {
    /// Capital of the bettor on larger scores; infinite once it has excluded the candidate.
    larger: f64,
    /// Capital of the bettor on smaller scores; likewise.
    smaller: f64,
}

impl Hedged {
    /// No scores yet.
    #[must_use]
    pub fn new(alpha: Alpha) -> Self {
        let rival = Rival {
            larger: 1.0,
            smaller: 1.0,
        };
        Self {
            alpha,
            units: 0,
            total: 0.0,
            spread: 0.0,
            rivals: vec![rival; GRID].into_boxed_slice(),
        }
    }

    /// Takes one score in `[0, 1]`. What lies outside, NaN included, is no score and is ignored.
    pub fn add(&mut self, x: f64) {
        if !(0.0..=1.0).contains(&x) {
            return;
        }
        let bet = self.bet();
        for (rival, m) in self.rivals.iter_mut().zip(GRID_POINTS.iter()) {
            rival.play(x, *m, bet, self.alpha);
        }
        self.units += 1;
        self.total += x;
        let n = crate::share::float(self.units);
        let distance = x - (0.5 + self.total) / (n + 1.0);
        self.spread += distance * distance;
    }

    /// Scores taken.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }

    /// The means that were never excluded, rounded outward to the nearest excluded candidates.
    #[must_use]
    pub fn interval(&self) -> Interval {
        let lower = self
            .rivals
            .iter()
            .rposition(|rival| rival.larger == f64::INFINITY);
        let upper = self
            .rivals
            .iter()
            .position(|rival| rival.smaller == f64::INFINITY);
        match (lower, upper) {
            // Only a mean that moved excludes everything. Nothing is claimed then.
            (Some(lower), Some(upper)) if lower >= upper => Interval::UNKNOWN,
            _ => Interval {
                lower: lower.map_or(0.0, candidate),
                upper: upper.map_or(1.0, candidate),
            },
        }
    }

    /// `λ` for the next score, before it is capped: from the scores so far alone.
    fn bet(&self) -> f64 {
        let n = crate::share::float(self.units);
        let variance = (0.25 + self.spread) / (n + 1.0);
        let next = n + 1.0;
        libm::sqrt(
            2.0 * libm::log(2.0 / self.alpha.value()) / (variance * next * libm::log(1.0 + next)),
        )
    }
}

impl Rival {
    fn play(&mut self, x: f64, m: f64, bet: f64, alpha: Alpha) {
        if self.excluded() {
            return;
        }
        self.larger *= 1.0 + bet.min(0.5 / m) * (x - m);
        self.smaller *= 1.0 - bet.min(0.5 / (1.0 - m)) * (x - m);
        // Both cannot be this rich: what one wins the other loses.
        for capital in [&mut self.larger, &mut self.smaller] {
            if 0.5 * *capital >= 1.0 / alpha.value() {
                *capital = f64::INFINITY;
            }
        }
    }

    fn excluded(&self) -> bool {
        self.larger == f64::INFINITY || self.smaller == f64::INFINITY
    }
}

fn candidate(place: usize) -> f64 {
    GRID_POINTS[place]
}

static GRID_POINTS: std::sync::LazyLock<[f64; GRID]> = std::sync::LazyLock::new(|| {
    let step = libm::log(0.5 / SMALLEST) / crate::share::float(HALF as u64);
    let mut points = [0.5; GRID];
    for below in 0..HALF {
        let m = SMALLEST * libm::exp(step * crate::share::float(below as u64));
        points[below] = m;
        points[GRID - 1 - below] = 1.0 - m;
    }
    points
});

#[cfg(test)]
mod tests;
