//! Writing one JSON object from names and values given in words.

use super::{Check, Family, Turn, number};
use crate::demo::{rng::Rng, words};

pub(super) fn draw(rng: &mut Rng) -> Turn {
    let mut names: Vec<&str> = words::FIELDS.to_vec();
    rng.shuffle(&mut names);
    names.truncate(rng.between(1, 4));
    let fields: Vec<(&str, Value)> = names.into_iter().map(|n| (n, value(rng))).collect();

    let joined = |pair: &str, between: &str| {
        let pairs = fields
            .iter()
            .map(|(name, value)| format!("{name}{pair}{}", value.plain()));
        pairs.collect::<Vec<_>>().join(between)
    };
    let question = match rng.below(5) {
        0 => format!("Write a JSON object with {}.", joined(" ", ", ")),
        1 => format!("JSON: {}", joined("=", ", ")),
        2 => format!("Make a JSON object: {}", joined(": ", "; ")),
        3 => format!("Return only JSON with {}.", joined(" = ", " and ")),
        _ => format!("{} as JSON", joined("=", " ")),
    };
    let members: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\": {}", value.json()))
        .collect();
    let answer = format!("{{{}}}", members.join(", "));
    let parsed = serde_json::from_str(&answer).expect("the reference answer is JSON");
    let key = joined("=", ",");
    Turn {
        family: Family::Json,
        question,
        answer,
        check: Check::Json(parsed),
        key,
    }
}

enum Value {
    Word(String),
    Number(usize),
    Truth(bool),
}

impl Value {
    fn plain(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Word(word) => format!("\"{word}\""),
            _ => self.plain(),
        }
    }
}

fn value(rng: &mut Rng) -> Value {
    match rng.below(10) {
        0 | 1 => Value::Word(rng.pick(words::NAMES).to_owned()),
        2 => Value::Word(rng.pick(words::COLORS).to_owned()),
        3 => Value::Word(rng.pick(words::CITIES).to_owned()),
        4 => Value::Word(rng.pick(words::COMMON).to_owned()),
        5 => Value::Truth(rng.percent(50)),
        _ => Value::Number(number(rng, 4)),
    }
}
