//! Where bytes live: memory that can be told to fail, and local files with SQLite.
//!
//! Two small contracts carry a log. [`Blobs`] holds files that never change once written (and one
//! that does, the checkpoint). [`Heads`] holds one value that is swapped atomically: the commit
//! point. Anything that keeps these two promises can hold a log; one suite of tests, run over every
//! backend, checks that it does. Nothing here knows what the bytes mean.

#[cfg(test)]
mod conformance;
pub mod error;
pub mod local;
pub mod memory;
pub mod seen;
pub mod spool;
pub mod sqlite;

pub use error::{Error, ErrorKind, Result};

/// Bytes of the longest path that [`Blobs`] takes.
pub const PATH_BYTES_MAX: usize = 512;

/// Files under relative paths.
///
/// Paths are segments of `a-z A-Z 0-9 . _ -` joined by `/`, none of them starting with a dot.
/// Every method may be called from several threads.
pub trait Blobs: Send + Sync {
    /// Writes a file that never changes afterwards.
    ///
    /// When this returns `Ok`, the file is durable (it survives loss of power) and complete; a
    /// reader, or a process that starts after a crash at any moment, sees all of it or none. If
    /// the path already holds the same bytes, that is a success. After an error the file may or
    /// may not be there, but never in part.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the path holds other bytes, which then stay; otherwise the
    /// backend's own failure.
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// Writes several files as [`Blobs::put_new`] does. When this returns `Ok`, all are durable;
    /// after an error, any of them may be.
    ///
    /// # Errors
    /// As [`Blobs::put_new`].
    fn put_new_all(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        files
            .iter()
            .try_for_each(|(path, bytes)| self.put_new(path, bytes))
    }

    /// Writes a file, replacing what was there. Durable and atomic as [`Blobs::put_new`]: a reader
    /// sees the old bytes or the new ones.
    ///
    /// # Errors
    /// The backend's failure.
    fn put_replace(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// The whole file, or `None` if there is none.
    ///
    /// # Errors
    /// The backend's failure.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>>;

    /// Removes a file. That it was not there is no error. Need not be durable.
    ///
    /// # Errors
    /// The backend's failure.
    fn delete(&self, path: &str) -> Result<()>;

    /// The paths of all files below a directory, sorted; empty if there is no such directory.
    ///
    /// # Errors
    /// The backend's failure.
    fn list(&self, directory: &str) -> Result<Vec<String>>;
}

/// One value that changes only by compare-and-swap. Loads and swaps are serializable: there is one
/// order of all successful swaps, each sees the value that the one before it left, and a load sees
/// the last one that finished.
pub trait Heads: Send + Sync {
    /// The value, or `None` before the first swap.
    ///
    /// # Errors
    /// The backend's failure.
    fn load(&self) -> Result<Option<Vec<u8>>>;

    /// Replaces `old` (`None`: no value yet) by `new`. When this returns `Ok`, the change is
    /// durable.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the value is not `old`; nothing was changed. After any other
    /// error the caller cannot know whether the swap happened and must load again.
    fn swap(&self, old: Option<&[u8]>, new: &[u8]) -> Result<()>;
}

/// The most recent entries by their ids: an index that can always be rebuilt from the log, so it
/// may lose its end but must never hold anything false.
pub trait Seen: Send {
    /// Entries 0 up to this number have been recorded (the oldest may have been dropped since).
    ///
    /// # Errors
    /// The backend's failure.
    fn covered(&self) -> Result<u64>;

    /// The index of the entry with this id, if it is among the last [`Seen::window`] recorded.
    ///
    /// # Errors
    /// The backend's failure.
    fn find(&self, id: &[u8; 32]) -> Result<Option<u64>>;

    /// Records the ids of the entries from `first` on, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] unless `first` is [`Seen::covered`]; otherwise the backend's
    /// failure.
    fn extend(&mut self, first: u64, ids: &[[u8; 32]]) -> Result<()>;

    /// Forgets everything and goes on from `covered`.
    ///
    /// # Errors
    /// The backend's failure.
    fn restart(&mut self, covered: u64) -> Result<()>;

    /// How many of the latest entries are kept.
    fn window(&self) -> u64;
}

impl<B: Blobs + ?Sized> Blobs for std::sync::Arc<B> {
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        (**self).put_new(path, bytes)
    }
    fn put_new_all(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        (**self).put_new_all(files)
    }
    fn put_replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        (**self).put_replace(path, bytes)
    }
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        (**self).read(path)
    }
    fn delete(&self, path: &str) -> Result<()> {
        (**self).delete(path)
    }
    fn list(&self, directory: &str) -> Result<Vec<String>> {
        (**self).list(directory)
    }
}

/// Refuses paths that could leave the directory or that other backends could not hold.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = path.len() <= PATH_BYTES_MAX
        && path.split('/').all(|segment| {
            !segment.is_empty() && !segment.starts_with('.') && segment.chars().all(plain)
        });
    if good {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::Refused,
            format!("`{path}` is not a path that a store takes"),
        ))
    }
}
