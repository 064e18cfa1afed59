//! The seeded sampler: Gumbel-max over a counter-based generator.
//!
//! Anyone who has the logits of a position can replay the choice. The whole rule, named
//! [`NAME`]; all arithmetic is IEEE 754 binary64 on the logits widened from binary32, `exp` and
//! `ln` are those of musl (the `libm` crate):
//!
//! 1. *T* = `temperature_ppm` / 10⁶, *P* = `top_p_ppm` / 10⁶, `seed` has 64 bits, *i* is a token
//!    id, *t* the number of tokens of the answer before this one (so the first has *t* = 0).
//! 2. If *T* = 0, the choice is the highest logit; of equals the lowest id.
//! 3. zᵢ = logitᵢ / *T*.
//! 4. If *P* < 1: wᵢ = exp(zᵢ − max z); *W* is their sum in ascending order of id. Walk the ids in
//!    descending order of z, of equals the lower id first, adding up wᵢ in that order; keep ids up
//!    to and with the first at which the sum is at least *P*·*W*. If *P* = 1, keep all.
//! 5. (r₀, r₁, r₂, r₃) = Philox4x32-10 with key (seed mod 2³², seed div 2³²) and counter
//!    (*i*, *t*, 0, 0). n = r₀ + 2³²·r₁; u = (⌊n / 2¹²⌋ + ½) · 2⁻⁵²; gᵢ = −ln(−ln u).
//! 6. The choice is the kept id with the highest zᵢ + gᵢ; of equals the lowest id.
//!
//! Philox4x32-10 is that of Salmon et al., *Parallel random numbers: as easy as 1, 2, 3* (SC 2011):
//! ten rounds with multipliers 0xD2511F53 and 0xCD9E8D57, Weyl keys 0x9E3779B9 and 0xBB67AE85.
//!
//! Log probabilities, ranks and margins are those of the raw distribution: temperature 1, no
//! `top_p`, as OpenAI returns them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Name of the sampling rule, as manifests state it.
pub const NAME: &str = "gumbel-max/philox4x32-10";

/// One million: 1 in parts per million.
pub const ONE_PPM: u32 = 1_000_000;

/// No Gumbel number is above this: −ln(−ln(1 − 2⁻⁵³)) = 36.7368…
const MAX_GUMBEL: f64 = 36.737;

/// Parameters of the sampler, in the integers that receipts carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Temperature, parts per million; 0 is greedy.
    pub temperature_ppm: u32,
    /// Share of probability kept, parts per million.
    pub top_p_ppm: u32,
    /// Seed.
    pub seed: u64,
}

impl Sampling {
    /// The highest logit, always.
    pub const GREEDY: Self = Self {
        temperature_ppm: 0,
        top_p_ppm: ONE_PPM,
        seed: 0,
    };

    /// Parameters from a request's numbers, rounded to parts per million: what is executed is what
    /// a receipt can say. Numbers are expected in range (see `ChatRequest::validate`); others are
    /// clamped. A `top_p` that rounds to nothing keeps one part per million.
    pub fn new(temperature: f64, top_p: f64, seed: u64) -> Self {
        Self {
            temperature_ppm: to_ppm(temperature, 4_000_000_000),
            top_p_ppm: to_ppm(top_p, ONE_PPM).max(1),
            seed,
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_ppm(value: f64, most: u32) -> u32 {
    // NaN becomes 0: `as` saturates and is defined for every input.
    libm::round(value * f64::from(ONE_PPM)).clamp(0.0, f64::from(most)) as u32
}

/// A logit is not a number: the model is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model gave no usable number for token {id}")]
pub struct NotANumber {
    /// The token whose logit it is.
    pub id: u32,
}

/// How a token stood at its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub token_id: u32,
    /// Natural logarithm of its probability in the raw distribution.
    pub logprob: f64,
    /// Tokens ahead of it: 0 for the greedy choice.
    pub rank: u32,
    /// Its logit minus the best other one: at least 0 for the greedy choice, negative otherwise.
    pub margin: f64,
    /// With known sampling parameters: its perturbed score minus the best other one. At least 0
    /// if the sampler picks it, negative otherwise, −∞ if `top_p` excludes it.
    pub gumbel_margin: Option<f64>,
}

/// The logits of one position: at least one, none of them NaN.
#[derive(Debug, Clone, Copy)]
pub struct Logits<'a> {
    values: &'a [f32],
    best: u32,
}

impl<'a> Logits<'a> {
    /// Looks at the logits of one position. Empty logits and NaN are refused.
    pub fn new(values: &'a [f32]) -> Result<Self, NotANumber> {
        let mut best = 0u32;
        let mut highest = *values.first().ok_or(NotANumber { id: 0 })?;
        for (id, &value) in (0u32..).zip(values) {
            if value.is_nan() || value == f32::INFINITY {
                return Err(NotANumber { id });
            }
            if value > highest {
                highest = value;
                best = id;
            }
        }
        if highest == f32::NEG_INFINITY {
            return Err(NotANumber { id: best });
        }
        Ok(Self { values, best })
    }

    /// The greedy choice.
    pub fn best(&self) -> u32 {
        self.best
    }

    fn value(&self, id: u32) -> f64 {
        self.values
            .get(id as usize)
            .map_or(f64::NEG_INFINITY, |&value| f64::from(value))
    }

    fn ids(&self) -> impl Iterator<Item = (u32, f64)> {
        (0u32..).zip(self.values.iter().map(|&value| f64::from(value)))
    }

    /// ln Σ exp(logit), added up in ascending order of id.
    pub fn log_normaliser(&self) -> f64 {
        let highest = self.value(self.best);
        let sum: f64 = self
            .ids()
            .map(|(_, value)| libm::exp(value - highest))
            .sum();
        highest + libm::log(sum)
    }

    /// The `count` likeliest tokens with their log probabilities, best first, of equals the lower
    /// id first.
    pub fn top(&self, count: usize) -> Vec<(u32, f64)> {
        let normaliser = self.log_normaliser();
        let mut ranked = self.ranked(1.0);
        std::iter::from_fn(|| ranked.pop())
            .take(count)
            .map(|entry| (entry.id, entry.value - normaliser))
            .collect()
    }

    fn ranked(&self, temperature: f64) -> BinaryHeap<Ranked> {
        self.ids()
            .map(|(id, value)| Ranked {
                value: value / temperature,
                id,
            })
            .collect()
    }

    /// Picks the token at place `position` of the answer.
    pub fn pick(&self, sampling: &Sampling, position: u32) -> u32 {
        if sampling.temperature_ppm == 0 {
            return self.best;
        }
        let race = Race::new(sampling, position);
        match self.kept(sampling) {
            Some(kept) => race.winner(kept.into_iter().map(|entry| (entry.id, entry.value))),
            None => race.winner(self.scaled(sampling)),
        }
        .map_or(self.best, |(id, _)| id)
    }

    /// zᵢ of every token, the greedy choice first: the sooner a good score is known, the more of
    /// the others need no random number.
    fn scaled(&self, sampling: &Sampling) -> impl Iterator<Item = (u32, f64)> {
        let temperature = temperature(sampling);
        let best = (self.best, self.value(self.best) / temperature);
        std::iter::once(best).chain(
            self.ids()
                .filter(move |(id, _)| *id != best.0)
                .map(move |(id, value)| (id, value / temperature)),
        )
    }

    /// Tokens that `top_p` keeps, best first; `None` if it keeps all.
    fn kept(&self, sampling: &Sampling) -> Option<Vec<Ranked>> {
        if sampling.top_p_ppm >= ONE_PPM {
            return None;
        }
        let temperature = temperature(sampling);
        let highest = self.value(self.best) / temperature;
        let whole: f64 = self
            .ids()
            .map(|(_, value)| libm::exp(value / temperature - highest))
            .sum();
        let enough = f64::from(sampling.top_p_ppm) / f64::from(ONE_PPM) * whole;
        let mut ranked = self.ranked(temperature);
        let mut kept = Vec::new();
        let mut sum = 0.0;
        while let Some(entry) = ranked.pop() {
            sum += libm::exp(entry.value - highest);
            kept.push(entry);
            if sum >= enough {
                break;
            }
        }
        Some(kept)
    }

    /// How token `id` stands here; with `sampled` parameters and place, also how the sampler saw
    /// it. `None` if there is no such token.
    pub fn score(&self, id: u32, sampled: Option<(&Sampling, u32)>) -> Option<TokenScore> {
        let own = f64::from(*self.values.get(id as usize)?);
        let mut rank = 0u32;
        let mut best_other = f64::NEG_INFINITY;
        for (other, value) in self.ids().filter(|(other, _)| *other != id) {
            if value > own || (value == own && other < id) {
                rank += 1;
            }
            best_other = best_other.max(value);
        }
        Some(TokenScore {
            token_id: id,
            logprob: own - self.log_normaliser(),
            rank,
            margin: own - best_other,
            gumbel_margin: sampled.map(|(sampling, place)| self.gumbel_margin(id, sampling, place)),
        })
    }

    fn gumbel_margin(&self, id: u32, sampling: &Sampling, position: u32) -> f64 {
        if sampling.temperature_ppm == 0 {
            let others = self.ids().filter(|(other, _)| *other != id);
            return self.value(id) - others.fold(f64::NEG_INFINITY, |a, (_, value)| a.max(value));
        }
        let race = Race::new(sampling, position);
        let (own, other) = match self.kept(sampling) {
            Some(kept) => {
                let Some(own) = kept.iter().find(|entry| entry.id == id) else {
                    return f64::NEG_INFINITY;
                };
                let others = kept.iter().filter(|entry| entry.id != id);
                let other = race.winner(others.map(|entry| (entry.id, entry.value)));
                (race.perturbed(id, own.value), other)
            }
            None => {
                let own = self.value(id) / temperature(sampling);
                let others = self.scaled(sampling).filter(|(other, _)| *other != id);
                (race.perturbed(id, own), race.winner(others))
            }
        };
        own - other.map_or(f64::NEG_INFINITY, |(_, score)| score)
    }
}

fn temperature(sampling: &Sampling) -> f64 {
    f64::from(sampling.temperature_ppm) / f64::from(ONE_PPM)
}

/// A token in order of likelihood: the greatest is the likeliest, of equals the lowest id.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    value: f64,
    id: u32,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        // Never NaN; `partial_cmp` so that 0 and −0 are equal.
        self.value
            .partial_cmp(&other.value)
            .unwrap_or(Ordering::Equal)
            .then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The random numbers of one place.
struct Race {
    key: [u32; 2],
    position: u32,
}

impl Race {
    #[allow(clippy::cast_possible_truncation)]
    fn new(sampling: &Sampling, position: u32) -> Self {
        Self {
            key: [sampling.seed as u32, (sampling.seed >> 32) as u32],
            position,
        }
    }

    fn perturbed(&self, id: u32, scaled: f64) -> f64 {
        let [low, high, _, _] = philox4x32_10([id, self.position, 0, 0], self.key);
        let n = u64::from(low) | u64::from(high) << 32;
        #[allow(clippy::cast_precision_loss)] // 52 bits are exact
        let u = ((n >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64);
        scaled - libm::log(-libm::log(u))
    }

    /// The token with the highest perturbed score.
    fn winner(&self, tokens: impl Iterator<Item = (u32, f64)>) -> Option<(u32, f64)> {
        let mut best: Option<(u32, f64)> = None;
        for (id, scaled) in tokens {
            if let Some((_, score)) = best
                && scaled + MAX_GUMBEL < score
            {
                continue; // no random number could lift it past the best
            }
            let own = self.perturbed(id, scaled);
            let wins =
                best.is_none_or(|(best_id, score)| own > score || (own == score && id < best_id));
            if wins {
                best = Some((id, own));
            }
        }
        best
    }
}

/// Philox4x32 with ten rounds.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [c0, c1, c2, c3] = counter;
        let (low0, high0) = wide_product(0xD251_1F53, c0);
        let (low1, high1) = wide_product(0xCD9E_8D57, c2);
        counter = [high1 ^ c1 ^ key[0], low1, high0 ^ c3 ^ key[1], low0];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

#[allow(clippy::cast_possible_truncation)] // halves of a 64-bit product
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    (product as u32, (product >> 32) as u32)
}

#[cfg(test)]
mod tests;
