//! Appending over HTTP: verify in parallel, hand in one batch, answer with proofs.

use std::sync::Arc;
use std::thread::available_parallelism;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::http::Peer;
use record::RecordId;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::answer::{Problem, json};
use super::filtered::Filtered;
use crate::admission::{Refusal, Submission};
use crate::consent::Consents;
use crate::log::Log;
use crate::sequencer::{Answer, BATCH_RECORDS_MAX, Placed, SubmitError};
use crate::shard::closed;

/// Bytes of the largest request.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Records in one request, at most.
pub const LINES_MAX: usize = BATCH_RECORDS_MAX;
/// Records that one task verifies at a time.
const CHUNK: usize = 32;

/// What the routes share.
#[derive(Clone)]
pub(super) struct Served {
    inner: Arc<Inner>,
}

struct Inner {
    log: Log,
    consents: Consents,
    /// One permit a core: verification is all computation.
    cores: Semaphore,
    filtered: Filtered,
}

impl Served {
    pub(super) fn new(log: Log) -> Self {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            inner: Arc::new(Inner {
                consents: Consents::open(log.directory(), log.origin()),
                log,
                cores: Semaphore::new(cores),
                filtered: Filtered::default(),
            }),
        }
    }

    pub(super) fn log(&self) -> &Log {
        &self.inner.log
    }

    /// What was picked out of bundles for strangers just now.
    pub(super) fn filtered(&self) -> &Filtered {
        &self.inner.filtered
    }

    pub(super) fn consents(&self) -> &Consents {
        &self.inner.consents
    }

    /// Verifies envelopes on all cores, then charges for them in their order, because a signer's
    /// first request holds its delegation and what the delegated key signed.
    async fn admit(&self, lines: Vec<Bytes>) -> Result<Vec<Result<Submission, Refusal>>, Problem> {
        let failed = |error: &dyn std::fmt::Display| Problem::internal(error.to_string());
        let mut tasks = Vec::new();
        for chunk in lines.chunks(CHUNK) {
            let (chunk, served) = (chunk.to_vec(), self.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = served.inner.cores.acquire().await;
                tokio::task::spawn_blocking(move || {
                    chunk
                        .iter()
                        .map(|line| Submission::admit(line))
                        .collect::<Vec<_>>()
                })
                .await
            }));
        }
        let mut admitted = Vec::with_capacity(lines.len());
        for task in tasks {
            let verified = task.await.map_err(|error| failed(&error))?;
            admitted.extend(verified.map_err(|error| failed(&error))?);
        }
        let gate = self.log().gate();
        let charge = |verified: Result<Submission, Refusal>| {
            let submission = verified?;
            gate.charge(&submission)?;
            self.consents().signed(submission.key());
            Ok(submission)
        };
        Ok(admitted.into_iter().map(charge).collect())
    }
}

#[derive(Serialize)]
struct Reply<'a> {
    checkpoint: &'a str,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Logged {
        id: RecordId,
        index: u64,
        leaf: String,
        proof: Vec<String>,
    },
    Refused {
        error: Refusal,
    },
}

pub(super) async fn append(
    State(served): State<Served>,
    peer: Option<Extension<Peer>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a request has at most {REQUEST_BYTES_MAX} bytes; send several"),
        ),
        status => Problem::new(status, "malformed", error.body_text()),
    })?;
    if let Some(end) = served.log().end() {
        return Err(Problem::new(StatusCode::GONE, "closed", closed(end)));
    }
    let lines = split(&body)?;
    if let Some(Extension(Peer(address))) = peer {
        let records = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let charged = served.log().gate().charge_address(address.ip(), records);
        charged.map_err(|refusal| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, refusal.code, refusal.message)
        })?;
    }
    let admitted = served.admit(lines).await?;
    let batch: Vec<Submission> = admitted
        .iter()
        .filter_map(|a| a.as_ref().ok())
        .cloned()
        .collect();
    if batch.is_empty() {
        let refused = admitted.into_iter().filter_map(Result::err);
        let entries = refused.map(|error| Entry::Refused { error }).collect();
        let published = served.log().published();
        return Ok(json(
            StatusCode::OK,
            &Reply {
                checkpoint: &published.note,
                entries,
            },
        ));
    }
    let answer = served
        .log()
        .append(batch)
        .await
        .map_err(|error| pushed_back(&error))?;
    Ok(reply(admitted, answer))
}

/// The lines that hold something; an empty request is a mistake.
fn split(body: &Bytes) -> Result<Vec<Bytes>, Problem> {
    let lines: Vec<Bytes> = body
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(|line| body.slice_ref(line))
        .collect();
    let bad = |status, code, message: String| Err(Problem::new(status, code, message));
    match lines.len() {
        0 => bad(
            StatusCode::BAD_REQUEST,
            "malformed",
            "send DSSE envelopes as JSON, one a line".to_owned(),
        ),
        count if count > LINES_MAX => bad(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("{count} records; a request has at most {LINES_MAX}, send several"),
        ),
        _ => Ok(lines),
    }
}

fn reply(admitted: Vec<Result<Submission, Refusal>>, answer: Answer) -> Response {
    let mut placed = answer.placed.into_iter();
    let entries = admitted
        .into_iter()
        .map(|admitted| match admitted {
            Ok(_) => placed.next().unwrap_or_else(|| {
                Err(Refusal::new(
                    "internal",
                    "the log did not answer for this record",
                ))
            }),
            Err(refusal) => Err(refusal),
        })
        .map(entry)
        .collect();
    json(
        StatusCode::OK,
        &Reply {
            checkpoint: &answer.published.note,
            entries,
        },
    )
}

fn entry(placed: Result<Placed, Refusal>) -> Entry {
    match placed {
        Ok(placed) => Entry::Logged {
            id: placed.id,
            index: placed.index,
            leaf: STANDARD.encode(&placed.leaf),
            proof: placed
                .proof
                .iter()
                .map(|hash| STANDARD.encode(hash.as_bytes()))
                .collect(),
        },
        Err(error) => Entry::Refused { error },
    }
}

fn pushed_back(error: &SubmitError) -> Problem {
    let (status, code) = match error {
        SubmitError::Full => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        SubmitError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    Problem::new(status, code, error.to_string())
}
