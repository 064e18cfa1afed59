//! Why a node does not start or stop as it should.

use std::net::SocketAddr;

use recorder::RecorderError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A value in the configuration.
    #[error("{field}: {reason}")]
    Config {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The address cannot be listened on.
    /// The message has the reason, so that it is no source of it.
    #[error("{}", engine::http::cannot_listen(*address, reason))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// Keys, spool or records.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// A manifest that no verifier would accept.
    #[error("the manifest of {model} cannot be signed: {reason}")]
    Manifest {
        /// Of which model.
        model: String,
        /// What is wrong.
        reason: String,
    },
}

/// What sort of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The configuration must be changed.
    Setup,
    /// This machine's disk or network.
    Machine,
}

impl NodeError {
    /// The coarse kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            NodeError::Config { .. } | NodeError::Listen { .. } | NodeError::Manifest { .. } => {
                ErrorKind::Setup
            }
            NodeError::Recorder(error) if error.kind() == recorder::ErrorKind::Setup => {
                ErrorKind::Setup
            }
            NodeError::Recorder(_) => ErrorKind::Machine,
        }
    }
}
