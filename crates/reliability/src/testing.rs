//! Seeded draws for simulations: a failure can be replayed.

/// `SplitMix64`.
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).expect("32 bits are left");
        f64::from(bits) / 4_294_967_296.0
    }

    /// 1 with the given chance, else 0.
    pub(crate) fn flip(&mut self, chance: f64) -> u32 {
        u32::from(self.unit() < chance)
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -libm::log1p(-self.unit())
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(core::f64::consts::TAU * self.unit())
    }

    /// Log-normal with the given median.
    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * libm::exp(sigma * self.normal())
    }

    /// Gamma with the given shape (Marsaglia and Tsang 2000).
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let scale = libm::pow(self.unit().max(1e-300), 1.0 / shape);
            return self.gamma(shape + 1.0) * scale;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = libm::pow(1.0 + c * x, 3.0);
            if v > 0.0 && -self.exponential() < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// The chance behind one batch, so that outcomes in a batch correlate by `correlation`:
    /// Beta with that mean.
    pub(crate) fn batch_chance(&mut self, mean: f64, correlation: f64) -> f64 {
        let weight = 1.0 / correlation - 1.0;
        let (a, b) = (self.gamma(mean * weight), self.gamma((1.0 - mean) * weight));
        if a + b > 0.0 { a / (a + b) } else { mean }
    }
}
