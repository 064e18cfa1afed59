//! The spool's tables, and what they hold at opening.
//!
//! | table | row |
//! |---|---|
//! | `stream` | a stream's name and the next number to lease |
//! | `lease` | one block: numbers, secret, bitmap of settled numbers, `unused_from` after an orderly close, `closed_at` (position of the newest row when its last number was settled) |
//! | `record` | one appended row |
//! | `by_id`, `by_call` | indexes of `record`, filled in bulk (see `recent`); entries may outlive their rows for a while |
//! | `outbox` | position and size of a row that the log has not settled |
//! | `settled` | the log's answer for a row |
//! | `checkpoint` | checkpoints that `settled` rows refer to, with a count of them |
//! | `tally` | running sums: rows and bytes published and refused, rows let go of; the position through which rows are indexed, and the highest of a row that is gone |
//!
//! A settled row is one `DELETE` and one `INSERT` of small rows at the ends of their tables;
//! the envelope is written once.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::blocks::{Blocks, OpenBlock, bitmap_bytes};
use super::marks::Marks;
use super::recent::Recent;
use super::{Block, Counts, Range, SpoolError, StreamId};

/// `PRAGMA application_id`: "LRsp".
const APPLICATION_ID: i32 = 0x4c52_7370;
/// `PRAGMA user_version`. Version 2 has the same tables; programs that write it read rows in JSON only.
const SCHEMA_VERSION: i32 = 3;
/// Page cache of the connection that writes, KiB. The indexes of a full spool do not fit either way;
/// the ends of the tables do.
const CACHE_KIB: i32 = 1024;
/// The same of the one that reads: what it looks up was written a moment ago, or is read once.
const READER_CACHE_KIB: i32 = 512;
/// Pages in the write-ahead log before it is folded back into the database.
const WAL_PAGES: i32 = 2000;
/// How long to wait for another connection's lock. Nobody else should hold one; a person with the
/// `sqlite3` command might.
const BUSY: Duration = Duration::from_secs(1);

const TABLES: &str = "
CREATE TABLE stream (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  next INTEGER NOT NULL
) STRICT;
CREATE TABLE lease (
  id INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL REFERENCES stream(id),
  first INTEGER NOT NULL,
  count INTEGER NOT NULL,
  secret BLOB NOT NULL,
  bits BLOB NOT NULL,
  unused_from INTEGER,
  closed_at INTEGER,
  UNIQUE (stream, first)
) STRICT;
CREATE INDEX lease_open ON lease(id) WHERE closed_at IS NULL;
CREATE INDEX lease_closed ON lease(closed_at) WHERE closed_at IS NOT NULL;
CREATE TABLE record (
  n INTEGER PRIMARY KEY AUTOINCREMENT,
  id BLOB NOT NULL,
  stream INTEGER,
  seq INTEGER,
  call BLOB,
  envelope BLOB NOT NULL,
  private BLOB NOT NULL,
  at_ms INTEGER NOT NULL,
  pinned INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX record_number ON record(stream, seq) WHERE seq IS NOT NULL;
CREATE TABLE by_id (key INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (key, n)) STRICT, WITHOUT ROWID;
CREATE TABLE by_call (key INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (key, n)) STRICT, WITHOUT ROWID;
CREATE INDEX record_pinned ON record(n) WHERE pinned = 1;
CREATE TABLE outbox (
  n INTEGER PRIMARY KEY,
  bytes INTEGER NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE checkpoint (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  note BLOB NOT NULL,
  refs INTEGER NOT NULL
) STRICT;
CREATE INDEX checkpoint_idle ON checkpoint(id) WHERE refs = 0;
CREATE TABLE settled (
  n INTEGER PRIMARY KEY,
  bytes INTEGER NOT NULL,
  refused TEXT,
  log_index INTEGER,
  leaf BLOB,
  proof BLOB,
  checkpoint INTEGER
) STRICT;
CREATE TABLE tally (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  published_rows INTEGER NOT NULL,
  published_bytes INTEGER NOT NULL,
  refused_rows INTEGER NOT NULL,
  indexed INTEGER NOT NULL,
  let_go_rows INTEGER NOT NULL DEFAULT 0,
  gone_through INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO tally VALUES (1, 0, 0, 0, 0, 0, 0);
";

/// What version 1 lacks. What went before lies in front of what is there.
const SINCE_1: &str = "
ALTER TABLE tally ADD COLUMN let_go_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tally ADD COLUMN gone_through INTEGER NOT NULL DEFAULT 0;
UPDATE tally SET gone_through = coalesce(
  (SELECT min(n) - 1 FROM record WHERE pinned = 0), 0);
";

/// Opens the database for writing; creates it with mode 0600 if there is none.
pub(super) fn open(path: &Path) -> Result<Connection, SpoolError> {
    create_private(path)?;
    let connection = Connection::open_with_flags(path, flags(false))
        .map_err(|error| unusable(path, &format!("cannot be opened: {error}")))?;
    connection.busy_timeout(BUSY)?;
    let application: i32 = pragma(&connection, path, "application_id")?;
    let version: i32 = pragma(&connection, path, "user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => create(&connection)?,
        (APPLICATION_ID, SCHEMA_VERSION, _) => {}
        (APPLICATION_ID, 1 | 2, _) => {
            let lacks = if version == 1 { SINCE_1 } else { "" };
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE;\n{lacks}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
            ))?;
        }
        (APPLICATION_ID, other, _) => {
            return Err(unusable(
                path,
                &format!(
                    "has schema version {other}, this program reads version {SCHEMA_VERSION}; use the \
                 program that made it, or another directory"
                ),
            ));
        }
        _ => {
            return Err(unusable(
                path,
                "is a SQLite database, but not a spool; use another directory",
            ));
        }
    }
    tune(&connection)?;
    Ok(connection)
}

/// Opens the database for reading, beside the writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, SpoolError> {
    let connection = Connection::open_with_flags(path, flags(true))?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    plan_once(&connection)?;
    Ok(connection)
}

/// Statements are planned without regard to what is bound to them; otherwise SQLite plans those with a
/// range or a limit again each time.
fn plan_once(connection: &Connection) -> Result<(), SpoolError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn flags(read_only: bool) -> OpenFlags {
    let mode = if read_only {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    mode | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn create(connection: &Connection) -> Result<(), SpoolError> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;\n{TABLES}\nPRAGMA application_id = {APPLICATION_ID};\n\
         PRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
    ))?;
    Ok(())
}

fn tune(connection: &Connection) -> Result<(), SpoolError> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(SpoolError::Database(format!(
            "the write-ahead log is not available here (journal mode {mode}); a network file \
             system cannot hold a spool"
        )));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    plan_once(connection)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// SQLite would create the file readable by everybody; the -wal and -shm files take its mode.
fn create_private(path: &Path) -> Result<(), SpoolError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(unusable(path, &format!("cannot be created: {error}"))),
    }
}

fn pragma(connection: &Connection, path: &Path, name: &str) -> Result<i32, SpoolError> {
    connection
        .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        .map_err(|error| unusable(path, &format!("is not a spool database: {error}")))
}

fn unusable(path: &Path, reason: &str) -> SpoolError {
    SpoolError::Unusable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// What the tables held at opening.
pub(super) struct Stock {
    pub(super) counts: Counts,
    pub(super) gone_through: i64,
    pub(super) blocks: Blocks,
    pub(super) lost: Vec<Block>,
    pub(super) resumed: Vec<Block>,
    pub(super) recent: Recent,
}

/// Reads the open blocks and the sums, and tells what is lost from what was never handed out.
/// What an orderly close had noted moves into the marks: from here on they count.
pub(super) fn take_stock(connection: &mut Connection, marks: &Marks) -> Result<Stock, SpoolError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let counts = sums(&transaction)?;
    let gone = "SELECT gone_through FROM tally";
    let mut stock = Stock {
        counts,
        gone_through: transaction.query_row(gone, [], |row| row.get(0))?,
        blocks: Blocks::default(),
        lost: vec![],
        resumed: vec![],
        recent: recent(&transaction)?,
    };
    {
        let mut select = transaction.prepare(
            "SELECT l.id, l.stream, s.name, l.first, l.count, l.secret, l.bits, l.unused_from
             FROM lease l JOIN stream s ON s.id = l.stream
             WHERE l.closed_at IS NULL ORDER BY l.stream, l.first",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let stream = StreamId(row.get(1)?);
            let stream_name: String = row.get(2)?;
            let range = Range {
                stream,
                first: unsigned(row.get(3)?),
                count: row.get(4)?,
            };
            let secret: [u8; 32] = row.get(5)?;
            let bits: Vec<u8> = row.get(6)?;
            if bits.len() != bitmap_bytes(range.count) {
                return Err(SpoolError::Database(format!(
                    "lease {} is damaged",
                    range.first
                )));
            }
            let unused_from: Option<i64> = row.get(7)?;
            let block = OpenBlock::new(row.get(0)?, range, bits);
            let end = range.first + u64::from(range.count);
            let marked = marks.next(stream).map(|next| next.max(block.used_below()));
            let unused_from = unused_from.map(unsigned).or(marked).unwrap_or(end);
            let unused_from = unused_from.clamp(range.first, end);
            let part = |range| Block {
                range,
                stream_name: stream_name.clone(),
                secret,
            };
            stock
                .lost
                .extend(block.open_runs(unused_from).into_iter().map(part));
            if unused_from < end {
                let count = u32::try_from(end - unused_from).unwrap_or(range.count);
                stock.resumed.push(part(Range {
                    stream,
                    first: unused_from,
                    count,
                }));
            }
            stock.blocks.name(stream, &stream_name);
            stock.blocks.insert(block);
        }
    }
    transaction.execute(
        "UPDATE lease SET unused_from = NULL WHERE unused_from IS NOT NULL",
        [],
    )?;
    // Before the note goes, so that a crash in between loses nothing. Highest first, so that the
    // lowest of a stream stays.
    for block in stock.resumed.iter().rev() {
        marks.set(block.range.stream, block.range.first)?;
    }
    transaction.commit()?;
    Ok(stock)
}

/// The rows that are not indexed yet.
fn recent(connection: &Connection) -> Result<Recent, SpoolError> {
    let mut recent = Recent::default();
    let mut select = connection.prepare(
        "SELECT n, id, call FROM record WHERE n > (SELECT indexed FROM tally) ORDER BY n",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (id, call): ([u8; 32], Option<[u8; 16]>) = (row.get(1)?, row.get(2)?);
        recent.add(row.get(0)?, &id, call.as_ref());
    }
    Ok(recent)
}

fn sums(connection: &Connection) -> Result<Counts, SpoolError> {
    let (pending_rows, pending_bytes) = connection.query_row(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM outbox",
        [],
        |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))),
    )?;
    let mut counts = connection.query_row(
        "SELECT published_rows, published_bytes, refused_rows, let_go_rows FROM tally",
        params![],
        |row| {
            Ok(Counts {
                pending_rows,
                pending_bytes,
                published_rows: unsigned(row.get(0)?),
                published_bytes: unsigned(row.get(1)?),
                refused_rows: unsigned(row.get(2)?),
                let_go_rows: unsigned(row.get(3)?),
                ..Counts::default()
            })
        },
    )?;
    // They are few, as a rule none, and then nobody needs to look through all that is settled.
    if counts.refused_rows > 0 {
        let bytes = "SELECT coalesce(sum(bytes), 0) FROM settled WHERE refused IS NOT NULL";
        counts.refused_bytes = unsigned(connection.query_row(bytes, [], |row| row.get(0))?);
    }
    Ok(counts)
}

/// Writes the version that is there again: the first page of the file, whatever it holds, so that a
/// commit shows whether the disk takes anything.
pub(super) fn rewrite_version(connection: &Connection) -> Result<(), SpoolError> {
    Ok(connection.pragma_update(None, "user_version", SCHEMA_VERSION)?)
}

/// Counts and positions are stored as SQLite's signed integers and are never negative.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The reverse; numbers stay far below 2^53.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
