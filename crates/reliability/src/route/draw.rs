//! Random bits from a seed and a number: any draw can be made again without the ones before it.

/// `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    seed: u64,
    number: u64,
    state: u64,
}

impl Draw {
    /// The draw with this number.
    #[must_use]
    pub fn numbered(seed: u64, number: u64) -> Self {
        Self {
            seed,
            number,
            state: seed.wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95)),
        }
    }

    /// The seed that it was made from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// 64 more bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit` (0 if that is 0); by multiplication, with a bias below 2⁻³² for
    /// limits below 2³².
    pub fn below(&mut self, limit: u64) -> u64 {
        let high = (u128::from(self.bits()) * u128::from(limit)) >> 64;
        u64::try_from(high).unwrap_or(0)
    }

    /// Happens for this share of draws, ppm.
    pub fn happens(&mut self, share_ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(share_ppm)
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.bits() >> 11) as f64 * STEP
    }
}
