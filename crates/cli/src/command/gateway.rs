//! `longrun gateway`: the OpenAI API in front of endpoints, with a record of what they do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use gateway::GatewayConfig;
use gateway::config::alarms::SECRET_ENV;
use gateway::config::{AlarmsConfig, Process, Secret, TracesConfig};
use gateway::keys;
use recorder::{Config, Context};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::provider;
use crate::files::{self, Unusable};
use crate::home_log::Named;
use crate::{home_log, listening, printing, running, signer};

mod around;
mod key;

/// The configuration that is read when none is named.
const CONFIG_DEFAULT: &str = "longrun.toml";

/// How long pending records may take to reach the log after the word to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `gateway`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Say who may call: make, list, replace and take away keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Print the description of the HTTP API (OpenAPI 3.1), as `GET /openapi.json` serves it.
    Openapi,
}

/// Arguments of `gateway` without a further word.
#[derive(Args)]
struct Serve {
    /// Endpoints, log, limits and routing; docs/gateway.md lists every key. Without this,
    /// `longrun.toml`; where that is not there either, the gateway looks around for APIs whose
    /// keys are in the environment and for model servers on this machine.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Say what would be done and what is wrong with it, reading every file that a start reads, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Keys, spool and identity of this gateway.
    #[arg(long, default_value = "longrun-gateway")]
    dir: PathBuf,
    /// What the gateway calls itself; fixed at the first start.
    #[arg(long, default_value = "gateway")]
    name: String,
    /// Where to listen; overrides the file.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listening::address)]
    listen: Option<SocketAddr>,
    /// Post news of trouble to this webhook; overrides the file. Signed with the secret in
    /// `LONGRUN_ALARMS_SECRET`, if it is set.
    #[arg(long, value_name = "URL")]
    alarms: Option<String>,
    /// Answer anyone without a key, even beyond this machine.
    #[arg(long)]
    open: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Some(Command::Key(command)) => command.run(),
            Some(Command::Openapi) => {
                println!("{:#}", gateway::openapi::document());
                Ok(ExitCode::SUCCESS)
            }
            None => running::block_on_gateway(self.serve.run()),
        }
    }
}

/// Nobody can be asked.
fn forwards_nothing(config: &GatewayConfig) -> bool {
    config.endpoints.is_empty() && config.networks.is_empty()
}

/// What a file says, and the environment that it names.
fn parse(file: &Path) -> Result<GatewayConfig> {
    let text = files::read_text(file)?;
    let config = GatewayConfig::parse(&text, file, &Process);
    config.map_err(|error| Unusable(error.to_string()).into())
}

/// What keeps a gateway from being started with a file that is well written.
fn lacks(config: &GatewayConfig) -> Vec<String> {
    let mut lacks = Vec::new();
    // As where nothing is found: such a gateway would answer every call with 404. One that shows what
    // others saw is of use without a call.
    let shows = config.merged.is_some() || config.imported.is_some();
    if forwards_nothing(config) && !shows {
        let why = "it names no [[endpoint]] and no network, so there is nothing to forward to, and no \
                   [merged] or [imported] history to show";
        lacks.push(why.to_owned());
    }
    if let Some(keys) = config.keys_file.as_ref().filter(|keys| !keys.exists()) {
        let why = "keys_file: there is no such file, and without one anybody would be answered; make the first \
                   key with `longrun gateway key add NAME`, or leave keys_file out";
        lacks.push(format!("{why}: {}", keys.display()));
    }
    lacks
}

impl Serve {
    /// The configuration as the file and the command line say it together.
    fn read(&self, file: &Path) -> Result<GatewayConfig> {
        let config = parse(file)?;
        if let Some(lack) = lacks(&config).into_iter().next() {
            return Err(Unusable(format!("{}: {lack}", file.display())).into());
        }
        self.with_arguments(config)
    }

    /// What the command line says goes before what a file says.
    fn with_arguments(&self, mut config: GatewayConfig) -> Result<GatewayConfig> {
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        config.open |= self.open;
        let keys_file = || keys::file_of(&self.dir);
        config.keys_file.get_or_insert_with(keys_file);
        config.checks_file = Some(self.dir.join(gateway::checks::FILE));
        if let Some(url) = &self.alarms {
            let secret = std::env::var(SECRET_ENV).ok();
            let secret = secret.as_deref().map(Secret::new).transpose();
            let secret = secret.map_err(|error| Unusable(format!("{SECRET_ENV}: {error}")))?;
            let alarms = AlarmsConfig::new(url, secret);
            config.alarms = Some(alarms.map_err(|why| Unusable(format!("--alarms: {why}")))?);
        }
        if let Some(alarms) = &mut config.alarms {
            let mut name = self.dir.file_name().unwrap_or_default().to_owned();
            name.push(".alarms.json");
            let beside = || self.dir.with_file_name(name);
            alarms.state_file.get_or_insert_with(beside);
        }
        // Of a file they have been read with it.
        if config.traces.is_none() {
            let traces = TracesConfig::from_variables(&Process);
            config.traces = traces.map_err(|error| Unusable(error.to_string()))?;
        }
        Ok(config)
    }

    /// The file to read, if there is one; a file that was asked for has to be there.
    fn file(&self) -> Option<PathBuf> {
        let default = || Some(PathBuf::from(CONFIG_DEFAULT)).filter(|file| file.exists());
        self.config.clone().or_else(default)
    }

    async fn run(self) -> Result<ExitCode> {
        let file = self.file();
        if self.dry_run {
            return self.rehearse(file.as_deref()).await;
        }
        // What it finds is told before it waits for the word to stop.
        printing::outlive_readers();
        let (config, later) = match &file {
            Some(file) => (self.read(file)?, None),
            None => {
                let (config, later) = around::configuration(self.listen, false).await?;
                (self.with_arguments(config)?, Some(later))
            }
        };
        self.serve(config, file, later).await
    }

    /// Says what a start would do, and everything that it would stumble over.
    async fn rehearse(&self, file: Option<&Path>) -> Result<ExitCode> {
        let (config, mut wrong) = match file {
            Some(file) => {
                let config = parse(file)?;
                let lacks = lacks(&config);
                (config, lacks)
            }
            None => (
                around::configuration(self.listen, true).await?.0,
                Vec::new(),
            ),
        };
        let mut config = self.with_arguments(config)?;
        config.dialer = Some(Arc::new(dial::Dialer::new(gateway::is_public)));
        let context = Context::system()?;
        let found = gateway::problems(&config, &self.dir, &context);
        wrong.extend(found.iter().map(ToString::to_string));
        if let Err(error) = recorder::check(&self.dir, &*context.random) {
            wrong.push(error.to_string());
        }
        let home = match &config.log {
            Some(log) => home_log::check(log.vkey.as_deref(), &self.dir),
            None => home_log::refuse_forgotten(&self.dir, Named::Configuration).map(|()| false),
        };
        let asks_for_key = home.unwrap_or_else(|error| {
            wrong.push(format!("log: {error:#}"));
            false
        });
        around::say(&config);
        if let (true, Some(log)) = (asks_for_key, &config.log) {
            println!(
                "would ask the log for its key at {}, and remember it",
                log.url
            );
        }
        // One key may be wrong in two ways, and two checks may find one thing.
        let mut told = BTreeSet::new();
        wrong.retain(|why| told.insert(why.clone()));
        for why in &wrong {
            match file {
                Some(file) => eprintln!("longrun: {}: {why}", file.display()),
                None => eprintln!("longrun: {why}"),
            }
        }
        Ok(if wrong.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        })
    }

    async fn serve(
        self,
        mut config: GatewayConfig,
        file: Option<PathBuf>,
        mut later: Option<around::Later>,
    ) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        // Opens nothing before somebody is dialed.
        let dialer = dial::Dialer::new(gateway::is_public);
        config.dialer = Some(Arc::new(dialer.clone()));
        let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let context = Context::system()?;
        let mut signer = Config::new(&self.dir, &self.name, "observer");
        signer.recovery_file = Some(provider::recovery_file(None, &self.dir));
        signer.spool.pending_rows = config.spool.records_max;
        signer.spool.pending_bytes = config.spool.max_bytes;
        if let Some(log) = &mut config.log {
            let url = log.url.to_string();
            let home = home_log::find(&url, log.vkey.as_deref(), &self.dir, Named::Configuration);
            let home = home.await?;
            log.vkey = Some(home.vkey.clone());
            signer.home_log = Some(home);
        } else {
            home_log::refuse_forgotten(&self.dir, Named::Configuration)?;
        }
        let recorder = signer::open(&signer, context.clone())?;
        if let Some(home) = &signer.home_log {
            home_log::remember(home, &self.dir)?;
        }
        let clients = gateway::client_secret(&self.dir, &*context.random)?;
        let log = config.log.as_ref().map(|log| log.url.to_string());
        let vkey = config.log.as_ref().and_then(|log| log.vkey.clone());
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let forwarded_nothing = forwards_nothing(&config);
        let mut in_force = config.clone();
        let handle =
            gateway::serve(config, recorder.clone(), context, clients, web::router()).await?;
        println!("gateway   {scheme}://{}", handle.address());
        println!("observer  {}", recorder.identity().id());
        if forwarded_nothing {
            println!("endpoints none: it shows what others saw, and answers no call");
        }
        provider::remind(&self.dir);
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
        if let Some(file) = file {
            let dialer = dialer.clone();
            handle.rereads_with(Box::new(move || {
                let mut config = self.read(&file).map_err(|error| format!("{error:#}"))?;
                if forwards_nothing(&config) && !forwarded_nothing {
                    let why = "it names no [[endpoint]] and no network any more; to serve nothing but \
                               histories, start the gateway with this file";
                    return Err(format!("{}: {why}", file.display()));
                }
                config.dialer = Some(Arc::new(dialer.clone()));
                if let Some(log) = &mut config.log {
                    // As it was found at the start.
                    log.vkey = log.vkey.take().or_else(|| vkey.clone());
                }
                Ok(config)
            }));
        }
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                found = around::next(&mut later) => {
                    around::tell(&found);
                    in_force.endpoints.push(found.endpoint);
                    if let Err(why) = handle.reload(in_force.clone()).await {
                        eprintln!("longrun: it is not used: {why}");
                    }
                }
                _ = hangup.recv() => match handle.reread().await {
                    Ok(()) => println!("reloaded"),
                    Err(why) => eprintln!("longrun: the configuration stays as it was: {why}"),
                },
            }
        }
        handle.stop().await;
        dialer.close().await;
        recorder.close(PATIENCE).await?;
        Ok(ExitCode::SUCCESS)
    }
}
