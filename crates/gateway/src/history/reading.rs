//! Reading the source: the log from where the fold stands, or the spool; and the journal in between.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use record::control::LogOrigin;
use record::leaf::leaf_hash;
use record::{Digest, Envelope, Record, RecordId, Stream};
use recorder::Recorder;
use reliability::facts::Fact;
use reliability::fold::{History, Policy};
use serde::Deserialize;
use tlog::bundle::{decode_bodies, decode_entries};
use tlog::checkpoint::SignedCheckpoint;
use tlog::merkle::Frontier;
use tlog::note::{NOTE_BYTES_MAX, NoteVerifier};
use tlog::tile::{Span, WIDTH};
use tokio::task::JoinError;

use super::journal::{self, Journal, JournalError, Reached};
use super::{Folded, LogSource, Source};
use crate::gateway::Gateway;
use crate::lock::{lock, read, write};
use crate::log_client::{BODIES_BYTES_MAX, ENTRIES_BYTES_MAX, LogError, open_with};

/// How often the log is looked at.
const LOG_POLL: Duration = Duration::from_millis(500);
/// How often the spool is.
const SPOOL_POLL: Duration = Duration::from_millis(200);
/// How long the source is left alone before the fold is made again: one that contradicted itself, or one
/// of whose records broke a step off, does so the next time as well.
const BEFORE_ANOTHER: Duration = Duration::from_secs(30);
/// Records taken from the spool at a time.
const SPOOL_BATCH: usize = 512;
/// So many times before what was folded is shown.
const SPOOL_BATCHES: usize = 16;

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the log {0}")]
    Log(#[from] LogError),
    #[error("the log's {what} cannot be used: {why}")]
    Unusable { what: &'static str, why: String },
    #[error(
        "the log contradicts itself: {0}; its history is not followed further. Check it with \
         `longrun log fsck`"
    )]
    Contradiction(String),
    #[error("the spool cannot be read: {0}")]
    Spool(#[from] recorder::RecorderError),
    #[error("a step of the fold broke off; it is made again")]
    BrokeOff,
    #[error("the gateway stops")]
    Stopped,
}

impl From<JoinError> for StepError {
    /// Nobody cancels a step but the runtime, when it ends: only a panic is trouble.
    fn from(error: JoinError) -> Self {
        if error.is_panic() {
            Self::BrokeOff
        } else {
            Self::Stopped
        }
    }
}

/// What records are folded into, and the journal of it.
pub(super) struct Folding {
    pub(super) folded: Folded,
    journal: Kept,
    /// The source was heard since the start, and fits what is folded.
    is_confirmed: bool,
    /// It was seen to that nothing is called missing which the spool let go of.
    is_bridged: bool,
}

/// Where the journal stands.
enum Kept {
    /// It was not opened yet.
    ToRecall,
    Open {
        journal: Box<Journal>,
        /// Why it could not be written last.
        trouble: Option<String>,
    },
    /// There is none.
    Nowhere,
}

impl Folding {
    pub(super) fn new(folded: Folded, is_journaled: bool) -> Self {
        Self {
            folded,
            journal: if is_journaled {
                Kept::ToRecall
            } else {
                Kept::Nowhere
            },
            is_confirmed: false,
            is_bridged: false,
        }
    }

    fn is_to_recall(&self) -> bool {
        matches!(self.journal, Kept::ToRecall)
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Opens the journal and folds what it holds; whether it held anything. Without a journal that can
    /// be used the history is made from the source, as without any.
    fn recall(&mut self, directory: &Path, of: &journal::Of, fresh: impl Fn() -> Folded) -> bool {
        self.journal = Kept::Nowhere;
        let mut journal = match Journal::open(directory, of) {
            Ok(journal) => journal,
            Err(error) => {
                tracing::warn!(%error, "the history is not kept over a restart");
                return false;
            }
        };
        if let Some(reached) = journal.reached().cloned() {
            self.folded = fresh();
            let folded = &mut self.folded;
            let fold = |fact: Fact<'_>| match fact {
                Fact::Record(record, index) => folded.apply(record, index),
                Fact::BeginsAt(stream, first) => folded.history.begin_at(stream, first),
            };
            match journal.replay(fold) {
                Ok(()) => folded.reach(reached),
                Err(error) => {
                    tracing::warn!(%error, "the journal is let go of; the history is made anew");
                    self.folded = fresh();
                    if let Err(error) = journal.begin() {
                        tracing::warn!(%error, "the history is not kept over a restart");
                        return false;
                    }
                }
            }
        }
        let held = journal.reached().is_some();
        self.journal = Kept::Open {
            journal: Box::new(journal),
            trouble: None,
        };
        held
    }

    /// Folds a record.
    fn apply(&mut self, record: &Record, index: u64) {
        if let Kept::Open { journal, .. } = &mut self.journal {
            journal.note(record, index);
        }
        self.folded.apply(record, index);
    }

    /// The numbers of a stream begin here: what was before is not kept, and not missing.
    fn begin_at(&mut self, stream: &Stream, first: u64) {
        if let Kept::Open { journal, .. } = &mut self.journal {
            journal.note_beginning(stream, first);
        }
        self.folded.history.begin_at(stream, first);
    }

    /// Facts that nothing vouches for yet are many at a first reading: they need not all be in memory.
    fn spill(&mut self) {
        self.journal.try_to(Journal::spill);
    }

    /// All that is folded is vouched for. The position in the spool up to which the journal is on the
    /// disk, where the spool is what is folded.
    pub(super) fn keep(&mut self, at_once: bool) -> Option<i64> {
        let reached = self.folded.reached()?;
        self.journal.try_to(|journal| {
            journal.keep(&reached, at_once)?;
            match reached {
                Reached::Log { .. } => Ok(None),
                Reached::Spool { .. } => match journal.durable()? {
                    Some(Reached::Spool { position }) => Ok(Some(*position)),
                    _ => Ok(None),
                },
            }
        })?
    }

    /// A step broke off in the middle, so the fold is made again. Nothing speaks against the journal: it
    /// is folded from there.
    pub(super) fn fold_again(&mut self, folded: Folded) {
        self.folded = folded;
        (self.is_confirmed, self.is_bridged) = (false, false);
        if matches!(self.journal, Kept::Open { .. }) {
            self.journal = Kept::ToRecall;
        }
    }

    /// Puts a fold that begins in the place of this one.
    pub(super) fn begin_again(&mut self, folded: Folded) {
        self.folded = folded;
        let Kept::Open { journal, .. } = &mut self.journal else {
            return;
        };
        if journal.reached().is_some() {
            tracing::warn!("what was folded so far does not fit the log; the history is made anew");
        }
        if let Err(error) = journal.begin() {
            tracing::warn!(%error, "the history is not kept over a restart");
            self.journal = Kept::Nowhere;
        }
    }
}

impl Kept {
    /// Does something to the journal, if there is one. A disk that takes nothing is waited for a while.
    fn try_to<T>(
        &mut self,
        step: impl FnOnce(&mut Journal) -> Result<T, JournalError>,
    ) -> Option<T> {
        let Self::Open { journal, trouble } = self else {
            return None;
        };
        match step(journal) {
            Ok(done) => {
                *trouble = None;
                Some(done)
            }
            Err(error) => {
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    tracing::warn!(error, "the journal of the history cannot be written");
                }
                *trouble = Some(error);
                if journal.is_overfull() {
                    tracing::error!("the journal of the history ends here until the next start");
                    *self = Self::Nowhere;
                }
                None
            }
        }
    }
}

impl Folded {
    /// The place in the source that it has come to, if that was vouched for.
    fn reached(&self) -> Option<Reached> {
        let frontier = self.frontier.clone();
        match self.root {
            Some(root) if frontier.root() == root => Some(Reached::Log { frontier, root }),
            None if self.spool > 0 => Some(Reached::Spool {
                position: self.spool,
            }),
            _ => None,
        }
    }

    fn reach(&mut self, reached: Reached) {
        match reached {
            Reached::Log { frontier, root } => {
                self.frontier = frontier;
                self.root = Some(root);
            }
            Reached::Spool { position } => self.spool = position,
        }
    }
}

/// Follows the source, until the gateway stops.
pub(crate) async fn keep_following(gateway: Arc<Gateway>) {
    loop {
        let histories = &gateway.histories;
        let (step, pause) = match &histories.source {
            Source::Log(log) => (from_log(&gateway, log).await, LOG_POLL),
            Source::Spool => (from_spool(&gateway).await, SPOOL_POLL),
        };
        let is_made_again = match &step {
            Err(StepError::Contradiction(_)) => histories.begin_again(),
            Err(StepError::BrokeOff) => {
                histories.fold_again();
                true
            }
            // Whatever this step was at is read again at the next start.
            Err(StepError::Stopped) => return,
            _ => false,
        };
        let pause = if is_made_again { BEFORE_ANOTHER } else { pause };
        let trouble = step.err().map(|error| error.to_string());
        let good = trouble.is_none();
        histories.note(trouble);
        histories.stepped.fetch_or(good, Ordering::Relaxed);
        if good {
            histories.learn_owners(&gateway);
        }
        // Without news too: how long ago something happened is a figure as well.
        histories.judge(&gateway.catalog(), gateway.clock.unix_ms());
        let sleep = tokio::time::sleep(pause);
        match &histories.source {
            Source::Spool if good => tokio::select! {
                () = sleep => {}
                () = gateway.recorder.has_many_fresh() => {}
            },
            _ => sleep.await,
        }
    }
}

/// Shows what was folded.
fn settle(gateway: &Gateway) {
    let histories = &gateway.histories;
    let shown = lock(&histories.fold).folded.shown();
    *write(&histories.shown) = Arc::new(shown);
    histories.judge(&gateway.catalog(), gateway.clock.unix_ms());
}

async fn from_spool(gateway: &Arc<Gateway>) -> Result<(), StepError> {
    recall(gateway, None).await?;
    bridge(gateway).await?;
    let fold = &gateway.histories.fold;
    loop {
        let begun = lock(fold).folded.spool;
        // The state is copied once for many records, and whoever reads it still sees it grow.
        for _ in 0..SPOOL_BATCHES {
            let after = lock(fold).folded.spool;
            let records = gateway.recorder.records_to_fold(after, SPOOL_BATCH);
            let records = records.await?;
            if records.is_empty() {
                break;
            }
            // Milliseconds, in which no call is to wait for this thread.
            let fold = Arc::clone(fold);
            let step = tokio::task::spawn_blocking(move || {
                let mut fold = lock(&fold);
                for (position, record) in records {
                    fold.apply(&record, u64::try_from(position).unwrap_or(0));
                    fold.folded.spool = position;
                }
                fold.spill();
            });
            step.await?;
        }
        keep(gateway).await?;
        if lock(fold).folded.spool == begun {
            return Ok(());
        }
        settle(gateway);
    }
}

/// The spool no longer has all that follows on what the journal held: a journal was lost or damaged. The
/// history goes on with what there is, and says nothing against anybody for what there is not.
async fn bridge(gateway: &Arc<Gateway>) -> Result<(), StepError> {
    let fold = &gateway.histories.fold;
    if lock(fold).is_bridged {
        return Ok(());
    }
    let (at, gone) = (lock(fold).folded.spool, gateway.recorder.gone_through());
    if at >= gone {
        lock(fold).is_bridged = true;
        return Ok(());
    }
    if at > 0 || gateway.recorder.let_go() > 0 {
        tracing::warn!(
            "records that were let go of are not in the journal of the history either; the history goes on \
             with those that are kept"
        );
    }
    for (stream, first) in gateway.recorder.first_numbers(at).await? {
        lock(fold).begin_at(&stream, first);
    }
    lock(fold).is_bridged = true;
    Ok(())
}

/// Takes up what the journal holds, once; the source is read from where it ends. `log` is the log's key.
async fn recall(gateway: &Arc<Gateway>, log: Option<&NoteVerifier>) -> Result<(), StepError> {
    let histories = &gateway.histories;
    if !lock(&histories.fold).is_to_recall() {
        return Ok(());
    }
    let of = journal::Of::new(
        gateway.recorder.identity().id(),
        log.map(NoteVerifier::to_vkey),
    );
    let directory = gateway.recorder.directory().to_owned();
    let owners = lock(&histories.owners).to_enter();
    let (fold, forecasts) = (Arc::clone(&histories.fold), histories.forecasts.clone());
    // A second per million records.
    let recalling = tokio::task::spawn_blocking(move || {
        let mut fold = lock(&fold);
        let policy = fold.folded.history.policy().clone();
        let fresh = || Folded::begin(policy.clone(), forecasts.clone(), owners.clone());
        fold.recall(&directory, &of, fresh)
    });
    if recalling.await? {
        settle(gateway);
    }
    Ok(())
}

/// All that is folded is vouched for: writes it to the journal when that is due, and tells the spool
/// what it need not keep for the fold any more.
async fn keep(gateway: &Arc<Gateway>) -> Result<(), StepError> {
    let fold = Arc::clone(&gateway.histories.fold);
    let keeping = tokio::task::spawn_blocking(move || lock(&fold).keep(false));
    if let Some(position) = keeping.await? {
        gateway.recorder.let_go_through(position);
    }
    Ok(())
}

async fn from_log(gateway: &Arc<Gateway>, log: &LogSource) -> Result<(), StepError> {
    let key = log_key(gateway, log).await?;
    recall(gateway, Some(&key)).await?;
    let (http, client) = (&gateway.client, &log.client);
    let note = client.get(http, "/checkpoint", NOTE_BYTES_MAX).await?;
    let signed = SignedCheckpoint::open(&note, &key).map_err(|e| StepError::Unusable {
        what: "checkpoint",
        why: e.to_string(),
    })?;
    let target = signed.checkpoint();
    let shown = gateway.histories.now();
    let have = shown.frontier.size();
    if target.size < have {
        let why = format!("it had {have} entries and now has {}", target.size);
        return Err(StepError::Contradiction(why));
    }
    let histories = &gateway.histories;
    if target.size == have && shown.root.is_some() {
        agree(&shown.frontier, target.root)?;
        lock(&histories.fold).confirm();
        return keep(gateway).await;
    }
    let fold = &histories.fold;
    let mut ours = Vec::new();
    loop {
        // A step that was broken off goes on here; one that went further than this checkpoint waits
        // for a later one.
        let at = lock(fold).folded.frontier.size();
        *lock(&histories.progress) = Some((at, target.size));
        if at >= target.size {
            break;
        }
        let span = Span::of_leaf(at, target.size).expect("the leaf is below the size");
        let bodies = format!("/longrun/v1/bodies/{span}");
        let bodies = client.get(http, &bodies, BODIES_BYTES_MAX).await?;
        let entries = format!("/tile/entries/{span}");
        let entries = client.get(http, &entries, ENTRIES_BYTES_MAX).await?;
        let (fold, recorder) = (Arc::clone(fold), gateway.recorder.clone());
        let step = tokio::task::spawn_blocking(move || {
            fold_bundle(&mut lock(&fold), span, &bodies, &entries, &recorder)
        });
        ours.extend(step.await??);
        // Older ones are no longer remembered anyway.
        ours.drain(..ours.len().saturating_sub(crate::recent::KEPT));
    }
    {
        let mut fold = lock(fold);
        if fold.folded.frontier.size() > target.size {
            return Ok(());
        }
        agree(&fold.folded.frontier, target.root)?;
        fold.folded.root = Some(target.root);
        fold.confirm();
    }
    settle(gateway);
    keep(gateway).await?;
    ours.into_iter().for_each(|id| gateway.recent.published(id));
    Ok(())
}

fn agree(frontier: &Frontier, root: Digest) -> Result<(), StepError> {
    if frontier.root() == root {
        return Ok(());
    }
    let why = format!(
        "its first {} entries do not have the root it signed",
        frontier.size()
    );
    Err(StepError::Contradiction(why))
}

fn unusable(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> StepError {
    move |why| StepError::Unusable {
        what,
        why: why.to_string(),
    }
}

/// Folds what is new in a bundle; the ids of our own records in it.
fn fold_bundle(
    fold: &mut Folding,
    span: Span,
    bodies: &[u8],
    entries: &[u8],
    recorder: &Recorder,
) -> Result<Vec<RecordId>, StepError> {
    let own = recorder.identity().id();
    let bodies = decode_bodies(bodies, span.width()).map_err(|e| unusable("bodies")(&e))?;
    let entries = decode_entries(entries, span.width()).map_err(|e| unusable("entries")(&e))?;
    let first = span.index() * u64::from(WIDTH);
    let mut ours = Vec::new();
    for ((place, entry), body) in (first..).zip(entries).zip(bodies) {
        if place < fold.folded.frontier.size() {
            continue;
        }
        fold.folded.frontier.push(leaf_hash(entry));
        // An erased body is gone from the history too; its leaf still counts for the root.
        let Some(body) = body else { continue };
        // What was signed here a moment ago, byte for byte, needs no verifying.
        let fresh = |envelope: &Envelope| {
            let fresh = recorder.take_fresh(envelope.record_id())?;
            (fresh.envelope == *envelope).then(|| Arc::unwrap_or_clone(fresh))
        };
        let record = open_with(entry, body, fresh)
            .map_err(|e| StepError::Contradiction(format!("entry {place}: {e}")))?;
        fold.apply(&record, place);
        if record.signer_id() == own {
            ours.push(record.id);
        }
    }
    fold.spill();
    Ok(ours)
}

#[derive(Deserialize)]
struct AboutLog {
    vkey: String,
}

async fn log_key(gateway: &Gateway, log: &LogSource) -> Result<NoteVerifier, StepError> {
    if let Some(key) = &*read(&log.key) {
        return Ok(key.clone());
    }
    let path = "/longrun/v1/log";
    let bytes = log
        .client
        .get(&gateway.client, path, NOTE_BYTES_MAX)
        .await?;
    let about: AboutLog =
        serde_json::from_slice(&bytes).map_err(|e| unusable("description")(&e))?;
    let key = NoteVerifier::from_vkey(&about.vkey).map_err(|e| unusable("key")(&e))?;
    let vkey = &about.vkey;
    tracing::warn!(
        vkey,
        "no key was configured for the log; taking the one that it names"
    );
    let origin = LogOrigin::new(key.name()).map_err(|e| unusable("origin")(&e))?;
    let own = gateway.recorder.identity().id();
    lock(&gateway.histories.fold).folded.history = History::new(Policy::own_records(own, origin));
    settle(gateway);
    *write(&log.key) = Some(key.clone());
    Ok(key)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_runtime_that_ends_is_no_trouble_and_a_panic_is() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.expect("a runtime");
        let panicked = runtime.spawn_blocking(|| panic!("as a fault in the fold would"));
        let panicked = runtime.block_on(panicked).expect_err("it panicked");
        assert!(matches!(StepError::from(panicked), StepError::BrokeOff));

        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let other = Builder::new_current_thread().build().expect("another");
        let stopped = other.block_on(handle.spawn_blocking(|| ()));
        let stopped = stopped.expect_err("it was never begun");
        assert!(matches!(StepError::from(stopped), StepError::Stopped));
    }
}
