//! Connections by key: how a node behind a router is reached, and how a gateway reaches it.
//!
//! A node that nobody can connect to keeps a connection to a *relay* instead, and is known by an
//! Ed25519 key. Whoever dials that key comes in through the relay, or directly where both sides allow
//! it, over QUIC with TLS 1.3 and raw public keys (`iroh`). Relays pass on what they cannot read. Each
//! stream of such a connection is one HTTP/1.1 connection: node and gateway speak over it what they
//! speak over TCP, through [`engine::http::Accept`] and [`engine::http::Dialer`], and know nothing of
//! how it comes about.
//!
//! | Module | Holds |
//! |---|---|
//! | `listener` | a node's side: be found |
//! | `dialer` | a gateway's side: find, and be led nowhere else |
//! | `relay` | a relay of one's own |
//! | `names` | names of relays, looked up under the gateway's rule |
//!
//! # What it contacts
//!
//! The relay that was named, the direct addresses that were named, and nobody else: no public relay, no
//! directory of keys, no name server but the machine's. An endpoint without a UDP port of its own
//! sends no UDP at all, which is what keeps strangers from aiming packets at the network it is in:
//! the other side of a connection may propose further addresses to be tried, and iroh tries them.

mod dialer;
mod listener;
mod names;
mod relay;
mod stream;

pub use dialer::Dialer;
pub use listener::{CONNECTIONS_MAX, Listener, Options, STREAMS_MAX};
pub use relay::{Relay, RelayOptions};

use std::net::IpAddr;
use std::time::Duration;

use iroh::endpoint::{Builder, NetReportConfig, QuicTransportConfig, VarInt, presets};
use iroh::tls::CaTlsConfig;
use iroh::{Endpoint, RelayMap, RelayMode, RelayUrl};
use record::Origin;

/// The protocol inside the connection: HTTP/1.1, one connection per stream (ALPN, RFC 7301).
pub const PROTOCOL: &[u8] = b"longrun/http/1.1";
/// Under this name a node's dial key is made from its instance key.
pub const KEY_NAME: &str = "longrun dial v1";

/// How often a connection says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// After this silence the other side is gone.
const SILENCE: Duration = Duration::from_secs(8);

/// Why nobody can be reached or found.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A value that makes no sense.
    #[error("{what}: {why}")]
    Config {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The machine: a port in use, for instance.
    #[error("cannot open the endpoint: {0}")]
    Machine(String),
}

/// What every endpoint has in common.
fn builder(relays: RelayMap, allowed: fn(IpAddr) -> bool) -> Builder {
    let transport = QuicTransportConfig::builder()
        .keep_alive_interval(KEEP_ALIVE)
        .max_idle_timeout(SILENCE.try_into().ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .build();
    Endpoint::builder(presets::Minimal)
        .clear_ip_transports()
        .clear_address_lookup()
        .relay_mode(RelayMode::Custom(relays))
        .transport_config(transport)
        .net_report_config(net_report())
        .dns_resolver(names::resolver(allowed))
        .ca_tls_config(authorities())
}

/// Relays are asked how far they are by HTTP, which is the way to them where there is no UDP.
fn net_report() -> NetReportConfig {
    let mut config = NetReportConfig::minimal();
    config.https_probes = true;
    config
}

/// Who may vouch for a relay's certificate: the machine's authorities, or Mozilla's where it has none.
fn authorities() -> CaTlsConfig {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return CaTlsConfig::embedded();
    }
    CaTlsConfig::custom_roots(found)
}

fn relay_url(relay: &Origin) -> Result<RelayUrl, DialError> {
    relay.as_str().parse().map_err(|error| DialError::Config {
        what: "relay",
        why: format!("{relay}: {error}"),
    })
}

/// Everything, down to the reason at the bottom.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !words.ends_with(&next) {
            words = format!("{words}: {next}");
        }
        source = cause.source();
    }
    words
}
