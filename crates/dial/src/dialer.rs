//! A gateway's side: find who holds a key, and be led nowhere else.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use engine::http::{Dialed, Dialing};
use iroh::endpoint::{BindOpts, Connection, WeakConnectionHandle};
use iroh::{Endpoint, EndpointAddr, PublicKey, RelayMap, RelayUrl};
use record::KeyAddress;
use tokio::sync::OnceCell;

use crate::stream::Stream;
use crate::{PROTOCOL, builder, in_words, relay_url};

/// Connections that are remembered before those that ended are forgotten.
const REMEMBERED_MAX: usize = 256;

/// Dials keys, over one QUIC connection per key that lives as long as an HTTP connection over it.
///
/// It shows a key of its own that is made at the start, so nobody recognises it the next time. What is
/// needed for dialing is opened at the first dial.
#[derive(Clone, Debug)]
pub struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_public: fn(IpAddr) -> bool,
    /// For strangers: no UDP, and names of relays lead to public addresses alone.
    guarded: OnceCell<Endpoint>,
    /// For those whom the owner knows: direct connections too.
    free: OnceCell<Endpoint>,
    /// By address, and whether it may be inside.
    open: Mutex<BTreeMap<(String, bool), Arc<Slot>>>,
}

/// The connection to one key; held while it is made, so that there is one.
type Slot = tokio::sync::Mutex<Option<WeakConnectionHandle>>;

impl Dialer {
    /// A dialer; `is_public` says which addresses are of the public internet.
    #[must_use]
    pub fn new(is_public: fn(IpAddr) -> bool) -> Self {
        Self(Arc::new(Inner {
            is_public,
            guarded: OnceCell::new(),
            free: OnceCell::new(),
            open: Mutex::default(),
        }))
    }

    /// Says goodbye to everybody.
    pub async fn close(&self) {
        for endpoint in [&self.0.guarded, &self.0.free] {
            if let Some(endpoint) = endpoint.get() {
                endpoint.close().await;
            }
        }
    }
}

impl engine::http::Dialer for Dialer {
    fn dial(&self, address: &str, private: bool) -> Dialing {
        let (inner, address) = (Arc::clone(&self.0), address.to_owned());
        Box::pin(async move { inner.dial(&address, private).await })
    }
}

impl Inner {
    async fn dial(&self, address: &str, private: bool) -> io::Result<Dialed> {
        let unusable = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        let parsed: KeyAddress = address
            .parse()
            .map_err(|error: record::Error| unusable(error.to_string()))?;
        let target = self.target(&parsed, private).map_err(unusable)?;
        let slot = self.slot((address.to_owned(), private));
        let connection = {
            let mut held = slot.lock().await;
            let alive = held.as_ref().and_then(WeakConnectionHandle::upgrade);
            match alive.filter(|connection| connection.close_reason().is_none()) {
                Some(connection) => connection,
                None => {
                    let connection = self.connect(target, private).await?;
                    *held = Some(connection.weak_handle());
                    connection
                }
            }
        };
        let streams = connection.open_bi().await;
        let streams = streams.map_err(|error| io::Error::other(in_words(&error)))?;
        Ok(Box::new(Stream::new(streams, connection)))
    }

    /// Whom to dial on which ways. A stranger's direct addresses are not among them.
    fn target(&self, address: &KeyAddress, private: bool) -> Result<EndpointAddr, String> {
        let key = PublicKey::from_bytes(address.key().as_bytes());
        let key = key.map_err(|_| format!("{} is no Ed25519 key", address.key()))?;
        let mut target = EndpointAddr::new(key);
        if let Some(relay) = address.relay() {
            let url = relay_url(relay).map_err(|error| error.to_string())?;
            if let Some(inside) = literal(&url).filter(|it| !private && !(self.is_public)(*it)) {
                return Err(format!(
                    "the relay {relay} is {inside}, which is not allowed here"
                ));
            }
            target = target.with_relay_url(url);
        }
        if private {
            let direct = address.direct().iter();
            return Ok(direct.fold(target, |target, at| target.with_ip_addr(*at)));
        }
        if target.is_empty() {
            return Err("there is no relay, and strangers are not dialed directly".to_owned());
        }
        Ok(target)
    }

    async fn connect(&self, target: EndpointAddr, private: bool) -> io::Result<Connection> {
        let endpoint = self.endpoint(private).await?;
        let connecting = endpoint.connect(target, PROTOCOL).await;
        connecting.map_err(|error| io::Error::other(in_words(&error)))
    }

    async fn endpoint(&self, private: bool) -> io::Result<&Endpoint> {
        if !private {
            let open = || bind(builder(RelayMap::empty(), self.is_public));
            return self.guarded.get_or_try_init(open).await;
        }
        let open = || async {
            let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            let mut builder = builder(RelayMap::empty(), |_| true);
            for any in [any_v4, any_v6] {
                let options = BindOpts::default().set_is_required(any.is_ipv4());
                let bound = builder.bind_addr_with_opts(any, options);
                builder = bound.map_err(|error| io::Error::other(in_words(&error)))?;
            }
            bind(builder).await
        };
        self.free.get_or_try_init(open).await
    }

    fn slot(&self, address: (String, bool)) -> Arc<Slot> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= REMEMBERED_MAX {
            // One that is being made is locked, and stays.
            open.retain(|_, slot| match slot.try_lock() {
                Ok(held) => held.as_ref().is_some_and(|it| it.upgrade().is_some()),
                Err(_) => true,
            });
        }
        Arc::clone(open.entry(address).or_default())
    }
}

async fn bind(builder: iroh::endpoint::Builder) -> io::Result<Endpoint> {
    let bound = builder.bind().await;
    bound.map_err(|error| io::Error::other(in_words(&error)))
}

/// The address that a relay's host is, as the one who connects reads it: `2130706433` is 127.0.0.1.
fn literal(url: &RelayUrl) -> Option<IpAddr> {
    let host = url.host_str()?;
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn target(ways: &str, private: bool) -> Result<EndpointAddr, String> {
        let Dialer(inner) =
            Dialer::new(|address| address.to_canonical() == Ipv4Addr::new(1, 1, 1, 1));
        let address = format!("iroh://{KEY}?{ways}").parse().expect(ways);
        inner.target(&address, private)
    }

    #[test]
    fn a_stranger_is_dialed_through_a_public_relay_and_in_no_other_way() {
        for inside in [
            "relay=http://127.0.0.1:3340",
            "relay=http://2130706433:3340",
            "relay=http://0x7f.1:3340",
            "relay=http://127.1",
            "relay=https://[::1]:3340",
            "relay=https://[::ffff:7f00:1]",
        ] {
            let why = target(inside, false).expect_err(inside);
            assert!(why.contains("not allowed"), "{inside}: {why}");
            assert!(target(inside, true).is_ok(), "{inside}");
        }
        let why = target("direct=1.1.1.1:7413", false).expect_err("no relay");
        assert!(why.contains("no relay"), "{why}");
        let both = "relay=https://1.1.1.1&direct=1.1.1.1:7413&direct=10.0.0.1:53";
        let guarded = target(both, false).expect("a public relay");
        assert_eq!(
            (guarded.relay_urls().count(), guarded.ip_addrs().count()),
            (1, 0)
        );
        let free = target(both, true).expect("anything");
        assert_eq!((free.relay_urls().count(), free.ip_addrs().count()), (1, 2));
    }

    #[tokio::test]
    async fn no_udp_port_is_opened_for_strangers() {
        let Dialer(inner) = Dialer::new(|_| true);
        let guarded = inner.endpoint(false).await.expect("an endpoint");
        assert_eq!(guarded.bound_sockets(), []);
        let free = inner.endpoint(true).await.expect("an endpoint");
        assert!(!free.bound_sockets().is_empty());
        Dialer(inner.clone()).close().await;
    }
}
