//! Small value types that several kinds share.

use std::fmt;
use std::str::FromStr;

use crate::bucket::Tokens;
use crate::error::{Code, Error, Result};
use crate::field::{Field, object, whole};
use crate::json::{Object, Value, Writer};
use crate::schema;

/// One million ppm is the whole.
pub const WHOLE_PPM: u32 = 1_000_000;

/// Largest temperature: 100.
pub const TEMPERATURE_PPM_MAX: u32 = 100 * WHOLE_PPM;

/// A number in parts per million, at most `MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ppm<const MAX: u32>(u32);

/// A share of a whole.
pub type Share = Ppm<WHOLE_PPM>;

/// A sampling temperature.
pub type Temperature = Ppm<TEMPERATURE_PPM_MAX>;

impl<const MAX: u32> Ppm<MAX> {
    /// Checks and takes parts per million.
    ///
    /// # Errors
    /// [`Code::BadValue`] beyond `MAX`.
    pub fn new(ppm: u32) -> Result<Self> {
        if ppm <= MAX {
            return Ok(Self(ppm));
        }
        Err(Error::new(
            Code::BadValue,
            format!("{ppm} ppm; at most {MAX} are allowed"),
        ))
    }

    /// The nearest parts per million of a fraction, as sampling parameters arrive; what is not
    /// a number or negative becomes 0 and what is too large `MAX`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn nearest(fraction: f64) -> Self {
        // A saturating cast: never negative after `max`, and NaN becomes 0.
        let ppm = (fraction * f64::from(WHOLE_PPM)).round().max(0.0) as u32;
        Self(ppm.min(MAX))
    }

    /// Parts per million.
    pub const fn ppm(self) -> u32 {
        self.0
    }
}

impl<const MAX: u32> Field for Ppm<MAX> {
    fn read(value: &Value<'_>) -> Result<Self> {
        let ppm = whole(value, u64::from(MAX))?;
        u32::try_from(ppm)
            .map_err(|_| Error::new(Code::BadValue, "too large"))
            .and_then(Self::new)
    }

    fn write(&self, out: &mut Writer) {
        out.integer(i64::from(self.0));
    }

    fn schema() -> Object<'static> {
        schema::whole("ppm", 0, u64::from(MAX))
    }
}

/// A sampling seed: 64 bits, written as 16 lower-case hex digits, as JSON numbers end at 2^53.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seed(pub u64);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Seed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 8];
        crate::digest::decode_hex(text, &mut bytes)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl Field for Seed {
    fn read(value: &Value<'_>) -> Result<Self> {
        value.expect_str()?.parse()
    }

    fn write(&self, out: &mut Writer) {
        out.hex(&self.0.to_be_bytes());
    }

    fn schema() -> Object<'static> {
        schema::hex(16, "8 bytes hex")
    }
}

/// An HTTP status: 100 to 599.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HttpStatus(u16);

impl HttpStatus {
    /// Checks and takes a status.
    ///
    /// # Errors
    /// [`Code::BadValue`] outside 100 to 599.
    pub fn new(status: u16) -> Result<Self> {
        if (100..=599).contains(&status) {
            return Ok(Self(status));
        }
        Err(Error::new(
            Code::BadValue,
            format!("{status} is no HTTP status (100 to 599)"),
        ))
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }
}

impl Field for HttpStatus {
    fn read(value: &Value<'_>) -> Result<Self> {
        let status = whole(value, 599)?;
        u16::try_from(status)
            .map_err(|_| Error::new(Code::BadValue, "too large"))
            .and_then(Self::new)
    }

    fn write(&self, out: &mut Writer) {
        out.integer(i64::from(self.0));
    }

    fn schema() -> Object<'static> {
        schema::whole("HTTP status", 100, 599)
    }
}

object! {
    /// How many tokens went in and out, coarse.
    #[derive(Copy, Hash)]
    pub struct Usage {
        /// Of the prompt, after the chat template.
        pub prompt_tokens: Tokens,
        /// Of all choices of the answer together.
        pub completion_tokens: Tokens,
    }
}
