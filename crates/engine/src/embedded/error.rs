//! Errors about model files: which file, what is wrong with it, and the way out.

use std::path::{Path, PathBuf};

/// What sort of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// The file cannot be read or written.
    Io,
    /// This is no GGUF file.
    NotGguf,
    /// It is one, but broken: cut short, or its numbers contradict each other.
    Damaged,
    /// It is over a limit of this engine.
    TooLarge,
    /// It is whole, but of a sort that this engine does not run.
    Unsupported,
    /// The file does not hold what was asked of it.
    Unusable,
}

/// A model file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ModelError {
    /// The file.
    pub path: PathBuf,
    /// The sort of trouble.
    pub kind: ModelErrorKind,
    /// What is wrong, and the way out.
    pub problem: String,
}

/// A problem whose file is added by whoever knows it.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: ModelErrorKind,
    text: String,
}

impl Problem {
    pub(crate) fn new(kind: ModelErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    pub(crate) fn damaged(text: impl Into<String>) -> Self {
        Self::new(ModelErrorKind::Damaged, text)
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(ModelErrorKind::Unsupported, text)
    }

    pub(crate) fn too_large(text: impl Into<String>) -> Self {
        Self::new(ModelErrorKind::TooLarge, text)
    }

    pub(crate) fn at(self, path: &Path) -> ModelError {
        ModelError {
            path: path.to_owned(),
            kind: self.kind,
            problem: self.text,
        }
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Self::damaged("the file ends too early; download or copy it again");
        }
        Self::new(ModelErrorKind::Io, error.to_string())
    }
}

/// Errors of candle on tensors that were checked beforehand: the file is at fault all the same.
impl From<candle_core::Error> for Problem {
    fn from(error: candle_core::Error) -> Self {
        Self::damaged(format!("a tensor cannot be used: {error}"))
    }
}
