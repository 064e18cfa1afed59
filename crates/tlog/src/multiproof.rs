//! One proof for many leaves.
//!
//! A proof of a set of leaves against one root is the tree of RFC 6962 §2.1 walked from left to
//! right, with every largest subtree that holds none of the leaves replaced by its hash. What
//! follows from leaves or other hashes is never in it, so no hash is there twice, and no smaller
//! set would do: for one leaf it is the audit path of RFC 6962 §2.1.1 in the order of the tree.
//! (Compact multiproofs after L. Ramabaja and A. Avdullahu, "Compact Merkle Multiproofs", 2020,
//! <https://arxiv.org/abs/2002.07648>; here the positions fix which hashes are needed, so none of
//! them carries a place of its own.)
//!
//! Prover and verifier both go from left to right and keep one hash per level of the tree, so a
//! proof of millions of leaves streams.

use std::ops::Range;

use record::Digest;

use crate::merkle::node_hash;
use crate::proof::TreeView;
use crate::tile::{TileError, TileReader};

/// The most hashes that one gap between leaves can need: two for every level of a tree of 2⁶³.
pub const GAP_HASHES_MAX: usize = 126;

/// Why leaves and hashes do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultiProofError {
    /// Not further right than what came before.
    #[error("leaf {index} does not come after leaf {before}")]
    Order {
        /// The leaf.
        index: u64,
        /// The one before it.
        before: u64,
    },
    /// Outside the tree.
    #[error("leaf {index} is outside a tree of {size}")]
    NoSuchLeaf {
        /// The leaf.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// Not the number of hashes that stand for the leaves in between.
    #[error(
        "{hashes} hashes stand for the leaves {} to {}, which need {needed}",
        gap.start,
        gap.end.saturating_sub(1)
    )]
    Gap {
        /// The leaves that are passed over.
        gap: Range<u64>,
        /// Hashes given.
        hashes: usize,
        /// Hashes needed.
        needed: usize,
    },
}

/// The fewest subtrees of a tree of `size` leaves that hold exactly the leaves of `gap`, from left
/// to right. Empty for an empty gap, and for one that does not lie in the tree.
#[must_use]
pub fn cover(gap: Range<u64>, size: u64) -> Vec<Range<u64>> {
    let mut nodes = Vec::new();
    let mut at = gap.start;
    while at < gap.end && gap.end <= size {
        // A node starts at a multiple of the power of two that it has room for, and ends early
        // only where the tree does.
        let aligned = if at == 0 { 63 } else { at.trailing_zeros() };
        let end = (0..=aligned.min(63))
            .rev()
            .map(|level| at.saturating_add(1 << level).min(size))
            .find(|end| *end <= gap.end)
            .unwrap_or(at + 1);
        nodes.push(at..end);
        at = end;
    }
    nodes
}

impl<R: TileReader> TreeView<R> {
    /// The hashes that stand for the leaves of `gap` in a proof; see [`cover`].
    ///
    /// # Errors
    /// [`TileError`] if a tile cannot be read.
    pub fn gap(&self, gap: Range<u64>) -> Result<Vec<Digest>, TileError> {
        self.gap_before(gap, self.size())
    }

    /// The same for a proof in the tree of the first `size` leaves, to an earlier checkpoint.
    ///
    /// # Errors
    /// [`TileError`] if a tile cannot be read.
    pub fn gap_before(&self, gap: Range<u64>, size: u64) -> Result<Vec<Digest>, TileError> {
        let nodes = cover(gap, size.min(self.size())).into_iter();
        nodes.map(|node| self.range(node.start, node.end)).collect()
    }
}

/// The root of a tree from some of its leaves and hashes for the rest, given from left to right.
#[derive(Debug, Clone)]
pub struct Rebuild {
    size: u64,
    at: u64,
    /// Subtrees that are complete, left to right; no two of them are children of one node.
    subtrees: Vec<(Range<u64>, Digest)>,
}

impl Rebuild {
    /// Nothing of a tree of `size` leaves yet.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            size,
            at: 0,
            subtrees: Vec::new(),
        }
    }

    /// The leaf that comes next.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Passes over the leaves up to `index`, for which `hashes` stand.
    ///
    /// # Errors
    /// [`MultiProofError`]; nothing has changed then.
    pub fn skip_to(&mut self, index: u64, hashes: &[Digest]) -> Result<(), MultiProofError> {
        if index < self.at {
            return Err(MultiProofError::Order {
                index,
                before: self.at - 1,
            });
        }
        if index > self.size {
            return Err(MultiProofError::NoSuchLeaf {
                index,
                size: self.size,
            });
        }
        let nodes = cover(self.at..index, self.size);
        if nodes.len() != hashes.len() {
            return Err(MultiProofError::Gap {
                gap: self.at..index,
                hashes: hashes.len(),
                needed: nodes.len(),
            });
        }
        for (node, hash) in nodes.into_iter().zip(hashes) {
            self.push(node, *hash);
        }
        Ok(())
    }

    /// Adds the leaf that comes next.
    ///
    /// # Errors
    /// [`MultiProofError::NoSuchLeaf`] at the end of the tree.
    pub fn leaf(&mut self, hash: Digest) -> Result<(), MultiProofError> {
        if self.at >= self.size {
            return Err(MultiProofError::NoSuchLeaf {
                index: self.at,
                size: self.size,
            });
        }
        self.push(self.at..self.at + 1, hash);
        Ok(())
    }

    /// The root; `None` before the last leaf, and for a tree without leaves.
    #[must_use]
    pub fn root(&self) -> Option<Digest> {
        match self.subtrees.as_slice() {
            [(node, hash)] if *node == (0..self.size) => Some(*hash),
            _ => None,
        }
    }

    fn push(&mut self, node: Range<u64>, hash: Digest) {
        self.at = node.end;
        let (mut right, mut hash) = (node, hash);
        while let Some((left, left_hash)) = self.subtrees.pop() {
            if !self.are_children(&left, &right) {
                self.subtrees.push((left, left_hash));
                break;
            }
            hash = node_hash(&left_hash, &hash);
            right = left.start..right.end;
        }
        self.subtrees.push((right, hash));
    }

    /// A left child is a power of two wide and starts at an even multiple of that; its sibling
    /// goes on to where their parent ends, or the tree.
    fn are_children(&self, left: &Range<u64>, right: &Range<u64>) -> bool {
        let width = left.end - left.start;
        let parent_end = left.start.saturating_add(width.saturating_mul(2));
        width.is_power_of_two()
            && (left.start / width).is_multiple_of(2)
            && right.end == parent_end.min(self.size)
    }
}
