//! `longrun log`: run a log, say who may append, watch it, check it from its files alone.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

mod admit;
mod erase;
mod evidence;
mod fsck;
mod monitor;
mod serve;

/// What to do with a log.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the directory and the key of a new log, without serving it.
    Init(serve::Init),
    /// Open the log in a directory, or make one, and serve it.
    Serve(serve::Serve),
    /// Say who may append: list keys with quotas, or take anyone within limits.
    Admit(admit::Admit),
    /// Erase bodies for good; the log stays valid and shows the gap.
    Erase(erase::Erase),
    /// Recheck every file of a log: tiles, bodies, checkpoint, head.
    Fsck(fsck::Fsck),
    /// Follow logs and witnesses, and keep proof if one shows two histories.
    Monitor(monitor::Monitor),
    /// Check a monitor's evidence against a log, offline.
    Evidence(evidence::Evidence),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Init(arguments) => arguments.run(),
            Self::Serve(arguments) => arguments.run(),
            Self::Admit(arguments) => arguments.run(),
            Self::Erase(arguments) => arguments.run(),
            Self::Fsck(arguments) => fsck::check(&arguments),
            Self::Monitor(arguments) => arguments.run(),
            Self::Evidence(arguments) => arguments.run(),
        }
    }
}
