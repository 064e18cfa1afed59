//! Several ways to foretell a breach, weighted by how well each has done.
//!
//! All but one are plain counts with a prior. Which of them is right (a constant rate, a recent one, one
//! that depends on how long ago the last breach was, persistence, spells of trouble) differs from endpoint to
//! endpoint, so none is chosen: the forecast is their Bayes mixture (Vovk, "Aggregating Strategies",
//! 1990; Cesa-Bianchi and Lugosi, "Prediction, Learning, and Games", 2006, section 9). Half of the weight is on
//! spells at first. A little of it goes round, so that it may be another way's turn later (Herbster and Warmuth,
//! "Tracking the Best Expert", 1998).
//!
//! The bound, where each window is known before the next begins: the total logarithmic score is never worse than that of a
//! way by more than the logarithm of one over its first weight (`ln 12` for climatology and persistence, `ln 2` for
//! spells) plus about 0.001 per window. Windows that overlap, or are known a quarter of an hour late,
//! are learned from when they have ended and not before, each as one part of those that overlap; for these the
//! bound is no theorem, and what is said in the end allows for a change of regime too, which is outside it.

/// How many windows were seen, and how many of them breached the objective; discounted or not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Windows.
    pub windows: f64,
    /// Those that breached.
    pub breached: f64,
}

impl Counted {
    /// Takes a window; what was there before is worth `kept` of what it was.
    pub fn add(&mut self, breached: bool, weight: f64, kept: f64) {
        self.windows = kept * self.windows + weight;
        self.breached = kept * self.breached + weight * super::score::indicator(breached);
    }

    /// The share of breaches, drawn towards `mean` as by `strength` windows.
    #[must_use]
    pub fn share(&self, mean: f64, strength: f64) -> f64 {
        (strength * mean + self.breached) / (strength + self.windows)
    }

    /// Keeps the share and makes it worth at most so many windows.
    pub fn limit(&mut self, windows: f64) {
        if self.windows > windows {
            self.breached *= windows / self.windows;
            self.windows = windows;
        }
    }
}

/// The ways, in the order of [`Ways`].
pub const WAYS: usize = 7;

/// What each way says.
pub type Ways = [f64; WAYS];

/// Weights at first: half for spells of trouble, the last, and the rest for the others alike.
const FIRST: Ways = {
    let mut first = [0.5 / (WAYS - 1) as f64; WAYS];
    first[WAYS - 1] = 0.5;
    first
};
/// What goes round with every outcome.
const SHARED: f64 = 0.001;
/// Nobody is surer than this.
const CLIP: f64 = 1e-4;

/// Weights of the ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    weights: [f64; WAYS],
}

impl Default for Mixture {
    fn default() -> Self {
        Self { weights: FIRST }
    }
}

impl Mixture {
    /// The probability that follows from what each way says.
    #[must_use]
    pub fn say(&self, ways: &Ways) -> f64 {
        let said = self.weights.iter().zip(ways).map(|(w, p)| w * p);
        said.sum::<f64>().clamp(CLIP, 1.0 - CLIP)
    }

    /// Learns what happened after the ways had said this. Windows that overlap say the same several
    /// times: `weight` is one part of them.
    pub fn learn(&mut self, ways: &Ways, happened: bool, weight: f64) {
        let mut total = 0.0;
        for (own, said) in self.weights.iter_mut().zip(ways) {
            let said = if happened { *said } else { 1.0 - said };
            *own *= libm::pow(said.clamp(CLIP, 1.0), weight);
            total += *own;
        }
        let shared = SHARED * weight;
        for (own, first) in self.weights.iter_mut().zip(FIRST) {
            *own = (1.0 - shared) * *own / total + shared * first;
        }
    }

    /// The weights, in the order of the ways.
    #[must_use]
    pub fn weights(&self) -> &[f64; WAYS] {
        &self.weights
    }
}

#[cfg(test)]
mod tests {
    use super::super::score;
    use super::*;
    use crate::route::Draw;

    #[test]
    fn counts_lean_on_their_prior() {
        let mut counted = Counted::default();
        assert_eq!(counted.share(0.2, 4.0), 0.2);
        (0..6).for_each(|_| counted.add(true, 1.0, 1.0));
        assert!((counted.share(0.2, 4.0) - 0.68).abs() < 1e-12);
        counted.limit(3.0);
        assert_eq!((counted.windows, counted.breached), (3.0, 3.0));
    }

    #[test]
    fn a_mixture_is_hardly_worse_than_the_best_way_and_follows_a_change() {
        let mut mixture = Mixture::default();
        let (mut own, mut best) = (0.0, 0.0);
        for at in 0..4_000u64 {
            let right = if at < 2_000 { 1 } else { 4 };
            let mut ways = [0.5; WAYS];
            ways[1] = 0.1;
            ways[4] = 0.8;
            let happened = Draw::numbered(5, at).unit() < ways[right];
            own += score::log(mixture.say(&ways), happened);
            best += score::log(ways[right], happened);
            mixture.learn(&ways, happened, 1.0);
        }
        // ln 12 at the start, about ln(12/SHARED) at the change, SHARED per outcome: below 16 nats.
        assert!(own < best + 16.0, "{own} against {best}");
        assert!(mixture.weights()[4] > 0.9);
    }
}
