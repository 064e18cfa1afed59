//! Digests of large files, remembered.
//!
//! A remembered digest is used again only if path, length, time of the last change (ns) and inode
//! are those it was computed at, and if that change was at least two seconds before the digest was
//! begun: a file that is written to within the clock's grain of being read would look unchanged.
//! Whoever sets a file's time back on purpose deceives this rule; delete the cache, or keep none,
//! where that matters.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::progress::{Progress, Tell};

/// How old a file's last change must be to be remembered.
const SETTLED: Duration = Duration::from_secs(2);
/// Files below this are digested anew each time.
const REMEMBERED_FROM_BYTES: u64 = 1 << 20;
/// Most digests that are remembered.
const REMEMBERED_MAX: usize = 4096;

/// Remembered digests and the file they are kept in.
#[derive(Debug)]
pub struct DigestCache {
    file: Option<PathBuf>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    bytes: u64,
    changed_s: i64,
    changed_ns: i64,
    inode: u64,
    sha256: [u8; 32],
}

impl Entry {
    fn is_of(&self, path: &Path, metadata: &Metadata) -> bool {
        self.path == path
            && self.bytes == metadata.len()
            && self.changed_s == metadata.mtime()
            && self.changed_ns == metadata.mtime_nsec()
            && self.inode == metadata.ino()
    }
}

impl DigestCache {
    /// Remembers nothing.
    pub fn none() -> Self {
        Self {
            file: None,
            entries: Vec::new(),
        }
    }

    /// What is remembered in `file`. One that is missing or unreadable remembers nothing.
    pub fn open(file: &Path) -> Self {
        let entries = std::fs::read(file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            file: Some(file.to_owned()),
            entries,
        }
    }

    /// SHA-256 of a file, remembered or computed.
    ///
    /// # Errors
    /// The file cannot be read, or changed while it was.
    pub fn digest(&mut self, path: &Path, tell: Tell<'_>) -> std::io::Result<[u8; 32]> {
        let path = &std::fs::canonicalize(path)?;
        let file = File::open(path)?;
        let before = file.metadata()?;
        if let Some(known) = self.entries.iter().find(|it| it.is_of(path, &before)) {
            return Ok(known.sha256);
        }
        let begun = SystemTime::now();
        let sha256 = digest(&file, path, before.len(), tell)?;
        let fresh = Entry {
            path: path.clone(),
            bytes: before.len(),
            changed_s: before.mtime(),
            changed_ns: before.mtime_nsec(),
            inode: before.ino(),
            sha256,
        };
        if !fresh.is_of(path, &file.metadata()?) {
            return Err(std::io::Error::other(
                "the file changed while it was read; wait until it is written and start again",
            ));
        }
        let settled = before
            .modified()
            .is_ok_and(|at| begun.duration_since(at).is_ok_and(|age| age >= SETTLED));
        if settled && before.len() >= REMEMBERED_FROM_BYTES {
            self.remember(fresh);
        }
        Ok(sha256)
    }

    fn remember(&mut self, entry: Entry) {
        self.entries.retain(|old| old.path != entry.path);
        self.entries.push(entry);
        let over = self.entries.len().saturating_sub(REMEMBERED_MAX);
        self.entries.drain(..over);
        let Some(file) = &self.file else {
            return;
        };
        // A digest that is not remembered is computed again; no more is lost.
        if let Err(error) = write(file, &self.entries) {
            tracing::warn!(file = %file.display(), %error, "a digest could not be remembered");
        }
    }
}

fn write(file: &Path, entries: &[Entry]) -> std::io::Result<()> {
    let beside = file.with_extension(format!("{}.partial", std::process::id()));
    if let Some(parent) = file.parent() {
        // It is the node's own directory, which has its keys later.
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(parent)?;
    }
    std::fs::write(&beside, serde_json::to_vec(entries)?)?;
    std::fs::rename(&beside, file)
}

fn digest(
    mut file: &File,
    path: &Path,
    total_bytes: u64,
    tell: Tell<'_>,
) -> std::io::Result<[u8; 32]> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = vec![0u8; 1 << 20];
    let mut done_bytes = 0;
    loop {
        tell(Progress {
            doing: "digesting",
            name: &name,
            done_bytes,
            total_bytes,
        });
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        context.update(&piece[..count]);
        done_bytes += count as u64;
    }
    let digest = context.finish();
    Ok(digest.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
}
