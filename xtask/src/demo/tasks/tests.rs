use std::collections::HashSet;

use super::*;

#[test]
fn every_reference_answer_passes_its_own_check() {
    let mut rng = Rng::new(1);
    for family in Family::ALL {
        for _ in 0..300 {
            let turn = turn(&mut rng, family, Split::Train);
            assert!(turn.check.accepts(&turn.answer), "{turn:?}");
        }
    }
}

#[test]
fn checks_refuse_wrong_answers() {
    let sum = Check::Exact("12".to_owned());
    assert!(sum.accepts(" 12\n"));
    assert!(!sum.accepts("12.") && !sum.accepts("1 2") && !sum.accepts(""));

    let total = Check::LastInteger(85);
    assert!(total.accepts("7+8=15, 4+3+1=8, so 85") && total.accepts("It is 85."));
    assert!(!total.accepts("85 or 86") && !total.accepts("185") && !total.accepts("none"));

    let object = Check::Json(serde_json::json!({"a": 1, "b": "x"}));
    assert!(object.accepts(r#"{"b":"x","a":1}"#));
    assert!(!object.accepts(r#"{"a": 1}"#) && !object.accepts(r#"{"a": 1, "b": "x"} ok"#));

    let story = Check::Story {
        animal: "fox".to_owned(),
        sentences: 2,
    };
    assert!(story.accepts("The fox was calm and old. The fox found the key."));
    assert!(!story.accepts("The fox was calm and old."));
    assert!(!story.accepts("The fox was calm and old. The owl found the key."));
}

#[test]
fn halves_do_not_meet_whatever_the_wording() {
    let mut rng = Rng::new(2);
    let mut draw = |split| -> HashSet<String> {
        (0..2000)
            .map(|_| turn(&mut rng, Family::Arithmetic, split).key)
            .collect()
    };
    let (train, held_out) = (draw(Split::Train), draw(Split::HeldOut));
    assert!(train.is_disjoint(&held_out));
    assert!(held_out.len() > 100);
}

#[test]
fn sums_show_their_work() {
    let mut rng = Rng::new(4);
    for _ in 0..2000 {
        let turn = turn(&mut rng, Family::Arithmetic, Split::Train);
        for step in turn.answer.split(", ").filter(|s| !s.starts_with("so ")) {
            let (left, right) = step.split_once('=').expect("a step is an equation");
            let value: i64 = left
                .split_inclusive(['+', '-'])
                .fold((0, 1), |(sum, sign), part| {
                    let digits = part.trim_end_matches(['+', '-']);
                    let next = if part.ends_with('-') { -1 } else { 1 };
                    (sum + sign * digits.parse::<i64>().expect("digits"), next)
                })
                .0;
            assert_eq!(value.to_string(), right, "{turn:?}");
        }
    }
}

#[test]
fn same_seed_same_chats() {
    let draw = |seed| {
        let mut rng = Rng::new(seed);
        (0..50)
            .map(|_| chat(&mut rng, Split::Train))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}
