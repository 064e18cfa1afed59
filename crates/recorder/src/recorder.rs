//! The handle that nodes and gateways hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use record::{
    CallId, Endpoint, Envelope, Exchange, NumberedKind, Outcome, Predicate, RecordId, Statement,
};
use store::spool::dir::Claim;
use store::spool::{self, Block, NewRow, Opened, Spool, SpoolError};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::config::{Config, Context};
use crate::error::RecorderError;
use crate::identity::{self, Identity};
use crate::lookup::{self, Entry};
use crate::numbers::{Numbered, Stream, lock, parse_name};
use crate::ship::{Home, Shipped, Shipper};
use crate::voids::{Ledger, Tallied, Tally};

/// Content of the file `VERSION` in a signer directory.
const VERSION: &str = "longrun signer 1\n";
/// What a record is expected to take in the spool, bytes: decides whether there is room before
/// it is signed.
const RECORD_BYTES: u64 = 4096;
/// How often the clerk looks whether there are numbers to void.
const CLERK_PERIOD: Duration = Duration::from_secs(1);
/// The spool has room for voids' sake again below this share of its bounds: 9 in 10.
const ROOM_TENTHS: u64 = 9;

/// A signer at work. Cheap to clone; see the crate's documentation.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    context: Context,
    spool: Spool,
    streams: Mutex<HashMap<(Endpoint, NumberedKind), Stream>>,
    ledger: Arc<Ledger>,
    counters: Arc<Counters>,
    home: Option<Home>,
    shipped: Arc<Shipped>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the writer's callbacks touch.
#[derive(Default)]
struct Counters {
    recorded: AtomicU64,
    unrecorded: AtomicU64,
    voided: AtomicU64,
    /// A row became durable: the shipper has work.
    durable: Notify,
}

/// A statement about an exchange, to be signed and filed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Commitments to request and response.
    pub exchange: Exchange,
    /// A receipt or an observation whose `stream` is [`Numbered::place`].
    pub predicate: Predicate,
    /// The call it belongs to, for [`Recorder::by_call`].
    pub call: Option<CallId>,
    /// Stored beside it and never shipped, at most 64 KiB.
    pub private: Vec<u8>,
    /// Somebody waits for [`Queued::durable`]: commit without gathering first.
    pub prompt: bool,
}

/// What became of a draft.
#[derive(Debug)]
#[must_use]
pub enum Recorded {
    /// Signed and on its way to the disk.
    Queued(Queued),
    /// Not recorded. Its number and outcome are counted, and a `void` will say so.
    Unrecorded(WhyUnrecorded),
}

/// Why something was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyUnrecorded {
    /// The spool is full: the home log has been away for long.
    SpoolFull,
    /// The disk or the database failed, or the recorder was closed.
    Failed,
}

/// A signed record that is on its way to the disk.
#[derive(Debug)]
pub struct Queued {
    id: RecordId,
    envelope: Envelope,
    durable: oneshot::Receiver<Result<(), SpoolError>>,
}

impl Queued {
    /// The record's id.
    #[must_use]
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// The signed envelope. Hand it out only once it is durable: if this process dies before,
    /// its number is voided.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Waits for the group commit.
    ///
    /// # Errors
    /// [`WhyUnrecorded::Failed`]: it is not recorded after all.
    pub async fn durable(self) -> Result<(RecordId, Envelope), WhyUnrecorded> {
        match self.durable.await {
            Ok(Ok(())) => Ok((self.id, self.envelope)),
            Ok(Err(_)) | Err(_) => Err(WhyUnrecorded::Failed),
        }
    }
}

impl Recorded {
    /// Waits for the group commit; `None` if it is not recorded.
    pub async fn durable(self) -> Option<(RecordId, Envelope)> {
        match self {
            Recorded::Queued(queued) => queued.durable().await.ok(),
            Recorded::Unrecorded(_) => None,
        }
    }

    /// The record's id, if it was signed.
    #[must_use]
    pub fn id(&self) -> Option<RecordId> {
        match self {
            Recorded::Queued(queued) => Some(queued.id),
            Recorded::Unrecorded(_) => None,
        }
    }
}

/// How a recorder is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Records that wait for the log, those that wait for their commit included.
    pub pending: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
    /// Age of the oldest of them, ms.
    pub oldest_pending_age_ms: Option<u64>,
    /// Records kept here that are in the log.
    pub published: u64,
    /// Records kept here that the log will not take.
    pub refused: u64,
    /// Records that became durable since this process started.
    pub recorded: u64,
    /// Outcomes that could not be recorded since this process started.
    pub unrecorded: u64,
    /// Numbers voided since this process started.
    pub voided: u64,
    /// Numbers that wait for a void.
    pub to_void: u64,
    /// When the log last took something, Unix ms.
    pub last_published_ms: Option<u64>,
    /// What the last attempt at the log failed with; cleared by success.
    pub log_error: Option<String>,
    /// Whether the last commit went well.
    pub disk_ok: bool,
}

/// A number on its way through the writer; if nobody settles it, its outcome is counted.
struct InFlight {
    number: Option<Numbered>,
    outcome: Outcome,
    counters: Arc<Counters>,
}

impl InFlight {
    fn land(mut self) {
        if let Some(number) = self.number.take() {
            number.settled();
        }
        self.counters.recorded.fetch_add(1, Ordering::Relaxed);
        self.counters.durable.notify_one();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.counters.unrecorded.fetch_add(1, Ordering::Relaxed);
            number.tally(Tallied::Unrecorded(self.outcome));
            number.settled();
        }
    }
}

impl Recorder {
    /// Opens the signer in `config.directory`, or creates it: keys, first control records, spool.
    /// Signs voids over numbers that a crash lost, and starts shipping. Reads and writes files,
    /// briefly; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`RecorderError`] naming the file or field; a directory of another version, in use by
    /// another process or not writable is left untouched.
    pub fn open(config: &Config, context: Context) -> Result<Recorder, RecorderError> {
        identity::home_origin(config.home_log.as_ref())?;
        let home = config.home_log.as_ref().map(Home::new).transpose()?;
        let claim = Claim::take(&config.directory, VERSION)?;
        let Opened {
            spool,
            lost,
            resumed,
        } = Spool::open_in(claim, config.spool.clone())?;
        let (identity, controls) = identity::open(config, &context, &spool.pinned()?)?;
        let shipped = Arc::new(Shipped::default());
        let recorder = Recorder {
            inner: Arc::new(Inner {
                identity,
                context,
                spool,
                streams: Mutex::default(),
                ledger: Arc::default(),
                counters: Arc::default(),
                home,
                shipped,
                tasks: Mutex::default(),
            }),
        };
        recorder.keep_controls(&controls)?;
        recorder.void_lost(&lost)?;
        recorder.resume(&resumed)?;
        recorder.start(config);
        Ok(recorder)
    }

    /// Who signs.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The home log's verifier key, if there is one.
    #[must_use]
    pub fn home_log(&self) -> Option<&tlog::note::NoteVerifier> {
        self.inner.home.as_ref().map(Home::verifier)
    }

    /// The home log's base URL, if there is one.
    #[must_use]
    pub fn home_url(&self) -> Option<&str> {
        self.inner.home.as_ref().map(Home::url)
    }

    /// The clock and the random source it was opened with.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    /// The stream of an endpoint and kind. Keep it: looking it up costs more than a number.
    #[must_use]
    pub fn stream(&self, endpoint: &Endpoint, kind: NumberedKind) -> Stream {
        let inner = &self.inner;
        let mut streams = lock(&inner.streams);
        let key = (endpoint.clone(), kind);
        let make = || {
            let (spool, ledger) = (inner.spool.clone(), inner.ledger.clone());
            let key = inner.identity.key_id();
            Stream::new(
                key,
                endpoint.clone(),
                kind,
                spool,
                inner.context.clone(),
                ledger,
            )
        };
        streams.entry(key).or_insert_with(make).clone()
    }

    /// The next number of a stream; [`Stream::number`] in one step.
    ///
    /// # Errors
    /// As [`Stream::number`].
    pub async fn lease(
        &self,
        endpoint: &Endpoint,
        kind: NumberedKind,
    ) -> Result<Numbered, RecorderError> {
        self.stream(endpoint, kind).number().await
    }

    /// Whether a record made now can be expected to be kept. Says it before an answer ends; only
    /// [`Queued::durable`] is certain.
    #[must_use]
    pub fn expects_to_record(&self) -> bool {
        self.inner.spool.has_room(RECORD_BYTES) && self.inner.spool.is_well()
    }

    /// Signs a statement and queues it. Does not wait; takes the time of one signature.
    ///
    /// # Errors
    /// [`RecorderError::Statement`] or [`RecorderError::OtherNumber`] for a statement that cannot
    /// be filed under this number; the number is then voided with an unknown outcome.
    pub fn record(&self, number: Numbered, draft: Draft) -> Result<Recorded, RecorderError> {
        let inner = &self.inner;
        let outcome = outcome(&draft.predicate);
        let flight = |number| InFlight {
            number: Some(number),
            outcome,
            counters: inner.counters.clone(),
        };
        if !inner.spool.has_room(RECORD_BYTES) {
            drop(flight(number));
            return Ok(Recorded::Unrecorded(WhyUnrecorded::SpoolFull));
        }
        let signer = inner.identity.signer();
        let statement = Statement::about(signer, draft.exchange, draft.predicate)?;
        check_number(&statement, &number)?;
        let envelope = inner
            .identity
            .sign(&statement, inner.context.random.as_ref())?;
        let row = NewRow {
            number: Some((number.spool_stream, number.seq().number())),
            call: draft.call.map(|call| *call.as_bytes()),
            private: draft.private,
            prompt: draft.prompt,
            ..self.row(&envelope)
        };
        Ok(self.append(row, envelope, flight(number)))
    }

    /// Signs and keeps an unnumbered statement of one's own, such as a manifest. It is never
    /// pruned, and in the log before anything that was signed after it is sent.
    ///
    /// # Errors
    /// [`RecorderError::Statement`].
    pub fn post(&self, predicate: impl Into<Predicate>) -> Result<Recorded, RecorderError> {
        let inner = &self.inner;
        let statement = Statement::new(inner.identity.signer(), predicate)?;
        let envelope = inner
            .identity
            .sign(&statement, inner.context.random.as_ref())?;
        let row = NewRow {
            pinned: true,
            urgent: true,
            prompt: true,
            ..self.row(&envelope)
        };
        Ok(self.append(row, envelope, self.unnumbered()))
    }

    /// Keeps somebody else's record with a call and sends it to the home log too: a node's
    /// receipt, of which the caller wants the proof. The caller has verified it. A record that is
    /// here already is not an error.
    pub fn keep(&self, envelope: Envelope, call: Option<CallId>, private: Vec<u8>) -> Recorded {
        let call = call.map(|call| *call.as_bytes());
        let row = NewRow {
            call,
            private,
            ..self.row(&envelope)
        };
        self.append(row, envelope, self.unnumbered())
    }

    /// One record with its state.
    ///
    /// # Errors
    /// The spool's.
    pub async fn entry(&self, id: RecordId) -> Result<Option<Entry>, RecorderError> {
        self.read(move |recorder| {
            let row = recorder.inner.spool.by_id(id.as_bytes())?;
            row.map(|row| recorder.to_entry(row)).transpose()
        })
        .await
    }

    /// The Sigstore bundle of a record, once it is published.
    ///
    /// # Errors
    /// The spool's.
    pub async fn bundle(&self, id: RecordId) -> Result<Option<record::Bundle>, RecorderError> {
        Ok(self.entry(id).await?.as_ref().and_then(Entry::bundle))
    }

    /// The records of a call, in the order they were recorded: own observations and kept
    /// receipts. Empty if there are none (any more).
    ///
    /// # Errors
    /// The spool's.
    pub async fn by_call(&self, call: CallId) -> Result<Vec<Entry>, RecorderError> {
        self.read(move |recorder| {
            let rows = recorder.inner.spool.by_call(call.as_bytes())?;
            rows.into_iter().map(|row| recorder.to_entry(row)).collect()
        })
        .await
    }

    /// The control records and everything that was [posted](Recorder::post), in order.
    ///
    /// # Errors
    /// The spool's.
    pub async fn pinned(&self) -> Result<Vec<Entry>, RecorderError> {
        self.read(|recorder| {
            let rows = recorder.inner.spool.pinned()?;
            rows.into_iter().map(|row| recorder.to_entry(row)).collect()
        })
        .await
    }

    /// Everything that is kept after position `after`, at most `limit` records, each with its
    /// position.
    ///
    /// # Errors
    /// The spool's.
    pub async fn entries(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Entry)>, RecorderError> {
        self.read(move |recorder| {
            let rows = recorder.inner.spool.rows(after, limit)?;
            rows.into_iter()
                .map(|row| Ok((row.n, recorder.to_entry(row)?)))
                .collect()
        })
        .await
    }

    /// The highest number leased of each stream: what hourly high-water marks will state.
    ///
    /// # Errors
    /// The spool's.
    pub async fn high_marks(&self) -> Result<Vec<(Endpoint, NumberedKind, u64)>, RecorderError> {
        self.read(|recorder| {
            let marks = recorder.inner.spool.high_marks()?;
            let parse = |(name, high): (String, u64)| {
                parse_name(&name).map(|(endpoint, kind)| (endpoint, kind, high))
            };
            marks.into_iter().map(parse).collect()
        })
        .await
    }

    /// How it is doing.
    ///
    /// # Errors
    /// The spool's.
    pub async fn status(&self) -> Result<Status, RecorderError> {
        let spool = self.inner.spool.clone();
        let oldest = tokio::task::spawn_blocking(move || spool.oldest_pending_ms()).await;
        let oldest = oldest.map_err(|_| RecorderError::Closed)??;
        let Inner {
            spool,
            counters,
            ledger,
            shipped,
            context,
            ..
        } = &*self.inner;
        let counts = spool.counts();
        let now = context.clock.unix_ms();
        Ok(Status {
            pending: counts.pending_rows,
            pending_bytes: counts.pending_bytes,
            oldest_pending_age_ms: oldest.map(|oldest| now.saturating_sub(oldest)),
            published: counts.published_rows,
            refused: counts.refused_rows,
            recorded: counters.recorded.load(Ordering::Relaxed),
            unrecorded: counters.unrecorded.load(Ordering::Relaxed),
            voided: counters.voided.load(Ordering::Relaxed),
            to_void: ledger.len(),
            last_published_ms: shipped.last_published_ms(),
            log_error: shipped.error(),
            disk_ok: spool.is_well(),
        })
    }

    /// Waits until everything recorded so far is durable.
    ///
    /// # Errors
    /// The spool's.
    pub async fn flush(&self) -> Result<(), RecorderError> {
        self.read(|_| Ok(())).await
    }

    /// Stops in order: no more numbers, voids for what has none, `patience` for the log to take
    /// what is pending, then the spool is closed with a note of the numbers never handed out, so
    /// that the next start goes on with them. Numbers still in somebody's hands count as lost.
    ///
    /// # Errors
    /// The spool's. What was durable stays so.
    pub async fn close(&self, patience: Duration) -> Result<(), RecorderError> {
        let inner = self.inner.clone();
        let unused = self.wind_up(patience).await;
        let tasks = std::mem::take(&mut *lock(&inner.tasks));
        for task in tasks {
            task.abort();
            // Cancelled, as asked.
            let _ = task.await;
        }
        let unused = unused?;
        let closed = tokio::task::spawn_blocking(move || inner.spool.close(unused)).await;
        Ok(closed.map_err(|_| RecorderError::Closed)??)
    }

    /// No more numbers, voids where they are due, and time for the log. Gives the numbers that
    /// were never handed out.
    async fn wind_up(&self, patience: Duration) -> Result<Vec<spool::Range>, RecorderError> {
        let inner = &self.inner;
        let streams: Vec<Stream> = lock(&inner.streams).values().cloned().collect();
        streams.iter().for_each(Stream::stop);
        // Leases under way arrive before this returns.
        self.flush().await?;
        let unused = streams.iter().flat_map(Stream::leftovers).collect();
        self.write_voids(true)?;
        self.flush().await?;
        if inner.home.is_some() {
            let drained = async {
                while inner.spool.counts().pending_rows > 0 {
                    inner.shipped.changed().await;
                }
            };
            // Not drained in time: the next start ships the rest.
            let _ = tokio::time::timeout(patience, drained).await;
        }
        Ok(unused)
    }

    fn row(&self, envelope: &Envelope) -> NewRow {
        NewRow {
            id: *envelope.record_id().as_bytes(),
            envelope: envelope.to_json(),
            at_ms: self.inner.context.clock.unix_ms(),
            ..NewRow::default()
        }
    }

    fn unnumbered(&self) -> InFlight {
        // The outcome only matters where there is a number to void.
        let counters = self.inner.counters.clone();
        InFlight {
            number: None,
            outcome: Outcome::Ok,
            counters,
        }
    }

    fn append(&self, row: NewRow, envelope: Envelope, flight: InFlight) -> Recorded {
        let (answer, durable) = oneshot::channel();
        let id = RecordId::from_bytes(row.id);
        let done = Box::new(move |outcome: Result<(), SpoolError>| {
            match &outcome {
                Ok(()) => flight.land(),
                Err(error) => tracing::warn!(record = %id, %error, "not recorded"),
            }
            // Nobody may be waiting.
            let _ = answer.send(outcome);
        });
        match self.inner.spool.append(row, done) {
            Ok(()) => Recorded::Queued(Queued {
                id,
                envelope,
                durable,
            }),
            Err(SpoolError::Full { .. }) => Recorded::Unrecorded(WhyUnrecorded::SpoolFull),
            Err(error) => {
                tracing::warn!(record = %id, %error, "not recorded");
                Recorded::Unrecorded(WhyUnrecorded::Failed)
            }
        }
    }

    fn to_entry(&self, row: spool::Row) -> Result<Entry, RecorderError> {
        let Inner {
            spool,
            home,
            identity,
            ..
        } = &*self.inner;
        lookup::entry(
            row,
            spool,
            home.as_ref().map(Home::verifier),
            identity.key_id(),
        )
    }

    /// Runs a look-up off the runtime's threads, after what was queued before it is durable.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Recorder) -> Result<T, RecorderError> + Send + 'static,
    ) -> Result<T, RecorderError> {
        let recorder = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            recorder.inner.spool.flush()?;
            look(&recorder)
        });
        task.await.map_err(|_| RecorderError::Closed)?
    }

    fn keep_controls(&self, controls: &[Envelope]) -> Result<(), RecorderError> {
        let rows = controls.iter();
        let rows = rows.map(|envelope| NewRow {
            pinned: true,
            urgent: true,
            ..self.row(envelope)
        });
        append_all(&self.inner.spool, rows.collect())
    }

    fn void_lost(&self, lost: &[Block]) -> Result<(), RecorderError> {
        let mut rows = Vec::new();
        let mut total = 0;
        for blocks in lost.chunk_by(|a, b| a.range.stream == b.range.stream) {
            let ranges: Vec<spool::Range> = blocks.iter().map(|block| block.range).collect();
            let stream = parse_name(&blocks[0].stream_name)?;
            for tally in Tally::lost(stream, &ranges)
                .into_iter()
                .flat_map(Tally::split)
            {
                total += tally.count();
                rows.push(self.void_row(&tally)?);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        append_all(&self.inner.spool, rows)?;
        self.inner
            .counters
            .voided
            .fetch_add(total, Ordering::Relaxed);
        tracing::info!(
            numbers = total,
            "the last run left numbers without a record; they are voided"
        );
        Ok(())
    }

    fn resume(&self, resumed: &[Block]) -> Result<(), RecorderError> {
        for block in resumed {
            let (endpoint, kind) = parse_name(&block.stream_name)?;
            self.stream(&endpoint, kind).resume(block);
        }
        Ok(())
    }

    fn void_row(&self, tally: &Tally) -> Result<NewRow, RecorderError> {
        let inner = &self.inner;
        let (void, settles) = tally.to_void(inner.context.clock.unix_ms())?;
        let statement = Statement::new(inner.identity.signer(), void)?;
        let envelope = inner
            .identity
            .sign(&statement, inner.context.random.as_ref())?;
        Ok(NewRow {
            settles,
            urgent: true,
            ..self.row(&envelope)
        })
    }

    /// Signs voids over the numbers that wait for one, if there is room or it must be now.
    fn write_voids(&self, now: bool) -> Result<(), RecorderError> {
        let inner = &self.inner;
        if inner.ledger.len() == 0 || !(now || self.has_room_again()) {
            return Ok(());
        }
        let tallies: Vec<Unsettled> = inner
            .ledger
            .drain()
            .into_iter()
            .flat_map(Tally::split)
            .map(|tally| Unsettled {
                ledger: inner.ledger.clone(),
                tally: Some(tally),
            })
            .collect();
        // What fails goes back to the ledger by itself.
        tallies
            .into_iter()
            .try_for_each(|unsettled| self.write_void(unsettled))
    }

    fn write_void(&self, unsettled: Unsettled) -> Result<(), RecorderError> {
        let Some(tally) = &unsettled.tally else {
            return Ok(());
        };
        let (row, count) = (self.void_row(tally)?, tally.count());
        let counters = self.inner.counters.clone();
        let done = Box::new(move |outcome: Result<(), SpoolError>| match outcome {
            Ok(()) => {
                unsettled.settled();
                counters.voided.fetch_add(count, Ordering::Relaxed);
                counters.durable.notify_one();
            }
            Err(error) => tracing::warn!(count, %error, "numbers could not be voided yet"),
        });
        Ok(self.inner.spool.append(row, done)?)
    }

    fn has_room_again(&self) -> bool {
        let (counts, limits) = (self.inner.spool.counts(), self.inner.spool.limits());
        counts.pending_rows * 10 < limits.pending_rows * ROOM_TENTHS
            && counts.pending_bytes * 10 < limits.pending_bytes * ROOM_TENTHS
    }

    fn start(&self, config: &Config) {
        let inner = &self.inner;
        let mut tasks = vec![tokio::spawn(clerk(Arc::downgrade(inner)))];
        if let Some(home) = &inner.home {
            let shipper = Shipper {
                spool: inner.spool.clone(),
                home: home.clone(),
                shipping: config.shipping.clone(),
                shipped: inner.shipped.clone(),
                key: *inner.identity.key(),
                clock: inner.context.clock.clone(),
                jitter_seed: inner.context.jitter_seed,
            };
            let counters = inner.counters.clone();
            tasks.push(tokio::spawn(
                async move { shipper.run(&counters.durable).await },
            ));
        }
        lock(&inner.tasks).extend(tasks);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }
}

/// Looks after numbers without a record. Hourly statements of the highest numbers
/// ([`Recorder::high_marks`]) belong here too.
async fn clerk(inner: std::sync::Weak<Inner>) {
    loop {
        tokio::time::sleep(CLERK_PERIOD).await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = (Recorder { inner }).write_voids(false) {
            tracing::warn!(%error, "numbers could not be voided yet");
        }
    }
}

/// A tally that goes back to the ledger unless its void became durable.
struct Unsettled {
    ledger: Arc<Ledger>,
    tally: Option<Tally>,
}

impl Unsettled {
    fn settled(mut self) {
        self.tally = None;
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(tally) = self.tally.take() {
            self.ledger.put_back(tally);
        }
    }
}

/// Appends rows in one go and waits until all are durable.
fn append_all(spool: &Spool, rows: Vec<NewRow>) -> Result<(), RecorderError> {
    let (answer, outcomes) = std::sync::mpsc::channel();
    for row in rows {
        let answer = answer.clone();
        let done = Box::new(move |outcome| {
            // The receiver only goes after an earlier row failed.
            let _ = answer.send(outcome);
        });
        spool.append(row, done)?;
    }
    drop(answer);
    spool.flush()?;
    Ok(outcomes.into_iter().collect::<Result<(), SpoolError>>()?)
}

fn outcome(predicate: &Predicate) -> Outcome {
    match predicate {
        Predicate::Receipt(receipt) => receipt.outcome,
        Predicate::Observation(seen) => seen.outcome,
        _ => Outcome::Ok,
    }
}

fn check_number(statement: &Statement, number: &Numbered) -> Result<(), RecorderError> {
    let leased = (
        number.stream().endpoint(),
        number.stream().kind(),
        number.seq(),
    );
    match statement.numbered() {
        Some((stream, seq)) if (&stream.endpoint, stream.kind, seq) == leased => Ok(()),
        found => Err(RecorderError::OtherNumber {
            found: found.map_or("not numbered".into(), |(stream, seq)| {
                format!("{} {} {seq}", stream.kind, stream.endpoint)
            }),
            leased: format!("{} {} {}", leased.1, leased.0, leased.2),
        }),
    }
}
