//! What the history was folded from, on the disk: so that a restart neither reads the log again nor
//! needs the records themselves.
//!
//! A chain of frames in one file: a length, sixteen bytes of a SHA-256 over the frame before and this
//! one, and a body. The first says whose history it is and of which log; each further one holds facts
//! ([`reliability::facts`]) in the order in which they were folded, and, where everything up to there was
//! vouched for, the place in the source that they reach: in a log its size, the right edge of its tree
//! and its root, so that reading goes on from there and is checked as if it had begun at the first entry.
//!
//! What a crash leaves: frames that were written whole count up to the last one with a place; what is
//! behind it is cut off, and read from the source again. A frame that was altered ends the chain in the
//! same way, with a warning. A journal of another history or version is laid aside; one that its log
//! contradicts is let go of.
//! Nothing is counted twice: the fold is what is in front of the place, and the source gives what is
//! behind it.
//!
//! With a log this is a copy that saves time. Without one it is the history, once the spool has let go of
//! the records: about 90 bytes per attempt (some 40 more where receipts are named), for good, and a
//! second or two of every start per million.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use record::digest::Sha256;
use record::{Digest, Record, SignerId, Stream};
use reliability::facts::{self, Fact, FactsError, Reader, Writer, put};
use serde::{Deserialize, Serialize};
use tlog::merkle::Frontier;

use crate::append_file::{AppendError, AppendFile};

/// The file in the gateway's directory.
pub(super) const FILE: &str = "history.journal";
/// Where a journal goes that is of another history or version; the one before it goes for good.
const ASIDE: &str = "history.journal.old";
/// The layout.
const VERSION: u32 = 2;
/// Bytes of a frame's chained digest that are kept.
const CHECK_BYTES: usize = 16;
/// Length and digest.
const HEAD_BYTES: usize = 4 + CHECK_BYTES;
/// A longer frame was not written by us.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Facts that wait for a place are written once they are so many bytes.
const SPILL_BYTES: usize = 1 << 20;
/// A place is written once so many bytes of facts are in front of it, or this time has passed: what
/// comes after the last one is read from the source again.
const KEPT_BYTES: usize = 64 << 10;
const KEPT_EVERY: Duration = Duration::from_secs(30);
/// Facts that wait for a disk that takes nothing; with more the journal ends here.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// A frame's kind: the first byte of its body.
const BEGUN: u8 = b'B';
const FACTS: u8 = b'F';
const PLACE: u8 = b'P';

/// How far a source was folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// A log, as far as a checkpoint with this root vouches.
    Log { frontier: Frontier, root: Digest },
    /// The spool, up to this position.
    Spool { position: i64 },
}

/// Whose history it is, and where from: the body of the first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    longrun_history_journal: u32,
    /// The observer.
    own: SignerId,
    /// The log's verifier key; none where the spool is folded.
    log: Option<String>,
}

impl Of {
    pub(super) fn new(own: SignerId, log: Option<String>) -> Self {
        Self {
            longrun_history_journal: VERSION,
            own,
            log,
        }
    }
}

/// Why a journal does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error(transparent)]
    File(#[from] AppendError),
    #[error("{path}: {source}")]
    Read {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("a frame says what this program cannot read: {0}")]
    Facts(#[from] FactsError),
}

/// The journal, open for more.
pub(super) struct Journal {
    file: AppendFile,
    of: Vec<u8>,
    /// The chained digest of the last frame.
    check: [u8; CHECK_BYTES],
    writer: Writer,
    /// Facts that are in no frame yet.
    waiting: Vec<u8>,
    /// When a place was last written, and whether it is on the disk.
    kept: Instant,
    is_synced: bool,
    /// The place of the last frame that has one.
    reached: Option<Reached>,
}

impl Journal {
    /// Opens the journal in a directory, or begins it. What cannot be used of it is cut off or laid
    /// aside, with a warning where somebody should know.
    pub(super) fn open(dir: &Path, kind: &Of) -> Result<Self, JournalError> {
        let file = AppendFile::open(&dir.join(FILE))?;
        let of = serde_json::to_vec(kind).expect("names and numbers have JSON");
        let mut journal = Self {
            file,
            of,
            check: [0; CHECK_BYTES],
            writer: Writer::default(),
            waiting: Vec::new(),
            kept: Instant::now(),
            is_synced: true,
            reached: None,
        };
        if journal.file.length() == 0 {
            journal.begin()?;
            return Ok(journal);
        }
        let found = journal.scan()?;
        let path = journal.file.path().display();
        if !found.is_ours {
            tracing::warn!(
                %path,
                aside = ASIDE,
                "the journal is of another history, or of another version of this program; it is laid \
                 aside, and the history is made anew"
            );
            let path = dir.join(FILE);
            // Without a log it may be all that is left of records that were let go of.
            std::fs::rename(&path, dir.join(ASIDE))
                .map_err(|source| AppendError::File { path, source })?;
            return Self::open(dir, kind);
        }
        if found.is_altered {
            tracing::warn!(
                %path,
                from_byte = found.length,
                "the journal of the history is damaged; what is behind this is read from the source again"
            );
        }
        journal.file.cut(found.length)?;
        (journal.check, journal.reached) = (found.check, found.reached);
        Ok(journal)
    }

    /// Follows the chain to the last place in it.
    fn scan(&self) -> Result<Scan, JournalError> {
        let mut frames = self.frames();
        let mut found = Scan::default();
        loop {
            let reached = match frames.read() {
                Ok(Some(Frame::Begun(of))) if found.length == 0 && of == self.of => {
                    found.is_ours = true;
                    None
                }
                Ok(Some(Frame::Facts(Some(reached), _))) if found.is_ours => Some(reached),
                Ok(Some(Frame::Facts(None, _))) if found.is_ours => continue,
                Ok(None) | Err(End::Torn) => break,
                Ok(Some(_)) | Err(End::Altered) => {
                    found.is_altered = true;
                    break;
                }
                Err(End::Failed(source)) => return Err(self.unreadable(source)),
            };
            found.reached = reached;
            (found.length, found.check) = (frames.at, frames.check);
        }
        Ok(found)
    }

    /// How far what it holds reaches; none if it holds nothing.
    pub(super) fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// Gives `each` fact that it holds, in order.
    pub(super) fn replay(&self, mut each: impl FnMut(Fact<'_>)) -> Result<(), JournalError> {
        let (mut frames, mut reader) = (self.frames(), Reader::default());
        while frames.at < self.file.length() {
            match frames.read() {
                Ok(Some(Frame::Facts(_, facts))) => reader.read(facts, &mut each)?,
                Ok(Some(Frame::Begun(_))) => {}
                Ok(None) => break,
                Err(End::Failed(source)) => return Err(self.unreadable(source)),
                // It was whole a moment ago.
                Err(End::Altered | End::Torn) => {
                    return Err(FactsError::Bad("it changed while it was read").into());
                }
            }
        }
        Ok(())
    }

    /// Takes note of a record that is folded. Writes nothing yet.
    pub(super) fn note(&mut self, record: &Record, index: u64) {
        self.writer.write(record, index, &mut self.waiting);
    }

    /// Takes note of where the numbers of a stream begin.
    pub(super) fn note_beginning(&mut self, stream: &Stream, first: u64) {
        facts::write_beginning(stream, first, &mut self.waiting);
    }

    /// Writes what has gathered while nothing vouches for it yet, if that is much.
    pub(super) fn spill(&mut self) -> Result<(), JournalError> {
        if self.waiting.len() < SPILL_BYTES {
            return Ok(());
        }
        let body = [&[FACTS], &self.waiting[..]].concat();
        self.write(&body)?;
        self.waiting.clear();
        Ok(())
    }

    /// All that was noted is folded and vouched for, up to here. It is written when that is worth it, or
    /// at once.
    pub(super) fn keep(&mut self, reached: &Reached, at_once: bool) -> Result<(), JournalError> {
        if self.reached.as_ref() == Some(reached) {
            return Ok(());
        }
        let due = self.waiting.len() >= KEPT_BYTES || self.kept.elapsed() >= KEPT_EVERY;
        if !(due || at_once) {
            return Ok(());
        }
        let place = reached.to_bytes();
        let mut body = vec![PLACE];
        put(place.len() as u64, &mut body);
        body.extend(place);
        body.extend(&self.waiting);
        self.write(&body)?;
        self.waiting.clear();
        self.kept = Instant::now();
        self.reached = Some(reached.clone());
        self.is_synced = false;
        Ok(())
    }

    /// How far it is on the disk, whatever happens to this machine.
    pub(super) fn durable(&mut self) -> Result<Option<&Reached>, JournalError> {
        if !self.is_synced {
            self.file.sync()?;
            self.is_synced = true;
        }
        Ok(self.reached.as_ref())
    }

    /// Whether more waits to be written than should be held.
    pub(super) fn is_overfull(&self) -> bool {
        self.waiting.len() > WAITING_BYTES_MAX
    }

    /// Lets go of everything: the history is made anew.
    pub(super) fn begin(&mut self) -> Result<(), JournalError> {
        self.file.cut(0)?;
        self.check = [0; CHECK_BYTES];
        self.writer = Writer::default();
        self.waiting.clear();
        self.reached = None;
        let body = [&[BEGUN], &self.of[..]].concat();
        self.write(&body)?;
        self.file.sync()?;
        self.is_synced = true;
        Ok(())
    }

    fn write(&mut self, body: &[u8]) -> Result<(), JournalError> {
        let check = chained(&self.check, body);
        let length = u32::try_from(body.len()).expect("a frame is far below 4 GB");
        let frame = [&length.to_le_bytes(), &check[..], body].concat();
        self.file.append(&frame)?;
        self.check = check;
        Ok(())
    }

    fn frames(&self) -> Frames<'_> {
        Frames {
            file: BufReader::with_capacity(1 << 16, self.file.file()),
            is_begun: false,
            at: 0,
            check: [0; CHECK_BYTES],
            body: Vec::new(),
        }
    }

    fn unreadable(&self, source: std::io::Error) -> JournalError {
        JournalError::Read {
            path: self.file.path().to_owned(),
            source,
        }
    }
}

/// What a file holds.
#[derive(Default)]
struct Scan {
    is_ours: bool,
    /// Bytes up to the last place, or the beginning.
    length: u64,
    check: [u8; CHECK_BYTES],
    reached: Option<Reached>,
    /// What follows was changed, and not just broken off.
    is_altered: bool,
}

/// What a frame's place in the chain and its body make.
fn chained(before: &[u8; CHECK_BYTES], body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update(body);
    let digest = hasher.finish();
    *digest.as_bytes().first_chunk().expect("a digest is longer")
}

/// What a frame says.
enum Frame<'a> {
    Begun(&'a [u8]),
    Facts(Option<Reached>, &'a [u8]),
}

/// Why there is no further frame.
enum End {
    /// It was not written to its end.
    Torn,
    Altered,
    Failed(std::io::Error),
}

/// Frames, one after the other, while the chain holds.
struct Frames<'a> {
    file: BufReader<&'a File>,
    is_begun: bool,
    /// Bytes of frames that were read.
    at: u64,
    check: [u8; CHECK_BYTES],
    body: Vec<u8>,
}

impl Frames<'_> {
    fn read(&mut self) -> Result<Option<Frame<'_>>, End> {
        if !self.is_begun {
            use std::io::Seek;
            self.file.rewind().map_err(End::Failed)?;
            self.is_begun = true;
        }
        let mut head = [0; HEAD_BYTES];
        match read_whole(&mut self.file, &mut head)? {
            0 => return Ok(None),
            HEAD_BYTES => {}
            _ => return Err(End::Torn),
        }
        let (length, check) = head.split_first_chunk::<4>().expect("it is longer");
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(End::Altered);
        }
        self.body.clear();
        let mut body = (&mut self.file).take(length as u64);
        body.read_to_end(&mut self.body).map_err(End::Failed)?;
        if self.body.len() < length {
            return Err(End::Torn);
        }
        self.check = chained(&self.check, &self.body);
        if self.check[..] != *check {
            return Err(End::Altered);
        }
        self.at += (HEAD_BYTES + length) as u64;
        frame(&self.body).map(Some).ok_or(End::Altered)
    }
}

/// Fills the buffer, as far as the file goes.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, End> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(End::Failed(error)),
        }
    }
    Ok(filled)
}

fn frame(body: &[u8]) -> Option<Frame<'_>> {
    let (kind, mut rest) = body.split_first()?;
    match *kind {
        BEGUN => Some(Frame::Begun(rest)),
        FACTS => Some(Frame::Facts(None, rest)),
        PLACE => {
            let length = usize::try_from(facts::take(&mut rest).ok()?).ok()?;
            let (place, facts) = rest.split_at_checked(length)?;
            Some(Frame::Facts(Some(Reached::from_bytes(place)?), facts))
        }
        _ => None,
    }
}

impl Reached {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Spool { position } => {
                bytes.push(b'S');
                bytes.extend(position.to_le_bytes());
            }
            Self::Log { frontier, root } => {
                bytes.push(b'L');
                bytes.extend(frontier.size().to_le_bytes());
                bytes.extend(root.as_bytes());
                let subtrees = frontier.subtrees().iter();
                subtrees.for_each(|subtree| bytes.extend(subtree.as_bytes()));
            }
        }
        bytes
    }

    /// A place in a log is one only if its root follows from its tree.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, bytes) = bytes.split_first()?;
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        match *kind {
            b'S' if rest.is_empty() => Some(Self::Spool {
                position: i64::from_le_bytes(*number),
            }),
            b'L' => {
                let (hashes, rest) = rest.as_chunks::<32>();
                let (root, subtrees) = hashes.split_first().filter(|_| rest.is_empty())?;
                let subtrees = subtrees.iter().copied().map(Digest::from_bytes).collect();
                let frontier = Frontier::from_subtrees(u64::from_le_bytes(*number), subtrees)?;
                let root = Digest::from_bytes(*root);
                (frontier.root() == root).then_some(Self::Log { frontier, root })
            }
            _ => None,
        }
    }
}

/// How many records the body of a frame of the history's journal holds; none if it cannot be read.
#[must_use]
pub fn journaled_records(body: &[u8]) -> Option<u64> {
    let Frame::Facts(_, facts) = frame(body)? else {
        return None;
    };
    let mut count = 0;
    let each = |fact: Fact<'_>| count += u64::from(matches!(fact, Fact::Record(..)));
    Reader::default().read(facts, each).ok()?;
    Some(count)
}

#[cfg(test)]
mod tests;
