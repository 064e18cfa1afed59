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
use tokio::sync::Semaphore;

use crate::intake;
use crate::respond;
use crate::serve::Shared;

/// The file, in the node's directory.
pub const HANDED_FILE: &str = "observations.jsonl";
/// Bytes of that file, at most: about a hundred thousand observations.
pub const HANDED_BYTES_MAX: u64 = 256 << 20;
/// Observations in one request, at most.
pub const HANDED_LINES_MAX: usize = 256;
/// Bytes of an observation as it came, at most. Members that nobody knows are kept with it, and there
/// is one for each receipt: so it takes some sixty thousand calls of one's own to fill the file.
pub const HANDED_LINE_BYTES_MAX: usize = 4096;

/// What was handed back so far.
pub(crate) struct Handed {
    kept: Mutex<Option<Kept>>,
    /// One request after the other: checking them costs signatures and reads of the spool, and must
    /// not get in the way of answers.
    turns: Semaphore,
}

impl Default for Handed {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            turns: Semaphore::new(1),
        }
    }
}

struct Kept {
    file: File,
    bytes: u64,
    /// A write failed, perhaps after a part of a line.
    is_torn: bool,
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
    let _turn = shared.handed.turns.acquire().await;
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
    if envelope.len() > HANDED_LINE_BYTES_MAX {
        return Err(format!("it has more than {HANDED_LINE_BYTES_MAX} bytes"));
    }
    let envelope = envelope.to_vec();
    let opened = tokio::task::spawn_blocking(move || {
        Envelope::from_json(&envelope).and_then(Envelope::open)
    });
    let record = opened.await.map_err(|error| error.to_string())?;
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
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = Some(Kept::open(&directory.join(HANDED_FILE)).map_err(|e| e.to_string())?);
        }
        let open = kept.as_mut().ok_or("nothing can be kept")?;
        let line = open.keep(receipt, record);
        if open.is_torn {
            // Read again by the next, which cuts off what there is of a line.
            *kept = None;
        }
        line
    }
}

impl Kept {
    fn keep(&mut self, receipt: RecordId, record: &Record) -> Result<(), String> {
        match self.observations.get(&receipt) {
            Some(known) if *known == record.id => return Ok(()),
            Some(known) => return Err(format!("observation {known} names this receipt already")),
            None => {}
        }
        let line = [record.envelope.to_json(), b"\n".to_vec()].concat();
        if self.bytes + line.len() as u64 > HANDED_BYTES_MAX {
            return Err(format!("{HANDED_FILE} is full; move it away"));
        }
        if let Err(error) = self.file.write_all(&line) {
            self.is_torn = true;
            return Err(error.to_string());
        }
        self.bytes += line.len() as u64;
        self.observations.insert(receipt, record.id);
        Ok(())
    }

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
            is_torn: false,
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

#[cfg(test)]
mod tests {
    use record::bucket::start_ms;
    use record::control::{Control, Create, LogOrigin};
    use record::{Signer, SigningKey, Statement};
    use ring::rand::SystemRandom;

    use super::*;

    fn record() -> Record {
        let random = SystemRandom::new();
        let key = SigningKey::generate(&random).expect("randomness");
        let create = Create {
            name: "node".parse().expect("a name"),
            roles: vec!["provider".parse().expect("a word")],
            home_log: LogOrigin::new("log.example").expect("an origin"),
            recovery: None,
        };
        let by = Signer {
            id: None,
            key: *key.public(),
        };
        let statement = Statement::new(by, Control::create(start_ms(0), create)).expect("valid");
        let signed = key.sign_statement(&statement, &random).expect("signs");
        signed.open().expect("a record")
    }

    /// The piece of a line that a full disk leaves must not be glued to the next one.
    #[test]
    fn what_a_failed_write_left_is_cut_off_before_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(HANDED_FILE);
        let (handed, record) = (Handed::default(), record());
        let keep = |number| handed.keep(dir.path(), RecordId::from_bytes([number; 32]), &record);
        assert_eq!(keep(1), Ok(()));
        let whole = fs::read(&file).expect("a line");
        {
            // A handle that cannot be written to, after a write that got half-way.
            let mut kept = handed.kept.lock().expect("whole");
            kept.as_mut().expect("open").file = File::open(&file).expect("a file");
            fs::write(&file, [&whole[..], b"{\"payl"].concat()).expect("written");
        }
        assert!(keep(2).is_err());
        assert_eq!(keep(2), Ok(()));
        assert_eq!(fs::read(&file).expect("lines"), whole.repeat(2));
    }
}
