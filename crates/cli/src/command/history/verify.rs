//! `longrun history verify`: a history file, checked offline and folded again.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use reliability::account;
use reliability::fold::{Applied, History, Report};
use reliability::forecast::fold::Forecasts;
use reliability::imported::Tally;
use reliability::kt::Alpha;
use serde_json::json;
use tlog::checkpoint::SignedCheckpoint;
use tlog::history::{HistoryReader, Item, RecordItem};
use tlog::policy::TrustPolicy;
use tlog::summary::Summaries;
use tlog::verify::history::{HistoryCheck, HistoryReport, Sample, open_if};

use super::figures::Figures;
use super::recount::{self, Against, Recounted};
use super::spot::Signatures;
use super::{predicted, source};
use crate::command::verify::{in_words, print_checks, read_policy};
use crate::files::{self, Unusable};
use crate::log_scan::on_all_cores;

/// Records, and bytes of them, that are verified together.
const BATCH_RECORDS: usize = 2048;
const BATCH_BYTES: usize = 8 << 20;
/// Findings that are printed; JSON has more.
const FINDINGS_PRINTED: usize = 10;

/// Arguments of `history verify`.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 valid under the policy you supplied; 1 invalid; 2 unusable input; 3 intact, but a \
signer or the log is not one that you trust. The digest is the one that `longrun history show` \
prints where the log is, for the same endpoints and up to the same checkpoint.")]
pub(crate) struct Verify {
    /// The history to check.
    file: PathBuf,
    /// Whom you trust: a policy that you got from somewhere else than the file.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// A checkpoint of the log that you have from elsewhere: a history that ends before it is then cut
    /// short.
    #[arg(long, value_name = "CHECKPOINT")]
    known: Option<PathBuf>,
    #[command(flatten)]
    signatures: Signatures,
    #[command(flatten)]
    against: Against,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let policy = read_policy(self.policy.as_deref())?;
        let known = self.known.as_deref().map(read_checkpoint).transpose()?;
        let (policy, known) = (policy.as_ref(), known.as_ref());
        let how = (&self.signatures, &self.against);
        let checked = check_file(&self.file, policy, known, how)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&checked.to_json()?)?);
        } else {
            println!("{}", self.file.display());
            checked.print();
            if let Some(summaries) = checked.summaries() {
                recount::print(summaries, checked.found.size);
            }
            if checked.summaries.is_some() {
                recount::print_recounted(checked.recounted.as_ref());
            }
            if let Some(report) = checked.report() {
                println!();
                super::owners::print(&checked.history, &report);
                super::print_endpoints(&Figures::of(&report)?, |of| {
                    predicted::lines(&predicted::of(&checked.forecasts, &of.provider, &of.model))
                });
                let erased = checked.found.erased;
                if erased > 0 {
                    println!("{erased} entries are erased; their outcomes are unknown");
                }
            }
        }
        Ok(ExitCode::from(checked.found.report.verdict.exit_code()))
    }
}

fn read_checkpoint(path: &Path) -> Result<SignedCheckpoint> {
    SignedCheckpoint::parse(&files::read(path)?)
        .map_err(|error| Unusable(format!("{}: {error}", path.display())).into())
}

/// What a history turned out to be, and its fold.
pub(crate) struct Checked {
    pub(crate) found: HistoryReport,
    /// Everything whose signature held, folded as the log's owner folds it.
    pub(crate) history: History,
    /// What was foretold in it, and came.
    pub(super) forecasts: Forecasts,
    /// What each observer saw.
    pub(crate) tally: Tally,
    /// Which signatures were looked at, if not all.
    pub(crate) sample: Option<Sample>,
    /// What it says, if it holds summaries in the place of records.
    pub(super) summaries: Option<Summaries>,
    recounted: Option<Recounted>,
}

impl Checked {
    /// The history, unless something in the file does not hold: then there is no digest to print. Nor is there
    /// one of summaries, which nobody folds.
    pub(crate) fn report(&self) -> Option<Report> {
        (self.summaries.is_none() && self.found.holds())
            .then(|| self.history.report(Alpha::FIVE_PERCENT))
    }

    /// Which bundles of summaries were counted again.
    pub(super) fn recounted(&self) -> Option<&Recounted> {
        self.recounted.as_ref()
    }

    /// What summaries say, unless something in the file does not hold.
    fn summaries(&self) -> Option<&Summaries> {
        self.summaries.as_ref().filter(|_| self.found.holds())
    }

    /// One document.
    ///
    /// # Errors
    /// None for a report, which is plain numbers and texts.
    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        let verdict = self.found.report.verdict;
        let sample = self.sample.as_ref();
        let sample = sample.map(|sample| super::spot::to_json(sample, "forged"));
        let report = self.report();
        let history = report.map(|report| super::document(&report, &self.history, &self.forecasts));
        let history = history.transpose()?;
        let mut document =
            json!({"verdict": verdict, "file": self.found, "sample": sample, "history": history});
        if self.summaries.is_some() {
            document["summaries"] = self.summaries().map(recount::to_json).into();
            document["recounted"] = self.recounted.as_ref().map(Recounted::to_json).into();
        }
        Ok(document)
    }

    /// Checks, findings and digest, as text.
    pub(crate) fn print(&self) {
        print_checks(&self.found.report);
        let findings = &self.found.findings;
        for finding in findings.iter().take(FINDINGS_PRINTED) {
            println!("    {:<12} {:<11} {finding}", "named", finding.check);
        }
        if findings.len() > FINDINGS_PRINTED {
            println!(
                "    and {} more; see --json",
                findings.len() - FINDINGS_PRINTED
            );
        }
        if let Some(sample) = &self.sample {
            println!("  {}", super::spot::in_words(sample));
        }
        match self.report() {
            Some(report) => println!("  digest {}", report.digest),
            None if self.summaries.is_some() => {
                println!("  no digest: summaries in the place of records");
            }
            None => println!("  no digest: something in the file does not hold"),
        }
        let verdict = in_words(self.found.report.verdict);
        match self.found.unchecked {
            0 => println!("  {verdict}"),
            unchecked => println!(
                "  {verdict}, as far as the spot check can tell: {unchecked} signatures were not \
                 looked at"
            ),
        }
    }
}

/// Verifies and folds a history, whatever its size, in bounded memory.
pub(crate) fn check_file(
    path: &Path,
    policy: Option<&TrustPolicy>,
    known: Option<&SignedCheckpoint>,
    (signatures, against): (&Signatures, &Against),
) -> Result<Checked> {
    let unusable = |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| unusable(&error))?;
    let mut reader = HistoryReader::open(BufReader::with_capacity(1 << 20, file))
        .map_err(|error| unusable(&error))?;
    let header = reader.header().clone();
    let history = source::own_log(&header.checkpoint.checkpoint().origin)?;
    let at = header.checkpoint.checkpoint().clone();
    let has_summaries = header.selection.summaries;
    let sample = match has_summaries {
        true => None,
        false => signatures.sample(header.records)?,
    };
    let mut checking = Checking {
        sample,
        check: HistoryCheck::new(header),
        history,
        forecasts: predicted::forecasts(),
        tally: Tally::default(),
        batch: Vec::new(),
        batch_bytes: 0,
    };
    loop {
        match reader.next_item() {
            Ok(Some(Item::Record(item))) => checking.record(item),
            Ok(Some(other)) => checking.other(other),
            Ok(None) => break,
            Err(tlog::history::HistoryError::Io(error)) => {
                return Err(error).context(format!("cannot read {}", path.display()));
            }
            Err(error) => {
                checking.settle();
                checking.check.broken(&error);
                break;
            }
        }
        // Before more is folded, whoever signed it: a file may not take all of the memory.
        let within = checking.check.is_within_limits();
        within.map_err(|error| unusable(&error))?;
    }
    checking.settle();
    let mut recounted = None;
    if has_summaries {
        recounted = against.recount(&mut checking.check, &at, policy, signatures)?;
    }
    let summaries = has_summaries.then(|| checking.check.summaries().clone());
    let found = checking.check.finish(policy, known);
    Ok(Checked {
        found,
        history: checking.history,
        forecasts: checking.forecasts,
        tally: checking.tally,
        sample: checking.sample,
        summaries,
        recounted,
    })
}

/// A file on its way through: records wait until enough of them are there for all cores.
struct Checking {
    check: HistoryCheck,
    history: History,
    forecasts: Forecasts,
    tally: Tally,
    sample: Option<Sample>,
    /// With whether its signature is to be looked at.
    batch: Vec<(bool, RecordItem)>,
    batch_bytes: usize,
}

impl Checking {
    fn record(&mut self, item: RecordItem) {
        self.batch_bytes += item.statement.len();
        let drawn = self.sample.as_mut().is_none_or(Sample::draws_next);
        self.batch.push((drawn, item));
        if self.batch.len() >= BATCH_RECORDS || self.batch_bytes >= BATCH_BYTES {
            self.settle();
        }
    }

    fn other(&mut self, item: Item) {
        self.settle();
        match item {
            Item::Record(item) => self.record(item),
            Item::Erased(item) => self.check.erased(&item),
            Item::Tail(gap) => self.check.tail(&gap),
            Item::Stream(told) => self.check.stream(&told),
            Item::Signer(told) => self.check.signer(&told),
        }
    }

    /// Verifies what waits and folds it, in order.
    fn settle(&mut self) {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let opened = on_all_cores(batch, |(drawn, item)| {
            let opened = open_if(drawn, item.signature, item.statement);
            (item.place, opened)
        });
        for (place, opened) in opened {
            self.check.record(&place, &opened);
            let Ok(record) = &opened.record else { continue };
            let both = (&mut self.history, &mut self.forecasts);
            let applied = account::follow_forecasts(both, record, place.index, |_, _| {});
            if applied == Applied::Counted {
                self.tally.add(record);
            }
        }
    }
}
