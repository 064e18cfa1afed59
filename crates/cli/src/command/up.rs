//! `longrun up`: a whole network in one process, with nothing else installed.
//!
//! A log, three nodes on the demonstration model, a gateway and light traffic, each with its own
//! port, directory and keys; they speak HTTP with one another as they would across machines. The
//! same directory carries on where it was stopped, or killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use gateway::GatewayConfig;
use gateway::config::{EndpointConfig, LogConfig, Secret};
use recorder::{Config, Context, HomeLog, Recorder};
use services::log::LogOptions;
use services::log_server::{LogServer, ServeError, ServeOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::log_files::LogFiles;
use crate::{files, running};

mod nodes;
mod words;

use super::{traffic, trust};
use nodes::{MODEL, RunningNode};

/// How long running answers and pending records may take after the word to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the first control records may take to reach the log.
const FIRST_RECORDS: Duration = Duration::from_secs(20);
/// A free port on this machine.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Arguments of `up`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Everything is kept here; the same directory carries on.
    #[arg(long, default_value = "longrun-data")]
    dir: PathBuf,
    /// Where the gateway listens; the log and the nodes take free ports of this machine.
    #[arg(long, default_value = gateway::config::LISTEN_DEFAULT)]
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
        drop(tokio::net::TcpListener::bind(self.listen).await.with_context(|| {
            format!(
                "cannot listen on {}: is another network running? Choose another port with --listen",
                self.listen
            )
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
        let (server, home, read_token) = open_log(&self.dir.join("log")).await?;
        let log_url = home.url.clone();
        let (stop_log, mut log_stops) = watch::channel(false);
        let log = tokio::spawn(server.run(async move {
            let _ = log_stops.wait_for(|stop| *stop).await;
        }));

        let nodes = nodes::start(&self.dir, &home, self.seed).await?;
        let context = Context::system()?;
        let directory = self.dir.join("gateway");
        let mut signer = Config::new(&directory, "gateway", "observer");
        signer.home_log = Some(home.clone());
        let observer = Recorder::open(&signer, context.clone())?;
        let config = self.gateway_config(&home, &read_token, &nodes)?;
        let clients = gateway::client_secret(&directory, &*context.random)?;
        let gateway =
            gateway::serve(config, observer.clone(), context, clients, web::router()).await?;

        let signers = nodes.iter().map(|n| n.node.recorder()).chain([&observer]);
        let signers: Vec<_> = signers.map(|recorder| recorder.identity().id()).collect();
        export_trust(&self.dir, &signers).await?;

        let url = format!("http://{}", gateway.address());
        words::welcome(&url, &log_url, &nodes, &self.dir, !self.no_traffic);
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
        config.log = Some(LogConfig {
            url: home.url.parse().context("the log's address is a URL")?,
            read_token: Some(Secret::new(read_token)?),
            vkey: Some(home.vkey.clone()),
        });
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
        Ok(())
    }
}

async fn open_log(directory: &Path) -> Result<(LogServer, HomeLog, String)> {
    let server = LogServer::bind(ServeOptions {
        directory: directory.to_owned(),
        log: LogOptions::default(),
        listen: ANY_PORT,
    })
    .await?;
    let home = HomeLog {
        url: format!("http://{}", server.address()),
        vkey: server.log().vkey().to_owned(),
    };
    let read_token = server.log().read_token().to_owned();
    Ok((server, home, read_token))
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
