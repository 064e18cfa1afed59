//! Estimators and the fold that turns records into a reliability history.
//!
//! This crate is pure: it reads no clock, no file, no socket and no source of randomness. Its
//! floating point goes through `libm` in a fixed order, so that two machines that fold the same
//! records print the same bytes.
//!
//! | Module | Holds |
//! |---|---|
//! | [`share`] | the interval for a mean chance, valid under drift: the default |
//! | [`kt`] | for one independent yes-or-no outcome per unit |
//! | [`hedged`], [`boundary`] | for scores that vary little |
//! | [`latency`] | bands for quantiles of bucketed durations |
//! | [`detector`] | alarms with a bound on false ones |
//! | [`evidence`], [`parity`], [`conformal`] | evidence against one hypothesis, parity, exchangeability |
//! | [`fold`] | records into histories |
//! | [`facts`] | what a fold takes from records, in a few bytes |
//! | [`merge`], [`imported`] | records of several logs in one order; evidence of others |
//! | [`forecast`] | what to expect next, and how good such forecasts were |
//! | [`objective`] | error budgets, and how fast they burn |
//! | [`route`] | which endpoint gets a call |
//! | [`timeline`], [`account`] | what happened when, and a report of it |
//! | [`concentration`], [`drill`] | how much depends on how few, and what would be without one |
//! | [`level`], [`special`] | levels and intervals; special functions |

pub mod account;
pub mod boundary;
mod cells;
pub mod concentration;
pub mod conformal;
pub mod detector;
pub mod drill;
pub mod evidence;
pub mod facts;
pub mod fold;
pub mod forecast;
pub mod hedged;
pub mod imported;
pub mod kt;
pub mod latency;
pub mod level;
pub mod merge;
pub mod objective;
pub mod parity;
pub mod route;
pub mod share;
pub mod special;
pub mod timeline;

#[cfg(test)]
mod bits;
#[cfg(test)]
mod testing;
