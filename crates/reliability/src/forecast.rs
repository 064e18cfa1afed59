//! What to expect of an endpoint next, and how good such forecasts were.
//!
//! A forecast is an opinion; nothing here is evidence, and no interval of a history uses it.
//!
//! | Module | Holds |
//! |---|---|
//! | [`fold`] | records into forecasts and scores |
//! | [`track`] | one endpoint under one objective, and what is expected of its next windows |
//! | [`pool`] | the prior that endpoints share: partial pooling |
//! | [`mixture`], `spell`, [`shares`] | ways to foretell a breach; spells of trouble; what shares windows had |
//! | [`adaptive`] | intervals that keep their coverage under any drift |
//! | [`score`] | scores of single forecasts |
//! | [`Predictability`] | how well intervals covered that were issued beforehand |
//! | [`compare`], [`scores`] | who forecasts better, and calibration; sums over scored forecasts |

pub mod adaptive;
pub mod compare;
mod coverage;
pub mod fold;
pub mod mixture;
pub mod pool;
pub mod score;
pub mod scores;
mod series;
pub mod shares;
mod spell;
pub mod track;

pub use coverage::Predictability;
pub use series::{Expected, Pools, step_ms};
