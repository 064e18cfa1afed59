//! One run of 256 entries: leaves against their tile, bodies against their leaves.

use record::leaf::{Leaf, leaf_hash};
use record::{Digest, Envelope};
use tlog::tile::{Resource, Span, TileId, TileReader as _};

use super::{FsckError, bad, entries};
use crate::reader::LogReader;

/// What was found in a run.
pub(super) struct SpanFacts {
    pub(super) hashes: Vec<Digest>,
    pub(super) bodies: u64,
    pub(super) erased: u64,
    pub(super) signatures: u64,
}

pub(super) fn check_span(
    reader: &LogReader,
    span: Span,
    signatures: bool,
) -> Result<SpanFacts, FsckError> {
    let leaves = reader.entries(span)?;
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let tile = TileId { level: 0, span };
    let found = reader.read_tile(tile).map_err(|error| bad(tile, error))?;
    if let Some(at) = hashes
        .iter()
        .zip(&found)
        .position(|(ours, theirs)| ours != theirs)
    {
        let reason = format!("entry {at} of it does not hash to what {tile} says");
        return Err(bad(entries(span), reason));
    }
    let bodies = reader.bodies(span)?;
    let mut facts = SpanFacts {
        hashes,
        bodies: 0,
        erased: 0,
        signatures: 0,
    };
    for (at, (leaf, body)) in leaves.iter().zip(bodies).enumerate() {
        let Some(body) = body else {
            facts.erased += 1;
            continue;
        };
        check_body(span, at, leaf, body, signatures)?;
        facts.bodies += 1;
        facts.signatures += u64::from(signatures);
    }
    Ok(facts)
}

fn check_body(
    span: Span,
    at: usize,
    leaf: &[u8],
    body: Vec<u8>,
    signatures: bool,
) -> Result<(), FsckError> {
    let in_entries = |error: record::Error| bad(entries(span), format!("entry {at}: {error}"));
    let in_bodies = |reason: String| bad(Resource::Bodies(span), format!("body {at} {reason}"));
    let leaf = Leaf::parse(leaf).map_err(in_entries)?;
    let envelope = Envelope::new(body, leaf.signature.clone()).map_err(in_entries)?;
    if envelope.record_id() != leaf.record_id {
        return Err(in_bodies("is not what its leaf commits to".to_owned()));
    }
    if signatures {
        envelope
            .verify(&leaf.key)
            .map_err(|error| in_bodies(format!(": {error}")))?;
    }
    Ok(())
}
