//! What happens to whom and when: drawn from a seed before anything starts.

use std::time::Duration;

use reliability::route::Draw;

use super::NODES;
use crate::hosts::Trouble;

/// Nodes that something is done to at the same time, at most: the others answer.
const TROUBLED_MAX: usize = 4;
/// Nodes whose offer or key is taken back at the same time, at most.
const BARRED_MAX: usize = 2;

/// What is done to a party, and undone after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// SIGKILL; started again at the end.
    Kill,
    /// SIGSTOP; SIGCONT at the end.
    Stop,
    Link(Trouble),
    /// A node ends its offer and answers whoever asks it still; it offers again at the end.
    Withdraw,
    /// A node's key is ended by its owner from elsewhere, and the node knows nothing of it; it gets
    /// another key at the end.
    Revoke,
}

impl Act {
    fn bars(self) -> bool {
        matches!(self, Self::Withdraw | Self::Revoke)
    }
}

/// Something that happens to one party.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) until: Duration,
    pub(super) act: Act,
}

/// What happens to each node, then to the log, then to the gateway.
pub(super) struct Plan {
    pub(super) nodes: Vec<Vec<Event>>,
    pub(super) log: Vec<Event>,
    pub(super) gateway: Vec<Event>,
}

impl Plan {
    pub(super) fn new(seed: u64, length: Duration) -> Self {
        let mut plan = Self {
            nodes: vec![Vec::new(); NODES],
            log: Vec::new(),
            gateway: Vec::new(),
        };
        let (mut draw, mut at) = (Draw::numbered(seed, 0), Duration::ZERO);
        // What lasts longest begins at once, so that a short run sees it too.
        plan.bar(&mut draw, Duration::from_secs(1), length);
        loop {
            at += Duration::from_millis(1000 + draw.below(4000));
            if at + Duration::from_secs(5) >= length {
                return plan;
            }
            match draw.below(10) {
                0 => {
                    let acts = [
                        Act::Kill,
                        Act::Kill,
                        Act::Stop,
                        Act::Link(Trouble::Cut),
                        Act::Link(Trouble::Narrow),
                    ];
                    push(&mut plan.log, &mut draw, (&acts, 18_000), at, length);
                }
                1 => {
                    let acts = [Act::Kill, Act::Kill, Act::Link(Trouble::Cut)];
                    push(&mut plan.gateway, &mut draw, (&acts, 4000), at, length);
                }
                2 => plan.bar(&mut draw, at, length),
                _ => plan.trouble(&mut draw, at, length),
            }
        }
    }

    fn busy(&self, at: Duration, which: fn(Act) -> bool) -> usize {
        let busy = self.nodes.iter().filter(|events| {
            let last = events.last();
            last.is_some_and(|it| at < it.until && which(it.act))
        });
        busy.count()
    }

    /// One of the nodes that nothing is done to.
    fn free(&mut self, draw: &mut Draw, at: Duration) -> Option<&mut Vec<Event>> {
        if self.busy(at, |_| true) >= TROUBLED_MAX {
            return None;
        }
        // A little later than the end of what was before.
        let rest = Duration::from_secs(4);
        let free = self.nodes.iter_mut().filter(|events| {
            let last = events.last();
            last.is_none_or(|it| it.until + rest <= at)
        });
        let mut free: Vec<&mut Vec<Event>> = free.collect();
        if free.is_empty() {
            return None;
        }
        let which = draw.below(free.len() as u64);
        Some(free.swap_remove(usize::try_from(which).expect("six at most")))
    }

    fn trouble(&mut self, draw: &mut Draw, at: Duration, length: Duration) {
        let acts = [
            Act::Kill,
            Act::Kill,
            Act::Stop,
            Act::Link(Trouble::Cut),
            Act::Link(Trouble::Mute),
            Act::Link(Trouble::Deaf),
            Act::Link(Trouble::Lossy),
            Act::Link(Trouble::Narrow),
        ];
        if let Some(events) = self.free(draw, at) {
            push(events, draw, (&acts, 18_000), at, length);
        }
    }

    fn bar(&mut self, draw: &mut Draw, at: Duration, length: Duration) {
        if self.busy(at, Act::bars) >= BARRED_MAX {
            return;
        }
        let long = Duration::from_millis(75_000 + draw.below(30_000));
        let act = match draw.below(2) {
            0 => Act::Withdraw,
            _ => Act::Revoke,
        };
        if let Some(events) = self.free(draw, at) {
            let until = (at + long).min(length);
            events.push(Event { at, until, act });
        }
    }
}

/// One of `acts`, for a second and up to `more_ms`; nothing if something is still done to it.
fn push(
    events: &mut Vec<Event>,
    draw: &mut Draw,
    (acts, more_ms): (&[Act], u64),
    at: Duration,
    length: Duration,
) {
    let which = usize::try_from(draw.below(acts.len() as u64)).expect("a few");
    let long = Duration::from_millis(1000 + draw.below(more_ms));
    if events.last().is_some_and(|it| at < it.until) {
        return;
    }
    let until = (at + long).min(length);
    let act = acts[which];
    events.push(Event { at, until, act });
}
