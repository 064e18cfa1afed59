//! Going on with a stream that broke off, at another endpoint.
//!
//! Nobody can prove that he goes on exactly where another stopped. So the other endpoint is asked the
//! same from the start, and what it writes is held against what the caller has: only while both are the
//! same, byte for byte, is it worth waiting for, and only what comes after that goes on to the caller.
//! The text that a caller ends up with was then written whole by one endpoint, and that endpoint's record
//! and receipt are about all of it. Another text ends the stream with the error of the endpoint that
//! broke off (docs/decisions/0011).
//!
//! Only where the caller allows it, and only where the same text can be expected: temperature 0 or a
//! seed, one choice, plain text.

use std::sync::Arc;

use bytes::Bytes;
use engine::openai::{ApiError, Surface};
use engine::upstream::Events;
use record::CallId;
use serde::Deserialize;
use serde_json::Value;

use crate::attempt::{Attempt, Outrun, Request};
use crate::callers::Ticket;
use crate::catalog::Live;
use crate::gateway::Gateway;
use crate::health::Readiness;
use crate::lock::lock;
use crate::places::Place;
use crate::request::Head;
use crate::stream;
use crate::traces::CallTrace;

/// Text that a stream may have sent and still be gone on with, bytes: it is held until the end.
const TOLD_BYTES_MAX: usize = 1 << 20;
/// Sent when another endpoint has begun to answer. Clients read over comments.
pub(crate) const COMMENT: &[u8] = b": the endpoint broke off; another one is asked\n\n";

/// Whether the answer to this request is a stream that could be gone on with.
///
/// # Errors
/// 400: why not. A wish that is silently ignored is worse than none.
pub(crate) fn check(surface: Surface, head: &Head<'_>, body: &[u8]) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Sampling {
        #[serde(default)]
        temperature: Option<f64>,
        #[serde(default)]
        seed: Option<Value>,
    }
    let sampling: Option<Sampling> = serde_json::from_slice(body).ok();
    let repeats = sampling.is_some_and(|it| {
        it.temperature == Some(0.0) || it.seed.is_some_and(|seed| !seed.is_null())
    });
    let has_text = matches!(surface, Surface::Chat | Surface::Completions);
    if head.streamed && has_text && head.choices == 1 && repeats {
        return Ok(());
    }
    let message = "The header x-longrun-continue is for streams of chat or completions with one \
                   choice and with \"temperature\": 0 or a \"seed\": another endpoint is not expected \
                   to write the same text otherwise.";
    Err(ApiError::bad_request(message).with_code("invalid_header"))
}

/// What it takes to ask another endpoint when a stream breaks off.
pub(crate) struct Reserve {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) surface: Surface,
    pub(crate) call: CallId,
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) trace: Option<Arc<CallTrace>>,
    /// The request as it came.
    pub(crate) body: Bytes,
    /// Endpoints that were not asked yet, best first.
    pub(crate) order: Vec<Arc<Live>>,
    /// Attempts that were made.
    pub(crate) attempts: u32,
    pub(crate) attempts_max: usize,
    /// What the caller has.
    pub(crate) told: Told,
}

impl Reserve {
    /// Another endpoint that streams an answer, within the bounds of any further attempt but that of
    /// time: a stream may have gone on for long before it broke off.
    pub(crate) async fn next(&mut self) -> Option<(Attempt, Events)> {
        while usize::try_from(self.attempts).is_ok_and(|made| made < self.attempts_max) {
            let now_ms = self.gateway.uptime_ms();
            let ready =
                |live: &Arc<Live>| live.readiness_for(self.surface, now_ms) == Readiness::Ready;
            let at = self.order.iter().position(ready)?;
            let live = self.order.remove(at);
            let place = match &live.site.places {
                None => None,
                Some(places) => match places.try_take() {
                    Some(place) => Some(place),
                    None => continue,
                },
            };
            if !lock(&self.gateway.budget).spend(now_ms) {
                return None;
            }
            self.attempts += 1;
            if let Some(opened) = self.ask(&live, place).await {
                return Some(opened);
            }
        }
        None
    }

    /// `None`: it failed, which is on record.
    async fn ask(&self, live: &Arc<Live>, place: Option<Place>) -> Option<(Attempt, Events)> {
        let head = Head::parse(self.surface, &self.body).ok()?;
        let body = head.sent_to(&self.body, live.id.model.as_str());
        let request = Request {
            surface: self.surface,
            body: &body,
            streamed: true,
            ticket: &self.ticket,
            purpose: None,
            trace: self.trace.as_ref(),
        };
        let number = (self.call, self.attempts);
        let mut attempt = Attempt::begin(&self.gateway, live, number, &request).await;
        attempt.hold(place, Outrun::default());
        let kind = (self.surface, head.choices);
        let opened = stream::open(attempt, kind, body).await.ok()?;
        Some((opened.attempt, opened.events))
    }
}

/// The text that went to a caller, as long as it is plain and not too long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Option<String>);

impl Told {
    pub(crate) fn new() -> Self {
        Self(Some(String::new()))
    }

    /// Notes what a chunk adds.
    pub(crate) fn add(&mut self, surface: Surface, data: &[u8]) {
        let Some(told) = &mut self.0 else { return };
        match text_of(surface, data) {
            Some(text) if told.len() + text.len() <= TOLD_BYTES_MAX => told.push_str(&text),
            _ => self.0 = None,
        }
    }

    /// What another endpoint has to write first; none if that cannot be told.
    pub(crate) fn behind(&self, last_words: Bytes) -> Option<Behind> {
        Some(Behind {
            told: self.0.clone()?,
            at: 0,
            last_words,
        })
    }
}

/// An endpoint that has still to write what the caller has already.
pub(crate) struct Behind {
    told: String,
    /// So much of it was written again, bytes.
    at: usize,
    /// The event that ends the stream if it writes something else.
    pub(crate) last_words: Bytes,
}

/// What a chunk of an endpoint that is behind comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All of it was known.
    Known,
    /// It goes beyond what was known; this is the chunk with what it adds.
    New(Bytes),
    /// Something else.
    Different,
}

impl Behind {
    pub(crate) fn step(&mut self, surface: Surface, data: &[u8], ends: bool) -> Step {
        let Some(text) = text_of(surface, data) else {
            return Step::Different;
        };
        let left = &self.told.as_bytes()[self.at..];
        let common = left.len().min(text.len());
        if left[..common] != text.as_bytes()[..common] || (ends && text.len() < left.len()) {
            return Step::Different;
        }
        self.at += common;
        if text.len() == common && !ends {
            return Step::Known;
        }
        // Both are text up to here, so this is no place within a character.
        match text
            .get(common..)
            .and_then(|rest| rest_of(surface, data, rest))
        {
            Some(chunk) => Step::New(chunk),
            None => Step::Different,
        }
    }

    /// Whether everything that the caller has was written again.
    pub(crate) fn is_level(&self) -> bool {
        self.at == self.told.len()
    }
}

/// The member of a chunk's first choice that adds to the text.
fn text_place(surface: Surface) -> &'static str {
    match surface {
        Surface::Completions => "/choices/0/text",
        _ => "/choices/0/delta/content",
    }
}

/// What a chunk adds to the text; none if it adds anything that is not plain text of the first choice.
fn text_of(surface: Surface, data: &[u8]) -> Option<String> {
    let chunk: Value = serde_json::from_slice(data).ok()?;
    let choices = chunk.get("choices")?.as_array()?;
    let [choice] = &choices[..] else {
        return choices.is_empty().then(String::new);
    };
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
    if index != 0 || !choice.get("logprobs").is_none_or(is_nothing) {
        return None;
    }
    if let Some(delta) = choice.get("delta").and_then(Value::as_object) {
        let known = ["role", "content"];
        let mut others = delta
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()));
        if !others.all(|(_, value)| is_nothing(value)) {
            return None;
        }
    }
    match chunk.pointer(text_place(surface)) {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => None,
    }
}

/// The chunk with `rest` as its text. Its author was named before, and clients add up what they get.
fn rest_of(surface: Surface, data: &[u8], rest: &str) -> Option<Bytes> {
    let mut chunk: Value = serde_json::from_slice(data).ok()?;
    if let Some(delta) = chunk
        .pointer_mut("/choices/0/delta")
        .and_then(Value::as_object_mut)
    {
        delta.shift_remove("role");
    }
    if let Some(text) = chunk.pointer_mut(text_place(surface)) {
        *text = rest.into();
    }
    Some(chunk.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> String {
        serde_json::json!({"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]})
            .to_string()
    }

    fn steps(told: &[&str], again: &[&str]) -> Vec<Step> {
        let mut said = Told::new();
        told.iter()
            .for_each(|text| said.add(Surface::Chat, chunk(text).as_bytes()));
        let mut behind = said.behind(Bytes::new()).expect("plain text");
        again
            .iter()
            .map(|text| behind.step(Surface::Chat, chunk(text).as_bytes(), false))
            .collect()
    }

    fn new(text: &str) -> Step {
        Step::New(chunk(text).into())
    }

    #[test]
    fn only_what_is_new_goes_on_however_the_text_is_cut_up() {
        assert_eq!(
            steps(&["ab", "c"], &["a", "bc"]),
            [Step::Known, Step::Known]
        );
        assert_eq!(steps(&["ab", "c"], &["abcd"]), [new("d")]);
        assert_eq!(steps(&["aé"], &["a", "éb"]), [Step::Known, new("b")]);
        assert_eq!(steps(&["ab"], &["ax"]), [Step::Different]);
        assert_eq!(
            steps(&["é"], &["è"]),
            [Step::Different],
            "they share a byte"
        );
        assert_eq!(steps(&["a"], &["", "a"]), [Step::Known, Step::Known]);
    }

    #[test]
    fn an_answer_that_ends_before_the_callers_text_is_another_one() {
        let mut said = Told::new();
        said.add(
            Surface::Completions,
            br#"{"choices":[{"index":0,"text":"ab"}]}"#,
        );
        let end = br#"{"choices":[{"index":0,"text":"b","finish_reason":"stop"}]}"#;
        let mut behind = said.behind(Bytes::new()).expect("plain text");
        assert_eq!(
            behind.step(Surface::Completions, end, true),
            Step::Different
        );
        let mut behind = said.behind(Bytes::new()).expect("plain text");
        let first = br#"{"choices":[{"index":0,"text":"a"}]}"#;
        assert_eq!(behind.step(Surface::Completions, first, false), Step::Known);
        let Step::New(event) = behind.step(Surface::Completions, end, true) else {
            panic!("the end is news");
        };
        assert!(event.starts_with(br#"{"choices":[{"index":0,"text":"""#));
    }

    #[test]
    fn what_is_not_plain_text_is_not_gone_on_with() {
        for odd in [
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[1]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":["a"]}}]}"#,
            "[]",
        ] {
            let mut said = Told::new();
            said.add(Surface::Chat, odd.as_bytes());
            assert!(said.behind(Bytes::new()).is_none(), "{odd}");
        }
        let mut said = Told::new();
        let much = chunk(&"x".repeat(TOLD_BYTES_MAX));
        said.add(Surface::Chat, much.as_bytes());
        assert!(said.behind(Bytes::new()).is_some());
        said.add(Surface::Chat, chunk("x").as_bytes());
        assert!(said.behind(Bytes::new()).is_none(), "too long to hold");
    }
}
