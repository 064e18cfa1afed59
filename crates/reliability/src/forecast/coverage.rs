//! Predictability: how well the intervals that were issued beforehand covered, and how narrow they were.
//!
//! One unit is one window that ended. The interval of the coverage is the one for mean chances
//! ([`crate::share`]), valid at any time and under drift. Windows that overlap are dealt out to as many
//! streams as overlap, so that within a stream each outcome is known before the next forecast is made;
//! their intervals, at α over the number of streams, are averaged with their numbers of windows.

use serde::Serialize;

use super::scores::Issued;
use crate::level::{Alpha, Interval};
use crate::share::{self, float};

/// Sums over windows that ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Coverage {
    /// Covered and missed, by stream.
    streams: Vec<(u64, u64)>,
    width: f64,
    whole_line: u64,
    not_issued: u64,
}

/// How predictable an endpoint has been, for windows of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Predictability {
    /// Windows that were foretold and have ended, with something asked in them.
    pub ended: u64,
    /// Those whose share of good attempts lay in the interval that was issued beforehand.
    pub covered: u64,
    /// 95 % interval for the mean chance that these intervals had of covering, ppm.
    pub coverage_ppm: [u32; 2],
    /// Mean width of the intervals that were issued, ppm of the share; absent if none was.
    pub mean_width_ppm: Option<u32>,
    /// Share of windows whose interval held every share, and so said nothing, ppm.
    pub whole_line_ppm: u32,
    /// Share of windows for which no interval was issued, ppm; each counts as not covered.
    pub not_issued_ppm: u32,
}

impl Coverage {
    pub(super) fn new(lags: u8) -> Self {
        Self {
            streams: vec![(0, 0); usize::from(lags.max(1))],
            width: 0.0,
            whole_line: 0,
            not_issued: 0,
        }
    }

    /// `window` is the window's number, counted in steps of issue.
    pub(super) fn add(&mut self, issued: &Issued, window: u64, share: f64) {
        let lags = self.streams.len() as u64;
        let at = usize::try_from(window % lags).unwrap_or(0);
        let (covered, missed) = &mut self.streams[at];
        if issued.misses(share) {
            *missed += 1;
        } else {
            *covered += 1;
        }
        match issued.interval {
            None => self.not_issued += 1,
            Some((lower, upper)) => {
                self.width += upper - lower;
                self.whole_line += u64::from(lower <= 0.0 && upper >= 1.0);
            }
        }
    }

    pub(super) fn read(&self) -> Predictability {
        let sum = |part: fn(&(u64, u64)) -> u64| self.streams.iter().map(part).sum::<u64>();
        let covered = sum(|it| it.0);
        let ended = covered + sum(|it| it.1);
        let ppm = |part: f64, of: u64| Interval {
            lower: 0.0,
            upper: part / float(of.max(1)),
        };
        let issued = ended - self.not_issued;
        Predictability {
            ended,
            covered,
            coverage_ppm: self.interval(ended).ends_ppm(),
            mean_width_ppm: (issued > 0).then(|| ppm(self.width, issued).upper_ppm()),
            whole_line_ppm: ppm(float(self.whole_line), ended).upper_ppm(),
            not_issued_ppm: ppm(float(self.not_issued), ended).upper_ppm(),
        }
    }

    fn interval(&self, ended: u64) -> Interval {
        let lags = u32::try_from(self.streams.len()).unwrap_or(u32::MAX);
        let alpha = Alpha::FIVE_PERCENT.split(lags);
        let (mut lower, mut upper) = (0.0, 0.0);
        for (covered, missed) in &self.streams {
            let weight = float(covered + missed) / float(ended.max(1));
            let stream = share::of_counts(*covered, *missed, alpha);
            lower += weight * stream.lower;
            upper += weight * stream.upper;
        }
        if ended == 0 {
            return Interval {
                lower: 0.0,
                upper: 1.0,
            };
        }
        Interval {
            lower,
            upper: upper.min(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Draws;

    fn issued(interval: Option<(f64, f64)>) -> Issued {
        Issued {
            breach: 0.1,
            interval,
            miss: 0.1,
            climatology: 0.1,
            persistence: 0.1,
        }
    }

    #[test]
    fn what_ended_is_counted_as_it_was_issued() {
        let mut coverage = Coverage::new(1);
        assert_eq!(
            coverage.read().coverage_ppm,
            [0, 1_000_000],
            "nothing is known"
        );
        for (interval, share) in [
            (Some((0.9, 1.0)), 0.95),
            (Some((0.9, 1.0)), 0.8),
            (Some((0.0, 1.0)), 0.8),
            (None, 0.8),
        ] {
            coverage.add(&issued(interval), 0, share);
        }
        let told = coverage.read();
        assert_eq!((told.ended, told.covered), (4, 2));
        assert_eq!(told.mean_width_ppm, Some(400_000));
        assert_eq!(
            (told.whole_line_ppm, told.not_issued_ppm),
            (250_000, 250_000)
        );
        let alone = share::of_counts(2, 2, Alpha::FIVE_PERCENT);
        assert_eq!(told.coverage_ppm, alone.ends_ppm());
    }

    /// Windows of a week, one begun each day, that miss in spells: whatever seven neighbours have in
    /// common. The interval ever fails with probability 5 % at most; more than 26 of 200 such paths would
    /// have probability below 10⁻⁵.
    #[test]
    fn the_interval_of_the_coverage_holds_for_windows_that_overlap() {
        let mut failed = 0;
        for seed in 0..200 {
            let mut draws = Draws::new(0xc0fe_0000 + seed);
            let days: Vec<bool> = (0..1007).map(|_| draws.flip(0.02) == 1).collect();
            let mut coverage = Coverage::new(7);
            // A window misses if any of its days is a bad one.
            let truth = libm::pow(0.98, 7.0);
            let mut ever = false;
            for (window, week) in (0..).zip(days.windows(7)) {
                let share = if week.contains(&true) { 0.5 } else { 1.0 };
                coverage.add(&issued(Some((0.9, 1.0))), window, share);
                if window % 50 == 49 {
                    let ends = coverage.read().coverage_ppm.map(|ppm| f64::from(ppm) / 1e6);
                    ever |= truth < ends[0] || ends[1] < truth;
                }
            }
            failed += u32::from(ever);
        }
        assert!(failed <= 26, "{failed} of 200");
    }
}
