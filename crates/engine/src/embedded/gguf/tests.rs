use std::path::PathBuf;

use super::super::error::{ModelError, ModelErrorKind};
use super::super::model::Model;
use super::super::testing::Tiny;

/// A header built by hand.
#[derive(Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn start(version: u32, tensors: u64, pairs: u64) -> Self {
        let mut raw = Self::default();
        raw.0.extend_from_slice(b"GGUF");
        raw.u32(version).u64(tensors).u64(pairs);
        raw
    }

    fn u32(&mut self, n: u32) -> &mut Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }

    fn u64(&mut self, n: u64) -> &mut Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

fn open_bytes(bytes: &[u8]) -> Result<Model, ModelError> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, bytes).expect("written");
    Model::open(&path, 1000)
}

fn tiny_bytes() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let tiny = Tiny {
        layers: 1,
        width: 32,
        hidden: 32,
        ..Tiny::default()
    };
    std::fs::read(tiny.write(directory.path(), "tiny.gguf")).expect("bytes")
}

#[test]
fn foreign_and_absurd_files_are_refused_by_name_and_cause() {
    use ModelErrorKind::{Damaged, NotGguf, TooLarge, Unsupported};
    let cases: Vec<(&str, Vec<u8>, ModelErrorKind, &str)> = vec![
        ("empty", Vec::new(), NotGguf, "not a GGUF file"),
        (
            "text",
            b"#!/bin/sh\necho".to_vec(),
            NotGguf,
            "not a GGUF file",
        ),
        (
            "ten bytes",
            b"GGUF\x03\0\0\0\xff\xff".to_vec(),
            Damaged,
            "ends in the middle",
        ),
        (
            "2^60 tensors",
            Raw::start(3, 1 << 60, 0).0,
            TooLarge,
            "1152921504606846976 tensors",
        ),
        (
            "2^60 pairs",
            Raw::start(3, 0, 1 << 60).0,
            TooLarge,
            "metadata pairs",
        ),
        (
            "no pairs",
            Raw::start(3, 1, 1).0,
            Damaged,
            "ends in the middle",
        ),
        ("version 1", Raw::start(1, 0, 0).0, Unsupported, "version 1"),
        (
            "big-endian",
            Raw::start(0x0300_0000, 0, 0).0,
            Unsupported,
            "big-endian",
        ),
        (
            "nothing in it",
            Raw::start(3, 0, 0).0,
            Damaged,
            "general.architecture",
        ),
        (
            "long string",
            std::mem::take(&mut Raw::start(3, 0, 1).u64(1 << 40).0),
            TooLarge,
            "1099511627776 bytes",
        ),
        (
            "string past the end",
            std::mem::take(&mut Raw::start(3, 0, 1).u64(1 << 20).0),
            Damaged,
            "ends in the middle",
        ),
        (
            "unknown kind",
            std::mem::take(&mut Raw::start(3, 0, 1).text("k").u32(77).0),
            Damaged,
            "unknown kind 77",
        ),
        (
            "long array",
            std::mem::take(&mut Raw::start(3, 0, 1).text("k").u32(9).u32(10).u64(1 << 50).0),
            TooLarge,
            "array of 1125899906842624",
        ),
        (
            "array past the end",
            std::mem::take(&mut Raw::start(3, 0, 1).text("k").u32(9).u32(10).u64(1 << 20).0),
            Damaged,
            "ends in the middle",
        ),
        (
            "nested arrays",
            std::mem::take(
                &mut Raw::start(3, 0, 1)
                    .text("k")
                    .u32(9)
                    .u32(9)
                    .u64(1)
                    .u32(9)
                    .u64(1)
                    .u32(9)
                    .u64(1)
                    .u32(9)
                    .u64(1)
                    .0,
            ),
            TooLarge,
            "depth 3",
        ),
        (
            "a key twice",
            std::mem::take(
                &mut Raw::start(3, 0, 2)
                    .text("k")
                    .u32(4)
                    .u32(1)
                    .text("k")
                    .u32(4)
                    .u32(1)
                    .0,
            ),
            Damaged,
            "repeats the key `k`",
        ),
        (
            "five dimensions",
            std::mem::take(&mut Raw::start(3, 1, 0).text("t").u32(5).0),
            Damaged,
            "5 dimensions",
        ),
        (
            "a size of zero",
            std::mem::take(&mut Raw::start(3, 1, 0).text("t").u32(1).u64(0).u32(0).u64(0).0),
            Damaged,
            "impossible shape",
        ),
        (
            "sizes that overflow",
            std::mem::take(
                &mut Raw::start(3, 1, 0)
                    .text("t")
                    .u32(2)
                    .u64(1 << 40)
                    .u64(1 << 40)
                    .u32(0)
                    .u64(0)
                    .0,
            ),
            Damaged,
            "impossible shape",
        ),
        (
            "half a block",
            std::mem::take(&mut Raw::start(3, 1, 0).text("t").u32(1).u64(33).u32(8).u64(0).0),
            Damaged,
            "impossible shape",
        ),
        (
            "unknown format",
            std::mem::take(
                &mut Raw::start(3, 1, 0)
                    .text("t")
                    .u32(1)
                    .u64(256)
                    .u32(23)
                    .u64(0)
                    .0,
            ),
            Unsupported,
            "format 23",
        ),
        (
            "outside the file",
            std::mem::take(
                &mut Raw::start(3, 1, 0)
                    .text("t")
                    .u32(1)
                    .u64(1 << 30)
                    .u32(0)
                    .u64(0)
                    .0,
            ),
            Damaged,
            "outside the file",
        ),
        (
            "offset that overflows",
            std::mem::take(
                &mut Raw::start(3, 1, 0)
                    .text("t")
                    .u32(1)
                    .u64(1)
                    .u32(0)
                    .u64(u64::MAX)
                    .0,
            ),
            Damaged,
            "outside the file",
        ),
        (
            "odd alignment",
            std::mem::take(
                &mut Raw::start(3, 0, 1)
                    .text("general.alignment")
                    .u32(4)
                    .u32(3)
                    .0,
            ),
            Damaged,
            "general.alignment",
        ),
        (
            "another architecture",
            std::mem::take(
                &mut Raw::start(3, 0, 1)
                    .text("general.architecture")
                    .u32(8)
                    .text("mamba")
                    .0,
            ),
            Unsupported,
            "`mamba`",
        ),
    ];
    for (name, bytes, kind, words) in cases {
        let error = open_bytes(&bytes).expect_err(name);
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(
            error.to_string().contains("model.gguf: "),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_and_a_directory() {
    let error = Model::open(&PathBuf::from("/nowhere/at/all.gguf"), 10).expect_err("not there");
    assert_eq!(error.kind, ModelErrorKind::Io);
    let directory = tempfile::tempdir().expect("a directory");
    let error = Model::open(directory.path(), 10).expect_err("a directory");
    assert_eq!(error.kind, ModelErrorKind::Io);
}

#[test]
fn contradictions_between_header_and_tensors_are_named() {
    use candle_core::quantized::gguf_file::Value;
    let tiny = Tiny {
        layers: 1,
        width: 32,
        hidden: 32,
        ..Tiny::default()
    };
    let directory = tempfile::tempdir().expect("a directory");
    let try_with = |key: &str, value: Option<Value>| {
        let mut metadata = tiny.metadata();
        metadata.retain(|(old, _)| old != key);
        metadata.extend(value.map(|value| (key.to_owned(), value)));
        let path = tiny.write_with(directory.path(), "m.gguf", &metadata, &tiny.tensors());
        Model::open(&path, 1000).map(|_| ())
    };
    for (key, value) in [
        ("llama.block_count", Some(Value::U32(2))),
        ("llama.block_count", Some(Value::U32(0))),
        ("llama.block_count", Some(Value::U64(u64::MAX))),
        ("llama.block_count", None),
        ("llama.embedding_length", Some(Value::U32(64))),
        ("llama.embedding_length", Some(Value::I32(-1))),
        ("llama.attention.head_count", Some(Value::U32(0))),
        ("llama.attention.head_count", Some(Value::U32(33))),
        ("llama.attention.head_count_kv", Some(Value::U32(3))),
        ("llama.rope.dimension_count", Some(Value::U32(7))),
        ("llama.rope.dimension_count", Some(Value::U32(64))),
        ("llama.rope.freq_base", Some(Value::F32(f32::NAN))),
        ("llama.context_length", Some(Value::U32(0))),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Some(Value::F32(-1.0)),
        ),
        ("llama.attention.layer_norm_rms_epsilon", None),
        ("llama.expert_count", Some(Value::U32(8))),
        ("general.architecture", Some(Value::U32(1))),
        (
            "tokenizer.chat_template",
            Some(Value::String("{% if %}".into())),
        ),
    ] {
        let error = try_with(key, value.clone()).expect_err(key);
        assert!(!error.problem.is_empty(), "{key} {value:?}: {error}");
    }
    assert!(try_with("general.name", None).is_ok());
    // A tensor too few, one of another shape, one too many.
    let open = |tensors: &[(String, candle_core::quantized::QTensor)]| {
        let path = tiny.write_with(directory.path(), "m.gguf", &tiny.metadata(), tensors);
        Model::open(&path, 1000).expect_err("refused").to_string()
    };
    let mut tensors = tiny.tensors();
    tensors.remove(3);
    assert!(open(&tensors).contains("`blk.0.attn_v.weight` is missing"));
    let mut tensors = tiny.tensors();
    tensors[3].0 = "blk.0.attn_q.bias".into();
    assert!(open(&tensors).contains("`blk.0.attn_q.bias`"));
    let mut tensors = tiny.tensors();
    let (a, b) = (tensors[1].0.clone(), tensors[2].0.clone());
    tensors[1].0 = b;
    tensors[2].0 = a;
    assert!(open(&tensors).contains("has the shape"));
}

#[test]
fn every_cut_is_refused() {
    let whole = tiny_bytes();
    assert!(open_bytes(&whole).is_ok());
    // candle pads the last tensor: only what cuts into data is damage.
    let padding = 32;
    for length in (0..whole.len() - padding).step_by(97).chain(0..200) {
        assert!(open_bytes(&whole[..length]).is_err(), "cut at {length}");
    }
}

/// Seeded mutations of a small model: some still open, none panics, and what opens can be run.
#[test]
fn mutated_files_never_panic() {
    use crate::sampling::philox4x32_10;
    let whole = tiny_bytes();
    let header_bytes = u32::try_from(whole.len().min(9000)).expect("small");
    let (mut opened, mut refused) = (0, 0);
    for turn in 0..1500u32 {
        let mut bytes = whole.clone();
        let [count, ..] = philox4x32_10([turn, 0, 0, 0], [11, 0]);
        for change in 0..=count % 3 {
            let [place, kind, value, _] = philox4x32_10([turn, change + 1, 0, 0], [11, 0]);
            let at = (place % header_bytes) as usize;
            match kind % 6 {
                0 => bytes[at] ^= 1 << (value % 8),
                1 => bytes[at] = 0xff,
                2 => bytes[at] = 0,
                3 => bytes[at] = u8::try_from(value & 0x7f).expect("7 bits"),
                4 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, u8::try_from(value & 0xff).expect("8 bits")),
            }
        }
        match open_bytes(&bytes) {
            Ok(model) => {
                opened += 1;
                let vocab = u32::try_from(model.facts().vocab).expect("small");
                // NaN is a possible answer of broken weights; a panic is not.
                let _ = model.score(&[0], &[vocab - 1, 1 % vocab], None);
                let _ = model.encode("<|user|>hello é<|end|>");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.problem.is_empty());
            }
        }
    }
    assert!(
        opened > 50 && refused > 50,
        "{opened} opened, {refused} refused"
    );
}
