//! The writer's statements, one function each. All run inside the group's transaction.

use rusqlite::{OptionalExtension, Transaction, params};

use super::blocks::{Blocks, bitmap_bytes};
use super::recent::{Chunk, key};
use super::schema::{signed, unsigned};
use super::{Block, NewRow, Range, Settled, SpoolError, StreamId};

/// Settled rows removed in one transaction, about; also the slack above the limit, so that
/// pruning is not done row by row.
pub(super) const PRUNE_ROWS: u64 = 512;
/// Of the 256 first bytes that a key can have, how many one transaction sweeps.
const SWEEP_STEP: u8 = 4;

/// Inserts a row; gives its position. It does not wait for the log before [`await_log`].
pub(super) fn insert(transaction: &Transaction<'_>, row: &NewRow) -> Result<i64, SpoolError> {
    let (stream, seq) = row.number.unzip();
    let call = row.call.as_ref().map(<[u8; 16]>::as_slice);
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO record (id, stream, seq, call, envelope, private, at_ms, pinned)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            row.id,
            stream.map(|stream| stream.0),
            seq.map(signed),
            call,
            row.envelope,
            row.private,
            signed(row.at_ms),
            row.pinned,
        ]);
    match inserted {
        Ok(_) => {}
        Err(error) if is_constraint(&error) => return Err(number_used(row)),
        Err(error) => return Err(error.into()),
    }
    Ok(transaction.last_insert_rowid())
}

/// Puts the rows at these positions, inserted in this transaction, among those that wait for the log.
pub(super) fn await_log(
    transaction: &Transaction<'_>,
    (first, last): (i64, i64),
) -> Result<(), SpoolError> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (n, bytes, at_ms)
             SELECT n, length(envelope) + length(private), at_ms FROM record WHERE n BETWEEN ?1 AND ?2",
        )?
        .execute([first, last])?;
    Ok(())
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

/// The unique index behind the bitmaps refused the row.
fn number_used(row: &NewRow) -> SpoolError {
    let (stream, seq) = row.number.unwrap_or((StreamId(0), 0));
    SpoolError::NumberUsed {
        stream: format!("#{}", stream.0),
        seq,
    }
}

/// Refuses an id that one of the rows at these positions, or an indexed one, has.
pub(super) fn refuse_duplicate(
    transaction: &Transaction<'_>,
    id: &[u8; 32],
    mut positions: Vec<i64>,
) -> Result<(), SpoolError> {
    let mut select = transaction.prepare_cached("SELECT n FROM by_id WHERE key = ?1")?;
    for n in select.query_map([key(id)], |row| row.get(0))? {
        positions.push(n?);
    }
    for n in positions {
        let found: Option<[u8; 32]> = transaction
            .prepare_cached("SELECT id FROM record WHERE n = ?1")?
            .query_row([n], |row| row.get(0))
            .optional()?;
        if found.as_ref() == Some(id) {
            return Err(duplicate(id));
        }
    }
    Ok(())
}

pub(super) fn duplicate(id: &[u8; 32]) -> SpoolError {
    SpoolError::Duplicate {
        id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Adds entries to the indexes. After a crash some may be there already.
pub(super) fn index(transaction: &Transaction<'_>, chunk: &Chunk) -> Result<(), SpoolError> {
    for (n, sql) in [
        (
            &chunk.ids,
            "INSERT OR IGNORE INTO by_id (key, n) VALUES (?1, ?2)",
        ),
        (
            &chunk.calls,
            "INSERT OR IGNORE INTO by_call (key, n) VALUES (?1, ?2)",
        ),
    ] {
        for &(key, n) in n {
            transaction.prepare_cached(sql)?.execute([key, n])?;
        }
    }
    if let Some(through) = chunk.completes {
        transaction
            .prepare_cached("UPDATE tally SET indexed = ?1")?
            .execute([through])?;
    }
    Ok(())
}

/// Takes the next numbers of a stream; gives the block and its row.
pub(super) fn lease(
    transaction: &Transaction<'_>,
    stream: &str,
    count: u32,
    secret: [u8; 32],
) -> Result<(Block, i64), SpoolError> {
    let known: Option<(i64, i64)> = transaction
        .prepare_cached("SELECT id, next FROM stream WHERE name = ?1")?
        .query_row([stream], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (id, first) = match known {
        Some(known) => known,
        None => {
            transaction
                .prepare_cached("INSERT INTO stream (name, next) VALUES (?1, 1)")?
                .execute([stream])?;
            (transaction.last_insert_rowid(), 1)
        }
    };
    transaction
        .prepare_cached("UPDATE stream SET next = ?2 WHERE id = ?1")?
        .execute([id, first + i64::from(count)])?;
    transaction
        .prepare_cached(
            "INSERT INTO lease (stream, first, count, secret, bits) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            id,
            first,
            count,
            secret,
            vec![0u8; bitmap_bytes(count)]
        ])?;
    let range = Range {
        stream: StreamId(id),
        first: unsigned(first),
        count,
    };
    let block = Block {
        range,
        stream_name: stream.to_owned(),
        secret,
    };
    Ok((block, transaction.last_insert_rowid()))
}

/// What an operation changed in the sums.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) published_rows: i64,
    pub(super) published_bytes: i64,
    pub(super) refused_rows: i64,
    pub(super) refused_bytes: i64,
    /// The highest position of a row that went.
    pub(super) gone_through: i64,
}

/// Stores the log's answers under one checkpoint.
pub(super) fn settle(
    transaction: &Transaction<'_>,
    checkpoint: &[u8],
    answers: Vec<Settled>,
) -> Result<Sums, SpoolError> {
    transaction
        .prepare_cached("INSERT INTO checkpoint (note, refs) VALUES (?1, 0)")?
        .execute([checkpoint])?;
    let checkpoint = transaction.last_insert_rowid();
    let mut sums = Sums::default();
    for answer in answers {
        let n = match &answer {
            Settled::Published { n, .. } | Settled::Refused { n, .. } => *n,
        };
        let bytes: Option<i64> = transaction
            .prepare_cached("DELETE FROM outbox WHERE n = ?1 RETURNING bytes")?
            .query_row([n], |row| row.get(0))
            .optional()?;
        let Some(bytes) = bytes else { continue };
        sums.rows += 1;
        sums.bytes += unsigned(bytes);
        settle_one(transaction, checkpoint, bytes, answer, &mut sums)?;
    }
    transaction
        .prepare_cached("UPDATE checkpoint SET refs = ?2 WHERE id = ?1")?
        .execute([checkpoint, sums.published_rows])?;
    transaction
        .prepare_cached("DELETE FROM checkpoint WHERE id = ?1 AND refs = 0")?
        .execute([checkpoint])?;
    tally(
        transaction,
        sums.published_rows,
        sums.published_bytes,
        sums.refused_rows,
    )?;
    Ok(sums)
}

fn settle_one(
    transaction: &Transaction<'_>,
    checkpoint: i64,
    bytes: i64,
    answer: Settled,
    sums: &mut Sums,
) -> Result<(), SpoolError> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO settled (n, bytes, refused, log_index, leaf, proof, checkpoint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    match answer {
        Settled::Published {
            n,
            index,
            leaf,
            proof,
        } => {
            let refused = None::<String>;
            insert.execute(params![
                n,
                bytes,
                refused,
                signed(index),
                leaf,
                proof,
                checkpoint
            ])?;
            sums.published_rows += 1;
            sums.published_bytes += bytes;
        }
        Settled::Refused { n, reason } => {
            let none = None::<i64>;
            insert.execute(params![n, bytes, reason, none, none, none, none])?;
            sums.refused_rows += 1;
            sums.refused_bytes += bytes;
        }
    }
    Ok(())
}

fn tally(
    transaction: &Transaction<'_>,
    published_rows: i64,
    published_bytes: i64,
    refused_rows: i64,
) -> Result<(), SpoolError> {
    transaction
        .prepare_cached(
            "UPDATE tally SET published_rows = published_rows + ?1,
               published_bytes = published_bytes + ?2, refused_rows = refused_rows + ?3",
        )?
        .execute([published_rows, published_bytes, refused_rows])?;
    Ok(())
}

/// Notes the tails that were never handed out.
pub(super) fn note_unused(
    transaction: &Transaction<'_>,
    blocks: &Blocks,
    unused: &[Range],
) -> Result<(), SpoolError> {
    let ids = unused
        .iter()
        .map(|&range| blocks.tail(range).map(|id| (id, range.first)))
        .collect::<Result<Vec<_>, _>>()?;
    for (id, first) in ids {
        transaction
            .prepare_cached("UPDATE lease SET unused_from = ?2 WHERE id = ?1")?
            .execute([id, signed(first)])?;
    }
    Ok(())
}

/// Writes the bitmaps of the blocks that this group touched.
pub(super) fn store_blocks(
    transaction: &Transaction<'_>,
    blocks: &Blocks,
) -> Result<(), SpoolError> {
    for block in blocks.touched() {
        transaction
            .prepare_cached(
                "UPDATE lease SET bits = ?2, closed_at = CASE WHEN ?3 = 0
                   THEN (SELECT coalesce(max(n), 0) FROM record) END WHERE id = ?1",
            )?
            .execute(params![block.id, block.bits, block.open])?;
    }
    Ok(())
}

/// Goes over the indexes in slices of the key space, so that no transaction scans all of them.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    slice: u8,
}

/// What is above a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Excess {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Position, bytes and checkpoint of a settled row.
type Doomed = (i64, i64, Option<i64>);

/// The oldest settled rows that may go: until what is too much is covered, or as many as one
/// transaction may.
fn oldest(transaction: &Transaction<'_>, over: Excess) -> Result<Vec<Doomed>, SpoolError> {
    let mut select = transaction.prepare_cached(
        "SELECT s.n, s.bytes, s.checkpoint FROM settled s JOIN record r ON r.n = s.n
         WHERE r.pinned = 0 ORDER BY s.n LIMIT ?1",
    )?;
    let mut found = select.query([signed(PRUNE_ROWS * 2)])?;
    let (mut doomed, mut bytes) = (Vec::new(), 0);
    while (doomed.len() as u64) < over.rows || bytes < over.bytes {
        let Some(row) = found.next()? else { break };
        let one: Doomed = (row.get(0)?, row.get(1)?, row.get(2)?);
        bytes += unsigned(one.1);
        doomed.push(one);
    }
    Ok(doomed)
}

/// Removes the oldest published and refused rows, so far as they are `over` the limits and one
/// transaction may, and what only they referred to. Index entries of removed rows go with the next
/// sweeps over their keys; until then they point nowhere.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    over: Excess,
    sweep: &mut Sweep,
) -> Result<Sums, SpoolError> {
    let doomed = oldest(transaction, over)?;
    let mut sums = Sums::default();
    let Some(&(last, ..)) = doomed.last() else {
        return Ok(sums);
    };
    sums.gone_through = last;
    for (n, bytes, checkpoint) in doomed {
        transaction
            .prepare_cached("DELETE FROM record WHERE n = ?1")?
            .execute([n])?;
        transaction
            .prepare_cached("DELETE FROM settled WHERE n = ?1")?
            .execute([n])?;
        match checkpoint {
            Some(checkpoint) => {
                transaction
                    .prepare_cached("UPDATE checkpoint SET refs = refs - 1 WHERE id = ?1")?
                    .execute([checkpoint])?;
                sums.published_rows += 1;
                sums.published_bytes += bytes;
            }
            None => {
                sums.refused_rows += 1;
                sums.refused_bytes += bytes;
            }
        }
    }
    transaction
        .prepare_cached("DELETE FROM checkpoint WHERE refs = 0")?
        .execute([])?;
    // A closed block's secret is kept while a row filed under one of its numbers may be.
    transaction
        .prepare_cached(
            "DELETE FROM lease
             WHERE closed_at <= min(?1, (SELECT coalesce(min(n) - 1, ?1) FROM outbox))",
        )?
        .execute([last])?;
    gone(transaction, last, 0)?;
    sweep_indexes(transaction, last, sweep)?;
    tally(
        transaction,
        -sums.published_rows,
        -sums.published_bytes,
        -sums.refused_rows,
    )?;
    Ok(sums)
}

/// Removes the oldest pending rows up to position `free`, `over` of them or as many as one transaction
/// may, with what only they referred to: no log will take them. Their numbers stay used. Gives how many
/// rows that were, their bytes, and the position of the last.
pub(super) fn let_go(
    transaction: &Transaction<'_>,
    over: u64,
    free: i64,
    sweep: &mut Sweep,
) -> Result<(u64, u64, i64), SpoolError> {
    let doomed: Vec<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT o.n, o.bytes FROM outbox o JOIN record r ON r.n = o.n
             WHERE r.pinned = 0 AND o.n <= ?1 ORDER BY o.n LIMIT ?2",
        )?
        .query_map([free, signed(over.clamp(1, PRUNE_ROWS * 2))], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    let Some(&(last, _)) = doomed.last() else {
        return Ok((0, 0, 0));
    };
    let mut bytes = 0;
    for (n, size) in &doomed {
        for sql in [
            "DELETE FROM record WHERE n = ?1",
            "DELETE FROM outbox WHERE n = ?1",
        ] {
            transaction.prepare_cached(sql)?.execute([n])?;
        }
        bytes += unsigned(*size);
    }
    // All that was filed under a closed block's numbers is gone with the row that closed it.
    transaction
        .prepare_cached("DELETE FROM lease WHERE closed_at <= ?1")?
        .execute([last])?;
    let rows = doomed.len() as u64;
    gone(transaction, last, rows)?;
    sweep_indexes(transaction, last, sweep)?;
    Ok((rows, bytes, last))
}

fn gone(transaction: &Transaction<'_>, last: i64, let_go_rows: u64) -> Result<(), SpoolError> {
    transaction
        .prepare_cached(
            "UPDATE tally SET gone_through = max(gone_through, ?1),
               let_go_rows = let_go_rows + ?2",
        )?
        .execute([last, signed(let_go_rows)])?;
    Ok(())
}

/// Removes entries of rows up to `last` that are gone, in the next slice of keys.
fn sweep_indexes(
    transaction: &Transaction<'_>,
    last: i64,
    sweep: &mut Sweep,
) -> Result<(), SpoolError> {
    let first = i64::from_be_bytes([sweep.slice ^ 0x80, 0, 0, 0, 0, 0, 0, 0]);
    let end = first.saturating_add((1 << 56) - 1 + (i64::from(SWEEP_STEP) - 1) * (1 << 56));
    sweep.slice = sweep.slice.wrapping_add(SWEEP_STEP);
    for sql in [
        "DELETE FROM by_id WHERE key BETWEEN ?1 AND ?2 AND n <= ?3
           AND NOT EXISTS (SELECT 1 FROM record r WHERE r.n = by_id.n)",
        "DELETE FROM by_call WHERE key BETWEEN ?1 AND ?2 AND n <= ?3
           AND NOT EXISTS (SELECT 1 FROM record r WHERE r.n = by_call.n)",
    ] {
        transaction
            .prepare_cached(sql)?
            .execute([first, end, last])?;
    }
    Ok(())
}
