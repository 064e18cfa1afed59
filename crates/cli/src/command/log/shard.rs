//! `longrun log shard`: end a log and go on in a new one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ring::rand::SystemRandom;
use services::shard::{ShardOptions, shard};

/// Arguments of `log shard`.
#[derive(Args)]
#[command(after_help = "\
The old log is closed for good: it is served and checked as before, and answers records with 410 \
and the way to the new one. Both logs sign the link, which lies in both directories and is public \
(successor.json, predecessor.json): whoever trusts the old key can learn the new one from it. The \
new log takes over who may append and which witnesses are asked; they must be told its key. \
Signers keep the home log that their control record names: give each the new address and key, and \
log the change of home.")]
pub(crate) struct Shard {
    /// The directory of the log to end. It must not be running.
    old: PathBuf,
    /// The directory of the log that goes on; made if it does not exist.
    new: PathBuf,
    /// The name of the new log, unique, best its public address without a scheme.
    #[arg(long)]
    origin: Option<String>,
    /// Where the new log will be served, for those who read the link.
    #[arg(long)]
    url: Option<String>,
    /// End the log although its last checkpoint lacks cosignatures.
    #[arg(long)]
    unwitnessed: bool,
    /// Yes, close the old log for good. Without it nothing happens.
    #[arg(long)]
    yes: bool,
}

impl Shard {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if !self.yes {
            println!(
                "would close the log in {} for good; add --yes to do it",
                self.old.display()
            );
            return Ok(ExitCode::SUCCESS);
        }
        let options = ShardOptions {
            origin: self.origin,
            url: self.url,
            unwitnessed: self.unwitnessed,
            random: &SystemRandom::new(),
        };
        let link = shard(&self.old, &self.new, &options)?;
        println!(
            "closed    {} at size {}",
            link.predecessor().to_vkey(),
            link.size()
        );
        println!("goes on   {}", link.successor().to_vkey());
        println!("Give the new key to its witnesses (longrun witness --log), and serve both logs.");
        Ok(ExitCode::SUCCESS)
    }
}
