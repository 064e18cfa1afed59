//! Which TLS key answered: noted when a connection stands, and told with every answer over it.
//!
//! The key is that of the certificate which the handshake verified. It tells which server it was
//! and is no identity of a provider: keys change, and one may stand for many.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::server::ParsedCertificate;
use tokio::net::TcpStream;
use tower_service::Service;

/// SHA-256 of the `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7) in DER of the certificate that
/// a server showed. In the extensions of every answer that came over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsKey(pub [u8; 32]);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Connects, over TLS where the URL says so, and notes the key of the other side.
#[derive(Clone)]
pub struct Connector(pub(super) HttpsConnector<HttpConnector<super::Screened>>);

impl Service<Uri> for Connector {
    type Response = Noted;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Noted, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            Ok(Noted {
                key: key_of(&stream),
                stream,
            })
        })
    }
}

fn key_of(stream: &Stream) -> Option<TlsKey> {
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

/// A connection whose other side is noted.
#[derive(Debug)]
pub struct Noted {
    stream: Stream,
    key: Option<TlsKey>,
}

impl Connection for Noted {
    fn connected(&self) -> Connected {
        let connected = self.stream.connected();
        match self.key {
            Some(key) => connected.extra(key),
            None => connected,
        }
    }
}

impl Read for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
