//! Files as a person hands them over: read with a limit and a clear complaint, written whole or
//! not at all, and secrets readable by their owner alone.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// No file that we read whole is larger; records, bundles and policies are kilobytes.
pub(crate) const READ_MAX_BYTES: u64 = 64 << 20;

/// Input that could not be used at all: the command line answers with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

/// Reads a whole file; what is wrong with it is said with its name.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let unusable = |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", path.display()));
    let file = fs::File::open(path).map_err(|e| unusable(&e))?;
    let mut bytes = Vec::new();
    file.take(READ_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| unusable(&e))?;
    if bytes.len() as u64 > READ_MAX_BYTES {
        let limit = READ_MAX_BYTES >> 20;
        return Err(unusable(&format!(
            "larger than {limit} MiB, too large for such a file"
        ))
        .into());
    }
    Ok(bytes)
}

/// As [`read`], for text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| Unusable(format!("{}: not UTF-8 text", path.display())).into())
}

/// Writes a secret for its owner alone (mode 0600); refuses to replace a file, because a key
/// that is written over is gone.
pub(crate) fn write_secret_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write the secret {}", path.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

/// Writes a file whole: a reader, or a crash, sees the old one or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let named = || format!("cannot write {}", path.display());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mut file = fs::File::create(&temporary).with_context(named)?;
    file.write_all(bytes).with_context(named)?;
    file.sync_all().with_context(named)?;
    fs::rename(&temporary, path).with_context(named)?;
    Ok(())
}

/// Makes a directory and its parents, and says which one could not be made.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}
