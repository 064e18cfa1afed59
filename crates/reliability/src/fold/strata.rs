//! Conditions in eight coarse cells, and rates as if every endpoint had the same mix of them.
//!
//! More cells would leave most of them empty: over 128 cells 10,000 records at a rate of 1 % give
//! an interval thirty times as wide as over one.

use record::observation::{Conditions, LoadClass, PromptClass, WeekTime};

use crate::level::{Alpha, Interval};
use crate::share;

/// Cells of conditions.
pub const STRATA: usize = 8;

/// What each cell weighs in a standardised rate, ppm: prompts up to 4,096 tokens 70 %, up to four
/// open attempts 70 %, working days five in seven. Fixed for all, so that easy traffic does not
/// improve a rate.
pub const WEIGHTS_PPM: [u32; STRATA] = [
    350_000, 150_000, 150_000, 64_286, 140_000, 60_000, 60_000, 25_714,
];

/// The cell of some conditions: bit 0 a long prompt, bit 1 a busy endpoint, bit 2 the weekend.
pub(super) fn stratum(conditions: &Conditions) -> usize {
    let long = matches!(conditions.prompt, PromptClass::Long | PromptClass::VeryLong);
    let busy = matches!(conditions.load, LoadClass::Busy | LoadClass::Heavy);
    let weekend = conditions.week == WeekTime::Weekend;
    usize::from(long) | usize::from(busy) << 1 | usize::from(weekend) << 2
}

/// Counted outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) good: u64,
    pub(super) bad: u64,
}

impl Tally {
    /// One outcome.
    pub(super) fn one(bad: bool) -> Self {
        Self {
            good: u64::from(!bad),
            bad: u64::from(bad),
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.good += more.good;
        self.bad += more.bad;
    }

    pub(super) fn judged(self) -> u64 {
        self.good + self.bad
    }

    pub(super) fn sum(tallies: &[Self]) -> Self {
        tallies.iter().fold(Self::default(), |sum, tally| Self {
            good: sum.good + tally.good,
            bad: sum.bad + tally.bad,
        })
    }

    /// The interval for the mean chance of a good outcome, or for the mean score where each unit adds
    /// `whole`.
    pub(super) fn interval(self, whole: u64, alpha: Alpha) -> Interval {
        let total = share::float(self.good) / share::float(whole);
        share::interval(total, self.judged() / whole, alpha)
    }
}

/// The rate with the fixed weights, and the weight of cells about which nothing is known. Such a
/// cell may hold anything, so it widens the interval by its weight.
pub(super) fn standardised(tallies: &[Tally; STRATA], whole: u64, alpha: Alpha) -> (Interval, u32) {
    let (mut lower, mut upper, mut unknown) = (0.0, 0.0, 0);
    for (tally, weight) in tallies.iter().zip(WEIGHTS_PPM) {
        let interval = tally.interval(whole, by_cell(alpha));
        let share = f64::from(weight) / 1e6;
        lower += share * interval.lower;
        upper += share * interval.upper;
        if tally.judged() == 0 {
            unknown += weight;
        }
    }
    (Interval { lower, upper }, unknown)
}

/// The level at which the intervals of all cells hold at once.
pub(super) fn by_cell(alpha: Alpha) -> Alpha {
    alpha.split(u32::try_from(STRATA).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_whole() {
        assert_eq!(WEIGHTS_PPM.iter().sum::<u32>(), 1_000_000);
    }

    #[test]
    fn easy_traffic_does_not_improve_a_standardised_rate() {
        let alpha = Alpha::FIVE_PERCENT;
        let cell = |good, bad| Tally { good, bad };
        // Long prompts fail in half of all cases, short ones never.
        let fair = [cell(1000, 0), cell(500, 500)];
        let easy = [cell(1_000_000, 0), cell(500, 500)];
        let rate = |two: [Tally; 2]| {
            let mut tallies = [Tally::default(); STRATA];
            tallies[..2].copy_from_slice(&two);
            (
                Tally::sum(&tallies).interval(1, alpha),
                standardised(&tallies, 1, alpha),
            )
        };
        let (crude, (_, unknown)) = rate(fair);
        let (better, _) = rate(easy);
        assert!(better.lower > crude.upper, "the crude rate can be improved");
        let ends = |two| rate(two).1.0;
        assert!(ends(easy).upper <= ends(fair).upper + 1e-12);
        assert!(
            ends(easy).upper < 1.0 - 0.15 * 0.4,
            "half of the second cell failed"
        );
        assert_eq!(unknown, 500_000);
    }

    #[test]
    fn nothing_known_is_all_unknown() {
        let (interval, unknown) = standardised(&[Tally::default(); STRATA], 1, Alpha::FIVE_PERCENT);
        assert_eq!((interval.ends_ppm(), unknown), ([0, 1_000_000], 1_000_000));
    }
}
