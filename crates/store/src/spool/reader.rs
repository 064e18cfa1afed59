//! Look-ups beside the writer, on a read-only connection. They see what is committed.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow};

use super::recent::key;
use super::schema::{self, signed, unsigned};
use super::{Pending, SpoolError, StreamId};

/// A stored row, with what the log said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Position in the spool; grows with every append.
    pub n: i64,
    /// Record id.
    pub id: [u8; 32],
    /// The number it is filed under.
    pub number: Option<(StreamId, u64)>,
    /// The call it belongs to.
    pub call: Option<[u8; 16]>,
    /// What goes or went to the log.
    pub envelope: Vec<u8>,
    /// What stays here.
    pub private: Vec<u8>,
    /// Time of appending, Unix ms.
    pub at_ms: u64,
    /// Where it stands.
    pub state: RowState,
}

/// Where a row stands on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// Durable here, not in the log yet.
    Pending,
    /// In the log.
    Published(Place),
    /// The log will not take it.
    Refused {
        /// What the log said.
        reason: String,
    },
}

/// A row's place in the log, with the evidence for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index of the leaf.
    pub index: u64,
    /// The leaf, if it is not the one that the envelope itself gives.
    pub leaf: Option<Vec<u8>>,
    /// Inclusion proof, concatenated hashes, leaf sibling first.
    pub proof: Vec<u8>,
    /// The checkpoint that the proof leads to, a signed note.
    pub checkpoint: Vec<u8>,
}

const ROW: &str = "SELECT r.n, r.id, r.stream, r.seq, r.call, r.envelope, r.private, r.at_ms,
     s.n, s.refused, s.log_index, s.leaf, s.proof, c.note
   FROM record r LEFT JOIN settled s ON s.n = r.n LEFT JOIN checkpoint c ON c.id = s.checkpoint";

pub(super) struct Reader {
    connection: Connection,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, SpoolError> {
        Ok(Reader {
            connection: schema::open_reader(path)?,
        })
    }

    pub(super) fn pending(
        &self,
        after: i64,
        rows: usize,
        bytes: usize,
    ) -> Result<Vec<Pending>, SpoolError> {
        let mut select = self.connection.prepare_cached(
            "SELECT o.n, r.id, r.envelope, r.pinned FROM outbox o JOIN record r ON r.n = o.n
             WHERE o.n > ?1 ORDER BY o.n",
        )?;
        let mut cursor = select.query([after])?;
        let mut batch = Vec::new();
        let mut total = 0;
        while batch.len() < rows
            && let Some(row) = cursor.next()?
        {
            let envelope: Vec<u8> = row.get(2)?;
            total += envelope.len();
            if total > bytes && !batch.is_empty() {
                break;
            }
            batch.push(Pending {
                n: row.get(0)?,
                id: row.get(1)?,
                envelope,
                pinned: row.get(3)?,
            });
        }
        Ok(batch)
    }

    pub(super) fn oldest_pending_ms(&self) -> Result<Option<u64>, SpoolError> {
        let found: Option<i64> = self
            .connection
            .prepare_cached("SELECT at_ms FROM outbox ORDER BY n LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(found.map(unsigned))
    }

    /// `recent` are positions that the tables may not know of yet.
    pub(super) fn by_id(&self, id: &[u8; 32], recent: Vec<i64>) -> Result<Option<Row>, SpoolError> {
        let sql = "SELECT n FROM by_id WHERE key = ?1";
        let found = self.at(self.positions(sql, key(id), recent)?, |row| &row.id == id)?;
        Ok(found.into_iter().next())
    }

    /// `recent` are positions that the tables may not know of yet.
    pub(super) fn by_call(
        &self,
        call: &[u8; 16],
        recent: Vec<i64>,
    ) -> Result<Vec<Row>, SpoolError> {
        let sql = "SELECT n FROM by_call WHERE key = ?1";
        self.at(self.positions(sql, key(call), recent)?, |row| {
            row.call.as_ref() == Some(call)
        })
    }

    fn positions(
        &self,
        sql: &str,
        key: i64,
        recent: Vec<i64>,
    ) -> Result<BTreeSet<i64>, SpoolError> {
        let mut positions: BTreeSet<i64> = recent.into_iter().collect();
        let mut select = self.connection.prepare_cached(sql)?;
        for n in select.query_map([key], |row| row.get(0))? {
            positions.insert(n?);
        }
        Ok(positions)
    }

    /// The rows at these positions that are wanted; an index entry may have outlived its row.
    fn at(
        &self,
        positions: BTreeSet<i64>,
        wanted: impl Fn(&Row) -> bool,
    ) -> Result<Vec<Row>, SpoolError> {
        let mut select = self
            .connection
            .prepare_cached(&format!("{ROW} WHERE r.n = ?1"))?;
        let mut rows = Vec::new();
        for n in positions {
            rows.extend(select.query_row([n], read_row).optional()?.filter(&wanted));
        }
        Ok(rows)
    }

    pub(super) fn pinned(&self) -> Result<Vec<Row>, SpoolError> {
        let mut select = self
            .connection
            .prepare_cached(&format!("{ROW} WHERE r.pinned = 1 ORDER BY r.n"))?;
        let rows = select.query_map([], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn rows(&self, after: i64, limit: usize) -> Result<Vec<Row>, SpoolError> {
        let mut select = self
            .connection
            .prepare_cached(&format!("{ROW} WHERE r.n > ?1 ORDER BY r.n LIMIT ?2"))?;
        let rows = select.query_map([after, i64::try_from(limit).unwrap_or(i64::MAX)], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn secret_of(
        &self,
        stream: StreamId,
        seq: u64,
    ) -> Result<Option<[u8; 32]>, SpoolError> {
        let mut select = self.connection.prepare_cached(
            "SELECT secret, first + count FROM lease
             WHERE stream = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
        )?;
        let found: Option<([u8; 32], i64)> = select
            .query_row([stream.0, signed(seq)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found
            .filter(|&(_, end)| unsigned(end) > seq)
            .map(|(secret, _)| secret))
    }

    pub(super) fn first_numbers(&self, after: i64) -> Result<Vec<(String, u64)>, SpoolError> {
        let mut select = self.connection.prepare_cached(
            "SELECT s.name, min(r.seq) FROM record r JOIN stream s ON s.id = r.stream
             WHERE r.seq IS NOT NULL AND r.n > ?1 GROUP BY r.stream",
        )?;
        let rows = select.query_map([after], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn high_marks(&self) -> Result<Vec<(String, u64)>, SpoolError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT name, next - 1 FROM stream ORDER BY id")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn read_row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let stream: Option<i64> = row.get(2)?;
    let seq: Option<i64> = row.get(3)?;
    let settled: Option<i64> = row.get(8)?;
    let refused: Option<String> = row.get(9)?;
    let state = match (settled, refused) {
        (None, _) => RowState::Pending,
        (Some(_), Some(reason)) => RowState::Refused { reason },
        (Some(_), None) => RowState::Published(Place {
            index: unsigned(row.get(10)?),
            leaf: row.get(11)?,
            proof: row.get(12)?,
            checkpoint: row.get(13)?,
        }),
    };
    Ok(Row {
        n: row.get(0)?,
        id: row.get(1)?,
        number: stream
            .zip(seq)
            .map(|(stream, seq)| (StreamId(stream), unsigned(seq))),
        call: row.get(4)?,
        envelope: row.get(5)?,
        private: row.get(6)?,
        at_ms: unsigned(row.get(7)?),
        state,
    })
}
