//! The head in SQLite.
//!
//! The database runs with `synchronous=FULL`: a swap that returned survives loss of power. It uses
//! a write-ahead log, so that others can read meanwhile.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::{Error, ErrorKind, Heads, Result};

#[cfg(test)]
mod tests;

/// How long to wait for another process that holds the database.
const BUSY_MS: u64 = 2_000;
/// Schema of the database; a file with another number is refused.
const SCHEMA_VERSION: i64 = 1;

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
        Ok(Self::of(open(path, schema)?))
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

/// Opens a database with our schema, or makes it; refuses any other.
fn open(path: &Path, schema: &str) -> Result<Connection> {
    let unavailable = |error| Error::unavailable(format_args!("opening {}", path.display()), error);
    let mut connection = Connection::open(path).map_err(unavailable)?;
    let new = check_schema(&connection, path)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(unavailable)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
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
