//! Answers of an engine in this process: the node makes the bytes.

use std::sync::Arc;

use bytes::Bytes;
use engine::openai::{
    ChatCompletion, ChatCompletionChunk, ChatRequest, FinishReason, Logprobs, TokenLogprob, Usage,
};
use engine::{Answer, AnswerEvent, ApiError, Engine, EngineError};
use futures_util::StreamExt;
use record::content::{Commitment, Part, token_bytes};
use record::receipt::{Executed, Finish, ResponseFormat};
use record::{Outcome, Seed, Share, Temperature};
use serde::Serialize;
use tokio::sync::watch;

use crate::event;
use crate::inference::{End, Inference};
use crate::respond::{self, Frames, Gone, Reply};

/// The end of a generation that did not reach its own.
const CLIENT_LEFT: u16 = 499;

/// One inference of an engine.
pub(crate) struct Generation {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) inference: Inference,
    pub(crate) reply: Reply,
    /// Becomes true when the node gives up waiting for running answers.
    pub(crate) stop: watch::Receiver<bool>,
    /// Of the answer.
    pub(crate) id: String,
    pub(crate) created_s: u64,
    /// Names the configuration that answers: the manifest.
    pub(crate) fingerprint: String,
    /// Used if the request has none.
    pub(crate) seed: u64,
}

/// Why an answer under way ended before its end.
enum Interrupted {
    Gone,
    Stopped,
    Broken(ApiError),
    /// The engine's events ended without saying so.
    Cut,
}

impl Generation {
    /// Runs to the end, whatever it is.
    pub(crate) async fn run(mut self, body: &Bytes) {
        let request = match ChatRequest::parse(body).and_then(|it| it.validate().map(|()| it)) {
            Ok(request) => request,
            Err(error) => return self.refuse(&error, Outcome::ClientError).await,
        };
        self.inference.executed = asked(&request);
        let engine = self.engine.clone();
        let begun = tokio::select! {
            begun = engine.chat(request.clone(), self.seed) => begun,
            () = self.reply.gone() => return self.leave(CLIENT_LEFT, None).await,
            () = stopped(self.stop.clone()) => {
                return self.refuse(&stopping(), Outcome::Capacity).await;
            }
        };
        match begun {
            Ok(answer) => {
                self.inference.begins();
                self.inference.executed = executed(&request, &answer.executed);
                if request.streams() {
                    self.stream(&request, answer).await;
                } else {
                    self.whole(&request, answer).await;
                }
            }
            Err(error) => {
                let outcome = outcome_of(&error);
                self.refuse(&error.to_api_error(), outcome).await;
            }
        }
    }

    /// An error before any part of an answer.
    async fn refuse(self, error: &ApiError, outcome: Outcome) {
        let (response, body) = respond::error(error);
        let end = End {
            response: Some(self.inference.commit_response(&body)),
            ..End::new(outcome, error.status)
        };
        let receipt = self.inference.conclude(end).await;
        self.reply.whole(response, receipt.as_ref());
    }

    /// Nobody is there to answer.
    async fn leave(self, status: u16, finish: Option<Finish>) {
        self.inference
            .conclude(End {
                finish,
                ..End::new(Outcome::Canceled, status)
            })
            .await;
    }

    async fn whole(mut self, request: &ChatRequest, mut answer: Answer) {
        let mut text = String::new();
        let mut logprobs = Vec::new();
        let prompt = answer.executed.prompt_ids.clone();
        let finish = loop {
            let event = tokio::select! {
                event = answer.next() => event,
                () = self.reply.gone() => {
                    drop(answer);
                    return self.leave(CLIENT_LEFT, Some(Finish::Canceled)).await;
                }
                () = stopped(self.stop.clone()) => {
                    drop(answer);
                    return self.refuse(&stopping(), Outcome::Truncated).await;
                }
            };
            match event {
                Some(Ok(AnswerEvent::Delta(delta))) => {
                    if !delta.text.is_empty() {
                        self.inference.first_token();
                    }
                    text.push_str(&delta.text);
                    logprobs.extend(delta.logprobs);
                }
                Some(Ok(AnswerEvent::Finish(finish))) => break finish,
                Some(Err(error)) => {
                    return self
                        .refuse(&error.to_api_error(), Outcome::ProviderError)
                        .await;
                }
                None => return self.refuse(&cut(), Outcome::Truncated).await,
            }
        };
        if self.reply.is_gone() {
            return self.leave(CLIENT_LEFT, Some(Finish::Canceled)).await;
        }
        let logprobs = (request.logprobs == Some(true)).then(|| listed(logprobs));
        let (model, reason) = (&request.model, finish.reason.clone());
        let mut completion = ChatCompletion::new(
            &self.id,
            self.created_s,
            model,
            text,
            logprobs,
            reason,
            finish.usage.clone(),
        );
        completion.system_fingerprint = Some(self.fingerprint.clone());
        let body = compact(&completion);
        let end = End {
            response: Some(self.inference.commit_response(&body)),
            tokens: self.commit_tokens(&prompt, &finish.token_ids),
            ..finished(&finish)
        };
        let receipt = self.inference.conclude(end).await;
        self.reply.whole(respond::json(200, body), receipt.as_ref());
    }

    async fn stream(self, request: &ChatRequest, answer: Answer) {
        let Generation {
            mut inference,
            reply,
            stop,
            id,
            created_s,
            fingerprint,
            ..
        } = self;
        let frames = match reply.stream() {
            Ok(frames) => frames,
            Err(Gone) => {
                let finish = Some(Finish::Canceled);
                inference
                    .conclude(End {
                        finish,
                        ..End::new(Outcome::Canceled, CLIENT_LEFT)
                    })
                    .await;
                return;
            }
        };
        let prompt = answer.executed.prompt_ids.clone();
        let mut sender = Sender {
            frames,
            sent: inference.response(),
            any: false,
            id,
            created_s,
            model: request.model.clone(),
            fingerprint,
        };
        let outcome = tokio::select! {
            outcome = relay(&mut inference, &mut sender, request, answer) => outcome,
            () = stopped(stop) => Err(Interrupted::Stopped),
        };
        let mut end = match outcome {
            Ok(finish) => End {
                tokens: commit_tokens(&inference, &prompt, &finish.token_ids),
                ..finished(&finish)
            },
            Err(interrupted) => sender.interrupt(interrupted).await,
        };
        end.response = sender.any.then(|| sender.sent.clone().finish());
        let (expected, ok) = (
            inference.expects_receipt(),
            end.outcome == Some(Outcome::Ok),
        );
        let receipt = inference.conclude(end).await;
        if let Some(receipt) = receipt.filter(|_| expected) {
            // A client that has left misses its receipt; the log has it.
            let _ = sender.frames.send(event::receipt(receipt.json())).await;
        }
        if ok {
            let _ = sender
                .frames
                .send(Bytes::from_static(engine::sse::DONE))
                .await;
        }
    }

    fn commit_tokens(&self, prompt: &[u32], completion: &[u32]) -> Option<record::Digest> {
        commit_tokens(&self.inference, prompt, completion)
    }
}

fn commit_tokens(
    inference: &Inference,
    prompt: &[u32],
    completion: &[u32],
) -> Option<record::Digest> {
    token_bytes(&[prompt, completion]).map(|bytes| inference.secret.commit(Part::Tokens, &bytes))
}

/// Passes the engine's events on as chunks.
async fn relay(
    inference: &mut Inference,
    sender: &mut Sender,
    request: &ChatRequest,
    mut answer: Answer,
) -> Result<engine::Finish, Interrupted> {
    let (id, at, model) = (sender.id.clone(), sender.created_s, sender.model.clone());
    sender
        .chunk(ChatCompletionChunk::role(&id, at, &model))
        .await?;
    loop {
        let event = tokio::select! {
            event = answer.next() => event,
            () = sender.frames.gone() => return Err(Interrupted::Gone),
        };
        match event {
            Some(Ok(AnswerEvent::Delta(delta))) => {
                if delta.text.is_empty() && delta.logprobs.is_empty() {
                    continue;
                }
                inference.first_token();
                let logprobs = (request.logprobs == Some(true)).then(|| listed(delta.logprobs));
                let chunk = ChatCompletionChunk::text(&id, at, &model, delta.text, logprobs);
                sender.chunk(chunk).await?;
            }
            Some(Ok(AnswerEvent::Finish(finish))) => {
                let reason = finish.reason.clone();
                sender
                    .chunk(ChatCompletionChunk::finish(&id, at, &model, reason))
                    .await?;
                if request.includes_usage() {
                    let usage = finish.usage.clone();
                    sender
                        .chunk(ChatCompletionChunk::usage(&id, at, &model, usage))
                        .await?;
                }
                return Ok(finish);
            }
            Some(Err(error)) => return Err(Interrupted::Broken(error.to_api_error())),
            None => return Err(Interrupted::Cut),
        }
    }
}

/// Sends chunks and commits to them.
struct Sender {
    frames: Frames,
    sent: Commitment,
    /// Whether anything was sent.
    any: bool,
    id: String,
    created_s: u64,
    model: String,
    fingerprint: String,
}

impl Sender {
    async fn chunk(&mut self, mut chunk: ChatCompletionChunk) -> Result<(), Interrupted> {
        chunk.system_fingerprint = Some(self.fingerprint.clone());
        self.payload(&compact(&chunk)).await
    }

    async fn payload(&mut self, payload: &[u8]) -> Result<(), Interrupted> {
        self.frames
            .send(event::data(payload))
            .await
            .map_err(|Gone| Interrupted::Gone)?;
        self.sent.update_event(payload);
        self.any = true;
        Ok(())
    }

    /// Tells the client, if it is there: a stream that breaks off must not look like one that
    /// ended well, so there is an error event and no `[DONE]`.
    async fn interrupt(&mut self, why: Interrupted) -> End {
        let (outcome, error) = match why {
            Interrupted::Gone => {
                let finish = Some(Finish::Canceled);
                return End {
                    finish,
                    ..End::new(Outcome::Canceled, 200)
                };
            }
            Interrupted::Broken(error) => (Outcome::ProviderError, error),
            Interrupted::Stopped => (Outcome::Truncated, stopping()),
            Interrupted::Cut => (Outcome::Truncated, cut()),
        };
        // If it cannot be told, it has left by now; the outcome stays the provider's.
        let _ = self.payload(&error.to_body()).await;
        End {
            finish: Some(Finish::Error),
            ..End::new(outcome, 200)
        }
    }
}

/// What a request asks for, in a receipt's words: all there is to say where nothing was executed.
pub(crate) fn asked(request: &ChatRequest) -> Executed {
    let count = |count: Option<u64>| count.and_then(|count| u32::try_from(count).ok());
    let length = |name: &str| {
        let items = request
            .rest
            .get(name)
            .and_then(|it| it.as_array())
            .map_or(0, Vec::len);
        u32::try_from(items)
            .unwrap_or(record::receipt::COUNT_MAX)
            .min(record::receipt::COUNT_MAX)
    };
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
        n: count(request.n)
            .unwrap_or(1)
            .clamp(1, record::receipt::COUNT_MAX),
        stop: u32::try_from(request.stops().len())
            .unwrap_or(0)
            .min(record::receipt::COUNT_MAX),
        logprobs: (request.logprobs == Some(true)).then(|| {
            count(request.top_logprobs)
                .unwrap_or(0)
                .min(record::receipt::COUNT_MAX)
        }),
        tools: length("tools"),
        response_format: match format.and_then(|kind| kind.as_str()) {
            Some("json_object") => ResponseFormat::JsonObject,
            Some("json_schema") => ResponseFormat::JsonSchema,
            _ => ResponseFormat::Text,
        },
    }
}

/// What the engine says it executes. It is given no tools and holds no answer to a shape, so
/// neither is claimed.
fn executed(request: &ChatRequest, it: &engine::Executed) -> Executed {
    Executed {
        temperature_ppm: Temperature::new(it.sampling.temperature_ppm).ok(),
        top_p_ppm: Share::new(it.sampling.top_p_ppm).ok(),
        seed: Some(Seed(it.sampling.seed)),
        max_tokens: Some(u64::from(it.max_tokens)),
        n: 1,
        stop: u32::try_from(it.stops.len()).unwrap_or(0),
        tools: 0,
        response_format: ResponseFormat::Text,
        ..asked(request)
    }
}

fn outcome_of(error: &EngineError) -> Outcome {
    match error {
        EngineError::Busy { .. } => Outcome::Capacity,
        EngineError::BadRequest(error) if error.status == 429 => Outcome::RateLimited,
        EngineError::BadRequest(_) => Outcome::ClientError,
        EngineError::Broken { .. } => Outcome::ProviderError,
    }
}

fn finished(finish: &engine::Finish) -> End {
    let Usage {
        prompt_tokens,
        completion_tokens,
        ..
    } = finish.usage;
    End {
        finish: Some(finish_word(&finish.reason)),
        usage: Some((prompt_tokens, completion_tokens)),
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

fn listed(content: Vec<TokenLogprob>) -> Logprobs {
    Logprobs {
        content: Some(content),
        refusal: None,
    }
}

fn compact(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers are strings, numbers and lists")
}

fn cut() -> ApiError {
    ApiError::internal("The engine stopped before the answer was complete.")
}

/// The node is shutting down and waited long enough.
pub(crate) fn stopping() -> ApiError {
    ApiError::new(
        503,
        "server_error",
        "This node is shutting down. Please retry elsewhere.",
    )
    .with_code("shutting_down")
    .with_retry_after(1)
}

/// Resolves when the node gives up waiting.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // The node is gone without having said so; nobody is told to stop.
        std::future::pending::<()>().await;
    }
}
