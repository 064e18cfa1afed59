//! Inclusion and consistency proofs: from tiles, and checked.
//!
//! Proofs are those of RFC 6962 §2.1.1 and §2.1.2; they are checked with the algorithms of
//! RFC 9162 §2.1.3.2 and §2.1.4.2. A proof made here is only as good as the tiles it was made
//! from; what is served should be checked against the signed root first.

use std::cell::RefCell;
use std::collections::HashMap;

use record::Digest;

use crate::merkle::{empty_root, node_hash};
use crate::tile::{HEIGHT, TileError, TileId, TileReader, WIDTH};

/// The longest proof a tree of at most 2⁶³ leaves can need; longer ones are refused unread.
pub const PROOF_HASHES_MAX: usize = 63;

/// Why no proof could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The leaf is not in the tree.
    #[error("there is no leaf {index} in a tree of {size}")]
    NoSuchLeaf {
        /// The leaf asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The earlier tree is larger than the later one.
    #[error("a tree of {new} leaves cannot extend one of {old}")]
    Shrinks {
        /// Leaves in the earlier tree.
        old: u64,
        /// Leaves in the later tree.
        new: u64,
    },
    /// A tile is missing or unusable.
    #[error(transparent)]
    Tile(#[from] TileError),
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The leaf is outside the tree.
    #[error("leaf {index} is outside a tree of {size}")]
    NoSuchLeaf {
        /// The leaf.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The later tree is smaller.
    #[error("a tree of {new} leaves cannot extend one of {old}")]
    Shrinks {
        /// Leaves in the earlier tree.
        old: u64,
        /// Leaves in the later tree.
        new: u64,
    },
    /// Not the number of hashes that this position and size need.
    #[error("the proof has {hashes} hashes, which does not fit the size of the tree")]
    Length {
        /// Hashes given.
        hashes: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    OtherRoot,
}

/// A tree of a given size seen through its tiles. Keeps what it has read, so that many proofs over
/// neighbouring leaves cost little.
pub struct TreeView<R> {
    reader: R,
    size: u64,
    tiles: RefCell<HashMap<(u8, u64), Subtrees>>,
    ranges: RefCell<HashMap<(u64, u64), Digest>>,
}

impl<R: TileReader> TreeView<R> {
    /// A view of the first `size` leaves.
    pub fn new(reader: R, size: u64) -> Self {
        Self {
            reader,
            size,
            tiles: RefCell::default(),
            ranges: RefCell::default(),
        }
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// [`TileError`] if a tile cannot be read.
    pub fn root(&self) -> Result<Digest, TileError> {
        self.range(0, self.size)
    }

    /// The hash of one leaf.
    ///
    /// # Errors
    /// [`ProveError::NoSuchLeaf`], or a tile that cannot be read.
    pub fn leaf_hash(&self, index: u64) -> Result<Digest, ProveError> {
        if index >= self.size {
            return Err(ProveError::NoSuchLeaf {
                index,
                size: self.size,
            });
        }
        Ok(self.node(0, index)?)
    }

    /// RFC 6962 §2.1.1: the path from leaf `index` to the root, the leaf's sibling first.
    ///
    /// # Errors
    /// [`ProveError::NoSuchLeaf`], or a tile that cannot be read.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Digest>, ProveError> {
        if index >= self.size {
            return Err(ProveError::NoSuchLeaf {
                index,
                size: self.size,
            });
        }
        let mut path = Vec::new();
        let (mut from, mut to) = (0, self.size);
        while to - from > 1 {
            let middle = from + largest_power_below(to - from);
            if index < middle {
                path.push(self.range(middle, to)?);
                to = middle;
            } else {
                path.push(self.range(from, middle)?);
                from = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// RFC 6962 §2.1.2: that the tree of the first `old` leaves is a prefix of this one. Empty if
    /// `old` is 0 or the size itself.
    ///
    /// # Errors
    /// [`ProveError::Shrinks`], or a tile that cannot be read.
    pub fn consistency(&self, old: u64) -> Result<Vec<Digest>, ProveError> {
        if old > self.size {
            return Err(ProveError::Shrinks {
                old,
                new: self.size,
            });
        }
        let mut path = Vec::new();
        if old == 0 || old == self.size {
            return Ok(path);
        }
        let (mut from, mut to) = (0, self.size);
        while to != old {
            let middle = from + largest_power_below(to - from);
            if old <= middle {
                path.push(self.range(middle, to)?);
                to = middle;
            } else {
                path.push(self.range(from, middle)?);
                from = middle;
            }
        }
        // The subtree that ends where the old tree ends; the verifier has it already if it is the
        // whole old tree.
        if from != 0 {
            path.push(self.range(from, to)?);
        }
        path.reverse();
        Ok(path)
    }

    /// The hashes from which both the root of this tree and that of its first `old` leaves follow
    /// ([`prefix_roots`]): a consistency proof that also names its first subtree where the verifier
    /// of one takes the old root for it. `old` is at least 1 and below the size.
    ///
    /// # Errors
    /// [`ProveError::Shrinks`] for any other `old`, or a tile that cannot be read.
    pub fn prefix(&self, old: u64) -> Result<Vec<Digest>, ProveError> {
        if old == 0 || old >= self.size {
            return Err(ProveError::Shrinks {
                old,
                new: self.size,
            });
        }
        let mut proof = self.consistency(old)?;
        if old.is_power_of_two() {
            proof.insert(0, self.range(0, old)?);
        }
        Ok(proof)
    }

    /// Forgets what was read. Whoever walks a large tree from left to right calls this now and
    /// then, or the whole tree ends up in memory.
    pub fn forget(&mut self) {
        self.tiles.borrow_mut().clear();
        self.ranges.borrow_mut().clear();
    }

    /// MTH(D[from:to]) for a range that starts at a multiple of the power of two it fills.
    pub(crate) fn range(&self, from: u64, to: u64) -> Result<Digest, TileError> {
        let leaves = to - from;
        if leaves == 0 {
            return Ok(empty_root());
        }
        if leaves.is_power_of_two() {
            let level = leaves.trailing_zeros();
            return self.node(level, from >> level);
        }
        if let Some(known) = self.ranges.borrow().get(&(from, to)) {
            return Ok(*known);
        }
        let middle = from + largest_power_below(leaves);
        let hash = node_hash(&self.range(from, middle)?, &self.range(middle, to)?);
        self.ranges.borrow_mut().insert((from, to), hash);
        Ok(hash)
    }

    /// The root of the complete subtree `index` of 2^`level` leaves.
    fn node(&self, level: u32, index: u64) -> Result<Digest, TileError> {
        let tile_level = u8::try_from(level / HEIGHT).unwrap_or(u8::MAX);
        let within = level % HEIGHT;
        let per_tile = HEIGHT - within;
        let number = index >> per_tile;
        let place = usize::try_from(index & ((1 << per_tile) - 1)).unwrap_or(usize::MAX);
        let key = (tile_level, number);
        if let Some(found) = self
            .tiles
            .borrow()
            .get(&key)
            .and_then(|t| t.at(within, place))
        {
            return Ok(found);
        }
        let missing = || TileId {
            level: tile_level,
            span: crate::tile::Span::full(number),
        };
        let id = TileId::in_tree(tile_level, number, self.size)
            .ok_or_else(|| TileError::Missing(missing()))?;
        let hashes = self.reader.read_tile(id)?;
        if hashes.len() != usize::from(id.span.width()) {
            return Err(TileError::Malformed {
                tile: id,
                bytes: hashes.len() * 32,
            });
        }
        let subtrees = Subtrees::new(hashes);
        let found = subtrees.at(within, place).ok_or(TileError::Missing(id));
        self.tiles.borrow_mut().insert(key, subtrees);
        found
    }
}

/// A tile with the complete subtrees inside it: row 0 is the tile, row h the roots of 2^h of its
/// hashes.
struct Subtrees {
    rows: Vec<Vec<Digest>>,
}

impl Subtrees {
    fn new(hashes: Vec<Digest>) -> Self {
        debug_assert!(hashes.len() <= usize::from(WIDTH));
        let mut rows = vec![hashes];
        while let Some(last) = rows.last().filter(|row| row.len() > 1) {
            let next = last
                .chunks_exact(2)
                .map(|pair| node_hash(&pair[0], &pair[1]))
                .collect();
            rows.push(next);
        }
        Self { rows }
    }

    fn at(&self, row: u32, place: usize) -> Option<Digest> {
        self.rows
            .get(usize::try_from(row).ok()?)?
            .get(place)
            .copied()
    }
}

/// An inclusion proof for one leaf; see [`TreeView::inclusion`].
///
/// # Errors
/// As [`TreeView::inclusion`].
pub fn inclusion(
    reader: &impl TileReader,
    index: u64,
    size: u64,
) -> Result<Vec<Digest>, ProveError> {
    TreeView::new(reader, size).inclusion(index)
}

/// A consistency proof between two sizes; see [`TreeView::consistency`].
///
/// # Errors
/// As [`TreeView::consistency`].
pub fn consistency(
    reader: &impl TileReader,
    old: u64,
    new: u64,
) -> Result<Vec<Digest>, ProveError> {
    TreeView::new(reader, new).consistency(old)
}

/// RFC 9162 §2.1.3.2: checks that the leaf is number `index` of the tree.
///
/// # Errors
/// [`ProofError`] saying what does not fit.
pub fn verify_inclusion(
    leaf_hash: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::NoSuchLeaf { index, size });
    }
    let length = ProofError::Length {
        hashes: proof.len(),
    };
    let (mut f, mut s) = (index, size - 1);
    let mut r = *leaf_hash;
    for p in proof {
        if s == 0 {
            return Err(length);
        }
        if f & 1 == 1 || f == s {
            r = node_hash(p, &r);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            r = node_hash(&r, p);
        }
        f >>= 1;
        s >>= 1;
    }
    if s != 0 {
        return Err(length);
    }
    if r == *root {
        Ok(())
    } else {
        Err(ProofError::OtherRoot)
    }
}

/// RFC 9162 §2.1.4.2: checks that the tree `old` is a prefix of the tree `new`. From an empty tree
/// and between equal sizes the proof must be empty; then only equal roots are compared.
///
/// # Errors
/// [`ProofError`] saying what does not fit.
pub fn verify_consistency(
    old: (u64, &Digest),
    new: (u64, &Digest),
    proof: &[Digest],
) -> Result<(), ProofError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return Err(ProofError::Shrinks {
            old: old_size,
            new: new_size,
        });
    }
    let length = ProofError::Length {
        hashes: proof.len(),
    };
    if old_size == 0 || old_size == new_size {
        if !proof.is_empty() {
            return Err(length);
        }
        let same = if old_size == 0 {
            *old_root == empty_root()
        } else {
            old_root == new_root
        };
        return if same {
            Ok(())
        } else {
            Err(ProofError::OtherRoot)
        };
    }
    // Step 2: a complete old tree is its own first hash.
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(length)?
    };
    let (fr, sr) = both_roots(old_size, new_size, first, rest).ok_or(length)?;
    if fr == *old_root && sr == *new_root {
        Ok(())
    } else {
        Err(ProofError::OtherRoot)
    }
}

/// The roots that the hashes of [`TreeView::prefix`] lead to: of the first `old` leaves, and of all
/// `new`. If the second is the root that a log signed, the first is the root that its first `old`
/// leaves have, whatever the log said about them elsewhere.
///
/// # Errors
/// [`ProofError`] if the hashes do not fit these sizes.
pub fn prefix_roots(old: u64, new: u64, proof: &[Digest]) -> Result<(Digest, Digest), ProofError> {
    if old == 0 || old >= new {
        return Err(ProofError::Shrinks { old, new });
    }
    let length = ProofError::Length {
        hashes: proof.len(),
    };
    let (first, rest) = proof.split_first().ok_or(length)?;
    both_roots(old, new, first, rest).ok_or(length)
}

/// Steps 3 to 6 of RFC 9162 §2.1.4.2: old and new root; `None` if the number of hashes is wrong.
fn both_roots(old: u64, new: u64, first: &Digest, rest: &[Digest]) -> Option<(Digest, Digest)> {
    let (mut f, mut s) = (old - 1, new - 1);
    while f & 1 == 1 {
        f >>= 1;
        s >>= 1;
    }
    let (mut fr, mut sr) = (*first, *first);
    for c in rest {
        if s == 0 {
            return None;
        }
        if f & 1 == 1 || f == s {
            fr = node_hash(c, &fr);
            sr = node_hash(c, &sr);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            sr = node_hash(&sr, c);
        }
        f >>= 1;
        s >>= 1;
    }
    (s == 0).then_some((fr, sr))
}

/// The largest power of two smaller than `leaves`, which is at least 2.
fn largest_power_below(leaves: u64) -> u64 {
    1 << (u64::BITS - 1 - (leaves - 1).leading_zeros())
}
