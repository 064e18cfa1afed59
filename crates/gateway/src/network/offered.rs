//! Which models a network offers, whoever of its nodes is there just now: so that a caller who asks for one is
//! told to come back, and not that there is no such model.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use record::offer::Standing as StandingOffer;

use super::member;
use crate::config::network::NetworkConfig;

/// Names that are kept of one network.
pub(super) const NAMES_MAX: usize = 1024;
/// How often they are gathered again when no entry was added and as many offers stand, turns.
const TURNS: u64 = 30;

/// Names of models, gathered when there is something new.
pub(super) struct Offered {
    /// Who is left out when there are too many is nobody's choice: this orders them.
    lots: RandomState,
    gathered: Option<(u64, usize, u64)>,
    turns: u64,
}

impl Offered {
    pub(super) fn new() -> Self {
        Self {
            lots: RandomState::new(),
            gathered: None,
            turns: 0,
        }
    }

    /// The names that `standing` offers and the configuration wants; `None` if there can be nothing new
    /// since the log had `size` entries.
    pub(super) fn gather<K>(
        &mut self,
        network: &NetworkConfig,
        size: u64,
        standing: &BTreeMap<K, StandingOffer<'_>>,
    ) -> Option<BTreeSet<String>> {
        self.turns += 1;
        let now = (size, standing.len(), self.turns / TURNS);
        if self.gathered.replace(now) == Some(now) {
            return None;
        }
        let models = standing.values().flat_map(|it| &it.offer.models);
        let mut names: BTreeSet<(u64, &str)> = BTreeSet::new();
        for offered in models.filter(|it| member::is_wanted(network, it)) {
            let name = offered.model.as_str();
            names.insert((self.lots.hash_one(name), name));
            if names.len() > NAMES_MAX {
                names.pop_last();
            }
        }
        Some(names.into_iter().map(|(_, name)| name.to_owned()).collect())
    }
}
