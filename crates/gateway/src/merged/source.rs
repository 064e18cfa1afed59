//! One of the logs that are merged: what it signed, proven from its tiles, then its records.
//!
//! First the leaf hashes are read (32 bytes per entry) and must add up to the signed root; that also
//! gives the root of every beginning of the log that anyone asks for. Then entries and bodies are
//! read up to one of those beginnings, and must have its root before a single record counts. What comes
//! over the wire damaged, or from a copy that lags behind, is no contradiction and is read again. A log
//! contradicts itself when two of its signed checkpoints cannot both be of one log: that is what
//! [`SourceError::Contradiction`] says, with the checkpoint that proves it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
use record::control::LogOrigin;
use record::digest::Sha256;
use record::leaf::{Leaf, leaf_hash};
use record::{Digest, Record};
use tlog::bundle::{decode_bodies, decode_entries};
use tlog::checkpoint::SignedCheckpoint;
use tlog::merkle::Frontier;
use tlog::note::NOTE_BYTES_MAX;
use tlog::policy::TrustPolicy;
use tlog::tile::{HASH_BYTES, Span, Tile, TileId, WIDTH};
use tokio::task::JoinError;

use crate::log_client::{BODIES_BYTES_MAX, ENTRIES_BYTES_MAX, LogClient, LogError, open};

/// Entries that are read in one step.
pub(super) const STEP: u64 = 4_096;
/// How long one log may hold up the others at a time: more than one request takes.
const TURN: Duration = Duration::from_secs(15);
/// How long a log is left alone after a failure: doubled with each, up to the second number.
const REST_MS: (u64, u64) = (500, 60_000);

/// Why a log could not be read on.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("it {0}")]
    Log(#[from] LogError),
    #[error("taking what it sent broke off; it is read again")]
    BrokeOff,
    #[error("the gateway stops")]
    Stopped,
    #[error("its {what} cannot be used: {why}")]
    Unusable { what: &'static str, why: String },
    #[error("it is slow: what came within {} s is kept, and reading goes on from there", TURN.as_secs())]
    Slow,
    #[error("{why}")]
    Contradiction {
        why: String,
        /// Two notes that one log cannot both have signed.
        before: String,
        checkpoint: String,
    },
}

impl From<JoinError> for SourceError {
    /// Nobody cancels a step but the runtime, when it ends: only a panic is trouble.
    fn from(error: JoinError) -> Self {
        if error.is_panic() {
            Self::BrokeOff
        } else {
            Self::Stopped
        }
    }
}

/// A checkpoint that everything before it was proven to agree with.
#[derive(Clone, Debug)]
pub(super) struct Proven {
    pub(super) size: u64,
    pub(super) note: String,
}

/// Leaf hashes that are being added up. Kept between looks, so that a slow log comes on.
struct Sum {
    hashes: Frontier,
    /// The roots at its steps, at the marks, at what was proven before and at the end.
    roots: BTreeMap<u64, Digest>,
    /// Whether it began at the first entry, not where the last checkpoint ended.
    is_whole: bool,
}

impl Sum {
    fn after(hashes: Frontier) -> Self {
        Self {
            is_whole: hashes.size() == 0,
            hashes,
            roots: BTreeMap::new(),
        }
    }
}

/// What a step brought.
pub(super) struct Step {
    /// Records of the policy's signers, by index.
    pub(super) records: Vec<(u64, Record)>,
    /// Place and id of every record whose body was there, hashed.
    told: Sha256,
    /// How far the log is read after it.
    read: Frontier,
}

impl Step {
    pub(super) fn upto(&self) -> u64 {
        self.read.size()
    }

    pub(super) fn root(&self) -> Digest {
        self.read.root()
    }

    /// Which records there were: the same step, made again, tells the same.
    pub(super) fn told(&self) -> Digest {
        self.told.clone().finish()
    }
}

/// What the policy knows of a log beforehand.
struct Known {
    policy: Arc<TrustPolicy>,
    /// Control records of its signers by their places in this log: whoever serves it might leave out
    /// the body of one that ends a key.
    controls: BTreeMap<u64, Record>,
}

impl Known {
    fn of(policy: Arc<TrustPolicy>, log: &LogOrigin) -> Self {
        let signers = policy.signers().iter();
        let controls = signers.flat_map(|signer| signer.controls_in(log));
        Self {
            controls: controls
                .map(|(place, control)| (place, control.clone()))
                .collect(),
            policy,
        }
    }
}

/// A log of the policy.
pub(super) struct Source {
    pub(super) origin: LogOrigin,
    log: LogClient,
    known: Arc<Known>,
    /// All leaf hashes up to the last checkpoint that was proven.
    hashes: Frontier,
    proven: Option<Proven>,
    sum: Option<Sum>,
    /// Sizes past what was read → the root over so many entries.
    roots: BTreeMap<u64, Digest>,
    read: Frontier,
    /// A step that is being read: a slow log goes on there.
    begun: Option<Step>,
    /// The last bundle that was read: the next step may go on inside it.
    held: Option<(Span, Bytes, Bytes)>,
    pub(super) trouble: Option<String>,
    failures: u32,
    again_ms: u64,
}

impl Source {
    pub(super) fn new(origin: LogOrigin, log: LogClient, policy: Arc<TrustPolicy>) -> Self {
        Self {
            log,
            known: Arc::new(Known::of(policy, &origin)),
            origin,
            hashes: Frontier::default(),
            proven: None,
            sum: None,
            roots: BTreeMap::new(),
            read: Frontier::default(),
            begun: None,
            held: None,
            trouble: None,
            failures: 0,
            again_ms: 0,
        }
    }

    pub(super) fn url(&self) -> &str {
        self.log.url()
    }

    pub(super) fn size(&self) -> u64 {
        self.read.size()
    }

    pub(super) fn proven(&self) -> Option<&Proven> {
        self.proven.as_ref()
    }

    /// Where the next step ends; `None` when everything that is proven was read.
    pub(super) fn next_upto(&self) -> Option<u64> {
        self.roots.keys().next().copied()
    }

    /// Whether the log may be asked again after what failed before.
    pub(super) fn may_be_asked(&self, now_ms: u64) -> bool {
        now_ms >= self.again_ms
    }

    /// Notes how a step went.
    pub(super) fn note(&mut self, error: Option<&SourceError>, now_ms: u64) {
        let trouble = error.map(ToString::to_string);
        if let Some(why) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            let log = self.origin.as_str();
            tracing::warn!(log, why, "a log of the merged history is not up to date");
        }
        self.trouble = trouble;
        if matches!(error, Some(SourceError::Slow)) {
            // It does answer: left alone longer and longer, it would never come on.
            self.again_ms = now_ms.saturating_add(REST_MS.0);
        } else if error.is_some() {
            let rest_ms = REST_MS.0 << self.failures.min(16);
            self.again_ms = now_ms.saturating_add(rest_ms.min(REST_MS.1));
            self.failures += 1;
        } else {
            (self.failures, self.again_ms) = (0, 0);
        }
    }

    /// Takes a look at what the log signs now, and proves it. `marks` are sizes at which the root is
    /// wanted besides.
    pub(super) async fn prove(
        &mut self,
        client: &Client,
        marks: &BTreeSet<u64>,
    ) -> Result<(), SourceError> {
        let proving = self.prove_in_time(client, marks);
        let proven = tokio::time::timeout(TURN, proving).await;
        proven.unwrap_or(Err(SourceError::Slow))
    }

    async fn prove_in_time(
        &mut self,
        client: &Client,
        marks: &BTreeSet<u64>,
    ) -> Result<(), SourceError> {
        let note = self.log.get(client, "/checkpoint", NOTE_BYTES_MAX).await?;
        let signed = SignedCheckpoint::parse(&note).map_err(|e| unusable("checkpoint", &e))?;
        self.is_of_the_policy(&signed)?;
        let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
        let note = String::from_utf8_lossy(&note).into_owned();
        let have = self.hashes.size();
        if size < have {
            let why = format!("an old one of {size} entries; {have} are known");
            return Err(unusable("checkpoint", &why));
        }
        if size == have && self.proven.is_some() {
            return if self.hashes.root() == root {
                Ok(())
            } else {
                Err(self.contradiction(note))
            };
        }
        let mut sum = self.add_up(client, size, marks).await?;
        if sum.hashes.root() != root && !sum.is_whole {
            // Damaged on the way, or another past: that shows when all of it is read.
            self.sum = Some(Sum::after(Frontier::default()));
            sum = self.add_up(client, size, marks).await?;
        }
        if sum.hashes.root() != root {
            let why = format!("the first {size} do not have the root it signed");
            return Err(unusable("leaf hashes", &why));
        }
        // What was added to the proven hashes can but go on from them; all of them anew must.
        let goes_on = !sum.is_whole || have == 0;
        if !goes_on && sum.roots.get(&have) != Some(&self.hashes.root()) {
            return Err(self.contradiction(note));
        }
        let read = self.read.size();
        let new = sum.roots.into_iter().filter(|(at, _)| *at > read);
        self.roots.extend(new);
        self.hashes = sum.hashes;
        self.proven = Some(Proven { size, note });
        Ok(())
    }

    fn contradiction(&self, checkpoint: String) -> SourceError {
        let have = self.hashes.size();
        let before = self.proven.as_ref().map(|proven| proven.note.clone());
        SourceError::Contradiction {
            why: format!("its first {have} entries are not those that it signed before"),
            before: before.unwrap_or_default(),
            checkpoint,
        }
    }

    fn is_of_the_policy(&self, signed: &SignedCheckpoint) -> Result<(), SourceError> {
        let wrong = |why: &dyn std::fmt::Display| unusable("checkpoint", why);
        let found = &signed.checkpoint().origin;
        if found != self.origin.as_str() {
            return Err(wrong(&format!("it is that of {found}")));
        }
        let logs = self.known.policy.logs();
        if logs
            .log_that_signed(signed)
            .map_err(|e| wrong(&e))?
            .is_none()
        {
            return Err(wrong(&"no key of the policy signed it"));
        }
        let witnessing = logs.witnessing(signed).map_err(|e| wrong(&e))?;
        if witnessing.quorum == Some(false) {
            return Err(wrong(&"it lacks witnesses that the policy asks for"));
        }
        Ok(())
    }

    /// Adds leaf hashes up to `size`, from where it was left off. Given up in between, it goes on there.
    async fn add_up(
        &mut self,
        client: &Client,
        size: u64,
        marks: &BTreeSet<u64>,
    ) -> Result<Sum, SourceError> {
        let have = self.hashes.size();
        let begun = self.sum.take().filter(|sum| sum.hashes.size() <= size);
        let mut sum = begun.unwrap_or_else(|| Sum::after(self.hashes.clone()));
        while sum.hashes.size() < size {
            let at = sum.hashes.size();
            let tile = TileId::in_tree(0, at / u64::from(WIDTH), size);
            let id = tile.ok_or_else(|| unusable("size", &"no tile holds its end"))?;
            let limit = usize::from(WIDTH) * HASH_BYTES;
            self.sum = Some(sum);
            let bytes = self.log.get(client, &format!("/{id}"), limit).await?;
            sum = self
                .sum
                .take()
                .expect("it was put there before the tile was asked for");
            let tile = Tile::from_bytes(id, &bytes).map_err(|e| unusable("tile", &e))?;
            let first = id.span.index() * u64::from(WIDTH);
            for (place, hash) in (first..).zip(tile.hashes) {
                if place < sum.hashes.size() {
                    continue;
                }
                sum.hashes.push(hash);
                let now = sum.hashes.size();
                let is_wanted = now == size || now == have || marks.contains(&now);
                if is_wanted || now.is_multiple_of(STEP) {
                    sum.roots.insert(now, sum.hashes.root());
                }
            }
        }
        Ok(sum)
    }

    /// The root over the first `size` entries, if it is proven and still to be read.
    pub(super) fn root_at(&self, size: u64) -> Option<Digest> {
        self.roots.get(&size).copied()
    }

    /// Reads up to `upto`, a size whose root is proven. Nothing changes before [`Source::took`].
    pub(super) async fn read(&mut self, client: &Client, upto: u64) -> Result<Step, SourceError> {
        let reading = self.read_in_time(client, upto);
        let read = tokio::time::timeout(TURN, reading).await;
        read.unwrap_or(Err(SourceError::Slow))
    }

    async fn read_in_time(&mut self, client: &Client, upto: u64) -> Result<Step, SourceError> {
        let Some(root) = self.root_at(upto) else {
            return Err(unusable("size", &format!("nothing is proven up to {upto}")));
        };
        let begun = self.begun.take().filter(|step| step.upto() <= upto);
        let mut step = begun.unwrap_or_else(|| Step {
            records: Vec::new(),
            told: Sha256::new(),
            read: self.read.clone(),
        });
        while step.upto() < upto {
            let at = step.upto();
            self.begun = Some(step);
            let (span, entries, bodies) = self.bundle(client, at).await?;
            step = self
                .begun
                .take()
                .expect("it was put there before the bundle was asked for");
            let known = Arc::clone(&self.known);
            // Hundreds of signatures: not on a thread that answers calls.
            let taking = tokio::task::spawn_blocking(move || {
                take(&mut step, span, (&entries, &bodies), upto, &known).map(|()| step)
            });
            step = match taking.await? {
                Ok(step) => step,
                Err(error) => {
                    // Damaged on the way, or not yet what it will be: a full bundle has no other name
                    // under which it would be asked for again.
                    self.held = None;
                    return Err(error);
                }
            };
        }
        if step.upto().is_multiple_of(u64::from(WIDTH)) {
            // Nobody goes on inside it.
            self.held = None;
        }
        if step.read.root() != root {
            // Damaged on the way: it is read again.
            self.held = None;
            let why = format!("those up to {upto} are not what its tree holds");
            return Err(unusable("entries", &why));
        }
        Ok(step)
    }

    /// The step is in the journal: the log is read so far.
    pub(super) fn took(&mut self, step: Step) -> Vec<(u64, Record)> {
        self.read = step.read;
        self.roots = self.roots.split_off(&(self.read.size() + 1));
        step.records
    }

    async fn bundle(
        &mut self,
        client: &Client,
        at: u64,
    ) -> Result<(Span, Bytes, Bytes), SourceError> {
        let size = self.proven.as_ref().map_or(0, |proven| proven.size);
        let next = Span::of_leaf(at, size);
        let span = next.ok_or_else(|| unusable("size", &"no bundle holds its end"))?;
        if let Some(held) = self.held.as_ref().filter(|(held, ..)| *held == span) {
            return Ok(held.clone());
        }
        let entries = format!("/tile/entries/{span}");
        let kind = if self.log.has_token() {
            "bodies"
        } else {
            "published"
        };
        let bodies = format!("/longrun/v1/{kind}/{span}");
        let entries = self.log.get(client, &entries, ENTRIES_BYTES_MAX).await?;
        let bodies = self.log.get(client, &bodies, BODIES_BYTES_MAX).await?;
        let bundle = (span, entries, bodies);
        self.held = Some(bundle.clone());
        Ok(bundle)
    }
}

/// Takes what is new in a bundle, up to `upto`.
fn take(
    step: &mut Step,
    span: Span,
    (entries, bodies): (&[u8], &[u8]),
    upto: u64,
    known: &Known,
) -> Result<(), SourceError> {
    let entries = decode_entries(entries, span.width()).map_err(|e| unusable("entries", &e))?;
    let bodies = decode_bodies(bodies, span.width()).map_err(|e| unusable("bodies", &e))?;
    let first = span.index() * u64::from(WIDTH);
    for ((place, entry), body) in (first..upto).zip(entries).zip(bodies) {
        if place < step.read.size() {
            continue;
        }
        step.read.push(leaf_hash(entry));
        let control = known.controls.get(&place);
        if let Some(control) = control {
            let same = Leaf::parse(entry).and_then(|leaf| leaf.check(control));
            same.map_err(|_| {
                let why = "is another record than the control record that the policy has there";
                unusable("entries", &format!("entry {place} {why}"))
            })?;
        }
        let record = match (body, control) {
            (Some(body), _) => {
                let record = open(entry, body)
                    .map_err(|error| unusable("bodies", &format!("entry {place}: {error}")))?;
                step.told.update(&place.to_be_bytes());
                step.told.update(record.id.as_bytes());
                record
            }
            (None, Some(control)) => control.clone(),
            (None, None) => continue,
        };
        // Whoever the policy does not name may write what he likes: none of it is kept.
        if known.policy.signer(record.signer_id()).is_some() {
            step.records.push((place, record));
        }
    }
    Ok(())
}

fn unusable(what: &'static str, why: &dyn std::fmt::Display) -> SourceError {
    let why = why.to_string();
    SourceError::Unusable { what, why }
}

#[cfg(test)]
mod tests;
