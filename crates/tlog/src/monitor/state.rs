//! What a monitor keeps of a log between runs, in JSON. The caller makes it durable.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Contradicted, Followed, WitnessMark};
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::growth::Edge;
use crate::note::NoteVerifier;
use crate::shard::{Link, LinkError};

const VERSION: u32 = 1;

/// Why kept state cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Not of this form.
    #[error("it is damaged: {0}")]
    Malformed(String),
    /// It is about another log or another key of it.
    #[error("it is about {0}")]
    OtherLog(String),
    /// A checkpoint in it does not hold.
    #[error("a checkpoint in it does not hold: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The end of the log in it does not hold.
    #[error(transparent)]
    End(#[from] LinkError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    longrun_monitor: u32,
    log: String,
    latest: Option<String>,
    rebuilt: Edge,
    unproven: Vec<String>,
    contradicted: Vec<Contradicted>,
    witnesses: BTreeMap<String, WitnessMark>,
    /// The file, as the log serves it.
    #[serde(default)]
    end: Option<String>,
}

impl Followed {
    /// The state to keep.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let note = |signed: &SignedCheckpoint| signed.note().to_string();
        let kept = Kept {
            longrun_monitor: VERSION,
            log: self.key.to_vkey(),
            latest: self.latest.as_ref().map(note),
            rebuilt: self.rebuilt.clone(),
            unproven: self.unproven.iter().map(note).collect(),
            contradicted: self.contradicted.clone(),
            witnesses: self.witnesses.clone(),
            end: self
                .end
                .as_ref()
                .map(|end| String::from_utf8_lossy(&end.to_bytes()).into_owned()),
        };
        // Strings, numbers and hashes can always be written.
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    /// Reads kept state of the log with this key.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn parse(bytes: &[u8], key: &NoteVerifier) -> Result<Self, StateError> {
        let kept: Kept = serde_json::from_slice(bytes)
            .map_err(|error| StateError::Malformed(error.to_string()))?;
        if kept.longrun_monitor != VERSION {
            return Err(StateError::Malformed(format!(
                "version {}; this program reads {VERSION}",
                kept.longrun_monitor
            )));
        }
        if kept.log != key.to_vkey() {
            return Err(StateError::OtherLog(kept.log));
        }
        let open = |note: &String| SignedCheckpoint::open(note.as_bytes(), key);
        let latest = kept.latest.as_ref().map(open).transpose()?;
        let size = latest.as_ref().map_or(0, |l| l.checkpoint().size);
        if kept.rebuilt.size() > size {
            return Err(StateError::Malformed(
                "it rebuilt more than was signed".to_owned(),
            ));
        }
        Ok(Self {
            key: key.clone(),
            latest,
            rebuilt: kept.rebuilt,
            unproven: kept
                .unproven
                .iter()
                .map(open)
                .collect::<Result<Vec<_>, _>>()?,
            contradicted: kept.contradicted,
            witnesses: kept.witnesses,
            end: kept
                .end
                .map(|end| Link::parse(end.as_bytes()))
                .transpose()?,
        })
    }
}
