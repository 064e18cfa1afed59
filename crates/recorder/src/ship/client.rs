//! The home log over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use store::spool::Pending;
use tlog::note::NoteVerifier;

use super::wire::{self, Answer};
use crate::config::HomeLog;
use crate::error::RecorderError;

/// Bytes of an answer that are read, at most: 512 records with leaf and proof are about 1.5 MB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes of a refusal that are quoted in messages: a log that was ended names its successor's
/// address and key.
const QUOTED_BYTES_MAX: usize = 1000;

/// The home log: where it is, and the key that its checkpoints must carry.
#[derive(Clone)]
pub(crate) struct Home {
    url: String,
    records: Uri,
    verifier: NoteVerifier,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why a batch was not taken this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShipError {
    #[error("the log cannot be reached: {0}")]
    Unreachable(String),
    #[error("the log did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the log asks to come back later: {message}")]
    Busy {
        message: String,
        retry_after: Option<Duration>,
    },
    #[error("the request is too large for the log")]
    TooLarge,
    #[error("the log answered {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error(transparent)]
    Unbelievable(#[from] wire::Unbelievable),
    #[error("{0}")]
    Spool(String),
}

impl ShipError {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            ShipError::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Home {
    pub(crate) fn new(home: &HomeLog) -> Result<Home, RecorderError> {
        let bad = |reason: String| RecorderError::Config {
            field: "home log",
            reason,
        };
        let verifier =
            NoteVerifier::from_vkey(&home.vkey).map_err(|error| bad(error.to_string()))?;
        let url = home.url.trim_end_matches('/');
        let records: Uri = format!("{url}/longrun/v1/records")
            .parse()
            .map_err(|error| bad(format!("{url:?} is not a URL: {error}")))?;
        if !matches!(records.scheme_str(), Some("http" | "https")) || records.host().is_none() {
            return Err(bad(format!(
                "{url:?} must start with http:// or https:// and name a host"
            )));
        }
        let tls = records.scheme_str() == Some("https");
        Ok(Home {
            url: url.to_owned(),
            records,
            verifier,
            client: client(tls)?,
        })
    }

    pub(crate) fn verifier(&self) -> &NoteVerifier {
        &self.verifier
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends rows and checks the answer.
    pub(super) async fn send(
        &self,
        rows: &[Pending],
        sender: &wire::Sender,
        timeout: Duration,
    ) -> Result<Answer, ShipError> {
        let exchange = async {
            let request = Request::post(self.records.clone())
                .header(CONTENT_TYPE, "application/x-ndjson")
                .body(Full::new(Bytes::from(wire::body(rows))))
                .map_err(|error| ShipError::Unreachable(error.to_string()))?;
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| ShipError::Unreachable(with_sources(&error)))?;
            read(response).await
        };
        let bytes = tokio::time::timeout(timeout, exchange)
            .await
            .map_err(|_| ShipError::Timeout(timeout))??;
        Ok(wire::read_answer(&bytes, rows, &self.verifier, sender)?)
    }
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Bytes, ShipError> {
    let (head, body) = response.into_parts();
    let bytes = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| ShipError::Unreachable(error.to_string()))?
        .to_bytes();
    if head.status.is_success() {
        return Ok(bytes);
    }
    let quoted = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
    let message = String::from_utf8_lossy(quoted).into_owned();
    match head.status {
        StatusCode::PAYLOAD_TOO_LARGE => Err(ShipError::TooLarge),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = head
                .headers
                .get(RETRY_AFTER)
                .and_then(|it| it.to_str().ok()?.parse().ok());
            Err(ShipError::Busy {
                message,
                retry_after: seconds.map(Duration::from_secs),
            })
        }
        status => Err(ShipError::Refused { status, message }),
    }
}

/// Root certificates are only asked for where they are needed: a machine may have none.
fn client(tls: bool) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, RecorderError> {
    let bad = |reason: String| RecorderError::Config {
        field: "home log",
        reason,
    };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?;
    let builder = if tls {
        builder
            .with_native_roots()
            .map_err(|error| bad(format!("this machine's root certificates: {error}")))?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    let tls = builder.with_no_client_auth();
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1();
    Ok(Client::builder(TokioExecutor::new()).build(https.wrap_connector(http)))
}

/// hyper's own message leaves out why.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
