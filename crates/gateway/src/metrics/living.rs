//! Error budgets, burn rates, concentration and trials, as gauges.
//!
//! Bounded whatever the log holds: endpoints that are offered now and no others, at most
//! [`SERIES_MAX`] pairs of endpoint and objective with the smallest budgets first, and of
//! concentration three figures by three groupings and three spans, and five of each configured network.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use reliability::forecast::fold::ToldObjective;
use reliability::objective::Severity;

use super::{Fate, count, yes};
use crate::alarms::Told;
use crate::concentration::Shares;
use crate::network;
use crate::status::Status;
use crate::traces;

/// Pairs of endpoint and objective that have series: 11 each.
const SERIES_MAX: usize = 200;

type Gauges<L> = Family<L, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct About {
    objective: String,
    provider: String,
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Burn {
    objective: String,
    provider: String,
    model: String,
    window: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Burning {
    objective: String,
    provider: String,
    model: String,
    severity: &'static str,
    /// The long window.
    window: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Spread {
    by: &'static str,
    window: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    log: String,
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    log: String,
}

/// Objectives of the endpoints that are offered: target, what was reached, budget, burn rates.
pub(super) fn objectives(registry: &mut Registry, status: &Status, told: &[ToldObjective]) {
    let offered: BTreeSet<(&str, &str)> = status
        .endpoints
        .iter()
        .filter_map(|it| Some((it.provider.as_deref()?, it.model.as_deref()?)))
        .collect();
    let here = |it: &&ToldObjective| offered.contains(&(it.provider.as_str(), it.model.as_str()));
    let mut shown: Vec<&ToldObjective> = told.iter().filter(here).collect();
    shown.sort_by_key(|it| it.standing.budget_left_thousandths.unwrap_or(i64::MAX));
    let left_out = shown.len().saturating_sub(SERIES_MAX);
    shown.truncate(SERIES_MAX);

    type Each = Gauges<About>;
    let (target, good, budget) = (Each::default(), Each::default(), Each::default());
    let (burn, burning) = (Gauges::<Burn>::default(), Gauges::<Burning>::default());
    for it in shown {
        let about = About {
            objective: it.objective.clone(),
            provider: it.provider.clone(),
            model: it.model.clone(),
        };
        let set = |family: &Each, value| family.get_or_create(&about).set(value);
        set(&target, f64::from(it.target_ppm) / 1e6);
        if let Some(ppm) = it.standing.good_ppm {
            set(&good, count(ppm) / 1e6);
        }
        if let Some(left) = it.standing.budget_left_thousandths {
            set(&budget, left as f64 / 1e3);
        }
        for alarm in &it.standing.alarms {
            for (length_s, rate) in [
                (alarm.long_s, alarm.long_thousandths),
                (alarm.short_s, alarm.short_thousandths),
            ] {
                let Some(rate) = rate else { continue };
                let label = Burn {
                    objective: about.objective.clone(),
                    provider: about.provider.clone(),
                    model: about.model.clone(),
                    window: span(length_s),
                };
                burn.get_or_create(&label).set(count(rate) / 1e3);
            }
            let label = Burning {
                objective: about.objective.clone(),
                provider: about.provider.clone(),
                model: about.model.clone(),
                severity: severity(alarm.severity),
                window: span(alarm.long_s),
            };
            burning.get_or_create(&label).set(yes(alarm.raised));
        }
    }
    let mut add = |name: &str, help: &str, family: Gauges<About>| {
        registry.register(name, help, family);
    };
    add(
        "objective_target_ratio",
        "Share of attempts that must be good",
        target,
    );
    add(
        "objective_good_ratio",
        "Share of attempts that were good in 30 days",
        good,
    );
    add(
        "objective_budget_left_ratio",
        "What is left of the error budget of 30 days; negative when overspent",
        budget,
    );
    registry.register(
        "objective_burn_rate",
        "Bad attempts over those that the objective allows, by window",
        burn,
    );
    registry.register(
        "objective_burning",
        "Whether the burn rate is above its threshold over a long and a short window",
        burning,
    );
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(count(left_out as u64));
    registry.register(
        "objective_left_out",
        "Pairs of endpoint and objective without series, for there are too many",
        gauge,
    );
}

/// How posting to the webhook goes.
pub(super) fn alarms(registry: &mut Registry, told: &Told) {
    let family = Family::<Fate, Counter>::default();
    for (fate, number) in [
        ("posted", told.went.posted),
        ("failed", told.went.failed),
        ("dropped", told.dropped),
    ] {
        family.get_or_create(&Fate { fate }).inc_by(number);
    }
    registry.register(
        "alarms",
        "Alarms taken by the webhook, attempts that it did not take, alarms given up",
        family,
    );
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(count(told.waiting));
    registry.register("alarms_waiting", "Alarms that wait for the webhook", gauge);
}

/// Spans of calls and attempts.
pub(super) fn traces(registry: &mut Registry, told: &traces::Told) {
    let family = Family::<Fate, Counter>::default();
    for (fate, number) in [
        ("exported", told.exported),
        ("dropped", told.dropped),
        ("failed", told.failed),
    ] {
        family.get_or_create(&Fate { fate }).inc_by(number);
    }
    registry.register(
        "spans",
        "Spans taken by the receiver of traces, spans without room in the queue, spans not taken",
        family,
    );
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(count(told.waiting));
    registry.register(
        "spans_waiting",
        "Spans in the queue, and in the batch that is being gathered or posted",
        gauge,
    );
    let counter = Counter::<u64>::default();
    counter.inc_by(told.again);
    registry.register(
        "span_batches_posted_again",
        "Batches of spans posted again",
        counter,
    );
}

/// How concentrated calls are.
pub(super) fn concentration(registry: &mut Registry, shares: &Shares) {
    type Each = Gauges<Spread>;
    let (index, effective, largest) = (Each::default(), Each::default(), Each::default());
    for window in &shares.windows {
        for (by, told) in [
            ("provider", &window.provider),
            ("owner", &window.owner),
            ("origin", &window.origin),
        ] {
            let label = Spread {
                by,
                window: window.window,
            };
            let set = |family: &Each, value| family.get_or_create(&label).set(value);
            if let (Some(hhi), Some(number), Some(share)) = (
                told.of.hhi_ppm,
                told.of.effective_thousandths,
                told.largest_ppm(),
            ) {
                set(&index, f64::from(hhi) / 1e6);
                set(&effective, count(number) / 1e3);
                set(&largest, f64::from(share) / 1e6);
            }
        }
    }
    registry.register(
        "concentration_index",
        "Herfindahl-Hirschman index of attempts: 1 when one party has all",
        index,
    );
    registry.register(
        "concentration_effective_number",
        "So many parties of equal size would be as concentrated",
        effective,
    );
    registry.register(
        "concentration_largest_share_ratio",
        "Share of the largest party",
        largest,
    );
}

/// Where the nodes of each network stand, and whether its log is read.
pub(super) fn networks(registry: &mut Registry, networks: &[network::Told]) {
    let (nodes, up) = (Gauges::<Stage>::default(), Gauges::<Of>::default());
    for told in networks {
        for (stage, number) in [
            ("waiting", told.waiting),
            ("trying", told.trying),
            ("ordinary", told.ordinary),
            ("dropped", told.dropped),
        ] {
            let label = Stage {
                log: told.log.clone(),
                stage,
            };
            nodes.get_or_create(&label).set(count(number as u64));
        }
        let label = Of {
            log: told.log.clone(),
        };
        let reads = told.known && told.error.is_none();
        up.get_or_create(&label).set(yes(reads));
    }
    registry.register(
        "network_nodes",
        "Nodes that wait for a trial, are tried, are ordinary endpoints, are left alone",
        nodes,
    );
    registry.register(
        "network_up",
        "Its log was read to the end, and the last reading went well",
        up,
    );
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Page => "page",
        Severity::Ticket => "ticket",
    }
}

/// A length as people write it: `5m`, `6h`, `3d`.
fn span(seconds: u64) -> String {
    match seconds {
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s => format!("{}m", s / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_people_do() {
        let lengths = [300, 1800, 3600, 6 * 3600, 3 * 86_400].map(span);
        assert_eq!(lengths, ["5m", "30m", "1h", "6h", "3d"]);
    }
}
