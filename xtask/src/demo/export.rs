//! A checkpoint as a GGUF file that llama.cpp and its relatives read.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use gguf_file::Value;

use super::model::{Config, Model};
use super::tokenizer::{CHAT_TEMPLATE, CONTROLS, END, Tokenizer};
use super::train::Checkpoint;

/// What to write, and where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Checkpoint to read.
    #[arg(long, default_value = "target/longrun-demo/checkpoint.safetensors")]
    checkpoint: PathBuf,
    /// File to write.
    #[arg(long, default_value = "models/demo/longrun-demo-f16.gguf")]
    to: PathBuf,
}

/// llama.cpp's number for "mostly 16-bit floats".
const FILE_TYPE_F16: u32 = 1;
/// llama.cpp's kinds of token.
const TOKEN_NORMAL: i32 = 1;
const TOKEN_CONTROL: i32 = 3;

/// Writes the file beside its place and then moves it there.
pub(crate) fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<()> {
    let state = Checkpoint::load(&args.checkpoint)?;
    let tokenizer = Tokenizer::learn(state.seed);
    let metadata = metadata(&state.model.config, &tokenizer);
    let tensors = tensors(&state.model)?;
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
    let borrowed: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();

    let fresh = args.to.with_extension("gguf.new");
    let mut file = BufWriter::new(
        File::create(&fresh).with_context(|| format!("create {}", fresh.display()))?,
    );
    gguf_file::write(&mut file, &metadata, &borrowed)?;
    file.into_inner()?.sync_all()?;
    fs::rename(&fresh, &args.to)?;
    let size = fs::metadata(&args.to)?.len();
    writeln!(
        out,
        "{}: step {}, {size} bytes",
        args.to.display(),
        state.step
    )?;
    Ok(())
}

fn metadata(config: &Config, tokenizer: &Tokenizer) -> Vec<(&'static str, Value)> {
    let text = |s: &str| Value::String(s.to_owned());
    let number = |n: usize| Value::U32(u32::try_from(n).expect("sizes of a small model"));
    let texts = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
    let tokens = tokenizer.spelled_tokens();
    let plain = tokens.len() - CONTROLS.len();
    let types = (0..tokens.len()).map(|id| {
        if id < plain {
            TOKEN_NORMAL
        } else {
            TOKEN_CONTROL
        }
    });
    let end = tokenizer.control(END);
    vec![
        ("general.architecture", text("llama")),
        ("general.type", text("model")),
        ("general.name", text("longrun-demo")),
        ("general.author", text("Longrun")),
        ("general.license", text("apache-2.0")),
        (
            "general.description",
            text("A tiny demonstration model, trained on synthetic tasks only."),
        ),
        ("general.file_type", Value::U32(FILE_TYPE_F16)),
        ("general.quantization_version", Value::U32(2)),
        ("llama.vocab_size", number(config.vocab)),
        ("llama.context_length", number(config.context)),
        ("llama.embedding_length", number(config.width)),
        ("llama.block_count", number(config.layers)),
        ("llama.feed_forward_length", number(config.ffn)),
        ("llama.rope.dimension_count", number(config.head_dim())),
        (
            "llama.rope.freq_base",
            Value::F32(super::model::narrow(config.rope_theta)),
        ),
        ("llama.attention.head_count", number(config.heads)),
        ("llama.attention.head_count_kv", number(config.kv_heads)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(config.norm_eps),
        ),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", texts(tokens)),
        (
            "tokenizer.ggml.token_type",
            Value::Array(types.map(Value::I32).collect()),
        ),
        ("tokenizer.ggml.merges", texts(tokenizer.spelled_merges())),
        ("tokenizer.ggml.bos_token_id", Value::U32(end)),
        ("tokenizer.ggml.eos_token_id", Value::U32(end)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ]
}

/// Tensors under llama.cpp's names, `[out, in]`: matrices in 16 bits, norms in
/// 32. There is no `output.weight`, which says that the embedding serves twice.
fn tensors(model: &Model) -> Result<Vec<(String, QTensor)>> {
    let config = &model.config;
    let heads = config.heads * config.head_dim();
    let kv = config.kv_heads * config.head_dim();
    let mut all = Vec::new();
    for ((name, _), tensor) in config.parameters().iter().zip(&model.parameters) {
        let (layer, part) = name.split_once('.').unwrap_or(("", name));
        let block = layer
            .strip_prefix("layer")
            .map_or(String::new(), |n| format!("blk.{n}."));
        let mut push = |name: &str, tensor: &Tensor| -> Result<()> {
            let kind = if tensor.rank() == 1 {
                GgmlDType::F32
            } else {
                GgmlDType::F16
            };
            let stored = QTensor::quantize(&tensor.contiguous()?, kind)?;
            all.push((format!("{block}{name}.weight"), stored));
            Ok(())
        };
        let columns = |start, len| tensor.narrow(1, start, len)?.t();
        match part {
            "embedding" => push("token_embd", tensor)?,
            "output_norm" => push("output_norm", tensor)?,
            "attention_norm" => push("attn_norm", tensor)?,
            "ffn_norm" => push("ffn_norm", tensor)?,
            "attention_out" => push("attn_output", &tensor.t()?)?,
            "down" => push("ffn_down", &tensor.t()?)?,
            "qkv" => {
                push("attn_q", &columns(0, heads)?)?;
                push("attn_k", &columns(heads, kv)?)?;
                push("attn_v", &columns(heads + kv, kv)?)?;
            }
            "gate_up" => {
                push("ffn_gate", &columns(0, config.ffn)?)?;
                push("ffn_up", &columns(config.ffn, config.ffn)?)?;
            }
            other => anyhow::bail!("no place in the file for {other}"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use candle_core::Device;

    use super::*;

    #[test]
    fn file_holds_every_weight_in_the_llama_layout() {
        let model = Model::init(Config::DEMO, 1).expect("model");
        let tensors = tensors(&model).expect("tensors");
        let borrowed: Vec<(&str, &QTensor)> = tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let metadata = metadata(&model.config, &Tokenizer::learn(1));
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &borrowed).expect("write");
        assert!(file.get_ref().len() < 9_000_000);

        file.set_position(0);
        let content = gguf_file::Content::read(&mut file).expect("read");
        let shape = |name: &str| content.tensor_infos[name].shape.dims().to_vec();
        assert_eq!(shape("token_embd.weight"), [512, 256]);
        assert_eq!(shape("blk.3.attn_k.weight"), [128, 256]);
        assert_eq!(shape("blk.0.ffn_down.weight"), [256, 512]);
        assert!(!content.tensor_infos.contains_key("output.weight"));
        let stored: usize = content
            .tensor_infos
            .values()
            .map(|t| t.shape.elem_count())
            .sum();
        assert_eq!(
            stored,
            model
                .parameters
                .iter()
                .map(Tensor::elem_count)
                .sum::<usize>()
        );

        // Row 72 of the keys is column 256 + 72 of the joint matrix.
        let keys = content
            .tensor(&mut file, "blk.1.attn_k.weight", &Device::Cpu)
            .expect("keys");
        let keys = keys
            .dequantize(&Device::Cpu)
            .expect("floats")
            .to_vec2::<f32>()
            .expect("rows");
        let joint = model.parameters[8].to_vec2::<f32>().expect("rows");
        assert!((keys[72][5] - joint[5][256 + 72]).abs() < 1e-4);
        let tokens = &content.metadata["tokenizer.ggml.tokens"];
        assert_eq!(tokens.to_vec().expect("array").len(), Config::DEMO.vocab);
    }
}
