//! What an observer of an answer reads of it: enough to classify it, none of its text.

use std::ops::Range;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::answer::{FinishReason, Usage};

/// What an observer needs to know of one chunk, or of a whole answer, without keeping its text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChunkSummary {
    /// Whether the chunk adds text, reasoning, a refusal or a tool call: what a reader waits for.
    pub has_content: bool,
    /// Why the first choice ended. An empty word, which some send all along, is none.
    pub finish_reason: Option<FinishReason>,
    /// Indices of the choices that end with this chunk.
    pub ended: Vec<u64>,
    /// Tokens read and written, if the chunk says so in OpenAI's way.
    pub usage: Option<Usage>,
    /// Whether the chunk is an `{"error": …}` object instead of a chunk, or says that a choice
    /// ended in an error.
    pub is_error: bool,
}

/// Finish reasons by which a provider says that it failed: `OpenRouter`'s
/// (<https://openrouter.ai/docs/api-reference/errors>) and `DeepSeek`'s
/// (<https://api-docs.deepseek.com/api/create-chat-completion>).
pub const BROKEN: &[&str] = &["error", "insufficient_system_resource"];

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    delta: Option<Delta>,
    /// What a whole answer has in the place of a delta. Perplexity's chunks have both: what is new, and all
    /// there is so far (<https://docs.perplexity.ai/api-reference/chat-completions-post>).
    #[serde(default)]
    message: Option<Delta>,
    /// What `/completions` sends in the place of a delta.
    #[serde(default)]
    text: Option<Anything>,
    #[serde(default)]
    finish_reason: Option<FinishReason>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<Anything>,
    #[serde(default)]
    reasoning_content: Option<Anything>,
    #[serde(default)]
    reasoning: Option<Anything>,
    #[serde(default)]
    refusal: Option<Anything>,
    #[serde(default)]
    tool_calls: Option<Anything>,
}

impl Delta {
    fn adds(&self) -> bool {
        [
            &self.content,
            &self.reasoning_content,
            &self.reasoning,
            &self.refusal,
            &self.tool_calls,
        ]
        .into_iter()
        .flatten()
        .any(|part| part.any)
    }
}

impl ChunkSummary {
    /// Reads the payload of one event, or a whole answer. `None` if it is not a JSON object of
    /// this shape.
    pub fn parse(data: &[u8]) -> Option<Self> {
        Self::parse_where(data).map(|(summary, _)| summary)
    }

    /// The same, and where the text of a choice is: the inside of a string that holds something and
    /// has no escapes.
    pub(super) fn parse_where(data: &[u8]) -> Option<(Self, Option<Range<usize>>)> {
        let head: Head = serde_json::from_slice(data).ok()?;
        let choices = head.choices.unwrap_or_default();
        let mut ended = Vec::new();
        let mut finish_reason = None;
        let mut has_content = false;
        let mut is_error = head.error.is_some();
        let mut plain = None;
        for choice in choices {
            let delta = choice.delta.as_ref().or(choice.message.as_ref());
            let content = delta.and_then(|delta| delta.content.as_ref());
            let text = content.or(choice.text.as_ref());
            plain = plain.or(text.and_then(|text| text.plain));
            is_error |= choice.error.is_some();
            has_content |=
                choice.text.as_ref().is_some_and(|text| text.any) || delta.is_some_and(Delta::adds);
            if let Some(reason) = choice.finish_reason.filter(|r| !r.as_str().is_empty()) {
                is_error |= BROKEN.contains(&reason.as_str());
                ended.push(choice.index.unwrap_or(0));
                finish_reason.get_or_insert(reason);
            }
        }
        let summary = Self {
            has_content,
            finish_reason,
            ended,
            usage: head
                .usage
                .and_then(|usage| serde_json::from_value(usage).ok()),
            is_error,
        };
        let place = |(address, bytes): (usize, usize)| {
            let start = address.checked_sub(data.as_ptr().addr())?;
            Some(start..start + bytes)
        };
        Some((summary, plain.and_then(place)))
    }
}

/// Whether a string, array or object holds anything, read without keeping it.
struct Anything {
    any: bool,
    /// Address and length of a string that stands in the data as it is and holds something.
    plain: Option<(usize, usize)>,
}

impl Anything {
    fn new(any: bool) -> Self {
        Self { any, plain: None }
    }
}

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Anything;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, an array or an object")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Anything, E> {
                Ok(Anything::new(!text.is_empty()))
            }

            fn visit_borrowed_str<E: serde::de::Error>(
                self,
                text: &'de str,
            ) -> Result<Anything, E> {
                let any = !text.is_empty();
                Ok(Anything {
                    any,
                    plain: any.then(|| (text.as_ptr().addr(), text.len())),
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Anything, A::Error> {
                let mut any = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Anything::new(any))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Anything, A::Error> {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Anything::new(any))
            }
        }
        deserializer.deserialize_any(Look)
    }
}
