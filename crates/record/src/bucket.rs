//! Buckets: how exact values are made coarse before they are published.
//!
//! Public fields hold the *lower edge* of a bucket and nothing else, so that a log full of
//! records does not say when exactly somebody typed, or how long exactly a prompt was. The
//! types here can only be made from an edge or by rounding down to one, so a record cannot hold
//! an exact value by mistake. `docs/format.md` has the tables.

use std::fmt;

use crate::error::{Code, Error, Result};

/// Largest integer a record may hold: 2^53-1, what every JSON reader agrees on.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Start times are floored to this many milliseconds.
pub const START_STEP_MS: u64 = 10_000;

/// Edges of one octave of durations, µs; the next octave is twice these.
pub const DURATION_OCTAVE_US: [u64; 4] = [1000, 1189, 1414, 1682];

/// Octaves of durations above 1000 µs; the last bucket starts at 1682 · 2^29 µs (about 10 days)
/// and has no upper edge.
pub const DURATION_OCTAVES: u32 = 30;

/// Largest token bucket; it has no upper edge.
pub const TOKENS_MAX: u64 = 3 << 30;

macro_rules! buckets {
    ($($(#[$doc:meta])* $name:ident, $unit:ident, $floor:ident, $what:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The bucket whose lower edge this is.
            ///
            /// # Errors
            /// [`Code::BadBucket`] if it is no edge.
            pub fn from_edge(edge: u64) -> Result<Self> {
                if edge <= INTEGER_MAX && $floor(edge) == edge {
                    return Ok(Self(edge));
                }
                Err(Error::new(
                    Code::BadBucket,
                    format!(concat!("{} is not the lower edge of a ", $what, "; {} is"), edge, $floor(edge)),
                ))
            }

            /// The lower edge.
            pub const fn $unit(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )+};
}

buckets! {
    /// A duration to a quarter-octave, µs: {1000, 1189, 1414, 1682} · 2^k, and 0 below 1000.
    DurationUs, us, floor_duration, "duration bucket";
    /// A token count to a half-octave: 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, …
    Tokens, tokens, floor_tokens, "token bucket";
    /// A time to 10 s, Unix milliseconds.
    StartMs, ms, floor_start, "10-second step";
}

/// The bucket of a duration of `exact` µs.
pub fn duration_us(exact: u64) -> DurationUs {
    DurationUs(floor_duration(exact))
}

/// The bucket of a count of `exact` tokens.
pub fn tokens(exact: u64) -> Tokens {
    Tokens(floor_tokens(exact))
}

/// The 10-second step that `exact` Unix milliseconds fall in.
pub fn start_ms(exact: u64) -> StartMs {
    StartMs(floor_start(exact))
}

impl DurationUs {
    /// The lower edge of the next bucket, µs: every duration in this bucket is shorter.
    /// `None` for the last bucket, which has no upper edge.
    pub fn upper_us(self) -> Option<u64> {
        edges().find(|&edge| edge > self.0)
    }

    /// The number of this bucket, from 0; dense, so it can index a histogram.
    pub fn index(self) -> usize {
        if self.0 < DURATION_OCTAVE_US[0] {
            return 0;
        }
        let octave = (self.0 / DURATION_OCTAVE_US[0]).ilog2() as usize;
        let step = DURATION_OCTAVE_US
            .iter()
            .position(|edge| edge << octave == self.0)
            .unwrap_or(0);
        1 + octave * DURATION_OCTAVE_US.len() + step
    }

    /// The bucket of this number: the reverse of [`DurationUs::index`].
    pub fn at(index: usize) -> Option<Self> {
        let Some(above) = index.checked_sub(1) else {
            return Some(Self(0));
        };
        let (octave, step) = (
            above / DURATION_OCTAVE_US.len(),
            above % DURATION_OCTAVE_US.len(),
        );
        (octave < DURATION_OCTAVES as usize).then(|| Self(DURATION_OCTAVE_US[step] << octave))
    }

    /// Every lower edge, in order.
    pub fn edges() -> impl Iterator<Item = u64> {
        std::iter::once(0).chain(edges())
    }

    /// How many duration buckets there are.
    pub const COUNT: usize = 1 + DURATION_OCTAVES as usize * DURATION_OCTAVE_US.len();
}

impl Tokens {
    /// Every lower edge, in order.
    pub fn edges() -> impl Iterator<Item = u64> {
        let octaves = TOKENS_MAX.ilog2();
        let halves = (1..=octaves).flat_map(|octave| [1 << octave, 3 << (octave - 1)]);
        [0, 1].into_iter().chain(halves)
    }
}

fn edges() -> impl Iterator<Item = u64> {
    (0..DURATION_OCTAVES).flat_map(|octave| DURATION_OCTAVE_US.map(|edge| edge << octave))
}

fn floor_duration(exact: u64) -> u64 {
    if exact < DURATION_OCTAVE_US[0] {
        return 0;
    }
    let octave = (exact / DURATION_OCTAVE_US[0])
        .ilog2()
        .min(DURATION_OCTAVES - 1);
    DURATION_OCTAVE_US
        .iter()
        .rev()
        .map(|edge| edge << octave)
        .find(|&edge| edge <= exact)
        .unwrap_or(DURATION_OCTAVE_US[0] << octave)
}

fn floor_tokens(exact: u64) -> u64 {
    if exact < 4 {
        return exact;
    }
    let power = 1 << exact.ilog2();
    let edge = if exact >= power + power / 2 {
        power + power / 2
    } else {
        power
    };
    edge.min(TOKENS_MAX)
}

fn floor_start(exact: u64) -> u64 {
    let exact = exact.min(INTEGER_MAX);
    exact - exact % START_STEP_MS
}

#[cfg(test)]
mod tests;
