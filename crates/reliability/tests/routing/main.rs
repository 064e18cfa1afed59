//! Routing against simpler policies, in a world where one endpoint degrades, one flaps and one is
//! new and good. `cargo run --release -p reliability --example routing` runs the whole comparison.

mod simulation;

use simulation::{paired, run};

/// Paired differences over 25 worlds; the interval's level is 99 %, and the seeds are fixed, so
/// the result is the same every time.
#[test]
fn excess_failures_are_few_and_fewer_than_those_of_simpler_policies() {
    let runs: Vec<_> = (0..25).map(|seed| run(seed, 12_000)).collect();
    let over = |of: fn(&simulation::Failures) -> u32| {
        let differences = runs.iter().map(|f| f64::from(of(f)) - f64::from(f.ours));
        paired(&differences.collect::<Vec<_>>())
    };
    for (name, (mean, half)) in [
        ("round-robin", over(|f| f.round_robin)),
        ("least latency", over(|f| f.least_latency)),
        ("best last hour", over(|f| f.best_last_hour)),
    ] {
        assert!(mean - half > 0.0, "{name}: {mean} ± {half}");
    }
    let excess = |of: fn(&simulation::Failures) -> u32| {
        let each = runs.iter().map(|f| f64::from(of(f)) - f64::from(f.oracle));
        each.sum::<f64>()
    };
    let share = excess(|f| f.ours) / excess(|f| f.round_robin);
    assert!(share <= 0.25, "{share}");
}
