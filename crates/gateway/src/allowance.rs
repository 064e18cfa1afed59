//! How much a caller may still use: token buckets for calls and tokens, a sum for a day's money.
//!
//! Pure: time comes in, in milliseconds that never run back (for the day, Unix ms). A bucket holds
//! a minute's worth and fills evenly, so a caller that was silent for a minute may use a minute's
//! worth at once. What a call will use is not known when it is let in: an estimate is taken out,
//! and the difference settled at its end. The level may fall below zero by that difference; then
//! the next call waits until it is back. (Turner 1986, "New directions in communications".)

use std::time::Duration;

use crate::keys::Grant;

/// A minute, in the unit of time here.
const MINUTE_MS: u64 = 60_000;
/// A UTC day.
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// Limits above this are as good as none; it keeps the arithmetic within 64 bits.
const LIMIT_MAX: u64 = 100_000_000_000;

/// A token bucket of a minute's capacity.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_minute: i64,
    /// What is in it, in units of 1/60 000: so a millisecond adds `per_minute`.
    level: i64,
    at_ms: u64,
}

impl Bucket {
    fn full(per_minute: u64, now_ms: u64) -> Self {
        let per_minute = signed(per_minute.min(LIMIT_MAX));
        Self {
            per_minute,
            level: per_minute * signed(MINUTE_MS),
            at_ms: now_ms,
        }
    }

    fn capacity(&self) -> i64 {
        self.per_minute * signed(MINUTE_MS)
    }

    fn fill(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.at_ms).min(DAY_MS);
        self.at_ms = self.at_ms.max(now_ms);
        let added = self.per_minute.saturating_mul(signed(elapsed));
        self.level = self.level.saturating_add(added).min(self.capacity());
    }

    /// How long until `wanted` can be taken; zero: now. More than fits is treated as all of it.
    fn wait(&self, wanted: u64) -> Duration {
        let missing = self.units(wanted) - self.level;
        Duration::from_millis(unsigned(missing).div_ceil(unsigned(self.per_minute)))
    }

    fn units(&self, wanted: u64) -> i64 {
        signed(wanted.min(LIMIT_MAX))
            .saturating_mul(signed(MINUTE_MS))
            .min(self.capacity())
    }

    fn take(&mut self, taken: u64) {
        self.level -= self.units(taken);
    }

    /// Corrects an estimate by what was really used.
    fn settle(&mut self, estimated: u64, used: u64) {
        self.level += self.units(estimated);
        let used = signed(used.min(LIMIT_MAX)).saturating_mul(signed(MINUTE_MS));
        // At most a day's debt: one absurd count must not lock a caller out for good.
        let deepest = self.capacity().saturating_mul(-24 * 60);
        let level = self.level.saturating_sub(used);
        self.level = level.clamp(deepest, self.capacity());
    }

    fn left(&self) -> Left {
        let limit = unsigned(self.per_minute);
        Left {
            limit,
            remaining: unsigned(self.level) / MINUTE_MS,
            reset: self.wait(limit),
        }
    }

    /// Another limit, with the same share of it left.
    fn relimit(&mut self, per_minute: u64) {
        let before = self.per_minute;
        self.per_minute = signed(per_minute.min(LIMIT_MAX));
        let level = i128::from(self.level) * i128::from(self.per_minute) / i128::from(before);
        self.level = i64::try_from(level).unwrap_or(0).min(self.capacity());
    }
}

/// What is left of a limit, as the `x-ratelimit-` headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Until all of it is there again.
    pub(crate) reset: Duration,
}

/// What stands in the way of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// Too many calls; so long to wait.
    Requests(Duration),
    /// Too many tokens.
    Tokens(Duration),
    /// The day's money is spent.
    Spend(Duration),
}

/// A caller's use.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    spend_per_day_micro: Option<u64>,
    spent: Spent,
}

/// What was spent on a UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Days since 1970.
    pub(crate) day: u64,
    /// In billionths of the currency: the price of a single token is less than a millionth.
    pub(crate) nano: u64,
}

impl Spent {
    /// Whether it still counts.
    pub(crate) fn is_of(&self, now: Now) -> bool {
        self.day == now.unix_ms / DAY_MS
    }
}

/// Two clocks: one that never runs back, for buckets, and the calendar's, for days.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) steady_ms: u64,
    pub(crate) unix_ms: u64,
}

impl Allowance {
    pub(crate) fn new(grant: &Grant, spent: Spent, now: Now) -> Self {
        let full = |limit: u64| Bucket::full(limit, now.steady_ms);
        Self {
            requests: grant.requests_per_minute.map(full),
            tokens: grant.tokens_per_minute.map(full),
            spend_per_day_micro: grant.spend_per_day_micro,
            spent,
        }
    }

    /// The limits changed while the caller is at work.
    pub(crate) fn regrant(&mut self, grant: &Grant, now: Now) {
        let change = |bucket: &mut Option<Bucket>, limit: Option<u64>| match (&mut *bucket, limit) {
            (Some(bucket), Some(limit)) => bucket.relimit(limit),
            (_, limit) => *bucket = limit.map(|limit| Bucket::full(limit, now.steady_ms)),
        };
        change(&mut self.requests, grant.requests_per_minute);
        change(&mut self.tokens, grant.tokens_per_minute);
        self.spend_per_day_micro = grant.spend_per_day_micro;
    }

    /// Lets a call in that will use about this many tokens, or says what is exhausted; then
    /// nothing is taken.
    pub(crate) fn admit(&mut self, tokens: u64, now: Now) -> Result<(), Exhausted> {
        let day = now.unix_ms / DAY_MS;
        if self.spent.day != day {
            self.spent = Spent { day, nano: 0 };
        }
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.fill(now.steady_ms);
        }
        let wait = |bucket: &Option<Bucket>, wanted| {
            let wait = bucket.as_ref().map(|bucket| bucket.wait(wanted));
            wait.filter(|wait| !wait.is_zero())
        };
        if let Some(limit) = self.spend_per_day_micro
            && self.spent.nano / 1000 >= limit
        {
            let left_ms = DAY_MS - now.unix_ms % DAY_MS;
            return Err(Exhausted::Spend(Duration::from_millis(left_ms)));
        }
        if let Some(wait) = wait(&self.requests, 1) {
            return Err(Exhausted::Requests(wait));
        }
        if let Some(wait) = wait(&self.tokens, tokens) {
            return Err(Exhausted::Tokens(wait));
        }
        if let Some(bucket) = &mut self.requests {
            bucket.take(1);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(tokens);
        }
        Ok(())
    }

    /// A call ended that was let in for `estimated` tokens.
    pub(crate) fn settle(&mut self, estimated: u64, used: u64, spent_nano: u64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.settle(estimated, used);
        }
        self.spent.nano = self.spent.nano.saturating_add(spent_nano);
    }

    pub(crate) fn spent(&self) -> Spent {
        self.spent
    }

    /// What is left of calls and of tokens, where they are limited.
    pub(crate) fn left(&self) -> (Option<Left>, Option<Left>) {
        let left = |bucket: &Option<Bucket>| bucket.as_ref().map(Bucket::left);
        (left(&self.requests), left(&self.tokens))
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Nothing below zero.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now {
            steady_ms: ms,
            unix_ms: 20_000 * DAY_MS + ms,
        }
    }

    fn allowance(requests: Option<u64>, tokens: Option<u64>, spend: Option<u64>) -> Allowance {
        let grant = Grant {
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            spend_per_day_micro: spend,
            models: Vec::new(),
        };
        Allowance::new(&grant, Spent::default(), at(0))
    }

    #[test]
    fn a_minutes_worth_at_once_then_one_at_a_time() {
        let mut mine = allowance(Some(60), None, None);
        for _ in 0..60 {
            assert_eq!(mine.admit(0, at(0)), Ok(()));
        }
        let wait = Duration::from_millis(1000);
        assert_eq!(mine.admit(0, at(0)), Err(Exhausted::Requests(wait)));
        let shorter = Duration::from_millis(1);
        assert_eq!(mine.admit(0, at(999)), Err(Exhausted::Requests(shorter)));
        assert_eq!(mine.admit(0, at(1000)), Ok(()));
        let (requests, tokens) = mine.left();
        let requests = requests.expect("limited");
        assert_eq!((requests.limit, requests.remaining), (60, 0));
        assert_eq!(requests.reset, Duration::from_secs(60));
        assert_eq!(tokens, None);
    }

    /// Over any time, a caller gets at most one burst and the rate.
    #[test]
    fn never_more_than_a_burst_and_the_rate() {
        let mut mine = allowance(Some(100), None, None);
        let admitted = (0..600_000)
            .filter(|ms| mine.admit(0, at(*ms)).is_ok())
            .count();
        assert_eq!(
            admitted,
            100 + 999,
            "10 minutes, up to the last millisecond"
        );
    }

    #[test]
    fn an_estimate_is_settled_by_what_was_used() {
        let mut mine = allowance(None, Some(1000), None);
        assert_eq!(mine.admit(600, at(0)), Ok(()));
        let wait = Duration::from_millis(12_000);
        assert_eq!(mine.admit(600, at(0)), Err(Exhausted::Tokens(wait)));
        mine.settle(600, 100, 0);
        assert_eq!(mine.left().1.expect("limited").remaining, 900);
        assert_eq!(mine.admit(600, at(0)), Ok(()));
        mine.settle(600, 3000, 0);
        // 2100 in debt: nothing for 126 s, and then one token.
        assert!(mine.admit(0, at(0)).is_err() && mine.admit(1, at(126_059)).is_err());
        assert_eq!(mine.admit(1, at(126_060)), Ok(()));
    }

    #[test]
    fn a_call_larger_than_the_limit_takes_all_of_it_and_is_not_refused_for_good() {
        let mut mine = allowance(None, Some(1000), None);
        assert_eq!(mine.admit(5000, at(0)), Ok(()));
        assert!(mine.admit(1, at(0)).is_err());
        mine.settle(5000, 0, 0);
        assert_eq!(mine.left().1.expect("limited").remaining, 1000);
        mine.settle(0, u64::MAX, 0);
        assert_eq!(
            mine.admit(0, at(25 * 60 * MINUTE_MS)),
            Ok(()),
            "a day's debt at most"
        );
    }

    #[test]
    fn money_is_counted_by_the_day() {
        let mut mine = allowance(None, None, Some(5));
        assert_eq!(mine.admit(1, at(0)), Ok(()));
        mine.settle(1, 1, 4_999);
        assert_eq!(mine.admit(1, at(1)), Ok(()), "less than is allowed");
        mine.settle(1, 1, 1);
        let rest = Duration::from_millis(DAY_MS - 2);
        assert_eq!(mine.admit(1, at(2)), Err(Exhausted::Spend(rest)));
        assert_eq!(mine.admit(1, at(DAY_MS)), Ok(()), "a new day");
        assert_eq!(mine.spent().nano, 0);
    }

    #[test]
    fn what_is_refused_takes_nothing() {
        let mut mine = allowance(Some(2), Some(10), None);
        assert_eq!(mine.admit(10, at(0)), Ok(()));
        assert!(matches!(mine.admit(10, at(0)), Err(Exhausted::Tokens(_))));
        assert_eq!(mine.left().0.expect("limited").remaining, 1);
    }

    #[test]
    fn other_limits_keep_the_share_that_is_left() {
        let mut mine = allowance(Some(100), None, None);
        for _ in 0..50 {
            mine.admit(0, at(0)).expect("within");
        }
        let mut grant = Grant {
            requests_per_minute: Some(10),
            tokens_per_minute: Some(7),
            ..Grant::default()
        };
        mine.regrant(&grant, at(0));
        let (requests, tokens) = mine.left();
        assert_eq!(requests.expect("limited").remaining, 5);
        assert_eq!(tokens.expect("limited").remaining, 7);
        grant.requests_per_minute = None;
        mine.regrant(&grant, at(0));
        assert_eq!(mine.left().0, None);
    }

    #[test]
    fn a_clock_that_runs_back_gives_nothing() {
        let mut mine = allowance(Some(1), None, None);
        assert_eq!(mine.admit(0, at(60_000)), Ok(()));
        assert!(mine.admit(0, at(0)).is_err());
        assert!(
            mine.admit(0, at(60_001)).is_err(),
            "time is not counted twice"
        );
    }
}
