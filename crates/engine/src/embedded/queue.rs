//! Work that waits for a worker: bounded, first come first served.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A job that can tell whether anyone still waits for it.
pub(super) trait Job {
    fn is_wanted(&self) -> bool;
}

/// A bounded queue.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    ready: Condvar,
    /// Jobs that may wait while every worker is busy.
    waiting_max: usize,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// Workers that have nothing to do.
    idle: usize,
    closed: bool,
}

/// The queue takes no job now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is full.
    Full {
        /// Jobs that wait.
        waiting: usize,
    },
    /// It is closed.
    Closed,
}

impl<J: Job> Queue<J> {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                idle: 0,
                closed: false,
            }),
            ready: Condvar::new(),
            waiting_max,
        }
    }

    /// A panic elsewhere leaves the state whole: every change is one step.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job in. Jobs that nobody waits for any more make room.
    pub(super) fn push(&self, job: J) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let room = self.waiting_max + state.idle;
        if state.jobs.len() >= room {
            state.jobs.retain(J::is_wanted);
        }
        if state.jobs.len() >= room {
            return Err(Refused::Full {
                waiting: state.jobs.len(),
            });
        }
        state.jobs.push_back(job);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// The next job that is still wanted; `None` once the queue is closed.
    pub(super) fn pop(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            while let Some(job) = state.jobs.pop_front() {
                if job.is_wanted() {
                    return Some(job);
                }
            }
            state.idle += 1;
            state = self
                .ready
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Closes the queue and drops what waits in it.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Task(u32, bool);

    impl Job for Task {
        fn is_wanted(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn it_is_bounded_and_the_unwanted_make_room() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(Task(1, true)), Ok(()));
        assert_eq!(queue.push(Task(2, false)), Ok(()));
        assert_eq!(queue.push(Task(3, true)), Ok(()));
        assert_eq!(queue.push(Task(4, true)), Err(Refused::Full { waiting: 2 }));
        assert_eq!(queue.pop().map(|task| task.0), Some(1));
        assert_eq!(queue.pop().map(|task| task.0), Some(3));
        queue.close();
        assert!(queue.pop().is_none());
        assert_eq!(queue.push(Task(5, true)), Err(Refused::Closed));
    }

    #[test]
    fn without_a_queue_an_idle_worker_still_takes_work() {
        let queue = Arc::new(Queue::new(0));
        assert_eq!(queue.push(Task(1, true)), Err(Refused::Full { waiting: 0 }));
        let worker = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.pop().map(|task| task.0))
        };
        while queue.lock().idle == 0 {
            std::thread::yield_now();
        }
        assert_eq!(queue.push(Task(2, true)), Ok(()));
        assert_eq!(worker.join().expect("the worker is well"), Some(2));
    }
}
