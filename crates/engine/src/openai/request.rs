//! Requests to `/v1/chat/completions`.
//!
//! [`ChatRequest::parse`] types the fields that an engine acts on and reports a wrong type by the
//! field's name. [`ChatRequest::validate`] holds the ranges that our own engines keep; a node in
//! front of a foreign API leaves those to that API. [`RequestHead`] borrows from the body and is
//! for forwarding.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::ApiError;
use super::fields::{Fields, kind_of, wrong_type};

/// Highest `temperature` that [`ChatRequest::validate`] lets through.
pub const MAX_TEMPERATURE: f64 = 2.0;
/// Highest `top_logprobs`.
pub const MAX_TOP_LOGPROBS: u32 = 20;
/// Most stop sequences in one request.
pub const MAX_STOPS: usize = 4;
/// Longest stop sequence, bytes.
pub const MAX_STOP_BYTES: usize = 256;
/// Most messages in one request.
pub const MAX_MESSAGES: usize = 2048;

/// The part of a request that a forwarder looks at, borrowed from the body.
///
/// Nothing else is checked: a body that parses here may still be refused by whoever answers it.
#[derive(Debug, Clone, Deserialize)]
pub struct RequestHead<'a> {
    /// The model asked for.
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    /// Whether server-sent events are asked for.
    #[serde(default)]
    pub stream: Option<bool>,
    /// `stream_options`.
    #[serde(default)]
    pub stream_options: Option<StreamOptionsHead>,
    /// Choices asked for.
    #[serde(default)]
    pub n: Option<u64>,
}

/// The part of `stream_options` that a forwarder looks at.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct StreamOptionsHead {
    /// Whether a last chunk with the usage is asked for.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

impl<'a> RequestHead<'a> {
    /// Reads the head of `body`. Errors are 400 in OpenAI's shape.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(body).map_err(|error| match ChatRequest::parse(body) {
            // The slow parser names the field; it is asked only when something is wrong.
            Err(named) => named,
            Ok(_) => ApiError::bad_request(format!("The request body is not usable: {error}.")),
        })
    }

    /// Whether the answer is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    /// Whether a streamed answer is to end with a usage chunk.
    pub fn includes_usage(&self) -> bool {
        self.stream_options
            .and_then(|options| options.include_usage)
            .unwrap_or(false)
    }
}

/// A chat request. Absent and `null` are the same, as with OpenAI.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ChatRequest {
    /// The model asked for.
    pub model: String,
    /// The conversation so far, at least one message.
    pub messages: Vec<Message>,
    /// Answer as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// What a streamed answer carries besides text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// 0 is greedy; absent is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Share of probability kept before sampling; absent is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Seed of the sampler; negative numbers are taken as two's complement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Longest answer, tokens (the older name).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Longest answer, tokens; goes before `max_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u64>,
    /// Where to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Return the log probability of each token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// Return this many most likely tokens at each place, with `logprobs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u64>,
    /// Choices asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Every other field, in order, untouched.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a streamed answer carries besides text.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct StreamOptions {
    /// Send a last chunk with the usage and no choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_usage: Option<bool>,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, …
    pub role: String,
    /// What was said; absent in an assistant message that only calls tools.
    pub content: Option<Content>,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Message {
    /// A message of plain text.
    pub fn text(role: &str, content: &str) -> Self {
        Self {
            role: role.to_owned(),
            content: Some(Content::Text(content.to_owned())),
            rest: Map::new(),
        }
    }
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts, of which only text ones are understood here.
    Parts(Vec<Part>),
}

impl Content {
    /// The text, parts joined without a separator. A part that is not text is an error, for an
    /// engine that reads text must not answer as if it had seen a picture.
    pub fn to_text(&self) -> Result<Cow<'_, str>, ApiError> {
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text)),
            Self::Parts(parts) => {
                let mut joined = String::new();
                for part in parts {
                    match part {
                        Part::Text { text, .. } => joined.push_str(text),
                        Part::Other(value) => {
                            let kind = value.get("type").and_then(Value::as_str).unwrap_or("?");
                            return Err(ApiError::invalid(
                                "messages",
                                format!(
                                    "This model reads text only; a message has a part of type \
                                     '{kind}'. Send parts of type 'text' or a plain string."
                                ),
                            ));
                        }
                    }
                }
                Ok(Cow::Owned(joined))
            }
        }
    }
}

/// A part of a message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// `{"type":"text","text":…}`.
    Text {
        /// The text.
        text: String,
        /// Every other field (cache hints and the like).
        rest: Map<String, Value>,
    },
    /// Any other part, untouched.
    Other(Value),
}

impl Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Self::Text { text, rest } => {
                let mut map = serializer.serialize_map(Some(2 + rest.len()))?;
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
                for (key, value) in rest {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Other(value) => value.serialize(serializer),
        }
    }
}

/// Where to stop: one sequence or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Stop {
    /// One sequence.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Stop {
    /// The sequences.
    pub fn sequences(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl ChatRequest {
    /// Reads a request body. Errors are 400 in OpenAI's shape and name the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request(format!("The request body is not valid JSON: {error}."))
        })?;
        let Value::Object(map) = value else {
            return Err(ApiError::bad_request(format!(
                "The request body must be a JSON object, not {}.",
                kind_of(&value)
            )));
        };
        let mut fields = Fields::new(map, "");
        let model = fields.required_string("model")?;
        let messages = parse_messages(&mut fields)?;
        let request = Self {
            model,
            messages,
            stream: fields.boolean("stream")?,
            stream_options: parse_stream_options(&mut fields)?,
            temperature: fields.number("temperature")?,
            top_p: fields.number("top_p")?,
            seed: fields.integer("seed")?,
            max_tokens: fields.count("max_tokens")?,
            max_completion_tokens: fields.count("max_completion_tokens")?,
            stop: parse_stop(&mut fields)?,
            logprobs: fields.boolean("logprobs")?,
            top_logprobs: fields.count("top_logprobs")?,
            n: fields.count("n")?,
            rest: fields.map,
        };
        // The head's reader refuses a member that is there twice, where this one would take the
        // last: gateway and node must not read one request differently.
        serde_json::from_slice::<RequestHead<'_>>(body).map_err(|error| {
            ApiError::bad_request(format!("The request body is not usable: {error}."))
        })?;
        Ok(request)
    }

    /// Whether the answer is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    /// Whether a streamed answer is to end with a usage chunk.
    pub fn includes_usage(&self) -> bool {
        self.stream_options
            .as_ref()
            .and_then(|options| options.include_usage)
            .unwrap_or(false)
    }

    /// Longest answer asked for, tokens.
    pub fn answer_limit(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Stop sequences asked for.
    pub fn stops(&self) -> &[String] {
        self.stop.as_ref().map_or(&[], Stop::sequences)
    }

    /// Holds the ranges our own engines keep: `temperature` in 0–[`MAX_TEMPERATURE`], `top_p` over
    /// 0 and at most 1, `top_logprobs` at most [`MAX_TOP_LOGPROBS`] and only with `logprobs`, one
    /// choice, at least one token, at most [`MAX_STOPS`] stop sequences of [`MAX_STOP_BYTES`].
    pub fn validate(&self) -> Result<(), ApiError> {
        let refuse = |param: &str, why: String| Err(ApiError::invalid(param, why));
        check_sampling(self.temperature, self.top_p, self.n)?;
        for (param, value) in [
            ("max_tokens", self.max_tokens),
            ("max_completion_tokens", self.max_completion_tokens),
        ] {
            if value == Some(0) {
                return refuse(param, format!("Invalid '{param}': it must be at least 1."));
            }
        }
        if let Some(count) = self.top_logprobs {
            if self.logprobs != Some(true) {
                return refuse(
                    "top_logprobs",
                    "'top_logprobs' needs 'logprobs' to be true.".to_owned(),
                );
            }
            if count > u64::from(MAX_TOP_LOGPROBS) {
                return refuse(
                    "top_logprobs",
                    format!("Invalid 'top_logprobs': {count}; at most {MAX_TOP_LOGPROBS}."),
                );
            }
        }
        check_stops(self.stops())
    }
}

/// Holds the ranges of what a sampler is told, and one choice.
pub(super) fn check_sampling(
    temperature: Option<f64>,
    top_p: Option<f64>,
    n: Option<u64>,
) -> Result<(), ApiError> {
    if let Some(value) = temperature
        && !(0.0..=MAX_TEMPERATURE).contains(&value)
    {
        return Err(ApiError::invalid(
            "temperature",
            format!("Invalid 'temperature': {value}; it must be between 0 and {MAX_TEMPERATURE}."),
        ));
    }
    if let Some(value) = top_p
        && !(value > 0.0 && value <= 1.0)
    {
        return Err(ApiError::invalid(
            "top_p",
            format!("Invalid 'top_p': {value}; it must be more than 0 and at most 1."),
        ));
    }
    match n {
        None | Some(1) => Ok(()),
        Some(n) => Err(ApiError::invalid(
            "n",
            format!("Invalid 'n': {n}; this engine gives one choice per request."),
        )),
    }
}

/// Holds number and length of stop sequences.
pub(super) fn check_stops(stops: &[String]) -> Result<(), ApiError> {
    if stops.len() > MAX_STOPS {
        return Err(ApiError::invalid(
            "stop",
            format!(
                "Invalid 'stop': {} sequences; at most {MAX_STOPS}.",
                stops.len()
            ),
        ));
    }
    if stops
        .iter()
        .any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
    {
        return Err(ApiError::invalid(
            "stop",
            format!("Invalid 'stop': each sequence has 1 to {MAX_STOP_BYTES} bytes."),
        ));
    }
    Ok(())
}

fn parse_messages(fields: &mut Fields<'_>) -> Result<Vec<Message>, ApiError> {
    let Some(value) = fields.take("messages") else {
        return Err(ApiError::invalid(
            "messages",
            "Missing required parameter: 'messages'.",
        ));
    };
    let Value::Array(items) = value else {
        return Err(wrong_type("messages", "an array of objects", &value));
    };
    if items.is_empty() || items.len() > MAX_MESSAGES {
        return Err(ApiError::invalid(
            "messages",
            format!(
                "Invalid 'messages': {} messages; send 1 to {MAX_MESSAGES}.",
                items.len()
            ),
        ));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| parse_message(index, item))
        .collect()
}

fn parse_message(index: usize, item: Value) -> Result<Message, ApiError> {
    let path = format!("messages[{index}]");
    let Value::Object(map) = item else {
        return Err(wrong_type(&path, "an object", &item));
    };
    let mut fields = Fields::new(map, &path);
    let role = fields.required_string("role")?;
    let content = match fields.take("content") {
        None => None,
        Some(Value::String(text)) => Some(Content::Text(text)),
        Some(Value::Array(parts)) => {
            let parts: Result<Vec<Part>, ApiError> = parts
                .into_iter()
                .enumerate()
                .map(|(place, part)| parse_part(&path, place, part))
                .collect();
            Some(Content::Parts(parts?))
        }
        Some(other) => {
            return Err(wrong_type(
                &fields.named("content"),
                "a string or an array of parts",
                &other,
            ));
        }
    };
    Ok(Message {
        role,
        content,
        rest: fields.map,
    })
}

fn parse_part(path: &str, place: usize, part: Value) -> Result<Part, ApiError> {
    let path = format!("{path}.content[{place}]");
    let Value::Object(mut map) = part else {
        return Err(wrong_type(&path, "an object", &part));
    };
    if map.get("type").and_then(Value::as_str) != Some("text") {
        return Ok(Part::Other(Value::Object(map)));
    }
    map.shift_remove("type");
    let mut fields = Fields::new(map, &path);
    let text = fields.required_string("text")?;
    Ok(Part::Text {
        text,
        rest: fields.map,
    })
}

pub(super) fn parse_stream_options(
    fields: &mut Fields<'_>,
) -> Result<Option<StreamOptions>, ApiError> {
    match fields.take("stream_options") {
        None => Ok(None),
        Some(Value::Object(map)) => {
            let mut inner = Fields::new(map, "stream_options");
            let include_usage = inner.boolean("include_usage")?;
            Ok(Some(StreamOptions {
                include_usage,
                rest: inner.map,
            }))
        }
        Some(other) => Err(wrong_type("stream_options", "an object", &other)),
    }
}

pub(super) fn parse_stop(fields: &mut Fields<'_>) -> Result<Option<Stop>, ApiError> {
    match fields.take("stop") {
        None => Ok(None),
        Some(Value::String(one)) => Ok(Some(Stop::One(one))),
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(
                    "stop",
                    "a string or an array of strings",
                    &other,
                )),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(|many| Some(Stop::Many(many))),
        Some(other) => Err(wrong_type(
            "stop",
            "a string or an array of strings",
            &other,
        )),
    }
}
