//! `longrun node`: serve a model, with a signed receipt for every inference.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use engine::embedded::{Embedded, Options};
use engine::upstream::{ApiKey, Deadlines, Upstream};
use node::{NodeConfig, Served};
use recorder::{Config, Recorder};

use crate::files::Unusable;
use crate::{home_log, running};

mod join;

use join::Join;

/// How long running answers and pending records may take after the word to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `node`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "upstream"]))]
#[command(group = clap::ArgGroup::new("home").args(["log", "join"]))]
pub(crate) struct Arguments {
    /// A GGUF file of the Llama or Qwen 2, 2.5 or 3 family, served by the embedded engine on the CPU.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Any OpenAI-compatible API to stand in front of, such as http://127.0.0.1:8000/v1.
    #[arg(long)]
    upstream: Option<String>,
    /// Name that callers ask for. Default: the file's own name; behind an upstream, every model
    /// that it lists.
    #[arg(long)]
    model_name: Vec<String>,
    /// Environment variable that holds the upstream's key.
    #[arg(long, requires = "upstream")]
    api_key_env: Option<String>,
    /// Keys, spool and identity of this node.
    #[arg(long, default_value = "longrun-node")]
    dir: PathBuf,
    /// What the node calls itself; fixed at the first start.
    #[arg(long, default_value = "node")]
    name: String,
    /// Where to listen; this machine only unless you say otherwise.
    #[arg(long, default_value = "127.0.0.1:7412")]
    listen: SocketAddr,
    /// The home log of this node's records. Without one they stay in the spool.
    #[arg(long)]
    log: Option<String>,
    #[command(flatten)]
    join: Join,
    /// The log's verifier key; otherwise the log is asked once and its key remembered.
    #[arg(long, requires = "home")]
    log_vkey: Option<String>,
    /// Requests computed at the same time by the embedded engine.
    #[arg(long, requires = "model")]
    workers: Option<usize>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        running::block_on(self.serve())
    }

    async fn serve(self) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        self.join.check(self.listen)?;
        let models = self.models().await?;
        let mut config = Config::new(&self.dir, &self.name, "provider");
        if let Some(url) = self.log.as_ref().or(self.join.join.as_ref()) {
            config.home_log = Some(home_log::find(url, self.log_vkey.as_deref(), &self.dir).await?);
        }
        let recorder = Recorder::open(&config, recorder::Context::system()?)?;
        if let Some(home) = &config.home_log {
            home_log::remember(home, &self.dir)?;
        }
        let root = recorder.identity().root_key_id();
        let node = node::serve(NodeConfig {
            listen: self.listen,
            recorder,
            models,
        })
        .await?;
        println!("node      {}", node.base_url());
        println!("provider  {}", node.provider());
        match &config.home_log {
            Some(home) => {
                println!("log       {}", home.url);
                println!("key       {root}    (what the log's owner admits)");
            }
            None => println!("log       none: receipts stay in {}", self.dir.display()),
        }
        println!("Ctrl-C stops it: running answers finish, records are kept.");
        let announced = async {
            self.join.announce(&node).await?;
            std::future::pending::<Result<()>>().await
        };
        tokio::select! {
            () = stop => {}
            failed = announced => {
                node.shutdown(PATIENCE).await?;
                return failed.map(|()| ExitCode::FAILURE);
            }
        }
        node.shutdown(PATIENCE).await?;
        Ok(ExitCode::SUCCESS)
    }

    async fn models(&self) -> Result<Vec<Served>> {
        if let Some(file) = &self.model {
            if self.model_name.len() > 1 {
                return Err(Unusable("a model file is served under one name".to_owned()).into());
            }
            let mut options = Options {
                model: self.model_name.first().cloned(),
                ..Options::default()
            };
            if let Some(workers) = self.workers {
                options.workers = workers;
            }
            let engine = Embedded::open(file, &options).map_err(|e| Unusable(e.to_string()))?;
            return Ok(vec![Served::engine(Arc::new(engine))]);
        }
        let url = self
            .upstream
            .as_deref()
            .context("give --model or --upstream")?;
        let upstream = Upstream::new(
            url,
            self.api_key()?,
            engine::http::client(),
            Deadlines::default(),
        )?;
        let mut names = self.model_name.clone();
        if names.is_empty() {
            let listed = upstream.models().await.with_context(|| {
                format!("{url} does not list its models; name them with --model-name")
            })?;
            names = listed.data.into_iter().map(|model| model.id).collect();
        }
        if names.is_empty() {
            bail!("{url} lists no models; name one with --model-name");
        }
        Ok(names
            .iter()
            .map(|name| Served::upstream(upstream.clone(), name))
            .collect())
    }

    fn api_key(&self) -> Result<Option<ApiKey>> {
        let Some(variable) = &self.api_key_env else {
            return Ok(None);
        };
        let value = std::env::var(variable)
            .map_err(|_| Unusable(format!("the environment variable {variable} is not set")))?;
        Ok(Some(ApiKey::new(&value)?))
    }
}
