//! `longrun history import`: what others saw, kept beside one's own records and never among them.
//!
//! A history that is valid under the importer's policy is copied below a directory of its own,
//! with a summary: whose evidence it is, and what each observer saw. `history show` and the gateway
//! read the summaries; `history forget` takes a history away again.

use std::fs;
use std::io::{BufRead as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use record::digest::Sha256;
use record::{Digest, SignerId};
use reliability::imported::{EndpointSummary, Evidence, Summary, Tally, Together, Told};
use tlog::policy::TrustPolicy;
use tlog::verify::Verdict;

use super::recount::{self, Against};
use super::spot::Signatures;
use super::verify::{Checked, check_file};
use crate::command::verify::read_policy;
use crate::files::{self, Unusable};

/// Where imported histories lie, if nothing else is said.
pub(super) const DIRECTORY: &str = "longrun-data/imported";
/// How the file of a history and its summary end.
const HISTORY: &str = "history";
const SUMMARY: &str = "json";

/// Digits of a digest that name a history: what takes something away is meant.
const PREFIX_MIN: usize = 8;

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
    #[command(flatten)]
    against: Against,
}

/// Arguments of `history forget`.
#[derive(Args)]
pub(crate) struct Forget {
    /// The digest of the history, or how it begins: 8 digits or more.
    digest: String,
    /// Where imported histories lie.
    #[arg(long, default_value = DIRECTORY)]
    dir: PathBuf,
}

impl Import {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let policy = read_policy(Some(&self.policy))?.context("a policy was given")?;
        let checked = check_file(
            &self.file,
            Some(&policy),
            None,
            (&Signatures::every_one(), &self.against),
        )?;
        let verdict = checked.found.report.verdict;
        if verdict != Verdict::Valid {
            println!("{}", self.file.display());
            checked.print();
            println!("  not imported: only what is valid under your policy is");
            return Ok(ExitCode::from(verdict.exit_code()));
        }
        let summary = match &checked.summaries {
            Some(summaries) => Summary {
                digest: digest_of(&self.file)?,
                endpoints: of_tally(&recount::tally(summaries, &policy)),
                of_summaries: true,
                ..summary(&checked, &policy)
            },
            None => summary(&checked, &policy),
        };
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
        if summary.of_summaries {
            println!(
                "summaries: sums in the place of records, as far as your policy names who summed up and who observed"
            );
            recount::print_recounted(checked.recounted());
        }
        println!(
            "Shown by `longrun history show`, beside your own figures; a gateway with [imported] \
             shows it too."
        );
        println!("To take it away: longrun history forget {}", summary.digest);
        Ok(ExitCode::SUCCESS)
    }
}

impl Forget {
    pub(super) fn run(&self) -> Result<ExitCode> {
        if self.digest.len() < PREFIX_MIN {
            let why = format!(
                "{:?} is too short: give {PREFIX_MIN} digits of the digest or more",
                self.digest
            );
            return Err(Unusable(why).into());
        }
        let summaries = summaries(&self.dir)?;
        let named: Vec<_> = summaries
            .iter()
            .filter(|(_, summary)| summary.digest.to_string().starts_with(&self.digest))
            .collect();
        let [(path, summary)] = named.as_slice() else {
            let all: Vec<String> = summaries
                .iter()
                .map(|(_, it)| format!("\n  {} of {} at {}", it.digest, it.origin, it.size))
                .collect();
            let dir = self.dir.display();
            bail!(
                "{} histories in {dir} begin with {:?}; there are:{}",
                named.len(),
                self.digest,
                all.concat()
            );
        };
        // First: without its summary a history no longer counts.
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        let file = path.with_extension(HISTORY);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(format!("cannot remove {}", file.display()));
            }
            _ => println!("forgotten {} of {}", summary.digest, summary.origin),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn summary(checked: &Checked, policy: &TrustPolicy) -> Summary {
    let name = |id: SignerId| policy.signer(id).map_or("", |signer| signer.name.as_str());
    Summary {
        origin: checked.found.origin.clone(),
        size: checked.found.size,
        digest: checked.history.digest(),
        records: checked.found.records,
        of_summaries: false,
        signers: checked
            .found
            .signers
            .iter()
            .map(|account| (account.signer, name(account.signer).to_owned()))
            .collect(),
        endpoints: of_tally(&checked.tally),
    }
}

fn of_tally(tally: &Tally) -> Vec<EndpointSummary> {
    let each = tally.endpoints().iter();
    each.map(|(endpoint, observers)| EndpointSummary {
        provider: endpoint.provider.to_string(),
        model: endpoint.model.to_string(),
        observers: observers.clone(),
    })
    .collect()
}

/// What tells a file apart that has no digest of a fold.
fn digest_of(file: &Path) -> Result<Digest> {
    let mut hasher = Sha256::new();
    let mut from = std::io::BufReader::new(fs::File::open(file)?);
    loop {
        let part = from.fill_buf()?;
        if part.is_empty() {
            return Ok(hasher.finish());
        }
        hasher.update(part);
        let read = part.len();
        from.consume(read);
    }
}

/// Every summary with its path, by name.
fn summaries(dir: &Path) -> Result<Vec<(PathBuf, Summary)>> {
    let entries = fs::read_dir(dir);
    let entries = entries.map_err(|error| Unusable(format!("{}: {error}", dir.display())))?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != SUMMARY) {
            continue;
        }
        let summary = serde_json::from_slice(&files::read(&path)?)
            .map_err(|error| Unusable(format!("{}: {error}", path.display())))?;
        all.push((path, summary));
    }
    all.sort_by(|a: &(PathBuf, _), b| a.0.cmp(&b.0));
    Ok(all)
}

/// What the imported histories say together, each under the policy of its import.
pub(super) fn read(dir: &Path) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    for (path, summary) in summaries(dir)? {
        evidence
            .add(&summary, |_, _| true)
            .map_err(|error| Unusable(format!("{}: {error}", path.display())))?;
    }
    Ok(evidence)
}

/// As text, beside one's own figures.
pub(super) fn print(imported: &[Told], policy: &str) {
    if imported.is_empty() {
        return;
    }
    println!("\nimported: what others saw, under {policy}; not part of the above");
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    for of in imported {
        println!("\n{} / {}", of.provider, of.model);
        match of.together {
            Together::TooFew { observers, needed } => {
                println!("  too few independent observers: {observers}, and {needed} are needed");
            }
            Together::Averaged {
                observers,
                interval_ppm: [low, high],
            } => println!(
                "  served well: {} to {}, the mean of {observers} observers who count alike",
                percent(low),
                percent(high)
            ),
        }
        for (observer, seen) in &of.observers {
            let summed_up = match seen.summed_up_by {
                Some(by) => format!(", summed up by {by}"),
                None => String::new(),
            };
            println!(
                "    {observer}: served well {}, failed {}{summed_up}",
                seen.successes, seen.failures
            );
        }
    }
}
