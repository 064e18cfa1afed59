//! Growing a tree by its tiles.
//!
//! [`Edge`] holds the partial tiles on the right edge of a tree: at most 255 hashes a level, so
//! memory does not grow with the log. Appending leaves gives back every tile that changed and the
//! new root; it writes nothing and signs nothing.

use record::Digest;
use serde::{Deserialize, Serialize};

use crate::merkle::{empty_root, node_hash};
use crate::tile::{HEIGHT, LEVEL_MAX, Span, Tile, TileError, TileId, TileReader, WIDTH};

/// The right edge of a tree: its size and its partial tiles. Whoever keeps one between runs checks
/// its root when it is read back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Kept")]
pub struct Edge {
    size: u64,
    /// Per tile level, the hashes that are not yet in a full tile.
    levels: Vec<Vec<Digest>>,
}

/// An edge as it is read back: nothing fits together yet.
#[derive(Deserialize)]
struct Kept {
    size: u64,
    levels: Vec<Vec<Digest>>,
}

impl TryFrom<Kept> for Edge {
    type Error = &'static str;

    fn try_from(Kept { size, levels }: Kept) -> Result<Self, Self::Error> {
        let widths = (0..=LEVEL_MAX)
            .map(|level| hashes_at(size, level))
            .take_while(|hashes| *hashes > 0)
            .map(|hashes| hashes % u64::from(WIDTH));
        if widths.eq(levels.iter().map(|hashes| hashes.len() as u64)) {
            Ok(Self { size, levels })
        } else {
            Err("the edge of a tree does not fit its size")
        }
    }
}

impl Edge {
    /// The edge of a tree without leaves.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads the partial tiles of a tree of `size` leaves. The caller compares [`Edge::root`] with
    /// a root it trusts.
    ///
    /// # Errors
    /// [`TileError`] if one of them cannot be read.
    pub fn load(size: u64, reader: &impl TileReader) -> Result<Self, TileError> {
        let mut levels = Vec::new();
        for level in 0..=LEVEL_MAX {
            let hashes = hashes_at(size, level);
            if hashes == 0 {
                break;
            }
            let tile = TileId::in_tree(level, hashes / u64::from(WIDTH), size);
            levels.push(match tile {
                Some(id) => reader.read_tile(id)?,
                None => Vec::new(),
            });
        }
        Ok(Self { size, levels })
    }

    /// Leaves in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut right: Option<Digest> = None;
        for hashes in &self.levels {
            // Right to left through the complete subtrees that this tile's hashes form.
            let mut end = hashes.len();
            while end > 0 {
                let width = 1 << end.trailing_zeros();
                let left = complete_subtree(&hashes[end - width..end]);
                right = Some(match right {
                    Some(right) => node_hash(&left, &right),
                    None => left,
                });
                end -= width;
            }
        }
        right.unwrap_or_else(empty_root)
    }

    /// Appends leaf hashes. Returns every tile that is new or wider than before: full ones in
    /// order and, per level, the partial one that is left. Empty if nothing was appended.
    pub fn append(&mut self, leaf_hashes: &[Digest]) -> Vec<Tile> {
        let mut changed = Vec::new();
        let mut arriving = leaf_hashes.to_vec();
        let mut level: u8 = 0;
        while !arriving.is_empty() {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::new());
            }
            let before = hashes_at(self.size, level);
            let edge = &mut self.levels[usize::from(level)];
            edge.append(&mut arriving);
            let mut number = before / u64::from(WIDTH);
            let mut full = edge.chunks_exact(usize::from(WIDTH));
            for hashes in &mut full {
                arriving.push(complete_subtree(hashes));
                let id = TileId {
                    level,
                    span: Span::full(number),
                };
                changed.push(Tile {
                    id,
                    hashes: hashes.to_vec(),
                });
                number += 1;
            }
            let rest = full.remainder().to_vec();
            *edge = rest;
            let width = u16::try_from(edge.len()).unwrap_or(WIDTH);
            if let Some(span) = Span::new(number, width) {
                changed.push(Tile {
                    id: TileId { level, span },
                    hashes: edge.clone(),
                });
            }
            level += 1;
        }
        self.size += leaf_hashes.len() as u64;
        changed
    }

    /// The partial tiles of the edge.
    #[must_use]
    pub fn tiles(&self) -> Vec<Tile> {
        let mut tiles = Vec::new();
        for (level, hashes) in (0..).zip(&self.levels) {
            let number = hashes_at(self.size, level) / u64::from(WIDTH);
            let width = u16::try_from(hashes.len()).unwrap_or(WIDTH);
            if let Some(span) = Span::new(number, width) {
                tiles.push(Tile {
                    id: TileId { level, span },
                    hashes: hashes.clone(),
                });
            }
        }
        tiles
    }
}

/// Hashes at a tile level in a tree of this size, in full and partial tiles together.
fn hashes_at(size: u64, level: u8) -> u64 {
    size.checked_shr(HEIGHT * u32::from(level)).unwrap_or(0)
}

/// The root over a power of two of hashes.
pub(crate) fn complete_subtree(hashes: &[Digest]) -> Digest {
    debug_assert!(hashes.len().is_power_of_two());
    match hashes {
        [] => empty_root(),
        [only] => *only,
        _ => {
            let mut row = hashes.to_vec();
            while row.len() > 1 {
                row = row
                    .chunks_exact(2)
                    .map(|pair| node_hash(&pair[0], &pair[1]))
                    .collect();
            }
            row[0]
        }
    }
}
