//! Answers of `/v1/completions`, whole and in chunks, which have one shape.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::openai::answer::{FinishReason, TokenLogprob, Usage};

/// A whole answer, or a chunk of a streamed one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion {
    /// Id of the answer.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// Unix time, seconds.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// Names the configuration that answers.
    pub system_fingerprint: Option<String>,
    /// The choices; none in a usage chunk.
    pub choices: Vec<CompletionChoice>,
    /// Tokens read and written; in a stream only in the last chunk, and only if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// A choice.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CompletionChoice {
    /// Place among the choices.
    pub index: u64,
    /// The text, or what a chunk adds to it.
    pub text: String,
    /// Log probabilities, if asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended; in a stream only in the last chunk of the choice.
    pub finish_reason: Option<FinishReason>,
    /// Ids of the prompt's tokens, if asked for; in a stream in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<u32>>,
    /// Ids of the sampled tokens, if asked for; in a stream of those since the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
}

/// Log probabilities as the older API has them: four lists, one entry per token. Natural
/// logarithms, of the raw distribution.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CompletionLogprobs {
    /// Characters of the choice's text before each token, a torn character counted for each of the
    /// tokens that share it.
    pub text_offset: Vec<usize>,
    /// Log probability of each token; `null` for the first of a prompt, which follows nothing.
    pub token_logprobs: Vec<Option<f64>>,
    /// Each token as text, or as `token_id:<id>` if asked for.
    pub tokens: Vec<String>,
    /// The likeliest tokens at each place and the token itself. Two that have the same text are one
    /// member, with the number of the likelier one.
    pub top_logprobs: Option<Vec<Option<Map<String, Value>>>>,
}

impl CompletionLogprobs {
    /// No tokens yet; `tops`: whether likeliest tokens are listed.
    pub fn new(tops: bool) -> Self {
        Self {
            top_logprobs: tops.then(Vec::new),
            ..Self::default()
        }
    }

    /// Adds the first token of a prompt, which nothing goes before.
    pub fn push_first(&mut self, token: String, offset: &mut usize, characters: usize) {
        self.place(token, offset, characters);
        self.token_logprobs.push(None);
        if let Some(tops) = &mut self.top_logprobs {
            tops.push(None);
        }
    }

    /// Adds a token. `offset` counts the characters so far.
    pub fn push(&mut self, entry: &TokenLogprob, offset: &mut usize) {
        let bytes = entry.bytes.as_deref().unwrap_or_default();
        let characters = String::from_utf8_lossy(bytes).chars().count();
        self.place(entry.token.clone(), offset, characters);
        self.token_logprobs.push(Some(entry.logprob));
        if let Some(tops) = &mut self.top_logprobs {
            let mut listed = Map::new();
            let own = (&entry.token, entry.logprob);
            let others = entry
                .top_logprobs
                .iter()
                .map(|top| (&top.token, top.logprob));
            // Best first; the token itself goes last, for it may be among them.
            for (token, logprob) in others.chain([own]) {
                listed
                    .entry(token.clone())
                    .or_insert_with(|| Value::from(logprob));
            }
            tops.push(Some(listed));
        }
    }

    fn place(&mut self, token: String, offset: &mut usize, characters: usize) {
        self.text_offset.push(*offset);
        *offset += characters;
        self.tokens.push(token);
    }

    /// Adds the tokens of another list behind these.
    pub fn append(&mut self, mut more: Self) {
        self.text_offset.append(&mut more.text_offset);
        self.token_logprobs.append(&mut more.token_logprobs);
        self.tokens.append(&mut more.tokens);
        if let (Some(tops), Some(more)) = (&mut self.top_logprobs, &mut more.top_logprobs) {
            tops.append(more);
        }
    }
}

impl Completion {
    /// An answer or chunk of one choice, or of none.
    pub fn new(
        id: &str,
        created_s: u64,
        model: &str,
        choice: Option<CompletionChoice>,
        usage: Option<Usage>,
    ) -> Self {
        Self {
            id: id.to_owned(),
            object: "text_completion",
            created: created_s,
            model: model.to_owned(),
            system_fingerprint: None,
            choices: choice.into_iter().collect(),
            usage,
        }
    }
}
