//! What to expect of an endpoint next, and how good such forecasts were.
//!
//! A forecast is an opinion; nothing here is evidence, and no interval of a history uses it.
//!
//! | Module | Holds |
//! |---|---|
//! | [`pool`] | the prior that endpoints share: partial pooling |
//! | [`adaptive`] | intervals that keep their coverage under any drift |
//! | [`score`] | scores of single forecasts |
//! | [`compare`] | who forecasts better, and calibration |

pub mod adaptive;
pub mod compare;
pub mod pool;
pub mod score;
