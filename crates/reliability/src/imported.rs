//! Evidence of others: averaged over independent observers, or not given at all.
//!
//! Calls of one client go well or badly together, and one party may pose as many. So each cluster of
//! clients counts as one score, its own share, however many calls it made; no cluster weighs
//! more than 5 %, and so there have to be at least 20. What they say is an interval for the
//! mean over clusters ([`crate::share`]). It protects against a loud observer, not against a party
//! that owns most of the clusters: whose clusters count is the policy's business.

use crate::level::{Alpha, Interval};
use crate::share::{self, float};

/// Fewer clusters than this say nothing: each may weigh 5 % at most.
pub const CLUSTERS_MIN: usize = 20;

/// What independent observers say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Imported {
    /// Too few independent observers.
    TooFew {
        /// How many there are.
        clusters: usize,
    },
    /// The mean share of good outcomes over clusters.
    Mean {
        /// How many there are.
        clusters: usize,
        /// Where the mean lies.
        interval: Interval,
    },
}

/// Averages clusters, given as (good, bad) outcomes each. One without outcomes is none.
#[must_use]
pub fn average(clusters: impl IntoIterator<Item = (u64, u64)>, alpha: Alpha) -> Imported {
    let (mut count, mut total) = (0, 0.0);
    for (good, bad) in clusters {
        if good + bad > 0 {
            count += 1;
            total += float(good) / float(good + bad);
        }
    }
    if count < CLUSTERS_MIN {
        return Imported::TooFew { clusters: count };
    }
    Imported::Mean {
        clusters: count,
        interval: share::interval(total, count as u64, alpha),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_observers_say_nothing_however_much_they_say() {
        let few = average([(1_000_000, 0); 19], Alpha::FIVE_PERCENT);
        assert_eq!(few, Imported::TooFew { clusters: 19 });
        let idle = average([(0, 0); 100], Alpha::FIVE_PERCENT);
        assert_eq!(idle, Imported::TooFew { clusters: 0 });
    }

    #[test]
    fn a_loud_cluster_moves_the_mean_by_its_share_alone() {
        let quiet = [(9, 1); 40];
        let loud = quiet.into_iter().chain([(0, 1_000_000_000)]);
        let Imported::Mean { interval, clusters } = average(loud, Alpha::FIVE_PERCENT) else {
            panic!("enough clusters");
        };
        assert_eq!(clusters, 41);
        assert!(interval.upper > 0.9 * 40.0 / 41.0, "{interval:?}");
        assert!(interval.lower > 0.5, "{interval:?}");
    }
}
