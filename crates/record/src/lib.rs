//! Statements, envelopes, keys, bundles: what is signed, and how a stranger checks it.
//!
//! A record is an in-toto Statement v1 in a DSSE envelope with one P-256 signature. Its id is
//! the SHA-256 of what was signed; its leaf in a log is a Rekor v2 `hashedrekord`; with proof
//! and checkpoint it becomes a Sigstore bundle. `docs/format.md` specifies every byte.
//!
//! This crate is pure: no sockets, files, environment, clock or randomness of its own. Random
//! sources and times are arguments. It verifies no Merkle proofs and no checkpoints (`tlog`
//! does), and it trusts nobody: who counts is a policy's business.
//!
//! | Module | Holds |
//! |---|---|
//! | [`digest`] | SHA-256, ids, nonces |
//! | [`key`] | P-256 keys |
//! | [`envelope`] | DSSE |
//! | [`statement`] | in-toto statements, signers, subjects, records |
//! | [`kind`] | the kinds, and how to add one |
//! | [`control`] | the chain of a signer's control records |
//! | [`offer`] | what nodes offer, and which offers stand |
//! | [`address`] | where a node is reached |
//! | [`challenge`] | the proof that a node holds its key |
//! | [`consent`] | a signer's word on what strangers may read |
//! | [`outcome`] | outcome classes and faults |
//! | [`bucket`] | coarse values |
//! | [`content`] | salts, commitments, openings |
//! | [`value`] | small types that kinds share |
//! | [`leaf`], [`bundle`] | a record's place in a log |
//! | [`json`] | the strict reader |
//! | [`schema`] | JSON Schema of each kind |

mod base64;
mod error;
mod field;

pub mod address;
pub mod bucket;
pub mod bundle;
pub mod challenge;
pub mod consent;
pub mod content;
pub mod digest;
pub mod endpoint;
pub mod envelope;
pub mod json;
pub mod key;
pub mod kind;
pub mod leaf;
pub mod outcome;
pub mod schema;
pub mod statement;
pub mod value;

pub use address::{Address, DialKey, KeyAddress};
pub use bundle::{Bundle, LogEntry};
pub use content::{Salt, Secret};
pub use digest::{CallId, Digest, KeyId, Nonce, RecordId, SignerId, StreamId, hmac_sha256, sha256};
pub use endpoint::{Endpoint, ModelName, NumberedKind, Origin, Place, Provider, Seq, Stream};
pub use envelope::Envelope;
pub use error::{Code, Error, ErrorKind, Result};
pub use field::{Text, Word};
pub use key::{PublicKey, SIGNATURE_BYTES_MAX, SigningKey};
pub use kind::{
    KINDS, Predicate, control, forecast, judgement, manifest, observation, offer, receipt, summary,
    void,
};
pub use outcome::{Fault, Outcome};
pub use statement::{Exchange, Record, Signer, Statement, Subject};
pub use value::{HttpStatus, Ppm, Seed, Share, Temperature, Usage};
