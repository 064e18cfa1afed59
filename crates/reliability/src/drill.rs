//! A drill: what would have become of the calls of a span without one provider?
//!
//! The calls are those that were made; what the others would have done with them is read off what
//! they did with their own calls in the same span. That rests on [`ASSUMPTIONS`], which whoever
//! prints a drill prints too. Integers and one interval per endpoint; the same numbers in, the same
//! bytes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use record::{Endpoint, Outcome, Predicate, Record};
use serde::Serialize;

use crate::cells::Cells;
use crate::level::Alpha;
use crate::share;

/// What a drill takes for granted.
pub const ASSUMPTIONS: [&str; 5] = [
    "an interval is of the number itself, however the one that would be asked was picked among those \
     who could be; the expected number is that one's own share, and the best of several looks a little \
     better than it is",
    "the others would have done with these calls what they did with their own in the same span: no \
     shared cause of failure, and room for the load",
    "each call goes to one other endpoint, the one expected to do best now, and is not tried again: \
     with further attempts more would survive",
    "calls that other providers answered, or nobody, stay as they were; those that are counted are \
     attempts that were answered well",
    "prices are those that the configuration declares now, tokens are counted as records hold them \
     (coarsely); the interval covers the share that the other endpoint served, not the future",
];

const HOUR_MS: u64 = 3_600_000;
/// Hours of which tokens are kept: eight days.
const HOURS_KEPT: usize = 192;

/// Tokens of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Answers whose tokens are known.
    pub answers: u64,
    /// Of their prompts.
    pub prompt: u64,
    /// Of the answers.
    pub completion: u64,
}

impl Tokens {
    fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.prompt += other.prompt;
        self.completion += other.completion;
    }
}

/// Tokens of good answers by endpoint and hour, for eight days: 8 KB per busy endpoint.
#[derive(Clone, Debug, Default)]
pub struct Usage(BTreeMap<Endpoint, Arc<Cells<Tokens>>>);

impl Usage {
    /// Takes a record that the history counted.
    pub fn apply(&mut self, record: &Record) {
        let Predicate::Observation(seen) = &record.statement.predicate else {
            return;
        };
        let (Outcome::Ok, Some(usage)) = (seen.outcome, seen.usage) else {
            return;
        };
        let hours = self.0.entry(seen.stream.endpoint.clone());
        let hours = hours.or_insert_with(|| Arc::new(Cells::new(HOUR_MS, HOURS_KEPT)));
        if let Some(hour) = Arc::make_mut(hours).at(seen.timing.start_ms.ms()) {
            hour.add(&Tokens {
                answers: 1,
                prompt: usage.prompt_tokens.tokens(),
                completion: usage.completion_tokens.tokens(),
            });
        }
    }

    /// Tokens of an endpoint from the hour of `since_ms` to that of `until_ms`.
    #[must_use]
    pub fn over(&self, endpoint: &Endpoint, since_ms: u64, until_ms: u64) -> Tokens {
        let mut sum = Tokens::default();
        let hours = self.0.get(endpoint).into_iter();
        hours
            .flat_map(|hours| hours.between(since_ms, until_ms))
            .for_each(|(_, tokens)| sum.add(tokens));
        sum
    }
}

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
    /// What these answers cost, in millionths of a dollar; none if a price is not declared.
    #[must_use]
    pub fn of(&self, tokens: &Tokens) -> Option<u64> {
        let part = |count: u64, price: u64| u128::from(count) * u128::from(price);
        let millions =
            part(tokens.prompt, self.prompt?) + part(tokens.completion, self.completion?);
        let requests = part(tokens.answers, self.request);
        u64::try_from(millions / 1_000_000 + requests).ok()
    }
}

/// An endpoint in a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Which.
    pub endpoint: Endpoint,
    /// Answered well in the span, and failed by the provider's fault.
    pub good: u64,
    /// Failed.
    pub bad: u64,
    /// Median time to the first token in the span, µs.
    pub first_token_us: Option<u64>,
    /// What it asks for.
    pub price: Price,
}

/// An endpoint that would be gone, and who else serves its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The one that would be gone.
    pub party: Party,
    /// The tokens of its answers.
    pub tokens: Tokens,
    /// Who would be asked instead, if there is somebody.
    pub instead: Option<Party>,
    /// Among how many that one was picked. Whoever picks by the record that is judged here finds the
    /// best looking of them, so the interval must hold for each.
    pub candidates: u32,
}

/// What would have become of the answers of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The endpoint that would be gone.
    pub endpoint: String,
    /// Its answers.
    pub answers: u64,
    /// Who would have been asked; none: nobody serves this, and the answers would not be.
    pub instead: Option<String>,
    /// Judged outcomes of that one in the span.
    pub judged: u64,
    /// Answers that would be expected, in the mean. Without any outcome of the other nothing is
    /// expected, and anything is possible.
    pub expected: Option<u64>,
    /// Where the number lies, from and to: what is not known of the other's share, and how the number
    /// scatters around it.
    pub interval: [u64; 2],
    /// Median time to the first token, before and after, µs.
    pub first_token_us: [Option<u64>; 2],
    /// What the answers cost, before and after, in millionths of a dollar; none where no price is known.
    pub cost: [Option<u64>; 2],
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drill {
    /// Well answered attempts at all endpoints.
    pub answers: u64,
    /// Of these, the provider's.
    pub lost: u64,
    /// Of the lost ones, those that nobody else could have served.
    pub not_served: u64,
    /// Of the lost ones, those for which nothing is known of who would have served them.
    pub unknown: u64,
    /// Answers that there would be after all, in the mean; those of which nothing is known left out.
    pub survive: u64,
    /// Where the number lies, whatever became of the unknown ones; every interval at once.
    pub interval: [u64; 2],
    /// Endpoint by endpoint.
    pub fates: Vec<Fate>,
    /// What all of this takes for granted.
    pub assumptions: [&'static str; 5],
}

/// Works out a drill. `answers` are those of all endpoints; `alpha` is shared by the intervals.
#[must_use]
pub fn drill(answers: u64, lost: &[Lost], alpha: Alpha) -> Drill {
    let share = u32::try_from(lost.len()).unwrap_or(u32::MAX).max(1);
    let fates: Vec<Fate> = lost.iter().map(|it| fate(it, alpha.split(share))).collect();
    let sum = |of: &dyn Fn(&Fate) -> u64| fates.iter().map(of).sum::<u64>();
    let gone = sum(&|fate| fate.answers);
    let kept = answers.saturating_sub(gone);
    let alone = |fate: &Fate| {
        if fate.instead.is_none() {
            fate.answers
        } else {
            0
        }
    };
    let unknown = |fate: &Fate| match (&fate.instead, fate.expected) {
        (Some(_), None) => fate.answers,
        _ => 0,
    };
    Drill {
        answers,
        lost: gone,
        not_served: sum(&alone),
        unknown: sum(&unknown),
        survive: kept + sum(&|fate| fate.expected.unwrap_or(0)),
        interval: [0, 1].map(|end| kept + sum(&|fate| fate.interval[end])),
        fates,
        assumptions: ASSUMPTIONS,
    }
}

fn fate(lost: &Lost, alpha: Alpha) -> Fate {
    let Party { endpoint, good, .. } = &lost.party;
    let answers = *good;
    let other = lost.instead.as_ref();
    let judged = other.map_or(0, |it| it.good + it.bad);
    let (expected, interval) = match other {
        None => (Some(0), [0, 0]),
        Some(_) if judged == 0 => (None, [0, answers]),
        Some(it) => {
            // Half for the share of whichever candidate, half for how the number scatters.
            let half = alpha.split(2);
            let chance = share::of_counts(it.good, it.bad, half.split(lost.candidates));
            let mean = u128::from(answers) * u128::from(it.good) / u128::from(judged);
            (
                u64::try_from(mean).ok(),
                share::count_within(answers, chance, half),
            )
        }
    };
    Fate {
        endpoint: endpoint.to_string(),
        answers,
        instead: other.map(|it| it.endpoint.to_string()),
        judged,
        expected,
        interval,
        first_token_us: [
            lost.party.first_token_us,
            other.and_then(|it| it.first_token_us),
        ],
        cost: [
            lost.party.price.of(&lost.tokens),
            other.and_then(|it| it.price.of(&lost.tokens)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(provider: &str, good: u64, bad: u64, prompt: Option<u64>) -> Party {
        Party {
            endpoint: Endpoint {
                provider: format!("https://{provider}.example")
                    .parse()
                    .expect("an origin"),
                model: "m".parse().expect("a model"),
            },
            good,
            bad,
            first_token_us: Some(good),
            price: Price {
                prompt,
                completion: Some(2_000_000),
                request: 5,
            },
        }
    }

    #[test]
    fn what_survives_is_read_off_what_the_others_did() {
        let tokens = Tokens {
            answers: 1000,
            prompt: 3_000_000,
            completion: 500_000,
        };
        let lost = |instead: Option<Party>| Lost {
            party: party("gone", 1000, 3, Some(1_000_000)),
            tokens,
            candidates: u32::from(instead.is_some()),
            instead,
        };
        let all = [
            lost(Some(party("other", 950, 50, None))),
            lost(None),
            lost(Some(party("idle", 0, 0, Some(0)))),
        ];
        let drill = drill(10_000, &all, Alpha::FIVE_PERCENT);
        assert_eq!(
            (drill.lost, drill.not_served, drill.unknown),
            (3000, 1000, 1000)
        );
        assert_eq!(drill.survive, 7000 + 950);
        let [low, high] = drill.fates[0].interval;
        assert!(
            (870..920).contains(&low) && (971..1000).contains(&high),
            "{low} {high}"
        );
        assert_eq!(drill.interval, [7000 + low, 7000 + high + 1000]);
        assert_eq!(
            drill.fates[0].cost,
            [Some(3_000_000 + 1_000_000 + 5000), None]
        );
        assert_eq!(drill.fates[2].cost[1], Some(1_000_000 + 5000));
        assert_eq!(drill.fates[0].first_token_us, [Some(1000), Some(950)]);
    }

    /// A thousand answers of one that is known to serve 95 % are not "950 and hardly another number".
    #[test]
    fn a_share_that_is_well_known_still_scatters_and_a_choice_among_many_costs_width() {
        let lost = |candidates| Lost {
            party: party("gone", 1000, 0, None),
            tokens: Tokens::default(),
            instead: Some(party("other", 95_000_000, 5_000_000, None)),
            candidates,
        };
        let interval = |candidates| drill(1000, &[lost(candidates)], Alpha::FIVE_PERCENT).interval;
        let [low, high] = interval(1);
        assert!(
            (925..935).contains(&low) && (962..972).contains(&high),
            "{low} {high}"
        );
        let of = |judged| Lost {
            instead: Some(party("other", judged, 0, None)),
            ..lost(20)
        };
        let among = |lost: Lost| drill(1000, &[lost], Alpha::FIVE_PERCENT).interval[0];
        let one = Lost {
            candidates: 1,
            ..of(200)
        };
        assert!(among(of(200)) < among(one));
    }

    #[test]
    fn without_calls_nothing_is_lost() {
        let drill = drill(0, &[], Alpha::FIVE_PERCENT);
        assert_eq!((drill.lost, drill.survive, drill.interval), (0, 0, [0, 0]));
    }
}
