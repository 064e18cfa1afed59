//! How a node that nobody knows earns ordinary traffic: pure.
//!
//! A node that makes an offer *waits*. [`SEATS`] of those who wait are drawn by lot, whoever came
//! first, so that ten thousand false offers hold a true one up but do not shut it out. The lot falls on
//! addresses, however many keys name one. Who has a seat
//! is checked, and *tried*: all nodes in trial together get at most one of so many calls
//! ([`Credit`]), and each at most one at a time. A node whose own record is long enough is
//! *ordinary* from then on; one that fails its check or a call is *dropped* for an hour; one that nobody
//! asked within [`TENURE_MS`] gives its seat to another. A node with such a record that is not there
//! when it is looked for, after a start of the gateway or a new offer, is looked for again soon.

use std::collections::{BTreeMap, BTreeSet};

use record::KeyId;
use reliability::route::Draw;

/// Nodes that are in trial at once.
pub(crate) const SEATS: usize = 256;
/// How long a seat is kept without becoming ordinary, ms.
pub(crate) const TENURE_MS: u64 = 30 * 60 * 1000;
/// How long a node is left alone that failed, ms; it doubles each time, up to a day.
pub(crate) const DROPPED_MS: u64 = 60 * 60 * 1000;
/// When a node is looked for again that has a record and was not there, ms.
pub(crate) const AGAIN_MS: u64 = 15_000;
/// The longest that it is left alone, ms.
const DROPPED_MAX_MS: u64 = 24 * DROPPED_MS;
/// Nodes that failed and offer nothing now, of which that is remembered.
const REMEMBERED_MAX: usize = 50_000;

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Waiting,
    Trying { until_ms: u64 },
    Ordinary,
    Dropped { until_ms: u64 },
}

/// Where every node of a network stands, by its instance key.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    nodes: BTreeMap<KeyId, Node>,
}

#[derive(Debug)]
struct Node {
    stage: Stage,
    /// How often it failed.
    failures: u32,
}

impl Trials {
    /// Takes the nodes whose offers stand. Those that are gone are forgotten, but for those that
    /// failed: withdrawing an offer does not shorten the hour.
    pub(crate) fn offered(&mut self, keys: &BTreeSet<KeyId>, now_ms: u64) {
        self.nodes.retain(|key, node| match node.stage {
            Stage::Dropped { until_ms } => now_ms < until_ms || keys.contains(key),
            _ => keys.contains(key),
        });
        let gone = self.nodes.len().saturating_sub(keys.len());
        if gone > REMEMBERED_MAX {
            self.nodes.retain(|key, _| keys.contains(key));
        }
        for key in keys {
            self.nodes.entry(*key).or_insert(Node {
                stage: Stage::Waiting,
                failures: 0,
            });
        }
        for node in self.nodes.values_mut() {
            match node.stage {
                Stage::Dropped { until_ms } | Stage::Trying { until_ms } if until_ms <= now_ms => {
                    node.stage = Stage::Waiting;
                }
                _ => {}
            }
        }
    }

    /// Gives free seats to those who wait, by lot; who got one. The lot falls on an `address`, and then
    /// on one of the keys that name it: ten thousand keys that name one are one. Keys whose address is
    /// not to be asked now have none.
    pub(crate) fn seat<A: Ord>(
        &mut self,
        now_ms: u64,
        draw: &mut Draw,
        address: impl Fn(&KeyId) -> Option<A>,
    ) -> Vec<KeyId> {
        let taken = self.counts()[1];
        let mut waiting: BTreeMap<A, Vec<KeyId>> = BTreeMap::new();
        let nodes = self.nodes.iter();
        for (key, _) in nodes.filter(|(_, node)| node.stage == Stage::Waiting) {
            if let Some(address) = address(key) {
                waiting.entry(address).or_default().push(*key);
            }
        }
        let mut lots: Vec<Vec<KeyId>> = waiting.into_values().collect();
        let mut below = |end: usize| usize::try_from(draw.below(end as u64)).unwrap_or(0);
        let mut seated = Vec::new();
        for _ in taken..SEATS {
            if lots.is_empty() {
                break;
            }
            let keys = lots.swap_remove(below(lots.len()));
            seated.push(keys[below(keys.len())]);
        }
        seated.retain(|key| self.take(key, now_ms));
        seated
    }

    /// Gives a seat to one who waits; whether it did.
    pub(crate) fn take(&mut self, key: &KeyId, now_ms: u64) -> bool {
        let waits = self.stage(key) == Some(Stage::Waiting);
        if waits {
            let until_ms = now_ms + TENURE_MS;
            self.set(key, Stage::Trying { until_ms });
        }
        waits
    }

    /// It failed.
    pub(crate) fn failed(&mut self, key: &KeyId, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(key) {
            let longer = DROPPED_MS.saturating_mul(1 << node.failures.min(8));
            let until_ms = now_ms + longer.min(DROPPED_MAX_MS);
            node.failures += 1;
            node.stage = Stage::Dropped { until_ms };
        }
    }

    /// It was not there, and its record says that it mostly is.
    pub(crate) fn missed(&mut self, key: &KeyId, now_ms: u64) {
        let until_ms = now_ms + AGAIN_MS;
        self.set(key, Stage::Dropped { until_ms });
    }

    /// Its own record is long enough.
    pub(crate) fn graduated(&mut self, key: &KeyId) {
        self.set(key, Stage::Ordinary);
    }

    pub(crate) fn stage(&self, key: &KeyId) -> Option<Stage> {
        self.nodes.get(key).map(|node| node.stage)
    }

    /// How many wait, are tried, are ordinary, are dropped.
    pub(crate) fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for node in self.nodes.values() {
            counts[match node.stage {
                Stage::Waiting => 0,
                Stage::Trying { .. } => 1,
                Stage::Ordinary => 2,
                Stage::Dropped { .. } => 3,
            }] += 1;
        }
        counts
    }

    fn set(&mut self, key: &KeyId, stage: Stage) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.stage = stage;
        }
    }
}

/// What is left for trials: one call's worth at most, so two trials are never closer together than
/// the share says.
#[derive(Debug)]
pub(crate) struct Credit {
    ppm: u32,
}

/// A whole call.
const CALL_PPM: u32 = 1_000_000;

impl Default for Credit {
    fn default() -> Self {
        Self { ppm: CALL_PPM }
    }
}

impl Credit {
    /// A call comes that could be a trial; whether it is one. Of any `n` calls in a row at most
    /// ⌈`n` · `share`⌉ are, if a whole call is a multiple of the share.
    pub(crate) fn spend(&mut self, share_ppm: u32) -> bool {
        if share_ppm > 0 && self.ppm >= CALL_PPM {
            self.ppm = share_ppm;
            return true;
        }
        self.ppm = self.ppm.saturating_add(share_ppm).min(CALL_PPM);
        false
    }
}

#[cfg(test)]
mod tests;
