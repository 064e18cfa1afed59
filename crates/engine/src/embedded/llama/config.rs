//! Sizes and constants of a model, as its metadata has them.

use super::super::error::Problem;
use super::super::gguf::Header;
use super::architecture::Architecture;
use super::matrix::{dimension, required_tensor};
use super::{MAX_HEADS, MAX_LAYERS, MAX_WIDTH};

/// Sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Config {
    pub(in super::super) architecture: Architecture,
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
        let architecture = Architecture::of(header)?;
        let key = |rest: &str| format!("{}.{rest}", architecture.name());
        if header.integer(&key("expert_count"))?.unwrap_or(0) > 1 {
            return Err(Problem::unsupported(
                "mixtures of experts are not supported; take a dense model",
            ));
        }
        let layers = size(header, &key("block_count"), MAX_LAYERS)?;
        let width = size(header, &key("embedding_length"), MAX_WIDTH)?;
        let heads = size(header, &key("attention.head_count"), MAX_HEADS)?;
        let kv_heads = optional_size(header, &key("attention.head_count_kv"), MAX_HEADS, heads)?;
        let default_dim = width / heads;
        let head_dim = optional_size(header, &key("attention.key_length"), MAX_WIDTH, default_dim)?;
        let value_dim = optional_size(header, &key("attention.value_length"), MAX_WIDTH, head_dim)?;
        let rotary_dim = optional_size(header, &key("rope.dimension_count"), MAX_WIDTH, head_dim)?;
        let context = size(header, &key("context_length"), u64::from(u32::MAX))?;
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
            architecture,
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
                &key("attention.layer_norm_rms_epsilon"),
                None,
            )?),
            rotary_base: positive(header, &key("rope.freq_base"), Some(10_000.0))?,
            rotary_scale: rotary_scale(header, architecture)?,
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
fn rotary_scale(header: &Header, architecture: Architecture) -> Result<f64, Problem> {
    let key = |rest: &str| format!("{}.rope.{rest}", architecture.name());
    match header.text(&key("scaling.type"))? {
        None | Some("none") => match header.value(&key("scale_linear")) {
            None => Ok(1.0),
            Some(_) => positive(header, &key("scale_linear"), None),
        },
        Some("linear") => positive(header, &key("scaling.factor"), None),
        Some(other) => Err(Problem::unsupported(format!(
            "rotary scaling `{other}` is not supported; `none`, `linear` and factors in the file \
             are. Serve this model with another engine and use --upstream"
        ))),
    }
}
