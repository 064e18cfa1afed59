//! The inner loops of dense arithmetic, in one fixed order.
//!
//! A product of a row with a weight row adds up sixteen partial sums and then folds them in halves,
//! whatever the number of rows at once, the number of threads and the width of the machine's
//! vectors. Products and sums are never fused. So a position has the same logits, to the last bit,
//! in a prefill as token by token, alone as among others, and on one machine as on the next.

use rayon::prelude::*;

/// Partial sums of a dot product.
const LANES: usize = 16;

/// Multiplications from which on a product is spread over threads.
const PARALLEL_FROM: usize = 1 << 23;

/// out = x · wᵀ, with x of `out.len() / n` rows of `k` and w of `n` rows of `k`.
pub(super) fn matmul(w: &[f32], x: &[f32], out: &mut [f32], k: usize, n: usize) {
    let m = x.len() / k;
    debug_assert!(w.len() == n * k && out.len() == m * n);
    if m * n * k < PARALLEL_FROM {
        Product { w, x, out, k, n }.run();
    } else if m == 1 {
        let chunk = n.div_ceil(rayon::current_num_threads()).next_multiple_of(4);
        out.par_chunks_mut(chunk)
            .zip(w.par_chunks(chunk * k))
            .for_each(|(out, w)| {
                let n = out.len();
                Product { w, x, out, k, n }.run();
            });
    } else {
        let chunk = m.div_ceil(rayon::current_num_threads()).next_multiple_of(4);
        out.par_chunks_mut(chunk * n)
            .zip(x.par_chunks(chunk * k))
            .for_each(|(out, x)| Product { w, x, out, k, n }.run());
    }
}

struct Product<'a> {
    w: &'a [f32],
    x: &'a [f32],
    out: &'a mut [f32],
    k: usize,
    n: usize,
}

impl Product<'_> {
    /// Runs with the widest vectors the machine has; the numbers do not depend on them.
    fn run(self) {
        pulp::Arch::new().dispatch(self);
    }
}

impl pulp::NullaryFnOnce for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { w, x, out, k, n } = self;
        let row = |of: &'_ [f32], index: usize| -> std::ops::Range<usize> {
            debug_assert!((index + 1) * k <= of.len());
            index * k..(index + 1) * k
        };
        let m = x.len() / k;
        let quads = m / 4 * 4;
        // Four rows of x share each weight row.
        for j in 0..n {
            let weights = &w[row(w, j)];
            for i in (0..quads).step_by(4) {
                let four = [0, 1, 2, 3].map(|more| &x[row(x, i + more)]);
                for (more, sum) in dot4(four, weights).into_iter().enumerate() {
                    out[(i + more) * n + j] = sum;
                }
            }
        }
        // The rest: four weight rows share each row of x.
        for i in quads..m {
            let own = &x[row(x, i)];
            let out = &mut out[i * n..(i + 1) * n];
            for j in (0..n / 4 * 4).step_by(4) {
                let four = [0, 1, 2, 3].map(|more| &w[row(w, j + more)]);
                out[j..j + 4].copy_from_slice(&dot4(four, own));
            }
            for j in n / 4 * 4..n {
                out[j] = dot(&w[row(w, j)], own);
            }
        }
    }
}

/// Σ aᵢ·bᵢ in the fixed order. The slices have the same length.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        add_products(&mut sums, a, b);
    }
    add_rest(&mut sums, a_rest, b_rest);
    fold(sums)
}

/// Four dot products with `b`, each in the same order as [`dot`].
#[inline(always)]
fn dot4(a: [&[f32]; 4], b: &[f32]) -> [f32; 4] {
    let (b, b_rest) = b.as_chunks::<LANES>();
    let [(a0, r0), (a1, r1), (a2, r2), (a3, r3)] = a.map(|a| a.as_chunks::<LANES>());
    let n = b.len();
    let (a0, a1, a2, a3) = (&a0[..n], &a1[..n], &a2[..n], &a3[..n]);
    let (mut s0, mut s1, mut s2, mut s3) =
        ([0f32; LANES], [0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for i in 0..n {
        add_products(&mut s0, &a0[i], &b[i]);
        add_products(&mut s1, &a1[i], &b[i]);
        add_products(&mut s2, &a2[i], &b[i]);
        add_products(&mut s3, &a3[i], &b[i]);
    }
    add_rest(&mut s0, r0, b_rest);
    add_rest(&mut s1, r1, b_rest);
    add_rest(&mut s2, r2, b_rest);
    add_rest(&mut s3, r3, b_rest);
    [fold(s0), fold(s1), fold(s2), fold(s3)]
}

#[inline(always)]
fn add_products(sums: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
    for lane in 0..LANES {
        sums[lane] += a[lane] * b[lane];
    }
}

#[inline(always)]
fn add_rest(sums: &mut [f32; LANES], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}

/// Folds the upper half onto the lower until one is left.
#[inline(always)]
fn fold(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Root mean square norm of each row of `x`, times `weight`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let scale = scale_of(x, epsilon);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

/// As [`rms_norm`], over `x` itself.
pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
    for x in x.chunks_exact_mut(weight.len()) {
        let scale = scale_of(x, epsilon);
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * scale * weight;
        }
    }
}

/// What a row is multiplied by to have a root mean square of one.
fn scale_of(x: &[f32], epsilon: f32) -> f32 {
    #[allow(clippy::cast_precision_loss)] // widths are far below 2²⁴
    let count = x.len() as f32;
    1.0 / libm::sqrtf(dot(x, x) / count + epsilon)
}

/// gate = silu(gate) · up.
pub(super) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + libm::expf(-*gate)) * up;
    }
}

/// Softmax in place.
pub(super) fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = libm::expf(*score - highest);
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count)
            .map(|index| {
                let index = u32::try_from(index).expect("small");
                let [word, ..] = crate::sampling::philox4x32_10([index, 0, 0, 0], [seed, 0]);
                f32::from(u16::try_from(word >> 16).expect("16 bits")) / 65_536.0 - 0.5
            })
            .collect()
    }

    #[test]
    fn products_are_right_and_the_same_however_they_are_cut() {
        // The last two go over the threshold for threads.
        for (m, k, n) in [
            (1, 5, 3),
            (7, 33, 9),
            (4, 64, 8),
            (9, 1, 1),
            (64, 520, 300),
            (1, 4100, 2100),
        ] {
            let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
            let mut out = vec![0.0; m * n];
            matmul(&w, &x, &mut out, k, n);
            for i in 0..m {
                let mut alone = vec![0.0; n];
                matmul(&w, &x[i * k..(i + 1) * k], &mut alone, k, n);
                assert_eq!(alone, out[i * n..(i + 1) * n], "row {i} of {m}×{k}×{n}");
                for j in (0..n).step_by(17) {
                    let plain: f64 = (0..k)
                        .map(|at| f64::from(x[i * k + at]) * f64::from(w[j * k + at]))
                        .sum();
                    assert!((f64::from(out[i * n + j]) - plain).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn norm_softmax_and_gate() {
        let mut out = [0.0; 4];
        rms_norm(&[3.0, 4.0, 0.0, 0.0], &[1.0, 2.0, 1.0, 1.0], 0.0, &mut out);
        assert!((out[0] - 1.2).abs() < 1e-6 && (out[1] - 3.2).abs() < 1e-6);
        let mut scores = [0.0, f32::NEG_INFINITY, 0.0];
        softmax(&mut scores);
        assert_eq!(scores, [0.5, 0.0, 0.5]);
        let mut gate = [0.0, 1.0];
        swiglu(&mut gate, &[5.0, 2.0]);
        assert!(gate[0] == 0.0 && (gate[1] - 2.0 * 0.731_058_6).abs() < 1e-6);
    }
}
