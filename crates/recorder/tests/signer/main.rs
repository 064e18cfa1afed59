//! Signers in temporary directories, with a log of their own that does what it is told.

mod common;
mod recording;
mod refusals;
mod succession;
mod trouble;
