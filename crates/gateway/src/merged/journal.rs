//! What the merged history was folded from, in order: a file of JSON lines that only grows.
//!
//! A line is on the disk before anything that it says is folded, so a crash between the two loses
//! nothing: the fold is made again from the file. The three kinds of [`Line`] hold all that depends on
//! a clock or on who could be reached: given the same file, and logs that say what they said, every
//! machine comes to the same history, byte for byte. A crash while a line is written leaves a piece
//! without an end, which is cut off; whatever else is not a line is named, and nothing is folded.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use record::Digest;
use serde::{Deserialize, Serialize};

/// The file in the directory of the configuration.
const FILE: &str = "journal.jsonl";
/// The layout of the lines.
const VERSION: u32 = 1;

/// A step of the fold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// The first line.
    Begun {
        version: u32,
        /// Length of a bucket of log time: another one would be another order.
        bucket_ms: u64,
    },
    /// A log was read up to `upto`, as of a checkpoint that was seen at `seen_ms`.
    Read {
        log: String,
        seen_ms: u64,
        upto: u64,
        /// The root over the first `upto` entries.
        root: Digest,
        /// Entries of this step whose bodies could be read.
        bodies: u64,
        /// The signed note that covers them: what the log cannot take back.
        checkpoint: String,
    },
    /// Buckets that end by then were folded.
    Closed {
        before_ms: u64,
        /// Logs that were not waited for.
        without: Vec<String>,
    },
    /// The log showed another past than what was read: nothing more is taken from it.
    Refused {
        log: String,
        seen_ms: u64,
        why: String,
        /// Two signed notes that cannot both be of one log.
        before: String,
        checkpoint: String,
    },
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: another gateway keeps this journal; give each its own directory", .0.display())]
    Taken(PathBuf),
    #[error(
        "{}:{line}: {why}; bring the file back from a copy, or move it away to begin a new history",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        line: usize,
        why: String,
    },
}

/// The journal, open for more. It is this process's alone.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
}

impl Journal {
    /// Opens the journal of a directory, or begins it; and the lines that it has, without the first.
    pub(super) fn open(dir: &Path, bucket_ms: u64) -> Result<(Self, Vec<Line>), JournalError> {
        let path = dir.join(FILE);
        let failed = |source| JournalError::File {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(JournalError::Taken(path)),
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        if whole < bytes.len() {
            let path = path.display();
            tracing::warn!(%path, "the last line was not written to its end; it is cut off");
            file.set_len(whole as u64).map_err(failed)?;
        }
        let lines = parse(&path, &bytes[..whole], bucket_ms)?;
        let mut journal = Self {
            file,
            length: whole as u64,
            path: path.clone(),
        };
        if whole == 0 {
            let begun = Line::Begun {
                version: VERSION,
                bucket_ms,
            };
            journal.append(&begun)?;
            let kept = File::open(dir).and_then(|dir| dir.sync_all());
            kept.map_err(failed)?;
        }
        Ok((journal, lines))
    }

    /// Writes a line through to the disk. After an error the file is as before.
    pub(super) fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let mut bytes = serde_json::to_vec(line).expect("names, numbers and texts have JSON");
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes);
        match written.and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Whatever of it is there must not be in front of the next one.
                let _ = self.file.set_len(self.length);
                let path = self.path.clone();
                Err(JournalError::File { path, source })
            }
        }
    }
}

fn parse(path: &Path, bytes: &[u8], bucket_ms: u64) -> Result<Vec<Line>, JournalError> {
    let damaged = |line, why: String| JournalError::Damaged {
        path: path.to_owned(),
        line,
        why,
    };
    let mut lines = Vec::new();
    let texts = bytes.split_inclusive(|byte| *byte == b'\n');
    for (number, text) in (1..).zip(texts) {
        let line = serde_json::from_slice(text).map_err(|e| damaged(number, e.to_string()))?;
        match (number, line) {
            (1, Line::Begun { version, .. }) if version != VERSION => {
                let why = format!("version {version}; this program reads version {VERSION}");
                return Err(damaged(number, why));
            }
            (1, Line::Begun { bucket_ms: was, .. }) if was != bucket_ms => {
                let why = format!("it has buckets of {was} ms, and {bucket_ms} ms are asked for");
                return Err(damaged(number, why));
            }
            (1, Line::Begun { .. }) => {}
            (1, _) | (_, Line::Begun { .. }) => {
                let why = "a journal begins in its first line and nowhere else";
                return Err(damaged(number, why.to_owned()));
            }
            (_, line) => lines.push(line),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(before_ms: u64) -> Line {
        Line::Closed {
            before_ms,
            without: vec!["log.example/a".to_owned()],
        }
    }

    #[test]
    fn what_was_written_is_there_again_and_a_piece_at_the_end_is_cut_off() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut journal, lines) = Journal::open(dir.path(), 10).expect("a new one");
        assert!(lines.is_empty());
        journal.append(&closed(1)).expect("written");
        let taken = Journal::open(dir.path(), 10).expect_err("it is open");
        assert!(taken.to_string().contains("another gateway"), "{taken}");
        drop(journal);

        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).expect("there");
        std::fs::write(&path, [&whole[..], b"{\"kind\""].concat()).expect("written");
        let (mut journal, lines) = Journal::open(dir.path(), 10).expect("it opens");
        assert_eq!(lines, [closed(1)]);
        journal.append(&closed(2)).expect("written");
        drop(journal);
        let (_, lines) = Journal::open(dir.path(), 10).expect("it opens");
        assert_eq!(lines, [closed(1), closed(2)]);
    }

    #[test]
    fn a_line_that_is_none_is_named_and_so_is_another_order() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(Journal::open(dir.path(), 10).expect("a new one"));
        let refused = |bucket_ms| {
            let error = Journal::open(dir.path(), bucket_ms).expect_err("refused");
            error.to_string()
        };
        let other = refused(20);
        assert!(
            other.contains("journal.jsonl:1: it has buckets of 10 ms"),
            "{other}"
        );
        let path = dir.path().join(FILE);
        let mut text = std::fs::read_to_string(&path).expect("there");
        text.push_str("{\"kind\":\"closed\"}\n");
        std::fs::write(&path, &text).expect("written");
        let broken = refused(10);
        assert!(
            broken.contains("journal.jsonl:2: missing field"),
            "{broken}"
        );
    }
}
