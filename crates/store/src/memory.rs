//! Everything in memory, and told when to fail: the store that tests run the sequencer on.
//!
//! Clones share their content, so a test can drop what used the store and open it again, as after
//! a crash. A [`Fault`] makes the next matching operation fail before it happened or after, as a
//! network or a disk may.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::{Blobs, Error, ErrorKind, Heads, Result, check_path};

#[cfg(test)]
mod tests;

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Blobs::put_new`], also through [`Blobs::put_new_all`].
    PutNew,
    /// [`Blobs::put_replace`].
    PutReplace,
    /// [`Blobs::read`].
    Read,
    /// [`Blobs::delete`].
    Delete,
    /// [`Blobs::list`].
    List,
    /// [`Heads::load`].
    Load,
    /// [`Heads::swap`].
    Swap,
}

/// Whether an operation that fails happened nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It did not happen.
    NotPersisted,
    /// It happened, and the caller is told that it failed.
    PersistedAnyway,
}

/// One failure to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which operation fails.
    pub operation: Operation,
    /// Which paths: those that start so. Ignored for heads.
    pub path_prefix: String,
    /// How it fails.
    pub effect: Effect,
    /// Matching operations that pass before it strikes.
    pub after: u32,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    head: Option<Vec<u8>>,
    faults: Vec<Fault>,
    /// Every operation with its path, in order.
    done: Vec<(Operation, String)>,
}

/// Files and a head in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Schedules a failure; it strikes once.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Failures that have not struck yet.
    #[must_use]
    pub fn pending_faults(&self) -> usize {
        self.lock().faults.len()
    }

    /// Every operation so far with its path (empty for heads), failed ones included.
    #[must_use]
    pub fn operations(&self) -> Vec<(Operation, String)> {
        self.lock().done.clone()
    }

    /// Changes a file behind everybody's back, or removes it, as a broken disk or an attacker may.
    pub fn tamper(&self, path: &str, bytes: Option<Vec<u8>>) {
        let mut state = self.lock();
        match bytes {
            Some(bytes) => state.blobs.insert(path.to_owned(), bytes),
            None => state.blobs.remove(path),
        };
    }

    /// Changes the head behind everybody's back, as restoring an old snapshot does.
    pub fn tamper_head(&self, head: Option<Vec<u8>>) {
        self.lock().head = head;
    }

    /// A copy of all content, without the faults.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let state = self.lock();
        let copy = State {
            blobs: state.blobs.clone(),
            head: state.head.clone(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// A poisoned lock only says that a test thread panicked while holding it; the maps are whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn perform<T>(
        &self,
        operation: Operation,
        path: &str,
        action: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.lock();
        state.done.push((operation, path.to_owned()));
        match state.strike(operation, path) {
            None => action(&mut state),
            Some(effect) => {
                if effect == Effect::PersistedAnyway {
                    action(&mut state)?;
                }
                Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("scripted fault: {operation:?} {path} ({effect:?})"),
                ))
            }
        }
    }
}

impl State {
    fn strike(&mut self, operation: Operation, path: &str) -> Option<Effect> {
        let matches =
            |fault: &Fault| fault.operation == operation && path.starts_with(&fault.path_prefix);
        let index = self.faults.iter().position(matches)?;
        if self.faults[index].after > 0 {
            self.faults[index].after -= 1;
            return None;
        }
        Some(self.faults.remove(index).effect)
    }
}

impl Blobs for Memory {
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        check_path(path)?;
        self.perform(Operation::PutNew, path, |state| {
            match state.blobs.get(path) {
                Some(found) if found == bytes => Ok(()),
                Some(_) => Err(Error::new(
                    ErrorKind::Conflict,
                    format!("{path} already holds something else"),
                )),
                None => {
                    state.blobs.insert(path.to_owned(), bytes.to_vec());
                    Ok(())
                }
            }
        })
    }

    fn put_replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        check_path(path)?;
        self.perform(Operation::PutReplace, path, |state| {
            state.blobs.insert(path.to_owned(), bytes.to_vec());
            Ok(())
        })
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        check_path(path)?;
        self.perform(Operation::Read, path, |state| {
            Ok(state.blobs.get(path).cloned())
        })
    }

    fn delete(&self, path: &str) -> Result<()> {
        check_path(path)?;
        self.perform(Operation::Delete, path, |state| {
            state.blobs.remove(path);
            Ok(())
        })
    }

    fn list(&self, directory: &str) -> Result<Vec<String>> {
        check_path(directory)?;
        let prefix = format!("{directory}/");
        self.perform(Operation::List, directory, |state| {
            Ok(state
                .blobs
                .keys()
                .filter(|path| path.starts_with(&prefix))
                .cloned()
                .collect())
        })
    }
}

impl Heads for Memory {
    fn load(&self) -> Result<Option<Vec<u8>>> {
        self.perform(Operation::Load, "", |state| Ok(state.head.clone()))
    }

    fn swap(&self, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        self.perform(Operation::Swap, "", |state| {
            if state.head.as_deref() != old {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the head is not what it was",
                ));
            }
            state.head = Some(new.to_vec());
            Ok(())
        })
    }
}
