//! Model files from a Hugging Face hub, over plain HTTPS.
//!
//! A file is named as `REPO[:FILE][@REVISION]`. The revision is pinned to a commit before anything is
//! fetched; the hub states length and SHA-256 of the file (`x-linked-size`, `x-linked-etag`), and only
//! a file that has both gets its name in the cache, in one rename. What is not complete stays beside
//! it and is gone on with (`Range`). A file of an architecture that the embedded engine does not run
//! is refused after its first [`PEEK_BYTES`].
//!
//! A token goes to the hub's own origin alone, never along a redirect to another (the hub's storage
//! has signed addresses and needs none).
//!
//! Limits: GGUF files in one piece; files that the hub keeps without a SHA-256 are refused; one
//! process at a time downloads a file.
//!
//! The endpoints are those of `huggingface_hub`
//! (<https://huggingface.co/docs/hub/api>, `file_download.py`, `get_hf_file_metadata`).

mod error;
mod place;
mod request;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;

pub use error::HubError;
pub use place::HubFile;

use crate::embedded::gguf::architecture_so_far;
use crate::embedded::llama::Architecture;
use crate::http::Client;
use crate::progress::{Progress, Tell};
use crate::weights::DigestCache;
use request::{Head, Requests};

/// The hub itself.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Bytes of a file that are looked at before the rest is fetched.
pub const PEEK_BYTES: u64 = 1 << 20;
/// Times a broken transfer is taken up again without having got further.
pub const RETRIES: u32 = 5;

/// A hub, and where its files are kept.
pub struct Hub {
    requests: Requests,
    cache: PathBuf,
    /// Wait before a broken transfer is taken up again; doubles each time.
    backoff: Duration,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where.
    pub path: PathBuf,
    /// `hf:REPO:FILE@COMMIT`.
    pub source: String,
    /// Whether the hub could not be asked and a copy from before was taken.
    pub offline: bool,
}

impl Hub {
    /// The hub at `endpoint`, with the cache at `cache`.
    ///
    /// # Errors
    /// The endpoint is no http or https URL, or the token cannot be a header.
    pub fn new(
        endpoint: &str,
        token: Option<&str>,
        client: Client,
        cache: PathBuf,
    ) -> Result<Hub, HubError> {
        Ok(Hub {
            requests: Requests::new(endpoint, token, client)?,
            cache,
            backoff: Duration::from_secs(1),
        })
    }

    /// Another wait before a broken transfer is taken up again.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Duration) -> Hub {
        self.backoff = backoff;
        self
    }

    /// Gets a file, from the cache or from the hub.
    ///
    /// # Errors
    /// [`HubError`] says what to do.
    pub async fn fetch(&self, wanted: &HubFile, tell: Tell<'_>) -> Result<Fetched, HubError> {
        if wanted.is_pinned()
            && let Some(kept) = self.kept(wanted, false)
        {
            return Ok(kept);
        }
        let pinned = match self.requests.pin(wanted).await {
            Ok(pinned) => pinned,
            Err(error) if error.is_offline() => {
                return self.kept(wanted, true).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let path = pinned.path_in(&self.cache);
        if !path.exists() {
            self.download(&pinned, &path, tell).await?;
        }
        self.remember(wanted, &pinned)?;
        Ok(Fetched {
            source: pinned.source(),
            path,
            offline: false,
        })
    }

    /// The copy that was last fetched for these words, if it is still there.
    fn kept(&self, wanted: &HubFile, offline: bool) -> Option<Fetched> {
        let pinned = if wanted.is_pinned() {
            wanted.clone()
        } else {
            let remembered = std::fs::read_to_string(wanted.memory_in(&self.cache)).ok()?;
            remembered.trim().parse().ok()?
        };
        let path = pinned.path_in(&self.cache);
        path.exists().then(|| Fetched {
            source: pinned.source(),
            path,
            offline,
        })
    }

    /// Notes what these words meant, for when the hub cannot be asked.
    fn remember(&self, wanted: &HubFile, pinned: &HubFile) -> Result<(), HubError> {
        let note = wanted.memory_in(&self.cache);
        let beside = note.with_extension(format!("{}.partial", std::process::id()));
        std::fs::write(&beside, pinned.to_string())
            .and_then(|()| std::fs::rename(&beside, &note))
            .map_err(|error| HubError::disk(&note, 0, error))
    }

    async fn download(
        &self,
        pinned: &HubFile,
        path: &Path,
        tell: Tell<'_>,
    ) -> Result<(), HubError> {
        let head = self.requests.head(pinned).await?;
        let directory = path.parent().unwrap_or(&self.cache);
        let disk = |error| HubError::disk(directory, head.bytes, error);
        std::fs::create_dir_all(directory).map_err(disk)?;
        let partial = path.with_extension("gguf.partial");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&partial)
            .map_err(disk)?;
        if file.try_lock().is_err() {
            return Err(HubError::Busy { path: partial });
        }
        if file.metadata().map_err(disk)?.len() > head.bytes {
            file.set_len(0).map_err(disk)?;
        }
        for until in [PEEK_BYTES.min(head.bytes), head.bytes] {
            self.fill(pinned, &head, until, &mut file, &mut *tell, &disk)
                .await?;
            refuse_unknown(pinned, &file, &partial)?;
        }
        file.sync_all().map_err(disk)?;
        check(pinned, &head, &partial, tell)?;
        std::fs::rename(&partial, path).map_err(disk)?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(disk)
    }

    /// Fetches until the file has `until` bytes, taking up what breaks off.
    async fn fill(
        &self,
        pinned: &HubFile,
        head: &Head,
        until: u64,
        file: &mut File,
        tell: Tell<'_>,
        disk: &(dyn Fn(std::io::Error) -> HubError + Sync),
    ) -> Result<(), HubError> {
        let mut tries = 0;
        let mut wait = self.backoff;
        let mut furthest = 0;
        loop {
            let length = file.metadata().map_err(disk)?.len();
            if length >= until {
                return Ok(());
            }
            furthest = furthest.max(length);
            let part = self.part(pinned, head, until, file, &mut *tell, disk).await;
            let error = match part {
                Ok(()) => continue,
                Err(error) if error.is_worth_retrying() => error,
                Err(error) => return Err(error),
            };
            // A server without ranges begins anew each time: only bytes never had before count.
            if file.metadata().map_err(disk)?.len() > furthest {
                (tries, wait) = (0, self.backoff);
            }
            tries += 1;
            if tries > RETRIES {
                return Err(error);
            }
            tracing::warn!(%error, "a download broke off and is taken up again");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// Fetches what is missing, as far as one answer goes.
    async fn part(
        &self,
        pinned: &HubFile,
        head: &Head,
        until: u64,
        file: &mut File,
        tell: Tell<'_>,
        disk: &(dyn Fn(std::io::Error) -> HubError + Sync),
    ) -> Result<(), HubError> {
        let mut done_bytes = file.metadata().map_err(disk)?.len();
        let answer = self.requests.range(pinned, done_bytes, until).await;
        let answer = answer.map_err(|error| error.during(pinned))?;
        if answer.starts_at != done_bytes {
            // The server knows no ranges and begins anew.
            file.set_len(0).map_err(disk)?;
            file.seek(SeekFrom::Start(0)).map_err(disk)?;
            done_bytes = 0;
        }
        let mut body = answer.body;
        while done_bytes < until {
            let frame = tokio::time::timeout(request::IDLE, body.frame()).await;
            let Some(frame) = frame.map_err(|_| HubError::stalled(pinned))? else {
                return Err(HubError::cut(pinned, done_bytes, head.bytes));
            };
            let frame = frame.map_err(|_| HubError::cut(pinned, done_bytes, head.bytes))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let room = usize::try_from(until - done_bytes).unwrap_or(usize::MAX);
            let data = &data[..data.len().min(room)];
            file.write_all(data).map_err(disk)?;
            done_bytes += data.len() as u64;
            tell(Progress {
                doing: "downloading",
                name: pinned.file_name(),
                done_bytes,
                total_bytes: head.bytes,
            });
        }
        Ok(())
    }
}

/// Refuses what the engine would not run, before the rest of it is fetched. What the beginning does
/// not say yet is left to the engine.
fn refuse_unknown(pinned: &HubFile, file: &File, partial: &Path) -> Result<(), HubError> {
    let mut reader = file;
    let said = reader
        .seek(SeekFrom::Start(0))
        .ok()
        .and_then(|_| architecture_so_far(file));
    match said {
        Some(name) if Architecture::by_name(&name).is_none() => {
            // Nobody will go on with it.
            let _ = std::fs::remove_file(partial);
            Err(HubError::Architecture {
                file: pinned.to_string(),
                name,
            })
        }
        _ => Ok(()),
    }
}

/// Holds a complete file against what the hub says of it; one that differs is removed.
fn check(pinned: &HubFile, head: &Head, partial: &Path, tell: Tell<'_>) -> Result<(), HubError> {
    let got = DigestCache::none()
        .digest(partial, tell)
        .map_err(|error| HubError::disk(partial, head.bytes, error))?;
    if got == head.sha256 {
        return Ok(());
    }
    // Going on with it would never end well.
    let _ = std::fs::remove_file(partial);
    Err(HubError::digest(pinned, &head.sha256, &got))
}
