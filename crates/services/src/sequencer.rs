//! The sequencer: one thread that gives records their place in the log, in rounds.
//!
//! Callers hand in batches and wait for their place in a published checkpoint. What waits is
//! bounded; beyond that a batch is refused at once and the caller tries again. A failure whose
//! outcome is unknown ends the sequencer for good: whoever runs it starts again, and the start
//! finds out what holds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::admission::{Refusal, Submission};

mod core;
mod head;
mod place;
mod recovery;
mod round;
pub(crate) mod staging;

pub use core::{LogParts, Published, Totals};
pub use place::Placed;
pub use recovery::{FUTURE_TOLERANCE_MS, OpenError};

pub(crate) use core::{Core, RoundError};
pub(crate) use head::Head;

/// Records in one batch, at most.
pub const BATCH_RECORDS_MAX: usize = 4096;
/// Records that one round takes, at most. A batch is never divided.
pub const POOL_RECORDS_MAX: usize = 16_384;
/// Records that may wait, at most.
pub const QUEUE_RECORDS_MAX: usize = 32_768;
/// Bytes of leaves and bodies that may wait, at most.
pub const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Default for the shortest time from the start of one round to the start of the next.
pub const PERIOD: Duration = Duration::from_millis(100);
/// How long an idle log waits before it tries again to publish, or asks witnesses again.
pub const RETRY: Duration = Duration::from_secs(1);

/// Where a batch ended up: one place or refusal for each of its records, in order.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The checkpoint that the proofs are for.
    pub published: Arc<Published>,
    /// In the order of the batch.
    pub placed: Vec<Result<Placed, Refusal>>,
}

/// Why a batch was not logged, as far as the caller can know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// Too much waits already. Nothing of the batch was taken; try again shortly.
    #[error("the log has too much waiting; try again in a moment")]
    Full,
    /// Larger than any batch may be.
    #[error("a batch has at most {BATCH_RECORDS_MAX} records")]
    TooLarge,
    /// The round failed. Entries may be logged nevertheless; try again, and those that are will be
    /// found.
    #[error("the log could not finish: {0}")]
    Failed(String),
    /// The log has stopped.
    #[error("the log has stopped{0}")]
    Stopped(String),
}

type Reply = oneshot::Sender<Result<Answer, SubmitError>>;

enum Message {
    Batch(Vec<Submission>, Reply),
    Stop,
}

struct Shared {
    stopping: AtomicBool,
    waiting_records: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// Why the sequencer ended, if it failed.
    failure: OnceLock<String>,
    totals: Mutex<Totals>,
}

/// A running sequencer. Clones are handles to the same one; it stops when told to, or when the
/// last handle is dropped.
#[derive(Clone)]
pub struct Sequencer {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Sender<Message>,
    shared: Arc<Shared>,
    published: watch::Receiver<Arc<Published>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sequencer {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// [`OpenError`] if what is stored contradicts itself or cannot be read.
    pub fn start(parts: LogParts, period: Duration) -> Result<Self, OpenError> {
        let core = Core::open(parts)?;
        let (queue, messages) = mpsc::channel();
        let (publish, published) = watch::channel(core.published().clone());
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            waiting_records: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            failure: OnceLock::new(),
            totals: Mutex::new(Totals::default()),
        });
        let worker = Worker {
            core,
            messages,
            publish,
            shared: shared.clone(),
            period,
            held_back: None,
            stopping: false,
        };
        let thread = std::thread::Builder::new()
            .name("sequencer".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| OpenError::Inconsistent(format!("no thread: {error}")))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            inner: Arc::new(Inner {
                queue,
                shared,
                published,
                thread,
            }),
        })
    }

    /// Hands in a batch. The receiver gets the answer once the checkpoint is published; if it is
    /// closed without one, the log has stopped.
    ///
    /// # Errors
    /// [`SubmitError::Full`] and the others, at once.
    pub fn submit(
        &self,
        batch: Vec<Submission>,
    ) -> Result<oneshot::Receiver<Result<Answer, SubmitError>>, SubmitError> {
        let shared = &self.inner.shared;
        if batch.len() > BATCH_RECORDS_MAX {
            return Err(SubmitError::TooLarge);
        }
        if shared.stopping.load(Ordering::Acquire) {
            return Err(shared.stopped());
        }
        let weight = Weight::of(&batch);
        if !shared.reserve(weight) {
            return Err(SubmitError::Full);
        }
        let (reply, answer) = oneshot::channel();
        if self.inner.queue.send(Message::Batch(batch, reply)).is_err() {
            shared.release(weight);
            return Err(shared.stopped());
        }
        Ok(answer)
    }

    /// Hands in a batch and waits, from a thread that may block.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit_and_wait(&self, batch: Vec<Submission>) -> Result<Answer, SubmitError> {
        let answer = self.submit(batch)?;
        answer
            .blocking_recv()
            .unwrap_or_else(|_| Err(self.inner.shared.stopped()))
    }

    /// What readers can see now.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        self.inner.published.borrow().clone()
    }

    /// The published checkpoint and every later one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.inner.published.clone()
    }

    /// Totals since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        *self
            .inner
            .shared
            .totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that wait for a round or for the end of one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.shared.waiting_records.load(Ordering::Acquire)
    }

    /// Why the sequencer ended by itself, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.inner.shared.failure.get().cloned()
    }

    pub(crate) fn stopped_error(&self) -> SubmitError {
        self.inner.shared.stopped()
    }

    /// Takes nothing more, finishes what was taken, and waits for that. Blocks.
    pub fn stop(&self) {
        self.inner.stop();
    }
}

impl Inner {
    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // The thread may be gone already.
        let _ = self.queue.send(Message::Stop);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the sequencer's thread panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone, Copy)]
struct Weight {
    records: usize,
    bytes: usize,
}

impl Weight {
    fn of(batch: &[Submission]) -> Self {
        Self {
            records: batch.len(),
            bytes: batch.iter().map(Submission::weight_bytes).sum(),
        }
    }
}

impl Shared {
    /// Makes room for a batch, or says that there is none.
    fn reserve(&self, weight: Weight) -> bool {
        let records = self
            .waiting_records
            .fetch_add(weight.records, Ordering::AcqRel);
        let bytes = self.waiting_bytes.fetch_add(weight.bytes, Ordering::AcqRel);
        let fits = records + weight.records <= QUEUE_RECORDS_MAX
            && bytes + weight.bytes <= QUEUE_BYTES_MAX;
        if !fits {
            self.release(weight);
        }
        fits
    }

    fn release(&self, weight: Weight) {
        self.waiting_records
            .fetch_sub(weight.records, Ordering::AcqRel);
        self.waiting_bytes.fetch_sub(weight.bytes, Ordering::AcqRel);
    }

    fn stopped(&self) -> SubmitError {
        let reason = self.failure.get().map(|reason| format!(": {reason}"));
        SubmitError::Stopped(reason.unwrap_or_default())
    }
}

/// The thread's own state.
struct Worker {
    core: Core,
    messages: Receiver<Message>,
    publish: watch::Sender<Arc<Published>>,
    shared: Arc<Shared>,
    period: Duration,
    /// A batch that did not fit in the last pool.
    held_back: Option<(Vec<Submission>, Reply)>,
    stopping: bool,
}

type Pool = Vec<(Vec<Submission>, Reply)>;

impl Worker {
    fn run(mut self) {
        let mut earliest = Instant::now();
        while let Some(pool) = self.gather(earliest) {
            earliest = Instant::now() + self.period;
            if let Err(reason) = self.sequence(pool) {
                tracing::error!(%reason, "the sequencer stops; start the log again");
                // Set once, here.
                let _ = self.shared.failure.set(reason);
                break;
            }
        }
        self.shared.stopping.store(true, Ordering::Release);
        self.refuse_rest();
    }

    /// Waits for the first batch and then, until the next round may start, for more. `None` when
    /// told to stop and nothing is left. An empty pool is a moment to try publishing again.
    fn gather(&mut self, earliest: Instant) -> Option<Pool> {
        let mut pool = Pool::new();
        let mut records = 0;
        loop {
            let next = self
                .held_back
                .take()
                .or_else(|| self.receive(&pool, earliest));
            match next {
                Some((batch, reply))
                    if !pool.is_empty() && records + batch.len() > POOL_RECORDS_MAX =>
                {
                    self.held_back = Some((batch, reply));
                    return Some(pool);
                }
                Some((batch, reply)) => {
                    records += batch.len();
                    pool.push((batch, reply));
                }
                None if self.stopping && pool.is_empty() => return None,
                None => return Some(pool),
            }
        }
    }

    /// The next batch, or `None` when it is time to sequence what there is.
    fn receive(&mut self, pool: &Pool, earliest: Instant) -> Option<(Vec<Submission>, Reply)> {
        let message = if self.stopping {
            // Everything that was accepted is in the channel before the word to stop.
            return None;
        } else if pool.is_empty() && !self.core.has_unpublished() {
            self.messages
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected)
        } else if pool.is_empty() {
            self.messages.recv_timeout(RETRY)
        } else {
            let wait = earliest.saturating_duration_since(Instant::now());
            self.messages.recv_timeout(wait)
        };
        match message {
            Ok(Message::Batch(batch, reply)) => Some((batch, reply)),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                self.stopping = true;
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
        }
    }

    /// Sequences a pool and answers it. An error ends the sequencer.
    fn sequence(&mut self, pool: Pool) -> Result<(), String> {
        let all: Vec<&Submission> = pool.iter().flat_map(|(batch, _)| batch).collect();
        let outcome = self.core.round(&all);
        *self
            .shared
            .totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.core.totals();
        for (batch, _) in &pool {
            self.shared.release(Weight::of(batch));
        }
        match outcome {
            Ok(outcome) => {
                self.publish.send_replace(outcome.published.clone());
                let mut placed = outcome.placed.into_iter();
                for (batch, reply) in pool {
                    let placed = placed.by_ref().take(batch.len()).collect();
                    // A caller that went away is no error.
                    let _ = reply.send(Ok(Answer {
                        published: outcome.published.clone(),
                        placed,
                    }));
                }
                Ok(())
            }
            Err(RoundError::Rejected(reason)) => {
                tracing::warn!(%reason, "a round was rejected");
                for (_, reply) in pool {
                    let _ = reply.send(Err(SubmitError::Failed(reason.clone())));
                }
                Ok(())
            }
            Err(RoundError::Fatal(reason)) => {
                for (_, reply) in pool {
                    let _ = reply.send(Err(SubmitError::Failed(reason.clone())));
                }
                Err(reason)
            }
        }
    }

    /// Answers what is left in the channel after the end.
    fn refuse_rest(&mut self) {
        let held_back = self.held_back.take();
        let rest = self
            .messages
            .try_iter()
            .filter_map(|message| match message {
                Message::Batch(batch, reply) => Some((batch, reply)),
                Message::Stop => None,
            });
        for (batch, reply) in held_back.into_iter().chain(rest) {
            self.shared.release(Weight::of(&batch));
            let _ = reply.send(Err(self.shared.stopped()));
        }
    }
}
