//! A file that only grows, and that one process has to itself: what journals are kept in.
//!
//! What was appended whole stays; a piece that could not be written to its end, by this process or by
//! one that was killed, is cut off before anything follows it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: another gateway keeps this journal; give each its own directory", .0.display())]
    Taken(PathBuf),
}

/// A file, open for more.
#[derive(Debug)]
pub(crate) struct AppendFile {
    file: File,
    path: PathBuf,
    /// Bytes that count.
    length: u64,
    /// Behind them may be a piece of something.
    is_torn: bool,
}

impl AppendFile {
    /// Opens the file, or makes it, readable by its owner alone; it is this process's from here on.
    /// All of it counts until [`AppendFile::cut`] says otherwise.
    pub(crate) fn open(path: &Path) -> Result<Self, AppendError> {
        let failed = |source| AppendError::File {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(AppendError::Taken(path.to_owned()));
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let length = file.metadata().map_err(failed)?.len();
        Ok(Self {
            file,
            path: path.to_owned(),
            length,
            is_torn: false,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that count.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The file, to be read from its beginning.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Only the first `length` bytes count.
    pub(crate) fn cut(&mut self, length: u64) -> Result<(), AppendError> {
        if length < self.length || self.is_torn {
            self.length = length;
            self.is_torn = true;
            self.mend().map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Appends all of it. After an error nothing of it counts.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let written = self.mend().and_then(|()| self.file.write_all(bytes));
        match written {
            Ok(()) => self.length += bytes.len() as u64,
            Err(source) => {
                self.is_torn = self.file.set_len(self.length).is_err();
                return Err(self.failed(source));
            }
        }
        Ok(())
    }

    /// What was appended is on the disk once this returns.
    pub(crate) fn sync(&self) -> Result<(), AppendError> {
        self.file.sync_data().map_err(|source| self.failed(source))
    }

    /// A piece that could not be cut off before must not be in front of what follows.
    fn mend(&mut self) -> std::io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> AppendError {
        AppendError::File {
            path: self.path.clone(),
            source,
        }
    }
}
