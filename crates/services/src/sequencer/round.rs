//! What a round makes: its files, and the tiles that proofs are made from.

use std::collections::HashMap;
use std::sync::Arc;

use record::Digest;
use tlog::bundle::{BundleError, encode_bodies, encode_entries};
use tlog::tile::{Resource, Span, Tile, TileError, TileId, TileReader, WIDTH};

use super::staging::StagedFile;
use crate::reader::LogReader;

/// The files of a round: changed tiles, and the bundles from the first incomplete one on.
pub(super) fn round_files(
    size_before: u64,
    tiles: &[Tile],
    entries: &[Vec<u8>],
    bodies: &[Option<Vec<u8>>],
) -> Result<Vec<StagedFile>, BundleError> {
    let mut files: Vec<StagedFile> = tiles
        .iter()
        .map(|tile| (tile.id.to_string(), tile.to_bytes()))
        .collect();
    let width = usize::from(WIDTH);
    let first = size_before / u64::from(WIDTH);
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
    Ok(files)
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
