//! Sums by stretch of time, in bounded memory.
//!
//! Only stretches with something in them take a cell, and the latest ones stay: when there are too many, the
//! earliest goes, or a time before all of them gets none. So a batch of old attempts that comes late pushes
//! nothing recent out. An attempt whose observer's clock ran years ahead takes one place until that time comes,
//! and does not make everything that comes after it too old to be kept.

use std::collections::BTreeMap;

/// Cells of one length by their number since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Cells<T> {
    length_ms: u64,
    kept: usize,
    cells: BTreeMap<u64, T>,
}

impl<T: Default> Cells<T> {
    pub(crate) fn new(length_ms: u64, kept: usize) -> Self {
        Self {
            length_ms,
            kept,
            cells: BTreeMap::new(),
        }
    }

    pub(crate) fn length_ms(&self) -> u64 {
        self.length_ms
    }

    /// The cell of a time; `None` if it is before all that are kept.
    pub(crate) fn at(&mut self, ms: u64) -> Option<&mut T> {
        let number = ms / self.length_ms;
        if self.cells.len() >= self.kept && !self.cells.contains_key(&number) {
            let (earliest, _) = self.cells.first_key_value()?;
            if number < *earliest {
                return None;
            }
            self.cells.pop_first();
        }
        Some(self.cells.entry(number).or_default())
    }

    /// Cells from the one of `since_ms` to the one of `until_ms`, with their starts.
    pub(crate) fn between(&self, since_ms: u64, until_ms: u64) -> impl Iterator<Item = (u64, &T)> {
        // Nothing lies in a span that ends before it begins, and such a range must not be asked for.
        let until_ms = until_ms.max(since_ms);
        let span = since_ms / self.length_ms..=until_ms / self.length_ms;
        let inside = self.cells.range(span);
        inside.map(|(number, cell)| (number * self.length_ms, cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn counted(cells: &Cells<u32>, since_ms: u64, until_ms: u64) -> u32 {
        cells.between(since_ms, until_ms).map(|(_, n)| *n).sum()
    }

    #[test]
    fn a_time_far_ahead_takes_one_place_and_no_more() {
        let mut cells = Cells::<u32>::new(HOUR_MS, 25);
        let start_ms = 400_000 * HOUR_MS;
        let count = |cells: &mut Cells<u32>, ms: u64| {
            if let Some(cell) = cells.at(ms) {
                *cell += 1;
            }
        };
        (0..100).for_each(|hour| count(&mut cells, start_ms + hour * HOUR_MS));
        count(&mut cells, 900_000 * HOUR_MS);
        (100..120).for_each(|hour| count(&mut cells, start_ms + hour * HOUR_MS));
        let now_ms = start_ms + 119 * HOUR_MS;
        assert_eq!(counted(&cells, now_ms - 23 * HOUR_MS, now_ms), 24);
        assert_eq!(cells.cells.len(), 25);
    }

    #[test]
    fn a_batch_of_old_times_that_comes_late_pushes_nothing_recent_out() {
        for recent in [1u32, 12, 25] {
            let mut cells = Cells::<u32>::new(HOUR_MS, 25);
            let start_ms = 400_000 * HOUR_MS;
            let mut count = |hour: u64| {
                if let Some(cell) = cells.at(start_ms + hour * HOUR_MS) {
                    *cell += 1;
                }
            };
            (200..200 + u64::from(recent)).for_each(&mut count);
            (0..100).for_each(&mut count);
            let since_ms = start_ms + 200 * HOUR_MS;
            assert_eq!(counted(&cells, since_ms, u64::MAX), recent);
            assert_eq!(cells.cells.len(), 25);
        }
    }

    #[test]
    fn a_span_that_ends_before_it_begins_is_its_first_cell() {
        let mut cells = Cells::<u32>::new(HOUR_MS, 4);
        *cells.at(5 * HOUR_MS).expect("there is room") += 1;
        assert_eq!(counted(&cells, 5 * HOUR_MS, 0), 1);
        assert_eq!(counted(&cells, 6 * HOUR_MS, 0), 0);
    }
}
