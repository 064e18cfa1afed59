//! What a round makes of the tree's right edge: its files, and the tiles that proofs are made from.
//! Running and recovery both come here, so both write the same bytes.

use std::collections::HashMap;
use std::sync::Arc;

use record::leaf::{Leaf, leaf_hash};
use record::{Digest, RecordId, sha256};
use tlog::bundle::{BundleError, encode_bodies, encode_entries};
use tlog::growth::Edge;
use tlog::tile::{Resource, Span, Tile, TileError, TileId, TileReader, WIDTH};

use super::staging::NewEntry;
use crate::reader::LogReader;

/// A file of a round: path and bytes.
pub(super) type RoundFile = (String, Vec<u8>);

/// What is not yet in full tiles and bundles. Its size does not depend on the log's.
#[derive(Debug, Clone, Default)]
pub(super) struct RightEdge {
    pub(super) edge: Edge,
    entries: Vec<Vec<u8>>,
    bodies: Vec<Option<Vec<u8>>>,
}

/// What a round makes.
pub(super) struct Growth {
    pub(super) after: RightEdge,
    /// Tiles that changed.
    pub(super) tiles: Vec<Tile>,
    pub(super) files: Vec<RoundFile>,
}

impl RightEdge {
    /// Reads the right edge of a tree and checks that it holds together: the last entries hash to
    /// the last tile, and the last bodies are theirs. The caller compares the root.
    pub(super) fn load(reader: &LogReader, size: u64) -> Result<Self, String> {
        let edge = Edge::load(size, reader).map_err(|error| error.to_string())?;
        let last = size
            .checked_sub(1)
            .and_then(|last| Span::of_leaf(last, size));
        let Some(last) = last else {
            return Ok(Self::default());
        };
        let tile = TileId {
            level: 0,
            span: last,
        };
        let hashes = reader.read_tile(tile).map_err(|error| error.to_string())?;
        let entries = reader.entries(last).map_err(|error| error.to_string())?;
        let bodies = reader.bodies(last).map_err(|error| error.to_string())?;
        for (entry, (hash, body)) in entries.iter().zip(hashes.iter().zip(&bodies)) {
            if leaf_hash(entry) != *hash {
                return Err(format!(
                    "{} does not hash to {tile}",
                    Resource::Entries(last)
                ));
            }
            if !body.as_ref().is_none_or(|body| belongs(entry, body)) {
                let bodies = Resource::Bodies(last);
                return Err(format!("{bodies} holds a body that is not its entry's"));
            }
        }
        if last.is_full() {
            return Ok(Self {
                edge,
                ..Self::default()
            });
        }
        Ok(Self {
            edge,
            entries,
            bodies,
        })
    }

    /// The tree with these entries after it, and what must be written for it.
    pub(super) fn grow(&self, new: &[NewEntry<'_>]) -> Result<Growth, BundleError> {
        let mut after = self.clone();
        let hashes: Vec<Digest> = new.iter().map(|entry| leaf_hash(entry.leaf)).collect();
        let tiles = after.edge.append(&hashes);
        after
            .entries
            .extend(new.iter().map(|entry| entry.leaf.to_vec()));
        after
            .bodies
            .extend(new.iter().map(|entry| Some(entry.body.to_vec())));
        let mut files: Vec<RoundFile> = tiles
            .iter()
            .map(|tile| (tile.id.to_string(), tile.to_bytes()))
            .collect();
        if !new.is_empty() {
            let first = self.edge.size() / u64::from(WIDTH);
            bundle_files(first, &after.entries, &after.bodies, &mut files)?;
        }
        let full = after.entries.len() - after.entries.len() % usize::from(WIDTH);
        after.entries.drain(..full);
        after.bodies.drain(..full);
        Ok(Growth {
            after,
            tiles,
            files,
        })
    }
}

/// The bundles from number `first` on.
fn bundle_files(
    first: u64,
    entries: &[Vec<u8>],
    bodies: &[Option<Vec<u8>>],
    files: &mut Vec<RoundFile>,
) -> Result<(), BundleError> {
    let width = usize::from(WIDTH);
    for (number, (entries, bodies)) in
        (first..).zip(entries.chunks(width).zip(bodies.chunks(width)))
    {
        let Some(span) = Span::new(number, u16::try_from(entries.len()).unwrap_or(WIDTH)) else {
            continue;
        };
        files.push((
            Resource::Entries(span).to_string(),
            encode_entries(entries)?,
        ));
        files.push((Resource::Bodies(span).to_string(), encode_bodies(bodies)?));
    }
    Ok(())
}

/// Whether a body is what the entry was made of.
fn belongs(entry: &[u8], body: &[u8]) -> bool {
    let id = RecordId::new(sha256(&record::envelope::pae(body)));
    Leaf::parse(entry).is_ok_and(|leaf| leaf.record_id == id)
}

/// The tiles of the round and of the right edge from memory, all others from the store.
pub(super) struct RoundTiles {
    tiles: HashMap<(u8, u64), Vec<Digest>>,
    reader: LogReader,
}

impl RoundTiles {
    pub(super) fn shared(reader: &LogReader, tiles: Vec<Tile>) -> Arc<Self> {
        let keyed = tiles
            .into_iter()
            .map(|tile| ((tile.id.level, tile.id.span.index()), tile.hashes));
        Arc::new(Self {
            tiles: keyed.collect(),
            reader: reader.clone(),
        })
    }
}

impl TileReader for RoundTiles {
    fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError> {
        let width = usize::from(id.span.width());
        let tile = self.tiles.get(&(id.level, id.span.index()));
        match tile.and_then(|hashes| hashes.get(..width)) {
            Some(hashes) => Ok(hashes.to_vec()),
            None => self.reader.read_tile(id),
        }
    }
}
