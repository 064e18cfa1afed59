//! What a network was when its log was read last: kept on disk, for a start while the log is away.
//!
//! Kept are the nodes that had been checked: control records and offer of each as they were signed, with
//! their places in the log. At the start they are verified again and folded as if they came from there, so an
//! offer that is over is over, and an ended key stays ended. What the log took since is not known. So the nodes
//! are used for [`USED_MS`] after it was read last and no longer, each is checked before it is used, and once
//! the log answers again they have [`GRACE_MS`] until it was read, or nobody is known. A file that cannot be
//! read is as none.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use record::control::LogOrigin;
use record::offer::{Book, Heard};
use record::{Envelope, RecordId, sha256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tlog::note::NoteVerifier;

/// How long after the log was read last what is kept of it is used, ms.
pub(super) const USED_MS: u64 = 60 * 60 * 1000;
/// How long it is used once the log answers, ms. With what it takes to see that the log is back, a step of reading
/// and a turn, that is less than the minute after which nobody who was withdrawn or revoked in the log answers.
pub(super) const GRACE_MS: u64 = 20_000;
/// How often it is written at most, if something changed, ms.
const CHANGED_MS: u64 = 10_000;
/// How often it is written if nothing did, ms: so much older than the truth its time may be.
const UNCHANGED_MS: u64 = 5 * 60 * 1000;
/// Largest file that is read: 1,280 nodes with 20 KB of records each.
const BYTES_MAX: u64 = 32 << 20;
/// The directory, in the gateway's own.
const DIRECTORY: &str = "networks";

/// Where a network is kept.
pub(super) struct Kept {
    file: PathBuf,
    written: Option<Written>,
}

struct Written {
    at_ms: u64,
    records: Vec<RecordId>,
}

/// What was kept.
pub(super) struct Restored {
    pub(super) book: Book,
    /// When the log was read last, Unix ms.
    pub(super) as_of_ms: u64,
    /// Entries that were read then.
    pub(super) size: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    log: String,
    vkey: String,
    as_of_ms: u64,
    size: u64,
    /// In the order of the log.
    records: Vec<Placed>,
}

#[derive(Serialize, Deserialize)]
struct Placed {
    index: u64,
    envelope: Box<RawValue>,
}

impl Kept {
    /// The place of the network of this log in a gateway's directory.
    pub(super) fn of(directory: &Path, log: &str) -> Self {
        let name = sha256(log.as_bytes()).to_hex();
        Self {
            file: directory
                .join(DIRECTORY)
                .join(format!("{}.json", &name[..16])),
            written: None,
        }
    }

    /// What was kept, if it is of this log and there is something in it. `key` is the log's key, where the
    /// configuration has it; `salt` is for the book.
    pub(super) fn restore(
        &self,
        log: &str,
        key: Option<&NoteVerifier>,
        salt: [u8; 32],
    ) -> Option<Restored> {
        let restored = self.read(log, key, salt);
        if let Err(why) = &restored {
            let path = self.file.display();
            tracing::warn!(%path, %why, "what was known of a network is not used");
        }
        restored.ok().flatten()
    }

    fn read(
        &self,
        log: &str,
        key: Option<&NoteVerifier>,
        salt: [u8; 32],
    ) -> Result<Option<Restored>, String> {
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        match std::fs::metadata(&self.file) {
            Ok(about) if about.len() > BYTES_MAX => {
                return Err(format!("it has more than {BYTES_MAX} bytes"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(&error)),
        }
        let bytes = std::fs::read(&self.file).map_err(|e| wrong(&e))?;
        let file: File = serde_json::from_slice(&bytes).map_err(|e| wrong(&e))?;
        let named = NoteVerifier::from_vkey(&file.vkey).map_err(|e| wrong(&e))?;
        if file.log != log || key.is_some_and(|key| key.to_vkey() != named.to_vkey()) {
            return Err("it is of another log".to_owned());
        }
        let origin = LogOrigin::new(named.name()).map_err(|e| wrong(&e))?;
        let mut book = Book::new(origin, salt);
        for Placed { index, envelope } in &file.records {
            let record = Envelope::from_json(envelope.get().as_bytes()).and_then(Envelope::open);
            let record = record.map_err(|e| wrong(&e))?;
            if let Heard::Refused(why) = book.hear(&record, *index) {
                return Err(format!("entry {index}: {why}"));
            }
        }
        Ok(Some(Restored {
            book,
            as_of_ms: file.as_of_ms,
            size: file.size,
        }))
    }

    /// Whether it is time to look what would be written.
    pub(super) fn may_be_due(&self, now_ms: u64) -> bool {
        let written = self.written.as_ref();
        written.is_none_or(|written| now_ms.saturating_sub(written.at_ms) >= CHANGED_MS)
    }

    /// Whether it is time to write it again; `records` are the ones that would be kept.
    pub(super) fn is_due(&self, now_ms: u64, records: &[RecordId]) -> bool {
        self.written.as_ref().is_none_or(|written| {
            let age_ms = now_ms.saturating_sub(written.at_ms);
            age_ms >= UNCHANGED_MS || written.records != records
        })
    }

    /// Keeps what the log said when it was read to `size` at `as_of_ms`. `now_ms` is of the clock of
    /// [`Kept::is_due`].
    pub(super) fn write(
        &mut self,
        (log, key): (&str, &NoteVerifier),
        (as_of_ms, size): (u64, u64),
        now_ms: u64,
        records: &BTreeMap<u64, Envelope>,
    ) {
        let placed = records.iter().filter_map(|(index, envelope)| {
            let json = String::from_utf8(envelope.to_json()).ok()?;
            let envelope = RawValue::from_string(json).ok()?;
            Some(Placed {
                index: *index,
                envelope,
            })
        });
        let file = File {
            log: log.to_owned(),
            vkey: key.to_vkey(),
            as_of_ms,
            size,
            records: placed.collect(),
        };
        if let Err(error) = self.replace(&file) {
            let path = self.file.display();
            tracing::warn!(%path, %error, "what is known of a network is not remembered over a restart");
        }
        self.written = Some(Written {
            at_ms: now_ms,
            records: records.values().map(Envelope::record_id).collect(),
        });
    }

    /// Written whole and renamed: a crash leaves the old one or the new one.
    fn replace(&self, file: &File) -> std::io::Result<()> {
        if let Some(directory) = self.file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let beside = self.file.with_extension("new");
        let mut new = std::fs::File::create(&beside)?;
        new.write_all(&serde_json::to_vec(file)?)?;
        new.sync_all()?;
        std::fs::rename(&beside, &self.file)
    }
}

impl Restored {
    /// Whether it is used at `wall_ms`, Unix ms. Nobody read a log tomorrow: a clock that was set back ends it.
    pub(super) fn holds(&self, wall_ms: u64) -> bool {
        let ahead_ms = record::offer::VALID_EARLY_MS;
        self.as_of_ms <= wall_ms.saturating_add(ahead_ms) && wall_ms < self.until_ms()
    }

    /// Until when it is used at the most, Unix ms.
    pub(super) fn until_ms(&self) -> u64 {
        self.as_of_ms.saturating_add(USED_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "http://log.example/";
    const VKEY: &str = "log.example+1cc758f9+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

    #[test]
    fn what_was_kept_is_used_for_an_hour_after_the_log_was_read() {
        let origin = LogOrigin::new("log.example").expect("an origin");
        let restored = Restored {
            book: Book::new(origin, [1; 32]),
            as_of_ms: 10 * USED_MS,
            size: 7,
        };
        assert!(restored.holds(10 * USED_MS) && restored.holds(11 * USED_MS - 1));
        assert!(!restored.holds(11 * USED_MS));
        // A clock that was set back a little is a clock; by a day, nothing it says of the age holds.
        assert!(restored.holds(10 * USED_MS - 1000) && !restored.holds(9 * USED_MS));
    }

    #[test]
    fn what_is_of_another_log_or_broken_is_as_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = NoteVerifier::from_vkey(VKEY).expect("a key");
        let mut kept = Kept::of(directory.path(), LOG);
        assert!(
            kept.restore(LOG, Some(&key), [1; 32]).is_none(),
            "nothing was kept"
        );
        assert!(kept.is_due(0, &[]));
        kept.write((LOG, &key), (5000, 9), 100, &BTreeMap::new());
        assert!(!kept.may_be_due(100 + CHANGED_MS - 1) && !kept.is_due(100 + CHANGED_MS, &[]));
        assert!(kept.is_due(100 + UNCHANGED_MS, &[]));
        assert!(kept.is_due(100 + CHANGED_MS, &[RecordId::from_bytes([1; 32])]));
        let restored = kept.restore(LOG, None, [1; 32]).expect("it was kept");
        assert_eq!((restored.as_of_ms, restored.size), (5000, 9));
        assert_eq!(restored.book.providers(), 0);
        let elsewhere = "http://other.example/";
        assert!(kept.restore(elsewhere, Some(&key), [1; 32]).is_none());
        std::fs::write(&kept.file, b"{").expect("written");
        assert!(kept.restore(LOG, Some(&key), [1; 32]).is_none());
    }
}
