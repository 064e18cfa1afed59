//! `longrun provider receipts`: both halves of a provider's history, as far as it has them.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use record::{Envelope, Predicate, Record, RecordId};
use recorder::{Context, Entry, Recorder};

use super::Signer;
use crate::{files, running, signer};

/// Records that are read at a time.
const ROWS: usize = 1000;
/// Unmatched receipts that are printed.
const SHOWN: usize = 20;

/// Arguments of `provider receipts`.
#[derive(Args)]
#[command(after_help = "\
Callers with `hand_back = true` in their gateway's configuration hand their observations back to the \
node. A receipt without one is unmatched: its caller keeps nothing, or keeps it to itself. The file \
holds control records and receipts, with their proofs where they are logged, and the observations, \
an envelope or Sigstore bundle a line: `longrun verify` checks them, `longrun history compute --from \
receipts` folds them. Records that the spool let go are not in it; a log that they went to has them.")]
pub(crate) struct Receipts {
    #[command(flatten)]
    signer: Signer,
    /// Write all of it to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Receipts {
    pub(crate) fn run(self) -> Result<ExitCode> {
        running::block_on(async {
            let config = self.signer.config().await?;
            // Says what is wrong with a directory before one is made.
            super::id_of(&self.signer.dir)?;
            let recorder = signer::open(&config, Context::system()?)?;
            let told = self.tell(&recorder).await;
            recorder.close(std::time::Duration::ZERO).await?;
            told
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn tell(&self, recorder: &Recorder) -> Result<()> {
        let observations = node::handed_back(&self.signer.dir)?;
        let seen: HashSet<RecordId> = observations.iter().filter_map(receipt_of).collect();
        let (mut receipts, mut unmatched, mut lines) = (0u64, Vec::new(), Vec::new());
        let mut at = 0;
        loop {
            let entries = recorder.entries(at, ROWS).await?;
            let Some((last, _)) = entries.last() else {
                break;
            };
            at = *last;
            for (_, entry) in entries {
                match &entry.record.statement.predicate {
                    Predicate::Control(_) => {}
                    Predicate::Receipt(_) => {
                        receipts += 1;
                        if !seen.contains(&entry.id()) {
                            unmatched.push(entry.id());
                        }
                    }
                    _ => continue,
                }
                if self.out.is_some() {
                    lines.push(line(&entry));
                }
            }
        }
        println!("receipts  {receipts}");
        println!("matched   {}", receipts - unmatched.len() as u64);
        println!("unmatched {}", unmatched.len());
        for id in unmatched.iter().take(SHOWN) {
            println!("          {id}");
        }
        if unmatched.len() > SHOWN {
            println!("          and {} more", unmatched.len() - SHOWN);
        }
        println!("handed    {} observations", observations.len());
        if let Some(file) = &self.out {
            lines.extend(observations.iter().map(|it| it.envelope.to_json()));
            files::write_streamed(file, |out| {
                for line in &lines {
                    out.write_all(line)?;
                    out.write_all(b"\n")?;
                }
                Ok(())
            })?;
            println!("wrote     {}: {} records", file.display(), lines.len());
        }
        Ok(())
    }
}

fn receipt_of(record: &Record) -> Option<RecordId> {
    match &record.statement.predicate {
        Predicate::Observation(seen) => seen.receipt,
        _ => None,
    }
}

/// A record with its proof, once it has one.
fn line(entry: &Entry) -> Vec<u8> {
    let bundle = entry.bundle().map(|bundle| bundle.to_json());
    bundle.unwrap_or_else(|| Envelope::to_json(&entry.record.envelope))
}
