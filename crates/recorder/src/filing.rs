//! From a draft to a row: what callers hand in, what they get back, and the number meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use record::{CallId, Envelope, Exchange, Outcome, Predicate, Record, RecordId, Statement};
use store::spool::SpoolError;
use tokio::sync::{Notify, oneshot};

use crate::error::RecorderError;
use crate::numbers::Numbered;
use crate::voids::Tallied;

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
    pub(crate) id: RecordId,
    pub(crate) signed: Signed,
    pub(crate) durable: oneshot::Receiver<Result<(), SpoolError>>,
}

/// What is on its way: others may hold a record too.
#[derive(Debug)]
pub(crate) enum Signed {
    Record(Arc<Record>),
    Envelope(Envelope),
}

impl Signed {
    fn envelope(&self) -> &Envelope {
        match self {
            Self::Record(record) => &record.envelope,
            Self::Envelope(envelope) => envelope,
        }
    }

    fn into_envelope(self) -> Envelope {
        match self {
            Self::Record(record) => Arc::unwrap_or_clone(record).envelope,
            Self::Envelope(envelope) => envelope,
        }
    }
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
        self.signed.envelope()
    }

    /// Waits for the group commit.
    ///
    /// # Errors
    /// [`WhyUnrecorded::Failed`]: it is not recorded after all.
    pub async fn durable(self) -> Result<(RecordId, Envelope), WhyUnrecorded> {
        match self.durable.await {
            Ok(Ok(())) => Ok((self.id, self.signed.into_envelope())),
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

/// What the writer's callbacks touch.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) recorded: AtomicU64,
    pub(crate) unrecorded: AtomicU64,
    pub(crate) voided: AtomicU64,
    /// A row became durable: the shipper has work.
    pub(crate) durable: Notify,
    /// The latest row was not kept, and that was told.
    troubled: AtomicBool,
}

impl Counters {
    /// A row is not kept. What keeps out all of them is told once until one is kept, since thousands a
    /// second may follow.
    pub(crate) fn refused(&self, record: RecordId, error: &SpoolError) {
        match error {
            SpoolError::Duplicate { .. } => tracing::debug!(%record, "recorded before"),
            SpoolError::Database(_) | SpoolError::Closed => {
                if self.troubled.swap(true, Ordering::Relaxed) {
                    tracing::debug!(%record, %error, "not recorded");
                } else {
                    tracing::warn!(%record, %error, "not recorded; nor are others while this lasts");
                }
            }
            _ => tracing::warn!(%record, %error, "not recorded"),
        }
    }

    fn kept(&self) {
        self.recorded.fetch_add(1, Ordering::Relaxed);
        self.durable.notify_one();
        if self.troubled.load(Ordering::Relaxed) && self.troubled.swap(false, Ordering::Relaxed) {
            tracing::info!("records are kept again");
        }
    }
}

/// A number on its way through the writer; if nobody settles it, its outcome is counted.
pub(crate) struct InFlight {
    pub(crate) number: Option<Numbered>,
    pub(crate) outcome: Outcome,
    pub(crate) counters: Arc<Counters>,
}

impl InFlight {
    pub(crate) fn land(mut self) {
        if let Some(number) = self.number.take() {
            number.settled();
        }
        self.counters.kept();
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

/// How the exchange ended that this is about.
pub(crate) fn outcome(predicate: &Predicate) -> Outcome {
    match predicate {
        Predicate::Receipt(receipt) => receipt.outcome,
        Predicate::Observation(seen) => seen.outcome,
        _ => Outcome::Ok,
    }
}

/// Refuses a statement that is filed under another number than its own.
pub(crate) fn check_number(statement: &Statement, number: &Numbered) -> Result<(), RecorderError> {
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
