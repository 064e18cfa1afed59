//! An attempt whose answer is streamed: events go on as they come, byte for byte.
//!
//! Nothing is sent to the caller before the first token, so that until then another endpoint can
//! still be tried. From there on a stream ends in one of two ways: with the upstream's own end, or
//! with an error event and without `[DONE]`. A caller never has to guess. Where he allows it, another
//! endpoint may go on first ([`crate::resume`]).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use engine::openai::{ApiError, ChunkSummary, FinishReason, Surface};
use engine::sse::{self, Event};
use engine::upstream::{Events, Reply, Stage, UpstreamError, UpstreamEvent};
use futures_util::stream::{self, Stream};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::answer::{Answer, marked_event};
use crate::attempt::Attempt;
use crate::catalog::Live;
use crate::failure::{Failure, explain, repeats_key};
use crate::outcome::Seen;
use crate::resume::{self, Behind, Reserve, Step};
use crate::whole::{is_json, response_id};

/// Events held back while no token has come. A role, some odd first chunk: more is not waited for.
const PRELUDE_EVENTS: usize = 4;
/// The same of `/responses`, where four events open an answer, and two more each item of it.
const PRELUDE_EVENTS_OF_RESPONSES: usize = 16;
/// Bytes of events that are sent in one piece, about, where more are there already.
const GATHERED_BYTES: usize = 16 << 10;
/// Bytes read of an answer that should have been a stream and is none.
const ODD_BODY_BYTES_MAX: usize = 64 << 10;
/// The name of the event that carries a receipt.
const RECEIPT_EVENT: &[u8] = b"longrun.receipt";
/// How the names of Longrun's own events start.
const OWN_EVENTS: &[u8] = b"longrun.";

/// A stream that began.
pub(crate) struct Opened {
    pub(crate) attempt: Attempt,
    pub(crate) events: Events,
    status: StatusCode,
    headers: HeaderMap,
}

/// Sends the request, and takes the head of an answer that is a stream. `choices` were asked for.
pub(crate) async fn open(
    mut attempt: Attempt,
    (surface, choices): (Surface, u64),
    body: Bytes,
) -> Result<Opened, Failure> {
    let headers = attempt.headers();
    let live = Arc::clone(attempt.live());
    let reply = match live.site.streamed.post(surface, body, headers).await {
        Ok(reply) => reply,
        Err(error) => return Err(Failure::upstream(attempt, &error)),
    };
    attempt.head(reply.status.as_u16(), &reply.headers, reply.tls_key);
    if !reply.is_event_stream() {
        return Err(odd(attempt, reply).await);
    }
    let (status, headers, body) = reply.into_parts();
    let events = body.into_events(surface, choices);
    Ok(Opened {
        attempt,
        events,
        status,
        headers,
    })
}

/// Sends the request and reads up to the first token. The answer may have `limit_bytes`; `reserve` is
/// asked when it breaks off later.
pub(crate) async fn attempt(
    mut attempt: Attempt,
    kind: (Surface, u64),
    body: Bytes,
    (limit_bytes, reserve): (usize, Option<Box<Reserve>>),
) -> Result<Answer, Failure> {
    let deadline = attempt.started() + attempt.live().site.config.timeouts.first_token;
    let live = Arc::clone(attempt.live());
    let call = attempt.call();
    let Opened {
        attempt,
        events,
        status,
        headers,
    } = open(attempt, kind, body).await?;
    let mut relay = Relay::new(attempt, kind.0, events, limit_bytes);
    relay.reserve = reserve;
    while !relay.is_ready() {
        if let Err(error) = relay.step_by(deadline).await {
            return Err(match relay.attempt.take() {
                Some(attempt) => Failure::upstream(attempt, &error),
                None => Failure::over(&live, &error),
            });
        }
    }
    // Until now the time to the first token alone counted.
    if let Some(events) = &mut relay.events {
        events.set_idle(live.site.config.timeouts.gap);
    }
    Ok(Answer::stream(
        status,
        &headers,
        call,
        &live,
        relay.into_stream(),
    ))
}

/// No token came in time.
fn late(live: &Live) -> UpstreamError {
    let after = live.site.config.timeouts.first_token;
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    UpstreamError::Timeout {
        stage: Stage::Head,
        after_ms,
    }
}

/// A stream was asked for, and something else came.
async fn odd(mut attempt: Attempt, reply: Reply) -> Failure {
    let json = is_json(&reply.headers);
    let bytes = match reply.bytes(ODD_BODY_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(UpstreamError::TooLarge { .. }) => Bytes::new(),
        Err(error) => return Failure::upstream(attempt, &error),
    };
    attempt.body(&bytes);
    let has_error = || {
        let value: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        value.is_some_and(|value| value.get("error").is_some())
    };
    if json && has_error() {
        return Failure::inside(attempt, ApiError::from_event(502, &bytes));
    }
    Failure::malformed(attempt, "a stream was asked for, and something else came")
}

/// A stream on its way from an endpoint to the caller.
struct Relay {
    /// Taken when the stream has ended, one way or the other.
    attempt: Option<Attempt>,
    surface: Surface,
    /// Events of the answer that were passed on.
    passed: u64,
    events: Option<Events>,
    /// Frames that go out next.
    ready: VecDeque<Bytes>,
    live: Arc<Live>,
    /// A token came, or enough that none is waited for.
    begun: bool,
    /// The `longrun` member was added.
    marked: bool,
    filtered: bool,
    limit_bytes: u64,
    /// Something left for the caller.
    has_left: bool,
    /// What the events ended in; what came before goes out first.
    trouble: Option<UpstreamError>,
    /// Who else may be asked, where the caller allows it.
    reserve: Option<Box<Reserve>>,
    /// What the endpoint has still to write that the caller has already.
    behind: Option<Behind>,
    /// When the endpoint that goes on has to have sent its first token, until it has.
    begin_by: Option<Instant>,
}

impl Relay {
    fn new(attempt: Attempt, surface: Surface, events: Events, limit_bytes: usize) -> Self {
        let live = Arc::clone(attempt.live());
        Self {
            surface,
            passed: 0,
            attempt: Some(attempt),
            events: Some(events),
            ready: VecDeque::new(),
            live,
            begun: false,
            marked: false,
            filtered: false,
            limit_bytes: limit_bytes as u64,
            has_left: false,
            trouble: None,
            reserve: None,
            behind: None,
            begin_by: None,
        }
    }

    /// Whether the answer may begin.
    fn is_ready(&mut self) -> bool {
        let held = match self.surface {
            Surface::Responses => PRELUDE_EVENTS_OF_RESPONSES,
            _ => PRELUDE_EVENTS,
        };
        self.begun |= self.ready.len() >= held;
        self.begun || self.events.is_none()
    }

    /// Takes the next event; an error ends the stream.
    async fn step(&mut self) -> Result<(), UpstreamError> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        match events.next().await {
            Some(Ok(event)) => {
                if events.received_bytes() > self.limit_bytes {
                    let limit_bytes = usize::try_from(self.limit_bytes).unwrap_or(usize::MAX);
                    return Err(UpstreamError::TooLarge { limit_bytes });
                }
                self.take(event);
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => {
                // All choices ended, and a clean end without `[DONE]`: some servers do that.
                if self.surface.has_done() {
                    self.end(Bytes::from_static(sse::DONE));
                } else {
                    self.complete();
                }
                Ok(())
            }
        }
    }

    /// The same, until the time at which the first token has to be there.
    async fn step_by(&mut self, deadline: Instant) -> Result<(), UpstreamError> {
        let step = tokio::time::timeout_at(deadline, self.step()).await;
        step.unwrap_or_else(|_| Err(late(&self.live)))
    }

    fn take(&mut self, UpstreamEvent { event, chunk }: UpstreamEvent) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if event.is_done() {
            return self.end(event.raw);
        }
        if event
            .name
            .as_ref()
            .is_some_and(|name| name.starts_with(OWN_EVENTS))
        {
            if let (Some(name), Some(data)) = (&event.name, &event.data)
                && name.as_ref() == RECEIPT_EVENT
            {
                attempt.receipt(data);
            }
            return;
        }
        let Some(data) = &event.data else {
            // A comment that keeps the connection alive. Before the first token there is no answer
            // yet to keep alive, and a comment is no reason to begin one.
            if self.begun {
                self.ready.push_back(event.raw);
            }
            return;
        };
        let text = chunk.as_ref().is_some_and(|chunk| chunk.has_content);
        attempt.event(data, text);
        if text
            && self.begin_by.take().is_some()
            && let Some(events) = &mut self.events
        {
            events.set_idle(self.live.site.config.timeouts.gap);
        }
        // The first event of a response names it.
        if self.surface == Surface::Responses
            && self.passed == 0
            && let Some(id) = response_id(data)
        {
            attempt.response(&id);
        }
        if let Some(usage) = chunk.as_ref().and_then(|chunk| chunk.usage.as_ref()) {
            attempt.usage(usage.prompt_tokens, usage.completion_tokens);
        }
        if let Some(news) = self.news(event, chunk.as_ref()) {
            self.pass_on(&news, chunk.as_ref());
        }
    }

    /// What of an event the caller does not have yet.
    fn news(&mut self, event: Event, chunk: Option<&ChunkSummary>) -> Option<Event> {
        let Some(behind) = &mut self.behind else {
            return Some(event);
        };
        let ends = chunk.is_some_and(|chunk| !chunk.ended.is_empty());
        let data = event.data.as_deref().unwrap_or_default();
        match behind.step(self.surface, data, ends) {
            Step::Known => {
                self.behind.take_if(|behind| behind.is_level());
                None
            }
            Step::New(data) => {
                self.behind = None;
                Some(Event {
                    raw: sse::encode(None, &data),
                    name: None,
                    data: Some(data),
                })
            }
            Step::Different => {
                self.part();
                None
            }
        }
    }

    fn pass_on(&mut self, event: &Event, chunk: Option<&ChunkSummary>) {
        self.passed += 1;
        self.begun |= chunk.is_some_and(|chunk| chunk.has_content);
        if let (Some(reserve), Some(data)) = (&mut self.reserve, &event.data) {
            reserve.told.add(self.surface, data);
        }
        let mut frame = event.raw.clone();
        if let Some(attempt) = &mut self.attempt
            && let Some(reason) = chunk.and_then(|chunk| chunk.finish_reason.as_ref())
        {
            self.begun = true;
            self.filtered |= *reason == FinishReason::ContentFilter;
            if !self.marked {
                self.marked = true;
                let (call, evidence) = (attempt.call(), attempt.evidence());
                frame = marked_event(event, call, &self.live, evidence);
            }
        }
        self.ready.push_back(frame);
    }

    /// The endpoint's answer is over, and `mark` is what says so.
    fn end(&mut self, mark: Bytes) {
        if self.behind.is_some() {
            return self.part();
        }
        self.ready.push_back(mark);
        self.complete();
    }

    /// The endpoint does not write what the one before it wrote. It did nothing wrong, and is hung up on.
    fn part(&mut self) {
        self.events = None;
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(Seen::Diverged);
        }
        if let Some(behind) = self.behind.take() {
            self.ready.push_back(behind.last_words);
        }
    }

    fn complete(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(if self.filtered {
                Seen::Filtered
            } else {
                Seen::Complete
            });
        }
        if let Some(mut events) = self.events.take() {
            // The end of the body is read after the answer, so that the connection can be kept.
            tokio::spawn(async move { events.next().await });
        }
    }

    /// Asks another endpoint to go on, where the caller allows it. `false`: that is no way out.
    async fn goes_on(&mut self, error: &UpstreamError) -> bool {
        let (Some(reserve), Some(attempt)) = (&self.reserve, &mut self.attempt) else {
            return false;
        };
        let seen = Seen::failure(error, attempt.has_token());
        if self.marked || !seen.row().try_next {
            return false;
        }
        let Some(behind) = reserve.told.behind(self.last_words(seen, error)) else {
            return false;
        };
        self.events = None;
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(seen);
        }
        let next = match &mut self.reserve {
            Some(reserve) => reserve.next().await,
            None => None,
        };
        match next {
            None => self.ready.push_back(behind.last_words),
            Some((mut attempt, events)) => {
                self.ready.push_back(Bytes::from_static(resume::COMMENT));
                self.live = Arc::clone(attempt.live());
                self.begin_by =
                    Some(attempt.started() + self.live.site.config.timeouts.first_token);
                self.attempt = Some(attempt);
                self.events = Some(events);
                self.behind = Some(behind).filter(|behind| !behind.is_level());
            }
        }
        true
    }

    fn fail(&mut self, error: &UpstreamError) {
        self.events = None;
        let Some(mut attempt) = self.attempt.take() else {
            return;
        };
        let seen = Seen::failure(error, attempt.has_token());
        self.ready.push_back(self.last_words(seen, error));
        attempt.finish(seen);
    }

    /// Says that the stream broke off, in a form that every client takes for an error.
    fn last_words(&self, seen: Seen, error: &UpstreamError) -> Bytes {
        match error {
            // The endpoint's own words have the form that clients of this surface know.
            // What it says of the key that this gateway holds is not for callers.
            UpstreamError::InStream { raw, .. }
                if self.surface == Surface::Responses
                    && seen != Seen::Credentials
                    && !repeats_key(&self.live, raw) =>
            {
                raw.clone()
            }
            _ => error_event(self.surface, &explain(&self.live, seen, error), self.passed),
        }
    }

    /// What goes out next; several events together where they came together.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(error) = self.trouble.take()
                && !self.goes_on(&error).await
            {
                self.fail(&error);
            }
            if !self.ready.is_empty() {
                break;
            }
            self.events.as_ref()?;
            self.trouble = match self.begin_by {
                None => self.step().await.err(),
                Some(deadline) => self.step_by(deadline).await.err(),
            };
        }
        // The first goes out with the head of the answer, which would otherwise leave alone.
        if self.has_left {
            self.gather().await;
        }
        self.has_left = true;
        Some(self.frame())
    }

    /// Takes the events that are there already: each would else be a write of its own, and a write
    /// costs more than all else that is done for an event.
    async fn gather(&mut self) {
        let mut bytes: usize = self.ready.iter().map(Bytes::len).sum();
        while self.trouble.is_none() && self.events.is_some() && bytes < GATHERED_BYTES {
            let before = self.ready.len();
            let Some(step) = at_once(self.step()).await else {
                return;
            };
            bytes += self.ready.range(before..).map(Bytes::len).sum::<usize>();
            self.trouble = step.err();
        }
    }

    /// All frames that are ready, as one.
    fn frame(&mut self) -> Bytes {
        if self.ready.len() == 1 {
            return self.ready.pop_front().unwrap_or_default();
        }
        let bytes = self.ready.iter().map(Bytes::len).sum();
        let mut frame = BytesMut::with_capacity(bytes);
        self.ready
            .drain(..)
            .for_each(|part| frame.extend_from_slice(&part));
        frame.freeze()
    }

    fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut relay| async move {
            let frame = relay.next().await?;
            Some((frame, relay))
        })
    }
}

/// A caller may leave while the last events go out to it: the answer broke all the same, and that is what
/// the attempt came to.
impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(error) = self.trouble.take() {
            self.fail(&error);
        }
    }
}

/// What a future gives without waiting for anything but its turn: the connection to the endpoint hands
/// over one piece at a time, and is a task of its own, so all tasks that are ready go first.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    // hyper may ask a body twice before it lets others go first.
    const ASKED: u8 = 2;
    let mut future = pin!(future);
    let mut asked = 0;
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(given) => Poll::Ready(Some(given)),
        Poll::Pending if asked == ASKED => Poll::Ready(None),
        Poll::Pending => {
            asked += 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// An error as the last event of a stream. Clients of `/responses` expect a flat one; the nested
/// form beside it is what makes every one of OpenAI's clients raise it.
fn error_event(surface: Surface, error: &ApiError, number: u64) -> Bytes {
    if surface != Surface::Responses {
        return sse::encode(None, &error.to_body());
    }
    let nested: serde_json::Value = serde_json::from_slice(&error.to_body()).unwrap_or_default();
    let flat = serde_json::json!({
        "type": "error",
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "sequence_number": number,
        "error": nested["error"],
    });
    sse::encode(Some("error"), flat.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
