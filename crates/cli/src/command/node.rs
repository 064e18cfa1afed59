//! `longrun node`: serve a model, with a signed receipt for every inference.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use dial::Listener;
use engine::embedded::{Embedded, Options};
use engine::upstream::{ApiKey, Deadlines, Upstream};
use engine::weights::{DigestCache, weights_facts};
use node::{Files, NodeConfig, Served};
use recorder::Config;

use crate::command::provider;
use crate::files::Unusable;
use crate::home_log::Named;
use crate::{home_log, hub, listening, progress, running, signer};

mod by_key;
mod join;

use by_key::ByKey;
use join::Join;

/// How long running answers and pending records may take after the word to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `node`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "hf", "upstream"]))]
#[command(group = clap::ArgGroup::new("home").args(["log", "join"]))]
pub(crate) struct Arguments {
    /// A GGUF file of the Llama or Qwen 2, 2.5 or 3 family, served by the embedded engine on the CPU.
    #[arg(long)]
    model: Option<PathBuf>,
    /// A GGUF file of a Hugging Face hub, as OWNER/NAME[:FILE.gguf][@REVISION]: downloaded once,
    /// checked, kept in the cache, and served as with --model. `HF_ENDPOINT` names another hub,
    /// `HF_TOKEN` your token, `LONGRUN_CACHE` another place for the cache.
    #[arg(long, value_name = "REPO")]
    hf: Option<String>,
    /// Any OpenAI-compatible API to stand in front of, such as http://127.0.0.1:8000/v1.
    #[arg(long)]
    upstream: Option<String>,
    /// The directory (safetensors) or GGUF file that the upstream runs, so that the manifest names
    /// the digests of its weights, tokenizer and chat template. It is your word that the upstream
    /// runs these files: nobody checks it, and the manifest says `declared`.
    #[arg(long, requires = "upstream")]
    weights: Option<PathBuf>,
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
    #[arg(long, default_value = "127.0.0.1:7412", value_name = "ADDRESS:PORT", value_parser = listening::address)]
    listen: SocketAddr,
    /// The home log of this node's records. Without one they stay in the spool.
    #[arg(long)]
    log: Option<String>,
    #[command(flatten)]
    join: Join,
    #[command(flatten)]
    by_key: ByKey,
    /// The domain that vouches for this node, such as example.org; `longrun provider domain` prints
    /// what it publishes for that.
    #[arg(long)]
    domain: Option<String>,
    /// Where the recovery key goes that the first start makes; default: recovery-key.pem in --dir.
    /// Keep it elsewhere: it replaces a lost root key.
    #[arg(long, value_name = "FILE")]
    recovery_key: Option<PathBuf>,
    /// The log's verifier key; otherwise the log is asked once and its key remembered.
    #[arg(long, requires = "home")]
    log_vkey: Option<String>,
    /// Requests computed at the same time by the embedded engine.
    #[arg(long, conflicts_with = "upstream")]
    workers: Option<usize>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        running::block_on(self.serve())
    }

    async fn serve(self) -> Result<ExitCode> {
        self.by_key.check()?;
        self.join.check(self.listen, self.by_key.is_on())?;
        if let Some(domain) = &self.domain {
            gateway::domain::url(domain).map_err(|why| Unusable(format!("--domain: {why}")))?;
        }
        let models = self.models().await?;
        // Not before: a long download or digest ends at Ctrl-C as any program does.
        let stop = running::stop_signal()?;
        let mut config = Config::new(&self.dir, &self.name, "provider");
        config.recovery_file = Some(provider::recovery_file(
            self.recovery_key.as_ref(),
            &self.dir,
        ));
        if let Some(url) = self.log.as_ref().or(self.join.join.as_ref()) {
            config.home_log = Some(
                home_log::find(url, self.log_vkey.as_deref(), &self.dir, Named::Options).await?,
            );
        } else {
            home_log::refuse_forgotten(&self.dir, Named::Options)?;
        }
        let recorder = signer::open(&config, recorder::Context::system()?)?;
        if let Some(home) = &config.home_log {
            home_log::remember(home, &self.dir)?;
        }
        let root = recorder.identity().root_key_id();
        let mut listener = self.by_key.bind(&recorder).await?;
        let mut node = node::serve(NodeConfig {
            listen: self.listen,
            recorder,
            models,
        })
        .await?;
        println!("node      {}", node.base_url());
        println!("provider  {}", node.provider());
        provider::remind(&self.dir);
        if let Some(domain) = self.domain.clone() {
            node.call_own(domain);
        }
        match &config.home_log {
            Some(home) => {
                println!("log       {}", home.url);
                println!("key       {root}    (what the log's owner admits)");
            }
            None => println!("log       none: receipts stay in {}", self.dir.display()),
        }
        println!("Ctrl-C stops it: running answers finish, records are kept.");
        if let Some(listener) = &mut listener {
            by_key::serve(&mut node, listener);
        }
        let by_key = listener.as_ref().map(Listener::address);
        let announced = async {
            if let Some(listener) = &listener {
                by_key::relayed(listener).await;
            }
            self.join.announce(&node, by_key).await?;
            std::future::pending::<Result<()>>().await
        };
        let ended = tokio::select! {
            () = stop => Ok(ExitCode::SUCCESS),
            failed = announced => failed.map(|()| ExitCode::FAILURE),
        };
        node.shutdown(PATIENCE).await?;
        if let Some(listener) = listener {
            listener.close().await;
        }
        ended
    }

    async fn models(&self) -> Result<Vec<Served>> {
        let hub_file = match &self.hf {
            None => None,
            Some(name) => Some(hub::fetch(name).await?),
        };
        let source = hub_file.as_ref().map(|it| it.source.clone());
        if let Some(file) = hub_file.map(|it| it.path).or_else(|| self.model.clone()) {
            if self.model_name.len() > 1 {
                return Err(Unusable("a model file is served under one name".to_owned()).into());
            }
            let mut options = Options {
                model: self.model_name.first().cloned(),
                source,
                ..Options::default()
            };
            if let Some(workers) = self.workers {
                options.workers = workers;
            }
            let engine = Embedded::open(&file, &options).map_err(|e| Unusable(e.to_string()))?;
            return Ok(vec![Served::engine(Arc::new(engine))]);
        }
        let url = self
            .upstream
            .as_deref()
            .context("give --model, --hf or --upstream")?;
        let upstream = Upstream::new(
            url,
            self.api_key()?,
            engine::http::client(),
            Deadlines::default(),
        )?;
        let mut names = self.model_name.clone();
        if names.is_empty() {
            names = upstream.models().await.with_context(|| {
                format!("{url} does not list its models; name them with --model-name")
            })?;
        }
        if names.is_empty() {
            bail!("{url} lists no models; name one with --model-name");
        }
        let Some(place) = &self.weights else {
            return Ok(names
                .iter()
                .map(|name| Served::upstream(upstream.clone(), name))
                .collect());
        };
        let [name] = &names[..] else {
            return Err(Unusable(format!(
                "--weights is about one model, and there are {}: {}; name one with --model-name",
                names.len(),
                names.join(", ")
            ))
            .into());
        };
        let files = self.files(place)?;
        Ok(vec![Served::upstream_running(upstream, name, files)])
    }

    /// Digests of what the operator says the upstream runs.
    fn files(&self, place: &Path) -> Result<Files> {
        let mut cache = DigestCache::open(&self.dir.join("weights-digests.json"));
        let mut bar = progress::Bar::new();
        let facts = weights_facts(place, &mut cache, &mut |step| bar.show(step));
        bar.end();
        let facts = facts.map_err(|error| Unusable(error.to_string()))?;
        println!(
            "weights   sha256 {}",
            record::Digest::from_bytes(facts.weights_sha256).to_hex()
        );
        println!(
            "          your word that {} runs them; it is not checked",
            self.name_of_upstream()
        );
        Ok(Files {
            name: format!(
                "{} ({} bytes, by its operator)",
                facts.architecture, facts.weights_bytes
            ),
            weights_sha256: facts.weights_sha256,
            precision: facts.precision,
            tokenizer_sha256: facts.tokenizer_sha256,
            chat_template_sha256: facts.chat_template_sha256,
            context_length: facts.context_length,
        })
    }

    fn name_of_upstream(&self) -> &str {
        self.upstream.as_deref().unwrap_or("the upstream")
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
