//! `longrun log erase`: take bodies out of a log that stays valid.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use services::erase::erase;

/// Arguments of `log erase`.
#[derive(Args)]
#[command(after_help = "\
Leaves, proofs and checkpoints do not change: whoever has a copy of the record can still prove it, \
and everybody sees that something was here. Folds count an erased record as unknown. What others \
have copied is beyond reach.")]
pub(crate) struct Erase {
    /// The directory of a log that is not running.
    #[arg(long)]
    dir: PathBuf,
    /// Indices of the entries, as `record show` and bundles name them.
    #[arg(required = true)]
    index: Vec<u64>,
    /// Yes, for good. Without it nothing is erased.
    #[arg(long)]
    yes: bool,
}

impl Erase {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if !self.yes {
            println!(
                "would erase the bodies of {} entries for good; add --yes to do it",
                self.index.len()
            );
            return Ok(ExitCode::SUCCESS);
        }
        let erased = erase(&self.dir, &self.index)?;
        println!("erased    {erased} bodies; the rest were erased already");
        Ok(ExitCode::SUCCESS)
    }
}
