//! Reading an answer in one piece: is it one, what became of it, how many tokens did it take.
//!
//! Pure. Of the bytes only the shape is looked at; they go on as they came.

use std::borrow::Cow;

use engine::openai::{BROKEN, Surface};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::outcome::Seen;

/// What a whole answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// [`Seen::Complete`] or [`Seen::Filtered`].
    pub(crate) seen: Seen,
    /// Tokens of prompt and answer, if it says so.
    pub(crate) usage: Option<(u64, u64)>,
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// An error object instead of an answer.
    Error,
    Malformed(&'static str),
}

/// The answer to a chat or a completion.
#[derive(Deserialize)]
struct Choices<'a> {
    #[serde(default, borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default, borrow)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

impl Choice<'_> {
    fn is_broken(&self) -> bool {
        let reason = self.finish_reason.as_deref();
        self.error.is_some() || reason.is_some_and(|reason| BROKEN.contains(&reason))
    }
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(default)]
    data: Option<Vec<IgnoredAny>>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(default)]
    output: Option<Vec<IgnoredAny>>,
    #[serde(default, borrow)]
    status: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    incomplete_details: Option<Incomplete<'a>>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(default, borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

/// Tokens, if the answer counts them in a known way; an odd count is no reason to refuse it.
fn tokens(usage: Option<&RawValue>) -> Option<(u64, u64)> {
    let said: Tokens = serde_json::from_str(usage?.get()).ok()?;
    Some((
        said.prompt_tokens.max(said.input_tokens),
        said.completion_tokens.max(said.output_tokens),
    ))
}

/// Reads an answer of `surface`.
pub(crate) fn read(surface: Surface, headers: &HeaderMap, bytes: &[u8]) -> Result<Whole, Unfit> {
    if !is_json(headers) {
        return Err(Unfit::Malformed("its content type is not JSON"));
    }
    match surface {
        Surface::Chat | Surface::Completions => choices(bytes),
        Surface::Embeddings => embeddings(bytes),
        Surface::Responses => response(bytes),
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unfit> {
    let what = "it is not the JSON of an answer";
    // Else an array would pass for an object with its members in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Unfit::Malformed(what));
    }
    serde_json::from_slice(bytes).map_err(|_| Unfit::Malformed(what))
}

fn choices(bytes: &[u8]) -> Result<Whole, Unfit> {
    let answer: Choices<'_> = parse(bytes)?;
    if answer.error.is_some() {
        return Err(Unfit::Error);
    }
    let choices = answer.choices.unwrap_or_default();
    if choices.is_empty() {
        return Err(Unfit::Malformed("it has no choices"));
    }
    if choices.iter().any(Choice::is_broken) {
        return Err(Unfit::Error);
    }
    let filtered = |choice: &Choice<'_>| choice.finish_reason.as_deref() == Some("content_filter");
    Ok(whole(choices.iter().any(filtered), answer.usage))
}

fn embeddings(bytes: &[u8]) -> Result<Whole, Unfit> {
    let answer: Embeddings<'_> = parse(bytes)?;
    if answer.error.is_some() {
        return Err(Unfit::Error);
    }
    if answer.data.is_none_or(|data| data.is_empty()) {
        return Err(Unfit::Malformed("it has no embeddings"));
    }
    Ok(whole(false, answer.usage))
}

fn response(bytes: &[u8]) -> Result<Whole, Unfit> {
    let answer: Response<'_> = parse(bytes)?;
    match answer.status.as_deref() {
        _ if answer.error.is_some() => return Err(Unfit::Error),
        Some("failed") => return Err(Unfit::Error),
        None | Some("completed" | "incomplete") => {}
        Some(_) => return Err(Unfit::Malformed("it is not complete")),
    }
    if answer.output.is_none() {
        return Err(Unfit::Malformed("it has no output"));
    }
    let reason = answer.incomplete_details.and_then(|details| details.reason);
    Ok(whole(
        reason.as_deref() == Some("content_filter"),
        answer.usage,
    ))
}

/// The id of a response, or of the one that an event of its stream is about.
pub(crate) fn response_id(bytes: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(default, borrow)]
        id: Option<Cow<'a, str>>,
        #[serde(default, borrow)]
        response: Option<&'a RawValue>,
    }
    let named: Named<'_> = serde_json::from_slice(bytes).ok()?;
    let Some(inner) = named.response else {
        return named.id;
    };
    serde_json::from_str::<Named<'_>>(inner.get()).ok()?.id
}

fn whole(filtered: bool, usage: Option<&RawValue>) -> Whole {
    Whole {
        seen: if filtered {
            Seen::Filtered
        } else {
            Seen::Complete
        },
        usage: tokens(usage),
    }
}

/// Whether a body says that it is JSON; one that says nothing is looked at.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let kind = kind.as_bytes();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or(kind);
    let kind = kind.trim_ascii();
    let suffix = kind.len().checked_sub(5).map(|at| &kind[at..]);
    kind.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read_json(surface: Surface, text: &str) -> Result<Whole, Unfit> {
        read(surface, &HeaderMap::new(), text.as_bytes())
    }

    #[test]
    fn good_answers_of_every_surface() {
        use Surface::{Chat, Completions, Embeddings, Responses};
        let rows = [
            (
                Chat,
                r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
                (1, 2),
            ),
            (
                Completions,
                r#"{"choices":[{"text":"x","finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2},"error":null}"#,
                (1, 2),
            ),
            (
                Embeddings,
                r#"{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
                (1, 0),
            ),
            (
                Responses,
                r#"{"status":"completed","error":null,"output":[],"usage":{"input_tokens":1,"output_tokens":2}}"#,
                (1, 2),
            ),
        ];
        for (surface, text, usage) in rows {
            let whole = read_json(surface, text).expect(text);
            assert_eq!((whole.seen, whole.usage), (Seen::Complete, Some(usage)));
        }
        let odd = r#"{"choices":[{}],"usage":{"prompt_tokens":null}}"#;
        assert_eq!(read_json(Chat, odd).expect("an answer").usage, None);
    }

    #[test]
    fn a_filter_is_seen() {
        for (surface, text) in [
            (
                Surface::Chat,
                r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"content_filter"}]}"#,
            ),
            (
                Surface::Responses,
                r#"{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[]}"#,
            ),
        ] {
            assert_eq!(read_json(surface, text).expect(text).seen, Seen::Filtered);
        }
    }

    #[test]
    fn what_is_no_answer() {
        use Surface::{Chat, Embeddings, Responses};
        for (surface, text, unfit) in [
            (Chat, "{oops", "JSON"),
            (Chat, "[]", "JSON"),
            (Chat, r#"{"id":"x"}"#, "choices"),
            (Chat, r#"{"choices":[]}"#, "choices"),
            (Embeddings, r#"{"data":[]}"#, "embeddings"),
            (Responses, r#"{"status":"completed"}"#, "output"),
            (Responses, r#"{"status":"queued","output":[]}"#, "complete"),
        ] {
            match read_json(surface, text) {
                Err(Unfit::Malformed(why)) => assert!(why.contains(unfit), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for (surface, text) in [
            (Chat, r#"{"error":{"message":"m"},"choices":[{}]}"#),
            (Chat, r#"{"choices":[{"finish_reason":"error"}]}"#),
            (
                Chat,
                r#"{"choices":[{"finish_reason":"insufficient_system_resource"}]}"#,
            ),
            (
                Chat,
                r#"{"choices":[{"finish_reason":"stop"},{"error":{"code":502,"message":"m"}}]}"#,
            ),
            (Embeddings, r#"{"error":"m"}"#),
            (Responses, r#"{"status":"failed","output":[]}"#),
            (Responses, r#"{"status":"failed","error":{"code":"c"}}"#),
        ] {
            assert_eq!(read_json(surface, text), Err(Unfit::Error), "{text}");
        }
    }

    #[test]
    fn responses_have_ids() {
        for (text, id) in [
            (r#"{"id":"r","output":[]}"#, Some("r")),
            (
                r#"{"type":"response.created","response":{"id":"r"}}"#,
                Some("r"),
            ),
            (r#"{"id":"x","response":{}}"#, None),
            (r#"{"id":1}"#, None),
            ("{", None),
        ] {
            assert_eq!(response_id(text.as_bytes()).as_deref(), id, "{text}");
        }
    }

    #[test]
    fn content_types() {
        for (kind, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/html", false),
            ("json", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_json(&headers), json, "{kind}");
        }
        assert!(is_json(&HeaderMap::new()));
    }
}
