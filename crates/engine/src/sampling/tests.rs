use super::*;

/// Known answers of Random123's `kat_vectors` for philox4x32 with 10 rounds.
#[test]
fn philox_gives_the_published_numbers() {
    assert_eq!(
        philox4x32_10([0; 4], [0; 2]),
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
    );
    assert_eq!(
        philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    assert_eq!(
        philox4x32_10(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0]
        ),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

fn logits() -> Vec<f32> {
    vec![1.0, 3.0, 3.0, -2.0, 0.5]
}

/// The rule of the module header, once more and as naively as can be.
fn naive_pick(values: &[f32], sampling: &Sampling, position: u32) -> u32 {
    let t = f64::from(sampling.temperature_ppm) / 1e6;
    let z: Vec<f64> = values.iter().map(|&v| f64::from(v) / t).collect();
    let max = z.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let mut order: Vec<usize> = (0..z.len()).collect();
    order.sort_by(|&a, &b| z[b].total_cmp(&z[a]).then(a.cmp(&b)));
    let whole: f64 = z.iter().map(|&v| libm::exp(v - max)).sum();
    let p = f64::from(sampling.top_p_ppm) / 1e6;
    let mut kept = Vec::new();
    let mut sum = 0.0;
    for id in order {
        kept.push(id);
        sum += libm::exp(z[id] - max);
        if p < 1.0 && sum >= p * whole {
            break;
        }
    }
    kept.sort_unstable();
    let key = [
        u32::try_from(sampling.seed & 0xffff_ffff).expect("32 bits"),
        u32::try_from(sampling.seed >> 32).expect("32 bits"),
    ];
    let mut best = (0usize, f64::NEG_INFINITY);
    for id in kept {
        let r = philox4x32_10([u32::try_from(id).expect("small"), position, 0, 0], key);
        let n = u64::from(r[0]) + (u64::from(r[1]) << 32);
        let u = ((n >> 12) as f64 + 0.5) / 4_503_599_627_370_496.0;
        let score = z[id] - libm::log(-libm::log(u));
        if score > best.1 {
            best = (id, score);
        }
    }
    u32::try_from(best.0).expect("small")
}

#[test]
fn greedy_and_ties_go_to_the_lowest_id() {
    let values = logits();
    let logits = Logits::new(&values).expect("numbers");
    assert_eq!(logits.best(), 1);
    assert_eq!(logits.pick(&Sampling::GREEDY, 0), 1);
    assert_eq!(
        logits.top(3).iter().map(|t| t.0).collect::<Vec<_>>(),
        [1, 2, 0]
    );
    let second = logits.score(2, None).expect("token 2");
    assert_eq!((second.rank, second.margin), (1, 0.0));
    let last = logits.score(3, None).expect("token 3");
    assert_eq!((last.rank, last.margin), (4, -5.0));
    assert_eq!(logits.score(5, None), None);
    let total: f64 = logits.top(5).iter().map(|(_, logprob)| logprob.exp()).sum();
    assert!((total - 1.0).abs() < 1e-12);
}

#[test]
fn picks_agree_with_the_rule_and_margins_with_the_picks() {
    for seed in 0..200u64 {
        let values: Vec<f32> = (0..40u32)
            .map(|id| {
                let r = philox4x32_10([id, 7, 7, 7], [u32::try_from(seed).expect("small"), 1]);
                f32::from(u16::try_from(r[0] >> 16).expect("16 bits")) / 3000.0
            })
            .collect();
        let logits = Logits::new(&values).expect("numbers");
        for (temperature, top_p) in [(1.0, 1.0), (0.7, 0.9), (2.0, 0.5), (0.01, 1.0), (1.0, 1e-6)] {
            let sampling = Sampling::new(temperature, top_p, seed << 20 | 5);
            for position in 0..5 {
                let picked = logits.pick(&sampling, position);
                assert_eq!(picked, naive_pick(&values, &sampling, position));
                for id in 0..40 {
                    let score = logits
                        .score(id, Some((&sampling, position)))
                        .expect("token");
                    let margin = score.gumbel_margin.expect("asked for");
                    assert_eq!(margin >= 0.0, id == picked, "{margin}");
                }
            }
        }
    }
}

/// Frequencies over many places follow the softmax: Pearson's χ² with 4 degrees of freedom stays
/// under its 1 − 10⁻⁶ quantile (33.4).
#[test]
fn frequencies_follow_the_distribution() {
    let values = [0.0f32, 1.0, -1.0, 0.5, 1.5];
    let logits = Logits::new(&values).expect("numbers");
    let sampling = Sampling::new(1.0, 1.0, 42);
    let draws = 50_000u32;
    let mut counts = [0u32; 5];
    for position in 0..draws {
        counts[logits.pick(&sampling, position) as usize] += 1;
    }
    let normaliser = logits.log_normaliser();
    let mut chi = 0.0;
    for (count, value) in counts.iter().zip(values) {
        let expected = (f64::from(value) - normaliser).exp() * f64::from(draws);
        chi += (f64::from(*count) - expected).powi(2) / expected;
    }
    assert!(chi < 33.4, "chi-squared {chi}, counts {counts:?}");
}

#[test]
fn top_p_keeps_the_smallest_sufficient_set() {
    let values = [0.0f32, 0.0, 0.0, 0.0];
    let logits = Logits::new(&values).expect("numbers");
    // Half of four equals: ids 0 and 1, and never 2 or 3.
    let sampling = Sampling::new(1.0, 0.5, 9);
    let seen: std::collections::BTreeSet<u32> = (0..200)
        .map(|position| logits.pick(&sampling, position))
        .collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1]);
    let excluded = logits.score(3, Some((&sampling, 0))).expect("token");
    assert_eq!(excluded.gumbel_margin, Some(f64::NEG_INFINITY));
}

#[test]
fn broken_logits_are_refused() {
    assert!(Logits::new(&[]).is_err());
    assert_eq!(
        Logits::new(&[0.0, f32::NAN]).expect_err("NaN"),
        NotANumber { id: 1 }
    );
    assert!(Logits::new(&[f32::INFINITY]).is_err());
    assert!(Logits::new(&[f32::NEG_INFINITY; 3]).is_err());
    // One token that cannot be is no reason to fail.
    let one_out = [0.0, f32::NEG_INFINITY];
    let logits = Logits::new(&one_out).expect("usable");
    assert!((0..100).all(|place| logits.pick(&Sampling::new(2.0, 1.0, 3), place) == 0));
}

#[test]
fn requests_become_parts_per_million() {
    assert_eq!(
        Sampling::new(0.7, 0.95, 1),
        Sampling {
            temperature_ppm: 700_000,
            top_p_ppm: 950_000,
            seed: 1
        }
    );
    assert_eq!(Sampling::new(f64::NAN, 1e-9, 1).temperature_ppm, 0);
    assert_eq!(Sampling::new(1.0, 1e-9, 1).top_p_ppm, 1);
}
