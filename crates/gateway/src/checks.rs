//! Checks: the user's own prompts with assertions about the answers, and the file that holds them.
//!
//! The file is JSON lines: one with the budget, then one per case, as [`case`] reads them. The command line
//! writes it whole, a gateway follows it. What a case may say about answers is in [`assertion`].
//!
//! The budget is per endpoint and UTC day. It holds over restarts: what was spent is written before
//! each call. Prompts and answers stay in this file and in memory; records hold digests.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub mod assertion;
pub mod case;
pub mod promptfoo;
pub(crate) mod run;
mod spent;

pub use case::Case;

/// The file's name in a gateway's directory.
pub const FILE: &str = "checks.jsonl";
/// Most cases.
pub const CASES_MAX: usize = 1000;
/// Largest file of cases, bytes.
pub const BYTES_MAX: usize = 16 << 20;

/// What checks may cost, per endpoint and UTC day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Version of the file.
    longrun_checks: u32,
    /// Calls.
    pub calls_per_day: u64,
    /// Money, in the currency of the endpoints' declared prices; what has no price costs nothing here.
    pub spend_per_day: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            longrun_checks: 1,
            calls_per_day: 200,
            spend_per_day: 1.0,
        }
    }
}

impl Budget {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a saturating cast of a sum that was checked to be finite and not negative"
    )]
    pub(crate) fn spend_nano(&self) -> u64 {
        (self.spend_per_day * 1e9) as u64
    }
}

/// The cases, and what they may cost.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The budget.
    pub budget: Budget,
    /// The cases, by no other order than that in which they were added.
    pub cases: Vec<Case>,
}

/// What is wrong with a file of checks, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Wrong {
    /// Line, or path inside a document.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
}

impl Wrong {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "texts and errors are made where they are given"
    )]
    pub(crate) fn at(place: impl ToString, reason: impl ToString) -> Self {
        Self {
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }
}

impl Checks {
    /// Reads a gateway's own file.
    ///
    /// # Errors
    /// [`Wrong`], naming the line.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let mut checks = Self::default();
        let first = text.lines().next().unwrap_or_default();
        let mut rest = text;
        if !first.trim().is_empty() {
            checks.budget = serde_json::from_str(first).map_err(|e| Wrong::at("line 1", e))?;
            if checks.budget.longrun_checks != 1 {
                return Err(Wrong::at("line 1", "another version's file"));
            }
            let money = checks.budget.spend_per_day;
            if !(0.0..=1e6).contains(&money) {
                return Err(Wrong::at(
                    "line 1",
                    "spend_per_day is not within 0 to 1,000,000",
                ));
            }
            rest = text.get(first.len()..).unwrap_or_default();
        }
        let cases = cases_of(rest, None);
        checks.cases =
            cases.map_err(|wrong| wrong.into_iter().next().unwrap_or(Wrong::at("?", "?")))?;
        Ok(checks)
    }

    /// As it is stored.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string(&self.budget).unwrap_or_default();
        for case in &self.cases {
            text.push('\n');
            text.push_str(&case.to_json().to_string());
        }
        text.push('\n');
        text
    }

    /// Adds cases; those with a name that is there take its place. How many are new.
    ///
    /// # Errors
    /// [`Wrong`] if there would be too many.
    pub fn add(&mut self, cases: Vec<Case>) -> Result<usize, Wrong> {
        let mut new = 0;
        for case in cases {
            match self.cases.iter_mut().find(|have| have.name == case.name) {
                Some(have) => *have = case,
                None => {
                    self.cases.push(case);
                    new += 1;
                }
            }
        }
        if self.cases.len() > CASES_MAX {
            let reason = format!("{} cases; {CASES_MAX} are allowed", self.cases.len());
            return Err(Wrong::at("checks", reason));
        }
        Ok(new)
    }
}

/// Reads the cases of a file that a user wrote: JSON lines, or a promptfoo configuration as JSON.
/// `model` is asked where a case names none.
///
/// # Errors
/// Everything that is wrong, each with its line or path; nothing is taken then.
pub fn read(path: &Path, text: &str, model: Option<&str>) -> Result<Vec<Case>, Vec<Wrong>> {
    if text.len() > BYTES_MAX {
        let reason = format!("{} bytes; {BYTES_MAX} are allowed", text.len());
        return Err(vec![Wrong::at(path.display(), reason)]);
    }
    let extension = path.extension().and_then(|it| it.to_str());
    match extension {
        Some("json") => promptfoo::read(text, model),
        _ => cases_of(text, model),
    }
}

/// What is wrong with a gateway's own file, if there is one.
pub(crate) fn check(file: &Path) -> Result<(), String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let read = Checks::parse(&text).map(drop);
    let path = file.display();
    read.map_err(|wrong| format!("{path}: {wrong}; a gateway starts all the same, without checks"))
}

fn cases_of(text: &str, model: Option<&str>) -> Result<Vec<Case>, Vec<Wrong>> {
    let (mut cases, mut wrong, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match Case::parse(line, model) {
            Ok(case) if names.insert(case.name.clone()) => cases.push(case),
            Ok(case) => {
                let reason = format!("the name `{}` is there twice", case.name);
                wrong.push(Wrong::at(format!("line {number}"), reason));
            }
            Err(reason) => wrong.push(Wrong::at(format!("line {number}"), reason)),
        }
    }
    if wrong.is_empty() {
        Ok(cases)
    } else {
        Err(wrong)
    }
}

#[cfg(test)]
mod tests;
