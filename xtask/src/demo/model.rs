//! A Llama-family transformer for training: one forward and one backward pass
//! over a list of tokens, written out by hand.
//!
//! Weights are kept `[in, out]`, and queries, keys and values (and gate and
//! up) share one matrix, so each pass is a few large products. `export` turns
//! them into the layout that GGUF wants. There is no cache and no sampling
//! here: generation belongs to the engine.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, Device, Storage, Tensor};

use super::kernels::{
    Rotary, Span, attention, attention_backward, cross_entropy, rms_norm, rms_norm_backward,
    swiglu, swiglu_backward,
};
use super::rng::Rng;

/// The shape of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) vocab: usize,
    pub(crate) width: usize,
    pub(crate) ffn: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) context: usize,
    pub(crate) norm_eps: f32,
    pub(crate) rope_theta: f64,
}

impl Config {
    /// The model that is shipped. Every matrix has rows of 256 or 512 numbers,
    /// so each GGUF quantisation applies to all of them.
    pub(crate) const DEMO: Self = Self {
        vocab: 512,
        width: 256,
        ffn: 512,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        context: 256,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
    };

    pub(crate) fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// Queries, keys and values of one token, side by side.
    pub(crate) fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim()
    }

    /// Where the keys and values that `head` reads begin within a row.
    pub(crate) fn key_value_offsets(&self, head: usize) -> (usize, usize) {
        let group = head / (self.heads / self.kv_heads);
        let dim = self.head_dim();
        (
            (self.heads + group) * dim,
            (self.heads + self.kv_heads + group) * dim,
        )
    }

    /// Names and shapes of all parameters, in the order they are stored.
    pub(crate) fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![("embedding".to_owned(), vec![self.vocab, self.width])];
        for layer in 0..self.layers {
            let shapes = [
                ("attention_norm", vec![self.width]),
                ("qkv", vec![self.width, self.qkv_width()]),
                ("attention_out", vec![self.width, self.width]),
                ("ffn_norm", vec![self.width]),
                ("gate_up", vec![self.width, 2 * self.ffn]),
                ("down", vec![self.ffn, self.width]),
            ];
            all.extend(shapes.map(|(name, shape)| (format!("layer{layer}.{name}"), shape)));
        }
        all.push(("output_norm".to_owned(), vec![self.width]));
        all
    }
}

/// Tokens of several sequences laid end to end, and what is asked of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) tokens: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    /// Rows whose next token counts, that token, and its weight in the loss.
    pub(crate) rows: Vec<usize>,
    pub(crate) targets: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

/// What one backward pass yields.
#[derive(Debug)]
pub(crate) struct Pass {
    /// Sum of weighted cross-entropies, in nats.
    pub(crate) loss: f64,
    /// For each counted row, whether greedy decoding would have been right.
    pub(crate) right: Vec<bool>,
    /// Gradients of `loss`, in the order of the parameters; empty if not asked for.
    pub(crate) gradients: Vec<Vec<f32>>,
}

/// The parameters. The matrices are tensors because `candle` multiplies them.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) config: Config,
    pub(crate) parameters: Vec<Tensor>,
    rotary: Rotary,
}

/// What the backward pass needs to know about one layer's forward pass.
struct Trace {
    input: Vec<f32>,
    inverse: Vec<f32>,
    normed: Tensor,
    qkv: Vec<f32>,
    weights: Vec<f32>,
    attended: Tensor,
    middle: Vec<f32>,
    middle_inverse: Vec<f32>,
    middle_normed: Tensor,
    gate_up: Vec<f32>,
    activated: Tensor,
}

const PER_LAYER: usize = 6;

impl Model {
    /// Fresh parameters: normal with deviation 0.02, and smaller where a layer
    /// writes to the residual stream, so that depth does not raise its variance.
    pub(crate) fn init(config: Config, seed: u64) -> Result<Self> {
        let mut parameters = Vec::new();
        for (index, (name, shape)) in config.parameters().into_iter().enumerate() {
            let mut rng = Rng::derive(seed, &[0x77, index as u64]);
            let writes = name.ends_with("attention_out") || name.ends_with("down");
            let shrink = if writes {
                (2.0 * config.layers as f64).sqrt()
            } else {
                1.0
            };
            let count = shape.iter().product();
            let values: Vec<f32> = if shape.len() == 1 {
                vec![1.0; count]
            } else {
                (0..count)
                    .map(|_| narrow(rng.normal() * 0.02 / shrink))
                    .collect()
            };
            parameters.push(Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Self::from_parameters(config, parameters)
    }

    pub(crate) fn from_parameters(config: Config, parameters: Vec<Tensor>) -> Result<Self> {
        let expected = config.parameters();
        ensure!(
            parameters.len() == expected.len(),
            "wrong number of parameters"
        );
        for (tensor, (name, shape)) in parameters.iter().zip(&expected) {
            ensure!(
                tensor.dims() == shape,
                "{name} has shape {:?}",
                tensor.dims()
            );
        }
        Ok(Self {
            config,
            parameters,
            rotary: Rotary::new(&config),
        })
    }

    /// Loss and, if `learn`, gradients on one batch.
    pub(crate) fn pass(&self, batch: &Batch, learn: bool) -> Result<Pass> {
        let config = &self.config;
        let mut x = self.embed(&batch.tokens)?;
        let mut traces = Vec::new();
        for layer in 0..config.layers {
            let trace = self.forward_layer(layer, &mut x, &batch.spans)?;
            if learn {
                traces.push(trace);
            }
        }
        let last: Vec<f32> = batch
            .rows
            .iter()
            .flat_map(|&r| row(&x, r, config.width))
            .collect();
        let norm = self.values(self.parameters.len() - 1)?;
        let (normed, inverse) = rms_norm(&last, &norm, config.norm_eps);
        let normed = matrix(normed, config.width)?;
        let embedding = &self.parameters[0];
        let mut logits = flat(&normed.matmul(&embedding.t()?)?)?;
        let (loss, right) =
            cross_entropy(&mut logits, &batch.targets, &batch.weights, config.vocab);
        if !learn {
            return Ok(Pass {
                loss,
                right,
                gradients: Vec::new(),
            });
        }

        let dlogits = matrix(logits, config.vocab)?;
        let mut gradients: Vec<Vec<f32>> = self
            .parameters
            .iter()
            .map(|p| vec![0.0; p.elem_count()])
            .collect();
        gradients[0] = flat(&dlogits.t()?.matmul(&normed)?)?;
        let dnormed = flat(&dlogits.matmul(embedding)?)?;
        let mut dlast = vec![0.0; last.len()];
        let dnorm = gradients.last_mut().expect("there is a final norm");
        rms_norm_backward(&last, &norm, &inverse, &dnormed, &mut dlast, dnorm);
        let mut dx = vec![0.0; x.len()];
        for (&r, d) in batch.rows.iter().zip(dlast.chunks_exact(config.width)) {
            add(&mut dx[r * config.width..(r + 1) * config.width], d);
        }
        for (layer, trace) in traces.iter().enumerate().rev() {
            self.backward_layer(layer, trace, &mut dx, &batch.spans, &mut gradients)?;
        }
        for (&token, d) in batch.tokens.iter().zip(dx.chunks_exact(config.width)) {
            let at = token as usize * config.width;
            add(&mut gradients[0][at..at + config.width], d);
        }
        Ok(Pass {
            loss,
            right,
            gradients,
        })
    }

    fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let table = self.values(0)?;
        Ok(tokens
            .iter()
            .flat_map(|&t| row(&table, t as usize, self.config.width))
            .collect())
    }

    fn forward_layer(&self, layer: usize, x: &mut [f32], spans: &[Span]) -> Result<Trace> {
        let config = &self.config;
        let at = 1 + layer * PER_LAYER;
        let weight = |i: usize| &self.parameters[at + i];
        let input = x.to_vec();
        let (normed, inverse) = rms_norm(&input, &self.values(at)?, config.norm_eps);
        let normed = matrix(normed, config.width)?;
        let mut qkv = flat(&normed.matmul(weight(1))?)?;
        self.rotary.turn(&mut qkv, spans, config, 1.0);
        let (attended, weights) = attention(&qkv, spans, config);
        let attended = matrix(attended, config.width)?;
        add(x, &flat(&attended.matmul(weight(2))?)?);

        let middle = x.to_vec();
        let (normed_2, middle_inverse) = rms_norm(&middle, &self.values(at + 3)?, config.norm_eps);
        let middle_normed = matrix(normed_2, config.width)?;
        let gate_up = flat(&middle_normed.matmul(weight(4))?)?;
        let activated = matrix(swiglu(&gate_up, config.ffn), config.ffn)?;
        add(x, &flat(&activated.matmul(weight(5))?)?);
        Ok(Trace {
            input,
            inverse,
            normed,
            qkv,
            weights,
            attended,
            middle,
            middle_inverse,
            middle_normed,
            gate_up,
            activated,
        })
    }

    /// Turns the gradient at the layer's output into the one at its input.
    fn backward_layer(
        &self,
        layer: usize,
        trace: &Trace,
        dx: &mut [f32],
        spans: &[Span],
        gradients: &mut [Vec<f32>],
    ) -> Result<()> {
        let config = &self.config;
        let at = 1 + layer * PER_LAYER;
        let weight = |i: usize| self.parameters[at + i].t();

        let dout = matrix(dx.to_vec(), config.width)?;
        gradients[at + 5] = flat(&trace.activated.t()?.matmul(&dout)?)?;
        let dactivated = flat(&dout.matmul(&weight(5)?)?)?;
        let dgate_up = swiglu_backward(&trace.gate_up, &dactivated, config.ffn);
        let dgate_up = matrix(dgate_up, 2 * config.ffn)?;
        gradients[at + 4] = flat(&trace.middle_normed.t()?.matmul(&dgate_up)?)?;
        let dnormed = flat(&dgate_up.matmul(&weight(4)?)?)?;
        let norm = self.values(at + 3)?;
        let dnorm = &mut gradients[at + 3];
        rms_norm_backward(
            &trace.middle,
            &norm,
            &trace.middle_inverse,
            &dnormed,
            dx,
            dnorm,
        );

        let dout = matrix(dx.to_vec(), config.width)?;
        gradients[at + 2] = flat(&trace.attended.t()?.matmul(&dout)?)?;
        let dattended = flat(&dout.matmul(&weight(2)?)?)?;
        let mut dqkv = attention_backward(&trace.qkv, &trace.weights, &dattended, spans, config);
        self.rotary.turn(&mut dqkv, spans, config, -1.0);
        let dqkv = matrix(dqkv, config.qkv_width())?;
        gradients[at + 1] = flat(&trace.normed.t()?.matmul(&dqkv)?)?;
        let dnormed = flat(&dqkv.matmul(&weight(1)?)?)?;
        let norm = self.values(at)?;
        rms_norm_backward(
            &trace.input,
            &norm,
            &trace.inverse,
            &dnormed,
            dx,
            &mut gradients[at],
        );
        Ok(())
    }

    /// A copy of one parameter's numbers.
    pub(crate) fn values(&self, index: usize) -> Result<Vec<f32>> {
        flat(&self.parameters[index])
    }
}

fn row(x: &[f32], index: usize, width: usize) -> impl Iterator<Item = f32> + '_ {
    x[index * width..(index + 1) * width].iter().copied()
}

fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

fn matrix(values: Vec<f32>, columns: usize) -> Result<Tensor> {
    let rows = values.len() / columns;
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

/// The numbers of a contiguous tensor.
pub(crate) fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = layout
        .contiguous_offsets()
        .expect("only contiguous tensors are read");
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(values[start..end].to_vec()),
        _ => anyhow::bail!("the training model lives on the CPU in 32 bits"),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to 32 bits is the point"
)]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Config = Config {
        vocab: 11,
        width: 8,
        ffn: 12,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        context: 8,
        norm_eps: 1e-5,
        rope_theta: 100.0,
    };

    fn batch() -> Batch {
        Batch {
            tokens: vec![1, 2, 3, 4, 5, 9, 8, 1],
            spans: vec![Span { start: 0, len: 5 }, Span { start: 5, len: 3 }],
            rows: vec![1, 3, 4, 6],
            targets: vec![7, 0, 10, 2],
            weights: vec![1.0, 0.5, 0.7, 1.0],
        }
    }

    /// Parameters large enough that no gradient drowns in rounding.
    fn tiny_model() -> Model {
        let mut rng = Rng::new(5);
        let mut draw = |(_, shape): (String, Vec<usize>)| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| narrow(rng.normal() * 0.5)).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).expect("the shape fits")
        };
        let parameters = TINY.parameters().into_iter().map(&mut draw).collect();
        Model::from_parameters(TINY, parameters).expect("the shapes are the model's")
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (mut model, batch) = (tiny_model(), batch());
        let pass = model.pass(&batch, true).expect("pass");
        let mut rng = Rng::new(6);
        for index in 0..model.parameters.len() {
            // One random direction per parameter checks all its numbers at once.
            let direction: Vec<f32> = pass.gradients[index]
                .iter()
                .map(|_| narrow(rng.normal()))
                .collect();
            let expected: f64 = pass.gradients[index]
                .iter()
                .zip(&direction)
                .map(|(g, d)| f64::from(g * d))
                .sum();
            let original = model.parameters[index].clone();
            let direction = Tensor::from_vec(direction, original.shape(), &Device::Cpu)
                .expect("as many as there are numbers");
            let mut loss_at = |step: f64| {
                let moved = (&original + (&direction * step).expect("scale")).expect("move");
                model.parameters[index] = moved;
                model.pass(&batch, false).expect("pass").loss
            };
            let step = 1e-3;
            let found = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            model.parameters[index] = original;
            let error = (found - expected).abs() / (1.0 + expected.abs());
            assert!(error < 5e-3, "parameter {index}: {found} and {expected}");
        }
    }

    #[test]
    fn sequences_in_one_batch_do_not_see_each_other() {
        let (model, both) = (tiny_model(), batch());
        let alone = Batch {
            tokens: both.tokens[5..].to_vec(),
            spans: vec![Span { start: 0, len: 3 }],
            rows: vec![1],
            targets: vec![2],
            weights: vec![1.0],
        };
        let mut only_last = both;
        only_last.weights = vec![0.0, 0.0, 0.0, 1.0];
        let alone = model.pass(&alone, false).expect("pass").loss;
        let together = model.pass(&only_last, false).expect("pass").loss;
        assert!((alone - together).abs() < 1e-6, "{alone} and {together}");
    }
}
