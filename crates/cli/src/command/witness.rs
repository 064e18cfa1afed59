//! `longrun witness`: cosign the checkpoints of logs, one's own or anybody's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use services::witness::{self, Witness, WitnessOptions};
use tlog::note::NoteVerifier;
use tokio::net::TcpListener;

use crate::files::Unusable;
use crate::{listening, running};

/// Where a witness listens unless told otherwise: this machine only.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4190);

/// Arguments of `witness`.
#[derive(Args)]
#[command(after_help = "\
A witness cosigns a checkpoint only if it extends what it cosigned before, so that a log cannot \
show different histories to different readers. It speaks C2SP tlog-witness, so logs that are not \
Longrun's can use it too. Give the witness line that it prints to whoever runs the log \
(`longrun log serve --witnesses`) and to whoever verifies records (their policy).")]
pub(crate) struct Arguments {
    /// Keys and state; the same directory carries on. Never restore an old copy of it: the witness
    /// would cosign a fork.
    #[arg(long)]
    dir: PathBuf,
    /// Where to listen; this machine only unless you say otherwise.
    #[arg(long, default_value_t = DEFAULT_LISTEN, value_name = "ADDRESS:PORT", value_parser = listening::address)]
    listen: SocketAddr,
    /// The name of a new witness, unique, best its public address without a scheme.
    #[arg(long)]
    name: Option<String>,
    /// A log to follow, by its verifier key; remembered in the directory. Repeat for more.
    #[arg(long, value_name = "VKEY")]
    log: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        running::block_on(self.serve())
    }

    async fn serve(self) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        let logs = self.log.iter().map(|vkey| {
            NoteVerifier::from_vkey(vkey)
                .map_err(|error| Unusable(format!("--log {vkey}: {error}")).into())
        });
        let logs = logs.collect::<Result<Vec<_>>>()?;
        // The address first: a port in use should leave no trace.
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(|why| anyhow::anyhow!(engine::http::cannot_listen(self.listen, &why)))?;
        let options = WitnessOptions {
            name: self.name,
            logs,
            ..WitnessOptions::default()
        };
        let directory = self.dir;
        let witness = tokio::task::spawn_blocking(move || Witness::open(&directory, options));
        let witness = witness.await??;
        let url = format!("http://{}", listener.local_addr()?);
        println!("witness   {url}");
        println!("vkey      {}", witness.vkey());
        for log in witness.logs() {
            println!("follows   {}", log.name());
        }
        if witness.logs().is_empty() {
            println!("follows   no log yet: stop it and name one with --log VKEY");
        }
        let name = witness.name().rsplit('/').next().unwrap_or("witness");
        println!("policy    witness {name} {} {url}", witness.vkey());
        println!("Ctrl-C stops it; what it cosigned is kept.");
        witness::serve(&witness, listener, stop).await;
        Ok(ExitCode::SUCCESS)
    }
}
