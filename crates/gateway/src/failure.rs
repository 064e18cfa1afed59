//! An attempt that gave no answer: what was seen of it, and what the caller is told.
//!
//! Neither a key nor a prompt is ever part of what is told. An endpoint's own error body goes to
//! the caller as it is, unless it speaks about *our* key.

use std::sync::Arc;

use bytes::Bytes;
use engine::openai::ApiError;
use engine::upstream::{ConnectFailure, UpstreamError};
use record::CallId;

use crate::answer::Answer;
use crate::attempt::Attempt;
use crate::catalog::Live;
use crate::outcome::Seen;
use crate::quirks;
use crate::site::PERHAPS_TLS;

/// An attempt that gave no answer; it is recorded by now.
pub(crate) struct Failure {
    pub(crate) seen: Seen,
    pub(crate) live: Arc<Live>,
    error: ApiError,
    /// The endpoint's own body, where it goes to the caller as it is.
    body: Option<Bytes>,
}

impl Failure {
    /// The upstream failed.
    pub(crate) fn upstream(mut attempt: Attempt, error: &UpstreamError) -> Self {
        let live = Arc::clone(attempt.live());
        let is_off = attempt.is_clock_off();
        let seen = Seen::failure_by_clock(error, attempt.has_token(), is_off);
        let mut own = None;
        if let UpstreamError::Status {
            status,
            headers,
            tls_key,
            body,
            retry_after_s,
        } = error
        {
            attempt.head(*status, headers, *tls_key);
            attempt.body(body);
            if seen == Seen::NotFound && !quirks::is_lacking(body) {
                attempt.lacks_nothing();
            }
            own = Some(body.clone()).filter(|body| !repeats_key(&live, body));
            if let Some(seconds) = *retry_after_s {
                attempt.pause(seen, seconds);
            }
        }
        attempt.finish(seen);
        let body = own.filter(|body| seen != Seen::Credentials && is_error_shape(body));
        let mut told = explain(&live, seen, error);
        if let UpstreamError::Status { status, .. } = error
            && seen != Seen::status(*status)
        {
            // Clients go by the status: what passes has to look as if it did.
            told.status = status_of(seen).unwrap_or(told.status);
        }
        Self {
            seen,
            body,
            error: told,
            live,
        }
    }

    /// An error object came where an answer should be.
    pub(crate) fn inside(attempt: Attempt, error: ApiError) -> Self {
        let live = Arc::clone(attempt.live());
        let seen = Seen::error_inside(&error);
        attempt.finish(seen);
        Self {
            seen,
            error: inside(&live, seen, error),
            body: None,
            live,
        }
    }

    /// Something came that is no answer.
    pub(crate) fn malformed(attempt: Attempt, what: &str) -> Self {
        let live = Arc::clone(attempt.live());
        attempt.finish(Seen::Malformed);
        let error =
            ApiError::bad_gateway(format!("The answer of {} is unusable: {what}.", live.id));
        Self {
            seen: Seen::Malformed,
            error,
            body: None,
            live,
        }
    }

    /// A stream failed after its attempt had ended.
    pub(crate) fn over(live: &Arc<Live>, error: &UpstreamError) -> Self {
        let seen = Seen::failure(error, true);
        Self {
            seen,
            error: explain(live, seen, error),
            body: None,
            live: Arc::clone(live),
        }
    }

    /// When the endpoint wants to be asked again, seconds.
    pub(crate) fn retry_after_s(&self) -> Option<u32> {
        self.error.retry_after_s
    }

    pub(crate) fn answer(self, call: CallId, attempts: u32) -> Answer {
        let Self {
            error, body, live, ..
        } = self;
        match body {
            Some(body) => Answer::error_body(&error, body, Some(call), Some(&live)),
            None => {
                let mut error = error;
                if attempts > 1 {
                    error.message = format!("{} ({attempts} attempts were made.)", error.message);
                }
                Answer::error(&error, Some(call), Some(&live))
            }
        }
    }
}

/// Whether an error body has the shape that clients expect; only then it goes to the caller as it
/// is. (What an endpoint says about *our* key never does.)
pub(crate) fn is_error_shape(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Shape {
        #[serde(rename = "error")]
        _error: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        #[serde(rename = "message")]
        _message: String,
    }
    serde_json::from_slice::<Shape>(body).is_ok()
}

/// A shorter key is a word such as `none`, which servers of one's own are given, and stands in many errors.
const KEY_BYTES_MIN: usize = 16;

/// Whether an endpoint says the key again that this gateway holds for it; some quote what they refuse.
pub(crate) fn repeats_key(live: &Live, said: &[u8]) -> bool {
    let key = live.site.config.api_key.as_ref();
    let key = key.map(|key| key.reveal().as_bytes());
    key.is_some_and(|key| key.len() >= KEY_BYTES_MIN && memchr::memmem::find(said, key).is_some())
}

/// The words of an endpoint, unless our key is among them.
fn without_key(live: &Live, mut error: ApiError) -> ApiError {
    if repeats_key(live, error.message.as_bytes()) {
        error.message = format!(
            "{} answered with an error that repeats the key which this gateway holds for it; its words \
             are left out.",
            live.id
        );
    }
    error
}

/// What to tell the caller about a failure, without naming secrets or prompts.
pub(crate) fn explain(live: &Live, seen: Seen, error: &UpstreamError) -> ApiError {
    let endpoint = &live.id;
    match (seen, error) {
        (_, UpstreamError::InStream { error, .. }) => inside(live, seen, (**error).clone()),
        (Seen::Credentials, _) => credentials(live),
        (Seen::OddStatus, UpstreamError::Status { status, .. }) => ApiError::bad_gateway(format!(
            "{endpoint} answered with status {status}, which is not followed."
        )),
        (Seen::Scheme, UpstreamError::Status { status, .. }) => ApiError::bad_gateway(format!(
            "{endpoint} cannot be reached: it answered {status}{PERHAPS_TLS} in the configuration of \
             this gateway."
        )),
        (_, UpstreamError::Status { .. }) => without_key(live, error.to_api_error()),
        (Seen::Cut, _) => ApiError::bad_gateway(format!(
            "The answer of {endpoint} broke off before its end; what arrived is not complete."
        ))
        .with_code("answer_cut"),
        (Seen::FirstTokenTimeout, _) => {
            ApiError::gateway_timeout(format!("{endpoint} did not answer in time."))
        }
        (Seen::GapTimeout, _) => ApiError::gateway_timeout(format!(
            "The answer of {endpoint} stalled; what arrived is not complete."
        )),
        (Seen::TotalTimeout, _) => ApiError::gateway_timeout(format!(
            "The answer of {endpoint} took longer than this gateway allows; what arrived is not \
             complete."
        )),
        (Seen::TooLarge, _) => ApiError::bad_gateway(format!(
            "The answer of {endpoint} is larger than this gateway allows; what arrived is not \
             complete."
        ))
        .with_code("answer_too_large"),
        (Seen::Malformed, UpstreamError::Malformed { detail }) => {
            ApiError::bad_gateway(format!("The answer of {endpoint} is unusable: {detail}."))
        }
        (_, UpstreamError::Connect { reason, detail }) => {
            let why = unreachable(*reason, detail);
            ApiError::bad_gateway(format!("{endpoint} cannot be reached: {why}."))
        }
        _ => ApiError::bad_gateway(format!("{endpoint} cannot be reached.")),
    }
}

fn unreachable(reason: ConnectFailure, detail: &str) -> String {
    match reason {
        ConnectFailure::Refused => "nobody listens there".to_owned(),
        ConnectFailure::Name => "its name does not resolve".to_owned(),
        ConnectFailure::TimedOut => "no connection came about in time".to_owned(),
        // What the TLS library says of the certificate is the only help there is.
        ConnectFailure::Tls | ConnectFailure::Expired => format!("TLS failed, {detail}"),
        ConnectFailure::Untrusted => format!(
            "its certificate is not trusted by this gateway, whose clock or roots may be what is wrong \
             ({detail})"
        ),
        ConnectFailure::Scheme => format!("{detail} in the configuration of this gateway"),
        ConnectFailure::Other => "no connection came about".to_owned(),
    }
}

fn credentials(live: &Live) -> ApiError {
    let endpoint = &live.id;
    ApiError::bad_gateway(format!(
        "{endpoint} does not accept the key that this gateway holds for it, or the key has no \
         credit; tell the operator of this gateway."
    ))
    .with_code("endpoint_credentials")
}

/// An error that came inside an answer: it gets the status that it stands for.
fn inside(live: &Live, seen: Seen, mut error: ApiError) -> ApiError {
    if seen == Seen::Credentials {
        return credentials(live);
    }
    error.status = status_of(seen).unwrap_or(502);
    without_key(live, error)
}

/// The status by which clients know what was seen, where there is one.
fn status_of(seen: Seen) -> Option<u16> {
    match seen {
        Seen::BadRequest => Some(400),
        Seen::NotFound => Some(404),
        Seen::RateLimited => Some(429),
        Seen::Unavailable => Some(503),
        Seen::UpstreamTimeout => Some(504),
        _ => None,
    }
}
