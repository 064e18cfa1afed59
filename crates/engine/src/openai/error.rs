//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}` and an HTTP status.
//!
//! Reference: <https://platform.openai.com/docs/guides/error-codes>. The official clients pick
//! their exception class from the status alone and show `message`; `code` is for programs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest piece of a foreign error body that is quoted in a message, bytes.
pub const MAX_QUOTED_BYTES: usize = 512;

/// An error as an OpenAI client expects it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// One sentence for a person: the culprit and the way out.
    pub message: String,
    /// `invalid_request_error`, `server_error`, `rate_limit_error`, …
    pub kind: String,
    /// The request field at fault.
    pub param: Option<String>,
    /// A word for programs, such as `model_not_found`.
    pub code: Option<String>,
    /// When to come back, seconds; sent as `Retry-After`.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// An error with `status`, `type` and message, and nothing else.
    pub fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind: kind.to_owned(),
            param: None,
            code: None,
            retry_after_s: None,
        }
    }

    /// The same error naming the request field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error with a word for programs.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The same error with `Retry-After`, seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// 400: the request as a whole is unusable.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// 400: field `param` is unusable.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self::bad_request(message).with_param(param)
    }

    /// 404: no such model; names those there are.
    pub fn model_not_found<S: AsRef<str>>(asked: &str, known: &[S]) -> Self {
        let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
        let there_are = if known.is_empty() {
            "no models are served here at the moment".to_owned()
        } else {
            format!("the models served here are: {}", known.join(", "))
        };
        Self::new(
            404,
            "invalid_request_error",
            format!("The model `{asked}` does not exist; {there_are}."),
        )
        .with_param("model")
        .with_code("model_not_found")
    }

    /// 400: prompt and answer do not fit the context.
    pub fn context_length_exceeded(
        limit_tokens: usize,
        prompt_tokens: usize,
        answer_tokens: usize,
    ) -> Self {
        let message = if answer_tokens == 0 {
            format!(
                "This model's maximum context length is {limit_tokens} tokens. However, your \
                 messages resulted in at least {prompt_tokens} tokens. Please reduce the length \
                 of the messages."
            )
        } else {
            format!(
                "This model's maximum context length is {limit_tokens} tokens. However, you \
                 requested {} tokens ({prompt_tokens} in the messages, {answer_tokens} in the \
                 completion). Please reduce the length of the messages or the completion.",
                prompt_tokens + answer_tokens
            )
        };
        Self::invalid("messages", message).with_code("context_length_exceeded")
    }

    /// 404: no such path.
    pub fn unknown_path(method: &str, path: &str) -> Self {
        Self::new(
            404,
            "invalid_request_error",
            format!("Unknown request URL: {method} {path}."),
        )
        .with_code("unknown_url")
    }

    /// 413: the body is over the limit.
    pub fn body_too_large(limit_bytes: usize) -> Self {
        Self::new(
            413,
            "invalid_request_error",
            format!("The request body is larger than the {limit_bytes} bytes accepted here."),
        )
        .with_code("request_too_large")
    }

    /// 503 with `Retry-After`: every worker is busy and the queue is full.
    pub fn overloaded(retry_after_s: u32) -> Self {
        Self::new(
            503,
            "server_error",
            "The engine is overloaded at the moment: every worker is busy and the queue is full. \
             Please retry later.",
        )
        .with_code("overloaded")
        .with_retry_after(retry_after_s)
    }

    /// 500: something here is broken.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "server_error", message).with_code("internal_error")
    }

    /// 502: what stands behind us failed.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(502, "server_error", message).with_code("upstream_error")
    }

    /// 504: what stands behind us did not answer in time.
    pub fn gateway_timeout(message: impl Into<String>) -> Self {
        Self::new(504, "server_error", message).with_code("timeout")
    }

    /// The JSON body.
    pub fn to_body(&self) -> Bytes {
        let wire = Wire {
            error: WireError {
                message: Some(self.message.clone()),
                kind: Some(self.kind.clone()),
                param: self.param.clone(),
                code: self.code.clone().map(serde_json::Value::String),
            },
        };
        Bytes::from(serde_json::to_vec(&wire).expect("four strings always serialise"))
    }

    /// Reads a foreign error body, also where it stands in a list, as Google sends it. A body in
    /// another shape becomes a message that quotes its first [`MAX_QUOTED_BYTES`] bytes.
    pub fn from_body(status: u16, body: &[u8]) -> Self {
        let Some(error) = WireError::of(body) else {
            let quoted = String::from_utf8_lossy(&body[..body.len().min(MAX_QUOTED_BYTES)]);
            let quoted = quoted.trim();
            let message = if quoted.is_empty() {
                format!("status {status} without a body")
            } else {
                format!("status {status}: {quoted}")
            };
            return Self::new(status, "server_error", message);
        };
        Self {
            status,
            message: error.message.unwrap_or_else(|| format!("status {status}")),
            kind: error.kind.unwrap_or_else(|| "server_error".to_owned()),
            param: error.param,
            code: error.code.and_then(|code| match code {
                serde_json::Value::Null => None,
                serde_json::Value::String(word) => Some(word),
                other => Some(other.to_string()),
            }),
            retry_after_s: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    error: WireError,
}

#[derive(Serialize, Deserialize)]
struct WireError {
    message: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    param: Option<String>,
    /// A string with OpenAI, a number with some others.
    #[serde(default)]
    code: Option<serde_json::Value>,
}

impl WireError {
    /// The error object of a body. A list is read as one: else it would pass for an object with its
    /// members in order, and what it says be lost.
    fn of(body: &[u8]) -> Option<Self> {
        if body.trim_ascii_start().starts_with(b"[") {
            let list: Vec<Wire> = serde_json::from_slice(body).ok()?;
            return list.into_iter().next().map(|wire| wire.error);
        }
        let wire: Wire = serde_json::from_slice(body).ok()?;
        Some(wire.error)
    }
}
