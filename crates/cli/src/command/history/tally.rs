//! What each observer of a history saw, endpoint by endpoint.

use std::collections::BTreeMap;

use record::{Endpoint, Outcome, Predicate, Provider, Record};
use reliability::imported::Observers;

/// Counts by endpoint and observer.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<Endpoint, Observers>);

impl Tally {
    /// Counts an observation that the fold has counted. An observer that is the provider itself is
    /// none: nobody grades itself.
    pub(crate) fn add(&mut self, record: &Record) {
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

    pub(crate) fn endpoints(&self) -> &BTreeMap<Endpoint, Observers> {
        &self.0
    }
}
