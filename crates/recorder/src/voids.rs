//! Numbers that will have no record, gathered until a `void` can name them. Pure.

use std::collections::BTreeMap;
use std::sync::Mutex;

use record::bucket::start_ms;
use record::void::{OutcomeCounts, RANGES_MAX, Range, Reason, Void, VoidStream};
use record::{Endpoint, NumberedKind, Outcome, Seq};
use store::spool;

use crate::numbers::lock;

/// Why a number has no record, and what is known of its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tallied {
    /// The spool was full, or the disk failed; the answer went on.
    Unrecorded(Outcome),
    /// Whoever held it went away without a word.
    Lost,
    /// It was set aside and never used.
    Unused,
}

/// What a void will say about one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) endpoint: Endpoint,
    pub(crate) kind: NumberedKind,
    pub(crate) stream: spool::StreamId,
    pub(crate) reason: Reason,
    numbers: Runs,
    outcomes: OutcomeCounts,
}

/// All tallies that no void has named yet.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    tallies: Mutex<BTreeMap<(spool::StreamId, &'static str), Tally>>,
}

impl Ledger {
    /// Adds one number.
    pub(crate) fn tally(
        &self,
        (endpoint, kind): (&Endpoint, NumberedKind),
        stream: spool::StreamId,
        seq: Seq,
        what: Tallied,
    ) {
        let reason = match what {
            Tallied::Unrecorded(_) => Reason::SpoolFull,
            Tallied::Lost => Reason::Crash,
            Tallied::Unused => Reason::Unused,
        };
        let mut tallies = lock(&self.tallies);
        let tally = tallies
            .entry((stream, reason.as_str()))
            .or_insert_with(|| Tally {
                endpoint: endpoint.clone(),
                kind,
                stream,
                reason,
                numbers: Runs::default(),
                outcomes: OutcomeCounts::unknown(),
            });
        tally.numbers.insert(seq.number(), seq.number());
        if let Tallied::Unrecorded(outcome) = what {
            tally.outcomes.add(outcome);
        }
    }

    /// Numbers that wait for a void.
    pub(crate) fn len(&self) -> u64 {
        lock(&self.tallies)
            .values()
            .map(|tally| tally.numbers.count())
            .sum()
    }

    /// Takes everything; what could not be voided after all goes back with [`Ledger::put_back`].
    pub(crate) fn drain(&self) -> Vec<Tally> {
        std::mem::take(&mut *lock(&self.tallies))
            .into_values()
            .collect()
    }

    /// Merges a tally that could not be voided.
    pub(crate) fn put_back(&self, tally: Tally) {
        let mut tallies = lock(&self.tallies);
        match tallies.get_mut(&(tally.stream, tally.reason.as_str())) {
            Some(have) => {
                tally
                    .numbers
                    .iter()
                    .for_each(|(first, last)| have.numbers.insert(first, last));
                for (outcome, count) in tally.outcomes.iter() {
                    (0..count).for_each(|_| have.outcomes.add(outcome));
                }
            }
            None => {
                tallies.insert((tally.stream, tally.reason.as_str()), tally);
            }
        }
    }
}

impl Tally {
    /// Numbers lost in a crash.
    pub(crate) fn lost(
        (endpoint, kind): (Endpoint, NumberedKind),
        ranges: &[spool::Range],
    ) -> Option<Tally> {
        let mut numbers = Runs::default();
        for range in ranges.iter().filter(|range| range.count > 0) {
            numbers.insert(range.first, range.first + u64::from(range.count) - 1);
        }
        Some(Tally {
            endpoint,
            kind,
            stream: ranges.first()?.stream,
            reason: Reason::Crash,
            numbers,
            outcomes: OutcomeCounts::unknown(),
        })
    }

    /// How many numbers it names.
    pub(crate) fn count(&self) -> u64 {
        self.numbers.count()
    }

    /// Splits it so that each part fits one void. Each part takes as many of the outcomes as it
    /// has numbers; nothing says which number had which outcome.
    pub(crate) fn split(self) -> Vec<Tally> {
        if self.numbers.0.len() <= RANGES_MAX {
            return vec![self];
        }
        let runs: Vec<(u64, u64)> = self.numbers.iter().collect();
        let mut left: Vec<Outcome> = self
            .outcomes
            .iter()
            .flat_map(|(outcome, n)| (0..n).map(move |_| outcome))
            .collect();
        let part = |runs: &[(u64, u64)]| {
            let numbers = Runs(runs.iter().copied().collect());
            let room = usize::try_from(numbers.count()).unwrap_or(usize::MAX);
            let mut outcomes = OutcomeCounts::unknown();
            left.drain(left.len().saturating_sub(room)..)
                .for_each(|it| outcomes.add(it));
            Tally {
                numbers,
                outcomes,
                ..self.clone()
            }
        };
        runs.chunks(RANGES_MAX).map(part).collect()
    }

    /// The void, and what it settles in the spool.
    pub(crate) fn to_void(&self, now_ms: u64) -> Result<(Void, Vec<spool::Range>), record::Error> {
        let ranges = self
            .numbers
            .iter()
            .map(|(first, last)| {
                Ok(Range {
                    first: Seq::new(first)?,
                    last: Seq::new(last)?,
                })
            })
            .collect::<Result<Vec<_>, record::Error>>()?;
        let settles = self
            .numbers
            .iter()
            .flat_map(|(a, b)| in_blocks(self.stream, a, b))
            .collect();
        let void = Void {
            stream: VoidStream {
                endpoint: self.endpoint.clone(),
                kind: self.kind,
            },
            at_ms: start_ms(now_ms),
            ranges,
            reason: self.reason,
            outcomes: self.outcomes.clone(),
        };
        Ok((void, settles))
    }
}

/// A set of numbers as runs, first to last; hours of a full spool stay a handful of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds the numbers `first` to `last`, none of which may be in the set.
    fn insert(&mut self, mut first: u64, mut last: u64) {
        if let Some((&before, &end)) = self.0.range(..first).next_back()
            && end + 1 == first
        {
            self.0.remove(&before);
            first = before;
        }
        if let Some(end) = self.0.remove(&(last + 1)) {
            last = end;
        }
        self.0.insert(first, last);
    }

    fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    fn count(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }
}

/// A run as the spool counts: at most 2^32-1 numbers at a time.
fn in_blocks(stream: spool::StreamId, first: u64, last: u64) -> impl Iterator<Item = spool::Range> {
    let step = u64::from(u32::MAX);
    (first..=last)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(move |first| {
            let count = u32::try_from((last - first + 1).min(step)).unwrap_or(u32::MAX);
            spool::Range {
                stream,
                first,
                count,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            provider: "https://api.example.com".parse().expect("an origin"),
            model: "m".parse().expect("a name"),
        }
    }

    /// Numbers as the spool would hand them out; only the spool makes stream ids.
    fn tally_of(numbers: impl Iterator<Item = u64>, outcomes: &[Outcome]) -> Tally {
        let directory = tempfile::tempdir().expect("a directory");
        let opened = spool::Spool::open(&directory.path().join("s"), spool::Limits::default());
        let spool = opened.expect("opens").spool;
        let (send, receive) = std::sync::mpsc::channel();
        let done = Box::new(move |block| send.send(block).expect("asked"));
        spool.lease("s", 1, [0; 32], done).expect("queued");
        let stream = receive
            .recv()
            .expect("answered")
            .expect("leased")
            .range
            .stream;
        let ledger = Ledger::default();
        let mut outcomes = outcomes.iter();
        for number in numbers {
            let outcome = outcomes.next().copied().unwrap_or(Outcome::Ok);
            let seq = Seq::new(number).expect("a number");
            let what = Tallied::Unrecorded(outcome);
            ledger.tally((&endpoint(), NumberedKind::Observation), stream, seq, what);
        }
        ledger.drain().pop().expect("one tally")
    }

    #[test]
    fn numbers_become_runs_in_any_order() {
        let tally = tally_of(
            [5, 3, 4, 9, 1, 8].into_iter(),
            &[Outcome::Timeout, Outcome::Ok],
        );
        let (void, settles) = tally.to_void(1_700_000_012_345).expect("a void");
        let ranges: Vec<_> = void
            .ranges
            .iter()
            .map(|r| (r.first.number(), r.last.number()))
            .collect();
        assert_eq!(ranges, [(1, 1), (3, 5), (8, 9)]);
        assert_eq!(
            settles
                .iter()
                .map(|r| (r.first, r.count))
                .collect::<Vec<_>>(),
            [(1, 1), (3, 3), (8, 2)]
        );
        assert_eq!((void.count(), void.outcomes.total()), (6, 6));
        assert_eq!(void.outcomes.count(Outcome::Timeout), 1);
        assert_eq!(void.at_ms.ms(), 1_700_000_010_000);
    }

    #[test]
    fn a_void_too_large_is_split_without_losing_a_number_or_an_outcome() {
        let numbers = RANGES_MAX as u64 * 2 + 1;
        let outcomes = [Outcome::Timeout; 7];
        let parts = tally_of((0..numbers).map(|i| 1 + i * 2), &outcomes).split();
        assert_eq!(parts.len(), 3);
        let voids: Vec<Void> = parts
            .iter()
            .map(|p| p.to_void(0).expect("a void").0)
            .collect();
        assert_eq!(voids.iter().map(Void::count).sum::<u64>(), numbers);
        let timeouts: u64 = voids
            .iter()
            .map(|void| void.outcomes.count(Outcome::Timeout))
            .sum();
        assert_eq!(timeouts, 7);
        assert!(
            voids
                .iter()
                .all(|void| void.outcomes.total() <= void.count())
        );
    }

    #[test]
    fn what_could_not_be_voided_is_kept() {
        let tally = tally_of([1, 2].into_iter(), &[Outcome::Timeout]);
        let ledger = Ledger::default();
        ledger.put_back(tally.clone());
        ledger.put_back(Tally {
            numbers: Runs(BTreeMap::from([(3, 3)])),
            ..tally
        });
        assert_eq!(ledger.len(), 3);
        let merged = ledger.drain().pop().expect("one tally");
        assert_eq!(merged.numbers, Runs(BTreeMap::from([(1, 3)])));
        assert_eq!(merged.outcomes.count(Outcome::Timeout), 2);
        assert_eq!(ledger.len(), 0);
    }
}
