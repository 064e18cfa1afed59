//! HTTP plumbing that every shell shares: a client and a server loop.
//!
//! Both set `TCP_NODELAY`. Without it Nagle's algorithm and delayed acknowledgements hold each
//! small server-sent event back for about 40 ms; `axum::serve` leaves it off. Both let TCP find out when the
//! other machine is gone without a word.
//!
//! The client is `hyper-util`'s pooled one over rustls with the `ring` provider. Certificates are
//! the machine's; where it has none (a bare container), Mozilla's list is used. It follows no
//! redirects, retries nothing that reached the other side, and speaks HTTP/1.1. Deadlines are the
//! caller's business.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

mod accept;
mod by_key;
mod listening;
mod screened;
mod tls_key;

pub use accept::Accept;
pub use by_key::{BY_KEY_SCHEME, ByKey, Channel, Dialed, Dialer, Dialing};
pub use listening::cannot_listen;
pub use screened::Screened;
pub(crate) use tls_key::SpeaksTls;
pub use tls_key::{Connector, TlsKey};

/// The shared client. Cloning is cheap and shares the connection pool.
pub type Client = hyper_util::client::legacy::Client<Connector, Full<Bytes>>;

/// Longest wait for a TCP connection, ms.
pub const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// How long an unused connection is kept, ms.
pub const IDLE_CONNECTION_MS: u64 = 30_000;
/// Most unused connections kept per host.
pub const IDLE_CONNECTIONS_PER_HOST: usize = 256;
/// Longest wait for the head of a request on a server connection, ms.
pub const HEADER_READ_TIMEOUT_MS: u64 = 30_000;
/// Most connections a server holds at once; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 10_000;

/// A client with the default connect timeout.
pub fn client() -> Client {
    client_with(Duration::from_millis(CONNECT_TIMEOUT_MS))
}

/// A client that waits at most `connect_timeout` for a connection, its name and handshake included.
pub fn client_with(connect_timeout: Duration) -> Client {
    client_from(tls_config(), connect_timeout, |_| true)
}

/// A client that connects a name only to those of its addresses that are `allowed`. Looked at is
/// what the connection is made to, not an earlier look-up. A host that is an address is not looked
/// up: check it before.
pub fn client_to(connect_timeout: Duration, allowed: fn(IpAddr) -> bool) -> Client {
    client_from(tls_config(), connect_timeout, allowed)
}

fn client_from(
    tls: rustls::ClientConfig,
    connect_timeout: Duration,
    allowed: fn(IpAddr) -> bool,
) -> Client {
    let mut tcp = HttpConnector::new_with_resolver(Screened::new(allowed));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.enforce_http(false);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    client_over(Connector::web(https, connect_timeout))
}

/// A client whose connections all go to the holder of one key, whatever the URL says.
pub fn client_by_key(way: ByKey) -> Client {
    client_over(Connector::by_key(way))
}

fn client_over(connector: Connector) -> Client {
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_millis(IDLE_CONNECTION_MS))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
        .build(connector)
}

fn tls_config() -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _unusable) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The address a request came from, in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How long a connection is silent before the other side is asked whether it is still there: the machine
/// of a caller or an endpoint may be gone without a word, and routers forget what is silent for minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// So many without an answer end the connection: a minute after its last sign.
const KEEPALIVE_PROBES: u32 = 3;

/// Turns on `TCP_NODELAY` and TCP's keep-alive. For those who run their own accept loop, or
/// `axum::serve(listener.tap_io(|stream| http::set_up(stream)), …)`.
pub fn set_up(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "SO_KEEPALIVE could not be set");
    }
}

/// Serves HTTP/1.1 on `listener` until `shutdown` resolves, then lets requests under way finish
/// for at most `drain`. `TCP_NODELAY` is set on every TCP connection, the head of a request must
/// arrive within [`HEADER_READ_TIMEOUT_MS`], and [`Peer`] is put into the request's extensions where
/// there is an address.
///
/// An `axum::Router` fits after `hyper_util::service::TowerToHyperService::new(router)`.
pub async fn serve<L, S, B>(
    mut listener: L,
    service: S,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) where
    L: Accept,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_READ_TIMEOUT_MS));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            (slot, accepted) = accepted => match accepted {
                Ok((stream, peer)) => (slot, stream, peer),
                Err(error) => {
                    // Out of file descriptors, or the client left at once: wait a little.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let service = WithPeer {
            inner: service.clone(),
            peer,
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("connections were still busy when the drain time was over");
    }
}

/// Puts [`Peer`] into every request.
#[derive(Clone)]
struct WithPeer<S> {
    inner: S,
    peer: Option<SocketAddr>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(Peer(peer));
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests;
