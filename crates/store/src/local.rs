//! Files in a local directory, durable and atomic.
//!
//! A file is written under `tmp/`, flushed to the disk, moved to its place, and the directory that
//! holds it is flushed. A directory is ours if its `VERSION` file says so; one of another version,
//! foreign, read-only or held by another process is refused and left as it is. The lock is on the
//! `VERSION` file and goes with the process.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Blobs, Error, ErrorKind, Result, check_path};

#[cfg(test)]
mod tests;

/// File that says whose directory this is, and of which version.
const VERSION_FILE: &str = "VERSION";
/// Where files are written before they are moved to their place.
const TEMPORARY: &str = "tmp";
/// Bytes of the longest `VERSION` that is read.
const VERSION_BYTES_MAX: u64 = 256;

/// Files that are open at once when many are written.
const FILES_AT_ONCE: usize = 256;
/// Files that are flushed at once. A file system commits flushes that wait at the same time
/// together, so this costs little more than one.
const FLUSHES_AT_ONCE: usize = 8;

/// A local directory.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    /// Held for as long as this lives; `None` if opened for reading.
    lock: Option<File>,
    temporaries: AtomicU64,
}

impl Local {
    /// Opens the directory for reading and writing, making it if it does not exist or is empty.
    /// `version` is the content of its `VERSION` file, for example `longrun log 1\n`.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if it is another's, of another version or read-only,
    /// [`ErrorKind::Locked`] if another process has it; it is then left untouched.
    pub fn open(root: &Path, version: &str) -> Result<Self> {
        let name = root.display();
        let made = match fs::metadata(root) {
            Ok(found) => {
                check_writable(root, &found)?;
                found_version(root)?.is_some()
            }
            Err(error) if error.kind() == IoKind::NotFound => false,
            Err(error) => return Err(Error::unavailable(format_args!("opening {name}"), error)),
        };
        if !made {
            initialise(root, version)?;
        }
        check_version(root, version)?;
        let lock = lock(root)?;
        let local = Self {
            root: root.to_owned(),
            lock: Some(lock),
            temporaries: AtomicU64::new(0),
        };
        local.clear_temporaries()?;
        Ok(local)
    }

    /// Opens an existing directory for reading, without a lock. Writing is refused.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if there is no such directory, or another's or of another version.
    pub fn open_read(root: &Path, version: &str) -> Result<Self> {
        check_version(root, version)?;
        Ok(Self {
            root: root.to_owned(),
            lock: None,
            temporaries: AtomicU64::new(0),
        })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a temporary file, still to be flushed.
    fn draft(&self, bytes: &[u8]) -> Result<Draft> {
        if self.lock.is_none() {
            let message = format!("{} was opened for reading only", self.root.display());
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        Draft::write(self.root.join(TEMPORARY).join(number.to_string()), bytes)
    }

    /// Moves a temporary file to its place, making the directories above it. Returns the
    /// directories whose entries changed and must be flushed.
    fn place(&self, mut draft: Draft, path: &str) -> Result<BTreeSet<PathBuf>> {
        let target = self.root.join(path);
        let mut changed = BTreeSet::new();
        let fail = |error| Error::unavailable(format_args!("writing {}", target.display()), error);
        if let Some(parent) = target.parent() {
            if !parent.is_dir() {
                for directory in parent.ancestors().take_while(|a| !a.is_dir()) {
                    changed.extend(directory.parent().map(Path::to_owned));
                }
                private_directory()
                    .recursive(true)
                    .create(parent)
                    .map_err(fail)?;
            }
            changed.insert(parent.to_owned());
        }
        fs::rename(&draft.path, &target).map_err(fail)?;
        draft.is_placed = true;
        Ok(changed)
    }

    /// Whether the path already holds these bytes.
    fn holds(&self, path: &str, bytes: &[u8]) -> Result<bool> {
        match self.read(path)? {
            None => Ok(false),
            Some(found) if found == bytes => Ok(true),
            Some(_) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{} already holds something else",
                    self.root.join(path).display()
                ),
            )),
        }
    }

    /// Makes durable that a file is there, which an earlier attempt may have left undone.
    fn settle(&self, path: &str) -> Result<BTreeSet<PathBuf>> {
        let target = self.root.join(path);
        File::open(&target)
            .and_then(|file| file.sync_all())
            .map_err(|error| {
                Error::unavailable(format_args!("flushing {}", target.display()), error)
            })?;
        let above = target
            .ancestors()
            .skip(1)
            .take_while(|a| a.starts_with(&self.root));
        Ok(above.map(Path::to_owned).collect())
    }

    fn clear_temporaries(&self) -> Result<()> {
        let directory = self.root.join(TEMPORARY);
        let fail =
            |error| Error::unavailable(format_args!("opening {}", directory.display()), error);
        private_directory()
            .recursive(true)
            .create(&directory)
            .map_err(fail)?;
        for entry in fs::read_dir(&directory).map_err(fail)? {
            fs::remove_file(entry.map_err(fail)?.path()).map_err(fail)?;
        }
        Ok(())
    }
}

impl Blobs for Local {
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        check_path(path)?;
        let changed = if self.holds(path, bytes)? {
            self.settle(path)?
        } else {
            let draft = self.draft(bytes)?;
            draft.flush()?;
            self.place(draft, path)?
        };
        flush_directories(&changed)
    }

    fn put_new_all(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        let mut changed = BTreeSet::new();
        for files in files.chunks(FILES_AT_ONCE) {
            let mut drafts = Vec::new();
            for (path, bytes) in files {
                check_path(path)?;
                if self.holds(path, bytes)? {
                    changed.append(&mut self.settle(path)?);
                } else {
                    drafts.push((self.draft(bytes)?, path));
                }
            }
            flush_drafts(&drafts)?;
            for (draft, path) in drafts {
                changed.append(&mut self.place(draft, path)?);
            }
        }
        flush_directories(&changed)
    }

    fn put_replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        check_path(path)?;
        let draft = self.draft(bytes)?;
        draft.flush()?;
        flush_directories(&self.place(draft, path)?)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        check_path(path)?;
        let target = self.root.join(path);
        match fs::read(&target) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), IoKind::NotFound | IoKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(Error::unavailable(
                format_args!("reading {}", target.display()),
                error,
            )),
        }
    }

    fn delete(&self, path: &str) -> Result<()> {
        check_path(path)?;
        if self.lock.is_none() {
            let message = format!("{} was opened for reading only", self.root.display());
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let target = self.root.join(path);
        match fs::remove_file(&target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == IoKind::NotFound => Ok(()),
            Err(error) => Err(Error::unavailable(
                format_args!("removing {}", target.display()),
                error,
            )),
        }
    }

    fn list(&self, directory: &str) -> Result<Vec<String>> {
        check_path(directory)?;
        let mut files = Vec::new();
        let mut pending = vec![directory.to_owned()];
        while let Some(directory) = pending.pop() {
            let path = self.root.join(&directory);
            let fail =
                |error| Error::unavailable(format_args!("listing {}", path.display()), error);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == IoKind::NotFound => continue,
                Err(error) => return Err(fail(error)),
            };
            for entry in entries {
                let entry = entry.map_err(fail)?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let child = format!("{directory}/{name}");
                if entry.file_type().map_err(fail)?.is_dir() {
                    pending.push(child);
                } else {
                    files.push(child);
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// A temporary file. Unless it was moved to its place it goes with this: a full disk that kept every
/// failed attempt at writing would never have room again.
struct Draft {
    path: PathBuf,
    file: File,
    /// It lies where it belongs, and no more under its own name.
    is_placed: bool,
}

impl Draft {
    fn write(path: PathBuf, bytes: &[u8]) -> Result<Draft> {
        let fail = |path: &Path, error| {
            Error::unavailable(format_args!("writing {}", path.display()), error)
        };
        let opened = private_file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let draft = match opened {
            Ok(file) => Draft {
                path,
                file,
                is_placed: false,
            },
            Err(error) => return Err(fail(&path, error)),
        };
        let mut file = &draft.file;
        match file.write_all(bytes) {
            Ok(()) => Ok(draft),
            Err(error) => Err(fail(&draft.path, error)),
        }
    }

    fn flush(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| {
            Error::unavailable(format_args!("flushing {}", self.path.display()), error)
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed goes at the next opening.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn flush_drafts(drafts: &[(Draft, &String)]) -> Result<()> {
    let share = drafts.len().div_ceil(FLUSHES_AT_ONCE);
    if share == 0 {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let flush =
            |drafts: &[(Draft, &String)]| drafts.iter().try_for_each(|(draft, _)| draft.flush());
        let threads: Vec<_> = drafts
            .chunks(share)
            .map(|drafts| scope.spawn(move || flush(drafts)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let panicked = |_| Error::new(ErrorKind::Unavailable, "a thread panicked");
            thread.join().map_err(panicked)?
        })
    })
}

/// Writes a file beside a store, durably and atomically, readable by its owner alone. For small
/// files that people or other processes change while a store is in use.
///
/// # Errors
/// [`ErrorKind::Unavailable`].
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |error| Error::unavailable(format_args!("writing {}", path.display()), error);
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let write = || {
        let mut file = private_file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| {
        // What was written in part must not stay and fill the disk.
        let _ = fs::remove_file(&draft);
        fail(error)
    })?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    flush_directories(&parent.map(Path::to_owned).into_iter().collect())
}

/// Makes an absent or empty directory ours. The version file appears whole or not at all, and of
/// several processes that do this at once one makes it; whoever then gets the lock clears the
/// drafts of the others away.
fn initialise(root: &Path, version: &str) -> Result<()> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let fail = |error| Error::unavailable(format_args!("making {}", root.display()), error);
    let temporary = root.join(TEMPORARY);
    private_directory()
        .recursive(true)
        .create(&temporary)
        .map_err(fail)?;
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = temporary.join(format!("version-{}-{number}", std::process::id()));
    let make = || {
        let mut file = private_file().write(true).create_new(true).open(&draft)?;
        file.write_all(version.as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&draft, root.join(VERSION_FILE))?;
        fs::remove_file(&draft)
    };
    match make() {
        Ok(()) => {}
        // Somebody else was quicker, and perhaps has cleared our draft away already.
        Err(error) if matches!(error.kind(), IoKind::AlreadyExists | IoKind::NotFound) => {
            let _ = fs::remove_file(&draft);
        }
        Err(error) => return Err(fail(error)),
    }
    let mut changed = BTreeSet::from([root.to_owned()]);
    changed.extend(
        root.parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map(Path::to_owned),
    );
    flush_directories(&changed)
}

/// The version file's content; `None` if the directory is empty, as a crash while making it may
/// leave it.
///
/// # Errors
/// [`ErrorKind::Refused`] if there is something else in it.
fn found_version(root: &Path) -> Result<Option<String>> {
    let fail = |error| Error::unavailable(format_args!("opening {}", root.display()), error);
    match File::open(root.join(VERSION_FILE)) {
        Ok(file) => {
            let mut version = Vec::new();
            file.take(VERSION_BYTES_MAX)
                .read_to_end(&mut version)
                .map_err(fail)?;
            return Ok(Some(String::from_utf8_lossy(&version).into_owned()));
        }
        Err(error) if error.kind() == IoKind::NotFound => {}
        Err(error) if error.kind() == IoKind::NotADirectory => {
            let message = format!("{} is not a directory", root.display());
            return Err(Error::new(ErrorKind::Refused, message));
        }
        Err(error) => return Err(fail(error)),
    }
    for entry in fs::read_dir(root).map_err(fail)? {
        if entry.map_err(fail)?.file_name() != TEMPORARY {
            let message = format!(
                "{} has files in it and no {VERSION_FILE}; name an empty or a new directory",
                root.display()
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
    }
    Ok(None)
}

fn check_version(root: &Path, expected: &str) -> Result<()> {
    let name = root.display();
    let (wanted, message) = (expected.trim_end(), |found: &str| {
        let found = found.trim_end().escape_debug();
        format!(
            "{name} holds `{found}`, this program needs `{}`",
            expected.trim_end()
        )
    });
    match found_version(root) {
        Ok(Some(found)) if found == expected => Ok(()),
        Ok(Some(found)) => Err(Error::new(ErrorKind::Refused, message(&found))),
        Ok(None) => Err(Error::new(
            ErrorKind::Refused,
            format!("{name} is empty, expected `{wanted}`"),
        )),
        Err(error) if !root.exists() => Err(Error::new(
            ErrorKind::Refused,
            format!("there is no {name}: {error}"),
        )),
        Err(error) => Err(error),
    }
}

/// Refuses directories that nobody may write, also for the superuser, whom the system would let.
fn check_writable(root: &Path, found: &fs::Metadata) -> Result<()> {
    if found.is_dir() && found.permissions().readonly() {
        let message = format!(
            "{} is read-only; allow writing or name another",
            root.display()
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join(VERSION_FILE);
    let name = root.display();
    let file = File::open(&path)
        .map_err(|error| Error::unavailable(format_args!("opening {}", path.display()), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Locked,
            format!("{name} is in use by another process; stop it or name another directory"),
        )),
        Err(TryLockError::Error(error)) => {
            Err(Error::unavailable(format_args!("locking {name}"), error))
        }
    }
}

fn flush_directories(directories: &BTreeSet<PathBuf>) -> Result<()> {
    for directory in directories {
        File::open(directory)
            .and_then(|opened| opened.sync_all())
            .map_err(|error| {
                Error::unavailable(format_args!("flushing {}", directory.display()), error)
            })?;
    }
    Ok(())
}

/// Files only their owner can read.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Directories only their owner can enter.
fn private_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}
