//! The figures of an endpoint, dimension by dimension, as lines of text.

use super::figures::{Bands, DetectorFigures, DimensionFigures, EndpointFigures, Watch};

/// Prints what is known of each dimension, incidents, and how much time is unknown.
pub(super) fn print(endpoint: &EndpointFigures) {
    for dimension in endpoint.dimensions.iter().filter(|d| d.judged > 0) {
        print_dimension(dimension);
    }
    let judgements = &endpoint.judgements;
    if let (Some(pairs), Some(commonest)) = (judgements.agreement_ppm, judgements.commonest_ppm) {
        let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
        println!(
            "  repeats: {:.1} % of pairs agree, the commonest answer has {:.1} % (means over batches)",
            percent(pairs),
            percent(commonest)
        );
    }
    if judgements.orphans + judgements.contradicted > 0 {
        println!(
            "  judgements in no figure: {} of answers that are not here, {} that say otherwise than an earlier one",
            judgements.orphans, judgements.contradicted
        );
    }
    if endpoint.checks > 0 {
        println!("  {} of the attempts were checks", endpoint.checks);
    }
    let incidents = &endpoint.incidents;
    if incidents.count > 0 {
        let now = match incidents.open_since_ms {
            Some(_) => ", one of them lasts",
            None => "",
        };
        let minutes = incidents.closed_ms / 60_000;
        println!(
            "  incidents: {}{now}, {minutes} minutes in all",
            incidents.count
        );
    }
    println!(
        "  observed in {} hours, nothing known of {}",
        endpoint.known_hours, endpoint.unknown_hours
    );
}

fn print_dimension(of: &DimensionFigures) {
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    let range = |[low, high]: [u32; 2]| format!("{} to {}", percent(low), percent(high));
    let name = &of.dimension;
    if let (Some(lifetime), Some(current), Some(standard), Some(unknown)) = (
        of.lifetime_ppm,
        of.current_ppm,
        of.standardised_ppm,
        of.standardised_unknown_ppm,
    ) {
        let judged = match of.bad {
            Some(bad) => format!("{} of {} good", of.judged - bad, of.judged),
            None => format!("{} batches of repeats", of.judged),
        };
        println!(
            "  {name}: {judged}, {} over the whole history, {} in epoch {}",
            range(lifetime),
            range(current),
            of.epoch.number,
        );
        println!(
            "    with standard conditions: {} ({} of them never tried)",
            range(standard),
            percent(unknown)
        );
    }
    if let Some(bands) = &of.lifetime_bands {
        println!(
            "  {name}, µs: {} ({} measured, {} given up before)",
            quantiles(bands),
            of.judged,
            bands.given_up,
        );
    }
    println!("    {}", watching(&of.detector));
    for verdict in &of.verdicts {
        println!("    alarm {}: {}", verdict.alarm, verdict.in_words);
    }
}

/// Where the quantiles of durations lie, µs, as far as so many of them say.
pub(super) fn quantiles(bands: &Bands) -> String {
    let band = |(from, below): (u64, Option<u64>)| match (from, below) {
        (0, None) => None,
        (0, Some(below)) => Some(format!("at most {below}")),
        (from, Some(below)) => Some(format!("{from} to {below}")),
        (from, None) => Some(format!("at least {from}")),
    };
    let named = [
        ("median", band(bands.p50_us)),
        ("p90", band(bands.p90_us)),
        ("p99", band(bands.p99_us)),
    ];
    if named.iter().all(|(_, band)| band.is_none()) {
        return "too few to say".to_owned();
    }
    let each = named.map(|(name, band)| match band {
        Some(band) => format!("{name} {band}"),
        None => format!("{name} not known yet"),
    });
    each.join(", ")
}

fn watching(detector: &DetectorFigures) -> String {
    let alarms = match detector.alarms {
        0 => "no alarm".to_owned(),
        1 => "1 alarm".to_owned(),
        more => format!("{more} alarms"),
    };
    let (Watch::Watching, Some(baseline)) = (detector.state, detector.baseline_ppm) else {
        return format!(
            "{alarms}; the detector learns what is usual ({} units of {} h)",
            detector.units, detector.unit_hours
        );
    };
    let tolerated = f64::from(baseline) / 10_000.0;
    let found = match detector.found_in_30_days_ppm {
        Some(ppm) => format!(
            "about {:.0} % bad would show in 30 days",
            f64::from(ppm) / 10_000.0
        ),
        None => "nothing would show in 30 days".to_owned(),
    };
    format!(
        "{alarms}; up to {tolerated:.1} % bad per {} h is tolerated; {found}",
        detector.unit_hours
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_of_few_durations_is_said_as_far_as_it_is_known() {
        let bands = |p50_us, p90_us, p99_us| {
            quantiles(&Bands {
                p50_us,
                p90_us,
                p99_us,
                given_up: 0,
            })
        };
        assert_eq!(bands((0, None), (0, None), (0, None)), "too few to say");
        assert_eq!(
            bands((0, Some(4756)), (1000, None), (0, None)),
            "median at most 4756, p90 at least 1000, p99 not known yet"
        );
        assert_eq!(
            bands((500, Some(800)), (700, Some(4756)), (800, Some(9000))),
            "median 500 to 800, p90 700 to 4756, p99 800 to 9000"
        );
    }
}
