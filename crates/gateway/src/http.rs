//! The routes of a gateway.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use engine::http::Peer;
use engine::openai::{ApiError, Model, ModelList};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode, Uri};
use record::CallId;
use serde::Serialize;

use crate::answer::Answer;
use crate::gateway::Gateway;
use crate::status::Status;
use crate::{body, calls, forward};

type Shared = State<Arc<Gateway>>;

/// The routes, with `pages` beside them.
pub(crate) fn router(gateway: Arc<Gateway>, pages: Router) -> Router {
    let door = Arc::clone(&gateway);
    let api = Router::new()
        .route("/v1/chat/completions", post(chat).fallback(wrong_method))
        .route("/v1/models", get(models).fallback(wrong_method))
        .route("/v1/models/{*model}", get(model))
        .route("/healthz", get(health))
        .route("/longrun/v1/status", get(status))
        .route("/longrun/v1/history", get(history))
        .route("/longrun/v1/calls/{id}", get(call))
        .fallback(unknown_path)
        .with_state(gateway);
    pages
        .merge(api)
        .layer(middleware::from_fn_with_state(door, admit))
}

async fn admit(State(gateway): Shared, request: Request, next: Next) -> Response {
    match gateway.settings().guard.admit(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => {
            let error = ApiError::new(403, "invalid_request_error", why).with_code("forbidden");
            Answer::error(&error, None, None).0
        }
    }
}

async fn chat(State(gateway): Shared, peer: Option<Extension<Peer>>, body: Body) -> Response {
    let call = match CallId::generate(gateway.random.as_ref()) {
        Ok(call) => call,
        Err(error) => return Answer::error(&ApiError::internal(error.to_string()), None, None).0,
    };
    let client = peer.map_or(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        |Extension(Peer(peer))| peer.ip(),
    );
    let limits = gateway.settings().config.limits;
    match body::read(body, limits.request_max_bytes, limits.request).await {
        Ok(body) => forward::chat(&gateway, call, client, body).await.0,
        Err(error) => Answer::error(&error, Some(call), None).0,
    }
}

async fn models(State(gateway): Shared) -> Response {
    let catalog = gateway.catalog();
    let created_s = gateway.started_ms / 1000;
    let models = catalog
        .names()
        .into_iter()
        .map(|name| Model::new(name, created_s, "longrun"));
    json(StatusCode::OK, &ModelList::new(models.collect()))
}

async fn model(State(gateway): Shared, Path(name): Path<String>) -> Response {
    let catalog = gateway.catalog();
    match catalog.model(&name) {
        Some(_) => json(
            StatusCode::OK,
            &Model::new(&name, gateway.started_ms / 1000, "longrun"),
        ),
        None => Answer::error(&forward::no_model(&catalog, &name), None, None).0,
    }
}

/// Alive: the process answers. Whether endpoints do is in the status.
async fn health() -> Response {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
    }
    json(StatusCode::OK, &Health { status: "ok" })
}

async fn status(State(gateway): Shared) -> Response {
    match Status::of(&gateway).await {
        Ok(status) => json(StatusCode::OK, &status),
        Err(error) => broken(&error),
    }
}

async fn history(State(gateway): Shared) -> Response {
    json(StatusCode::OK, &gateway.histories.told())
}

async fn call(State(gateway): Shared, Path(id): Path<String>) -> Response {
    let Ok(call) = id.parse::<CallId>() else {
        let shown: String = id.chars().take(64).collect();
        return Answer::error(&calls::unknown(&shown), None, None).0;
    };
    match calls::look_up(&gateway, call).await {
        Ok(Some(told)) if told.is_pending() => json(StatusCode::ACCEPTED, &told),
        Ok(Some(told)) => json(StatusCode::OK, &told),
        Ok(None) => Answer::error(&calls::unknown(&id), None, None).0,
        Err(error) => broken(&error),
    }
}

fn broken(error: &recorder::RecorderError) -> Response {
    tracing::error!(%error, "the spool cannot be read");
    let error = ApiError::internal("The gateway's records cannot be read at the moment.");
    Answer::error(&error, None, None).0
}

async fn unknown_path(method: Method, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(256).collect();
    Answer::error(&ApiError::unknown_path(method.as_str(), &path), None, None).0
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{method} is not allowed for {}.", uri.path());
    let error =
        ApiError::new(405, "invalid_request_error", message).with_code("method_not_allowed");
    Answer::error(&error, None, None).0
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (status, headers, body).into_response()
        }
        Err(error) => Answer::error(&ApiError::internal(error.to_string()), None, None).0,
    }
}
