//! The one thread that writes. It gathers operations, applies them in a single transaction,
//! commits, and only then answers.
//!
//! An operation that is refused (a number used twice) undoes itself and nothing else: all checks
//! come before its first write, and the rest of the group commits. A failed commit fails the
//! whole group, leaves the marks in memory as they were, and the next group tries again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::blocks::{Blocks, OpenBlock, bitmap_bytes};
use super::marks::Marks;
use super::schema::{signed, unsigned};
use super::{Block, Done, Limits, NewRow, Range, Settled, Shared, SpoolError, StreamId};

/// Operations in one transaction, at most.
const GROUP_MAX: usize = 4096;
/// Published rows removed in one transaction, at most; also the slack above the limit, so that
/// pruning is not done row by row.
const PRUNE_ROWS: u64 = 512;

/// What handles ask of the writer.
pub(super) enum Op {
    Append {
        row: NewRow,
        done: Done<()>,
    },
    Lease {
        stream: String,
        count: u32,
        secret: [u8; 32],
        done: Done<Block>,
    },
    Settle {
        checkpoint: Vec<u8>,
        answers: Vec<Settled>,
        done: Done<()>,
    },
    Flush {
        done: Done<()>,
    },
    Close {
        unused: Vec<Range>,
        done: Done<()>,
    },
    /// The last handle is gone without a close.
    Stop,
}

impl Op {
    /// Somebody waits for it: commit without gathering more.
    fn hurried(&self) -> bool {
        match self {
            Op::Append { row, .. } => row.prompt,
            _ => true,
        }
    }

    fn turn_away(self) {
        match self {
            Op::Append { done, .. }
            | Op::Settle { done, .. }
            | Op::Flush { done }
            | Op::Close { done, .. } => done(Err(SpoolError::Closed)),
            Op::Lease { done, .. } => done(Err(SpoolError::Closed)),
            Op::Stop => {}
        }
    }
}

/// Told after the commit.
type Answer = Box<dyn FnOnce(Result<(), SpoolError>) + Send>;

pub(super) struct Writer {
    connection: Connection,
    blocks: Blocks,
    limits: Limits,
    shared: Arc<Shared>,
    marks: Arc<Marks>,
    /// Streams whose mark says something.
    marked: HashSet<StreamId>,
}

/// One transaction's worth of consequences, applied to memory only if it commits.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    leased: Vec<(Block, i64, Done<Block>)>,
    appended_rows: u64,
    appended_bytes: u64,
    settled_rows: u64,
    settled_bytes: u64,
    published_rows: i64,
    published_bytes: i64,
    refused_rows: i64,
    closing: bool,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        blocks: Blocks,
        limits: Limits,
        shared: Arc<Shared>,
        marks: Arc<Marks>,
    ) -> Writer {
        let marked = marks.streams();
        Writer {
            connection,
            blocks,
            limits,
            shared,
            marks,
            marked,
        }
    }

    /// Runs until it is told to close or every handle is gone.
    pub(super) fn run(mut self, inbox: &Receiver<Op>) {
        while let Ok(first) = inbox.recv() {
            let (ops, gone) = self.gather(first, inbox);
            let closing = self.commit_group(ops);
            if gone || closing {
                break;
            }
        }
        self.shared.closed.store(true, Ordering::Release);
        inbox.try_iter().for_each(|op| op.turn_away());
    }

    /// Collects what arrives until the linger has passed, somebody waits, or the group is full.
    fn gather(&self, first: Op, inbox: &Receiver<Op>) -> (Vec<Op>, bool) {
        let deadline = Instant::now() + self.limits.linger;
        let mut hurried = first.hurried();
        let mut ops = vec![first];
        while ops.len() < GROUP_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = if hurried || left.is_zero() {
                inbox.try_recv().map_err(|error| match error {
                    std::sync::mpsc::TryRecvError::Empty => RecvTimeoutError::Timeout,
                    std::sync::mpsc::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                })
            } else {
                inbox.recv_timeout(left)
            };
            match next {
                Ok(op) => {
                    hurried |= op.hurried();
                    ops.push(op);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return (ops, true),
            }
        }
        (ops, false)
    }

    /// Applies a group and answers it; true if the writer was told to stop.
    fn commit_group(&mut self, ops: Vec<Op>) -> bool {
        let mut group = Group::default();
        let outcome = self.transact(ops, &mut group);
        let shared = self.shared.clone();
        shared.ailing.store(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Ok(()) => {
                self.blocks.commit();
                shared.release(group.settled_rows, group.settled_bytes);
                add(&shared.published_rows, group.published_rows);
                add(&shared.published_bytes, group.published_bytes);
                add(&shared.refused_rows, group.refused_rows);
                shared.commits.fetch_add(1, Ordering::Relaxed);
                shared
                    .committed_rows
                    .fetch_add(group.appended_rows, Ordering::Relaxed);
            }
            Err(_) => {
                self.blocks.rollback_to(0);
                shared.release(group.appended_rows, group.appended_bytes);
            }
        }
        if group.closing {
            self.shared.closed.store(true, Ordering::Release);
        }
        for (block, id, done) in group.leased {
            done(outcome.clone().and_then(|()| self.leased(block, id)));
        }
        for answer in group.answers {
            answer(outcome.clone());
        }
        group.closing
    }

    /// Takes a durable block into the books. Until its first number is handed out, a crash must
    /// not take all of it for used.
    fn leased(&mut self, block: Block, id: i64) -> Result<Block, SpoolError> {
        let Range {
            stream,
            first,
            count,
        } = block.range;
        self.blocks.name(stream, &block.stream_name);
        self.blocks.insert(OpenBlock::new(
            id,
            block.range,
            vec![0; bitmap_bytes(count)],
        ));
        if self.marked.insert(stream) {
            self.marks.set(stream, first)?;
        }
        Ok(block)
    }

    fn transact(&mut self, ops: Vec<Op>, group: &mut Group) -> Result<(), SpoolError> {
        let transaction = match self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
        {
            Ok(transaction) => transaction,
            Err(error) => {
                ops.into_iter().for_each(|op| adopt(op, group));
                return Err(error.into());
            }
        };
        let mut failure = None;
        for op in ops {
            // After a database error nothing will be committed; the rest only needs its answer.
            if failure.is_some() {
                adopt(op, group);
                continue;
            }
            failure = apply(op, &transaction, &mut self.blocks, &self.shared, group).err();
        }
        if let Some(error) = failure {
            return Err(error);
        }
        store_blocks(&transaction, &self.blocks)?;
        prune(&transaction, &self.limits, &self.shared, group)?;
        transaction.commit()?;
        Ok(())
    }
}

/// Takes an operation's answer over into the group without applying it.
fn adopt(op: Op, group: &mut Group) {
    match op {
        Op::Append { row, done } => {
            group.appended_rows += 1;
            group.appended_bytes += row.bytes();
            group.answers.push(done);
        }
        Op::Lease { done, .. } => {
            group.answers.push(Box::new(move |outcome| {
                done(Err(outcome.err().unwrap_or(SpoolError::Closed)));
            }));
        }
        Op::Settle { done, .. } | Op::Flush { done } | Op::Close { done, .. } => {
            group.answers.push(done);
        }
        Op::Stop => group.closing = true,
    }
}

/// Applies one operation. `Err` is a database failure and ends the transaction; a refusal is
/// answered here and is `Ok`.
fn apply(
    op: Op,
    transaction: &Transaction<'_>,
    blocks: &mut Blocks,
    shared: &Shared,
    group: &mut Group,
) -> Result<(), SpoolError> {
    match op {
        Op::Append { row, done } => match append(transaction, blocks, &row) {
            Ok(()) => {
                group.appended_rows += 1;
                group.appended_bytes += row.bytes();
                group.answers.push(done);
                Ok(())
            }
            Err(error @ SpoolError::Database(_)) => {
                adopt(Op::Append { row, done }, group);
                Err(error)
            }
            Err(refusal) => {
                shared.release(1, row.bytes());
                done(Err(refusal));
                Ok(())
            }
        },
        Op::Lease {
            stream,
            count,
            secret,
            done,
        } => match lease(transaction, &stream, count, secret) {
            Ok((block, id)) => {
                group.leased.push((block, id, done));
                Ok(())
            }
            Err(error) => {
                adopt(
                    Op::Lease {
                        stream,
                        count,
                        secret,
                        done,
                    },
                    group,
                );
                Err(error)
            }
        },
        Op::Settle {
            checkpoint,
            answers,
            done,
        } => {
            group.answers.push(done);
            settle(transaction, &checkpoint, answers, group)
        }
        Op::Flush { done } => {
            group.answers.push(done);
            Ok(())
        }
        Op::Stop => {
            group.closing = true;
            Ok(())
        }
        Op::Close { unused, done } => match note_unused(transaction, blocks, &unused) {
            Ok(()) => {
                group.answers.push(done);
                group.closing = true;
                Ok(())
            }
            Err(error @ SpoolError::Database(_)) => {
                group.answers.push(done);
                Err(error)
            }
            Err(refusal) => {
                done(Err(refusal));
                Ok(())
            }
        },
    }
}

/// Checks first, writes after: a refusal leaves nothing behind.
fn append(
    transaction: &Transaction<'_>,
    blocks: &mut Blocks,
    row: &NewRow,
) -> Result<(), SpoolError> {
    let savepoint = blocks.savepoint();
    let outcome = mark(blocks, row).and_then(|()| insert(transaction, row));
    if outcome.is_err() {
        blocks.rollback_to(savepoint);
    }
    outcome
}

fn mark(blocks: &mut Blocks, row: &NewRow) -> Result<(), SpoolError> {
    if let Some((stream, seq)) = row.number {
        blocks.settle(stream, seq)?;
    }
    for range in &row.settles {
        for i in 0..u64::from(range.count) {
            blocks.settle(range.stream, range.first + i)?;
        }
    }
    Ok(())
}

fn insert(transaction: &Transaction<'_>, row: &NewRow) -> Result<(), SpoolError> {
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
        Err(error) if is_constraint(&error) => return Err(collision(row, &error)),
        Err(error) => return Err(error.into()),
    }
    transaction
        .prepare_cached("INSERT INTO outbox (n, bytes, at_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![
            transaction.last_insert_rowid(),
            signed(row.bytes()),
            signed(row.at_ms)
        ])?;
    Ok(())
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

/// Which unique index refused the row.
fn collision(row: &NewRow, error: &rusqlite::Error) -> SpoolError {
    match row.number {
        Some((stream, seq)) if error.to_string().contains("record.seq") => SpoolError::NumberUsed {
            stream: format!("#{}", stream.0),
            seq,
        },
        _ => {
            let id = row.id.iter().map(|byte| format!("{byte:02x}")).collect();
            SpoolError::Duplicate { id }
        }
    }
}

fn lease(
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

fn settle(
    transaction: &Transaction<'_>,
    checkpoint: &[u8],
    answers: Vec<Settled>,
    group: &mut Group,
) -> Result<(), SpoolError> {
    transaction
        .prepare_cached("INSERT INTO checkpoint (note, refs) VALUES (?1, 0)")?
        .execute([checkpoint])?;
    let checkpoint = transaction.last_insert_rowid();
    let mut refs = 0;
    let (mut published_rows, mut published_bytes, mut refused_rows) = (0i64, 0i64, 0i64);
    for answer in answers {
        let n = match &answer {
            Settled::Published { n, .. } | Settled::Refused { n, .. } => *n,
        };
        let bytes: Option<i64> = transaction
            .prepare_cached("DELETE FROM outbox WHERE n = ?1 RETURNING bytes")?
            .query_row([n], |row| row.get(0))
            .optional()?;
        let Some(bytes) = bytes else { continue };
        group.settled_rows += 1;
        group.settled_bytes += unsigned(bytes);
        let mut insert = transaction.prepare_cached(
            "INSERT INTO settled (n, bytes, refused, log_index, leaf, proof, checkpoint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        match answer {
            Settled::Published {
                index, leaf, proof, ..
            } => {
                insert.execute(params![
                    n,
                    bytes,
                    None::<String>,
                    signed(index),
                    leaf,
                    proof,
                    checkpoint
                ])?;
                refs += 1;
                published_rows += 1;
                published_bytes += bytes;
            }
            Settled::Refused { reason, .. } => {
                let none = None::<i64>;
                insert.execute(params![n, bytes, reason, none, none, none, none])?;
                refused_rows += 1;
            }
        }
    }
    transaction
        .prepare_cached("UPDATE checkpoint SET refs = ?2 WHERE id = ?1")?
        .execute([checkpoint, refs])?;
    transaction
        .prepare_cached("DELETE FROM checkpoint WHERE id = ?1 AND refs = 0")?
        .execute([checkpoint])?;
    tally(transaction, published_rows, published_bytes, refused_rows)?;
    group.published_rows += published_rows;
    group.published_bytes += published_bytes;
    group.refused_rows += refused_rows;
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

fn note_unused(
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
fn store_blocks(transaction: &Transaction<'_>, blocks: &Blocks) -> Result<(), SpoolError> {
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

/// Removes the oldest published rows above the limits, and what only they referred to.
fn prune(
    transaction: &Transaction<'_>,
    limits: &Limits,
    shared: &Shared,
    group: &mut Group,
) -> Result<(), SpoolError> {
    let rows =
        unsigned(signed(shared.published_rows.load(Ordering::Relaxed)) + group.published_rows);
    let bytes =
        unsigned(signed(shared.published_bytes.load(Ordering::Relaxed)) + group.published_bytes);
    let slack = PRUNE_ROWS.min(limits.published_rows / 8);
    let over_rows = rows.saturating_sub(limits.published_rows);
    if over_rows <= slack && bytes <= limits.published_bytes {
        return Ok(());
    }
    let doomed: Vec<(i64, i64, Option<i64>)> = transaction
        .prepare_cached(
            "SELECT s.n, s.bytes, s.checkpoint FROM settled s JOIN record r ON r.n = s.n
             WHERE r.pinned = 0 ORDER BY s.n LIMIT ?1",
        )?
        .query_map([signed(over_rows.clamp(1, PRUNE_ROWS * 2))], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    let Some(&(last, ..)) = doomed.last() else {
        return Ok(());
    };
    let (mut rows, mut bytes, mut refused) = (0, 0, 0);
    for (n, size, checkpoint) in doomed {
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
                rows += 1;
                bytes += size;
            }
            None => refused += 1,
        }
    }
    transaction
        .prepare_cached("DELETE FROM checkpoint WHERE refs = 0")?
        .execute([])?;
    // A closed block's secret is kept while a row filed under one of its numbers may be.
    transaction
        .prepare_cached(
            "DELETE FROM lease WHERE closed_at <= min(?1, (SELECT coalesce(min(n) - 1, ?1) FROM outbox))",
        )?
        .execute([last])?;
    tally(transaction, -rows, -bytes, -refused)?;
    group.published_rows -= rows;
    group.published_bytes -= bytes;
    group.refused_rows -= refused;
    Ok(())
}

fn add(counter: &std::sync::atomic::AtomicU64, change: i64) {
    if change >= 0 {
        counter.fetch_add(change.unsigned_abs(), Ordering::Relaxed);
    } else {
        counter.fetch_sub(change.unsigned_abs(), Ordering::Relaxed);
    }
}
