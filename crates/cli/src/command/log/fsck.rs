//! `longrun log fsck`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use services::fsck::{self, FsckError, FsckOptions};
use tlog::log_policy::LogPolicy;

use crate::files::{self, Unusable};

/// Arguments of `log fsck`.
#[derive(Args)]
pub(crate) struct Fsck {
    /// The log's directory. It may be in use.
    dir: PathBuf,
    /// Verify the signature of every body as well; slower.
    #[arg(long)]
    signatures: bool,
    /// The log's verifier key, where the directory has no `log.key`.
    #[arg(long)]
    vkey: Option<String>,
    /// A C2SP tlog-policy whose witnesses' cosignatures are checked; without it, that of the log.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A file outside the log in which an interrupted check is kept, and gone on with when the same
    /// command is given again.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &Fsck) -> Result<ExitCode> {
    let policy = match &arguments.policy {
        Some(file) => Some(
            LogPolicy::parse(&files::read(file)?)
                .map_err(|error| Unusable(format!("{}: {error}", file.display())))?,
        ),
        None => None,
    };
    let options = FsckOptions {
        signatures: arguments.signatures,
        vkey: arguments.vkey.clone(),
        policy,
        state: arguments.state.clone(),
    };
    let visible = std::io::stderr().is_terminal();
    let checked = fsck::run(&arguments.dir, &options, |progress| {
        if visible {
            eprint!(
                "\r{} of {} entries",
                progress.entries_done, progress.entries_total
            );
            let _ = std::io::stderr().flush();
        }
    });
    if visible {
        eprintln!();
    }
    let report = match checked {
        Ok(report) => report,
        Err(FsckError::Unusable(why)) => return Err(Unusable(why).into()),
        Err(bad) => return Err(bad.into()),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("log       {}", report.origin);
    println!("root      {} over {} entries", report.root, report.size);
    println!("tiles     {} computed again", report.tiles);
    println!(
        "bodies    {} fit their leaves, {} erased",
        report.bodies, report.bodies_erased
    );
    if arguments.signatures {
        println!("signed    {} signatures verified", report.signatures);
    } else {
        println!("signed    not checked (--signatures)");
    }
    match report.quorum {
        None => println!("cosigned  no witnesses are known"),
        Some(enough) => println!(
            "cosigned  {}{}",
            report.cosigned.join(", "),
            if enough {
                ""
            } else {
                " (too few for the quorum)"
            }
        ),
    }
    if let Some(vkey) = &report.predecessor {
        println!("continues {vkey}");
    }
    if let Some(vkey) = &report.successor {
        println!("closed    {vkey} goes on");
    }
    if report.resumed_from > 0 {
        println!(
            "resumed   from entry {}; what is before was checked earlier",
            report.resumed_from
        );
    }
    if report.unpublished > 0 {
        println!(
            "pending   {} entries are committed and not published yet",
            report.unpublished
        );
    }
    println!("clean");
    Ok(ExitCode::SUCCESS)
}
