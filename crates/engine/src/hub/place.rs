//! Names of files on a hub, and their places in the cache.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::HubError;

/// Which file: `REPO[:FILE][@REVISION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// `owner/name`.
    pub(super) repo: String,
    /// Path in the repository; absent: its only GGUF file.
    pub(super) file: Option<String>,
    /// Branch, tag or commit; absent: `main`.
    pub(super) revision: Option<String>,
}

impl HubFile {
    /// Whether nothing of it can change: a file at a commit.
    pub fn is_pinned(&self) -> bool {
        let is_commit = |revision: &String| {
            let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            revision.len() == 40 && revision.bytes().all(hex)
        };
        self.file.is_some() && self.revision.as_ref().is_some_and(is_commit)
    }

    /// `hf:REPO:FILE@COMMIT`.
    pub fn source(&self) -> String {
        format!("hf:{self}")
    }

    pub(super) fn file_name(&self) -> &str {
        self.file.as_deref().unwrap_or(&self.repo)
    }

    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Where a pinned file is kept.
    pub(super) fn path_in(&self, cache: &Path) -> PathBuf {
        cache
            .join(self.repo.replace('/', "--"))
            .join(self.revision())
            .join(self.file_name())
    }

    /// Where it is noted what these words meant when the hub was last asked.
    pub(super) fn memory_in(&self, cache: &Path) -> PathBuf {
        let words = format!("{}@{}", self.file_name(), self.revision());
        // No part of a path may have a `%`, so two files never share a note.
        let words = words.replace('/', "%2F");
        cache
            .join(self.repo.replace('/', "--"))
            .join(format!("{words}.pinned"))
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        Ok(())
    }
}

impl FromStr for HubFile {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let refuse = |why: &str| {
            HubError::Unusable(format!(
                "`{text}` names no file on a hub: {why}; write OWNER/NAME[:FILE.gguf][@REVISION]"
            ))
        };
        let (rest, revision) = match text.rsplit_once('@') {
            Some((rest, revision)) => (rest, Some(revision)),
            None => (text, None),
        };
        let (repo, file) = match rest.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (rest, None),
        };
        let segments = repo.split('/').count();
        if segments > 2 || !repo.split('/').all(is_segment) {
            return Err(refuse("the repository is OWNER/NAME"));
        }
        if let Some(file) = file {
            if !file.split('/').all(is_segment) {
                return Err(refuse("the file is a path below the repository"));
            }
            if !file.ends_with(".gguf") {
                return Err(refuse("the embedded engine reads .gguf files"));
            }
        }
        if revision.is_some_and(|revision| !revision.split('/').all(is_segment)) {
            return Err(refuse("the revision is a branch, a tag or a commit"));
        }
        Ok(Self {
            repo: repo.to_owned(),
            file: file.map(str::to_owned),
            revision: revision.map(str::to_owned),
        })
    }
}

/// Part of a path that means what it says, on a hub and on a disk.
pub(super) fn is_segment(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+');
    !text.is_empty() && text.len() <= 200 && !text.starts_with('.') && text.bytes().all(plain)
}
