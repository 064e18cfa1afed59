//! A directory with a version and one owner.
//!
//! The first line of the file `VERSION` says what the directory is; an exclusive lock on that
//! same file says that somebody is at work in it. The lock belongs to the open file, so it goes
//! when the process goes, however that ends. A directory of another kind or version, one that is
//! not writable, and one that is held are refused, and nothing in them is touched.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::SpoolError;

/// Name of the file that carries version and lock.
pub const VERSION_FILE: &str = "VERSION";
/// How long to wait for the lock before the directory counts as in use.
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// How often to try meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// Longest version line that is read.
const VERSION_BYTES_MAX: u64 = 256;

/// A directory that this process holds until the claim is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Holds the lock.
    _version: File,
}

impl Claim {
    /// Takes the directory, creating it (mode 0700) and its `VERSION` if it is absent or empty.
    ///
    /// `version` is the whole content of `VERSION`, such as `"longrun signer 1\n"`.
    pub fn take(path: &Path, version: &str) -> Result<Claim, SpoolError> {
        let file = path.join(VERSION_FILE);
        let existing = match File::open(&file) {
            Ok(existing) => existing,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path, version)?;
                File::open(&file).map_err(|error| unusable(&file, &format!("{error}")))?
            }
            Err(error) => return Err(unusable(path, &format!("cannot be read: {error}"))),
        };
        let found = read_version(&existing).map_err(|error| unusable(&file, &error.to_string()))?;
        refuse_other(path, &found, version)?;
        lock(path, &existing)?;
        probe(path)?;
        Ok(Claim {
            path: path.to_owned(),
            _version: existing,
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Refuses a directory that [`Claim::take`] would refuse, as far as its files say without being taken or
/// changed. Whether there is one already: one that is absent or empty can be made.
pub fn check(path: &Path, version: &str) -> Result<bool, SpoolError> {
    let file = path.join(VERSION_FILE);
    let found = match File::open(&file) {
        Ok(existing) => read_version(&existing),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if path.exists() {
                refuse_occupied(path)?;
            }
            return Ok(false);
        }
        Err(error) => return Err(unusable(path, &format!("cannot be read: {error}"))),
    };
    let found = found.map_err(|error| unusable(&file, &error.to_string()))?;
    refuse_other(path, &found, version)?;
    Ok(true)
}

fn refuse_other(path: &Path, found: &str, version: &str) -> Result<(), SpoolError> {
    if found == version {
        return Ok(());
    }
    let why = format!(
        "holds {:?}, this program needs {:?}; use the program that made it, or another directory",
        found.trim_end(),
        version.trim_end()
    );
    Err(unusable(path, &why))
}

/// Refuses a directory without a `VERSION` in which there is something.
fn refuse_occupied(path: &Path) -> Result<(), SpoolError> {
    let mut entries =
        fs::read_dir(path).map_err(|error| unusable(path, &format!("cannot be read: {error}")))?;
    if entries.next().is_none() {
        return Ok(());
    }
    let why = "is not empty and has no VERSION file, so it belongs to something else; use another directory";
    Err(unusable(path, why))
}

/// Waits a moment: a process that is just ending, or that was forked and has not yet started its
/// own program, may hold the lock a little longer than it means to.
fn lock(path: &Path, file: &File) -> Result<(), SpoolError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(unusable(
                    path,
                    "is in use by another process; stop that one first",
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(unusable(path, &format!("cannot be locked: {error}")));
            }
        }
    }
}

fn create(path: &Path, version: &str) -> Result<(), SpoolError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| unusable(path, &format!("cannot be created: {error}")))?;
    refuse_occupied(path)?;
    // Whoever loses a race here finds the other's file when renaming over it: same content.
    let temporary = path.join(format!("{VERSION_FILE}.{}", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(version.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&temporary, path.join(VERSION_FILE)))
        .and_then(|()| File::open(path)?.sync_all());
    written.map_err(|error| unusable(path, &format!("cannot be written: {error}")))
}

fn read_version(file: &File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.take(VERSION_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// SQLite would only notice a read-only directory at its first write.
fn probe(path: &Path) -> Result<(), SpoolError> {
    let probe = path.join(".writable");
    File::create(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|error| unusable(path, &format!("is not writable: {error}")))
}

fn unusable(path: &Path, reason: &str) -> SpoolError {
    SpoolError::Unusable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
