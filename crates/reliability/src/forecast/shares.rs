//! What shares windows had: a discounted histogram, and the conformal intervals that follow from
//! it.
//!
//! Shares of failures are kept in buckets a sixth of a decade wide, so that 99.99 % and 99.999 % are
//! different things. An interval at level `α` holds the buckets that are not odd at that level: the
//! conformal p-value of a bucket is twice the smaller of the shares of past windows at or below
//! and at or above it (the new one counted in), 1 at most.

use super::adaptive::Issue;

/// The first bucket is for no failure at all.
const BUCKETS: usize = 32;
/// Lower edge of the second bucket; smaller shares are in it too.
const SMALLEST: f64 = 1e-5;
const PER_DECADE: f64 = 6.0;

/// Past windows of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    counts: [f64; BUCKETS],
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            counts: [0.0; BUCKETS],
        }
    }
}

impl Shares {
    /// Adds a window; what was there before is worth `kept` of what it was.
    pub fn add(&mut self, good: u64, bad: u64, kept: f64) {
        for count in &mut self.counts {
            *count *= kept;
        }
        self.counts[bucket(good, bad)] += 1.0;
    }

    /// The conformal p-value of a window: the level above which its bucket is excluded.
    #[must_use]
    pub fn p_value(&self, good: u64, bad: u64) -> f64 {
        self.p_of(bucket(good, bad))
    }

    /// The ends of the shares of *good* attempts that are issued; `None` for nothing.
    #[must_use]
    pub fn interval(&self, issue: Issue) -> Option<(f64, f64)> {
        let level = match issue {
            Issue::Everything => return Some((0.0, 1.0)),
            Issue::Nothing => return None,
            Issue::Level(level) => level,
        };
        let held = |at: &usize| self.p_of(*at) >= level;
        let first = (0..BUCKETS).find(held)?;
        let last = (0..BUCKETS).rev().find(held)?;
        Some((1.0 - edges(last).1, 1.0 - edges(first).0))
    }

    fn p_of(&self, at: usize) -> f64 {
        let below: f64 = self.counts[..at].iter().sum();
        let here = self.counts[at];
        let above: f64 = self.counts[at + 1..].iter().sum();
        let total = below + here + above + 1.0;
        let tail = (below + here + 1.0).min(here + above + 1.0);
        (2.0 * tail / total).min(1.0)
    }
}

fn bucket(good: u64, bad: u64) -> usize {
    if bad == 0 {
        return 0;
    }
    let share = bad as f64 / (good + bad) as f64;
    // By comparison with the edges, so that no rounding of a logarithm decides.
    (1..BUCKETS)
        .take_while(|at| edges(*at).0 <= share)
        .last()
        .unwrap_or(1)
}

/// The smallest and the largest share of failures in a bucket.
fn edges(at: usize) -> (f64, f64) {
    let edge = |step: usize| SMALLEST * libm::exp10((step as f64 - 1.0) / PER_DECADE);
    match at {
        0 => (0.0, 0.0),
        1 => (0.0, edge(2)),
        at => (edge(at).min(1.0), edge(at + 1).min(1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_is_within_the_edges_of_its_bucket() {
        for good in [0u64, 1, 3, 10, 999, 99_999, 9_999_999] {
            for bad in [0u64, 1, 2, 7, 1000] {
                if good + bad > 0 {
                    let (low, high) = edges(bucket(good, bad));
                    let share = bad as f64 / (good + bad) as f64;
                    assert!(low <= share && share <= high, "{good} {bad}");
                }
            }
        }
    }

    #[test]
    fn an_interval_holds_exactly_what_is_not_odd() {
        let mut shares = Shares::default();
        for window in 0..100u64 {
            shares.add(1_000 - window / 10, window / 10, 1.0);
        }
        for level in [0.02, 0.1, 0.3, 0.9] {
            let (low, high) = shares.interval(Issue::Level(level)).expect("some");
            for bad in 0..200u64 {
                let good = 1_000 - bad;
                let share = good as f64 / 1_000.0;
                // A share that is an end belongs to the bucket beside it.
                if (share - low).abs() < 1e-9 {
                    continue;
                }
                let inside = low <= share && share <= high;
                let held = !Issue::Level(level).misses(shares.p_value(good, bad));
                assert_eq!(inside, held, "{level} {bad} [{low}, {high}]");
            }
        }
        assert_eq!(shares.interval(Issue::Everything), Some((0.0, 1.0)));
        assert_eq!(shares.interval(Issue::Nothing), None);
        let nothing_yet = Shares::default().interval(Issue::Level(0.1));
        assert_eq!(nothing_yet, Some((0.0, 1.0)));
    }
}
