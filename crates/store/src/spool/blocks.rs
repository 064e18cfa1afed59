//! Open blocks in memory: which of their numbers are settled. Pure; the writer stores them.
//!
//! A transaction can fail after numbers were marked, so every mark made since the last
//! [`Blocks::commit`] can be taken back by [`Blocks::rollback`].

use std::collections::{BTreeMap, HashMap};

use super::{Range, SpoolError, StreamId};

/// One leased block with at least one number open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenBlock {
    /// Row id of the lease.
    pub(super) id: i64,
    pub(super) range: Range,
    /// Bit i: number `first + i` is settled.
    pub(super) bits: Vec<u8>,
    /// Numbers that are not settled.
    pub(super) open: u32,
}

impl OpenBlock {
    pub(super) fn new(id: i64, range: Range, bits: Vec<u8>) -> OpenBlock {
        let set: u32 = (0..range.count).filter(|&i| bit(&bits, i)).map(|_| 1).sum();
        OpenBlock {
            id,
            range,
            bits,
            open: range.count - set,
        }
    }

    /// One more than the highest settled number; the first number if there is none.
    pub(super) fn used_below(&self) -> u64 {
        let highest = (0..self.range.count).rev().find(|&i| bit(&self.bits, i));
        self.range.first + highest.map_or(0, |i| u64::from(i) + 1)
    }

    /// Runs of numbers that are not settled, below `end`.
    pub(super) fn open_runs(&self, end: u64) -> Vec<Range> {
        let mut runs: Vec<Range> = Vec::new();
        for i in (0..self.range.count).filter(|&i| !bit(&self.bits, i)) {
            let seq = self.range.first + u64::from(i);
            if seq >= end {
                break;
            }
            match runs.last_mut() {
                Some(run) if run.first + u64::from(run.count) == seq => run.count += 1,
                _ => runs.push(Range {
                    stream: self.range.stream,
                    first: seq,
                    count: 1,
                }),
            }
        }
        runs
    }
}

/// All open blocks of a spool.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// By stream, then by first number.
    open: HashMap<StreamId, BTreeMap<u64, OpenBlock>>,
    names: HashMap<StreamId, String>,
    /// Marks since the last commit: (stream, first number of the block, number).
    marked: Vec<(StreamId, u64, u64)>,
}

impl Blocks {
    pub(super) fn name(&mut self, stream: StreamId, name: &str) {
        self.names.entry(stream).or_insert_with(|| name.to_owned());
    }

    pub(super) fn insert(&mut self, block: OpenBlock) {
        self.open
            .entry(block.range.stream)
            .or_default()
            .insert(block.range.first, block);
    }

    /// Marks one number as settled.
    pub(super) fn settle(&mut self, stream: StreamId, seq: u64) -> Result<(), SpoolError> {
        let block = self
            .open
            .get_mut(&stream)
            .and_then(|blocks| blocks.range_mut(..=seq).next_back())
            .map(|(_, block)| block)
            .filter(|block| seq - block.range.first < u64::from(block.range.count));
        let Some(block) = block else {
            return Err(SpoolError::NumberNotLeased {
                stream: self.called(stream),
                seq,
            });
        };
        let i = offset(block, seq);
        if bit(&block.bits, i) {
            return Err(SpoolError::NumberUsed {
                stream: self.called(stream),
                seq,
            });
        }
        block.bits[i as usize / 8] |= 1 << (i % 8);
        block.open -= 1;
        let first = block.range.first;
        self.marked.push((stream, first, seq));
        Ok(())
    }

    /// How many marks there are since the last commit; with [`Blocks::rollback_to`], a savepoint.
    pub(super) fn savepoint(&self) -> usize {
        self.marked.len()
    }

    /// Takes back the marks made after `savepoint`.
    pub(super) fn rollback_to(&mut self, savepoint: usize) {
        for (stream, first, seq) in self.marked.drain(savepoint..) {
            let block = self
                .open
                .get_mut(&stream)
                .and_then(|blocks| blocks.get_mut(&first));
            let block = block.expect("a block stays while it has uncommitted marks");
            let i = offset(block, seq);
            block.bits[i as usize / 8] &= !(1 << (i % 8));
            block.open += 1;
        }
    }

    /// The blocks that were marked since the last commit.
    pub(super) fn touched(&self) -> Vec<&OpenBlock> {
        let mut keys: Vec<_> = self
            .marked
            .iter()
            .map(|&(stream, first, _)| (stream, first))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter()
            .map(|(stream, first)| &self.open[&stream][&first])
            .collect()
    }

    /// Makes the marks final and forgets blocks without open numbers.
    pub(super) fn commit(&mut self) {
        for (stream, first, _) in std::mem::take(&mut self.marked) {
            if let Some(blocks) = self.open.get_mut(&stream)
                && blocks.get(&first).is_some_and(|block| block.open == 0)
            {
                blocks.remove(&first);
            }
        }
    }

    /// Checks that `unused` is the untouched tail of an open block; gives the block's id.
    pub(super) fn tail(&self, unused: Range) -> Result<i64, SpoolError> {
        let refuse = || SpoolError::NumberNotLeased {
            stream: self.called(unused.stream),
            seq: unused.first,
        };
        let block = self
            .open
            .get(&unused.stream)
            .and_then(|blocks| blocks.range(..=unused.first).next_back())
            .map(|(_, block)| block)
            .ok_or_else(refuse)?;
        let end = block.range.first + u64::from(block.range.count);
        if unused.first + u64::from(unused.count) != end {
            return Err(refuse());
        }
        for i in offset(block, unused.first)..block.range.count {
            if bit(&block.bits, i) {
                let seq = block.range.first + u64::from(i);
                return Err(SpoolError::NumberUsed {
                    stream: self.called(unused.stream),
                    seq,
                });
            }
        }
        Ok(block.id)
    }

    fn called(&self, stream: StreamId) -> String {
        self.names
            .get(&stream)
            .cloned()
            .unwrap_or_else(|| format!("#{}", stream.0))
    }
}

/// Bytes of the bitmap of a block of `count` numbers.
pub(super) fn bitmap_bytes(count: u32) -> usize {
    (count as usize).div_ceil(8)
}

fn bit(bits: &[u8], i: u32) -> bool {
    bits[i as usize / 8] & (1 << (i % 8)) != 0
}

#[allow(clippy::cast_possible_truncation)] // below the block's count, a u32
fn offset(block: &OpenBlock, seq: u64) -> u32 {
    (seq - block.range.first) as u32
}
