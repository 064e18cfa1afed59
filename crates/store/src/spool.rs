//! The spool: one signer's durable outbox, and the ledger of the numbers it has handed out.
//!
//! A signer fixes a number for every inference *before* it knows how the inference will end,
//! and later signs one record under that number. Both facts have to survive a power cut, and
//! neither may cost the caller a disk write. So:
//!
//! - **Numbers are leased in blocks.** [`Spool::lease`] makes a block of consecutive numbers of
//!   one stream durable, together with a 32-byte secret chosen by the caller; only then may a
//!   number of the block be used. Whatever is derived from (secret, stream, number) is thereby
//!   fixed durably as well, without a write per call. The spool derives nothing itself.
//! - **Records are appended in groups.** One writer thread owns the database and commits what
//!   has gathered within [`Limits::linger`] in a single transaction (WAL, `synchronous=FULL`).
//!   An append that was acknowledged is on disk.
//! - **Every number is settled exactly once**: by the record appended under it, or by a row that
//!   lists it in [`NewRow::settles`] (a `void`). A second use is refused with
//!   [`SpoolError::NumberUsed`]. Each block carries a bitmap of its settled numbers, written in
//!   the same transaction as the rows that settle them; a unique index on (stream, number)
//!   stands behind it.
//! - **After a crash nothing is guessed.** [`Spool::open`] reports every number that was leased,
//!   not settled, and may have been handed out ([`Opened::lost`]). Numbers that certainly never
//!   were come back as [`Opened::resumed`], and their blocks continue: after an orderly
//!   [`Spool::close`], and after a killed process on a machine that stayed up, because
//!   [`Spool::issue`] is called before a number leaves and outlives the process. After a power
//!   cut that cannot be known, and all of them are lost.
//!
//! Rows go out in order of insertion ([`Spool::pending`]) and come back with their place in the
//! log ([`Spool::settle`]). The spool is bounded by count and bytes of what is pending; beyond
//! that an append answers [`SpoolError::Full`] at once. Rows that the log has published or refused are kept
//! for look-ups until [`Limits::published_rows`] or [`Limits::published_bytes`] is passed, the oldest going
//! first; pinned rows stay for good. Where no log will ever take rows ([`Limits::lets_go`]), the oldest
//! pending ones go instead, as far as [`Spool::let_go_through`] allows.
//!
//! The spool stores bytes and plain rows. It knows no record format, signs and verifies nothing,
//! opens no sockets, and reads no clock (times are arguments). What it refuses: a directory of
//! another version, one that is not writable, and one that another process holds
//! ([`dir::Claim`]).

mod blocks;
pub mod dir;
mod marks;
mod queue;
mod reader;
mod recent;
mod schema;
mod tables;
mod types;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

pub use reader::{Place, Row, RowState};
pub use types::{
    BLOCK_NUMBERS_MAX, Block, Counts, ENVELOPE_BYTES_MAX, LINGER, Limits, MARKS_FILE, NewRow,
    PENDING_BYTES_MAX, PENDING_ROWS_MAX, PRIVATE_BYTES_MAX, PUBLISHED_BYTES_MAX,
    PUBLISHED_ROWS_MAX, Pending, Range, SPOOL_FILE, STREAM_NAME_BYTES_MAX, Settled, SpoolError,
    StreamId,
};

/// What [`Spool::open`] found.
pub struct Opened {
    /// The spool, ready.
    pub spool: Spool,
    /// Numbers that were leased, neither recorded nor voided, and perhaps handed out, as runs.
    pub lost: Vec<Block>,
    /// Numbers that were leased and certainly never handed out, as tails of their blocks.
    pub resumed: Vec<Block>,
}

/// Called by the writer thread once the outcome is durable (or has failed). Must not block.
pub type Done<T> = Box<dyn FnOnce(Result<T, SpoolError>) + Send>;

/// Handle to an open spool. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    limits: Limits,
    queue: Arc<queue::Queue>,
    shared: Arc<Shared>,
    reader: Mutex<reader::Reader>,
    marks: Arc<marks::Marks>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Goes last, after the writer.
    claim: Mutex<Option<dir::Claim>>,
}

/// What handles and writer both see.
#[derive(Default)]
struct Shared {
    pending_rows: AtomicU64,
    pending_bytes: AtomicU64,
    published_rows: AtomicU64,
    published_bytes: AtomicU64,
    refused_rows: AtomicU64,
    refused_bytes: AtomicU64,
    let_go_rows: AtomicU64,
    /// Rows up to this position may be let go of.
    free_through: AtomicI64,
    /// The highest position of a row that is kept no longer.
    gone_through: AtomicI64,
    commits: AtomicU64,
    committed_rows: AtomicU64,
    /// A transaction failed, and none has written anything since: appends are likely to fail as well.
    ailing: AtomicBool,
    /// Rows that are committed and not indexed yet.
    recent: Mutex<recent::Recent>,
}

impl Spool {
    /// Opens or creates `spool.sqlite` in a claimed directory, and accounts for its numbers.
    /// The claim lasts as long as the spool.
    pub fn open_in(claim: dir::Claim, limits: Limits) -> Result<Opened, SpoolError> {
        let path = claim.path().join(SPOOL_FILE);
        Spool::open_file(&path, Some(claim), limits)
    }

    /// Opens or creates the database at `path` (mode 0600). The caller sees to it that nobody
    /// else does: two spools on one file would each refuse the other's numbers at best.
    pub fn open(path: &Path, limits: Limits) -> Result<Opened, SpoolError> {
        Spool::open_file(path, None, limits)
    }

    fn open_file(
        path: &Path,
        claim: Option<dir::Claim>,
        limits: Limits,
    ) -> Result<Opened, SpoolError> {
        let mut connection = schema::open(path)?;
        let marks = Arc::new(marks::Marks::open(&path.with_file_name(MARKS_FILE))?);
        let found = schema::take_stock(&mut connection, &marks)?;
        let shared = Arc::new(Shared {
            recent: Mutex::new(found.recent),
            ..Shared::default()
        });
        shared
            .pending_rows
            .store(found.counts.pending_rows, Ordering::Relaxed);
        shared
            .pending_bytes
            .store(found.counts.pending_bytes, Ordering::Relaxed);
        shared
            .published_rows
            .store(found.counts.published_rows, Ordering::Relaxed);
        shared
            .published_bytes
            .store(found.counts.published_bytes, Ordering::Relaxed);
        shared
            .refused_rows
            .store(found.counts.refused_rows, Ordering::Relaxed);
        shared
            .refused_bytes
            .store(found.counts.refused_bytes, Ordering::Relaxed);
        shared
            .let_go_rows
            .store(found.counts.let_go_rows, Ordering::Relaxed);
        shared
            .gone_through
            .store(found.gone_through, Ordering::Relaxed);

        let reader = reader::Reader::open(path)?;
        let queue = Arc::new(queue::Queue::default());
        let inbox = queue.clone();
        let writer = writer::Writer::new(
            connection,
            (found.blocks, found.resumed.as_slice()),
            limits.clone(),
            shared.clone(),
            marks.clone(),
        );
        let thread = std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || writer.run(&inbox))
            .map_err(|error| SpoolError::Database(format!("no thread for the writer: {error}")))?;
        let inner = Inner {
            path: path.to_owned(),
            limits,
            queue,
            shared,
            reader: Mutex::new(reader),
            marks,
            thread: Mutex::new(Some(thread)),
            claim: Mutex::new(claim),
        };
        Ok(Opened {
            spool: Spool {
                inner: Arc::new(inner),
            },
            lost: found.lost,
            resumed: found.resumed,
        })
    }

    /// Queues a row. `done` learns its position when it is durable, or why it never will be. Positions are
    /// told in their order.
    ///
    /// Answers at once. `Err` means the row was not queued and `done` will not be called;
    /// [`SpoolError::Full`] is the one to expect.
    pub fn append(&self, row: NewRow, done: Done<i64>) -> Result<(), SpoolError> {
        check_size("the envelope", row.envelope.len(), ENVELOPE_BYTES_MAX)?;
        check_size("the private part", row.private.len(), PRIVATE_BYTES_MAX)?;
        self.reserve(row.bytes(), row.urgent)?;
        let bytes = row.bytes();
        self.send(writer::Op::Append { row, done })
            .inspect_err(|_| self.inner.shared.release(1, bytes))
    }

    /// Queues a lease of `count` numbers, following the last one of the stream. `done` gets the
    /// block once it is durable.
    pub fn lease(
        &self,
        stream: &str,
        count: u32,
        secret: [u8; 32],
        done: Done<Block>,
    ) -> Result<(), SpoolError> {
        check_size("the stream's name", stream.len(), STREAM_NAME_BYTES_MAX)?;
        check_size("the block", count as usize, BLOCK_NUMBERS_MAX as usize)?;
        self.send(writer::Op::Lease {
            stream: stream.to_owned(),
            count: count.max(1),
            secret,
            done,
        })
    }

    /// Notes that this number, and every lower one of the stream, is handed out. To be called
    /// before anybody outside can learn of it. One small write to a file, no disk access.
    pub fn issue(&self, stream: StreamId, seq: u64) -> Result<(), SpoolError> {
        self.inner.marks.set(stream, seq + 1)
    }

    /// False after a failed commit, until one writes something: appends are likely to fail as well. The
    /// writer tries every second.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !self.inner.shared.ailing.load(Ordering::Relaxed)
    }

    /// True if an append of `bytes` would be taken now.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        let shared = &self.inner.shared;
        let (rows, most_bytes) = self.inner.limits.refuse_beyond();
        shared.pending_rows.load(Ordering::Relaxed) < rows
            && shared.pending_bytes.load(Ordering::Relaxed) + bytes <= most_bytes
    }

    /// Nobody needs the rows up to this position any more: where no log will take them
    /// ([`Limits::lets_go`]), the oldest go when there are too many. Before it is called none do.
    pub fn let_go_through(&self, position: i64) {
        let free = &self.inner.shared.free_through;
        free.fetch_max(position, Ordering::Relaxed);
    }

    /// The highest position of a row that is kept no longer; 0 if all are.
    #[must_use]
    pub fn gone_through(&self) -> i64 {
        self.inner.shared.gone_through.load(Ordering::Relaxed)
    }

    /// The lowest number of each stream, by its name, among the rows after a position.
    pub fn first_numbers(&self, after: i64) -> Result<Vec<(String, u64)>, SpoolError> {
        self.reader(|reader| reader.first_numbers(after))
    }

    /// Up to `rows` pending rows after position `after`, in order, together at most `bytes`
    /// (but at least one). Only what is durable is returned.
    pub fn pending(
        &self,
        after: i64,
        rows: usize,
        bytes: usize,
    ) -> Result<Vec<Pending>, SpoolError> {
        self.reader(|reader| reader.pending(after, rows, bytes))
    }

    /// When the oldest pending row was appended, Unix ms.
    pub fn oldest_pending_ms(&self) -> Result<Option<u64>, SpoolError> {
        self.reader(reader::Reader::oldest_pending_ms)
    }

    /// Stores the log's answers, all under one checkpoint, and waits until they are durable.
    /// Answers for rows that are settled already are ignored.
    pub fn settle(&self, checkpoint: &[u8], answers: Vec<Settled>) -> Result<(), SpoolError> {
        let checkpoint = checkpoint.to_vec();
        self.wait(|done| writer::Op::Settle {
            checkpoint,
            answers,
            done,
        })
    }

    /// The row of this record id, if it is kept.
    pub fn by_id(&self, id: &[u8; 32]) -> Result<Option<Row>, SpoolError> {
        // Memory first: a row moves from there to the tables, never back.
        let recent = lock(&self.inner.shared.recent).by_id(recent::key(id));
        self.reader(|reader| reader.by_id(id, recent))
    }

    /// The rows of this call, in order of insertion. Rows that are not durable yet are missing;
    /// [`Spool::flush`] waits for them.
    pub fn by_call(&self, call: &[u8; 16]) -> Result<Vec<Row>, SpoolError> {
        let recent = lock(&self.inner.shared.recent).by_call(recent::key(call));
        self.reader(|reader| reader.by_call(call, recent))
    }

    /// All pinned rows, in order of insertion.
    pub fn pinned(&self) -> Result<Vec<Row>, SpoolError> {
        self.reader(reader::Reader::pinned)
    }

    /// The rows after position `after`, in order, at most `limit`: everything that is kept.
    pub fn rows(&self, after: i64, limit: usize) -> Result<Vec<Row>, SpoolError> {
        self.reader(|reader| reader.rows(after, limit))
    }

    /// The secret of the block that holds this number, while one of its rows is kept.
    pub fn secret_of(&self, stream: StreamId, seq: u64) -> Result<Option<[u8; 32]>, SpoolError> {
        self.reader(|reader| reader.secret_of(stream, seq))
    }

    /// The highest number leased so far, per stream name.
    pub fn high_marks(&self) -> Result<Vec<(String, u64)>, SpoolError> {
        self.reader(reader::Reader::high_marks)
    }

    /// Waits until everything queued before is durable or has failed.
    pub fn flush(&self) -> Result<(), SpoolError> {
        self.wait(|done| writer::Op::Flush { done })
    }

    /// Commits what is queued, notes the numbers that were never handed out so that the next
    /// opening continues with them, stops the writer and releases the directory. Each range must
    /// be the untouched tail of its block.
    pub fn close(&self, unused: Vec<Range>) -> Result<(), SpoolError> {
        self.wait(|done| writer::Op::Close { unused, done })?;
        self.inner.join();
        lock(&self.inner.claim).take();
        Ok(())
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.shared.counts()
    }

    /// The bounds it was opened with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn reserve(&self, bytes: u64, urgent: bool) -> Result<(), SpoolError> {
        let shared = &self.inner.shared;
        let rows = shared.pending_rows.fetch_add(1, Ordering::AcqRel) + 1;
        let total = shared.pending_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let (most_rows, most_bytes) = self.inner.limits.refuse_beyond();
        if !urgent && (rows > most_rows || total > most_bytes) {
            shared.release(1, bytes);
            return Err(SpoolError::Full {
                rows: rows - 1,
                bytes: total - bytes,
            });
        }
        Ok(())
    }

    fn send(&self, op: writer::Op) -> Result<(), SpoolError> {
        self.inner.queue.push(op)
    }

    fn wait<T: Send + 'static>(
        &self,
        op: impl FnOnce(Done<T>) -> writer::Op,
    ) -> Result<T, SpoolError> {
        let (answer, outcome) = mpsc::sync_channel(1);
        self.send(op(Box::new(move |result| {
            // Nobody waits any more if this fails.
            let _ = answer.send(result);
        })))?;
        outcome.recv().unwrap_or(Err(SpoolError::Closed))
    }

    fn reader<T>(
        &self,
        read: impl FnOnce(&reader::Reader) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        read(&lock(&self.inner.reader))
    }
}

impl Drop for Inner {
    /// Waits for the writer, so that nobody else opens the file while it still writes.
    fn drop(&mut self) {
        // Refused if the writer has stopped already.
        let _ = self.queue.push(writer::Op::Stop);
        self.join();
    }
}

impl Inner {
    fn join(&self) {
        let thread = lock(&self.thread).take();
        // The writer itself may drop the last handle, in a callback.
        if let Some(thread) = thread.filter(|it| it.thread().id() != std::thread::current().id()) {
            // A panic there was already answered with `Closed`.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn release(&self, rows: u64, bytes: u64) {
        self.pending_rows.fetch_sub(rows, Ordering::AcqRel);
        self.pending_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn counts(&self) -> Counts {
        Counts {
            pending_rows: self.pending_rows.load(Ordering::Relaxed),
            pending_bytes: self.pending_bytes.load(Ordering::Relaxed),
            published_rows: self.published_rows.load(Ordering::Relaxed),
            published_bytes: self.published_bytes.load(Ordering::Relaxed),
            refused_rows: self.refused_rows.load(Ordering::Relaxed),
            refused_bytes: self.refused_bytes.load(Ordering::Relaxed),
            let_go_rows: self.let_go_rows.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            committed_rows: self.committed_rows.load(Ordering::Relaxed),
        }
    }
}

fn check_size(what: &'static str, found: usize, limit: usize) -> Result<(), SpoolError> {
    if found > limit {
        Err(SpoolError::TooLarge { what, found, limit })
    } else {
        Ok(())
    }
}

/// A poisoned lock only says that another thread panicked; the data behind it is a connection
/// or a handle, whole either way.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
