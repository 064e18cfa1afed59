//! What was seen, and what it means: outcome class, fault, and whether another endpoint is tried.
//!
//! This is the only place where an attempt is judged. [`TABLE`] has one row per thing that can be
//! seen; `docs` and tests follow it. Two principles decide the doubtful rows:
//!
//! - Only what the provider alone could have avoided is its fault. A name that does not resolve
//!   and a connection that times out may be our own network.
//! - What another endpoint may well answer is tried there, unless the first token has been passed
//!   on: after that, an answer is never restarted behind the caller's back.

use engine::openai::ApiError;
use engine::upstream::{ConnectFailure, Stage, UpstreamError};
use record::{Fault, Outcome};

use crate::health::Sign;

/// Everything that can be seen of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole, well-formed answer.
    Complete,
    /// A whole answer whose text a filter held back, or a refusal where there is no answer.
    Filtered,
    /// 400 and other refusals of the request itself.
    BadRequest,
    /// 401, 402, 403: the key that this gateway holds is not accepted, or has no credit.
    Credentials,
    /// 404: the endpoint does not know the model, or the path.
    NotFound,
    /// 408.
    RequestTimeout,
    /// 429.
    RateLimited,
    /// 503 and 529.
    Unavailable,
    /// 504 and 524.
    UpstreamTimeout,
    /// Any other 5xx.
    ServerError,
    /// A redirect, or a status that no API gives. Redirects are not followed: they would carry
    /// prompt and key elsewhere.
    OddStatus,
    /// An error object where an answer should be: with status 200, or as an event of a stream.
    ErrorInside,
    /// Nobody listens there.
    Refused,
    /// The name does not resolve.
    NoName,
    /// No connection before the deadline.
    ConnectTimeout,
    /// The TLS handshake failed (an expired certificate, for instance).
    Tls,
    /// A certificate of an unknown issuer, or not valid yet.
    Untrusted,
    /// It speaks plain HTTP where its URL says https, or TLS where it says http.
    Scheme,
    /// No connection, for another reason.
    NoConnection,
    /// Nothing of the answer arrived before the deadline.
    FirstTokenTimeout,
    /// The next piece did not arrive before the deadline.
    GapTimeout,
    /// The answer had begun and did not end before the deadline.
    TotalTimeout,
    /// The connection broke off before the answer's end.
    Cut,
    /// Bytes that are not what they should be: no HTTP, no JSON, a wrong content type.
    Malformed,
    /// More bytes than an answer may have.
    TooLarge,
    /// The caller went away.
    CallerGone,
    /// Another endpoint was asked as well and answered first.
    Outrun,
    /// It was asked to go on with a stream, and wrote another text.
    Diverged,
    /// The gateway stopped, or something in it failed.
    Stopped,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was seen.
    pub seen: Seen,
    /// Its class.
    pub outcome: Outcome,
    /// Whose fault it is; none exactly for `ok`.
    pub fault: Option<Fault>,
    /// Whether another endpoint is tried, as long as no token was passed on.
    pub try_next: bool,
}

const fn row(seen: Seen, outcome: Outcome, fault: Fault, try_next: bool) -> Row {
    Row {
        seen,
        outcome,
        fault: Some(fault),
        try_next,
    }
}

/// What each thing means, in the order of [`Seen`].
pub const TABLE: &[Row] = &[
    Row {
        seen: Seen::Complete,
        outcome: Outcome::Ok,
        fault: None,
        try_next: false,
    },
    row(Seen::Filtered, Outcome::Refused, Fault::Unknown, false),
    row(Seen::BadRequest, Outcome::ClientError, Fault::Client, false),
    row(
        Seen::Credentials,
        Outcome::ClientError,
        Fault::Gateway,
        true,
    ),
    row(Seen::NotFound, Outcome::ClientError, Fault::Unknown, true),
    row(Seen::RequestTimeout, Outcome::Timeout, Fault::Unknown, true),
    row(Seen::RateLimited, Outcome::RateLimited, Fault::Client, true),
    row(Seen::Unavailable, Outcome::Capacity, Fault::Provider, true),
    row(
        Seen::UpstreamTimeout,
        Outcome::Timeout,
        Fault::Provider,
        true,
    ),
    row(
        Seen::ServerError,
        Outcome::ProviderError,
        Fault::Provider,
        true,
    ),
    row(Seen::OddStatus, Outcome::Malformed, Fault::Provider, true),
    row(
        Seen::ErrorInside,
        Outcome::ProviderError,
        Fault::Provider,
        true,
    ),
    row(Seen::Refused, Outcome::Connection, Fault::Provider, true),
    row(Seen::NoName, Outcome::Connection, Fault::Unknown, true),
    row(
        Seen::ConnectTimeout,
        Outcome::Connection,
        Fault::Network,
        true,
    ),
    row(Seen::Tls, Outcome::Connection, Fault::Provider, true),
    row(Seen::Untrusted, Outcome::Connection, Fault::Unknown, true),
    row(Seen::Scheme, Outcome::Connection, Fault::Unknown, true),
    row(
        Seen::NoConnection,
        Outcome::Connection,
        Fault::Network,
        true,
    ),
    row(
        Seen::FirstTokenTimeout,
        Outcome::Timeout,
        Fault::Provider,
        true,
    ),
    row(Seen::GapTimeout, Outcome::Timeout, Fault::Provider, true),
    row(Seen::TotalTimeout, Outcome::Timeout, Fault::Unknown, false),
    row(Seen::Cut, Outcome::Truncated, Fault::Provider, true),
    row(Seen::Malformed, Outcome::Malformed, Fault::Provider, true),
    row(Seen::TooLarge, Outcome::Malformed, Fault::Provider, false),
    row(Seen::CallerGone, Outcome::Canceled, Fault::Client, false),
    row(Seen::Outrun, Outcome::Canceled, Fault::Gateway, false),
    row(Seen::Diverged, Outcome::Canceled, Fault::Gateway, false),
    row(Seen::Stopped, Outcome::GatewayError, Fault::Gateway, false),
];

impl Seen {
    /// The row of the table.
    #[must_use]
    pub fn row(self) -> &'static Row {
        // The table is in the order of the variants; a test holds that.
        &TABLE[self as usize]
    }

    /// What it says about the endpoint's health, for the calls that come next.
    #[must_use]
    pub fn sign(self) -> Sign {
        match self {
            Self::Complete | Self::Filtered | Self::BadRequest => Sign::Good,
            Self::Refused
            | Self::NoName
            | Self::ConnectTimeout
            | Self::Tls
            | Self::Untrusted
            | Self::Scheme
            | Self::NoConnection => Sign::Gone,
            // A limit is no illness; the rest may be anyone's doing.
            Self::RateLimited
            | Self::RequestTimeout
            | Self::TotalTimeout
            | Self::TooLarge
            | Self::CallerGone
            | Self::Outrun
            | Self::Diverged
            | Self::Stopped => Sign::None,
            Self::Credentials
            | Self::NotFound
            | Self::Unavailable
            | Self::UpstreamTimeout
            | Self::ServerError
            | Self::OddStatus
            | Self::ErrorInside
            | Self::FirstTokenTimeout
            | Self::GapTimeout
            | Self::Cut
            | Self::Malformed => Sign::Bad,
        }
    }

    /// Whether the same endpoint may answer the same request a moment later.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Unavailable
                | Self::ServerError
                | Self::ErrorInside
                | Self::Refused
                | Self::NoConnection
                | Self::Cut
        )
    }

    /// What a status other than 2xx means.
    #[must_use]
    pub fn status(status: u16) -> Self {
        match status {
            401..=403 => Self::Credentials,
            404 => Self::NotFound,
            408 => Self::RequestTimeout,
            429 => Self::RateLimited,
            400..=499 => Self::BadRequest,
            503 | 529 => Self::Unavailable,
            504 | 524 => Self::UpstreamTimeout,
            500..=599 => Self::ServerError,
            _ => Self::OddStatus,
        }
    }

    /// What an error object inside a 200 or inside a stream means: as the status that it names,
    /// if it names one.
    #[must_use]
    pub fn error_inside(error: &ApiError) -> Self {
        let code = error.code.as_deref().unwrap_or("");
        if let Ok(status @ 400..=599) = code.parse::<u16>() {
            return Self::status(status);
        }
        match (code, error.kind.as_str()) {
            ("rate_limit_exceeded", _) | (_, "rate_limit_error" | "rate_limit_exceeded") => {
                Self::RateLimited
            }
            ("insufficient_quota" | "invalid_api_key", _)
            | (_, "insufficient_quota" | "authentication_error" | "permission_error") => {
                Self::Credentials
            }
            ("model_not_found", _) | (_, "not_found_error") => Self::NotFound,
            ("overloaded", _) | (_, "overloaded_error") => Self::Unavailable,
            (_, "invalid_request_error") => Self::BadRequest,
            _ => Self::ErrorInside,
        }
    }

    /// What a failure of the upstream means. `first_token` says whether anything was passed on.
    #[must_use]
    pub fn failure(error: &UpstreamError, first_token: bool) -> Self {
        match error {
            UpstreamError::Connect { reason, .. } => match reason {
                ConnectFailure::Refused => Self::Refused,
                ConnectFailure::Name => Self::NoName,
                ConnectFailure::TimedOut => Self::ConnectTimeout,
                ConnectFailure::Tls | ConnectFailure::Expired => Self::Tls,
                ConnectFailure::Untrusted => Self::Untrusted,
                ConnectFailure::Scheme => Self::Scheme,
                ConnectFailure::Other => Self::NoConnection,
            },
            UpstreamError::Timeout { stage, .. } => match stage {
                Stage::Head => Self::FirstTokenTimeout,
                Stage::Idle | Stage::Total if !first_token => Self::FirstTokenTimeout,
                Stage::Idle => Self::GapTimeout,
                Stage::Total => Self::TotalTimeout,
            },
            UpstreamError::Status { status, body, .. }
                if crate::quirks::is_said_to_plain_http(*status, body) =>
            {
                Self::Scheme
            }
            UpstreamError::Status { status, body, .. } => {
                crate::quirks::seen(*status, body).unwrap_or_else(|| Self::status(*status))
            }
            UpstreamError::Cut { .. } => Self::Cut,
            UpstreamError::Malformed { .. } => Self::Malformed,
            UpstreamError::TooLarge { .. } => Self::TooLarge,
            UpstreamError::InStream { error, .. } => Self::error_inside(error),
        }
    }

    /// The same for a machine whose clock may be wrong: then it cannot tell whose fault it is that a
    /// certificate looks expired.
    #[must_use]
    pub fn failure_by_clock(error: &UpstreamError, first_token: bool, is_off: bool) -> Self {
        match error {
            UpstreamError::Connect {
                reason: ConnectFailure::Expired,
                ..
            } if is_off => Self::Untrusted,
            _ => Self::failure(error, first_token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_table_is_complete_and_in_order() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.seen as usize, place, "{row:?}");
        }
        assert_eq!(TABLE.len(), Seen::Stopped as usize + 1);
        for outcome in Outcome::ALL {
            let reached = TABLE.iter().any(|row| row.outcome == *outcome);
            // Schemas are not checked by this version, so nothing is called a violation of one.
            assert_eq!(reached, *outcome != Outcome::SchemaViolation, "{outcome}");
        }
    }

    #[test]
    fn every_row_is_one_that_a_record_can_hold() {
        for row in TABLE {
            record::outcome::check_fault(row.outcome, row.fault)
                .unwrap_or_else(|error| panic!("{row:?}: {error}"));
        }
    }

    /// One row each, as documented: outcome, fault, whether the next endpoint is tried.
    #[test]
    fn each_row_says_what_is_documented() {
        let rows: &[(Seen, &str, &str, bool)] = &[
            (Seen::Complete, "ok", "-", false),
            (Seen::Filtered, "refused", "unknown", false),
            (Seen::BadRequest, "client_error", "client", false),
            (Seen::Credentials, "client_error", "gateway", true),
            (Seen::NotFound, "client_error", "unknown", true),
            (Seen::RequestTimeout, "timeout", "unknown", true),
            (Seen::RateLimited, "rate_limited", "client", true),
            (Seen::Unavailable, "capacity", "provider", true),
            (Seen::UpstreamTimeout, "timeout", "provider", true),
            (Seen::ServerError, "provider_error", "provider", true),
            (Seen::OddStatus, "malformed", "provider", true),
            (Seen::ErrorInside, "provider_error", "provider", true),
            (Seen::Refused, "connection", "provider", true),
            (Seen::NoName, "connection", "unknown", true),
            (Seen::ConnectTimeout, "connection", "network", true),
            (Seen::Tls, "connection", "provider", true),
            (Seen::Untrusted, "connection", "unknown", true),
            (Seen::Scheme, "connection", "unknown", true),
            (Seen::NoConnection, "connection", "network", true),
            (Seen::FirstTokenTimeout, "timeout", "provider", true),
            (Seen::GapTimeout, "timeout", "provider", true),
            (Seen::TotalTimeout, "timeout", "unknown", false),
            (Seen::Cut, "truncated", "provider", true),
            (Seen::Malformed, "malformed", "provider", true),
            (Seen::TooLarge, "malformed", "provider", false),
            (Seen::CallerGone, "canceled", "client", false),
            (Seen::Outrun, "canceled", "gateway", false),
            (Seen::Diverged, "canceled", "gateway", false),
            (Seen::Stopped, "gateway_error", "gateway", false),
        ];
        assert_eq!(rows.len(), TABLE.len());
        for (seen, outcome, fault, try_next) in rows {
            let row = seen.row();
            assert_eq!(row.outcome.as_str(), *outcome, "{seen:?}");
            assert_eq!(row.fault.map_or("-", |f| f.as_str()), *fault, "{seen:?}");
            assert_eq!(row.try_next, *try_next, "{seen:?}");
        }
    }

    #[test]
    fn statuses_are_read() {
        let rows = [
            (400, Seen::BadRequest),
            (401, Seen::Credentials),
            (402, Seen::Credentials),
            (403, Seen::Credentials),
            (404, Seen::NotFound),
            (408, Seen::RequestTimeout),
            (413, Seen::BadRequest),
            (422, Seen::BadRequest),
            (429, Seen::RateLimited),
            (500, Seen::ServerError),
            (502, Seen::ServerError),
            (503, Seen::Unavailable),
            (504, Seen::UpstreamTimeout),
            (524, Seen::UpstreamTimeout),
            (529, Seen::Unavailable),
            (301, Seen::OddStatus),
            (101, Seen::OddStatus),
        ];
        for (status, seen) in rows {
            assert_eq!(Seen::status(status), seen, "{status}");
        }
    }

    #[test]
    fn errors_inside_an_answer_are_read() {
        let rows = [
            (r#"{"error":{"message":"m","code":429}}"#, Seen::RateLimited),
            (
                r#"{"error":{"message":"m","code":"503"}}"#,
                Seen::Unavailable,
            ),
            (
                r#"{"error":{"message":"m","type":"overloaded_error"}}"#,
                Seen::Unavailable,
            ),
            (
                r#"{"error":{"message":"m","type":"rate_limit_error"}}"#,
                Seen::RateLimited,
            ),
            (
                r#"{"error":{"message":"m","code":"insufficient_quota"}}"#,
                Seen::Credentials,
            ),
            (
                r#"{"error":{"message":"m","code":"model_not_found"}}"#,
                Seen::NotFound,
            ),
            (
                r#"{"error":{"message":"m","type":"invalid_request_error"}}"#,
                Seen::BadRequest,
            ),
            (
                r#"{"error":{"message":"m","type":"server_error"}}"#,
                Seen::ErrorInside,
            ),
            (r#"{"error":{"message":"m"}}"#, Seen::ErrorInside),
            (r#"{"error":"m"}"#, Seen::ErrorInside),
        ];
        for (body, seen) in rows {
            let error = ApiError::from_body(200, body.as_bytes());
            assert_eq!(Seen::error_inside(&error), seen, "{body}");
        }
    }

    #[test]
    fn failures_of_an_upstream_are_read() {
        let timeout = |stage| UpstreamError::Timeout { stage, after_ms: 1 };
        let connect = |reason| UpstreamError::Connect {
            reason,
            detail: String::new(),
        };
        let status = UpstreamError::Status {
            status: 429,
            headers: Box::default(),
            tls_key: None,
            body: Bytes::new(),
            retry_after_s: None,
        };
        let cut = UpstreamError::Cut {
            received_bytes: 0,
            detail: String::new(),
        };
        let rows = [
            (connect(ConnectFailure::Refused), false, Seen::Refused),
            (connect(ConnectFailure::Name), false, Seen::NoName),
            (
                connect(ConnectFailure::TimedOut),
                false,
                Seen::ConnectTimeout,
            ),
            (connect(ConnectFailure::Tls), false, Seen::Tls),
            (connect(ConnectFailure::Expired), false, Seen::Tls),
            (connect(ConnectFailure::Untrusted), false, Seen::Untrusted),
            (connect(ConnectFailure::Scheme), false, Seen::Scheme),
            (connect(ConnectFailure::Other), false, Seen::NoConnection),
            (timeout(Stage::Head), false, Seen::FirstTokenTimeout),
            (timeout(Stage::Idle), false, Seen::FirstTokenTimeout),
            (timeout(Stage::Idle), true, Seen::GapTimeout),
            (timeout(Stage::Total), false, Seen::FirstTokenTimeout),
            (timeout(Stage::Total), true, Seen::TotalTimeout),
            (status, false, Seen::RateLimited),
            (cut, true, Seen::Cut),
            (
                UpstreamError::Malformed {
                    detail: String::new(),
                },
                true,
                Seen::Malformed,
            ),
            (
                UpstreamError::TooLarge { limit_bytes: 1 },
                true,
                Seen::TooLarge,
            ),
        ];
        for (error, first_token, seen) in rows {
            assert_eq!(Seen::failure(&error, first_token), seen, "{error:?}");
            let by_clock = Seen::failure_by_clock(&error, first_token, true);
            let expired = matches!(
                error,
                UpstreamError::Connect {
                    reason: ConnectFailure::Expired,
                    ..
                }
            );
            assert_eq!(by_clock, if expired { Seen::Untrusted } else { seen });
        }
    }
}
