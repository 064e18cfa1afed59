//! `longrun gateway`: the OpenAI API in front of endpoints, with a record of what they do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use gateway::GatewayConfig;
use gateway::config::Process;
use recorder::{Config, Context, Recorder};

use crate::files::{self, Unusable};
use crate::{home_log, running};

/// How long pending records may take to reach the log after the word to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `gateway`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Endpoints, log, limits and routing; docs/operating.md lists every key.
    #[arg(long, default_value = "longrun.toml")]
    config: PathBuf,
    /// Keys, spool and identity of this gateway.
    #[arg(long, default_value = "longrun-gateway")]
    dir: PathBuf,
    /// What the gateway calls itself; fixed at the first start.
    #[arg(long, default_value = "gateway")]
    name: String,
    /// Where to listen; overrides the file.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let text = files::read_text(&self.config)?;
        let mut config = GatewayConfig::parse(&text, &self.config, &Process)
            .map_err(|error| Unusable(error.to_string()))?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        running::block_on(self.serve(config))
    }

    async fn serve(self, mut config: GatewayConfig) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        let context = Context::system()?;
        let mut signer = Config::new(&self.dir, &self.name, "observer");
        signer.spool.pending_rows = config.spool.records_max;
        signer.spool.pending_bytes = config.spool.max_bytes;
        if let Some(log) = &mut config.log {
            let url = log.url.to_string();
            let home = home_log::find(&url, log.vkey.as_deref(), &self.dir).await?;
            log.vkey = Some(home.vkey.clone());
            signer.home_log = Some(home);
        }
        let recorder = Recorder::open(&signer, context.clone())?;
        if let Some(home) = &signer.home_log {
            home_log::remember(home, &self.dir)?;
        }
        let clients = gateway::client_secret(&self.dir, &*context.random)?;
        let log = config.log.as_ref().map(|log| log.url.to_string());
        let handle =
            gateway::serve(config, recorder.clone(), context, clients, web::router()).await?;
        println!("gateway   http://{}", handle.address());
        println!("observer  {}", recorder.identity().id());
        match log {
            Some(url) => {
                println!("log       {url}");
                println!("key       {}", recorder.identity().root_key_id());
            }
            None => println!(
                "log       none: observations stay in {}",
                self.dir.display()
            ),
        }
        println!("Ctrl-C stops it: running answers finish, records are kept.");
        stop.await;
        handle.stop().await;
        recorder.close(PATIENCE).await?;
        Ok(ExitCode::SUCCESS)
    }
}
