//! Boundaries that the confseq project publishes. Those that no figure needs are here alone: they
//! check the special functions against numbers that somebody else computed.

use serde::Deserialize;

use super::*;
use crate::special::ln_beta;
use crate::testing::Draws;

#[derive(Deserialize)]
struct Vectors {
    published_confseq: Published,
}

#[derive(Deserialize)]
struct Published {
    two_sided_normal_mixture_bound: Bound,
    gamma_exponential_mixture_bound: Bound,
    two_sided_beta_binomial_mixture_bound: Bound,
    poly_stitching_bound: Vec<Bound>,
    empirical_process_lil_bound: Band,
    bernoulli_confidence_interval: Vec<Ends>,
}

#[derive(Deserialize)]
struct Bound {
    v: f64,
    alpha: f64,
    #[serde(default)]
    v_opt: f64,
    #[serde(default)]
    v_min: f64,
    #[serde(default)]
    c: f64,
    #[serde(default)]
    g: f64,
    #[serde(default)]
    h: f64,
    value: f64,
}

#[derive(Deserialize)]
struct Band {
    t: f64,
    alpha: f64,
    t_min: f64,
    a: f64,
    value: f64,
}

#[derive(Deserialize)]
struct Ends {
    s: f64,
    n: f64,
    t_opt: f64,
    lo: f64,
    hi: f64,
}

fn published() -> Published {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../../../vectors/statistics.json"))
            .expect("the vectors are valid JSON");
    vectors.published_confseq
}

fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "got {got}, want {want}");
}

#[test]
fn the_gamma_exponential_boundary_is_the_published_one() {
    let row = published().gamma_exponential_mixture_bound;
    let alpha = Alpha::new(row.alpha).expect("a level");
    close(
        gamma_exponential(row.v, alpha, row.v_opt, row.c),
        row.value,
        1e-5,
    );
}

#[test]
fn the_normal_mixture_is_the_published_one() {
    let row = published().two_sided_normal_mixture_bound;
    let rho = best_rho(row.v_opt, row.alpha);
    close(rho, 12.600_56, 1e-5);
    let spread = row.v + rho;
    let got = libm::sqrt(spread * libm::log(spread / (rho * row.alpha * row.alpha)));
    close(got, row.value, 1e-5);
}

/// The two-sided beta-binomial mixture for a range `[−g, h]` (their proposition 7), in logarithms.
fn beta_binomial(s: f64, v: f64, v_opt: f64, alpha_opt: f64, g: f64, h: f64) -> f64 {
    let rho = (best_rho(v_opt, alpha_opt) - g * h).max(1e-3 * g * h);
    let width = g + h;
    v / (g * h) * libm::log(width)
        - (v + h * s) / (h * width) * libm::log(g)
        - (v - g * s) / (g * width) * libm::log(h)
        + ln_beta(
            (rho + v - g * s) / (g * width),
            (rho + v + h * s) / (h * width),
        )
        - ln_beta(rho / (g * width), rho / (h * width))
}

#[test]
fn the_beta_binomial_mixture_is_the_published_one() {
    let published = published();
    let row = published.two_sided_beta_binomial_mixture_bound;
    let ln_mixture = |s: f64| beta_binomial(s, row.v, row.v_opt, row.alpha, row.g, row.h);
    close(root(ln_mixture, -libm::log(row.alpha)), row.value, 1e-4);
    let threshold = -libm::log(0.05);
    for row in published.bernoulli_confidence_interval {
        // The ends lie where the mixture reaches the threshold.
        for end in [row.lo, row.hi] {
            let v = row.n * end * (1.0 - end);
            let v_opt = row.t_opt * end * (1.0 - end);
            let got = beta_binomial(row.s - row.n * end, v, v_opt, 0.05, end, 1.0 - end);
            close(got, threshold, 1e-3);
        }
    }
}

#[test]
fn the_stitched_boundary_is_the_published_one() {
    const ZETA_OF_1_4: f64 = 3.105_547_230_804_366;
    for row in published().poly_stitching_bound {
        let (s, eta) = (1.4, 2.0f64);
        let k1 = (libm::pow(eta, 0.25) + libm::pow(eta, -0.25)) / libm::sqrt(2.0);
        let k2 = (libm::sqrt(eta) + 1.0) / 2.0;
        let looks = libm::log(ZETA_OF_1_4 / (row.alpha * libm::pow(libm::log(eta), s)));
        let rate = s * libm::log(libm::log(eta * row.v / row.v_min)) + looks;
        let linear = k2 * row.c * rate;
        let got = libm::sqrt(k1 * k1 * row.v * rate + linear * linear) + linear;
        close(got, row.value, 1e-5);
    }
}

/// Howard and Ramdas, arXiv 1906.09712, theorem 2. It assumes independent draws of one
/// distribution, so no figure of ours uses it.
#[test]
fn the_empirical_process_band_is_the_published_one() {
    let row = published().empirical_process_lil_bound;
    let error = |c: f64| {
        (1..7000u32)
            .map(|step| {
                let eta = libm::exp(f64::from(step) * 1e-4);
                let gap = row.a - libm::sqrt(2.0 * (eta - 1.0) / c);
                let square = 2.0 / eta * gap * gap;
                if gap <= 0.0 || square <= 1.0 {
                    return f64::INFINITY;
                }
                4.0 * libm::exp(-square * c) * (1.0 + 1.0 / ((square - 1.0) * libm::log(eta)))
            })
            .fold(f64::INFINITY, f64::min)
    };
    let c = root(|c| -libm::log(error(c)), -libm::log(row.alpha));
    let got = row.a * libm::sqrt((libm::log(1.0 + libm::log(row.t / row.t_min)) + c) / row.t);
    close(got, row.value, 1e-6);
}

#[test]
fn scores_that_hardly_vary_give_a_narrow_interval() {
    let mut mean = RunningMean::default();
    assert_eq!(mean.interval(Alpha::FIVE_PERCENT), Interval::UNKNOWN);
    for step in 0..1000u32 {
        mean.add(if step % 2 == 0 { 0.49 } else { 0.51 });
    }
    mean.add(f64::NAN);
    mean.add(1.5);
    let steady = mean.interval(Alpha::FIVE_PERCENT);
    assert!(steady.lower > 0.485 && steady.upper < 0.515, "{steady:?}");
    let by_counts = crate::share::interval(500.0, 1000, Alpha::FIVE_PERCENT);
    assert!(by_counts.upper - by_counts.lower > 2.0 * (steady.upper - steady.lower));
}

/// The running mean of drifting, dependent chances is missed, ever, on at most 5 % of paths.
///
/// Odds of a wrong alarm: with a true ever-miss of 5 % the misses on 400 paths have mean 20 and
/// standard deviation 4.4; the limit of 42 is five deviations up (below 10⁻⁶).
#[test]
fn a_running_mean_that_drifts_is_covered() {
    let mut draws = Draws::new(0x6761_6d6d);
    let mut missed = 0;
    for _ in 0..400 {
        let (mut mean, mut chances, mut last) = (RunningMean::default(), 0.0, 0.0);
        let mut miss = false;
        for look in 1..=1000u32 {
            // Scores lie around a centre that follows the last score and a slow wave.
            let wave = libm::sin(f64::from(look) / 150.0);
            let centre = 0.3 + 0.15 * wave + 0.2 * last;
            last = centre + 0.2 * (draws.unit() - 0.5);
            chances += centre;
            mean.add(last);
            if look < 32 || look % 16 == 0 {
                let interval = mean.interval(Alpha::FIVE_PERCENT);
                let truth = chances / f64::from(look);
                miss |= !(interval.lower..=interval.upper).contains(&truth);
            }
        }
        missed += u32::from(miss);
    }
    assert!(missed <= 42, "{missed} of 400 paths missed");
}
