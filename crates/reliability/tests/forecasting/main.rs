//! Forecasts against climatology and persistence, on endpoints whose parameters were fixed
//! beforehand. `cargo run --release -p reliability --example forecasting` runs the whole comparison.

mod generator;
mod oracle;

use generator::{Arrivals, follow, skill};
use oracle::Oracle;
use reliability::forecast::scores::ScoreReport;

const ENDPOINTS: u64 = 24;
const DAYS: u64 = 200;

/// Own and baseline's mean loss of each endpoint.
fn losses(
    runs: &[[ScoreReport; 3]],
    length: usize,
    of: fn(&ScoreReport) -> (i64, i64),
) -> Vec<(f64, f64)> {
    let each = runs.iter().map(|run| of(&run[length]));
    each.map(|(own, base)| (own as f64, base as f64)).collect()
}

const CLIMATOLOGY: fn(&ScoreReport) -> (i64, i64) =
    |r| (r.brier_millionths, r.climatology_brier_millionths);
const CLIMATOLOGY_LOG: fn(&ScoreReport) -> (i64, i64) =
    |r| (r.log_millionths, r.climatology_log_millionths);
const PERSISTENCE: fn(&ScoreReport) -> (i64, i64) =
    |r| (r.brier_millionths, r.persistence_brier_millionths);

/// The intervals have level 99 % over endpoints; seeds are fixed, so the result is always the same.
#[test]
fn clustered_outages_are_foretold_better_than_by_climatology_and_persistence() {
    let runs: Vec<_> = (0..ENDPOINTS)
        .map(|seed| follow(Arrivals::Clustered, seed, DAYS))
        .collect();
    for length in 0..3 {
        for base in [CLIMATOLOGY, CLIMATOLOGY_LOG, PERSISTENCE] {
            let (mean, half) = skill(&losses(&runs, length, base));
            assert!(mean - half > 0.0, "{length}: {mean} ± {half}");
        }
    }
    // Nobody can be expected to do better than the oracle, who knows the laws; by the hour nearly
    // all of that is reached, by day and week what takes years to learn is missing.
    let oracle = Oracle::new(Arrivals::Clustered);
    let best: Vec<_> = (0..ENDPOINTS)
        .map(|seed| oracle.brier(seed, DAYS))
        .collect();
    for (length, share) in [(0, 0.03), (1, 0.08), (2, 0.15)] {
        let pairs = runs.iter().zip(&best);
        let losses: Vec<_> = pairs
            .map(|(run, best)| (run[length].brier_millionths as f64, 1e6 * best[length]))
            .collect();
        let (mean, half) = skill(&losses);
        assert!(mean < half && mean > -share, "{length}: {mean} ± {half}");
    }
    // Hours are many: their intervals keep their coverage.
    for [hours, ..] in &runs {
        let missed = hours.interval_missed_ppm;
        assert!(missed.abs_diff(100_000) <= 20_000, "{missed}");
        assert_ne!(hours.against_climatology.verdict, "worse");
        assert_ne!(hours.against_persistence.verdict, "worse");
        assert_eq!(hours.late + hours.unasked, 0);
    }
}

/// Weeks overlap and are known late; their intervals keep their coverage all the same.
#[test]
fn weekly_intervals_keep_their_coverage_over_fifteen_years() {
    let [hours, days, weeks] = follow(Arrivals::Clustered, 7, 5_600);
    for scores in [hours, days, weeks] {
        let missed = scores.interval_missed_ppm;
        assert!(missed.abs_diff(100_000) <= 12_000, "{missed}");
    }
}

#[test]
fn nothing_is_lost_where_outages_come_at_random() {
    let runs: Vec<_> = (100..100 + ENDPOINTS)
        .map(|seed| follow(Arrivals::Poisson, seed, DAYS))
        .collect();
    for length in 0..3 {
        for base in [CLIMATOLOGY, CLIMATOLOGY_LOG, PERSISTENCE] {
            let (mean, half) = skill(&losses(&runs, length, base));
            assert!(
                mean + half > 0.0 && mean > -0.01,
                "{length}: {mean} ± {half}"
            );
        }
    }
}
