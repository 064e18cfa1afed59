//! An engine that fails on purpose.
//!
//! Wraps another engine and, from a seed, makes it slow, makes it refuse, or cuts its answers off
//! in the middle. For demonstrations (the flaky node of `longrun up`) and for tests. Which request
//! fails depends on the seed and on its place in the order of arrival alone, so a run repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

use crate::engine::{Answer, AnswerEvents, Description, Engine, EngineError};
use crate::openai::{ChatRequest, CompletionRequest};
use crate::sampling::{ONE_PPM, philox4x32_10};

/// How an engine fails. Shares are in parts per million of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// What everything follows from.
    pub seed: u64,
    /// Shortest delay before an answer starts, ms.
    pub delay_min_ms: u32,
    /// Longest delay before an answer starts, ms.
    pub delay_max_ms: u32,
    /// Share of requests that get [`EngineError::Broken`] and no answer.
    pub failure_ppm: u32,
    /// Share of requests whose answer is cut.
    pub cut_ppm: u32,
    /// Events before a cut, at most; at least one is sent.
    pub cut_after_max: u32,
}

impl Faults {
    /// No faults at all.
    pub const NONE: Self = Self {
        seed: 0,
        delay_min_ms: 0,
        delay_max_ms: 0,
        failure_ppm: 0,
        cut_ppm: 0,
        cut_after_max: 1,
    };

    /// What happens to the request at place `turn`.
    pub fn fate(&self, turn: u32) -> Fate {
        let key = [low(self.seed), low(self.seed >> 32)];
        let [delay, kind, after, _] = philox4x32_10([turn, 0, 0, 1], key);
        let spread = self.delay_max_ms.saturating_sub(self.delay_min_ms);
        let delay_ms = self.delay_min_ms + share(delay, spread.saturating_add(1)).min(spread);
        let kind = share(kind, ONE_PPM);
        let fault = if kind < self.failure_ppm {
            Some(Fault::Fail)
        } else if kind < self.failure_ppm.saturating_add(self.cut_ppm) {
            Some(Fault::CutAfter(1 + share(after, self.cut_after_max.max(1))))
        } else {
            None
        };
        Fate { delay_ms, fault }
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Delay before the answer starts, ms.
    pub delay_ms: u32,
    /// The fault, if any.
    pub fault: Option<Fault>,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No answer.
    Fail,
    /// The answer breaks off after so many events.
    CutAfter(u32),
}

#[allow(clippy::cast_possible_truncation)] // the low half is what is wanted
fn low(number: u64) -> u32 {
    number as u32
}

/// Maps a random word evenly onto 0..n.
fn share(word: u32, n: u32) -> u32 {
    low((u64::from(word) * u64::from(n)) >> 32)
}

/// An engine with faults around it.
#[derive(Debug)]
pub struct Faulty<E> {
    inner: Arc<E>,
    faults: Faults,
    turn: AtomicU32,
}

impl<E: Engine> Faulty<E> {
    /// Puts `faults` around `inner`.
    pub fn new(inner: Arc<E>, faults: Faults) -> Self {
        Self {
            inner,
            faults,
            turn: AtomicU32::new(0),
        }
    }

    /// Lets an answer meet its fate.
    fn around<'a>(
        &self,
        answer: impl FnOnce() -> BoxFuture<'a, Result<Answer, EngineError>>,
    ) -> impl Future<Output = Result<Answer, EngineError>> {
        let fate = self.faults.fate(self.turn.fetch_add(1, Ordering::Relaxed));
        async move {
            if fate.delay_ms > 0 {
                tokio::time::sleep(Duration::from_millis(fate.delay_ms.into())).await;
            }
            if fate.fault == Some(Fault::Fail) {
                return Err(broken());
            }
            let (executed, events) = answer().await?.into_parts();
            let events = match fate.fault {
                Some(Fault::CutAfter(count)) => cut(events, count),
                _ => events,
            };
            Ok(Answer::new(executed, events))
        }
    }
}

impl<E: Engine> Engine for Faulty<E> {
    fn describe(&self) -> &Description {
        self.inner.describe()
    }

    fn chat(&self, request: ChatRequest, seed: u64) -> BoxFuture<'_, Result<Answer, EngineError>> {
        self.around(move || self.inner.chat(request, seed)).boxed()
    }

    fn complete(
        &self,
        request: CompletionRequest,
        seed: u64,
    ) -> BoxFuture<'_, Result<Answer, EngineError>> {
        self.around(move || self.inner.complete(request, seed))
            .boxed()
    }
}

fn broken() -> EngineError {
    EngineError::Broken {
        message: "a fault was injected here on purpose".to_owned(),
    }
}

/// Lets `count` events through and then fails. An answer shorter than that fails before its end,
/// for a cut must never look like an end.
fn cut(events: AnswerEvents, count: u32) -> AnswerEvents {
    let kept = events
        .take(count as usize)
        .take_while(|event| {
            let ends = matches!(event, Ok(crate::engine::AnswerEvent::Finish(_)));
            std::future::ready(!ends)
        })
        .chain(stream::once(std::future::ready(Err(broken()))));
    Box::pin(kept)
}

#[cfg(test)]
mod tests;
