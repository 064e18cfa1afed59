//! Requests to `/v1/completions`: a prompt as it stands, without a chat template.
//!
//! Audits score with it: token ids in, `echo`, `logprobs` and `max_tokens: 0` give the log
//! probability of each token of the prompt in one pass. Fields and answers are OpenAI's older API
//! (<https://platform.openai.com/docs/api-reference/completions>); `return_token_ids` and
//! `return_tokens_as_token_ids` are vLLM's
//! (<https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>).
//!
//! As with chats, [`CompletionRequest::parse`] types the fields and
//! [`CompletionRequest::validate`] holds what our own engines keep.

mod answer;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::error::ApiError;
use super::fields::{Fields, kind_of, wrong_type};
use super::request::{
    RequestHead, Stop, StreamOptions, check_sampling, check_stops, parse_stop, parse_stream_options,
};

pub use answer::{Completion, CompletionChoice, CompletionLogprobs};

/// Tokens of an answer if the request names no limit, as with OpenAI.
pub const DEFAULT_MAX_TOKENS: u64 = 16;
/// Most likeliest tokens per place.
pub const MAX_COMPLETION_LOGPROBS: u64 = 20;

/// What is to be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A text, tokenised as it stands.
    Text(String),
    /// Token ids, taken as they are: nothing is put in front of them.
    Tokens(Vec<u32>),
    /// Several prompts in one request, each with choices of its own.
    Several(u64),
}

/// A request to `/v1/completions`. Absent and `null` are the same.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model asked for.
    pub model: String,
    /// What is to be continued.
    pub prompt: Prompt,
    /// Longest answer, tokens; absent is [`DEFAULT_MAX_TOKENS`]. 0 scores the prompt.
    pub max_tokens: Option<u64>,
    /// 0 is greedy; absent is 1.
    pub temperature: Option<f64>,
    /// Share of probability kept before sampling; absent is 1.
    pub top_p: Option<f64>,
    /// Seed of the sampler; negative numbers are taken as two's complement.
    pub seed: Option<i64>,
    /// Where to stop.
    pub stop: Option<Stop>,
    /// Answer as server-sent events.
    pub stream: Option<bool>,
    /// What a streamed answer carries besides text.
    pub stream_options: Option<StreamOptions>,
    /// Return the log probability of each token and of this many likeliest ones; of the prompt's
    /// too with `echo`.
    pub logprobs: Option<u64>,
    /// Give the prompt back in front of the answer.
    pub echo: Option<bool>,
    /// Choices per prompt.
    pub n: Option<u64>,
    /// Return the ids of prompt and answer.
    pub return_token_ids: Option<bool>,
    /// Write tokens in `logprobs` as `token_id:<id>`, which never collide as texts may.
    pub return_tokens_as_token_ids: Option<bool>,
    /// Every other field, in order, untouched.
    pub rest: Map<String, Value>,
}

impl CompletionRequest {
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
        let request = Self {
            model: fields.required_string("model")?,
            prompt: parse_prompt(&mut fields)?,
            max_tokens: fields.count("max_tokens")?,
            temperature: fields.number("temperature")?,
            top_p: fields.number("top_p")?,
            seed: fields.integer("seed")?,
            stop: parse_stop(&mut fields)?,
            stream: fields.boolean("stream")?,
            stream_options: parse_stream_options(&mut fields)?,
            logprobs: fields.count("logprobs")?,
            echo: fields.boolean("echo")?,
            n: fields.count("n")?,
            return_token_ids: fields.boolean("return_token_ids")?,
            return_tokens_as_token_ids: fields.boolean("return_tokens_as_token_ids")?,
            rest: fields.map,
        };
        // As for chats: a member that is there twice is refused, not read in two ways.
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
        let options = self.stream_options.as_ref();
        options.and_then(|it| it.include_usage).unwrap_or(false)
    }

    /// Whether the prompt is given back.
    pub fn echoes(&self) -> bool {
        self.echo == Some(true)
    }

    /// Whether token ids are given back.
    pub fn returns_ids(&self) -> bool {
        self.return_token_ids == Some(true)
    }

    /// Longest answer asked for, tokens.
    pub fn answer_limit(&self) -> u64 {
        self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)
    }

    /// Stop sequences asked for.
    pub fn stops(&self) -> &[String] {
        self.stop.as_ref().map_or(&[], Stop::sequences)
    }

    /// Choices asked for, over all prompts.
    pub fn choices(&self) -> u64 {
        let prompts = match self.prompt {
            Prompt::Several(count) => count,
            _ => 1,
        };
        self.n.unwrap_or(1).saturating_mul(prompts)
    }

    /// Holds the ranges our own engines keep: those of chats for sampling and stop sequences, one
    /// prompt, `logprobs` at most [`MAX_COMPLETION_LOGPROBS`], `max_tokens: 0` only with `echo`,
    /// and none of the fields that would change the answer and are not understood.
    pub fn validate(&self) -> Result<(), ApiError> {
        check_sampling(self.temperature, self.top_p, self.n)?;
        check_stops(self.stops())?;
        if let Prompt::Several(count) = self.prompt {
            let why = format!(
                "Invalid 'prompt': {count} prompts; this engine takes one per request, as a \
                 string or as an array of token ids."
            );
            return Err(ApiError::invalid("prompt", why));
        }
        if self.max_tokens == Some(0) && !self.echoes() {
            return Err(ApiError::invalid(
                "max_tokens",
                "'max_tokens' is 0, which leaves nothing to answer; with 'echo' it scores the \
                 prompt.",
            ));
        }
        if let Some(count) = self.logprobs
            && count > MAX_COMPLETION_LOGPROBS
        {
            return Err(ApiError::invalid(
                "logprobs",
                format!("Invalid 'logprobs': {count}; at most {MAX_COMPLETION_LOGPROBS}."),
            ));
        }
        self.refuse_what_is_not_done()
    }

    /// Answering as if such a field were not there would answer another question.
    fn refuse_what_is_not_done(&self) -> Result<(), ApiError> {
        let harmless = |name: &str, value: &Value| match name {
            "best_of" => value.as_u64() == Some(1),
            "suffix" => value.as_str() == Some(""),
            "frequency_penalty" | "presence_penalty" => value.as_f64() == Some(0.0),
            "logit_bias" => value.as_object().is_some_and(Map::is_empty),
            "prompt_logprobs" => false,
            _ => true,
        };
        let refused = (self.rest.iter())
            .find(|(name, value)| !value.is_null() && !harmless(name, value))
            .map(|(name, _)| name.as_str());
        match refused {
            None => Ok(()),
            Some("prompt_logprobs") => Err(ApiError::invalid(
                "prompt_logprobs",
                "This engine does not know 'prompt_logprobs'; 'echo' with 'logprobs' gives the \
                 log probabilities of the prompt.",
            )),
            Some(name) => Err(ApiError::invalid(
                name,
                format!("This engine does not know '{name}'; leave it out."),
            )),
        }
    }
}

/// A string, an array of token ids, or several of either. An array with one prompt in it is that
/// prompt.
fn parse_prompt(fields: &mut Fields<'_>) -> Result<Prompt, ApiError> {
    const EXPECTED: &str = "a string, an array of token ids, or an array of either";
    let value = fields
        .take("prompt")
        .ok_or_else(|| ApiError::invalid("prompt", "Missing required parameter: 'prompt'."))?;
    let mut items = match value {
        Value::String(text) => return Ok(Prompt::Text(text)),
        Value::Array(items) => items,
        other => return Err(wrong_type("prompt", EXPECTED, &other)),
    };
    match items.first() {
        None => Err(ApiError::invalid(
            "prompt",
            "Invalid 'prompt': it is empty.",
        )),
        Some(Value::Number(_)) => token_ids("prompt", &items).map(Prompt::Tokens),
        Some(Value::String(_) | Value::Array(_)) if items.len() > 1 => {
            Ok(Prompt::Several(items.len() as u64))
        }
        Some(Value::String(_) | Value::Array(_)) => match items.remove(0) {
            Value::String(text) => Ok(Prompt::Text(text)),
            Value::Array(ids) => token_ids("prompt[0]", &ids).map(Prompt::Tokens),
            other => Err(wrong_type("prompt", EXPECTED, &other)),
        },
        Some(other) => Err(wrong_type("prompt[0]", EXPECTED, other)),
    }
}

fn token_ids(path: &str, items: &[Value]) -> Result<Vec<u32>, ApiError> {
    let id = |(place, item): (usize, &Value)| {
        (item.as_u64())
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| {
                let path = format!("{path}[{place}]");
                wrong_type(&path, "a token id (an integer from 0 to 2^32 - 1)", item)
            })
    };
    items.iter().enumerate().map(id).collect()
}
