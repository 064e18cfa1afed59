//! The part of a request that the gateway reads: borrowed from the body, which goes on untouched.
//!
//! Nothing is written back: the bytes that arrived are the bytes that are forwarded, so fields
//! that nobody here knows survive, in their order and spelling.

use std::borrow::Cow;

use engine::openai::{ApiError, ChatRequest};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What the gateway needs to know of a chat request.
#[derive(Debug, Deserialize)]
pub(crate) struct Head<'a> {
    /// The model asked for.
    #[serde(borrow)]
    pub(crate) model: Cow<'a, str>,
    #[serde(default)]
    stream: Option<bool>,
    /// Only counted: an endpoint judges what is in them.
    messages: Vec<IgnoredAny>,
    // Looked at for their types alone, so that a mistake is named here and at once.
    #[serde(default, rename = "temperature")]
    _temperature: Option<f64>,
    #[serde(default, rename = "top_p")]
    _top_p: Option<f64>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
}

impl<'a> Head<'a> {
    /// Reads the head of a chat request.
    ///
    /// # Errors
    /// 400 in OpenAI's shape, naming the field.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let head: Self = serde_json::from_slice(body).map_err(|error| named(body, &error))?;
        if head.messages.is_empty() {
            return Err(ApiError::invalid(
                "messages",
                "'messages' is empty; it needs at least one message.",
            ));
        }
        Ok(head)
    }

    /// How many tokens the request allows its answer; 0 where it does not say.
    pub(crate) fn answer_tokens_max(&self) -> u64 {
        let said = self.max_completion_tokens.or(self.max_tokens);
        said.unwrap_or(0)
    }

    /// Whether a stream of events is asked for.
    pub(crate) fn streams(&self) -> bool {
        self.stream == Some(true)
    }
}

/// The slow parser names the field; it is asked only when something is wrong.
fn named(body: &[u8], error: &serde_json::Error) -> ApiError {
    match ChatRequest::parse(body) {
        Err(named) => named,
        Ok(_) => ApiError::bad_request(format!(
            "The request body is not usable (line {}, column {}).",
            error.line(),
            error.column()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_without_copying() {
        let body =
            br#"{"zeta":[1],"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#;
        let head = Head::parse(body).expect("usable");
        assert!(head.streams() && matches!(head.model, Cow::Borrowed("m")));
    }

    #[test]
    fn every_mistake_names_its_field() {
        let rows: &[(&str, Option<&str>)] = &[
            ("", None),
            ("nonsense", None),
            ("[]", None),
            ("{", None),
            (
                r#"{"messages":[{"role":"user","content":"x"}]}"#,
                Some("model"),
            ),
            (
                r#"{"model":5,"messages":[{"role":"user","content":"x"}]}"#,
                Some("model"),
            ),
            (r#"{"model":"m"}"#, Some("messages")),
            (r#"{"model":"m","messages":"hello"}"#, Some("messages")),
            (r#"{"model":"m","messages":[]}"#, Some("messages")),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}"#,
                Some("stream"),
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#,
                Some("temperature"),
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":-1}"#,
                Some("max_tokens"),
            ),
        ];
        for (body, param) in rows {
            let error = Head::parse(body.as_bytes()).expect_err(body);
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, *param),
                "{body}"
            );
            assert_eq!(error.kind, "invalid_request_error");
        }
    }
}
