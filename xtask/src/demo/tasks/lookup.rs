//! Finding the value of a key in a table that the question carries.

use super::{Check, Family, Turn, invented_word, number};
use crate::demo::{rng::Rng, words};

pub(super) fn draw(rng: &mut Rng) -> Turn {
    let rows = rng.between(2, 7);
    let style = rng.below(4);
    let mut keys: Vec<String> = Vec::new();
    while keys.len() < rows {
        let key = key(rng, style);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let kind = rng.below(4);
    let table: Vec<(String, String)> = keys.into_iter().map(|k| (k, value(rng, kind))).collect();
    let (key, answer) = table[rng.below(rows)].clone();
    let table: Vec<String> = table.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let table = table.join("; ");
    let question = match rng.below(5) {
        0 => format!("Table: {table}. What is {key}?"),
        1 => format!("{table}. What is {key}?"),
        2 => format!("Given {table}, what is the value of {key}?"),
        3 => format!("Look up {key} in this table: {table}"),
        _ => format!("{table}\n{key}?"),
    };
    let check = Check::Exact(answer.clone());
    Turn {
        family: Family::Lookup,
        question,
        answer,
        check,
        key: format!("{key} in {table}"),
    }
}

fn key(rng: &mut Rng, style: usize) -> String {
    match style {
        0 => rng.pick(words::COMMON).to_owned(),
        1 => rng.pick(words::NAMES).to_owned(),
        2 => invented_word(rng),
        _ => rng.pick(words::FIELDS).to_owned(),
    }
}

fn value(rng: &mut Rng, kind: usize) -> String {
    match kind {
        0 => rng.pick(words::COLORS).to_owned(),
        1 => rng.pick(words::CITIES).to_owned(),
        2 => rng.pick(words::COMMON).to_owned(),
        _ => number(rng, 3).to_string(),
    }
}
