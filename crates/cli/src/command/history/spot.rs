//! Which signatures of a history are looked at: all of them, or of a large one a random sample.

use anyhow::Result;
use clap::Args;
use record::Digest;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use tlog::verify::history::{Sample, sample_size};

use crate::files::Unusable;

/// Histories with more records than this are spot-checked unless all is asked for.
const ALL_UP_TO: u64 = 200_000;
/// What a sample is to find, unless something else is said: one forged record in a thousand, ...
const FORGED_ONE_IN: u64 = 1_000;
/// ... missed with this probability.
const MISS_DEFAULT: f64 = 1e-6;

/// Of bundles that summaries tell of, one in so many: a bundle is 256 entries to read.
const MISSTATED_ONE_IN: u64 = 100;

/// Which signatures are looked at. Order, tree, completeness, numbers and control records are
/// checked for every record in any case.
#[derive(Args, Clone, Default)]
pub(crate) struct Signatures {
    /// Verify every signature, however many there are. Up to 200,000 records that is the default. Of
    /// summaries: count every bundle again.
    #[arg(long, conflicts_with_all = ["spot", "miss", "seed"])]
    all: bool,
    /// Verify the signatures of N records, drawn at random; count N bundles again.
    #[arg(long, value_name = "N", conflicts_with = "miss")]
    spot: Option<u64>,
    /// Verify as many as it takes to miss, with probability P at most, that one record in a thousand
    /// is forged, or one bundle in a hundred misstated. Above 200,000 records the default is 1e-6.
    #[arg(long, value_name = "P")]
    miss: Option<f64>,
    /// Repeat the draw of an earlier run; without it a fresh seed is drawn, and printed.
    #[arg(long, value_name = "HEX")]
    seed: Option<Digest>,
}

impl Signatures {
    /// All, for whatever is kept.
    pub(super) fn every_one() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// The draw for a history of so many records; `None` for all of them.
    pub(super) fn sample(&self, records: u64) -> Result<Option<Sample>> {
        let silent = self.spot.is_none() && self.miss.is_none() && self.seed.is_none();
        if self.all || (silent && records <= ALL_UP_TO) {
            return Ok(None);
        }
        let miss = self.miss.unwrap_or(MISS_DEFAULT);
        if !(miss > 0.0 && miss < 1.0) {
            return Err(Unusable("--miss is a probability between 0 and 1".to_owned()).into());
        }
        let forged = (records / FORGED_ONE_IN).max(1);
        let wanted = self
            .spot
            .unwrap_or_else(|| sample_size(records, forged, miss));
        let seed = match self.seed {
            Some(seed) => *seed.as_bytes(),
            None => fresh_seed()?,
        };
        Ok(Some(Sample::new(seed, wanted, records)))
    }

    /// The draw of bundles to count again.
    pub(super) fn bundles(&self, bundles: u64) -> Result<Sample> {
        let miss = self.miss.unwrap_or(MISS_DEFAULT);
        if !(miss > 0.0 && miss < 1.0) {
            return Err(Unusable("--miss is a probability between 0 and 1".to_owned()).into());
        }
        let misstated = (bundles / MISSTATED_ONE_IN).max(1);
        let wanted = match self.spot {
            _ if self.all => bundles,
            Some(wanted) => wanted,
            None => sample_size(bundles, misstated, miss),
        };
        let seed = self
            .seed
            .map_or_else(fresh_seed, |seed| Ok(*seed.as_bytes()))?;
        Ok(Sample::new(seed, wanted, bundles))
    }
}

fn fresh_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    let drawn = SystemRandom::new().fill(&mut seed);
    drawn.map_err(|_| anyhow::anyhow!("this machine has no randomness for a seed"))?;
    Ok(seed)
}

/// Numbers of forged records, and how likely it is that all of them were missed.
fn misses(sample: &Sample) -> impl Iterator<Item = (u64, f64)> + '_ {
    let of = sample.of();
    let each = [1, of / 10_000, of / 1_000, of / 100];
    let told = each.into_iter().enumerate();
    told.filter(|(at, forged)| *at == 0 || *forged > 1)
        .map(|(_, forged)| (forged, sample.miss(forged)))
}

/// The draw, and how likely so many of `what` all go unnoticed.
pub(super) fn to_json(sample: &Sample, what: &str) -> serde_json::Value {
    let misses: Vec<_> = misses(sample)
        .map(|(forged, miss)| json!({what: forged, "miss": miss}))
        .collect();
    json!({
        "seed": Digest::from_bytes(*sample.seed()),
        "drawn": sample.wanted(),
        "of": sample.of(),
        "misses": misses,
    })
}

/// What a person has to know about it.
pub(super) fn in_words(sample: &Sample) -> String {
    format!(
        "spot check: the signatures of {} of {} records, and of all control records; it misses {}; \
         seed {}; --all looks at every one",
        sample.wanted(),
        sample.of(),
        misses_in_words(sample, "forged record"),
        Digest::from_bytes(*sample.seed())
    )
}

/// How likely one or several of `what` go unnoticed.
pub(super) fn misses_in_words(sample: &Sample, what: &str) -> String {
    let misses = misses(sample).map(|(number, miss)| match number {
        1 => format!("one {what} {}", odds(miss)),
        many => format!("{many} of them all {}", odds(miss)),
    });
    misses.collect::<Vec<_>>().join(", ")
}

fn odds(miss: f64) -> String {
    if miss >= 0.01 {
        format!("with probability {miss:.2}")
    } else {
        format!("with probability {miss:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_histories_are_checked_whole_and_large_ones_by_a_sample_that_is_repeatable() {
        let silent = Signatures::default();
        assert!(silent.sample(200_000).expect("fine").is_none());
        assert!(
            Signatures::every_one()
                .sample(9_000_000)
                .expect("fine")
                .is_none()
        );
        let sample = silent.sample(1_000_000).expect("fine").expect("a sample");
        assert!(sample.miss(1_000) <= 1e-6 && sample.wanted() < 14_000);
        let text = in_words(&sample);
        assert!(
            text.contains("one forged record with probability 0.99"),
            "{text}"
        );
        assert!(
            text.contains("1000 of them all with probability 1e-6"),
            "{text}"
        );

        let again = Signatures {
            spot: Some(5),
            seed: Some(Digest::from_bytes([7; 32])),
            ..Signatures::default()
        };
        let draw = || {
            let mut sample = again.sample(100).expect("fine").expect("a sample");
            (0..100).map(|_| sample.draws_next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        let wrong = Signatures {
            miss: Some(1.5),
            ..Signatures::default()
        };
        assert!(wrong.sample(9).is_err());
    }
}
