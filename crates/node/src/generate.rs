//! Answers of an engine in this process: the node makes the bytes.

use std::sync::Arc;

use engine::openai::{
    ChatCompletion, ChatCompletionChunk, ChatRequest, FinishReason, Logprobs, TokenLogprob, Usage,
};
use engine::{Answer, AnswerEvent, ApiError, Engine, EngineError};
use futures_util::StreamExt;
use record::content::{Part, token_bytes};
use record::receipt::{COUNT_MAX, Executed, Finish, ResponseFormat};
use record::{Outcome, Seed, Share, Temperature};
use serde::Serialize;

use crate::inference::{End, Inference};
use crate::respond;
use crate::turn::{Interrupted, Streaming, Turn};

/// An answer's identity.
#[derive(Clone)]
pub(crate) struct Label {
    pub(crate) id: String,
    pub(crate) created_s: u64,
    /// Names the configuration that answers: the manifest.
    pub(crate) fingerprint: String,
}

/// Runs one inference of an engine to its end, whatever that is. `seed` is used if the request
/// has none.
pub(crate) async fn run(
    engine: Arc<dyn Engine>,
    mut turn: Turn,
    label: Label,
    seed: u64,
    body: &[u8],
) {
    let request = match ChatRequest::parse(body).and_then(|it| it.validate().map(|()| it)) {
        Ok(request) => request,
        Err(error) => return turn.refuse(&error, Outcome::ClientError).await,
    };
    turn.inference.executed = asked(&request);
    let begun = async { engine.chat(request.clone(), seed).await.map_err(failed) };
    let answer = match turn.race(begun).await {
        Ok(answer) => answer,
        Err(why) => return turn.interrupted(why, false).await,
    };
    turn.inference.begins();
    turn.inference.executed = as_executed(&answer.executed, &asked(&request));
    if request.streams() {
        let Some(mut streaming) = turn.stream().await else {
            return;
        };
        let outcome = stream(&mut streaming, &request, label, answer).await;
        streaming.end(outcome).await;
    } else {
        whole(turn, &request, label, answer).await;
    }
}

/// What a whole answer is made of.
#[derive(Default)]
struct Gathered {
    text: String,
    logprobs: Vec<TokenLogprob>,
    first_token: Option<tokio::time::Instant>,
}

async fn whole(mut turn: Turn, request: &ChatRequest, label: Label, answer: Answer) {
    let prompt = answer.executed.prompt_ids.clone();
    let mut gathered = Gathered::default();
    let finish = match turn.race(gather(answer, &mut gathered)).await {
        Ok(finish) => finish,
        Err(why) => return turn.interrupted(why, true).await,
    };
    if let Some(at) = gathered.first_token {
        turn.inference.first_token_at(at);
    }
    let end = finished(&turn.inference, &prompt, &finish);
    let logprobs = (request.logprobs == Some(true)).then(|| listed(gathered.logprobs));
    let mut completion = ChatCompletion::new(
        &label.id,
        label.created_s,
        &request.model,
        gathered.text,
        logprobs,
        finish.reason,
        finish.usage,
    );
    completion.system_fingerprint = Some(label.fingerprint);
    let body = compact(&completion);
    turn.whole(respond::json(200, body.clone()), &body, end)
        .await;
}

async fn gather(
    mut answer: Answer,
    gathered: &mut Gathered,
) -> Result<engine::Finish, Interrupted> {
    loop {
        match answer.next().await {
            // Only a completion has one.
            Some(Ok(AnswerEvent::Echo(_))) => {}
            Some(Ok(AnswerEvent::Delta(delta))) => {
                if !delta.text.is_empty() {
                    gathered
                        .first_token
                        .get_or_insert_with(tokio::time::Instant::now);
                }
                gathered.text.push_str(&delta.text);
                gathered.logprobs.extend(delta.logprobs);
            }
            Some(Ok(AnswerEvent::Finish(finish))) => return Ok(finish),
            Some(Err(error)) => return Err(failed(error)),
            None => return Err(cut()),
        }
    }
}

/// Passes the engine's events on as chunks.
async fn stream(
    to: &mut Streaming,
    request: &ChatRequest,
    label: Label,
    mut answer: Answer,
) -> Result<End, Interrupted> {
    let prompt = answer.executed.prompt_ids.clone();
    let (id, at, model) = (label.id.as_str(), label.created_s, request.model.as_str());
    let payload = |mut chunk: ChatCompletionChunk| {
        chunk.system_fingerprint = Some(label.fingerprint.clone());
        compact(&chunk)
    };
    to.payload(&payload(ChatCompletionChunk::role(id, at, model)))
        .await?;
    loop {
        match to.race(answer.next()).await? {
            Some(Ok(AnswerEvent::Echo(_))) => {}
            Some(Ok(AnswerEvent::Delta(delta))) => {
                if delta.text.is_empty() && delta.logprobs.is_empty() {
                    continue;
                }
                to.inference.first_token();
                let logprobs = (request.logprobs == Some(true)).then(|| listed(delta.logprobs));
                let chunk = ChatCompletionChunk::text(id, at, model, delta.text, logprobs);
                to.payload(&payload(chunk)).await?;
            }
            Some(Ok(AnswerEvent::Finish(finish))) => {
                let reason = finish.reason.clone();
                to.payload(&payload(ChatCompletionChunk::finish(id, at, model, reason)))
                    .await?;
                if request.includes_usage() {
                    let usage = finish.usage.clone();
                    to.payload(&payload(ChatCompletionChunk::usage(id, at, model, usage)))
                        .await?;
                }
                return Ok(finished(&to.inference, &prompt, &finish));
            }
            Some(Err(error)) => return Err(failed(error)),
            None => return Err(cut()),
        }
    }
}

/// What a request asks for, in a receipt's words: all there is to say where nothing was executed.
pub(crate) fn asked(request: &ChatRequest) -> Executed {
    let tools = request
        .rest
        .get("tools")
        .and_then(|it| it.as_array())
        .map_or(0, Vec::len);
    let format = request
        .rest
        .get("response_format")
        .and_then(|it| it.get("type"));
    Executed {
        temperature_ppm: request.temperature.map(Temperature::nearest),
        top_p_ppm: request.top_p.map(Share::nearest),
        seed: request.seed.map(|seed| Seed(seed.cast_unsigned())),
        max_tokens: request
            .answer_limit()
            .map(|most| most.min(record::bucket::INTEGER_MAX)),
        n: count(request.n.unwrap_or(1)).max(1),
        stop: count(request.stops().len() as u64),
        logprobs: (request.logprobs == Some(true))
            .then(|| count(request.top_logprobs.unwrap_or(0))),
        tools: count(tools as u64),
        response_format: match format.and_then(|kind| kind.as_str()) {
            Some("json_object") => ResponseFormat::JsonObject,
            Some("json_schema") => ResponseFormat::JsonSchema,
            _ => ResponseFormat::Text,
        },
    }
}

/// A count, as large as a receipt can state it.
pub(crate) fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX)
}

/// What the engine says it executes. It is given no tools and holds no answer to a shape, so
/// neither is claimed.
pub(crate) fn as_executed(it: &engine::Executed, asked: &Executed) -> Executed {
    Executed {
        temperature_ppm: Temperature::new(it.sampling.temperature_ppm).ok(),
        top_p_ppm: Share::new(it.sampling.top_p_ppm).ok(),
        seed: Some(Seed(it.sampling.seed)),
        max_tokens: Some(u64::from(it.max_tokens)),
        n: 1,
        stop: count(it.stops.len() as u64),
        tools: 0,
        response_format: ResponseFormat::Text,
        ..asked.clone()
    }
}

pub(crate) fn finished(inference: &Inference, prompt: &[u32], finish: &engine::Finish) -> End {
    let Usage {
        prompt_tokens,
        completion_tokens,
        ..
    } = finish.usage;
    let tokens = token_bytes(&[prompt, &finish.token_ids]);
    End {
        finish: Some(finish_word(&finish.reason)),
        usage: Some((prompt_tokens, completion_tokens)),
        tokens: tokens.map(|bytes| inference.secret.commit(Part::Tokens, &bytes)),
        ..End::new(Outcome::Ok, 200)
    }
}

pub(crate) fn finish_word(reason: &FinishReason) -> Finish {
    match reason {
        FinishReason::Stop => Finish::Stop,
        FinishReason::Length => Finish::Length,
        FinishReason::ToolCalls => Finish::ToolCalls,
        FinishReason::ContentFilter => Finish::ContentFilter,
        FinishReason::Other(_) => Finish::Other,
    }
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
pub(crate) fn failed(error: EngineError) -> Interrupted {
    let outcome = match &error {
        EngineError::Busy { .. } => Outcome::Capacity,
        EngineError::BadRequest(error) if error.status == 429 => Outcome::RateLimited,
        EngineError::BadRequest(_) => Outcome::ClientError,
        EngineError::Broken { .. } => Outcome::ProviderError,
    };
    Interrupted::Failed(outcome, error.to_api_error())
}

/// The engine's events ended without saying so.
pub(crate) fn cut() -> Interrupted {
    let error = ApiError::internal("The engine stopped before the answer was complete.");
    Interrupted::Failed(Outcome::Truncated, error)
}

fn listed(content: Vec<TokenLogprob>) -> Logprobs {
    Logprobs {
        content: Some(content),
        refusal: None,
    }
}

pub(crate) fn compact(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers are strings, numbers and lists")
}
