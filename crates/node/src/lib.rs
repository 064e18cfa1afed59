//! The provider: an engine behind HTTP, with a signed receipt for every inference.
//!
//! [`serve`] puts an OpenAI-compatible surface in front of an engine, says at its start exactly
//! what it serves (a `manifest` record), and signs one `receipt` per inference: streamed, failed,
//! cut, canceled and turned away ones included.
//!
//! | Path | Answer |
//! |---|---|
//! | `POST /v1/chat/completions` | whole or streamed |
//! | `POST /v1/completions` | whole or streamed; a prompt can be scored |
//! | `GET /v1/models` | the models there are |
//! | `GET /healthz` | 200, or 503 while it drains |
//! | `GET /longrun/v1/node` | identity, control records, current manifests, home log |
//! | `POST /longrun/v1/challenge` | the proof that this address holds the instance key, once it has joined |
//!
//! # What gets a receipt
//!
//! An inference begins when a whole body has arrived that is a JSON object and names a model
//! served here. From then on there is exactly one number and one receipt, whatever happens:
//! refused parameters (`client_error`), a full queue (`capacity`), a failing engine
//! (`provider_error`), a stream that breaks off (`truncated`), a client that leaves (`canceled`,
//! status 499 if nothing was sent). What is not an inference gets none, because there is no
//! endpoint that it could be about: no JSON, no model or an unknown one, a body over the limit, a
//! body that never ends, unusable `x-longrun-…` headers, a web page's request. Those are answered with an error of
//! OpenAI's shape.
//!
//! # What a receipt binds
//!
//! The request's bytes as they arrived and the answer's bytes as they were sent; of a stream, the
//! `data` payloads joined by LF, without `[DONE]` and without Longrun's own event. (Of an answer
//! that the client did not wait for: the bytes that were handed to its connection.) The parameters
//! that were executed, the seed included: an engine that samples gets one drawn here if the caller
//! gave none. A node in front of an outside API states what was asked for and leaves out what it
//! cannot know.
//!
//! # How it travels
//!
//! A caller that records sends `x-longrun-secret`, `x-longrun-nonce`, `x-longrun-observer` and
//! `x-longrun-seq`; an answer in one piece carries `x-longrun-receipt`, a stream has one event
//! `longrun.receipt` before `[DONE]`. A plain client sees an ordinary stream. A receipt is handed
//! out once it is durable, at most one group commit later, so that no crash can void a number
//! whose receipt is already with a caller; if the disk takes longer than [`RECEIPT_WAIT`], or the
//! spool is full, the answer goes without.
//!
//! Prompts, answers and secrets never reach logs or records. Nothing here grades anything.

mod complete;
mod config;
mod error;
mod event;
mod forward;
mod generate;
mod handed;
mod headers;
mod inference;
mod intake;
mod manifest;
mod offer;
mod reached;
mod respond;
mod routes;
mod serve;
mod turn;

pub use config::{Backend, Files, IN_FLIGHT_MAX, NodeConfig, Served};
pub use error::{ErrorKind, NodeError};
pub use handed::{
    HANDED_BYTES_MAX, HANDED_FILE, HANDED_LINE_BYTES_MAX, HANDED_LINES_MAX, handed_back,
};
pub use headers::{NONCE, OBSERVER, RECEIPT, RECEIPT_EVENT, SECRET, SEQ};
pub use inference::RECEIPT_WAIT;
pub use intake::{BODY_BYTES_MAX, BODY_TIMEOUT};
pub use offer::{Joining, Lifetime, OFFER_RENEWED, OFFER_VALID};
pub use respond::CLIENT_STALL;
pub use serve::{Node, serve};
