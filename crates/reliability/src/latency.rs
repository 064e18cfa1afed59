//! Bands for the quantiles of durations that were counted in fixed buckets.
//!
//! At every edge the share of durations below it is bounded as any other running mean
//! ([`crate::share`]: drift and dependence are allowed), with the error probability spread over
//! all edges, so that every quantile is bounded at once, at every time. A band from the empirical
//! process would be narrower and would assume independent draws of one distribution.
//!
//! A call that was given up before its answer (cancelled by the caller, or timed out) is *right
//! censored*: it would have lasted at least as long as it did. At edges up to there it counts as
//! not done; beyond, nobody knows, and the band takes both extremes.

use crate::level::Alpha;
use crate::share::{float, lower_bound, upper_bound};

/// Bounds for the share of durations below each edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Bands {
    /// Edge `i` is the lower edge of bucket `i + 1`: what lies in buckets up to `i` is below it.
    below: Vec<[f64; 2]>,
}

/// The edges between which a quantile lies, as indices of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantileBand {
    /// The quantile is not in a bucket below this one.
    pub first: usize,
    /// Nor in one above this; `None` if the evidence sets no upper limit.
    pub last: Option<usize>,
}

impl Bands {
    /// Bounds from the durations that were `finished` and those that were `censored`, counted in
    /// the same buckets.
    ///
    /// # Panics
    /// If the two do not have the same number of buckets: they belong to different things.
    #[must_use]
    pub fn new(finished: &[u64], censored: &[u64], alpha: Alpha) -> Self {
        assert_eq!(finished.len(), censored.len(), "one set of buckets");
        let edges = finished.len().saturating_sub(1);
        let units = finished.iter().chain(censored).sum::<u64>();
        let each = alpha.split(u32::try_from(2 * edges).unwrap_or(u32::MAX));
        let (mut done, mut perhaps) = (0, 0);
        let mut known: Option<([u64; 2], [f64; 2])> = None;
        let mut below = Vec::with_capacity(edges);
        for (finished, censored) in finished.iter().zip(censored).take(edges) {
            done += finished;
            perhaps += censored;
            let counts = [done, done + perhaps];
            let bounds = match known {
                // Where no call ended, nothing changes: the bound of the edge before.
                Some((before, bounds)) if before == counts => bounds,
                _ => [
                    lower_bound(float(counts[0]), units, each),
                    upper_bound(float(counts[1]), units, each),
                ],
            };
            known = Some((counts, bounds));
            below.push(bounds);
        }
        Self { below }
    }

    /// Where the duration lies that the given share does not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> QuantileBand {
        QuantileBand {
            first: self
                .below
                .iter()
                .position(|[_, upper]| *upper >= share)
                .unwrap_or(self.below.len()),
            last: self.below.iter().position(|[lower, _]| *lower >= share),
        }
    }
}

#[cfg(test)]
mod tests;
