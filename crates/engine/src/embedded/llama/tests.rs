use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};

use super::super::model::Model;
use super::super::testing::Tiny;
use super::{Architecture, Arithmetic, WIDEN_MAX_PARAMETERS};

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|place| (place * 37 + 11) % 260).collect()
}

/// Last-position logits of candle's own quantised model of that architecture.
fn stock(architecture: Architecture, path: &std::path::Path, ids: &[u32]) -> Vec<f32> {
    let mut file = std::fs::File::open(path).expect("the file");
    let from = gguf_file::Content::read(&mut file).expect("a header");
    let device = Device::Cpu;
    let input = Tensor::new(ids, &device)
        .and_then(|ids| ids.unsqueeze(0))
        .expect("a tensor");
    let logits = match architecture {
        Architecture::Llama => quantized_llama::ModelWeights::from_gguf(from, &mut file, &device)
            .and_then(|mut model| model.forward(&input, 0)),
        Architecture::Qwen2 => quantized_qwen2::ModelWeights::from_gguf(from, &mut file, &device)
            .and_then(|mut model| model.forward(&input, 0)),
        Architecture::Qwen3 => quantized_qwen3::ModelWeights::from_gguf(from, &mut file, &device)
            .and_then(|mut model| model.forward(&input, 0)),
    };
    logits
        .and_then(|logits| logits.flatten_all())
        .and_then(|logits| logits.to_vec1::<f32>())
        .expect("numbers")
}

fn spread(logits: &[f32]) -> f32 {
    let highest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let lowest = logits.iter().fold(f32::INFINITY, |a, &b| a.min(b));
    highest - lowest
}

/// Holds our last-position logits against candle's, for prefixes of several lengths; `share` of
/// the logits' spread may lie between them.
fn check_agreement(directory: &std::path::Path, tiny: &Tiny, share: f32) {
    let path = directory.join("model.gguf");
    let mut metadata = tiny.metadata();
    // candle's Qwen 3 rounds angles to 16 bits unless the file says that it computes in 32.
    metadata.push(("general.dtype".into(), gguf_file::Value::U32(0)));
    tiny.write_with(directory, "model.gguf", &metadata, &tiny.tensors());
    let model = Model::open_in_blocks(&path).expect("opens");
    for count in [1, 3, 70] {
        let ids = ids(count);
        let ours = model
            .forward(&ids, &mut model.new_cache(), 1)
            .expect("logits");
        let theirs = stock(tiny.architecture, &path, &ids);
        assert_eq!(ours.len(), theirs.len());
        let apart = most_apart(&ours, &theirs);
        let allowed = share * spread(&theirs);
        assert!(
            apart <= allowed,
            "{tiny:?} {count}: {apart} apart, {allowed} allowed"
        );
    }
}

fn most_apart(a: &[f32], b: &[f32]) -> f32 {
    (a.iter().zip(b)).fold(0f32, |most, (a, b)| most.max((a - b).abs()))
}

/// For 16 and 32 bits agreement is that of 32-bit arithmetic, and so it is for the quantised
/// formats whose activations candle's own model quantises as we do; with Q8_0 and some prefills
/// it takes other blocks, and agreement is only as good as 8-bit activations are.
#[test]
fn last_position_agrees_with_candles_own_model() {
    let directory = tempfile::tempdir().expect("a directory");
    for (dtype, tied, share) in [
        (GgmlDType::F32, true, 5e-6),
        (GgmlDType::F32, false, 5e-6),
        (GgmlDType::F16, true, 5e-6),
        (GgmlDType::BF16, false, 5e-6),
        (GgmlDType::Q8_0, true, 5e-2),
        (GgmlDType::Q4_0, false, 2e-2),
        (GgmlDType::Q4_1, true, 2e-2),
        (GgmlDType::Q5_0, true, 2e-2),
        (GgmlDType::Q5_1, true, 2e-2),
        (GgmlDType::Q2K, true, 5e-6),
        (GgmlDType::Q3K, true, 2e-2),
        (GgmlDType::Q4K, true, 2e-2),
        (GgmlDType::Q5K, false, 2e-2),
        (GgmlDType::Q6K, true, 5e-6),
    ] {
        let tiny = Tiny {
            dtype,
            tied,
            ..Tiny::default()
        };
        check_agreement(directory.path(), &tiny, share);
    }
}

/// The same for Qwen 2 and 3, whose differences lie outside the matrices.
#[test]
fn qwen_agrees_with_candles_own_model() {
    let directory = tempfile::tempdir().expect("a directory");
    for architecture in [Architecture::Qwen2, Architecture::Qwen3] {
        for (dtype, tied, kv_heads, share) in [
            (GgmlDType::F32, true, 2, 5e-6),
            (GgmlDType::F32, false, 1, 5e-6),
            (GgmlDType::BF16, true, 4, 5e-6),
            (GgmlDType::Q8_0, true, 2, 5e-2),
            (GgmlDType::Q4K, false, 2, 2e-2),
            (GgmlDType::Q6K, true, 2, 2e-2),
        ] {
            let tiny = Tiny {
                architecture,
                dtype,
                tied,
                kv_heads,
                ..Tiny::default()
            };
            check_agreement(directory.path(), &tiny, share);
        }
    }
}

/// A file that lacks a part of its architecture, has it in another shape, or has a part of
/// another architecture is refused by the name of the tensor.
#[test]
fn parts_that_are_missing_misshapen_or_foreign_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let vector = |size: usize| {
        let ones = Tensor::ones(size, candle_core::DType::F32, &Device::Cpu).expect("a tensor");
        QTensor::quantize(&ones, GgmlDType::F32).expect("f32")
    };
    for (architecture, own, foreign) in [
        (Architecture::Llama, "attn_q.weight", "attn_q.bias"),
        (Architecture::Qwen2, "attn_v.bias", "attn_k_norm.weight"),
        (Architecture::Qwen3, "attn_k_norm.weight", "attn_k.bias"),
    ] {
        let tiny = Tiny {
            architecture,
            ..Tiny::default()
        };
        let refusal = |tensors: &[(String, QTensor)]| {
            let path = tiny.write_with(directory.path(), "m.gguf", &tiny.metadata(), tensors);
            let error = Model::open(&path, 100).expect_err("refused");
            error.to_string()
        };
        let own = format!("blk.1.{own}");
        let mut missing = tiny.tensors();
        missing.retain(|(name, _)| *name != own);
        let said = refusal(&missing);
        assert!(
            said.contains(&format!("tensor `{own}` is missing")),
            "{said}"
        );
        missing.push((own.clone(), vector(7)));
        let said = refusal(&missing);
        assert!(
            said.contains(&format!("tensor `{own}` has the shape [7]")),
            "{said}"
        );
        let mut more = tiny.tensors();
        more.push((format!("blk.0.{foreign}"), vector(64)));
        let said = refusal(&more);
        assert!(
            said.contains(&format!(
                "`blk.0.{foreign}` has no place in a `{}`",
                architecture.name()
            )),
            "{said}"
        );
    }
    let tiny = Tiny::default();
    let mut metadata = tiny.metadata();
    metadata[0].1 = gguf_file::Value::String("qwen3moe".into());
    let path = tiny.write_with(directory.path(), "moe.gguf", &metadata, &tiny.tensors());
    let said = Model::open(&path, 100).expect_err("refused").to_string();
    assert!(
        said.contains("`qwen3moe`") && said.contains("`qwen2`"),
        "{said}"
    );
}

/// Widened blocks are the very numbers the blocks stand for; candle's kernels come near them.
#[test]
fn blocks_are_computed_with_as_the_numbers_they_stand_for() {
    let directory = tempfile::tempdir().expect("a directory");
    for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4K] {
        let tiny = Tiny {
            dtype,
            ..Tiny::default()
        };
        let quantised = tiny.write(directory.path(), "quantised.gguf");
        let wide_tensors: Vec<_> = tiny
            .tensors()
            .into_iter()
            .map(|(name, tensor)| {
                let wide = tensor.dequantize(&Device::Cpu).expect("numbers");
                (name, QTensor::quantize(&wide, GgmlDType::F32).expect("f32"))
            })
            .collect();
        let wide = tiny.write_with(
            directory.path(),
            "wide.gguf",
            &tiny.metadata(),
            &wide_tensors,
        );
        let run = |model: Model| {
            let ids = ids(30);
            model
                .forward(&ids, &mut model.new_cache(), 1)
                .expect("logits")
        };
        let exact = run(Model::open(&wide, 1000).expect("opens"));
        assert_eq!(
            run(Model::open(&quantised, 1000).expect("opens")),
            exact,
            "{dtype:?}"
        );
        let in_blocks = run(Model::open_in_blocks(&quantised).expect("opens"));
        let apart = most_apart(&in_blocks, &exact);
        assert!(
            apart > 0.0 && apart < 3e-2 * spread(&exact),
            "{dtype:?}: {apart}"
        );
    }
    assert_eq!(Arithmetic::of(WIDEN_MAX_PARAMETERS), Arithmetic::Widened);
    assert_eq!(Arithmetic::of(WIDEN_MAX_PARAMETERS + 1), Arithmetic::Blocks);
}

/// However a text is cut into calls, every position has the same logits to the last bit.
#[test]
fn all_positions_at_once_are_those_of_one_by_one() {
    let directory = tempfile::tempdir().expect("a directory");
    for (architecture, dtype) in [
        (Architecture::Llama, GgmlDType::F32),
        (Architecture::Llama, GgmlDType::F16),
        (Architecture::Llama, GgmlDType::Q8_0),
        (Architecture::Llama, GgmlDType::Q4_0),
        (Architecture::Llama, GgmlDType::Q4K),
        (Architecture::Qwen2, GgmlDType::Q4K),
        (Architecture::Qwen3, GgmlDType::Q8_0),
    ] {
        let tiny = Tiny {
            architecture,
            dtype,
            tied: false,
            ..Tiny::default()
        };
        let path = tiny.write(directory.path(), "model.gguf");
        let widened = Model::open(&path, 1000).expect("opens");
        let in_blocks = Model::open_in_blocks(&path).expect("opens");
        for model in [widened, in_blocks] {
            check_all_positions(&model);
        }
    }
}

fn check_all_positions(model: &Model) {
    {
        let ids = ids(75);
        let whole = model
            .forward(&ids, &mut model.new_cache(), ids.len())
            .expect("logits");
        let mut cache = model.new_cache();
        let mut single = Vec::new();
        for id in &ids {
            single.extend(model.forward(&[*id], &mut cache, 1).expect("logits"));
        }
        assert_eq!(cache.positions(), ids.len());
        assert!(whole == single, "token by token differs");
        cache.clear();
        let mut torn = Vec::new();
        for piece in [&ids[..7], &ids[7..8], &ids[8..74], &ids[74..]] {
            torn.extend(
                model
                    .forward(piece, &mut cache, piece.len())
                    .expect("logits"),
            );
        }
        assert!(whole == torn, "pieces differ");
        let last_two = model
            .forward(&ids, &mut model.new_cache(), 2)
            .expect("logits");
        assert_eq!(last_two, whole[whole.len() - last_two.len()..]);
    }
}

#[test]
fn one_head_for_all_and_a_head_each() {
    let directory = tempfile::tempdir().expect("a directory");
    for kv_heads in [1, 4] {
        let tiny = Tiny {
            dtype: GgmlDType::F32,
            kv_heads,
            ..Tiny::default()
        };
        let path = tiny.write(directory.path(), "model.gguf");
        let model = Model::open(&path, 1000).expect("opens");
        let ids = ids(20);
        let ours = model
            .forward(&ids, &mut model.new_cache(), 1)
            .expect("logits");
        let theirs = stock(tiny.architecture, &path, &ids);
        let allowed = 2e-6 * spread(&theirs);
        let same = ours
            .iter()
            .zip(&theirs)
            .all(|(a, b)| (a - b).abs() <= allowed);
        assert!(same, "{kv_heads} key-value heads");
    }
}

/// Linear scaling by 2 puts position 2p where position p was; factors of 2 do the same.
#[test]
fn rotary_scaling_moves_positions() {
    use candle_core::quantized::gguf_file::Value;
    let directory = tempfile::tempdir().expect("a directory");
    let tiny = Tiny {
        dtype: GgmlDType::F32,
        ..Tiny::default()
    };
    let plain = tiny.write(directory.path(), "plain.gguf");
    let mut metadata = tiny.metadata();
    metadata.push((
        "llama.rope.scaling.type".into(),
        Value::String("linear".into()),
    ));
    metadata.push(("llama.rope.scaling.factor".into(), Value::F32(2.0)));
    let linear = tiny.write_with(directory.path(), "linear.gguf", &metadata, &tiny.tensors());
    let mut tensors = tiny.tensors();
    let factors = Tensor::full(2f32, 32, &Device::Cpu).expect("a tensor");
    let factors = QTensor::quantize(&factors, GgmlDType::F32).expect("f32");
    tensors.push(("rope_freqs.weight".into(), factors));
    let factored = tiny.write_with(directory.path(), "factors.gguf", &tiny.metadata(), &tensors);
    let run = |path: &std::path::Path| {
        let model = Model::open(path, 1000).expect("opens");
        let ids = ids(12);
        model
            .forward(&ids, &mut model.new_cache(), 1)
            .expect("logits")
    };
    let (plain, linear, factored) = (run(&plain), run(&linear), run(&factored));
    assert_eq!(linear, factored);
    let most = most_apart(&plain, &linear);
    assert!(most > 1e-3, "scaling changes the logits: {most}");
    let mut metadata = tiny.metadata();
    metadata.push((
        "llama.rope.scaling.type".into(),
        Value::String("yarn".into()),
    ));
    let yarn = tiny.write_with(directory.path(), "yarn.gguf", &metadata, &tiny.tensors());
    let error = Model::open(&yarn, 1000).expect_err("not supported");
    assert!(error.to_string().contains("`yarn`"), "{error}");
}
