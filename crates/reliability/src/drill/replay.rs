//! The walk over the past: every call decided again.

use std::collections::{BTreeMap, BTreeSet};

use super::reckon::{Kind, Own};
use super::{Party, Span, Unserved};
use crate::route::past::{Attempt, Event, Past, Standings};
use crate::route::{COLD_OUTCOMES, Candidate, Draw, Standing, Wish, decide};

/// What became of the calls.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) since_ms: u64,
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) unjudged: u64,
    pub(super) asked: u64,
    pub(super) unchanged: u64,
    /// Answered well by others, whoever is gone.
    pub(super) kept: u64,
    /// By model.
    pub(super) unserved: BTreeMap<String, Unserved>,
    /// From which party to which.
    pub(super) moved: BTreeMap<(usize, usize), Vec<Moved>>,
    /// Parties that could be chosen somewhere.
    pub(super) candidates: usize,
    /// What each party did with its own calls.
    pub(super) own: BTreeMap<usize, Own>,
}

/// A call that somebody else would have been asked for.
pub(super) struct Moved {
    pub(super) hour: u64,
    pub(super) kind: Kind,
    /// Whether it was answered well in fact.
    pub(super) good: bool,
    pub(super) usage: Option<(u32, u32)>,
    /// In fact, and as the one instead had it then.
    pub(super) first_token_us: [Option<u64>; 2],
}

/// A call, as far as its attempts were seen.
#[derive(Default)]
struct Call {
    /// What the attempts at others came to.
    others: Option<bool>,
    tried: BTreeSet<usize>,
    /// The first attempt at one that is gone, and who would have been asked then, best first.
    gone: Option<Gone>,
}

struct Gone {
    party: usize,
    attempt: Attempt,
    order: Vec<Candidate>,
}

struct Walk<'a> {
    parties: &'a [Party],
    span: &'a Span,
    /// By the number of an endpoint in the past.
    party_of: BTreeMap<u32, usize>,
    /// By party.
    numbers: Vec<Option<u32>>,
    /// Who serves what a party that is gone serves.
    others: BTreeMap<usize, Vec<usize>>,
    /// First and last attempt of a party, Unix ms.
    there_ms: BTreeMap<usize, (u64, u64)>,
    standings: Standings<u32>,
    calls: BTreeMap<u64, Call>,
    draws: u64,
}

pub(super) fn replay(past: &Past, parties: &[Party], span: &Span) -> Replayed {
    let mut walk = Walk::new(past, parties, span);
    let mut replayed = Replayed {
        candidates: walk
            .others
            .values()
            .flatten()
            .collect::<BTreeSet<_>>()
            .len(),
        since_ms: span.since_ms,
        ..Replayed::default()
    };
    let events: Vec<&Event> = past.events().collect();
    for (_, at, step) in steps(&events) {
        let (Event::Attempt(number, attempt), Step::Begins) = (events[at], step) else {
            events[at].apply(&mut walk.standings);
            continue;
        };
        let start_ms = attempt.start_ms();
        let inside = (span.since_ms..=span.until_ms).contains(&start_ms);
        let Some(party) = walk.party_of.get(number).copied().filter(|_| inside) else {
            continue;
        };
        if let Some(good) = attempt.good {
            let own = replayed.own.entry(party).or_default();
            own.add(Kind::of(attempt), start_ms, good);
        }
        if !attempt.is_check {
            walk.attempt(party, attempt);
        }
    }
    if past.is_cut() {
        // What was let go was counted before this one; one that came late may have begun any time.
        let mut attempts = events.iter().filter_map(|event| match event {
            Event::Attempt(_, attempt) => Some(attempt.start_ms()),
            _ => None,
        });
        replayed.since_ms = attempts.next().unwrap_or(0).max(span.since_ms);
    }
    for call in std::mem::take(&mut walk.calls).into_values() {
        replayed.settle(call, parties);
    }
    replayed
}

/// What there is to do at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The attempt begins: who is asked is decided.
    Begins,
    /// Its outcome is known, or it is known what changed.
    Ends,
}

/// When each event begins and when it is known, in the order of time: a call is decided before its own
/// outcome is known, and those of others that were under way with it. Times of starts are coarse, so what
/// falls together goes by the order in which it was counted.
fn steps(events: &[&Event]) -> Vec<(u64, usize, Step)> {
    let mut steps = Vec::with_capacity(2 * events.len());
    let mut known_ms = 0;
    for (at, event) in events.iter().enumerate() {
        if let Event::Attempt(_, attempt) = event {
            steps.push((attempt.start_ms(), at, Step::Begins));
            steps.push((attempt.end_ms(), at, Step::Ends));
            known_ms = attempt.end_ms().max(known_ms);
        } else {
            steps.push((known_ms, at, Step::Ends));
        }
    }
    steps.sort_unstable();
    steps
}

impl<'a> Walk<'a> {
    fn new(past: &Past, parties: &'a [Party], span: &'a Span) -> Self {
        let numbers: Vec<_> = parties.iter().map(|it| past.number(&it.endpoint)).collect();
        let known = numbers.iter().enumerate();
        let party_of: BTreeMap<u32, usize> =
            known.filter_map(|(at, it)| Some(((*it)?, at))).collect();
        let mut there_ms: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for event in past.events() {
            if let Event::Attempt(number, attempt) = event
                && let Some(party) = party_of.get(number)
            {
                let at_ms = attempt.start_ms();
                let there = there_ms.entry(*party).or_insert((at_ms, at_ms));
                *there = (there.0.min(at_ms), there.1.max(at_ms));
            }
        }
        let gone = parties.iter().enumerate().filter(|(_, it)| it.is_gone);
        let others = gone.map(|(at, gone)| {
            let others = parties.iter().enumerate();
            let others = others.filter(|(_, it)| !it.is_gone && gone.shares_a_name(it));
            (at, others.map(|(at, _)| at).collect())
        });
        Self {
            others: others.collect(),
            parties,
            span,
            party_of,
            numbers,
            there_ms,
            standings: past.before(),
            calls: BTreeMap::new(),
            draws: 0,
        }
    }

    fn attempt(&mut self, party: usize, attempt: &Attempt) {
        let is_gone = self.parties[party].is_gone;
        let is_new = is_gone
            && self
                .calls
                .get(&attempt.call)
                .is_none_or(|it| it.gone.is_none());
        let order = if is_new {
            self.decide(party, attempt.start_ms())
        } else {
            Vec::new()
        };
        let call = self.calls.entry(attempt.call).or_default();
        if !is_gone {
            call.others = call.others.max(attempt.good);
            call.tried.insert(party);
            return;
        }
        match &mut call.gone {
            Some(gone) if gone.attempt.good < attempt.good => gone.attempt = *attempt,
            Some(_) => {}
            None => {
                call.gone = Some(Gone {
                    party,
                    attempt: *attempt,
                    order,
                });
            }
        }
    }

    /// Who would have been asked, best first.
    fn decide(&mut self, gone: usize, now_ms: u64) -> Vec<Candidate> {
        let others = self.others.get(&gone).map_or(&[][..], Vec::as_slice);
        let could = |at: &usize| {
            let there = self.there_ms.get(at);
            !self.parties[*at].names.is_empty()
                || there.is_some_and(|(first, last)| (*first..=*last).contains(&now_ms))
        };
        let could: Vec<usize> = others.iter().copied().filter(could).collect();
        let judged = |at: usize| self.standing(at).map_or(0, Standing::judged);
        let is_known = |at: &usize| match judged(*at) {
            0 => false,
            few if few < COLD_OUTCOMES => !self.parties[*at].is_stranger,
            _ => true,
        };
        // As routing does: strangers where nobody else serves the model; and who has no record at all
        // where nobody has one, since nothing here would teach what to expect of it.
        let ladder: [&dyn Fn(&usize) -> bool; 3] = [&is_known, &|at| judged(*at) > 0, &|_| true];
        let chosen = ladder.into_iter().find(|wanted| could.iter().any(wanted));
        let Some(wanted) = chosen else {
            return Vec::new();
        };
        let candidates: Vec<Candidate> = could
            .iter()
            .filter(|at| wanted(at))
            .map(|at| {
                let place = u32::try_from(*at).unwrap_or(u32::MAX);
                let pooled = || Standing::new(self.standings.pool()).candidate(place, now_ms);
                let known = self.standing(*at).map(|it| it.candidate(place, now_ms));
                known.unwrap_or_else(pooled)
            })
            .collect();
        let wish = Wish {
            exploration_ppm: self.span.exploration_ppm,
            or_best: true,
            ..Wish::default()
        };
        let draw = Draw::numbered(self.span.seed, self.draws);
        self.draws += 1;
        decide(&candidates, &wish, draw).figures
    }

    fn standing(&self, party: usize) -> Option<&Standing> {
        self.standings.get(self.numbers[party].as_ref()?)
    }
}

impl Party {
    /// Whether callers who ask for one may get the other. One that is not offered any more is known by
    /// its model alone.
    fn shares_a_name(&self, other: &Self) -> bool {
        let model = |it: &Self| it.endpoint.model.as_str().to_owned();
        match (self.names.is_empty(), other.names.is_empty()) {
            (false, false) => self.names.iter().any(|name| other.names.contains(name)),
            (true, false) => other.names.contains(&model(self)) || model(self) == model(other),
            (false, true) => self.names.contains(&model(other)) || model(self) == model(other),
            (true, true) => model(self) == model(other),
        }
    }
}

impl Replayed {
    /// All attempts of a call were seen.
    fn settle(&mut self, call: Call, parties: &[Party]) {
        let own = call.gone.as_ref().and_then(|gone| gone.attempt.good);
        let Some(good) = call.others.max(own) else {
            self.unjudged += 1;
            return;
        };
        self.calls += 1;
        self.answered += u64::from(good);
        let Some(gone) = call.gone else {
            self.kept += u64::from(good);
            return;
        };
        self.asked += 1;
        let left = gone.order.iter().find(|it| {
            let at = usize::try_from(it.place).unwrap_or(usize::MAX);
            !call.tried.contains(&at)
        });
        // What others did with it in fact is known.
        if call.others == Some(true) || (left.is_none() && !gone.order.is_empty()) {
            self.unchanged += 1;
            self.kept += u64::from(call.others == Some(true));
            return;
        }
        let Some(instead) = left else {
            let model = parties[gone.party].endpoint.model.as_str();
            let unserved = self.unserved.entry(model.to_owned()).or_default();
            model.clone_into(&mut unserved.model);
            unserved.calls += 1;
            unserved.answered += u64::from(good);
            return;
        };
        let to = usize::try_from(instead.place).unwrap_or(usize::MAX);
        let attempt = gone.attempt;
        self.moved.entry((gone.party, to)).or_default().push(Moved {
            hour: Own::hour(attempt.start_ms()),
            kind: Kind::of(&attempt),
            good,
            usage: attempt.usage,
            first_token_us: [attempt.first_token_us(), instead.first_token_us],
        });
    }
}
