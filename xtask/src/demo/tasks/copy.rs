//! Saying a few words, letters or digits back, exactly.

use super::{Check, Family, Turn, invented_word, number};
use crate::demo::{rng::Rng, words};

pub(super) fn draw(rng: &mut Rng) -> Turn {
    let pieces: Vec<String> = (0..rng.between(1, 5)).map(|_| piece(rng)).collect();
    let answer = pieces.join(" ");
    let question = match rng.below(6) {
        0 => format!("Repeat: {answer}"),
        1 => format!("Say \"{answer}\""),
        2 => format!("Copy this exactly: {answer}"),
        3 => format!("Repeat after me: {answer}"),
        4 => format!("Echo {answer}"),
        _ => format!("Please repeat the words: {answer}"),
    };
    let check = Check::Exact(answer.clone());
    Turn {
        family: Family::Copy,
        question,
        key: answer.clone(),
        answer,
        check,
    }
}

fn piece(rng: &mut Rng) -> String {
    match rng.below(10) {
        0..4 => rng.pick(words::COMMON).to_owned(),
        4 => rng.pick(words::NAMES).to_owned(),
        5..8 => invented_word(rng),
        8 => number(rng, 5).to_string(),
        _ => {
            let letters: &[&str] = &["A", "B", "C", "D", "E", "F", "K", "M", "Q", "R", "X", "Z"];
            (0..rng.between(1, 4)).map(|_| rng.pick(letters)).collect()
        }
    }
}
