//! Starting: compare head, published checkpoint and staging, finish what was begun, or refuse.
//!
//! | head | published | |
//! |---|---|---|
//! | none | none, and no tiles | a new log: commit and publish the empty tree |
//! | none | anything | refuse: the head was lost |
//! | = published | | go on |
//! | larger | smaller | do the staged round again, check that one tree extends the other, publish |
//! | smaller | larger | refuse: the head is an old copy, and going on would fork the log |
//! | same size, other root | | refuse: the log is forked |
//!
//! Then the right edge is read back: its tiles must give the head's root, the last entries must
//! hash to the last tile, their bodies must be theirs, and no witness may know of a later or another
//! tree. Before all of this has been checked, nothing is written but the files of a staged round,
//! which are what the head commits to.

use std::sync::Arc;

use record::leaf::Leaf;
use store::Blobs;
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::merkle::empty_root;
use tlog::proof::{TreeView, verify_consistency};
use tlog::tile::{Resource, Span, WIDTH};

use super::core::{Core, LogParts, Published, Totals};
use super::head::Head;
use super::round::{Growth, RightEdge, RoundTiles};
use super::staging::{self, staging_path};
use crate::cosigning::{Cosigners, SharedTiles};
use crate::layout::CHECKPOINT;
use crate::reader::LogReader;

/// How far ahead of the clock a head's time may be, ms. More means that the clock or the head is
/// wrong, and a person should look.
pub const FUTURE_TOLERANCE_MS: u64 = 10 * 60 * 1000;

/// Why a log does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// What is stored contradicts itself; nothing was changed.
    #[error("the log was not opened, and nothing was changed: {0}")]
    Inconsistent(String),
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A key or token file is unusable.
    #[error("{0}")]
    Key(String),
}

fn inconsistent<T>(reason: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Inconsistent(reason.into()))
}

impl Core {
    /// Opens a log, or makes it if there is nothing at all.
    pub(crate) fn open(parts: LogParts) -> Result<Self, OpenError> {
        let LogParts {
            blobs,
            heads,
            seen,
            clock,
            key,
            cosigning,
        } = parts;
        let reader = LogReader::new(blobs.clone());
        let log = key.verifier();
        let published = match blobs.read(CHECKPOINT)? {
            Some(bytes) => match SignedCheckpoint::open(&bytes, &log) {
                Ok(signed) => Some(signed),
                Err(error) => return inconsistent(format!("{CHECKPOINT}: {error}")),
            },
            None => None,
        };
        let (head, head_bytes) = match heads.load()? {
            Some(bytes) => match Head::open(&bytes, &log) {
                Ok(head) => (head, bytes),
                Err(error) => return inconsistent(format!("the head: {error}")),
            },
            None => create(&blobs, &*heads, &key, clock.unix_ms(), published.is_some())?,
        };
        let now_ms = clock.unix_ms();
        if head.committed_ms > now_ms.saturating_add(FUTURE_TOLERANCE_MS) {
            return inconsistent(format!(
                "the head is from the future: committed at {} Unix ms, the clock says {now_ms}; \
                 set the clock right",
                head.committed_ms
            ));
        }
        let staged = compare(&blobs, &head, published.as_ref())?;
        let asked = cosigning.is_some();
        let cosigners = cosigning
            .map(Cosigners::start)
            .transpose()
            .map_err(|error| OpenError::Inconsistent(format!("no thread: {error}")))?;
        let mut core = Self {
            blobs,
            heads,
            seen,
            clock,
            key,
            reader,
            head_bytes,
            right: RightEdge::default(),
            unseen: Vec::new(),
            published: Arc::new(published.as_ref().map_or_else(Published::nothing, |found| {
                // Whether it is witnessed shows once the witnesses are asked again.
                Published::of(found, asked.then_some(false))
            })),
            cosigned: None,
            cosigners,
            uncleared: Vec::new(),
            totals: Totals::default(),
            head,
        };
        core.finish_round(staged.as_deref(), published.as_ref())?;
        Ok(core)
    }

    /// Applies what was staged, checks the edge, and publishes if that is still to be done.
    fn finish_round(
        &mut self,
        staged: Option<&[u8]>,
        published: Option<&SignedCheckpoint>,
    ) -> Result<(), OpenError> {
        if let Some(round) = staged {
            self.redo(round)?;
        }
        self.load_edge()?;
        if let Some(published) = published {
            self.check_extends(published.checkpoint())?;
            self.uncleared.push(published.checkpoint().size);
        }
        let tiles = RoundTiles::shared(&self.reader, self.right.edge.tiles());
        self.ask_witnesses(&tiles)?;
        self.rebuild_seen()?;
        self.publish(&tiles)
            .map_err(|error| OpenError::Inconsistent(error.to_string()))?;
        self.uncleared.push(self.head.size());
        self.clear();
        Ok(())
    }

    /// Computes a staged round again and puts its files in place. The edge that it grew from is
    /// still there: nothing of it is removed before the round is published.
    fn redo(&mut self, round: &[u8]) -> Result<(), OpenError> {
        let damaged = || OpenError::Inconsistent("the staged round is damaged".to_owned());
        let staged = staging::decode(round).ok_or_else(damaged)?;
        let before =
            RightEdge::load(&self.reader, staged.size_before).map_err(OpenError::Inconsistent)?;
        let Growth { after, files, .. } = before.grow(&staged.entries).map_err(|_| damaged())?;
        if after.edge.root() != self.head.checkpoint.checkpoint().root {
            return inconsistent("the staged round does not give the root of the head");
        }
        tracing::info!(
            size = self.head.size(),
            "finishing the round that was under way"
        );
        Ok(self.apply(&files)?)
    }

    /// Reads the right edge and checks it against the head.
    fn load_edge(&mut self) -> Result<(), OpenError> {
        let size = self.head.size();
        self.right = RightEdge::load(&self.reader, size).map_err(OpenError::Inconsistent)?;
        if self.right.edge.root() != self.head.checkpoint.checkpoint().root {
            return inconsistent(format!(
                "the tiles do not give the root of the head at {size}"
            ));
        }
        Ok(())
    }

    /// Checks from tiles that the head's tree extends the published one.
    fn check_extends(&self, published: &Checkpoint) -> Result<(), OpenError> {
        let head = self.head.checkpoint.checkpoint();
        let proof = TreeView::new(&self.reader, head.size)
            .consistency(published.size)
            .map_err(|error| OpenError::Inconsistent(error.to_string()))?;
        let (old, new) = ((published.size, &published.root), (head.size, &head.root));
        verify_consistency(old, new, &proof).map_err(|error| {
            OpenError::Inconsistent(format!(
                "the head at {} does not extend the published checkpoint at {}: {error}",
                head.size, published.size
            ))
        })
    }

    /// Refuses a head that a witness knows to be old or forked.
    fn ask_witnesses(&mut self, tiles: &Arc<RoundTiles>) -> Result<(), OpenError> {
        let tiles: SharedTiles = tiles.clone();
        match self.cosigners.as_mut() {
            Some(cosigners) => cosigners
                .check_start(&self.head.checkpoint, &tiles)
                .map_err(OpenError::Inconsistent),
            None => Ok(()),
        }
    }

    /// Brings the index of recent entries to the head, from the log's own entries.
    fn rebuild_seen(&mut self) -> Result<(), OpenError> {
        let (size, window) = (self.head.size(), self.seen.window());
        let oldest = size.saturating_sub(window);
        let mut covered = self.seen.covered()?;
        let whole = oldest >= covered || self.seen_at(oldest)?.is_some();
        let fits = covered <= size && whole && self.last_seen_is_ours(covered)?;
        if !fits || covered < oldest {
            self.seen.restart(oldest)?;
            covered = oldest;
        }
        while covered < size {
            let Some(span) = Span::of_leaf(covered, size) else {
                break;
            };
            let broken = |error: String| OpenError::Inconsistent(error);
            let entries = self
                .reader
                .entries(span)
                .map_err(|error| broken(error.to_string()))?;
            let skip = usize::try_from(covered % u64::from(WIDTH)).unwrap_or(0);
            let ids = entries[skip.min(entries.len())..]
                .iter()
                .map(|entry| Leaf::parse(entry).map(|leaf| *leaf.record_id.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| broken(format!("{}: {error}", Resource::Entries(span))))?;
            self.seen.extend(covered, &ids)?;
            covered += ids.len() as u64;
        }
        Ok(())
    }

    /// Whether the index's last entry is the log's: one that was copied from elsewhere is not.
    fn last_seen_is_ours(&self, covered: u64) -> Result<bool, OpenError> {
        let Some(last) = covered.checked_sub(1) else {
            return Ok(true);
        };
        Ok(self.seen_at(last)? == Some(last))
    }

    /// Where the index has the record of this entry, if it has it and the entry can be read. Of a
    /// lost file at its beginning only the oldest entry tells.
    fn seen_at(&self, index: u64) -> Result<Option<u64>, OpenError> {
        let Some(span) = Span::of_leaf(index, self.head.size()) else {
            return Ok(None);
        };
        let Ok(entries) = self.reader.entries(span) else {
            return Ok(None);
        };
        let at = usize::try_from(index % u64::from(WIDTH)).unwrap_or(usize::MAX);
        let Some(Ok(leaf)) = entries.get(at).map(|entry| Leaf::parse(entry)) else {
            return Ok(None);
        };
        Ok(self.seen.find(leaf.record_id.as_bytes())?)
    }
}

impl Published {
    /// Before anything is published: the empty tree, without a note.
    fn nothing() -> Self {
        let checkpoint = Checkpoint {
            origin: String::new(),
            size: 0,
            root: empty_root(),
        };
        Self {
            checkpoint,
            note: String::new(),
            witnessed: None,
        }
    }
}

/// A new log's head: the empty tree. Refuses where there was a log before.
fn create(
    blobs: &Arc<dyn Blobs>,
    heads: &dyn store::Heads,
    key: &tlog::note::NoteSigner,
    now_ms: u64,
    published: bool,
) -> Result<(Head, Vec<u8>), OpenError> {
    if published || !blobs.list("tile")?.is_empty() {
        return inconsistent(
            "there is a log here but its head is gone; restore the head, or name a new directory",
        );
    }
    let empty = Checkpoint {
        origin: key.name().to_owned(),
        size: 0,
        root: empty_root(),
    };
    let checkpoint = empty
        .sign(key)
        .map_err(|error| OpenError::Inconsistent(error.to_string()))?;
    let head = Head {
        committed_ms: now_ms,
        checkpoint,
    };
    let bytes = head.to_bytes();
    heads.swap(None, &bytes)?;
    Ok((head, bytes))
}

/// Compares head and published checkpoint; gives back the staged round if it must be done again.
fn compare(
    blobs: &Arc<dyn Blobs>,
    head: &Head,
    published: Option<&SignedCheckpoint>,
) -> Result<Option<Vec<u8>>, OpenError> {
    let said = head.checkpoint.checkpoint();
    let Some(published) = published.map(SignedCheckpoint::checkpoint) else {
        if said.size == 0 {
            return Ok(None);
        }
        return inconsistent(format!(
            "{CHECKPOINT} is gone, but the head is at {}",
            said.size
        ));
    };
    if published.size > said.size {
        return inconsistent(format!(
            "the published checkpoint is at {}, ahead of the head at {}: the head is an old copy, \
             and going on from it would fork the log; restore the newest head",
            published.size, said.size
        ));
    }
    if published.size == said.size {
        if published.root != said.root {
            return inconsistent(format!(
                "head and published checkpoint have different roots at size {}: the log is forked",
                said.size
            ));
        }
        return Ok(None);
    }
    let path = staging_path(said.size, &said.root);
    match blobs.read(&path)? {
        Some(round) => Ok(Some(round)),
        None => inconsistent(format!(
            "the head is at {}, the published checkpoint at {}, and {path} is gone",
            said.size, published.size
        )),
    }
}
