//! Which TLS key answered: noted when a connection stands, and told with every answer over it.
//!
//! The key is that of the certificate which the handshake verified. It tells which server it was
//! and is no identity of a provider: keys change, and one may stand for many.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::server::ParsedCertificate;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{ByKey, Dialed, Screened};

/// SHA-256 of the `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7) in DER of the certificate that
/// a server showed. In the extensions of every answer that came over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsKey(pub [u8; 32]);

/// Connects, over TLS where the URL says so, and notes the key of the other side.
#[derive(Clone)]
pub struct Connector(Way);

#[derive(Clone)]
enum Way {
    /// How long name, connection and handshake may take together.
    Web(HttpsConnector<HttpConnector<Screened>>, Duration),
    Key(ByKey),
}

impl Connector {
    pub(super) fn web(https: HttpsConnector<HttpConnector<Screened>>, wait: Duration) -> Self {
        Self(Way::Web(https, wait))
    }

    pub(super) fn by_key(way: ByKey) -> Self {
        Self(Way::Key(way))
    }
}

impl Service<Uri> for Connector {
    type Response = Noted;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Noted, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.0 {
            Way::Web(https, _) => https.poll_ready(context),
            Way::Key(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match &mut self.0 {
            Way::Web(https, wait) => {
                let connecting = tokio::time::timeout(*wait, https.call(uri));
                Box::pin(async move {
                    let stream = connecting.await.map_err(|_| not_in_time())??;
                    Ok(Noted {
                        key: key_of(&stream),
                        is_unheard: matches!(stream, MaybeHttpsStream::Http(_)),
                        stream: Stream::Web(stream),
                    })
                })
            }
            Way::Key(way) => {
                let connecting = way.connect();
                Box::pin(async move {
                    let stream = Stream::Key(TokioIo::new(connecting.await?));
                    Ok(Noted {
                        key: None,
                        is_unheard: false,
                        stream,
                    })
                })
            }
        }
    }
}

/// Somebody accepts connections and never shakes hands, or a name server is silent: the connector has a
/// bound for the TCP connection alone.
fn not_in_time() -> Error {
    Error::new(ErrorKind::TimedOut, "no connection came about in time")
}

fn key_of(stream: &MaybeHttpsStream<TokioIo<TcpStream>>) -> Option<TlsKey> {
    let MaybeHttpsStream::Https(stream) = stream else {
        return None;
    };
    let (_, session) = stream.inner().get_ref();
    let certificate = session.peer_certificates()?.first()?;
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let key = certificate.subject_public_key_info();
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_ref());
    digest.as_ref().try_into().ok().map(TlsKey)
}

/// The other side answered plain HTTP with a record of TLS.
#[derive(Debug, thiserror::Error)]
#[error("it speaks TLS: its URL has to begin with https://")]
pub(crate) struct SpeaksTls;

/// Bytes of the first read that are looked at: an alert of TLS has seven, and what comes after the first
/// read goes where it belongs at once.
const FIRST_READ_BYTES: usize = 512;

/// Whether bytes begin a record of TLS that a server would send first: an alert, or a handshake, of any
/// version so far (RFC 8446, section 5.1). No answer of HTTP begins so.
fn begins_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16] | [0x15 | 0x16, 0x03, ..])
}

/// A connection whose other side is noted.
pub struct Noted {
    stream: Stream,
    key: Option<TlsKey>,
    /// It is plain, and nothing has come yet that would say whether the other side thinks so, too.
    is_unheard: bool,
}

/// Does the same with either kind of stream.
macro_rules! either {
    ($noted:expr, $stream:ident => $done:expr) => {
        match &mut $noted.get_mut().stream {
            Stream::Web(stream) => {
                let $stream = Pin::new(stream);
                $done
            }
            Stream::Key(stream) => {
                let $stream = Pin::new(stream);
                $done
            }
        }
    };
}

impl Noted {
    fn poll_first_read(
        &mut self,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut bytes = [0; FIRST_READ_BYTES];
        let most = buffer.remaining().min(bytes.len());
        let mut read = ReadBuf::new(&mut bytes[..most]);
        let this = Pin::new(&mut *self);
        ready!(either!(this, stream => stream.poll_read(context, read.unfilled())))?;
        if begins_tls(read.filled()) {
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, SpeaksTls)));
        }
        self.is_unheard = read.filled().is_empty();
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every connection is of the large kind, and none is moved once it stands"
)]
enum Stream {
    Web(MaybeHttpsStream<TokioIo<TcpStream>>),
    Key(TokioIo<Dialed>),
}

impl Connection for Noted {
    fn connected(&self) -> Connected {
        let connected = match &self.stream {
            Stream::Web(stream) => stream.connected(),
            Stream::Key(_) => Connected::new(),
        };
        match self.key {
            Some(key) => connected.extra(key),
            None => connected,
        }
    }
}

impl Read for Noted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.is_unheard {
            return self.get_mut().poll_first_read(context, buffer);
        }
        either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl Write for Noted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Web(stream) => stream.is_write_vectored(),
            Stream::Key(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, pieces))
    }
}
