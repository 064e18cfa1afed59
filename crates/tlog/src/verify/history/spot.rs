//! Spot checks: the signatures of a random sample of a history's records.
//!
//! Verifying a signature costs most of what verifying a history costs. Order, tree, completeness,
//! numbers and control records are checked for every record all the same, so what a sample leaves
//! open is one thing: whether a log that is in league with a forger holds records whose signatures
//! do not hold. Whoever makes the file must not know the seed, so it is drawn afresh by whoever
//! verifies, and printed, so that anybody can repeat the check.
//!
//! Of `n` records exactly `m` are drawn, each set alike (selection sampling: Knuth, The Art of
//! Computer Programming 2, 3.4.2, algorithm S; random bits are SHA-256 of seed and number). If `k`
//! are forged, none of them is drawn with the hypergeometric probability
//! `C(n − k, m) / C(n, m)`.

use record::digest::Sha256;

/// A draw of records whose signatures are checked.
#[derive(Debug, Clone)]
pub struct Sample {
    seed: [u8; 32],
    of: u64,
    wanted: u64,
    seen: u64,
    drawn: u64,
}

impl Sample {
    /// Draws `wanted` of `of` records, all if that is more.
    #[must_use]
    pub fn new(seed: [u8; 32], wanted: u64, of: u64) -> Self {
        Self {
            seed,
            of,
            wanted: wanted.min(of),
            seen: 0,
            drawn: 0,
        }
    }

    /// Whether the next record is drawn. One beyond those that there should be always is.
    pub fn draws_next(&mut self) -> bool {
        let left = self.of.saturating_sub(self.seen);
        let wanted = self.wanted - self.drawn;
        let number = self.seen;
        self.seen += 1;
        if left == 0 {
            return true;
        }
        // A multiplication instead of a remainder: off by less than 2⁻⁴⁰ for any history.
        let below = (u128::from(self.bits(number)) * u128::from(left)) >> 64;
        let drawn = below < u128::from(wanted);
        self.drawn += u64::from(drawn);
        drawn
    }

    fn bits(&self, number: u64) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(&self.seed);
        hasher.update(&number.to_be_bytes());
        let digest = hasher.finish();
        let bytes = digest.as_bytes().first_chunk().copied();
        u64::from_be_bytes(bytes.unwrap_or_default())
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// How many are drawn.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Of how many.
    #[must_use]
    pub fn of(&self) -> u64 {
        self.of
    }

    /// The probability that none of `forged` records is drawn.
    #[must_use]
    pub fn miss(&self, forged: u64) -> f64 {
        miss(self.of, self.wanted, forged)
    }
}

/// `C(of − forged, drawn) / C(of, drawn)`: the probability that a sample has none of the forged.
#[must_use]
pub fn miss(of: u64, drawn: u64, forged: u64) -> f64 {
    if forged > of || drawn > of - forged {
        return if forged == 0 { 1.0 } else { 0.0 };
    }
    // The quotient is symmetric in the two; the shorter product is the faster one.
    let (few, many) = (forged.min(drawn), forged.max(drawn));
    let mut product = 1.0;
    for i in 0..few {
        product *= float(of - many - i) / float(of - i);
        if product == 0.0 {
            break;
        }
    }
    product
}

/// The smallest sample that misses `forged` of `of` records with a probability of `most` at most.
#[must_use]
pub fn sample_size(of: u64, forged: u64, most: f64) -> u64 {
    let (mut low, mut high) = (0, of);
    while low < high {
        let middle = low + (high - low) / 2;
        if miss(of, middle, forged) <= most {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a history has fewer than 2^53 records"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64) {
        assert!((found / wanted - 1.0).abs() < 1e-9, "{found}, not {wanted}");
    }

    #[test]
    fn the_miss_is_hypergeometric() {
        near(miss(10, 3, 2), 7.0 * 6.0 / (10.0 * 9.0));
        near(miss(10, 3, 2), miss(10, 2, 3));
        near(miss(1_000_000, 10_000, 1), 0.99);
        assert_eq!(
            [miss(9, 9, 1), miss(9, 5, 5), miss(9, 0, 3)],
            [0.0, 0.0, 1.0]
        );
        assert_eq!((miss(9, 4, 0), miss(0, 0, 0)), (1.0, 1.0));
        for (of, forged, most) in [(1_000_000, 1_000, 1e-6), (300_000, 1, 0.5), (50, 1, 1e-6)] {
            let size = sample_size(of, forged, most);
            assert!(miss(of, size, forged) <= most && miss(of, size - 1, forged) > most);
        }
    }

    /// Fails by chance less than once in 10⁶: each record is drawn 1,000 ± 28 times of 5,000.
    #[test]
    fn every_record_is_drawn_as_often_and_every_sample_has_its_size() {
        let (of, wanted, rounds) = (20, 4, 5_000u64);
        let mut drawn = [0u32; 20];
        for round in 0..rounds {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&round.to_be_bytes());
            let mut sample = Sample::new(seed, wanted, of);
            let picked: Vec<bool> = drawn.iter().map(|_| sample.draws_next()).collect();
            assert_eq!(picked.iter().filter(|it| **it).count(), 4);
            assert!(sample.draws_next(), "one too many is always looked at");
            for (count, picked) in drawn.iter_mut().zip(picked) {
                *count += u32::from(picked);
            }
        }
        assert!(drawn.iter().all(|n| (830..1170).contains(n)), "{drawn:?}");
    }
}
