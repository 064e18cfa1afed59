//! Waiting longer after every failure, with seeded jitter so that signers do not march in step.

use std::time::Duration;

use crate::config::Shipping;

pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub(super) fn new(shipping: &Shipping, seed: u64) -> Backoff {
        Backoff {
            min: shipping.retry_min,
            max: shipping.retry_max,
            failures: 0,
            seed,
        }
    }

    /// How long to wait after one more failure: between half and all of `min · 2^failures`, at
    /// most `max`; or what the log asked for, if that is longer (and at most `max`).
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let full = self
            .min
            .saturating_mul(1 << self.failures.min(20))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let span = u64::try_from(half.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let wait = half + Duration::from_micros(self.draw() % span);
        asked.map_or(wait, |asked| self.bounded(asked).max(wait))
    }

    /// What the log asked for, as far as it is listened to.
    pub(super) fn bounded(&self, asked: Duration) -> Duration {
        asked.min(self.max)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): enough for spreading waits.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_start_over() {
        let shipping = Shipping {
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(2),
            ..Shipping::default()
        };
        let mut backoff = Backoff::new(&shipping, 7);
        let mut same = Backoff::new(&shipping, 7);
        for failure in 0..10 {
            let full = Duration::from_millis(100 << failure).min(Duration::from_secs(2));
            let wait = backoff.next(None);
            assert!(
                full / 2 <= wait && wait <= full,
                "{failure}: {wait:?} of {full:?}"
            );
            assert_eq!(same.next(None), wait, "the seed decides");
        }
        assert!(backoff.is_failing());
        backoff.reset();
        assert!(!backoff.is_failing());
        assert!(backoff.next(None) <= Duration::from_millis(100));
        assert_eq!(
            backoff.next(Some(Duration::from_secs(1))),
            Duration::from_secs(1)
        );
        assert_eq!(
            backoff.next(Some(Duration::from_secs(9999))),
            Duration::from_secs(2)
        );
    }
}
