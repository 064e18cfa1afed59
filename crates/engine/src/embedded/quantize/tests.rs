use super::super::model::{Model, model_info};
use super::super::testing::Tiny;
use super::*;

#[test]
fn twins_are_smaller_valid_and_say_what_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = Tiny::default().write(directory.path(), "tiny-f16.gguf");
    let original = model_info(&source).expect("facts");
    assert_eq!(original.precision, "f16");
    let model = Model::open(&source, 1000).expect("opens");
    let ids = [1u32, 50, 99, 200];
    let exact = model
        .forward(&ids, &mut model.new_cache(), 1)
        .expect("logits");
    for (to, share) in [
        (Dtype::Q8_0, 0.05),
        (Dtype::Q6_K, 0.1),
        (Dtype::Q5_K, 0.1),
        (Dtype::Q4_K, 0.4),
        (Dtype::Q4_0, 0.4),
        (Dtype::Q4_1, 0.4),
        (Dtype::Q5_0, 0.15),
        (Dtype::Q5_1, 0.15),
        (Dtype::Q3_K, 0.4),
        (Dtype::Q2_K, 0.8),
        (Dtype::F32, 1e-6),
    ] {
        let path = directory.path().join(format!("tiny-{}.gguf", to.name()));
        quantize(&source, &path, to, Overwrite::Refuse).expect("a twin");
        let facts = model_info(&path).expect("facts");
        assert_eq!(facts.precision, to.name());
        assert_eq!(facts.tokenizer_sha256, original.tokenizer_sha256);
        assert_eq!(facts.chat_template_sha256, original.chat_template_sha256);
        assert_eq!(facts.parameters, original.parameters);
        assert_ne!(facts.weights_sha256, original.weights_sha256);
        assert_eq!(facts.file_bytes < original.file_bytes, to != Dtype::F32);
        let twin = Model::open(&path, 1000).expect("opens");
        let logits = twin
            .forward(&ids, &mut twin.new_cache(), 1)
            .expect("logits");
        let apart = exact
            .iter()
            .zip(&logits)
            .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        let high = exact.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let low = exact.iter().fold(f32::INFINITY, |a, &b| a.min(b));
        assert!(
            apart <= share * (high - low),
            "{}: {apart} of {}",
            to.name(),
            high - low
        );
        let (_, header) = gguf::open(&path).expect("a header");
        assert_eq!(
            header.integer("general.file_type").expect("a number"),
            Some(to.file_type().into())
        );
        assert_eq!(
            header.tensor("output_norm.weight").expect("there").dtype,
            Dtype::F32
        );
    }
    // The same again: the same bytes. And candle reads the file too.
    let first = directory.path().join("tiny-q4_0.gguf");
    let second = directory.path().join("again.gguf");
    quantize(&source, &second, Dtype::Q4_0, Overwrite::Refuse).expect("a twin");
    assert!(std::fs::read(&first).expect("bytes") == std::fs::read(&second).expect("bytes"));
    let mut file = File::open(&first).expect("the file");
    let content = candle_core::quantized::gguf_file::Content::read(&mut file).expect("read");
    content
        .tensor(&mut file, "blk.1.ffn_down.weight", &Device::Cpu)
        .expect("a tensor");
}

#[test]
fn what_cannot_be_quantised_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = Tiny::default().write(directory.path(), "tiny.gguf");
    let small = Tiny {
        width: 64,
        hidden: 96,
        ..Tiny::default()
    }
    .write(directory.path(), "s.gguf");
    let out = directory.path().join("out.gguf");
    let error = quantize(&small, &out, Dtype::Q4_K, Overwrite::Refuse).expect_err("rows of 64");
    assert!(error.to_string().contains("q8_0"), "{error}");
    quantize(&small, &out, Dtype::Q4_0, Overwrite::Refuse).expect("blocks of 32 fit");
    let error = quantize(&source, &out, Dtype::Q8_0, Overwrite::Refuse).expect_err("there");
    assert_eq!(error.kind, ModelErrorKind::Unusable);
    quantize(&source, &out, Dtype::Q8_0, Overwrite::Allow).expect("replaced");
    let error = quantize(
        &out,
        &directory.path().join("x.gguf"),
        Dtype::Q4_0,
        Overwrite::Refuse,
    )
    .expect_err("twice");
    assert!(error.to_string().contains("quantising twice"), "{error}");
    let error = quantize(
        &source,
        &directory.path().join("nowhere/x.gguf"),
        Dtype::Q8_0,
        Overwrite::Refuse,
    )
    .expect_err("no such directory");
    assert_eq!(error.kind, ModelErrorKind::Io);
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("listed")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
}
