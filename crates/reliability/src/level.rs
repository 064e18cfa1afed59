//! The level of an interval, and the interval itself.

/// The error probability of an interval: it fails to cover, ever, with at most this probability.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Alpha(f64);

impl Alpha {
    /// 5 %, the level of every interval that the product prints.
    pub const FIVE_PERCENT: Self = Self(0.05);

    /// 10⁻⁴, the level of a verdict after an alarm.
    pub(crate) const VERDICT: Self = Self(1e-4);

    /// An error probability strictly between 0 and 1.
    ///
    /// # Errors
    /// [`AlphaOutOfRange`] for anything else, NaN included.
    pub fn new(alpha: f64) -> Result<Self, AlphaOutOfRange> {
        if alpha > 0.0 && alpha < 1.0 {
            Ok(Self(alpha))
        } else {
            Err(AlphaOutOfRange(alpha))
        }
    }

    /// The probability itself.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    /// The same error probability spread evenly over `parts` intervals, of which none may miss.
    /// Nothing is spread over no intervals.
    #[must_use]
    pub fn split(self, parts: u32) -> Self {
        Self(self.0 / f64::from(parts.max(1)))
    }

    /// The probability in parts per million.
    #[must_use]
    pub fn ppm(self) -> u32 {
        ppm(libm::round(self.0 * PPM))
    }
}

/// An error probability that is not strictly between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("alpha is {0}; an error probability lies strictly between 0 and 1, for instance 0.05")]
pub struct AlphaOutOfRange(pub f64);

/// The shares that the evidence does not exclude, both ends rounded outward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end, a share in `[0, 1]`.
    pub lower: f64,
    /// Upper end, a share in `[0, 1]`.
    pub upper: f64,
}

impl Interval {
    /// Nothing observed: everything is possible.
    pub const UNKNOWN: Self = Self {
        lower: 0.0,
        upper: 1.0,
    };

    /// The lower end in parts per million, rounded down.
    #[must_use]
    pub fn lower_ppm(&self) -> u32 {
        ppm(libm::floor(self.lower * PPM))
    }

    /// The upper end in parts per million, rounded up.
    #[must_use]
    pub fn upper_ppm(&self) -> u32 {
        ppm(libm::ceil(self.upper * PPM))
    }

    /// Both ends in parts per million, rounded outward.
    #[must_use]
    pub fn ends_ppm(&self) -> [u32; 2] {
        [self.lower_ppm(), self.upper_ppm()]
    }
}

const PPM: f64 = 1_000_000.0;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to [0, 10^6] before the cast"
)]
fn ppm(value: f64) -> u32 {
    value.clamp(0.0, PPM) as u32
}
