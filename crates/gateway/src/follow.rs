//! Files that may change while the gateway runs: noticed by looking, which works on every file
//! system and for files that are replaced by a rename, as editors and certificate tools do.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file that is looked at from time to time.
#[derive(Debug)]
pub(crate) struct Followed {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Followed {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is another file than when this was asked last, or is there for the first time.
    /// A file that went away has not changed: nobody is locked out, or let in, by a deletion.
    pub(crate) fn changed(&mut self) -> bool {
        let Ok(about) = std::fs::metadata(&self.path) else {
            return false;
        };
        let stamp = Stamp {
            modified: about.modified().ok(),
            bytes: about.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&about),
        };
        let changed = self.seen != Some(stamp);
        self.seen = Some(stamp);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_a_deletion_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("f");
        let mut file = Followed::new(path.clone());
        assert!(!file.changed(), "it is not there");
        std::fs::write(&path, "1").expect("written");
        assert!(file.changed() && !file.changed());
        std::fs::write(&path, "12").expect("written");
        assert!(file.changed() && !file.changed());
        std::fs::remove_file(&path).expect("removed");
        assert!(!file.changed());
        let other = directory.path().join("g");
        std::fs::write(&other, "123").expect("written");
        std::fs::rename(&other, &path).expect("renamed");
        assert!(file.changed(), "another file under the name");
    }
}
