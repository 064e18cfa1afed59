//! One error for every backend: a coarse kind that says what the caller can do, and words.

use std::fmt;

/// What a store answers.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something else is there already; retrying as is will not help.
    Conflict,
    /// The store may not be used like this: foreign directory, another version, read-only.
    Refused,
    /// Another process holds it.
    Locked,
    /// The backend failed; the operation may or may not have happened.
    Unavailable,
    /// What is stored is not what was written.
    Corrupt,
}

/// A store's failure.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// A failure of the backend while doing something.
    pub fn unavailable(
        doing: impl fmt::Display,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            message: format!("{doing}: {source}"),
            source: Some(Box::new(source)),
        }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
