//! How an endpoint is doing at the moment, as far as choosing one for the next call goes: its
//! breaker, the pauses that it asked for, and how fast it answers.
//!
//! This is memory of this process, forgotten at its end. What counts as evidence is in the records
//! alone.

use crate::breaker::{Admission, Breaker};

/// The longest pause that is granted, ms: whoever asks for more is asked again all the same.
pub(crate) const PAUSE_MAX_MS: u64 = 60_000;

/// What an attempt says about an endpoint's health. It differs from the record in a few places: an
/// endpoint that does not take our key has done nothing wrong, and is of no use either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answers.
    Good,
    /// It does not, or not usefully.
    Bad,
    /// Nobody is there: once is enough.
    Gone,
    /// Nothing.
    None,
}

/// Whether to ask an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// As usual.
    Ready,
    /// After the others.
    Resting,
    /// Not for so many milliseconds: it said that calls are too many.
    Paused { for_ms: u64 },
}

/// How an endpoint is doing.
#[derive(Debug, Default)]
pub(crate) struct Health {
    breaker: Breaker,
    /// It answered 429 and said when to come back.
    paused_until_ms: u64,
    /// It answered 503 or 529 and said when to come back.
    rests_until_ms: u64,
    pace: Pace,
}

impl Health {
    pub(crate) fn readiness(&self, now_ms: u64) -> Readiness {
        if now_ms < self.paused_until_ms {
            let for_ms = self.paused_until_ms - now_ms;
            return Readiness::Paused { for_ms };
        }
        let open = self.breaker.admission(now_ms) == Admission::Open;
        if open || now_ms < self.rests_until_ms {
            Readiness::Resting
        } else {
            Readiness::Ready
        }
    }

    /// Whether it is time for one call that shows whether it is well again.
    pub(crate) fn wants_probe(&self, now_ms: u64) -> bool {
        self.breaker.admission(now_ms) == Admission::Probe
            && self.readiness(now_ms) == Readiness::Ready
    }

    pub(crate) fn began(&mut self, now_ms: u64) {
        self.breaker.began(now_ms);
    }

    pub(crate) fn ended(&mut self, now_ms: u64, sign: Sign) {
        match sign {
            Sign::Good => {
                self.breaker.succeeded();
                self.rests_until_ms = 0;
            }
            Sign::Bad => self.breaker.failed(now_ms, false),
            Sign::Gone => self.breaker.failed(now_ms, true),
            Sign::None => self.breaker.ended(now_ms),
        }
    }

    /// It asked for a pause: one that said 429 is left alone, one that has no room is asked last.
    pub(crate) fn pause(&mut self, now_ms: u64, seconds: u32, limited: bool) {
        let until_ms = now_ms + (u64::from(seconds) * 1000).min(PAUSE_MAX_MS);
        if limited {
            self.paused_until_ms = until_ms;
        } else {
            self.rests_until_ms = until_ms;
        }
    }

    pub(crate) fn eject(&mut self, now_ms: u64) {
        self.breaker.eject(now_ms);
    }

    pub(crate) fn breaker(&self) -> &'static str {
        self.breaker.word()
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    pub(crate) fn took(&mut self, first_token_us: Option<u64>, total_us: u64, tokens: Option<u64>) {
        self.pace.add(first_token_us, total_us, tokens);
    }
}

/// How fast it answers: moving averages over complete answers, 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Time to the first token, µs.
    pub(crate) first_token_us: u64,
    /// Tokens per thousand seconds of a whole answer.
    pub(crate) tokens_per_ks: u64,
}

/// The newest answer weighs one part in so many.
const PACE_WEIGHT: u64 = 8;

impl Pace {
    fn add(&mut self, first_token_us: Option<u64>, total_us: u64, tokens: Option<u64>) {
        let mix = |have: &mut u64, new: u64| {
            *have = match *have {
                0 => new,
                have => (have * (PACE_WEIGHT - 1) + new) / PACE_WEIGHT,
            }
            .max(1);
        };
        if let Some(first_token_us) = first_token_us {
            mix(&mut self.first_token_us, first_token_us);
        }
        if let Some(tokens) = tokens.filter(|tokens| *tokens > 0) {
            let rate = tokens.saturating_mul(1_000_000_000) / total_us.max(1);
            mix(&mut self.tokens_per_ks, rate.min(u64::from(u32::MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_limits_is_left_alone_for_as_long_as_it_says_and_no_longer() {
        let mut health = Health::default();
        health.pause(1000, 7, true);
        assert_eq!(health.readiness(1000), Readiness::Paused { for_ms: 7000 });
        assert_eq!(health.readiness(7999), Readiness::Paused { for_ms: 1 });
        assert_eq!(health.readiness(8000), Readiness::Ready);
        health.pause(0, u32::MAX, true);
        assert_eq!(health.readiness(PAUSE_MAX_MS), Readiness::Ready);
    }

    #[test]
    fn one_without_room_is_asked_last_until_it_answers() {
        let mut health = Health::default();
        health.pause(0, 7, false);
        assert_eq!(health.readiness(6999), Readiness::Resting);
        health.ended(1, Sign::Good);
        assert_eq!(health.readiness(1), Readiness::Ready);
    }

    #[test]
    fn signs_move_the_breaker() {
        let mut health = Health::default();
        health.ended(0, Sign::Gone);
        assert_eq!(health.readiness(0), Readiness::Resting);
        health.ended(0, Sign::None);
        assert_eq!(health.readiness(0), Readiness::Resting);
        health.ended(0, Sign::Good);
        assert_eq!(
            (health.readiness(0), health.breaker()),
            (Readiness::Ready, "closed")
        );
        (0..10).for_each(|_| health.ended(0, Sign::Bad));
        assert_eq!(health.breaker(), "open");
        let after_ms = crate::breaker::OPEN_MS;
        assert!(!health.wants_probe(after_ms - 1) && health.wants_probe(after_ms));
        health.began(after_ms);
        assert!(!health.wants_probe(after_ms), "one is under way");
    }

    #[test]
    fn pace_follows_the_answers() {
        let mut pace = Pace::default();
        pace.add(Some(80_000), 1_000_000, Some(50));
        assert_eq!((pace.first_token_us, pace.tokens_per_ks), (80_000, 50_000));
        (0..100).for_each(|_| pace.add(Some(20_000), 2_000_000, Some(20)));
        assert!(pace.first_token_us.abs_diff(20_000) < 100, "{pace:?}");
        assert!(pace.tokens_per_ks.abs_diff(10_000) < 100, "{pace:?}");
        let before = pace;
        pace.add(None, 1, None);
        assert_eq!(pace, before);
    }
}
