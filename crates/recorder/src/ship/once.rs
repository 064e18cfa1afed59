//! Sending what a spool holds without running on: batch after batch, in order.

use std::time::Duration;

use store::spool::{Settled, Spool};
use tokio::time::Instant;

use super::wire::Sender;
use super::{Home, ShipError};
use crate::config::Shipping;
use crate::error::RecorderError;

/// Sends everything that waits, for at most `patience`. What the log said last, if something waits
/// still, or if it refuses one of the signer's control records for good. A log that finds a request too
/// large is sent half as much from then on.
///
/// # Errors
/// The spool's.
pub(crate) async fn send_all(
    spool: &Spool,
    home: &Home,
    shipping: &Shipping,
    sender: &Sender,
    patience: Duration,
) -> Result<Option<String>, RecorderError> {
    let begun = Instant::now();
    let mut refusal = None;
    let mut most = shipping.batch_records;
    loop {
        let mut rows = spool.pending(0, most, shipping.batch_bytes)?;
        let Some(pinned) = rows.first().map(|row| row.pinned) else {
            return Ok(refusal);
        };
        let alike = rows.iter().take_while(|row| row.pinned == pinned).count();
        rows.truncate(alike);
        let why = match home.send(&rows, sender, shipping.timeout).await {
            Ok(answer) => {
                if pinned {
                    refusal = answer.settled.iter().find_map(refused).or(refusal);
                }
                spool.settle(&answer.checkpoint, answer.settled)?;
                answer.again.into_iter().next().map(|(_, message)| message)
            }
            Err(ShipError::TooLarge) if rows.len() > 1 => {
                most = rows.len() / 2;
                continue;
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            if begun.elapsed() >= patience {
                return Ok(Some(why));
            }
            tokio::time::sleep(shipping.retry_min).await;
        }
    }
}

fn refused(settled: &Settled) -> Option<String> {
    match settled {
        Settled::Refused { reason, .. } => Some(format!("the log refuses it for good: {reason}")),
        Settled::Published { .. } => None,
    }
}
