//! `longrun up`: a whole network in one process, with nothing else installed.
//!
//! A log and its two witnesses, three nodes on the demonstration model, a gateway and light traffic, each with its own
//! port, directory and keys; they speak HTTP with one another as they would across machines. The
//! same directory carries on where it was stopped, or killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use gateway::GatewayConfig;
use gateway::config::{EndpointConfig, LogConfig, NetworkConfig, Process, Secret, TracesConfig};
use record::Envelope;
use recorder::{Config, Context, HomeLog, Recorder};
use services::admission::Submission;
use services::cosigning::{self, CosigningOptions};
use services::layout;
use services::log::{self, Log, LogOptions};
use services::log_server::{LogServer, ServeError, ServeOptions};
use services::quota::{AdmittedKey, Quota, Rules, Who};
use tlog::log_policy::LogPolicy;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::log_files::LogFiles;
use crate::{files, listening, running, signer};

mod nodes;
mod witnesses;
mod words;

use super::{traffic, trust};
use nodes::{MODEL, RunningNode};
use witnesses::Witnesses;

/// How long running answers and pending records may take after the word to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the first control records may take to reach the log.
const FIRST_RECORDS: Duration = Duration::from_secs(20);
/// What each signer of this network may append; strangers have the limits of an open log.
const OWN_QUOTA: Quota = Quota {
    records_per_s: 20_000,
    burst: 200_000,
};
/// A free port on this machine.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Arguments of `up`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Everything is kept here; the same directory carries on.
    #[arg(long, default_value = "longrun-data")]
    dir: PathBuf,
    /// Where the gateway listens; the log and the nodes take free ports of this machine.
    #[arg(long, default_value = gateway::config::LISTEN_DEFAULT, value_name = "ADDRESS:PORT", value_parser = listening::address)]
    listen: SocketAddr,
    /// What exploration, faults and traffic follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Make no calls of its own.
    #[arg(long)]
    no_traffic: bool,
}

/// The parts of a running network, in the order in which they are stopped.
struct Network {
    traffic: Option<JoinHandle<()>>,
    gateway: gateway::Handle,
    observer: Recorder,
    nodes: Vec<RunningNode>,
    log: JoinHandle<Result<(), ServeError>>,
    witnesses: Witnesses,
    stop_traffic: watch::Sender<bool>,
    stop_log: watch::Sender<bool>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        running::block_on(self.up())
    }

    async fn up(self) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        // Before anything is made: a port in use should leave no trace.
        let listening = tokio::net::TcpListener::bind(self.listen).await;
        drop(listening.map_err(|why| {
            let told = engine::http::cannot_listen(self.listen, &why);
            anyhow::anyhow!("{told} (--listen says where)")
        })?);
        files::make_dir(&self.dir)?;
        let mut network = self.start().await?;
        let mut log_ended = false;
        tokio::select! {
            () = stop => println!("\nstopping: running answers finish, records are kept"),
            ended = &mut network.log => {
                log_ended = true;
                eprintln!("longrun: the log ended by itself: {ended:?}");
            }
        }
        network.stop(log_ended).await?;
        Ok(if log_ended {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    async fn start(&self) -> Result<Network> {
        let (server, witnesses) = open_log(&self.dir).await?;
        let opened = server.log().clone();
        let home = HomeLog {
            url: format!("http://{}", server.address()),
            vkey: opened.vkey().to_owned(),
        };
        let (stop_log, mut log_stops) = watch::channel(false);
        let log = tokio::spawn(server.run(async move {
            let _ = log_stops.wait_for(|stop| *stop).await;
        }));

        open_to_anyone(&opened)?;
        for (name, directory) in nodes::directories(&self.dir) {
            admit(&opened, name, &directory)?;
        }
        let nodes = nodes::start(&self.dir, &home, self.seed).await?;
        for running in &nodes {
            recall_delegations(&opened, running.node.recorder())?;
        }
        let context = Context::system()?;
        let directory = self.dir.join("gateway");
        admit(&opened, "gateway", &directory)?;
        let mut signer = Config::new(&directory, "gateway", "observer");
        signer.home_log = Some(home.clone());
        let observer = signer::open(&signer, context.clone())?;
        recall_delegations(&opened, &observer)?;
        let config = self.gateway_config(&home, opened.read_token(), &nodes)?;
        let clients = gateway::client_secret(&directory, &*context.random)?;
        let gateway =
            gateway::serve(config, observer.clone(), context, clients, web::router()).await?;
        gateway.looked_around().await;

        let signers = nodes.iter().map(|n| n.node.recorder()).chain([&observer]);
        let signers: Vec<_> = signers.map(|recorder| recorder.identity().id()).collect();
        export_trust(&self.dir, &signers).await?;

        let url = format!("http://{}", gateway.address());
        let parts = words::Parts {
            gateway: &url,
            log: &home.url,
            witnesses: &witnesses.urls(),
            nodes: &nodes,
        };
        words::welcome(&parts, &self.dir, !self.no_traffic);
        let (stop_traffic, traffic_stops) = watch::channel(false);
        let traffic = (!self.no_traffic).then(|| {
            let client = engine::http::client();
            tokio::spawn(traffic::run(
                client,
                url,
                MODEL.to_owned(),
                self.seed,
                traffic_stops,
            ))
        });
        Ok(Network {
            traffic,
            gateway,
            observer,
            nodes,
            log,
            witnesses,
            stop_traffic,
            stop_log,
        })
    }

    fn gateway_config(
        &self,
        home: &HomeLog,
        read_token: &str,
        nodes: &[RunningNode],
    ) -> Result<GatewayConfig> {
        let mut config = GatewayConfig::listening_on(self.listen);
        config.routing.seed = self.seed;
        config.traces = TracesConfig::from_variables(&Process)?;
        // Made with `longrun gateway key add NAME --dir DIR/gateway`; needed beyond this machine.
        config.keys_file = Some(gateway::keys::file_of(&self.dir.join("gateway")));
        config.checks_file = Some(self.dir.join("gateway").join(gateway::checks::FILE));
        config.log = Some(LogConfig {
            url: home.url.parse().context("the log's address is a URL")?,
            read_token: Some(Secret::new(read_token)?),
            vkey: Some(home.vkey.clone()),
        });
        // Whoever joins this log is found, and is on this machine.
        let mut network = NetworkConfig::of(home.url.parse().context("the log's address")?);
        network.vkey = Some(home.vkey.clone());
        network.allow_private = true;
        config.networks.push(network);
        for running in nodes {
            let mut endpoint = EndpointConfig::at(&running.node.base_url())?;
            endpoint.name = Some(running.name.to_owned());
            endpoint.provider = Some(running.node.provider().to_string());
            config.endpoints.push(endpoint);
        }
        Ok(config)
    }
}

impl Network {
    /// Stops in the order in which evidence flows, so that each part can still hand on what it has.
    async fn stop(self, log_ended: bool) -> Result<()> {
        self.stop_traffic.send_replace(true);
        if let Some(traffic) = self.traffic {
            // A panic in it has been reported where it happened.
            let _ = traffic.await;
        }
        self.gateway.stop().await;
        self.observer.close(PATIENCE).await?;
        for running in self.nodes {
            running.node.shutdown(PATIENCE).await?;
        }
        if !log_ended {
            self.stop_log.send_replace(true);
            self.log.await.context("the log's task")??;
        }
        self.witnesses.stop().await;
        Ok(())
    }
}

/// Opens the log with its witnesses, who must know its key before it asks them.
async fn open_log(dir: &Path) -> Result<(LogServer, Witnesses)> {
    let directory = dir.join("log");
    let vkey = log::prepare(&directory, None, &ring::rand::SystemRandom::new())?;
    let witnesses = Witnesses::start(dir, &vkey).await?;
    let policy = LogPolicy::parse(witnesses.policy(true).as_bytes())?;
    let cosigning =
        CosigningOptions::over_http(policy, cosigning::TIMEOUT).map_err(anyhow::Error::msg)?;
    let kept = witnesses.policy(false);
    files::write_whole(&directory.join(layout::WITNESSES), kept.as_bytes())?;
    let server = LogServer::bind(ServeOptions {
        directory,
        log: LogOptions {
            cosigning: Some(cosigning),
            ..LogOptions::default()
        },
        listen: ANY_PORT,
    })
    .await?;
    Ok((server, witnesses))
}

/// Anyone on this machine may append, within limits, so that further nodes can join.
fn open_to_anyone(log: &Log) -> Result<()> {
    log.gate().update(|rules| {
        rules.who = Who::Anyone;
        rules.per_key = Rules::open().per_key;
    })?;
    Ok(())
}

/// Lets a signer of this network append: its root key is listed, and whom that delegates follows.
fn admit(log: &Log, name: &str, directory: &Path) -> Result<()> {
    let root = recorder::root_key_id(directory, &ring::rand::SystemRandom::new())?;
    log.gate().update(|rules| {
        rules.admit(AdmittedKey {
            key: root,
            name: name.to_owned(),
            quota: Some(OWN_QUOTA),
        });
    })?;
    Ok(())
}

/// A log that was made before it admitted keys has seen the delegations and not noted them.
fn recall_delegations(log: &Log, recorder: &Recorder) -> Result<()> {
    for control in recorder.identity().controls() {
        let record = Envelope::clone(control).open()?;
        log.gate().charge(&Submission::of(&record))?;
    }
    Ok(())
}

/// Writes the trust material of this network once every signer's first records are in the log.
async fn export_trust(dir: &Path, signers: &[record::SignerId]) -> Result<()> {
    let deadline = tokio::time::Instant::now() + FIRST_RECORDS;
    loop {
        let (log, out, signers) = (dir.join("log"), dir.join("trust"), signers.to_vec());
        let exported = tokio::task::spawn_blocking(move || {
            trust::export(&LogFiles::open(&log)?, &signers, &out)
        })
        .await?;
        match exported {
            Ok(_) => return Ok(()),
            Err(why) if tokio::time::Instant::now() > deadline => {
                bail!("the first records of this network did not reach its log: {why:#}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
