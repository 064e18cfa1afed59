//! The best that anyone could have said: the chance of a breach given everything that the generator
//! did before a window and the laws that it follows, which no forecaster is told.
//!
//! In whole cells the generator alternates between independent gaps and repairs, so what comes after
//! a window's start depends only on which spell runs and for how long it has run. The distribution of the
//! cells with an incident among the next `n` follows by renewal: a spell of `j` cells, then a fresh
//! spell of the other kind over the remaining `n − j`.
#![allow(unreachable_pub, reason = "a module of a test and of an example")]

use record::forecast::WindowLength;
use reliability::forecast::step_ms;

use super::generator::{
    ATTEMPTS_PER_CELL, Arrivals, CELL_MS, DAY_MS, FAILS, failed, gap_exceeds, incidents,
    repair_exceeds,
};

/// Cells of the longest window.
const CELLS_MAX: usize = 2_016;
/// So many cells with an incident breach every objective here; more are not told apart.
const DOWN_MAX: usize = 32;

/// Chances of each number of cells with an incident.
type Down = [f64; DOWN_MAX + 1];

/// What the laws imply, once for all endpoints.
pub struct Oracle {
    /// By cells that remain when a gap, or a repair, begins afresh.
    fresh: [Vec<Down>; 2],
    /// Chance that a gap, or a repair, lasts longer than so many cells.
    exceeds: [Vec<f64>; 2],
    /// Chance of a breach of an hour, a day and a week by its cells with an incident.
    breaches: [Vec<f64>; 3],
    arrivals: Arrivals,
}

/// Ages beyond this many cells (two years) do not occur.
const AGES: usize = 210_240;

impl Oracle {
    /// For incidents that come in one way.
    pub fn new(arrivals: Arrivals) -> Self {
        let law = |exceeds: &dyn Fn(f64) -> f64| {
            let rest = (1..AGES).map(|cells| exceeds(cells as f64));
            // Every spell lasts one cell at least.
            std::iter::once(1.0).chain(rest).collect::<Vec<f64>>()
        };
        let exceeds = [
            law(&|cells| gap_exceeds(arrivals, cells)),
            law(&repair_exceeds),
        ];
        let mut fresh = [
            Vec::with_capacity(CELLS_MAX + 1),
            Vec::with_capacity(CELLS_MAX + 1),
        ];
        let mut none = [0.0; DOWN_MAX + 1];
        none[0] = 1.0;
        fresh.iter_mut().for_each(|table| table.push(none));
        for cells in 1..=CELLS_MAX {
            let next = [0, 1].map(|kind| over(&exceeds[kind], 0, 1, kind, cells, &fresh));
            fresh
                .iter_mut()
                .zip(next)
                .for_each(|(table, next)| table.push(next));
        }
        let breaches = [12u64, 288, 2_016].map(|cells| {
            (0..=DOWN_MAX as u64)
                .map(|down| breach(cells, down.min(cells)))
                .collect()
        });
        Self {
            fresh,
            exceeds,
            breaches,
            arrivals,
        }
    }

    /// Mean Brier score by hours, days and weeks of what it says of one endpoint: of the same windows as
    /// [`super::generator::follow`] scores.
    pub fn brier(&self, seed: u64, days: u64) -> [f64; 3] {
        let down = incidents(self.arrivals, seed, days * DAY_MS / CELL_MS);
        let bad: Vec<u64> = (0u64..)
            .zip(&down)
            .map(|(cell, down)| failed(seed, cell, *down))
            .collect();
        let mut ages = Vec::with_capacity(down.len());
        let mut age = 0;
        for (at, now) in down.iter().enumerate() {
            age = if at > 0 && down[at - 1] == *now {
                age + 1
            } else {
                1
            };
            ages.push(age);
        }
        let lengths = [WindowLength::Hour, WindowLength::Day, WindowLength::Week];
        let mut at = 0;
        lengths.map(|length| {
            let cells = usize::try_from(length.ms() / CELL_MS).expect("few");
            let step = usize::try_from(step_ms(length) / CELL_MS).expect("few");
            let (mut sum, mut windows) = (0.0, 0.0);
            for start in (step..=down.len() - cells).step_by(step) {
                let said = self.says(at, cells, down[start - 1], ages[start - 1]);
                let failed: u64 = bad[start..start + cells].iter().sum();
                let breached = 100 * failed > ATTEMPTS_PER_CELL * cells as u64;
                let miss = said - f64::from(u8::from(breached));
                sum += miss * miss;
                windows += 1.0;
            }
            at += 1;
            sum / windows
        })
    }

    /// The chance of a breach in the next `cells`, when a spell has lasted for `age` cells.
    fn says(&self, length: usize, cells: usize, is_down: bool, age: usize) -> f64 {
        let kind = usize::from(is_down);
        let age = age.min(AGES - CELLS_MAX - 1);
        let down = over(&self.exceeds[kind], age, 0, kind, cells, &self.fresh);
        down.iter()
            .zip(&self.breaches[length])
            .map(|(p, q)| p * q)
            .sum()
    }
}

/// Cells with an incident among the next `cells`, when a spell of this kind has lasted for `age` of its own
/// and ends after `least` more at the earliest.
fn over(
    exceeds: &[f64],
    age: usize,
    least: usize,
    kind: usize,
    cells: usize,
    fresh: &[Vec<Down>; 2],
) -> Down {
    let mut down = [0.0; DOWN_MAX + 1];
    // That a spell of `age` cells lasted so long is known: it exceeds `age − 1`.
    let known = if age == 0 { 1.0 } else { exceeds[age - 1] };
    for more in least..cells {
        let before = if age + more == 0 {
            1.0
        } else {
            exceeds[age + more - 1]
        };
        let ends = (before - exceeds[age + more]) / known;
        let own = if kind == 1 { more } else { 0 };
        let then = &fresh[1 - kind][cells - more];
        for (at, p) in then.iter().enumerate() {
            down[(at + own).min(DOWN_MAX)] += ends * p;
        }
    }
    let lasts = exceeds[age + cells - 1] / known;
    down[if kind == 1 { cells.min(DOWN_MAX) } else { 0 }] += lasts;
    down
}

/// The chance that more than one attempt in a hundred fails, with so many cells of an incident.
fn breach(cells: u64, down: u64) -> f64 {
    let attempts = ATTEMPTS_PER_CELL * cells;
    let most = usize::try_from(attempts / 100).expect("few");
    let mut chances = vec![0.0; most + 1];
    chances[0] = 1.0;
    let ill = ATTEMPTS_PER_CELL * down;
    for (count, rate) in [(ill, FAILS[1]), (attempts - ill, FAILS[0])] {
        for _ in 0..count {
            for at in (0..=most).rev() {
                let one = if at > 0 { chances[at - 1] } else { 0.0 };
                chances[at] = chances[at] * (1.0 - rate) + one * rate;
            }
        }
    }
    1.0 - chances.iter().sum::<f64>()
}
