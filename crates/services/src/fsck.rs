//! Checking a whole log from its files alone.
//!
//! Every entry is hashed and compared with its level-0 tile, every tile above is computed again,
//! every body is compared with the digest in its leaf (erased ones are counted), and the root must
//! be the one in the signed checkpoint. The head must be the checkpoint or extend it. The first
//! file that does not hold is named. Nothing is changed, and the log may be running meanwhile.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use record::Digest;
use store::local::Local;
use store::sqlite::HeadDb;
use store::{Blobs, Heads as _};
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::growth::Edge;
use tlog::log_policy::LogPolicy;
use tlog::note::NoteVerifier;
use tlog::tile::{Span, TileReader as _, WIDTH};

use crate::layout::{CHECKPOINT, HEAD_DATABASE, LOG_KEY, LOG_VERSION};
use crate::log::read_key;
use crate::reader::{LogReader, ReadError};
use crate::sequencer::Head;

mod kept;
mod span;
mod words;

use kept::Kept;
use span::{SpanFacts, check_span};
use words::{check_cosignatures, check_links};

/// Bundles that are checked between two reports of progress.
const SPANS_PER_STEP: u64 = 256;

/// What to check.
#[derive(Debug, Clone, Default)]
pub struct FsckOptions {
    /// Verify the signature of every body as well (slower by far).
    pub signatures: bool,
    /// The log's verifier key; otherwise the one in its directory.
    pub vkey: Option<String>,
    /// The witnesses that are known; otherwise those that the log's directory names.
    pub policy: Option<LogPolicy>,
    /// Where an interrupted check is kept, and gone on with. The file is removed at the end.
    pub state: Option<PathBuf>,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Entries checked.
    pub entries_done: u64,
    /// Entries in the log.
    pub entries_total: u64,
}

/// A log that holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FsckReport {
    /// Its origin.
    pub origin: String,
    /// Entries under the published checkpoint.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// Bodies that are there and fit their leaves.
    pub bodies: u64,
    /// Bodies that were erased.
    pub bodies_erased: u64,
    /// Signatures verified.
    pub signatures: u64,
    /// Tiles that were computed again and compared, of all levels.
    pub tiles: u64,
    /// Entries that are committed but not published yet.
    pub unpublished: u64,
    /// Entries that an earlier, interrupted check had found to hold.
    pub resumed_from: u64,
    /// The known witnesses whose cosignatures on the checkpoint verify.
    pub cosigned: Vec<String>,
    /// Whether they are enough; `None` if no quorum is known.
    pub quorum: Option<bool>,
    /// The verifier key of the log that this one continues, if it does.
    pub predecessor: Option<String>,
    /// The verifier key of the log that goes on, if this one has ended.
    pub successor: Option<String>,
}

/// Why a log does not hold, or could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsckError {
    /// This file does not hold, or is missing.
    #[error("{path}: {reason}")]
    Bad {
        /// Relative to the log's directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory cannot be checked at all.
    #[error("{0}")]
    Unusable(String),
}

impl From<ReadError> for FsckError {
    fn from(error: ReadError) -> Self {
        let path = error.path().to_owned();
        let reason = match error {
            ReadError::Missing(_) => "it is missing".to_owned(),
            ReadError::Malformed { reason, .. } | ReadError::Unreadable { reason, .. } => reason,
        };
        Self::Bad { path, reason }
    }
}

fn bad(path: &dyn fmt::Display, reason: &dyn fmt::Display) -> FsckError {
    FsckError::Bad {
        path: path.to_string(),
        reason: reason.to_string(),
    }
}

/// Checks the log in a directory.
///
/// # Errors
/// [`FsckError::Bad`] naming the first file that does not hold; [`FsckError::Unusable`] if the
/// directory is not a log, its key cannot be read, or the state of an interrupted check cannot be
/// kept.
pub fn run(
    directory: &Path,
    options: &FsckOptions,
    progress: impl FnMut(Progress),
) -> Result<FsckReport, FsckError> {
    let unusable = |error: &dyn std::fmt::Display| FsckError::Unusable(error.to_string());
    let local = Local::open_read(directory, LOG_VERSION).map_err(|error| unusable(&error))?;
    let verifier = match &options.vkey {
        Some(vkey) => NoteVerifier::from_vkey(vkey).map_err(|error| unusable(&error))?,
        None => {
            let text = local
                .read(LOG_KEY)
                .map_err(|error| unusable(&error))?
                .ok_or_else(|| {
                    FsckError::Unusable(format!(
                        "there is no {LOG_KEY}; name the log's verifier key"
                    ))
                })?;
            read_key(directory, &text)
                .map_err(|error| unusable(&error))?
                .verifier()
        }
    };
    let head = read_head(&directory.join(HEAD_DATABASE), &verifier)?;
    let mut report = check(Arc::new(local), &verifier, options, progress)?;
    report.unpublished = match head {
        Some(head) => check_head(&head, &report)?,
        None => 0,
    };
    Ok(report)
}

/// Checks a log in a store, without its head.
///
/// # Errors
/// As [`run`].
pub fn check(
    blobs: Arc<dyn Blobs>,
    log: &NoteVerifier,
    options: &FsckOptions,
    mut progress: impl FnMut(Progress),
) -> Result<FsckReport, FsckError> {
    let reader = LogReader::new(blobs);
    let bytes = reader
        .file(CHECKPOINT)?
        .ok_or_else(|| bad(&CHECKPOINT, &"it is missing"))?;
    let signed = SignedCheckpoint::open(&bytes, log).map_err(|error| bad(&CHECKPOINT, &error))?;
    let checkpoint = signed.checkpoint();
    let Checkpoint { size, root, .. } = *checkpoint;
    let links = check_links(&reader, log, checkpoint)?;
    let witnessing = check_cosignatures(&reader, &signed, options.policy.as_ref())?;
    let mut done = match &options.state {
        Some(path) => Kept::load(path, log, options.signatures)?
            .filter(|kept| kept.still_holds(&reader, checkpoint))
            .unwrap_or_else(|| Kept::new(log, options.signatures)),
        None => Kept::new(log, options.signatures),
    };
    let resumed_from = done.edge.size();
    let spans = size.div_ceil(u64::from(WIDTH));
    let mut from = resumed_from / u64::from(WIDTH);
    while from < spans {
        let to = (from + SPANS_PER_STEP).min(spans);
        for facts in check_spans(&reader, from..to, size, options)? {
            done.counts.add(&facts);
            done.counts.tiles += check_tiles(&reader, &mut done.edge, &facts.hashes, size)?;
        }
        from = to;
        progress(Progress {
            entries_done: done.edge.size(),
            entries_total: size,
        });
        if let Some(path) = options.state.as_ref().filter(|_| from < spans) {
            done.save(path)?;
        }
    }
    if done.edge.root() != root {
        return Err(bad(&CHECKPOINT, &"its root is not that of the entries"));
    }
    if let Some(path) = &options.state {
        kept::remove(path)?;
    }
    Ok(FsckReport {
        origin: checkpoint.origin.clone(),
        size,
        root,
        bodies: done.counts.bodies,
        bodies_erased: done.counts.bodies_erased,
        signatures: done.counts.signatures,
        tiles: done.counts.tiles,
        unpublished: 0,
        resumed_from,
        cosigned: witnessing.cosigned.into_iter().map(|(n, _)| n).collect(),
        quorum: witnessing.quorum,
        predecessor: links.predecessor,
        successor: links.successor,
    })
}

/// Checks a run of bundles on all cores; the answers are in order, as is the first error.
fn check_spans(
    reader: &LogReader,
    spans: std::ops::Range<u64>,
    size: u64,
    options: &FsckOptions,
) -> Result<Vec<SpanFacts>, FsckError> {
    let numbers: Vec<u64> = spans.collect();
    let cores = available_parallelism().map_or(1, std::num::NonZero::get);
    let share = numbers.len().div_ceil(cores).max(1);
    let checked: Vec<_> = std::thread::scope(|scope| {
        let work = |numbers: &[u64]| {
            let spans = numbers
                .iter()
                .filter_map(|n| Span::of_leaf(n * u64::from(WIDTH), size));
            spans
                .map(|span| check_span(reader, span, options.signatures))
                .collect::<Result<Vec<_>, _>>()
        };
        let threads: Vec<_> = numbers
            .chunks(share)
            .map(|numbers| scope.spawn(move || work(numbers)))
            .collect();
        threads
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut all = Vec::with_capacity(numbers.len());
    for share in checked {
        let share = share.map_err(|_| FsckError::Unusable("a thread panicked".to_owned()))?;
        all.extend(share?);
    }
    Ok(all)
}

/// Grows the tree by one bundle's leaves and compares every tile above level 0 that becomes final.
fn check_tiles(
    reader: &LogReader,
    edge: &mut Edge,
    hashes: &[Digest],
    size: u64,
) -> Result<u64, FsckError> {
    let mut compared = 1;
    let changed = edge.append(hashes);
    let last = edge.size() == size;
    for tile in changed.iter().filter(|tile| tile.id.level > 0) {
        if !tile.id.span.is_full() && !last {
            continue;
        }
        compared += 1;
        compare_tile(reader, tile)?;
    }
    if last {
        let changed: Vec<_> = changed.iter().map(|tile| tile.id).collect();
        for tile in edge
            .tiles()
            .iter()
            .filter(|t| t.id.level > 0 && !changed.contains(&t.id))
        {
            compared += 1;
            compare_tile(reader, tile)?;
        }
    }
    Ok(compared)
}

fn compare_tile(reader: &LogReader, computed: &tlog::tile::Tile) -> Result<(), FsckError> {
    let found = reader
        .read_tile(computed.id)
        .map_err(|error| bad(&computed.id, &error))?;
    if found == computed.hashes {
        Ok(())
    } else {
        Err(bad(
            &computed.id,
            &"its hashes are not those of the tiles below",
        ))
    }
}

/// The head, if there is a database; a copy of the static files alone has none.
fn read_head(path: &Path, log: &NoteVerifier) -> Result<Option<Head>, FsckError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = HeadDb::open_read(path)
        .and_then(|heads| heads.load())
        .map_err(|error| bad(&HEAD_DATABASE, &error))?;
    let Some(bytes) = bytes else {
        return Err(bad(&HEAD_DATABASE, &"it has no head"));
    };
    Head::open(&bytes, log)
        .map(Some)
        .map_err(|error| bad(&HEAD_DATABASE, &error))
}

/// The head was read before the checkpoint, so in a running log it may be either side of it.
fn check_head(head: &Head, report: &FsckReport) -> Result<u64, FsckError> {
    let said = head.checkpoint.checkpoint();
    if said.size == report.size && said.root != report.root {
        return Err(bad(
            &HEAD_DATABASE,
            &"head and checkpoint have different roots: a fork",
        ));
    }
    Ok(said.size.saturating_sub(report.size))
}
