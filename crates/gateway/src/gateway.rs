//! The gateway's parts in one place, and what it does while nobody calls.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Duration;

use engine::http::Client;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use record::{Provider, Word};
use recorder::{Clock, Random, Recorder};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::alarms::{self, Alarms};
use crate::allowance::Now;
use crate::budget::Budget;
use crate::callers::{Callers, Clients};
use crate::catalog::{Catalog, Live};
use crate::concentration;
use crate::config::GatewayConfig;
use crate::decided::Decisions;
use crate::history::Histories;
use crate::lock::{read, write};
use crate::metrics::Metrics;
use crate::network::Networks;
use crate::observe::Observer;
use crate::pins::Pins;
use crate::recent::Recent;
use crate::settings::{ConfigSource, Settings};
use crate::site::{Site, Standing};
use crate::traces::Tracer;

/// How often sites are asked again who they are and what they serve.
const DISCOVERY_EVERY: Duration = Duration::from_secs(30);
/// How often a call looks whether what it waits for was found, right after the start.
const FOUND_EVERY: Duration = Duration::from_millis(10);
/// How often those are asked that have not answered.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// A gateway at work.
pub(crate) struct Gateway {
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) client: Client,
    pub(crate) clients: Clients,
    pub(crate) callers: Callers,
    pub(crate) metrics: Metrics,
    pub(crate) region: Word,
    /// This gateway's instance key, as nodes are told.
    pub(crate) observer_header: HeaderValue,
    pub(crate) observer: Observer,
    pub(crate) recent: Recent,
    pub(crate) decisions: Decisions,
    /// Which endpoint gave which response.
    pub(crate) pins: Pins,
    pub(crate) histories: Histories,
    pub(crate) networks: Networks,
    pub(crate) domains: crate::domain::Domains,
    pub(crate) concentration: concentration::Kept,
    /// Where news of trouble go, if anywhere.
    pub(crate) alarms: Option<Arc<Alarms>>,
    /// Traces calls, where there is a receiver for it.
    pub(crate) tracer: Option<Tracer>,
    pub(crate) stopping: AtomicBool,
    /// What is left for retries and hedges.
    pub(crate) budget: Mutex<Budget>,
    /// Attempts that got no number, and so no record.
    pub(crate) unnumbered: AtomicU64,
    pub(crate) started_ms: u64,
    started: Instant,
    pub(crate) address: SocketAddr,
    pub(crate) settings: RwLock<Arc<Settings>>,
    /// How the configuration is read again, if it came from somewhere.
    pub(crate) source: OnceLock<ConfigSource>,
    /// Whether the sites of the configuration have had their time to say who they are.
    looked_around: watch::Sender<bool>,
    pub(crate) checking: crate::checks::run::Checking,
    /// The secret behind the digests of checks.
    pub(crate) check_secret: [u8; 32],
    /// Held while a report is looked up and recorded: one at a time.
    pub(crate) judging: tokio::sync::Mutex<()>,
    /// Held while the settings are being replaced: one at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    catalog: RwLock<Arc<Catalog>>,
    draws: AtomicU64,
}

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An endpoint of the configuration.
    #[error("endpoint {url}: {reason}")]
    Endpoint {
        /// Its URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log of the configuration.
    #[error("log: {0}")]
    Log(String),
    /// Another value of the configuration.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The address is taken, not allowed, or not this machine's. The message has the reason, so that
    /// it is no source of it.
    #[error("{}", engine::http::cannot_listen(*address, reason))]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// The machine.
    #[error("the gateway cannot start: {0}")]
    Machine(String),
}

/// What a gateway is made of, besides its configuration.
pub(crate) struct Made {
    /// Where it listens; the port is the real one.
    pub(crate) address: SocketAddr,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) clients: Clients,
    pub(crate) callers: Callers,
    pub(crate) check_secret: [u8; 32],
}

impl Gateway {
    pub(crate) fn new(config: GatewayConfig, made: Made) -> Result<Arc<Self>, StartError> {
        let Made {
            address,
            recorder,
            clock,
            random,
            clients,
            callers,
            check_secret,
        } = made;
        let region = crate::observe::region(&config.region).map_err(|e| StartError::Value {
            key: "region",
            reason: e.to_string(),
        })?;
        let observer_header =
            HeaderValue::from_str(&recorder.identity().key_id().to_hex()).expect("hex is a header");
        let histories = Histories::new(&config, &recorder)?;
        let alarms = config.alarms.as_ref().map(alarms::open);
        let instance = recorder.identity().id().to_hex();
        let traces = config.traces.clone();
        let tracer = traces.map(|traces| Tracer::start(traces, &instance));
        let settings = Settings::new(config, address, &[])?;
        let catalog = Catalog::of(&settings.sites, &Catalog::default(), &recorder);
        let mut failed = None;
        let gateway = Arc::new_cyclic(|weak: &Weak<Self>| Self {
            observer: Observer::start(weak.clone()).unwrap_or_else(|error| {
                failed = Some(error);
                Observer::idle(weak.clone())
            }),
            recent: Recent::default(),
            decisions: Decisions::default(),
            pins: Pins::default(),
            stopping: AtomicBool::new(false),
            budget: Mutex::default(),
            unnumbered: AtomicU64::new(0),
            started_ms: clock.unix_ms(),
            started: Instant::now(),
            address,
            client: engine::http::client(),
            catalog: RwLock::new(Arc::new(catalog)),
            draws: AtomicU64::new(0),
            settings: RwLock::new(Arc::new(settings)),
            source: OnceLock::new(),
            looked_around: watch::Sender::new(false),
            judging: tokio::sync::Mutex::new(()),
            checking: crate::checks::run::Checking::default(),
            check_secret,
            reloading: tokio::sync::Mutex::new(()),
            recorder,
            clock,
            random,
            clients,
            callers,
            metrics: Metrics::new(),
            region,
            observer_header,
            histories,
            networks: Networks::default(),
            domains: crate::domain::Domains::default(),
            concentration: concentration::Kept::default(),
            alarms,
            tracer,
        });
        match failed {
            Some(error) => Err(StartError::Machine(error.to_string())),
            None => Ok(gateway),
        }
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&read(&self.catalog))
    }

    /// What is in force at the moment.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&read(&self.settings))
    }

    /// Milliseconds since the start: for what must not jump with the wall clock.
    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Both clocks, for limits.
    pub(crate) fn now(&self) -> Now {
        Now {
            steady_ms: self.uptime_ms(),
            unix_ms: self.clock.unix_ms(),
        }
    }

    /// The number of the next draw.
    pub(crate) fn next_draw(&self) -> u64 {
        self.draws.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether an endpoint's provider has the same home log as this gateway, so that its receipts
    /// can be sent there too.
    pub(crate) fn shares_log_with(&self, live: &Live) -> bool {
        let (Provider::Joined(_), Some(joined), Some(log)) = (
            &live.id.provider,
            live.site.joined(),
            self.recorder.home_log(),
        ) else {
            return false;
        };
        joined.chain.home_log().as_str() == log.name()
    }

    /// Asks a site again because of a receipt, unless that was done just now.
    pub(crate) async fn refresh(&self, site: &Arc<Site>, at_most_every: Duration) {
        // Whoever comes while the site is being asked waits for the answer.
        let mut refreshed = site.refreshed.lock().await;
        if refreshed.is_none_or(|at| at.elapsed() >= at_most_every) {
            site.discover().await;
            self.recatalog();
            *refreshed = Some(Instant::now());
        }
    }

    /// Asks every site that `wanted` picks, at once.
    async fn discover(&self, wanted: impl Fn(&Standing) -> bool) {
        let settings = self.settings();
        let found = self.networks.sites();
        let all = settings.sites.iter().chain(&found);
        let asked = all.filter(|site| wanted(&site.known().standing));
        futures_util::future::join_all(asked.map(|site| site.discover())).await;
        self.recatalog();
    }

    /// The first round of questions: what one site says is known at once, however long others take.
    /// Returns when all have answered or `patience` is over.
    async fn look_around(&self, patience: Duration) {
        let settings = self.settings();
        let ask = |site: &Arc<Site>| {
            let site = Arc::clone(site);
            async move { site.discover().await }
        };
        let mut asked: FuturesUnordered<_> = settings.sites.iter().map(ask).collect();
        let all = async {
            while asked.next().await.is_some() {
                self.recatalog();
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
        self.looked_around.send_replace(true);
    }

    pub(crate) fn has_looked_around(&self) -> bool {
        *self.looked_around.borrow()
    }

    /// Waits until the catalog has what is wanted, or the first round of questions is over: at most
    /// [`crate::FIRST_DISCOVERY`] after the start, and never later.
    pub(crate) async fn first_finds(&self, has: impl Fn(&Catalog) -> bool) {
        let mut looked_around = self.looked_around.subscribe();
        while !*looked_around.borrow_and_update() && !has(&self.catalog()) {
            // The sender is this gateway's own.
            let _ = tokio::time::timeout(FOUND_EVERY, looked_around.changed()).await;
        }
    }

    /// Keeps asking, for good.
    pub(crate) async fn keep_discovering(self: Arc<Self>) {
        self.look_around(crate::FIRST_DISCOVERY).await;
        let mut all_again = Instant::now() + DISCOVERY_EVERY;
        loop {
            tokio::time::sleep(DISCOVERY_RETRY).await;
            if Instant::now() >= all_again {
                all_again = Instant::now() + DISCOVERY_EVERY;
                self.discover(|_| true).await;
            } else {
                self.discover(|standing| *standing != Standing::Ready).await;
            }
        }
    }

    pub(crate) fn recatalog(&self) {
        let mut catalog = write(&self.catalog);
        let mut sites = self.settings().sites.clone();
        sites.extend(self.networks.sites());
        let next = Catalog::of(&sites, &catalog, &self.recorder);
        *catalog = Arc::new(next);
        drop(catalog);
        self.histories.judge(&self.catalog(), self.clock.unix_ms());
    }
}
