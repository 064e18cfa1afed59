//! Longrun's own line format: `docs/statistics.md`, "Calls that were never in a log".

use record::{Endpoint, Fault, Outcome};
use serde::Deserialize;

use super::when::When;
use super::{Attempt, Line, of_status, us_of_ms};

/// A line. Unknown members are refused: a misspelt one would silently say less.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    time: When,
    provider: String,
    model: String,
    outcome: Option<String>,
    fault: Option<String>,
    status: Option<u16>,
    #[serde(default)]
    streamed: bool,
    ttft_ms: Option<f64>,
    total_ms: f64,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

pub(super) fn read(line: &[u8]) -> Result<Line, String> {
    let plain: Plain = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let named = |what: &'static str| move |error: record::Error| format!("{what}: {error}");
    let endpoint = Endpoint {
        provider: plain.provider.parse().map_err(named("provider"))?,
        model: plain.model.parse().map_err(named("model"))?,
    };
    let outcome: Outcome = match (&plain.outcome, plain.status) {
        (Some(outcome), _) => outcome.parse().map_err(named("outcome"))?,
        (None, Some(status)) => {
            of_status(status).ok_or_else(|| format!("status {status} shows no outcome"))?
        }
        (None, None) => return Err("it has neither `outcome` nor `status`".to_owned()),
    };
    let fault: Option<Fault> = match &plain.fault {
        Some(fault) => Some(fault.parse().map_err(named("fault"))?),
        None => outcome.usual_fault(),
    };
    record::outcome::check_fault(outcome, fault).map_err(named("fault"))?;
    Ok(Line::Attempt(Box::new(Attempt {
        start_ms: plain.time.whole_ms()?,
        endpoint,
        outcome,
        fault,
        status: plain.status,
        streamed: plain.streamed,
        ttft_us: plain
            .ttft_ms
            .map(|ms| us_of_ms(ms, "ttft_ms"))
            .transpose()?,
        total_us: us_of_ms(plain.total_ms, "total_ms")?,
        tokens: plain.prompt_tokens.zip(plain.completion_tokens),
    })))
}
