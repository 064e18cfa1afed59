//! Any OpenAI-compatible API as an upstream: bytes in, bytes out.
//!
//! A request body goes out as it came and the answer's bytes come back as they came, so that a
//! node or gateway forwards them untouched. What is added is classification: every way in which an
//! upstream fails has a variant of [`UpstreamError`], and a stream that ends early never looks
//! like one that ended well ([`Events`]).
//!
//! Dropping a [`Reply`] or [`Events`] closes the connection, which is how an upstream learns that
//! nobody waits any more. Nothing is retried and no redirect is followed.

mod events;
mod failure;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use serde::Deserialize;
use tokio::time::{Instant, Sleep};

pub use events::{Events, UpstreamEvent};
#[cfg(feature = "embedded")]
pub(crate) use failure::root_cause;
pub use failure::{ConnectFailure, Stage, UpstreamError, connect_failure};

use crate::http::{BY_KEY_SCHEME, Client, TlsKey};
use crate::openai::Surface;

/// Largest body of an error answer that is kept, bytes; the rest is cut off.
pub const MAX_ERROR_BODY_BYTES: usize = 64 << 10;
/// Largest whole answer, bytes.
pub const MAX_ANSWER_BYTES: usize = 32 << 20;

/// How long each step may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until the head of the answer, connecting included. An answer that is not streamed sends
    /// its head only when it is complete.
    pub head: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
    /// The whole exchange.
    pub total: Duration,
}

impl Default for Deadlines {
    /// 120 s to the head, 30 s between pieces, 600 s in all.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(120),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
        }
    }
}

/// A key for an upstream. `Debug` never shows it, and no error quotes it.
#[derive(Clone)]
pub struct ApiKey(HeaderValue);

impl ApiKey {
    /// Takes the key itself, as the caller read it from its environment variable.
    pub fn new(key: &str) -> Result<Self, ConfigError> {
        let key = key.trim();
        let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
            .ok()
            .filter(|_| !key.is_empty())
            .ok_or(ConfigError::Key)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Adds what a list of models wants beside `Authorization`. Anthropic takes OpenAI's header for
    /// chat completions, and lists its models under those of its own API only
    /// (<https://docs.anthropic.com/en/api/models-list>).
    fn sign_listing(&self, host: &str, headers: &mut HeaderMap) {
        if host != "api.anthropic.com" {
            return;
        }
        let key = self.0.as_bytes().strip_prefix(b"Bearer ");
        let key = key.expect("it was made with this in front");
        let mut key = HeaderValue::from_bytes(key).expect("a part of a header's value");
        key.set_sensitive(true);
        headers.insert("x-api-key", key);
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// An upstream cannot be set up like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The base URL is unusable.
    #[error(
        "upstream URL `{url}` is not usable: {why}; give an http or https URL such as \
         https://api.example.com/v1"
    )]
    Url {
        /// The URL as given, without anything before an `@`.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key is unusable. It is not quoted.
    #[error(
        "the upstream key is empty or holds characters that an HTTP header cannot carry; check \
         the environment variable it comes from"
    )]
    Key,
}

/// The names in `{"data": [{"id": …}, …]}` or `[{"id": …}, …]`.
fn model_names(list: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    #[derive(Deserialize)]
    struct List {
        data: Vec<Named>,
    }
    let models = if list.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(list)?
    } else {
        serde_json::from_slice::<List>(list)?.data
    };
    Ok(models.into_iter().map(|model: Named| model.id).collect())
}

/// An OpenAI-compatible API.
#[derive(Clone)]
pub struct Upstream {
    client: Client,
    base: String,
    /// Where each surface is, in the order of [`Surface::ALL`]: parsed once.
    surfaces: [Uri; 4],
    origin: String,
    key: Option<ApiKey>,
    deadlines: Deadlines,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("base", &self.base)
            .field("key", &self.key)
            .field("deadlines", &self.deadlines)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// An upstream at `base_url`, such as `https://api.example.com/v1`. A URL without a path gets
    /// `/v1`. User names, queries and fragments are refused: they are where keys leak from.
    pub fn new(
        base_url: &str,
        key: Option<ApiKey>,
        client: Client,
        deadlines: Deadlines,
    ) -> Result<Self, ConfigError> {
        let shown = base_url.rsplit('@').next().unwrap_or_default().to_owned();
        let refuse = |why| ConfigError::Url {
            url: shown.clone(),
            why,
        };
        let uri: Uri = base_url
            .trim()
            .parse()
            .map_err(|_| refuse("it does not parse"))?;
        let scheme = match uri.scheme_str() {
            Some(scheme @ ("http" | "https" | BY_KEY_SCHEME)) => scheme,
            _ => return Err(refuse("it has no http or https scheme")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("it carries a user name or password"));
        }
        if uri.query().is_some() || base_url.contains('#') {
            return Err(refuse("it has a query or a fragment"));
        }
        let origin = format!("{scheme}://{authority}");
        let path = match uri.path().trim_end_matches('/') {
            "" => "/v1",
            path => path,
        };
        let base = format!("{origin}{path}");
        let mut surfaces: [Uri; 4] = Default::default();
        for (uri, surface) in surfaces.iter_mut().zip(Surface::ALL) {
            *uri = format!("{base}{}", surface.path())
                .parse()
                .map_err(|_| refuse("a path cannot be added to it"))?;
        }
        Ok(Self {
            client,
            base,
            surfaces,
            origin,
            key,
            deadlines,
        })
    }

    /// Scheme, host and port, such as `https://api.example.com`: the name of a provider that has
    /// not joined.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The base URL, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Deadlines in force.
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Posts a chat; see [`Upstream::post`].
    pub async fn chat(&self, body: Bytes, headers: HeaderMap) -> Result<Reply, UpstreamError> {
        self.post(Surface::Chat, body, headers).await
    }

    /// Posts `body` to a surface. Resolves when the head of a 2xx answer is there; any other status
    /// is [`UpstreamError::Status`] with its body. `headers` are sent along.
    pub async fn post(
        &self,
        surface: Surface,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Reply, UpstreamError> {
        let wait = self.deadlines.head;
        self.post_within(wait, surface, body, headers).await
    }

    /// The same with another time until the head of the answer.
    pub async fn post_within(
        &self,
        wait: Duration,
        surface: Surface,
        body: Bytes,
        mut headers: HeaderMap,
    ) -> Result<Reply, UpstreamError> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        if let Some(key) = &self.key {
            headers.insert(AUTHORIZATION, key.0.clone());
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.surfaces[surface as usize].clone();
        *request.headers_mut() = headers;
        self.send(request, wait).await
    }

    /// The names of the models that the upstream says it has. Only names are read: what else a list
    /// holds differs from server to server, and some (Together's) are bare arrays.
    pub async fn models(&self) -> Result<Vec<String>, UpstreamError> {
        let mut request = self.request(Method::GET, "/models", Bytes::new())?;
        if let (Some(key), Some(host)) = (&self.key, request.uri().host().map(str::to_owned)) {
            key.sign_listing(&host, request.headers_mut());
        }
        let reply = self.send(request, self.deadlines.head).await?;
        let body = reply.bytes(MAX_ANSWER_BYTES).await?;
        model_names(&body).map_err(|error| UpstreamError::Malformed {
            detail: format!("the list of models does not parse: {error}"),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, UpstreamError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(Full::new(body))
            .map_err(|error| UpstreamError::Connect {
                reason: ConnectFailure::Other,
                detail: error.to_string(),
            })?;
        if let Some(key) = &self.key {
            request.headers_mut().insert(AUTHORIZATION, key.0.clone());
        }
        Ok(request)
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        wait: Duration,
    ) -> Result<Reply, UpstreamError> {
        let started = Instant::now();
        let wait = wait.min(self.deadlines.total);
        let answer = tokio::time::timeout(wait, self.client.request(request))
            .await
            .map_err(|_| UpstreamError::timeout(Stage::Head, wait))?
            .map_err(|error| UpstreamError::from_client(&error))?;
        let (head, body) = answer.into_parts();
        let reply = Reply {
            status: head.status,
            headers: head.headers,
            tls_key: head.extensions.get::<TlsKey>().copied(),
            body: ReplyBody {
                body,
                idle: self.deadlines.idle,
                ends: started + self.deadlines.total,
                total: self.deadlines.total,
                received_bytes: 0,
                waits_until: None,
                alarm: None,
            },
        };
        if !reply.status.is_success() {
            return Err(reply.into_status_error().await);
        }
        let encoding = reply.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(UpstreamError::Malformed {
                detail: "the answer is compressed, which was not asked for".to_owned(),
            });
        }
        Ok(reply)
    }
}

/// A 2xx answer whose head is there.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The TLS key that answered.
    pub tls_key: Option<TlsKey>,
    body: ReplyBody,
}

impl Reply {
    /// Whether the answer is an event stream.
    pub fn is_event_stream(&self) -> bool {
        self.headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    }

    /// The body as it arrives.
    pub fn into_body(self) -> ReplyBody {
        self.body
    }

    /// The body of a chat with one choice as classified events.
    pub fn into_events(self) -> Events {
        self.body.into_events(Surface::Chat, 1)
    }

    /// Status, headers and body, for whoever keeps the first two.
    pub fn into_parts(self) -> (StatusCode, HeaderMap, ReplyBody) {
        (self.status, self.headers, self.body)
    }

    /// The whole body, of at most `limit_bytes`.
    pub async fn bytes(self, limit_bytes: usize) -> Result<Bytes, UpstreamError> {
        self.body.bytes(limit_bytes).await
    }

    async fn into_status_error(mut self) -> UpstreamError {
        let mut body = BytesMut::new();
        // What arrived of an error's body is better than none: a cut is not reported here.
        while let Some(Ok(piece)) = self.body.frame().await {
            body.extend_from_slice(&piece);
            if body.len() >= MAX_ERROR_BODY_BYTES {
                body.truncate(MAX_ERROR_BODY_BYTES);
                break;
            }
        }
        UpstreamError::Status {
            status: self.status.as_u16(),
            retry_after_s: retry_after_s(&self.headers),
            headers: Box::new(self.headers),
            tls_key: self.tls_key,
            body: body.freeze(),
        }
    }
}

/// When to come back, seconds: `Retry-After` (RFC 9110, section 10.2.3), or the `retry-after-ms`
/// that OpenAI and Azure send and their clients prefer. A date is counted from the answer's own
/// `Date`, so that no clock has to be right.
fn retry_after_s(headers: &HeaderMap) -> Option<u32> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()) {
        let seconds = (ms / 1000.0).ceil();
        // A float outside of the range becomes its nearest end, and NaN 0.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return Some(seconds as u32);
    }
    let after = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = after.parse::<f64>() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return Some(seconds.ceil() as u32);
    }
    let at = httpdate::parse_http_date(after).ok()?;
    let sent = httpdate::parse_http_date(text(DATE.as_str())?).ok()?;
    let wait = at.duration_since(sent).unwrap_or_default();
    Some(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX))
}

fn within(body: Bytes, limit_bytes: usize) -> Result<Bytes, UpstreamError> {
    if body.len() > limit_bytes {
        return Err(UpstreamError::TooLarge { limit_bytes });
    }
    Ok(body)
}

/// What a body gives: a frame, an error, or that it is over.
type Piece = Option<Result<Frame<Bytes>, hyper::Error>>;

/// The body of an answer, piece by piece, under the deadlines.
#[derive(Debug)]
pub struct ReplyBody {
    body: Incoming,
    idle: Duration,
    ends: Instant,
    total: Duration,
    received_bytes: u64,
    /// Until when the next piece is waited for, since it is.
    waits_until: Option<Instant>,
    /// Goes off at that time or before: pieces come much faster than it would have to be set anew.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl ReplyBody {
    /// The next piece; `None` at the end of the body. After an error nothing more comes. Whoever stops
    /// asking and asks again waits on.
    pub async fn frame(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        loop {
            let Some(frame) = poll_fn(|context| self.poll_piece(context)).await else {
                return Some(Err(if self.waits_until == Some(self.ends) {
                    UpstreamError::timeout(Stage::Total, self.total)
                } else {
                    UpstreamError::timeout(Stage::Idle, self.idle)
                }));
            };
            match frame? {
                Ok(frame) => {
                    // Trailers carry nothing we read.
                    if let Ok(data) = frame.into_data() {
                        self.received_bytes += data.len() as u64;
                        return Some(Ok(data));
                    }
                }
                Err(error) => {
                    return Some(Err(UpstreamError::Cut {
                        received_bytes: self.received_bytes,
                        detail: failure::root_cause(&error),
                    }));
                }
            }
        }
    }

    /// The next piece, or `None` once the time for it is over.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Poll::Ready(piece) = Pin::new(&mut self.body).poll_frame(context) {
            self.waits_until = None;
            return Poll::Ready(Some(piece));
        }
        let until = match self.waits_until {
            Some(until) => until,
            None => (Instant::now() + self.idle).min(self.ends),
        };
        self.waits_until = Some(until);
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() > until {
            // Less time is given from here on than before.
            alarm.as_mut().reset(until);
        }
        while alarm.as_mut().poll(context).is_ready() {
            if alarm.deadline() >= until {
                return Poll::Ready(None);
            }
            alarm.as_mut().reset(until);
        }
        Poll::Pending
    }

    /// The body as classified events of a surface; so many choices were asked for.
    pub fn into_events(self, surface: Surface, choices: u64) -> Events {
        Events::new(self, surface, choices)
    }

    /// All of it, if that is at most `limit_bytes`.
    pub async fn bytes(mut self, limit_bytes: usize) -> Result<Bytes, UpstreamError> {
        let Some(first) = self.frame().await else {
            return Ok(Bytes::new());
        };
        let first = first?;
        let Some(second) = self.frame().await else {
            return within(first, limit_bytes);
        };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second?);
        while let Some(piece) = self.frame().await {
            whole.extend_from_slice(&piece?);
            if whole.len() > limit_bytes {
                break;
            }
        }
        within(whole.freeze(), limit_bytes)
    }

    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The body as a stream, for response bodies.
    pub fn into_stream(self) -> impl futures_core::Stream<Item = Result<Bytes, UpstreamError>> {
        futures_util::stream::unfold((self, false), |(mut body, failed)| async move {
            if failed {
                return None;
            }
            let frame = body.frame().await?;
            let failed = frame.is_err();
            Some((frame, (body, failed)))
        })
    }
}

#[cfg(test)]
mod tests;
