//! Where a server's connections come from.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{Channel, Dialed, set_up};

/// A source of connections.
pub trait Accept: Send {
    /// A connection.
    type Stream: Channel + 'static;

    /// The next connection, and the address of the other side where it has one. Dropping the future
    /// loses no connection.
    fn accept(
        &mut self,
    ) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        set_up(&stream);
        Ok((stream, Some(peer)))
    }
}

/// Connections that somebody else accepts. Once all senders are gone there are no more.
impl Accept for mpsc::Receiver<Dialed> {
    type Stream = Dialed;

    async fn accept(&mut self) -> io::Result<(Dialed, Option<SocketAddr>)> {
        match self.recv().await {
            Some(stream) => Ok((stream, None)),
            None => std::future::pending().await,
        }
    }
}
