//! One model across its providers, one provider across its models, as lines of text.

use super::dimensions::quantiles;
use super::figures::{GroupDimensionFigures, GroupFigures};

/// Prints the groups that sum up more than one endpoint; the others say what their endpoint says.
pub(super) fn print(of: &str, across: &str, groups: &[GroupFigures]) {
    for group in groups.iter().filter(|group| group.endpoints > 1) {
        println!("\n{of} {} across {} {across}", group.name, group.endpoints);
        for line in lines(group) {
            println!("  {line}");
        }
    }
}

fn percents([low, high]: [u32; 2]) -> String {
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    format!("{:.2} % to {:.2} %", percent(low), percent(high))
}

fn lines(group: &GroupFigures) -> Vec<String> {
    let mut lines = vec![
        format!(
            "attempts {}, served well {}, failed {} (the provider's fault), 429 {}",
            group.calls, group.successes, group.failures, group.rate_limited
        ),
        format!(
            "served well: {}, as it was called; lower ends from {:.2} % to {:.2} %",
            percents(group.interval_ppm),
            f64::from(group.weakest_lower_ppm) / 10_000.0,
            f64::from(group.best_lower_ppm) / 10_000.0
        ),
    ];
    if group.unknown > 0 {
        lines.push(format!(
            "{} numbers have no outcome: {} whatever they were",
            group.unknown,
            percents(group.worst_case_ppm)
        ));
    }
    let judged = group.dimensions.iter().filter(|it| it.judged > 0);
    lines.extend(judged.map(dimension));
    if group.incidents > 0 {
        lines.push(format!(
            "incidents: {}, {} of the endpoints have one that lasts",
            group.incidents, group.incidents_open
        ));
    }
    lines
}

fn dimension(of: &GroupDimensionFigures) -> String {
    let name = &of.dimension;
    let alarms = match of.alarms {
        0 => String::new(),
        1 => ", 1 alarm".to_owned(),
        more => format!(", {more} alarms"),
    };
    if let Some(bands) = &of.lifetime_bands {
        return format!(
            "{name}, µs: {} ({} measured at {} endpoints, {} given up before{alarms})",
            quantiles(bands),
            of.judged,
            of.endpoints,
            bands.given_up,
        );
    }
    let judged = match of.bad {
        Some(bad) => format!("{} of {} good", of.judged - bad, of.judged),
        None => format!("{} batches of repeats", of.judged),
    };
    let lifetime = percents(of.lifetime_ppm.unwrap_or_default());
    let standard = percents(of.standardised_ppm.unwrap_or_default());
    let unknown = f64::from(of.standardised_unknown_ppm.unwrap_or_default()) / 10_000.0;
    format!(
        "{name}: {judged} at {} endpoints, {lifetime}; with standard conditions {standard} ({unknown:.2} % of them \
         never tried){alarms}",
        of.endpoints,
    )
}
