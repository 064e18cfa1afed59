//! Long-running services: the log's sequencer and its HTTP server.
//!
//! | Module | Holds |
//! |---|---|
//! | [`admission`] | what the log takes |
//! | [`sequencer`] | the one thread that grows the tree, and recovery |
//! | [`log`] | a log in a directory: keys, databases, sequencer |
//! | [`log_server`] | its HTTP |
//! | [`reader`] | its files |
//! | [`fsck`] | checking all of them |

pub mod admission;
pub mod clock;
pub mod fsck;
pub mod layout;
pub mod log;
pub mod log_server;
pub mod reader;
pub mod sequencer;
