//! Sums by stretch of time, in bounded memory.
//!
//! Only stretches with something in them take a cell. When there are too many, the cell that was
//! *made* first goes, not the one of the earliest time: with records in their usual order that is the
//! same, and an attempt whose observer's clock ran years ahead takes one place for a while instead of
//! making everything that comes after it too old to be kept.

use std::collections::{BTreeMap, VecDeque};

/// Cells of one length by their number since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Cells<T> {
    length_ms: u64,
    kept: usize,
    cells: BTreeMap<u64, T>,
    /// Their numbers as they were made, oldest first.
    made: VecDeque<u64>,
}

impl<T: Default> Cells<T> {
    pub(crate) fn new(length_ms: u64, kept: usize) -> Self {
        Self {
            length_ms,
            kept,
            cells: BTreeMap::new(),
            made: VecDeque::new(),
        }
    }

    pub(crate) fn length_ms(&self) -> u64 {
        self.length_ms
    }

    /// The cell of a time.
    pub(crate) fn at(&mut self, ms: u64) -> &mut T {
        let number = ms / self.length_ms;
        if !self.cells.contains_key(&number) {
            if self.made.len() >= self.kept
                && let Some(oldest) = self.made.pop_front()
            {
                self.cells.remove(&oldest);
            }
            self.made.push_back(number);
        }
        self.cells.entry(number).or_default()
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
        (0..100).for_each(|hour| *cells.at(start_ms + hour * HOUR_MS) += 1);
        *cells.at(900_000 * HOUR_MS) += 1;
        (100..120).for_each(|hour| *cells.at(start_ms + hour * HOUR_MS) += 1);
        let now_ms = start_ms + 119 * HOUR_MS;
        assert_eq!(counted(&cells, now_ms - 23 * HOUR_MS, now_ms), 24);
        (120..150).for_each(|hour| *cells.at(start_ms + hour * HOUR_MS) += 1);
        assert_eq!(counted(&cells, 800_000 * HOUR_MS, u64::MAX), 0, "gone");
        assert_eq!((cells.cells.len(), cells.made.len()), (25, 25));
    }

    #[test]
    fn a_span_that_ends_before_it_begins_is_its_first_cell() {
        let mut cells = Cells::<u32>::new(HOUR_MS, 4);
        *cells.at(5 * HOUR_MS) += 1;
        assert_eq!(counted(&cells, 5 * HOUR_MS, 0), 1);
        assert_eq!(counted(&cells, 6 * HOUR_MS, 0), 0);
    }
}
