//! What OpenRouter tells of one's calls: the CSV that its activity page exports, or the answers of
//! `GET /api/v1/generation`
//! (<https://openrouter.ai/docs/api/api-reference/generations/get-generation>), one a line, with
//! or without the `data` around them. Both are about calls that reached a provider: what OpenRouter
//! refused itself is not in them, so availability reads better here than a caller saw it.

use std::io::Read;

use record::{Endpoint, Fault, Outcome};
use serde::Deserialize;

use super::when::When;
use super::{Attempt, Line, us_of_ms};

/// All that either form has and that is of use here.
#[derive(Deserialize)]
struct Generation {
    created_at: When,
    #[serde(alias = "model_permaslug")]
    model: String,
    provider_name: Option<String>,
    cancelled: Option<bool>,
    streamed: Option<bool>,
    #[serde(alias = "finish_reason_normalized")]
    finish_reason: Option<String>,
    #[serde(alias = "generation_time_ms")]
    generation_time: Option<f64>,
    /// To the first token, despite its name.
    #[serde(alias = "time_to_first_token_ms")]
    latency: Option<f64>,
    #[serde(alias = "native_tokens_prompt")]
    tokens_prompt: Option<u64>,
    tokens_completion: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Wrapped { data: Box<Generation> },
    Plain(Box<Generation>),
}

/// A line of JSON.
pub(super) fn read(line: &[u8]) -> Result<Line, String> {
    let answer: Answer = serde_json::from_slice(line).map_err(|_| {
        "not an answer of /api/v1/generation: created_at and model are needed".to_owned()
    })?;
    let (Answer::Wrapped { data } | Answer::Plain(data)) = answer;
    attempt(&data)
}

/// Rows of the CSV, each with the number of its line.
pub(super) fn read_csv(
    input: impl Read,
    mut take: impl FnMut(u64, Result<Line, String>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rows = csv::Reader::from_reader(input);
    let headers = rows.headers()?.clone();
    for needed in ["created_at", "model_permaslug"] {
        anyhow::ensure!(
            headers.iter().any(|header| header == needed),
            "there is no column {needed}: not the activity of single calls that OpenRouter exports"
        );
    }
    let mut row = csv::StringRecord::new();
    while rows.read_record(&mut row)? {
        let number = row.position().map_or(0, csv::Position::line);
        let generation = row.deserialize::<Generation>(Some(&headers));
        let line = generation
            .map_err(|error| error.to_string())
            .and_then(|generation| attempt(&generation));
        take(number, line)?;
    }
    Ok(())
}

fn attempt(generation: &Generation) -> Result<Line, String> {
    let (outcome, fault) = outcome(generation);
    let ttft_ms = generation.latency;
    let total_ms = match (ttft_ms, generation.generation_time) {
        // The time of generation runs from the first token.
        (Some(first), Some(rest)) => first + rest,
        (None, Some(all)) => all,
        (Some(first), None) => first,
        (None, None) => return Err("it says nothing about how long it took".to_owned()),
    };
    let model = match &generation.provider_name {
        Some(provider) if !provider.is_empty() => format!("{}@{provider}", generation.model),
        _ => generation.model.clone(),
    };
    let endpoint = Endpoint {
        provider: "https://openrouter.ai"
            .parse()
            .map_err(|error: record::Error| error.to_string())?,
        model: model
            .parse()
            .map_err(|error: record::Error| format!("model: {error}"))?,
    };
    Ok(Line::Attempt(Box::new(Attempt {
        start_ms: generation.created_at.whole_ms()?,
        endpoint,
        outcome,
        fault,
        status: (outcome == Outcome::Ok).then_some(200),
        streamed: generation.streamed.unwrap_or(false),
        ttft_us: ttft_ms
            .map(|ms| us_of_ms(ms, "the time to the first token"))
            .transpose()?,
        total_us: us_of_ms(total_ms, "the whole time")?,
        tokens: generation.tokens_prompt.zip(generation.tokens_completion),
    })))
}

fn outcome(generation: &Generation) -> (Outcome, Option<Fault>) {
    if generation.cancelled == Some(true) {
        return (Outcome::Canceled, Some(Fault::Client));
    }
    let outcome = match generation.finish_reason.as_deref() {
        Some("error") => Outcome::ProviderError,
        Some("content_filter") => Outcome::Refused,
        _ => Outcome::Ok,
    };
    (outcome, outcome.usual_fault())
}
