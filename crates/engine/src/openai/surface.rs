//! The paths of OpenAI's API that answers come from, and what an observer reads of each.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::answer::{FinishReason, Usage};
use super::error::ApiError;
use super::summary::ChunkSummary;

/// A kind of request with its kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// `/chat/completions`.
    Chat,
    /// `/completions`, the older one: a prompt instead of messages.
    Completions,
    /// `/embeddings`; never streamed.
    Embeddings,
    /// `/responses`, whose streams are of named events and end without `[DONE]`.
    Responses,
}

impl Surface {
    /// Every surface, in the order of the variants.
    pub const ALL: [Self; 4] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
    ];

    /// The path below the API's base.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
        }
    }

    /// Whether a whole stream ends in `data: [DONE]`.
    pub const fn has_done(self) -> bool {
        !matches!(self, Self::Responses)
    }

    /// Whether an event with this name is part of an answer; any other passes unread.
    pub(crate) fn reads(self, name: Option<&[u8]>) -> bool {
        match name {
            None | Some(b"message" | b"error") => true,
            Some(name) => self == Self::Responses && name.starts_with(b"response."),
        }
    }

    /// Sums up the data of an event; `None` if it is no JSON object of this surface's shape.
    pub fn summarize(self, data: &[u8]) -> Option<ChunkSummary> {
        match self {
            Self::Responses => summarize_response(data),
            Self::Chat | Self::Completions | Self::Embeddings => ChunkSummary::parse(data),
        }
    }
}

/// An event of `/responses`
/// (<https://platform.openai.com/docs/api-reference/responses-streaming>).
#[derive(Deserialize)]
struct ResponseEvent<'a> {
    #[serde(default, rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    response: Option<ResponseHead<'a>>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

/// What is read of a response object.
#[derive(Deserialize)]
pub(super) struct ResponseHead<'a> {
    #[serde(default, borrow)]
    incomplete_details: Option<Incomplete<'a>>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(default, borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ResponseUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

/// Tokens as `/responses` counts them, `None` in another shape.
fn response_usage(usage: Option<&RawValue>) -> Option<Usage> {
    let usage: ResponseUsage = serde_json::from_str(usage?.get()).ok()?;
    Some(Usage::new(usage.input_tokens, usage.output_tokens))
}

fn summarize_response(data: &[u8]) -> Option<ChunkSummary> {
    let event: ResponseEvent<'_> = serde_json::from_slice(data).ok()?;
    let kind = event.kind.as_ref();
    let ends = matches!(kind, "response.completed" | "response.incomplete");
    let finish_reason = ends.then(|| {
        let details = event
            .response
            .as_ref()
            .and_then(|r| r.incomplete_details.as_ref());
        match details.and_then(|details| details.reason.as_deref()) {
            None => FinishReason::Stop,
            Some("max_output_tokens") => FinishReason::Length,
            Some(reason) => FinishReason::from(reason),
        }
    });
    let failed = matches!(kind, "error" | "response.failed");
    Some(ChunkSummary {
        has_content: kind.ends_with(".delta"),
        ended: if ends { vec![0] } else { Vec::new() },
        finish_reason,
        usage: if ends {
            response_usage(event.response.and_then(|response| response.usage))
        } else {
            None
        },
        // Some send OpenAI's common error object here as well.
        is_error: failed || event.error.is_some(),
    })
}

/// The error that an event of `/responses` tells, in its two shapes.
#[derive(Deserialize)]
struct FlatError {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    param: Option<String>,
    #[serde(default)]
    response: Option<Failed>,
}

/// An answer that ended in an error.
#[derive(Deserialize)]
struct Broken {
    #[serde(rename = "choices")]
    _choices: Vec<IgnoredAny>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Failed {
    #[serde(default)]
    error: Option<Box<FlatError>>,
}

impl ApiError {
    /// Reads an error that came where an answer was expected, in any of its shapes. Nothing of an
    /// answer that ended in an error is repeated.
    pub fn from_event(status: u16, data: &[u8]) -> Self {
        if serde_json::from_slice::<Broken>(data).is_ok_and(|broken| broken.error.is_none()) {
            let message = "The endpoint itself ended its answer with an error.";
            return Self::new(status, "server_error", message);
        }
        let flat = serde_json::from_slice::<FlatError>(data).ok();
        let told = flat.and_then(|flat| match flat.response {
            Some(Failed { error: Some(error) }) => Some(*error),
            _ => flat.message.is_some().then_some(FlatError {
                response: None,
                ..flat
            }),
        });
        match told {
            None => Self::from_body(status, data),
            Some(told) => {
                let message = told.message.unwrap_or_else(|| format!("status {status}"));
                Self {
                    param: told.param,
                    code: told.code,
                    ..Self::new(status, "server_error", message)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_responses_are_summed_up() {
        let sum = |data: &str| Surface::Responses.summarize(data.as_bytes());
        let delta = sum(r#"{"type":"response.output_text.delta","delta":"hi"}"#).expect("one");
        assert!(delta.has_content && delta.ended.is_empty() && !delta.is_error);
        let args = sum(r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#);
        assert!(args.expect("one").has_content);
        let begun = sum(
            r#"{"type":"response.created","response":{"status":"in_progress","error":null,"usage":null}}"#,
        );
        assert_eq!(begun, Some(ChunkSummary::default()));
        let done = sum(
            r#"{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4,"output_tokens_details":{}},"error":null}}"#,
        )
        .expect("one");
        assert_eq!(done.finish_reason, Some(FinishReason::Stop));
        assert_eq!(done.ended, [0]);
        assert_eq!(done.usage, Some(Usage::new(3, 4)));
        for (reason, finish) in [
            ("max_output_tokens", FinishReason::Length),
            ("content_filter", FinishReason::ContentFilter),
        ] {
            let data = format!(
                r#"{{"type":"response.incomplete","response":{{"incomplete_details":{{"reason":"{reason}"}}}}}}"#
            );
            assert_eq!(sum(&data).expect("one").finish_reason, Some(finish));
        }
        assert_eq!(sum("[1]"), None);
        assert_eq!(sum("{oops"), None);
    }

    #[test]
    fn errors_of_responses_are_read_in_every_shape() {
        for (data, code) in [
            (
                r#"{"type":"error","code":"rate_limit_exceeded","message":"m","param":null}"#,
                "rate_limit_exceeded",
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
                "server_error",
            ),
            (
                r#"{"type":"error","error":{"message":"m","type":"t","code":"c"}}"#,
                "c",
            ),
        ] {
            assert!(
                Surface::Responses
                    .summarize(data.as_bytes())
                    .is_some_and(|s| s.is_error),
                "{data}"
            );
            let error = ApiError::from_event(502, data.as_bytes());
            assert_eq!(
                (error.message.as_str(), error.code.as_deref()),
                ("m", Some(code))
            );
        }
        let unnamed = ApiError::from_event(502, br#"{"type":"response.failed","response":{}}"#);
        assert_eq!(unnamed.status, 502);
    }

    #[test]
    fn a_choice_that_ends_in_an_error_is_one_and_its_text_stays_out() {
        for data in [
            r#"{"choices":[{"index":0,"delta":{"content":"secret"},"finish_reason":"error"}]}"#,
            r#"{"choices":[{"text":"secret","finish_reason":"insufficient_system_resource"}]}"#,
            r#"{"choices":[{"delta":{"content":"secret"},"error":{"code":502,"message":"m"}}]}"#,
        ] {
            let summary = Surface::Chat.summarize(data.as_bytes()).expect("a chunk");
            assert!(summary.is_error, "{data}");
            let error = ApiError::from_event(502, data.as_bytes());
            assert_eq!(error.status, 502);
            assert!(!error.message.contains("secret"), "{}", error.message);
        }
        let good = br#"{"choices":[{"delta":{},"finish_reason":"stop","error":null}]}"#;
        assert!(!Surface::Chat.summarize(good).expect("a chunk").is_error);
    }

    #[test]
    fn only_its_own_names_are_read() {
        for (surface, name, read) in [
            (Surface::Chat, None, true),
            (Surface::Chat, Some("response.created"), false),
            (Surface::Responses, Some("response.created"), true),
            (Surface::Responses, Some("error"), true),
            (Surface::Responses, Some("longrun.receipt"), false),
        ] {
            assert_eq!(surface.reads(name.map(str::as_bytes)), read, "{name:?}");
        }
    }
}
