use super::*;

const SECOND_MS: u64 = 1_000;

fn long_record() -> (Standing, u64) {
    let mut standing = Standing::new(Pool::UNKNOWN);
    let mut now = 1_000_000;
    for at in 0..10_000 {
        now += SECOND_MS;
        standing.observe(now, &Outcome::of(at % 200 != 0));
    }
    (standing, now)
}

#[test]
fn a_new_endpoint_has_the_pools_rate_and_a_wide_range() {
    let pool = Pool {
        mean: 0.03,
        strength: 10.0,
    };
    let candidate = Standing::new(pool).candidate(4, 0);
    assert_eq!(candidate.place, 4);
    assert!(candidate.success_ppm.abs_diff(970_000) < 3_000);
    assert!(candidate.lower_ppm < 900_000 && candidate.upper_ppm == 1_000_000);
}

#[test]
fn an_outage_is_left_within_a_few_failures_however_long_the_record() {
    let (mut standing, mut now) = long_record();
    assert!(standing.candidate(0, now).success_ppm > 990_000);
    for _ in 0..3 {
        now += SECOND_MS;
        standing.observe(now, &Outcome::of(false));
    }
    assert!(standing.candidate(0, now).success_ppm < 500_000);
    assert!(
        standing.candidate(0, now).upper_ppm < 500_000,
        "no trial yet"
    );
}

#[test]
fn it_is_tried_again_after_a_while_and_trusted_after_a_few_answers() {
    let (mut standing, mut now) = long_record();
    for _ in 0..3 {
        now += SECOND_MS;
        standing.observe(now, &Outcome::of(false));
    }
    now += 20 * 60 * SECOND_MS;
    assert!(standing.candidate(0, now).upper_ppm > 990_000);
    let mut answers = |count: u32| {
        for _ in 0..count {
            now += SECOND_MS;
            standing.observe(now, &Outcome::of(true));
        }
        standing.candidate(0, now).success_ppm
    };
    assert!(answers(4) > 950_000);
    assert!(answers(50) > 985_000);
}

#[test]
fn every_failed_trial_doubles_the_time_to_the_next() {
    let (mut standing, mut now) = long_record();
    let mut trials = 0;
    let end = now + 24 * 3600 * SECOND_MS;
    while now < end {
        if standing.candidate(0, now).upper_ppm > 900_000 {
            trials += 1;
            standing.observe(now, &Outcome::of(false));
        }
        now += SECOND_MS;
    }
    // Once per second would be 86,400; about once an hour after the first few.
    assert!((15..60).contains(&trials), "{trials}");
}

#[test]
fn a_slide_is_seen_as_well_as_an_outage() {
    let (mut standing, mut now) = long_record();
    for at in 0..150u64 {
        now += SECOND_MS;
        standing.observe(now, &Outcome::of(at % 8 != 0));
    }
    let found = standing.candidate(0, now).success_ppm;
    assert!((800_000..930_000).contains(&found), "{found}");
}

#[test]
fn another_manifest_makes_the_record_short() {
    let (mut standing, now) = long_record();
    let before = standing.candidate(0, now);
    standing.regime_changed();
    let after = standing.candidate(0, now);
    assert!(after.lower_ppm < before.lower_ppm);
    assert!(after.upper_ppm >= before.upper_ppm);
}

#[test]
fn times_are_means_of_the_last_thirty_or_so() {
    let mut standing = Standing::new(Pool::UNKNOWN);
    for at in 0..500 {
        let outcome = Outcome {
            first_token_us: Some(if at < 300 { 1_000_000 } else { 200_000 }),
            throughput: Some(50.0),
            ..Outcome::of(true)
        };
        standing.observe(at, &outcome);
    }
    let candidate = standing.candidate(0, 500);
    assert!(candidate.first_token_us.expect("seen").abs_diff(200_000) < 2_000);
    assert_eq!(candidate.throughput, Some(50));
}
