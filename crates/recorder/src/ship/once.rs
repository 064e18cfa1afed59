//! Sending what a spool holds without running on: batch after batch, in order.

use std::time::Duration;

use record::PublicKey;
use store::spool::Spool;
use tokio::time::Instant;

use super::Home;
use crate::config::Shipping;
use crate::error::RecorderError;

/// Sends everything that waits, for at most `patience`. What the log said last, if something waits
/// still. `key` is the one that most leaves name.
///
/// # Errors
/// The spool's.
pub(crate) async fn send_all(
    spool: &Spool,
    home: &Home,
    shipping: &Shipping,
    key: &PublicKey,
    patience: Duration,
) -> Result<Option<String>, RecorderError> {
    let begun = Instant::now();
    loop {
        let mut rows = spool.pending(0, shipping.batch_records, shipping.batch_bytes)?;
        let Some(pinned) = rows.first().map(|row| row.pinned) else {
            return Ok(None);
        };
        let alike = rows.iter().take_while(|row| row.pinned == pinned).count();
        rows.truncate(alike);
        let why = match home.send(&rows, key, shipping.timeout).await {
            Ok(answer) => {
                spool.settle(&answer.checkpoint, answer.settled)?;
                answer.again.into_iter().next().map(|(_, message)| message)
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
