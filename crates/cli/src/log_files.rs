//! A log's directory, read by its owner: records in order, and proofs for them. The log may be
//! running; what is read is what its published checkpoint covers.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use record::{Bundle, LogEntry, Record, bundle};
use services::layout;
use services::reader::LogReader;
use store::local::Local;
use tlog::checkpoint::SignedCheckpoint;
use tlog::log_policy::LogPolicy;
use tlog::note::{NoteSigner, NoteVerifier};
use tlog::proof::inclusion;
use tlog::tile::Span;

use crate::files::{self, Unusable};
use crate::remote_log::RemoteLog;

/// Entries in a full bundle.
pub(crate) const BUNDLE_WIDTH: u64 = 256;

/// A log's files as its published checkpoint covers them.
pub(crate) struct LogFiles {
    reader: LogReader,
    key: NoteVerifier,
    checkpoint: SignedCheckpoint,
    /// A C2SP tlog-policy, if the log asks witnesses.
    witnesses: Option<String>,
}

/// A record and where it is.
pub(crate) struct Logged {
    pub(crate) index: u64,
    /// Parsed, its signature not verified: the log did that when it took the record, and
    /// `log fsck` does it again.
    pub(crate) record: Record,
}

impl LogFiles {
    /// Opens a log's directory, or a log over HTTP: then with the token that opens its bodies, and
    /// with its key, which it is asked for if none is given.
    pub(crate) fn open_any(log: &str, token: Option<&str>, vkey: Option<&str>) -> Result<Self> {
        if log.starts_with("http://") || log.starts_with("https://") {
            let remote = RemoteLog::connect(log, token)?;
            let key = remote.key(vkey)?;
            Self::covering(LogReader::new(Arc::new(remote)), key, log)
        } else {
            Self::open(Path::new(log))
        }
    }

    /// Opens what the signers of a log over HTTP let anyone read.
    pub(crate) fn open_published(log: &str, vkey: Option<&str>) -> Result<Self> {
        let remote = RemoteLog::connect(log, None)?.with_published();
        let key = remote.key(vkey)?;
        Self::covering(LogReader::new(Arc::new(remote)), key, log)
    }

    /// Opens a log's directory, or what anyone may read of a log over HTTP.
    pub(crate) fn open_public(log: &str, vkey: Option<&str>) -> Result<Self> {
        if log.starts_with("http://") || log.starts_with("https://") {
            let remote = RemoteLog::connect(log, None)?.in_public();
            let key = remote.key(vkey)?;
            return Self::covering(LogReader::new(Arc::new(remote)), key, log);
        }
        let found = Self::open(Path::new(log))?;
        if vkey.is_some_and(|vkey| vkey != found.key.to_vkey()) {
            let own = found.key.to_vkey();
            return Err(Unusable(format!("{log}: its key is {own}, another than expected")).into());
        }
        Ok(found)
    }

    /// Opens a log's directory for reading and verifies its checkpoint under its own key.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let unusable = |why: String| Unusable(format!("{}: {why}", directory.display()));
        let local = Local::open_read(directory, layout::LOG_VERSION)
            .map_err(|error| unusable(error.to_string()))?;
        let skey = files::read_text(&directory.join(layout::LOG_KEY))?;
        let key = NoteSigner::from_skey(skey.trim())
            .map_err(|error| unusable(format!("{}: {error}", layout::LOG_KEY)))?
            .verifier();
        let reader = LogReader::new(Arc::new(local));
        let mut log = Self::covering(reader, key, &directory.display().to_string())?;
        let witnesses = directory.join(layout::WITNESSES);
        if witnesses.exists() {
            log.witnesses = Some(files::read_text(&witnesses)?);
        }
        Ok(log)
    }

    /// The files as the checkpoint that is published now covers them.
    fn covering(reader: LogReader, key: NoteVerifier, name: &str) -> Result<Self> {
        let unusable = |why: String| Unusable(format!("{name}: {why}"));
        let text = reader
            .file(layout::CHECKPOINT)?
            .ok_or_else(|| unusable("nothing is published in this log yet".to_owned()))?;
        let checkpoint = SignedCheckpoint::open(&text, &key)
            .map_err(|error| unusable(format!("{}: {error}", layout::CHECKPOINT)))?;
        Ok(Self {
            reader,
            key,
            checkpoint,
            witnesses: None,
        })
    }

    /// The published checkpoint.
    pub(crate) fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// The files themselves.
    pub(crate) fn reader(&self) -> &LogReader {
        &self.reader
    }

    pub(crate) fn key(&self) -> &NoteVerifier {
        &self.key
    }

    /// The lines of a tlog-policy that name the log's witnesses and their quorum.
    pub(crate) fn witness_lines(&self) -> Result<Vec<String>> {
        let Some(text) = &self.witnesses else {
            return Ok(vec!["quorum none".to_owned()]);
        };
        LogPolicy::parse(text.as_bytes())
            .map_err(|error| Unusable(format!("{}: {error}", layout::WITNESSES)))?;
        let kept = text.lines().map(str::trim).filter(|line| {
            let first = line.split_ascii_whitespace().next().unwrap_or("#");
            first != "log" && !first.starts_with('#')
        });
        Ok(kept.map(str::to_owned).collect())
    }

    /// How many entries the checkpoint covers.
    pub(crate) fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size
    }

    /// Hands over every record whose body is there, in the order of the log. Returns how many
    /// bodies have been erased.
    pub(crate) fn each_record(&self, mut take: impl FnMut(&Logged) -> Result<()>) -> Result<u64> {
        let mut erased = 0;
        let mut start = 0;
        while start < self.size() {
            let width = (self.size() - start).min(BUNDLE_WIDTH);
            let width = u16::try_from(width).expect("at most 256");
            let span = Span::new(start / BUNDLE_WIDTH, width).expect("1 to 256 entries");
            for (index, envelope) in (start..).zip(self.reader.envelopes(span)?) {
                let Some(envelope) = envelope else {
                    erased += 1;
                    continue;
                };
                let record = envelope
                    .open_unverified()
                    .with_context(|| format!("entry {index} of the log cannot be read"))?;
                take(&Logged { index, record })?;
            }
            start += u64::from(width);
        }
        Ok(erased)
    }

    /// The record's bundle, with a proof to the published checkpoint.
    pub(crate) fn bundle(&self, record: &Record, index: u64) -> Result<Bundle> {
        let checkpoint = self.checkpoint.checkpoint();
        let hashes = inclusion(&self.reader, index, checkpoint.size)
            .with_context(|| format!("no proof for entry {index}"))?;
        let text = String::from_utf8(self.checkpoint.to_bytes()).context("notes are UTF-8")?;
        Ok(Bundle::new(
            record,
            LogEntry {
                index,
                log_id: bundle::log_id(self.key.name(), self.key.public()),
                tree_size: checkpoint.size,
                root_hash: checkpoint.root,
                hashes,
                checkpoint: text,
                canonical_body: self.leaf(index)?,
            },
        ))
    }

    /// The leaf as it was logged; its signature may differ from that of another copy.
    fn leaf(&self, index: u64) -> Result<Vec<u8>> {
        let span = Span::of_leaf(index, self.size()).context("the entry is not in the log")?;
        let within = usize::try_from(index % BUNDLE_WIDTH).expect("below 256");
        let mut entries = self.reader.entries(span)?;
        Ok(entries.swap_remove(within))
    }
}
