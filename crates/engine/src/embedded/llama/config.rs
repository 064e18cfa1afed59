//! Sizes and constants of a model, as its metadata has them.

use super::super::error::Problem;
use super::super::gguf::Header;
use super::matrix::{dimension, required_tensor};
use super::{MAX_HEADS, MAX_LAYERS, MAX_WIDTH};

/// Sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Config {
    pub(in super::super) layers: usize,
    pub(in super::super) width: usize,
    pub(in super::super) heads: usize,
    pub(in super::super) kv_heads: usize,
    pub(in super::super) head_dim: usize,
    pub(in super::super) rotary_dim: usize,
    pub(in super::super) hidden: usize,
    pub(in super::super) vocab: usize,
    pub(in super::super) context: usize,
    pub(super) epsilon: f32,
    pub(super) rotary_base: f64,
    pub(super) rotary_scale: f64,
}

impl Config {
    pub(in super::super) fn read(header: &Header) -> Result<Self, Problem> {
        match header.text("general.architecture")? {
            Some("llama") => {}
            Some(other) => {
                return Err(Problem::unsupported(format!(
                    "architecture `{other}` is not supported; this engine runs `llama` (Llama, \
                     Mistral, SmolLM, TinyLlama and others in that form). Serve this model with \
                     another engine and use --upstream"
                )));
            }
            None => return Err(missing("general.architecture")),
        }
        if header.integer("llama.expert_count")?.unwrap_or(0) > 1 {
            return Err(Problem::unsupported(
                "mixtures of experts are not supported; take a dense model",
            ));
        }
        let layers = size(header, "llama.block_count", MAX_LAYERS)?;
        let width = size(header, "llama.embedding_length", MAX_WIDTH)?;
        let heads = size(header, "llama.attention.head_count", MAX_HEADS)?;
        let kv_heads = optional_size(header, "llama.attention.head_count_kv", MAX_HEADS, heads)?;
        let default_dim = width / heads;
        let head_dim = optional_size(header, "llama.attention.key_length", MAX_WIDTH, default_dim)?;
        let value_dim = optional_size(header, "llama.attention.value_length", MAX_WIDTH, head_dim)?;
        let rotary_dim = optional_size(header, "llama.rope.dimension_count", MAX_WIDTH, head_dim)?;
        let context = size(header, "llama.context_length", u64::from(u32::MAX))?;
        let consistent = head_dim > 0
            && heads.is_multiple_of(kv_heads)
            && value_dim == head_dim
            && rotary_dim.is_multiple_of(2)
            && rotary_dim <= head_dim;
        if !consistent {
            return Err(Problem::damaged(format!(
                "the sizes contradict each other: {heads} heads, {kv_heads} key-value heads, head \
                 size {head_dim}, value size {value_dim}, rotary size {rotary_dim}; convert the \
                 model again"
            )));
        }
        let token_table = required_tensor(header, "token_embd.weight")?;
        let gate = required_tensor(header, "blk.0.ffn_gate.weight")?;
        Ok(Self {
            layers,
            width,
            heads,
            kv_heads,
            head_dim,
            rotary_dim,
            hidden: dimension(gate, 1)?,
            vocab: dimension(token_table, 1)?,
            context,
            epsilon: narrow(positive(
                header,
                "llama.attention.layer_norm_rms_epsilon",
                None,
            )?),
            rotary_base: positive(header, "llama.rope.freq_base", Some(10_000.0))?,
            rotary_scale: rotary_scale(header)?,
        })
    }

    pub(super) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

fn missing(key: &str) -> Problem {
    Problem::damaged(format!(
        "metadata `{key}` is missing; convert the model again"
    ))
}

fn size(header: &Header, key: &str, most: u64) -> Result<usize, Problem> {
    let value = header.integer(key)?.ok_or_else(|| missing(key))?;
    if value == 0 || value > most {
        return Err(Problem::damaged(format!(
            "metadata `{key}` is {value}; it must be 1 to {most}"
        )));
    }
    usize::try_from(value).map_err(|_| Problem::too_large(format!("metadata `{key}` is {value}")))
}

fn optional_size(header: &Header, key: &str, most: u64, default: usize) -> Result<usize, Problem> {
    if header.value(key).is_none() {
        return Ok(default);
    }
    size(header, key, most)
}

fn positive(header: &Header, key: &str, default: Option<f64>) -> Result<f64, Problem> {
    match header.decimal(key)?.or(default) {
        Some(value) if value.is_finite() && value > 0.0 => Ok(value),
        Some(value) => Err(Problem::damaged(format!(
            "metadata `{key}` is {value}; it must be a positive number"
        ))),
        None => Err(missing(key)),
    }
}

#[allow(clippy::cast_possible_truncation)] // to the precision it is computed with
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}

/// What positions are divided by.
fn rotary_scale(header: &Header) -> Result<f64, Problem> {
    match header.text("llama.rope.scaling.type")? {
        None | Some("none") => match header.value("llama.rope.scale_linear") {
            None => Ok(1.0),
            Some(_) => positive(header, "llama.rope.scale_linear", None),
        },
        Some("linear") => positive(header, "llama.rope.scaling.factor", None),
        Some(other) => Err(Problem::unsupported(format!(
            "rotary scaling `{other}` is not supported; `none`, `linear` and factors in the file \
             are. Serve this model with another engine and use --upstream"
        ))),
    }
}
