//! The caller's side: choose an endpoint, forward, observe, record.
//!
//! A gateway looks like the OpenAI API to those who call it and like one more caller to the
//! endpoints behind it. For each call it picks an endpoint by the history of its own records,
//! passes the request on byte for byte, passes the answer back as it comes, and makes one signed
//! observation per attempt. The answer never waits for the record.
//!
//! ```text
//! http ─▶ forward ─▶ choose (whose record is best) ─▶ plain | stream ─▶ engine::upstream
//!             │            ▲                              │
//!             │        history (fold of the log)          ▼
//!             ▼                                       attempt ─▶ observe ─▶ recorder ─▶ log
//!          answer                                                  │
//!                                                               receipt (checked first)
//! ```
//!
//! | Module | Holds |
//! |---|---|
//! | [`config`] | `longrun.toml` |
//! | [`outcome`] | what can be seen, and what it means |
//! | [`quirks`] | answers that do not mean what their status says |
//! | [`choose`] | the order of endpoints |
//! | [`breaker`], [`outlier`] | which endpoints are left alone for a while |
//! | [`budget`] | how much load retries may add |
//! | [`guard`] | which requests are served at all |
//! | [`checks`] | the user's own prompts, with assertions about the answers |
//! | [`discover`] | what is found where nobody configured anything |
//! | [`openapi`] | the description of the HTTP API |
//! | [`keys`] | the file of keys: who may call, and how much |
//! | `traces` | OpenTelemetry spans of calls and attempts |
//!
//! What it does not do: it keeps no prompt and no answer, puts neither into its logs, rewrites no
//! body but for a model's alias and its own preferences, follows no redirects, and never restarts
//! an answer whose first token has been passed on. There is no central gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use recorder::{Context, Recorder};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod alarms;
mod allowance;
mod answer;
mod append_file;
mod asks;
mod attempt;
mod body;
pub mod breaker;
pub mod budget;
mod by_key;
mod callers;
mod calls;
mod catalog;
pub mod checks;
pub mod choose;
mod concentration;
pub mod config;
mod decided;
pub mod discover;
pub mod domain;
mod door;
mod drill;
mod failure;
mod follow;
mod forward;
mod gateway;
pub mod guard;
mod hand_back;
mod health;
mod history;
mod http;
mod imported;
mod judge;
mod key_file;
pub mod keys;
mod listen;
mod lock;
mod log_client;
mod merged;
mod metrics;
mod network;
mod observe;
pub mod openapi;
pub mod outcome;
pub mod outlier;
mod outlook;
mod owners;
mod pins;
mod places;
mod plain;
mod preferences;
mod publish;
pub mod quirks;
mod receipt;
mod recent;
mod rehearsal;
mod request;
mod resume;
mod settings;
mod site;
mod status;
mod stream;
mod tls;
mod told_time;
mod traces;
mod unasked;
mod vitals;
mod whole;
mod wishes;

pub use answer::{CALL_HEADER, ENDPOINT_HEADER, WARNING_HEADER};
pub use attempt::{NONCE_HEADER, OBSERVER_HEADER, RECEIPT_HEADER, SECRET_HEADER, SEQ_HEADER};
pub use by_key::KeyRoute;
pub use config::GatewayConfig;
pub use gateway::StartError;
pub use history::journaled_records;
pub use network::reach::is_public;
pub use publish::retired_keys;
pub use rehearsal::problems;
pub use settings::{ConfigSource, ReloadError};
pub use traces::{passed_on, rejected_spans};

use allowance::Now;
use gateway::{Gateway, Made};
use key_file::KeyFileInForce;
use tls::Certificate;

/// How long after the start a call waits for endpoints that have not said yet who they are and what they
/// serve, if it needs one of them. Those that take longer join later.
pub const FIRST_DISCOVERY: Duration = Duration::from_secs(3);
/// How long answers under way may take after [`Handle::stop`].
pub const DRAIN: Duration = Duration::from_secs(10);
/// The file in a signer directory that holds the secret of client clusters.
pub const CLIENT_SECRET_FILE: &str = "client.secret";

/// Threads that answer calls, on a machine with so many cores: half of them. What is recorded is
/// signed, written and folded on threads of its own, and on few cores as many answering threads as
/// cores spend more time on waking one another than on calls.
#[must_use]
pub fn answering_threads(cores: usize) -> usize {
    cores.div_ceil(2)
}

/// A running gateway.
pub struct Handle {
    address: SocketAddr,
    gateway: Arc<Gateway>,
    /// How long answers under way may take, once the word to stop was given.
    stop: watch::Sender<Option<Duration>>,
    server: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts a gateway: listens, asks its endpoints who they are, follows its log.
///
/// `recorder` signs and keeps its observations; `clients` is the secret under which callers are
/// told apart in them ([`client_secret`]); `pages` are served beside the API. Returns once it
/// listens: endpoints are asked who they are meanwhile, see [`Handle::looked_around`].
///
/// # Errors
/// [`StartError`], naming the address or the key of the configuration.
pub async fn serve(
    config: GatewayConfig,
    recorder: Recorder,
    context: Context,
    clients: [u8; 32],
    pages: Router,
) -> Result<Handle, StartError> {
    let listen = config.listen;
    let refuse = |reason| StartError::Listen {
        address: listen,
        reason,
    };
    let listener = TcpListener::bind(listen).await.map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    let mut key_file = KeyFileInForce::new(config.keys_file.clone());
    let now = Now {
        steady_ms: 0,
        unix_ms: context.clock.unix_ms(),
    };
    let callers = key_file.open(now)?;
    let certificate = config.tls.clone().map(Certificate::open).transpose()?;
    settings::check_reach(&config, address, &callers)?;
    let made = Made {
        address,
        recorder,
        clock: context.clock,
        random: context.random,
        // Another use of the secret, under a name of its own.
        check_secret: *record::hmac_sha256(&clients, b"longrun checks").as_bytes(),
        clients: callers::Clients::new(&clients),
        callers,
    };
    let gateway = Gateway::new(config, made)?;
    let mut tasks = vec![
        tokio::spawn(Arc::clone(&gateway).keep_discovering()),
        tokio::spawn(history::keep_following(Arc::clone(&gateway))),
        tokio::spawn(concentration::keep(Arc::clone(&gateway))),
        tokio::spawn(imported::keep_reading(Arc::clone(&gateway))),
        tokio::spawn(key_file.keep_following(Arc::clone(&gateway))),
    ];
    tasks.push(tokio::spawn(checks::run::keep_checking(Arc::clone(
        &gateway,
    ))));
    if gateway.settings().config.spool.recording {
        let forecasting = outlook::keep_forecasting(Arc::clone(&gateway));
        tasks.push(tokio::spawn(forecasting));
    }
    let posting = gateway.settings().config.alarms.clone();
    if let (Some(alarms), Some(config)) = (&gateway.alarms, posting) {
        let (watching, posting) = (Arc::clone(&gateway), Arc::clone(&gateway));
        tasks.push(tokio::spawn(alarms::keep_watching(
            watching,
            Arc::clone(alarms),
        )));
        tasks.push(tokio::spawn(alarms::keep_posting(
            posting,
            Arc::clone(alarms),
            config,
        )));
    }
    tasks.extend(network::start(&gateway)?);
    tasks.push(tokio::spawn(domain::keep_asking(Arc::clone(&gateway))));
    tasks.extend(merged::start(&gateway)?);
    tasks.push(tokio::spawn(publish::keep_saying(Arc::clone(&gateway))));
    tasks.push(tokio::spawn(hand_back::keep_handing(Arc::clone(&gateway))));
    let acceptor = certificate.as_ref().map(Certificate::acceptor);
    if let Some(certificate) = certificate {
        tasks.push(tokio::spawn(certificate.keep_following()));
    }
    let (stop, stopped) = watch::channel(None);
    let service = Arc::new(http::Service::new(Arc::clone(&gateway), pages));
    let serving = Arc::clone(&gateway);
    let server = tokio::spawn(async move {
        let limits = || serving.settings().config.limits;
        let cut_off = || serving.stopping.store(true, Ordering::Relaxed);
        listen::serve(listener, service, limits, acceptor, stopped, cut_off).await;
    });
    Ok(Handle {
        address,
        gateway,
        stop,
        server,
        tasks,
    })
}

impl Handle {
    /// Where it listens; the port is the real one if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the endpoints have said who they are, or [`FIRST_DISCOVERY`] is over. Calls that need
    /// one of them wait for that by themselves.
    pub async fn looked_around(&self) {
        self.gateway.first_finds(|_| false).await;
    }

    /// Puts another configuration in force, without dropping a connection or an answer under way.
    /// Endpoints that stay as they were keep their connections and counters; new ones are asked
    /// who they are first, for at most [`FIRST_DISCOVERY`].
    ///
    /// # Errors
    /// [`ReloadError`], and then everything is as it was.
    pub async fn reload(&self, config: GatewayConfig) -> Result<(), ReloadError> {
        self.gateway.reload(config).await
    }

    /// Says how the configuration is read again, for [`Handle::reread`] and for
    /// `POST /longrun/v1/reload`. Said once; a second time changes nothing.
    pub fn rereads_with(&self, source: ConfigSource) {
        let _ = self.gateway.source.set(source);
    }

    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// As [`Handle::reload`]; and when it cannot be read.
    pub async fn reread(&self) -> Result<(), ReloadError> {
        self.gateway.reread().await
    }

    /// Stops in order: takes no more calls, lets answers under way finish for at most [`DRAIN`],
    /// and hands every observation to the recorder. Closing the recorder is the caller's part.
    pub async fn stop(self) {
        self.stop_within(DRAIN).await;
    }

    /// [`Handle::stop`] with another time for answers under way; what is not done by then is cut
    /// off, and recorded as the gateway's fault.
    pub async fn stop_within(self, drain: Duration) {
        let Self {
            gateway,
            stop,
            server,
            tasks,
            ..
        } = self;
        stop.send_replace(Some(drain));
        // A panic in a task has been reported where it happened.
        let _ = server.await;
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        gateway.observer.stop().await;
        let keeping = Arc::clone(&gateway);
        // A panic in it has been reported where it happened.
        let _ = tokio::task::spawn_blocking(move || keeping.histories.keep()).await;
        if let Some(tracer) = &gateway.tracer {
            tracer.stop().await;
        }
        key_file::keep_spent(&gateway);
    }
}

/// The secret under which callers are told apart, from a file beside the signer's keys; made on
/// first use, readable by its owner alone.
///
/// # Errors
/// [`StartError::Machine`], naming the file.
pub fn client_secret(
    directory: &Path,
    random: &dyn ring::rand::SecureRandom,
) -> Result<[u8; 32], StartError> {
    let path = secret_file(directory);
    if let Some(secret) = read_client_secret(&path)? {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    random
        .fill(&mut secret)
        .map_err(|_| wrong_secret(&path, &"this machine has no randomness"))?;
    write_private(&path, &secret).map_err(|error| wrong_secret(&path, &error))?;
    Ok(secret)
}

fn secret_file(directory: &Path) -> PathBuf {
    directory.join(CLIENT_SECRET_FILE)
}

fn wrong_secret(path: &Path, why: &dyn std::fmt::Display) -> StartError {
    StartError::Machine(format!("{}: {why}", path.display()))
}

/// The secret in a file, if there is one.
fn read_client_secret(path: &Path) -> Result<Option<[u8; 32]>, StartError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong_secret(path, &error)),
    };
    let short = "it does not hold 32 bytes; remove it, and callers of this week count as new";
    let secret = bytes.try_into().map_err(|_| wrong_secret(path, &short))?;
    Ok(Some(secret))
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
