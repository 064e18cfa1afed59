//! The time, as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where a service gets the time from. It may jump, also backwards.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 (Unix ms).
    fn unix_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
