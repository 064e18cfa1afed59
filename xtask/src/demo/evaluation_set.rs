//! The held-out questions that ship with the model, one JSON object per line.
//!
//! Each row can be sent to any OpenAI-compatible server as it stands, and says
//! how to tell whether the answer is right.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::rng::Rng;
use super::tasks::{Check, Family, Split, turn};

/// Where to write the set.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EvalSetArgs {
    /// File to write.
    #[arg(long, default_value = "models/demo/eval.jsonl")]
    to: PathBuf,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) family: Family,
    pub(crate) messages: Vec<Message>,
    /// An answer that is right.
    pub(crate) answer: String,
    pub(crate) check: Check,
}

/// A message of OpenAI's chat format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) content: String,
}

const SEED: u64 = 2026;

/// Questions per family.
const COUNTS: [(Family, usize); 6] = [
    (Family::Arithmetic, 200),
    (Family::Copy, 100),
    (Family::Lookup, 100),
    (Family::Json, 100),
    (Family::Talk, 50),
    (Family::Story, 50),
];

/// Writes the set.
pub(crate) fn write(args: &EvalSetArgs, out: &mut dyn Write) -> Result<()> {
    let rows = rows();
    fs::write(&args.to, lines(&rows)?).with_context(|| format!("write {}", args.to.display()))?;
    writeln!(out, "{}: {} questions", args.to.display(), rows.len())?;
    Ok(())
}

/// Reads a set that [`write`] wrote.
pub(crate) fn read(path: &std::path::Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let parse = |line| serde_json::from_str(line).context("a row of the evaluation set");
    text.lines().map(parse).collect()
}

/// The questions, none twice.
fn rows() -> Vec<Row> {
    let mut rng = Rng::new(SEED);
    let mut rows = Vec::new();
    for (family, count) in COUNTS {
        let mut asked = HashSet::new();
        while asked.len() < count {
            let turn = turn(&mut rng, family, Split::HeldOut);
            // Small talk has fewer fixed questions than rows are wanted, but
            // its invented ones make up for that.
            if !asked.insert(turn.question.clone()) {
                continue;
            }
            rows.push(Row {
                id: format!("{}-{:03}", family.name(), asked.len()),
                family,
                messages: vec![Message {
                    role: "user".to_owned(),
                    content: turn.question,
                }],
                answer: turn.answer,
                check: turn.check,
            });
        }
    }
    rows
}

fn lines(rows: &[Row]) -> Result<String> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_set_is_what_its_seed_gives() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo/eval.jsonl");
        assert_eq!(read(&path).expect("the set ships with the model"), rows());
    }
}
