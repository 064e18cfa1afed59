//! Observations that callers hand back: the other half of this provider's history.
//!
//! One is kept if its signature holds, it is about this provider, and it names a receipt of this
//! provider that was given to that observer under that nonce. So there is at most one for each receipt, and
//! strangers cannot fill the disk. They lie in a file of their own, a line each, and are not sent to
//! the log: what of them is logged is their signers' business.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use engine::ApiError;
use record::{Envelope, Predicate, Provider, Record, RecordId};
use recorder::Recorder;
use serde::Serialize;

use crate::intake;
use crate::respond;
use crate::serve::Shared;

/// The file, in the node's directory.
pub const HANDED_FILE: &str = "observations.jsonl";
/// Bytes of that file, at most: about a hundred thousand observations.
pub const HANDED_BYTES_MAX: u64 = 256 << 20;
/// Observations in one request, at most.
pub const HANDED_LINES_MAX: usize = 256;

/// What was handed back so far.
#[derive(Default)]
pub(crate) struct Handed(Mutex<Option<Kept>>);

struct Kept {
    file: File,
    bytes: u64,
    /// By receipt.
    observations: HashMap<RecordId, RecordId>,
}

#[derive(Serialize)]
struct Told {
    kept: usize,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    /// From 1.
    line: usize,
    why: String,
}

/// `POST /longrun/v1/observations`: envelopes, a line each.
pub(crate) async fn observations(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let body = match intake::body(&headers, body).await {
        Ok(body) => body,
        Err(error) => return respond::error(&error).0,
    };
    let lines = body.split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    if lines.len() > HANDED_LINES_MAX {
        let message = format!("At most {HANDED_LINES_MAX} observations in one request.");
        return respond::error(&ApiError::bad_request(message)).0;
    }
    let mut told = Told {
        kept: 0,
        refused: Vec::new(),
    };
    for (line, envelope) in (1..).zip(lines) {
        match take(&shared, envelope).await {
            Ok(()) => told.kept += 1,
            Err(why) => told.refused.push(Refused { line, why }),
        }
    }
    crate::routes::to_json(&told)
}

async fn take(shared: &Arc<Shared>, envelope: &[u8]) -> Result<(), String> {
    let record = Envelope::from_json(envelope).and_then(Envelope::open);
    let record = record.map_err(|error| error.to_string())?;
    let receipt = check(&shared.recorder, &record).await?;
    let shared = Arc::clone(shared);
    let kept = tokio::task::spawn_blocking(move || {
        let directory = shared.recorder.directory();
        shared.handed.keep(directory, receipt, &record)
    });
    kept.await.map_err(|error| error.to_string())?
}

/// The receipt that an observation names, if it was given to whoever observed.
async fn check(recorder: &Recorder, record: &Record) -> Result<RecordId, String> {
    let Predicate::Observation(seen) = &record.statement.predicate else {
        return Err("it is no observation".to_owned());
    };
    if seen.stream.endpoint.provider != Provider::Joined(recorder.identity().id()) {
        return Err("it is about another provider".to_owned());
    }
    let id = seen.receipt.ok_or("it names no receipt")?;
    let entry = recorder
        .entry(id)
        .await
        .map_err(|error| error.to_string())?;
    let own = entry.ok_or("the receipt that it names is not kept here")?;
    let Predicate::Receipt(receipt) = &own.record.statement.predicate else {
        return Err("what it names is no receipt".to_owned());
    };
    let given = receipt.caller.as_ref().is_some_and(|caller| {
        caller.observer == record.key().key_id() && caller.nonce == seen.nonce
    });
    if given {
        return Ok(id);
    }
    Err("the receipt was given to another observer, or for another attempt".to_owned())
}

impl Handed {
    fn keep(&self, directory: &Path, receipt: RecordId, record: &Record) -> Result<(), String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = Some(Kept::open(&directory.join(HANDED_FILE)).map_err(|e| e.to_string())?);
        }
        let kept = kept.as_mut().ok_or("nothing can be kept")?;
        match kept.observations.get(&receipt) {
            Some(known) if *known == record.id => return Ok(()),
            Some(known) => return Err(format!("observation {known} names this receipt already")),
            None => {}
        }
        let line = [record.envelope.to_json(), b"\n".to_vec()].concat();
        if kept.bytes + line.len() as u64 > HANDED_BYTES_MAX {
            return Err(format!("{HANDED_FILE} is full; move it away"));
        }
        kept.file
            .write_all(&line)
            .map_err(|error| error.to_string())?;
        kept.bytes += line.len() as u64;
        kept.observations.insert(receipt, record.id);
        Ok(())
    }
}

impl Kept {
    /// Opens the file for appending. What a crash left of a line is cut off.
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let mut text = Vec::new();
        File::open(path)?
            .take(HANDED_BYTES_MAX)
            .read_to_end(&mut text)?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        let mut observations = HashMap::new();
        for record in records(&text[..whole]) {
            if let Predicate::Observation(seen) = &record.statement.predicate
                && let Some(receipt) = seen.receipt
            {
                observations.insert(receipt, record.id);
            }
        }
        Ok(Self {
            file,
            bytes: whole as u64,
            observations,
        })
    }
}

/// The observations that were handed to the node in this directory; verified when they were kept.
///
/// # Errors
/// The file's.
pub fn handed_back(directory: &Path) -> std::io::Result<Vec<Record>> {
    match fs::read(directory.join(HANDED_FILE)) {
        Ok(text) => Ok(records(&text).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn records(text: &[u8]) -> impl Iterator<Item = Record> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| Envelope::from_json(line).ok()?.open_unverified().ok())
}
