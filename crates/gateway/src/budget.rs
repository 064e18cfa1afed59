//! How much load retries and hedges may add, so that an outage is not answered with a storm.
//!
//! Pure: a token bucket with the time as argument. Each call puts a share of a token in; each
//! attempt beyond a call's first takes a whole one out. So over time the extra load is at most
//! that share, plus a small steady allowance without which a gateway that is hardly used could
//! never retry. (The scheme and the allowance of 10 a second are those of Finagle's
//! `RetryBudget`, <https://twitter.github.io/finagle/guide/Clients.html#retries>.)

/// Attempts a second that are allowed whatever the traffic.
pub const ALLOWANCE_PER_S: u64 = 10;
/// Seconds of allowance that the bucket holds; also its content at the start.
pub const ALLOWANCE_S: u64 = 10;

const WHOLE_PPM: u64 = 1_000_000;
/// The most that calls can save up, in whole tokens.
const SAVED_MAX: u64 = 1_000;

/// What is left for retries and hedges.
#[derive(Clone, Debug)]
pub struct Budget {
    /// What each call adds, in parts per million of an attempt.
    share_ppm: u64,
    /// Saved by calls, ppm of an attempt.
    saved_ppm: u64,
    /// Left of the steady allowance, ppm of an attempt.
    allowance_ppm: u64,
    filled_ms: u64,
}

/// Until a call came, nothing can be spent.
impl Default for Budget {
    fn default() -> Self {
        Self {
            share_ppm: 0,
            saved_ppm: 0,
            allowance_ppm: ALLOWANCE_PER_S * ALLOWANCE_S * WHOLE_PPM,
            filled_ms: 0,
        }
    }
}

impl Budget {
    /// A call came. The share is that of the configuration in force, and holds from here on.
    pub fn earn(&mut self, share_ppm: u32) {
        self.share_ppm = u64::from(share_ppm);
        self.saved_ppm = (self.saved_ppm + self.share_ppm).min(SAVED_MAX * WHOLE_PPM);
    }

    /// One extra attempt that somebody has a right to.
    pub fn grant(&mut self) {
        self.saved_ppm = (self.saved_ppm + WHOLE_PPM).min(SAVED_MAX * WHOLE_PPM);
    }

    /// Takes one extra attempt out, if there is one.
    pub fn spend(&mut self, now_ms: u64) -> bool {
        if self.share_ppm == 0 {
            return false;
        }
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = now_ms;
        let full = ALLOWANCE_PER_S * ALLOWANCE_S * WHOLE_PPM;
        // 10 a second are 10,000 ppm a millisecond.
        let filled = passed_ms.saturating_mul(ALLOWANCE_PER_S * WHOLE_PPM / 1000);
        self.allowance_ppm = self.allowance_ppm.saturating_add(filled).min(full);
        for purse in [&mut self.saved_ppm, &mut self.allowance_ppm] {
            if let Some(left) = purse.checked_sub(WHOLE_PPM) {
                *purse = left;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &mut Budget, now_ms: u64) -> u64 {
        (0..).take_while(|_| budget.spend(now_ms)).count() as u64
    }

    #[test]
    fn a_gateway_that_is_hardly_used_can_retry() {
        let mut budget = Budget::default();
        budget.earn(1);
        assert_eq!(spent(&mut budget, 0), ALLOWANCE_PER_S * ALLOWANCE_S);
        assert_eq!(spent(&mut budget, 0), 0);
        assert_eq!(spent(&mut budget, 1000), ALLOWANCE_PER_S);
        assert_eq!(spent(&mut budget, u64::MAX), ALLOWANCE_PER_S * ALLOWANCE_S);
    }

    #[test]
    fn a_busy_one_adds_a_fifth_and_the_allowance() {
        let mut budget = Budget::default();
        let mut extra = 0;
        // 1000 calls a second for 100 s, all of which fail and want to be tried twice more.
        for call in 0..100_000u64 {
            budget.earn(200_000);
            extra += u64::from(budget.spend(call)) + u64::from(budget.spend(call));
        }
        let most = 100_000 / 5 + ALLOWANCE_PER_S * (100 + ALLOWANCE_S);
        assert!(extra <= most && extra > most - 10, "{extra} of {most}");
    }

    #[test]
    fn quiet_times_do_not_add_up_without_end() {
        let mut budget = Budget::default();
        (0..1_000_000).for_each(|_| budget.earn(200_000));
        let most = SAVED_MAX + ALLOWANCE_PER_S * ALLOWANCE_S;
        assert_eq!(spent(&mut budget, 0), most);
    }

    #[test]
    fn a_share_of_nothing_forbids_all() {
        let mut budget = Budget::default();
        budget.earn(0);
        assert!(!budget.spend(1_000_000));
    }
}
