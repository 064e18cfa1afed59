//! Shipping: batches of records to the home log, until it takes or refuses each of them.
//!
//! Several requests overlap, because the log answers only once a checkpoint is out. Nothing
//! overtakes a control or manifest record, and it overtakes nothing: it leaves when all before it
//! have landed, because it may end the key that signed them, and nothing later is sent until it has. A
//! record counts as published only after its inclusion proof was checked against the checkpoint,
//! and the checkpoint against the log's key. Sending again is harmless: the log recognises what
//! it has.
//!
//! Failures of any kind lead to waiting and sending again; only the log's explicit refusal of one
//! record ends that record's journey.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use store::spool::{Pending, Settled, Spool};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Shipping;
use crate::error::RecorderError;
use crate::numbers::lock;

mod backoff;
mod client;
mod once;
pub mod wire;

pub(crate) use client::Home;
use client::ShipError;
pub(crate) use once::send_all;
use wire::{Answer, Sender};

/// What is known about shipping.
#[derive(Default)]
pub(crate) struct Shipped {
    last_published_ms: AtomicU64,
    error: Mutex<Option<String>>,
    changed: Notify,
}

impl Shipped {
    pub(crate) fn last_published_ms(&self) -> Option<u64> {
        Some(self.last_published_ms.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    pub(crate) fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }

    /// Resolves after the next answer of the log has been stored.
    pub(crate) async fn changed(&self) {
        // An answer may slip in before the wait begins; nobody should sleep through it for long.
        let _ = tokio::time::timeout(Duration::from_millis(50), self.changed.notified()).await;
    }

    fn note(&self, error: Option<String>) {
        *lock(&self.error) = error;
    }
}

pub(crate) struct Shipper {
    pub(crate) spool: Spool,
    pub(crate) home: Home,
    pub(crate) shipping: Shipping,
    pub(crate) shipped: Arc<Shipped>,
    pub(crate) sender: Sender,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jitter_seed: u64,
}

/// Records that wait to be sent, for the first time or again, or are on their way.
#[derive(Clone)]
struct Batch {
    rows: Arc<Vec<Pending>>,
    /// How many failures had counted when it was sent last.
    sent_after: u64,
}

impl Batch {
    fn new(rows: Vec<Pending>) -> Batch {
        Batch {
            rows: Arc::new(rows),
            sent_after: 0,
        }
    }

    fn is_pinned(&self) -> bool {
        self.rows.iter().any(|row| row.pinned)
    }

    /// Its first rows, and the others.
    fn split_at(&self, count: usize) -> (Batch, Batch) {
        let (head, tail) = self.rows.split_at(count);
        (Batch::new(head.to_vec()), Batch::new(tail.to_vec()))
    }
}

type Flight = BoxFuture<'static, (Batch, Result<Answer, ShipError>)>;

/// The shipper's state between steps.
struct Voyage {
    flying: FuturesUnordered<Flight>,
    /// Pinned batches among those flying or waiting.
    barrier: usize,
    again: VecDeque<Batch>,
    /// Everything up to this position was taken out of the spool.
    cursor: i64,
    backoff: backoff::Backoff,
    not_before: Option<Instant>,
    /// Failures that counted so far.
    failures: u64,
    /// Records in a request, at most, by what the log took of those before.
    share: usize,
    /// The same of a log that takes everything.
    share_max: usize,
    /// The trouble that was told last: said once, not at every try.
    told: Option<String>,
}

impl Voyage {
    fn new(shipping: &Shipping, jitter_seed: u64) -> Voyage {
        let share_max = shipping.batch_records.max(1);
        Voyage {
            flying: FuturesUnordered::new(),
            barrier: 0,
            again: VecDeque::new(),
            cursor: 0,
            backoff: backoff::Backoff::new(shipping, jitter_seed),
            not_before: None,
            failures: 0,
            share: share_max,
            share_max,
            told: None,
        }
    }

    /// Waits after a failure, of a request that was sent after so many others. What flew together fails
    /// together: one outage is one failure, however many requests it takes down, and only a log that asks
    /// for more time makes the wait for it longer. Gives how long that is from now on.
    fn hold(&mut self, sent_after: u64, asked: Option<Duration>, now: Instant) -> Duration {
        let wait = if sent_after == self.failures || !self.backoff.is_failing() {
            self.failures += 1;
            Some(self.backoff.next(asked))
        } else {
            asked.map(|asked| self.backoff.bounded(asked))
        };
        self.not_before = self.not_before.max(wait.map(|wait| now + wait));
        self.not_before
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// The next of the batches that wait, as much of it as the log takes at a time. A pinned one waits
    /// for all before it; nothing after it has been read yet.
    fn may_fly(&mut self) -> Option<Batch> {
        let next = match self.again.iter().position(|batch| !batch.is_pinned()) {
            Some(at) => self.again.remove(at),
            None if self.flying.is_empty() => self.again.pop_front(),
            None => None,
        }?;
        if next.rows.len() <= self.share {
            return Some(next);
        }
        let (head, tail) = next.split_at(self.share);
        self.barrier += usize::from(tail.is_pinned());
        self.again.push_front(tail);
        Some(head)
    }

    /// How many requests may be under way. After a failure one goes ahead to try the water, and a log
    /// that takes a part of what it is sent is not sent several such parts at once.
    fn fleet(&self, in_flight: usize) -> usize {
        if self.backoff.is_failing() || self.is_rationed() {
            1
        } else {
            in_flight
        }
    }

    fn is_rationed(&self) -> bool {
        self.share < self.share_max
    }

    /// Learns from an answer how much the log takes at a time. Whatever it does not take is sent again,
    /// and may cost both sides as much as what it takes: so the next request is no larger than what it
    /// took of this one, and doubles as long as it takes everything.
    fn note_taken(&mut self, taken: usize, left: usize) {
        // A log that answers and takes nothing is asked ever more seldom as well.
        if taken > 0 {
            self.backoff.reset();
        }
        let next = if left == 0 {
            self.share.saturating_add(taken)
        } else {
            taken
        };
        self.share = next.clamp(1, self.share_max);
    }

    /// Rows of a batch that the log did not take. The order of pinned ones is kept.
    fn put_back(&mut self, rest: Batch) {
        if rest.is_pinned() {
            self.again.push_front(rest);
        } else {
            self.again.push_back(rest);
        }
    }
}

impl Shipper {
    /// Runs until it is aborted. `durable` is notified when rows were committed.
    pub(crate) async fn run(self, durable: &Notify) {
        let mut voyage = Voyage::new(&self.shipping, self.jitter_seed);
        loop {
            let idle = match self.launch(&mut voyage).await {
                Ok(idle) => idle,
                Err(error) => {
                    self.shipped.note(Some(error.to_string()));
                    voyage.hold(voyage.failures, None, Instant::now());
                    false
                }
            };
            let pause = voyage.not_before;
            tokio::select! {
                Some((batch, outcome)) = voyage.flying.next() => {
                    self.land(&mut voyage, batch, outcome).await;
                }
                () = durable.notified(), if idle => {
                    tokio::time::sleep(self.shipping.linger).await;
                }
                () = tokio::time::sleep_until(pause.unwrap_or_else(Instant::now)),
                    if pause.is_some() =>
                {
                    voyage.not_before = None;
                }
            }
        }
    }

    /// Sends as much as may fly now; true if the spool held nothing more.
    async fn launch(&self, voyage: &mut Voyage) -> Result<bool, RecorderError> {
        let limit = voyage.fleet(self.shipping.in_flight);
        while voyage.not_before.is_none() && voyage.flying.len() < limit {
            let mut batch = match voyage.may_fly() {
                Some(batch) => batch,
                None if voyage.barrier > 0 => return Ok(false),
                None => {
                    let Some(batch) = self.next_batch(voyage.cursor).await? else {
                        return Ok(true);
                    };
                    voyage.cursor = batch.rows.last().map_or(voyage.cursor, |row| row.n);
                    voyage.barrier += usize::from(batch.is_pinned());
                    voyage.again.push_back(batch);
                    continue;
                }
            };
            batch.sent_after = voyage.failures;
            let (home, sender) = (self.home.clone(), self.sender);
            let timeout = self.shipping.timeout;
            voyage.flying.push(Box::pin(async move {
                let outcome = home.send(&batch.rows, &sender, timeout).await;
                (batch, outcome)
            }));
        }
        Ok(false)
    }

    /// The next rows, either all pinned or none.
    async fn next_batch(&self, after: i64) -> Result<Option<Batch>, RecorderError> {
        let (spool, shipping) = (self.spool.clone(), self.shipping.clone());
        let read = tokio::task::spawn_blocking(move || {
            spool.pending(after, shipping.batch_records, shipping.batch_bytes)
        });
        let mut rows = read.await.map_err(|_| RecorderError::Closed)??;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let pinned = first.pinned;
        let alike = rows.iter().take_while(|row| row.pinned == pinned).count();
        rows.truncate(alike);
        Ok(Some(Batch::new(rows)))
    }

    async fn land(&self, voyage: &mut Voyage, batch: Batch, outcome: Result<Answer, ShipError>) {
        let sent_after = batch.sent_after;
        let error = match outcome {
            Ok(answer) => match self.store(&batch, answer).await {
                Ok(left) => {
                    voyage.barrier -= usize::from(batch.is_pinned() && left.is_none());
                    let rest = left.as_ref().map_or(0, |(rest, _)| rest.rows.len());
                    voyage.note_taken(batch.rows.len().saturating_sub(rest), rest);
                    let Some((rest, message)) = left else {
                        return self.is_well(voyage);
                    };
                    voyage.put_back(rest);
                    ShipError::Busy {
                        message,
                        retry_after: None,
                    }
                }
                Err(error) => {
                    voyage.again.push_front(batch);
                    ShipError::Spool(error.to_string())
                }
            },
            Err(ShipError::TooLarge) if batch.rows.len() > 1 => {
                let (head, tail) = batch.split_at(batch.rows.len() / 2);
                voyage.barrier += usize::from(batch.is_pinned());
                voyage.again.push_front(tail);
                voyage.again.push_front(head);
                return;
            }
            Err(error) => {
                voyage.again.push_front(batch);
                error
            }
        };
        let wait = voyage.hold(sent_after, error.retry_after(), Instant::now());
        let trouble = error.to_string();
        if voyage.told.as_ref() == Some(&trouble) {
            tracing::debug!(%error, wait_ms = wait.as_millis(), "records could not be shipped yet");
        } else {
            tracing::warn!(%error, wait_ms = wait.as_millis(), "records could not be shipped yet; they wait");
            voyage.told = Some(trouble.clone());
        }
        self.shipped.note(Some(trouble));
    }

    /// The log took all that it was sent. While it takes less at a time than there is, this is no news.
    fn is_well(&self, voyage: &mut Voyage) {
        if voyage.is_rationed() {
            if self.spool.counts().pending_rows > voyage.share as u64 {
                return;
            }
            voyage.share = voyage.share_max;
        }
        self.shipped.note(None);
        if voyage.told.take().is_some() {
            tracing::info!("records are shipped again");
        }
    }

    /// Stores the log's answers; gives back the rows that must be sent again, and why.
    async fn store(
        &self,
        batch: &Batch,
        answer: Answer,
    ) -> Result<Option<(Batch, String)>, RecorderError> {
        let Answer {
            checkpoint,
            settled,
            again,
        } = answer;
        for refused in &settled {
            if let Settled::Refused { n, reason } = refused {
                tracing::error!(row = n, reason, "the log refuses a record for good");
            }
        }
        let published = settled
            .iter()
            .any(|it| matches!(it, Settled::Published { .. }));
        let spool = self.spool.clone();
        tokio::task::spawn_blocking(move || spool.settle(&checkpoint, settled))
            .await
            .map_err(|_| RecorderError::Closed)??;
        if published {
            self.shipped
                .last_published_ms
                .store(self.clock.unix_ms(), Ordering::Relaxed);
        }
        self.shipped.changed.notify_waiters();
        let Some((_, message)) = again.first().cloned() else {
            return Ok(None);
        };
        let rows = batch
            .rows
            .iter()
            .filter(|row| again.iter().any(|(n, _)| *n == row.n));
        Ok(Some((Batch::new(rows.cloned().collect()), message)))
    }
}

#[cfg(test)]
mod tests;
