//! The embedded engine on the demonstration model, through HTTP.

use std::path::Path;
use std::sync::Arc;

use engine::embedded::{Embedded, Options};
use node::Served;
use record::{Digest, Outcome, Predicate};
use serde_json::{Value, json};

use crate::common::{Fixture, recorder};

#[tokio::test]
async fn a_real_model_answers_and_its_receipt_binds_what_ran() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/longrun-demo-f16.gguf");
    let engine = Embedded::open(&file, &Options::default()).expect("the model opens");
    let model = engine::Engine::describe(&engine).model.clone();
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let recorder = recorder(&directory.path().join("node"));
    let it = Fixture::serving(recorder, vec![Served::engine(Arc::new(engine))], directory).await;

    let body = |stream: bool| {
        json!({
            "model": model, "stream": stream, "temperature": 1.0, "seed": 7, "max_tokens": 24,
            "messages": [{"role": "user", "content": "What is 2 + 3?"}],
        })
        .to_string()
    };
    let whole = it.post(body(false), Some(1)).await;
    assert_eq!(
        whole.status,
        200,
        "{}",
        String::from_utf8_lossy(&whole.body)
    );
    let text = whole.json()["choices"][0]["message"]["content"].clone();
    let streamed = it.post(body(true), Some(2)).await;
    assert!(streamed.is_done());
    assert_eq!(Value::from(streamed.text()), text, "same seed, same tokens");
    let first = whole.checked(Outcome::Ok, 1);
    let second = streamed.checked(Outcome::Ok, 2);
    assert_eq!(first.executed.seed.map(|seed| seed.0), Some(7));
    assert_eq!(first.commitments.tokens, second.commitments.tokens);

    let pinned = it.node.recorder().pinned().await.expect("read");
    let manifest = pinned
        .iter()
        .find(|entry| entry.id() == first.manifest)
        .expect("published");
    let Predicate::Manifest(manifest) = &manifest.record.statement.predicate else {
        panic!("a manifest")
    };
    let weights: Digest = record::sha256(&std::fs::read(&file).expect("readable"));
    assert_eq!(manifest.weights.sha256, Some(weights));
    assert_eq!(manifest.weights.basis.as_str(), "computed");
}
