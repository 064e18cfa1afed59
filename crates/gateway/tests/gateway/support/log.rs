//! A real log for tests, over HTTP on a port of its own.

use std::time::Duration;

use gateway::config::{GatewayConfig, LogConfig, Secret};
use recorder::HomeLog;
use services::log::LogOptions;
use services::log_server::{LogServer, ServeOptions};
use services::quota::{Rules, Who};
use tokio::sync::oneshot;

use super::faulty::Faulty;
use super::faulty::signer::Node;
use super::{Running, config, endpoint};

pub const ORIGIN: &str = "log.example/test";

/// A real log on a port of its own.
pub struct Log {
    pub directory: tempfile::TempDir,
    pub address: std::net::SocketAddr,
    pub vkey: String,
    pub token: String,
    stop: Option<oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Log {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, "127.0.0.1:0".parse().expect("an address")).await
    }

    pub async fn start_in(directory: tempfile::TempDir, listen: std::net::SocketAddr) -> Self {
        Self::start_as(ORIGIN, directory, listen).await
    }

    pub async fn start_as(
        origin: &str,
        directory: tempfile::TempDir,
        listen: std::net::SocketAddr,
    ) -> Self {
        let options = ServeOptions {
            directory: directory.path().join("log"),
            log: LogOptions {
                origin: Some(origin.to_owned()),
                period: Duration::from_millis(20),
                admission: Rules::new(Who::Anyone),
                ..LogOptions::default()
            },
            listen,
        };
        let server = LogServer::bind(options).await.expect("the log opens");
        let (vkey, token) = (
            server.log().vkey().to_owned(),
            server.log().read_token().to_owned(),
        );
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            server.run(stopped).await.expect("the log runs");
        });
        Self {
            directory,
            address,
            vkey,
            token,
            stop: Some(stop),
            running: Some(running),
        }
    }

    pub async fn stop(mut self) -> (tempfile::TempDir, std::net::SocketAddr) {
        let _ = self.stop.take().expect("running").send(());
        self.running.take().expect("running").await.expect("stops");
        (self.directory, self.address)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn home(&self) -> HomeLog {
        HomeLog {
            url: self.url(),
            vkey: self.vkey.clone(),
        }
    }

    /// Without objectives, and so without forecasts, which are signed by the clock of the machine: the log
    /// grows by what is called, and by nothing else.
    pub fn config(&self, upstreams: &[&Faulty]) -> GatewayConfig {
        let mut config = config();
        config.objectives.clear();
        config.endpoints = upstreams
            .iter()
            .map(|upstream| endpoint(upstream))
            .collect();
        config.log = Some(LogConfig {
            url: self.url().parse().expect("a URL"),
            read_token: Some(Secret::new(&self.token).expect("a token")),
            vkey: None,
        });
        config
    }

    /// What a node does when it starts: its own statements go to its home log first.
    pub async fn takes(&self, node: &Node) {
        let lines: Vec<u8> = node
            .statements()
            .iter()
            .flat_map(|envelope| [envelope.to_json(), b"\n".to_vec()].concat())
            .collect();
        let request = hyper::Request::post(format!("{}/longrun/v1/records", self.url()))
            .body(http_body_util::Full::new(bytes::Bytes::from(lines)))
            .expect("a request");
        let answer = engine::http::client()
            .request(request)
            .await
            .expect("the log answers");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// A gateway whose records go here and whose history comes from here.
    pub async fn gateway(&self, upstreams: &[&Faulty]) -> Running {
        Running::start(self.config(upstreams), Some(self.home())).await
    }
}
