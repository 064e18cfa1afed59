//! Tiny random models for tests, written by candle so that the reader is held against another
//! writer.

use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::llama::Architecture;
use crate::sampling::philox4x32_10;

/// What to write.
#[derive(Debug, Clone)]
pub(crate) struct Tiny {
    pub(crate) architecture: Architecture,
    pub(crate) seed: u32,
    pub(crate) dtype: GgmlDType,
    pub(crate) tied: bool,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    pub(crate) context: u32,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            architecture: Architecture::Llama,
            seed: 1,
            dtype: GgmlDType::F16,
            tied: true,
            heads: 4,
            kv_heads: 2,
            layers: 2,
            width: 256,
            hidden: 512,
            context: 192,
        }
    }
}

pub(super) const TEMPLATE: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
const MERGES: [&str; 6] = ["h e", "l l", "he ll", "hell o", "Ġ w", "Ġw o"];
const CONTROLS: [&str; 4] = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"];

/// The 256 bytes, the results of the merges, the control tokens.
pub(super) fn tokens() -> Vec<String> {
    let mut tokens: Vec<String> = (0u32..=255).map(alphabet).collect();
    tokens.extend(MERGES.iter().map(|merge| merge.replace(' ', "")));
    tokens.extend(CONTROLS.iter().map(|token| (*token).to_owned()));
    tokens
}

/// GPT-2's character for a byte, spelled out independently of the reader.
fn alphabet(byte: u32) -> String {
    let direct = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || b >= 174;
    let code = if direct(byte) {
        byte
    } else {
        256 + u32::try_from((0..byte).filter(|&b| !direct(b)).count()).expect("small")
    };
    char::from_u32(code).expect("a character").to_string()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn texts(items: impl IntoIterator<Item = String>) -> Value {
    Value::Array(items.into_iter().map(Value::String).collect())
}

impl Tiny {
    /// Qwen 3's heads are wider than their share of the width, here too.
    fn head_dim(&self) -> usize {
        let share = self.width / self.heads;
        match self.architecture {
            Architecture::Qwen3 => share * 2,
            _ => share,
        }
    }

    /// Metadata under the architecture's own prefix.
    fn sizes(&self) -> Vec<(String, Value)> {
        let number = |n: usize| Value::U32(u32::try_from(n).expect("small"));
        let rotary_base = match self.architecture {
            Architecture::Llama => 10_000.0,
            _ => 1_000_000.0,
        };
        let mut sizes = vec![
            ("context_length", Value::U32(self.context)),
            ("embedding_length", number(self.width)),
            ("block_count", number(self.layers)),
            ("feed_forward_length", number(self.hidden)),
            ("rope.freq_base", Value::F32(rotary_base)),
            ("attention.head_count", number(self.heads)),
            ("attention.head_count_kv", number(self.kv_heads)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ];
        match self.architecture {
            Architecture::Llama => sizes.push(("rope.dimension_count", number(self.head_dim()))),
            Architecture::Qwen2 => {}
            Architecture::Qwen3 => {
                sizes.push(("attention.key_length", number(self.head_dim())));
                sizes.push(("attention.value_length", number(self.head_dim())));
            }
        }
        let name = self.architecture.name();
        (sizes.into_iter())
            .map(|(key, value)| (format!("{name}.{key}"), value))
            .collect()
    }

    pub(super) fn metadata(&self) -> Vec<(String, Value)> {
        let tokens = tokens();
        let words = tokens.len() - CONTROLS.len();
        let end = u32::try_from(words).expect("small");
        let kinds = (0..tokens.len()).map(|id| Value::I32(if id < words { 1 } else { 3 }));
        let plain = [
            ("general.architecture", text(self.architecture.name())),
            ("general.name", text("tiny")),
            ("general.file_type", Value::U32(1)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("gpt-2")),
            ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
            ("tokenizer.ggml.tokens", texts(tokens)),
            ("tokenizer.ggml.merges", texts(MERGES.map(str::to_owned))),
            ("tokenizer.ggml.eos_token_id", Value::U32(end)),
            ("tokenizer.chat_template", text(TEMPLATE)),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        plain.into_iter().chain(self.sizes()).collect()
    }

    pub(super) fn tensors(&self) -> Vec<(String, QTensor)> {
        let (q, kv) = (
            self.heads * self.head_dim(),
            self.kv_heads * self.head_dim(),
        );
        let mut all = Vec::new();
        let mut push = |name: String, shape: &[usize], dtype: GgmlDType| {
            let stream = u32::try_from(all.len()).expect("small");
            let numbers = self.numbers(stream, shape);
            let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).expect("a tensor");
            all.push((name, QTensor::quantize(&tensor, dtype).expect("quantised")));
        };
        let (w, h) = (self.width, self.hidden);
        let vocab = tokens().len();
        push("token_embd.weight".into(), &[vocab, w], self.dtype);
        for layer in 0..self.layers {
            for (part, shape) in [
                ("attn_q", vec![q, w]),
                ("attn_k", vec![kv, w]),
                ("attn_v", vec![kv, w]),
                ("attn_output", vec![w, q]),
                ("ffn_gate", vec![h, w]),
                ("ffn_up", vec![h, w]),
                ("ffn_down", vec![w, h]),
            ] {
                push(format!("blk.{layer}.{part}.weight"), &shape, self.dtype);
            }
            for part in ["attn_norm", "ffn_norm"] {
                push(format!("blk.{layer}.{part}.weight"), &[w], GgmlDType::F32);
            }
            if self.architecture == Architecture::Qwen2 {
                for (part, size) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                    push(format!("blk.{layer}.{part}.bias"), &[size], GgmlDType::F32);
                }
            }
            if self.architecture == Architecture::Qwen3 {
                for part in ["attn_q_norm", "attn_k_norm"] {
                    let name = format!("blk.{layer}.{part}.weight");
                    push(name, &[self.head_dim()], GgmlDType::F32);
                }
            }
        }
        push("output_norm.weight".into(), &[w], GgmlDType::F32);
        if !self.tied {
            push("output.weight".into(), &[vocab, w], self.dtype);
        }
        all
    }

    /// Sums of four even numbers: near enough to normal, standard deviation about 0.1 for
    /// matrices and around 1 for norms.
    fn numbers(&self, stream: u32, shape: &[usize]) -> Vec<f32> {
        let count: usize = shape.iter().product();
        (0..u32::try_from(count).expect("small"))
            .map(|index| {
                let words = philox4x32_10([index, stream, 0, 0], [self.seed, 2]);
                let sum: f32 = words
                    .iter()
                    .map(|word| f32::from(u16::try_from(word >> 16).expect("16 bits")) / 65_536.0)
                    .sum();
                let spread = (sum - 2.0) * 0.17;
                if shape.len() == 1 {
                    1.0 + spread
                } else {
                    spread
                }
            })
            .collect()
    }

    pub(crate) fn write(&self, directory: &Path, name: &str) -> PathBuf {
        self.write_with(directory, name, &self.metadata(), &self.tensors())
    }

    pub(super) fn write_with(
        &self,
        directory: &Path,
        name: &str,
        metadata: &[(String, Value)],
        tensors: &[(String, QTensor)],
    ) -> PathBuf {
        let path = directory.join(name);
        let mut file = std::fs::File::create(&path).expect("a file");
        let metadata: Vec<(&str, &Value)> = metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        let tensors: Vec<(&str, &QTensor)> = tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        gguf_file::write(&mut file, &metadata, &tensors).expect("written");
        path
    }
}

/// The demonstration model, where it is there already.
pub(super) fn demo_model() -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/longrun-demo-f16.gguf");
    path.exists().then_some(path)
}
