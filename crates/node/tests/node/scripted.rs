//! An engine that does what the last message says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::openai::{ChatRequest, FinishReason, TokenLogprob, Usage};
use engine::sampling::Sampling;
use engine::{
    Answer, AnswerEvent, Basis, Delta, Description, Engine, EngineError, Executed, Finish,
    KnownDigest,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

/// What a message can say; anything else is repeated word by word.
pub(crate) mod says {
    pub(crate) const BUSY: &str = "busy";
    pub(crate) const BREAK: &str = "break at once";
    pub(crate) const BREAK_LATER: &str = "break later";
    pub(crate) const CUT: &str = "stop without an end";
    pub(crate) const QUEUE: &str = "wait in the queue";
    pub(crate) const THINK: &str = "think for ever";
    pub(crate) const TALK: &str = "talk for ever";
    /// Forty words, one every 5 ms.
    pub(crate) const STEADY: &str = "talk steadily";
    /// Four words, one every 5 ms.
    pub(crate) const BRIEF: &str = "talk briefly";
}

pub(crate) struct Scripted {
    description: Description,
    /// Answers that were asked for.
    pub(crate) asked: Arc<AtomicUsize>,
    /// Answers that were dropped before their end.
    pub(crate) canceled: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) fn new(model: &str) -> Scripted {
        let computed = |byte| {
            Some(KnownDigest {
                sha256: [byte; 32],
                basis: Basis::Computed,
            })
        };
        Scripted {
            description: Description {
                model: model.to_owned(),
                weights: computed(1),
                weights_name: None,
                precision: Some("q4_0".to_owned()),
                precision_basis: Basis::Computed,
                kv_precision: Some("f32".to_owned()),
                tokenizer: computed(2),
                chat_template: computed(3),
                engine: "scripted".to_owned(),
                engine_version: "1".to_owned(),
                sampler: None,
                batch_size: Some(1),
                context_length: Some(2048),
            },
            asked: Arc::default(),
            canceled: Arc::default(),
        }
    }

    pub(crate) fn described(mut self, change: impl FnOnce(&mut Description)) -> Scripted {
        change(&mut self.description);
        self
    }
}

/// Counts an answer that is dropped before it disarmed.
struct Guard {
    canceled: Arc<AtomicUsize>,
    armed: bool,
}

impl Guard {
    fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.canceled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn broken() -> EngineError {
    EngineError::Broken {
        message: "a cable came loose".to_owned(),
    }
}

fn words(text: &str) -> Vec<AnswerEvent> {
    let mut events: Vec<AnswerEvent> = text
        .split_inclusive(' ')
        .zip(100..)
        .map(|(word, id)| {
            AnswerEvent::Delta(Delta {
                text: word.to_owned(),
                token_ids: vec![id],
                logprobs: vec![TokenLogprob {
                    token: word.to_owned(),
                    logprob: -0.5,
                    bytes: None,
                    top_logprobs: vec![],
                }],
            })
        })
        .collect();
    let count = events.len() as u64;
    events.push(AnswerEvent::Finish(Finish {
        reason: FinishReason::Stop,
        usage: Usage::new(9, count),
        token_ids: (100..100 + u32::try_from(count).expect("few")).collect(),
    }));
    events
}

impl Engine for Scripted {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn chat(&self, request: ChatRequest, seed: u64) -> BoxFuture<'_, Result<Answer, EngineError>> {
        let mut guard = Guard {
            canceled: self.canceled.clone(),
            armed: true,
        };
        self.asked.fetch_add(1, Ordering::SeqCst);
        async move {
            let last = request
                .messages
                .last()
                .and_then(|message| message.content.clone());
            let text = last
                .map(|it| it.to_text().map(String::from))
                .transpose()?
                .unwrap_or_default();
            let seed = request.seed.map_or(seed, i64::cast_unsigned);
            let executed = Executed {
                sampling: Sampling::new(
                    request.temperature.unwrap_or(1.0),
                    request.top_p.unwrap_or(1.0),
                    seed,
                ),
                max_tokens: u32::try_from(request.answer_limit().unwrap_or(77)).expect("small"),
                stops: request.stops().to_vec(),
                prompt_ids: vec![7, 8, 9],
            };
            let hello = || stream::iter(words("hello there").into_iter().take(1).map(Ok));
            let events: engine::engine::AnswerEvents = match text.as_str() {
                says::BUSY => return Err(EngineError::Busy { retry_after_s: 3 }),
                says::BREAK => return Err(broken()),
                says::QUEUE => std::future::pending().await,
                says::BREAK_LATER => Box::pin(hello().chain(stream::iter([Err(broken())]))),
                says::CUT => Box::pin(hello()),
                says::THINK => Box::pin(stream::pending()),
                says::TALK => Box::pin(paced(words(&"on and ".repeat(100_000)), 5)),
                says::STEADY => Box::pin(paced(words(&"word ".repeat(40)), 5)),
                says::BRIEF => Box::pin(paced(words(&"word ".repeat(4)), 5)),
                _ => Box::pin(stream::iter(words(&text).into_iter().map(Ok))),
            };
            let guarded = events.inspect(move |event| {
                if matches!(event, Ok(AnswerEvent::Finish(_)) | Err(_)) {
                    guard.disarm();
                }
            });
            Ok(Answer::new(executed, Box::pin(guarded)))
        }
        .boxed()
    }
}

fn paced(
    events: Vec<AnswerEvent>,
    every_ms: u64,
) -> impl futures_util::Stream<Item = Result<AnswerEvent, EngineError>> {
    stream::iter(events).then(move |event| async move {
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        Ok(event)
    })
}
