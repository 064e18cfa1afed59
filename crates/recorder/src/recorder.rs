//! The handle that nodes and gateways hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use record::{
    CallId, Endpoint, Envelope, NumberedKind, Outcome, Predicate, Record, RecordId, Statement,
};
use store::spool::dir::Claim;
use store::spool::{self, Block, NewRow, Opened, Spool, SpoolError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clerk::{self, append_all};
use crate::config::{Config, Context};
use crate::error::RecorderError;
use crate::filing::{
    Counters, Draft, InFlight, Queued, Recorded, Signed, WhyUnrecorded, check_number, outcome,
};
use crate::fresh::{Fresh, Next};
use crate::identity::{self, Identity};
use crate::lookup::{self, Entry};
use crate::numbers::{Named, Numbered, Stream, lock, parse_name};
use crate::packed::pack;
use crate::ship::{Home, Shipped, Shipper};
use crate::voids::Ledger;

/// Content of the file `VERSION` in a signer directory.
pub(crate) const VERSION: &str = "longrun signer 1\n";
/// What a record is expected to take in the spool, bytes: decides whether there is room before
/// it is signed.
const RECORD_BYTES: u64 = 4096;

/// A signer at work. Cheap to clone; see the crate's documentation.
#[derive(Clone)]
pub struct Recorder {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) identity: Identity,
    pub(crate) context: Context,
    pub(crate) spool: Spool,
    pub(crate) streams: Mutex<HashMap<(Endpoint, NumberedKind), Stream>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) home: Option<Home>,
    pub(crate) shipped: Arc<Shipped>,
    pub(crate) fresh: Arc<Fresh>,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
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
        } = Spool::open_in(
            claim,
            spool::Limits {
                // A signer keeps the home log that it was created with, and so keeps none.
                lets_go: config.home_log.is_none(),
                ..config.spool.clone()
            },
        )?;
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
                fresh: Arc::default(),
                tasks: Mutex::default(),
            }),
        };
        recorder.keep_controls(&controls)?;
        identity::say_id(&config.directory, recorder.identity().id())?;
        recorder.void_lost(&lost)?;
        recorder.resume(&resumed)?;
        recorder.start(config);
        Ok(recorder)
    }

    /// The signer's directory.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        let spool = self.inner.spool.path();
        spool.parent().unwrap_or(spool)
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
            let identity = &inner.identity;
            Stream::new(
                (identity.key_id(), identity.stream_mark()),
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
        let random = inner.context.random.as_ref();
        let record = Arc::new(inner.identity.sign_record(statement, random)?);
        let row = NewRow {
            number: Some((number.spool_stream, number.seq().number())),
            call: draft.call.map(|call| *call.as_bytes()),
            private: draft.private,
            prompt: draft.prompt,
            id: *record.id.as_bytes(),
            envelope: pack(&record.envelope),
            at_ms: inner.context.clock.unix_ms(),
            ..NewRow::default()
        };
        Ok(self.append(row, Signed::Record(record), flight(number)))
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
        Ok(self.append(row, Signed::Envelope(envelope), self.unnumbered()))
    }

    /// Signs an unnumbered statement of one's own that need not be kept once the home log has it,
    /// such as a forecast.
    ///
    /// # Errors
    /// [`RecorderError::Statement`].
    pub fn say(&self, predicate: impl Into<Predicate>) -> Result<Recorded, RecorderError> {
        self.say_of(None, predicate, Vec::new())
    }

    /// The same about a call, for [`Recorder::by_call`]; `private` is stored beside it and never
    /// shipped, at most 64 KiB.
    ///
    /// # Errors
    /// [`RecorderError::Statement`].
    pub fn say_of(
        &self,
        call: Option<CallId>,
        predicate: impl Into<Predicate>,
        private: Vec<u8>,
    ) -> Result<Recorded, RecorderError> {
        let inner = &self.inner;
        let statement = Statement::new(inner.identity.signer(), predicate)?;
        let envelope = inner
            .identity
            .sign(&statement, inner.context.random.as_ref())?;
        let row = NewRow {
            call: call.map(|call| *call.as_bytes()),
            private,
            ..self.row(&envelope)
        };
        Ok(self.append(row, Signed::Envelope(envelope), self.unnumbered()))
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
        self.append(row, Signed::Envelope(envelope), self.unnumbered())
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

    /// The records alone of what [`Recorder::entries`] gives: without the look-ups that secrets and
    /// places in the log take.
    ///
    /// # Errors
    /// The spool's.
    pub async fn records(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Record)>, RecorderError> {
        self.read(move |recorder| {
            let rows = recorder.inner.spool.rows(after, limit)?;
            let record = |row: &spool::Row| Ok((row.n, lookup::record_of(row)?));
            rows.iter().map(record).collect()
        })
        .await
    }

    /// The same for the fold that [`Recorder::keep_fresh`] is for: takes what is kept for it, and reads
    /// the rest. Gives what is durable already and hurries nobody: the next look finds the others.
    ///
    /// # Errors
    /// The spool's.
    pub async fn records_to_fold(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Arc<Record>)>, RecorderError> {
        let fresh = &self.inner.fresh;
        let before = match fresh.take_after(after, limit) {
            Next::Here(records) => return Ok(records),
            Next::Elsewhere(before) => before,
        };
        let between = before.map_or(limit, |before| {
            usize::try_from(before - after - 1).map_or(limit, |rows| rows.min(limit))
        });
        let read = self.look(move |recorder| {
            let rows = recorder.inner.spool.rows(after, between)?;
            let record = |row: &spool::Row| Ok((row.n, Arc::new(lookup::record_of(row)?)));
            let rows = rows.iter();
            let wanted = rows.take_while(|row| before.is_none_or(|before| row.n < before));
            wanted.map(record).collect::<Result<Vec<_>, _>>()
        });
        let read = read.await?;
        Ok(match (before, read.is_empty()) {
            // What was in between was let go of.
            (Some(before), true) => match fresh.take_after(before - 1, limit) {
                Next::Here(records) => records,
                Next::Elsewhere(_) => read,
            },
            _ => read,
        })
    }

    /// From now on the latest `count` numbered records are kept in memory, for a fold of one's own
    /// that is to take them without reading and verifying them again. About 3 KiB each.
    pub fn keep_fresh(&self, count: usize) {
        self.inner.fresh.keep_at_most(count);
    }

    /// Resolves when a quarter of what may be kept so has gathered: time to take it.
    pub async fn has_many_fresh(&self) {
        self.inner.fresh.many().await;
    }

    /// Nobody here needs the records up to this position of [`Recorder::records`] any more: without a
    /// home log the oldest of them are let go of once there are more than the spool may hold. Before it is
    /// called all are kept. With a home log it changes nothing.
    pub fn let_go_through(&self, position: i64) {
        self.inner.spool.let_go_through(position);
    }

    /// The highest position of a record that is kept no longer; 0 if all are.
    #[must_use]
    pub fn gone_through(&self) -> i64 {
        self.inner.spool.gone_through()
    }

    /// How many records were let go of since the signer was made.
    #[must_use]
    pub fn let_go(&self) -> u64 {
        self.inner.spool.counts().let_go_rows
    }

    /// Streams of this signer with the lowest number among the records after a position: what is below it
    /// was settled before, or never used.
    ///
    /// # Errors
    /// The spool's.
    pub async fn first_numbers(
        &self,
        after: i64,
    ) -> Result<Vec<(record::Stream, u64)>, RecorderError> {
        self.read(move |recorder| {
            let own = &recorder.inner.identity;
            let stream = |(name, first): (String, u64)| {
                let named = parse_name(&name)?;
                let key = named.mark.unwrap_or_else(|| own.first_key_id());
                let stream = record::Stream {
                    key,
                    endpoint: named.endpoint,
                    kind: named.kind,
                };
                Ok((stream, first))
            };
            let found = recorder.inner.spool.first_numbers(after)?;
            found.into_iter().map(stream).collect()
        })
        .await
    }

    /// A durable record that was signed here a moment ago, once. The id is that of the signed bytes, so
    /// whatever has it says what was signed here.
    #[must_use]
    pub fn take_fresh(&self, id: RecordId) -> Option<Arc<Record>> {
        self.inner.fresh.take(id)
    }

    /// The highest number leased of each stream: what hourly high-water marks will state.
    ///
    /// # Errors
    /// The spool's.
    pub async fn high_marks(&self) -> Result<Vec<(Endpoint, NumberedKind, u64)>, RecorderError> {
        self.read(|recorder| {
            let marks = recorder.inner.spool.high_marks()?;
            let mut own = Vec::new();
            for (name, high) in marks {
                let named = parse_name(&name)?;
                if recorder.is_own(&named) {
                    own.push((named.endpoint, named.kind, high));
                }
            }
            Ok(own)
        })
        .await
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

    pub(crate) fn row(&self, envelope: &Envelope) -> NewRow {
        NewRow {
            id: *envelope.record_id().as_bytes(),
            envelope: pack(envelope),
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

    fn append(&self, row: NewRow, signed: Signed, flight: InFlight) -> Recorded {
        let (answer, durable) = oneshot::channel();
        let id = RecordId::from_bytes(row.id);
        let fresh = match &signed {
            Signed::Record(record) => Some((self.inner.fresh.clone(), record.clone())),
            Signed::Envelope(_) => None,
        };
        let done = Box::new(move |outcome: Result<i64, SpoolError>| {
            match &outcome {
                Ok(position) => {
                    if let Some((fresh, record)) = fresh {
                        fresh.keep(*position, record);
                    }
                    flight.land();
                }
                Err(error) => flight.counters.refused(id, error),
            }
            // Nobody may be waiting.
            let _ = answer.send(outcome.map(drop));
        });
        match self.inner.spool.append(row, done) {
            Ok(()) => Recorded::Queued(Queued {
                id,
                signed,
                durable,
            }),
            Err(SpoolError::Full { .. }) => Recorded::Unrecorded(WhyUnrecorded::SpoolFull),
            Err(error) => {
                self.inner.counters.refused(id, &error);
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
        lookup::entry(row, spool, home.as_ref().map(Home::verifier), identity)
    }

    /// Runs a look-up off the runtime's threads, after what was queued before it is durable.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Recorder) -> Result<T, RecorderError> + Send + 'static,
    ) -> Result<T, RecorderError> {
        self.look(|recorder| {
            recorder.inner.spool.flush()?;
            look(recorder)
        })
        .await
    }

    /// The same among what is durable now.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Recorder) -> Result<T, RecorderError> + Send + 'static,
    ) -> Result<T, RecorderError> {
        let recorder = self.clone();
        let task = tokio::task::spawn_blocking(move || look(&recorder));
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

    fn resume(&self, resumed: &[Block]) -> Result<(), RecorderError> {
        for block in resumed {
            let named = parse_name(&block.stream_name)?;
            // Numbers of a key before this one were never handed out, and never will be.
            if self.is_own(&named) {
                self.stream(&named.endpoint, named.kind).resume(block);
            }
        }
        Ok(())
    }

    /// Whether a stream of the spool is of the instance key that signs now.
    pub(crate) fn is_own(&self, named: &Named) -> bool {
        named.mark == self.inner.identity.stream_mark()
    }

    fn start(&self, config: &Config) {
        let inner = &self.inner;
        let mut tasks = vec![tokio::spawn(clerk::run(Arc::downgrade(inner)))];
        if let Some(home) = &inner.home {
            let shipper = Shipper {
                spool: inner.spool.clone(),
                home: home.clone(),
                shipping: config.shipping.clone(),
                shipped: inner.shipped.clone(),
                sender: crate::ship::wire::Sender {
                    key: *inner.identity.key(),
                    id: inner.identity.id(),
                },
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
