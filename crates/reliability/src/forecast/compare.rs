//! Who forecasts better, and is a forecaster calibrated: evidence that may be read at any time.
//!
//! Forecasts of a window of `h` steps that are issued every step overlap, so neighbouring scores
//! say the same thing several times. They are dealt out to `h` interleaved streams, within which
//! windows do not overlap; each stream is judged by itself. Intervals of the streams (each at
//! `α/h`) are averaged, e-values too: an average of e-values is an e-value, a product would not
//! be. (Arnold, Henzi and Ziegel, "Sequentially valid tests for forecast calibration", 2023; Choe and
//! Ramdas, "Comparing Sequential Forecasters", 2023.)

use crate::boundary::RunningMean;
use crate::level::Alpha;
use crate::share::float;

/// Most interleaved streams: a week of windows that start daily.
pub const STREAMS: u8 = 7;
const SLOTS: usize = STREAMS as usize;
/// Fewer scored windows than this, in any stream that has some, say nothing.
pub const WINDOWS_MIN: u64 = 30;

/// Differences of scores in `[−1, 1]`, the other forecaster's loss minus ours: positive means that
/// ours is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    streams: [Stream; SLOTS],
    lags: u8,
}

/// What a comparison amounts to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Scored windows.
    pub windows: u64,
    /// Mean difference.
    pub mean: f64,
    /// Interval of the mean of what the differences were expected to be, valid under any drift; at
    /// all times together it fails to cover with probability 5 % at most.
    pub interval: (f64, f64),
    /// Evidence against "ours was never expected to be better": that it was, at least at times. Where
    /// differences have one mean that is the same as better on average; under drift it is less.
    pub better_e: f64,
    /// The same, that it is worse.
    pub worse_e: f64,
}

impl Comparison {
    /// For windows of `lags` steps that are issued every step.
    #[must_use]
    pub fn new(lags: u8) -> Self {
        Self {
            streams: [Stream::default(); SLOTS],
            lags: lags.clamp(1, STREAMS),
        }
    }

    /// Takes the difference of the window with this number.
    pub fn add(&mut self, window: u64, difference: f64) {
        let lag = usize::try_from(window % u64::from(self.lags)).unwrap_or(0);
        self.streams[lag].add(difference.clamp(-1.0, 1.0));
    }

    /// What it amounts to now; `None` while there are too few windows.
    #[must_use]
    pub fn read(&self) -> Option<Compared> {
        let used = &self.streams[..usize::from(self.lags)];
        if used.iter().any(|stream| stream.count < WINDOWS_MIN) {
            return None;
        }
        let lags = f64::from(self.lags);
        let mean = |of: &dyn Fn(&Stream) -> f64| used.iter().map(of).sum::<f64>() / lags;
        let alpha = Alpha::FIVE_PERCENT.split(u32::from(self.lags));
        let interval = |stream: &Stream| stream.halved.interval(alpha);
        Some(Compared {
            windows: self.windows(),
            mean: mean(&Stream::mean),
            interval: (
                mean(&|stream| 2.0 * interval(stream).lower - 1.0),
                mean(&|stream| 2.0 * interval(stream).upper - 1.0),
            ),
            better_e: mean(&|stream| stream.better),
            worse_e: mean(&|stream| stream.worse),
        })
    }

    /// Scored windows.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.streams.iter().map(|stream| stream.count).sum()
    }
}

/// Differences of windows that do not overlap.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stream {
    count: u64,
    sum: f64,
    squares: f64,
    /// The differences as scores in `[0, 1]`.
    halved: RunningMean,
    better: f64,
    worse: f64,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            squares: 0.0,
            halved: RunningMean::default(),
            better: 1.0,
            worse: 1.0,
        }
    }
}

impl Stream {
    fn add(&mut self, x: f64) {
        let bet = self.bet();
        self.better *= 1.0 + bet.max(0.0) * x;
        self.worse *= 1.0 + (-bet).max(0.0) * -x;
        self.halved.add(0.5 * (1.0 + x));
        self.count += 1;
        self.sum += x;
        self.squares += x * x;
    }

    fn mean(&self) -> f64 {
        if self.count > 0 {
            self.sum / float(self.count)
        } else {
            0.0
        }
    }

    /// The stake on the next difference: about what would have grown fastest so far, on one side
    /// or the other (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    /// betting", 2024). It looks at the past alone, so the capital is an e-process.
    fn bet(&self) -> f64 {
        // Two imagined windows without a difference and with a large one keep first bets small.
        let weight = float(self.count) + 2.0;
        let mean = self.sum / weight;
        let second = (self.squares + 0.1) / weight;
        (mean / second).clamp(-0.5, 0.5)
    }
}

/// Is what happened spread as was forecast? Under calibration the (randomised) probability
/// integral transforms are uniform on `[0, 1]` given the past; bets against that grow if not.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    streams: [Bins; SLOTS],
    lags: u8,
}

const BINS: usize = 5;
const FIFTH: f64 = 0.2;

/// One stream: how many transforms fell into each fifth, and the capital.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bins {
    counts: [u32; BINS],
    capital: f64,
}

impl Calibration {
    /// For windows of `lags` steps that are issued every step.
    #[must_use]
    pub fn new(lags: u8) -> Self {
        let bins = Bins {
            counts: [0; BINS],
            capital: 1.0,
        };
        Self {
            streams: [bins; SLOTS],
            lags: lags.clamp(1, STREAMS),
        }
    }

    /// Takes the transform, in `[0, 1]`, of the window with this number. The bet is the mixture of
    /// all densities that are constant within fifths (Dirichlet, every weight ½), so the capital
    /// is the likelihood ratio of that mixture against uniformity.
    pub fn add(&mut self, window: u64, transform: f64) {
        let lag = usize::try_from(window % u64::from(self.lags)).unwrap_or(0);
        let bins = &mut self.streams[lag];
        let total: f64 = bins.counts.iter().map(|n| f64::from(*n)).sum();
        let (mut bin, mut edge) = (0, FIFTH);
        while bin + 1 < BINS && transform >= edge {
            bin += 1;
            edge += FIFTH;
        }
        let said = (f64::from(bins.counts[bin]) + 0.5) / (total + 0.5 / FIFTH);
        bins.capital *= said / FIFTH;
        bins.counts[bin] = bins.counts[bin].saturating_add(1);
    }

    /// Evidence against calibration: at least 20 speaks against it at 5 %.
    #[must_use]
    pub fn e_value(&self) -> f64 {
        let used = &self.streams[..usize::from(self.lags)];
        used.iter().map(|bins| bins.capital).sum::<f64>() / f64::from(self.lags)
    }
}

/// The probability integral transform of a yes-or-no forecast, made continuous by `random` in
/// `[0, 1)`.
#[must_use]
pub fn transform(probability: f64, happened: bool, random: f64) -> f64 {
    if happened {
        1.0 - probability + random * probability
    } else {
        random * (1.0 - probability)
    }
}

#[cfg(test)]
mod tests;
