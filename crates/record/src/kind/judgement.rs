//! `judgement`: whether answers were right, said by whoever asked, after the fact.
//!
//! An observation says how an attempt *ended*; what the answer was worth shows later, to the
//! application or to a check with an assertion. A judgement names the observations it is about, by
//! record id and by number, and is signed by the same identity. It carries what a reader needs to
//! count it without having kept the observations: their endpoint, stream and conditions.
//!
//! The answer and the reason stay with whoever asked: nothing here is derived from content but
//! digests under the observer's own secret.

use super::{Body, SubjectNames, Subjects, require_id, subject};
use crate::bucket::StartMs;
use crate::digest::{Digest, KeyId, RecordId};
use crate::endpoint::{Endpoint, Seq};
use crate::error::{Code, Error, Result};
use crate::field::{object, words};
use crate::observation::Conditions;
use crate::statement::Signer;

/// Most answers of one judgement.
pub const ANSWERS_MAX: usize = 64;

object! {
    /// A judgement.
    pub struct Judgement {
        /// When it was made, Unix ms to 10 s; a claim.
        pub at_ms: StartMs,
        /// The endpoint that answered.
        pub endpoint: Endpoint,
        /// The instance key that signed the observations, and so their stream.
        pub observer: KeyId,
        /// The answers, by number: one, or the repeats of one prompt.
        pub answers: Vec<Answer>,
        /// The conditions of the first of them.
        pub conditions: Conditions,
        /// Who says so.
        pub source: Source,
        /// Whether the answer was right; there exactly where one answer is judged on its own.
        pub correct: Option<bool>,
        /// How many of the repeats said the same: sizes of the groups of equal answers, largest first.
        pub groups: Option<Vec<u32>>,
        /// The check that says so; there exactly for source check.
        pub check: Option<CheckedBy>,
    }
    check check;
}

object! {
    /// An answer, by the observation of it.
    #[derive(Copy)]
    pub struct Answer {
        /// Record id of the observation.
        pub record: RecordId,
        /// Its number in its stream.
        pub seq: Seq,
    }
}

words! {
    /// Who says whether an answer was right.
    pub enum Source {
        /// The application that had asked, for an answer of its own choice.
        Reported = "reported",
        /// A check that was fixed before the answer was known.
        Check = "check",
    }
}

object! {
    /// A check, without its content: digests under the observer's own secret.
    #[derive(Copy)]
    pub struct CheckedBy {
        /// The case: HMAC of what is asked.
        pub case: Digest,
        /// The assertions: HMAC of what the answer must be.
        pub assertions: Digest,
    }
}

impl Judgement {
    /// Of repeats, how many pairs said the same, and how many pairs there are.
    pub fn agreeing_pairs(&self) -> Option<(u64, u64)> {
        let pairs = |of: u64| of * of.saturating_sub(1) / 2;
        let groups = self.groups.as_ref()?;
        let agreeing = groups.iter().map(|size| pairs((*size).into())).sum();
        Some((agreeing, pairs(self.answers.len() as u64)))
    }

    fn check(&self) -> Result<()> {
        let count = self.answers.len();
        if !(1..=ANSWERS_MAX).contains(&count) {
            let message = format!("{count} answers; 1 to {ANSWERS_MAX} are allowed");
            return Err(Error::new(Code::BadValue, message).under("answers"));
        }
        // In one order, so that a set has one spelling and none is named twice.
        for (index, pair) in self.answers.windows(2).enumerate() {
            if pair[0].seq >= pair[1].seq {
                let error = contradiction("seq", "numbers ascend, and none is there twice");
                return Err(error.at_index(index + 1).under("answers"));
            }
        }
        if (self.source == Source::Check) != self.check.is_some() {
            let message = "belongs to what a check says, and only to that";
            return Err(contradiction("check", message));
        }
        match (self.correct, &self.groups) {
            (Some(_), None) if count == 1 => Ok(()),
            (Some(_), None) => Err(contradiction("correct", "answers are right one by one")),
            (None, Some(groups)) => self.check_groups(groups),
            _ => Err(contradiction(
                "correct",
                "either `correct` or `groups` is there",
            )),
        }
    }

    fn check_groups(&self, groups: &[u32]) -> Result<()> {
        let wrong = |message| Err(contradiction("groups", message));
        if self.source != Source::Check {
            return wrong("only a check repeats a prompt");
        }
        if self.answers.len() < 2 {
            return wrong("one answer agrees with itself");
        }
        if groups.contains(&0) || groups.windows(2).any(|pair| pair[0] < pair[1]) {
            return wrong("sizes are at least 1 each, the largest first");
        }
        let sum: u64 = groups.iter().map(|size| u64::from(*size)).sum();
        if sum != self.answers.len() as u64 {
            return wrong("sizes add up to the number of answers");
        }
        Ok(())
    }
}

impl Body for Judgement {
    const SUBJECTS: SubjectNames = SubjectNames {
        positions: &[&["observation"]],
        required: 1,
    };

    /// `observation`, with the record id of the first answer's.
    fn subjects(&self, _signer: &Signer) -> Result<Subjects> {
        let first = self.answers.first().map(|answer| answer.record.digest());
        let about = first.map(|digest| subject("observation", digest));
        Ok(Subjects::Fixed(about.into_iter().collect::<Result<_>>()?))
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)
    }
}

fn contradiction(member: &str, message: &str) -> Error {
    Error::new(Code::Contradiction, message).under(member)
}
