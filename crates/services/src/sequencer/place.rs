//! Leaves and proofs for the records of a pool: what callers are answered with.
//!
//! Records of the round are proven from tiles that are still in memory. Known ones are read back,
//! and their proofs are checked before they are believed.

use record::leaf::{Leaf, leaf_hash};
use record::{Digest, RecordId};
use tlog::checkpoint::Checkpoint;
use tlog::proof::{TreeView, verify_inclusion};
use tlog::tile::{Span, WIDTH};

use super::round::RoundTiles;
use crate::admission::{Refusal, Submission};
use crate::reader::LogReader;

/// Bundles of known records after which what was kept of their tiles is dropped, so that a pool of
/// records from all over the log does not fill the memory with it.
const BUNDLES_KEPT_MAX: usize = 64;

/// A record's place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The record.
    pub id: RecordId,
    /// Index of its entry.
    pub index: u64,
    /// Whether it was logged before this round.
    pub known: bool,
    /// The logged leaf: for a known record, the one that was logged first.
    pub leaf: Vec<u8>,
    /// Inclusion in the published checkpoint.
    pub proof: Vec<Digest>,
}

/// Where a submitted record is, before its proof is made.
pub(super) enum Slot {
    New(u64),
    Known(u64),
}

/// Makes the answers of one round.
pub(super) struct Placer<'r> {
    tiles: &'r RoundTiles,
    reader: &'r LogReader,
    head: &'r Checkpoint,
    size_before: u64,
    new: TreeView<&'r RoundTiles>,
    known: TreeView<&'r RoundTiles>,
    /// Bundles that `known` has seen.
    bundles: usize,
    /// The last bundle that was read back.
    bundle: Option<(Span, Vec<Vec<u8>>)>,
}

impl<'r> Placer<'r> {
    pub(super) fn new(
        tiles: &'r RoundTiles,
        reader: &'r LogReader,
        head: &'r Checkpoint,
        size_before: u64,
    ) -> Self {
        Self {
            tiles,
            reader,
            head,
            size_before,
            new: TreeView::new(tiles, head.size),
            known: TreeView::new(tiles, head.size),
            bundles: 0,
            bundle: None,
        }
    }

    pub(super) fn place_all(
        mut self,
        pool: &[&Submission],
        slots: &[Slot],
    ) -> Vec<Result<Placed, Refusal>> {
        // In the order of their indices, which go on where the tree ended.
        let new: Vec<&Submission> = pool
            .iter()
            .zip(slots)
            .filter(|(_, slot)| matches!(slot, Slot::New(_)))
            .map(|(submission, _)| *submission)
            .collect();
        let mut placed = Vec::with_capacity(pool.len());
        for (submission, slot) in pool.iter().zip(slots) {
            let (index, known) = match slot {
                Slot::New(index) => (*index, false),
                Slot::Known(index) => (*index, true),
            };
            // A record may come twice in the round that logs it first.
            let at = index.checked_sub(self.size_before);
            let first = at.and_then(|at| new.get(usize::try_from(at).ok()?));
            let found = match first {
                Some(first) => self.prove_new(index, first),
                None => self.prove_known(index, submission.id),
            };
            placed.push(match found {
                Ok((leaf, proof)) => Ok(Placed {
                    id: submission.id,
                    index,
                    known,
                    leaf,
                    proof,
                }),
                Err(reason) => Err(Refusal::new("unavailable", reason)),
            });
        }
        placed
    }

    fn prove_new(&self, index: u64, first: &Submission) -> Result<(Vec<u8>, Vec<Digest>), String> {
        debug_assert!(index >= self.size_before);
        let proof = self.new.inclusion(index).map_err(|e| e.to_string())?;
        Ok((first.leaf.clone(), proof))
    }

    /// The index of recent entries is believed only where the log has that record.
    fn prove_known(&mut self, index: u64, id: RecordId) -> Result<(Vec<u8>, Vec<Digest>), String> {
        let leaf = self.logged_leaf(index)?;
        let logged = Leaf::parse(&leaf).map_err(|error| format!("entry {index}: {error}"))?;
        if logged.record_id != id {
            return Err(format!("entry {index} is another record; restart the log"));
        }
        let proof = self.known.inclusion(index).map_err(|e| e.to_string())?;
        let Checkpoint { size, root, .. } = self.head;
        verify_inclusion(&leaf_hash(&leaf), index, *size, &proof, root)
            .map_err(|error| format!("entry {index}: {error}"))?;
        Ok((leaf, proof))
    }

    fn logged_leaf(&mut self, index: u64) -> Result<Vec<u8>, String> {
        let span = Span::of_leaf(index, self.head.size).ok_or("the entry is not in the log")?;
        if self.bundle.as_ref().is_none_or(|(kept, _)| *kept != span) {
            let entries = self.reader.entries(span).map_err(|e| e.to_string())?;
            self.bundle = Some((span, entries));
            self.bundles += 1;
            if self.bundles > BUNDLES_KEPT_MAX {
                self.known = TreeView::new(self.tiles, self.head.size);
                self.bundles = 0;
            }
        }
        let at = usize::try_from(index % u64::from(WIDTH)).unwrap_or(usize::MAX);
        let entries = self.bundle.as_ref().map(|(_, entries)| entries);
        let leaf = entries.and_then(|entries| entries.get(at)).cloned();
        leaf.ok_or_else(|| format!("the bundle of entry {index} is too short"))
    }
}
