use super::*;
use crate::route::Draw;

fn noise(seed: u64, at: u64) -> f64 {
    Draw::numbered(seed, at).unit()
}

#[test]
fn a_better_forecaster_is_found_and_an_equal_one_is_not() {
    let run = |seed: u64, gain: f64| {
        let mut comparison = Comparison::new(1);
        for at in 0..4_000 {
            let x = if noise(seed, at) < 0.5 { -0.1 } else { 0.1 };
            comparison.add(at, x + gain);
        }
        comparison.read().expect("enough")
    };
    let better = run(1, 0.02);
    assert!(better.better_e > 1e6, "{better:?}");
    assert!(better.interval.0 > 0.0, "{better:?}");
    assert!(better.interval.0 < 0.02 && better.interval.1 > 0.02);
    // The interval ever fails with probability 5 % at most; 40 runs failing more than 7 times has
    // probability below 0.1 %. E-values above 20 likewise.
    let runs: Vec<Compared> = (0..40).map(|seed| run(100 + seed, 0.0)).collect();
    let wrong = |c: &&Compared| c.interval.0 > 0.0 || c.interval.1 < 0.0;
    assert!(runs.iter().filter(wrong).count() <= 7);
    assert!(runs.iter().filter(|c| c.better_e >= 20.0).count() <= 7);
}

#[test]
fn overlapping_windows_do_not_pass_for_evidence() {
    // Moving averages over seven independent steps, issued every step: one stream would take each
    // step for seven pieces of evidence. 60 runs with more than 9 alarms: below 0.1 % at 5 %.
    let alarms = |lags: u8| {
        (0..60u64)
            .filter(|seed| {
                let mut comparison = Comparison::new(lags);
                let step = |at: u64| if noise(*seed, at) < 0.5 { -1.0 } else { 1.0 };
                for at in 0..700 {
                    let moving: f64 = (at..at + 7).map(step).sum();
                    comparison.add(at, moving / 7.0);
                }
                let read = comparison.read().expect("enough");
                read.better_e.max(read.worse_e) >= 20.0
            })
            .count()
    };
    assert!(alarms(7) <= 9, "{}", alarms(7));
    assert!(alarms(1) > 9, "the trap is there: {}", alarms(1));
}

#[test]
fn too_few_windows_say_nothing() {
    let mut comparison = Comparison::new(7);
    (0..209).for_each(|at| comparison.add(at, 0.1));
    assert_eq!(comparison.read(), None);
    comparison.add(209, 0.1);
    assert_eq!(comparison.read().expect("30 in each").windows, 210);
}

#[test]
fn calibration_is_doubted_only_where_it_fails() {
    let run = |seed: u64, said: f64| {
        let mut calibration = Calibration::new(1);
        for at in 0..2_000 {
            let happened = noise(seed, 2 * at) < 0.2;
            let random = noise(seed, 2 * at + 1);
            calibration.add(at, transform(said, happened, random));
        }
        calibration.e_value()
    };
    assert!(run(1, 0.1) > 1e6);
    assert!(run(1, 0.35) > 1e6);
    let doubted = (0..40).filter(|seed| run(*seed, 0.2) >= 20.0).count();
    assert!(doubted <= 7, "{doubted}");
}
