//! Bands around known distributions, with and without calls that were given up.

use super::*;
use crate::testing::Draws;

const ALPHA: Alpha = Alpha::FIVE_PERCENT;
const BUCKETS: usize = 40;

/// Buckets a quarter of an octave wide from 1.
fn bucket(duration: f64) -> usize {
    let step = libm::floor(4.0 * libm::log2(duration.max(1.0)));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and capped"
    )]
    let place = step as usize;
    place.min(BUCKETS - 1)
}

#[test]
fn nothing_observed_leaves_every_quantile_open() {
    let bands = Bands::new(&[0; BUCKETS], &[0; BUCKETS], ALPHA);
    let want = QuantileBand {
        first: 0,
        last: None,
    };
    assert_eq!(bands.quantile(0.5), want);
}

#[test]
fn many_calls_in_one_bucket_pin_the_median_to_it() {
    let mut finished = [0; BUCKETS];
    finished[12] = 2000;
    let band = Bands::new(&finished, &[0; BUCKETS], ALPHA).quantile(0.5);
    assert_eq!((band.first, band.last), (12, Some(12)));
}

#[test]
fn calls_that_were_given_up_never_make_an_endpoint_look_fast() {
    let (mut finished, mut censored) = ([0; BUCKETS], [0; BUCKETS]);
    finished[8] = 1000;
    censored[16] = 1000;
    let band = Bands::new(&finished, &censored, ALPHA).quantile(0.9);
    assert!(
        band.first >= 16,
        "half of all calls lasted at least until bucket 16: {band:?}"
    );
    assert_eq!(band.last, None, "and nobody knows how much longer");
    let ignored = Bands::new(&finished, &[0; BUCKETS], ALPHA).quantile(0.9);
    assert_eq!(ignored.last, Some(8));
}

/// Median, 90 % and 99 % of log-normal durations lie in their bands at every look, on all but 5 %
/// of paths, though callers give up on a tenth of the calls at a random time.
///
/// Odds of a wrong alarm: with a true ever-miss of 5 % the misses on 200 paths have mean 10 and
/// standard deviation 3.1; the limit of 27 is more than five deviations up.
#[test]
fn bands_cover_at_every_look() {
    let mut draws = Draws::new(0x1a7e);
    let (median, sigma) = (20.0, 0.8);
    let quantiles = [(0.5, 0.0), (0.9, 1.281_551_566), (0.99, 2.326_347_874)]
        .map(|(share, z)| (share, bucket(median * libm::exp(sigma * z))));
    let (mut missed, mut narrow) = (0, 0);
    for _ in 0..200 {
        let (mut finished, mut censored) = ([0; BUCKETS], [0; BUCKETS]);
        let mut miss = false;
        for call in 1..=3000u32 {
            let duration = draws.log_normal(median, sigma);
            let patience = if draws.flip(0.1) == 1 {
                draws.log_normal(median, sigma)
            } else {
                f64::INFINITY
            };
            if duration <= patience {
                finished[bucket(duration)] += 1;
            } else {
                censored[bucket(patience)] += 1;
            }
            if call % 250 == 0 {
                let bands = Bands::new(&finished, &censored, ALPHA);
                for (share, truth) in quantiles {
                    let band = bands.quantile(share);
                    miss |= truth < band.first || band.last.is_some_and(|last| truth > last);
                }
            }
        }
        let median = Bands::new(&finished, &censored, ALPHA).quantile(0.5);
        narrow += u32::from(median.last.is_some_and(|last| last - median.first <= 4));
        missed += u32::from(miss);
    }
    assert!(missed <= 27, "{missed} of 200 paths missed");
    assert!(narrow > 190, "an octave around the median: {narrow} of 200");
}
