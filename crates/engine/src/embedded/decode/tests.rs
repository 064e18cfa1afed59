//! Prompts taken as they stand: continued, given back and scored.

use candle_core::quantized::GgmlDType;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::super::testing::Tiny;
use super::super::{Embedded, Options};
use crate::engine::{AnswerEvent, Echo, Engine, EngineError, Executed, Finish};
use crate::openai::{ApiError, CompletionRequest, FinishReason, TokenLogprob};

fn engine(directory: &std::path::Path) -> Embedded {
    let tiny = Tiny {
        dtype: GgmlDType::Q8_0,
        ..Tiny::default()
    };
    let path = tiny.write(directory, "tiny.gguf");
    let options = Options {
        workers: 1,
        queue: 4,
        ..Options::default()
    };
    Embedded::open(&path, &options).expect("opens")
}

#[derive(Debug)]
struct Whole {
    executed: Executed,
    echo: Option<Echo>,
    text: String,
    logprobs: Vec<TokenLogprob>,
    finish: Finish,
}

async fn run(engine: &Embedded, more: Value) -> Result<Whole, EngineError> {
    let mut body = json!({"model": "tiny", "temperature": 0});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let request = CompletionRequest::parse(body.to_string().as_bytes()).expect("parses");
    let (executed, mut events) = engine.complete(request, 5).await?.into_parts();
    let (mut echo, mut text, mut logprobs) = (None, String::new(), Vec::new());
    loop {
        match events.next().await.expect("an end")? {
            AnswerEvent::Echo(given) => {
                assert!(echo.is_none() && text.is_empty(), "the prompt comes first");
                echo = Some(given);
            }
            AnswerEvent::Delta(delta) => {
                text.push_str(&delta.text);
                logprobs.extend(delta.logprobs);
            }
            AnswerEvent::Finish(finish) => {
                return Ok(Whole {
                    executed,
                    echo,
                    text,
                    logprobs,
                    finish,
                });
            }
        }
    }
}

/// Longer than one step of scoring.
fn ids() -> Vec<u32> {
    (0..150).map(|place| (place * 37 + 11) % 266).collect()
}

#[tokio::test]
async fn a_prompt_of_tokens_is_scored_without_an_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(directory.path());
    let ids = ids();
    let asked = json!({"prompt": ids, "echo": true, "logprobs": 2, "max_tokens": 0});
    let whole = run(&engine, asked).await.expect("scores");
    assert_eq!(whole.executed.prompt_ids, ids);
    assert_eq!(whole.finish.reason, FinishReason::Length);
    assert!(whole.finish.token_ids.is_empty() && whole.text.is_empty());
    let usage = &whole.finish.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (150, 0));
    let echo = whole.echo.expect("asked for");
    assert_eq!(echo.text, engine.model().spell_all(&ids));
    // The very numbers that an audit's own replay gives.
    let scores = engine
        .model()
        .score(&ids[..1], &ids[1..], None)
        .expect("scores");
    assert_eq!(echo.logprobs.len(), scores.len());
    for (entry, score) in echo.logprobs.iter().zip(&scores) {
        assert_eq!(entry.logprob, score.logprob);
        assert_eq!(
            entry.bytes.as_deref(),
            Some(engine.model().spelled(score.token_id))
        );
        assert_eq!(entry.top_logprobs.len(), 2);
        assert_eq!(
            entry.top_logprobs[0].logprob == entry.logprob,
            score.rank == 0
        );
    }
    let by_id = json!({"prompt": ids, "echo": true, "logprobs": 0, "max_tokens": 0,
        "return_tokens_as_token_ids": true});
    let echo = run(&engine, by_id)
        .await
        .expect("scores")
        .echo
        .expect("asked for");
    let named = echo
        .first
        .into_iter()
        .chain(echo.logprobs.into_iter().map(|it| it.token));
    assert!(named.eq(ids.iter().map(|id| format!("token_id:{id}"))));
}

#[tokio::test]
async fn an_answer_follows_its_prompt_and_scores_alike_in_both_places() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(directory.path());
    let asked = json!({"prompt": "hello world", "echo": true, "logprobs": 0, "max_tokens": 9});
    let first = run(&engine, asked).await.expect("an answer");
    assert_eq!(first.echo.as_ref().expect("asked for").text, "hello world");
    assert_eq!(
        first.executed.prompt_ids,
        engine.model().encode("hello world").expect("ids")
    );
    let answer = &first.finish.token_ids;
    assert!(!answer.is_empty() && answer.len() <= 9);
    // What was prompt and answer is one prompt now, and every token stands as it stood.
    let both = [&first.executed.prompt_ids[..], answer].concat();
    let again = json!({"prompt": both, "echo": true, "logprobs": 0, "max_tokens": 0});
    let again = run(&engine, again).await.expect("scores");
    let scored: Vec<f64> = (again.echo.expect("asked for").logprobs.iter())
        .map(|entry| entry.logprob)
        .collect();
    let stood = first.echo.expect("asked for").logprobs;
    let stood: Vec<f64> = (stood.iter().chain(&first.logprobs))
        .map(|entry| entry.logprob)
        .collect();
    // A token that ends the answer is sampled but is no text and has no entry.
    assert_eq!(scored[..stood.len()], stood);
    // Without an echo nothing is scored, and the answer is the same.
    let plain = json!({"prompt": [both[0]], "max_tokens": 3});
    assert!(run(&engine, plain).await.expect("an answer").echo.is_none());
}

#[tokio::test]
async fn what_does_not_fit_or_is_no_token_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(directory.path());
    let refusal = async |asked: Value| -> ApiError {
        match run(&engine, asked).await.expect_err("refused") {
            EngineError::BadRequest(error) => error,
            other => panic!("{other:?}"),
        }
    };
    // The whole context can be scored, but leaves no room for an answer.
    let full = vec![1; 192];
    let score = json!({"prompt": full, "echo": true, "max_tokens": 0});
    assert!(run(&engine, score).await.is_ok());
    for prompt in [
        json!(full),
        json!("x".repeat(193)),
        json!("x".repeat(3_000_000)),
    ] {
        let error = refusal(json!({"prompt": prompt, "max_tokens": 1})).await;
        assert_eq!(error.code.as_deref(), Some("context_length_exceeded"));
    }
    let error = refusal(json!({"prompt": [1, 2, 266]})).await;
    assert_eq!(error.param.as_deref(), Some("prompt"));
    assert!(error.message.contains("'prompt[2]'"), "{}", error.message);
    let error = refusal(json!({"prompt": ""})).await;
    assert!(error.message.contains("no tokens"), "{}", error.message);
    // An answer is cut to the room there is.
    let cut = run(&engine, json!({"prompt": vec![1; 190], "max_tokens": 50})).await;
    assert_eq!(cut.expect("an answer").executed.max_tokens, 2);
}
