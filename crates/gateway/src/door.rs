//! Who gets past the door to what: the guard against web pages first, then the key.
//!
//! | What | With keys, who may |
//! |---|---|
//! | health, readiness, the description of the API | anyone |
//! | `/v1/…`, `/longrun/v1/calls/…` | whoever has a key; a call, whoever made it |
//! | everything else: the page, status, history, metrics, reload | operators |
//!
//! Without keys everyone who reaches the gateway is an operator; that is why such a gateway stays
//! on the loopback interface.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use engine::http::Peer;
use engine::openai::ApiError;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};

use crate::answer::Answer;
use crate::callers::Caller;
use crate::gateway::Gateway;

/// What anyone may ask for.
const FOR_ANYONE: &[&str] = &["/healthz", "/readyz", "/openapi.json"];
/// What everyone with a key may ask for: whatever starts like this.
const FOR_CALLERS: &[&str] = &["/v1/", "/longrun/v1/calls/"];

/// Lets a request in, with its [`Caller`] among its extensions, or answers it; and counts it.
pub(crate) async fn admit(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    // The pattern, not the path: a caller must not be able to make up series.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let answer = admitted(&gateway, request, next).await;
    let route = route.map_or(Cow::Borrowed("other"), |path| {
        path.as_str().to_owned().into()
    });
    gateway.metrics.request(route, answer.status().as_u16());
    answer
}

async fn admitted(gateway: &Gateway, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let ip = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| peer.ip());
    match enter(gateway, request.uri().path(), request.headers(), ip) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => *refusal,
    }
}

/// Whom a request is let in as, or the answer to it.
pub(crate) fn enter(
    gateway: &Gateway,
    path: &str,
    headers: &HeaderMap,
    ip: IpAddr,
) -> Result<Caller, Box<Response>> {
    if let Err(why) = gateway.settings().guard.admit(headers) {
        return Err(Box::new(forbidden(why)));
    }
    if FOR_ANYONE.contains(&path) {
        return Ok(Caller::keyless(ip));
    }
    let for_callers = FOR_CALLERS.iter().any(|start| path.starts_with(start));
    let unix_ms = gateway.clock.unix_ms();
    let caller = match gateway.callers.identify(headers, ip, unix_ms) {
        Ok(caller) => caller,
        Err(error) => return Err(Box::new(unauthorized(&error, for_callers))),
    };
    if !for_callers && !caller.is_operator() {
        return Err(Box::new(forbidden("Only an operator's key opens this.")));
    }
    Ok(caller)
}

fn forbidden(why: &str) -> Response {
    let error = ApiError::new(403, "invalid_request_error", why).with_code("forbidden");
    Answer::error(&error, None, None).0
}

fn unauthorized(error: &ApiError, is_api: bool) -> Response {
    let mut answer = Answer::error(error, None, None).0;
    // A browser asks its reader for `Basic`; a program knows what to do about `Bearer`.
    let scheme = if is_api {
        "Bearer"
    } else {
        "Basic realm=\"longrun\""
    };
    let headers = answer.headers_mut();
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    answer
}
