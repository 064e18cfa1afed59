//! Where bytes live: memory that can be told to fail, and local files with SQLite.

pub mod spool;
