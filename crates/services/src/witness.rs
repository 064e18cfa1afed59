//! A witness: it cosigns checkpoints that extend what it cosigned before, for any log it is told
//! to follow. C2SP tlog-witness over HTTP.
//!
//! | | |
//! |---|---|
//! | `POST /add-checkpoint` | cosign, or say where this witness is |
//! | `GET /<hex SHA-256 of the origin>/checkpoint` | the latest cosigned checkpoint, for monitors |
//! | `GET /longrun/v1/witness` | its verifier key and the logs it follows |
//! | `GET /` | the same for people; whoever asks sees that it is up |
//!
//! The decision is pure ([`tlog::witness`]). The new state is made durable by compare-and-swap
//! before the cosignature is computed, so no two requests can both go on from the same state.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::service::TowerToHyperService;
use ring::rand::{SecureRandom, SystemRandom};
use store::local::Local;
use store::sqlite::HeadDb;
use store::{Blobs as _, ErrorKind, Heads};
use tlog::cosignature::WitnessSigner;
use tlog::note::{NoteVerifier, SignatureLine};
use tlog::witness::{AddCheckpoint, REQUEST_BYTES_MAX, Refusal, Witnessed, decide};
use tokio::net::TcpListener;

use crate::clock::{Clock, SystemClock};
use crate::sequencer::OpenError;

/// Content of `VERSION` in a witness's directory.
pub const WITNESS_VERSION: &str = "longrun witness 1\n";
/// The witness's private key, mode 0600.
pub const WITNESS_KEY: &str = "witness.key";
/// What it cosigned last, by log.
pub const WITNESS_DATABASE: &str = "witness.sqlite";
/// Verifier keys of the logs it follows, one a line; `#` begins a comment.
pub const WITNESS_LOGS: &str = "logs";
/// How long requests under way may take after the word to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How often a decision is made again when another request got in between.
const ATTEMPTS: u32 = 8;

/// How to open a witness.
pub struct WitnessOptions {
    /// The name of a new witness, best a URL without scheme. For an existing one it must be the
    /// one it has, or `None`. A new one without gets `witness.longrun.local/<random>`.
    pub name: Option<String>,
    /// Logs to follow from now on, beside those that the directory lists.
    pub logs: Vec<NoteVerifier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for a new key.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
}

impl Default for WitnessOptions {
    fn default() -> Self {
        Self {
            name: None,
            logs: Vec::new(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::new()),
        }
    }
}

/// Gives the head that belongs to a name.
pub type HeadsByName = Arc<dyn Fn(&str) -> Arc<dyn Heads> + Send + Sync>;

/// What a witness runs on.
pub struct WitnessParts {
    /// Its key.
    pub key: WitnessSigner,
    /// The logs it follows.
    pub logs: Vec<NoteVerifier>,
    /// Its state, one head a log.
    pub heads: HeadsByName,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a witness gave no cosignature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The protocol says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its state could not be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A running witness. Clones are handles to the same one.
#[derive(Clone)]
pub struct Witness {
    inner: Arc<Inner>,
}

struct Inner {
    parts: WitnessParts,
    /// Held for as long as the witness lives.
    _directory: Option<Local>,
}

impl Witness {
    /// Opens the witness in a directory, or makes one there.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is another's, of another version, read-only or in use.
    pub fn open(directory: &Path, options: WitnessOptions) -> Result<Self, OpenError> {
        let local = Local::open(directory, WITNESS_VERSION)?;
        let key = open_key(&local, options.name.as_deref(), &*options.random)?;
        let logs = follow(&local, options.logs)?;
        let database = HeadDb::open(&directory.join(WITNESS_DATABASE))?;
        let heads: HeadsByName = Arc::new(move |name| Arc::new(database.named(name)));
        let parts = WitnessParts {
            key,
            logs,
            heads,
            clock: options.clock,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                parts,
                _directory: Some(local),
            }),
        })
    }

    /// A witness on these parts.
    #[must_use]
    pub fn new(parts: WitnessParts) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                _directory: None,
            }),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.parts.key.name()
    }

    /// The logs that it follows.
    #[must_use]
    pub fn logs(&self) -> &[NoteVerifier] {
        &self.inner.parts.logs
    }

    /// Its public key as a C2SP verifier key.
    #[must_use]
    pub fn vkey(&self) -> String {
        self.inner.parts.key.verifier().to_vkey()
    }

    /// Handles the body of an `add-checkpoint` request.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn add_checkpoint(&self, body: &[u8]) -> Result<SignatureLine, WitnessError> {
        let request = AddCheckpoint::parse(body)?;
        let parts = &self.inner.parts;
        let origin = &request.checkpoint.checkpoint().origin;
        let heads = (parts.heads)(&state_name(origin));
        for _ in 0..ATTEMPTS {
            let kept = heads.load()?;
            let latest = kept
                .as_deref()
                .map(|bytes| read_state(bytes, origin))
                .transpose()?;
            let now_s = parts.clock.unix_ms() / 1000;
            let new = decide(&parts.logs, latest.as_ref(), &request, now_s)?;
            match heads.swap(kept.as_deref(), &new.to_bytes()) {
                Ok(()) => return Ok(parts.key.cosign(&new.checkpoint, new.time_s)),
                // Another request was quicker: decide again on what it left.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(store::Error::new(ErrorKind::Unavailable, "too many requests at once").into())
    }

    /// The latest cosigned checkpoint of a log, by the hex SHA-256 of its origin.
    ///
    /// # Errors
    /// [`WitnessError::Store`].
    pub fn latest(&self, origin_sha256: &str) -> Result<Option<String>, WitnessError> {
        let parts = &self.inner.parts;
        let known = parts
            .logs
            .iter()
            .find(|log| state_name(log.name()) == origin_sha256);
        let Some(log) = known else { return Ok(None) };
        let Some(bytes) = (parts.heads)(origin_sha256).load()? else {
            return Ok(None);
        };
        let Witnessed {
            time_s,
            mut checkpoint,
        } = read_state(&bytes, log.name())?;
        let line = parts.key.cosign(&checkpoint, time_s);
        checkpoint.note_mut().add(line);
        Ok(Some(checkpoint.note().to_string()))
    }

    /// The routes of the witness.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/add-checkpoint", post(add_checkpoint))
            .route("/{origin}/checkpoint", get(latest))
            .route("/longrun/v1/witness", get(about))
            .route("/", get(front))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(self.clone())
    }
}

/// Serves a witness until `shutdown`; requests under way are answered.
pub async fn serve(
    witness: &Witness,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let service = TowerToHyperService::new(witness.router());
    engine::http::serve(listener, service, shutdown, DRAIN).await;
}

/// The state's name, and what monitors ask for: hex SHA-256 of the origin.
fn state_name(origin: &str) -> String {
    record::sha256(origin.as_bytes()).to_hex()
}

fn read_state(bytes: &[u8], origin: &str) -> Result<Witnessed, store::Error> {
    Witnessed::parse(bytes)
        .filter(|state| state.checkpoint.checkpoint().origin == origin)
        .ok_or_else(|| {
            store::Error::new(
                ErrorKind::Corrupt,
                format!("the state kept for {origin} is damaged"),
            )
        })
}

/// Adds logs to the list in the directory, and gives the whole list. Two keys of one name are
/// refused: a witness must know which of two histories it follows.
fn follow(local: &Local, more: Vec<NoteVerifier>) -> Result<Vec<NoteVerifier>, OpenError> {
    let path = local.root().join(WITNESS_LOGS).display().to_string();
    let bad = |line: usize, reason: &dyn std::fmt::Display| {
        OpenError::Key(format!("{path} line {line}: {reason}"))
    };
    let listed = local.read(WITNESS_LOGS)?.unwrap_or_default();
    let mut text =
        String::from_utf8(listed).map_err(|_| OpenError::Key(format!("{path}: not text")))?;
    let mut logs: Vec<NoteVerifier> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let vkey = line.split('#').next().unwrap_or_default().trim();
        if !vkey.is_empty() {
            logs.push(NoteVerifier::from_vkey(vkey).map_err(|error| bad(number, &error))?);
        }
    }
    let before = logs.len();
    for log in more {
        match logs.iter().find(|known| known.name() == log.name()) {
            Some(known) if known.public() == log.public() => {}
            Some(_) => {
                return Err(OpenError::Key(format!(
                    "{path} has another key for {}; a log keeps its key",
                    log.name()
                )));
            }
            None => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(&format!("{}\n", log.to_vkey()));
                logs.push(log);
            }
        }
    }
    if logs.len() > before {
        local.put_replace(WITNESS_LOGS, text.as_bytes())?;
    }
    Ok(logs)
}

fn open_key(
    local: &Local,
    name: Option<&str>,
    random: &dyn SecureRandom,
) -> Result<WitnessSigner, OpenError> {
    let path = || local.root().join(WITNESS_KEY).display().to_string();
    if let Some(bytes) = local.read(WITNESS_KEY)? {
        let key = std::str::from_utf8(&bytes)
            .map_err(|_| "it is not text".to_owned())
            .and_then(|text| WitnessSigner::from_skey(text).map_err(|error| error.to_string()))
            .map_err(|reason| OpenError::Key(format!("{}: {reason}", path())))?;
        return match name {
            Some(name) if name != key.name() => Err(OpenError::Key(format!(
                "the witness in {} is {}, not {name}",
                local.root().display(),
                key.name()
            ))),
            _ => Ok(key),
        };
    }
    let name = match name {
        Some(name) => name.to_owned(),
        None => format!(
            "witness.longrun.local/{}",
            crate::log::random_hex(random, 8)?
        ),
    };
    let key = WitnessSigner::generate(&name, random)
        .map_err(|error| OpenError::Key(error.to_string()))?;
    local.put_new(WITNESS_KEY, key.to_skey().as_bytes())?;
    Ok(key)
}

async fn add_checkpoint(State(witness): State<Witness>, body: Bytes) -> Response {
    let decided = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await;
    match decided {
        Ok(Ok(line)) => text(StatusCode::OK, format!("{line}\n")),
        Ok(Err(WitnessError::Refused(Refusal::Conflict(size)))) => {
            let mut response = text(StatusCode::CONFLICT, format!("{size}\n"));
            let kind = HeaderValue::from_static("text/x.tlog.size");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Ok(Err(WitnessError::Refused(refusal))) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            text(status, format!("{refusal}\n"))
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

async fn latest(State(witness): State<Witness>, UrlPath(origin): UrlPath<String>) -> Response {
    match tokio::task::spawn_blocking(move || witness.latest(&origin)).await {
        Ok(Ok(Some(note))) => text(StatusCode::OK, note),
        Ok(Ok(None)) => text(
            StatusCode::NOT_FOUND,
            "nothing was cosigned for that log\n".to_owned(),
        ),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

async fn about(State(witness): State<Witness>) -> Response {
    let logs: Vec<String> = witness
        .inner
        .parts
        .logs
        .iter()
        .map(NoteVerifier::to_vkey)
        .collect();
    let about = serde_json::json!({"name": witness.name(), "vkey": witness.vkey(), "logs": logs});
    axum::Json(about).into_response()
}

async fn front(State(witness): State<Witness>) -> Response {
    let mut said = format!(
        "A C2SP tlog-witness (https://c2sp.org/tlog-witness).\n\n{}\n\nIt follows:\n",
        witness.vkey()
    );
    for log in witness.logs() {
        said.push_str(&format!("{}\n", log.to_vkey()));
    }
    text(StatusCode::OK, said)
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "the witness could not decide");
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the witness could not decide\n".to_owned(),
    )
}

fn text(status: StatusCode, body: String) -> Response {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What a witness says is for everyone, pages in browsers included.
    let anyone = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anyone);
    (status, headers, Body::from(body)).into_response()
}
