//! `longrun history`: what a log says about each endpoint, and files that take it elsewhere.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use record::SignerId;
use reliability::fold::{History, Report};
use reliability::forecast::fold::Forecasts;
use reliability::imported::Evidence;
use reliability::kt::Alpha;
use serde::Deserialize as _;

mod compute;
mod export;
mod figures;
mod groups;
mod import;
mod owners;
mod predicted;
pub(crate) mod recount;
mod source;
pub(crate) mod spot;
mod summarise;
pub(crate) mod verify;

mod dimensions;

use crate::asking::{Ask, GATEWAY_DEFAULT};
use crate::files::Unusable;
use figures::{EndpointFigures, Figures, GatewayFigures};
use source::Source;

/// What to do with histories.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fold a log, or ask a gateway, and print calls, failures and intervals per endpoint.
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
    /// Ask this running gateway for its own history instead: the only one there is where it keeps no log.
    #[arg(
        long,
        value_name = "URL",
        num_args = 0..=1,
        default_missing_value = GATEWAY_DEFAULT,
        conflicts_with_all = [
            "log", "endpoint", "provider", "log_vkey", "read_token", "published", "observer", "imported",
        ],
    )]
    gateway: Option<String>,
    /// A key of the gateway, where it wants one.
    #[arg(long, env = "LONGRUN_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
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
        if let Some(gateway) = &self.gateway {
            return self.of_gateway(gateway);
        }
        self.is_there()?;
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
        print(&Figures::of(&report)?, log.key().name(), &folded);
        owners::print(&folded.history, &report);
        if let Some(imported) = &imported {
            import::print(&imported.told(), "the policy of each import");
        }
        Ok(())
    }

    /// The history that a gateway folds and routes by.
    fn of_gateway(&self, gateway: &str) -> Result<()> {
        let ask = Ask::of(gateway, self.api_key.as_deref());
        let path = "/longrun/v1/history";
        let document = ask.get(path)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&document)?);
            return Ok(());
        }
        let told = GatewayFigures::deserialize(document);
        let told = told.with_context(|| format!("{}: not a history", ask.url(path)))?;
        let of = match &told.log {
            Some(log) => format!(
                "its own of log {}, {} entries",
                log.origin
                    .as_deref()
                    .unwrap_or("that did not say its name yet"),
                log.size.unwrap_or(0)
            ),
            None => "what it keeps itself".to_owned(),
        };
        println!("gateway {gateway}: {} records, {of}", told.figures.records);
        if let Some(why) = told.log.as_ref().and_then(|log| log.error.as_ref()) {
            println!("not up to date: {why}");
        }
        println!("digest {}", told.figures.digest);
        print_endpoints(&told.figures, |_| Vec::new());
        if let Some(others) = &told.imported {
            import::print(&others.endpoints, "the gateway's policy");
            if let Some(why) = &others.error {
                println!("imported histories cannot be read: {why}");
            }
        }
        Ok(())
    }

    /// Says what else there may be where nobody named a log and there is none at the usual place.
    fn is_there(&self) -> Result<()> {
        let log = &self.source.log;
        if log.contains("://") || Path::new(log).exists() {
            return Ok(());
        }
        let why = format!(
            "there is no log at {log}: name one with --log, or ask a gateway for its own history with \
             --gateway ({GATEWAY_DEFAULT} unless it is elsewhere)"
        );
        Err(Unusable(why).into())
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

fn print(figures: &Figures, origin: &str, folded: &source::Folded) {
    println!(
        "log {origin}: {} records, {} bodies erased",
        figures.records, folded.erased
    );
    println!("digest {}", figures.digest);
    print_endpoints(figures, |of| {
        predicted::lines(&predicted::of(&folded.forecasts, &of.provider, &of.model))
    });
}

/// Each endpoint, followed by what `more` says of it.
fn print_endpoints(report: &Figures, more: impl Fn(&EndpointFigures) -> Vec<String>) {
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

fn print_endpoint(endpoint: &EndpointFigures) {
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    println!("\n{} / {}", endpoint.provider, endpoint.model);
    println!(
        "  attempts {}, served well {}, failed {} (the provider's fault), 429 {}",
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
