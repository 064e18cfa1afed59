//! An upstream's event stream, classified.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ReplyBody, UpstreamError};
use crate::openai::{ApiError, ChunkReader, ChunkSummary, Surface};
use crate::sse::{Event, MAX_EVENT_BYTES, Splitter};

/// How long the end of the body may take after `[DONE]` before the connection is given up, ms.
/// Only the reuse of the connection depends on it.
const DRAIN_MS: u64 = 100;

/// An event of an upstream's stream.
#[derive(Debug, Clone)]
pub struct UpstreamEvent {
    /// The frame; `raw` is what to forward.
    pub event: Event,
    /// What the chunk says. `None` for comments, for named events (`event: …`) and for `[DONE]`.
    pub chunk: Option<ChunkSummary>,
}

/// The events of an answer, in order. The last thing it gives is `[DONE]` or an error, unless the
/// upstream ended every choice and closed without `[DONE]`, which some do, which `/responses` always
/// does, and which is no cut.
#[derive(Debug)]
pub struct Events {
    body: ReplyBody,
    surface: Surface,
    chunks: ChunkReader,
    splitter: Option<Splitter>,
    /// Choices that were asked for.
    choices: u64,
    ended: BTreeSet<u64>,
    /// Anything of an answer came.
    begun: bool,
    done: bool,
}

impl Events {
    pub(super) fn new(body: ReplyBody, surface: Surface, choices: u64) -> Self {
        Self {
            body,
            surface,
            chunks: ChunkReader::new(surface),
            splitter: Some(Splitter::new(MAX_EVENT_BYTES)),
            choices: choices.max(1),
            ended: BTreeSet::new(),
            begun: false,
            done: false,
        }
    }

    /// Whether the answer is complete: `[DONE]` or the end of every choice was seen.
    pub fn is_complete(&self) -> bool {
        self.done || self.ended.len() as u64 >= self.choices
    }

    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.body.received_bytes()
    }

    /// From the next piece on, so much time may lie between two.
    pub fn set_idle(&mut self, idle: Duration) {
        self.body.idle = idle;
    }

    /// The next event; `None` at the end. After an error nothing more comes.
    pub async fn next(&mut self) -> Option<Result<UpstreamEvent, UpstreamError>> {
        if self.done {
            self.drain().await;
            return None;
        }
        loop {
            let splitter = self.splitter.as_mut()?;
            match splitter.next_event() {
                Some(Ok(event)) => return Some(self.classify(event)),
                Some(Err(too_large)) => {
                    return Some(self.fail(UpstreamError::TooLarge {
                        limit_bytes: too_large.limit_bytes,
                    }));
                }
                None => {}
            }
            match self.body.frame().await {
                Some(Ok(piece)) => splitter.push(&piece),
                // Nothing is missing after the last event of a response, however the connection ends.
                Some(Err(_)) if !self.surface.has_done() && self.is_complete() => {
                    self.splitter = None;
                    return None;
                }
                Some(Err(error)) => return Some(self.fail(error)),
                None => return self.end(),
            }
        }
    }

    fn fail(&mut self, error: UpstreamError) -> Result<UpstreamEvent, UpstreamError> {
        self.splitter = None;
        Err(error)
    }

    fn classify(&mut self, event: Event) -> Result<UpstreamEvent, UpstreamError> {
        let Some(data) = &event.data else {
            return Ok(UpstreamEvent { event, chunk: None });
        };
        if event.is_done() {
            if !self.begun {
                return self.fail(UpstreamError::Malformed {
                    detail: "the stream ended without an answer in it".to_owned(),
                });
            }
            // Servers that never say that a choice ended end them all by this; one that said so of
            // some choices has not ended the others.
            if !self.ended.is_empty() && !self.is_complete() {
                let cut = self.cut();
                return self.fail(cut);
            }
            self.done = true;
            return Ok(UpstreamEvent { event, chunk: None });
        }
        if !self.surface.reads(event.name.as_deref()) {
            return Ok(UpstreamEvent { event, chunk: None });
        }
        match self.chunks.read(data) {
            None => self.fail(UpstreamError::Malformed {
                detail: "an event of the stream is not a JSON object".to_owned(),
            }),
            Some(chunk) if chunk.is_error => {
                let error = Box::new(ApiError::from_event(502, data));
                let raw = event.raw.clone();
                self.fail(UpstreamError::InStream { error, raw })
            }
            Some(chunk) => {
                self.ended.extend(&chunk.ended);
                self.begun |= chunk.has_content || !chunk.ended.is_empty();
                Ok(UpstreamEvent {
                    event,
                    chunk: Some(chunk),
                })
            }
        }
    }

    /// The body ended. A frame without its blank line counts only if it is `[DONE]`.
    fn end(&mut self) -> Option<Result<UpstreamEvent, UpstreamError>> {
        let left = self.splitter.take()?.finish();
        if let Some(event) = left
            && event.is_done()
            && (self.ended.is_empty() || self.is_complete())
        {
            self.done = true;
            return Some(Ok(UpstreamEvent { event, chunk: None }));
        }
        if self.is_complete() {
            return None;
        }
        Some(Err(self.cut()))
    }

    fn cut(&self) -> UpstreamError {
        let (ended, choices) = (self.ended.len(), self.choices);
        UpstreamError::Cut {
            received_bytes: self.body.received_bytes(),
            detail: format!("the stream ended with {ended} of {choices} choices complete"),
        }
    }

    /// Reads on to the end of the body, so that the connection can be used again.
    async fn drain(&mut self) {
        if self.splitter.take().is_some() {
            let rest = async { while let Some(Ok(_)) = self.body.frame().await {} };
            let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS), rest).await;
        }
    }
}
