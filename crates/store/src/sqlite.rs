//! The head and the index of recent entries in SQLite.
//!
//! The head database runs with `synchronous=FULL`: a swap that returned survives loss of power.
//! The index runs with `synchronous=NORMAL`: it may lose its end, which is rebuilt from the log,
//! but is never inconsistent. Both use a write-ahead log, so that others can read meanwhile.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use crate::seen::{WINDOW_ENTRIES, check_first};
use crate::{Error, ErrorKind, Heads, Result, Seen};

#[cfg(test)]
mod tests;

/// How long to wait for another process that holds the database.
const BUSY_MS: u64 = 2_000;
/// Schema of both databases; a file with another number is refused.
const SCHEMA_VERSION: i64 = 1;
/// Memory for pages of the index.
const SEEN_CACHE_KIB: i64 = 64 * 1024;

/// Heads by name in one database file. Clones and named siblings share the connection.
#[derive(Debug, Clone)]
pub struct HeadDb {
    connection: Arc<Mutex<Connection>>,
    name: String,
}

/// The name of the head that [`HeadDb::open`] gives.
const DEFAULT_HEAD: &str = "log";

impl HeadDb {
    /// Opens the database, making it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the file is something else or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let schema = "CREATE TABLE head (
            name TEXT PRIMARY KEY,
            value BLOB NOT NULL
        ) STRICT, WITHOUT ROWID";
        Ok(Self::of(open(path, "FULL", schema)?))
    }

    /// Opens an existing database for reading only.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the file is something else or of another version.
    pub fn open_read(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| {
            Error::unavailable(format_args!("opening {}", path.display()), error)
        })?;
        check_schema(&connection, path)?;
        Ok(Self::of(connection))
    }

    /// The head of another name in the same database.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self {
            connection: self.connection.clone(),
            name: name.to_owned(),
        }
    }

    fn of(connection: Connection) -> Self {
        Self {
            connection: Arc::new(Mutex::new(connection)),
            name: DEFAULT_HEAD.to_owned(),
        }
    }

    /// A poisoned lock only says that another thread panicked; SQLite rolled its work back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heads for HeadDb {
    fn load(&self) -> Result<Option<Vec<u8>>> {
        self.lock()
            .query_row(
                "SELECT value FROM head WHERE name = ?1",
                [&self.name],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| Error::unavailable("reading the head", error))
    }

    fn swap(&self, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        let connection = self.lock();
        let changed = match old {
            Some(old) => connection.execute(
                "UPDATE head SET value = ?1 WHERE name = ?2 AND value = ?3",
                params![new, self.name, old],
            ),
            None => connection.execute(
                "INSERT INTO head (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![self.name, new],
            ),
        };
        match changed {
            Ok(1) => Ok(()),
            Ok(_) => Err(Error::new(
                ErrorKind::Conflict,
                "the head is not what it was",
            )),
            Err(error) => Err(Error::unavailable("swapping the head", error)),
        }
    }
}

/// The last [`WINDOW_ENTRIES`] ids in one database file.
#[derive(Debug)]
pub struct SeenDb {
    connection: Connection,
    window: u64,
    covered: u64,
}

impl SeenDb {
    /// Opens the database, making it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the file is something else or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with_window(path, WINDOW_ENTRIES)
    }

    /// As [`SeenDb::open`], keeping the last `window` entries.
    ///
    /// # Errors
    /// As [`SeenDb::open`].
    pub fn open_with_window(path: &Path, window: u64) -> Result<Self> {
        let schema = "CREATE TABLE seen (
            entry INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE
        ) STRICT;
        CREATE TABLE progress (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            covered INTEGER NOT NULL
        ) STRICT;
        INSERT INTO progress (one, covered) VALUES (1, 0)";
        let connection = open(path, "NORMAL", schema)?;
        connection
            .pragma_update(None, "cache_size", -SEEN_CACHE_KIB)
            .map_err(|error| Error::unavailable("opening the index", error))?;
        let covered: i64 = connection
            .query_row("SELECT covered FROM progress", [], |row| row.get(0))
            .map_err(|error| Error::unavailable("reading the index", error))?;
        let covered = u64::try_from(covered)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "the index has a negative end"))?;
        Ok(Self {
            connection,
            window,
            covered,
        })
    }

    fn write(
        &mut self,
        covered: u64,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let unavailable = |error| Error::unavailable("writing the index", error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(unavailable)?;
        change(&transaction).map_err(unavailable)?;
        transaction
            .execute("UPDATE progress SET covered = ?1", [signed(covered)?])
            .map_err(unavailable)?;
        transaction.commit().map_err(unavailable)?;
        self.covered = covered;
        Ok(())
    }
}

impl Seen for SeenDb {
    fn covered(&self) -> Result<u64> {
        Ok(self.covered)
    }

    fn find(&self, id: &[u8; 32]) -> Result<Option<u64>> {
        let entry: Option<i64> = self
            .connection
            .prepare_cached("SELECT entry FROM seen WHERE id = ?1")
            .and_then(|mut find| find.query_row([id.as_slice()], |row| row.get(0)).optional())
            .map_err(|error| Error::unavailable("reading the index", error))?;
        Ok(entry.and_then(|entry| u64::try_from(entry).ok()))
    }

    fn extend(&mut self, first: u64, ids: &[[u8; 32]]) -> Result<()> {
        check_first(self.covered, first)?;
        let covered = first + ids.len() as u64;
        let (first, kept) = (signed(first)?, signed(covered.saturating_sub(self.window))?);
        self.write(covered, |transaction| {
            transaction
                .prepare_cached("DELETE FROM seen WHERE entry < ?1")?
                .execute([kept])?;
            let mut insert = transaction
                .prepare_cached("INSERT OR REPLACE INTO seen (entry, id) VALUES (?1, ?2)")?;
            for (entry, id) in (first..).zip(ids) {
                if entry >= kept {
                    insert.execute(params![entry, id.as_slice()])?;
                }
            }
            Ok(())
        })
    }

    fn restart(&mut self, covered: u64) -> Result<()> {
        self.write(covered, |transaction| {
            transaction.execute("DELETE FROM seen", []).map(|_| ())
        })
    }

    fn window(&self) -> u64 {
        self.window
    }
}

fn signed(number: u64) -> Result<i64> {
    i64::try_from(number)
        .map_err(|_| Error::new(ErrorKind::Refused, "entry numbers stay below 2^63"))
}

/// Opens a database with our schema, or makes it; refuses any other.
fn open(path: &Path, synchronous: &str, schema: &str) -> Result<Connection> {
    let unavailable = |error| Error::unavailable(format_args!("opening {}", path.display()), error);
    let mut connection = Connection::open(path).map_err(unavailable)?;
    let new = check_schema(&connection, path)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(unavailable)?;
    connection
        .pragma_update(None, "synchronous", synchronous)
        .map_err(unavailable)?;
    if new {
        let transaction = connection.transaction().map_err(unavailable)?;
        transaction.execute_batch(schema).map_err(unavailable)?;
        transaction
            .pragma_update(None, "user_version", SCHEMA_VERSION)
            .map_err(unavailable)?;
        transaction.commit().map_err(unavailable)?;
    }
    Ok(connection)
}

/// Whether the database is still empty; refuses one with another schema than ours.
fn check_schema(connection: &Connection, path: &Path) -> Result<bool> {
    let name = path.display();
    let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => Error::new(
            ErrorKind::Refused,
            format!("{name} is not a database of ours"),
        ),
        _ => Error::unavailable(format_args!("opening {name}"), error),
    };
    connection
        .busy_timeout(Duration::from_millis(BUSY_MS))
        .map_err(refused)?;
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(refused)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(refused)?;
    let new = version == 0 && tables == 0;
    if !new && version != SCHEMA_VERSION {
        let message =
            format!("{name} has schema version {version}; this program uses {SCHEMA_VERSION}");
        return Err(Error::new(ErrorKind::Refused, message));
    }
    Ok(new)
}
