//! A circuit breaker: an endpoint that keeps failing is left alone for a while, then tried with
//! one call before all others come back.
//!
//! Pure: the time comes in as milliseconds of any clock that does not run backwards.
//!
//! ```text
//!             5 failures in a row, 10 of the last 20,
//!             no connection, or ejected by comparison
//!   ┌────────┐ ───────────────────────────▶ ┌──────┐
//!   │ closed │                              │ open │ ◀──────┐
//!   └────────┘                              └──────┘        │ the probe failed:
//!        ▲                                      │           │ open for twice as long
//!        │ the probe succeeded                  │ time over │
//!        │                                      ▼           │
//!        └────────────────────────────── ┌───────────┐ ─────┘
//!                                        │ half-open │
//!                                        └───────────┘
//! ```
//!
//! Open does not mean forbidden. A breaker orders endpoints; it refuses nobody. When every endpoint
//! of a model is open, the calls go to them all the same: a caller is better served by an attempt
//! that may fail than by a refusal that certainly does (Envoy calls this panic routing).

/// Failures in a row that open a breaker.
pub const IN_A_ROW: u32 = 5;
/// Outcomes that are remembered.
pub const REMEMBERED: u32 = 20;
/// Failures among the remembered ones that open a breaker.
pub const AMONG_REMEMBERED: u32 = 10;
/// How long a breaker is open the first time, ms; after each failed probe twice as long.
pub const OPEN_MS: u64 = 5_000;
/// The longest that it is open at once, ms.
pub const OPEN_MAX_MS: u64 = 60_000;

/// What a breaker says of the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Ask as usual.
    Closed,
    /// Ask once, to see whether it is well again.
    Probe,
    /// Ask others first.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until_ms: u64 },
    HalfOpen,
}

/// The breaker of one endpoint.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    in_a_row: u32,
    /// The latest outcomes, one bit each, the newest lowest; 1 is a failure.
    latest: u32,
    /// How long it will be open the next time.
    next_open_ms: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            in_a_row: 0,
            latest: 0,
            next_open_ms: OPEN_MS,
        }
    }
}

impl Breaker {
    /// What it says of a call at `now_ms`.
    #[must_use]
    pub fn admission(&self, now_ms: u64) -> Admission {
        match self.state {
            State::Closed => Admission::Closed,
            State::Open { until_ms } if now_ms >= until_ms => Admission::Probe,
            State::Open { .. } | State::HalfOpen => Admission::Open,
        }
    }

    /// An attempt begins. The first one after the time is over is the probe; until it ends the
    /// breaker says `Open` to the others.
    pub fn began(&mut self, now_ms: u64) {
        if self.admission(now_ms) == Admission::Probe {
            self.state = State::HalfOpen;
        }
    }

    /// An attempt went well, whether or not it was the probe.
    pub fn succeeded(&mut self) {
        self.in_a_row = 0;
        if self.state == State::Closed {
            self.latest <<= 1;
        } else {
            // What was before says nothing about an endpoint that came back.
            *self = Self::default();
        }
    }

    /// An attempt failed, and that counts against the endpoint. `sure` says that one failure is
    /// enough: nobody listens there.
    pub fn failed(&mut self, now_ms: u64, sure: bool) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.latest = self.latest << 1 | 1;
        match self.state {
            State::Closed => {
                let remembered = self.latest & ((1 << REMEMBERED) - 1);
                let often = remembered.count_ones() >= AMONG_REMEMBERED;
                if sure || often || self.in_a_row >= IN_A_ROW {
                    self.open(now_ms);
                }
            }
            State::HalfOpen => self.open(now_ms),
            // It was asked because there was no other; that it still fails is no news.
            State::Open { .. } => {}
        }
    }

    /// An attempt ended without saying anything about the endpoint: the caller left, say. If it
    /// was the probe, the next call is one.
    pub fn ended(&mut self, now_ms: u64) {
        if self.state == State::HalfOpen {
            self.state = State::Open { until_ms: now_ms };
        }
    }

    /// Opens a closed breaker because the endpoint does worse than others ([`crate::outlier`]).
    pub fn eject(&mut self, now_ms: u64) {
        if self.state == State::Closed {
            self.open(now_ms);
        }
    }

    fn open(&mut self, now_ms: u64) {
        let until_ms = now_ms.saturating_add(self.next_open_ms);
        self.state = State::Open { until_ms };
        self.next_open_ms = (self.next_open_ms * 2).min(OPEN_MAX_MS);
    }

    /// `closed`, `open` or `half_open`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(failures: u32) -> Breaker {
        let mut breaker = Breaker::default();
        (0..failures).for_each(|_| breaker.failed(0, false));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        assert_eq!(after(IN_A_ROW - 1).admission(0), Admission::Closed);
        assert_eq!(after(IN_A_ROW).admission(0), Admission::Open);
        let mut saved = after(IN_A_ROW - 1);
        saved.succeeded();
        saved.failed(0, false);
        assert_eq!(saved.admission(0), Admission::Closed, "not in a row");
    }

    #[test]
    fn so_does_every_other_one() {
        let mut breaker = Breaker::default();
        for number in 1..AMONG_REMEMBERED {
            breaker.failed(0, false);
            breaker.succeeded();
            assert_eq!(breaker.admission(0), Admission::Closed, "{number}");
        }
        breaker.failed(0, false);
        assert_eq!(breaker.admission(0), Admission::Open);
    }

    #[test]
    fn failures_of_long_ago_are_forgotten() {
        let mut breaker = Breaker::default();
        for _ in 0..1000 {
            breaker.failed(0, false);
            breaker.succeeded();
            breaker.succeeded();
            assert_eq!(breaker.admission(0), Admission::Closed, "a third fails");
        }
    }

    #[test]
    fn one_refused_connection_is_enough() {
        let mut breaker = Breaker::default();
        breaker.failed(0, true);
        assert_eq!(breaker.admission(OPEN_MS - 1), Admission::Open);
    }

    #[test]
    fn one_call_probes_and_the_others_wait_for_it() {
        let mut breaker = after(IN_A_ROW);
        assert_eq!(breaker.admission(OPEN_MS), Admission::Probe);
        breaker.began(OPEN_MS);
        assert_eq!(breaker.word(), "half_open");
        assert_eq!(breaker.admission(OPEN_MS), Admission::Open);
        assert_eq!(breaker.admission(u64::MAX), Admission::Open);
        breaker.succeeded();
        assert_eq!(breaker.admission(OPEN_MS), Admission::Closed);
        breaker.failed(OPEN_MS, false);
        assert_eq!(breaker.word(), "closed", "it starts afresh");
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_minute() {
        let mut breaker = after(IN_A_ROW);
        let (mut now_ms, mut wait_ms) = (0, OPEN_MS);
        for _ in 0..8 {
            assert_eq!(breaker.admission(now_ms + wait_ms - 1), Admission::Open);
            now_ms += wait_ms;
            assert_eq!(breaker.admission(now_ms), Admission::Probe);
            breaker.began(now_ms);
            breaker.failed(now_ms, false);
            wait_ms = (wait_ms * 2).min(OPEN_MAX_MS);
        }
        assert_eq!(wait_ms, OPEN_MAX_MS);
        breaker.succeeded();
        breaker.failed(now_ms, true);
        assert_eq!(breaker.admission(now_ms + OPEN_MS), Admission::Probe);
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another() {
        let mut breaker = after(IN_A_ROW);
        breaker.began(OPEN_MS);
        breaker.ended(OPEN_MS + 7);
        assert_eq!(breaker.admission(OPEN_MS + 7), Admission::Probe);
    }

    #[test]
    fn a_last_resort_neither_shortens_nor_lengthens_the_time() {
        let mut breaker = after(IN_A_ROW);
        breaker.began(1);
        breaker.failed(1, true);
        breaker.ended(1);
        assert_eq!(breaker.admission(OPEN_MS - 1), Admission::Open);
        assert_eq!(breaker.admission(OPEN_MS), Admission::Probe);
        breaker.succeeded();
        assert_eq!(breaker.admission(2), Admission::Closed, "but success is");
    }

    #[test]
    fn ejection_opens_only_what_is_closed() {
        let mut breaker = Breaker::default();
        breaker.eject(10);
        assert_eq!(breaker.admission(10 + OPEN_MS), Admission::Probe);
        breaker.began(10 + OPEN_MS);
        breaker.eject(10 + OPEN_MS);
        assert_eq!(breaker.word(), "half_open");
    }
}
