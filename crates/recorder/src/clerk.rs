//! Accounting for numbers without a record: at the start, while running, and at the end.
//!
//! Hourly statements of the highest numbers ([`Recorder::high_marks`]) belong here too.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use record::Statement;
use store::spool::{self, Block, NewRow, Spool, SpoolError};

use crate::error::RecorderError;
use crate::numbers::parse_name;
use crate::recorder::{Inner, Recorder};
use crate::voids::{Ledger, Tally};

/// How often to look whether there are numbers to void.
const PERIOD: Duration = Duration::from_secs(1);
/// Voids for a full spool wait until less than this share of its bounds is used: 9 in 10.
const ROOM_TENTHS: u64 = 9;

impl Recorder {
    /// Signs voids over what the last run lost. Durable on return.
    pub(crate) fn void_lost(&self, lost: &[Block]) -> Result<(), RecorderError> {
        let mut rows = Vec::new();
        let mut total = 0;
        for blocks in lost.chunk_by(|a, b| a.range.stream == b.range.stream) {
            let ranges: Vec<spool::Range> = blocks.iter().map(|block| block.range).collect();
            let named = parse_name(&blocks[0].stream_name)?;
            if !self.is_own(&named) {
                // Only its own key can void them, and did where that could still sign before it ended.
                continue;
            }
            for tally in Tally::lost((named.endpoint, named.kind), &ranges)
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

    /// Signs voids over the numbers that wait for one, if there is room and the disk is well, or it
    /// must be now. A sick disk is tried by the spool: with every stream's void each time that would be
    /// signatures and warnings without end.
    pub(crate) fn write_voids(&self, now: bool) -> Result<(), RecorderError> {
        let inner = &self.inner;
        let is_time = now || (inner.spool.is_well() && self.has_room_again());
        if inner.ledger.len() == 0 || !is_time {
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
        let done = Box::new(move |outcome: Result<i64, SpoolError>| match outcome {
            Ok(_) => {
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
        if limits.lets_go {
            // It stays about as full as it may be.
            return self.inner.spool.has_room(0);
        }
        counts.pending_rows * 10 < limits.pending_rows * ROOM_TENTHS
            && counts.pending_bytes * 10 < limits.pending_bytes * ROOM_TENTHS
    }
}

/// Runs until the recorder is gone.
pub(crate) async fn run(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(PERIOD).await;
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
pub(crate) fn append_all(spool: &Spool, rows: Vec<NewRow>) -> Result<(), RecorderError> {
    let (answer, outcomes) = std::sync::mpsc::channel();
    for row in rows {
        let answer = answer.clone();
        let done = Box::new(move |outcome: Result<i64, SpoolError>| {
            // The receiver only goes after an earlier row failed.
            let _ = answer.send(outcome);
        });
        spool.append(row, done)?;
    }
    drop(answer);
    spool.flush()?;
    outcomes
        .into_iter()
        .try_for_each(|outcome| outcome.map(drop))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use record::{Endpoint, NumberedKind};
    use store::spool::Settled;

    use super::*;
    use crate::config::{Config, Context};

    fn endpoint(model: &str) -> Endpoint {
        Endpoint {
            provider: "https://api.example.com".parse().expect("an origin"),
            model: model.parse().expect("a name"),
        }
    }

    /// Writes what no database takes, and no memory is touched for: a transaction fails.
    fn fall_sick(spool: &Spool) {
        let answer = Settled::Published {
            n: 1,
            index: 0,
            leaf: None,
            proof: vec![0; 1 << 30],
        };
        let failed = spool.settle(b"", vec![answer]).expect_err("too large");
        assert!(matches!(failed, SpoolError::Database(_)), "{failed}");
    }

    #[tokio::test]
    async fn voids_wait_until_the_disk_is_well() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = Config::new(directory.path().join("signer"), "a test", "observer");
        let context = Context::system().expect("randomness");
        let recorder = Recorder::open(&config, context).expect("opens");
        let inner = &recorder.inner;
        let kind = NumberedKind::Observation;
        let number = recorder.lease(&endpoint("m"), kind).await;
        drop(number.expect("a number"));

        let began = Instant::now();
        fall_sick(&inner.spool);
        recorder.write_voids(false).expect("not yet");
        let waits = inner.ledger.len() == 1;
        // Unless this took so long that the spool has tried the disk meanwhile.
        let was_tried = began.elapsed() > Duration::from_secs(1);
        assert!(waits || was_tried, "signed while the disk was sick");

        // What is written makes it well, and then the void is due.
        let other = recorder.lease(&endpoint("other"), kind).await;
        assert!(other.is_ok() && inner.spool.is_well());
        recorder.write_voids(false).expect("queued");
        recorder.flush().await.expect("written");
        assert_eq!(inner.ledger.len(), 0);
        assert_eq!(inner.counters.voided.load(Ordering::Relaxed), 1);
    }
}
