//! What a log says about how long it keeps what: `retention.json`, a public file.
//!
//! ```json
//! {"longrun_retention": 1, "appends_until": "2027-06-30", "tiles_days": 3650, "bodies_days": 365}
//! ```
//!
//! A statement for readers and signers: nothing is deleted by it. `appends_until` is the day on
//! which the log means to end and go on in another shard; days count from its end. What is absent is
//! not promised to end.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::layout::RETENTION;

/// The only version there is.
pub const RETENTION_VERSION: u32 = 1;
const BYTES_MAX: usize = 64 * 1024;

/// A day of the calendar, `YYYY-MM-DD`, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(String);

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: Option<&str>, digits: usize| -> Option<u32> {
            let part = part.filter(|p| p.len() == digits)?;
            let plain = part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse().ok())?
        };
        let mut parts = text.splitn(3, '-');
        let year = number(parts.next(), 4);
        let month = number(parts.next(), 2);
        let day = number(parts.next(), 2);
        let (Some(year), Some(month), Some(day)) = (year, month, day) else {
            return Err(format!("`{text}` is not a day such as 2027-06-30"));
        };
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => 0,
        };
        if (1..=days).contains(&day) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is no day of the calendar"))
        }
    }
}

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a log says that it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    longrun_retention: u32,
    /// The day on which it means to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appends_until: Option<Day>,
    /// Days after its end for which tiles, entries and checkpoint stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles_days: Option<u32>,
    /// Days after its end for which bodies stay, unless erased before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bodies_days: Option<u32>,
}

impl Default for Retention {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}

impl Retention {
    /// A statement of these; what is `None` is not promised to end.
    #[must_use]
    pub fn new(
        appends_until: Option<Day>,
        tiles_days: Option<u32>,
        bodies_days: Option<u32>,
    ) -> Self {
        Self {
            longrun_retention: RETENTION_VERSION,
            appends_until,
            tiles_days,
            bodies_days,
        }
    }

    /// Reads a statement.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err("it is too large".to_owned());
        }
        let said: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if said.longrun_retention != RETENTION_VERSION {
            return Err(format!(
                "version {}; this program reads {RETENTION_VERSION}",
                said.longrun_retention
            ));
        }
        Ok(said)
    }

    /// Puts the statement into a log's directory; a log that runs serves it from then on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, directory: &Path) -> store::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        store::local::replace_file(&directory.join(RETENTION), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Day, Retention};

    #[test]
    fn days_are_those_of_the_calendar() {
        for good in ["2027-06-30", "2024-02-29", "2000-02-29", "1999-12-31"] {
            assert_eq!(
                good.parse::<Day>().map(|day| day.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "2027-6-30",
            "2027-06-31",
            "2023-02-29",
            "1900-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "tomorrow",
            "2027-06-30T",
            "+027-06-30",
            "",
        ] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_statement_is_read_strictly() {
        let full = br#"{"longrun_retention":1,"appends_until":"2027-06-30","tiles_days":9,"bodies_days":0}"#;
        let said = Retention::parse(full).expect("good");
        assert_eq!((said.tiles_days, said.bodies_days), (Some(9), Some(0)));
        assert_eq!(
            Retention::parse(br#"{"longrun_retention":1}"#),
            Ok(Retention::default())
        );
        for bad in [
            r#"{"longrun_retention":2}"#,
            r#"{"longrun_retention":1,"tile_days":9}"#,
            r#"{"longrun_retention":1,"appends_until":"2027-06-31"}"#,
            r#"{"longrun_retention":1,"tiles_days":-1}"#,
        ] {
            assert!(Retention::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
