//! A signer at work: instance key, numbers before outcomes, spool, shipping to the home log.
//!
//! Nodes and gateways both sign, number, keep and ship; this is how. A [`Recorder`] owns one
//! signer directory (`keys/root.pem`, `keys/instance.pem`, `spool.sqlite`, `signer-id`, `VERSION`).
//!
//! ```text
//! let recorder = Recorder::open(config, context)?;          // inside a tokio runtime
//! let number = recorder.lease(&endpoint, NumberedKind::Observation).await?;
//! //  … send the request with number.nonce(), number.seq(); look at what comes back …
//! let recorded = recorder.record(number, draft)?;           // signs and queues, no waiting
//! recorded.durable().await;                                 // optional: one group commit
//! recorder.by_call(call).await?;                            // pending, then with its proof
//! ```
//!
//! # What is promised
//!
//! - A number is durable, with its nonce and content secret, before [`Recorder::lease`] returns
//!   it. Blocks are leased ahead, so this costs no disk write per call.
//! - Every number ends in exactly one record or one `void`: also after a crash (the next start
//!   signs a void over what had been handed out; after a power cut, over all that was leased) and when the spool was full (answers go on; one void per
//!   stream follows once there is room, with the outcomes that were counted).
//! - *Recorded* means durable in the spool. *Published* means that the home log answered with an
//!   inclusion proof to a checkpoint under its key, and both were verified here.
//! - Control and manifest records are sent when everything before them is in the log, and are in the
//!   log before anything that was signed after them is sent.
//! - What a signer's owner does to its keys ([`Succession`]) happens whole or not at all, also over a
//!   crash.
//! - Records are sent until the log takes them or refuses them for good, with exponential
//!   back-off and jitter.
//!
//! # Derivation of nonce and secret
//!
//! Each block of numbers has a random 32-byte lease secret, durable with the block. For number
//! `seq` of stream `id` (32 bytes, [`record::Stream::id`]), with ‖ for concatenation and `seq`
//! as eight bytes, big-endian:
//!
//! ```text
//! nonce  = first 16 bytes of HMAC-SHA256(lease secret, "nonce"  ‖ id ‖ seq)
//! secret =                   HMAC-SHA256(lease secret, "secret" ‖ id ‖ seq)
//! ```
//!
//! It opens no listening sockets, judges no outcomes, and asks no policy. Clock and random source
//! are arguments ([`Context`]).

mod clerk;
mod clock;
mod config;
mod error;
mod filing;
mod fresh;
mod identity;
mod key_files;
mod lookup;
mod numbers;
mod packed;
mod recorder;
mod ship;
mod status;
mod succession;
mod voids;

pub use clock::{Clock, SystemClock};
pub use config::{Config, Context, HomeLog, NO_HOME_LOG, Random, Shipping};
pub use error::{ErrorKind, RecorderError};
pub use filing::{Draft, Queued, Recorded, WhyUnrecorded};
pub use identity::{ID_FILE, Identity, check, root_key_id};
pub use lookup::{Entry, State};
pub use numbers::{LEASE_WAIT, Numbered, Stream};
pub use recorder::Recorder;
// For fuzzing: what a log answers is a stranger's input.
#[doc(hidden)]
pub use ship::wire;
pub use status::Status;
pub use store::spool::Limits;
pub use succession::Succession;
