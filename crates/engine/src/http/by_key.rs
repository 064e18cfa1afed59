//! Connections to whoever holds a key, for clients and servers that do not know how they come about.
//!
//! What finds the holder of a key brings a stack of its own, so it is not built here: it is handed in
//! as a [`Dialer`]. Over such a connection goes the same HTTP/1.1 as over TCP.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// The scheme of URLs whose host is a key.
pub const BY_KEY_SCHEME: &str = "iroh";

/// Bytes in both directions.
pub trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// A connection to the holder of a key. Dropping it ends it.
pub type Dialed = Box<dyn Channel>;

/// What a dial comes to.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Dialed>> + Send>>;

/// Finds the holder of a key.
pub trait Dialer: fmt::Debug + Send + Sync {
    /// A new connection to the one who holds the key in `address`, and to nobody else. Unless
    /// `private` is set, nothing is sent to addresses outside the public internet, whatever the
    /// address or the other side says.
    fn dial(&self, address: &str, private: bool) -> Dialing;
}

/// One address and how it is dialed.
#[derive(Clone, Debug)]
pub struct ByKey {
    /// Who dials.
    pub dialer: Arc<dyn Dialer>,
    /// Whom: the whole address, with the ways there.
    pub address: Arc<str>,
    /// Whether it may be inside this machine's own network.
    pub private: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
}

impl ByKey {
    pub(super) fn connect(&self) -> Dialing {
        let (dialing, wait) = (
            self.dialer.dial(&self.address, self.private),
            self.connect_timeout,
        );
        Box::pin(async move {
            let late = |_| {
                let ms = wait.as_millis();
                let why = format!("whoever holds the key was not reached within {ms} ms");
                io::Error::new(io::ErrorKind::TimedOut, why)
            };
            tokio::time::timeout(wait, dialing).await.map_err(late)?
        })
    }
}
