//! What others signed about the log: witnesses' cosignatures, and links to other shards.

use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::log_policy::{LogPolicy, Witnessing};
use tlog::note::NoteVerifier;
use tlog::shard::Link;

use super::{FsckError, bad};
use crate::layout::{CHECKPOINT, PREDECESSOR, SUCCESSOR, WITNESSES};
use crate::reader::LogReader;
use crate::shard::check_end;

/// The logs before and after, by their verifier keys.
pub(super) struct Links {
    pub(super) predecessor: Option<String>,
    pub(super) successor: Option<String>,
}

/// Checks the cosignatures of known witnesses; unknown ones are left alone.
pub(super) fn check_cosignatures(
    reader: &LogReader,
    signed: &SignedCheckpoint,
    given: Option<&LogPolicy>,
) -> Result<Witnessing, FsckError> {
    let own = match (given, reader.file(WITNESSES)?) {
        (None, Some(text)) => {
            Some(LogPolicy::parse(&text).map_err(|error| bad(&WITNESSES, &error))?)
        }
        _ => None,
    };
    match given.or(own.as_ref()) {
        Some(policy) => policy
            .witnessing(signed)
            .map_err(|error| bad(&CHECKPOINT, &error)),
        None => Ok(Witnessing {
            quorum: None,
            cosigned: Vec::new(),
        }),
    }
}

pub(super) fn check_links(
    reader: &LogReader,
    log: &NoteVerifier,
    checkpoint: &Checkpoint,
) -> Result<Links, FsckError> {
    let read = |path: &'static str| -> Result<Option<Link>, FsckError> {
        let bytes = reader.file(path)?;
        let link = bytes.map(|bytes| Link::parse(&bytes)).transpose();
        link.map_err(|error| bad(&path, &error))
    };
    let before = read(PREDECESSOR)?;
    if let Some(link) = before.as_ref().filter(|link| link.successor() != log) {
        let other = link.successor().name();
        return Err(bad(
            &PREDECESSOR,
            &format!("it leads to {other}, another log"),
        ));
    }
    let after = read(SUCCESSOR)?;
    if let Some(link) = &after {
        check_end(link, log, checkpoint).map_err(|reason| bad(&SUCCESSOR, &reason))?;
    }
    Ok(Links {
        predecessor: before.map(|link| link.predecessor().to_vkey()),
        successor: after.map(|link| link.successor().to_vkey()),
    })
}
