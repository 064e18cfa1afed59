//! `longrun history export`: a log, or what it says about some endpoints, as one file.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use record::{Digest, SignerId};
use tlog::history::{ErasedItem, Header, HistoryWriter, Place, Plan, RecordItem, Selection};
use tlog::proof::TreeView;

use super::source::{self, Source};
use crate::files;
use crate::log_files::LogFiles;

/// Entries after which the proof's tiles are read anew, so that they do not fill the memory.
const FORGET_EVERY: u64 = 1 << 16;

/// Arguments of `history export`.
#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    source: Source,
    /// The summaries in the log in the place of its records (`longrun history summarise` writes them): for
    /// more than 10,000,000 records, or where the records are to stay private.
    #[arg(long)]
    summaries: bool,
    /// With --summaries: those of this signer alone (`longrun history summarise` prints who signs); may be given
    /// several times. Without it, everybody's: also those of strangers, where a log takes records from anyone.
    #[arg(long, value_name = "ID", requires = "summaries")]
    signer: Vec<SignerId>,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
}

impl Export {
    pub(super) fn run(&self) -> Result<()> {
        let selection = Selection {
            summaries: self.summaries,
            signers: self.signer.iter().copied().collect(),
            ..self.source.selection()?
        };
        let log = self.source.open()?;
        let plan = source::plan(&log, &selection)?;
        ensure!(
            plan.records > 0 || !self.summaries,
            "the log {} has no summaries of this selection; `longrun history summarise` writes them",
            log.key().name()
        );
        ensure!(
            plan.records > 0,
            "the log {} has no record of this selection; `longrun history show` names the endpoints \
             that it knows",
            log.key().name()
        );
        let mut hashes = 0;
        files::write_streamed(&self.out, |out| {
            hashes = write(&log, &selection, &plan, out)?;
            Ok(())
        })?;
        let streams = plan.account.streams().count();
        println!("wrote     {}", self.out.display());
        println!("log       {} at {}", log.key().name(), log.size());
        println!(
            "records   {} of {streams} streams, {} bodies erased, {hashes} hashes",
            plan.records, plan.erased
        );
        println!(
            "It proves nothing by itself: whoever gets it needs a policy from elsewhere \
             (longrun trust export), and then longrun history verify."
        );
        Ok(())
    }
}

/// Writes the entries of a plan; how many hashes their proof has.
fn write(
    log: &LogFiles,
    selection: &Selection,
    plan: &Plan,
    out: &mut impl Write,
) -> Result<usize> {
    let header = Header {
        checkpoint: log.checkpoint().clone(),
        selection: selection.clone(),
        records: plan.records,
    };
    let mut writer = HistoryWriter::start(out, &header)?;
    let mut view = TreeView::new(log.reader(), log.size());
    let (mut at, mut hashes, mut read_until) = (0, 0, FORGET_EVERY);
    let mut gap = |from: u64, to: u64| -> Result<Vec<Digest>> {
        if from > read_until {
            view.forget();
            read_until = from + FORGET_EVERY;
        }
        let gap = view.gap(from..to).context("a tile of the log")?;
        hashes += gap.len();
        Ok(gap)
    };
    log.scan(Some(&plan.entries), Ok, |entry| {
        let (index, from) = (entry.index, at);
        at = index + 1;
        let gap = gap(from, index)?;
        let place = Place { index, from, gap };
        match entry.envelope {
            Some(envelope) => writer.record(RecordItem {
                place,
                signature: envelope.signature().to_vec(),
                statement: envelope.payload().to_vec(),
            })?,
            None => writer.erased(ErasedItem {
                place,
                leaf: entry.body,
            })?,
        }
        Ok(())
    })?;
    let tail = gap(at, log.size())?;
    writer.finish(tail, &plan.account)?;
    Ok(hashes)
}
