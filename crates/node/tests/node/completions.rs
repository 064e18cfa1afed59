//! `/v1/completions`: a prompt as it stands, continued or scored, with its receipt.

use std::path::Path;
use std::sync::Arc;

use engine::embedded::{Embedded, Options};
use node::Served;
use record::content::{Part, token_bytes};
use record::receipt::Finish;
use record::{Outcome, Secret};
use serde_json::{Value, json};

use crate::common::{Fixture, MODEL, SECRET, recorder};
use crate::upstreams::{Outside, in_front_of};

const PATH: &str = "/v1/completions";

/// A node with the demonstration model, and the model itself.
async fn demo() -> (Fixture, Arc<Embedded>) {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/longrun-demo-f16.gguf");
    let options = Options {
        model: Some(MODEL.to_owned()),
        workers: 1,
        ..Options::default()
    };
    let engine = Arc::new(Embedded::open(&file, &options).expect("the model opens"));
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let recorder = recorder(&directory.path().join("node"));
    let models = vec![Served::engine(engine.clone())];
    (Fixture::serving(recorder, models, directory).await, engine)
}

fn asked(more: &Value) -> String {
    let mut body = json!({"model": MODEL, "temperature": 0});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.to_string()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

#[tokio::test]
async fn an_answer_comes_with_its_ids_and_scores_again_to_the_same_numbers() {
    let (it, engine) = demo().await;
    let more = json!({"prompt": "What is 3 + 4?", "max_tokens": 6, "logprobs": 2, "echo": true,
        "return_token_ids": true});
    let answered = it.post_to(PATH, asked(&more), Some(1)).await;
    let receipt = answered.checked(Outcome::Ok, 1);
    let body = answered.json();
    assert_eq!(body["object"], "text_completion");
    assert!(body["id"].as_str().expect("an id").starts_with("cmpl-"));
    let choice = &body["choices"][0];
    let (prompt, answer) = (ids(&choice["prompt_token_ids"]), ids(&choice["token_ids"]));
    assert_eq!(
        prompt,
        engine.model().encode("What is 3 + 4?").expect("ids")
    );
    assert_eq!(body["usage"]["completion_tokens"], answer.len());
    let text = choice["text"].as_str().expect("a text");
    assert!(text.starts_with("What is 3 + 4?"));
    let lists = &choice["logprobs"];
    let tokens = lists["tokens"].as_array().expect("tokens");
    assert_eq!(lists["token_logprobs"][0], Value::Null);
    assert_eq!(
        lists["text_offset"].as_array().expect("offsets").len(),
        tokens.len()
    );
    let spelled: String = tokens
        .iter()
        .map(|token| token.as_str().expect("text"))
        .collect();
    assert_eq!(spelled, text);
    // The receipt binds the ids and what was executed.
    let secret = Secret::from_bytes(SECRET);
    let bytes = token_bytes(&[&prompt, &answer]).expect("small");
    assert_eq!(
        receipt.commitments.tokens,
        Some(secret.commit(Part::Tokens, &bytes))
    );
    assert_eq!(
        (receipt.executed.max_tokens, receipt.executed.logprobs),
        (Some(6), Some(2))
    );

    // What an auditor asks: the whole transcript in one pass, nothing sampled.
    let whole = [&prompt[..], &answer].concat();
    let more = json!({"prompt": whole, "max_tokens": 0, "logprobs": 0, "echo": true});
    let scored = it.post_to(PATH, asked(&more), Some(2)).await;
    let receipt = scored.checked(Outcome::Ok, 2);
    assert_eq!(receipt.executed.max_tokens, Some(0));
    assert_eq!(receipt.finish, Some(Finish::Length));
    let body = scored.json();
    assert_eq!(body["usage"]["completion_tokens"], 0);
    let again = &body["choices"][0]["logprobs"];
    let count = tokens.len();
    assert_eq!(
        again["token_logprobs"].as_array().expect("numbers")[..count],
        lists["token_logprobs"].as_array().expect("numbers")[..],
    );
    let exact = engine
        .model()
        .score(&whole[..1], &whole[1..], None)
        .expect("scores");
    assert_eq!(again["token_logprobs"][1], json!(exact[0].logprob));
    assert_eq!(again["top_logprobs"], Value::Null);
}

#[tokio::test]
async fn a_stream_adds_up_to_the_whole_answer() {
    let (it, _) = demo().await;
    let more = json!({"prompt": "What is 3 + 4?", "max_tokens": 6, "logprobs": 1, "echo": true,
        "return_token_ids": true});
    let whole = it.post_to(PATH, asked(&more), Some(1)).await.json();
    let mut more = more;
    more["stream"] = json!(true);
    more["stream_options"] = json!({"include_usage": true});
    let streamed = it.post_to(PATH, asked(&more), Some(2)).await;
    streamed.checked(Outcome::Ok, 2);
    assert!(streamed.is_done());
    let chunks: Vec<Value> = (streamed.payloads().iter())
        .map(|payload| serde_json::from_slice(payload).expect("JSON"))
        .collect();
    let (usage, chunks) = chunks.split_last().expect("chunks");
    assert_eq!(usage["usage"], whole["usage"]);
    let added = |field: &str| -> Vec<Value> {
        (chunks.iter())
            .filter_map(|chunk| chunk["choices"][0].pointer(field)?.as_array().cloned())
            .flatten()
            .collect()
    };
    let choice = &whole["choices"][0];
    for field in [
        "/token_ids",
        "/prompt_token_ids",
        "/logprobs/tokens",
        "/logprobs/text_offset",
    ] {
        assert_eq!(
            Some(&Value::Array(added(field))),
            choice.pointer(field),
            "{field}"
        );
    }
    let text: String = (chunks.iter())
        .map(|chunk| chunk["choices"][0]["text"].as_str().expect("text"))
        .collect();
    assert_eq!(choice["text"], text);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_receipt_where_there_is_an_endpoint() {
    let (it, _) = demo().await;
    let refused = it
        .post_to(PATH, asked(&json!({"prompt": [1, 99_999]})), Some(1))
        .await;
    refused.checked(Outcome::ClientError, 1);
    assert!(
        refused.error().contains("'prompt[1]'"),
        "{}",
        refused.error()
    );
    let refused = it.post_to(PATH, asked(&json!({})), Some(2)).await;
    refused.checked(Outcome::ClientError, 2);
    assert!(refused.error().contains("'prompt'"), "{}", refused.error());
    let nowhere = it.post_to(PATH, r#"{"prompt":"x"}"#, None).await;
    assert_eq!(nowhere.status, 400);
    assert!(nowhere.error().contains("'model'"), "{}", nowhere.error());
    // An engine that only chats says so.
    let chats = Fixture::start().await;
    let refused = chats
        .post_to(PATH, asked(&json!({"prompt": "x"})), Some(1))
        .await;
    refused.checked(Outcome::ClientError, 1);
    assert!(
        refused.error().contains("chats only"),
        "{}",
        refused.error()
    );
}

#[tokio::test]
async fn bytes_of_an_upstream_pass_untouched() {
    const WHOLE: &str = r#"{ "choices":[{"index":0,"text":"ab","logprobs":{"token_logprobs":[null,-0.5]},"finish_reason":"length"}, {"index":1,"text":"c","finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":0,"total_tokens":2}}"#;
    let outside = Outside::whole(200, WHOLE);
    let it = in_front_of(&outside).await;
    let body = format!(
        r#"{{ "model":"{MODEL}", "prompt":[[5,6],[7]], "echo":true, "max_tokens":0, "prompt_logprobs":1 }}"#
    );
    let answered = it.post_to(PATH, body.clone(), Some(1)).await;
    assert_eq!(answered.body, WHOLE);
    assert_eq!(outside.seen.lock().expect("whole")[0].1, body);
    let receipt = answered.checked(Outcome::Ok, 1);
    assert_eq!(
        (receipt.executed.n, receipt.executed.max_tokens),
        (2, Some(0))
    );

    let chunk = r#"{"choices":[{"index":0,"text":"ab","finish_reason":null}]}"#;
    let last = r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#;
    let outside = Outside::stream(format!("data: {chunk}\n\ndata: {last}\n\ndata: [DONE]\n\n"));
    let it = in_front_of(&outside).await;
    let body = asked(&json!({"prompt": "x", "stream": true}));
    let answered = it.post_to(PATH, body, Some(1)).await;
    let receipt = answered.checked(Outcome::Ok, 1);
    assert_eq!(receipt.finish, Some(Finish::Stop));
    assert_eq!(answered.payloads(), [chunk, last]);
}
