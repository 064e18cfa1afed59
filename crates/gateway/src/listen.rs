//! Connections from callers: bounded in number, prompt in sending, impatient with those who hang.
//!
//! `TCP_NODELAY` is set on each (see [`engine::http`]). The head of a request has to arrive in
//! time, and a caller that takes no bytes of its answer for a while is dropped: else a stalled
//! reader would hold an endpoint's connection for as long as it likes.

use std::convert::Infallible;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::Response;
use engine::http::set_up;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;

use crate::config::Limits;
use crate::http::Service;

/// Serves `service` within `limits` (asked for with each connection; how many there may be, once)
/// until `stop` says how long answers under way may still take. What is not done
/// by then is cut off, after `cut_off` was called.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    limits: impl Fn() -> Limits,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<Option<Duration>>,
    cut_off: impl FnOnce(),
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits().connections_max));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new());
    let mut connections = JoinSet::new();
    let drain = loop {
        let asked = async {
            let time = stop.wait_for(Option::is_some).await.map(|time| *time);
            // Nobody left to ask for more time: stop at once.
            time.ok().flatten().unwrap_or_default()
        };
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, stream, peer) = tokio::select! {
            time = asked => break time,
            (slot, accepted) = accepted => match accepted {
                Ok((stream, peer)) => (slot, stream, peer),
                Err(error) => {
                    // Out of file descriptors, or the caller left at once: wait a little.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        set_up(&stream);
        let service = Arc::clone(&service);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let service = Arc::clone(&service);
            async move { Ok::<Response, Infallible>(service.answer(request, peer).await) }
        });
        let limits = limits();
        builder.header_read_timeout(limits.request);
        let stream = Impatient::new(stream, limits.write_stall);
        let (builder, watcher, tls) = (builder.clone(), graceful.watcher(), tls.clone());
        let mut stopping = stop.clone();
        // Those that ended are let go of.
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let _slot = slot;
            let ended = match tls {
                None => {
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    watcher.watch(connection).await
                }
                Some(tls) => {
                    // A handshake is the head of everything, and has as long as one.
                    let shaking = tokio::time::timeout(limits.request, tls.accept(stream));
                    let shaken = tokio::select! {
                        shaken = shaking => shaken,
                        // Nothing was asked yet, so nothing is waited for.
                        _ = stopping.wait_for(Option::is_some) => return,
                    };
                    let Ok(Ok(stream)) = shaken else {
                        tracing::debug!(%peer, "a TLS handshake failed");
                        return;
                    };
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    watcher.watch(connection).await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    };
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("answers were still under way when the drain time was over");
    }
    cut_off();
    connections.shutdown().await;
}

/// A connection that fails when nothing can be written for a while.
struct Impatient {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            stalled: None,
        }
    }

    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        match stalled.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the caller takes nothing of its answer",
            ))),
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
