//! What an engine is to a node: it says what it is, it chats, and it continues prompts.
//!
//! An answer is a stream of [`Delta`]s and then one [`Finish`]; before them comes an [`Echo`], if the
//! prompt was wanted back. Dropping the stream cancels the
//! work. Nothing here speaks HTTP or signs anything.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::future::BoxFuture;

use crate::openai::{ApiError, ChatRequest, CompletionRequest, FinishReason, TokenLogprob, Usage};
use crate::sampling::Sampling;

/// An engine: something that answers chat requests.
pub trait Engine: Send + Sync + 'static {
    /// What is served: everything a manifest needs.
    fn describe(&self) -> &Description;

    /// Starts an answer. Resolves when the work has begun, or with the reason why it will not.
    ///
    /// `seed` is used when the request has none, so that whoever signs for the answer knows the
    /// seed that was executed; it comes back in [`Executed`].
    fn chat(&self, request: ChatRequest, seed: u64) -> BoxFuture<'_, Result<Answer, EngineError>>;

    /// As [`Engine::chat`], for a prompt that is taken as it stands. An engine without it refuses.
    fn complete(
        &self,
        request: CompletionRequest,
        seed: u64,
    ) -> BoxFuture<'_, Result<Answer, EngineError>> {
        let _ = (request, seed);
        let refusal = ApiError::bad_request("This model answers chats only.");
        Box::pin(std::future::ready(Err(refusal.into())))
    }
}

impl<E: Engine + ?Sized> Engine for std::sync::Arc<E> {
    fn describe(&self) -> &Description {
        (**self).describe()
    }

    fn chat(&self, request: ChatRequest, seed: u64) -> BoxFuture<'_, Result<Answer, EngineError>> {
        (**self).chat(request, seed)
    }

    fn complete(
        &self,
        request: CompletionRequest,
        seed: u64,
    ) -> BoxFuture<'_, Result<Answer, EngineError>> {
        (**self).complete(request, seed)
    }
}

/// How a value in a [`Description`] is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Computed here from the file or the code that is executed.
    Computed,
    /// Claimed by someone; nothing here checks it.
    Declared,
}

impl Basis {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Declared => "declared",
        }
    }
}

/// A SHA-256 digest and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDigest {
    /// The digest.
    pub sha256: [u8; 32],
    /// How it is known.
    pub basis: Basis,
}

/// What an engine serves. A manifest is made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name to ask for.
    pub model: String,
    /// SHA-256 of the weights file. `None`: unknown, as behind an upstream.
    pub weights: Option<KnownDigest>,
    /// What the weights are called or where they come from; informational.
    pub weights_name: Option<String>,
    /// Number format of the weights, such as `f16`, `q8_0`, `q4_k`.
    pub precision: Option<String>,
    /// How the precision is known.
    pub precision_basis: Basis,
    /// Number format of the KV cache.
    pub kv_precision: Option<String>,
    /// Digest of the tokenizer (for the embedded engine: see `embedded::Model`).
    pub tokenizer: Option<KnownDigest>,
    /// SHA-256 of the chat template's text.
    pub chat_template: Option<KnownDigest>,
    /// Engine name.
    pub engine: String,
    /// Engine version.
    pub engine_version: String,
    /// Sampler, such as [`crate::sampling::NAME`].
    pub sampler: Option<String>,
    /// Most sequences computed in one pass; results do not depend on other requests when it is 1.
    pub batch_size: Option<u32>,
    /// Longest prompt and answer together, tokens.
    pub context_length: Option<u32>,
}

/// What was executed, which is not always what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Temperature, top-p and seed.
    pub sampling: Sampling,
    /// Longest answer, tokens, after the context was taken into account.
    pub max_tokens: u32,
    /// Stop sequences.
    pub stops: Vec<String>,
    /// Token ids of the prompt after the template.
    pub prompt_ids: Vec<u32>,
}

/// The prompt given back, in front of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Echo {
    /// Its text: what was sent, or what the token ids spell, control tokens too.
    pub text: String,
    /// Its first token as text, if log probabilities are wanted: nothing goes before it, so it has
    /// none.
    pub first: Option<String>,
    /// One entry per further token, if log probabilities are wanted.
    pub logprobs: Vec<TokenLogprob>,
}

/// A piece of an answer.
///
/// One piece may cover several tokens (bytes of one character, text held back because it could be
/// the start of a stop sequence) or none of the text of its tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delta {
    /// Text to append, whole characters.
    pub text: String,
    /// Ids of the tokens the engine sampled since the last piece.
    pub token_ids: Vec<u32>,
    /// One entry per token, if asked for: from the raw distribution at temperature 1, before
    /// `top_p`.
    pub logprobs: Vec<TokenLogprob>,
}

/// The end of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens read and written.
    pub usage: Usage,
    /// Every sampled token, an end-of-turn token included.
    pub token_ids: Vec<u32>,
}

/// An event of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// The prompt; only of a completion that asked for it, and the first event then.
    Echo(Echo),
    /// More text.
    Delta(Delta),
    /// The end; nothing comes after it.
    Finish(Finish),
}

/// The events of an answer, boxed.
pub type AnswerEvents = Pin<Box<dyn Stream<Item = Result<AnswerEvent, EngineError>> + Send>>;

/// An answer under way. A stream of [`AnswerEvent`]s; dropping it cancels the work. A stream that
/// ends without [`AnswerEvent::Finish`] was cut.
pub struct Answer {
    /// What is executed.
    pub executed: Executed,
    events: AnswerEvents,
}

impl Answer {
    /// An answer of these events.
    pub fn new(executed: Executed, events: AnswerEvents) -> Self {
        Self { executed, events }
    }

    /// Takes the events out, so that another stream can be put around them.
    pub fn into_parts(self) -> (Executed, AnswerEvents) {
        (self.executed, self.events)
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Token ids are content: not for logs.
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Stream for Answer {
    type Item = Result<AnswerEvent, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(cx)
    }
}

/// Why an engine gives no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Every worker is busy and the queue is full.
    #[error("the engine is busy and its queue is full; come back in {retry_after_s} s")]
    Busy {
        /// When to come back, seconds.
        retry_after_s: u32,
    },
    /// The request cannot be answered; the error says which field and why.
    #[error("{0}")]
    BadRequest(ApiError),
    /// The engine failed. Not the caller's fault.
    #[error("the engine failed: {message}")]
    Broken {
        /// What happened; holds no content of the request.
        message: String,
    },
}

impl EngineError {
    /// The error to answer with.
    pub fn to_api_error(&self) -> ApiError {
        match self {
            Self::Busy { retry_after_s } => ApiError::overloaded(*retry_after_s),
            Self::BadRequest(error) => error.clone(),
            Self::Broken { message } => ApiError::internal(message.clone()),
        }
    }
}

impl From<ApiError> for EngineError {
    fn from(error: ApiError) -> Self {
        Self::BadRequest(error)
    }
}
