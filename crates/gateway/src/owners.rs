//! Changes of owner that the records which are folded here do not tell of.
//!
//! Where a provider's home log is the gateway's own and is read, its control records are folded like
//! everything else. Elsewhere, and for a gateway that folds its own spool, the node's description
//! tells: its control records, and a key that was seen at work. Such a change enters the forecasts where
//! the gateway learned of it, by its own clock, whatever time the seller claims. A small file keeps
//! that, so that it enters at the same place when the fold is made anew.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use record::{Predicate, Provider, Record, SignerId};
use reliability::forecast::fold::Forecasts;
use serde::{Deserialize, Serialize};

/// The file, in the gateway's directory.
const FILE: &str = "owners.json";
/// Providers whose changes are remembered; the one that changed longest ago is forgotten first.
const PROVIDERS_MAX: usize = 4096;
/// Changes of one provider that are told apart.
const CHANGES_MAX: usize = 64;

/// When changes of owner were learned of, Unix ms, by provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Learned(BTreeMap<String, Vec<u64>>);

/// What is known of changes of owner, and where it is kept.
#[derive(Debug)]
pub(crate) struct Owners {
    file: PathBuf,
    learned: Arc<Learned>,
}

impl Owners {
    /// What was learned before. A file that cannot be read is as none: changes are then learned of
    /// once more.
    pub(crate) fn open(directory: &Path) -> Self {
        let file = directory.join(FILE);
        let bytes = std::fs::read(&file).unwrap_or_default();
        let learned = serde_json::from_slice(&bytes).unwrap_or_default();
        Self {
            file,
            learned: Arc::new(learned),
        }
    }

    /// What a fold enters as it goes.
    pub(crate) fn to_enter(&self) -> ToEnter {
        ToEnter {
            learned: Arc::clone(&self.learned),
            entered: BTreeMap::new(),
        }
    }

    /// A provider was seen to have changed its owner so many times; whether that is news.
    pub(crate) fn learn(&mut self, provider: SignerId, changes: usize, now_ms: u64) -> bool {
        let provider = provider.to_hex();
        let known = self.learned.0.get(&provider).map_or(0, Vec::len);
        let changes = changes.min(CHANGES_MAX);
        if changes <= known {
            return false;
        }
        let learned = Arc::make_mut(&mut self.learned);
        let times = learned.0.entry(provider).or_default();
        times.resize(changes, now_ms);
        while learned.0.len() > PROVIDERS_MAX {
            let oldest = learned.0.iter().min_by_key(|(_, times)| times.last());
            let Some(oldest) = oldest.map(|(provider, _)| provider.clone()) else {
                break;
            };
            learned.0.remove(&oldest);
        }
        true
    }

    /// Keeps it for the next start.
    pub(crate) fn keep(&self) {
        if let Err(error) = self.replace() {
            let path = self.file.display();
            tracing::warn!(%path, %error, "a change of owner is not remembered over a restart");
        }
    }

    /// Written whole and renamed: a crash leaves the old one or the new one.
    fn replace(&self) -> std::io::Result<()> {
        let beside = self.file.with_extension("new");
        let mut new = std::fs::File::create(&beside)?;
        new.write_all(&serde_json::to_vec(&*self.learned)?)?;
        new.sync_all()?;
        std::fs::rename(&beside, &self.file)
    }
}

/// Changes of owner on their way into forecasts, in the order of a fold.
#[derive(Clone, Debug)]
pub(crate) struct ToEnter {
    learned: Arc<Learned>,
    /// How many of a provider's are in.
    entered: BTreeMap<String, usize>,
}

impl ToEnter {
    /// Enters what was known when the call of a record began.
    pub(crate) fn before(&mut self, record: &Record, forecasts: &mut Forecasts) {
        let Predicate::Observation(seen) = &record.statement.predicate else {
            return;
        };
        let Provider::Joined(provider) = &seen.stream.endpoint.provider else {
            return;
        };
        if !self.learned.0.is_empty() {
            self.enter(*provider, seen.timing.start_ms.ms(), forecasts);
        }
    }

    /// What is known now; whether any of it has not entered yet.
    pub(crate) fn is_behind(&self, owners: &Owners) -> bool {
        let known = &owners.learned.0;
        let entered = |provider| self.entered.get(provider).copied().unwrap_or(0);
        known
            .iter()
            .any(|(provider, times)| entered(provider) < times.len())
    }

    /// Enters everything that is known now.
    pub(crate) fn catch_up(&mut self, owners: &Owners, forecasts: &mut Forecasts) {
        self.learned = Arc::clone(&owners.learned);
        for provider in owners.learned.0.keys() {
            if let Ok(provider) = provider.parse() {
                self.enter(provider, u64::MAX, forecasts);
            }
        }
    }

    fn enter(&mut self, provider: SignerId, until_ms: u64, forecasts: &mut Forecasts) {
        let name = provider.to_hex();
        let Some(times) = self.learned.0.get(&name) else {
            return;
        };
        let entered = self.entered.get(&name).copied().unwrap_or(0);
        let due = times.iter().take_while(|at| **at <= until_ms).count();
        if due > entered {
            forecasts.owner_changed(&Provider::Joined(provider));
            self.entered.insert(name, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_news_once_and_is_remembered() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut owners = Owners::open(directory.path());
        let (sold, other) = (SignerId::from_bytes([1; 32]), SignerId::from_bytes([2; 32]));
        assert!(!owners.learn(sold, 0, 10), "it is the first owner's");
        assert!(owners.learn(sold, 1, 10) && !owners.learn(sold, 1, 20));
        assert!(owners.learn(sold, 2, 30));
        assert!(!owners.learn(sold, 1, 40), "an old description");
        assert!(owners.learn(other, 1, 50));
        owners.keep();
        let again = Owners::open(directory.path());
        assert_eq!(again.learned.0[&sold.to_hex()], [10, 30]);

        let mut forecasts = Forecasts::new(other, Vec::new());
        let mut fold = again.to_enter();
        assert!(fold.is_behind(&again));
        fold.enter(sold, 29, &mut forecasts);
        assert_eq!(fold.entered[&sold.to_hex()], 1, "the second came later");
        fold.catch_up(&again, &mut forecasts);
        assert!(!fold.is_behind(&again));
        assert_eq!(fold.entered[&sold.to_hex()], 2);

        for number in 0..PROVIDERS_MAX {
            let id = u64::try_from(number)
                .expect("a few")
                .to_be_bytes()
                .repeat(4);
            let id = SignerId::from_bytes(id.try_into().expect("32 bytes"));
            owners.learn(id, 1, 60);
        }
        assert_eq!(owners.learned.0.len(), PROVIDERS_MAX);
        assert!(!owners.learned.0.contains_key(&sold.to_hex()));
    }
}
