//! `longrun log init` and `longrun log serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use services::cosigning::CosigningOptions;
use services::layout;
use services::log::{self, LogOptions};
use services::log_server::{DEFAULT_LISTEN, LogServer, ServeOptions};
use services::quota::Rules;
use tlog::log_policy::LogPolicy;

use crate::files::{self, Unusable};
use crate::{listening, running};

/// Arguments of `log init`.
#[derive(Args)]
pub(crate) struct Init {
    /// The log's directory.
    dir: PathBuf,
    /// The name of a new log, unique, best its public address without a scheme.
    #[arg(long)]
    origin: Option<String>,
}

/// Arguments of `log serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// The log's directory.
    #[arg(long)]
    dir: PathBuf,
    /// Where to listen; this machine only unless you say otherwise.
    #[arg(long, default_value_t = DEFAULT_LISTEN, value_name = "ADDRESS:PORT", value_parser = listening::address)]
    listen: SocketAddr,
    /// The name of a new log, unique, best its public address without a scheme.
    #[arg(long)]
    origin: Option<String>,
    /// A C2SP tlog-policy with `witness` lines that hold addresses, and a `quorum`. It is kept in
    /// the directory, so later starts need not name it.
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,
    /// How long each round waits for witnesses.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    cosign_timeout_ms: u64,
    /// A new log takes records of any key, within limits per key and address; without this, only
    /// those of keys that `longrun log admit` lists.
    #[arg(long)]
    open: bool,
}

impl Init {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let random = ring::rand::SystemRandom::new();
        println!(
            "vkey      {}",
            log::prepare(&self.dir, self.origin.as_deref(), &random)?
        );
        println!("Give this key to its witnesses (longrun witness --log) and to its readers.");
        Ok(ExitCode::SUCCESS)
    }
}

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode> {
        running::block_on(self.serve())
    }

    async fn serve(self) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        let timeout = Duration::from_millis(self.cosign_timeout_ms);
        let given = match &self.witnesses {
            Some(file) => Some(files::read(file)?),
            None => kept_witnesses(&self.dir)?,
        };
        let named = self
            .witnesses
            .clone()
            .unwrap_or_else(|| self.dir.join(layout::WITNESSES));
        let cosigning = match &given {
            Some(text) => Some(cosigning(text, &named, timeout)?),
            None => None,
        };
        let asked = cosigning
            .as_ref()
            .map_or(0, |options| options.clients.len());
        let admission = if self.open {
            Rules::open()
        } else {
            Rules::default()
        };
        let server = LogServer::bind(ServeOptions {
            directory: self.dir.clone(),
            log: LogOptions {
                origin: self.origin,
                cosigning,
                admission,
                ..LogOptions::default()
            },
            listen: self.listen,
        })
        .await?;
        if let (Some(text), Some(_)) = (&given, &self.witnesses) {
            files::write_whole(&self.dir.join(layout::WITNESSES), text)?;
        }
        let log = server.log();
        println!("log       http://{}", server.address());
        println!("vkey      {}", log.vkey());
        println!("size      {}", log.published().checkpoint.size);
        match asked {
            0 => println!(
                "witnesses none: this log alone cannot prove that it shows everyone the same"
            ),
            asked => println!("witnesses {asked}"),
        }
        match log.end() {
            Some(end) => println!("closed    {}", services::shard::closed(end)),
            None => println!("takes     {}", log.gate().summary()),
        }
        println!("Ctrl-C stops it; everything accepted is kept.");
        server.run(stop).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The witnesses that the log in this directory was told to ask.
pub(crate) fn kept_witnesses(directory: &Path) -> Result<Option<Vec<u8>>> {
    let kept = directory.join(layout::WITNESSES);
    if kept.exists() {
        Ok(Some(files::read(&kept)?))
    } else {
        Ok(None)
    }
}

fn cosigning(text: &[u8], file: &Path, timeout: Duration) -> Result<CosigningOptions> {
    let unusable = |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", file.display()));
    let policy = LogPolicy::parse(text).map_err(|error| unusable(&error))?;
    Ok(CosigningOptions::over_http(policy, timeout).map_err(|why| unusable(&why))?)
}
