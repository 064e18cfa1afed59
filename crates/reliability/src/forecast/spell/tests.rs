use super::*;
use crate::route::Draw;

const MINUTE_MS: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE_MS;
const FROM_MS: u64 = 500_000 * HOUR;

/// Ten attempts every five minutes, by whether there is trouble.
fn cells(spells: &mut Spells, from: u64, ill: &[bool]) {
    for (cell, ill) in (from..).zip(ill) {
        let bad = if *ill { 8 } else { 0 };
        spells.add(FROM_MS + cell * BLOCK_MS + MINUTE_MS, 10 - bad, bad);
    }
}

fn near(found: f64, wanted: f64, within: f64) {
    assert!((found - wanted).abs() <= within, "{found}, not {wanted}");
}

#[test]
fn trouble_shows_at_once_and_a_good_block_ends_it() {
    let mut spells = Spells::default();
    cells(&mut spells, 0, &[false; 30]);
    let cell_ms = |cell: u64| FROM_MS + cell * BLOCK_MS;
    assert_eq!(spells.at(cell_ms(30)), (false, None));
    cells(&mut spells, 30, &[true]);
    assert_eq!(
        spells.at(cell_ms(30) + 2 * MINUTE_MS),
        (true, Some(cell_ms(30)))
    );
    cells(&mut spells, 31, &[true, false]);
    let early = cell_ms(32) + 2 * MINUTE_MS;
    assert_eq!(
        spells.at(early),
        (true, Some(cell_ms(30))),
        "the block is not over"
    );
    assert_eq!(spells.at(cell_ms(33)), (false, Some(cell_ms(32))));
}

#[test]
fn a_few_failures_by_chance_are_no_trouble() {
    let mut spells = Spells::default();
    for cell in 0..100 {
        spells.add(FROM_MS + cell * BLOCK_MS, 8, 2);
    }
    assert_eq!(spells.at(FROM_MS + 100 * BLOCK_MS), (false, None));
    near(spells.when_well().1, 198.0, 1.0);
}

#[test]
fn time_in_trouble_is_told_once() {
    let mut spells = Spells::default();
    let (mut told, mut ill) = (0, 0);
    for cell in 0..1_000u64 {
        let bad = if (cell / 50).is_multiple_of(2) { 0 } else { 9 };
        if let Some(past) = spells.add(FROM_MS + cell * BLOCK_MS, 10 - bad, bad) {
            let lasted = past.end_ms - past.start_ms;
            told += lasted;
            ill += if past.is_ill { lasted } else { 0 };
        }
    }
    // The last block waits for its end; the time from its start is the next one's to tell.
    assert_eq!((told, ill), (998 * BLOCK_MS, 498 * BLOCK_MS));
    assert_eq!(spells.ends[0].ended.iter().sum::<f64>().round(), 10.0);
}

#[test]
fn after_a_silence_nothing_is_known_of_the_present() {
    let mut spells = Spells::default();
    cells(&mut spells, 0, &[true; 20]);
    let need = Need { hours: 0.01 };
    let soon = spells.outlook(FROM_MS + 20 * BLOCK_MS, 1.0, need);
    let late = spells.outlook(FROM_MS + 30 * HOUR, 1.0, need);
    assert!(soon[3] > 0.8 && late[3] < 0.1, "{soon:?} {late:?}");
    spells.add(FROM_MS + 30 * HOUR, 10, 0);
    spells.add(FROM_MS + 31 * HOUR, 10, 0);
    assert_eq!(spells.at(FROM_MS + 31 * HOUR), (false, None));
}

/// Where spells end at random, at whatever age, everything is known in closed form.
#[test]
fn without_memory_the_chances_are_those_of_two_exponentials() {
    let mut spells = Spells::default();
    let mut luck = Draw::numbered(3, 0);
    let mut ill = Vec::new();
    let mut now = false;
    // Two years, in which every hour half of all trouble ends and one good time in fifty.
    for _ in 0..2 * 365 * 288 {
        now ^= luck.unit() < if now { 0.06 } else { 0.0017 };
        ill.push(now);
    }
    *ill.last_mut().expect("some") = false;
    cells(&mut spells, 0, &ill);
    let start_ms = FROM_MS + ill.len() as u64 * BLOCK_MS;
    for length_h in [24.0, 168.0] {
        let none = libm::exp(12.0 * length_h * libm::log(1.0 - 0.0017));
        let levels = spells.outlook(start_ms, length_h, Need { hours: 1.0 });
        near(levels.iter().sum::<f64>(), 1.0, 1e-9);
        // What the half-life leaves of some 340 onsets is worth about 120: 9 % of standard deviation.
        near(libm::log(levels[0]) / libm::log(none), 1.0, 0.25);
    }
}

#[test]
fn what_a_window_needs_follows_from_how_much_fails() {
    let mut spells = Spells::default();
    let ill: Vec<bool> = (0..2_000).map(|cell| cell % 100 >= 50).collect();
    cells(&mut spells, 0, &ill);
    near(spells.need(24.0, 0.01).hours, 0.3, 0.01);
    assert_eq!(spells.need(24.0, 0.0).hours, 0.0);
    near(spells.need(24.0, 1.0).hours, 24.0, 1e-9);
}

#[test]
fn a_trouble_that_has_lasted_goes_on() {
    let mut spells = Spells::default();
    // Nine spells in ten last five minutes, the tenth a day.
    let mut cell = 0;
    for spell in 0..200u64 {
        cells(&mut spells, cell, &[false; 100]);
        cell += 100;
        let lasts = if spell % 10 == 9 { 288 } else { 1 };
        cells(&mut spells, cell, &vec![true; lasts]);
        cell += lasts as u64;
    }
    let need = Need { hours: 0.5 };
    cells(&mut spells, cell, &[false, true]);
    let young = spells.outlook(FROM_MS + (cell + 2) * BLOCK_MS, 1.0, need);
    cells(&mut spells, cell + 2, &[true; 12]);
    let old = spells.outlook(FROM_MS + (cell + 14) * BLOCK_MS, 1.0, need);
    assert!(young[3] < 0.3 && old[3] > 0.8, "{young:?} {old:?}");
}
