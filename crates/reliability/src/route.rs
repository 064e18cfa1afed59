//! Which endpoint gets a call: by what its history lets one expect, within what the caller wants.
//!
//! Pure: candidates with their figures, a wish and random bits come in, a [`Decision`] comes out
//! that says which figures decided. [`Standing`] keeps the figures of one endpoint up to date, one
//! outcome at a time.
//!
//! ```
//! use reliability::route::{Candidate, Draw, Verdict, Wish, decide};
//!
//! let candidates = [
//!     Candidate { success_ppm: 991_000, ..Candidate::unknown(0) },
//!     Candidate { success_ppm: 997_000, ..Candidate::unknown(1) },
//! ];
//! let decision = decide(&candidates, &Wish::default(), Draw::numbered(7, 1));
//! assert_eq!(decision.verdict, Verdict::Meets);
//! assert_eq!(decision.order[0], 1);
//! ```
//!
//! - **Success** is the probability that a call is served well *and* in time, as far as the caller
//!   states a limit: the mean, or for a caller who asks for safety the lower end.
//! - **Wishes** are met by the candidates whose figures satisfy all of them. A figure that is not
//!   known does not satisfy a limit. If nobody does, the verdict says so; the best one is offered
//!   only to those who allow it, with the verdict as the warning.
//! - **Sorting** by price, latency or throughput never leads to an endpoint that fails: those whose
//!   success is [`SLACK_PPM`] below the best come after the rest.
//! - **Exploration** is for a bounded share of calls, from the seed. It goes to candidates that
//!   might turn out better than the first one, and to nobody when there is none. A candidate
//!   with fewer than [`COLD_OUTCOMES`] outcomes is cold: the coldest gets a larger share until
//!   it is known.
//! - **Resting** candidates (connections failed just now, a breaker is open) come last.

use serde::Serialize;

mod draw;
pub mod past;
mod standing;

pub use draw::Draw;
pub use standing::{Outcome, Standing};

/// Judged outcomes below which an endpoint is cold.
pub const COLD_OUTCOMES: u64 = 20;
/// Share of calls that go to the coldest endpoint while there is a cold one, ppm.
pub const COLD_SHARE_PPM: u32 = 300_000;
/// How far below the best one's success a candidate may be and still be sorted by something else.
pub const SLACK_PPM: u32 = 50_000;
/// Candidates that a decision names, at most: the first, and those to turn to if it fails.
pub const ORDER_MAX: usize = 8;

const WHOLE_PPM: u32 = 1_000_000;

/// What candidates are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Probability of success.
    #[default]
    Reliability,
    /// Price.
    Price,
    /// Time to the first token.
    Latency,
    /// Tokens per second.
    Throughput,
}

/// What a caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wish {
    /// What to sort by.
    pub sort: Sort,
    /// Go by the lower end of the probability of success, not by its mean.
    pub safe: bool,
    /// Lowest probability of success, ppm; 0 asks for nothing.
    pub success_ppm_min: u32,
    /// Highest price, in micro-credits per million tokens.
    pub price_max: Option<u64>,
    /// Longest time to the first token, µs, at the candidate's median.
    pub first_token_us_max: Option<u64>,
    /// Lowest throughput, in tokens per second.
    pub throughput_min: Option<u32>,
    /// Smallest share of answers that were replayed by somebody else and held, ppm. No kind of
    /// record carries it yet, so for now whoever asks for it is told that nobody meets it.
    pub replayed_share_ppm_min: Option<u32>,
    /// Where nobody meets the wishes: offer the best one, with a warning.
    pub or_best: bool,
    /// Share of calls that may explore, ppm.
    pub exploration_ppm: u32,
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its place in the caller's own list.
    pub place: u32,
    /// Probability that the next call is served well (and in time), ppm: the mean.
    pub success_ppm: u32,
    /// Its lower end, ppm.
    pub lower_ppm: u32,
    /// What it might be, ppm: the upper end.
    pub upper_ppm: u32,
    /// Judged outcomes that this rests on, calls under way included.
    pub judged: u64,
    /// Independent observers whose evidence stands in for a record of its own that is still thin; 0
    /// where there are none, or where its own suffices.
    pub other_observers: u32,
    /// Price, in micro-credits per million tokens.
    pub price: Option<u64>,
    /// Median time to the first token, µs.
    pub first_token_us: Option<u64>,
    /// Tokens per second.
    pub throughput: Option<u32>,
    /// Share of its answers that somebody replayed with the same result, ppm.
    pub replayed_share_ppm: Option<u32>,
    /// It should not be asked unless nothing else is left.
    pub resting: bool,
}

impl Candidate {
    /// An endpoint of which nothing is known.
    #[must_use]
    pub fn unknown(place: u32) -> Self {
        Self {
            place,
            success_ppm: 0,
            lower_ppm: 0,
            upper_ppm: WHOLE_PPM,
            judged: 0,
            other_observers: 0,
            price: None,
            first_token_us: None,
            throughput: None,
            replayed_share_ppm: None,
            resting: false,
        }
    }

    /// The same where only this share of its numbers has an outcome, ppm, and the others count as
    /// failures. What it might be stays as it is: nobody knows what the others were.
    #[must_use]
    pub fn known_of(self, known_ppm: u32) -> Self {
        let of = u64::from(self.success_ppm) * u64::from(known_ppm.min(WHOLE_PPM));
        let success_ppm = u32::try_from(of / u64::from(WHOLE_PPM)).unwrap_or(0);
        Self {
            success_ppm,
            lower_ppm: self.lower_ppm.min(success_ppm),
            ..self
        }
    }

    fn success(&self, safe: bool) -> u32 {
        if safe {
            self.lower_ppm
        } else {
            self.success_ppm
        }
    }
}

/// Whether the wishes could be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first one meets every wish.
    Meets,
    /// Nobody does; the best one is offered because the caller allows it.
    BestWithWarning,
    /// Nobody does, and nobody is offered.
    NoneMeets,
}

/// Why the first one is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its figures are the best.
    Record,
    /// It has hardly been tried yet.
    Cold,
    /// It was this call's turn to explore, and it might be better.
    Explored,
}

/// Who is asked, in which order, and what decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether the wishes could be met.
    pub verdict: Verdict,
    /// Why the first one is first.
    pub why: Why,
    /// What was sorted by.
    pub sort: Sort,
    /// Whether the lower end decided instead of the mean.
    pub safe: bool,
    /// Places, best first, [`ORDER_MAX`] at most; empty if nobody is offered.
    pub order: Vec<u32>,
    /// The figures of those in `order`.
    pub figures: Vec<Candidate>,
    /// How many candidates there were, and how many met the wishes.
    pub candidates: u32,
    /// Those that met every wish.
    pub meeting: u32,
    /// The seed of the draw and its number: the same ones and the same figures decide the same.
    pub seed: u64,
    /// The number of the draw.
    pub draw: u64,
}

/// What a candidate is compared by, larger is better: from the top, one bit each for meeting the
/// wishes, being awake and being above the floor, 53 bits of what is sorted by, 20 of success, 32 that
/// tell equals apart.
type Key = u128;

/// Decides who gets a call. Costs a few nanoseconds per candidate and allocates what it returns.
#[must_use]
pub fn decide(candidates: &[Candidate], wish: &Wish, mut draw: Draw) -> Decision {
    let best = candidates
        .iter()
        .filter(|c| !c.resting)
        .map(|c| c.success(wish.safe))
        .max()
        .unwrap_or(0);
    let floor = match wish.sort {
        Sort::Reliability => 0,
        _ => best.saturating_sub(SLACK_PPM),
    };
    let salt = draw.bits();
    let mut top: Vec<(Key, usize)> = Vec::with_capacity(ORDER_MAX + 1);
    let (mut meeting, mut coldest) = (0, None::<(u64, u32, usize)>);
    for (at, candidate) in candidates.iter().enumerate() {
        let meets = meets(candidate, wish);
        meeting += u32::from(meets);
        let tie = scatter(salt, at);
        let is_cold = candidate.judged < COLD_OUTCOMES && !candidate.resting;
        if is_cold && meets_but_success(candidate, wish) {
            let cold = (candidate.judged, tie, at);
            coldest = Some(coldest.map_or(cold, |least| least.min(cold)));
        }
        insert(&mut top, (key(candidate, wish, meets, floor, tie), at));
    }
    let why = if meeting > 0 || wish.or_best {
        explore(candidates, wish, &mut top, coldest.map(|c| c.2), &mut draw)
    } else {
        Why::Record
    };
    let verdict = match (meeting, wish.or_best) {
        (0, false) => Verdict::NoneMeets,
        (0, true) if !candidates.is_empty() => Verdict::BestWithWarning,
        (0, true) => Verdict::NoneMeets,
        _ => Verdict::Meets,
    };
    if verdict == Verdict::NoneMeets {
        top.clear();
    }
    let figures: Vec<Candidate> = top.iter().map(|(_, at)| candidates[*at]).collect();
    Decision {
        verdict,
        why,
        sort: wish.sort,
        safe: wish.safe,
        order: figures.iter().map(|c| c.place).collect(),
        figures,
        candidates: u32::try_from(candidates.len()).unwrap_or(u32::MAX),
        meeting,
        seed: draw.seed(),
        draw: draw.number(),
    }
}

/// What a [`Wish`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// [`Wish::success_ppm_min`].
    Success,
    /// [`Wish::price_max`].
    Price,
    /// [`Wish::first_token_us_max`].
    FirstToken,
    /// [`Wish::throughput_min`].
    Throughput,
    /// [`Wish::replayed_share_ppm_min`].
    ReplayedShare,
}

/// The limits that a candidate does not meet. A figure that is not known meets none.
pub fn unmet(candidate: &Candidate, wish: &Wish) -> impl Iterator<Item = Limit> + use<> {
    let at_most = |have: Option<u64>, limit: Option<u64>| {
        limit.is_none_or(|limit| have.is_some_and(|have| have <= limit))
    };
    let at_least = |have: Option<u32>, limit: Option<u32>| {
        limit.is_none_or(|limit| have.is_some_and(|have| have >= limit))
    };
    let success = candidate.success(wish.safe);
    [
        (Limit::Success, success >= wish.success_ppm_min),
        (Limit::Price, at_most(candidate.price, wish.price_max)),
        (
            Limit::FirstToken,
            at_most(candidate.first_token_us, wish.first_token_us_max),
        ),
        (
            Limit::Throughput,
            at_least(candidate.throughput, wish.throughput_min),
        ),
        (
            Limit::ReplayedShare,
            at_least(candidate.replayed_share_ppm, wish.replayed_share_ppm_min),
        ),
    ]
    .into_iter()
    .filter_map(|(limit, met)| (!met).then_some(limit))
}

fn meets_but_success(candidate: &Candidate, wish: &Wish) -> bool {
    // Time and throughput are as little known of a cold candidate as its success.
    !unmet(candidate, wish).any(|limit| matches!(limit, Limit::Price | Limit::ReplayedShare))
}

fn meets(candidate: &Candidate, wish: &Wish) -> bool {
    unmet(candidate, wish).next().is_none()
}

fn key(candidate: &Candidate, wish: &Wish, meets: bool, floor: u32, tie: u32) -> Key {
    let success = candidate.success(wish.safe);
    const MOST: u64 = (1 << 53) - 1;
    // Unknown prices and times come after every known one.
    let least = |figure: Option<u64>| MOST - figure.map_or(MOST, |figure| figure.min(MOST));
    let wanted = match wish.sort {
        Sort::Reliability => u64::from(success),
        Sort::Price => least(candidate.price),
        Sort::Latency => least(candidate.first_token_us),
        Sort::Throughput => u64::from(candidate.throughput.unwrap_or(0)),
    };
    let flags =
        u128::from(meets) << 2 | u128::from(!candidate.resting) << 1 | u128::from(success >= floor);
    flags << 105
        | u128::from(wanted) << 52
        | u128::from(success.min(WHOLE_PPM)) << 32
        | u128::from(tie)
}

/// Keeps the best few, best first.
fn insert(top: &mut Vec<(Key, usize)>, new: (Key, usize)) {
    if top.len() == ORDER_MAX && top[ORDER_MAX - 1].0 >= new.0 {
        return;
    }
    let at = top.partition_point(|have| have.0 >= new.0);
    top.insert(at, new);
    top.truncate(ORDER_MAX);
}

/// Equals are told apart by a number of their own in each draw, so that they share the load.
fn scatter(salt: u64, at: usize) -> u32 {
    let mixed = (salt ^ (at as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u32::try_from(mixed >> 32).unwrap_or(0)
}

fn explore(
    candidates: &[Candidate],
    wish: &Wish,
    top: &mut Vec<(Key, usize)>,
    coldest: Option<usize>,
    draw: &mut Draw,
) -> Why {
    let Some(first) = top.first().map(|(_, at)| *at) else {
        return Why::Record;
    };
    if let Some(cold) = coldest
        && wish.exploration_ppm > 0
        && draw.happens(COLD_SHARE_PPM)
    {
        promote(candidates, wish, top, cold);
        return if cold == first {
            Why::Record
        } else {
            Why::Cold
        };
    }
    if !draw.happens(wish.exploration_ppm) {
        return Why::Record;
    }
    let bar = candidates[first].success_ppm;
    let hopeful = |at: &usize| {
        let candidate = &candidates[*at];
        *at != first
            && !candidate.resting
            && candidate.upper_ppm > bar
            && meets_but_success(candidate, wish)
    };
    let count = (0..candidates.len()).filter(hopeful).count();
    let pick = draw.below(count as u64);
    let pick = usize::try_from(pick).unwrap_or(0);
    match (0..candidates.len()).filter(hopeful).nth(pick) {
        Some(other) => {
            promote(candidates, wish, top, other);
            Why::Explored
        }
        None => Why::Record,
    }
}

/// Puts a candidate first and keeps the order of the rest.
fn promote(candidates: &[Candidate], wish: &Wish, top: &mut Vec<(Key, usize)>, at: usize) {
    top.retain(|(_, have)| *have != at);
    let candidate = &candidates[at];
    let meets = meets(candidate, wish);
    top.insert(0, (key(candidate, wish, meets, 0, 0), at));
    top.truncate(ORDER_MAX);
}

#[cfg(test)]
mod tests;
