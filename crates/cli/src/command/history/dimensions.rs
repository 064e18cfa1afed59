//! The figures of an endpoint, dimension by dimension, as lines of text.

use reliability::fold::{DetectorReport, DetectorState, DimensionReport, EndpointReport};

/// Prints what is known of each dimension, incidents, and how much time is unknown.
pub(super) fn print(endpoint: &EndpointReport) {
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
        println!("  {} of the calls were checks", endpoint.checks);
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

fn print_dimension(of: &DimensionReport) {
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    let range = |[low, high]: [u32; 2]| format!("{} to {}", percent(low), percent(high));
    let name = of.dimension;
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
    if let Some(bands) = of.lifetime_bands {
        let band = |(from, below): (u64, Option<u64>)| match below {
            Some(below) => format!("{from} to {below}"),
            None => format!("over {from}"),
        };
        println!(
            "  {name}, µs: median {}, p90 {}, p99 {} ({} measured, {} given up before)",
            band(bands.p50_us),
            band(bands.p90_us),
            band(bands.p99_us),
            of.judged,
            bands.given_up,
        );
    }
    println!("    {}", watching(&of.detector));
    for verdict in &of.verdicts {
        println!("    alarm {}: {}", verdict.alarm, verdict.in_words);
    }
}

fn watching(detector: &DetectorReport) -> String {
    let alarms = match detector.alarms {
        0 => "no alarm".to_owned(),
        1 => "1 alarm".to_owned(),
        more => format!("{more} alarms"),
    };
    let (DetectorState::Watching, Some(baseline)) = (detector.state, detector.baseline_ppm) else {
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
