//! The embedded engine: GGUF models of the Llama and Qwen families on the CPU, in this process.
//!
//! One [`Model`] is shared by a few worker threads, each with its own KV cache, behind a bounded
//! queue. Requests are never computed together, so an answer does not depend on what else runs:
//! same weights, prompt, parameters, seed and build give the same tokens. Dropping an answer ends
//! its work before the next token.
//!
//! Log probabilities are those of the raw distribution: temperature 1, before `top_p`. Those of a
//! prompt (`/v1/completions` with `echo`) come from one pass over it.
//!
//! Limits: [`gguf`] for files, [`llama`] for architectures, [`tokenizer`] for tokenizers,
//! [`template`] for chat templates.

mod decode;
mod error;
pub mod gguf;
mod kernels;
pub mod llama;
mod model;
mod quantize;
mod queue;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;
mod text;
pub mod tokenizer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

pub use error::{ModelError, ModelErrorKind};
pub use model::{DEFAULT_MAX_CONTEXT, KV_PRECISION, Model, ModelFacts, ScoreError, model_info};
pub(crate) use model::{FileFacts, file_facts};
pub use quantize::{Overwrite, quantize};

use crate::engine::{
    Answer, AnswerEvent, Basis, Description, Engine, EngineError, Executed, KnownDigest,
};
use crate::openai::{ChatRequest, CompletionRequest, Prompt};
use crate::sampling::{NAME, Sampling};
use decode::Wanted;
use queue::{Job, Queue, Refused};

/// Name of this engine in manifests.
pub const ENGINE_NAME: &str = "longrun-embedded";

/// Longest `Retry-After` that is given, seconds.
pub const MAX_RETRY_AFTER_S: u32 = 60;

/// How an embedded engine is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name to ask for; `None`: the file's own.
    pub model: Option<String>,
    /// Where the file comes from, for the manifest, such as `hf:REPO:FILE@COMMIT`.
    pub source: Option<String>,
    /// Requests computed at the same time.
    pub workers: usize,
    /// Requests that may wait while every worker is busy.
    pub queue: usize,
    /// Longest context, tokens; the file's own limit applies too.
    pub max_context: usize,
}

impl Default for Options {
    /// One worker per core but at most 4, 16 waiting, [`DEFAULT_MAX_CONTEXT`].
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            model: None,
            source: None,
            workers: cores.min(4),
            queue: 16,
            max_context: DEFAULT_MAX_CONTEXT,
        }
    }
}

/// The embedded engine.
pub struct Embedded {
    model: Arc<Model>,
    description: Description,
    queue: Arc<Queue<Request>>,
    /// Time an answer takes, smoothed, ms.
    typical_ms: Arc<AtomicU64>,
    workers: usize,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("description", &self.description)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// A request on its way to a worker.
struct Request {
    asked: Asked,
    seed: u64,
    started: oneshot::Sender<Result<Executed, EngineError>>,
    events: mpsc::UnboundedSender<Result<AnswerEvent, EngineError>>,
}

/// What was asked for.
enum Asked {
    Chat(ChatRequest),
    Completion(CompletionRequest),
}

impl Job for Request {
    fn is_wanted(&self) -> bool {
        !self.started.is_closed()
    }
}

impl Embedded {
    /// Opens a model file and starts the workers.
    pub fn open(path: &Path, options: &Options) -> Result<Self, ModelError> {
        let model = Model::open(path, options.max_context)?;
        if !model.has_chat_template() {
            return Err(ModelError {
                path: path.to_owned(),
                kind: ModelErrorKind::Unusable,
                problem: "the file has no chat template (`tokenizer.chat_template`), so it cannot \
                          answer chats; take the instruction-tuned version of the model"
                    .to_owned(),
            });
        }
        Ok(Self::start(Arc::new(model), options))
    }

    /// Starts workers on a model that is open already and has a chat template.
    pub fn start(model: Arc<Model>, options: &Options) -> Self {
        let workers = options.workers.max(1);
        let queue = Arc::new(Queue::new(options.queue));
        let typical_ms = Arc::new(AtomicU64::new(0));
        for index in 0..workers {
            let (model, queue) = (Arc::clone(&model), Arc::clone(&queue));
            let typical_ms = Arc::clone(&typical_ms);
            std::thread::Builder::new()
                .name(format!("engine-{index}"))
                .spawn(move || work(&model, &queue, &typical_ms))
                .expect("the system gives a thread at start-up");
        }
        Self {
            description: describe(&model, options),
            model,
            queue,
            typical_ms,
            workers,
        }
    }

    /// The model, for scoring.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    async fn answer(&self, asked: Asked, seed: u64) -> Result<Answer, EngineError> {
        let (started, start) = oneshot::channel();
        let (events, received) = mpsc::unbounded_channel();
        let job = Request {
            asked,
            seed,
            started,
            events,
        };
        self.queue.push(job).map_err(|refused| match refused {
            Refused::Full { waiting } => EngineError::Busy {
                retry_after_s: self.retry_after_s(waiting),
            },
            Refused::Closed => broken("the engine is shutting down"),
        })?;
        let executed = start
            .await
            .map_err(|_| broken("the engine stopped before the answer began"))??;
        let events = futures_util::stream::unfold(received, |mut received| async move {
            received.recv().await.map(|event| (event, received))
        });
        Ok(Answer::new(executed, Box::pin(events)))
    }

    fn retry_after_s(&self, waiting: usize) -> u32 {
        let ahead = 1 + waiting / self.workers;
        let wait_ms = self.typical_ms.load(Ordering::Relaxed) * ahead as u64;
        u32::try_from(wait_ms.div_ceil(1000))
            .unwrap_or(MAX_RETRY_AFTER_S)
            .clamp(1, MAX_RETRY_AFTER_S)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn describe(model: &Model, options: &Options) -> Description {
    let facts = model.facts();
    let computed = |sha256| KnownDigest {
        sha256,
        basis: Basis::Computed,
    };
    Description {
        model: options.model.clone().unwrap_or_else(|| facts.name.clone()),
        weights: Some(computed(facts.weights_sha256)),
        weights_name: options.source.clone(),
        precision: Some(facts.precision.clone()),
        precision_basis: Basis::Computed,
        kv_precision: Some(KV_PRECISION.to_owned()),
        tokenizer: Some(computed(facts.tokenizer_sha256)),
        chat_template: facts.chat_template_sha256.map(computed),
        engine: ENGINE_NAME.to_owned(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        sampler: Some(NAME.to_owned()),
        batch_size: Some(1),
        context_length: u32::try_from(model.context()).ok(),
    }
}

impl Engine for Embedded {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn chat(&self, request: ChatRequest, seed: u64) -> BoxFuture<'_, Result<Answer, EngineError>> {
        async move {
            request.validate()?;
            self.answer(Asked::Chat(request), seed).await
        }
        .boxed()
    }

    fn complete(
        &self,
        request: CompletionRequest,
        seed: u64,
    ) -> BoxFuture<'_, Result<Answer, EngineError>> {
        async move {
            request.validate()?;
            self.answer(Asked::Completion(request), seed).await
        }
        .boxed()
    }
}

fn broken(message: &str) -> EngineError {
    EngineError::Broken {
        message: message.to_owned(),
    }
}

/// A worker's life.
fn work(model: &Model, queue: &Queue<Request>, typical_ms: &AtomicU64) {
    let mut cache = model.new_cache();
    while let Some(job) = queue.pop() {
        let began = Instant::now();
        let events = job.events.clone();
        // A panic would be a bug; it must cost one answer, not the worker.
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(model, job, &mut cache)));
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => {
                cache = model.new_cache();
                Some("the computation panicked".to_owned())
            }
        };
        if let Some(message) = failure {
            tracing::error!(%message, "an answer failed");
            // Nobody may be listening any more.
            let _ = events.send(Err(EngineError::Broken { message }));
        }
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let before = typical_ms.load(Ordering::Relaxed);
        typical_ms.store((before.saturating_mul(3) + took) / 4, Ordering::Relaxed);
    }
}

/// Answers one request.
fn answer(model: &Model, job: Request, cache: &mut llama::KvCache) -> Result<(), ScoreError> {
    let Request {
        asked,
        seed,
        started,
        events,
    } = job;
    let prepared = match &asked {
        Asked::Chat(request) => prepare_chat(model, request, seed),
        Asked::Completion(request) => prepare_completion(model, request, seed),
    };
    let (executed, wanted) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    if started.send(Ok(executed.clone())).is_err() {
        return Ok(());
    }
    decode::run(model, &executed, &wanted, cache, &mut Channel(events))
}

/// What is executed for a chat.
fn prepare_chat(
    model: &Model,
    request: &ChatRequest,
    seed: u64,
) -> Result<(Executed, Wanted), EngineError> {
    let prompt_ids = model.encode_chat(request)?;
    let room = (model.context() - prompt_ids.len()) as u64;
    let max_tokens = request.answer_limit().unwrap_or(room).min(room);
    let executed = Executed {
        sampling: Sampling::new(
            request.temperature.unwrap_or(1.0),
            request.top_p.unwrap_or(1.0),
            request.seed.map_or(seed, i64::cast_unsigned),
        ),
        max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
        stops: request.stops().to_vec(),
        prompt_ids,
    };
    let wanted = Wanted {
        top_logprobs: (request.logprobs == Some(true))
            .then(|| usize::try_from(request.top_logprobs.unwrap_or(0)).unwrap_or(0)),
        ..Wanted::default()
    };
    Ok((executed, wanted))
}

/// What is executed for a prompt that is taken as it stands.
fn prepare_completion(
    model: &Model,
    request: &CompletionRequest,
    seed: u64,
) -> Result<(Executed, Wanted), EngineError> {
    let prompt_ids = model.encode_prompt(request)?;
    let room = (model.context() - prompt_ids.len()) as u64;
    let max_tokens = request.answer_limit().min(room);
    let text = || match &request.prompt {
        Prompt::Text(text) => text.clone(),
        _ => model.spell_all(&prompt_ids),
    };
    let wanted = Wanted {
        top_logprobs: request
            .logprobs
            .map(|count| usize::try_from(count).unwrap_or(0)),
        as_ids: request.return_tokens_as_token_ids == Some(true),
        echo: request.echoes().then(text),
    };
    let executed = Executed {
        sampling: Sampling::new(
            request.temperature.unwrap_or(1.0),
            request.top_p.unwrap_or(1.0),
            request.seed.map_or(seed, i64::cast_unsigned),
        ),
        max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
        stops: request.stops().to_vec(),
        prompt_ids,
    };
    Ok((executed, wanted))
}

/// Events on their way to the caller. Unbounded: an answer is bounded by its tokens.
struct Channel(mpsc::UnboundedSender<Result<AnswerEvent, EngineError>>);

impl decode::Sink for Channel {
    fn send(&mut self, event: AnswerEvent) -> bool {
        self.0.send(Ok(event)).is_ok()
    }

    fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

#[cfg(test)]
mod tests;
