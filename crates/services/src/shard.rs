//! Ending a log and going on in another: `successor.json` in the old log's directory,
//! `predecessor.json` in the new one's, the same signed link ([`tlog::shard`]) in both.
//!
//! The old log is closed once its `successor.json` is durable; before that nothing has happened. A
//! closed log is served and checked as before and takes nothing.

use std::path::{Path, PathBuf};

use ring::rand::SecureRandom;
use store::local::Local;
use store::sqlite::HeadDb;
use store::{Blobs, Heads as _};
use tlog::checkpoint::SignedCheckpoint;
use tlog::log_policy::LogPolicy;
use tlog::note::{NoteSigner, NoteVerifier};
use tlog::shard::{Link, LinkError};

use crate::layout::{
    CHECKPOINT, HEAD_DATABASE, LOG_KEY, LOG_VERSION, PREDECESSOR, STAGING, SUCCESSOR, WITNESSES,
};
use crate::log::{prepare, read_key};
use crate::quota::{ADMISSION_FILE, DELEGATED_FILE};
use crate::sequencer::{Head, OpenError};

/// What the new log takes over, where it has none of its own: who may append, and whom to ask for
/// cosignatures.
const TAKEN_OVER: [&str; 3] = [ADMISSION_FILE, DELEGATED_FILE, WITNESSES];

/// How to start a shard.
pub struct ShardOptions<'r> {
    /// The new log's origin; a random one without.
    pub origin: Option<String>,
    /// Where the new log will be, for those who read the link.
    pub url: Option<String>,
    /// End the log although its last checkpoint lacks the quorum of its witnesses.
    pub unwitnessed: bool,
    /// Randomness for the new log's keys.
    pub random: &'r dyn SecureRandom,
}

/// Why no shard was started. Nothing of the old log has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// One of the directories cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// One of the logs cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The link cannot be made.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Not in this state.
    #[error("the log was not ended: {0}")]
    NotNow(String),
}

/// Ends the log in one directory, which must not be running, and makes the one that goes on in
/// another. Doing it again finishes what was interrupted, or finds it done.
///
/// # Errors
/// [`ShardError`].
pub fn shard(old: &Path, new: &Path, options: &ShardOptions<'_>) -> Result<Link, ShardError> {
    // Looked at without a lock first, so that a directory that is no log is not made into one.
    Local::open_read(old, LOG_VERSION)?;
    let old_files = Local::open(old, LOG_VERSION)?;
    let old_key = key_in(&old_files)?;
    let done = read_link(&old_files, SUCCESSOR)?;
    if done.is_none() {
        prepare(new, options.origin.as_deref(), options.random)?;
    }
    let new_files = Local::open(new, LOG_VERSION)?;
    let new_key = key_in(&new_files)?;
    if let Some(link) = done {
        if *link.successor() != new_key.verifier() {
            return Err(not_now(format!("it was ended before: {}", closed(&link))));
        }
        new_files.put_replace(PREDECESSOR, &link.to_bytes())?;
        return Ok(link);
    }
    if let Some(note) = new_files.read(CHECKPOINT)?
        && SignedCheckpoint::parse(&note).is_ok_and(|signed| signed.checkpoint().size > 0)
    {
        let new = new.display();
        return Err(not_now(format!("the log in {new} has entries already")));
    }
    let last = last_checkpoint(&old_files, &old_key)?;
    check_quorum(&old_files, &last, options.unwitnessed)?;
    let link = Link::sign(&old_key, &new_key, &last, options.url.as_deref())?;
    for path in TAKEN_OVER {
        if let (Some(bytes), None) = (old_files.read(path)?, new_files.read(path)?) {
            new_files.put_new(path, &bytes)?;
        }
    }
    // The old log first: a link that others can see must not be of a log that still goes on.
    old_files.put_new(SUCCESSOR, &link.to_bytes())?;
    new_files.put_replace(PREDECESSOR, &link.to_bytes())?;
    Ok(link)
}

/// That a log is closed and what goes on, in a sentence.
#[must_use]
pub fn closed(link: &Link) -> String {
    let url = link.url().map(|url| format!("{url} ")).unwrap_or_default();
    format!(
        "this log closed at size {}; its successor is {url}{}",
        link.size(),
        link.successor().to_vkey()
    )
}

/// The link in one of a log's files; `None` if there is none.
///
/// # Errors
/// [`ShardError::NotNow`] naming the file if it does not hold.
pub fn read_link(blobs: &dyn Blobs, path: &str) -> Result<Option<Link>, ShardError> {
    let Some(bytes) = blobs.read(path)? else {
        return Ok(None);
    };
    let link = Link::parse(&bytes).map_err(|error| not_now(format!("{path}: {error}")))?;
    Ok(Some(link))
}

/// Checks that a link ends the log with this key at this checkpoint.
///
/// # Errors
/// What does not fit.
pub(crate) fn check_end(
    link: &Link,
    log: &NoteVerifier,
    said: &tlog::checkpoint::Checkpoint,
) -> Result<(), String> {
    if link.predecessor() != log {
        return Err(format!(
            "it ends {}, another log",
            link.predecessor().name()
        ));
    }
    let end = link.last().checkpoint();
    if (end.size, end.root) == (said.size, said.root) {
        Ok(())
    } else {
        Err(format!(
            "it ends the log at {}, and the log is at {}",
            end.size, said.size
        ))
    }
}

fn not_now(reason: String) -> ShardError {
    ShardError::NotNow(reason)
}

fn key_in(files: &Local) -> Result<NoteSigner, ShardError> {
    let text = files
        .read(LOG_KEY)?
        .ok_or_else(|| not_now(format!("{} has no {LOG_KEY}", files.root().display())))?;
    Ok(read_key(files.root(), &text)?)
}

/// The published checkpoint, which must be the head: nothing is under way.
fn last_checkpoint(files: &Local, key: &NoteSigner) -> Result<SignedCheckpoint, ShardError> {
    let unfinished =
        || not_now("a round is under way; start the log once, so that it is finished".to_owned());
    if !files.list(STAGING)?.is_empty() {
        return Err(unfinished());
    }
    let bad = |path: PathBuf, reason: &dyn std::fmt::Display| {
        not_now(format!("{}: {reason}", path.display()))
    };
    let note = files
        .read(CHECKPOINT)?
        .ok_or_else(|| not_now("nothing is published in it yet; start it once".to_owned()))?;
    let last = SignedCheckpoint::open(&note, &key.verifier())
        .map_err(|error| bad(files.root().join(CHECKPOINT), &error))?;
    let database = files.root().join(HEAD_DATABASE);
    let head = HeadDb::open_read(&database)?.load()?.unwrap_or_default();
    let head = Head::open(&head, &key.verifier()).map_err(|error| bad(database, &error))?;
    if head.checkpoint.checkpoint() == last.checkpoint() {
        Ok(last)
    } else {
        Err(unfinished())
    }
}

/// A log that asks witnesses ends with a checkpoint that they cosigned: there is no later one.
fn check_quorum(files: &Local, last: &SignedCheckpoint, waived: bool) -> Result<(), ShardError> {
    let Some(text) = files.read(WITNESSES)? else {
        return Ok(());
    };
    let bad = |error: &dyn std::fmt::Display| not_now(format!("{WITNESSES}: {error}"));
    let policy = LogPolicy::parse(&text).map_err(|error| bad(&error))?;
    let found = policy.witnessing(last).map_err(|error| bad(&error))?;
    if found.quorum == Some(false) && !waived {
        return Err(not_now(
            "its last checkpoint lacks cosignatures; start it until its witnesses have cosigned, \
             or say that it may end without"
                .to_owned(),
        ));
    }
    Ok(())
}
