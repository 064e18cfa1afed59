//! How far an interrupted check has come, kept in a file outside the log.
//!
//! Kept after every step, at the end of a full bundle. It is a convenience, not evidence: whoever
//! does not trust the file starts without it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tlog::checkpoint::Checkpoint;
use tlog::growth::Edge;
use tlog::note::NoteVerifier;
use tlog::proof::{TreeView, prefix_roots};

use super::FsckError;
use super::span::SpanFacts;
use crate::reader::LogReader;

const VERSION: u32 = 1;

/// What was found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) bodies: u64,
    pub(super) bodies_erased: u64,
    pub(super) signatures: u64,
    pub(super) tiles: u64,
}

impl Counts {
    pub(super) fn add(&mut self, facts: &SpanFacts) {
        self.bodies += facts.bodies;
        self.bodies_erased += facts.erased;
        self.signatures += facts.signatures;
    }
}

/// A check under way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    longrun_fsck: u32,
    /// The log's verifier key.
    log: String,
    /// Whether every body's signature was verified.
    with_signatures: bool,
    pub(super) edge: Edge,
    pub(super) counts: Counts,
}

impl Kept {
    pub(super) fn new(log: &NoteVerifier, with_signatures: bool) -> Self {
        Self {
            longrun_fsck: VERSION,
            log: log.to_vkey(),
            with_signatures,
            edge: Edge::empty(),
            counts: Counts::default(),
        }
    }

    /// The check of this log that was interrupted; `None` if there was none, or one of another log or
    /// one that looked at less.
    pub(super) fn load(
        path: &Path,
        log: &NoteVerifier,
        with_signatures: bool,
    ) -> Result<Option<Self>, FsckError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(path, &error)),
        };
        let kept: Self = serde_json::from_slice(&bytes).map_err(|error| {
            unusable(
                path,
                &format!("not the state of a check ({error}); remove it or name another"),
            )
        })?;
        let same = kept.longrun_fsck == VERSION
            && kept.log == log.to_vkey()
            && kept.with_signatures == with_signatures;
        Ok(Some(kept).filter(|_| same))
    }

    /// Whether what was checked is the beginning of what the log has signed now.
    pub(super) fn still_holds(&self, reader: &LogReader, checkpoint: &Checkpoint) -> bool {
        let (done, size) = (self.edge.size(), checkpoint.size);
        if done == 0 || done >= size || done % u64::from(tlog::tile::WIDTH) != 0 {
            return false;
        }
        let proof = TreeView::new(reader, size).prefix(done);
        let roots = proof
            .ok()
            .and_then(|proof| prefix_roots(done, size, &proof).ok());
        roots == Some((self.edge.root(), checkpoint.root))
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), FsckError> {
        let bytes = serde_json::to_vec(self).map_err(|error| unusable(path, &error))?;
        store::local::replace_file(path, &bytes).map_err(|error| unusable(path, &error))
    }
}

/// Removes the state of a check that is complete.
pub(super) fn remove(path: &Path) -> Result<(), FsckError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(path, &error)),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> FsckError {
    FsckError::Unusable(format!("{}: {reason}", path.display()))
}
