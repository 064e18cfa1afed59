//! A drill: the calls of a span, decided again without one provider.
//!
//! Every call that was made is replayed in its order: where the provider's answer was needed, the one
//! that is asked instead is chosen by [`crate::route::decide`] with the standings of that moment, which only
//! the attempts that had ended before have shaped. What that one would have done with the call is read off what it did with
//! its own calls of the same time and conditions. All of that rests on [`ASSUMPTIONS`], which whoever prints a
//! drill prints too. The same attempts in, the same bytes out.

use record::Endpoint;
use serde::Serialize;

use crate::level::Alpha;
use crate::route::past::Past;

mod reckon;
mod replay;

/// What a drill takes for granted, and what it cannot know.
pub const ASSUMPTIONS: [&str; 6] = [
    "an endpoint would have done with these calls what it did with its own: those of the same hour, with prompts \
     of the same size class, streamed or not; where that are fewer than 20, of the same hour, then of the same day \
     and kind, of the same day, of the same kind, all. Routing asks an endpoint less while it fails, so its bad hours may \
     have fewer than 20 and take the better share of the day: what is expected leans high by that. No shared cause of \
     failure, and room for the load",
    "a call is decided by the attempts that had ended when it began; records do not tell a caller's own preferences, price \
     limits and wishes, nor who was paused, resting or over a cap just then, nor what other \
     observers said; numbers without an outcome are not seen either. None of that counts",
    "an endpoint could be asked from its first attempt on record on; one that has none by then only where nobody \
     else could be; one that is not offered any more, between its first attempt and its last. Strangers from a \
     network come after the others until they have 20 outcomes",
    "a call is given to one other endpoint, and is not tried again: with further attempts more would survive. \
     One that others answered in fact stays as it was, as does one that failed by nobody's or the client's fault",
    "prices are those that are declared now: records hold none. Tokens are those of the answer that was given, as \
     records hold them (coarsely); calls whose tokens are not known are in no cost",
    "every interval holds at once, for whichever endpoint was picked: for what its own outcomes leave open, and for \
     how the number scatters around it. It says nothing of the future",
];

/// What an endpoint asks for, in millionths of a dollar: per million tokens, and per request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// A million tokens of prompt.
    pub prompt: Option<u64>,
    /// A million tokens of answer.
    pub completion: Option<u64>,
    /// A request.
    pub request: u64,
}

impl Price {
    /// What an answer of so many tokens costs, in millionths of a millionth of a dollar; none if a price
    /// is not declared.
    fn pico(&self, (prompt, completion): (u32, u32)) -> Option<u128> {
        let part = |count: u32, price: u64| u128::from(count) * u128::from(price);
        let tokens = part(prompt, self.prompt?) + part(completion, self.completion?);
        Some(tokens + u128::from(self.request) * 1_000_000)
    }
}

/// An endpoint in a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Which.
    pub endpoint: Endpoint,
    /// Under which names callers get it; none if it is not offered any more.
    pub names: Vec<String>,
    /// Whether it is to be done without.
    pub is_gone: bool,
    /// Whether it was found in a network: until it has a record, only where nobody else serves the model.
    pub is_stranger: bool,
    /// What it asks for.
    pub price: Price,
}

/// What is replayed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// From the first call that began then, Unix ms.
    pub since_ms: u64,
    /// To the last one that began then.
    pub until_ms: u64,
    /// Share of calls that may explore, as routing is set.
    pub exploration_ppm: u32,
    /// Of the draws.
    pub seed: u64,
}

/// Calls that would have gone from one endpoint to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The endpoint that would be gone.
    pub endpoint: String,
    /// Who would have been asked.
    pub instead: String,
    /// So many calls.
    pub calls: u64,
    /// Of these, the ones that were answered well.
    pub answered: u64,
    /// Judged outcomes of the other one in the span: what is expected rests on some or all of them.
    pub judged: u64,
    /// Answers that would be expected, in the mean. Without any outcome of the other nothing is
    /// expected, and anything is possible.
    pub expected: Option<u64>,
    /// Where the number lies, from and to.
    pub interval: [u64; 2],
    /// Median time to the first token, before and after, µs.
    pub first_token_us: [Option<u64>; 2],
    /// What the answers cost whose tokens are known, in millionths of a dollar; none where no price is.
    pub cost: Option<u64>,
    /// What they would have cost, from and to; a call that fails costs nothing.
    pub cost_instead: Option<[u64; 2]>,
}

/// Calls that nobody else could have served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unserved {
    /// The model, as the endpoint calls it that would be gone.
    pub model: String,
    /// So many calls.
    pub calls: u64,
    /// Of these, the ones that were answered well.
    pub answered: u64,
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drill {
    /// From when on calls are remembered, Unix ms: the start of the span, or later.
    pub since_ms: u64,
    /// The end of the span.
    pub until_ms: u64,
    /// Whether the span is cut because more calls were made in it than are remembered.
    pub is_cut: bool,
    /// Calls with an outcome: answered well, or failed by a provider's fault.
    pub calls: u64,
    /// Of these, the ones that were answered well.
    pub answered: u64,
    /// Calls without one, which are left out: canceled, refused with good reason, limited.
    pub unjudged: u64,
    /// Calls in which the provider was asked.
    pub asked: u64,
    /// Of these, the ones that somebody else answered or failed in fact.
    pub unchanged: u64,
    /// Calls that nobody else could have served.
    pub not_served: u64,
    /// Calls for which nothing is known of who would have served them.
    pub unknown: u64,
    /// Answers that there would be, in the mean; those of which nothing is known left out.
    pub survive: u64,
    /// Where the number lies, whatever became of the unknown ones.
    pub interval: [u64; 2],
    /// By endpoint that would be gone and the one instead.
    pub fates: Vec<Fate>,
    /// By model.
    pub unserved: Vec<Unserved>,
    /// What all of this takes for granted.
    pub assumptions: [&'static str; 6],
}

/// Replays a span of the past without the parties that are gone. `parties` are all endpoints that are
/// offered, and those of the past.
#[must_use]
pub fn drill(past: &Past, parties: &[Party], span: &Span, alpha: Alpha) -> Drill {
    let replayed = replay::replay(past, parties, span);
    let mut drill = Drill {
        since_ms: replayed.since_ms,
        until_ms: span.until_ms,
        is_cut: past.is_cut() && replayed.since_ms > span.since_ms,
        calls: replayed.calls,
        answered: replayed.answered,
        unjudged: replayed.unjudged,
        asked: replayed.asked,
        unchanged: replayed.unchanged,
        not_served: replayed.unserved.values().map(|it| it.calls).sum(),
        unknown: 0,
        survive: replayed.kept,
        interval: [replayed.kept; 2],
        fates: Vec::new(),
        unserved: replayed.unserved.into_values().collect(),
        assumptions: ASSUMPTIONS,
    };
    // Every one who might have been picked takes its part, so that the intervals hold at once.
    let picked = replayed.candidates.max(replayed.moved.len());
    let share = alpha.split(u32::try_from(picked).unwrap_or(u32::MAX));
    for ((from, to), moved) in &replayed.moved {
        let fate = reckon::fate(
            (&parties[*from], &parties[*to]),
            moved,
            replayed.own.get(to),
            share,
        );
        match fate.expected {
            Some(expected) => drill.survive += expected,
            None => drill.unknown += fate.calls,
        }
        (0..2).for_each(|end| drill.interval[end] += fate.interval[end]);
        drill.fates.push(fate);
    }
    drill
}

#[cfg(test)]
mod tests;
