//! The read path. Tiles never change and say so; the checkpoint changes and says so.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use record::{Predicate, Statement};
use serde::Serialize;
use tlog::bundle::{decode_bodies, encode_bodies};
use tlog::tile::Resource;

use super::answer::{Problem, json};
use super::records::{LINES_MAX, REQUEST_BYTES_MAX, Served};
use crate::layout::{PREDECESSOR, RETENTION, SUCCESSOR};
use crate::reader::ReadError;

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const FRESH: HeaderValue = HeaderValue::from_static("public, max-age=1");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
/// Small files that appear or change once in a while.
const SHORT: HeaderValue = HeaderValue::from_static("public, max-age=60");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) async fn checkpoint(State(served): State<Served>, headers: HeaderMap) -> Response {
    let published = served.log().published();
    tagged(&headers, published.note.clone().into_bytes(), TEXT, FRESH)
}

pub(super) async fn tile(
    State(served): State<Served>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let path = format!("tile/{path}");
    match Resource::parse(&path) {
        Some(resource @ (Resource::Tile(_) | Resource::Entries(_))) => {
            let bytes = read(served, resource).await?;
            Ok(file(bytes, BYTES, IMMUTABLE))
        }
        _ => Err(Problem::missing(&path)),
    }
}

pub(super) async fn successor(
    State(served): State<Served>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    small(served, &headers, SUCCESSOR).await
}

pub(super) async fn predecessor(
    State(served): State<Served>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    small(served, &headers, PREDECESSOR).await
}

pub(super) async fn retention(
    State(served): State<Served>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    small(served, &headers, RETENTION).await
}

/// A small file that need not be there.
async fn small(
    served: Served,
    headers: &HeaderMap,
    name: &'static str,
) -> Result<Response, Problem> {
    let read = tokio::task::spawn_blocking(move || served.log().reader().file(name)).await;
    match read {
        Ok(Ok(Some(bytes))) => Ok(tagged(headers, bytes, JSON, SHORT)),
        Ok(Ok(None)) => Err(Problem::missing(name)),
        Ok(Err(error)) => Err(Problem::internal(error.to_string())),
        Err(error) => Err(Problem::internal(error.to_string())),
    }
}

pub(super) async fn bodies(
    State(served): State<Served>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !is_authorised(&headers, served.log().read_token()) {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "bodies are private: send `authorization: Bearer <token>` with the token that is in \
             read.token in the log's directory",
        ));
    }
    let path = format!("bodies/{path}");
    match Resource::parse(&path) {
        Some(resource @ Resource::Bodies(_)) => {
            Ok(file(read(served, resource).await?, BYTES, PRIVATE))
        }
        _ => Err(Problem::missing(&path)),
    }
}

/// Bodies that anyone may read: who signs, what is served, and where. All others are left out, as if
/// they were erased.
pub(super) async fn public(
    State(served): State<Served>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    if let Some(bytes) = served.filtered().made(&path) {
        return Ok(file(bytes, BYTES, SHORT));
    }
    let bytes = filter(&served, &path, is_public).await?;
    served.filtered().keep(path, &bytes);
    Ok(file(bytes, BYTES, SHORT))
}

/// Bodies that are `wanted`; all others are left out, as if they were erased.
pub(super) async fn filtered(
    served: Served,
    path: &str,
    wanted: impl Fn(&[u8]) -> bool + Send + 'static,
) -> Result<Response, Problem> {
    let bytes = filter(&served, path, wanted).await?;
    Ok(file(bytes, BYTES, SHORT))
}

/// Reads hundreds of statements: a few at a time, whoever asks.
async fn filter(
    served: &Served,
    path: &str,
    wanted: impl Fn(&[u8]) -> bool + Send + 'static,
) -> Result<Vec<u8>, Problem> {
    let path = format!("bodies/{path}");
    let Some(Resource::Bodies(span)) = Resource::parse(&path) else {
        return Err(Problem::missing(&path));
    };
    let _turn = served.filtered().turn().await;
    let bytes = read(served.clone(), Resource::Bodies(span)).await?;
    let kept = tokio::task::spawn_blocking(move || {
        let bodies = decode_bodies(&bytes, span.width()).map_err(|error| error.to_string())?;
        let public = bodies.into_iter().map(|body| body.filter(|it| wanted(it)));
        encode_bodies(&public.collect::<Vec<_>>()).map_err(|error| error.to_string())
    });
    match kept.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(Problem::internal(error)),
        Err(error) => Err(Problem::internal(error.to_string())),
    }
}

/// Whether a statement is of a kind that exists to be read by strangers.
fn is_public(body: &[u8]) -> bool {
    Statement::from_payload(body).is_ok_and(|statement| {
        matches!(
            statement.predicate,
            Predicate::Control(_) | Predicate::Manifest(_) | Predicate::Offer(_)
        )
    })
}

#[derive(Serialize)]
struct Closed<'a> {
    size: u64,
    successor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
}

#[derive(Serialize)]
struct About<'a> {
    origin: &'a str,
    vkey: &'a str,
    size: u64,
    /// Whether the published checkpoint has the log's quorum; absent if the log asks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    witnessed: Option<bool>,
    /// If the log was ended: where, and which log goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Closed<'a>>,
    records_per_request_max: usize,
    request_bytes_max: usize,
}

pub(super) async fn about(State(served): State<Served>) -> Response {
    let log = served.log();
    let published = log.published();
    let about = About {
        origin: log.origin(),
        vkey: log.vkey(),
        size: published.checkpoint.size,
        witnessed: published.witnessed,
        closed: log.end().map(|end| Closed {
            size: end.size(),
            successor: end.successor().to_vkey(),
            url: end.url(),
        }),
        records_per_request_max: LINES_MAX,
        request_bytes_max: REQUEST_BYTES_MAX,
    };
    json(StatusCode::OK, &about)
}

async fn read(served: Served, resource: Resource) -> Result<Vec<u8>, Problem> {
    let read = tokio::task::spawn_blocking(move || served.log().reader().resource(resource)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(ReadError::Missing(path))) => Err(Problem::missing(&path)),
        Ok(Err(error)) => {
            tracing::error!(%error, "a file of the log could not be read");
            Err(Problem::internal(format!(
                "{} could not be read",
                error.path()
            )))
        }
        Err(error) => Err(Problem::internal(error.to_string())),
    }
}

/// A file that may change, under a tag of its content: whoever has it already is told so in 304
/// instead of sent it again (RFC 9110 §13.1.2). Files that never change need none.
fn tagged(asked: &HeaderMap, bytes: Vec<u8>, kind: HeaderValue, cache: HeaderValue) -> Response {
    let tag = format!("\"{}\"", &record::sha256(&bytes).to_hex()[..32]);
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*");
    let mut response = file(bytes, kind, cache);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn file(bytes: Vec<u8>, kind: HeaderValue, cache: HeaderValue) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    (StatusCode::OK, headers, Body::from(bytes)).into_response()
}

/// Compares the whole token whatever it is, so that time tells nothing about it.
fn is_authorised(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let (given, token) = (
        record::sha256(given.as_bytes()),
        record::sha256(token.as_bytes()),
    );
    let differing = given
        .as_bytes()
        .iter()
        .zip(token.as_bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    differing == 0
}
