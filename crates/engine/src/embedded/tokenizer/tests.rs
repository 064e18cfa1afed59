use candle_core::quantized::gguf_file::Value;

use super::super::gguf;
use super::super::testing::{Tiny, demo_model, tokens};
use super::*;

fn read(metadata: &[(String, Value)]) -> Result<Tokenizer, Problem> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = Tiny::default().write_with(directory.path(), "t.gguf", metadata, &[]);
    let (_, header) = gguf::open(&path)?;
    Tokenizer::read(&header)
}

fn with(changes: &[(&str, Value)]) -> Vec<(String, Value)> {
    let mut metadata = Tiny::default().metadata();
    for (key, value) in changes {
        metadata.retain(|(old, _)| old != key);
        metadata.push(((*key).to_owned(), value.clone()));
    }
    metadata
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn problem(result: Result<Tokenizer, Problem>) -> String {
    let problem = result.expect_err("refused");
    problem.at(std::path::Path::new("t.gguf")).to_string()
}

fn spell(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids
        .iter()
        .flat_map(|&id| tokenizer.spelled(id))
        .copied()
        .collect();
    String::from_utf8(bytes).expect("text")
}

#[test]
fn every_byte_has_its_place() {
    let tokenizer = read(&with(&[])).expect("a tokenizer");
    for byte in 0..=255u8 {
        assert_eq!(tokenizer.spelled(byte.into()), [byte]);
    }
}

#[test]
fn text_is_merged_and_control_tokens_are_found() {
    let tokenizer = read(&with(&[])).expect("a tokenizer");
    let names = tokens();
    let id = |name: &str| {
        let place = names.iter().position(|token| token == name).expect("there");
        u32::try_from(place).expect("small")
    };
    assert_eq!(tokenizer.encode("hello").expect("ids"), [id("hello")]);
    // "held" starts like "hello" but is cut where the merges end.
    assert_eq!(
        tokenizer.encode("held").expect("ids"),
        [id("he"), id("l"), id("d")]
    );
    assert_eq!(
        tokenizer.encode("<|user|>hello wo<|end|>").expect("ids"),
        [id("<|user|>"), id("hello"), id("Ġwo"), id("<|end|>")]
    );
    for text in [
        "",
        " ",
        "a\n\n  b\t",
        "né € 😀 \u{301}",
        "<|user|",
        "<|user|>x<|end|>",
        "1234567",
    ] {
        let ids = tokenizer.encode(text).expect("ids");
        assert_eq!(spell(&tokenizer, &ids), text);
    }
    assert!(tokenizer.ends(id("<|end|>")) && !tokenizer.ends(id("<|user|>")));
    assert_eq!(tokenizer.piece(id("<|end|>")), b"");
    assert_eq!(tokenizer.piece(9999), b"");
    assert_eq!(tokenizer.longest_bytes(), "<|assistant|>".len());
}

#[test]
fn pre_tokenizers_cut_as_their_models_do() {
    // Whole text in one token if the pre-tokenizer lets it be merged.
    let cases = [
        ("gpt-2", "12", true),
        ("smollm", "12", false),
        ("qwen2", "12", false),
        ("llama-bpe", "12", true),
        ("llama-bpe", "1234", false),
        ("gpt-2", "1234", true),
    ];
    let mut names = tokens();
    names.extend(["12".to_owned(), "34".to_owned(), "1234".to_owned()]);
    let kinds = Value::Array(vec![Value::I32(1); names.len()]);
    let merges = ["1 2", "3 4", "12 34"].map(text).to_vec();
    let names = Value::Array(names.into_iter().map(Value::String).collect());
    for (pre, written, one) in cases {
        let tokenizer = read(&with(&[
            ("tokenizer.ggml.pre", text(pre)),
            ("tokenizer.ggml.tokens", names.clone()),
            ("tokenizer.ggml.token_type", kinds.clone()),
            ("tokenizer.ggml.merges", Value::Array(merges.clone())),
        ]))
        .expect("a tokenizer");
        let ids = tokenizer.encode(written).expect("ids");
        assert_eq!(ids.len() == 1, one, "{pre} {written}: {ids:?}");
        assert_eq!(spell(&tokenizer, &ids), written);
    }
    for pre in PRE_TOKENIZERS {
        assert!(
            read(&with(&[("tokenizer.ggml.pre", text(pre))])).is_ok(),
            "{pre}"
        );
    }
    let said = problem(read(&with(&[("tokenizer.ggml.pre", text("tekken"))])));
    assert!(
        said.contains("`tekken`") && said.contains("qwen2"),
        "{said}"
    );
}

/// A SentencePiece vocabulary: unknown, ends, 256 bytes, then pieces with scores.
fn sentence_piece_metadata() -> Vec<(String, Value)> {
    let mut names: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    let mut kinds = vec![2, 3, 3];
    names.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    kinds.extend([6; 256]);
    let pieces = [
        "▁", "h", "e", "l", "o", "w", "he", "ll", "hell", "hello", "▁hello", "▁w", "▁wo",
    ];
    names.extend(pieces.map(str::to_owned));
    kinds.extend([1; 13]);
    let scores = (0..names.len()).map(|id| {
        let rank = u16::try_from(id).expect("small");
        Value::F32(if id < 264 { 0.0 } else { -f32::from(rank) })
    });
    with(&[
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.scores", Value::Array(scores.collect())),
        (
            "tokenizer.ggml.token_type",
            Value::Array(kinds.into_iter().map(Value::I32).collect()),
        ),
        (
            "tokenizer.ggml.tokens",
            Value::Array(names.into_iter().map(Value::String).collect()),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ])
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let tokenizer = read(&sentence_piece_metadata()).expect("a tokenizer");
    let names = |ids: &[u32]| -> Vec<String> {
        ids.iter()
            .map(|&id| String::from_utf8_lossy(tokenizer.spelled(id)).into_owned())
            .collect()
    };
    // A beginning-of-text token in front, as these models are used to.
    assert_eq!(
        names(&tokenizer.encode("hello wo").expect("ids")),
        ["<s>", " hello", " wo"]
    );
    let ids = tokenizer.encode("<s>é").expect("ids");
    assert_eq!(ids[0], 1);
    let bytes: Vec<u8> = ids[1..]
        .iter()
        .flat_map(|&id| tokenizer.piece(id))
        .copied()
        .collect();
    assert_eq!(bytes, " é".as_bytes());
    assert!(tokenizer.ends(2));
}

#[test]
fn unusable_vocabularies_are_named() {
    let said = problem(read(&with(&[("tokenizer.ggml.model", text("bert"))])));
    assert!(said.contains("`bert`") && said.contains("`gpt2`"), "{said}");
    for (key, value, word) in [
        (
            "tokenizer.ggml.tokens",
            Value::Array(Vec::new()),
            "0 tokens",
        ),
        (
            "tokenizer.ggml.tokens",
            Value::U32(3),
            "tokenizer.ggml.tokens",
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(vec![Value::I32(1)]),
            "token types",
        ),
        (
            "tokenizer.ggml.merges",
            Value::Array(vec![text("nospace")]),
            "no space",
        ),
        (
            "tokenizer.ggml.merges",
            Value::Array(vec![text("never there")]),
            "merges",
        ),
        (
            "tokenizer.ggml.eos_token_id",
            Value::U32(100_000),
            "eos_token_id",
        ),
        ("tokenizer.ggml.eos_token_id", text("x"), "eos_token_id"),
    ] {
        let said = problem(read(&with(&[(key, value)])));
        assert!(said.contains(word), "{key}: {said}");
    }
    let mut none = with(&[]);
    none.retain(|(key, _)| key != "tokenizer.ggml.merges");
    assert!(problem(read(&none)).contains("tokenizer.ggml.merges"));
}

#[test]
fn the_demonstration_models_tokenizer_is_whole() {
    let Some(path) = demo_model() else {
        return;
    };
    let (_, header) = gguf::open(&path).expect("a header");
    let tokenizer = Tokenizer::read(&header).expect("a tokenizer");
    for text in [
        "<|user|>What is 12 + 7?<|end|><|assistant|>",
        "{\"a\": [1, 2]}\n",
        "né 😀",
    ] {
        let ids = tokenizer.encode(text).expect("ids");
        assert_eq!(spell(&tokenizer, &ids), text);
    }
}
