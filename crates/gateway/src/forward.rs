//! A call: endpoints in the order of their record, one attempt after the other.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use engine::openai::ApiError;
use engine::upstream::UpstreamError;
use record::CallId;

use crate::answer::Answer;
use crate::attempt::{Attempt, Request};
use crate::catalog::{Catalog, Live};
use crate::choose::{self, Draw};
use crate::gateway::Gateway;
use crate::outcome::Seen;
use crate::request::Head;
use crate::{plain, stream};

/// Answers one chat request.
pub(crate) async fn chat(
    gateway: &Arc<Gateway>,
    call: CallId,
    client: IpAddr,
    body: Bytes,
) -> Answer {
    let head = match Head::parse(&body) {
        Ok(head) => head,
        Err(error) => return Answer::error(&error, Some(call), None),
    };
    let catalog = gateway.catalog();
    let Some(endpoints) = catalog.model(&head.model) else {
        return Answer::error(&no_model(&catalog, &head.model), Some(call), None);
    };
    let streamed = head.streams();
    let mut candidates = Catalog::candidates(endpoints, gateway.uptime_ms());
    let settings = gateway.settings();
    let routing = settings.config.routing;
    let draw = Draw::numbered(routing.seed, gateway.next_draw());
    choose::order(&mut candidates, routing.exploration_ppm, draw);
    let request = Request {
        body: &body,
        streamed,
        client,
    };
    let _under_way = UnderWay::new(gateway, call);
    let mut number = 0;
    let mut failure = None;
    for candidate in candidates.iter().take(settings.config.limits.attempts_max) {
        number += 1;
        let live = &endpoints[candidate.place];
        let attempt = Attempt::begin(gateway, live, call, number, &request).await;
        let answer = if streamed {
            stream::attempt(attempt, body.clone()).await
        } else {
            plain::attempt(attempt, body.clone()).await
        };
        match answer {
            Ok(answer) => return answer,
            Err(failed) => {
                let again = failed.seen.row().try_next;
                failure = Some(failed);
                if !again {
                    break;
                }
            }
        }
    }
    match failure {
        Some(failure) => failure.answer(call, number),
        None => Answer::error(&no_model(&catalog, &head.model), Some(call), None),
    }
}

/// At most this much of a model's name is repeated in an error.
const MODEL_SHOWN_CHARS: usize = 256;

pub(crate) fn no_model(catalog: &Catalog, model: &str) -> ApiError {
    if catalog.awaits(model) {
        let message = format!(
            "The model `{model}` is configured, but its endpoint has not answered yet. \
             GET /longrun/v1/status says why."
        );
        return ApiError::new(503, "server_error", message)
            .with_param("model")
            .with_code("endpoint_unreachable")
            .with_retry_after(1);
    }
    let shown: String = model.chars().take(MODEL_SHOWN_CHARS).collect();
    ApiError::model_not_found(&shown, &catalog.names())
}

/// Notes that a call is under way until it is dropped.
struct UnderWay<'a> {
    gateway: &'a Gateway,
    call: CallId,
}

impl<'a> UnderWay<'a> {
    fn new(gateway: &'a Gateway, call: CallId) -> Self {
        gateway.recent.opened(call);
        Self { gateway, call }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.gateway.recent.closed(self.call);
    }
}

/// An attempt that gave no answer; it is recorded by now.
pub(crate) struct Failure {
    seen: Seen,
    live: Arc<Live>,
    error: ApiError,
    /// The endpoint's own body, where it goes to the caller as it is.
    body: Option<Bytes>,
}

impl Failure {
    /// The upstream failed.
    pub(crate) fn upstream(mut attempt: Attempt, error: &UpstreamError) -> Self {
        let live = Arc::clone(attempt.live());
        let seen = Seen::failure(error, attempt.has_token());
        let mut own = None;
        if let UpstreamError::Status {
            status,
            headers,
            body,
            ..
        } = error
        {
            attempt.head(*status, headers);
            attempt.body(body);
            own = Some(body.clone());
        }
        attempt.finish(seen);
        let body = own.filter(|body| seen != Seen::Credentials && is_error_shape(body));
        Self {
            seen,
            body,
            error: explain(&live, seen, error),
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

    /// The error with which a stream ends that broke off.
    pub(crate) fn broken_off(live: &Live, seen: Seen, error: &UpstreamError) -> ApiError {
        explain(live, seen, error)
    }

    fn answer(self, call: CallId, attempts: u32) -> Answer {
        let Self {
            error, body, live, ..
        } = self;
        match body {
            Some(body) => Answer::error_body(&error, body, Some(call), Some(&live)),
            None => {
                let mut error = error;
                if attempts > 1 {
                    error.message = format!("{} ({attempts} endpoints were tried.)", error.message);
                }
                Answer::error(&error, Some(call), Some(&live))
            }
        }
    }
}

/// Whether an error body has the shape that clients expect; only then it goes to the caller as it
/// is. (What an endpoint says about *our* key never does.)
fn is_error_shape(body: &[u8]) -> bool {
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

/// What to tell the caller about a failure, without naming secrets or prompts.
fn explain(live: &Live, seen: Seen, error: &UpstreamError) -> ApiError {
    let endpoint = &live.id;
    match (seen, error) {
        (_, UpstreamError::InStream { error, .. }) => inside(live, seen, (**error).clone()),
        (Seen::Credentials, _) => credentials(live),
        (Seen::OddStatus, UpstreamError::Status { status, .. }) => ApiError::bad_gateway(format!(
            "{endpoint} answered with status {status}, which is not followed."
        )),
        (_, UpstreamError::Status { .. }) => error.to_api_error(),
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
        _ => ApiError::bad_gateway(format!("{endpoint} cannot be reached.")),
    }
}

fn credentials(live: &Live) -> ApiError {
    let endpoint = &live.id;
    ApiError::bad_gateway(format!(
        "{endpoint} does not accept the key that this gateway holds for it, or the key has no \
         credit."
    ))
    .with_code("endpoint_credentials")
}

/// An error that came inside an answer: it gets the status that it stands for.
fn inside(live: &Live, seen: Seen, mut error: ApiError) -> ApiError {
    if seen == Seen::Credentials {
        return credentials(live);
    }
    error.status = match seen {
        Seen::BadRequest => 400,
        Seen::NotFound => 404,
        Seen::RateLimited => 429,
        Seen::Unavailable => 503,
        Seen::UpstreamTimeout => 504,
        _ => 502,
    };
    error
}
