//! Evidence of others: averaged over independent observers, or not given at all.
//!
//! Calls of one client go well or badly together, and one party may pose as many. So each cluster of
//! clients counts as one score, its own share, however many calls it made; no cluster weighs
//! more than 5 %, and so there have to be at least 20. What they say is an interval for the
//! mean over clusters ([`crate::share`]). It protects against a loud observer, not against a party
//! that owns most of the clusters: whose clusters count is the policy's business.
//!
//! [`Evidence`] puts together what imported histories say, from their [`Summary`]s. Among histories
//! the independent unit is the observer, an identity that the importer's policy names: clusters
//! inside one observer's records are that observer's word, and whoever runs it could make up any
//! number of them.
//!
//! It is shown beside one's own figures and never added to them. Routing alone borrows from it, for
//! endpoints that are cold: see [`Evidence::prior`].

use std::collections::BTreeMap;

use record::{Digest, Endpoint, Outcome, Predicate, Provider, Record, SignerId};
use serde::{Deserialize, Serialize};

use crate::forecast::pool::Pool;
use crate::level::{Alpha, Interval};
use crate::share::{self, float};

/// Fewer clusters than this say nothing: each may weigh 5 % at most.
pub const CLUSTERS_MIN: usize = 20;

/// What independent observers say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Imported {
    /// Too few independent observers.
    TooFew {
        /// How many there are.
        clusters: usize,
    },
    /// The mean share of good outcomes over clusters.
    Mean {
        /// How many there are.
        clusters: usize,
        /// What it is among those that there are.
        mean: f64,
        /// Where the mean lies.
        interval: Interval,
    },
}

/// Averages clusters, given as (good, bad) outcomes each. One without outcomes is none.
#[must_use]
pub fn average(clusters: impl IntoIterator<Item = (u64, u64)>, alpha: Alpha) -> Imported {
    let (mut count, mut total) = (0, 0.0);
    for (good, bad) in clusters {
        // The numbers are another's: their sum may be beyond what a u64 holds.
        let all = float(good) + float(bad);
        if all > 0.0 {
            count += 1;
            total += float(good) / all;
        }
    }
    if count < CLUSTERS_MIN {
        return Imported::TooFew { clusters: count };
    }
    Imported::Mean {
        clusters: count,
        mean: total / float(count as u64),
        interval: share::interval(total, count as u64, alpha),
    }
}

/// Outcomes of its own that the evidence of others weighs as much as, however much there is of it.
pub const PRIOR_OUTCOMES: f64 = 10.0;

/// What one observer saw of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Attempts that were served well.
    pub successes: u64,
    /// Attempts that failed by the provider's fault.
    pub failures: u64,
    /// Who summed it up, where the history held signed sums in the place of records: their word stands
    /// in for what the records would show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summed_up_by: Option<SignerId>,
}

impl Seen {
    /// What counts first of two that are of one observer: records before sums, then the larger.
    fn weight(&self) -> (bool, u64) {
        // The numbers may be another's.
        let judged = self.successes.saturating_add(self.failures);
        (self.summed_up_by.is_none() && judged > 0, judged)
    }
}

/// What each observer saw of one endpoint.
pub type Observers = BTreeMap<SignerId, Seen>;

/// What each observer saw of each endpoint, counted from records that a fold has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Endpoint, Observers>);

impl Tally {
    /// Counts an observation. An observer that is the provider itself is none: nobody grades itself.
    pub fn add(&mut self, record: &Record) {
        let Predicate::Observation(seen) = &record.statement.predicate else {
            return;
        };
        let (endpoint, observer) = (&seen.stream.endpoint, record.signer_id());
        if endpoint.provider == Provider::Joined(observer) {
            return;
        }
        let observers = self.0.entry(endpoint.clone()).or_default();
        let counts = observers.entry(observer).or_default();
        counts.successes += u64::from(seen.outcome == Outcome::Ok);
        counts.failures += u64::from(seen.counts_against_endpoint());
    }

    /// Takes a sum that `by` signed, of what an observer saw of an endpoint. Of several sums of one
    /// observer the one of most outcomes counts, and records before any sum. A provider does not sum up what others say of it.
    pub fn add_sum(&mut self, endpoint: &Endpoint, observer: SignerId, by: SignerId, seen: Seen) {
        if [observer, by]
            .map(Provider::Joined)
            .contains(&endpoint.provider)
        {
            return;
        }
        let observers = self.0.entry(endpoint.clone()).or_default();
        let known = observers.entry(observer).or_default();
        let sum = Seen {
            summed_up_by: Some(by),
            ..seen
        };
        if sum.weight() > known.weight() {
            *known = sum;
        }
    }

    /// What was counted.
    #[must_use]
    pub fn endpoints(&self) -> &BTreeMap<Endpoint, Observers> {
        &self.0
    }
}

/// An imported history in short, as it is kept beside its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The log that it comes from.
    pub origin: String,
    /// Entries that its checkpoint covers.
    pub size: u64,
    /// The digest of its fold; of a history of summaries, which nobody folds, of its file.
    pub digest: Digest,
    /// Records in it.
    pub records: u64,
    /// It holds sums that were signed, in the place of the records that they are of.
    #[serde(default)]
    pub of_summaries: bool,
    /// Names of its signers in the policy of the import.
    pub signers: BTreeMap<SignerId, String>,
    /// What was seen.
    pub endpoints: Vec<EndpointSummary>,
}

/// One endpoint in a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSummary {
    /// Provider id or origin.
    pub provider: String,
    /// Model.
    pub model: String,
    /// What each observer saw.
    pub observers: Observers,
}

/// What imported histories say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence(BTreeMap<Endpoint, Observers>);

/// What others say of one endpoint, as people and programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Provider id or origin.
    pub provider: String,
    /// Model.
    pub model: String,
    /// What follows from it.
    pub together: Together,
    /// Whose evidence it is: what each observer saw.
    pub observers: Observers,
}

/// What the evidence of several observers amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Together {
    /// Too few independent observers: no figure.
    TooFew {
        /// How many there are.
        observers: usize,
        /// How many there have to be.
        needed: usize,
    },
    /// The mean over observers who count alike.
    Averaged {
        /// How many there are.
        observers: usize,
        /// Where the mean lies, ppm.
        interval_ppm: [u32; 2],
    },
}

/// A summary names an endpoint that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{provider}/{model} is no endpoint: {why}")]
pub struct NoEndpoint {
    provider: String,
    model: String,
    why: String,
}

impl Evidence {
    /// Adds a history, as far as `counts` says that what an observer saw counts. An observer
    /// that is in several histories counts once per endpoint, by the one in which it saw most:
    /// histories of one log hold each other's beginning. One that is the provider itself is none.
    ///
    /// # Errors
    /// [`NoEndpoint`], and then nothing of the history is added.
    pub fn add(
        &mut self,
        summary: &Summary,
        counts: impl Fn(SignerId, &Seen) -> bool,
    ) -> Result<(), NoEndpoint> {
        let endpoints = summary.endpoints.iter();
        let read: Vec<(Endpoint, &Observers)> = endpoints
            .map(|of| Ok((of.endpoint()?, &of.observers)))
            .collect::<Result<_, _>>()?;
        for (endpoint, observers) in read {
            self.take(&endpoint, observers, &counts);
        }
        Ok(())
    }

    /// Adds what was counted here from records of several logs, by the same rule.
    pub fn add_tally(&mut self, tally: &Tally, counts: impl Fn(SignerId, &Seen) -> bool) {
        for (endpoint, observers) in tally.endpoints() {
            self.take(endpoint, observers, &counts);
        }
    }

    fn take(
        &mut self,
        endpoint: &Endpoint,
        observers: &Observers,
        counts: &impl Fn(SignerId, &Seen) -> bool,
    ) {
        for (observer, seen) in observers {
            let is_itself = endpoint.provider == Provider::Joined(*observer);
            if is_itself || !counts(*observer, seen) {
                continue;
            }
            let all = self.0.entry(endpoint.clone()).or_default();
            let known = all.entry(*observer).or_default();
            if seen.weight() > known.weight() {
                *known = *seen;
            }
        }
    }

    /// What routing may expect of an endpoint with hardly any record of its own, and of how many
    /// observers it is the mean; `None` where too few say something. It weighs [`PRIOR_OUTCOMES`]
    /// outcomes at most.
    #[must_use]
    pub fn prior(&self, endpoint: &Endpoint) -> Option<(Pool, usize)> {
        let observers = self.0.get(endpoint)?;
        match together(observers) {
            Imported::TooFew { .. } => None,
            Imported::Mean { clusters, mean, .. } => {
                let pool = Pool {
                    mean: (1.0 - mean).clamp(1e-4, 0.99),
                    strength: PRIOR_OUTCOMES,
                };
                Some((pool, clusters))
            }
        }
    }

    /// Endpoint by endpoint.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        let each = self.0.iter();
        each.map(|(endpoint, observers)| Told {
            provider: endpoint.provider.to_string(),
            model: endpoint.model.to_string(),
            together: match together(observers) {
                Imported::TooFew { clusters } => Together::TooFew {
                    observers: clusters,
                    needed: CLUSTERS_MIN,
                },
                Imported::Mean {
                    clusters, interval, ..
                } => Together::Averaged {
                    observers: clusters,
                    interval_ppm: interval.ends_ppm(),
                },
            },
            observers: observers.clone(),
        })
        .collect()
    }
}

impl EndpointSummary {
    fn endpoint(&self) -> Result<Endpoint, NoEndpoint> {
        let no = |why: &dyn std::fmt::Display| NoEndpoint {
            provider: self.provider.clone(),
            model: self.model.clone(),
            why: why.to_string(),
        };
        Ok(Endpoint {
            provider: self.provider.parse().map_err(|e: record::Error| no(&e))?,
            model: self.model.parse().map_err(|e: record::Error| no(&e))?,
        })
    }
}

fn together(observers: &Observers) -> Imported {
    let counts = observers.values();
    let counts = counts.map(|seen| (seen.successes, seen.failures));
    average(counts, Alpha::FIVE_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_observers_say_nothing_however_much_they_say() {
        let few = average([(1_000_000, 0); 19], Alpha::FIVE_PERCENT);
        assert_eq!(few, Imported::TooFew { clusters: 19 });
        let idle = average([(0, 0); 100], Alpha::FIVE_PERCENT);
        assert_eq!(idle, Imported::TooFew { clusters: 0 });
    }

    #[test]
    fn a_loud_cluster_moves_the_mean_by_its_share_alone() {
        let quiet = [(9, 1); 40];
        let loud = quiet.into_iter().chain([(0, 1_000_000_000)]);
        let Imported::Mean {
            interval, clusters, ..
        } = average(loud, Alpha::FIVE_PERCENT)
        else {
            panic!("enough clusters");
        };
        assert_eq!(clusters, 41);
        assert!(interval.upper > 0.9 * 40.0 / 41.0, "{interval:?}");
        assert!(interval.lower > 0.5, "{interval:?}");
    }

    fn signer(number: u8) -> SignerId {
        SignerId::new(Digest::from_bytes([number; 32]))
    }

    fn summary(provider: &str, observers: impl IntoIterator<Item = (u8, u64, u64)>) -> Summary {
        let observers = observers.into_iter().map(|(number, successes, failures)| {
            let seen = Seen {
                successes,
                failures,
                summed_up_by: None,
            };
            (signer(number), seen)
        });
        Summary {
            origin: "log.example".to_owned(),
            size: 9,
            digest: Digest::from_bytes([0; 32]),
            records: 9,
            of_summaries: false,
            signers: BTreeMap::new(),
            endpoints: vec![EndpointSummary {
                provider: provider.to_owned(),
                model: "m".to_owned(),
                observers: observers.collect(),
            }],
        }
    }

    const API: &str = "https://api.example.com";

    fn endpoint(provider: &str) -> Endpoint {
        Endpoint {
            provider: provider.parse().expect("a provider"),
            model: "m".parse().expect("a model"),
        }
    }

    #[test]
    fn only_whom_the_policy_names_counts_and_once() {
        let mut evidence = Evidence::default();
        let many = summary(API, (0..30).map(|n| (n, 9, 1)));
        let longer = summary(API, (0..30).map(|n| (n, 18, 2)));
        for history in [&longer, &many, &many] {
            evidence.add(history, |_, _| true).expect("endpoints");
        }
        let (pool, observers) = evidence.prior(&endpoint(API)).expect("enough");
        assert_eq!((observers, pool.strength), (30, PRIOR_OUTCOMES));
        assert!((pool.mean - 0.1).abs() < 1e-9, "{pool:?}");
        let first = evidence.told()[0].observers[&signer(0)];
        assert_eq!((first.successes, first.failures), (18, 2), "not 36 and 4");

        let mut few = Evidence::default();
        let named = |id: SignerId, _: &Seen| (0..19).any(|n| signer(n) == id);
        few.add(&many, named).expect("endpoints");
        assert_eq!(few.prior(&endpoint(API)), None);
        let told = few.told()[0].together;
        let too_few = Together::TooFew {
            observers: 19,
            needed: 20,
        };
        assert_eq!(told, too_few);

        let mut nobody = Evidence::default();
        nobody.add(&many, |_, _| false).expect("endpoints");
        assert_eq!(nobody, Evidence::default(), "it trusts nobody: no figure");
    }

    #[test]
    fn sums_count_once_per_observer_and_none_of_the_provider() {
        let seen = |successes| Seen {
            successes,
            ..Seen::default()
        };
        let mut tally = Tally::default();
        for by in [7, 8, 9] {
            tally.add_sum(&endpoint(API), signer(1), signer(by), seen(u64::from(by)));
        }
        let own = endpoint(&signer(3).to_string());
        tally.add_sum(&own, signer(1), signer(3), seen(5));
        tally.add_sum(&own, signer(3), signer(1), seen(5));
        let told = tally.endpoints();
        assert_eq!(told.keys().collect::<Vec<_>>(), [&endpoint(API)]);
        let of = told[&endpoint(API)][&signer(1)];
        assert_eq!((of.successes, of.summed_up_by), (9, Some(signer(9))));
    }

    #[test]
    fn nobody_grades_itself_in_somebody_elses_file_either() {
        let own = signer(3).to_string();
        let mut evidence = Evidence::default();
        let history = summary(&own, (0..30).map(|n| (n, 9, 1)));
        evidence.add(&history, |_, _| true).expect("endpoints");
        assert_eq!(evidence.told()[0].observers.len(), 29);
        let broken = summary("no provider", [(1, 1, 1)]);
        let error = evidence.add(&broken, |_, _| true).expect_err("refused");
        assert!(error.to_string().contains("no provider/m"), "{error}");
    }
}
