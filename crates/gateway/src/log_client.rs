//! Reading a log over HTTP, for whoever follows one here: requests bounded in time and size, and
//! records put together again from leaf and body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
use engine::upstream::{ConnectFailure, UpstreamError, connect_failure};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use record::leaf::Leaf;
use record::{Envelope, Record};
use tlog::bundle::{BODY_BYTES_MAX, ENTRY_BYTES_MAX};
use tlog::tile::WIDTH;

use crate::told_time::ToldTime;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest bundle of entries.
pub(crate) const ENTRIES_BYTES_MAX: usize = WIDTH as usize * (2 + ENTRY_BYTES_MAX);
/// Largest bundle of bodies.
pub(crate) const BODIES_BYTES_MAX: usize = WIDTH as usize * (4 + BODY_BYTES_MAX);

/// A log at its address.
pub(crate) struct LogClient {
    url: String,
    /// What opens its bodies.
    token: Option<HeaderValue>,
    told_time: Arc<ToldTime>,
}

/// Why nothing came.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("answered {status} for {path}{hint}")]
    Status {
        status: StatusCode,
        path: String,
        hint: &'static str,
    },
}

impl LogClient {
    pub(crate) fn new(url: &str, token: Option<HeaderValue>, told_time: &Arc<ToldTime>) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            told_time: Arc::clone(told_time),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it may read what is private.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// What lies at `path`.
    pub(crate) async fn get(
        &self,
        client: &Client,
        path: &str,
        limit_bytes: usize,
    ) -> Result<Bytes, LogError> {
        let failed = |why: &dyn std::fmt::Display| LogError::Unreachable(why.to_string());
        let exchange = async {
            let mut request = Request::get(format!("{}{path}", self.url));
            // The token opens bodies; nothing else needs it.
            let token = self.token.as_ref().filter(|_| path.contains("/bodies/"));
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, token.clone());
            }
            let request = request.body(Full::default()).map_err(|e| failed(&e))?;
            let answer = client.request(request).await.map_err(|error| {
                if connect_failure(&error) == ConnectFailure::Expired {
                    self.told_time.expired();
                }
                // The client's own words are "client error (Connect)", whatever it was.
                match UpstreamError::from_client(&error) {
                    UpstreamError::Connect { detail, .. } | UpstreamError::Cut { detail, .. } => {
                        failed(&detail)
                    }
                    other => failed(&other),
                }
            })?;
            let date = answer.headers().get(header::DATE);
            let date = date.and_then(|it| httpdate::parse_http_date(it.to_str().ok()?).ok());
            self.told_time.dated(date);
            let status = answer.status();
            if !status.is_success() {
                let hint = match status {
                    StatusCode::UNAUTHORIZED => ": the read token is not this log's",
                    _ => "",
                };
                let path = path.to_owned();
                return Err(LogError::Status { status, path, hint });
            }
            let body = Limited::new(answer.into_body(), limit_bytes)
                .collect()
                .await;
            body.map(|body| body.to_bytes()).map_err(|e| failed(&e))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(failed(&"it did not answer in time")))
    }
}

/// Puts leaf and body together again and verifies that they are one record.
pub(crate) fn open(entry: &[u8], body: &[u8]) -> record::Result<Record> {
    open_with(entry, body, |_| None)
}

/// The same; a record that `known` has, byte for byte, needs no verifying.
pub(crate) fn open_with(
    entry: &[u8],
    body: &[u8],
    known: impl FnOnce(&Envelope) -> Option<Record>,
) -> record::Result<Record> {
    let leaf = Leaf::parse(entry)?;
    let envelope = Envelope::new(body.to_vec(), leaf.signature.clone())?;
    let record = match known(&envelope) {
        Some(record) => record,
        None => envelope.open()?,
    };
    leaf.check(&record)?;
    Ok(record)
}
