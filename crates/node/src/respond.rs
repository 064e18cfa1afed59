//! Answers on their way to the client, and noticing that it has left.
//!
//! Whoever computes an answer runs in a task of its own and holds the other end: so a client that
//! leaves is noticed, and the receipt is made all the same.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use engine::ApiError;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};

use crate::headers::RECEIPT;
use crate::inference::Delivered;

/// How long a client may leave a full buffer unread before it counts as gone.
pub const CLIENT_STALL: Duration = Duration::from_secs(60);
/// Frames between engine and connection.
const FRAMES: usize = 16;

/// The client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Where an answer goes: decides once between one piece and a stream.
pub(crate) struct Reply {
    head: oneshot::Sender<Response<Body>>,
}

/// The body of a streamed answer.
pub(crate) struct Frames {
    frames: mpsc::Sender<Bytes>,
}

impl Reply {
    pub(crate) fn channel() -> (Reply, oneshot::Receiver<Response<Body>>) {
        let (head, answer) = oneshot::channel();
        (Reply { head }, answer)
    }

    /// Resolves when the client has left before anything was sent.
    pub(crate) async fn gone(&mut self) {
        self.head.closed().await;
    }

    /// Answers in one piece.
    pub(crate) fn whole(self, mut response: Response<Body>, receipt: Option<&Delivered>) {
        if let Some(value) = receipt.and_then(|it| HeaderValue::from_str(&it.base64()).ok()) {
            response.headers_mut().insert(RECEIPT, value);
        }
        // Nobody may be there any more; the receipt then says what was made for them.
        let _ = self.head.send(response);
    }

    /// Starts a stream.
    pub(crate) fn stream(self) -> Result<Frames, Gone> {
        let (frames, rest) = mpsc::channel::<Bytes>(FRAMES);
        let body = stream::unfold(rest, |mut rest| async move {
            rest.recv()
                .await
                .map(|frame| (Ok::<_, Infallible>(frame), rest))
        });
        let mut response = Response::new(Body::from_stream(body));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        self.head.send(response).map_err(|_| Gone)?;
        Ok(Frames { frames })
    }
}

impl Frames {
    /// Hands a frame to the connection.
    pub(crate) async fn send(&self, frame: Bytes) -> Result<(), Gone> {
        match tokio::time::timeout(CLIENT_STALL, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Resolves when the client has left.
    pub(crate) async fn gone(&self) {
        self.frames.closed().await;
    }
}

/// JSON in one piece.
pub(crate) fn json(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An error in OpenAI's shape, with the bytes of its body.
pub(crate) fn error(error: &ApiError) -> (Response<Body>, Bytes) {
    let body = error.to_body();
    let mut response = json(error.status, body.clone());
    if let Some(seconds) = error.retry_after_s {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    (response, body)
}
