//! What the node answers besides inferences.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Response, Uri};
use axum::routing::{get, post};
use engine::ApiError;
use engine::openai::{Model as ListedModel, ModelList};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::respond;
use crate::serve::{Shared, chat, completions};

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/models", get(models))
        .route("/healthz", get(health))
        .route("/longrun/v1/node", get(about))
        .route("/.well-known/longrun.json", get(vouching))
        .route(
            "/longrun/v1/observations",
            post(crate::handed::observations),
        )
        .route("/longrun/v1/challenge", post(crate::offer::challenge))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
}

async fn unknown(method: Method, uri: Uri) -> Response<Body> {
    respond::error(&ApiError::unknown_path(method.as_str(), uri.path())).0
}

async fn wrong_method(method: Method, uri: Uri) -> Response<Body> {
    let message = format!("{} is not answered to {method}.", uri.path());
    let error =
        ApiError::new(405, "invalid_request_error", message).with_code("method_not_allowed");
    respond::error(&error).0
}

async fn health(State(shared): State<Arc<Shared>>) -> Response<Body> {
    if shared.draining.load(Ordering::Relaxed) {
        return respond::json(503, r#"{"status":"draining"}"#);
    }
    respond::json(200, r#"{"status":"ok"}"#)
}

async fn models(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let owner = shared.recorder.identity().id().to_hex();
    let listed = shared
        .models
        .iter()
        .map(|(name, it)| ListedModel::new(name, it.created_s, &owner));
    to_json(&ModelList::new(listed.collect()))
}

#[derive(Serialize)]
struct About<'a> {
    provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    controls: Vec<Box<RawValue>>,
    manifests: Vec<Box<RawValue>>,
    log: Option<&'a str>,
    log_url: Option<&'a str>,
}

async fn about(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let raw = |envelope: &record::Envelope| {
        String::from_utf8(envelope.to_json())
            .ok()
            .and_then(|json| RawValue::from_string(json).ok())
    };
    let recorder = &shared.recorder;
    to_json(&About {
        provider: recorder.identity().id().to_hex(),
        domain: shared.domain.get().map(String::as_str),
        controls: recorder
            .identity()
            .controls()
            .iter()
            .filter_map(raw)
            .collect(),
        manifests: shared
            .models
            .values()
            .filter_map(|it| raw(&it.manifest.envelope))
            .collect(),
        log: recorder.home_log().map(|log| log.name()),
        log_url: recorder.home_url(),
    })
}

#[derive(Serialize)]
struct Vouching {
    providers: [Vouched; 1],
}

#[derive(Serialize)]
struct Vouched {
    id: String,
    root_key: String,
}

/// This address vouches for whoever serves here, as a web server of a domain would (docs/format.md).
async fn vouching(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let identity = shared.recorder.identity();
    to_json(&Vouching {
        providers: [Vouched {
            id: identity.id().to_hex(),
            root_key: identity.root_key_id().to_hex(),
        }],
    })
}

pub(crate) fn to_json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => respond::json(200, body),
        Err(error) => respond::error(&ApiError::internal(error.to_string())).0,
    }
}
