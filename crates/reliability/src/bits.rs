//! One digest over what every estimator and detector makes of the same scores: it is pinned, so
//! another machine, compiler or version of `libm` that rounds differently fails here first.

use record::digest::Sha256;

use crate::boundary::RunningMean;
use crate::conformal::SimpleJumper;
use crate::detector::{Baseline, Budget, Detector};
use crate::evidence::{Confirmation, Means};
use crate::hedged::Hedged;
use crate::latency::Bands;
use crate::level::{Alpha, Interval};
use crate::parity::Parity;
use crate::testing::Draws;
use crate::{kt, share};

const PINNED: &str = "415dfa6e49682169f2b12d1ec4ae89762cf616cd019b0e25abe833b6e3f1eadf";

/// The digest covers the bits of every result after each hundredth score.
#[test]
fn the_same_scores_give_the_same_bits_on_every_machine() {
    let alpha = Alpha::FIVE_PERCENT;
    let mut draws = Draws::new(0xb175);
    let mut hasher = Sha256::new();
    let baseline = Baseline::new(0.2).expect("a baseline");
    let (mut mean, mut hedged) = (RunningMean::default(), Hedged::new(alpha));
    let (mut detector, mut jumper) = (Detector::default(), SimpleJumper::new());
    let means = Means::new(0.2, 0.5).expect("two means");
    let (mut parity, mut confirmation) = (Parity::new(), Confirmation::default());
    let (mut total, mut bad, mut buckets) = (0.0, 0u64, [0u64; 16]);
    for step in 1..=2000u64 {
        // Multiples of 1/1024: exact, so that only the estimators round.
        let score = libm::floor(draws.unit() * 512.0) / 1024.0;
        total += score;
        bad += u64::from(score < 0.05);
        buckets[usize::from(score < 0.2) + usize::from(score < 0.1)] += 1;
        mean.add(score);
        hedged.add(score);
        jumper.add(2.0 * score);
        parity.add(score, 0.25);
        confirmation.add(score, &means);
        detector.step(score, &baseline, 1.0 / 512.0, Budget::NETWORK);
        if step % 100 != 0 {
            continue;
        }
        let ends = |interval: Interval| [interval.lower, interval.upper];
        let mut results = vec![detector.evidence(), jumper.ln_e(), parity.ln_e()];
        results.extend(ends(share::interval(total, step, alpha)));
        results.extend(ends(kt::interval(step - bad, bad, alpha)));
        results.extend(ends(mean.interval(alpha)));
        results.extend(ends(hedged.interval()));
        for result in results {
            hasher.update(&result.to_bits().to_be_bytes());
        }
        let band = Bands::new(&buckets, &[0; 16], alpha).quantile(0.5);
        hasher.update(&(band.first as u64).to_be_bytes());
        hasher.update(format!("{:?}", confirmation.verdict()).as_bytes());
    }
    assert_eq!(hasher.finish().to_string(), PINNED);
}
