//! From an HTTP request to an inference, or to an error that is none.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use engine::ApiError;
use engine::openai::{ChatRequest, CompletionRequest, Surface};
use futures_util::StreamExt;
use serde::Deserialize;

/// Largest request body that is read, bytes; beyond it the answer is 413.
pub const BODY_BYTES_MAX: usize = 10 << 20;
/// How long a request body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Of a body over the limit, this much is read and thrown away, so that the client has stopped
/// sending and reads the answer. Beyond it the connection is cut.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// The part of a body that decides whether there is an inference at all.
#[derive(Deserialize)]
pub(crate) struct Named<'a> {
    #[serde(borrow)]
    pub(crate) model: Cow<'a, str>,
}

/// Reads the whole body.
pub(crate) async fn body(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let read = read(body, announced.unwrap_or(0));
    tokio::time::timeout(BODY_TIMEOUT, read)
        .await
        .unwrap_or_else(|_| {
            Err(ApiError::new(
                408,
                "invalid_request_error",
                format!(
                    "The request body did not arrive within {} s.",
                    BODY_TIMEOUT.as_secs()
                ),
            ))
        })
}

async fn read(body: Body, announced: usize) -> Result<Bytes, ApiError> {
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::with_capacity(announced.min(BODY_BYTES_MAX));
    let mut total = 0usize;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::bad_request("The request body broke off."))?;
        total = total.saturating_add(piece.len());
        if total > DISCARD_BYTES_MAX {
            break;
        }
        if total <= BODY_BYTES_MAX {
            whole.extend_from_slice(&piece);
        } else {
            whole = BytesMut::new();
        }
    }
    if total > BODY_BYTES_MAX {
        return Err(ApiError::body_too_large(BODY_BYTES_MAX));
    }
    Ok(whole.freeze())
}

/// The model that a body names.
pub(crate) fn model(surface: Surface, body: &[u8]) -> Result<Cow<'_, str>, ApiError> {
    serde_json::from_slice::<Named<'_>>(body)
        .map(|named| named.model)
        .map_err(|error| {
            let named = match surface {
                Surface::Completions => CompletionRequest::parse(body).err(),
                _ => ChatRequest::parse(body).err(),
            };
            match named {
                // It names the field at fault.
                Some(named) => named,
                None => ApiError::bad_request(format!("The request body is not usable: {error}.")),
            }
        })
}
