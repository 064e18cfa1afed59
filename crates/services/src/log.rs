//! A log in a directory: files, head, keys, and the sequencer that runs on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use record::{Bundle, Digest, LogEntry, Record};
use ring::rand::{SecureRandom, SystemRandom};
use store::local::Local;
use store::seen::SeenFiles;
use store::sqlite::HeadDb;
use store::{Blobs, Error, ErrorKind};
use tlog::note::NoteSigner;
use tlog::shard::Link;

use crate::admission::Submission;
use crate::clock::{Clock, SystemClock};
use crate::cosigning::CosigningOptions;
use crate::layout::{HEAD_DATABASE, LOG_KEY, LOG_VERSION, READ_TOKEN, SEEN, SUCCESSOR};
use crate::quota::{Gate, Rules, RulesError};
use crate::reader::LogReader;
use crate::sequencer::{
    Answer, LogParts, OpenError, PERIOD, Placed, Published, Sequencer, SubmitError, Totals,
};
use crate::shard::{check_end, closed, read_link};

/// Bytes of the token that opens bodies.
const TOKEN_BYTES: usize = 32;

/// How to open a log.
pub struct LogOptions {
    /// The origin of a new log: unique, best a URL without scheme. For an existing log it must be
    /// the one it has, or `None`. A new log without one gets `longrun.local/<random>`.
    pub origin: Option<String>,
    /// Shortest time between the starts of two rounds.
    pub period: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for a new log's keys.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    /// Whom to ask for cosignatures, if anybody.
    pub cosigning: Option<CosigningOptions>,
    /// Who may append to a log that has no rules yet. They are written to its directory, where
    /// they hold from then on.
    pub admission: Rules,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            origin: None,
            period: PERIOD,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::new()),
            cosigning: None,
            admission: Rules::default(),
        }
    }
}

/// Makes a log's directory with its keys, or finds them there, and gives its verifier key: what
/// witnesses need before the log can ask them.
///
/// # Errors
/// As [`Log::open`].
pub fn prepare(
    directory: &Path,
    origin: Option<&str>,
    random: &dyn SecureRandom,
) -> Result<String, OpenError> {
    let local = Local::open(directory, LOG_VERSION)?;
    let key = open_key(&local, origin, random)?;
    open_token(&local, random)?;
    Ok(key.verifier().to_vkey())
}

/// An open log. Clones are handles to the same one.
#[derive(Clone)]
pub struct Log {
    sequencer: Sequencer,
    reader: LogReader,
    identity: Arc<Identity>,
    gate: Arc<Gate>,
}

struct Identity {
    directory: PathBuf,
    origin: String,
    vkey: String,
    log_id: Digest,
    read_token: String,
    /// Where it ended, if it did: then it takes nothing.
    end: Option<Link>,
}

impl Log {
    /// Opens the log in a directory, or makes one there.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is another's, of another version, read-only or in use, or if
    /// what is in it contradicts itself. It is then left as it was.
    pub fn open(directory: &Path, options: LogOptions) -> Result<Self, OpenError> {
        let local = Arc::new(Local::open(directory, LOG_VERSION)?);
        let key = open_key(&local, options.origin.as_deref(), &*options.random)?;
        let read_token = open_token(&local, &*options.random)?;
        let heads = Arc::new(HeadDb::open(&directory.join(HEAD_DATABASE))?);
        let seen = Box::new(SeenFiles::open(&directory.join(SEEN))?);
        let end = read_end(&*local, &key)?;
        let identity = Identity::new(directory, &key, read_token, end);
        let unruly = |error: RulesError| OpenError::Key(error.to_string());
        if Rules::load(directory).map_err(unruly)?.is_none() {
            options.admission.save(directory).map_err(unruly)?;
        }
        let gate = Gate::open(directory, options.clock.clone()).map_err(unruly)?;
        let reader = LogReader::new(local.clone());
        let parts = LogParts {
            blobs: local,
            heads,
            seen,
            clock: options.clock,
            key,
            cosigning: options.cosigning,
        };
        let sequencer = Sequencer::start(parts, options.period)?;
        if let Some(end) = &identity.end {
            // What was left undone is done now, and nothing new begins.
            sequencer.stop();
            let said = sequencer.published().checkpoint.clone();
            check_end(end, end.predecessor(), &said)
                .map_err(|reason| OpenError::Inconsistent(format!("{SUCCESSOR}: {reason}")))?;
        }
        Ok(Self {
            sequencer,
            reader,
            identity: Arc::new(identity),
            gate: Arc::new(gate),
        })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.identity.directory
    }

    /// Its name, the first line of its checkpoints.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.identity.origin
    }

    /// Its public key as a C2SP verifier key.
    #[must_use]
    pub fn vkey(&self) -> &str {
        &self.identity.vkey
    }

    /// The token that opens bodies over HTTP.
    #[must_use]
    pub fn read_token(&self) -> &str {
        &self.identity.read_token
    }

    /// Who may append over HTTP.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Where it ended and which log goes on, if it was ended: then it takes nothing more.
    #[must_use]
    pub fn end(&self) -> Option<&Link> {
        self.identity.end.as_ref()
    }

    /// Its files.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// The sequencer.
    #[must_use]
    pub fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// What readers can see now.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        self.sequencer.published()
    }

    /// Totals since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.sequencer.totals()
    }

    /// Appends verified records and waits for their place in a published checkpoint.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn append(&self, batch: Vec<Submission>) -> Result<Answer, SubmitError> {
        if let Some(end) = self.end() {
            return Err(SubmitError::Stopped(format!(": {}", closed(end))));
        }
        let answer = self.sequencer.submit(batch)?;
        answer
            .await
            .unwrap_or_else(|_| Err(self.sequencer.stopped_error()))
    }

    /// The Sigstore bundle of a record at its place.
    #[must_use]
    pub fn bundle(&self, record: &Record, placed: &Placed, published: &Published) -> Bundle {
        Bundle::new(record, self.log_entry(placed, published))
    }

    /// A record's place as a Sigstore bundle holds it.
    #[must_use]
    pub fn log_entry(&self, placed: &Placed, published: &Published) -> LogEntry {
        LogEntry {
            index: placed.index,
            log_id: self.identity.log_id,
            tree_size: published.checkpoint.size,
            root_hash: published.checkpoint.root,
            hashes: placed.proof.clone(),
            checkpoint: published.note.clone(),
            canonical_body: placed.leaf.clone(),
        }
    }

    /// Takes nothing more, finishes what was taken, and waits for that. Blocks.
    pub fn stop(&self) {
        self.sequencer.stop();
    }
}

impl Identity {
    fn new(directory: &Path, key: &NoteSigner, read_token: String, end: Option<Link>) -> Self {
        let verifier = key.verifier();
        Self {
            directory: directory.to_owned(),
            origin: key.name().to_owned(),
            vkey: verifier.to_vkey(),
            log_id: record::bundle::log_id(verifier.name(), verifier.public()),
            read_token,
            end,
        }
    }
}

/// The link that ended this log, if there is one.
fn read_end(blobs: &dyn Blobs, key: &NoteSigner) -> Result<Option<Link>, OpenError> {
    let Some(link) =
        read_link(blobs, SUCCESSOR).map_err(|error| OpenError::Inconsistent(error.to_string()))?
    else {
        return Ok(None);
    };
    if *link.predecessor() == key.verifier() {
        Ok(Some(link))
    } else {
        let other = link.predecessor().name();
        Err(OpenError::Inconsistent(format!(
            "{SUCCESSOR} ends {other}, another log"
        )))
    }
}

fn open_key(
    local: &Local,
    origin: Option<&str>,
    random: &dyn SecureRandom,
) -> Result<NoteSigner, OpenError> {
    if let Some(text) = local.read(LOG_KEY)? {
        let key = read_key(local.root(), &text)?;
        return match origin {
            Some(origin) if origin != key.name() => Err(OpenError::Key(format!(
                "the log in {} is {}, not {origin}; give it no other name",
                local.root().display(),
                key.name()
            ))),
            _ => Ok(key),
        };
    }
    let failed = |error: tlog::note::NoteError| OpenError::Key(error.to_string());
    let origin = match origin {
        Some(origin) => origin.to_owned(),
        None => format!("longrun.local/{}", random_hex(random, 8)?),
    };
    let key = NoteSigner::generate(&origin, random).map_err(failed)?;
    local.put_new(LOG_KEY, key.to_skey().as_bytes())?;
    Ok(key)
}

/// Reads the key file of a log; says nothing about its content.
pub(crate) fn read_key(directory: &Path, text: &[u8]) -> Result<NoteSigner, OpenError> {
    let path = directory.join(LOG_KEY);
    std::str::from_utf8(text)
        .map_err(|_| "it is not text".to_owned())
        .and_then(|text| NoteSigner::from_skey(text).map_err(|error| error.to_string()))
        .map_err(|reason| OpenError::Key(format!("{}: {reason}", path.display())))
}

fn open_token(local: &Local, random: &dyn SecureRandom) -> Result<String, OpenError> {
    let path = || local.root().join(READ_TOKEN).display().to_string();
    if let Some(bytes) = local.read(READ_TOKEN)? {
        let text = String::from_utf8(bytes)
            .unwrap_or_default()
            .trim_end()
            .to_owned();
        let usable = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic());
        return if usable {
            Ok(text)
        } else {
            Err(OpenError::Key(format!(
                "{}: expected one line of at least 16 signs",
                path()
            )))
        };
    }
    let token = random_hex(random, TOKEN_BYTES)?;
    local.put_new(READ_TOKEN, format!("{token}\n").as_bytes())?;
    Ok(token)
}

pub(crate) fn random_hex(random: &dyn SecureRandom, bytes: usize) -> Result<String, OpenError> {
    let mut out = vec![0u8; bytes];
    random.fill(&mut out).map_err(|_| {
        OpenError::Store(Error::new(
            ErrorKind::Unavailable,
            "no randomness for new keys",
        ))
    })?;
    Ok(hex::encode(out))
}
