//! A log over HTTP: the C2SP read path as static files, and appending.
//!
//! | | |
//! |---|---|
//! | `GET /checkpoint`, `/tile/<L>/<N>[.p/<W>]`, `/tile/entries/<N>[.p/<W>]` | C2SP tlog-tiles |
//! | `GET /successor.json`, `/predecessor.json`, `/retention.json` | the shard before and after, and what is kept; see [`crate::shard`], [`crate::retention`] |
//! | `POST /longrun/v1/records` | envelopes, one JSON object a line; answered once published |
//! | `GET /longrun/v1/bodies/<N>[.p/<W>]` | bodies, for whoever has the read token |
//! | `GET /longrun/v1/public/<N>[.p/<W>]` | the same for anyone, with the bodies of control records, manifests and offers alone |
//! | `GET /longrun/v1/published/<N>[.p/<W>]` | the same, and every record of signers who publish theirs |
//! | `POST /longrun/v1/publish` | a signer's word on that; see [`crate::consent`] |
//! | `GET /longrun/v1/log` | origin, key, size, limits |
//!
//! It listens where it is told to, by default on this machine only. Errors are
//! `{"error": {"code", "message"}}`.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::log::{Log, LogOptions};
use crate::sequencer::OpenError;

mod answer;
mod filtered;
mod publish;
mod read;
mod records;

pub use records::{LINES_MAX, REQUEST_BYTES_MAX};

/// Where a log listens unless told otherwise: this machine only.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4180);
/// How long requests under way may take after the word to stop.
pub const DRAIN: Duration = Duration::from_secs(5);

/// How to serve a log.
pub struct ServeOptions {
    /// The log's directory.
    pub directory: PathBuf,
    /// How to open it.
    pub log: LogOptions,
    /// Where to listen.
    pub listen: SocketAddr,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The log did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address cannot be had. The message has the reason, so that it is no source of it.
    #[error("{}", engine::http::cannot_listen(*address, reason))]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        reason: std::io::Error,
    },
    /// The sequencer ended by itself.
    #[error("the log stopped: {0}; start it again")]
    Stopped(String),
}

/// A log that listens already.
pub struct LogServer {
    log: Log,
    listener: TcpListener,
    address: SocketAddr,
}

/// Opens a log, serves it until `shutdown`, and finishes everything that was accepted.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    LogServer::bind(options).await?.run(shutdown).await
}

impl LogServer {
    /// Opens the log and the address.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(options: ServeOptions) -> Result<Self, ServeError> {
        let ServeOptions {
            directory,
            log,
            listen,
        } = options;
        let fail = |reason| ServeError::Listen {
            address: listen,
            reason,
        };
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let opened = tokio::task::spawn_blocking(move || Log::open(&directory, log)).await;
        let log = opened.map_err(|error| ServeError::Stopped(error.to_string()))??;
        Ok(Self {
            log,
            listener,
            address,
        })
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then finishes everything that was accepted.
    ///
    /// # Errors
    /// [`ServeError::Stopped`] if the sequencer ended by itself.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let log = self.log;
        let stopping = log.clone();
        // A log that was ended has no such thread, and is served all the same.
        let ended = log.end().is_some();
        let (told, asked) = tokio::sync::oneshot::channel::<()>();
        let stopped = tokio::spawn(async move {
            let mut published = stopping.sequencer().watch();
            tokio::select! {
                () = shutdown => {}
                // The channel closes when the sequencer's thread ends.
                () = async { while published.changed().await.is_ok() {} }, if !ended => {}
            }
            drop(told);
            // At once, so that requests which wait for the next round get their answers.
            tokio::task::spawn_blocking(move || stopping.stop()).await
        });
        let service = TowerToHyperService::new(router(log.clone()));
        let stop = async { drop(asked.await) };
        engine::http::serve(self.listener, service, stop, DRAIN).await;
        if !matches!(stopped.await, Ok(Ok(()))) {
            tracing::error!("the log did not stop in order");
        }
        match log.sequencer().failure() {
            Some(reason) => Err(ServeError::Stopped(reason)),
            None => Ok(()),
        }
    }
}

/// The routes of a log, to be served alone or within something larger.
pub fn router(log: Log) -> Router {
    Router::new()
        .route("/checkpoint", get(read::checkpoint))
        .route("/tile/{*path}", get(read::tile))
        .route("/successor.json", get(read::successor))
        .route("/predecessor.json", get(read::predecessor))
        .route("/retention.json", get(read::retention))
        .route("/longrun/v1/bodies/{*path}", get(read::bodies))
        .route("/longrun/v1/public/{*path}", get(read::public))
        .route("/longrun/v1/published/{*path}", get(publish::published))
        .route("/longrun/v1/publish", post(publish::hear))
        .route("/longrun/v1/log", get(read::about))
        .route("/longrun/v1/records", post(records::append))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(records::Served::new(log))
}
