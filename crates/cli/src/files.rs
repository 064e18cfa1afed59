//! Files as a person hands them over: read with a limit and a clear complaint, written whole or
//! not at all, and secrets readable by their owner alone.

use std::fs;
use std::io::{BufWriter, Read, Write};
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
    write_streamed(path, |out| Ok(out.write_all(bytes)?))
}

/// As [`write_whole`], for what does not fit in memory. What `write` leaves behind when it fails
/// is removed.
pub(crate) fn write_streamed(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<fs::File>) -> Result<()>,
) -> Result<()> {
    let named = || format!("cannot write {}", path.display());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mut out = BufWriter::new(fs::File::create(&temporary).with_context(named)?);
    let written = write(&mut out).and_then(|()| {
        let file = out.into_inner().context("the last bytes")?;
        // Whoever may read the file, a gateway under another user for instance, still may.
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        Ok(file.sync_all()?)
    });
    if let Err(error) = written {
        // Another failure here leaves a file that is named as temporary.
        let _ = fs::remove_file(&temporary);
        return Err(error.context(named()));
    }
    fs::rename(&temporary, path).with_context(named)?;
    Ok(())
}

/// Whether a file starts with these bytes.
pub(crate) fn starts_with(path: &Path, bytes: &[u8]) -> Result<bool> {
    let unusable = |why: std::io::Error| Unusable(format!("{}: {why}", path.display()));
    let mut start = Vec::new();
    let mut file = fs::File::open(path)
        .map_err(unusable)?
        .take(bytes.len() as u64);
    file.read_to_end(&mut start).map_err(unusable)?;
    Ok(start == bytes)
}

/// Makes a directory and its parents, and says which one could not be made.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}
