use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

use super::super::model::Model;
use super::super::testing::Tiny;
use super::{Arithmetic, WIDEN_MAX_PARAMETERS};

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|place| (place * 37 + 11) % 260).collect()
}

/// Last-position logits of candle's own quantised Llama, for every prefix given as (ids, place).
fn stock(path: &std::path::Path, ids: &[u32]) -> Vec<f32> {
    let mut file = std::fs::File::open(path).expect("the file");
    let content = gguf_file::Content::read(&mut file).expect("a header");
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).expect("weights");
    let input = Tensor::new(ids, &Device::Cpu)
        .and_then(|ids| ids.unsqueeze(0))
        .expect("a tensor");
    let logits = model.forward(&input, 0).expect("logits");
    logits
        .flatten_all()
        .and_then(|logits| logits.to_vec1::<f32>())
        .expect("numbers")
}

fn spread(logits: &[f32]) -> f32 {
    let highest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let lowest = logits.iter().fold(f32::INFINITY, |a, &b| a.min(b));
    highest - lowest
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
        let path = tiny.write(directory.path(), &format!("{dtype:?}-{tied}.gguf"));
        let model = Model::open_in_blocks(&path).expect("opens");
        for count in [1, 3, 70] {
            let ids = ids(count);
            let ours = model
                .forward(&ids, &mut model.new_cache(), 1)
                .expect("logits");
            let theirs = stock(&path, &ids);
            assert_eq!(ours.len(), theirs.len());
            let apart = ours
                .iter()
                .zip(&theirs)
                .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            let allowed = share * spread(&theirs);
            assert!(
                apart <= allowed,
                "{dtype:?} {count}: {apart} apart, {allowed} allowed"
            );
        }
    }
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
        let apart = in_blocks
            .iter()
            .zip(&exact)
            .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
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
    for dtype in [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q4K,
    ] {
        let tiny = Tiny {
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
        let theirs = stock(&path, &ids);
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
    let most = plain
        .iter()
        .zip(&linear)
        .fold(0f32, |a, (b, c)| a.max((b - c).abs()));
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
