//! Erasing bodies: the one change that a log allows to what it has written.
//!
//! A body's place in its bundle stays, with length 0. Leaves, tiles, proofs and checkpoints do not
//! change; readers and [`crate::fsck`] see that something was there and is gone.

use std::collections::BTreeMap;
use std::path::Path;

use store::Blobs as _;
use store::local::Local;
use tlog::bundle::{decode_bodies, encode_bodies};
use tlog::checkpoint::SignedCheckpoint;
use tlog::tile::{Resource, Span, WIDTH};

use crate::layout::{CHECKPOINT, LOG_VERSION, STAGING};

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// The directory cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log must be started and stopped first, or does not hold.
    #[error("nothing was erased: {0}")]
    NotNow(String),
    /// There is no such entry.
    #[error("nothing was erased: the log has {size} entries, there is no entry {index}")]
    NoSuchEntry {
        /// The entry.
        index: u64,
        /// Entries in the log.
        size: u64,
    },
}

/// Erases the bodies of these entries from a log that is not running. Returns how many were still
/// there.
///
/// # Errors
/// [`EraseError`]. If the store fails on the way, some of them may be gone; do it again.
pub fn erase(directory: &Path, entries: &[u64]) -> Result<u64, EraseError> {
    // Looked at without a lock first, so that a directory that is no log is not made into one.
    Local::open_read(directory, LOG_VERSION)?;
    let local = Local::open(directory, LOG_VERSION)?;
    if !local.list(STAGING)?.is_empty() {
        return Err(EraseError::NotNow(
            "a round is under way; start the log once, so that it is finished".to_owned(),
        ));
    }
    let note = local.read(CHECKPOINT)?.unwrap_or_default();
    let signed = SignedCheckpoint::parse(&note)
        .map_err(|error| EraseError::NotNow(format!("{CHECKPOINT}: {error}")))?;
    let size = signed.checkpoint().size;
    let mut by_bundle: BTreeMap<Span, Vec<u64>> = BTreeMap::new();
    for index in entries {
        let span = Span::of_leaf(*index, size).ok_or(EraseError::NoSuchEntry {
            index: *index,
            size,
        })?;
        by_bundle.entry(span).or_default().push(*index);
    }
    let mut erased = 0;
    for (span, entries) in by_bundle {
        erased += erase_in(&local, span, &entries)?;
    }
    Ok(erased)
}

fn erase_in(local: &Local, span: Span, entries: &[u64]) -> Result<u64, EraseError> {
    let path = Resource::Bodies(span).to_string();
    let bad = |reason: String| EraseError::NotNow(format!("{path}: {reason}"));
    let bytes = local
        .read(&path)?
        .ok_or_else(|| bad("it is missing".to_owned()))?;
    let mut bodies = decode_bodies(&bytes, span.width()).map_err(|error| bad(error.to_string()))?;
    let mut erased = 0;
    for index in entries {
        let at = usize::try_from(index % u64::from(WIDTH)).unwrap_or(usize::MAX);
        if bodies.get_mut(at).and_then(Option::take).is_some() {
            erased += 1;
        }
    }
    let bytes = encode_bodies(&bodies).map_err(|error| bad(error.to_string()))?;
    local.put_replace(&path, &bytes)?;
    // Narrower copies of the bundle that a crash may have left.
    let full = Resource::Bodies(Span::full(span.index()));
    for copy in local.list(&format!("{full}.p"))? {
        if copy != path {
            local.delete(&copy)?;
        }
    }
    Ok(erased)
}
