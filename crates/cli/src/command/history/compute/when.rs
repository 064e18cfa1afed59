//! Times as request logs write them.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds below this are seconds, above it milliseconds: the year 5138, or 1973.
const SECONDS_BELOW: f64 = 1e11;

/// A time as text or as a number.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum When {
    /// Unix seconds or milliseconds.
    Number(f64),
    /// RFC 3339; with a space for the `T`, and without a zone (then UTC), as databases print it.
    Text(String),
}

impl When {
    /// Unix ms.
    pub(super) fn ms(&self) -> Result<f64, String> {
        let ms = match self {
            Self::Number(number) if number.abs() < SECONDS_BELOW => number * 1e3,
            Self::Number(number) => *number,
            Self::Text(text) => ms_of(text)?,
        };
        if ms.is_finite() && ms > 0.0 {
            Ok(ms)
        } else {
            Err(format!("{ms} is no time after 1970"))
        }
    }

    /// Unix ms, whole.
    pub(super) fn whole_ms(&self) -> Result<u64, String> {
        let ms = self.ms()?;
        if ms >= 1e15 {
            return Err(format!("{ms:.0} ms is no time; check the unit"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and 1e15"
        )]
        let whole = ms.round() as u64;
        Ok(whole)
    }
}

fn ms_of(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let mut rfc = text.replacen(' ', "T", 1);
    let after_date = rfc.find('T').map_or("", |at| &rfc[at..]);
    if !after_date.contains(['Z', 'z', '+', '-']) {
        rfc.push('Z');
    }
    let parsed = OffsetDateTime::parse(&rfc, &Rfc3339)
        .map_err(|_| format!("`{text}` is no time such as 2026-11-26T17:00:00Z or 1795712400"))?;
    Ok(parsed.unix_timestamp_nanos() as f64 / 1e6)
}
