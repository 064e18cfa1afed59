//! The OpenAI wire types: what arrives at `/v1/chat/completions` and `/v1/completions`, what leaves
//! them, errors, and what
//! an observer reads of this and the other surfaces.
//!
//! Parsing is partial on purpose. Only the fields that are acted on are typed; everything else is
//! kept in `rest`, in order, so that a request that passes through us loses nothing. Whoever only
//! forwards a body should read it with [`RequestHead`], which borrows, and send the bytes on as
//! they came.
//!
//! There is no HTTP here and no engine.

mod alike;
mod answer;
mod completions;
pub mod error;
mod fields;
mod request;
mod summary;
mod surface;

pub use alike::ChunkReader;
pub use answer::{
    AssistantMessage, ChatCompletion, ChatCompletionChunk, Choice, ChunkChoice, Delta,
    FinishReason, Logprobs, Model, ModelList, TokenLogprob, TopLogprob, Usage,
};
pub use completions::{
    Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, DEFAULT_MAX_TOKENS,
    MAX_COMPLETION_LOGPROBS, Prompt,
};
pub use error::ApiError;
pub use request::{
    ChatRequest, Content, MAX_MESSAGES, MAX_STOP_BYTES, MAX_STOPS, MAX_TEMPERATURE,
    MAX_TOP_LOGPROBS, Message, Part, RequestHead, Stop, StreamOptions,
};

pub use summary::{BROKEN, ChunkSummary};
pub use surface::Surface;

#[cfg(test)]
mod tests;
