//! The body of a request, within bounds of size and time.
//!
//! A body that is too large is read to its end, within bounds, and thrown away before it is
//! refused: most clients look for an answer only after they have sent everything, and would see a
//! broken connection instead of the reason.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine::openai::ApiError;
use http_body::Body;
use http_body_util::BodyExt;

/// Most bytes of a body that are read only to be thrown away.
const DISCARD_BYTES_MAX: usize = 64 << 20;
/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);
/// The same of a request that was refused by its head: whoever sent it may be anyone.
const REFUSED_BYTES_MAX: usize = 1 << 20;
const REFUSED_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads a body of at most `limit` bytes that arrives within `time`. One that comes in one piece
/// is not copied.
///
/// # Errors
/// 413, 408 or 400 in OpenAI's shape.
pub(crate) async fn read(
    mut body: impl Body<Data = Bytes> + Unpin,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ApiError> {
    let whole = tokio::time::timeout(time, gather(&mut body, limit)).await;
    match whole {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::TooLarge)) => {
            // Whatever becomes of this, the refusal is the same.
            let discarded = discard(&mut body, DISCARD_BYTES_MAX);
            let _ = tokio::time::timeout(DISCARD_TIME_MAX, discarded).await;
            Err(ApiError::body_too_large(limit))
        }
        Ok(Err(Broken::Cut)) => Err(ApiError::bad_request(
            "The request body did not arrive whole.",
        )),
        Err(_) => {
            let message = "The request body did not arrive in time.";
            Err(ApiError::new(408, "invalid_request_error", message).with_code("request_timeout"))
        }
    }
}

/// Reads the body of a request that is refused whatever it is.
pub(crate) async fn let_go(mut body: impl Body<Data = Bytes> + Unpin) {
    let discarded = discard(&mut body, REFUSED_BYTES_MAX);
    let _ = tokio::time::timeout(REFUSED_TIME_MAX, discarded).await;
}

enum Broken {
    TooLarge,
    Cut,
}

async fn gather(
    body: &mut (impl Body<Data = Bytes> + Unpin),
    limit: usize,
) -> Result<Bytes, Broken> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Broken::Cut)?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + piece.len() > limit {
            return Err(Broken::TooLarge);
        }
        if first.is_empty() {
            first = piece;
        } else {
            rest.extend_from_slice(&piece);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

async fn discard(body: &mut (impl Body<Data = Bytes> + Unpin), bytes_max: usize) {
    let mut left = bytes_max;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(after) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
            return;
        };
        left = after;
    }
}
