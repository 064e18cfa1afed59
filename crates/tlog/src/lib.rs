//! Merkle tree, tiles, checkpoints, signed notes, proofs; verification of a record with its proof.
//!
//! Everything here is pure: bytes in, bytes out. Formats are those of C2SP (tlog-tiles,
//! signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy, tlog-proof) over the hashes of
//! RFC 6962. There are no sockets, no files, no clock and no ambient randomness; the sequencer and
//! the servers live in `services`.

pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod growth;
pub mod history;
pub mod log_policy;
pub mod merkle;
pub mod monitor;
pub mod multiproof;
pub mod note;
pub mod policy;
pub mod proof;
pub mod shard;
pub mod summary;
pub mod tile;
pub mod tlog_proof;
pub mod verify;
pub mod witness;

pub use record::Digest;
