use std::path::PathBuf;
use std::time::Duration;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use futures_util::StreamExt;
use serde_json::json;

use super::testing::{Tiny, demo_model};
use super::*;
use crate::engine::Finish;
use crate::openai::{FinishReason, TokenLogprob};

fn request(body: &serde_json::Value) -> ChatRequest {
    ChatRequest::parse(body.to_string().as_bytes()).expect("a request")
}

fn chat(user: &str, more: &serde_json::Value) -> ChatRequest {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": user}]});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    request(&body)
}

struct Whole {
    executed: Executed,
    text: String,
    streamed_ids: Vec<u32>,
    logprobs: Vec<TokenLogprob>,
    finish: Finish,
}

async fn run(engine: &Embedded, request: ChatRequest, seed: u64) -> Result<Whole, EngineError> {
    let (executed, mut events) = engine.chat(request, seed).await?.into_parts();
    let mut whole = Whole {
        executed,
        text: String::new(),
        streamed_ids: Vec::new(),
        logprobs: Vec::new(),
        finish: Finish {
            reason: FinishReason::Other("none".into()),
            usage: crate::openai::Usage::default(),
            token_ids: Vec::new(),
        },
    };
    while let Some(event) = events.next().await {
        match event? {
            AnswerEvent::Delta(delta) => {
                whole.text.push_str(&delta.text);
                whole.streamed_ids.extend(delta.token_ids);
                whole.logprobs.extend(delta.logprobs);
            }
            AnswerEvent::Echo(_) => panic!("a chat gives no prompt back"),
            AnswerEvent::Finish(finish) => whole.finish = finish,
        }
    }
    Ok(whole)
}

/// A tiny model on disk; the directory goes when this does.
struct Files {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn files(tiny: &Tiny) -> Files {
    let directory = tempfile::tempdir().expect("a directory");
    let path = tiny.write(directory.path(), "tiny.gguf");
    Files {
        _directory: directory,
        path,
    }
}

fn options(workers: usize, queue: usize) -> Options {
    Options {
        workers,
        queue,
        ..Options::default()
    }
}

/// Everything an answer says agrees with everything else, and with scoring it afterwards.
async fn check_answers(engine: &Embedded) {
    for (turn, user) in ["hello", "What is 12 + 7?", "né €"].into_iter().enumerate() {
        for (temperature, top_p) in [(0.0, 1.0), (1.0, 1.0), (0.8, 0.9)] {
            let asked = chat(
                user,
                &json!({"temperature": temperature, "top_p": top_p, "max_tokens": 24,
                    "logprobs": true, "top_logprobs": 3}),
            );
            let whole = run(engine, asked, 77 + turn as u64)
                .await
                .expect("an answer");
            let ids = &whole.finish.token_ids;
            let model = engine.model();
            assert_eq!(whole.executed.sampling.seed, 77 + turn as u64);
            assert_eq!(whole.executed.max_tokens, 24);
            assert_eq!(whole.text, model.decode(ids));
            let usage = &whole.finish.usage;
            assert_eq!(usage.completion_tokens, ids.len() as u64);
            assert_eq!(usage.prompt_tokens, whole.executed.prompt_ids.len() as u64);
            // The token that ends the turn is sampled and counted, but it is no text.
            let ended = ids.len() - whole.streamed_ids.len();
            assert_eq!(whole.streamed_ids, ids[..whole.streamed_ids.len()]);
            match whole.finish.reason {
                FinishReason::Stop => assert_eq!(ended, 1),
                FinishReason::Length => assert_eq!((ended, ids.len()), (0, 24)),
                ref other => panic!("{other:?}"),
            }
            let sampling = whole.executed.sampling;
            let scores = model
                .score(&whole.executed.prompt_ids, ids, Some(&sampling))
                .expect("scores");
            assert_eq!(scores.len(), ids.len());
            for (entry, score) in whole.logprobs.iter().zip(&scores) {
                assert!((entry.logprob - score.logprob).abs() < 1e-4);
                assert_eq!(entry.top_logprobs.len(), 3);
                let best = &entry.top_logprobs[0];
                assert_eq!(score.rank == 0, best.bytes == entry.bytes);
                assert!(
                    entry
                        .top_logprobs
                        .windows(2)
                        .all(|two| two[0].logprob >= two[1].logprob)
                );
            }
            let replayed = model
                .complete(&whole.executed.prompt_ids, 24, &sampling)
                .expect("a replay");
            assert_eq!(&replayed, ids);
            // The sampler, replayed from the scores, picked every one of these tokens.
            for score in &scores {
                assert!(score.gumbel_margin.expect("asked for") >= 0.0);
                if temperature == 0.0 {
                    assert!(score.rank == 0 && score.margin >= 0.0);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_agrees_with_itself_and_its_score() {
    for dtype in [GgmlDType::F16, GgmlDType::Q8_0, GgmlDType::Q4K] {
        let files = files(&Tiny {
            dtype,
            ..Tiny::default()
        });
        let engine = Embedded::open(&files.path, &options(2, 4)).expect("opens");
        check_answers(&engine).await;
    }
}

async fn check_determinism(path: &std::path::Path) {
    let alone = Embedded::open(path, &options(1, 64)).expect("opens");
    let four = Embedded::open(path, &options(4, 64)).expect("opens");
    let ask = |turn: u64| {
        let users = [
            "hello",
            "list 3 colours",
            "7 * 6 =",
            "a long question, a long answer",
        ];
        let user = users[usize::try_from(turn).expect("small") % users.len()];
        chat(
            user,
            &json!({"temperature": 1.0, "seed": turn / 4, "max_tokens": 40}),
        )
    };
    let mut expected = Vec::new();
    for turn in 0..12 {
        expected.push(
            run(&alone, ask(turn), 0)
                .await
                .expect("an answer")
                .finish
                .token_ids,
        );
    }
    for _ in 0..2 {
        let together = (0..12).map(|turn| run(&four, ask(turn), 999));
        let answers = futures_util::future::join_all(together).await;
        for (answer, expected) in answers.into_iter().zip(&expected) {
            assert_eq!(&answer.expect("an answer").finish.token_ids, expected);
        }
    }
    assert!(
        (0..8).any(|turn| expected[turn] != expected[turn + 4]),
        "another seed, another answer"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_tokens_alone_and_among_others() {
    for dtype in [GgmlDType::F16, GgmlDType::Q4_0] {
        check_determinism(
            &files(&Tiny {
                dtype,
                ..Tiny::default()
            })
            .path,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_model_answers() {
    let Some(path) = demo_model() else {
        return;
    };
    let engine = Embedded::open(&path, &options(2, 4)).expect("opens");
    check_answers(&engine).await;
    check_determinism(&path).await;
    let quantised = tempfile::tempdir().expect("a directory");
    for to in [gguf::Dtype::Q8_0, gguf::Dtype::Q4_0, gguf::Dtype::Q4_K] {
        let twin = quantised.path().join(format!("{}.gguf", to.name()));
        quantize(&path, &twin, to, Overwrite::Refuse).expect("a twin");
        check_answers(&Embedded::open(&twin, &options(2, 4)).expect("opens")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_sequences_end_an_answer_and_never_show() {
    let files = files(&Tiny::default());
    let engine = Embedded::open(&files.path, &options(1, 4)).expect("opens");
    // An answer of some length, whatever it says, and two characters in the middle of it.
    let mut found = None;
    for seed in 0..50 {
        let whole = run(
            &engine,
            chat("hello", &json!({"max_tokens": 30, "seed": seed})),
            0,
        )
        .await
        .expect("an answer");
        let characters: Vec<char> = whole.text.chars().collect();
        let stop = characters.windows(2).skip(6).find_map(|two| {
            let stop: String = two.iter().collect();
            let early = whole.text.find(&stop).is_none_or(|place| place < 6);
            (!early && !two.contains(&char::REPLACEMENT_CHARACTER)).then_some(stop)
        });
        if let Some(stop) = stop {
            found = Some((seed, whole, stop));
            break;
        }
    }
    let (seed, free, stop) = found.expect("some answer is long and has plain characters");
    let place = free.text.find(&stop).expect("it is there");
    let asked = json!({"max_tokens": 30, "seed": seed, "stop": ["never said", stop],
        "logprobs": true});
    let stopped = run(&engine, chat("hello", &asked), 0)
        .await
        .expect("an answer");
    assert_eq!(stopped.text, free.text[..place]);
    assert_eq!(stopped.finish.reason, FinishReason::Stop);
    assert_eq!(stopped.executed.stops.len(), 2);
    let ids = &stopped.finish.token_ids;
    assert_eq!(ids[..], free.finish.token_ids[..ids.len()]);
    assert!(ids.len() < free.finish.token_ids.len());
    // Log probabilities cover the text that is shown, not the stop sequence.
    assert_eq!(stopped.logprobs.len(), stopped.streamed_ids.len());
    assert!(stopped.streamed_ids.len() <= ids.len());
    let model = engine.model();
    assert!(
        model
            .decode(&stopped.streamed_ids)
            .starts_with(&free.text[..place])
    );
    let before_last = &stopped.streamed_ids[..stopped.streamed_ids.len() - 1];
    assert!(model.decode(before_last).len() < place + 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_in_openais_words() {
    let files = files(&Tiny::default());
    let engine = Embedded::open(&files.path, &options(1, 4)).expect("opens");
    let refused = |error: EngineError| match error {
        EngineError::BadRequest(error) => error,
        other => panic!("{other:?}"),
    };
    for length in [300, 3_000_000] {
        let error = run(&engine, chat(&"x".repeat(length), &json!({})), 0).await;
        let error = refused(error.err().expect("too long"));
        assert_eq!(error.status, 400);
        assert_eq!(error.code.as_deref(), Some("context_length_exceeded"));
        assert!(error.message.contains("192 tokens"), "{}", error.message);
    }
    // An answer is cut to the room there is.
    let whole = run(
        &engine,
        chat("x", &json!({"max_tokens": 5000, "temperature": 0})),
        0,
    )
    .await
    .expect("an answer");
    let prompt = u32::try_from(whole.executed.prompt_ids.len()).expect("small");
    assert_eq!(whole.executed.max_tokens, 192 - prompt);
    for (body, param) in [
        (json!({"n": 2}), "n"),
        (json!({"temperature": 9}), "temperature"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages",
        ),
    ] {
        let error = refused(
            run(&engine, chat("x", &body), 0)
                .await
                .err()
                .expect("refused"),
        );
        assert_eq!(error.param.as_deref(), Some(param));
    }
}

fn endless() -> Tiny {
    Tiny {
        context: 100_000,
        layers: 4,
        ..Tiny::default()
    }
}

/// An answer that goes on until it is dropped: greedy, in a context without an end.
async fn endless_answer(engine: &Embedded) -> Answer {
    for user in ["a", "b", "c", "d", "e", "f", "g"] {
        let asked = chat(user, &json!({"temperature": 0}));
        let mut answer = engine.chat(asked, 0).await.expect("starts");
        let mut events = 0;
        while let Some(Ok(AnswerEvent::Delta(_))) = answer.next().await {
            events += 1;
            if events > 40 {
                return answer;
            }
        }
    }
    panic!("every answer ended by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_busy_and_a_dropped_answer_makes_room() {
    let files = files(&endless());
    let engine = Embedded::open(
        &files.path,
        &Options {
            workers: 1,
            queue: 1,
            max_context: 100_000,
            ..Options::default()
        },
    )
    .expect("opens");
    let long = endless_answer(&engine).await;
    let ask = || engine.chat(chat("hello", &json!({"max_tokens": 2})), 1);
    let waiting = tokio::time::timeout(Duration::from_millis(20), ask()).await;
    assert!(waiting.is_err(), "one request waits");
    // The one that waited was dropped by the timeout; its place is free again.
    let mut waiting = Box::pin(ask());
    assert!((&mut waiting).now_or_never().is_none());
    let error = ask().await.expect_err("no room");
    let EngineError::Busy { retry_after_s } = error else {
        panic!("{error:?}");
    };
    assert!((1..=MAX_RETRY_AFTER_S).contains(&retry_after_s));
    drop(long);
    let answer = tokio::time::timeout(Duration::from_secs(2), waiting)
        .await
        .expect("the worker is free at once")
        .expect("an answer");
    assert!(answer.count().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_model_costs_the_answer_and_not_the_engine() {
    let directory = tempfile::tempdir().expect("a directory");
    let tiny = Tiny::default();
    let mut tensors = tiny.tensors();
    for (name, tensor) in &mut tensors {
        if name == "output_norm.weight" {
            let broken = Tensor::full(f32::NAN, tiny.width, &Device::Cpu).expect("a tensor");
            *tensor = QTensor::quantize(&broken, GgmlDType::F32).expect("f32");
        }
    }
    let path = tiny.write_with(directory.path(), "nan.gguf", &tiny.metadata(), &tensors);
    let engine = Embedded::open(&path, &options(1, 4)).expect("opens");
    for _ in 0..3 {
        let error = run(&engine, chat("hello", &json!({})), 0)
            .await
            .err()
            .expect("broken");
        assert!(matches!(error, EngineError::Broken { .. }), "{error:?}");
    }
    let error = engine.model().score(&[1], &[2], None).expect_err("broken");
    assert!(matches!(error, ScoreError::NotANumber(_)));
}

#[tokio::test]
async fn the_description_is_computed_from_the_file() {
    let files = files(&Tiny {
        dtype: GgmlDType::Q8_0,
        ..Tiny::default()
    });
    let named = Options {
        model: Some("my-model".into()),
        ..options(1, 1)
    };
    let engine = Embedded::open(&files.path, &named).expect("opens");
    let said = engine.describe();
    assert_eq!(said.model, "my-model");
    assert_eq!(said.precision.as_deref(), Some("q8_0"));
    assert_eq!(said.kv_precision.as_deref(), Some("f32"));
    assert_eq!((said.batch_size, said.context_length), (Some(1), Some(192)));
    let bytes = std::fs::read(&files.path).expect("bytes");
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let weights = said.weights.expect("known");
    assert_eq!(
        (&weights.sha256[..], weights.basis),
        (digest.as_ref(), Basis::Computed)
    );
    let template = ring::digest::digest(&ring::digest::SHA256, testing::TEMPLATE.as_bytes());
    assert_eq!(
        &said.chat_template.expect("known").sha256[..],
        template.as_ref()
    );
    let facts = model_info(&files.path).expect("facts");
    assert_eq!(&facts, engine.model().facts());
    assert_eq!((facts.layers, facts.width, facts.vocab), (2, 256, 266));

    let directory = tempfile::tempdir().expect("a directory");
    let tiny = Tiny::default();
    let mut metadata = tiny.metadata();
    metadata.retain(|(key, _)| key != "tokenizer.chat_template");
    let path = tiny.write_with(directory.path(), "base.gguf", &metadata, &tiny.tensors());
    let error = Embedded::open(&path, &options(1, 1)).expect_err("cannot chat");
    assert_eq!(error.kind, ModelErrorKind::Unusable);
    assert!(error.to_string().contains("chat template"), "{error}");
    assert!(
        Model::open(&path, 100)
            .expect("can score")
            .score(&[1], &[2], None)
            .is_ok()
    );
}

#[test]
fn scoring_refuses_what_it_cannot_place() {
    let files = files(&Tiny::default());
    let model = Model::open(&files.path, 1000).expect("opens");
    assert!(matches!(
        model.score(&[], &[1], None),
        Err(ScoreError::Length { .. })
    ));
    assert!(matches!(
        model.score(&[0; 100], &[0; 93], None),
        Err(ScoreError::Length {
            tokens: 193,
            limit: 192
        })
    ));
    assert_eq!(
        model.score(&[1], &[2, 5000], None),
        Err(ScoreError::UnknownToken { id: 5000 })
    );
    assert_eq!(model.score(&[1], &[], None), Ok(Vec::new()));
    assert_eq!(
        model.score(&[0; 100], &[0; 92], None).expect("fits").len(),
        92
    );
}
