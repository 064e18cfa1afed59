//! Summaries of a log: made from its records, put together again, and compared with what the log holds.
//!
//! A [summary](record::summary) counts the observations of one observer about one endpoint, bundle by bundle.
//! [`Maker`] makes them in one pass over a log. [`Summaries`] takes them out of a history in the order of the log
//! and says what does not fit: each chain must begin at the log's first entry and leave nothing out. [`compare`]
//! counts a bundle again that was drawn at random. With `k` of `n` bundles misstated, a draw of `m` meets none of
//! them with the hypergeometric probability of [`miss`](crate::verify::history::miss).

use std::collections::BTreeMap;

use record::observation::Observation;
use record::summary::BundleCounts;
use record::{Endpoint, KeyId, Outcome, Predicate, Provider, Record, SignerId};

mod chain;
mod make;

pub use chain::{BUNDLES_MAX, Broken, CHAINS_MAX, ChainKey, ChainOf, Summaries};
pub use make::{MakeError, Maker, Stretch};

/// Attempts by how they ended, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub calls: u64,
    /// Outcome ok.
    pub good: u64,
    /// Fault provider.
    pub bad: u64,
    /// Rate-limited.
    pub rate_limited: u64,
}

impl Counts {
    fn of(seen: &Observation) -> Self {
        Self {
            calls: 1,
            good: u64::from(seen.outcome == Outcome::Ok),
            bad: u64::from(seen.counts_against_endpoint()),
            rate_limited: u64::from(seen.outcome == Outcome::RateLimited),
        }
    }

    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.good = self.good.saturating_add(other.good);
        self.bad = self.bad.saturating_add(other.bad);
        self.rate_limited = self.rate_limited.saturating_add(other.rate_limited);
    }

    /// As a bundle of a summary; none if nothing was counted.
    fn bundle(self, bundle: u64) -> Option<BundleCounts> {
        let fits = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (self.calls > 0).then(|| BundleCounts {
            bundle,
            calls: fits(self.calls),
            good: fits(self.good),
            bad: fits(self.bad),
            rate_limited: fits(self.rate_limited),
        })
    }
}

impl From<BundleCounts> for Counts {
    fn from(of: BundleCounts) -> Self {
        Self {
            calls: of.calls.into(),
            good: of.good.into(),
            bad: of.bad.into(),
            rate_limited: of.rate_limited.into(),
        }
    }
}

/// The observation that a record is, unless a provider observes itself.
fn observed(record: &Record) -> Option<(&Observation, SignerId)> {
    let Predicate::Observation(seen) = &record.statement.predicate else {
        return None;
    };
    let observer = record.signer_id();
    (seen.stream.endpoint.provider != Provider::Joined(observer)).then_some((&**seen, observer))
}

/// What a bundle turned out to hold: its records whose keys may sign there, and whose bodies are erased.
#[derive(Debug, Default)]
pub struct Recount {
    found: BTreeMap<(SignerId, Endpoint), Counts>,
    erased: BTreeMap<KeyId, u64>,
}

impl Recount {
    /// Takes a record of the bundle, whose signature holds and whose key may sign at its place.
    pub fn record(&mut self, record: &Record) {
        if let Some((seen, observer)) = observed(record) {
            let key = (observer, seen.stream.endpoint.clone());
            self.found.entry(key).or_default().add(Counts::of(seen));
        }
    }

    /// Takes an entry whose body is not there, with the key of its leaf: it may be any of those of that key's
    /// owner that are not found any more.
    pub fn erased(&mut self, key: KeyId) {
        *self.erased.entry(key).or_default() += 1;
    }

    /// Observers and endpoints of which something is there.
    pub fn found(&self) -> impl Iterator<Item = &(SignerId, Endpoint)> {
        self.found.keys()
    }
}

/// Whether a bundle holds what a chain of summaries says, and how many of its calls nobody can count any more,
/// because their bodies are erased: nothing is shown of those. Only what `is_own` names, the observer's
/// instance keys, may have signed them.
///
/// # Errors
/// What it holds instead, in words.
pub fn compare(
    of: &ChainOf,
    bundle: u64,
    recount: &Recount,
    is_own: impl Fn(&KeyId) -> bool,
) -> Result<u64, String> {
    let told = of.bundle(bundle);
    let key = (of.observer(), of.endpoint().clone());
    let found = recount.found.get(&key).copied().unwrap_or_default();
    let own = recount.erased.iter().filter(|(key, _)| is_own(key));
    let erased: u64 = own.map(|(_, bodies)| bodies).sum();
    if fits(&told, &found, erased) {
        return Ok(told.calls - found.calls);
    }
    let words = |it: &Counts| {
        format!(
            "{} calls, {} good, {} bad, {} rate-limited",
            it.calls, it.good, it.bad, it.rate_limited
        )
    };
    Err(format!(
        "{} by the summary, {} in the log ({erased} bodies erased)",
        words(&told),
        words(&found),
    ))
}

/// Whether `told` is what was found, and what was erased since: each erased body one call, however it ended.
fn fits(told: &Counts, found: &Counts, erased: u64) -> bool {
    let lost = told.calls.checked_sub(found.calls);
    let ended = [
        (told.good, found.good),
        (told.bad, found.bad),
        (told.rate_limited, found.rate_limited),
    ];
    let ended: Option<Vec<u64>> = ended
        .into_iter()
        .map(|(told, found)| told.checked_sub(found))
        .collect();
    match (lost, ended) {
        (Some(lost), Some(ended)) => lost <= erased && ended.iter().sum::<u64>() <= lost,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_fits_exactly_or_by_what_was_erased() {
        let counts = |[calls, good, bad, rate_limited]: [u64; 4]| Counts {
            calls,
            good,
            bad,
            rate_limited,
        };
        let fits = |told, found, erased| fits(&counts(told), &counts(found), erased);
        let found = [200, 190, 6, 1];
        assert!(fits(found, found, 0) && fits(found, found, 9));
        // Something else than what is there, with as many calls or with more.
        for told in [
            [200, 191, 6, 1],
            [200, 191, 5, 1],
            [200, 189, 6, 1],
            [201, 191, 6, 1],
        ] {
            assert!(!fits(told, found, 0), "{told:?}");
        }
        assert!(fits([201, 191, 6, 1], found, 1) && fits([201, 190, 6, 1], found, 1));
        assert!(!fits([201, 192, 6, 1], found, 1), "one body is one call");
        assert!(!fits([200, 191, 6, 1], found, 1), "and not another outcome");
        assert!(!fits([202, 190, 6, 1], found, 1));
        assert!(
            !fits([199, 190, 6, 1], found, 5),
            "what is there was not said"
        );
    }
}
