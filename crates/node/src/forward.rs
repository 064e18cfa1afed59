//! Answers of an outside API: its bytes are passed on as they are.
//!
//! One thing is changed on the way out: a streamed request that does not speak of usage is asked
//! to report it, because a receipt states it; the extra chunk is then kept from the caller.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::HeaderMap;
use bytes::Bytes;
use engine::openai::{ChatRequest, ChunkSummary, FinishReason};
use engine::upstream::{MAX_ANSWER_BYTES, Reply as UpstreamReply, Upstream, UpstreamError};
use engine::{ApiError, sse};
use record::Outcome;
use record::content::Commitment;
use record::receipt::Finish;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::watch;

use crate::event;
use crate::generate::{asked, finish_word, stopped, stopping};
use crate::inference::{End, Inference};
use crate::respond::{self, Frames, Gone, Reply};

/// The client left before the answer was there.
const CLIENT_LEFT: u16 = 499;
/// What is added to a streamed request that does not speak of usage.
const ASK_FOR_USAGE: &[u8] = b",\"stream_options\":{\"include_usage\":true}}";

/// One inference of an outside API.
pub(crate) struct Forwarding {
    pub(crate) upstream: Upstream,
    pub(crate) inference: Inference,
    pub(crate) reply: Reply,
    /// Becomes true when the node gives up waiting for running answers.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Why an answer under way ended before its end.
enum Interrupted {
    Gone,
    Stopped,
    Failed(UpstreamError),
}

/// What the chunks of a stream said.
#[derive(Default)]
struct Seen {
    finish: Option<FinishReason>,
    usage: Option<(u64, u64)>,
}

impl Seen {
    fn chunk(&mut self, chunk: &ChunkSummary) {
        if let Some(usage) = &chunk.usage {
            self.usage = Some((usage.prompt_tokens, usage.completion_tokens));
        }
        if let Some(reason) = &chunk.finish_reason {
            self.finish = Some(reason.clone());
        }
    }

    fn end(&self, status: u16) -> End {
        let finish = self.finish.as_ref().map_or(Finish::Other, finish_word);
        End {
            finish: Some(finish),
            usage: self.usage,
            ..End::new(Outcome::Ok, status)
        }
    }
}

impl Forwarding {
    /// Runs to the end, whatever it is.
    pub(crate) async fn run(mut self, body: Bytes) {
        let request = match ChatRequest::parse(&body) {
            Ok(request) => request,
            Err(error) => return self.refuse(&error, Outcome::ClientError).await,
        };
        self.inference.executed = asked(&request);
        let streams = request.streams();
        let (body, added) = if streams {
            asking_for_usage(body)
        } else {
            (body, false)
        };
        let upstream = self.upstream.clone();
        let answered = tokio::select! {
            answered = upstream.chat(body, HeaderMap::new()) => answered,
            () = self.reply.gone() => return self.leave().await,
            () = stopped(self.stop.clone()) => {
                return self.refuse(&stopping(), Outcome::Capacity).await;
            }
        };
        match answered {
            Ok(answer) if answer.is_event_stream() != streams => {
                let detail = "it did not answer in the form that was asked for".to_owned();
                self.fail(&UpstreamError::Malformed { detail }).await;
            }
            Ok(answer) if streams => self.stream(answer, added).await,
            Ok(answer) => self.whole(answer).await,
            Err(error) => self.fail(&error).await,
        }
    }

    async fn fail(self, error: &UpstreamError) {
        let (outcome, error) = classify(error);
        self.refuse(&error, outcome).await;
    }

    async fn refuse(self, error: &ApiError, outcome: Outcome) {
        let (response, body) = respond::error(error);
        let response_digest = self.inference.commit_response(&body);
        let end = End {
            response: Some(response_digest),
            ..End::new(outcome, error.status)
        };
        let receipt = self.inference.conclude(end).await;
        self.reply.whole(response, receipt.as_ref());
    }

    async fn leave(self) {
        self.inference
            .conclude(End::new(Outcome::Canceled, CLIENT_LEFT))
            .await;
    }

    async fn whole(mut self, answer: UpstreamReply) {
        let status = answer.status.as_u16();
        let kind = answer.headers.get("content-type").cloned();
        let body = tokio::select! {
            body = answer.bytes(MAX_ANSWER_BYTES) => body,
            () = self.reply.gone() => return self.leave().await,
            () = stopped(self.stop.clone()) => {
                return self.refuse(&stopping(), Outcome::Truncated).await;
            }
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => return self.fail(&error).await,
        };
        self.inference.first_token();
        let mut seen = Seen::default();
        match ChunkSummary::parse(&body) {
            Some(summary) if summary.is_error => {
                let error = Box::new(ApiError::from_body(502, &body));
                return self
                    .fail(&UpstreamError::InStream { error, raw: body })
                    .await;
            }
            Some(summary) if summary.finish_reason.is_some() => seen.chunk(&summary),
            _ => {
                let detail = "it is not a finished chat completion".to_owned();
                return self.fail(&UpstreamError::Malformed { detail }).await;
            }
        }
        let end = End {
            response: Some(self.inference.commit_response(&body)),
            ..seen.end(status)
        };
        let receipt = self.inference.conclude(end).await;
        let mut response = respond::json(status, body);
        if let Some(kind) = kind {
            response.headers_mut().insert("content-type", kind);
        }
        self.reply.whole(response, receipt.as_ref());
    }

    async fn stream(self, answer: UpstreamReply, hide_usage: bool) {
        let Forwarding {
            mut inference,
            reply,
            stop,
            ..
        } = self;
        let Ok(frames) = reply.stream() else {
            inference
                .conclude(End::new(Outcome::Canceled, CLIENT_LEFT))
                .await;
            return;
        };
        let mut sender = Sender {
            frames,
            sent: inference.response(),
            any: false,
        };
        let mut seen = Seen::default();
        let outcome = tokio::select! {
            outcome = relay(&mut inference, &mut sender, &mut seen, answer, hide_usage) => outcome,
            () = stopped(stop) => Err(Interrupted::Stopped),
        };
        let mut end = match outcome {
            Ok(()) => seen.end(200),
            Err(interrupted) => sender.interrupt(interrupted, &seen).await,
        };
        end.response = sender.any.then(|| sender.sent.clone().finish());
        let (expected, ok) = (
            inference.expects_receipt(),
            end.outcome == Some(Outcome::Ok),
        );
        let receipt = inference.conclude(end).await;
        if let Some(receipt) = receipt.filter(|_| expected) {
            // A client that has left misses its receipt; the log has it.
            let _ = sender.frames.send(event::receipt(receipt.json())).await;
        }
        if ok {
            let _ = sender.frames.send(Bytes::from_static(sse::DONE)).await;
        }
    }
}

/// Passes the upstream's frames on; its `[DONE]` is left out, because the receipt goes before it.
async fn relay(
    inference: &mut Inference,
    sender: &mut Sender,
    seen: &mut Seen,
    answer: UpstreamReply,
    hide_usage: bool,
) -> Result<(), Interrupted> {
    let mut events = answer.into_events();
    loop {
        let next = tokio::select! {
            next = events.next() => next,
            () = sender.frames.gone() => return Err(Interrupted::Gone),
        };
        let event = match next {
            Some(Ok(event)) => event,
            Some(Err(error)) => return Err(Interrupted::Failed(error)),
            None => return Ok(()),
        };
        if let Some(chunk) = &event.chunk {
            seen.chunk(chunk);
            if chunk.has_content {
                inference.first_token();
            }
        }
        let frame = event.event;
        let hidden = hide_usage && frame.data.as_deref().is_some_and(is_only_usage);
        if frame.is_done() || hidden || event::is_longrun(frame.name.as_ref()) {
            continue;
        }
        sender.frame(frame.raw, frame.data.as_deref()).await?;
    }
}

/// Sends frames and commits to their payloads.
struct Sender {
    frames: Frames,
    sent: Commitment,
    any: bool,
}

impl Sender {
    async fn frame(&mut self, raw: Bytes, data: Option<&[u8]>) -> Result<(), Interrupted> {
        self.frames
            .send(raw)
            .await
            .map_err(|Gone| Interrupted::Gone)?;
        if let Some(data) = data {
            self.sent.update_event(data);
            self.any = true;
        }
        Ok(())
    }

    /// An error event and no `[DONE]`: a stream that breaks off must not look like one that
    /// ended well.
    async fn interrupt(&mut self, why: Interrupted, seen: &Seen) -> End {
        let (outcome, error) = match why {
            Interrupted::Gone => {
                let finish = Some(Finish::Canceled);
                return End {
                    finish,
                    usage: seen.usage,
                    ..End::new(Outcome::Canceled, 200)
                };
            }
            Interrupted::Stopped => (Outcome::Truncated, stopping()),
            Interrupted::Failed(error) => classify(&error),
        };
        let body = error.to_body();
        // If it cannot be told, it has left by now; the outcome stays the provider's.
        let _ = self.frame(event::data(&body), Some(&body)).await;
        End {
            finish: Some(Finish::Error),
            usage: seen.usage,
            ..End::new(outcome, 200)
        }
    }
}

/// What an upstream's failure is, seen from this provider's caller.
fn classify(error: &UpstreamError) -> (Outcome, ApiError) {
    let plain = error.to_api_error();
    match error {
        UpstreamError::Connect { .. } => (Outcome::Connection, plain),
        UpstreamError::Timeout { .. } => (Outcome::Timeout, plain),
        UpstreamError::Cut { .. } => (Outcome::Truncated, plain),
        UpstreamError::Malformed { .. } | UpstreamError::TooLarge { .. } => {
            (Outcome::Malformed, plain)
        }
        UpstreamError::InStream { .. } => (Outcome::ProviderError, plain),
        UpstreamError::Status { status, .. } => match status {
            // The node's own key, not the caller's: nothing the caller can mend, or should see.
            401 | 403 => (
                Outcome::ProviderError,
                ApiError::bad_gateway("The upstream does not accept this node's key."),
            ),
            408 => (Outcome::Timeout, plain),
            429 => (Outcome::RateLimited, plain),
            503 | 529 => (Outcome::Capacity, plain),
            400..=499 => (Outcome::ClientError, plain),
            _ => (Outcome::ProviderError, plain),
        },
    }
}

/// Asks for the usage, if the request leaves that open. The rest of the body stays as it is.
fn asking_for_usage(body: Bytes) -> (Bytes, bool) {
    let members: BTreeMap<Cow<'_, str>, IgnoredAny> =
        serde_json::from_slice(&body).unwrap_or_default();
    let open = !members.is_empty() && !members.contains_key("stream_options");
    match body.trim_ascii_end().strip_suffix(b"}") {
        Some(start) if open => ([start, ASK_FOR_USAGE].concat().into(), true),
        _ => (body, false),
    }
}

/// Whether a chunk holds nothing but the usage.
fn is_only_usage(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        choices: Vec<IgnoredAny>,
        usage: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Head>(data).is_ok_and(|it| it.choices.is_empty() && it.usage.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_asked_for_only_where_the_request_leaves_it_open() {
        let ask = |body: &'static str| asking_for_usage(Bytes::from_static(body.as_bytes()));
        let (body, added) = ask("{\"model\":\"m\",\"stream\":true} \n");
        assert!(added);
        assert_eq!(
            body,
            &b"{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"[..]
        );
        for closed in [
            "{\"model\":\"m\",\"stream_options\":null}",
            "{\"stream_options\":{\"include_usage\":false}}",
            "{}",
            "[]",
            "not json}",
        ] {
            assert_eq!(ask(closed), (Bytes::from_static(closed.as_bytes()), false));
        }
    }

    #[test]
    fn a_usage_chunk_has_no_choices() {
        assert!(is_only_usage(
            br#"{"choices":[],"usage":{"prompt_tokens":1}}"#
        ));
        assert!(!is_only_usage(br#"{"choices":[{}],"usage":{}}"#));
        assert!(!is_only_usage(br#"{"choices":[]}"#));
        assert!(!is_only_usage(br#"{"choices":[],"usage":null}"#));
    }
}
