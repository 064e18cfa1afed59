//! An attempt whose answer comes in one piece.

use bytes::Bytes;
use engine::openai::ApiError;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::answer::{Answer, marked};
use crate::attempt::Attempt;
use crate::failure::Failure;
use crate::outcome::Seen;

/// What is looked at in a whole answer.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(default, borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Tokens>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default, borrow)]
    finish_reason: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Sends the request and reads the whole answer.
pub(crate) async fn attempt(mut attempt: Attempt, body: Bytes) -> Result<Answer, Failure> {
    let headers = attempt.headers();
    let live = std::sync::Arc::clone(attempt.live());
    let reply = match live.site.plain.chat(body, headers).await {
        Ok(reply) => reply,
        Err(error) => return Err(Failure::upstream(attempt, &error)),
    };
    attempt.first_byte();
    attempt.head(reply.status.as_u16(), &reply.headers);
    let status = reply.status;
    let headers = reply.headers.clone();
    let limit = attempt
        .gateway()
        .settings()
        .config
        .limits
        .response_max_bytes;
    let bytes = match reply.bytes(limit).await {
        Ok(bytes) => bytes,
        Err(error) => return Err(Failure::upstream(attempt, &error)),
    };
    attempt.body(&bytes);
    let seen = match read(&headers, &bytes) {
        Ok((seen, usage)) => {
            if let Some(usage) = usage {
                attempt.usage(usage.prompt_tokens, usage.completion_tokens);
            }
            seen
        }
        Err(Unfit::Error) => {
            return Err(Failure::inside(attempt, ApiError::from_body(502, &bytes)));
        }
        Err(Unfit::Malformed(what)) => return Err(Failure::malformed(attempt, what)),
    };
    let call = attempt.call();
    let evidence = attempt.evidence();
    let parts = marked(&bytes, call, &live, evidence);
    attempt.finish(seen);
    Ok(Answer::whole(status, &headers, call, &live, parts))
}

enum Unfit {
    /// An error object instead of an answer.
    Error,
    Malformed(&'static str),
}

fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<(Seen, Option<Tokens>), Unfit> {
    if !is_json(headers) {
        return Err(Unfit::Malformed("its content type is not JSON"));
    }
    let whole: Whole<'_> = serde_json::from_slice(bytes)
        .map_err(|_| Unfit::Malformed("it is not the JSON of a chat completion"))?;
    if whole.error.is_some() {
        return Err(Unfit::Error);
    }
    let choices = whole.choices.unwrap_or_default();
    if choices.is_empty() {
        return Err(Unfit::Malformed("it has no choices"));
    }
    let filtered = choices
        .iter()
        .any(|c| c.finish_reason.as_deref() == Some("content_filter"));
    Ok((
        if filtered {
            Seen::Filtered
        } else {
            Seen::Complete
        },
        whole.usage,
    ))
}

/// Whether a body says that it is JSON; one that says nothing is looked at.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let kind = kind
        .to_str()
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}
