//! `longrun history`: what a log says about each endpoint, and files that take it elsewhere.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use record::SignerId;
use reliability::fold::{EndpointReport, History, Report};
use reliability::forecast::fold::Forecasts;
use reliability::imported::Evidence;
use reliability::kt::Alpha;

mod compute;
mod export;
mod groups;
mod import;
mod owners;
mod predicted;
pub(crate) mod recount;
mod source;
pub(crate) mod spot;
mod summarise;
pub(crate) mod verify;

use source::Source;

mod dimensions;

/// What to do with histories.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fold a log and print calls, failures and intervals per endpoint.
    Show(Show),
    /// Write a log, or what it says about some endpoints, as one file that others can check.
    Export(export::Export),
    /// Write signed summaries of a log into that log, for histories too large to carry their records.
    Summarise(summarise::Summarise),
    /// Check a history file offline, and fold it again.
    Verify(verify::Verify),
    /// Keep what others saw beside your own records, if it is valid under your policy.
    Import(import::Import),
    /// Take away an imported history.
    Forget(import::Forget),
    /// Fold a request log that nobody signed.
    Compute(compute::Compute),
}

/// Arguments of `history show`.
#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    source: Source,
    /// Count what this observer saw, and nobody else: its id, as `longrun gateway` prints it. The digest
    /// is then that of its gateway.
    #[arg(long, value_name = "ID")]
    observer: Option<SignerId>,
    /// Where imported histories lie; what they say is shown beside your own figures. Without this,
    /// those in longrun-data/imported, if there are any.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = import::DIRECTORY)]
    imported: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Show(arguments) => arguments.run()?,
            Self::Export(arguments) => arguments.run()?,
            Self::Compute(arguments) => arguments.run()?,
            Self::Summarise(arguments) => return arguments.run(),
            Self::Import(arguments) => return arguments.run(),
            Self::Forget(arguments) => return arguments.run(),
            Self::Verify(arguments) => return arguments.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(&self) -> Result<()> {
        let selection = self.source.selection()?;
        let log = self.source.open()?;
        let folded = source::fold(&log, &selection, self.observer)?;
        let report = folded.history.report(Alpha::FIVE_PERCENT);
        let imported = self.imported()?;
        if self.json {
            let mut document = document(&report, &folded.history, &folded.forecasts)?;
            if let Some(imported) = &imported {
                document["imported"] = serde_json::to_value(imported.told())?;
            }
            println!("{}", serde_json::to_string_pretty(&document)?);
            return Ok(());
        }
        print(&report, log.key().name(), &folded);
        owners::print(&folded.history, &report);
        if let Some(imported) = &imported {
            import::print(imported);
        }
        Ok(())
    }

    /// What others saw: of the directory that was named, else of the usual one, which nobody asked
    /// for, so that it hides nobody's own figures if it cannot be read.
    fn imported(&self) -> Result<Option<Evidence>> {
        if let Some(dir) = &self.imported {
            return import::read(dir).map(Some);
        }
        let usual = Path::new(import::DIRECTORY);
        if !usual.is_dir() {
            return Ok(None);
        }
        let read = import::read(usual);
        if let Err(why) = &read {
            eprintln!("imported histories are left out: {why:#}");
        }
        Ok(read.ok())
    }
}

/// A history as JSON, the same for a log and for a file of it.
fn document(
    report: &Report,
    history: &History,
    forecasts: &Forecasts,
) -> serde_json::Result<serde_json::Value> {
    let mut document = predicted::document(report, forecasts)?;
    document["owner_changes"] = owners::document(history, report)?;
    Ok(document)
}

fn print(report: &Report, origin: &str, folded: &source::Folded) {
    println!(
        "log {origin}: {} records, {} bodies erased",
        report.records, folded.erased
    );
    println!("digest {}", report.digest);
    print_endpoints(report, |endpoint| {
        predicted::lines(&predicted::of(&folded.forecasts, endpoint))
    });
}

/// Each endpoint, followed by what `more` says of it.
fn print_endpoints(report: &Report, more: impl Fn(&EndpointReport) -> Vec<String>) {
    if report.endpoints.is_empty() {
        println!("No endpoint has been observed yet.");
        return;
    }
    for endpoint in &report.endpoints {
        print_endpoint(endpoint);
        for line in more(endpoint) {
            println!("  {line}");
        }
    }
    groups::print("model", "providers", &report.models);
    groups::print("provider", "models", &report.providers);
    let level = 100.0 - f64::from(report.alpha_ppm) / 10_000.0;
    println!("\nIntervals at {level} %. They cover {}.", report.covers);
}

fn print_endpoint(endpoint: &EndpointReport) {
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    println!("\n{} / {}", endpoint.provider, endpoint.model);
    println!(
        "  calls {}, served well {}, failed {} (the provider's fault), 429 {}",
        endpoint.calls, endpoint.successes, endpoint.failures, endpoint.rate_limited
    );
    let [low, high] = endpoint.interval_ppm;
    println!("  served well: {} to {}", percent(low), percent(high));
    if endpoint.unknown > 0 {
        let [low, high] = endpoint.worst_case_ppm;
        println!(
            "  {} numbers have no outcome ({} voided, {} missing so far): {} to {} whatever they were",
            endpoint.unknown,
            endpoint.voids,
            endpoint.gaps,
            percent(low),
            percent(high)
        );
    } else if endpoint.gaps > 0 {
        println!(
            "  {} numbers below the latest have no record yet",
            endpoint.gaps
        );
    }
    if !endpoint.outcomes.is_empty() {
        let outcomes: Vec<_> = endpoint
            .outcomes
            .iter()
            .map(|(o, n)| format!("{o} {n}"))
            .collect();
        println!("  outcomes: {}", outcomes.join(", "));
    }
    dimensions::print(endpoint);
    if endpoint.unilateral {
        println!("  unilateral: only the caller keeps records, so completeness is its claim");
    }
    if endpoint.equivocations + endpoint.contradictions > 0 {
        println!(
            "  {} numbers with two records, {} with a record and a void: a signer contradicts itself",
            endpoint.equivocations, endpoint.contradictions
        );
    }
}
