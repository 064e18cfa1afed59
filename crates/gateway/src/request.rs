//! The part of a request that the gateway reads: borrowed from the body.
//!
//! The bytes that arrived are the bytes that are forwarded, so fields that nobody here knows
//! survive, in their order and spelling. Two things may change, each in its place and without
//! touching another byte: the name of the model, where an endpoint knows it under another one, and
//! the member `provider`, which is addressed to the gateway and taken out ([`Head::sent_to`]).

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use engine::openai::{ApiError, ChatRequest, Surface};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::preferences::Preferences;

/// What the gateway needs to know of a request.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// The model asked for.
    pub(crate) model: Cow<'a, str>,
    /// Whether a stream of events is asked for.
    pub(crate) streamed: bool,
    /// Choices asked for.
    pub(crate) choices: u64,
    /// How many tokens the request allows its answer; 0 where it does not say.
    pub(crate) answer_max: u64,
    /// The response that this one follows.
    pub(crate) previous: Option<Cow<'a, str>>,
    /// Members that name further models to an API that goes on by itself, with their names: OpenRouter's
    /// (<https://openrouter.ai/docs/guides/routing/model-fallbacks>) and LiteLLM's.
    pub(crate) further: [(&'static str, Option<&'a RawValue>); 2],
    /// What the caller prefers.
    pub(crate) preferences: Preferences,
    /// Where the model's name stands, with its quotes.
    model_at: Range<usize>,
    /// Where the member `provider` stands, with the comma that goes with it.
    provider_at: Option<Range<usize>>,
}

#[derive(Deserialize)]
struct Chat<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default, borrow)]
    n: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "even_null")]
    provider: Option<&'a RawValue>,
    #[serde(default, borrow)]
    models: Option<&'a RawValue>,
    #[serde(default, borrow)]
    fallbacks: Option<&'a RawValue>,
    /// Only counted: an endpoint judges what is in them.
    messages: Vec<IgnoredAny>,
    // Looked at for their types alone, so that a mistake is named here and at once.
    #[serde(default, rename = "temperature")]
    _temperature: Option<f64>,
    #[serde(default, rename = "top_p")]
    _top_p: Option<f64>,
    // Local servers take -1 for "as many as there are".
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
}

/// A request to any other surface.
#[derive(Deserialize)]
struct Other<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default, borrow)]
    n: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "even_null")]
    provider: Option<&'a RawValue>,
    #[serde(default, borrow)]
    models: Option<&'a RawValue>,
    #[serde(default, borrow)]
    fallbacks: Option<&'a RawValue>,
    #[serde(default, borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(default)]
    input: Option<IgnoredAny>,
    #[serde(default)]
    background: Option<bool>,
    #[serde(default, borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(default, borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(default, borrow)]
    previous_response_id: Option<&'a RawValue>,
}

impl<'a> Head<'a> {
    /// Reads the head of a request.
    ///
    /// # Errors
    /// 400 in OpenAI's shape, naming the field.
    pub(crate) fn parse(surface: Surface, body: &'a [u8]) -> Result<Self, ApiError> {
        // Else an array would pass for an object with its members in order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(no_object(body));
        }
        let wrong = |error: serde_json::Error| match surface {
            Surface::Chat => named_in_chat(body, &error),
            _ => named(body, &error),
        };
        let count = |value: Option<&RawValue>| serde_json::from_str(value?.get()).ok();
        let (model, stream, n, provider, answer_max, further);
        let mut prompts = 1;
        let mut previous = None;
        if surface == Surface::Chat {
            let read: Chat<'a> = serde_json::from_slice(body).map_err(wrong)?;
            if read.messages.is_empty() {
                let message = "'messages' is empty; it needs at least one message.";
                return Err(ApiError::invalid("messages", message));
            }
            let said = read.max_completion_tokens.or(read.max_tokens);
            answer_max = said.and_then(|most| u64::try_from(most).ok());
            further = [("models", read.models), ("fallbacks", read.fallbacks)];
            (model, stream, n, provider) = (read.model, read.stream, read.n, read.provider);
        } else {
            let read: Other<'a> = serde_json::from_slice(body).map_err(wrong)?;
            match surface {
                Surface::Completions if read.prompt.is_none() => return Err(missing("prompt")),
                Surface::Embeddings if read.input.is_none() => return Err(missing("input")),
                Surface::Responses if read.background == Some(true) => return Err(background()),
                _ => {}
            }
            if surface == Surface::Completions {
                prompts = read.prompt.map_or(1, prompts_in);
            }
            if surface == Surface::Responses {
                // One that is no text is for the endpoint to judge.
                previous = read.previous_response_id.and_then(borrowed);
            }
            answer_max = count(read.max_output_tokens.or(read.max_tokens));
            further = [("models", read.models), ("fallbacks", read.fallbacks)];
            (model, stream, n, provider) = (read.model, read.stream, read.n, read.provider);
        }
        let name: Cow<'a, str> = borrowed(model).ok_or_else(|| {
            let wrong: Value = serde_json::from_str(model.get()).unwrap_or_default();
            wrong_type("model", "a string", &wrong)
        })?;
        Ok(Self {
            model: name,
            streamed: stream == Some(true) && surface != Surface::Embeddings,
            choices: count(n).unwrap_or(1).saturating_mul(prompts),
            answer_max: answer_max.unwrap_or(0),
            previous,
            further,
            preferences: provider
                .filter(|value| value.get() != "null")
                .map_or_else(|| Ok(Preferences::default()), Preferences::parse)?,
            model_at: place_of(body, model),
            provider_at: provider.map(|value| member_around(body, place_of(body, value))),
        })
    }

    /// The body as it goes to an endpoint that knows the model as `name`.
    pub(crate) fn sent_to(&self, body: &Bytes, name: &str) -> Bytes {
        let renamed = (*self.model != *name).then(|| Value::from(name).to_string());
        let mut edits: Vec<(Range<usize>, &[u8])> = Vec::new();
        if let Some(renamed) = &renamed {
            edits.push((self.model_at.clone(), renamed.as_bytes()));
        }
        if let Some(at) = &self.provider_at {
            edits.push((at.clone(), b""));
        }
        if edits.is_empty() {
            return body.clone();
        }
        edits.sort_by_key(|(at, _)| at.start);
        let mut sent =
            BytesMut::with_capacity(body.len() + renamed.as_ref().map_or(0, String::len));
        let mut from = 0;
        for (at, instead) in edits {
            sent.extend_from_slice(&body[from..at.start]);
            sent.extend_from_slice(instead);
            from = at.end;
        }
        sent.extend_from_slice(&body[from..]);
        sent.freeze()
    }
}

/// A string at least this long without a space in it, and of ASCII alone, is something attached: an image, a
/// sound or a file in base64.
const ATTACHED_BYTES_MIN: usize = 4096;
/// What something attached counts for, as bytes of text: providers take some hundreds to a few thousand
/// tokens for an image, whatever its size in bytes.
const ATTACHED_AS_BYTES: usize = 4096;

/// How long the text of a request is, about: the length of its body, without what is attached.
pub(crate) fn text_bytes(body: &[u8]) -> usize {
    if body.len() < ATTACHED_BYTES_MIN {
        return body.len();
    }
    // Between two quotes there is a string, or what stands between strings: numbers, which may be tokens.
    let is_attached = |part: &&[u8]| {
        part.len() >= ATTACHED_BYTES_MIN
            && !matches!(part[0], b':' | b',' | b'[' | b'{')
            && part.is_ascii()
            && memchr::memchr(b' ', part).is_none()
    };
    let mut from = 0;
    let quotes = memchr::memchr_iter(b'"', body);
    let parts = quotes.map(|at| &body[std::mem::replace(&mut from, at + 1)..at]);
    let less = parts
        .filter(is_attached)
        .map(|part| part.len() - ATTACHED_AS_BYTES);
    body.len() - less.sum::<usize>()
}

/// A member that is there, be it `null`: it has to be taken out as well.
fn even_null<'de, D: Deserializer<'de>>(member: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(member).map(Some)
}

/// How many prompts there are: a list of texts or of lists of tokens holds several, and each gets
/// its own choices. A list of tokens is one.
fn prompts_in(prompt: &RawValue) -> u64 {
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(prompt.get()) else {
        return 1;
    };
    match list.first().map(|first| first.get().as_bytes()[0]) {
        Some(b'"' | b'[') => list.len() as u64,
        _ => 1,
    }
}

/// A string, without copying it unless it has escapes.
fn borrowed(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(value.get())
        .ok()
        .map(|text| text.0)
}

/// Where a value that was borrowed from `body` stands in it.
fn place_of(body: &[u8], value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - body.as_ptr().addr();
    start..start + value.get().len()
}

/// Where the member stands whose value is at `value`: key, colon, value, and the comma before it,
/// or after it if it is the first. The body is valid JSON, so what is looked for is there.
fn member_around(body: &[u8], value: Range<usize>) -> Range<usize> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let skip_back = |mut at: usize| {
        while at > 0 && is_space(&body[at - 1]) {
            at -= 1;
        }
        at
    };
    // The colon, then the closing quote of the key.
    let colon = skip_back(value.start).saturating_sub(1);
    let closing = skip_back(colon).saturating_sub(1);
    // No escaped quote is in this key, so the next one back opens it.
    let key = body[..closing].iter().rposition(|byte| *byte == b'"');
    let start = skip_back(key.unwrap_or(0));
    if start > 0 && body[start - 1] == b',' {
        return start - 1..value.end;
    }
    let after = body[value.end..].iter().position(|byte| !is_space(byte));
    let next = value.end + after.unwrap_or(0);
    let end = if body.get(next) == Some(&b',') {
        next + 1
    } else {
        value.end
    };
    start..end
}

/// The slow parser names the field; it is asked only when something is wrong.
fn named_in_chat(body: &[u8], error: &serde_json::Error) -> ApiError {
    match ChatRequest::parse(body) {
        Err(named) => named,
        Ok(_) => unusable(error),
    }
}

fn named(body: &[u8], error: &serde_json::Error) -> ApiError {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return ApiError::bad_request(format!(
            "The request body is not valid JSON (line {}, column {}).",
            error.line(),
            error.column()
        ));
    };
    match (&value["model"], &value["stream"], &value["background"]) {
        (Value::Null, ..) => missing("model"),
        (model, ..) if !model.is_string() => wrong_type("model", "a string", model),
        (_, stream, _) if !(stream.is_boolean() || stream.is_null()) => {
            wrong_type("stream", "a boolean", stream)
        }
        (_, _, background) if !(background.is_boolean() || background.is_null()) => {
            wrong_type("background", "a boolean", background)
        }
        _ => unusable(error),
    }
}

/// A body that is no JSON object.
fn no_object(body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => wrong_type("body", "an object", &value),
        Err(error) => ApiError::bad_request(format!(
            "The request body is not valid JSON (line {}, column {}).",
            error.line(),
            error.column()
        )),
    }
}

fn unusable(error: &serde_json::Error) -> ApiError {
    ApiError::bad_request(format!(
        "The request body is not usable (line {}, column {}); is a field in it twice?",
        error.line(),
        error.column()
    ))
}

fn missing(field: &str) -> ApiError {
    ApiError::invalid(field, format!("Missing required parameter: '{field}'."))
}

/// The value itself is never quoted: it may be a prompt.
fn wrong_type(field: &str, expected: &str, got: &Value) -> ApiError {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message =
        format!("Invalid type for '{field}': expected {expected}, but got {got} instead.");
    let error = ApiError::bad_request(message).with_code("invalid_type");
    if field == "body" {
        error
    } else {
        error.with_param(field)
    }
}

fn background() -> ApiError {
    let message = "'background' is not served here: the answer would have to be fetched later from \
                   the endpoint that works on it. Leave it out.";
    ApiError::invalid("background", message).with_code("unsupported_parameter")
}

#[cfg(test)]
mod tests;
