//! Chains of summaries as they come out of a history.

use std::collections::{BTreeMap, BTreeSet};

use record::summary::{BUNDLE_ENTRIES, BundleCounts, StreamNumbers, Summary};
use record::{Endpoint, KeyId, Record, RecordId, SignerId};

use super::Counts;

/// Chains in one history.
pub const CHAINS_MAX: usize = 20_000;
/// Bundles with something in them, and streams of each summary, that one history may tell of: each takes up to
/// 100 bytes of a reader.
pub const BUNDLES_MAX: usize = 4_000_000;

/// Who signed a chain, whose observations it counts, and of which endpoint.
pub type ChainKey = (SignerId, SignerId, Endpoint);

/// All chains of a history, those that hold together and those that do not.
#[derive(Clone, Debug, Default)]
pub struct Summaries {
    chains: BTreeMap<ChainKey, ChainOf>,
    broken: BTreeMap<ChainKey, Broken>,
    bundles: usize,
}

/// A chain that does not hold together: nothing of it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The entry of its first summary that does not fit.
    pub index: u64,
    /// That summary.
    pub id: RecordId,
    /// What is wrong with it.
    pub why: String,
}

/// One signer's summaries of one observer and endpoint, put together.
#[derive(Clone, Debug)]
pub struct ChainOf {
    observer: SignerId,
    endpoint: Endpoint,
    seq: u64,
    head: Option<RecordId>,
    to: u64,
    counts: Counts,
    bundles: Vec<BundleCounts>,
    streams: BTreeMap<KeyId, StreamNumbers>,
    /// Numbers of all streams that have a record.
    numbered: u64,
}

impl Summaries {
    /// Takes a summary out of the log `origin`, in the order of the log. One that does not fit leaves its whole
    /// chain out, and nobody else's: see [`broken`](Self::broken).
    pub fn add(&mut self, summary: &Summary, record: &Record, origin: &str, index: u64) {
        let (observer, endpoint) = (summary.observer, summary.endpoint.clone());
        let key = (record.signer_id(), observer, endpoint);
        if self.broken.contains_key(&key) {
            return;
        }
        if let Err(why) = self.fit(&key, summary, record.id, (origin, index)) {
            let id = record.id;
            self.chains.remove(&key);
            self.broken.insert(key, Broken { index, id, why });
        }
    }

    fn fit(
        &mut self,
        key: &ChainKey,
        summary: &Summary,
        id: RecordId,
        (origin, index): (&str, u64),
    ) -> Result<(), String> {
        if summary.log.as_str() != origin {
            return Err(format!("it counts entries of another log, {}", summary.log));
        }
        if summary.to > index {
            return Err(format!(
                "it counts entries up to {}, and the log had {index} before it",
                summary.to
            ));
        }
        let chain = self.chains.entry(key.clone()).or_insert_with(|| ChainOf {
            observer: summary.observer,
            endpoint: summary.endpoint.clone(),
            seq: 0,
            head: None,
            to: 0,
            counts: Counts::default(),
            bundles: Vec::new(),
            streams: BTreeMap::new(),
            numbered: 0,
        });
        chain.add(summary, id)?;
        self.bundles += summary.bundles.len() + summary.streams.len();
        Ok(())
    }

    /// Whether there is room for more.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        self.chains.len() + self.broken.len() <= CHAINS_MAX && self.bundles <= BUNDLES_MAX
    }

    /// Chains that do not hold together.
    #[must_use]
    pub fn broken(&self) -> &BTreeMap<ChainKey, Broken> {
        &self.broken
    }

    /// Everybody who signed one.
    pub(crate) fn signers(&self) -> BTreeSet<SignerId> {
        let keys = self.chains.keys().chain(self.broken.keys());
        keys.map(|(signer, ..)| *signer).collect()
    }

    /// Every chain that holds together.
    pub fn chains(&self) -> impl Iterator<Item = (&ChainKey, &ChainOf)> {
        self.chains.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// How many bundles of the log the longest chain covers.
    #[must_use]
    pub fn bundles_covered(&self) -> u64 {
        let ends = self.chains.values().map(|chain| chain.to);
        ends.max().unwrap_or(0) / BUNDLE_ENTRIES
    }
}

impl ChainOf {
    fn add(&mut self, summary: &Summary, id: RecordId) -> Result<(), String> {
        let follows = summary.seq.number() == self.seq + 1
            && summary.previous == self.head
            && summary.from == self.to;
        if !follows {
            return Err(format!(
                "it is number {} of its chain and begins at {}; the one before it in the file is number \
                 {} and ends at {}: one was left out, or its signer contradicts itself",
                summary.seq.number(),
                summary.from,
                self.seq,
                self.to
            ));
        }
        let mut numbered = self.numbered;
        for told in &summary.streams {
            numbered = numbered.saturating_add(told.records);
            if let Some(before) = self.streams.get(&told.key) {
                let shrinks = told.highest < before.highest
                    || told.records < before.records
                    || told.voided < before.voided
                    || told.unused < before.unused;
                if shrinks {
                    return Err(format!("the numbers of stream key {} shrink", told.key));
                }
                numbered = numbered.saturating_sub(before.records);
            }
        }
        let mut counts = self.counts;
        let each = summary.bundles.iter();
        each.for_each(|bundle| counts.add(Counts::from(*bundle)));
        // A number that has two records is one number and two calls.
        if numbered > counts.calls {
            return Err(format!(
                "{numbered} numbers have a record by its streams, and its bundles hold {} calls",
                counts.calls
            ));
        }
        if counts.calls > 0 && numbered == 0 {
            return Err("its bundles hold calls, and no number has a record".to_owned());
        }
        self.seq = summary.seq.number();
        self.head = Some(id);
        self.to = summary.to;
        self.counts = counts;
        self.bundles.extend(&summary.bundles);
        self.numbered = numbered;
        let told = summary.streams.iter().map(|told| (told.key, *told));
        self.streams.extend(told);
        Ok(())
    }

    /// Whose observations.
    #[must_use]
    pub fn observer(&self) -> SignerId {
        self.observer
    }

    /// About what.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How many summaries.
    #[must_use]
    pub fn summaries(&self) -> u64 {
        self.seq
    }

    /// The entry where the last of them ends: what the log holds beyond is in none.
    #[must_use]
    pub fn covers_to(&self) -> u64 {
        self.to
    }

    /// All that is counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What a bundle is said to hold.
    #[must_use]
    pub fn bundle(&self, bundle: u64) -> Counts {
        let at = self.bundles.binary_search_by_key(&bundle, |it| it.bundle);
        at.map_or_else(|_| Counts::default(), |at| self.bundles[at].into())
    }

    /// Numbers without a known outcome: voided after a crash or for want of room, or missing.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        let each = self.streams.values();
        each.map(|told| told.voided.saturating_add(told.missing))
            .fold(0, u64::saturating_add)
    }
}
