//! What time the logs say it is, beside this machine's clock.
//!
//! A machine whose clock is months ahead finds every certificate expired, and nothing on it can tell
//! that from endpoints that let theirs expire. Checkpoints carry no time, so what counts is the `Date`
//! of a log's answers (RFC 9110, section 6.6.1). A log behind a certificate that looks expired itself
//! gives none, and that is a doubt as well.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use recorder::Clock;

use crate::lock::lock;

/// Clocks that differ by more are not both right, s.
const OFF_S: u64 = 24 * 3600;

/// What was heard last.
pub(crate) struct ToldTime {
    clock: Arc<dyn Clock>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// How far this clock is ahead of a log's, s.
    ahead_s: Option<i64>,
    /// A log's certificate looks expired.
    expired: bool,
}

impl Heard {
    fn is_off(&self) -> bool {
        let ahead_s = self.ahead_s.unwrap_or(0);
        self.expired || ahead_s.unsigned_abs() > OFF_S
    }
}

impl ToldTime {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            heard: Mutex::default(),
        }
    }

    /// A log answered, and dated its answer if it has a clock.
    pub(crate) fn dated(&self, date: Option<SystemTime>) {
        let Some(date) = date else { return };
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.unix_ms());
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let ahead_s = match now.duration_since(date) {
            Ok(ahead) => seconds(ahead),
            Err(behind) => -seconds(behind.duration()),
        };
        self.hear(Heard {
            ahead_s: Some(ahead_s),
            expired: false,
        });
    }

    /// A log could not be asked, because its certificate looks expired.
    pub(crate) fn expired(&self) {
        let ahead_s = self.ahead_s();
        self.hear(Heard {
            ahead_s,
            expired: true,
        });
    }

    fn hear(&self, now: Heard) {
        let mut heard = lock(&self.heard);
        match (heard.is_off(), now.is_off()) {
            (false, true) => tracing::error!(
                ahead_s = now.ahead_s,
                log_expired = now.expired,
                "this machine's clock and a log's do not agree; until they do, certificates that look \
                 expired are held against no endpoint"
            ),
            (true, false) => tracing::info!("this machine's clock agrees with a log's again"),
            _ => {}
        }
        *heard = now;
    }

    /// How far this machine's clock is ahead of what a log said last, s.
    pub(crate) fn ahead_s(&self) -> Option<i64> {
        lock(&self.heard).ahead_s
    }

    /// Whether this machine may be wrong about what has expired.
    pub(crate) fn is_off(&self) -> bool {
        lock(&self.heard).is_off()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(u64);

    impl Clock for At {
        fn unix_ms(&self) -> u64 {
            self.0 * 1000
        }
    }

    #[test]
    fn a_clock_is_off_when_a_log_says_so_and_right_again_when_it_agrees() {
        const NOW_S: u64 = 1_800_000_000;
        let told = ToldTime::new(Arc::new(At(NOW_S)));
        let date = |seconds: u64| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(!told.is_off(), "nobody said anything");
        told.dated(None);
        assert_eq!(told.ahead_s(), None);
        told.dated(date(NOW_S - OFF_S));
        assert!(!told.is_off());
        told.dated(date(NOW_S - OFF_S - 1));
        assert!(told.is_off());
        assert_eq!(told.ahead_s(), Some(86_401));
        told.dated(date(NOW_S + 2 * OFF_S));
        assert!(told.is_off(), "behind is off as well");
        told.dated(date(NOW_S + 1));
        assert!(!told.is_off());
        told.expired();
        assert!(told.is_off());
        told.dated(date(NOW_S));
        assert!(!told.is_off());
    }
}
