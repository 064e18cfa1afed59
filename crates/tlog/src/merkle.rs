//! RFC 6962 hashes and the streaming root.
//!
//! A leaf is `SHA-256(00 ‖ data)`, a node `SHA-256(01 ‖ left ‖ right)`, the root of the empty tree
//! `SHA-256("")` (RFC 6962 §2.1). There are no tiles and no proofs here: see [`crate::tile`] and
//! [`crate::proof`].

use record::{Digest, sha256};

pub use record::leaf::leaf_hash;

/// The RFC 6962 hash of an inner node.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut input = [0u8; 65];
    input[0] = 0x01;
    input[1..33].copy_from_slice(left.as_bytes());
    input[33..].copy_from_slice(right.as_bytes());
    sha256(&input)
}

/// The root of a tree without leaves.
#[must_use]
pub fn empty_root() -> Digest {
    sha256(&[])
}

/// The root over a list of leaf hashes, all in memory.
#[must_use]
pub fn root(leaf_hashes: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    for leaf in leaf_hashes {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The roots of the complete subtrees on the right edge of a tree: all that is needed to go on
/// hashing. At most 64 digests, whatever the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Largest subtree first; one per set bit of `size`.
    subtrees: Vec<Digest>,
}

impl Frontier {
    /// What [`Frontier::subtrees`] gave at this size; none if there cannot be so many of them.
    #[must_use]
    pub fn from_subtrees(size: u64, subtrees: Vec<Digest>) -> Option<Self> {
        let has_all = subtrees.len() == size.count_ones() as usize;
        has_all.then_some(Self { size, subtrees })
    }

    /// The roots of the complete subtrees, the largest first.
    #[must_use]
    pub fn subtrees(&self) -> &[Digest] {
        &self.subtrees
    }

    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        // Every trailing one bit of the old size is a complete subtree that the new leaf closes.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// How many leaves were pushed.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over everything pushed so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut right_to_left = self.subtrees.iter().rev();
        let Some(last) = right_to_left.next() else {
            return empty_root();
        };
        right_to_left.fold(*last, |right, left| node_hash(left, &right))
    }
}
