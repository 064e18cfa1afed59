//! Endpoints that are reached by a key: how their client is made, and which ways there are allowed.
//!
//! What dials is handed in with the configuration ([`crate::GatewayConfig::dialer`]), so that a gateway
//! that needs no such endpoint does without the stack behind it. Who names an address by key in an
//! offer may name any relay and any addresses, and once a connection stands, the other side may
//! propose more of them. So where addresses inside are not allowed, a connection goes through a relay
//! of the public internet and nothing else: no packet is sent to an address that a stranger named.

use std::sync::Arc;

use engine::http::{ByKey, Client, Dialer};
use record::KeyAddress;

use crate::config::EndpointConfig;
use crate::network::reach;

/// How an endpoint is reached by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRoute {
    /// The key and the ways to whoever holds it.
    pub address: KeyAddress,
    /// Whether it may be inside this machine's own network, which allows direct connections too.
    pub private: bool,
}

/// The client of an endpoint: the usual one, unless it is reached by its key.
pub(crate) fn client(
    endpoint: &EndpointConfig,
    dialer: Option<&Arc<dyn Dialer>>,
    usual: impl FnOnce() -> Client,
) -> Result<Client, String> {
    let Some(route) = &endpoint.by_key else {
        return Ok(usual());
    };
    let dialer = dialer.ok_or("it is reached by its key, and nothing here dials by key")?;
    Ok(engine::http::client_by_key(ByKey {
        dialer: Arc::clone(dialer),
        address: route.address.to_string().into(),
        private: route.private,
        connect_timeout: endpoint.timeouts.connect,
    }))
}

impl KeyRoute {
    /// Refuses what a stranger may not make this gateway connect to.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.private {
            return Ok(());
        }
        let relay = self.address.relay().ok_or(
            "it names no relay; direct connections by key are made only where allow_private = true",
        )?;
        let host = relay
            .as_str()
            .split_once("://")
            .map_or("", |(_, rest)| rest);
        let host = match host.rfind(':') {
            Some(at) if !host.ends_with(']') => &host[..at],
            _ => host,
        };
        match reach::literal(host) {
            Some(literal) if !reach::is_public(literal) => Err(format!(
                "its relay {literal} is inside this gateway's own network, or nobody's; \
                 allow_private = true would allow it"
            )),
            _ => Ok(()),
        }
    }

    /// Where it is as far as failing together goes: its relay, or its first address.
    pub(crate) fn host(&self) -> String {
        let relay = self.address.relay().map(|relay| relay.as_str().to_owned());
        let relay = relay.and_then(|url| url.parse::<http::Uri>().ok()?.host().map(str::to_owned));
        let direct = || self.address.direct().first().map(|it| it.ip().to_string());
        relay.or_else(direct).unwrap_or_default()
    }
}
