//! The parts of the network that are not matrix products, forward and backward.
//!
//! They work on plain slices, row by row: `candle` does the matrix products,
//! and these fill the gaps that its autograd would fill with many passes over
//! memory (its fused RMS norm has no backward at all). Sequences of different
//! lengths lie one after the other in a single list of tokens, so nothing is
//! padded; a `Span` says where each begins.
#![allow(
    clippy::cast_possible_truncation,
    reason = "positions and head sizes are far below the limits of f32 and u32"
)]

use super::model::Config;

/// One sequence within a list of tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// `y = x / rms(x) * weight` for each row; also returns 1 / rms for the way back.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let mut y = Vec::with_capacity(x.len());
    let mut inverse = Vec::with_capacity(x.len() / width);
    for row in x.chunks_exact(width) {
        let mean = row.iter().map(|v| v * v).sum::<f32>() / width as f32;
        let inv = 1.0 / (mean + eps).sqrt();
        y.extend(row.iter().zip(weight).map(|(v, w)| v * inv * w));
        inverse.push(inv);
    }
    (y, inverse)
}

/// Adds the input's gradient to `dx` and the weight's to `dweight`.
pub(crate) fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    inverse: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let width = weight.len();
    let rows = x
        .chunks_exact(width)
        .zip(dy.chunks_exact(width))
        .zip(dx.chunks_exact_mut(width));
    for (((x, dy), dx), &inv) in rows.zip(inverse) {
        let mut dot = 0.0;
        for i in 0..width {
            dot += dy[i] * weight[i] * x[i];
            dweight[i] += dy[i] * x[i] * inv;
        }
        let pull = dot * inv * inv * inv / width as f32;
        for i in 0..width {
            dx[i] += dy[i] * weight[i] * inv - x[i] * pull;
        }
    }
}

/// `silu(gate) * up`, where each row holds the gate's half and then the other.
pub(crate) fn swiglu(gate_up: &[f32], ffn: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(gate_up.len() / 2);
    for row in gate_up.chunks_exact(2 * ffn) {
        let (gate, up) = row.split_at(ffn);
        out.extend(gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u));
    }
    out
}

/// The gradient of [`swiglu`] with respect to its input.
pub(crate) fn swiglu_backward(gate_up: &[f32], dout: &[f32], ffn: usize) -> Vec<f32> {
    let mut grad = vec![0.0; gate_up.len()];
    let rows = gate_up
        .chunks_exact(2 * ffn)
        .zip(grad.chunks_exact_mut(2 * ffn));
    for ((row, grad), dout) in rows.zip(dout.chunks_exact(ffn)) {
        let (gate, up) = row.split_at(ffn);
        let (dgate, dup) = grad.split_at_mut(ffn);
        for i in 0..ffn {
            let sigmoid = 1.0 / (1.0 + (-gate[i]).exp());
            let silu = gate[i] * sigmoid;
            dup[i] = dout[i] * silu;
            dgate[i] = dout[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
        }
    }
    grad
}

/// The cosines and sines of rotary position embedding, one row per position.
#[derive(Debug)]
pub(crate) struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotary {
    pub(crate) fn new(config: &Config) -> Self {
        let half = config.head_dim() / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..config.context {
            for i in 0..half {
                let frequency = config.rope_theta.powf(-(i as f64) / half as f64);
                let angle = position as f64 * frequency;
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        Self { cos, sin, half }
    }

    /// Turns queries and keys by their position, in place. Pairs are
    /// neighbours (2i, 2i+1), as the GGUF `llama` layout has them. With
    /// `sign` -1 it turns back, which is also the gradient.
    pub(crate) fn turn(&self, qkv: &mut [f32], spans: &[Span], config: &Config, sign: f32) {
        let width = config.qkv_width();
        let turned = (config.heads + config.kv_heads) * config.head_dim();
        for span in spans {
            for position in 0..span.len {
                let row = &mut qkv[(span.start + position) * width..][..turned];
                let angles = position * self.half..(position + 1) * self.half;
                for head in row.chunks_exact_mut(2 * self.half) {
                    let angles = self.cos[angles.clone()]
                        .iter()
                        .zip(&self.sin[angles.clone()]);
                    for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
                        let (a, b, sin) = (pair[0], pair[1], sin * sign);
                        pair[0] = a * cos - b * sin;
                        pair[1] = a * sin + b * cos;
                    }
                }
            }
        }
    }
}

/// Adds `scale * x` to `y`.
fn axpy(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// One head's rows of a wider matrix, copied out: `[len, dim]`.
fn gather(matrix: &[f32], span: Span, width: usize, offset: usize, dim: usize) -> Vec<f32> {
    let rows = matrix[span.start * width..]
        .chunks_exact(width)
        .take(span.len);
    rows.flat_map(|row| &row[offset..offset + dim])
        .copied()
        .collect()
}

/// Adds `[len, dim]` back into one head's columns of a wider matrix.
fn scatter(matrix: &mut [f32], part: &[f32], span: Span, width: usize, offset: usize, dim: usize) {
    let rows = matrix[span.start * width..].chunks_exact_mut(width);
    for (row, part) in rows.zip(part.chunks_exact(dim)) {
        axpy(&mut row[offset..offset + dim], 1.0, part);
    }
}

fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; matrix.len()];
    for r in 0..rows {
        for c in 0..columns {
            out[c * rows + r] = matrix[r * columns + c];
        }
    }
    out
}

/// Causal attention within each span. Returns the heads' outputs side by side
/// and the attention weights (per span and head, `[len, len]`) for the way back.
pub(crate) fn attention(qkv: &[f32], spans: &[Span], config: &Config) -> (Vec<f32>, Vec<f32>) {
    let (dim, width) = (config.head_dim(), config.qkv_width());
    let out_width = config.heads * dim;
    let scale = 1.0 / (dim as f32).sqrt();
    let mut out = vec![0.0; qkv.len() / width * out_width];
    let mut weights = Vec::new();
    for &span in spans {
        for head in 0..config.heads {
            let (key_at, value_at) = config.key_value_offsets(head);
            let q = gather(qkv, span, width, head * dim, dim);
            let k = transpose(&gather(qkv, span, width, key_at, dim), span.len, dim);
            let v = gather(qkv, span, width, value_at, dim);
            let mut o = vec![0.0; q.len()];
            for i in 0..span.len {
                let mut row = vec![0.0; span.len];
                for d in 0..dim {
                    axpy(
                        &mut row[..=i],
                        q[i * dim + d] * scale,
                        &k[d * span.len..][..=i],
                    );
                }
                softmax(&mut row[..=i]);
                for (j, &p) in row[..=i].iter().enumerate() {
                    axpy(
                        &mut o[i * dim..(i + 1) * dim],
                        p,
                        &v[j * dim..(j + 1) * dim],
                    );
                }
                weights.extend_from_slice(&row);
            }
            scatter(&mut out, &o, span, out_width, head * dim, dim);
        }
    }
    (out, weights)
}

fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - max).exp();
        sum += *v;
    }
    for v in row.iter_mut() {
        *v /= sum;
    }
}

/// The gradient of [`attention`] with respect to the turned queries, keys and values.
pub(crate) fn attention_backward(
    qkv: &[f32],
    weights: &[f32],
    dout: &[f32],
    spans: &[Span],
    config: &Config,
) -> Vec<f32> {
    let (dim, width) = (config.head_dim(), config.qkv_width());
    let out_width = config.heads * dim;
    let scale = 1.0 / (dim as f32).sqrt();
    let mut dqkv = vec![0.0; qkv.len()];
    let mut used = 0;
    for &span in spans {
        let len = span.len;
        for head in 0..config.heads {
            let (key_at, value_at) = config.key_value_offsets(head);
            let q = gather(qkv, span, width, head * dim, dim);
            let k = gather(qkv, span, width, key_at, dim);
            let v = transpose(&gather(qkv, span, width, value_at, dim), len, dim);
            let dout = gather(dout, span, out_width, head * dim, dim);
            let (mut dq, mut dk, mut dv) =
                (vec![0.0; q.len()], vec![0.0; q.len()], vec![0.0; q.len()]);
            for i in 0..len {
                let p = &weights[used + i * len..][..=i];
                let at_i = i * dim..(i + 1) * dim;
                let mut dp = vec![0.0; i + 1];
                for d in 0..dim {
                    axpy(&mut dp, dout[i * dim + d], &v[d * len..][..=i]);
                }
                let mean: f32 = dp.iter().zip(p).map(|(d, p)| d * p).sum();
                for j in 0..=i {
                    let at_j = j * dim..(j + 1) * dim;
                    let ds = p[j] * (dp[j] - mean) * scale;
                    axpy(&mut dq[at_i.clone()], ds, &k[at_j.clone()]);
                    axpy(&mut dk[at_j.clone()], ds, &q[at_i.clone()]);
                    axpy(&mut dv[at_j], p[j], &dout[at_i.clone()]);
                }
            }
            used += len * len;
            scatter(&mut dqkv, &dq, span, width, head * dim, dim);
            scatter(&mut dqkv, &dk, span, width, key_at, dim);
            scatter(&mut dqkv, &dv, span, width, value_at, dim);
        }
    }
    dqkv
}

/// Weighted cross-entropy, summed over rows. Turns `logits` into its gradient
/// and counts the rows whose largest logit is the target.
pub(crate) fn cross_entropy(
    logits: &mut [f32],
    targets: &[u32],
    weights: &[f32],
    vocab: usize,
) -> (f64, Vec<bool>) {
    let mut loss = 0.0;
    let mut right = Vec::with_capacity(targets.len());
    for ((row, &target), &weight) in logits.chunks_exact_mut(vocab).zip(targets).zip(weights) {
        let target = target as usize;
        let goal = row[target];
        // A tie counts as wrong unless the target has the lowest id, which is
        // how greedy decoding breaks ties.
        let beaten = row
            .iter()
            .enumerate()
            .any(|(i, &v)| v > goal || (v == goal && i < target));
        right.push(!beaten);
        softmax(row);
        loss -= f64::from(weight) * f64::from(row[target].max(f32::MIN_POSITIVE)).ln();
        row[target] -= 1.0;
        row.iter_mut().for_each(|v| *v *= weight);
    }
    (loss, right)
}
