//! One run of 256 entries: leaves against their tile, bodies against their leaves.

use record::envelope::pae;
use record::leaf::{Leaf, leaf_hash};
use record::{Digest, RecordId, sha256};
use tlog::bundle::{decode_bodies, decode_entries};
use tlog::tile::{Resource, Span, TileId, TileReader as _};

use super::{FsckError, bad};
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
    let (in_entries, in_bodies) = (Resource::Entries(span), Resource::Bodies(span));
    let bytes = reader.resource(in_entries)?;
    let leaves = decode_entries(&bytes, span.width()).map_err(|e| bad(&in_entries, &e))?;
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let tile = TileId { level: 0, span };
    let found = reader.read_tile(tile).map_err(|error| bad(&tile, &error))?;
    if let Some(at) = hashes
        .iter()
        .zip(&found)
        .position(|(ours, theirs)| ours != theirs)
    {
        let reason = format!("entry {at} of it does not hash to what {tile} says");
        return Err(bad(&in_entries, &reason));
    }
    let bytes = reader.resource(in_bodies)?;
    let bodies = decode_bodies(&bytes, span.width()).map_err(|e| bad(&in_bodies, &e))?;
    let mut facts = SpanFacts {
        hashes,
        bodies: 0,
        erased: 0,
        signatures: 0,
    };
    for (at, (leaf, body)) in leaves.iter().zip(bodies).enumerate() {
        let leaf = Leaf::parse(leaf)
            .map_err(|error| bad(&in_entries, &format!("entry {at} of it: {error}")))?;
        let Some(body) = body else {
            facts.erased += 1;
            continue;
        };
        let signed = pae(body);
        if RecordId::new(sha256(&signed)) != leaf.record_id {
            let reason = format!("body {at} of it is not what its leaf commits to");
            return Err(bad(&in_bodies, &reason));
        }
        facts.bodies += 1;
        if signatures {
            leaf.key
                .verify(&signed, &leaf.signature)
                .map_err(|error| bad(&in_bodies, &format!("body {at} of it: {error}")))?;
            facts.signatures += 1;
        }
    }
    Ok(facts)
}
