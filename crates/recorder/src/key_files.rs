//! Private keys as files: PKCS#8 PEM of mode 0600, whole or not there.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use record::control::Chain;
use record::{PublicKey, SigningKey};
use ring::rand::SecureRandom;

use crate::error::RecorderError;

/// Longest key file that is read, bytes.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// The root key, in a signer's `keys/`.
pub(crate) const ROOT: &str = "root.pem";
/// The instance key.
pub(crate) const INSTANCE: &str = "instance.pem";

/// Where a key waits that will replace the one in `file`.
pub(crate) fn next(file: &Path) -> PathBuf {
    file.with_extension("next.pem")
}

/// Finishes or undoes what a crash cut short. A new key is on the disk before the control record
/// that introduces it is durable in the spool, and takes its place in `keys/` after: so either the
/// chain knows the key that waits, and it moves in, or nobody ever heard of it, and it goes. An
/// instance key moves in as well where no other lies or the other has ended: the next start
/// delegates it.
pub(crate) fn settle(
    keys: &Path,
    chain: &Chain,
    random: &dyn SecureRandom,
) -> Result<(), RecorderError> {
    let (root, instance) = (keys.join(ROOT), keys.join(INSTANCE));
    if let Some(new) = read_if_there(&next(&root), random)? {
        move_in_or_drop(&root, chain.root() == new.public(), random)?;
    }
    if let Some(new) = read_if_there(&next(&instance), random)? {
        let begun = chain.valid_instances().any(|it| it.key == *new.public());
        // The end of the old one comes first in the chain, so the new one may not be delegated yet.
        let vacant =
            read_if_there(&instance, random)?.is_none_or(|old| has_ended(chain, old.public()));
        move_in_or_drop(&instance, begun || vacant, random)?;
    }
    Ok(())
}

/// Whether this was an instance key of the signer and is not any more.
pub(crate) fn has_ended(chain: &Chain, key: &PublicKey) -> bool {
    let mut spans = chain.instances().iter().filter(|span| span.key == *key);
    spans.clone().next().is_some() && spans.all(|span| span.until.is_some())
}

fn move_in_or_drop(
    file: &Path,
    moves_in: bool,
    random: &dyn SecureRandom,
) -> Result<(), RecorderError> {
    let next = next(file);
    let failed = |error: std::io::Error| refuse(&next, &format!("cannot take its place: {error}"));
    if moves_in {
        if let Some(old) = read_if_there(file, random)? {
            let id = old.key_id().to_hex();
            let retired = file.with_extension(format!("{}.retired.pem", &id[..16]));
            fs::rename(file, retired).map_err(failed)?;
        }
        fs::rename(&next, file).map_err(failed)?;
    } else {
        tracing::warn!(file = %next.display(), "a change of keys was cut short, and did not happen");
        fs::remove_file(&next).map_err(failed)?;
    }
    sync_parent(file).map_err(failed)
}

pub(crate) fn private_dir(path: &Path) -> Result<(), RecorderError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| refuse(path, &format!("cannot be created: {error}")))
}

/// Refuses to go on without a key of a signer that has begun: another one in its place would speak
/// for nobody.
pub(crate) fn demand(file: &Path) -> Result<(), RecorderError> {
    if file.exists() {
        return Ok(());
    }
    Err(refuse(
        file,
        "is missing, and this signer cannot go on without it; put it back, or make another with \
         `longrun provider recover`",
    ))
}

/// An instance key without its spool might repeat numbers: it is kept, under another name.
pub(crate) fn set_aside(file: &Path) -> Result<(), RecorderError> {
    let aside = file.with_extension("pem.without-spool");
    match fs::rename(file, &aside) {
        Ok(()) => {
            tracing::warn!(file = %aside.display(), "set aside an instance key that has no spool");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refuse(file, &format!("cannot be set aside: {error}"))),
    }
}

/// The key in a file, if there is one.
pub(crate) fn read_if_there(
    path: &Path,
    random: &dyn SecureRandom,
) -> Result<Option<SigningKey>, RecorderError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(path, &format!("cannot be read: {error}"))),
    };
    check_mode(path, &file)?;
    let mut pem = String::new();
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut pem)
        .map_err(|error| refuse(path, &format!("cannot be read: {error}")))?;
    let key = SigningKey::from_pem(&pem, random).map_err(|error| refuse(path, &error.to_string()));
    key.map(Some)
}

pub(crate) fn read_or_create(
    path: &Path,
    random: &dyn SecureRandom,
) -> Result<SigningKey, RecorderError> {
    match read_if_there(path, random)? {
        Some(key) => Ok(key),
        None => create_key(path, random),
    }
}

/// Makes a key. It is on the disk when this returns.
fn create_key(path: &Path, random: &dyn SecureRandom) -> Result<SigningKey, RecorderError> {
    let key = SigningKey::generate(random)?;
    write(path, &key)?;
    Ok(key)
}

/// Puts a key into a file, whole or not at all; what was there is replaced.
pub(crate) fn write(path: &Path, key: &SigningKey) -> Result<(), RecorderError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Under another name first: a crash must not leave half a key behind.
    let temporary = path.with_extension("pem.new");
    let _ = fs::remove_file(&temporary);
    let written = options
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(key.to_pem().as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_parent(path));
    written.map_err(|error| refuse(path, &format!("cannot be written: {error}")))
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &fs::File) -> Result<(), RecorderError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file
        .metadata()
        .map_err(|error| refuse(path, &error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(refuse(
        path,
        &format!("is a private key that others can read (mode {mode:o}); run chmod 600 on it"),
    ))
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::File) -> Result<(), RecorderError> {
    Ok(())
}

pub(crate) fn refuse(path: &Path, reason: &str) -> RecorderError {
    RecorderError::File {
        path: PathBuf::from(path),
        reason: reason.to_owned(),
    }
}
