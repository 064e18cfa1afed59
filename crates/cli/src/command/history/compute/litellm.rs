//! What LiteLLM's proxy writes: `StandardLoggingPayload`
//! (<https://docs.litellm.ai/docs/proxy/logging_spec>), whose times are Unix seconds, or rows of
//! the table `LiteLLM_SpendLogs`, whose times are text and whose status is in `metadata`. One JSON
//! object a line. Members that say nothing about how the call went are passed over.

use record::{Endpoint, Outcome};
use serde::Deserialize;
use serde_json::Value;

use super::when::When;
use super::{Attempt, Line, of_status, origin_of, us_of_s};

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "startTime")]
    start_time: When,
    #[serde(rename = "endTime")]
    end_time: When,
    #[serde(rename = "completionStartTime")]
    completion_start_time: Option<When>,
    model: String,
    api_base: Option<String>,
    custom_llm_provider: Option<String>,
    status: Option<String>,
    error_information: Option<ErrorInformation>,
    metadata: Option<Value>,
    stream: Option<bool>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    /// `true`, or in the table the text `True`.
    cache_hit: Option<Value>,
}

#[derive(Deserialize)]
struct ErrorInformation {
    error_code: Option<Value>,
    error_class: Option<String>,
}

pub(super) fn read(line: &[u8]) -> Result<Line, String> {
    let payload: Payload = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if payload.cache_hit.as_ref().is_some_and(is_true) {
        return Ok(Line::Apart);
    }
    let (start, end) = (payload.start_time.ms()?, payload.end_time.ms()?);
    if end < start {
        return Err("endTime is before startTime".to_owned());
    }
    let failed = match (payload.status.as_deref(), status_of(&payload.metadata)) {
        (Some("success"), _) => false,
        (Some("failure"), _) => true,
        (Some(other), _) => return Err(format!("status `{other}` is not known")),
        (None, in_metadata) => in_metadata == Some("failure"),
    };
    let error = payload.error_information.or_else(|| {
        let inside = payload.metadata.as_ref()?.get("error_information")?;
        serde_json::from_value(inside.clone()).ok()
    });
    let (outcome, status) = if failed {
        of_error(error.as_ref())
    } else {
        (Outcome::Ok, Some(200))
    };
    let streamed = payload.stream.unwrap_or(false);
    // Of an answer in one piece LiteLLM gives the end for the start of the completion.
    let first = payload.completion_start_time.filter(|_| !failed);
    let first = first.map(|first| first.ms()).transpose()?;
    let ttft_us = first
        .filter(|first| *first < end)
        .map(|first| us_of_s((first - start) / 1e3, "completionStartTime - startTime"))
        .transpose()?;
    Ok(Line::Attempt(Box::new(Attempt {
        start_ms: payload.start_time.whole_ms()?,
        endpoint: Endpoint {
            provider: provider(&payload.api_base, &payload.custom_llm_provider)?,
            model: payload
                .model
                .parse()
                .map_err(|error: record::Error| format!("model: {error}"))?,
        },
        outcome,
        fault: outcome.usual_fault(),
        status,
        streamed,
        ttft_us,
        total_us: us_of_s((end - start) / 1e3, "endTime - startTime")?,
        tokens: payload.prompt_tokens.zip(payload.completion_tokens),
    })))
}

/// The origin of `api_base`; without one, a name that can be no host of anybody's.
fn provider(base: &Option<String>, name: &Option<String>) -> Result<record::Provider, String> {
    let base = base.as_deref().filter(|base| !base.is_empty());
    match (base, name.as_deref()) {
        (Some(base), _) => origin_of(base),
        (None, Some(name)) => origin_of(&format!("https://{}.invalid", name.replace('_', "-"))),
        (None, None) => Err("it has neither api_base nor custom_llm_provider".to_owned()),
    }
}

fn of_error(error: Option<&ErrorInformation>) -> (Outcome, Option<u16>) {
    let code = error.and_then(|error| match error.error_code.as_ref()? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        _ => None,
    });
    let class = error.and_then(|error| error.error_class.as_deref());
    let outcome = match class {
        Some("Timeout" | "APITimeoutError") => Some(Outcome::Timeout),
        Some("APIConnectionError") => Some(Outcome::Connection),
        Some("RateLimitError") => Some(Outcome::RateLimited),
        Some("ContentPolicyViolationError") => Some(Outcome::Refused),
        _ => code.and_then(of_status).filter(|of| *of != Outcome::Ok),
    };
    (outcome.unwrap_or(Outcome::ProviderError), code)
}

fn status_of(metadata: &Option<Value>) -> Option<&str> {
    metadata.as_ref()?.get("status")?.as_str()
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
        || value
            .as_str()
            .is_some_and(|s| s.eq_ignore_ascii_case("true"))
}
