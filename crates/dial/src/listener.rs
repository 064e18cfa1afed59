//! A node's side: be found by a key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::http::Dialed;
use iroh::endpoint::{Connection, Incoming};
use iroh::{Endpoint, RelayMap, SecretKey, Watcher as _};
use record::{DialKey, KeyAddress, Origin};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::stream::Stream;
use crate::{DialError, PROTOCOL, builder, in_words, relay_url};

/// Callers that are connected at once; more are refused.
pub const CONNECTIONS_MAX: usize = 1024;
/// HTTP connections that one caller has open at once.
pub const STREAMS_MAX: u32 = 512;
/// Until a caller has proved its key.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection over which nothing is asked is closed.
const IDLE: Duration = Duration::from_secs(60);
/// HTTP connections that wait to be taken up.
const WAITING: usize = 64;

/// How a node is found.
#[derive(Clone)]
pub struct Options {
    /// The secret half of the key, an Ed25519 seed.
    pub secret: [u8; 32],
    /// The relay that passes callers on.
    pub relay: Option<Origin>,
    /// A UDP address of this machine at which callers come in directly; port 0 takes a free one.
    pub udp: Option<SocketAddr>,
}

/// Waits for callers.
pub struct Listener {
    endpoint: Endpoint,
    address: KeyAddress,
    accepting: JoinHandle<()>,
    connections: Option<mpsc::Receiver<Dialed>>,
}

impl Listener {
    /// Opens the endpoint. A relay that is not there yet is tried again and again.
    ///
    /// # Errors
    /// [`DialError`]: without a way to be found, or with a port that is in use.
    pub async fn bind(options: Options) -> Result<Self, DialError> {
        let relay = options.relay.as_ref().map(relay_url).transpose()?;
        // Whom the node's owner named is connected to, wherever that is.
        let mut builder = builder(RelayMap::from_iter(relay), |_| true)
            .secret_key(SecretKey::from_bytes(&options.secret))
            .alpns(vec![PROTOCOL.to_vec()]);
        if let Some(udp) = options.udp {
            builder = builder.bind_addr(udp).map_err(|error| DialError::Config {
                what: "UDP address",
                why: format!("{udp}: {error}"),
            })?;
        }
        let endpoint = builder.bind().await;
        let endpoint = endpoint.map_err(|error| DialError::Machine(in_words(&error)))?;
        let key = DialKey::from_bytes(*endpoint.id().as_bytes());
        // An unspecified address is no address that anybody could connect to.
        let mut direct = endpoint.bound_sockets();
        direct.retain(|bound| options.udp.is_some() && !bound.ip().is_unspecified());
        let address = KeyAddress::new(key, options.relay, direct);
        let address = address.map_err(|error| DialError::Config {
            what: "address",
            why: error.to_string(),
        })?;
        let (hand, connections) = mpsc::channel(WAITING);
        Ok(Self {
            accepting: tokio::spawn(accept(endpoint.clone(), hand)),
            endpoint,
            address,
            connections: Some(connections),
        })
    }

    /// The key and the ways to it, as an offer has them.
    #[must_use]
    pub fn address(&self) -> &KeyAddress {
        &self.address
    }

    /// The HTTP connections that callers open; given out once.
    pub fn connections(&mut self) -> Option<mpsc::Receiver<Dialed>> {
        self.connections.take()
    }

    /// Waits until the relay passes callers on.
    ///
    /// # Errors
    /// What keeps it from that, once `patience` is over. It goes on being tried.
    pub async fn relayed(&self, patience: Duration) -> Result<(), String> {
        if self.address.relay().is_none() {
            return Ok(());
        }
        let mut status = self.endpoint.home_relay_status();
        let connected = async {
            while !status
                .get()
                .iter()
                .any(iroh::endpoint::RelayStatus::is_connected)
            {
                if status.updated().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(patience, connected).await.is_ok() {
            return Ok(());
        }
        let why = status.get().iter().find_map(|relay| {
            let error = relay.last_error()?;
            Some(format!("{error:#}"))
        });
        Err(why.unwrap_or_else(|| "it does not answer".to_owned()))
    }

    /// Says goodbye to callers and closes.
    pub async fn close(self) {
        self.accepting.abort();
        self.endpoint.close().await;
    }
}

async fn accept(endpoint: Endpoint, hand: mpsc::Sender<Dialed>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(incoming) = endpoint.accept().await {
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(serve(incoming, place, hand.clone()));
            }
            Err(_) => incoming.refuse(),
        }
    }
}

/// One caller, until it leaves or asks nothing any more.
async fn serve(incoming: Incoming, _place: OwnedSemaphorePermit, hand: mpsc::Sender<Dialed>) {
    let connection = match tokio::time::timeout(HANDSHAKE, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(error = in_words(&error), "a caller did not get in");
            return;
        }
        Err(_) => return,
    };
    if let Err(error) = take_up(&connection, &hand).await {
        tracing::debug!(error, "a caller left");
    }
}

async fn take_up(connection: &Connection, hand: &mpsc::Sender<Dialed>) -> Result<(), String> {
    let open = Arc::new(());
    loop {
        match tokio::time::timeout(IDLE, connection.accept_bi()).await {
            Ok(Ok(streams)) => {
                let stream = Box::new(Stream::new(streams, Arc::clone(&open)));
                if hand.send(stream).await.is_err() {
                    return Ok(());
                }
            }
            Ok(Err(error)) => return Err(in_words(&error)),
            Err(_) if Arc::strong_count(&open) > 1 => {}
            Err(_) => {
                connection.close(0_u32.into(), b"nothing was asked");
                return Ok(());
            }
        }
    }
}
