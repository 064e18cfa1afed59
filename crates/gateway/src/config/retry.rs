//! `[retry]`: how hard the gateway tries, and how much load that may add.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::file::{Place, duration};

/// How hard the gateway tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Extra attempts per million calls, beyond a small steady allowance; 0: none at all.
    pub extra_load_ppm: u32,
    /// How often one endpoint is asked again for one call when there is no other.
    pub again_max: u32,
    /// No further attempt begins later than this after the call came.
    pub window: Duration,
    /// When nothing of an answer came for this long, another endpoint is asked beside the first;
    /// none: never.
    pub hedge: Option<Duration>,
}

impl Retry {
    /// The most that [`Retry::again_max`] may be: an endpoint that failed this often for one call will not
    /// answer it.
    pub const AGAIN_MAX: u32 = 5;

    /// What holds when the file says nothing.
    pub const DEFAULT: Self = Self {
        extra_load_ppm: 200_000,
        again_max: 1,
        window: Duration::from_secs(180),
        hedge: None,
    };
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryTable {
    extra_load_ppm: Option<Spanned<u32>>,
    again_max: Option<Spanned<u32>>,
    window_ms: Option<Spanned<u64>>,
    hedge_ms: Option<Spanned<u64>>,
}

/// Twice the load is the most that retrying may make of it.
const EXTRA_LOAD_MAX_PPM: u32 = 1_000_000;

pub(super) fn retry(at: &Place<'_>, table: &RetryTable) -> Result<Retry, ConfigError> {
    let default = Retry::DEFAULT;
    let bounded = |value: &Option<Spanned<u32>>, key: &str, otherwise: u32, most: u32| match value {
        None => Ok(otherwise),
        Some(value) if *value.get_ref() <= most => Ok(*value.get_ref()),
        Some(value) => {
            let message = format!("{}; it is at most {most}", value.get_ref());
            Err(at.wrong(value, key, &message))
        }
    };
    let again_max = bounded(
        &table.again_max,
        "retry.again_max",
        default.again_max,
        Retry::AGAIN_MAX,
    )?;
    Ok(Retry {
        extra_load_ppm: bounded(
            &table.extra_load_ppm,
            "retry.extra_load_ppm",
            default.extra_load_ppm,
            EXTRA_LOAD_MAX_PPM,
        )?,
        again_max,
        window: match &table.window_ms {
            None => default.window,
            Some(value) => duration(at, value, "retry.window_ms")?,
        },
        hedge: match &table.hedge_ms {
            None => None,
            Some(value) => Some(duration(at, value, "retry.hedge_ms")?),
        },
    })
}
