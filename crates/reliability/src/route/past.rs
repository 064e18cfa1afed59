//! What routing knew, and when: the latest attempts in the order in which the history counted them, and
//! how every endpoint stood before the first of them.
//!
//! From there the standing at each of these attempts is worked out again, by the code that keeps the
//! present one ([`Standings`]): that is what a drill replays. Alarms, changes of owner or manifest, and
//! what endpoints have in common stand between the attempts, where they came. An attempt takes
//! 40 bytes; copies share them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use record::observation::{Observation, PromptClass};
use record::{CallId, Endpoint};

use super::{Outcome, Standing};
use crate::fold::edge_us;
use crate::forecast::pool::Pool;

/// Attempts that are remembered, about: the latest. 4 MB.
pub const ATTEMPTS_MAX: usize = 100_000;
/// What is let go at once, and copied when a shared one grows.
const CHUNK: usize = 1024;
const START_STEP_MS: u64 = record::bucket::START_STEP_MS;

/// How endpoints stand, and what they have in common.
#[derive(Clone, Debug)]
pub(crate) struct Standings<K> {
    pool: Pool,
    of: BTreeMap<K, Standing>,
}

impl<K: Ord + Clone> Standings<K> {
    /// Nobody was seen yet.
    pub(crate) fn unknown() -> Self {
        Self {
            pool: Pool::UNKNOWN,
            of: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, endpoint: &K) -> Option<&Standing> {
        self.of.get(endpoint)
    }

    /// What endpoints have in common.
    pub(crate) fn pool(&self) -> Pool {
        self.pool
    }

    /// Takes an outcome that was known at `at_ms`.
    pub(crate) fn observe(&mut self, endpoint: &K, at_ms: u64, outcome: &Outcome) {
        if let Some(standing) = self.of.get_mut(endpoint) {
            standing.observe(at_ms, outcome);
            return;
        }
        let mut standing = Standing::new(self.pool);
        standing.observe(at_ms, outcome);
        self.of.insert(endpoint.clone(), standing);
    }

    /// Those that are meant serve something else from here on.
    pub(crate) fn regime_changed(&mut self, of: impl Fn(&K) -> bool) {
        let meant = self.of.iter_mut().filter(|(endpoint, _)| of(endpoint));
        meant.for_each(|(_, standing)| standing.regime_changed());
    }

    /// What endpoints have in common was fitted anew.
    pub(crate) fn pooled(&mut self, pool: Pool) {
        self.pool = pool;
        self.of.values_mut().for_each(|it| it.pool(pool));
    }
}

/// An attempt, as far as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The first half of the call's id.
    pub(crate) call: u64,
    /// Steps of [`START_STEP_MS`] since 1970: enough for a thousand years.
    pub(crate) start: u32,
    /// Tokens of prompt and answer, if they are known.
    pub(crate) usage: Option<(u32, u32)>,
    /// Number of the bucket, of an answer that was served well.
    pub(crate) first_token: Option<u8>,
    pub(crate) total: u8,
    /// Served well, or failed by the provider's fault; `None`: neither.
    pub(crate) good: Option<bool>,
    pub(crate) streamed: bool,
    pub(crate) prompt: PromptClass,
    /// A check of the observer's own: no caller waited for it.
    pub(crate) is_check: bool,
}

impl Attempt {
    /// What is remembered of an observation; `good` as routing judges it.
    #[must_use]
    pub fn of(seen: &Observation, good: Option<bool>) -> Self {
        let (timing, conditions) = (&seen.timing, &seen.conditions);
        let index = |it: record::bucket::DurationUs| u8::try_from(it.index()).unwrap_or(u8::MAX);
        let count = |it: record::bucket::Tokens| u32::try_from(it.tokens()).unwrap_or(u32::MAX);
        let usage = seen.usage;
        Self {
            call: half(seen.call),
            start: u32::try_from(timing.start_ms.ms() / START_STEP_MS).unwrap_or(u32::MAX),
            usage: usage.map(|it| (count(it.prompt_tokens), count(it.completion_tokens))),
            first_token: timing.ttft_us.filter(|_| good == Some(true)).map(index),
            total: index(timing.total_us),
            good,
            streamed: seen.streamed,
            prompt: conditions.prompt,
            is_check: conditions.purpose.is_some(),
        }
    }

    /// When it began, Unix ms.
    #[must_use]
    pub fn start_ms(&self) -> u64 {
        u64::from(self.start) * START_STEP_MS
    }

    /// When it ended, Unix ms.
    pub(crate) fn end_ms(&self) -> u64 {
        self.start_ms() + edge_us(usize::from(self.total)) / 1000
    }

    pub(crate) fn first_token_us(&self) -> Option<u64> {
        self.first_token.map(|at| edge_us(usize::from(at)))
    }

    /// What routing learns from it.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let good = self.good?;
        let seconds = edge_us(usize::from(self.total)) as f64 / 1e6;
        let tokens = self.usage.map(|(_, completion)| completion);
        let rate = tokens.filter(|tokens| good && *tokens > 0 && seconds > 0.0);
        Some(Outcome {
            good,
            first_token_us: self.first_token_us(),
            throughput: rate.map(|tokens| f64::from(tokens) / seconds),
        })
    }
}

/// The first half of an id: what facts keep of it, and enough to tell apart the calls that are remembered.
fn half(call: CallId) -> u64 {
    let [first, ..] = call.as_bytes().as_chunks::<8>().0 else {
        return 0;
    };
    u64::from_be_bytes(*first)
}

/// What happened, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// An attempt at the endpoint with this number.
    Attempt(u32, Attempt),
    /// What is known of this endpoint is worth little from here on.
    Regime(u32),
    /// What endpoints have in common.
    Pool(Pool),
}

impl Event {
    pub(crate) fn apply(&self, standings: &mut Standings<u32>) {
        match self {
            Self::Attempt(number, attempt) => {
                if let Some(outcome) = attempt.outcome() {
                    standings.observe(number, attempt.end_ms(), &outcome);
                }
            }
            Self::Regime(number) => standings.regime_changed(|it| it == number),
            Self::Pool(pool) => standings.pooled(*pool),
        }
    }
}

/// The latest attempts.
#[derive(Clone, Debug)]
pub struct Past {
    names: Arc<Names>,
    /// How everybody stood before the first that is remembered.
    before: Arc<Standings<u32>>,
    chunks: VecDeque<Arc<Vec<Event>>>,
    /// Whether anything was let go.
    is_cut: bool,
}

/// Endpoints by number, for as long as the past is kept.
#[derive(Clone, Debug, Default)]
struct Names {
    endpoints: Vec<Endpoint>,
    numbers: BTreeMap<Endpoint, u32>,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            names: Arc::default(),
            before: Arc::new(Standings::unknown()),
            chunks: VecDeque::new(),
            is_cut: false,
        }
    }
}

impl Past {
    /// Remembers an attempt.
    pub fn attempted(&mut self, endpoint: &Endpoint, attempt: Attempt) {
        let number = match self.names.numbers.get(endpoint) {
            Some(number) => *number,
            None => self.add(endpoint),
        };
        self.push(Event::Attempt(number, attempt));
    }

    /// Remembers a change of regime of those that are meant.
    pub(crate) fn regime_changed(&mut self, of: impl Fn(&Endpoint) -> bool) {
        let names = Arc::clone(&self.names);
        let meant = names.numbers.iter().filter(|(endpoint, _)| of(endpoint));
        meant.for_each(|(_, number)| self.push(Event::Regime(*number)));
    }

    /// Remembers what endpoints have in common from here on.
    pub(crate) fn pooled(&mut self, pool: Pool) {
        self.push(Event::Pool(pool));
    }

    /// Every endpoint that was ever asked.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.names.endpoints.iter()
    }

    /// Whether there were attempts before those that are remembered.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(crate) fn number(&self, endpoint: &Endpoint) -> Option<u32> {
        self.names.numbers.get(endpoint).copied()
    }

    /// How everybody stood before the first event.
    pub(crate) fn before(&self) -> Standings<u32> {
        Standings::clone(&self.before)
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    fn add(&mut self, endpoint: &Endpoint) -> u32 {
        let names = Arc::make_mut(&mut self.names);
        let number = u32::try_from(names.endpoints.len()).unwrap_or(u32::MAX);
        names.endpoints.push(endpoint.clone());
        names.numbers.insert(endpoint.clone(), number);
        number
    }

    fn push(&mut self, event: Event) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => {
                let chunk = Arc::make_mut(chunk);
                // A copy has no room to grow, and growing by itself would take twice what it needs.
                chunk.reserve_exact(CHUNK - chunk.len());
                chunk.push(event);
            }
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(event);
                self.chunks.push_back(Arc::new(chunk));
            }
        }
        // The last is still filling: without it there are as many as promised.
        if self.chunks.len() > ATTEMPTS_MAX.div_ceil(CHUNK) + 1
            && let Some(oldest) = self.chunks.pop_front()
        {
            let before = Arc::make_mut(&mut self.before);
            oldest.iter().for_each(|event| event.apply(before));
            self.is_cut = true;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::Draws;

    pub(crate) fn attempt(call: u64, start_ms: u64, good: bool) -> Attempt {
        Attempt {
            call,
            start: u32::try_from(start_ms / START_STEP_MS).expect("soon"),
            usage: good.then_some((1024, 256)),
            first_token: good.then_some(20),
            total: 40,
            good: Some(good),
            streamed: false,
            prompt: PromptClass::Short,
            is_check: false,
        }
    }

    pub(crate) fn endpoint(provider: &str, model: &str) -> Endpoint {
        Endpoint {
            provider: format!("https://{provider}.example")
                .parse()
                .expect("an origin"),
            model: model.parse().expect("a model"),
        }
    }

    /// Also after much was let go, the standings that are worked out again are the present ones.
    #[test]
    fn what_was_known_is_worked_out_again() {
        let all = ["a", "b", "c"].map(|it| endpoint(it, "m"));
        let (mut past, mut now) = (Past::default(), Standings::unknown());
        let mut draws = Draws::new(11);
        let (mut at_ms, many) = (1_800_000_000_000, ATTEMPTS_MAX + 3 * CHUNK);
        for call in 0..many {
            at_ms += 10_000;
            let which = &all[if draws.unit() < 0.6 { 0 } else { 1 + call % 2 }];
            let attempt = attempt(call as u64, at_ms, draws.unit() < 0.95);
            let outcome = attempt.outcome().expect("judged");
            now.observe(which, attempt.end_ms(), &outcome);
            past.attempted(which, attempt);
            if call % 40_000 == 39_999 {
                now.regime_changed(|it| *it == all[1]);
                past.regime_changed(|it| *it == all[1]);
            }
            if call % 30_000 == 29_999 {
                let pool = Pool {
                    mean: 0.05,
                    strength: 9.0,
                };
                now.pooled(pool);
                past.pooled(pool);
            }
        }
        let kept = past.events().count();
        assert!(past.is_cut() && (ATTEMPTS_MAX..ATTEMPTS_MAX + 2 * CHUNK).contains(&kept));
        let mut again = past.before();
        past.events().for_each(|event| event.apply(&mut again));
        for endpoint in &all {
            let number = past.number(endpoint).expect("it was asked");
            assert_eq!(again.get(&number), now.get(endpoint));
        }
        assert!(size_of::<Event>() <= 40);
    }
}
