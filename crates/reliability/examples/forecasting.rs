//! The quality of forecasts: `cargo run --release -p reliability --example forecasting`.
//!
//! 60 endpoints over a year, with outages that cluster and with outages that come at random. Prints
//! skill in Brier and logarithmic score against climatology and in Brier score against persistence, each with a
//! 99 % interval over endpoints, beside that of an oracle that knows the laws and what the generator did
//! until then, and the intervals' coverage. An argument is the first seed (default 0: the published figures;
//! the method was chosen on seeds from 1,000 on).
#![allow(clippy::print_stdout, reason = "a program for people")]

#[path = "../tests/forecasting/generator.rs"]
mod generator;
#[path = "../tests/forecasting/oracle.rs"]
mod oracle;

use generator::{Arrivals, follow, skill};
use oracle::Oracle;
use reliability::forecast::scores::ScoreReport;

const ENDPOINTS: u64 = 60;
const DAYS: u64 = 365;
/// Fifteen years: what a promise about weekly intervals takes.
const LONG_DAYS: u64 = 5_600;

#[expect(
    clippy::disallowed_methods,
    reason = "a program, and no part of the core"
)]
fn main() {
    let first = std::env::args().nth(1);
    let first: u64 = first.map_or(0, |it| it.parse().expect("a number, the first seed"));
    for arrivals in [Arrivals::Clustered, Arrivals::Poisson] {
        println!("{arrivals:?}: {ENDPOINTS} endpoints, {DAYS} days");
        let runs: Vec<[ScoreReport; 3]> = (first..first + ENDPOINTS)
            .map(|seed| follow(arrivals, seed, DAYS))
            .collect();
        let oracle = Oracle::new(arrivals);
        let best: Vec<[f64; 3]> = (first..first + ENDPOINTS)
            .map(|seed| oracle.brier(seed, DAYS))
            .collect();
        for (at, length) in ["hour", "day", "week"].into_iter().enumerate() {
            let each = || runs.iter().map(|run| &run[at]);
            let percent = |own: fn(&ScoreReport) -> i64, base: fn(&ScoreReport) -> i64| {
                let losses: Vec<(f64, f64)> =
                    each().map(|r| (own(r) as f64, base(r) as f64)).collect();
                let (mean, half) = skill(&losses);
                format!("{:6.2} ± {:.2} %", 100.0 * mean, 100.0 * half)
            };
            let mean = |of: fn(&ScoreReport) -> f64| each().map(of).sum::<f64>() / ENDPOINTS as f64;
            println!(
                "  {length:4}: base rate {:.3}, Brier {:.4}, log {:.4}; against climatology {} (log {}), persistence {}",
                mean(|r| r.breached as f64 / r.windows as f64),
                mean(|r| r.brier_millionths as f64 / 1e6),
                mean(|r| r.log_millionths as f64 / 1e6),
                percent(|r| r.brier_millionths, |r| r.climatology_brier_millionths),
                percent(|r| r.log_millionths, |r| r.climatology_log_millionths),
                percent(|r| r.brier_millionths, |r| r.persistence_brier_millionths),
            );
            let ceiling = |base: fn(&ScoreReport) -> i64| {
                let pairs = each().zip(&best);
                let losses: Vec<(f64, f64)> = pairs
                    .map(|(r, best)| (1e6 * best[at], base(r) as f64))
                    .collect();
                let (mean, half) = skill(&losses);
                format!("{:6.2} ± {:.2} %", 100.0 * mean, 100.0 * half)
            };
            let rate = mean(|r| r.breached as f64 / r.windows as f64);
            let brier = best.iter().map(|best| best[at]).sum::<f64>() / ENDPOINTS as f64;
            println!(
                "        an oracle: {:6.2} % against climatology that knew its rate from the start",
                100.0 * (1.0 - brier / (rate * (1.0 - rate))),
            );
            println!(
                "        an oracle: Brier {:.4}; against climatology {}, persistence {}",
                brier,
                ceiling(|r| r.climatology_brier_millionths),
                ceiling(|r| r.persistence_brier_millionths),
            );
            println!(
                "        intervals miss {:.3} (aim .100); everything {:.3}, nothing {:.3}; doubted calibration {:.2}",
                mean(|r| f64::from(r.interval_missed_ppm) / 1e6),
                mean(|r| f64::from(r.interval_everything_ppm) / 1e6),
                mean(|r| f64::from(r.interval_nothing_ppm) / 1e6),
                mean(|r| f64::from(u8::from(
                    r.miscalibration_e.parse::<f64>().is_ok_and(|e| e >= 20.0)
                ))),
            );
        }
    }
    let weeks: Vec<String> = (0..8)
        .map(|seed| {
            let [.., weeks] = follow(Arrivals::Clustered, seed, LONG_DAYS);
            format!("{:.3}", f64::from(weeks.interval_missed_ppm) / 1e6)
        })
        .collect();
    println!(
        "weekly intervals over {LONG_DAYS} days miss {}",
        weeks.join(", ")
    );
}
