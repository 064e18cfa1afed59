//! Above the endpoint: one model across its providers, one provider across its models.
//!
//! Sums of what the endpoints hold, dimension by dimension; an interval is that of the sum, as it was
//! called. Epochs, baselines and evidence stay with the endpoints: mixed, they would be of nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::EndpointReport;
use super::dimension::{CellReport, QuantileBands, cells};
use crate::fold::dimension::{Durations, Shares};
use crate::fold::judged::{Judged, WHOLE_PPM};
use crate::fold::state::EndpointState;
use crate::fold::strata::{STRATA, Tally, standardised};
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
    /// Attempts that were answered 429; part of neither.
    pub rate_limited: u64,
    /// Attempts by outcome; what did not happen is left out.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// The share served well over all of them, as it was called: the mix of endpoints is in it.
    pub interval_ppm: [u32; 2],
    /// The same if every unknown number were a failure (lower end) or a success (upper end).
    pub worst_case_ppm: [u32; 2],
    /// Numbers of observations that were given out and have no outcome.
    pub unknown: u64,
    /// At how many endpoints they are more than is tolerated.
    pub unknown_count_at: u64,
    /// The lowest of the endpoints' [`EndpointReport::lower_ppm`].
    pub weakest_lower_ppm: u32,
    /// The highest of them.
    pub best_lower_ppm: u32,
    /// Incidents so far, those that last included.
    pub incidents: u64,
    /// How many of the endpoints have one that lasts.
    pub incidents_open: u64,
    /// Dimension by dimension.
    pub dimensions: Vec<GroupDimension>,
}

/// One dimension of a group. Shares are those of good outcomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupDimension {
    /// Its name.
    pub dimension: &'static str,
    /// Outcomes, durations or batches of repeats that were judged.
    pub judged: u64,
    /// How many of them were bad; absent for durations and batches.
    pub bad: Option<u64>,
    /// How many of the endpoints they are of.
    pub endpoints: u64,
    /// The share of good outcomes over the whole history, as it was called.
    pub lifetime_ppm: Option<[u32; 2]>,
    /// The same as if every endpoint had one mix of conditions.
    pub standardised_ppm: Option<[u32; 2]>,
    /// Weight of the conditions of that mix of which nothing is known.
    pub standardised_unknown_ppm: Option<u32>,
    /// The same by conditions, all of them at once, where something was judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<CellReport>,
    /// Quantiles over the whole history.
    pub lifetime_bands: Option<QuantileBands>,
    /// Alarms so far at any of the endpoints.
    pub alarms: u64,
}

/// An endpoint of a group.
type Member<'a> = (&'a EndpointReport, &'a EndpointState);

/// Groups by a name, in its order.
pub(super) fn groups(
    endpoints: &[Member<'_>],
    name: impl Fn(&EndpointReport) -> &str,
    alpha: Alpha,
) -> Vec<GroupReport> {
    let mut groups: BTreeMap<&str, Vec<Member<'_>>> = BTreeMap::new();
    for member in endpoints {
        groups.entry(name(member.0)).or_default().push(*member);
    }
    let each = groups.into_iter();
    each.map(|(name, members)| GroupReport::of(name, &members, alpha))
        .collect()
}

impl GroupReport {
    fn of(name: &str, members: &[Member<'_>], alpha: Alpha) -> Self {
        let sum = |figure: fn(&EndpointReport) -> u64| {
            let each = members.iter().map(|(report, _)| figure(report));
            each.sum::<u64>()
        };
        let lowers = || members.iter().map(|(report, _)| report.lower_ppm);
        let (successes, failures) = (sum(|e| e.successes), sum(|e| e.failures));
        let unknown = sum(|e| e.unknown);
        let mut outcomes = BTreeMap::new();
        for (outcome, count) in members.iter().flat_map(|(report, _)| &report.outcomes) {
            *outcomes.entry(*outcome).or_default() += count;
        }
        Self {
            name: name.to_owned(),
            endpoints: members.len() as u64,
            calls: sum(|e| e.calls),
            successes,
            failures,
            rate_limited: sum(|e| e.rate_limited),
            outcomes,
            interval_ppm: share::of_counts(successes, failures, alpha).ends_ppm(),
            worst_case_ppm: [
                share::of_counts(successes, failures + unknown, alpha).lower_ppm(),
                share::of_counts(successes + unknown, failures, alpha).upper_ppm(),
            ],
            unknown,
            unknown_count_at: sum(|e| u64::from(e.unknown_counts)),
            weakest_lower_ppm: lowers().min().unwrap_or(0),
            best_lower_ppm: lowers().max().unwrap_or(0),
            incidents: sum(|e| e.incidents.count),
            incidents_open: sum(|e| u64::from(e.incidents.open_since_ms.is_some())),
            dimensions: dimensions(members, alpha),
        }
    }
}

/// Every dimension that records measure.
fn dimensions(members: &[Member<'_>], alpha: Alpha) -> Vec<GroupDimension> {
    let states = || members.iter().map(|(_, state)| *state);
    let shares =
        |name, of: fn(&EndpointState) -> &Shares| of_shares(name, states().map(of), 1, alpha);
    let judged = |name, of: fn(&Judged) -> &Shares, whole| {
        let some = states().filter_map(|state| state.judged.as_deref());
        of_shares(name, some.map(of), whole, alpha)
    };
    let durations =
        |name, of: fn(&EndpointState) -> &Durations| of_durations(name, states().map(of), alpha);
    let mut all = vec![
        shares("availability", |state| &state.availability),
        durations("first_token", |state| &state.first_token.lifetime),
        durations("inter_token", |state| &state.inter_token.lifetime),
        shares("schema", |state| &state.schema),
        shares("tools", |state| &state.tools),
        judged("correctness_checks", |it| &it.checked, 1),
        judged("correctness_reports", |it| &it.reported, 1),
        judged("consistency", |it| &it.agreement, WHOLE_PPM),
    ];
    for of in &mut all {
        let reports = members.iter().flat_map(|(report, _)| &report.dimensions);
        let same = reports.filter(|it| it.dimension == of.dimension);
        of.alarms = same.map(|it| it.detector.alarms).sum();
    }
    all
}

/// Shares, or scores that add `whole` each.
fn of_shares<'a>(
    dimension: &'static str,
    members: impl Iterator<Item = &'a Shares>,
    whole: u64,
    alpha: Alpha,
) -> GroupDimension {
    let (mut tallies, mut endpoints) = ([Tally::default(); STRATA], 0);
    for shares in members {
        endpoints += u64::from(Tally::sum(&shares.lifetime).judged() > 0);
        for (sum, tally) in tallies.iter_mut().zip(shares.lifetime) {
            sum.add(tally);
        }
    }
    let lifetime = Tally::sum(&tallies);
    let (standard, unknown) = standardised(&tallies, whole, alpha);
    GroupDimension {
        dimension,
        judged: lifetime.judged() / whole,
        bad: (whole == 1).then_some(lifetime.bad),
        endpoints,
        lifetime_ppm: Some(lifetime.interval(whole, alpha).ends_ppm()),
        standardised_ppm: Some(standard.ends_ppm()),
        standardised_unknown_ppm: Some(unknown),
        cells: cells(&tallies, whole, alpha),
        lifetime_bands: None,
        alarms: 0,
    }
}

fn of_durations<'a>(
    dimension: &'static str,
    members: impl Iterator<Item = &'a Durations>,
    alpha: Alpha,
) -> GroupDimension {
    let (mut sum, mut endpoints) = (Durations::new(), 0);
    for durations in members {
        endpoints += u64::from(durations.finished.count() > 0);
        sum.merge(durations);
    }
    GroupDimension {
        dimension,
        judged: sum.finished.count(),
        bad: None,
        endpoints,
        lifetime_ppm: None,
        standardised_ppm: None,
        standardised_unknown_ppm: None,
        cells: Vec::new(),
        lifetime_bands: Some(QuantileBands::of(&sum, alpha)),
        alarms: 0,
    }
}
