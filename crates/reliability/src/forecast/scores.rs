//! How good the forecasts of one kind of window have been.

use record::forecast::WindowLength;
use serde::Serialize;

use super::compare::{Calibration, Compared, Comparison, transform};
use super::coverage::{Coverage, Predictability};
use super::score;
use crate::route::Draw;

/// A forecast that waits for its window to end, with what the baselines said when it was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Issued {
    /// Probability of a breach.
    pub breach: f64,
    /// Ends of the share of good attempts; `None` if no interval was issued.
    pub interval: Option<(f64, f64)>,
    /// How often intervals like this one are meant to miss.
    pub miss: f64,
    /// The share of breaches so far: climatology.
    pub climatology: f64,
    /// The share of breaches after a window that did what the last one did: persistence.
    pub persistence: f64,
}

impl Issued {
    /// Whether the interval misses this share of good attempts.
    #[must_use]
    pub fn misses(&self, share: f64) -> bool {
        self.interval
            .is_none_or(|(lower, upper)| !(lower..=upper).contains(&share))
    }
}

/// Sums over scored forecasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    windows: u64,
    breached: u64,
    own: Losses,
    climatology: Losses,
    persistence: Losses,
    against_climatology: Comparison,
    against_persistence: Comparison,
    calibration: Calibration,
    intervals: Intervals,
    coverage: Coverage,
    /// Forecasts of windows without judged attempts.
    unasked: u64,
    /// Windows with judged attempts and without a forecast.
    unforetold: u64,
    /// Forecasts that the log has only after something that is later than the start of their window.
    late: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Losses {
    brier: f64,
    log: f64,
}

impl Losses {
    fn add(&mut self, said: f64, happened: bool) {
        self.brier += score::brier(said, happened);
        self.log += score::log(said, happened);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Intervals {
    missed: u64,
    everything: u64,
    nothing: u64,
    score: f64,
}

impl Scores {
    /// For windows that overlap so many times (1 for none).
    #[must_use]
    pub fn new(lags: u8) -> Self {
        Self {
            windows: 0,
            breached: 0,
            own: Losses::default(),
            climatology: Losses::default(),
            persistence: Losses::default(),
            against_climatology: Comparison::new(lags),
            against_persistence: Comparison::new(lags),
            calibration: Calibration::new(lags),
            intervals: Intervals::default(),
            coverage: Coverage::new(lags),
            unasked: 0,
            unforetold: 0,
            late: 0,
        }
    }

    /// A forecast's window ended. `window` is its number, counted in steps of issue.
    pub fn add(&mut self, issued: &Issued, window: u64, share: f64, breached: bool) {
        self.windows += 1;
        self.breached += u64::from(breached);
        self.own.add(issued.breach, breached);
        self.climatology.add(issued.climatology, breached);
        self.persistence.add(issued.persistence, breached);
        let own = score::brier(issued.breach, breached);
        let against = |said: f64| score::brier(said, breached) - own;
        self.against_climatology
            .add(window, against(issued.climatology));
        self.against_persistence
            .add(window, against(issued.persistence));
        // A number of this window's own, the same on every machine.
        let random = Draw::numbered(window, self.windows).unit();
        let transform = transform(issued.breach, breached, random);
        self.calibration.add(window, transform);
        self.intervals.add(issued, share);
        self.coverage.add(issued, window, share);
    }

    /// A forecast's window ended, and nothing had been asked in it.
    pub fn unasked(&mut self) {
        self.unasked += 1;
    }

    /// A window in which something was asked ended, and nobody had foretold it.
    pub fn unforetold(&mut self) {
        self.unforetold += 1;
    }

    /// A forecast came after its window had begun.
    pub fn late(&mut self) {
        self.late += 1;
    }

    /// How well intervals covered alone; cheaper than all of it.
    #[must_use]
    pub fn predictability(&self) -> Predictability {
        self.coverage.read()
    }

    /// What it holds beyond its own size: the streams of the coverage.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        usize::from(super::compare::STREAMS) * size_of::<(u64, u64)>()
    }

    /// What it amounts to.
    #[must_use]
    pub fn read(&self) -> ScoreReport {
        let mean = |sum: f64| millionths(sum / (self.windows as f64).max(1.0));
        let against = |comparison: &Comparison, base: Losses| {
            Against::of(comparison.read(), self.windows, self.own.brier, base.brier)
        };
        let intervals = self.intervals;
        let whole = self.windows.max(1);
        let share = |count: u64| u32::try_from(count * 1_000_000 / whole).unwrap_or(u32::MAX);
        ScoreReport {
            windows: self.windows,
            breached: self.breached,
            brier_millionths: mean(self.own.brier),
            log_millionths: mean(self.own.log),
            climatology_brier_millionths: mean(self.climatology.brier),
            climatology_log_millionths: mean(self.climatology.log),
            persistence_brier_millionths: mean(self.persistence.brier),
            against_climatology: against(&self.against_climatology, self.climatology),
            against_persistence: against(&self.against_persistence, self.persistence),
            miscalibration_e: float_text(self.calibration.e_value()),
            interval_missed_ppm: share(intervals.missed),
            interval_everything_ppm: share(intervals.everything),
            interval_nothing_ppm: share(intervals.nothing),
            interval_score_millionths: mean(intervals.score),
            predictability: self.coverage.read(),
            unasked: self.unasked,
            unforetold: self.unforetold,
            late: self.late,
        }
    }
}

impl Intervals {
    fn add(&mut self, issued: &Issued, share: f64) {
        let Some((lower, upper)) = issued.interval else {
            self.missed += 1;
            self.nothing += 1;
            // What a point that misses as far as can be would cost.
            self.score += 2.0 / issued.miss.max(1e-6);
            return;
        };
        self.missed += u64::from(issued.misses(share));
        self.everything += u64::from(lower <= 0.0 && upper >= 1.0);
        self.score += score::interval(lower, upper, issued.miss.max(1e-6), share);
    }
}

/// Scores as people and programs read them. Losses are means, in millionths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScoreReport {
    /// Scored windows.
    pub windows: u64,
    /// Those that breached the objective.
    pub breached: u64,
    /// Brier score.
    pub brier_millionths: i64,
    /// Logarithmic score, nats.
    pub log_millionths: i64,
    /// That of climatology.
    pub climatology_brier_millionths: i64,
    /// Logarithmic score of climatology.
    pub climatology_log_millionths: i64,
    /// That of persistence.
    pub persistence_brier_millionths: i64,
    /// Against the share of breaches so far.
    pub against_climatology: Against,
    /// Against the share of breaches after windows that did what the last one did.
    pub against_persistence: Against,
    /// Evidence against calibration; 20 and more speak against it.
    pub miscalibration_e: String,
    /// Share of intervals that missed, ppm.
    pub interval_missed_ppm: u32,
    /// Share of intervals that held every share, ppm.
    pub interval_everything_ppm: u32,
    /// Share of windows for which no interval was issued, ppm; each counts as missed.
    pub interval_nothing_ppm: u32,
    /// Interval score.
    pub interval_score_millionths: i64,
    /// How well intervals covered, and how narrow they were.
    pub predictability: Predictability,
    /// Forecasts of windows in which nothing was asked.
    pub unasked: u64,
    /// Windows in which something was asked and that nobody foretold: many of them may mean that
    /// only easy windows were.
    pub unforetold: u64,
    /// Forecasts that the log has only after a record of a later time than the start of their window:
    /// not scored.
    pub late: u64,
}

/// A comparison with a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Against {
    /// `better`, `worse`, `undecided`, or `too few windows`.
    pub verdict: &'static str,
    /// Skill: one minus the ratio of the Brier scores, ppm; absent while there are too few windows.
    pub skill_ppm: Option<i64>,
    /// 95 % interval of the skill, valid at any time and under drift, ppm.
    pub interval_ppm: Option<[i64; 2]>,
    /// Evidence that the forecasts were expected to be better than the baseline, at least at times.
    pub better_e: Option<String>,
}

impl Against {
    fn of(compared: Option<Compared>, windows: u64, own: f64, base: f64) -> Self {
        let Some(compared) = compared.filter(|_| base > 0.0) else {
            return Self {
                verdict: "too few windows",
                skill_ppm: None,
                interval_ppm: None,
                better_e: None,
            };
        };
        let (low, high) = compared.interval;
        // The difference of mean scores, as a share of the baseline's mean score.
        let scale = windows as f64 / base;
        let verdict = if low > 0.0 {
            "better"
        } else if high < 0.0 {
            "worse"
        } else {
            "undecided"
        };
        Self {
            verdict,
            skill_ppm: Some(millionths(1.0 - own / base)),
            interval_ppm: Some([millionths(low * scale), millionths(high * scale)]),
            better_e: Some(float_text(compared.better_e)),
        }
    }
}

/// Steps of issue within one window: how many windows overlap.
#[must_use]
pub fn lags(length: WindowLength) -> u8 {
    match length {
        WindowLength::Hour | WindowLength::Day => 1,
        WindowLength::Week => 7,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a saturating cast of a figure that is shown"
)]
fn millionths(value: f64) -> i64 {
    libm::round(value * 1e6) as i64
}

/// An e-value as text: it may be larger than any integer.
pub(crate) fn float_text(value: f64) -> String {
    format!("{value:.3e}")
}
