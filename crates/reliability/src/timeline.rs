//! What happened when: attempts in cells of five minutes and hours, latency by hour and day, and the
//! alarms of detectors with their time.
//!
//! A [`crate::fold::History`] says what all records amount to; this says how it came about, as far back
//! as a person looks. It follows the records that the history counted, in their order, and is
//! dropped and folded anew like any other view. Cells are of UTC; an attempt belongs to the cell
//! in which it started.
//!
//! **Memory.** Only cells with attempts take any: at most 1,034 cells of counts and 81 of
//! latency per endpoint, about 70 KB for one that is busy all the time and far less for others.
//! Endpoints are shared between copies of a timeline until they change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use record::bucket::DurationUs;
use record::observation::Observation;
use record::{Endpoint, Outcome, Predicate, Record};
use serde::Serialize;

use crate::cells::Cells;
use crate::fold::edge_us;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Fine cells, and how many are told of: one day.
const FINE_MS: u64 = 5 * MINUTE_MS;
const FINE: usize = 288;
/// Hours that are told of: 31 days.
const HOURS: usize = 744;
/// Hours and days of which latency is told.
const LATENCY_HOURS: usize = 48;
const LATENCY_DAYS: usize = 31;
/// Alarms that are kept per endpoint.
const ALARMS_KEPT: usize = 32;

/// The longest span that a timeline can tell of, ms: 31 days.
pub const SPAN_MAX_MS: u64 = HOURS as u64 * HOUR_MS;

/// Attempts of one cell, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attempts {
    /// All of them.
    pub calls: u64,
    /// Served well.
    pub good: u64,
    /// Failed by the provider's fault.
    pub bad: u64,
    /// Answered 429.
    pub rate_limited: u64,
}

impl Attempts {
    fn of(seen: &Observation) -> Self {
        Self {
            calls: 1,
            good: u64::from(seen.outcome == Outcome::Ok),
            bad: u64::from(seen.counts_against_endpoint()),
            rate_limited: u64::from(seen.outcome == Outcome::RateLimited),
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.good += other.good;
        self.bad += other.bad;
        self.rate_limited += other.rate_limited;
    }
}

/// Durations by number of their bucket, those that happened alone, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations(Vec<(u8, u32)>);

impl Durations {
    fn add(&mut self, index: u8, count: u32) {
        match self.0.binary_search_by_key(&index, |(at, _)| *at) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (index, count)),
        }
    }

    fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(at, n)| self.add(*at, *n));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, n)| u64::from(*n)).sum()
    }

    /// The bucket that this share of durations does not exceed: its lower edge, µs.
    #[must_use]
    pub fn quantile_us(&self, share_ppm: u32) -> Option<u64> {
        let rank = (u128::from(self.count()) * u128::from(share_ppm))
            .div_ceil(1_000_000)
            .max(1);
        let mut below = 0u128;
        let found = self.0.iter().find(|(_, n)| {
            below += u128::from(*n);
            below >= rank
        });
        found.map(|(at, _)| edge_us(usize::from(*at)))
    }

    /// Lower edge in µs and count of each bucket that is not empty.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let each = self.0.iter();
        each.map(|(at, n)| (edge_us(usize::from(*at)), u64::from(*n)))
    }
}

/// Times of answers that were served well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// To the first token.
    pub first_token: Durations,
    /// To the end.
    pub total: Durations,
}

impl Latency {
    fn add(&mut self, seen: &Observation) {
        let index = |us: DurationUs| u8::try_from(us.index()).unwrap_or(u8::MAX);
        if let Some(first) = seen.timing.ttft_us {
            self.first_token.add(index(first), 1);
        }
        self.total.add(index(seen.timing.total_us), 1);
    }

    fn merge(&mut self, other: &Self) {
        self.first_token.merge(&other.first_token);
        self.total.merge(&other.total);
    }
}

/// An alarm of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AlarmAt {
    /// The fold's clock when it was raised, Unix ms.
    pub at_ms: u64,
    /// The dimension that it is about.
    pub dimension: &'static str,
    /// Its number within the dimension, from 1.
    pub number: u64,
}

#[derive(Clone, Debug)]
struct Line {
    fine: Cells<Attempts>,
    hours: Cells<Attempts>,
    latency_hours: Cells<Latency>,
    latency_days: Cells<Latency>,
    alarms: VecDeque<AlarmAt>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            // One more than a span is long: it may begin in the middle of a cell.
            fine: Cells::new(FINE_MS, FINE + 1),
            hours: Cells::new(HOUR_MS, HOURS + 1),
            latency_hours: Cells::new(HOUR_MS, LATENCY_HOURS + 1),
            latency_days: Cells::new(DAY_MS, LATENCY_DAYS + 1),
            alarms: VecDeque::new(),
        }
    }
}

/// What happened when, endpoint by endpoint.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    lines: BTreeMap<Endpoint, Arc<Line>>,
}

/// One endpoint over a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where the cells of attempts begin, Unix ms.
    pub since_ms: u64,
    /// Attempts.
    pub attempts: Attempts,
    /// Where the cells of latency begin, Unix ms.
    pub latency_since_ms: u64,
    /// Latency.
    pub latency: Latency,
}

impl Timeline {
    /// Takes a record that the history counted.
    pub fn apply(&mut self, record: &Record) {
        let Predicate::Observation(seen) = &record.statement.predicate else {
            return;
        };
        let line = self.lines.entry(seen.stream.endpoint.clone());
        let line = Arc::make_mut(line.or_default());
        let start_ms = seen.timing.start_ms.ms();
        let attempt = Attempts::of(seen);
        for cells in [&mut line.fine, &mut line.hours] {
            if let Some(cell) = cells.at(start_ms) {
                cell.add(&attempt);
            }
        }
        if seen.outcome != Outcome::Ok {
            return;
        }
        for cells in [&mut line.latency_hours, &mut line.latency_days] {
            if let Some(cell) = cells.at(start_ms) {
                cell.add(seen);
            }
        }
    }

    /// A detector raised an alarm.
    pub fn alarm(&mut self, endpoint: &Endpoint, alarm: AlarmAt) {
        let line = Arc::make_mut(self.lines.entry(endpoint.clone()).or_default());
        if line.alarms.len() == ALARMS_KEPT {
            line.alarms.pop_front();
        }
        line.alarms.push_back(alarm);
    }

    /// Endpoints that were observed.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.lines.keys()
    }

    /// The latest alarms about an endpoint, oldest first.
    pub fn alarms(&self, endpoint: &Endpoint) -> impl Iterator<Item = AlarmAt> + '_ {
        let line = self.lines.get(endpoint);
        line.into_iter()
            .flat_map(|line| line.alarms.iter().copied())
    }

    /// Attempts at an endpoint from the cell of `since_ms` up to `now_ms`. Cells are of five minutes
    /// for up to a day, else of an hour.
    #[must_use]
    pub fn attempts(&self, endpoint: &Endpoint, since_ms: u64, now_ms: u64) -> Attempts {
        let mut sum = Attempts::default();
        if let Some(line) = self.lines.get(endpoint) {
            let cells = line.counts(since_ms, now_ms).between(since_ms, now_ms);
            cells.for_each(|(_, cell)| sum.add(cell));
        }
        sum
    }

    /// One endpoint over a span. Latency is told by whole hours for up to two days, else by
    /// whole days.
    #[must_use]
    pub fn span(&self, endpoint: &Endpoint, since_ms: u64, now_ms: u64) -> Span {
        let Some(line) = self.lines.get(endpoint) else {
            return Span::default();
        };
        let counts = line.counts(since_ms, now_ms);
        let short = now_ms.saturating_sub(since_ms) <= LATENCY_HOURS as u64 * HOUR_MS;
        let latencies = if short {
            &line.latency_hours
        } else {
            &line.latency_days
        };
        let mut latency = Latency::default();
        let cells = latencies.between(since_ms, now_ms);
        cells.for_each(|(_, cell)| latency.merge(cell));
        let begin = |length_ms: u64| since_ms - since_ms % length_ms;
        Span {
            since_ms: begin(counts.length_ms()),
            attempts: self.attempts(endpoint, since_ms, now_ms),
            latency_since_ms: begin(latencies.length_ms()),
            latency,
        }
    }

    /// Attempts by bins of `bin_ms`, which is rounded up to whole cells: start and sums, oldest first,
    /// without the bins that nobody called in. The second value is the bins' length, ms.
    #[must_use]
    pub fn bins(
        &self,
        endpoint: &Endpoint,
        since_ms: u64,
        now_ms: u64,
        bin_ms: u64,
    ) -> (Vec<(u64, Attempts)>, u64) {
        let cell_ms = cell_ms(since_ms, now_ms);
        let bin_ms = bin_ms.div_ceil(cell_ms).max(1) * cell_ms;
        let mut bins: Vec<(u64, Attempts)> = Vec::new();
        let Some(line) = self.lines.get(endpoint) else {
            return (bins, bin_ms);
        };
        for (start_ms, cell) in line.counts(since_ms, now_ms).between(since_ms, now_ms) {
            let start_ms = start_ms - start_ms % bin_ms;
            match bins.last_mut() {
                Some((last, sum)) if *last == start_ms => sum.add(cell),
                _ => bins.push((start_ms, *cell)),
            }
        }
        (bins, bin_ms)
    }
}

/// Length of the cells that tell of a span.
fn cell_ms(since_ms: u64, now_ms: u64) -> u64 {
    if now_ms.saturating_sub(since_ms) <= FINE as u64 * FINE_MS {
        FINE_MS
    } else {
        HOUR_MS
    }
}

impl Line {
    fn counts(&self, since_ms: u64, now_ms: u64) -> &Cells<Attempts> {
        if cell_ms(since_ms, now_ms) == FINE_MS {
            &self.fine
        } else {
            &self.hours
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 20_000 * DAY_MS + 7 * HOUR_MS;

    fn endpoint() -> Endpoint {
        Endpoint {
            provider: "https://api.example.com".parse().expect("an origin"),
            model: "m".parse().expect("a model"),
        }
    }

    /// A line with one good attempt every minute of the last `minutes`, every tenth one bad.
    fn timeline(minutes: u64) -> Timeline {
        let mut line = Line::default();
        for minute in (0..minutes).rev() {
            let bad = u64::from(minute % 10 == 0);
            let attempt = Attempts {
                calls: 1,
                good: 1 - bad,
                bad,
                rate_limited: 0,
            };
            let at_ms = NOW_MS - minute * MINUTE_MS;
            for cells in [&mut line.fine, &mut line.hours] {
                cells.at(at_ms).expect("there is room").add(&attempt);
            }
            for cells in [&mut line.latency_hours, &mut line.latency_days] {
                let cell = cells.at(at_ms).expect("there is room");
                cell.first_token.add(if minute < 60 { 40 } else { 20 }, 1);
            }
        }
        Timeline {
            lines: BTreeMap::from([(endpoint(), Arc::new(line))]),
        }
    }

    #[test]
    fn a_span_is_told_by_whole_cells() {
        let timeline = timeline(40 * 24 * 60);
        let hour = timeline.attempts(&endpoint(), NOW_MS - HOUR_MS + 1, NOW_MS);
        assert_eq!((hour.calls, hour.good, hour.bad), (61, 54, 7));
        let week = timeline.span(&endpoint(), NOW_MS - 7 * DAY_MS, NOW_MS);
        assert_eq!(week.attempts.calls, 7 * 24 * 60 + 1);
        assert_eq!(week.since_ms, NOW_MS - 7 * DAY_MS);
        assert_eq!(week.latency_since_ms, 19_993 * DAY_MS, "by whole days");
        let month = timeline.attempts(&endpoint(), NOW_MS - 35 * DAY_MS, NOW_MS);
        assert_eq!(month.calls, 744 * 60 + 1, "what is kept, and no more");
        let later_ms = NOW_MS + 59 * MINUTE_MS;
        let month = timeline.span(&endpoint(), later_ms - SPAN_MAX_MS, later_ms);
        assert_eq!(month.since_ms, NOW_MS - SPAN_MAX_MS);
        assert_eq!(
            month.attempts.calls,
            744 * 60 + 1,
            "from its very first cell on"
        );
    }

    #[test]
    fn latency_is_that_of_the_span() {
        let timeline = timeline(3 * 24 * 60);
        let quick = timeline.span(&endpoint(), NOW_MS - 59 * MINUTE_MS, NOW_MS);
        assert_eq!(
            quick.latency.first_token.quantile_us(500_000),
            Some(edge_us(40))
        );
        let all = timeline.span(&endpoint(), NOW_MS - DAY_MS, NOW_MS);
        assert_eq!(
            all.latency.first_token.quantile_us(500_000),
            Some(edge_us(20))
        );
        assert_eq!(
            all.latency.first_token.quantile_us(999_999),
            Some(edge_us(40))
        );
        assert_eq!(Durations::default().quantile_us(500_000), None);
    }

    #[test]
    fn bins_add_up() {
        let timeline = timeline(24 * 60);
        let since_ms = NOW_MS - 12 * HOUR_MS;
        let (bins, length_ms) = timeline.bins(&endpoint(), since_ms, NOW_MS, 17 * MINUTE_MS);
        assert_eq!(length_ms, 20 * MINUTE_MS);
        let sum: u64 = bins.iter().map(|(_, bin)| bin.calls).sum();
        assert_eq!(sum, timeline.attempts(&endpoint(), since_ms, NOW_MS).calls);
        assert!(bins.windows(2).all(|two| two[0].0 + length_ms == two[1].0));
    }

    #[test]
    fn what_nobody_called_is_empty() {
        let nothing = Timeline::default();
        assert_eq!(nothing.span(&endpoint(), 0, NOW_MS), Span::default());
        assert_eq!(nothing.bins(&endpoint(), 0, NOW_MS, 1).0, []);
        assert_eq!(nothing.alarms(&endpoint()).count(), 0);
    }

    #[test]
    fn only_the_latest_alarms_are_kept() {
        let mut timeline = Timeline::default();
        for number in 1..=100 {
            let alarm = AlarmAt {
                at_ms: number,
                dimension: "availability",
                number,
            };
            timeline.alarm(&endpoint(), alarm);
        }
        let kept: Vec<_> = timeline.alarms(&endpoint()).map(|a| a.number).collect();
        assert_eq!((kept.len(), kept[0]), (ALARMS_KEPT, 69));
    }
}
