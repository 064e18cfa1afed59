//! How predictable each endpoint has been, by the forecasts that are in the log itself.

use record::Endpoint;
use reliability::fold::Report;
use reliability::forecast::fold::{Forecasts, Predicted, Rule};
use serde_json::Value;

/// The forecasts of the first observer in a log, under what holds where nobody says anything.
pub(super) fn forecasts() -> Forecasts {
    Forecasts::of_first_observer(vec![Rule::availability()])
}

/// Coverage and width of the intervals that were issued beforehand, by length of window.
pub(super) fn of(forecasts: &Forecasts, provider: &str, model: &str) -> Vec<Predicted> {
    let (provider, model) = (provider.parse(), model.parse());
    match (provider, model) {
        (Ok(provider), Ok(model)) => forecasts.predictability(&Endpoint { provider, model }),
        _ => Vec::new(),
    }
}

/// A history as JSON, with how predictable each endpoint has been.
pub(super) fn document(report: &Report, forecasts: &Forecasts) -> serde_json::Result<Value> {
    let mut document = serde_json::to_value(report)?;
    for (at, endpoint) in report.endpoints.iter().enumerate() {
        document["endpoints"][at]["predictability"] =
            serde_json::to_value(of(forecasts, &endpoint.provider, &endpoint.model))?;
    }
    Ok(document)
}

/// A line for each length of window of which something is known, or why there is none.
pub(super) fn lines(predicted: &[Predicted]) -> Vec<String> {
    let known: Vec<String> = predicted
        .iter()
        .filter(|it| it.intervals.ended > 0)
        .map(line)
        .collect();
    if known.is_empty() {
        let none = "predictability: no window that was foretold has ended (99 % served well)";
        return vec![none.to_owned()];
    }
    known
}

fn line(of: &Predicted) -> String {
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    let intervals = &of.intervals;
    let [low, high] = intervals.coverage_ppm.map(percent);
    let width = intervals
        .mean_width_ppm
        .map_or_else(|| "not known".to_owned(), percent);
    format!(
        "predictability by the {}: {} of {} intervals issued beforehand covered ({low} to {high}); mean \
         width {width}, {} held everything",
        of.length,
        intervals.covered,
        intervals.ended,
        percent(intervals.whole_line_ppm)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliability::forecast::Predictability;

    #[test]
    fn what_is_known_is_a_line_and_what_is_not_is_said() {
        let mut by_hour = Predicted {
            objective: "availability".to_owned(),
            dimension: "availability",
            length: "hour",
            intervals: Predictability {
                ended: 0,
                covered: 0,
                coverage_ppm: [0, 1_000_000],
                mean_width_ppm: None,
                whole_line_ppm: 0,
                not_issued_ppm: 0,
            },
        };
        assert!(lines(&[by_hour.clone()])[0].contains("no window that was foretold has ended"));
        by_hour.intervals = Predictability {
            ended: 10,
            covered: 9,
            coverage_ppm: [400_000, 1_000_000],
            mean_width_ppm: Some(25_000),
            whole_line_ppm: 100_000,
            not_issued_ppm: 0,
        };
        assert_eq!(
            lines(&[by_hour]),
            [
                "predictability by the hour: 9 of 10 intervals issued beforehand covered (40.00 % to \
                 100.00 %); mean width 2.50 %, 10.00 % held everything"
            ]
        );
    }
}
