//! Checks, their outcomes, and the verdict that follows from them.

use std::fmt::Display;

use record::{Record, RecordId, SignerId};
use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// It was not made; the reason says why.
    NotChecked,
}

/// One check by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which: `format`, `signature`, `leaf`, `inclusion`, `checkpoint`, `quorum`, `signer`,
    /// `time`, `content`.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// Why, in words.
    pub reason: String,
    /// What its outcome means for the verdict.
    #[serde(skip)]
    bearing: Bearing,
}

/// What a check that did not pass means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bearing {
    /// The file cannot be used at all.
    Usability,
    /// Something in it is not what it says it is.
    Integrity,
    /// It is intact, but the verifier has no ground to believe it.
    Trust,
    /// Nothing; it is said for information.
    None,
}

/// What all checks together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds, under a policy that the verifier brought.
    Valid,
    /// Something in it does not hold.
    Invalid,
    /// It is not a file that can be verified.
    Unusable,
    /// Nothing in it is wrong, but its signer or its log is not trusted by the verifier.
    IntactButUntrusted,
}

impl Verdict {
    /// The exit status of a program that reports it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Unusable => 2,
            Self::IntactButUntrusted => 3,
        }
    }

    /// Which of several verdicts speaks for all: the one with the highest severity.
    #[must_use]
    pub fn severity(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::IntactButUntrusted => 1,
            Self::Unusable => 2,
            Self::Invalid => 3,
        }
    }
}

/// Everything that was checked about one record or checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which part of the file, where it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Kind and version of the record, such as `receipt:v1`, if its signature verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_kind: Option<String>,
    /// The record's id, if its signature verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordId>,
    /// Who signed it, if the signature verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignerId>,
    /// What follows.
    pub verdict: Verdict,
    /// The checks, in the order they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// The check of this name.
    #[must_use]
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    pub(super) fn named(mut self, part: &str) -> Self {
        self.part = Some(part.to_owned());
        self
    }
}

/// A report in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    checks: Vec<Check>,
    subject: Option<(String, RecordId, SignerId)>,
}

impl Draft {
    /// A report on something that cannot be verified at all.
    pub(super) fn unusable(name: &'static str, reason: impl Display) -> Self {
        let mut draft = Self::default();
        draft.add(name, Status::Failed, reason, Bearing::Usability);
        draft
    }

    pub(super) fn about(&mut self, record: &Record) {
        let kind = record.statement.predicate.kind().to_owned();
        self.subject = Some((kind, record.id, record.signer_id()));
    }

    pub(super) fn passed(&mut self, name: &'static str, reason: impl Display) {
        self.add(name, Status::Passed, reason, Bearing::None);
    }

    pub(super) fn failed(&mut self, name: &'static str, reason: impl Display) {
        self.add(name, Status::Failed, reason, Bearing::Integrity);
    }

    /// Not made, and something is missing without it.
    pub(super) fn not_checked(&mut self, name: &'static str, reason: impl Display) {
        self.add(name, Status::NotChecked, reason, Bearing::Trust);
    }

    /// Not made, and nobody asked for it.
    pub(super) fn not_asked(&mut self, name: &'static str, reason: impl Display) {
        self.add(name, Status::NotChecked, reason, Bearing::None);
    }

    /// Made, and it gives no ground to believe the file, which may be intact all the same.
    pub(super) fn untrusted(&mut self, name: &'static str, reason: impl Display) {
        self.add(name, Status::Failed, reason, Bearing::Trust);
    }

    /// The content of a record is never in the file.
    pub(super) fn content_not_checked(&mut self) {
        self.not_asked(
            "content",
            "prompt and answer are only committed to; check them with `longrun record disclose`",
        );
    }

    fn add(&mut self, name: &'static str, status: Status, reason: impl Display, bearing: Bearing) {
        self.checks.push(Check {
            name,
            status,
            reason: reason.to_string(),
            bearing,
        });
    }

    pub(super) fn finish(self) -> Report {
        let has = |bearing| self.checks.iter().any(|check| check.bearing == bearing);
        let verdict = if has(Bearing::Usability) {
            Verdict::Unusable
        } else if has(Bearing::Integrity) {
            Verdict::Invalid
        } else if has(Bearing::Trust) {
            Verdict::IntactButUntrusted
        } else {
            Verdict::Valid
        };
        let (record_kind, record, signer) = match self.subject {
            Some((kind, record, signer)) => (Some(kind), Some(record), Some(signer)),
            None => (None, None, None),
        };
        Report {
            part: None,
            record_kind,
            record,
            signer,
            verdict,
            checks: self.checks,
        }
    }
}
