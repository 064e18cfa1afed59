//! Answers of an outside API: its bytes are passed on as they are.
//!
//! One thing is changed on the way out: a streamed request that does not speak of usage is asked
//! to report it, because a receipt states it; the extra chunk is then kept from the caller.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use engine::ApiError;
use engine::openai::{ChatRequest, ChunkSummary, CompletionRequest, FinishReason, Surface};
use engine::upstream::{Events, MAX_ANSWER_BYTES, Reply as UpstreamReply, Upstream, UpstreamError};
use record::Outcome;
use record::receipt::{Executed, Finish};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::complete;
use crate::event;
use crate::generate::{self, finish_word};
use crate::inference::End;
use crate::respond;
use crate::turn::{Interrupted, Streaming, Turn};

/// What is added to a streamed request that does not speak of usage.
const ASK_FOR_USAGE: &[u8] = b",\"stream_options\":{\"include_usage\":true}}";

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

/// What is read of a request; the API itself judges the rest.
struct Asked {
    executed: Executed,
    streams: bool,
    choices: u64,
}

impl Asked {
    fn read(surface: Surface, body: &[u8]) -> Result<Asked, ApiError> {
        if surface == Surface::Completions {
            let request = CompletionRequest::parse(body)?;
            return Ok(Asked {
                executed: complete::asked(&request),
                streams: request.streams(),
                choices: request.choices(),
            });
        }
        let request = ChatRequest::parse(body)?;
        Ok(Asked {
            executed: generate::asked(&request),
            streams: request.streams(),
            choices: request.n.unwrap_or(1),
        })
    }
}

/// Runs one inference of an outside API to its end, whatever that is.
pub(crate) async fn run(upstream: Upstream, mut turn: Turn, surface: Surface, body: Bytes) {
    let asked = match Asked::read(surface, &body) {
        Ok(asked) => asked,
        Err(error) => return turn.refuse(&error, Outcome::ClientError).await,
    };
    turn.inference.executed = asked.executed;
    let (streams, choices) = (asked.streams, asked.choices);
    let (body, added) = if streams {
        asking_for_usage(body)
    } else {
        (body, false)
    };
    let answered = async {
        let answer = upstream
            .post(surface, body, HeaderMap::new())
            .await
            .map_err(failed)?;
        if answer.is_event_stream() != streams {
            let detail = "it did not answer in the form that was asked for".to_owned();
            return Err(failed(UpstreamError::Malformed { detail }));
        }
        Ok(answer)
    };
    let answer = match turn.race(answered).await {
        Ok(answer) => answer,
        Err(why) => return turn.interrupted(why, false).await,
    };
    if streams {
        let Some(mut streaming) = turn.stream().await else {
            return;
        };
        let events = answer.into_body().into_events(surface, choices);
        let outcome = stream(&mut streaming, events, added).await;
        streaming.end(outcome).await;
    } else {
        whole(turn, answer).await;
    }
}

async fn whole(mut turn: Turn, answer: UpstreamReply) {
    let status = answer.status.as_u16();
    let kind = answer.headers.get(CONTENT_TYPE).cloned();
    let read = async {
        let body = answer.bytes(MAX_ANSWER_BYTES).await.map_err(failed)?;
        let seen = finished(&body).map_err(failed)?;
        Ok((body, seen))
    };
    let (body, seen) = match turn.race(read).await {
        Ok(read) => read,
        Err(why) => return turn.interrupted(why, true).await,
    };
    turn.inference.first_token();
    let mut response = respond::json(status, body.clone());
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    turn.whole(response, &body, seen.end(status)).await;
}

/// Looks into a whole answer: it must be a finished one.
fn finished(body: &Bytes) -> Result<Seen, UpstreamError> {
    match ChunkSummary::parse(body) {
        Some(summary) if summary.is_error => {
            let error = Box::new(ApiError::from_event(502, body));
            Err(UpstreamError::InStream {
                error,
                raw: body.clone(),
            })
        }
        Some(summary) if summary.finish_reason.is_some() => {
            let mut seen = Seen::default();
            seen.chunk(&summary);
            Ok(seen)
        }
        _ => {
            let detail = "it is not a finished completion".to_owned();
            Err(UpstreamError::Malformed { detail })
        }
    }
}

/// Passes the upstream's frames on; its `[DONE]` is left out, because the receipt goes before it.
async fn stream(
    to: &mut Streaming,
    mut events: Events,
    hide_usage: bool,
) -> Result<End, Interrupted> {
    let mut seen = Seen::default();
    while let Some(event) = to.race(events.next()).await? {
        let event = event.map_err(failed)?;
        if let Some(chunk) = &event.chunk {
            seen.chunk(chunk);
            if chunk.has_content {
                to.inference.first_token();
            }
        }
        let frame = event.event;
        let hidden = hide_usage && frame.data.as_deref().is_some_and(is_only_usage);
        if frame.is_done() || hidden || event::is_longrun(frame.name.as_ref()) {
            continue;
        }
        to.frame(frame.raw, frame.data.as_deref()).await?;
    }
    Ok(seen.end(200))
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn failed(error: UpstreamError) -> Interrupted {
    let (outcome, error) = classify(&error);
    Interrupted::Failed(outcome, error)
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
