//! Why a file does not come, and what to do about it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::place::HubFile;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name, an endpoint or a token that is none.
    #[error("{0}")]
    Unusable(String),
    /// The hub, or its storage, cannot be reached.
    #[error(
        "{host} cannot be reached ({why}), and there is no copy in the cache; check the network, \
         set HF_ENDPOINT to a mirror, or give a file with --model"
    )]
    Offline {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// The hub does not give the file out.
    #[error("{0}")]
    Refused(String),
    /// The hub does not answer as a hub does.
    #[error("{0}")]
    Odd(String),
    /// Several files could be meant, or none.
    #[error("{0}")]
    Choice(String),
    /// The embedded engine does not run such a model.
    #[error(
        "{file} is of architecture `{name}`, which the embedded engine does not run; nothing more \
         of it was downloaded. Serve it with another engine and use --upstream"
    )]
    Architecture {
        /// Which.
        file: String,
        /// Its architecture.
        name: String,
    },
    /// The transfer broke off.
    #[error("{0}")]
    Broken(String),
    /// What came is not what the hub says it is.
    #[error("{0}")]
    Digest(String),
    /// The file cannot be kept.
    #[error("{0}")]
    Disk(String),
    /// Another process downloads it.
    #[error("another process is downloading {}; wait for it", path.display())]
    Busy {
        /// The incomplete file.
        path: PathBuf,
    },
}

impl HubError {
    /// Whether a copy from before is the best there is.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self, Self::Offline { .. })
    }

    /// Whether it may go better next time.
    pub(super) fn is_worth_retrying(&self) -> bool {
        matches!(self, Self::Broken(_))
    }

    pub(super) fn cut(file: &HubFile, done: u64, of: u64) -> Self {
        Self::Broken(format!(
            "the download of {file} broke off after {done} of {of} bytes; start again to go on \
             from there"
        ))
    }

    /// Of a hub that was there a moment ago.
    pub(super) fn during(self, file: &HubFile) -> Self {
        match self {
            Self::Offline { host, why } => Self::Broken(format!(
                "the download of {file} broke off ({host}: {why}); start again to go on from there"
            )),
            other => other,
        }
    }

    pub(super) fn stalled(file: &HubFile) -> Self {
        Self::Broken(format!(
            "the download of {file} stands still; start again to go on from there"
        ))
    }

    #[allow(clippy::needless_pass_by_value)] // for `map_err`
    pub(super) fn disk(place: &Path, needed_bytes: u64, error: std::io::Error) -> Self {
        let place = place.display();
        Self::Disk(match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!(
                "the disk is full at {place}: the whole file takes {needed_bytes} bytes. What is \
                 there is kept; make room, or set LONGRUN_CACHE to a directory on another disk, and \
                 start again"
            ),
            _ => format!(
                "{place} cannot be used as a cache: {error}; set LONGRUN_CACHE to another \
                 directory"
            ),
        })
    }

    pub(super) fn digest(file: &HubFile, stated: &[u8; 32], got: &[u8; 32]) -> Self {
        let hex = |bytes: &[u8; 32]| -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        Self::Digest(format!(
            "{file} has the SHA-256 {} and the hub says {}; it was removed. Start again; if it \
             happens twice, something between here and the hub changes files",
            hex(got),
            hex(stated)
        ))
    }
}
