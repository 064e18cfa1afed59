//! Asks the shipped model the held-out questions, at several precisions.
//!
//! The answers come from the engine that nodes run, greedily, so the table in
//! the model card is about what is served, not about the training code.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use engine::embedded::gguf::Dtype;
use engine::embedded::{Embedded, Options, Overwrite, quantize};
use engine::openai::ChatRequest;
use engine::{AnswerEvent, Engine};
use futures_util::StreamExt;

use super::evaluation_set::{Row, read};
use super::tasks::Family;

/// What to ask, and whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// The 16-bit model.
    #[arg(long, default_value = "models/demo/longrun-demo-f16.gguf")]
    model: PathBuf,
    /// Precisions to quantise it to, besides its own.
    #[arg(long, value_delimiter = ',', default_value = "q8_0,q4_0,q4_k")]
    precisions: Vec<String>,
    /// The questions.
    #[arg(long, default_value = "models/demo/eval.jsonl")]
    set: PathBuf,
    /// Also print each wrong answer.
    #[arg(long)]
    wrong: bool,
}

/// Longest answer asked for; the longest right one has about 90 tokens.
const ANSWER_TOKENS_MAX: u64 = 120;

/// Right answers and questions, per family.
type Score = BTreeMap<Family, (usize, usize)>;

/// Prints one table: families down, precisions across.
pub(crate) fn evaluate(args: &EvalArgs, out: &mut dyn Write) -> Result<()> {
    let rows = read(&args.set)?;
    let twins = tempfile::tempdir().context("a directory for the quantised files")?;
    let mut names = Vec::new();
    let mut scores = Vec::new();
    let mut run = |path: &Path, out: &mut dyn Write| -> Result<()> {
        let engine = open(path)?;
        let precision = engine.describe().precision.clone();
        names.push(precision.unwrap_or_else(|| "unknown".to_owned()));
        scores.push(score(&engine, &rows, args.wrong.then_some(out))?);
        Ok(())
    };
    run(&args.model, out)?;
    for name in &args.precisions {
        let dtype = Dtype::by_name(name).with_context(|| format!("no precision {name}"))?;
        let path = twins.path().join(format!("{name}.gguf"));
        quantize(&args.model, &path, dtype, Overwrite::Refuse)?;
        run(&path, out)?;
    }
    print(&names, &scores, out)
}

fn open(path: &Path) -> Result<Embedded> {
    let options = Options {
        workers: 1,
        ..Options::default()
    };
    Embedded::open(path, &options).with_context(|| format!("open {}", path.display()))
}

fn score(engine: &Embedded, rows: &[Row], mut wrong: Option<&mut dyn Write>) -> Result<Score> {
    let mut score = Score::new();
    for row in rows {
        let text = answer(engine, request(row)?)?;
        let right = row.check.accepts(&text);
        let (sum, asked) = score.entry(row.family).or_default();
        *sum += usize::from(right);
        *asked += 1;
        if let (false, Some(out)) = (right, wrong.as_mut()) {
            let question = &row.messages.last().context("a row has messages")?.content;
            writeln!(
                out,
                "{}: {question:?} -> {text:?}, not {:?}",
                row.id, row.answer
            )?;
        }
    }
    Ok(score)
}

/// The row as a greedy chat request.
fn request(row: &Row) -> Result<ChatRequest> {
    let body = serde_json::json!({
        "model": "longrun-demo",
        "messages": row.messages,
        "temperature": 0,
        "max_tokens": ANSWER_TOKENS_MAX,
    });
    let request = ChatRequest::parse(body.to_string().as_bytes());
    request.map_err(|error| anyhow::anyhow!("{} is no chat request: {error}", row.id))
}

/// The whole answer. The engine computes on its own thread; this one waits.
fn answer(engine: &Embedded, request: ChatRequest) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut answer = engine.chat(request, 0).await?;
        let mut text = String::new();
        let mut finished = false;
        while let Some(event) = answer.next().await {
            match event? {
                // A chat repeats no prompt.
                AnswerEvent::Echo(_) => {}
                AnswerEvent::Delta(delta) => text.push_str(&delta.text),
                AnswerEvent::Finish(_) => finished = true,
            }
        }
        ensure!(finished, "the engine cut an answer short");
        Ok(text)
    })
}

fn print(names: &[String], scores: &[Score], out: &mut dyn Write) -> Result<()> {
    writeln!(out, "| task | n | {} |", names.join(" | "))?;
    writeln!(out, "|---|---:|{}", "---:|".repeat(names.len()))?;
    let share = |(right, asked): (usize, usize)| {
        format!("{:.1} %", 100.0 * right as f64 / asked.max(1) as f64)
    };
    for family in Family::ALL {
        let counts: Vec<(usize, usize)> = scores
            .iter()
            .filter_map(|score| score.get(&family).copied())
            .collect();
        let Some(&(_, asked)) = counts.first() else {
            continue;
        };
        let shares: Vec<String> = counts.into_iter().map(share).collect();
        writeln!(
            out,
            "| {} | {asked} | {} |",
            family.name(),
            shares.join(" | ")
        )?;
    }
    let total = |score: &Score| {
        score
            .values()
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    };
    let totals: Vec<(usize, usize)> = scores.iter().map(total).collect();
    let shares: Vec<String> = totals.iter().copied().map(share).collect();
    let asked = totals.first().map_or(0, |(_, asked)| *asked);
    writeln!(out, "| all | {asked} | {} |", shares.join(" | "))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rng::Rng;
    use crate::demo::tasks::{Chat, Split, turn};
    use crate::demo::tokenizer::Tokenizer;

    const SHIPPED: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/demo/longrun-demo-f16.gguf"
    );

    #[test]
    fn engine_reads_prompts_as_training_wrote_them() {
        let engine = open(Path::new(SHIPPED)).expect("the shipped model opens");
        let tokenizer = Tokenizer::learn(1);
        let mut rng = Rng::new(8);
        for family in Family::ALL.into_iter().cycle().take(60) {
            let turn = turn(&mut rng, family, Split::HeldOut);
            let body = serde_json::json!({
                "model": "longrun-demo",
                "messages": [{"role": "user", "content": turn.question}],
            });
            let request = ChatRequest::parse(body.to_string().as_bytes()).expect("a request");
            let found = engine.model().encode_chat(&request).expect("a prompt");
            let trained = tokenizer.chat(&Chat {
                system: None,
                turns: vec![turn],
            });
            let prompt = &trained.ids[..trained.answers[0].start];
            assert_eq!(found, prompt);
        }
    }

    #[test]
    fn shipped_model_gives_right_answers() {
        let engine = open(Path::new(SHIPPED)).expect("the shipped model opens");
        let ask = |question: &str| {
            let row = serde_json::json!({"model": "m", "temperature": 0,
                "messages": [{"role": "user", "content": question}]});
            let request = ChatRequest::parse(row.to_string().as_bytes()).expect("a request");
            answer(&engine, request).expect("an answer")
        };
        assert_eq!(ask("Repeat: blue river 42"), "blue river 42");
        assert_eq!(
            ask("Table: apple=41; moon=red; lamp=7. What is moon?"),
            "red"
        );
        assert_eq!(
            ask("JSON: name=Ada, age=41"),
            r#"{"name": "Ada", "age": 41}"#
        );
    }
}
