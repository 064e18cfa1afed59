//! One endpoint under one objective: windows of every length, and what is expected of the next.
//!
//! Attempts are given in the order in which they became known, each with its start. Windows are hours
//! and days of UTC, and weeks that begin every day; a window is settled a quarter of an hour
//! after its end, and attempts that come later change nothing. Memory is bounded (at most 40 KB), an attempt
//! costs a look at the dozen windows that are open, and a window at most 700
//! steps of a small Markov chain, twice: tens of microseconds.

use record::forecast::{Objective, WindowLength};

use super::scores::Scores;
use super::series::{Ended, Expected, HALF_LIFE_MS, Moment, Pools, STATES, Series, place};
use super::spell::Spells;

const HOUR_MS: u64 = 3_600_000;
/// Ends of the states, hours since the last breached hour.
const STATE_ENDS_H: [f64; STATES - 2] = [2.0, 6.0, 24.0, 72.0, 168.0];
/// Changes of regime: one in a year before anything is known, worth one change.
const CHANGES_PRIOR: f64 = 1.0;
const YEAR_MS: f64 = 365.25 * 86_400_000.0;
/// What is left of the counts after a change of regime, windows.
const KEPT_WINDOWS: f64 = 3.0;

/// The probability of at least one event within `ahead`, after `seen` events in `exposure` and a
/// gamma prior of `prior` events in `prior_exposure`: `1 − ((b+T)/(b+T+h))^(a+n)`.
fn at_least_one(prior: f64, prior_exposure: f64, seen: f64, exposure: f64, ahead: f64) -> f64 {
    let before = prior_exposure + exposure;
    -libm::expm1((prior + seen) * libm::log(before / (before + ahead)))
}

/// An endpoint under an objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    series: [Series; 3],
    spells: Spells,
    /// Start of the last settled hour that breached.
    breached_ms: Option<u64>,
    good: f64,
    bad: f64,
    counted_ms: u64,
    first_ms: Option<u64>,
    changes: f64,
}

impl Track {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(objective: &Objective) -> Self {
        let target = objective.target_ppm.ppm();
        Self {
            series: [
                Series::new(WindowLength::Hour, target),
                Series::new(WindowLength::Day, target),
                Series::new(WindowLength::Week, target),
            ],
            spells: Spells::default(),
            breached_ms: None,
            good: 0.0,
            bad: 0.0,
            counted_ms: 0,
            first_ms: None,
            changes: 0.0,
        }
    }

    /// Begins and settles windows up to `now_ms`. Time never goes back.
    pub fn advance(&mut self, now_ms: u64, pools: &Pools) {
        if self.first_ms.is_none() {
            return;
        }
        while let Some((hour_ms, breached)) = self.series[0].settle(now_ms) {
            if breached == Some(true) {
                self.breached_ms = Some(hour_ms);
            }
        }
        for at in 1..self.series.len() {
            while self.series[at].settle(now_ms).is_some() {}
        }
        for at in 0..self.series.len() {
            while let Some(start_ms) = self.series[at].due_ms(now_ms) {
                let moment = self.moment(start_ms);
                self.series[at].begin(&moment, &self.spells, pools);
            }
        }
    }

    /// Takes attempts that started at `start_ms` and were known at `now_ms`.
    pub fn observe(&mut self, now_ms: u64, start_ms: u64, counts: (u64, u64), pools: &Pools) {
        self.first_ms.get_or_insert(start_ms);
        self.advance(now_ms, pools);
        let (good, bad) = counts;
        for series in &mut self.series {
            series.observe(start_ms, good, bad);
        }
        let age = now_ms.saturating_sub(self.counted_ms) as f64;
        let kept = libm::exp2(-age / HALF_LIFE_MS);
        if let Some(past) = self.spells.add(now_ms, good, bad) {
            for series in &mut self.series {
                series.spent(&past);
            }
        }
        self.good = kept * self.good + good as f64;
        self.bad = kept * self.bad + bad as f64;
        self.counted_ms = self.counted_ms.max(now_ms);
    }

    /// What is expected of the window of this length that begins at `start_ms`; `None` before
    /// anything was seen.
    #[must_use]
    pub fn expect(&self, length: WindowLength, start_ms: u64, pools: &Pools) -> Option<Expected> {
        let first_ms = self.first_ms?;
        let exposure = start_ms.saturating_sub(first_ms) as f64 / YEAR_MS;
        let ahead = length.ms() as f64 / YEAR_MS;
        let changes = at_least_one(CHANGES_PRIOR, 1.0, self.changes, exposure, ahead);
        let moment = self.moment(start_ms);
        let series = &self.series[place(length)];
        Some(series.expect(start_ms, &moment, &self.spells, pools, changes))
    }

    /// Notes a forecast that was made before its window, to be scored when that ends. `false` if it
    /// cannot be: its window has begun, is none of those that are followed, or has one already.
    pub fn issue(&mut self, length: WindowLength, expected: Expected) -> bool {
        self.series[place(length)].issue(expected)
    }

    /// Notes that a forecast came after its window had begun.
    pub fn late(&mut self, length: WindowLength) {
        self.series[place(length)].scores.late();
    }

    /// Another manifest or owner, or an alarm: what was counted is worth little from here on.
    pub fn regime_changed(&mut self) {
        self.changes += 1.0;
        self.spells.keep(0.1);
        self.good *= 0.05;
        self.bad *= 0.05;
        for series in &mut self.series {
            series.regime_changed(KEPT_WINDOWS);
        }
    }

    /// Forecasts of windows that have not ended.
    pub fn current(&self, length: WindowLength) -> impl Iterator<Item = Expected> + '_ {
        self.series[place(length)].current()
    }

    /// The latest windows of this length that were foretold and are over, oldest first.
    pub fn ended(&self, length: WindowLength) -> impl Iterator<Item = &Ended> {
        self.series[place(length)].ended.iter()
    }

    /// How good forecasts of this length have been.
    #[must_use]
    pub fn scores(&self, length: WindowLength) -> &Scores {
        &self.series[place(length)].scores
    }

    /// Discounted attempts, good and bad.
    #[must_use]
    pub fn attempts(&self) -> (f64, f64) {
        (self.good, self.bad)
    }

    /// Settled windows of this length: held, and breached.
    #[must_use]
    pub fn windows(&self, length: WindowLength) -> (f64, f64) {
        let life = self.series[place(length)].life;
        (life.windows - life.breached, life.breached)
    }

    /// Hours from the end of the last settled breached hour to `at_ms`.
    fn age_h(&self, at_ms: u64) -> Option<f64> {
        let end_ms = self.breached_ms? + HOUR_MS;
        Some(at_ms.saturating_sub(end_ms) as f64 / HOUR_MS as f64)
    }

    /// How things stand just before a window begins at `start_ms`.
    fn moment(&self, start_ms: u64) -> Moment {
        let hours = &self.series[0];
        let begun = hours.open.iter().rev().filter(|it| it.start_ms < start_ms);
        let mut seen = begun.filter_map(|it| {
            let breached = hours.breached(it.good, it.bad)?;
            Some((it.start_ms, breached))
        });
        // Hours that are not settled yet say more than those that are.
        let age_h = match seen.find(|(_, breached)| *breached) {
            Some((hour_ms, _)) => {
                let end_ms = hour_ms + HOUR_MS;
                Some(start_ms.saturating_sub(end_ms) as f64 / HOUR_MS as f64)
            }
            None => self.age_h(start_ms),
        };
        let state = match age_h {
            None => STATES - 1,
            Some(age) if age < 1.0 => 0,
            Some(age) => 1 + STATE_ENDS_H.iter().take_while(|end| age >= **end).count(),
        };
        Moment {
            state,
            good: self.good,
            bad: self.bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: &str = "eafe2d540f773eb830806f5686bb53fa41ca7dc652cc5ea056b1340c2a1eac1e";
    const FROM_MS: u64 = 500_000 * HOUR_MS;

    fn availability() -> Objective {
        Objective {
            dimension: record::forecast::Dimension::Availability,
            target_ppm: record::Share::nearest(0.99),
            within_us: None,
        }
    }

    /// Forecasts of every window for so many days, with six hours of trouble in every fifty; what was
    /// said goes to `told`.
    fn follow(track: &mut Track, days: std::ops::Range<u64>, mut told: impl FnMut(&Expected)) {
        let pools = Pools::UNKNOWN;
        for cell in days.start * 288..days.end * 288 {
            let at_ms = FROM_MS + cell * 300_000;
            for length in WindowLength::ALL {
                let step_ms = super::super::step_ms(*length);
                if cell > 0 && at_ms.is_multiple_of(step_ms) {
                    let expected = track.expect(*length, at_ms, &pools).expect("seen");
                    told(&expected);
                    assert!(track.issue(*length, expected));
                }
            }
            let bad = if (cell / 12) % 50 < 6 {
                7
            } else {
                cell % 97 / 96
            };
            track.observe(at_ms + 60_000, at_ms, (10 - bad, bad), &pools);
        }
    }

    #[test]
    fn memory_is_bounded_as_is_stated() {
        let mut track = Track::new(&availability());
        let bytes = |track: &Track| {
            let series = track.series.iter().map(Series::bytes);
            size_of::<Track>() + series.sum::<usize>()
        };
        follow(&mut track, 0..60, |_| ());
        let first = bytes(&track);
        follow(&mut track, 60..120, |_| ());
        assert_eq!(bytes(&track), first, "it does not grow");
        assert!(first <= 40 * 1024, "{first}");
    }

    /// Pinned, so that a machine or compiler that rounds differently fails here.
    #[test]
    fn the_same_attempts_give_the_same_bits_on_every_machine() {
        let mut hasher = record::digest::Sha256::new();
        follow(&mut Track::new(&availability()), 0..30, |expected| {
            hasher.update(&expected.issued.breach.to_bits().to_be_bytes());
        });
        assert_eq!(hasher.finish().to_string(), PINNED);
    }

    #[test]
    fn gamma_and_poisson() {
        // 1 − (31/32)^4
        assert!((at_least_one(1.0, 1.0, 3.0, 30.0, 1.0) - 0.119_262).abs() < 1e-6);
        assert_eq!(at_least_one(1.0, 10.0, 2.0, 5.0, 0.0), 0.0);
    }
}
