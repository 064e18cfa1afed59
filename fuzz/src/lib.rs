//! Every decoder of Longrun as a fuzz target.
//!
//! A target takes any bytes and panics if a property does not hold: what is read writes back and
//! reads the same; two readers of one format agree; nothing verifies but what the vectors hold. The
//! keys of the vectors sign nothing here, so whatever else verifies is a forgery.
//!
//! `scripts/fuzz` runs the targets under LLVM's libFuzzer, starting from [`Target::seeds`].
//! `cargo test -p fuzz` runs them over the seeds, over small changes of each, and over the inputs
//! in `found/`: the smallest ones that once broke something.

use std::collections::BTreeSet;

mod engine_wire;
mod histories;
mod identities;
#[cfg(feature = "embedded")]
mod models;
mod records;
mod settings;
mod tracing;
mod trees;
mod verifying;
mod watching;

pub mod vectors;

/// A decoder with what must hold for it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What to call it on the command line; also its folder in `found/`.
    pub name: &'static str,
    /// Panics if a property does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets; names are unique.
#[must_use]
pub fn targets() -> Vec<Target> {
    let all = [
        records::TARGETS,
        trees::TARGETS,
        verifying::TARGETS,
        histories::TARGETS,
        watching::TARGETS,
        identities::TARGETS,
        engine_wire::TARGETS,
        #[cfg(feature = "embedded")]
        models::TARGETS,
        settings::TARGETS,
        tracing::TARGETS,
    ]
    .concat();
    let names: BTreeSet<&str> = all.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), all.len(), "two targets have one name");
    all
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}
