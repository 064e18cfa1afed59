//! Above the endpoint: one model across its providers, one provider across its models.

use std::collections::BTreeMap;

use serde::Serialize;

use super::EndpointReport;
use crate::level::Alpha;
use crate::share;

/// Endpoints that share a model or a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupReport {
    /// The model, or the provider.
    pub name: String,
    /// How many endpoints.
    pub endpoints: u64,
    /// Attempts observed.
    pub calls: u64,
    /// Answers that were whole, well formed and in time.
    pub successes: u64,
    /// Attempts that failed by the provider's fault.
    pub failures: u64,
    /// The share served well over all of them, as it was called: the mix of endpoints is in it.
    pub interval_ppm: [u32; 2],
    /// The lowest of the endpoints' [`EndpointReport::lower_ppm`].
    pub weakest_lower_ppm: u32,
    /// The highest of them.
    pub best_lower_ppm: u32,
}

/// Groups by a name, in its order.
pub(super) fn groups(
    endpoints: &[EndpointReport],
    name: impl Fn(&EndpointReport) -> &str,
    alpha: Alpha,
) -> Vec<GroupReport> {
    let mut groups: BTreeMap<&str, Vec<&EndpointReport>> = BTreeMap::new();
    for endpoint in endpoints {
        groups.entry(name(endpoint)).or_default().push(endpoint);
    }
    groups
        .into_iter()
        .map(|(name, members)| {
            let sum = |figure: fn(&EndpointReport) -> u64| {
                members.iter().map(|member| figure(member)).sum::<u64>()
            };
            let lowers = || members.iter().map(|member| member.lower_ppm);
            let (successes, failures) = (sum(|e| e.successes), sum(|e| e.failures));
            GroupReport {
                name: name.to_owned(),
                endpoints: members.len() as u64,
                calls: sum(|e| e.calls),
                successes,
                failures,
                interval_ppm: share::of_counts(successes, failures, alpha).ends_ppm(),
                weakest_lower_ppm: lowers().min().unwrap_or(0),
                best_lower_ppm: lowers().max().unwrap_or(0),
            }
        })
        .collect()
}
