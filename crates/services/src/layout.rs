//! Where a log keeps what, relative to its directory.

/// Content of `VERSION` in a log's directory.
pub const LOG_VERSION: &str = "longrun log 1\n";
/// The published checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Bundles of rounds that are under way.
pub const STAGING: &str = "staging";
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
