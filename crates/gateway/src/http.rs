//! The routes of a gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use engine::http::Peer;
use engine::openai::{ApiError, Model, ModelList, Surface};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use record::CallId;
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::callers::Caller;
use crate::forward::Asked;
use crate::gateway::Gateway;
use crate::outlook::Outlook;
use crate::status::Status;
use crate::traces::Arrival;
use crate::{
    body, callers, calls, door, drill, forward, history, judge, metrics, openapi, status, unasked,
};

type Shared = State<Arc<Gateway>>;
type From = Extension<Caller>;
type Named = Result<Path<String>, PathRejection>;

/// What the path names; octets that are no text name nothing.
fn named(path: Named) -> String {
    path.map_or_else(|_| "\u{fffd}".to_owned(), |Path(name)| name)
}

/// Calls of models: what a gateway is for. They do not go through the router, whose layers would box and
/// move the state of each several times.
const SURFACES: [(&str, Surface); 4] = [
    ("/v1/chat/completions", Surface::Chat),
    ("/v1/completions", Surface::Completions),
    ("/v1/embeddings", Surface::Embeddings),
    ("/v1/responses", Surface::Responses),
];

/// What a gateway serves.
pub(crate) struct Service {
    gateway: Arc<Gateway>,
    /// All but calls of models.
    others: TowerToHyperService<Router>,
}

impl Service {
    /// The API, with `pages` beside it.
    pub(crate) fn new(gateway: Arc<Gateway>, pages: Router) -> Self {
        let door = Arc::clone(&gateway);
        let api = routes().router;
        let api = api.method_not_allowed_fallback(wrong_method);
        let api = api.fallback(unknown_path).with_state(Arc::clone(&gateway));
        let door = middleware::from_fn_with_state(door, door::admit);
        Self {
            gateway,
            others: TowerToHyperService::new(pages.merge(api).layer(door)),
        }
    }

    pub(crate) async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response {
        let path = request.uri().path();
        let Some((route, surface)) = SURFACES.iter().find(|(route, _)| *route == path) else {
            request.extensions_mut().insert(Peer(peer));
            let answer = Box::pin(self.others.call(request)).await;
            return answer.unwrap_or_else(|never| match never {});
        };
        let gateway = &self.gateway;
        let answer = match door::enter(gateway, route, request.headers(), peer.ip()) {
            Err(refusal) => {
                Box::pin(body::let_go(request.into_body())).await;
                *refusal
            }
            Ok(caller) if request.method() == Method::POST => {
                ask(gateway, caller, *surface, request).await
            }
            Ok(_) => {
                let (method, uri) = (request.method().clone(), request.uri().clone());
                let mut answer = wrong_method(method, uri).await;
                let allowed = HeaderValue::from_static("POST");
                answer.headers_mut().insert(ALLOW, allowed);
                answer
            }
        };
        gateway.metrics.request(*route, answer.status().as_u16());
        answer
    }
}

/// Routes, and the paths that they are for: the description of the API is held to these.
pub(crate) struct Routes {
    router: Router<Arc<Gateway>>,
    pub(crate) paths: Vec<&'static str>,
}

impl Routes {
    fn route(mut self, path: &'static str, methods: MethodRouter<Arc<Gateway>>) -> Self {
        self.paths.push(path);
        self.router = self.router.route(path, methods);
        self
    }
}

pub(crate) fn routes() -> Routes {
    let surfaces = Routes {
        router: Router::new(),
        paths: SURFACES.iter().map(|(path, _)| *path).collect(),
    };
    surfaces
        .route("/v1/models", get(models).fallback(wrong_method))
        .route("/v1/models/{*model}", get(model))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(described))
        .route("/longrun/v1/status", get(status))
        .route("/longrun/v1/history", get(history))
        .route("/longrun/v1/history/merged", get(merged))
        .route("/longrun/v1/forecasts", get(forecasts))
        .route("/longrun/v1/objectives", get(objectives))
        .route("/longrun/v1/account", get(account))
        .route("/longrun/v1/drill", get(without))
        .route("/longrun/v1/calls/{id}", get(call))
        .route("/longrun/v1/calls/{id}/route", get(route))
        .route("/longrun/v1/calls/{id}/outcome", post(outcome))
        .route("/longrun/v1/checks", get(checks))
        .route(
            "/longrun/v1/checks/run",
            post(run_checks).fallback(wrong_method),
        )
        .route("/longrun/v1/reload", post(reload).fallback(wrong_method))
}

/// Answers a call of a model.
async fn ask(
    gateway: &Arc<Gateway>,
    caller: Caller,
    surface: Surface,
    request: Request<Incoming>,
) -> Response {
    let call = match gateway.clients.new_call(&caller, gateway.random.as_ref()) {
        Ok(call) => call,
        Err(error) => return Answer::error(&ApiError::internal(error.to_string()), None, None).0,
    };
    let settings = gateway.settings();
    let limits = settings.config.limits;
    let (head, body) = request.into_parts();
    let trace = gateway.tracer.as_ref().and_then(|tracer| {
        let unix_ms = gateway.clock.unix_ms();
        let arrival = Arrival {
            surface,
            call,
            caller: &caller,
            unix_ms,
        };
        tracer.begin(&head.headers, &arrival, gateway.random.as_ref())
    });
    let mut answer = match body::read(body, limits.request_max_bytes, limits.request).await {
        Err(error) => Answer::error(&error, Some(call), None).0,
        Ok(body) => {
            let asked = Asked {
                surface,
                call,
                caller: caller.clone(),
                headers: head.headers,
                body,
                check: None,
                trace: trace.clone(),
            };
            forward::answer(gateway, &settings, asked).await.0
        }
    };
    callers::tell_limits(&caller, answer.headers_mut());
    match trace {
        Some(trace) => trace.follow(answer),
        None => answer,
    }
}

async fn models(State(gateway): Shared, Extension(caller): From) -> Response {
    // Whoever starts with the gateway asks once, and keeps what it is told.
    gateway.first_finds(|_| false).await;
    let catalog = gateway.catalog();
    let created_s = gateway.started_ms / 1000;
    let models = catalog
        .names()
        .into_iter()
        .filter(|name| caller.may_use(name))
        .map(|name| Model::new(name, created_s, "longrun"));
    json(StatusCode::OK, &ModelList::new(models.collect()))
}

async fn model(State(gateway): Shared, Extension(caller): From, name: Named) -> Response {
    let name = named(name);
    gateway
        .first_finds(|catalog| catalog.model(&name).is_some())
        .await;
    let catalog = gateway.catalog();
    match catalog.model(&name).filter(|_| caller.may_use(&name)) {
        Some(_) => json(
            StatusCode::OK,
            &Model::new(&name, gateway.started_ms / 1000, "longrun"),
        ),
        None => {
            Answer::error(
                &unasked::no_model(&gateway, &catalog, &caller, &name),
                None,
                None,
            )
            .0
        }
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

/// Ready: it is worth sending calls to. One that is not still answers.
async fn ready(State(gateway): Shared) -> Response {
    #[derive(Serialize)]
    struct Readiness {
        status: &'static str,
        why: Vec<&'static str>,
        /// How far the history is read after the start, until it is there.
        history_read: Option<history::Reading>,
    }
    // Anyone may ask, so it costs next to nothing.
    let kept = match gateway.recorder.status().await {
        Ok(kept) => kept,
        Err(error) => return broken(&error),
    };
    let stopping = gateway.stopping.load(Ordering::Relaxed);
    let serves = gateway.catalog().endpoints().next().is_some();
    let why = status::unready(stopping, serves, kept.disk_ok);
    let (code, word) = if why.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let history_read = gateway.histories.reading();
    let readiness = Readiness {
        status: word,
        why,
        history_read,
    };
    json(code, &readiness)
}

async fn metrics(State(gateway): Shared) -> Response {
    let status = match Status::of(&gateway).await {
        Ok(status) => status,
        Err(error) => return broken(&error),
    };
    let objectives = gateway.histories.objectives(gateway.clock.unix_ms());
    match gateway.metrics.text(&status, &objectives) {
        Ok(text) => {
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => Answer::error(&ApiError::internal(error.to_string()), None, None).0,
    }
}

async fn described() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind)], openapi::served()).into_response()
}

async fn status(State(gateway): Shared) -> Response {
    match Status::of(&gateway).await {
        Ok(status) => json(StatusCode::OK, &status),
        Err(error) => broken(&error),
    }
}

async fn history(State(gateway): Shared) -> Response {
    let settings = gateway.settings();
    let with_others = settings.config.imported.is_some() || settings.config.merged.is_some();
    json(StatusCode::OK, &gateway.histories.told(with_others))
}

async fn merged(State(gateway): Shared) -> Response {
    json(StatusCode::OK, &gateway.histories.merged().told())
}

async fn forecasts(State(gateway): Shared) -> Response {
    json(StatusCode::OK, &Outlook::of(&gateway))
}

async fn objectives(State(gateway): Shared) -> Response {
    let now_ms = gateway.clock.unix_ms();
    json(StatusCode::OK, &gateway.histories.objectives(now_ms))
}

#[derive(Deserialize)]
struct Since {
    since_s: Option<u64>,
}

/// What happened in the last `since_s` seconds; a week where nothing is said.
async fn account(State(gateway): Shared, asked: Result<Query<Since>, QueryRejection>) -> Response {
    const WEEK_S: u64 = 7 * 24 * 3600;
    let Ok(Query(asked)) = asked else {
        let message = "'since_s' is a whole number of seconds, and there is one of it.";
        return Answer::error(&ApiError::invalid("since_s", message), None, None).0;
    };
    let since_s = asked.since_s.unwrap_or(WEEK_S);
    let now_ms = gateway.clock.unix_ms();
    let since_ms = now_ms.saturating_sub(since_s.saturating_mul(1000));
    // Intervals and bins of many endpoints take milliseconds.
    let worked_out = tokio::task::spawn_blocking(move || {
        let account = gateway.histories.account(since_ms, now_ms);
        json(StatusCode::OK, &account)
    });
    worked_out
        .await
        .unwrap_or_else(|error| Answer::error(&ApiError::internal(error.to_string()), None, None).0)
}

#[derive(Deserialize)]
struct Without {
    without: String,
}

/// The last week without one provider.
async fn without(
    State(gateway): Shared,
    asked: Result<Query<Without>, QueryRejection>,
) -> Response {
    let Ok(Query(asked)) = asked else {
        let message = "'without' names a provider, and there is one of it.";
        return Answer::error(&ApiError::invalid("without", message), None, None).0;
    };
    // A hundred thousand calls are decided again.
    let replayed = tokio::task::spawn_blocking(move || drill::without(&gateway, &asked.without));
    match replayed.await {
        Ok(Ok(told)) => json(StatusCode::OK, &told),
        Ok(Err(error)) => Answer::error(&error, None, None).0,
        Err(error) => Answer::error(&ApiError::internal(error.to_string()), None, None).0,
    }
}

async fn call(State(gateway): Shared, Extension(caller): From, id: Named) -> Response {
    let id = named(id);
    // Whether somebody else made such a call is not told either.
    let own = |call: &CallId| gateway.clients.may_open(&caller, *call);
    let Some(call) = id.parse::<CallId>().ok().filter(own) else {
        let shown: String = id.chars().take(64).collect();
        return Answer::error(&calls::unknown(&gateway, &shown), None, None).0;
    };
    match calls::look_up(&gateway, call).await {
        Ok(Some(told)) if told.is_pending() => json(StatusCode::ACCEPTED, &told),
        Ok(Some(told)) => json(StatusCode::OK, &told),
        Ok(None) => Answer::error(&calls::unknown(&gateway, &id), None, None).0,
        Err(error) => broken(&error),
    }
}

async fn outcome(
    State(gateway): Shared,
    Extension(caller): From,
    id: Named,
    body: axum::body::Body,
) -> Response {
    let id = named(id);
    let own = |call: &CallId| gateway.clients.may_open(&caller, *call);
    let Some(call) = id.parse::<CallId>().ok().filter(own) else {
        let shown: String = id.chars().take(64).collect();
        return Answer::error(&calls::unknown(&gateway, &shown), None, None).0;
    };
    let wait = gateway.settings().config.limits.request;
    let said = match body::read(body, judge::BODY_BYTES_MAX, wait).await {
        Ok(body) => judge::Said::read(&body),
        Err(error) => Err(error),
    };
    let reported = match said {
        Ok(said) => judge::report(&gateway, call, said).await,
        Err(error) => Err(judge::Refusal::Caller(error)),
    };
    match reported {
        Ok(judged) => json(StatusCode::OK, &judged),
        Err(judge::Refusal::Caller(error)) => Answer::error(&error, None, None).0,
        Err(judge::Refusal::Spool(error)) => broken(&error),
    }
}

async fn route(State(gateway): Shared, Extension(caller): From, id: Named) -> Response {
    let id = named(id);
    let own = |call: &CallId| gateway.clients.may_open(&caller, *call);
    let call = id.parse::<CallId>().ok().filter(own);
    match call.and_then(|call| gateway.decisions.of(call)) {
        Some(route) => json(StatusCode::OK, &route),
        None => {
            let shown: String = id.chars().take(64).collect();
            Answer::error(&calls::unknown(&gateway, &shown), None, None).0
        }
    }
}

async fn checks(State(gateway): Shared) -> Response {
    json(StatusCode::OK, &gateway.checking.told(&gateway))
}

/// Every case is due at once; what comes of it is in the list.
async fn run_checks(State(gateway): Shared) -> Response {
    gateway.checking.hurry();
    json(StatusCode::ACCEPTED, &gateway.checking.told(&gateway))
}

async fn reload(State(gateway): Shared) -> Response {
    #[derive(Serialize)]
    struct Reloaded {
        endpoints: usize,
    }
    match gateway.reread().await {
        Ok(()) => {
            let endpoints = gateway.settings().sites.len();
            json(StatusCode::OK, &Reloaded { endpoints })
        }
        Err(why) => {
            let message = format!("The configuration stays as it was: {why}.");
            let error = ApiError::new(409, "invalid_request_error", message);
            Answer::error(&error.with_code("configuration_refused"), None, None).0
        }
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
