//! Engines: the embedded one, OpenAI-compatible upstreams, and the wire types both speak.
//!
//! - [`openai`]: requests, answers and errors as OpenAI's clients know them.
//! - [`sse`]: server-sent events over bytes, frames kept untouched.
//! - [`http`]: the shared client and server loop, with `TCP_NODELAY` on both sides.
//! - `embedded` (feature): GGUF models on the CPU, in this process.
//! - `hub` (feature): model files from a Hugging Face hub.
//! - `weights` (feature): digests of what an operator says another server runs.
//! - [`engine`]: what an engine is to a node.
//! - [`upstream`]: any OpenAI-compatible API, bytes in and bytes out.
//! - [`sampling`]: the seeded sampler, specified so that others can replay it.
//! - [`faulty`]: an engine that fails on purpose.
//!
//! Nothing here signs, stores or grades anything.

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod engine;
pub mod faulty;
pub mod http;
#[cfg(feature = "embedded")]
pub mod hub;
pub mod openai;
pub mod progress;
pub mod sampling;
pub mod sse;
pub mod upstream;
#[cfg(feature = "embedded")]
pub mod weights;

pub use engine::{
    Answer, AnswerEvent, Basis, Delta, Description, Echo, Engine, EngineError, Executed, Finish,
    KnownDigest,
};
pub use openai::ApiError;
