//! `longrun.toml`: what a gateway listens on, forwards to and allows.
//!
//! Parsing is pure: the text and a look-up for environment variables come in, a [`GatewayConfig`]
//! or a [`ConfigError`] that names the file's line and the key comes out. Keys of outside APIs are
//! only ever taken from environment variables, and no error quotes a line of the file, so that a
//! key which was put there by mistake does not end up on a terminal or in a log.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, Uri};
use engine::http::{BY_KEY_SCHEME, Dialer};
use record::KeyAddress;
use record::consent::Publish;
use reliability::forecast::fold::Rule;

pub mod alarms;
pub mod endpoint;
mod file;
mod listen;
pub mod merged;
pub mod network;
mod objective;
mod retry;
pub mod traces;

pub use crate::by_key::KeyRoute;
pub use alarms::AlarmsConfig;
pub use endpoint::{DataCollection, Offer, Price, Quantization};
pub use listen::{ListenError, listen_address};
pub use merged::MergedConfig;
pub use network::NetworkConfig;
pub use retry::Retry;
pub use traces::TracesConfig;

/// Where a gateway listens when nothing else is said: this machine only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7411";

/// Everything that a gateway needs to know before it starts.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The log whose records are folded into the history; none: the gateway folds its own.
    pub log: Option<LogConfig>,
    /// Logs in which nodes offer themselves; taken at the start.
    pub networks: Vec<NetworkConfig>,
    /// Whether nodes of networks are reached by their key, too, where their offer says so; taken at
    /// the start.
    pub dial_by_key: bool,
    /// What reaches endpoints by their key. Not in the file: whoever starts a gateway hands it in.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// What anyone may read of this gateway's records in its log. `None`: nothing is said, and what
    /// was said before holds.
    pub publish: Option<Publish>,
    /// Whether nodes are handed what this gateway observed of them.
    pub hand_back: bool,
    /// What can be forwarded to.
    pub endpoints: Vec<EndpointConfig>,
    /// Sizes and numbers past which a request is refused.
    pub limits: Limits,
    /// How an endpoint is chosen.
    pub routing: Routing,
    /// How hard it is tried, and how much load that may add.
    pub retry: Retry,
    /// How many records may wait for the log.
    pub spool: SpoolLimits,
    /// What is asked of endpoints: forecasts, error budgets and burn rates are about these. Taken
    /// at the start.
    pub objectives: Vec<Rule>,
    /// Where news of trouble are posted to; none: nowhere.
    pub alarms: Option<AlarmsConfig>,
    /// Where traces go; none: there are none.
    pub traces: Option<TracesConfig>,
    /// Where this gateway is, in a word of its own; part of the conditions of its observations.
    pub region: String,
    /// Host names, beside those of the loopback interface, under which a gateway on the loopback
    /// interface may be called (see [`crate::guard`]).
    pub hosts: Vec<String>,
    /// The file of keys (see [`crate::keys`]); one that is not there yet is waited for.
    pub keys_file: Option<PathBuf>,
    /// Where [`crate::checks`] lie; none are made without.
    pub checks_file: Option<PathBuf>,
    /// Whether anyone may call although the gateway listens beyond the loopback interface.
    pub open: bool,
    /// With what the gateway proves who it is; none: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Where evidence of others lies; none: it is not looked at.
    pub imported: Option<ImportedConfig>,
    /// Logs whose records are merged into one history; none: only the own one is folded. Taken at
    /// the start.
    pub merged: Option<MergedConfig>,
}

/// Imported histories, and whose evidence in them counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedConfig {
    /// The directory that `longrun history import` fills.
    pub dir: PathBuf,
    /// The trust policy that names the observers.
    pub policy_file: PathBuf,
}

/// A certificate and its key, as PEM files that are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, followed by those that lead to a known root.
    pub cert_file: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
}

/// The region of a gateway that does not say where it is.
pub const REGION_DEFAULT: &str = "unknown";

/// The log that this gateway's records go to and its history comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Base URL of the log's HTTP interface.
    pub url: Uri,
    /// Opens the bodies of records.
    pub read_token: Option<Secret>,
    /// The log's verifier key; without one the log is asked for it, once, at the start.
    pub vkey: Option<String>,
}

/// One upstream: an origin that serves one or several models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// A name for people, shown beside the URL.
    pub name: Option<String>,
    /// Who is behind it, in the operator's words: only for telling how concentrated calls are.
    pub owner: Option<String>,
    /// Base of the OpenAI-compatible API, with its `/v1`, without a trailing slash.
    pub api: Uri,
    /// How it is reached by its key; `api` is then `iroh://`, the key and `/v1`.
    pub by_key: Option<KeyRoute>,
    /// What speaks there.
    pub kind: EndpointKind,
    /// Models to offer; empty: ask `GET /v1/models`.
    pub models: Vec<String>,
    /// Sent as `authorization: Bearer …`.
    pub api_key: Option<Secret>,
    /// The only provider identity to accept there, as 64 hex digits.
    pub provider: Option<String>,
    /// Deadlines of one attempt.
    pub timeouts: Timeouts,
    /// What it offers, as declared.
    pub offer: Offer,
    /// What an offer in a network binds it to; none where it was configured.
    pub(crate) membership: Option<crate::network::member::Membership>,
}

/// What speaks at an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointKind {
    /// Ask `GET /longrun/v1/node`: an answer makes it a node, a 404 an outside API.
    #[default]
    Auto,
    /// A node that has joined: it signs receipts.
    Node,
    /// Any OpenAI-compatible API: only our side keeps records.
    Openai,
}

/// Deadlines of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection (with TLS) stands.
    pub connect: Duration,
    /// From the request until the first token of a streamed answer.
    pub first_token: Duration,
    /// Between two pieces of a streamed answer, from its first token on.
    pub gap: Duration,
    /// From the request until an answer in one piece begins, which is when it is ready, as long as another
    /// endpoint can be asked after this one. The last has until `total`: a long answer is better than none.
    pub whole: Duration,
    /// From the request until the end of the answer.
    pub total: Duration,
}

impl Timeouts {
    /// What holds when the file says nothing.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(5),
        first_token: Duration::from_secs(60),
        gap: Duration::from_secs(30),
        whole: Duration::from_secs(120),
        total: Duration::from_secs(600),
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Sizes and numbers past which a request is refused or an answer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body.
    pub request_max_bytes: usize,
    /// Largest answer of an endpoint; a stream that goes on past it is cut and counts as malformed.
    pub response_max_bytes: usize,
    /// Connections held open to callers at once; further ones wait in the listen queue.
    pub connections_max: usize,
    /// Until the request's head and body have arrived.
    pub request: Duration,
    /// How long a caller may take no bytes of its answer before the connection is dropped.
    pub write_stall: Duration,
    /// Attempts for one call, the first included.
    pub attempts_max: usize,
}

impl Limits {
    /// What holds when the file says nothing.
    pub const DEFAULT: Self = Self {
        request_max_bytes: 8 << 20,
        response_max_bytes: 64 << 20,
        connections_max: 10_000,
        request: Duration::from_secs(60),
        write_stall: Duration::from_secs(60),
        attempts_max: 3,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Seed of the exploration; the same seed and history give the same choices.
    pub seed: u64,
    /// Share of calls that try an endpoint other than the best, in parts per million.
    pub exploration_ppm: u32,
    /// Share of the last hour's calls above which a provider is asked after others that are about
    /// as good, in parts per million; none: no cap.
    pub max_share_ppm: Option<u32>,
    /// Share of calls that all nodes of networks together get while they are on trial, in parts per
    /// million.
    pub trial_ppm: u32,
}

impl Routing {
    /// What holds when the file says nothing: 5 % of calls explore.
    pub const DEFAULT: Self = Self {
        seed: 0,
        exploration_ppm: 50_000,
        max_share_ppm: None,
        trial_ppm: 20_000,
    };
}

impl Default for Routing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How many records may wait for the log before calls go unrecorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Whether attempts are recorded at all.
    pub recording: bool,
    /// Records.
    pub records_max: u64,
    /// Bytes of records.
    pub max_bytes: u64,
}

impl SpoolLimits {
    /// What holds when the file says nothing.
    pub const DEFAULT: Self = Self {
        recording: true,
        records_max: 1_000_000,
        max_bytes: 4 << 30,
    };
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A key or token: it can be sent, it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret that can stand in a header.
    ///
    /// # Errors
    /// When it is empty or holds bytes that no header may carry.
    pub fn new(text: &str) -> Result<Self, NotAHeader> {
        let text = text.trim();
        if text.is_empty() || HeaderValue::from_str(text).is_err() {
            return Err(NotAHeader);
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself, for whoever sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `Bearer …`, marked so that no library prints it.
    #[must_use]
    pub fn bearer(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .expect("checked when the secret was made");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret that is empty or cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is empty or holds characters that a header cannot carry")]
pub struct NotAHeader;

/// Where the text of a configuration meets the world: what its names refer to.
pub trait Surroundings {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a small file, for tokens.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn file(&self, path: &std::path::Path) -> std::io::Result<String>;
    /// The addresses that a host name leads to; without a way to look names up, an error.
    ///
    /// # Errors
    /// When the name cannot be looked up.
    fn addresses(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let _ = (host, port);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// The process's environment and files, and the names that its machine knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &std::path::Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn addresses(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// What is wrong with a configuration, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{key}: {message}", .line.map(|line| format!("{}:{line}: ", path.display())).unwrap_or_default())]
pub struct ConfigError {
    /// The file as it was named.
    pub path: PathBuf,
    /// Line of the culprit, counted from 1; `None` if it is no line of the file but a variable.
    pub line: Option<usize>,
    /// The key, for instance `endpoint.url`.
    pub key: String,
    /// What is wrong and the way out.
    pub message: String,
}

impl GatewayConfig {
    /// Reads a configuration; `path` only names the file in errors.
    ///
    /// # Errors
    /// [`ConfigError`], which names the line and the key.
    pub fn parse(
        text: &str,
        path: &std::path::Path,
        around: &dyn Surroundings,
    ) -> Result<Self, ConfigError> {
        file::parse(text, path, around)
    }

    /// A configuration with everything at its default and nothing to forward to yet.
    #[must_use]
    pub fn listening_on(listen: SocketAddr) -> Self {
        Self {
            listen,
            log: None,
            networks: Vec::new(),
            dial_by_key: false,
            dialer: None,
            publish: None,
            hand_back: false,
            endpoints: Vec::new(),
            limits: Limits::DEFAULT,
            routing: Routing::DEFAULT,
            retry: Retry::DEFAULT,
            spool: SpoolLimits::DEFAULT,
            objectives: vec![Rule::availability()],
            alarms: None,
            traces: None,
            region: REGION_DEFAULT.to_owned(),
            hosts: Vec::new(),
            keys_file: None,
            checks_file: None,
            open: false,
            tls: None,
            imported: None,
            merged: None,
        }
    }
}

impl EndpointConfig {
    /// An endpoint with everything at its default.
    ///
    /// # Errors
    /// [`UrlError`] when the URL cannot be one.
    pub fn at(url: &str) -> Result<Self, UrlError> {
        let (api, by_key) = place(url)?;
        let kind = match by_key {
            Some(_) => EndpointKind::Node,
            None => EndpointKind::Auto,
        };
        Ok(Self {
            name: None,
            owner: None,
            api,
            by_key,
            kind,
            models: Vec::new(),
            api_key: None,
            provider: None,
            timeouts: Timeouts::DEFAULT,
            offer: Offer::default(),
            membership: None,
        })
    }

    /// Scheme, host and port: how an outside API is named in records.
    #[must_use]
    pub fn origin(&self) -> String {
        origin(&self.api)
    }
}

/// Why a text is no base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("\"{0}\" is not a URL; write for instance \"http://127.0.0.1:8000/v1\"")]
    Malformed(String),
    /// An address by key that is none.
    #[error("{0}")]
    Key(String),
    /// Not `http` or `https`.
    #[error("a URL starts with http:// or https://; this one has {0}")]
    Scheme(String),
    /// A user name or password in the URL.
    #[error("a URL may not carry a user name or password; use api_key_env")]
    Credentials,
    /// A query in a base URL.
    #[error("a base URL may not carry a query (the part from \"?\" on)")]
    Query,
}

/// A base URL without its trailing slash; an empty path stays empty.
///
/// # Errors
/// [`UrlError`]
pub fn base(url: &str) -> Result<Uri, UrlError> {
    let trimmed = url.trim().trim_end_matches('/');
    let uri: Uri = trimmed
        .parse()
        .map_err(|_| UrlError::Malformed(shown(url)))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(UrlError::Scheme(other.to_owned())),
        None => return Err(UrlError::Scheme("neither".to_owned())),
    }
    let authority = uri
        .authority()
        .ok_or_else(|| UrlError::Malformed(shown(url)))?;
    if authority.as_str().contains('@') {
        return Err(UrlError::Credentials);
    }
    if uri.query().is_some() {
        return Err(UrlError::Query);
    }
    Ok(uri)
}

/// The base of an OpenAI-compatible API: a URL without a path gets `/v1`, any other is kept, since
/// not every API lives under `/v1`.
///
/// # Errors
/// [`UrlError`]
pub fn api_base(url: &str) -> Result<Uri, UrlError> {
    let uri = base(url)?;
    if uri.path().trim_end_matches('/').is_empty() {
        return format!("{}/v1", origin(&uri))
            .parse()
            .map_err(|_| UrlError::Malformed(shown(url)));
    }
    Ok(uri)
}

/// Where an endpoint is: the base of its API, and how it is reached if that is by its key.
///
/// # Errors
/// [`UrlError`]
pub(crate) fn place(url: &str) -> Result<(Uri, Option<KeyRoute>), UrlError> {
    let by_key = url.trim().starts_with(BY_KEY_SCHEME);
    if !by_key {
        return Ok((api_base(url)?, None));
    }
    let address: KeyAddress = url
        .trim()
        .parse()
        .map_err(|error: record::Error| UrlError::Key(error.to_string()))?;
    let api = format!("{}/v1", address.base());
    let api = api.parse().map_err(|_| UrlError::Malformed(shown(url)))?;
    // Whoever writes it down themselves means it.
    let private = true;
    Ok((api, Some(KeyRoute { address, private })))
}

/// Scheme, host and port of a URL, in lower case and without the scheme's own port.
#[must_use]
pub fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri
        .authority()
        .map_or("", |a| a.as_str())
        .to_ascii_lowercase();
    let own_port = if scheme == "https" { ":443" } else { ":80" };
    format!(
        "{scheme}://{}",
        authority.strip_suffix(own_port).unwrap_or(&authority)
    )
}

/// At most this much of a faulty value is quoted in an error.
const SHOWN_MAX_CHARS: usize = 80;

fn shown(text: &str) -> String {
    // What precedes an `@` may be a password.
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    text.chars().take(SHOWN_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests;
