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
mod shard;
mod show;

pub(crate) use monitor::utc;

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
    /// Say what a log is, from its directory or its address.
    Show(show::Show),
    /// Say how long this log keeps what, in public.
    Retention(show::State),
    /// End a log and go on in a new one, linked by both their signatures.
    Shard(shard::Shard),
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
            Self::Show(arguments) => arguments.run(),
            Self::Retention(arguments) => arguments.run(),
            Self::Shard(arguments) => arguments.run(),
            Self::Monitor(arguments) => arguments.run(),
            Self::Evidence(arguments) => arguments.run(),
        }
    }
}
