//! How a recorder is doing, in numbers.

use std::sync::atomic::Ordering;

use crate::error::RecorderError;
use crate::recorder::{Inner, Recorder};

/// How a recorder is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Records that wait for the log, those that wait for their commit included. Without a home log: that
    /// are kept.
    pub pending: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
    /// Age of the oldest of them, ms; without a home log nothing grows old.
    pub oldest_pending_age_ms: Option<u64>,
    /// Records kept here that are in the log.
    pub published: u64,
    /// Records kept here that the log will not take.
    pub refused: u64,
    /// Records that were let go of since the signer was made, because no home log takes them.
    pub let_go: u64,
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

impl Recorder {
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
            oldest_pending_age_ms: oldest
                .filter(|_| self.inner.home.is_some())
                .map(|oldest| now.saturating_sub(oldest)),
            published: counts.published_rows,
            refused: counts.refused_rows,
            let_go: counts.let_go_rows,
            recorded: counters.recorded.load(Ordering::Relaxed),
            unrecorded: counters.unrecorded.load(Ordering::Relaxed),
            voided: counters.voided.load(Ordering::Relaxed),
            to_void: ledger.len(),
            last_published_ms: shipped.last_published_ms(),
            log_error: shipped.error(),
            disk_ok: spool.is_well(),
        })
    }
}
