//! The numbers of one stream: which are settled, which are missing, which were voided.
//!
//! Nearly always the next record has the next number. What is missing in between is kept as a
//! short list of runs with the time at which each was noticed; a void is remembered as a run too.
//! Both lists are bounded: beyond [`RUNS_MAX`] the oldest runs become a count (`lost` numbers stay
//! missing for good, old voids stay voided), so a hostile stream cannot make the state grow.

use std::collections::VecDeque;

/// Most runs of missing, and of voided, numbers that are kept one by one per stream.
pub(super) const RUNS_MAX: usize = 256;

/// What stood at a number before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing: it is settled now.
    Fresh,
    /// A record.
    Recorded,
    /// A void.
    Voided,
}

/// How many numbers of a void were open, and how many had a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) fresh: u64,
    pub(super) taken: u64,
}

/// Consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The fold's clock when it was noticed that they are missing; for voids, when they came.
    pub(super) noticed_ms: u64,
}

impl Run {
    fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// The numbers of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The highest number that was settled.
    pub(super) highest: u64,
    /// Below `highest`, in order, without a record or a void.
    pub(super) missing: VecDeque<Run>,
    /// In order of arrival.
    pub(super) voided: VecDeque<Run>,
    /// Missing numbers that are no longer listed.
    pub(super) lost: u64,
    /// What voids say of numbers below this is not looked at.
    from: u64,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            highest: 0,
            missing: VecDeque::new(),
            voided: VecDeque::new(),
            lost: 0,
            from: 0,
        }
    }

    /// Numbers below `first` that nothing is known of were settled.
    pub(super) fn begin_at(&mut self, first: u64) {
        self.highest = self.highest.max(first.saturating_sub(1));
        self.from = self.from.max(first);
    }

    /// Settles one number with a record.
    pub(super) fn record(&mut self, seq: u64, clock_ms: u64) -> Taken {
        if seq > self.highest {
            self.advance(seq, clock_ms);
            self.highest = seq;
            return Taken::Fresh;
        }
        if self.fill(seq, seq) == 1 {
            return Taken::Fresh;
        }
        let voided = self
            .voided
            .iter()
            .any(|run| (run.first..=run.last).contains(&seq));
        if voided {
            Taken::Voided
        } else {
            Taken::Recorded
        }
    }

    /// Settles `first` to `last` with a void.
    pub(super) fn void(&mut self, first: u64, last: u64, clock_ms: u64) -> Settled {
        let first = first.max(self.from);
        if last < first {
            return Settled::default();
        }
        let mut fresh = 0;
        if last > self.highest {
            let from = first.max(self.highest + 1);
            self.advance(from, clock_ms);
            fresh += last - from + 1;
            self.highest = last;
        }
        fresh += self.fill(first, last);
        let count = last - first + 1;
        let before: u64 = self
            .voided
            .iter()
            .map(|run| overlap(run, first, last))
            .sum();
        let taken = count.saturating_sub(fresh).saturating_sub(before);
        if fresh > 0 {
            push(
                &mut self.voided,
                Run {
                    first,
                    last,
                    noticed_ms: clock_ms,
                },
            );
        }
        Settled { fresh, taken }
    }

    /// Whether a number has a record, as far as is known: of what is no longer listed it is assumed.
    pub(super) fn has_record(&self, seq: u64) -> bool {
        let among = |runs: &VecDeque<Run>| runs.iter().any(|run| overlap(run, seq, seq) > 0);
        seq <= self.highest && !among(&self.missing) && !among(&self.voided)
    }

    /// Numbers that are missing.
    pub(super) fn missing(&self) -> u64 {
        self.lost + self.missing.iter().map(Run::count).sum::<u64>()
    }

    /// Numbers that have been missing since `until_ms` or longer.
    pub(super) fn missing_since(&self, until_ms: u64) -> u64 {
        let overdue = self.missing.iter().filter(|run| run.noticed_ms <= until_ms);
        self.lost + overdue.map(Run::count).sum::<u64>()
    }

    /// Notes what lies between the highest number and the next one.
    fn advance(&mut self, next: u64, clock_ms: u64) {
        if next > self.highest + 1 {
            let run = Run {
                first: self.highest + 1,
                last: next - 1,
                noticed_ms: clock_ms,
            };
            if let Some(oldest) = push(&mut self.missing, run) {
                self.lost += oldest.count();
            }
        }
    }

    /// Takes `first..=last` out of what is missing; how many of them were.
    fn fill(&mut self, first: u64, last: u64) -> u64 {
        let touched = self.missing.iter().any(|run| overlap(run, first, last) > 0);
        if !touched {
            return 0;
        }
        let mut filled = 0;
        let mut kept = VecDeque::with_capacity(self.missing.len() + 1);
        for run in &self.missing {
            let common = overlap(run, first, last);
            filled += common;
            if common == 0 {
                kept.push_back(*run);
                continue;
            }
            if run.first < first {
                kept.push_back(Run {
                    last: first - 1,
                    ..*run
                });
            }
            if run.last > last {
                kept.push_back(Run {
                    first: last + 1,
                    ..*run
                });
            }
        }
        self.missing = kept;
        while self.missing.len() > RUNS_MAX {
            if let Some(oldest) = self.missing.pop_front() {
                self.lost += oldest.count();
            }
        }
        filled
    }
}

fn overlap(run: &Run, first: u64, last: u64) -> u64 {
    let (from, to) = (run.first.max(first), run.last.min(last));
    if from > to { 0 } else { to - from + 1 }
}

/// Adds a run at the end; what falls out at the front.
fn push(runs: &mut VecDeque<Run>, run: Run) -> Option<Run> {
    runs.push_back(run);
    if runs.len() > RUNS_MAX {
        runs.pop_front()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(numbers: &Numbers) -> Vec<(u64, u64)> {
        numbers
            .missing
            .iter()
            .map(|run| (run.first, run.last))
            .collect()
    }

    #[test]
    fn a_stream_in_order_has_nothing_missing() {
        let mut numbers = Numbers::new();
        for seq in 1..=1000 {
            assert_eq!(numbers.record(seq, 0), Taken::Fresh);
        }
        assert_eq!((numbers.missing(), numbers.highest), (0, 1000));
    }

    #[test]
    fn a_gap_closes_when_its_numbers_arrive() {
        let mut numbers = Numbers::new();
        numbers.record(1, 0);
        numbers.record(10, 50);
        assert_eq!(missing(&numbers), [(2, 9)]);
        assert_eq!(
            (numbers.missing_since(49), numbers.missing_since(50)),
            (0, 8)
        );
        assert_eq!(numbers.record(5, 60), Taken::Fresh);
        assert_eq!(missing(&numbers), [(2, 4), (6, 9)]);
        assert_eq!(
            numbers.missing_since(50),
            7,
            "filling one does not make the others younger"
        );
        assert_eq!(numbers.void(2, 9, 70), Settled { fresh: 7, taken: 1 });
        assert_eq!(numbers.missing(), 0);
    }

    #[test]
    fn a_number_has_one_record_or_one_void() {
        let mut numbers = Numbers::new();
        numbers.record(1, 0);
        assert_eq!(numbers.record(1, 0), Taken::Recorded);
        assert_eq!(numbers.void(2, 4, 0), Settled { fresh: 3, taken: 0 });
        assert_eq!(numbers.record(3, 0), Taken::Voided);
        assert_eq!(
            numbers.void(2, 4, 0),
            Settled { fresh: 0, taken: 0 },
            "said before"
        );
        assert_eq!(numbers.record(5, 0), Taken::Fresh);
        assert_eq!(numbers.missing(), 0);
        numbers.record(7, 0);
        let recorded: Vec<u64> = (1..9).filter(|seq| numbers.has_record(*seq)).collect();
        assert_eq!(recorded, [1, 5, 7], "3 was voided, 6 is missing");
    }

    #[test]
    fn a_stream_that_begins_in_the_middle_misses_nothing_before() {
        let mut numbers = Numbers::new();
        numbers.begin_at(100);
        assert_eq!(numbers.record(101, 0), Taken::Fresh);
        assert_eq!(missing(&numbers), [(100, 100)]);
        assert_eq!(numbers.void(90, 99, 0), Settled::default(), "of before");
        assert_eq!(numbers.void(98, 100, 0), Settled { fresh: 1, taken: 0 });
        assert_eq!(
            (numbers.missing(), numbers.record(50, 0)),
            (0, Taken::Recorded)
        );
        numbers.begin_at(20);
        assert_eq!(numbers.highest, 101, "it never goes back");
    }

    #[test]
    fn a_void_ahead_of_the_stream_leaves_a_gap_before_it() {
        let mut numbers = Numbers::new();
        assert_eq!(numbers.void(5, 6, 0), Settled { fresh: 2, taken: 0 });
        assert_eq!(missing(&numbers), [(1, 4)]);
        assert_eq!(numbers.record(7, 0), Taken::Fresh);
    }

    #[test]
    fn a_stream_of_gaps_stays_bounded_and_loses_no_count() {
        let mut numbers = Numbers::new();
        for seq in (2..=20_000).step_by(2) {
            numbers.record(seq, 0);
        }
        assert_eq!(numbers.missing.len(), RUNS_MAX);
        assert_eq!(numbers.missing(), 10_000);
    }
}
