//! Incidents: spells in which an endpoint failed, opened and closed by a fixed rule.
//!
//! The rule, without any claim about errors. Judged attempts are taken in *blocks*: a block lasts
//! at least [`BLOCK_MS`] and until it holds [`BLOCK_ATTEMPTS`]; one that has not filled within
//! [`STALE_MS`] is dropped. An incident opens as soon as a block holds [`BLOCK_ATTEMPTS`] failures
//! that are at least half of its attempts, from the first of these failures on. It closes when
//! a later block ends in which at most one attempt in ten failed, at the start of that block.

use std::collections::VecDeque;

use record::digest::Sha256;

/// A block lasts at least this long, ms.
pub(super) const BLOCK_MS: u64 = 5 * 60 * 1000;
/// A block holds at least this many attempts.
pub(super) const BLOCK_ATTEMPTS: u64 = 3;
/// A block that has not filled by then is dropped, ms.
pub(super) const STALE_MS: u64 = 24 * 3600 * 1000;
/// Incidents that are kept one by one; older ones are counted.
pub(super) const INCIDENTS_KEPT: usize = 16;

/// One incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Incident {
    /// End of the first failed attempt, Unix ms.
    pub start_ms: u64,
    /// Start of the first block that was well again, Unix ms; absent while it lasts.
    pub end_ms: Option<u64>,
    /// Attempts that failed from its first block to its last.
    pub failed: u64,
}

/// The incidents of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Incidents {
    /// How many there were, the open one included.
    pub(super) count: u64,
    /// How long the closed ones lasted together, ms.
    pub(super) closed_ms: u64,
    /// The latest, oldest first.
    pub(super) recent: VecDeque<Incident>,
    block: Block,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Block {
    start_ms: u64,
    attempts: u64,
    failed: u64,
    first_failed_ms: u64,
}

impl Incidents {
    /// Takes one judged attempt. `now_ms` never runs backwards.
    pub(super) fn add(&mut self, failed: bool, now_ms: u64) {
        self.end_block(now_ms);
        let block = &mut self.block;
        if block.attempts == 0 {
            block.start_ms = now_ms;
        }
        if failed && block.failed == 0 {
            block.first_failed_ms = now_ms;
        }
        block.attempts += 1;
        block.failed += u64::from(failed);
        let bad = block.failed >= BLOCK_ATTEMPTS && 2 * block.failed >= block.attempts;
        match self.recent.back_mut().filter(|last| last.end_ms.is_none()) {
            Some(open) => open.failed += u64::from(failed),
            None if bad => {
                self.count += 1;
                self.recent.push_back(Incident {
                    start_ms: block.first_failed_ms,
                    end_ms: None,
                    failed: block.failed,
                });
                if self.recent.len() > INCIDENTS_KEPT {
                    self.recent.pop_front();
                }
            }
            None => {}
        }
    }

    /// When the open one started, if there is one.
    pub(super) fn open_since_ms(&self) -> Option<u64> {
        let last = self.recent.back()?;
        last.end_ms.is_none().then_some(last.start_ms)
    }

    fn end_block(&mut self, now_ms: u64) {
        let block = self.block;
        let age_ms = now_ms.saturating_sub(block.start_ms);
        let full = block.attempts >= BLOCK_ATTEMPTS && age_ms >= BLOCK_MS;
        if !full && (block.attempts == 0 || age_ms < STALE_MS) {
            return;
        }
        self.block = Block::default();
        let well = full && 10 * block.failed <= block.attempts;
        // The block that opened it cannot close it: it began no later than the incident.
        let later = |last: &&mut Incident| last.end_ms.is_none() && block.start_ms > last.start_ms;
        if let Some(open) = self.recent.back_mut().filter(later)
            && well
        {
            open.end_ms = Some(block.start_ms);
            self.closed_ms += block.start_ms - open.start_ms;
        }
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        let block = &self.block;
        for value in [
            self.count,
            self.closed_ms,
            block.start_ms,
            block.attempts,
            block.failed,
            block.first_failed_ms,
            self.recent.len() as u64,
        ] {
            hasher.update(&value.to_be_bytes());
        }
        for incident in &self.recent {
            let end_ms = incident.end_ms.unwrap_or(u64::MAX);
            for value in [incident.start_ms, end_ms, incident.failed] {
                hasher.update(&value.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn fold(attempts: &[(u64, bool)]) -> Incidents {
        let mut incidents = Incidents::default();
        for (minute, failed) in attempts {
            incidents.add(*failed, minute * MINUTE);
        }
        incidents
    }

    #[test]
    fn three_failures_open_an_incident_and_a_good_block_closes_it() {
        let mut attempts: Vec<(u64, bool)> = vec![(10, false), (11, true), (12, true)];
        assert_eq!(fold(&attempts).count, 0);
        attempts.push((13, true));
        let open = fold(&attempts);
        assert_eq!((open.count, open.open_since_ms()), (1, Some(11 * MINUTE)));
        attempts.extend([(30, false), (31, false), (32, false)]);
        assert!(
            fold(&attempts).open_since_ms().is_some(),
            "not a whole block yet"
        );
        attempts.push((36, false));
        let closed = fold(&attempts);
        assert_eq!(closed.open_since_ms(), None);
        assert_eq!(closed.closed_ms, 19 * MINUTE);
        let want = Incident {
            start_ms: 11 * MINUTE,
            end_ms: Some(30 * MINUTE),
            failed: 3,
        };
        assert_eq!(closed.recent, [want]);
    }

    #[test]
    fn the_block_that_opened_an_incident_does_not_close_it() {
        let mut incidents = fold(&[(10, true), (10, true), (10, true)]);
        (0..60).for_each(|_| incidents.add(false, 11 * MINUTE));
        incidents.add(false, 16 * MINUTE);
        assert_eq!(incidents.open_since_ms(), Some(10 * MINUTE));
        (17..30).for_each(|minute| incidents.add(false, minute * MINUTE));
        assert_eq!(incidents.open_since_ms(), None);
        assert_eq!(incidents.closed_ms, 6 * MINUTE);
    }

    #[test]
    fn a_few_failures_among_many_are_none() {
        let attempts: Vec<_> = (0..600).map(|n| (n / 10, n % 3 == 0)).collect();
        assert_eq!(fold(&attempts).count, 0);
    }

    #[test]
    fn half_of_the_calls_failing_stays_one_incident() {
        let attempts: Vec<_> = (0..600).map(|n| (n / 10, n % 2 == 0)).collect();
        let incidents = fold(&attempts);
        assert_eq!((incidents.count, incidents.recent.len()), (1, 1));
        assert!(incidents.open_since_ms().is_some());
    }

    #[test]
    fn failures_days_apart_do_not_add_up() {
        let day = 24 * 60;
        let attempts: Vec<_> = (0..10).map(|n| (n * day, true)).collect();
        assert_eq!(fold(&attempts).count, 0);
    }

    #[test]
    fn only_the_latest_are_kept_and_all_are_counted() {
        let mut attempts = Vec::new();
        for round in 0..40u64 {
            let start = round * 60;
            attempts.extend([(start, true), (start + 1, true), (start + 2, true)]);
            attempts.extend((20..30).map(|minute| (start + minute, false)));
        }
        let incidents = fold(&attempts);
        assert_eq!(
            (incidents.count, incidents.recent.len()),
            (40, INCIDENTS_KEPT)
        );
    }
}
