//! One round after another, on one thread: the order of work that loses nothing.
//!
//! 1. The pool is divided into records that are new and records that are logged already.
//! 2. Tiles, entries and bodies of the grown tree are computed in memory.
//! 3. What the round adds is *staged* in one durable file. A crash up to here leaves a file that no
//!    head names; the next start removes it.
//! 4. The checkpoint is signed and the head is *swapped*: the commit point. An error here leaves
//!    the outcome unknown, so it ends the sequencer; the next start sees which head holds.
//! 5. Witnesses are asked to *cosign*: after the swap, so that none of them can strand the log, and
//!    for a short time only. What is missing then is missing; the log goes on and says so.
//! 6. The files are *applied*. Recovery computes them again from what was staged, with the same
//!    code. An error ends the sequencer;
//!    the next start applies them again.
//! 7. The checkpoint is *published*. An error rejects the callers, whose entries stay logged and
//!    are found again when they retry.
//! 8. Callers are answered; the staged bundle and superseded partial files are removed.
//!
//! After Sunlight's sequencer (filippo.io/sunlight, `internal/ctlog`).

use std::collections::HashMap;
use std::sync::Arc;

use record::RecordId;
use store::{Blobs, Heads, Seen};
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::note::NoteSigner;
use tlog::tile::{Resource, Span, TileId, WIDTH};

use super::head::Head;
use super::place::{Placed, Placer, Slot};
use super::round::{Growth, RightEdge, RoundFile, RoundTiles};
use super::staging::{self, NewEntry, staging_path};
use crate::admission::{Refusal, Submission};
use crate::clock::Clock;
use crate::cosigning::{Cosigned, Cosigners, CosigningOptions, SharedTiles};
use crate::layout::{CHECKPOINT, STAGING};
use crate::reader::LogReader;

/// Where a log lives and who it is.
pub struct LogParts {
    /// Files.
    pub blobs: Arc<dyn Blobs>,
    /// The commit point.
    pub heads: Arc<dyn Heads>,
    /// Recent entries by id; derived, so it may be empty.
    pub seen: Box<dyn Seen>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The log's key; its name is the origin.
    pub key: NoteSigner,
    /// Whom to ask for cosignatures, if anybody.
    pub cosigning: Option<CosigningOptions>,
}

/// A checkpoint that readers can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The signed note, verbatim, with the cosignatures it has.
    pub note: String,
    /// Whether the log's quorum of witnesses cosigned it; `None` if the log asks for none.
    pub witnessed: Option<bool>,
}

/// What came of a round: for each record its place, or why it could not be shown.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) published: Arc<Published>,
    pub(crate) placed: Vec<Result<Placed, Refusal>>,
}

/// Why a round has no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    /// Nothing can be shown to the callers now; the log goes on.
    #[error("{0}")]
    Rejected(String),
    /// The sequencer must stop and start again.
    #[error("{0}")]
    Fatal(String),
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rounds that grew the tree.
    pub rounds: u64,
    /// Entries added.
    pub entries: u64,
    /// Bytes of files written: staging, tiles, entries, bodies, checkpoints, heads.
    pub bytes_written: u64,
}

/// The state between rounds. Owned by one thread.
pub(crate) struct Core {
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) heads: Arc<dyn Heads>,
    pub(super) seen: Box<dyn Seen>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) key: NoteSigner,
    pub(super) reader: LogReader,
    pub(super) head: Head,
    /// The head as it is stored, for the next swap.
    pub(super) head_bytes: Vec<u8>,
    pub(super) right: RightEdge,
    /// Ids of committed entries that `seen` does not have yet; it continues with them.
    pub(super) unseen: Vec<[u8; 32]>,
    pub(super) published: Arc<Published>,
    /// The head's checkpoint with the cosignatures gathered for it, before it is published.
    pub(super) cosigned: Option<Cosigned>,
    pub(super) cosigners: Option<Cosigners>,
    /// Sizes at which the tree stood since partial files were last cleared away.
    pub(super) uncleared: Vec<u64>,
    pub(super) totals: Totals,
}

impl Core {
    pub(crate) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Sequences a pool: no new entries, no new checkpoint.
    pub(crate) fn round(&mut self, pool: &[&Submission]) -> Result<Outcome, RoundError> {
        self.catch_up_seen()?;
        let size = self.head.size();
        let (slots, new) = self.divide(pool)?;
        let tiles = if new.is_empty() {
            RoundTiles::shared(&self.reader, self.right.edge.tiles())
        } else {
            self.grow(&new)?
        };
        self.publish(&tiles)?;
        let placed = Placer::new(
            &tiles,
            &self.reader,
            self.head.checkpoint.checkpoint(),
            size,
        )
        .place_all(pool, &slots);
        self.clear();
        Ok(Outcome {
            published: self.published.clone(),
            placed,
        })
    }

    /// Which records are new, in order, and which are logged already or twice in the pool.
    fn divide<'s>(
        &self,
        pool: &[&'s Submission],
    ) -> Result<(Vec<Slot>, Vec<&'s Submission>), RoundError> {
        let mut first: HashMap<RecordId, u64> = HashMap::with_capacity(pool.len());
        let (mut slots, mut new) = (Vec::with_capacity(pool.len()), Vec::new());
        for submission in pool {
            let next = self.head.size() + new.len() as u64;
            if let Some(index) = first.get(&submission.id) {
                slots.push(Slot::Known(*index));
                continue;
            }
            let known = self.seen.find(submission.id.as_bytes()).map_err(|error| {
                RoundError::Rejected(format!("the index of recent entries failed: {error}"))
            })?;
            match known {
                Some(index) => slots.push(Slot::Known(index)),
                None => {
                    slots.push(Slot::New(next));
                    first.insert(submission.id, next);
                    new.push(*submission);
                }
            }
        }
        Ok((slots, new))
    }

    /// Steps 2 to 6. Gives back the tiles that proofs of the new entries need.
    fn grow(&mut self, new: &[&Submission]) -> Result<Arc<RoundTiles>, RoundError> {
        let entries: Vec<NewEntry<'_>> = new
            .iter()
            .map(|submission| NewEntry {
                leaf: &submission.leaf,
                body: &submission.body,
            })
            .collect();
        let Growth {
            after,
            tiles,
            files,
        } = self
            .right
            .grow(&entries)
            .map_err(|error| RoundError::Rejected(format!("bundling failed: {error}")))?;
        let (size, root) = (after.edge.size(), after.edge.root());

        let staged = staging::encode(self.head.size(), &entries);
        self.blobs
            .put_new(&staging_path(size, &root), &staged)
            .map_err(|error| RoundError::Rejected(format!("staging failed: {error}")))?;
        self.count(staged.len());

        self.commit(&Checkpoint {
            origin: self.key.name().to_owned(),
            size,
            root,
        })?;
        let near = after.edge.tiles().into_iter().chain(tiles).collect();
        let shared = RoundTiles::shared(&self.reader, near);
        self.cosigned = self.gather(&shared);
        self.apply(&files)
            .map_err(|error| RoundError::Fatal(format!("applying the round failed: {error}")))?;

        self.right = after;
        self.unseen
            .extend(new.iter().map(|submission| *submission.id.as_bytes()));
        self.totals.rounds += 1;
        self.totals.entries += new.len() as u64;
        Ok(shared)
    }

    /// Step 4. Times of heads never decrease, whatever the clock does.
    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<(), RoundError> {
        let fatal = |error: String| RoundError::Fatal(format!("committing failed: {error}"));
        let signed = checkpoint
            .sign(&self.key)
            .map_err(|error| fatal(error.to_string()))?;
        let now_ms = self.clock.unix_ms();
        if now_ms < self.head.committed_ms {
            let behind_ms = self.head.committed_ms - now_ms;
            tracing::warn!(
                behind_ms,
                "the clock is behind the last round; its time is kept"
            );
        }
        let committed_ms = now_ms.max(self.head.committed_ms);
        let head = Head {
            committed_ms,
            checkpoint: signed,
        };
        let bytes = head.to_bytes();
        self.heads
            .swap(Some(&self.head_bytes), &bytes)
            .map_err(|error| fatal(error.to_string()))?;
        self.uncleared.push(self.head.size());
        self.count(bytes.len());
        self.head = head;
        self.head_bytes = bytes;
        Ok(())
    }

    /// Step 6, also for recovery: doing it again changes nothing.
    pub(super) fn apply(&mut self, files: &[RoundFile]) -> store::Result<()> {
        self.blobs.put_new_all(files)?;
        files.iter().for_each(|(_, bytes)| self.count(bytes.len()));
        Ok(())
    }

    /// Step 5.
    fn gather(&mut self, tiles: &Arc<RoundTiles>) -> Option<Cosigned> {
        let tiles: SharedTiles = tiles.clone();
        let cosigners = self.cosigners.as_mut()?;
        let cosigned = cosigners.gather(&self.head.checkpoint, &tiles);
        if cosigned.quorum == Some(false) {
            tracing::warn!(
                size = self.head.size(),
                "too few witnesses cosigned in time"
            );
        }
        Some(cosigned)
    }

    /// Whether there is something to publish: a new head, or cosignatures that are still missing.
    pub(crate) fn has_unpublished(&self) -> bool {
        self.head_is_unpublished() || self.published.witnessed == Some(false)
    }

    fn head_is_unpublished(&self) -> bool {
        self.published.checkpoint != *self.head.checkpoint.checkpoint()
    }

    /// Step 7. An unwitnessed checkpoint is published again once witnesses have cosigned it.
    pub(super) fn publish(&mut self, tiles: &Arc<RoundTiles>) -> Result<(), RoundError> {
        if !self.has_unpublished() {
            return Ok(());
        }
        let cosigned = self.cosigned.take().or_else(|| self.gather(tiles));
        let (signed, quorum) = match &cosigned {
            Some(cosigned) => (&cosigned.checkpoint, cosigned.quorum),
            None => (&self.head.checkpoint, None),
        };
        let published = Published::of(signed, quorum);
        if !self.head_is_unpublished() && published.witnessed == Some(false) {
            return Ok(());
        }
        self.blobs
            .put_replace(CHECKPOINT, published.note.as_bytes())
            .map_err(|error| RoundError::Rejected(format!("publishing failed: {error}")))?;
        self.count(published.note.len());
        self.published = Arc::new(published);
        Ok(())
    }

    /// Brings the index of recent entries up to the head. Until that succeeds nothing is
    /// sequenced: a duplicate could slip through.
    fn catch_up_seen(&mut self) -> Result<(), RoundError> {
        if self.unseen.is_empty() {
            return Ok(());
        }
        let first = self.head.size() - self.unseen.len() as u64;
        self.seen.extend(first, &self.unseen).map_err(|error| {
            RoundError::Rejected(format!("the index of recent entries failed: {error}"))
        })?;
        self.unseen.clear();
        Ok(())
    }

    /// Step 8. Failures leave superfluous files behind, which harm nothing.
    pub(super) fn clear(&mut self) {
        if let Err(error) = self.catch_up_seen() {
            tracing::warn!(%error, "will be tried again before the next round");
        }
        if self.uncleared.is_empty() {
            return;
        }
        let sizes = std::mem::take(&mut self.uncleared);
        let cleared = sizes
            .into_iter()
            .try_for_each(|size| self.clear_partials(size))
            .and_then(|()| self.clear_staging());
        if let Err(error) = cleared {
            tracing::warn!(%error, "files that are no longer needed could not be removed");
        }
    }

    /// Removes the partial files of the tree of `size` that full ones have replaced, and its
    /// partial bodies, which nothing outside needs, once there are wider ones.
    fn clear_partials(&self, size: u64) -> store::Result<()> {
        let now = self.head.size();
        for level in 0..=tlog::tile::LEVEL_MAX {
            let hashes = |size: u64| size.checked_shr(8 * u32::from(level)).unwrap_or(0);
            if hashes(now) == 0 {
                break;
            }
            let number = hashes(size) / u64::from(WIDTH);
            if hashes(now) / u64::from(WIDTH) <= number {
                continue;
            }
            let span = Span::full(number);
            self.delete_all(&format!("{}.p", TileId { level, span }))?;
            if level == 0 {
                self.delete_all(&format!("{}.p", Resource::Entries(span)))?;
                self.delete_all(&format!("{}.p", Resource::Bodies(span)))?;
            }
        }
        match size
            .checked_sub(1)
            .and_then(|last| Span::of_leaf(last, size))
        {
            Some(span) if !span.is_full() && size < now => {
                self.blobs.delete(&Resource::Bodies(span).to_string())
            }
            _ => Ok(()),
        }
    }

    fn clear_staging(&self) -> store::Result<()> {
        self.delete_all(STAGING)
    }

    fn delete_all(&self, directory: &str) -> store::Result<()> {
        self.blobs
            .list(directory)?
            .iter()
            .try_for_each(|path| self.blobs.delete(path))
    }

    fn count(&mut self, bytes: usize) {
        self.totals.bytes_written += bytes as u64;
    }
}

impl Published {
    pub(super) fn of(signed: &SignedCheckpoint, witnessed: Option<bool>) -> Self {
        Self {
            checkpoint: signed.checkpoint().clone(),
            note: signed.note().to_string(),
            witnessed,
        }
    }
}
