//! AdamW with clipping, and the learning rate over the run.
//!
//! The moments are plain vectors, so that a checkpoint can hold them.
//!
//! Loshchilov and Hutter, "Decoupled weight decay regularization" (ICLR 2019).

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::model::{Model, flat, narrow};

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.98;
const EPSILON: f32 = 1e-8;
const WEIGHT_DECAY: f32 = 0.05;
const GRADIENT_NORM_MAX: f64 = 1.0;

/// Learning rate: a short rise, a plateau, a straight fall to almost nothing.
///
/// A plateau rather than a cosine, because a run may then be lengthened as long
/// as its fall has not begun, and the result is still what one run would give.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) peak: f64,
    pub(crate) warmup: u64,
    pub(crate) steps: u64,
}

impl Schedule {
    /// Share of the run in which the rate falls: long, because held-out accuracy
    /// swings by ten points from one checkpoint to the next on the plateau.
    const FALL: f64 = 0.5;
    const FLOOR: f64 = 0.02;

    pub(crate) fn rate(&self, step: u64) -> f64 {
        let rise = (step + 1) as f64 / self.warmup as f64;
        let left = self.steps.saturating_sub(step) as f64 / (self.steps as f64 * Self::FALL);
        self.peak * rise.min(1.0) * left.clamp(Self::FLOOR, 1.0)
    }
}

/// First and second moments, in the order of the parameters.
#[derive(Debug)]
pub(crate) struct AdamW {
    pub(crate) first: Vec<Vec<f32>>,
    pub(crate) second: Vec<Vec<f32>>,
}

impl AdamW {
    pub(crate) fn new(model: &Model) -> Self {
        let zeros = || {
            model
                .parameters
                .iter()
                .map(|p| vec![0.0; p.elem_count()])
                .collect()
        };
        Self {
            first: zeros(),
            second: zeros(),
        }
    }

    /// Moves the parameters against `gradients`. Returns the norm of the
    /// gradient before it was clipped.
    pub(crate) fn step(
        &mut self,
        model: &mut Model,
        gradients: &[Vec<f32>],
        step: u64,
        rate: f64,
    ) -> Result<f64> {
        let squares = gradients
            .iter()
            .flatten()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>();
        let norm = squares.sqrt();
        let clip = narrow((GRADIENT_NORM_MAX / norm.max(1e-12)).min(1.0));
        let count = i32::try_from(step + 1)?;
        let correction_1 = 1.0 / (1.0 - BETA_1.powi(count));
        let correction_2 = 1.0 / (1.0 - BETA_2.powi(count));
        let rate = narrow(rate);
        for (index, gradient) in gradients.iter().enumerate() {
            let tensor = &model.parameters[index];
            // Norm weights are not decayed: their natural value is one, not nought.
            let decay = if tensor.rank() == 1 {
                0.0
            } else {
                WEIGHT_DECAY
            };
            let mut values = flat(tensor)?;
            let moments = self.first[index].iter_mut().zip(&mut self.second[index]);
            for ((value, (m, v)), g) in values.iter_mut().zip(moments).zip(gradient) {
                let g = g * clip;
                *m = BETA_1 * *m + (1.0 - BETA_1) * g;
                *v = BETA_2 * *v + (1.0 - BETA_2) * g * g;
                let move_by = *m * correction_1 / ((*v * correction_2).sqrt() + EPSILON);
                *value -= rate * (move_by + decay * *value);
            }
            let shape = tensor.dims().to_vec();
            model.parameters[index] = Tensor::from_vec(values, shape, &Device::Cpu)?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rises_stays_and_falls() {
        let schedule = Schedule {
            peak: 1.0,
            warmup: 10,
            steps: 1000,
        };
        assert!((schedule.rate(0) - 0.1).abs() < 1e-12);
        assert!((schedule.rate(400) - 1.0).abs() < 1e-12);
        assert!((schedule.rate(750) - 0.5).abs() < 1e-12);
        assert!((schedule.rate(2000) - Schedule::FLOOR).abs() < 1e-12);
    }
}
