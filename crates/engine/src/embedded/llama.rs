//! The forward pass of the Llama family, with the logits of every position.
//!
//! Architectures `llama`, `qwen2` and `qwen3` as GGUF files have them ([`Architecture`] says what
//! sets them apart): grouped-query attention, rotary positions, RMS norms, SwiGLU, tied or untied
//! output. Weights are computed with as 32-bit numbers, which is exact for 16 and 32 bits and for the numbers that quantised blocks stand for. Only the
//! quantised matrices of models of more than [`WIDEN_MAX_PARAMETERS`] stay in their blocks and are
//! multiplied by candle's integer kernels, which round activations to 8 bits. The KV cache holds
//! 32-bit numbers.
//!
//! A row of numbers never depends on which rows are computed beside it (see `kernels`), so scoring
//! a text in one pass gives the very logits that decoding it gave; as 32-bit numbers also on
//! another machine. candle's kernels may round differently on machines with other instruction sets.
//!
//! Refused: mixtures of experts, biases where the architecture has none, rotary scaling other than linear or by factors
//! in the file, and every tensor whose meaning is not known here: leaving one out would serve
//! another model under this one's name.

mod architecture;
mod config;
mod matrix;

use std::fs::File;

use super::error::Problem;
use super::gguf::Header;
use super::kernels;
pub use architecture::Architecture;
use architecture::{Pairs, refuse_unknown_tensors};
pub(super) use config::Config;
use config::narrow;
pub(super) use matrix::{Arithmetic, candle_dtype, widen};
use matrix::{Matrix, Source};

/// Most layers.
pub const MAX_LAYERS: u64 = 1024;
/// Widest embedding, feed-forward layer or projection.
pub const MAX_WIDTH: u64 = 1 << 20;
/// Most heads.
pub const MAX_HEADS: u64 = 4096;

/// Largest model, in parameters, whose quantised matrices are widened to 32-bit numbers when they
/// are loaded: for small ones that is faster than integer kernels, and 256 MiB at most.
pub const WIDEN_MAX_PARAMETERS: u64 = 64 << 20;

/// Rows computed at once in a prefill.
const BLOCK_ROWS: usize = 64;

struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    bias: Option<Bias>,
    head_norms: Option<HeadNorms>,
    output: Matrix,
    ffn_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// What Qwen 2 adds to queries, keys and values.
struct Bias {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
}

/// What Qwen 3 norms each head of queries and keys by.
struct HeadNorms {
    query: Vec<f32>,
    key: Vec<f32>,
}

/// The weights.
pub(super) struct Weights {
    pub(super) config: Config,
    tokens: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None`: tied to `tokens`.
    output: Option<Matrix>,
    /// Angle per position of each pair of rotated numbers.
    frequencies: Vec<f64>,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Keys and values of the positions so far.
#[derive(Debug, Clone)]
pub(super) struct KvCache {
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    positions: usize,
}

impl KvCache {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            layers: vec![(Vec::new(), Vec::new()); config.layers],
            positions: 0,
        }
    }

    /// Forgets everything, keeps the memory.
    pub(super) fn clear(&mut self) {
        for (keys, values) in &mut self.layers {
            keys.clear();
            values.clear();
        }
        self.positions = 0;
    }

    #[cfg(test)]
    pub(super) fn positions(&self) -> usize {
        self.positions
    }
}

impl Layer {
    fn load(from: Source<'_>, c: &Config, index: usize) -> Result<Self, Problem> {
        let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_width());
        let name = |part: &str| format!("blk.{index}.{part}");
        let vector = |part: &str, length| from.vector(&name(part), length);
        let matrix = |part: &str, rows, cols| {
            let name = name(&format!("{part}.weight"));
            from.matrix(&name, rows, cols)
        };
        let bias = match c.architecture.has_bias() {
            false => None,
            true => Some(Bias {
                query: vector("attn_q.bias", q_width)?,
                key: vector("attn_k.bias", kv_width)?,
                value: vector("attn_v.bias", kv_width)?,
            }),
        };
        let head_norms = match c.architecture.norms_heads() {
            false => None,
            true => Some(HeadNorms {
                query: vector("attn_q_norm.weight", c.head_dim)?,
                key: vector("attn_k_norm.weight", c.head_dim)?,
            }),
        };
        Ok(Self {
            attention_norm: vector("attn_norm.weight", c.width)?,
            query: matrix("attn_q", q_width, c.width)?,
            key: matrix("attn_k", kv_width, c.width)?,
            value: matrix("attn_v", kv_width, c.width)?,
            bias,
            head_norms,
            output: matrix("attn_output", c.width, q_width)?,
            ffn_norm: vector("ffn_norm.weight", c.width)?,
            gate: matrix("ffn_gate", c.hidden, c.width)?,
            up: matrix("ffn_up", c.hidden, c.width)?,
            down: matrix("ffn_down", c.width, c.hidden)?,
        })
    }

    /// Queries, keys and values of normed rows, before they are rotated.
    fn project(&self, c: &Config, normed: &[f32]) -> Result<[Vec<f32>; 3], Problem> {
        let mut query = self.query.apply(normed)?;
        let mut key = self.key.apply(normed)?;
        let mut value = self.value.apply(normed)?;
        if let Some(bias) = &self.bias {
            add_to_each(&mut query, &bias.query);
            add_to_each(&mut key, &bias.key);
            add_to_each(&mut value, &bias.value);
        }
        if let Some(norms) = &self.head_norms {
            kernels::rms_norm_in_place(&mut query, &norms.query, c.epsilon);
            kernels::rms_norm_in_place(&mut key, &norms.key, c.epsilon);
        }
        Ok([query, key, value])
    }
}

impl Weights {
    pub(super) fn load(
        file: &File,
        header: &Header,
        config: Config,
        arithmetic: Arithmetic,
    ) -> Result<Self, Problem> {
        refuse_unknown_tensors(header, config.architecture, config.layers)?;
        let from = Source {
            file,
            header,
            arithmetic,
        };
        let c = &config;
        let layers = (0..c.layers)
            .map(|index| Layer::load(from, c, index))
            .collect::<Result<_, Problem>>()?;
        let output = match header.tensor("output.weight") {
            None => None,
            Some(_) => Some(from.matrix("output.weight", c.vocab, c.width)?),
        };
        Ok(Self {
            tokens: from.matrix("token_embd.weight", c.vocab, c.width)?,
            layers,
            norm: from.vector("output_norm.weight", c.width)?,
            output,
            frequencies: frequencies(from, c)?,
            config,
        })
    }

    /// Runs `ids` after what is in `cache` and gives the logits of the last `rows` of them, one
    /// row of `vocab` numbers each. Ids must be below `vocab`.
    pub(super) fn forward(
        &self,
        ids: &[u32],
        cache: &mut KvCache,
        rows: usize,
    ) -> Result<Vec<f32>, Problem> {
        let mut logits = Vec::new();
        let skip = ids.len() - rows.min(ids.len());
        let mut done = 0;
        for block in ids.chunks(BLOCK_ROWS) {
            let states = self.block(block, cache)?;
            done += block.len();
            if done > skip {
                let wanted = (done - skip).min(block.len());
                let from = (block.len() - wanted) * self.config.width;
                logits.extend(self.logits(&states[from..])?);
            }
        }
        Ok(logits)
    }

    /// Runs one block through the layers.
    fn block(&self, ids: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, Problem> {
        let c = &self.config;
        let mut x = self.tokens.pick(ids)?;
        let mut normed = vec![0.0; x.len()];
        let rotation = self.rotation(cache.positions, ids.len());
        for (layer, (keys, values)) in self.layers.iter().zip(&mut cache.layers) {
            kernels::rms_norm(&x, &layer.attention_norm, c.epsilon, &mut normed);
            let [mut query, mut key, value] = layer.project(c, &normed)?;
            rotate(&mut query, c.heads, c, &rotation);
            rotate(&mut key, c.kv_heads, c, &rotation);
            keys.extend_from_slice(&key);
            values.extend_from_slice(&value);
            let mixed = attend(c, &query, keys, values, cache.positions);
            add(&mut x, &layer.output.apply(&mixed)?);
            kernels::rms_norm(&x, &layer.ffn_norm, c.epsilon, &mut normed);
            let mut gate = layer.gate.apply(&normed)?;
            kernels::swiglu(&mut gate, &layer.up.apply(&normed)?);
            add(&mut x, &layer.down.apply(&gate)?);
        }
        cache.positions += ids.len();
        Ok(x)
    }

    fn logits(&self, states: &[f32]) -> Result<Vec<f32>, Problem> {
        let mut normed = vec![0.0; states.len()];
        kernels::rms_norm(states, &self.norm, self.config.epsilon, &mut normed);
        let output = self.output.as_ref().unwrap_or(&self.tokens);
        debug_assert_eq!(output.rows(), self.config.vocab);
        output.apply(&normed)
    }

    /// Cosine and sine for each of `count` positions from `first`, pair by pair.
    fn rotation(&self, first: usize, count: usize) -> Vec<(f32, f32)> {
        (first..first + count)
            .flat_map(|position| {
                #[allow(clippy::cast_precision_loss)] // positions are far below 2⁵³
                let place = position as f64 / self.config.rotary_scale;
                self.frequencies.iter().map(move |frequency| {
                    let angle = place * frequency;
                    (narrow(libm::cos(angle)), narrow(libm::sin(angle)))
                })
            })
            .collect()
    }
}

fn add(x: &mut [f32], more: &[f32]) {
    for (x, more) in x.iter_mut().zip(more) {
        *x += more;
    }
}

/// Adds the same numbers to each row.
fn add_to_each(rows: &mut [f32], more: &[f32]) {
    for row in rows.chunks_exact_mut(more.len()) {
        add(row, more);
    }
}

/// Rotates pairs of numbers of each head.
fn rotate(rows: &mut [f32], heads: usize, config: &Config, rotation: &[(f32, f32)]) {
    let pairs = config.rotary_dim / 2;
    if pairs == 0 {
        return;
    }
    let turn = |a: f32, b: f32, (cos, sin): (f32, f32)| (a * cos - b * sin, a * sin + b * cos);
    let row_len = heads * config.head_dim;
    for (row, turns) in rows
        .chunks_exact_mut(row_len)
        .zip(rotation.chunks_exact(pairs))
    {
        for head in row.chunks_exact_mut(config.head_dim) {
            match config.architecture.pairs() {
                Pairs::Neighbours => {
                    for ([a, b], &by) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                        (*a, *b) = turn(*a, *b, by);
                    }
                }
                Pairs::Halves => {
                    let (first, second) = head.split_at_mut(pairs);
                    for ((a, b), &by) in first.iter_mut().zip(second).zip(turns) {
                        (*a, *b) = turn(*a, *b, by);
                    }
                }
            }
        }
    }
}

/// Causal attention of each query row over the keys and values up to its own position. `before` is
/// the number of positions before the first row.
fn attend(config: &Config, query: &[f32], keys: &[f32], values: &[f32], before: usize) -> Vec<f32> {
    use rayon::prelude::*;
    /// Multiplications from which on rows are spread over threads.
    const PARALLEL_FROM: usize = 1 << 22;
    let (dim, kv_width) = (config.head_dim, config.kv_width());
    let q_width = config.heads * dim;
    let group = config.heads / config.kv_heads;
    #[allow(clippy::cast_precision_loss)] // head sizes are far below 2²⁴
    let scale = 1.0 / libm::sqrtf(dim as f32);
    let one_row = |index: usize, query: &[f32], out: &mut [f32]| {
        let seen = before + index + 1;
        let mut scores = vec![0.0; seen];
        for (head, (query, out)) in (query.chunks_exact(dim))
            .zip(out.chunks_exact_mut(dim))
            .enumerate()
        {
            let from = head / group * dim;
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(kv_width)) {
                *score = kernels::dot(query, &key[from..from + dim]) * scale;
            }
            kernels::softmax(&mut scores);
            for (score, value) in scores.iter().zip(values.chunks_exact(kv_width)) {
                for (out, value) in out.iter_mut().zip(&value[from..from + dim]) {
                    *out += score * value;
                }
            }
        }
    };
    let mut out = vec![0.0; query.len()];
    let rows = query.len() / q_width;
    if rows > 1 && rows * (before + rows) * q_width >= PARALLEL_FROM {
        out.par_chunks_exact_mut(q_width)
            .zip(query.par_chunks_exact(q_width))
            .enumerate()
            .for_each(|(index, (out, query))| one_row(index, query, out));
    } else {
        for (index, (out, query)) in (out.chunks_exact_mut(q_width))
            .zip(query.chunks_exact(q_width))
            .enumerate()
        {
            one_row(index, query, out);
        }
    }
    out
}

/// Angle per position of each rotated pair, with the factors some files carry.
fn frequencies(from: Source<'_>, config: &Config) -> Result<Vec<f64>, Problem> {
    let pairs = config.rotary_dim / 2;
    let factors = match from.header.tensor("rope_freqs.weight") {
        None => vec![1.0; pairs],
        Some(_) => from.vector("rope_freqs.weight", pairs)?,
    };
    if factors
        .iter()
        .any(|factor| !(factor.is_finite() && *factor > 0.0))
    {
        return Err(Problem::damaged(
            "tensor `rope_freqs.weight` holds numbers that are not positive",
        ));
    }
    #[allow(clippy::cast_precision_loss)] // head sizes are far below 2⁵³
    let exponent = |pair: usize| -((2 * pair) as f64) / config.rotary_dim as f64;
    Ok(factors
        .into_iter()
        .enumerate()
        .map(|(pair, factor)| libm::pow(config.rotary_base, exponent(pair)) / f64::from(factor))
        .collect())
}

#[cfg(test)]
mod tests;
