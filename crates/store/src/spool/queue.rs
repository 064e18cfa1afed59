//! What waits for the writer. Appends gather without waking it; an operation that somebody waits
//! for, or a full group, does.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SpoolError;
use super::writer::Op;

/// Operations in one group, about: a group is closed when it has reached this.
const GROUP_OPS: usize = 4096;

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Default)]
struct Waiting {
    ops: Vec<Op>,
    hurried: bool,
    closed: bool,
}

impl Queue {
    /// Adds an operation, unless the queue is closed.
    pub(super) fn push(&self, op: Op) -> Result<(), SpoolError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(SpoolError::Closed);
        }
        let first = waiting.ops.is_empty();
        let was_hurried = waiting.hurried;
        waiting.hurried |= op.is_hurried() || waiting.ops.len() + 1 >= GROUP_OPS;
        waiting.ops.push(op);
        let wake = first || (waiting.hurried && !was_hurried);
        drop(waiting);
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for a first operation, then at most `linger` for more. Empty only if none came until `due`.
    pub(super) fn next_group(&self, linger: Duration, due: Option<Instant>) -> Vec<Op> {
        let mut waiting = self.lock();
        while waiting.ops.is_empty() {
            let Some(due) = due else {
                let woken = self.ready.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Vec::new();
            }
            let woken = self.ready.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let deadline = Instant::now() + linger;
        while !waiting.hurried {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.ready.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.hurried = false;
        std::mem::take(&mut waiting.ops)
    }

    /// Takes nothing more; gives what was left.
    pub(super) fn close(&self) -> Vec<Op> {
        let mut waiting = self.lock();
        waiting.closed = true;
        std::mem::take(&mut waiting.ops)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
