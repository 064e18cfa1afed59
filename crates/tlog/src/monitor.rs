//! What a monitor does: it remembers what a log has signed, and proves or disproves that all of it
//! is one history. Pure; notes and tiles come in, sightings and evidence go out.
//!
//! [`Followed`] holds one log. A checkpoint is believed once the log's tiles give its root and the
//! root of the latest one before it. If they give its root and another one before it, the log has
//! signed two histories, and the hashes that show it are [`Evidence`]: anybody with the log's key
//! can check that, without the log. A checkpoint that the tiles do not reach yet (a witness may be
//! ahead of what the log publishes; a log may hide one of its faces) is kept and tried again.
//!
//! Beside that the whole tree is computed again from its lowest tiles, in steps, so that a log
//! which loses or damages tiles is found out before somebody needs them.

use std::collections::BTreeMap;

use record::Digest;

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::growth::Edge;
use crate::note::NoteVerifier;
use crate::proof::{ProveError, TreeView, prefix_roots};
use crate::shard::Link;
use crate::tile::{Span, Tile, TileError, TileId, TileReader, WIDTH};

pub mod evidence;
mod state;

pub use evidence::{Evidence, EvidenceError};
pub use state::StateError;

/// Checkpoints that are kept while they can neither be proven nor disproven, at most. Beyond that
/// the largest are forgotten: a log that hides its tiles and grows must not push out what it was
/// seen with before.
pub const UNPROVEN_MAX: usize = 64;
/// Contradictions that are remembered by log, at most: one is proof enough.
pub const CONTRADICTED_MAX: usize = 64;

/// One log as a monitor knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    key: NoteVerifier,
    latest: Option<SignedCheckpoint>,
    rebuilt: Edge,
    unproven: Vec<SignedCheckpoint>,
    contradicted: Vec<Contradicted>,
    witnesses: BTreeMap<String, WitnessMark>,
    end: Option<Link>,
}

/// A checkpoint that contradicts the log's history, and where the evidence is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Contradicted {
    /// Its size.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// What whoever keeps the evidence calls it.
    pub evidence: String,
}

/// Where a witness was when it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WitnessMark {
    /// The size it had cosigned.
    pub size: u64,
    /// When it says it did, POSIX seconds.
    pub time_s: u64,
}

/// What a checkpoint turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// The first one of this log; its tiles give its root.
    First,
    /// The latest one again.
    Same,
    /// It extends the latest, and is the latest now.
    Grew {
        /// The size before.
        from: u64,
    },
    /// An earlier state of the same history.
    Earlier {
        /// The size of the latest.
        latest: u64,
    },
    /// The log has signed two histories. The caller keeps the evidence and says so with
    /// [`Followed::contradicted_by`].
    Split(Box<Evidence>),
    /// It contradicts the history, as was found before.
    KnownSplit(Contradicted),
}

/// Why a checkpoint or a tile could not be judged, or is wrong without proving anything to others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// It is not a checkpoint that this log signed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tile cannot be had.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The tiles that the log serves do not give a root that it signed.
    #[error("the tiles do not give the root that the log signed at size {size}")]
    OtherTree {
        /// The size of the checkpoint.
        size: u64,
    },
    /// This tile is not that of the tree that the log signed.
    #[error("{0} is not that of the tree that the log signed")]
    WrongTile(TileId),
}

impl From<ProveError> for Trouble {
    fn from(error: ProveError) -> Self {
        match error {
            ProveError::Tile(error) => Self::Tile(error),
            // Sizes are compared before anything is proven.
            ProveError::NoSuchLeaf { size, .. } | ProveError::Shrinks { new: size, .. } => {
                Self::OtherTree { size }
            }
        }
    }
}

impl Followed {
    /// A log of which nothing is known but its key.
    #[must_use]
    pub fn new(key: NoteVerifier) -> Self {
        Self {
            key,
            latest: None,
            rebuilt: Edge::empty(),
            unproven: Vec::new(),
            contradicted: Vec::new(),
            witnesses: BTreeMap::new(),
            end: None,
        }
    }

    /// The log's key; its name is the origin.
    #[must_use]
    pub fn key(&self) -> &NoteVerifier {
        &self.key
    }

    /// The latest checkpoint that was proven to extend all before it.
    #[must_use]
    pub fn latest(&self) -> Option<&SignedCheckpoint> {
        self.latest.as_ref()
    }

    /// The size of the latest checkpoint, 0 before the first.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.latest.as_ref().map_or(0, |l| l.checkpoint().size)
    }

    /// How many entries' hashes were read and found to give the signed tree.
    #[must_use]
    pub fn rebuilt(&self) -> u64 {
        self.rebuilt.size()
    }

    /// What contradicts the log's history.
    #[must_use]
    pub fn contradicted(&self) -> &[Contradicted] {
        &self.contradicted
    }

    /// Checkpoints that could not be proven yet.
    #[must_use]
    pub fn unproven(&self) -> &[SignedCheckpoint] {
        &self.unproven
    }

    /// Where the log has said that it ended, and which goes on.
    #[must_use]
    pub fn end(&self) -> Option<&Link> {
        self.end.as_ref()
    }

    /// Takes note of where the log has said that it ends; the first word holds. The caller lets the
    /// last checkpoint be considered like any other. `false` if the link ends another log.
    pub fn ends(&mut self, link: &Link) -> bool {
        let own = *link.predecessor() == self.key;
        if own && self.end.is_none() {
            self.end = Some(link.clone());
        }
        own
    }

    /// Judges a checkpoint by the log's tiles. What cannot be judged now is kept for
    /// [`Followed::reconsider`].
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn consider(
        &mut self,
        signed: &SignedCheckpoint,
        tiles: &impl TileReader,
    ) -> Result<Sighting, Trouble> {
        signed.verify(&self.key)?;
        let mut judged = self.judge(signed, tiles);
        if judged.is_err()
            && let Some(other) = self.other_of_its_size(signed)
        {
            let evidence = Evidence::new(other, signed, Vec::new());
            judged = Ok(Sighting::Split(Box::new(evidence)));
        }
        match &judged {
            Ok(Sighting::First | Sighting::Grew { .. }) => self.latest = Some(signed.clone()),
            Ok(_) => {}
            Err(_) => self.keep_unproven(signed),
        }
        judged
    }

    /// Judges again what could not be judged before. Gives back what it has found out.
    pub fn reconsider(
        &mut self,
        tiles: &impl TileReader,
    ) -> Vec<(SignedCheckpoint, Result<Sighting, Trouble>)> {
        let mut unproven = std::mem::take(&mut self.unproven);
        unproven.sort_by_key(|signed| signed.checkpoint().size);
        unproven
            .into_iter()
            .map(|signed| {
                let judged = self.consider(&signed, tiles);
                (signed, judged)
            })
            .collect()
    }

    fn judge(
        &self,
        signed: &SignedCheckpoint,
        tiles: &impl TileReader,
    ) -> Result<Sighting, Trouble> {
        let new = signed.checkpoint();
        let known = |c: &&Contradicted| (c.size, c.root) == (new.size, new.root);
        if let Some(known) = self.contradicted.iter().find(known) {
            return Ok(Sighting::KnownSplit(known.clone()));
        }
        let Some(latest) = &self.latest else {
            return match TreeView::new(tiles, new.size).root()? == new.root {
                true => Ok(Sighting::First),
                false => Err(Trouble::OtherTree { size: new.size }),
            };
        };
        let old = latest.checkpoint();
        if new.size == old.size {
            return Ok(if new.root == old.root {
                Sighting::Same
            } else {
                Sighting::Split(Box::new(Evidence::new(latest, signed, Vec::new())))
            });
        }
        let (smaller, larger) = if new.size > old.size {
            (latest, signed)
        } else {
            (signed, latest)
        };
        if let Some(proof) = contradiction(smaller, larger, tiles)? {
            let evidence = Evidence::new(smaller, larger, proof);
            return Ok(Sighting::Split(Box::new(evidence)));
        }
        Ok(if new.size > old.size {
            Sighting::Grew { from: old.size }
        } else {
            Sighting::Earlier { latest: old.size }
        })
    }

    /// Remembers a checkpoint that contradicts the history, so that it is not proven anew each time
    /// it is seen. `evidence` is what the caller calls the evidence that it has kept.
    pub fn contradicted_by(&mut self, signed: &SignedCheckpoint, evidence: String) {
        let checkpoint = signed.checkpoint();
        if self.contradicted.len() < CONTRADICTED_MAX {
            self.contradicted.push(Contradicted {
                size: checkpoint.size,
                root: checkpoint.root,
                evidence,
            });
        }
    }

    /// The lowest tiles that have not been read yet, in order.
    #[must_use]
    pub fn wanted(&self, tiles_max: usize) -> Vec<TileId> {
        let (done, size) = (self.rebuilt.size(), self.size());
        let first = done / u64::from(WIDTH);
        let numbers = (first..size.div_ceil(u64::from(WIDTH))).take(tiles_max);
        let tile = |number: u64| {
            let span = Span::of_leaf(number * u64::from(WIDTH), size)?;
            Some(TileId { level: 0, span })
        };
        if done >= size {
            return Vec::new();
        }
        numbers.filter_map(tile).collect()
    }

    /// Reads the next lowest tiles, computes the tree from them, and compares it with the signed
    /// one and the full tiles above. Nothing is remembered of what does not fit.
    ///
    /// # Errors
    /// [`Trouble`] naming the first tile that is missing or wrong.
    pub fn rebuild(&mut self, tiles: &impl TileReader, tiles_max: usize) -> Result<(), Trouble> {
        let wanted = self.wanted(tiles_max);
        let Some(latest) = self.latest.as_ref().filter(|_| !wanted.is_empty()) else {
            return Ok(());
        };
        let view = TreeView::new(tiles, latest.checkpoint().size);
        let (mut edge, mut above) = (self.rebuilt.clone(), Vec::new());
        for id in &wanted {
            let changed = grow(&mut edge, *id, tiles)?;
            above.extend(changed.into_iter().filter(|t| t.id.level > 0));
        }
        if !is_prefix(&edge, latest, &view)? {
            let mut edge = self.rebuilt.clone();
            for id in wanted {
                grow(&mut edge, id, tiles)?;
                if !is_prefix(&edge, latest, &view)? {
                    return Err(Trouble::WrongTile(id));
                }
            }
        }
        for tile in above.into_iter().filter(|tile| tile.id.span.is_full()) {
            if tiles.read_tile(tile.id)? != tile.hashes {
                return Err(Trouble::WrongTile(tile.id));
            }
        }
        self.rebuilt = edge;
        Ok(())
    }

    /// Takes note of where a witness is; gives back where it was, if that was further.
    pub fn witness_at(&mut self, vkey: &str, mark: WitnessMark) -> Option<WitnessMark> {
        let before = self.witnesses.insert(vkey.to_owned(), mark);
        before.filter(|before| before.size > mark.size || before.time_s > mark.time_s)
    }

    /// One that could not be proven either: two roots at one size need no tiles to contradict.
    fn other_of_its_size(&self, signed: &SignedCheckpoint) -> Option<&SignedCheckpoint> {
        let said = signed.checkpoint();
        self.unproven.iter().find(|kept| {
            let kept = kept.checkpoint();
            kept.size == said.size && kept.root != said.root
        })
    }

    fn keep_unproven(&mut self, signed: &SignedCheckpoint) {
        let said = |kept: &SignedCheckpoint| kept.checkpoint().clone();
        if self.unproven.iter().any(|kept| said(kept) == said(signed)) {
            return;
        }
        self.unproven.push(signed.clone());
        if self.unproven.len() > UNPROVEN_MAX {
            self.unproven.sort_by_key(|kept| kept.checkpoint().size);
            self.unproven.pop();
        }
    }
}

/// Whether the tree of the larger checkpoint begins with that of the smaller one: `None` if it
/// does, otherwise the hashes that show that it does not.
fn contradiction(
    smaller: &SignedCheckpoint,
    larger: &SignedCheckpoint,
    tiles: &impl TileReader,
) -> Result<Option<Vec<Digest>>, Trouble> {
    let (old, new) = (smaller.checkpoint(), larger.checkpoint());
    let view = TreeView::new(tiles, new.size);
    if old.size == 0 {
        return match view.root()? == new.root {
            true => Ok(None),
            false => Err(Trouble::OtherTree { size: new.size }),
        };
    }
    let proof = view.prefix(old.size)?;
    match prefix_roots(old.size, new.size, &proof) {
        Ok((before, after)) if after == new.root => Ok((before != old.root).then_some(proof)),
        _ => Err(Trouble::OtherTree { size: new.size }),
    }
}

/// Appends what a lowest tile has beyond the edge.
fn grow(edge: &mut Edge, id: TileId, tiles: &impl TileReader) -> Result<Vec<Tile>, TileError> {
    let hashes = tiles.read_tile(id)?;
    let known = usize::try_from(edge.size() % u64::from(WIDTH)).unwrap_or(0);
    let malformed = || TileError::Malformed {
        tile: id,
        bytes: hashes.len() * crate::tile::HASH_BYTES,
    };
    if hashes.len() != usize::from(id.span.width()) {
        return Err(malformed());
    }
    Ok(edge.append(hashes.get(known..).ok_or_else(malformed)?))
}

/// Whether the tree of the checkpoint begins with what the edge was computed from.
fn is_prefix<R: TileReader>(
    edge: &Edge,
    latest: &SignedCheckpoint,
    view: &TreeView<R>,
) -> Result<bool, Trouble> {
    let said = latest.checkpoint();
    if edge.size() == said.size {
        return Ok(edge.root() == said.root);
    }
    let proof = view.prefix(edge.size())?;
    match prefix_roots(edge.size(), said.size, &proof) {
        Ok((before, after)) if after == said.root => Ok(before == edge.root()),
        _ => Err(Trouble::OtherTree { size: said.size }),
    }
}
