//! Answers of `/v1/chat/completions` and `/v1/models`, whole and in chunks.
//!
//! Field order and the places of `null` are OpenAI's. Unknown fields of a foreign answer are kept
//! in `rest`. A forwarder that only needs to know how a stream goes reads [`super::ChunkSummary`].

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Why an answer ended. A word we do not know is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// A natural end or a stop sequence.
    Stop,
    /// The token limit.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// Content was withheld.
    ContentFilter,
    /// Any other word.
    Other(String),
}

impl FinishReason {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for FinishReason {
    fn from(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Serialize for FinishReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for FinishReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::from(word.as_ref()))
    }
}

/// Tokens read and written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Their sum.
    #[serde(default)]
    pub total_tokens: u64,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Usage {
    /// Usage of `prompt_tokens` and `completion_tokens`.
    pub fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            rest: Map::new(),
        }
    }
}

/// Log probabilities of a choice, natural logarithms.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Logprobs {
    /// One entry per token.
    #[serde(default)]
    pub content: Option<Vec<TokenLogprob>>,
    /// One entry per token of a refusal.
    #[serde(default)]
    pub refusal: Option<Vec<TokenLogprob>>,
}

/// A token, its log probability and the likeliest tokens at its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token as text; bytes that are not UTF-8 on their own show as U+FFFD.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// The token's bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this place, best first.
    #[serde(default)]
    pub top_logprobs: Vec<TopLogprob>,
}

/// One of the likeliest tokens at a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The token as text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// The token's bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// Id of the answer.
    pub id: String,
    /// `chat.completion`.
    #[serde(default = "completion_object")]
    pub object: String,
    /// Unix time, seconds.
    #[serde(default)]
    pub created: u64,
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// The choices.
    #[serde(default)]
    pub choices: Vec<Choice>,
    /// Tokens read and written.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Names the configuration that answered.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A choice of a whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Place among the choices.
    #[serde(default)]
    pub index: u64,
    /// What was answered.
    pub message: AssistantMessage,
    /// Log probabilities, if asked for.
    #[serde(default)]
    pub logprobs: Option<Logprobs>,
    /// Why it ended.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The message of a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssistantMessage {
    /// `assistant`.
    pub role: String,
    /// The text.
    #[serde(default)]
    pub content: Option<String>,
    /// A refusal, if it is one.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Every other field (tool calls, …).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl ChatCompletion {
    /// A whole answer of one choice.
    pub fn new(
        id: &str,
        created_s: u64,
        model: &str,
        text: String,
        logprobs: Option<Logprobs>,
        finish_reason: FinishReason,
        usage: Usage,
    ) -> Self {
        Self {
            id: id.to_owned(),
            object: completion_object(),
            created: created_s,
            model: model.to_owned(),
            choices: vec![Choice {
                index: 0,
                message: AssistantMessage {
                    role: "assistant".to_owned(),
                    content: Some(text),
                    refusal: None,
                    rest: Map::new(),
                },
                logprobs,
                finish_reason: Some(finish_reason),
                rest: Map::new(),
            }],
            usage: Some(usage),
            system_fingerprint: None,
            rest: Map::new(),
        }
    }
}

/// A chunk of a streamed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletionChunk {
    /// Id of the answer, the same in all its chunks.
    pub id: String,
    /// `chat.completion.chunk`.
    #[serde(default = "chunk_object")]
    pub object: String,
    /// Unix time, seconds, the same in all chunks.
    #[serde(default)]
    pub created: u64,
    /// The model that answers.
    #[serde(default)]
    pub model: String,
    /// Names the configuration that answers.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// The choices; none in the usage chunk.
    #[serde(default)]
    pub choices: Vec<ChunkChoice>,
    /// Tokens read and written; only in the last chunk, and only if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A choice of a chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkChoice {
    /// Place among the choices.
    #[serde(default)]
    pub index: u64,
    /// What is new.
    #[serde(default)]
    pub delta: Delta,
    /// Log probabilities of what is new.
    #[serde(default)]
    pub logprobs: Option<Logprobs>,
    /// Why it ended, in the last chunk of the choice.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a chunk adds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Delta {
    /// `assistant`, in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Text to append.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Every other field (tool calls, …).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl ChatCompletionChunk {
    fn with_choice(id: &str, created_s: u64, model: &str, choice: Option<ChunkChoice>) -> Self {
        Self {
            id: id.to_owned(),
            object: chunk_object(),
            created: created_s,
            model: model.to_owned(),
            system_fingerprint: None,
            choices: choice.into_iter().collect(),
            usage: None,
            rest: Map::new(),
        }
    }

    /// The first chunk: the role and no text yet.
    pub fn role(id: &str, created_s: u64, model: &str) -> Self {
        let delta = Delta {
            role: Some("assistant".to_owned()),
            content: Some(String::new()),
            rest: Map::new(),
        };
        Self::with_choice(id, created_s, model, Some(ChunkChoice::new(delta)))
    }

    /// A chunk that adds text.
    pub fn text(
        id: &str,
        created_s: u64,
        model: &str,
        text: String,
        logprobs: Option<Logprobs>,
    ) -> Self {
        let delta = Delta {
            content: Some(text),
            ..Delta::default()
        };
        let mut choice = ChunkChoice::new(delta);
        choice.logprobs = logprobs;
        Self::with_choice(id, created_s, model, Some(choice))
    }

    /// The chunk that says why the answer ended.
    pub fn finish(id: &str, created_s: u64, model: &str, reason: FinishReason) -> Self {
        let mut choice = ChunkChoice::new(Delta::default());
        choice.finish_reason = Some(reason);
        Self::with_choice(id, created_s, model, Some(choice))
    }

    /// The last chunk, for those who asked for the usage.
    pub fn usage(id: &str, created_s: u64, model: &str, usage: Usage) -> Self {
        let mut chunk = Self::with_choice(id, created_s, model, None);
        chunk.usage = Some(usage);
        chunk
    }
}

impl ChunkChoice {
    fn new(delta: Delta) -> Self {
        Self {
            index: 0,
            delta,
            logprobs: None,
            finish_reason: None,
            rest: Map::new(),
        }
    }
}

/// The answer of `/v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name to ask for.
    pub id: String,
    /// `model`.
    #[serde(default = "model_object")]
    pub object: String,
    /// Unix time, seconds.
    #[serde(default)]
    pub created: u64,
    /// Who serves it.
    #[serde(default)]
    pub owned_by: String,
    /// Every other field.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl ModelList {
    /// A list of models.
    pub fn new(data: Vec<Model>) -> Self {
        Self {
            object: "list".to_owned(),
            data,
        }
    }
}

impl Model {
    /// A model by name.
    pub fn new(id: &str, created_s: u64, owned_by: &str) -> Self {
        Self {
            id: id.to_owned(),
            object: model_object(),
            created: created_s,
            owned_by: owned_by.to_owned(),
            rest: Map::new(),
        }
    }
}

fn completion_object() -> String {
    "chat.completion".to_owned()
}

fn chunk_object() -> String {
    "chat.completion.chunk".to_owned()
}

fn model_object() -> String {
    "model".to_owned()
}
