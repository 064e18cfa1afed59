//! The index of recent entries: in files, and in memory for tests and logs that live there.

use std::collections::{HashMap, VecDeque};

use crate::{Error, ErrorKind, Result, Seen};

mod files;

pub use files::SeenFiles;

/// Entries that are recognised when they come again.
pub const WINDOW_ENTRIES: u64 = 1_000_000;

/// [`Seen`] without durability: empty after every start, and rebuilt.
#[derive(Debug, Clone)]
pub struct MemorySeen {
    covered: u64,
    window: u64,
    order: VecDeque<[u8; 32]>,
    index: HashMap<[u8; 32], u64>,
}

impl MemorySeen {
    /// An index of the last `window` entries, empty.
    #[must_use]
    pub fn new(window: u64) -> Self {
        Self {
            covered: 0,
            window,
            order: VecDeque::new(),
            index: HashMap::new(),
        }
    }
}

impl Default for MemorySeen {
    fn default() -> Self {
        Self::new(WINDOW_ENTRIES)
    }
}

impl Seen for MemorySeen {
    fn covered(&self) -> Result<u64> {
        Ok(self.covered)
    }

    fn find(&self, id: &[u8; 32]) -> Result<Option<u64>> {
        Ok(self.index.get(id).copied())
    }

    fn extend(&mut self, first: u64, ids: &[[u8; 32]]) -> Result<()> {
        check_first(self.covered, first)?;
        for id in ids {
            self.order.push_back(*id);
            self.index.insert(*id, self.covered);
            self.covered += 1;
            if self.order.len() as u64 > self.window {
                let oldest = self.covered - self.window - 1;
                if let Some(id) = self.order.pop_front()
                    && self.index.get(&id) == Some(&oldest)
                {
                    self.index.remove(&id);
                }
            }
        }
        Ok(())
    }

    fn restart(&mut self, covered: u64) -> Result<()> {
        *self = Self {
            covered,
            ..Self::new(self.window)
        };
        Ok(())
    }

    fn window(&self) -> u64 {
        self.window
    }
}

pub(crate) fn check_first(covered: u64, first: u64) -> Result<()> {
    if covered == first {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::Conflict,
            format!("the index ends at entry {covered}, it cannot go on at {first}"),
        ))
    }
}
