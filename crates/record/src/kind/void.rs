//! `void`: numbers of a stream that no record will have.
//!
//! Signed after a crash (numbers were leased, their outcomes are lost) or when the spool was
//! full (answers went on, unrecorded). Voided time is *unknown* time; it says how many and what
//! is known of their outcomes, never that all was well.

use super::{Body, SubjectNames, Subjects, require_id, subject};
use crate::bucket::{INTEGER_MAX, StartMs};
use crate::endpoint::{Endpoint, NumberedKind, Seq, Stream};
use crate::error::{Code, Error, Result};
use crate::field::{Field, object, words};
use crate::json::{Object, Value, Writer};
use crate::outcome::Outcome;
use crate::schema;
use crate::statement::Signer;

/// Most ranges of one void; more take a second void.
pub const RANGES_MAX: usize = 256;

object! {
    /// A void.
    pub struct Void {
        /// The stream, whose key is the signer's.
        pub stream: VoidStream,
        /// When it was made, Unix ms to 10 s; a claim.
        pub at_ms: StartMs,
        /// The numbers, in order and apart.
        pub ranges: Vec<Range>,
        /// Why no record will have them.
        pub reason: Reason,
        /// What is known of their outcomes: at most as many as there are numbers.
        pub outcomes: OutcomeCounts,
    }
    check check;
}

object! {
    /// The stream that numbers are missing from.
    pub struct VoidStream {
        /// The endpoint.
        pub endpoint: Endpoint,
        /// The kind that the records would have had.
        pub kind: NumberedKind,
    }
}

object! {
    /// Numbers from `first` to `last`, both included.
    #[derive(Copy, Hash)]
    pub struct Range {
        /// The lowest.
        pub first: Seq,
        /// The highest.
        pub last: Seq,
    }
    check check;
}

words! {
    /// Why numbers have no record.
    pub enum Reason {
        /// The process ended before it could write them.
        Crash = "crash",
        /// There was no room to keep them; answers went on.
        SpoolFull = "spool_full",
        /// They were set aside and never used.
        Unused = "unused",
    }
}

/// How often each outcome is known to have happened, in the order of [`Outcome::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutcomeCounts(Vec<(Outcome, u64)>);

impl OutcomeCounts {
    /// Nothing is known.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Counts one more of an outcome.
    pub fn add(&mut self, outcome: Outcome) {
        match self
            .0
            .binary_search_by_key(&outcome, |(outcome, _)| *outcome)
        {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(1),
            Err(at) => self.0.insert(at, (outcome, 1)),
        }
    }

    /// How often an outcome is known to have happened.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.iter()
            .find(|(have, _)| *have == outcome)
            .map_or(0, |(_, count)| count)
    }

    /// Outcomes and how often each happened, none of them zero.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Of how many numbers the outcome is known.
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

impl Field for OutcomeCounts {
    fn read(value: &Value<'_>) -> Result<Self> {
        let mut counts = Vec::new();
        for (name, count) in value.expect_object()?.members() {
            let read = name.parse::<Outcome>().and_then(|outcome| {
                let count = u64::read(count)?;
                if count == 0 {
                    return Err(Error::new(Code::BadValue, "leave out what did not happen"));
                }
                Ok((outcome, count))
            });
            counts.push(read.map_err(|error| error.under(name))?);
        }
        counts.sort_unstable();
        Ok(Self(counts))
    }

    fn write(&self, out: &mut Writer) {
        out.object(|out| {
            for (outcome, count) in &self.0 {
                count.write_member(out, outcome.as_str());
            }
        });
    }

    fn schema() -> Object<'static> {
        let mut properties = Object::new();
        for outcome in Outcome::ALL {
            properties.set(outcome.as_str(), schema::whole("integer", 1, INTEGER_MAX));
        }
        schema::object(properties, Vec::new())
            .with("title", "counts by outcome")
            .with("additionalProperties", Value::Bool(false))
    }
}

impl Range {
    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.last.number() - self.first.number() + 1
    }

    fn check(&self) -> Result<()> {
        if self.first > self.last {
            return Err(Error::new(Code::Contradiction, "comes after last").under("first"));
        }
        Ok(())
    }
}

impl Void {
    /// How many numbers it names.
    pub fn count(&self) -> u64 {
        self.ranges
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.count()))
    }

    fn check(&self) -> Result<()> {
        if self.ranges.is_empty() || self.ranges.len() > RANGES_MAX {
            return Err(Error::new(
                Code::BadValue,
                format!(
                    "{} ranges; 1 to {RANGES_MAX} are allowed",
                    self.ranges.len()
                ),
            )
            .under("ranges"));
        }
        for (index, pair) in self.ranges.windows(2).enumerate() {
            // Neighbours that touch must be written as one, so that a set has one spelling.
            if pair[0].last.next().is_none_or(|next| next >= pair[1].first) {
                return Err(Error::new(
                    Code::Contradiction,
                    "must start after the end of the range before it, and not touch it",
                )
                .under("first")
                .at_index(index + 1)
                .under("ranges"));
            }
        }
        if self.outcomes.total() > self.count() {
            return Err(Error::new(
                Code::Contradiction,
                format!(
                    "{} outcomes of {} numbers",
                    self.outcomes.total(),
                    self.count()
                ),
            )
            .under("outcomes"));
        }
        if self.reason == Reason::Unused && self.outcomes.total() > 0 {
            return Err(
                Error::new(Code::Contradiction, "unused numbers have no outcomes")
                    .under("outcomes"),
            );
        }
        Ok(())
    }

    /// The stream it is about, given who signs.
    pub fn stream(&self, signer: &Signer) -> Stream {
        Stream {
            key: signer.key.key_id(),
            endpoint: self.stream.endpoint.clone(),
            kind: self.stream.kind,
        }
    }
}

impl Body for Void {
    const SUBJECTS: SubjectNames = SubjectNames {
        positions: &[&["stream"]],
        required: 1,
    };

    /// `stream`, with the id of the stream.
    fn subjects(&self, signer: &Signer) -> Result<Subjects> {
        let id = self.stream(signer).id();
        Ok(Subjects::Fixed(vec![subject("stream", id.digest())?]))
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)?;
        let provider = &self.stream.endpoint.provider;
        if self.stream.kind == NumberedKind::Receipt && provider.signer() != signer.id {
            return Err(Error::new(
                Code::Contradiction,
                "receipts are about their signer's own endpoint",
            )
            .under("provider")
            .under("endpoint")
            .under("stream"));
        }
        Ok(())
    }
}
