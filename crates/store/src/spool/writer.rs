//! The one thread that writes. It gathers operations, applies them in a single transaction,
//! commits, and only then answers.
//!
//! An operation that is refused (a number used twice) undoes itself and nothing else: all checks
//! come before its first write, and the rest of the group commits. A failed commit fails the
//! whole group, leaves the marks in memory as they were, and the next group tries again. While the
//! disk is sick the writer also tries it by itself: whoever sends no calls because of that would
//! otherwise wait for a call to show that it is well.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::blocks::{Blocks, OpenBlock, bitmap_bytes};
use super::marks::Marks;
use super::queue::Queue;
use super::recent::{Chunk, key};
use super::{Block, Done, Limits, NewRow, Range, Settled, Shared, SpoolError, StreamId, lock};
use super::{schema, tables};

/// How long after a failed commit the writer tries the disk by itself.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What handles ask of the writer.
pub(super) enum Op {
    Append {
        row: NewRow,
        done: Done<i64>,
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
    pub(super) fn is_hurried(&self) -> bool {
        match self {
            Op::Append { row, .. } => row.prompt,
            _ => true,
        }
    }

    fn turn_away(self) {
        match self {
            Op::Append { done, .. } => done(Err(SpoolError::Closed)),
            Op::Settle { done, .. } | Op::Flush { done } | Op::Close { done, .. } => {
                done(Err(SpoolError::Closed));
            }
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
    /// Which part of the indexes pruning sweeps next.
    sweep: tables::Sweep,
    /// When to try the disk, while it is sick.
    due: Option<Instant>,
}

/// One transaction's worth of consequences, applied to memory only if it commits.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    /// Appended rows, by position.
    appended: Vec<(i64, Done<i64>)>,
    leased: Vec<(Block, i64, Done<Block>)>,
    appended_rows: u64,
    appended_bytes: u64,
    settled_rows: u64,
    settled_bytes: u64,
    published_rows: i64,
    published_bytes: i64,
    refused_rows: i64,
    refused_bytes: i64,
    let_go_rows: u64,
    gone_through: i64,
    closing: bool,
    /// The disk was tried.
    tried: bool,
    /// Rows inserted: position, id, call.
    inserted: Vec<Inserted>,
    /// Ids of unnumbered rows among them.
    unnumbered: HashSet<[u8; 32]>,
    chunk: Chunk,
}

impl Group {
    fn wrote(&self) -> bool {
        self.tried || self.appended_rows > 0 || self.settled_rows > 0 || !self.leased.is_empty()
    }
}

type Inserted = (i64, [u8; 32], Option<[u8; 16]>);

impl Writer {
    /// `resumed` are the blocks that go on, whose streams have been marked with where.
    pub(super) fn new(
        connection: Connection,
        (blocks, resumed): (Blocks, &[Block]),
        limits: Limits,
        shared: Arc<Shared>,
        marks: Arc<Marks>,
    ) -> Writer {
        let mut marked = marks.streams();
        marked.extend(resumed.iter().map(|block| block.range.stream));
        Writer {
            connection,
            blocks,
            limits,
            shared,
            marks,
            marked,
            sweep: tables::Sweep::default(),
            due: None,
        }
    }

    /// Runs until it is told to close or the last handle is gone.
    pub(super) fn run(mut self, queue: &Queue) {
        loop {
            // Looked at first: operations that write nothing may come without end.
            let is_due = self.due.is_some_and(|due| due <= Instant::now());
            let group = if is_due {
                Vec::new()
            } else {
                queue.next_group(self.limits.linger, self.due)
            };
            if self.commit_group(group) {
                break;
            }
        }
        queue.close().into_iter().for_each(Op::turn_away);
    }

    /// Applies a group and answers it; true if the writer was told to stop. An empty one tries the disk.
    fn commit_group(&mut self, ops: Vec<Op>) -> bool {
        let mut group = Group::default();
        let outcome = self.transact(ops, &mut group);
        let shared = self.shared.clone();
        // A group that had nothing to write says nothing of the disk.
        if outcome.is_err() {
            self.due = Some(Instant::now() + TRY_AGAIN);
        } else if group.wrote() {
            self.due = None;
        }
        shared.ailing.store(self.due.is_some(), Ordering::Relaxed);
        match &outcome {
            Ok(()) => {
                self.blocks.commit();
                self.index(&group);
                shared.release(group.settled_rows, group.settled_bytes);
                add(&shared.published_rows, group.published_rows);
                add(&shared.published_bytes, group.published_bytes);
                add(&shared.refused_rows, group.refused_rows);
                add(&shared.refused_bytes, group.refused_bytes);
                shared
                    .let_go_rows
                    .fetch_add(group.let_go_rows, Ordering::Relaxed);
                shared
                    .gone_through
                    .fetch_max(group.gone_through, Ordering::Relaxed);
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
        for (block, id, done) in group.leased {
            done(outcome.clone().and_then(|()| self.leased(block, id)));
        }
        for (n, done) in group.appended {
            done(outcome.clone().map(|()| n));
        }
        for answer in group.answers {
            answer(outcome.clone());
        }
        group.closing
    }

    /// What the tables do not index yet is found in memory, before anybody is told of it.
    fn index(&self, group: &Group) {
        let mut recent = lock(&self.shared.recent);
        recent.indexed(&group.chunk);
        for (n, id, call) in &group.inserted {
            recent.add(*n, id, call.as_ref());
        }
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
        if ops.is_empty() {
            schema::rewrite_version(&transaction)?;
            group.tried = true;
        }
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
        if let (Some((first, ..)), Some((last, ..))) =
            (group.inserted.first(), group.inserted.last())
        {
            tables::await_log(&transaction, (*first, *last))?;
        }
        tables::store_blocks(&transaction, &self.blocks)?;
        group.chunk = lock(&self.shared.recent).chunk();
        tables::index(&transaction, &group.chunk)?;
        let with = (&self.limits, &*self.shared);
        prune(&transaction, with, &mut self.sweep, group)?;
        if self.limits.lets_go {
            let_go(&transaction, with, &mut self.sweep, group)?;
        }
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
            // It gets no position: nothing of the group is kept.
            group.appended.push((0, done));
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
        Op::Append { row, done } => match append(transaction, blocks, shared, &row, group) {
            Ok(n) => {
                group.appended_rows += 1;
                group.appended_bytes += row.bytes();
                group.appended.push((n, done));
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
        } => match tables::lease(transaction, &stream, count, secret) {
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
            let sums = tables::settle(transaction, &checkpoint, answers)?;
            group.settled_rows += sums.rows;
            group.settled_bytes += sums.bytes;
            group.published_rows += sums.published_rows;
            group.published_bytes += sums.published_bytes;
            group.refused_rows += sums.refused_rows;
            group.refused_bytes += sums.refused_bytes;
            Ok(())
        }
        Op::Flush { done } => {
            group.answers.push(done);
            Ok(())
        }
        Op::Stop => {
            group.closing = true;
            Ok(())
        }
        Op::Close { unused, done } => match tables::note_unused(transaction, blocks, &unused) {
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

/// Checks first, writes after: a refusal leaves nothing behind. Gives the row's position.
fn append(
    transaction: &Transaction<'_>,
    blocks: &mut Blocks,
    shared: &Shared,
    row: &NewRow,
    group: &mut Group,
) -> Result<i64, SpoolError> {
    // A numbered row is as unique as its number.
    if row.number.is_none() && !group.unnumbered.insert(row.id) {
        return Err(tables::duplicate(&row.id));
    }
    let known = || lock(&shared.recent).by_id(key(&row.id));
    let savepoint = blocks.savepoint();
    let inserted = mark(blocks, row).and_then(|()| {
        if row.number.is_none() {
            tables::refuse_duplicate(transaction, &row.id, known())?;
        }
        tables::insert(transaction, row)
    });
    match inserted {
        Ok(n) => {
            group.inserted.push((n, row.id, row.call));
            Ok(n)
        }
        Err(error) => {
            blocks.rollback_to(savepoint);
            Err(error)
        }
    }
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

/// Removes the oldest settled rows above the limits, and what only they referred to.
fn prune(
    transaction: &Transaction<'_>,
    (limits, shared): (&Limits, &Shared),
    sweep: &mut tables::Sweep,
    group: &mut Group,
) -> Result<(), SpoolError> {
    let now = |counter: &AtomicU64, change: i64| {
        counter
            .load(Ordering::Relaxed)
            .saturating_add_signed(change)
    };
    let rows = now(&shared.published_rows, group.published_rows)
        + now(&shared.refused_rows, group.refused_rows);
    let bytes = now(&shared.published_bytes, group.published_bytes)
        + now(&shared.refused_bytes, group.refused_bytes);
    let over = tables::Excess {
        rows: rows.saturating_sub(limits.published_rows),
        bytes: bytes.saturating_sub(limits.published_bytes),
    };
    let slack = tables::PRUNE_ROWS.min(limits.published_rows / 8);
    if over.rows <= slack && over.bytes == 0 {
        return Ok(());
    }
    let pruned = tables::prune(transaction, over, sweep)?;
    group.published_rows -= pruned.published_rows;
    group.published_bytes -= pruned.published_bytes;
    group.refused_rows -= pruned.refused_rows;
    group.refused_bytes -= pruned.refused_bytes;
    group.gone_through = pruned.gone_through;
    Ok(())
}

/// Lets go of the oldest pending rows above the limits, as far as nobody needs them any more.
fn let_go(
    transaction: &Transaction<'_>,
    (limits, shared): (&Limits, &Shared),
    sweep: &mut tables::Sweep,
    group: &mut Group,
) -> Result<(), SpoolError> {
    let over = |counter: &AtomicU64, limit: u64| {
        let now = counter.load(Ordering::Relaxed);
        now.saturating_sub(limit)
    };
    let rows = over(&shared.pending_rows, limits.pending_rows);
    let is_heavy = over(&shared.pending_bytes, limits.pending_bytes) > 0;
    let slack = tables::PRUNE_ROWS.min(limits.pending_rows / 8);
    if rows <= slack && !is_heavy {
        return Ok(());
    }
    let rows = if is_heavy {
        rows.max(tables::PRUNE_ROWS)
    } else {
        rows
    };
    let free = shared.free_through.load(Ordering::Relaxed);
    let (rows, bytes, last) = tables::let_go(transaction, rows, free, sweep)?;
    group.settled_rows += rows;
    group.settled_bytes += bytes;
    group.let_go_rows = rows;
    group.gone_through = group.gone_through.max(last);
    Ok(())
}

fn add(counter: &AtomicU64, change: i64) {
    if change >= 0 {
        counter.fetch_add(change.unsigned_abs(), Ordering::Relaxed);
    } else {
        counter.fetch_sub(change.unsigned_abs(), Ordering::Relaxed);
    }
}
