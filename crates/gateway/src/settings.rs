//! The configuration in force, and how another one takes its place while calls are under way.
//!
//! Whoever answers a call takes the settings once and keeps them to its end, so a call sees one
//! configuration and never half of two. Sites are carried over with their connections, their
//! counters and what they said about themselves, as long as they keep name, URL and key; a stream from a
//! site that is no longer listed runs to its end. Whatever is wrong with a new configuration is
//! found before anything of the old one is let go.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::MutexGuard;

use crate::by_key;
use crate::callers::Callers;
use crate::config::{EndpointConfig, GatewayConfig};
use crate::gateway::{Gateway, StartError};
use crate::guard::Guard;
use crate::lock::write;
use crate::site::{Site, Standing};

/// What is in force at one moment.
pub(crate) struct Settings {
    pub(crate) config: GatewayConfig,
    pub(crate) sites: Vec<Arc<Site>>,
    pub(crate) guard: Guard,
}

/// Why a new configuration is not put in force. The old one stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It differs where only a start can make a difference.
    #[error("{0} cannot change while the gateway runs: stop it and start it again")]
    Fixed(&'static str),
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The gateway was not started from a configuration that can be read again.
    #[error("this gateway was not started from a file, so there is nothing to read again")]
    NoSource,
    /// It would not have been started with either.
    #[error("{0}")]
    Unusable(#[from] StartError),
}

impl Settings {
    /// The settings of `config`. Of the sites in `before`, those that are configured as they were
    /// are kept, and those that are so but for plain settings live on in new ones.
    pub(crate) fn new(
        config: GatewayConfig,
        address: SocketAddr,
        before: &[Arc<Site>],
    ) -> Result<Self, StartError> {
        let kept = |site: &&Arc<Site>| !config.endpoints.contains(&site.config);
        let mut changed: Vec<&Arc<Site>> = before.iter().filter(kept).collect();
        let site = |endpoint: &EndpointConfig| {
            if let Some(same) = before.iter().find(|site| site.config == *endpoint) {
                return Ok(Arc::clone(same));
            }
            // A client of its own: the time to connect is set per client.
            let client = || {
                let usual = || engine::http::client_with(endpoint.timeouts.connect);
                by_key::client(endpoint, config.dialer.as_ref(), usual)
            };
            let site = match take_same(&mut changed, endpoint) {
                Some(before) => before.with(endpoint.clone(), client),
                None => client().and_then(|client| Site::new(endpoint.clone(), client)),
            };
            site.map(Arc::new).map_err(|reason| StartError::Endpoint {
                url: endpoint.api.to_string(),
                reason,
            })
        };
        Ok(Self {
            sites: config
                .endpoints
                .iter()
                .map(site)
                .collect::<Result<_, _>>()?,
            guard: Guard::new(address, &config.hosts),
            config,
        })
    }

    /// The first thing in `next` that only a start can change.
    fn fixed(&self, next: &GatewayConfig) -> Option<&'static str> {
        let now = &self.config;
        [
            ("listen", now.listen == next.listen),
            ("log", now.log == next.log),
            ("networks", now.networks == next.networks),
            ("dial_by_key", now.dial_by_key == next.dial_by_key),
            ("merged", now.merged == next.merged),
            ("region", now.region == next.region),
            ("spool", now.spool == next.spool),
            ("alarms", now.alarms == next.alarms),
            ("traces", now.traces == next.traces),
            ("keys_file", now.keys_file == next.keys_file),
            ("tls", now.tls == next.tls),
            (
                "limits.connections_max",
                now.limits.connections_max == next.limits.connections_max,
            ),
        ]
        .into_iter()
        .find_map(|(key, same)| (!same).then_some(key))
    }
}

/// Takes out the site that an endpoint was until now. Several may have its name, URL and key: then
/// the one with its models goes first.
fn take_same<'a>(
    changed: &mut Vec<&'a Arc<Site>>,
    endpoint: &EndpointConfig,
) -> Option<&'a Arc<Site>> {
    let same = |site: &&Arc<Site>| site.is_the_same_as(endpoint);
    let models = |site: &&Arc<Site>| site.config.models == endpoint.models;
    let at = changed
        .iter()
        .position(|site| same(site) && models(site))
        .or_else(|| changed.iter().position(same))?;
    Some(changed.remove(at))
}

/// Refuses to answer anyone who reaches this gateway from elsewhere, unless that was asked for.
pub(crate) fn check_reach(
    config: &GatewayConfig,
    address: SocketAddr,
    callers: &Callers,
) -> Result<(), StartError> {
    if address.ip().is_loopback() || callers.are_needed() || config.open {
        return Ok(());
    }
    Err(StartError::Value {
        key: "listen",
        reason: format!(
            "{address} can be reached from other machines, and without keys anyone there could \
             spend what your API keys pay for; make a key with `longrun gateway key add NAME`, or \
             set open = true if something in front of it asks who calls"
        ),
    })
}

/// Reads a configuration again, or says what is wrong with it.
pub type ConfigSource = Box<dyn Fn() -> Result<GatewayConfig, String> + Send + Sync>;

impl Gateway {
    /// Reads the configuration again from where it came from, and puts it in force.
    pub(crate) async fn reread(&self) -> Result<(), ReloadError> {
        let source = self.source.get().ok_or(ReloadError::NoSource)?;
        // Before it is read: else an older text could come into force after a newer one.
        let one_at_a_time = self.reloading.lock().await;
        let config = source().map_err(ReloadError::Unreadable)?;
        self.put_in_force(config, one_at_a_time).await
    }

    /// Puts `config` in force, or says why not and changes nothing.
    pub(crate) async fn reload(&self, config: GatewayConfig) -> Result<(), ReloadError> {
        let one_at_a_time = self.reloading.lock().await;
        self.put_in_force(config, one_at_a_time).await
    }

    async fn put_in_force(
        &self,
        config: GatewayConfig,
        _one_at_a_time: MutexGuard<'_, ()>,
    ) -> Result<(), ReloadError> {
        let before = self.settings();
        if let Some(key) = before.fixed(&config) {
            return Err(ReloadError::Fixed(key));
        }
        check_reach(&config, self.address, &self.callers)?;
        let next = Settings::new(config, self.address, &before.sites)?;
        let is_new = |site: &&Arc<Site>| site.known().standing == Standing::Unasked;
        let new = next.sites.iter().filter(is_new).map(|site| site.discover());
        let asked = futures_util::future::join_all(new);
        // A site that does not answer in time joins later, as at the start.
        let _ = tokio::time::timeout(crate::FIRST_DISCOVERY, asked).await;
        next.sites.iter().for_each(|site| site.put_in_force());
        *write(&self.settings) = Arc::new(next);
        self.recatalog();
        Ok(())
    }
}
