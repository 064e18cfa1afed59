//! The span of an attempt, made of the facts that its observation is made of.
//!
//! A client span of the `GenAI` conventions (see [`super::attributes`]). Of the answer it has the
//! finish reasons that are known words, and, where the endpoint was configured and not found in a network, the
//! id and the model that it names, if they look like names: short, and without white space.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use record::Provider;
use record::outcome::Outcome;
use serde::Deserialize;
use std::borrow::Cow;
use tokio::time::Instant;

use super::attributes::{self, Convention};
use super::call::CallTrace;
use super::context::SpanId;
use super::otlp::{self, KeyValue, SpanKind};
use crate::catalog::Live;
use crate::observe::Facts;
use crate::outcome::Seen;

/// Longest name that an endpoint gives.
const NAME_BYTES_MAX: usize = 128;
/// Finish reasons that are told, one for each choice.
const REASONS_MAX: usize = 16;
/// Those that are told at all: an endpoint could write anything there.
const REASONS: &[&str] = &[
    "stop",
    "length",
    "tool_calls",
    "function_call",
    "content_filter",
];

/// What is gathered of an attempt for its span, besides the facts.
pub(crate) struct AttemptTrace {
    trace: Arc<CallTrace>,
    span: SpanId,
    begun: Instant,
    model: Option<String>,
    id: Option<String>,
    reasons: Vec<&'static str>,
}

/// What an answer, or an event of one, says about itself.
#[derive(Default, Deserialize)]
struct Said<'a> {
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    choices: Option<Vec<Ended<'a>>>,
    /// An event of `/responses` is about one.
    #[serde(default, borrow)]
    response: Option<Inner<'a>>,
}

#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    model: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Ended<'a> {
    #[serde(default, borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

impl AttemptTrace {
    /// The attempt `number` of a call begins.
    pub(crate) fn begin(trace: &Arc<CallTrace>, number: u32, begun: Instant) -> Box<Self> {
        Box::new(Self {
            span: trace.span.of_attempt(number),
            trace: Arc::clone(trace),
            begun,
            model: None,
            id: None,
            reasons: Vec::new(),
        })
    }

    /// Tells the endpoint of the trace; what tracing systems of the caller's say along the way, only
    /// one that has joined and was configured.
    pub(crate) fn tell(&self, live: &Live, headers: &mut HeaderMap) {
        let joined = matches!(live.id.provider, Provider::Joined(_));
        let with_state = joined && live.site.member.is_none();
        self.trace.tell(self.span, with_state, headers);
    }

    /// The attempt ended, though its span is not made yet: the call's own span may end before.
    pub(crate) fn ended(&self, seen: Seen) {
        // What it was asked to go on with had broken off, and that is how the call ended.
        if seen != Seen::Diverged {
            self.trace.attempt_ended(error(seen));
        }
    }

    /// An answer in one piece came, or an event of a stream.
    pub(crate) fn read(&mut self, json: &[u8]) {
        if !self.trace.context.sampled {
            return;
        }
        // What is no JSON has no names; the observation says so.
        let said: Said<'_> = serde_json::from_slice(json).unwrap_or_default();
        let (id, model) = match said.response {
            Some(inner) => (inner.id, inner.model),
            None => (said.id, said.model),
        };
        fill(&mut self.id, id);
        fill(&mut self.model, model);
        let reasons = said.choices.into_iter().flatten();
        let reasons = reasons.filter_map(|choice| choice.finish_reason);
        let room = REASONS_MAX.saturating_sub(self.reasons.len());
        let known = |reason: Cow<'_, str>| REASONS.iter().find(|it| **it == reason).copied();
        let named = reasons.filter_map(known).take(room);
        self.reasons.extend(named);
    }

    /// The attempt ended, and this is what it showed.
    pub(crate) fn end(&self, facts: &Facts) {
        let Self {
            trace, span, begun, ..
        } = self;
        if !trace.context.sampled {
            return;
        }
        let error = error(facts.seen);
        let operation = attributes::operation(trace.surface);
        let model = facts.live.id.model.as_str();
        let total = Duration::from_micros(facts.total_us);
        trace.spans.submit(otlp::Span {
            trace_id: trace.context.trace.0.to_vec(),
            span_id: span.0.to_vec(),
            trace_state: trace.context.state().to_owned(),
            parent_span_id: trace.span.0.to_vec(),
            name: format!("{operation} {model}"),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: trace.unix_ns(*begun),
            end_time_unix_nano: trace.unix_ns(*begun + total),
            attributes: self.attributes(facts, error),
            status: attributes::status(error.is_some()),
            flags: u32::from(trace.context.flags()) | otlp::FLAG_HAS_IS_REMOTE,
        });
    }

    fn attributes(&self, facts: &Facts, error: Option<&str>) -> Vec<KeyValue> {
        let Self { trace, .. } = self;
        let convention = trace.spans.convention;
        let (live, row) = (&facts.live, facts.seen.row());
        let api = &live.site.config.api;
        let operation = attributes::operation(trace.surface);
        let provider = convention.provider(&live.id.provider, api);
        let mut all = vec![
            KeyValue::new("gen_ai.operation.name", operation),
            KeyValue::new(convention.provider_key(), provider),
            KeyValue::new("gen_ai.request.model", live.id.model.as_str()),
            KeyValue::new("server.address", api.host().unwrap_or_default()),
            KeyValue::new("server.port", attributes::port(api)),
            KeyValue::new(attributes::CALL, trace.call.to_hex()),
            KeyValue::new(attributes::ATTEMPT, u64::from(facts.attempt)),
            KeyValue::new(attributes::ENDPOINT, live.id.to_string()),
            KeyValue::new(attributes::OUTCOME, row.outcome.as_str()),
        ];
        let mut add = |key: &str, value: Option<otlp::Value>| {
            all.extend(value.map(|value| KeyValue::new(key, value)));
        };
        add(attributes::FAULT, row.fault.map(|it| it.as_str().into()));
        add("error.type", error.map(Into::into));
        let status = facts.status.map(|it| u64::from(it).into());
        add("http.response.status_code", status);
        // A stranger could put what it was told into them.
        if live.site.member.is_none() {
            add("gen_ai.response.id", self.id.clone().map(Into::into));
            add("gen_ai.response.model", self.model.clone().map(Into::into));
        }
        let reasons = Some(self.reasons.clone()).filter(|them| !them.is_empty());
        add("gen_ai.response.finish_reasons", reasons.map(Into::into));
        let (prompt, completion) = facts.usage.unzip();
        add("gen_ai.usage.input_tokens", prompt.map(Into::into));
        add("gen_ai.usage.output_tokens", completion.map(Into::into));
        if convention == Convention::Latest {
            add("gen_ai.request.stream", facts.streamed.then(|| true.into()));
            let first = facts.first_token_us.filter(|_| facts.streamed);
            let first = first.map(|us| Duration::from_micros(us).as_secs_f64().into());
            add("gen_ai.response.time_to_first_chunk", first);
        }
        all
    }
}

/// What went wrong, in a word. A hedge that lost, or a caller that left, is nobody's error.
fn error(seen: Seen) -> Option<&'static str> {
    let outcome = seen.row().outcome;
    let well = matches!(outcome, Outcome::Ok | Outcome::Refused | Outcome::Canceled);
    (!well).then(|| outcome.as_str())
}

/// Keeps the first name that is given.
fn fill(kept: &mut Option<String>, given: Option<Cow<'_, str>>) {
    if kept.is_none() {
        *kept = given.and_then(|given| name(&given));
    }
}

/// What can be a name: not prose.
fn name(given: &str) -> Option<String> {
    let short = (1..=NAME_BYTES_MAX).contains(&given.len());
    let plain = given.bytes().all(|byte| byte.is_ascii_graphic());
    (short && plain).then(|| given.to_owned())
}
