//! Why the recorder refused or failed.

use std::path::PathBuf;

use store::spool::SpoolError;

/// What went wrong, naming the culprit and, where there is one, the way out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// A value in the configuration.
    #[error("{field}: {reason}")]
    Config {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A statement that no verifier would accept; it was not signed.
    #[error("the statement cannot be signed: {0}")]
    Statement(#[from] record::Error),
    /// A statement filed under another number than its own.
    #[error("the statement says {found}, its number is {leased}")]
    OtherNumber {
        /// Stream and number in the statement.
        found: String,
        /// Stream and number that were leased.
        leased: String,
    },
    /// No number became available in time.
    #[error("no number for {stream} within {waited_ms} ms: {reason}")]
    NoNumber {
        /// Name of the stream.
        stream: String,
        /// How long it waited, ms.
        waited_ms: u64,
        /// Why.
        reason: String,
    },
    /// What the spool holds does not hold together.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    /// The random source failed.
    #[error("the random source of this machine failed")]
    NoRandomness,
    /// The recorder was closed, or the task was cut off.
    #[error("the recorder is closed")]
    Closed,
}

/// What sort of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The configuration or a file must be changed.
    Setup,
    /// The program asked for something impossible.
    Usage,
    /// Disk, clock or randomness of this machine.
    Machine,
}

impl RecorderError {
    /// The coarse kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            RecorderError::Config { .. }
            | RecorderError::File { .. }
            | RecorderError::Spool(SpoolError::Unusable { .. }) => ErrorKind::Setup,
            RecorderError::Statement(_)
            | RecorderError::OtherNumber { .. }
            | RecorderError::Closed => ErrorKind::Usage,
            RecorderError::Spool(_)
            | RecorderError::NoNumber { .. }
            | RecorderError::Damaged(_)
            | RecorderError::NoRandomness => ErrorKind::Machine,
        }
    }
}
