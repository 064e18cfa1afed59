//! `longrun history import`: what others saw, kept beside one's own records and never among them.
//!
//! A history that is valid under the importer's policy is copied below a directory of its own,
//! with a summary: whose evidence it is, and what each observer saw. `history show --imported`
//! reads the summaries.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use record::{Digest, Endpoint, SignerId};
use reliability::imported::{CLUSTERS_MIN, Imported, average};
use reliability::kt::Alpha;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tlog::policy::TrustPolicy;
use tlog::verify::Verdict;

use super::tally::Seen;
use super::verify::{Checked, check_file};
use crate::command::verify::read_policy;
use crate::files::{self, Unusable};

/// Where imported histories lie, if nothing else is said.
pub(super) const DIRECTORY: &str = "longrun-data/imported";
/// How the file of a history and its summary end.
const HISTORY: &str = "history";
const SUMMARY: &str = "json";

/// Arguments of `history import`.
#[derive(Args)]
pub(crate) struct Import {
    /// The history to import.
    file: PathBuf,
    /// Whom you trust: a policy that you got from somewhere else than the file.
    #[arg(long)]
    policy: PathBuf,
    /// Where imported histories lie.
    #[arg(long, default_value = DIRECTORY)]
    dir: PathBuf,
}

/// An imported history in short.
#[derive(Serialize, Deserialize)]
struct Summary {
    /// The log that it comes from, and how far it reaches.
    origin: String,
    size: u64,
    digest: Digest,
    records: u64,
    /// Names of its signers in the policy.
    signers: BTreeMap<SignerId, String>,
    endpoints: Vec<EndpointSummary>,
}

#[derive(Serialize, Deserialize)]
struct EndpointSummary {
    provider: String,
    model: String,
    observers: BTreeMap<SignerId, Seen>,
}

impl Import {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let policy = read_policy(Some(&self.policy))?.context("a policy was given")?;
        let checked = check_file(&self.file, Some(&policy), None)?;
        let verdict = checked.found.report.verdict;
        if verdict != Verdict::Valid {
            println!("{}", self.file.display());
            checked.print();
            println!("  not imported: only what is valid under your policy is");
            return Ok(ExitCode::from(verdict.exit_code()));
        }
        let summary = Summary::of(&checked, &policy);
        files::make_dir(&self.dir)?;
        let path = |ending| self.dir.join(format!("{}.{ending}", summary.digest));
        files::write_streamed(&path(HISTORY), |out| {
            let mut from = fs::File::open(&self.file)?;
            std::io::copy(&mut from, out)?;
            Ok(out.flush()?)
        })?;
        // Last: a history counts once its summary is there.
        files::write_whole(&path(SUMMARY), &serde_json::to_vec_pretty(&summary)?)?;
        println!("imported  {}", path(HISTORY).display());
        println!(
            "evidence  {} records of {} at {}",
            summary.records, summary.origin, summary.size
        );
        for (id, name) in &summary.signers {
            println!("signer    {id} {name}");
        }
        println!("It is shown by `longrun history show --imported`, beside your own figures.");
        Ok(ExitCode::SUCCESS)
    }
}

impl Summary {
    fn of(checked: &Checked, policy: &TrustPolicy) -> Self {
        let name = |id: SignerId| policy.signer(id).map_or("", |signer| signer.name.as_str());
        let endpoints = checked.tally.endpoints().iter();
        Self {
            origin: checked.found.origin.clone(),
            size: checked.found.size,
            digest: checked.history.digest(),
            records: checked.found.records,
            signers: checked
                .found
                .signers
                .iter()
                .map(|account| (account.signer, name(account.signer).to_owned()))
                .collect(),
            endpoints: endpoints
                .map(|(endpoint, observers)| EndpointSummary {
                    provider: endpoint.provider.to_string(),
                    model: endpoint.model.to_string(),
                    observers: observers.clone(),
                })
                .collect(),
        }
    }
}

/// What the imported histories say about one endpoint. The independent unit is the observer, an
/// identity that the importer's policy names: client clusters inside one observer's records are
/// that observer's word, and whoever runs it could make up any number of them.
pub(super) struct Evidence {
    endpoint: Endpoint,
    /// Whose evidence it is: what each observer saw.
    observers: BTreeMap<SignerId, Seen>,
}

impl Evidence {
    fn together(&self) -> Imported {
        let counts = self.observers.values();
        let counts = counts.map(|seen| (seen.successes, seen.failures));
        average(counts, Alpha::FIVE_PERCENT)
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let Endpoint { provider, model } = &self.endpoint;
        let together = match self.together() {
            Imported::TooFew { clusters } => {
                json!({"state": "too_few", "observers": clusters, "needed": CLUSTERS_MIN})
            }
            Imported::Mean { clusters, interval } => {
                json!({"state": "averaged", "observers": clusters, "interval_ppm": interval.ends_ppm()})
            }
        };
        json!({"provider": provider.to_string(), "model": model.to_string(), "together": together, "observers": self.observers})
    }
}

/// Reads all summaries. An observer that is in several histories counts once per endpoint, by the
/// one in which it saw most: histories of one log hold each other's beginning.
pub(super) fn read(dir: &Path) -> Result<Vec<Evidence>> {
    let mut all: BTreeMap<Endpoint, BTreeMap<SignerId, Seen>> = BTreeMap::new();
    let entries = fs::read_dir(dir);
    for entry in entries.map_err(|error| Unusable(format!("{}: {error}", dir.display())))? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != SUMMARY) {
            continue;
        }
        let summary: Summary = serde_json::from_slice(&files::read(&path)?)
            .map_err(|error| Unusable(format!("{}: {error}", path.display())))?;
        for endpoint in summary.endpoints {
            let key = Endpoint {
                provider: endpoint.provider.parse()?,
                model: endpoint.model.parse()?,
            };
            let observers = all.entry(key).or_default();
            for (observer, seen) in endpoint.observers {
                let known = observers.entry(observer).or_default();
                if seen.successes + seen.failures > known.successes + known.failures {
                    *known = seen;
                }
            }
        }
    }
    let all = all.into_iter();
    Ok(all
        .map(|(endpoint, observers)| Evidence {
            endpoint,
            observers,
        })
        .collect())
}

/// As text, beside one's own figures.
pub(super) fn print(imported: &[Evidence]) {
    println!("\nimported: what others saw, under the policy of each import; not part of the above");
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    for evidence in imported {
        let Endpoint { provider, model } = &evidence.endpoint;
        println!("\n{provider} / {model}");
        match evidence.together() {
            Imported::TooFew { clusters } => println!(
                "  too few independent observers: {clusters}, and {CLUSTERS_MIN} are needed"
            ),
            Imported::Mean { clusters, interval } => println!(
                "  served well: {} to {}, the mean of {clusters} observers who count alike",
                percent(interval.lower_ppm()),
                percent(interval.upper_ppm())
            ),
        }
        for (observer, seen) in &evidence.observers {
            println!(
                "    {observer}: served well {}, failed {}",
                seen.successes, seen.failures
            );
        }
    }
}
