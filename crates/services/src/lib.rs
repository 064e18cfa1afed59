//! Long-running services: the log's sequencer, its HTTP server, and a witness.
//!
//! | Module | Holds |
//! |---|---|
//! | [`admission`] | what the log takes |
//! | [`cosigning`] | asking witnesses |
//! | [`sequencer`] | the one thread that grows the tree, and recovery |
//! | [`log`] | a log in a directory: keys, databases, sequencer |
//! | [`log_server`] | its HTTP |
//! | [`quota`] | who may append, and how much |
//! | [`reader`] | its files |
//! | [`fsck`] | checking all of them |
//! | [`monitor`] | following logs and witnesses of others |
//! | [`shard`] | ending a log and going on in another |
//! | [`retention`] | what it says about how long it keeps what |
//! | [`erase`] | taking bodies out |
//! | [`witness`] | a witness, for any log |

pub mod admission;
pub mod clock;
pub mod consent;
pub mod cosigning;
pub mod erase;
pub mod fsck;
pub mod layout;
pub mod log;
pub mod log_server;
pub mod monitor;
pub mod quota;
pub mod reader;
pub mod retention;
pub mod sequencer;
pub mod shard;
pub mod witness;
