//! `longrun relay`: pass on between gateways and nodes that nobody can connect to.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use dial::{DialError, Relay, RelayOptions};

use crate::files::Unusable;
use crate::{listening, running};

/// Arguments of `relay`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to listen. Whoever reaches this may have what they send each other passed on.
    #[arg(long, default_value = "0.0.0.0:3340", value_name = "ADDRESS:PORT", value_parser = listening::address)]
    listen: SocketAddr,
    /// A certificate chain (PEM); without it the relay speaks plain HTTP, for use behind a proxy.
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Most bytes per second that are taken from one client.
    #[arg(long, value_name = "N")]
    bytes_per_s: Option<NonZeroU32>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        running::block_on(self.serve())
    }

    async fn serve(self) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        let scheme = if self.tls_cert.is_some() {
            "https"
        } else {
            "http"
        };
        let relay = Relay::serve(RelayOptions {
            listen: self.listen,
            tls: self.tls_cert.zip(self.tls_key),
            bytes_per_s_max: self.bytes_per_s,
        });
        let relay = relay.await.map_err(|error| match error {
            DialError::Config { .. } => anyhow::Error::from(Unusable(error.to_string())),
            DialError::Machine(_) => error.into(),
        })?;
        let address = relay.address().context("the relay listens nowhere")?;
        println!("relay     {scheme}://{address}");
        println!(
            "It passes on between those who hold keys, and reads nothing of it. Ctrl-C stops it."
        );
        stop.await;
        relay.close().await;
        Ok(ExitCode::SUCCESS)
    }
}
