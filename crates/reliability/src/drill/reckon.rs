//! What an endpoint would have done with calls of others, by what it did with its own.
//!
//! Each moved call is answered with the share that was served well of the endpoint's own calls in the
//! narrowest cell of [`Own::RUNGS`] that has [`ENOUGH`] of them. Over `n` moved calls that is a weighted sum over
//! own outcomes: one in a cell with `m` outcomes and `k` moved calls weighs `k/m`. Weights by the
//! largest of them are scores in `[0, 1]`, whose mean chance [`crate::share::interval`] covers; what follows for
//! the number of good ones among `n` is [`crate::share::count_within`].

use std::collections::BTreeMap;

use record::observation::PromptClass;

use super::replay::Moved;
use super::{Fate, Party};
use crate::level::{Alpha, Interval};
use crate::route::past::Attempt;
use crate::share;
use crate::share::float;

const HOUR_MS: u64 = 3_600_000;
const HOURS_A_DAY: u64 = 24;
/// Outcomes that a cell needs to speak for itself.
const ENOUGH: u64 = 20;

/// What is alike in calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    streamed: bool,
    prompt: PromptClass,
}

impl Kind {
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self {
            streamed: attempt.streamed,
            prompt: attempt.prompt,
        }
    }
}

/// Calls of one time and kind; what is absent does not matter.
type Cell = (Option<u64>, Option<u64>, Option<Kind>);

#[derive(Clone, Copy, Default)]
struct Count {
    good: u64,
    bad: u64,
}

impl Count {
    fn judged(self) -> u64 {
        self.good + self.bad
    }
}

/// What an endpoint did with its own calls, by hour and kind.
#[derive(Default)]
pub(super) struct Own(BTreeMap<(u64, Kind), Count>);

impl Own {
    pub(super) fn hour(start_ms: u64) -> u64 {
        start_ms / HOUR_MS
    }

    pub(super) fn add(&mut self, kind: Kind, start_ms: u64, good: bool) {
        let count = self.0.entry((Self::hour(start_ms), kind)).or_default();
        count.good += u64::from(good);
        count.bad += u64::from(!good);
    }

    fn judged(&self) -> u64 {
        self.0.values().map(|it| it.judged()).sum()
    }

    /// The cells of a call, the narrowest first.
    fn rungs(hour: u64, kind: Kind) -> [Cell; 6] {
        let day = Some(hour / HOURS_A_DAY);
        let (hour, kind) = (Some(hour), Some(kind));
        [
            (hour, day, kind),
            (hour, day, None),
            (None, day, kind),
            (None, day, None),
            (None, None, kind),
            (None, None, None),
        ]
    }
}

/// What becomes of calls that go from one party to another.
pub(super) fn fate(
    (from, to): (&Party, &Party),
    moved: &[Moved],
    own: Option<&Own>,
    alpha: Alpha,
) -> Fate {
    let calls = moved.len() as u64;
    let judged = own.map_or(0, Own::judged);
    let (expected, interval) = match own {
        Some(own) if judged > 0 => answers(moved, own, alpha),
        _ => (None, [0, calls]),
    };
    let before = |it: &Moved| it.first_token_us[0].filter(|_| it.good);
    Fate {
        endpoint: from.endpoint.to_string(),
        instead: to.endpoint.to_string(),
        calls,
        answered: moved.iter().filter(|it| it.good).count() as u64,
        judged,
        expected,
        interval,
        first_token_us: [
            median(moved.iter().filter_map(before)),
            median(moved.iter().filter_map(|it| it.first_token_us[1])),
        ],
        cost: cost(from, moved),
        cost_instead: cost_instead(to, moved, interval),
    }
}

/// How many of the calls are answered: in the mean, and from where to where.
fn answers(moved: &[Moved], own: &Own, alpha: Alpha) -> (Option<u64>, [u64; 2]) {
    let mut counts: BTreeMap<Cell, Count> = BTreeMap::new();
    for ((hour, kind), count) in &own.0 {
        for cell in Own::rungs(*hour, *kind) {
            let sum = counts.entry(cell).or_default();
            (sum.good, sum.bad) = (sum.good + count.good, sum.bad + count.bad);
        }
    }
    let judged = |cell: &Cell| counts.get(cell).map_or(0, |it| it.judged());
    // How many moved calls each cell speaks for.
    let mut spoken: BTreeMap<Cell, u64> = BTreeMap::new();
    for it in moved {
        let rungs = Own::rungs(it.hour, it.kind);
        let cell = rungs.iter().find(|cell| judged(cell) >= ENOUGH);
        *spoken.entry(*cell.unwrap_or(&rungs[5])).or_default() += 1;
    }
    let weight = |cell: &Cell| {
        let calls = spoken.get(cell).map_or(0, |calls| *calls);
        float(calls) / float(judged(cell).max(1))
    };
    let weights: Vec<(f64, Count)> = own
        .0
        .iter()
        .map(|((hour, kind), count)| (Own::rungs(*hour, *kind).iter().map(weight).sum(), *count))
        .filter(|(weight, _)| *weight > 0.0)
        .collect();
    let largest = weights
        .iter()
        .map(|(weight, _)| *weight)
        .fold(0.0, f64::max);
    let units: u64 = weights.iter().map(|(_, count)| count.judged()).sum();
    let failing: f64 = weights
        .iter()
        .map(|(weight, it)| weight * float(it.bad))
        .sum();
    // Half for the chances, half for how the number scatters.
    let (half, calls) = (alpha.split(2), moved.len() as u64);
    let failures = share::interval(failing / largest, units, half);
    let chance = |share: f64| 1.0 - (share * float(units) * largest / float(calls)).clamp(0.0, 1.0);
    let chance = Interval {
        lower: chance(failures.upper),
        upper: chance(failures.lower),
    };
    let mean = libm::round(float(calls) - failing).max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and not above the number of calls"
    )]
    let mean = mean as u64;
    (Some(mean), share::count_within(calls, chance, half))
}

/// What the answers cost, as far as their tokens are known.
fn cost(from: &Party, moved: &[Moved]) -> Option<u64> {
    let answered = moved.iter().filter(|it| it.good).filter_map(|it| it.usage);
    let each: Option<Vec<u128>> = answered.map(|usage| from.price.pico(usage)).collect();
    micros(each?.into_iter())
}

/// What they would have cost: nobody knows which of them are answered, so it lies between the cheapest of
/// the fewest and the dearest of the most.
fn cost_instead(to: &Party, moved: &[Moved], [fewest, most]: [u64; 2]) -> Option<[u64; 2]> {
    let known = moved.iter().filter_map(|it| it.usage);
    let each: Option<Vec<u128>> = known.map(|usage| to.price.pico(usage)).collect();
    let mut each = each.filter(|it| !it.is_empty())?;
    each.sort_unstable();
    let count = |of: u64| usize::try_from(of).unwrap_or(usize::MAX).min(each.len());
    let unknown = (moved.len() - each.len()) as u64;
    let cheapest = &each[..count(fewest.saturating_sub(unknown))];
    let dearest = &each[each.len() - count(most)..];
    Some([
        micros(cheapest.iter().copied())?,
        micros(dearest.iter().copied())?,
    ])
}

fn micros(pico: impl Iterator<Item = u128>) -> Option<u64> {
    u64::try_from(pico.sum::<u128>() / 1_000_000).ok()
}

fn median(all: impl Iterator<Item = u64>) -> Option<u64> {
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    all.get(all.len().saturating_sub(1) / 2).copied()
}
