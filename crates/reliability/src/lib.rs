//! Estimators and the fold that turns records into a reliability history.
//!
//! This crate is pure: it reads no clock, no file, no socket and no source of randomness. Its
//! floating point goes through `libm` in a fixed order, so that two machines that fold the same
//! records print the same bytes. There is no forecast here and no judgement of fidelity: a
//! history says what was served, never what will be.

pub mod fold;
pub mod kt;
pub mod special;
