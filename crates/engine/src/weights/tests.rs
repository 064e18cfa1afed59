use std::fs;
use std::time::{Duration, SystemTime};

use super::*;
use crate::embedded::testing::Tiny;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("32 bytes")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn look(place: &Path) -> Result<WeightsFacts, ModelError> {
    weights_facts(place, &mut DigestCache::none(), &mut |_| {})
}

#[test]
fn a_gguf_file_has_the_digests_that_the_embedded_engine_states() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = Tiny::default().write(directory.path(), "tiny.gguf");
    let facts = look(directory.path()).expect("facts");
    let embedded = crate::embedded::model_info(&path).expect("facts");
    assert_eq!(facts.weights_sha256, embedded.weights_sha256);
    assert_eq!(facts.tokenizer_sha256, Some(embedded.tokenizer_sha256));
    assert_eq!(facts.chat_template_sha256, embedded.chat_template_sha256);
    assert_eq!(facts, look(&path).expect("the file itself"));
    fs::write(directory.path().join("other.gguf"), "x").expect("written");
    let said = look(directory.path()).expect_err("which?").to_string();
    assert!(said.contains("more than one model"), "{said}");
}

#[test]
fn shards_are_digested_as_sha256sum_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let put = |name: &str, text: &str| {
        fs::write(directory.path().join(name), text).expect("written");
    };
    assert!(
        look(directory.path())
            .expect_err("empty")
            .to_string()
            .contains("holds no .gguf")
    );
    let (one, two) = (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    );
    put(one, "first");
    put("stray.safetensors", "not in the index");
    let refused = |part: &str| {
        let said = look(directory.path()).expect_err(part).to_string();
        assert!(said.contains(part), "{said}");
    };
    refused("config.json");
    put(
        "config.json",
        r#"{"model_type":"qwen3","torch_dtype":"bfloat16","dtype":"bfloat16","max_position_embeddings":40960}"#,
    );
    refused("model.safetensors.index.json");
    put(
        "model.safetensors.index.json",
        &format!(r#"{{"weight_map":{{"a":"{two}","b":"{one}","c":"{two}"}}}}"#),
    );
    refused(two);
    put(two, "second");
    put("tokenizer.json", "{}");
    put(
        "tokenizer_config.json",
        r#"{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}"#,
    );
    let facts = look(directory.path()).expect("facts");
    let lines = format!(
        "{}  {one}\n{}  {two}\n",
        hex(&sha256(b"first")),
        hex(&sha256(b"second"))
    );
    assert_eq!(facts.weights_sha256, sha256(lines.as_bytes()));
    assert_eq!((facts.files.len(), facts.weights_bytes), (2, 11));
    assert_eq!(facts.architecture, "qwen3");
    assert_eq!(facts.precision.as_deref(), Some("bfloat16"));
    assert_eq!(facts.context_length, Some(40_960));
    assert_eq!(facts.tokenizer_sha256, Some(sha256(b"{}")));
    assert_eq!(facts.chat_template_sha256, Some(sha256(b"d")));
    put("chat_template.jinja", "newer");
    let facts = look(directory.path()).expect("facts");
    assert_eq!(facts.chat_template_sha256, Some(sha256(b"newer")));
    put(
        "model.safetensors.index.json",
        r#"{"weight_map":{"a":"../x.safetensors"}}"#,
    );
    refused("no file beside it");
}

#[test]
fn a_digest_is_remembered_until_the_file_differs_in_anything() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("large");
    let kept = directory.path().join("cache/digests.json");
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    let write = |byte: u8, at: SystemTime| {
        let file = fs::File::create(&path).expect("a file");
        std::io::Write::write_all(&mut &file, &vec![byte; 2 << 20]).expect("written");
        file.set_modified(at).expect("a time");
    };
    // Opened anew each time, as by another start; says whether the file was read.
    let digest = || {
        let mut read = false;
        let sha256 = DigestCache::open(&kept).digest(&path, &mut |_| read = true);
        (sha256.expect("a digest"), read)
    };
    write(1, SystemTime::now() + Duration::from_secs(1000));
    let first = sha256(&vec![1; 2 << 20]);
    // What was written just now, or after now by this clock, may be written again unseen.
    assert_eq!(digest(), (first, true));
    assert_eq!(digest(), (first, true));
    write(1, long_ago);
    assert_eq!(digest(), (first, true));
    assert_eq!(digest(), (first, false));
    write(2, long_ago + Duration::from_nanos(10));
    assert_eq!(digest(), (sha256(&vec![2; 2 << 20]), true));
    fs::write(&kept, "broken").expect("written");
    assert!(digest().1);
    let mut steps = Vec::new();
    let mut tell = |step: crate::progress::Progress<'_>| steps.push(step.done_bytes);
    DigestCache::none()
        .digest(&path, &mut tell)
        .expect("a digest");
    assert_eq!(steps, [0, 1 << 20, 2 << 20]);
}
