//! `forecast`: what its signer expects of an endpoint, said before the time it is about.
//!
//! A forecast names everything that scoring it needs, so that anyone who has the observations of
//! its window can score it. It is a statement of opinion: no history counts it, and one that a log
//! has only after a counted observation of a time after its window's start is not scored, because
//! its signer may have known. (The order is the log's; when it was logged, only witnesses can say.)

use super::{Body, SubjectNames, Subjects, require_id, subject};
use crate::bucket::{DurationUs, StartMs};
use crate::control::LogOrigin;
use crate::digest::Digest;
use crate::endpoint::{Endpoint, endpoint_digest};
use crate::error::{Code, Error, Result};
use crate::field::{Word, object, words};
use crate::statement::Signer;
use crate::value::Share;

object! {
    /// A forecast.
    pub struct Forecast {
        /// When it was made, Unix ms to 10 s; a claim. At most the start of its window.
        pub at_ms: StartMs,
        /// The endpoint.
        pub endpoint: Endpoint,
        /// What is asked of the attempts in the window.
        pub objective: Objective,
        /// The time that it is about.
        pub window: Window,
        /// Probability that the share of good attempts in the window is below the objective.
        pub breach_ppm: Share,
        /// Where the share of good attempts is expected; absent if the method issues no interval.
        pub interval: Option<Interval>,
        /// The method and its version; scores of different ones are never mixed.
        pub forecaster: Word,
        /// The records that it was made from.
        pub basis: ForecastBasis,
    }
    check check;
}

object! {
    /// A share of attempts that must be good.
    #[derive(PartialOrd, Ord, Hash)]
    pub struct Objective {
        /// What makes an attempt good.
        pub dimension: Dimension,
        /// The share of attempts that must be good.
        pub target_ppm: Share,
        /// Good is what took less than this; there exactly for the dimensions that are times.
        pub within_us: Option<DurationUs>,
    }
    check check;
}

words! {
    /// What makes an attempt good.
    pub enum Dimension {
        /// It was served well (outcome ok); what was not the provider's fault does not count.
        Availability = "availability",
        /// Its first token came in time; only attempts that were served well count.
        FirstToken = "first_token",
        /// Its end came in time; only attempts that were served well count.
        Total = "total",
    }
}

object! {
    /// A stretch of time. An attempt belongs to it by its start.
    #[derive(Copy, PartialOrd, Ord, Hash)]
    pub struct Window {
        /// Its start, Unix ms to 10 s.
        pub start_ms: StartMs,
        /// How long it is.
        pub length: WindowLength,
    }
}

words! {
    /// How long a window is.
    pub enum WindowLength {
        /// One hour.
        Hour = "hour",
        /// 24 hours.
        Day = "day",
        /// Seven days.
        Week = "week",
    }
}

object! {
    /// Shares between two ends, both included.
    #[derive(Copy)]
    pub struct Interval {
        /// How often intervals like this one are meant to miss.
        pub miss_ppm: Share,
        /// The lower end.
        pub lower_ppm: Share,
        /// The upper end.
        pub upper_ppm: Share,
    }
    check check;
}

object! {
    /// The records that a forecast was made from.
    pub struct ForecastBasis {
        /// The log; absent where the signer's own records were used without any.
        pub log: Option<LogOrigin>,
        /// How many entries of it, or how many records.
        pub size: u64,
        /// The root of the checkpoint at that size.
        pub root: Option<Digest>,
    }
    check check;
}

impl WindowLength {
    /// In milliseconds.
    pub const fn ms(self) -> u64 {
        const HOUR_MS: u64 = 60 * 60 * 1000;
        match self {
            WindowLength::Hour => HOUR_MS,
            WindowLength::Day => 24 * HOUR_MS,
            WindowLength::Week => 7 * 24 * HOUR_MS,
        }
    }
}

impl Window {
    /// The first millisecond after it.
    pub fn end_ms(&self) -> u64 {
        self.start_ms.ms().saturating_add(self.length.ms())
    }

    /// Whether an attempt that started at `start_ms` belongs to it.
    pub fn holds(&self, start_ms: u64) -> bool {
        (self.start_ms.ms()..self.end_ms()).contains(&start_ms)
    }
}

impl Objective {
    fn check(&self) -> Result<()> {
        let is_time = self.dimension != Dimension::Availability;
        if is_time != self.within_us.is_some() {
            return Err(contradiction(
                "within_us",
                "belongs to the dimensions that are times, and only to them",
            ));
        }
        Ok(())
    }
}

impl Interval {
    fn check(&self) -> Result<()> {
        if self.lower_ppm > self.upper_ppm {
            return Err(contradiction("lower_ppm", "larger than upper_ppm"));
        }
        Ok(())
    }
}

impl ForecastBasis {
    fn check(&self) -> Result<()> {
        if self.root.is_some() && self.log.is_none() {
            return Err(contradiction("root", "a root needs the log that it is of"));
        }
        Ok(())
    }
}

impl Forecast {
    fn check(&self) -> Result<()> {
        if self.at_ms > self.window.start_ms {
            return Err(contradiction(
                "at_ms",
                "a forecast is made before its window begins",
            ));
        }
        Ok(())
    }
}

impl Body for Forecast {
    const SUBJECTS: SubjectNames = SubjectNames {
        positions: &[&["endpoint"]],
        required: 1,
    };

    /// `endpoint`, with the digest of its name: `docs/format.md` has the bytes.
    fn subjects(&self, _signer: &Signer) -> Result<Subjects> {
        let about = subject("endpoint", endpoint_digest(&self.endpoint))?;
        Ok(Subjects::Fixed(vec![about]))
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)
    }
}

fn contradiction(member: &str, message: &str) -> Error {
    Error::new(Code::Contradiction, message).under(member)
}
