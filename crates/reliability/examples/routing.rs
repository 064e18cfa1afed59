//! The routing simulation at full length: `cargo run --release -p reliability --example routing`.
//!
//! 100 worlds of 30,000 calls (83 hours). Prints failures over an oracle that knows every failure
//! rate, and paired differences to simpler policies with 99 % intervals.
#![allow(clippy::print_stdout, reason = "a program for people")]

#[path = "../tests/routing/simulation.rs"]
mod simulation;

use simulation::{Failures, paired, run};

const WORLDS: u64 = 100;
const CALLS: u64 = 30_000;

/// A name, and the failures of that policy.
type Policy = (&'static str, fn(&Failures) -> u32);

fn main() {
    let runs: Vec<Failures> = (0..WORLDS).map(|seed| run(seed, CALLS)).collect();
    let policies: [Policy; 5] = [
        ("oracle", |f| f.oracle),
        ("longrun", |f| f.ours),
        ("round-robin", |f| f.round_robin),
        ("least latency", |f| f.least_latency),
        ("best last hour", |f| f.best_last_hour),
    ];
    let total = |of: fn(&Failures) -> u32| runs.iter().map(|f| f64::from(of(f))).sum::<f64>();
    let oracle = total(|f| f.oracle);
    let excess = total(|f| f.round_robin) - oracle;
    println!("{WORLDS} worlds of {CALLS} calls");
    println!("policy           failures  excess  of round-robin's  more than longrun (99 %)");
    for (name, of) in policies {
        let differences: Vec<f64> = runs
            .iter()
            .map(|f| f64::from(of(f)) - f64::from(f.ours))
            .collect();
        let (mean, half) = paired(&differences);
        let (mean_of, over) = (total(of) / WORLDS as f64, total(of) - oracle);
        println!(
            "{name:15} {mean_of:9.1} {:7.1} {:15.1} %   {mean:8.1} ± {half:.1}",
            over / WORLDS as f64,
            100.0 * over / excess,
        );
    }
}
