//! The ways in which an upstream fails.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::http::{SpeaksTls, TlsKey};
use crate::openai::ApiError;

/// Why no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nobody listens there.
    Refused,
    /// The name does not resolve.
    Name,
    /// No connection in time.
    TimedOut,
    /// The TLS handshake failed.
    Tls,
    /// The certificate has expired, by this machine's clock.
    Expired,
    /// The certificate is of an issuer that is not known here, or not valid yet: that may as well be
    /// the doing of this machine's roots, of its clock, or of whoever looks into its connections.
    Untrusted,
    /// It speaks TLS and was asked in plain HTTP, or the other way round: the URL says which.
    Scheme,
    /// Anything else.
    Other,
}

/// What is told of a port that answers TLS with something else.
const SPEAKS_NO_TLS: &str =
    "it does not speak TLS: if it speaks plain HTTP, its URL has to begin with http://";

/// The step a deadline ran out in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Until the head of the answer.
    Head,
    /// Between two pieces of the body.
    Idle,
    /// The whole exchange.
    Total,
}

/// How an upstream failed. Messages hold no content of request or answer and no key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    /// No connection.
    #[error("the upstream cannot be reached: {detail}")]
    Connect {
        /// Why.
        reason: ConnectFailure,
        /// The cause in words.
        detail: String,
    },
    /// A deadline ran out.
    #[error("the upstream did not answer within {after_ms} ms ({stage:?})")]
    Timeout {
        /// In which step.
        stage: Stage,
        /// The deadline, ms.
        after_ms: u64,
    },
    /// A status other than 2xx.
    #[error("the upstream answered with status {status}")]
    Status {
        /// The status.
        status: u16,
        /// The headers.
        headers: Box<HeaderMap>,
        /// The TLS key that answered.
        tls_key: Option<TlsKey>,
        /// The body, cut at [`super::MAX_ERROR_BODY_BYTES`].
        body: Bytes,
        /// When the upstream wants to be asked again, seconds.
        retry_after_s: Option<u32>,
    },
    /// The connection or the stream ended before the answer did.
    #[error("the upstream's answer was cut off after {received_bytes} bytes: {detail}")]
    Cut {
        /// Bytes of the body received.
        received_bytes: u64,
        /// The cause in words.
        detail: String,
    },
    /// Bytes that are not what they must be.
    #[error("the upstream's answer is malformed: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// An answer over the limit.
    #[error("the upstream's answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit_bytes: usize,
    },
    /// An error object in the middle of a stream.
    #[error("the upstream reported an error in its stream")]
    InStream {
        /// The error; its message is foreign text.
        error: Box<ApiError>,
        /// The event as it came.
        raw: Bytes,
    },
}

impl UpstreamError {
    pub(super) fn timeout(stage: Stage, after: Duration) -> Self {
        Self::Timeout {
            stage,
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What a request without an answer amounts to.
    pub fn from_client(error: &hyper_util::client::legacy::Error) -> Self {
        if causes(error).any(says_tls) {
            return Self::Connect {
                reason: ConnectFailure::Scheme,
                detail: SpeaksTls.to_string(),
            };
        }
        if error.is_connect() {
            let reason = connect_failure(error);
            return Self::Connect {
                reason,
                detail: match reason {
                    ConnectFailure::Scheme => SPEAKS_NO_TLS.to_owned(),
                    _ => root_cause(error),
                },
            };
        }
        if causes(error).any(|cause| {
            cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_parse)
        }) {
            return Self::Malformed {
                detail: format!("this is not an HTTP/1.1 answer: {}", root_cause(error)),
            };
        }
        Self::Cut {
            received_bytes: 0,
            detail: root_cause(error),
        }
    }

    /// The error to answer with when nothing better can be done. A status error keeps its status
    /// and body where that is OpenAI's shape.
    pub fn to_api_error(&self) -> ApiError {
        match self {
            Self::Timeout { .. } => ApiError::gateway_timeout(self.to_string()),
            Self::Status {
                status,
                body,
                retry_after_s,
                ..
            } => {
                let mut error = ApiError::from_body(*status, body);
                error.retry_after_s = *retry_after_s;
                error
            }
            Self::InStream { error, .. } => (**error).clone(),
            _ => ApiError::bad_gateway(self.to_string()),
        }
    }
}

/// Why a request got no connection.
pub fn connect_failure(error: &hyper_util::client::legacy::Error) -> ConnectFailure {
    for cause in causes(error) {
        if let Some(error) = tls_error(cause) {
            return tls_failure(error);
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::ConnectionRefused => return ConnectFailure::Refused,
                ErrorKind::TimedOut => return ConnectFailure::TimedOut,
                _ => {}
            }
        }
        // hyper-util keeps this type private; its text is all there is.
        if cause.to_string() == "dns error" {
            return ConnectFailure::Name;
        }
    }
    ConnectFailure::Other
}

fn tls_failure(error: &rustls::Error) -> ConnectFailure {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            ConnectFailure::Expired
        }
        rustls::Error::InvalidCertificate(
            UnknownIssuer | NotValidYet | NotValidYetContext { .. },
        ) => ConnectFailure::Untrusted,
        // The first byte of what came is none of TLS: an answer of plain HTTP, most often.
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            ConnectFailure::Scheme
        }
        _ => ConnectFailure::Tls,
    }
}

/// Whether the other side answered plain HTTP in TLS.
fn says_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>();
    wrapped
        .and_then(std::io::Error::get_ref)
        .is_some_and(|inner| inner.is::<SpeaksTls>())
}

/// The error of TLS in another one. Each layer below wraps it into an I/O error of its own, and the
/// source of such an error is not what it wraps but the source of that.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref().or_else(|| {
        let wrapped = error.downcast_ref::<std::io::Error>()?;
        tls_error(wrapped.get_ref()?)
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost cause in words.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
