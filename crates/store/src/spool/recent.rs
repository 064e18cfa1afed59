//! The newest rows' ids and calls, in memory until they are indexed in bulk. Pure.
//!
//! Ids and call ids are random, so indexing each row in its own transaction would rewrite about
//! one page per row and index. Instead the newest rows are looked up here, and every
//! [`TAIL_ROWS`] of them go into the tables in order of their keys, a chunk per transaction: a
//! fifth of a page per row. `tally.indexed` says through which row that is complete; opening
//! reads the rows after it.
//!
//! A key is the first eight bytes of an id; whoever looks up compares the whole one.

use std::collections::BTreeSet;

/// Rows that gather before they are indexed.
pub(super) const TAIL_ROWS: usize = 4096;
/// Entries per index that one transaction adds.
pub(super) const CHUNK_ENTRIES: usize = 512;

/// (key, position): as in the tables.
pub(super) type IndexEntry = (i64, i64);

/// The first eight bytes, as SQLite's integer.
pub(super) fn key(id: &[u8]) -> i64 {
    id.first_chunk()
        .map_or(0, |first| i64::from_be_bytes(*first))
}

#[derive(Debug, Default)]
struct Keys {
    ids: BTreeSet<IndexEntry>,
    calls: BTreeSet<IndexEntry>,
    through: i64,
}

/// Rows that the tables do not index yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    fresh: Keys,
    /// On its way into the tables.
    frozen: Keys,
}

/// Entries to add in one transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) ids: Vec<IndexEntry>,
    pub(super) calls: Vec<IndexEntry>,
    /// With this chunk, all rows up to here are indexed.
    pub(super) completes: Option<i64>,
}

impl Recent {
    /// Adds a row that is committed.
    pub(super) fn add(&mut self, n: i64, id: &[u8; 32], call: Option<&[u8; 16]>) {
        self.fresh.ids.insert((key(id), n));
        if let Some(call) = call {
            self.fresh.calls.insert((key(call), n));
        }
        self.fresh.through = self.fresh.through.max(n);
    }

    /// The next entries to index; empty while there are too few.
    pub(super) fn chunk(&mut self) -> Chunk {
        let idle = self.frozen.ids.is_empty() && self.frozen.calls.is_empty();
        if idle && self.fresh.ids.len() >= TAIL_ROWS {
            self.frozen = std::mem::take(&mut self.fresh);
            self.fresh.through = self.frozen.through;
        } else if idle {
            return Chunk::default();
        }
        let first = |keys: &BTreeSet<IndexEntry>| {
            keys.iter().take(CHUNK_ENTRIES).copied().collect::<Vec<_>>()
        };
        let (ids, calls) = (first(&self.frozen.ids), first(&self.frozen.calls));
        let all = ids.len() == self.frozen.ids.len() && calls.len() == self.frozen.calls.len();
        Chunk {
            completes: all.then_some(self.frozen.through),
            ids,
            calls,
        }
    }

    /// The chunk was committed.
    pub(super) fn indexed(&mut self, chunk: &Chunk) {
        chunk.ids.iter().for_each(|entry| {
            self.frozen.ids.remove(entry);
        });
        chunk.calls.iter().for_each(|entry| {
            self.frozen.calls.remove(entry);
        });
    }

    /// Positions of rows whose id has this key.
    pub(super) fn by_id(&self, key: i64) -> Vec<i64> {
        find(&[&self.fresh.ids, &self.frozen.ids], key)
    }

    /// Positions of rows whose call has this key.
    pub(super) fn by_call(&self, key: i64) -> Vec<i64> {
        find(&[&self.fresh.calls, &self.frozen.calls], key)
    }
}

fn find(sets: &[&BTreeSet<IndexEntry>], key: i64) -> Vec<i64> {
    let range = (key, i64::MIN)..=(key, i64::MAX);
    sets.iter()
        .flat_map(|set| set.range(range.clone()).map(|&(_, n)| n))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: i64) -> [u8; 32] {
        // Spread over the key space, as digests are.
        let mut id = [0; 32];
        id[..8].copy_from_slice(
            &(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed())).to_be_bytes(),
        );
        id
    }

    #[test]
    fn every_row_is_found_until_it_is_indexed_and_indexed_once() {
        let mut recent = Recent::default();
        let rows = i64::try_from(TAIL_ROWS).expect("small");
        for n in 1..rows {
            recent.add(n, &id(n), Some(&[7; 16]));
        }
        assert_eq!(recent.chunk(), Chunk::default(), "one row is missing");
        recent.add(rows, &id(rows), None);
        let mut indexed = BTreeSet::new();
        let mut turn = 0;
        loop {
            let chunk = recent.chunk();
            assert_eq!(chunk, recent.chunk(), "the same until it is committed");
            // Rows go on arriving meanwhile.
            recent.add(rows + 1 + turn, &id(rows + 1 + turn), None);
            turn += 1;
            for &(_, n) in &chunk.ids {
                assert_eq!(recent.by_id(key(&id(n))), [n]);
                assert!(indexed.insert(n));
            }
            assert!(chunk.ids.windows(2).all(|pair| pair[0] < pair[1]));
            recent.indexed(&chunk);
            if let Some(through) = chunk.completes {
                assert_eq!(through, rows);
                break;
            }
        }
        assert_eq!(indexed.len(), TAIL_ROWS);
        assert!(recent.by_id(key(&id(1))).is_empty() && recent.by_call(key(&[7; 16])).is_empty());
        assert_eq!(recent.by_id(key(&id(rows + 1))), [rows + 1]);
        assert_eq!(recent.chunk(), Chunk::default());
    }
}
