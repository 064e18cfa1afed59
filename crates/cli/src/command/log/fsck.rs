//! `longrun log fsck`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use services::fsck::{self, FsckError, FsckOptions};

use crate::files::Unusable;

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
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &Fsck) -> Result<ExitCode> {
    let options = FsckOptions {
        signatures: arguments.signatures,
        vkey: arguments.vkey.clone(),
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
    if report.unpublished > 0 {
        println!(
            "pending   {} entries are committed and not published yet",
            report.unpublished
        );
    }
    println!("clean");
    Ok(ExitCode::SUCCESS)
}
