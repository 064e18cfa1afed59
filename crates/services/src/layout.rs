//! Where a log keeps what, relative to its directory.

/// Content of `VERSION` in a log's directory.
pub const LOG_VERSION: &str = "longrun log 1\n";
/// The published checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Bundles of rounds that are under way.
pub const STAGING: &str = "staging";
/// In a log that was ended: its end, and the log that goes on. Public.
pub const SUCCESSOR: &str = "successor.json";
/// In a log that goes on from another: the same file. Public.
pub const PREDECESSOR: &str = "predecessor.json";
/// What the log says about how long it keeps what; optional, public.
pub const RETENTION: &str = "retention.json";
/// The log's private key, mode 0600.
pub const LOG_KEY: &str = "log.key";
/// The token that opens bodies, mode 0600.
pub const READ_TOKEN: &str = "read.token";
/// The head: the commit point.
pub const HEAD_DATABASE: &str = "head.sqlite";
/// The index of recent entries; can be deleted while the log is stopped, and is rebuilt.
pub const SEEN: &str = "seen";
/// The log's witnesses and quorum: a C2SP tlog-policy without `log` lines.
pub const WITNESSES: &str = "witnesses";
