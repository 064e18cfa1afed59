//! What the merged history was folded from, in order: a file of JSON lines that only grows.
//!
//! A line is on the disk before anything that it says is folded, so a crash between the two loses
//! nothing: the fold is made again from the file. The three kinds of [`Line`] hold all that depends on
//! a clock or on who could be reached: given the same file, and logs that say what they said, every
//! machine comes to the same history, byte for byte. A crash while a line is written leaves a piece
//! without an end, which is cut off; whatever else is not a line is named, and nothing is folded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use record::Digest;
use serde::{Deserialize, Serialize};

use crate::append_file::{AppendError, AppendFile};

/// The file in the directory of the configuration.
const FILE: &str = "journal.jsonl";
/// The layout of the lines.
const VERSION: u32 = 2;

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
    /// A log was read up to `upto`, at `seen_ms`.
    Read {
        log: String,
        seen_ms: u64,
        upto: u64,
        /// The root over the first `upto` entries.
        root: Digest,
        /// SHA-256 over place and id of every record of this step whose body could be read.
        records: Digest,
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
        /// Two signed notes that cannot both be of one log, as whoever has its leaves can check.
        before: String,
        checkpoint: String,
    },
}

impl Line {
    /// The log time that it speaks of, Unix ms.
    pub(super) fn latest_ms(&self) -> Option<u64> {
        match self {
            Self::Begun { .. } => None,
            Self::Read { seen_ms, .. } | Self::Refused { seen_ms, .. } => Some(*seen_ms),
            Self::Closed { before_ms, .. } => Some(*before_ms),
        }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
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
    file: AppendFile,
}

impl Journal {
    /// Opens the journal of a directory, or begins it; and the lines that it has, without the first. Of
    /// the notes only the last of each log is kept: it covers all that was read of it before.
    pub(super) fn open(dir: &Path, bucket_ms: u64) -> Result<(Self, Vec<Line>), JournalError> {
        let path = dir.join(FILE);
        let failed = |source| JournalError::File {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let file = AppendFile::open(&path)?;
        let (lines, whole) = parse(&path, file.file(), bucket_ms)?;
        let mut journal = Self { file };
        if whole < journal.file.length() {
            let path = path.display();
            tracing::warn!(%path, "the last line was not written to its end; it is cut off");
            journal.file.cut(whole)?;
        }
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

    /// What is wrong with the journal of a directory, if there is one: it may be in use.
    pub(super) fn check(dir: &Path, bucket_ms: u64) -> Result<(), JournalError> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(JournalError::File { path, source }),
        };
        parse(&path, &file, bucket_ms)?;
        Ok(())
    }

    /// Writes a line through to the disk. After an error nothing of it counts.
    pub(super) fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let mut bytes = serde_json::to_vec(line).expect("names, numbers and texts have JSON");
        bytes.push(b'\n');
        let before = self.file.length();
        self.file.append(&bytes)?;
        if let Err(error) = self.file.sync() {
            self.file.cut(before)?;
            return Err(error.into());
        }
        Ok(())
    }
}

/// The lines of a file behind its first, and the bytes that whole lines have.
fn parse(path: &Path, file: &File, bucket_ms: u64) -> Result<(Vec<Line>, u64), JournalError> {
    let damaged = |line, why: String| JournalError::Damaged {
        path: path.to_owned(),
        line,
        why,
    };
    let failed = |source| JournalError::File {
        path: path.to_owned(),
        source,
    };
    let (mut lines, mut last) = (Vec::new(), BTreeMap::<String, usize>::new());
    let (mut reader, mut text, mut whole) = (BufReader::new(file), Vec::new(), 0);
    for number in 1.. {
        text.clear();
        reader.read_until(b'\n', &mut text).map_err(failed)?;
        if text.last() != Some(&b'\n') {
            break;
        }
        whole += text.len() as u64;
        let line = serde_json::from_slice(&text).map_err(|e| damaged(number, e.to_string()))?;
        match (number, &line) {
            (1, Line::Begun { version, .. }) if *version != VERSION => {
                let why = format!("version {version}; this program reads version {VERSION}");
                return Err(damaged(number, why));
            }
            (1, Line::Begun { bucket_ms: was, .. }) if *was != bucket_ms => {
                let why = format!("it has buckets of {was} ms, and {bucket_ms} ms are asked for");
                return Err(damaged(number, why));
            }
            (1, Line::Begun { .. }) => continue,
            (1, _) | (_, Line::Begun { .. }) => {
                let why = "a journal begins in its first line and nowhere else";
                return Err(damaged(number, why.to_owned()));
            }
            (_, Line::Read { log, .. }) => {
                let before = last.insert(log.clone(), lines.len());
                if let Some(Line::Read { checkpoint, .. }) = before.map(|at| &mut lines[at]) {
                    *checkpoint = String::new();
                }
            }
            _ => {}
        }
        lines.push(line);
    }
    Ok((lines, whole))
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
