use super::*;

#[test]
fn levels_are_the_golden_ones() {
    let text = include_str!("../../../../../vectors/statistics.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let golden = &vectors["adaptive_conformal"];
    let number = |name: &str| golden[name].as_f64().expect("a number");
    let list = |name: &str| golden[name].as_array().expect("a list").clone();
    let mut step = Step::new(number("gamma"), number("alpha"));
    for (err, level) in list("err").iter().zip(list("alpha_t")) {
        step.learn(number("alpha"), err.as_u64() == Some(1));
        let wanted = level.as_f64().expect("a number");
        assert!((step.level() - wanted).abs() < 1e-12);
    }
    assert_eq!(step.issue(), Issue::Everything, "the last level is below 0");
}

/// A number in `[0, 1)` for each place of a sequence.
fn noise(seed: u64, at: u64) -> f64 {
    crate::route::Draw::numbered(seed, at).unit()
}

/// p-values of outcomes whose past is drawn from another distribution every so often: uniform at
/// first, then mostly odd ones, then hardly any.
fn drifting(seed: u64, at: u64) -> f64 {
    let u = noise(seed, at);
    match (at / 700) % 3 {
        0 => u,
        1 => u * u * u,
        _ => 1.0 - (1.0 - u) * (1.0 - u) * 0.3,
    }
}

#[test]
fn each_step_size_is_within_a_point_at_its_length() {
    // The bound holds for every sequence, so there is nothing to be unlucky about.
    for (gamma, length) in GAMMAS.into_iter().zip([19_100, 4_850, 1_290]) {
        for seed in 0..4 {
            let mut step = Step::new(gamma, 0.1);
            let mut missed = 0u32;
            for at in 0..length {
                let misses = step.issue().misses(drifting(seed, at));
                missed += u32::from(misses);
                step.learn(0.1, misses);
            }
            let share = f64::from(missed) / f64::from(u32::try_from(length).expect("small"));
            assert!((share - 0.1).abs() <= 0.01, "γ = {gamma}: {share}");
        }
    }
}

#[test]
fn the_average_is_within_a_point_too() {
    const LENGTH: u32 = 5_600;
    for seed in 0..4 {
        let mut adaptive = Adaptive::new(0.1);
        let mut missed = 0u32;
        for at in 0..u64::from(LENGTH) {
            let (issued, threshold) = (adaptive.issue(), drifting(seed, at));
            missed += u32::from(issued.misses(threshold));
            adaptive.learn(threshold, issued.misses(threshold));
        }
        let share = f64::from(missed) / f64::from(LENGTH);
        assert!((share - 0.1).abs() <= 0.01, "{share}");
    }
}

#[test]
fn outcomes_that_come_late_cost_a_bounded_delay() {
    const LENGTH: usize = 6_000;
    let mut adaptive = Adaptive::new(0.1);
    let mut waiting = std::collections::VecDeque::new();
    let mut missed = 0u32;
    for at in 0..LENGTH as u64 {
        let (issued, threshold) = (adaptive.issue(), drifting(3, at));
        missed += u32::from(issued.misses(threshold));
        waiting.push_back((threshold, issued));
        if waiting.len() > 7 {
            let (threshold, issued) = waiting.pop_front().expect("just put there");
            adaptive.learn(threshold, issued.misses(threshold));
        }
    }
    let share = f64::from(missed) / 6_000.0;
    assert!((share - 0.1).abs() <= 0.011, "{share}");
}

#[test]
fn nothing_and_everything() {
    assert!(Issue::of(1.0).misses(1.0));
    assert!(!Issue::of(0.0).misses(0.0));
    assert!(Issue::of(0.2).misses(0.1));
    assert!(!Issue::of(0.2).misses(0.2));
}
