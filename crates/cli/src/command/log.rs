//! `longrun log`: run a log, or check one from its files alone.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use services::fsck::{self, FsckError, FsckOptions};
use services::log::LogOptions;
use services::log_server::{DEFAULT_LISTEN, LogServer, ServeOptions};

use crate::files::Unusable;
use crate::running;

/// What to do with a log.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Open the log in a directory, or make one, and serve it.
    Serve(Serve),
    /// Recheck every file of a log: tiles, bodies, checkpoint, head.
    Fsck(Fsck),
}

/// Arguments of `log serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// The log's directory.
    #[arg(long)]
    dir: PathBuf,
    /// Where to listen; this machine only unless you say otherwise.
    #[arg(long, default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// The name of a new log, unique, best its public address without a scheme.
    #[arg(long)]
    origin: Option<String>,
}

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

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Serve(arguments) => running::block_on(serve(arguments)),
            Self::Fsck(arguments) => check(&arguments),
        }
    }
}

async fn serve(arguments: Serve) -> Result<ExitCode> {
    let stop = running::stop_signal()?;
    let server = LogServer::bind(ServeOptions {
        directory: arguments.dir,
        log: LogOptions {
            origin: arguments.origin,
            ..LogOptions::default()
        },
        listen: arguments.listen,
    })
    .await?;
    let log = server.log();
    println!("log       http://{}", server.address());
    println!("vkey      {}", log.vkey());
    println!("size      {}", log.published().checkpoint.size);
    println!("Ctrl-C stops it; everything accepted is kept.");
    server.run(stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Fsck) -> Result<ExitCode> {
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
