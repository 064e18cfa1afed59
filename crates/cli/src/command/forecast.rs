//! `longrun forecast`: what a gateway expects of its endpoints, and how good that was before.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::Value;

use super::log::utc;
use crate::asking::{Ask, percent};

/// What to do with forecasts.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print current forecasts per endpoint and objective, with their scores.
    Show(Ask),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self::Show(ask) = self;
        let told = ask.get("/longrun/v1/forecasts")?;
        if ask.json {
            println!("{}", serde_json::to_string_pretty(&told)?);
            return Ok(ExitCode::SUCCESS);
        }
        let endpoints = told["forecasts"].as_array();
        let endpoints = endpoints.context("the gateway's answer holds no list of forecasts")?;
        if endpoints.is_empty() {
            println!("No endpoint has been observed yet, so nothing is foretold.");
        }
        endpoints.iter().for_each(print_endpoint);
        if let Some(note) = told["note"].as_str() {
            println!("\n{note}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_endpoint(told: &Value) {
    let text = |name: &str| told[name].as_str().unwrap_or("?");
    let limit = told["within_us"]
        .as_u64()
        .map(|us| format!(" within {} ms", us / 1000));
    println!(
        "\n{} / {}\n  {}: {} of attempts good{} ({})",
        text("provider"),
        text("model"),
        text("objective"),
        percent(&told["target_ppm"]),
        limit.unwrap_or_default(),
        text("dimension"),
    );
    for window in told["windows"].as_array().into_iter().flatten() {
        print_window(window);
    }
}

fn print_window(window: &Value) {
    let length = window["length"].as_str().unwrap_or("?");
    let current = window["current"].as_array();
    for forecast in current.into_iter().flatten() {
        let interval = match forecast["interval_ppm"].as_array() {
            Some(ends) if ends.len() == 2 => {
                format!("share good {} to {}", percent(&ends[0]), percent(&ends[1]))
            }
            _ => "no interval".to_owned(),
        };
        println!(
            "  {length} from {}: breached with probability {}; {interval}",
            forecast["start_ms"]
                .as_u64()
                .map_or_else(|| "?".to_owned(), |ms| utc(ms / 1000)),
            percent(&forecast["breach_ppm"]),
        );
    }
    let scores = &window["scores"];
    let windows = scores["windows"].as_u64().unwrap_or(0);
    if windows == 0 {
        println!("  {length}: no forecast has been scored yet");
        return;
    }
    println!(
        "  {length}: {windows} scored, {} breached; skill against climatology {}, against persistence {}",
        scores["breached"],
        skill(&scores["against_climatology"]),
        skill(&scores["against_persistence"]),
    );
    println!(
        "  {length}: Brier {}, log {}",
        millionths(&scores["brier_millionths"]),
        millionths(&scores["log_millionths"]),
    );
    println!("  {length}: {}", predictability(&scores["predictability"]));
}

/// Coverage and width of the intervals that were issued beforehand.
fn predictability(of: &Value) -> String {
    format!(
        "{} of {} intervals covered (95 %: {} to {}); mean width {}, {} held everything",
        of["covered"],
        of["ended"],
        percent(&of["coverage_ppm"][0]),
        percent(&of["coverage_ppm"][1]),
        percent(&of["mean_width_ppm"]),
        percent(&of["whole_line_ppm"]),
    )
}

fn skill(against: &Value) -> String {
    let verdict = against["verdict"].as_str().unwrap_or("?");
    let ends = against["interval_ppm"].as_array();
    match (against["skill_ppm"].as_i64(), ends.map(Vec::as_slice)) {
        (Some(_), Some([low, high])) => format!(
            "{} [{}, {}] ({verdict})",
            percent(&against["skill_ppm"]),
            percent(low),
            percent(high)
        ),
        _ => verdict.to_owned(),
    }
}

fn millionths(value: &Value) -> String {
    format!("{:.4}", value.as_f64().unwrap_or(f64::NAN) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictability_reads_as_a_sentence() {
        let told = serde_json::json!({"covered": 9, "ended": 10, "coverage_ppm": [400_000, 1_000_000],
            "mean_width_ppm": 25_000, "whole_line_ppm": 100_000});
        let line = "9 of 10 intervals covered (95 %: 40.00 % to 100.00 %); mean width 2.50 %, 10.00 % held everything";
        assert_eq!(predictability(&told), line);
    }

    #[test]
    fn a_skill_without_figures_is_its_verdict() {
        let few = serde_json::json!({"verdict": "too few windows", "skill_ppm": null});
        assert_eq!(skill(&few), "too few windows");
        let known = serde_json::json!(
            {"verdict": "better", "skill_ppm": 61_000, "interval_ppm": [10_000, 90_000]}
        );
        assert_eq!(skill(&known), "6.10 % [1.00 %, 9.00 %] (better)");
    }
}
