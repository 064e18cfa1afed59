//! Endpoints whose outages cluster, or come at random, and the forecasts that are made of them. The
//! parameters follow public outage records of large APIs: 95 hours between incidents on average, with
//! a coefficient of variation of 2.2 where they cluster; repairs are log-normal with a median of
//! 65 minutes. Everything follows from the seed.
#![allow(unreachable_pub, reason = "a module of a test and of an example")]

use record::Share;
use record::forecast::{Dimension, Objective, WindowLength};
use reliability::forecast::scores::ScoreReport;
use reliability::forecast::track::Track;
use reliability::forecast::{Pools, step_ms};
use reliability::route::Draw;

pub const CELL_MS: u64 = 300_000;
const HOUR_MS: f64 = 3_600_000.0;
pub const DAY_MS: u64 = 86_400_000;
/// A Monday.
const EPOCH_MS: u64 = 20_454 * DAY_MS;
pub const ATTEMPTS_PER_CELL: u64 = 10;
const GAP_MEAN_H: f64 = 95.0;
const REPAIR_MEDIAN_H: f64 = 65.0 / 60.0;
const REPAIR_SIGMA: f64 = 1.35;
/// Failure rates outside incidents and within.
pub const FAILS: [f64; 2] = [0.002, 0.8];

/// How incidents come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Gaps are Weibull with shape ½.
    Clustered,
    /// Gaps are exponential.
    Poisson,
}

struct Luck(Draw);

impl Luck {
    fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.0.unit())
    }

    fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(std::f64::consts::TAU * self.0.unit())
    }
}

/// Whether there is an incident in each cell.
pub fn incidents(arrivals: Arrivals, seed: u64, cells: u64) -> Vec<bool> {
    let mut luck = Luck(Draw::numbered(seed, u64::MAX));
    let mut down = Vec::new();
    let cell_h = CELL_MS as f64 / HOUR_MS;
    let count = |hours: f64, is_down: bool, down: &mut Vec<bool>| {
        let until = down.len() as f64 + (hours / cell_h).max(1.0);
        while (down.len() as f64) < until && (down.len() as u64) < cells {
            down.push(is_down);
        }
    };
    while (down.len() as u64) < cells {
        let e = luck.exponential();
        let gap_h = match arrivals {
            Arrivals::Clustered => 0.5 * GAP_MEAN_H * e * e,
            Arrivals::Poisson => GAP_MEAN_H * e,
        };
        let repair_h = REPAIR_MEDIAN_H * libm::exp(REPAIR_SIGMA * luck.normal());
        count(gap_h, false, &mut down);
        count(repair_h, true, &mut down);
    }
    down
}

/// The chance that a gap is longer than so many cells: the law behind [`incidents`].
pub fn gap_exceeds(arrivals: Arrivals, cells: f64) -> f64 {
    let means = cells * CELL_MS as f64 / HOUR_MS / GAP_MEAN_H;
    match arrivals {
        Arrivals::Clustered => libm::exp(-libm::sqrt(2.0 * means)),
        Arrivals::Poisson => libm::exp(-means),
    }
}

/// The chance that a repair takes longer than so many cells.
pub fn repair_exceeds(cells: f64) -> f64 {
    let medians = cells * CELL_MS as f64 / HOUR_MS / REPAIR_MEDIAN_H;
    0.5 * libm::erfc(libm::log(medians) / REPAIR_SIGMA / std::f64::consts::SQRT_2)
}

/// Attempts of a cell that fail.
pub fn failed(seed: u64, cell: u64, down: bool) -> u64 {
    let mut luck = Draw::numbered(seed, cell);
    let rate = FAILS[usize::from(down)];
    (0..ATTEMPTS_PER_CELL)
        .filter(|_| luck.unit() < rate)
        .count() as u64
}

/// Follows one endpoint for `days`, forecasts every window before it begins, and tells the scores of
/// hours, days and weeks.
pub fn follow(arrivals: Arrivals, seed: u64, days: u64) -> [ScoreReport; 3] {
    let objective = Objective {
        dimension: Dimension::Availability,
        target_ppm: Share::new(990_000).expect("a share"),
        within_us: None,
    };
    let mut track = Track::new(&objective);
    let pools = Pools::UNKNOWN;
    let down = incidents(arrivals, seed, days * DAY_MS / CELL_MS);
    for (cell, down) in (0u64..).zip(down) {
        let start_ms = EPOCH_MS + cell * CELL_MS;
        if cell > 0 {
            forecast(&mut track, start_ms, &pools);
        }
        let bad = failed(seed, cell, down);
        let known_ms = start_ms + CELL_MS - 1;
        track.observe(known_ms, start_ms, (ATTEMPTS_PER_CELL - bad, bad), &pools);
    }
    let end_ms = EPOCH_MS + (days + 1) * DAY_MS;
    track.advance(end_ms, &pools);
    [WindowLength::Hour, WindowLength::Day, WindowLength::Week]
        .map(|length| track.scores(length).read())
}

fn forecast(track: &mut Track, start_ms: u64, pools: &Pools) {
    for length in [WindowLength::Hour, WindowLength::Day, WindowLength::Week] {
        if start_ms.is_multiple_of(step_ms(length)) {
            let expected = track.expect(length, start_ms, pools).expect("seen");
            assert!(track.issue(length, expected));
        }
    }
}

/// Skill over endpoints from the mean losses (own, baseline) of each, and half the width of its 99 %
/// interval: differences are paired, and taken as shares of the mean loss of the baseline.
pub fn skill(losses: &[(f64, f64)]) -> (f64, f64) {
    let n = losses.len() as f64;
    let base = losses.iter().map(|(_, base)| base).sum::<f64>() / n;
    let gain = |(own, other): &(f64, f64)| (other - own) / base;
    let mean = losses.iter().map(gain).sum::<f64>() / n;
    let square = |loss: &(f64, f64)| (gain(loss) - mean) * (gain(loss) - mean);
    let variance = losses.iter().map(square).sum::<f64>() / (n - 1.0);
    (mean, 2.7 * (variance / n).sqrt())
}
