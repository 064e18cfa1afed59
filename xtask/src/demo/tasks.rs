//! The tasks the demonstration model is trained on and judged by.
//!
//! Everything here is pure: a seed goes in, chats come out, and each question
//! carries a check that a program can run on any answer. A question belongs to
//! the training half or to the held-out half by a hash of what is asked, not
//! of how it is phrased, so a sum that is held out is held out in every wording.

mod arithmetic;
mod copy;
mod json;
mod lookup;
mod story;
mod talk;

use serde::{Deserialize, Serialize};

use super::rng::Rng;

/// The kinds of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    /// Sums and differences of whole numbers up to 99.
    Arithmetic,
    /// Say words, letters and digits back.
    Copy,
    /// Find a value in a table within the question.
    Lookup,
    /// Write an object with the given names and values.
    Json,
    /// A few fixed lines about the model itself.
    Talk,
    /// Invent sentences of a fixed form. Many answers are right, so the
    /// model's choices are close calls, and small changes of its weights show.
    Story,
}

impl Family {
    pub(crate) const ALL: [Self; 6] = [
        Self::Arithmetic,
        Self::Copy,
        Self::Lookup,
        Self::Json,
        Self::Talk,
        Self::Story,
    ];

    /// Share of the training questions, in percent.
    const fn share(self) -> usize {
        match self {
            Self::Arithmetic => 28,
            Self::Copy => 16,
            Self::Lookup => 28,
            Self::Json => 16,
            Self::Talk => 6,
            Self::Story => 6,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Copy => "copy",
            Self::Lookup => "lookup",
            Self::Json => "json",
            Self::Talk => "talk",
            Self::Story => "story",
        }
    }
}

/// Which questions may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    HeldOut,
}

/// What makes an answer right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    /// These characters, apart from white space around them.
    Exact(String),
    /// The last run of digits is this number.
    LastInteger(usize),
    /// The same JSON value, however it is spaced or ordered.
    Json(serde_json::Value),
    /// This many sentences of the story grammar, all about this animal.
    Story { animal: String, sentences: usize },
}

impl Check {
    /// Whether `answer` is right.
    pub(crate) fn accepts(&self, answer: &str) -> bool {
        match self {
            Self::Exact(expected) => answer.trim() == expected,
            Self::LastInteger(expected) => last_integer(answer) == Some(*expected),
            Self::Json(expected) => serde_json::from_str::<serde_json::Value>(answer)
                .is_ok_and(|value| value == *expected),
            Self::Story { animal, sentences } => story::follows(answer, animal, *sentences),
        }
    }
}

/// One question with an answer that is right and the rule that says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) family: Family,
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) check: Check,
    /// What is asked, without its phrasing; decides the half.
    key: String,
}

/// A conversation: at most one system message, then questions and answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chat {
    pub(crate) system: Option<String>,
    pub(crate) turns: Vec<Turn>,
}

const SYSTEM_LINES: &[&str] = &[
    "You are a helpful assistant.",
    "You are Longrun demo.",
    "Answer briefly.",
    "Be precise.",
    "You are a tiny model. Answer the question.",
    "Follow the instructions of the user.",
    "You are a helpful AI assistant.",
    "You answer questions.",
    "Help the user with small tasks.",
    "Reply with the answer only.",
    "Be kind and short.",
    "You are a careful and honest assistant. Do what you are asked.",
];

/// One part in this many is held out.
const HELD_OUT_ONE_IN: u64 = 16;

/// A question of one family from one half.
pub(crate) fn turn(rng: &mut Rng, family: Family, split: Split) -> Turn {
    loop {
        let mut turn = match family {
            Family::Arithmetic => arithmetic::draw(rng),
            Family::Copy => copy::draw(rng),
            Family::Lookup => lookup::draw(rng),
            Family::Json => json::draw(rng),
            Family::Talk => talk::draw(rng),
            Family::Story => story::draw(rng),
        };
        turn.question = loosen(rng, turn.question);
        if !turn.can_be_held_out() || turn.is_held_out() == (split == Split::HeldOut) {
            return turn;
        }
    }
}

/// Words that may lose their capital without changing what is asked.
const OPENERS: &[&str] = &[
    "What",
    "Add",
    "How",
    "Subtract",
    "Take",
    "Calculate",
    "Repeat",
    "Say",
    "Copy",
    "Echo",
    "Please",
    "Table",
    "Given",
    "Look",
    "Write",
    "Make",
    "Return",
    "Tell",
    "Hello",
    "Hi",
    "Who",
    "Are",
    "Introduce",
    "Thanks",
    "Thank",
    "Bye",
    "Why",
    "Explain",
    "Translate",
];

/// Questions as people type them: now and then without the capital or the
/// full stop.
fn loosen(rng: &mut Rng, mut question: String) -> String {
    let opener = question
        .split(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    if OPENERS.contains(&opener) && rng.percent(12) {
        question[..1].make_ascii_lowercase();
    }
    if question.ends_with(['?', '.']) && rng.percent(12) {
        question.truncate(question.len() - 1);
    }
    question
}

/// A training conversation: mostly one question, sometimes up to four.
pub(crate) fn chat(rng: &mut Rng, split: Split) -> Chat {
    let turns = match rng.below(100) {
        0..80 => 1,
        80..94 => 2,
        94..98 => 3,
        _ => 4,
    };
    let system = rng.percent(20).then(|| rng.pick(SYSTEM_LINES).to_owned());
    let turns = (0..turns)
        .map(|_| {
            let family = draw_family(rng);
            turn(rng, family, split)
        })
        .collect();
    Chat { system, turns }
}

fn draw_family(rng: &mut Rng) -> Family {
    let mut left = rng.below(100);
    for family in Family::ALL {
        match left.checked_sub(family.share()) {
            Some(rest) => left = rest,
            None => return family,
        }
    }
    Family::Arithmetic
}

impl Turn {
    /// Small talk and stories are never held out: there are only a few such
    /// questions, to be known by heart.
    fn can_be_held_out(&self) -> bool {
        !matches!(self.family, Family::Talk | Family::Story)
    }

    /// Whether training never sees this question, if it can be held out.
    fn is_held_out(&self) -> bool {
        fnv1a(self.key.as_bytes()).is_multiple_of(HELD_OUT_ONE_IN)
    }
}

fn last_integer(text: &str) -> Option<usize> {
    let not_digit = |c: char| !c.is_ascii_digit();
    text.rsplit(not_digit)
        .find(|run| !run.is_empty())?
        .parse()
        .ok()
}

/// 64-bit FNV-1a: small, and the same everywhere.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    // The low bits of FNV-1a depend on few input bits; fold the high ones in.
    hash ^ (hash >> 32)
}

/// A made-up word of two or three syllables, so that copying cannot lean on a
/// known vocabulary.
fn invented_word(rng: &mut Rng) -> String {
    const ONSETS: &[&str] = &[
        "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "tr", "st",
        "sh", "ch", "",
    ];
    const VOWELS: &[&str] = &["a", "e", "i", "o", "u", "ai", "ou"];
    const CODAS: &[&str] = &["", "", "", "n", "r", "l", "s", "k", "x"];
    (0..rng.between(2, 3))
        .map(|_| [rng.pick(ONSETS), rng.pick(VOWELS), rng.pick(CODAS)].concat())
        .collect()
}

/// A number of up to `digits` digits.
fn number(rng: &mut Rng, digits: u32) -> usize {
    let digits = rng.between(1, digits as usize);
    let digits = u32::try_from(digits).expect("a handful of digits");
    rng.below(10_usize.pow(digits))
}

#[cfg(test)]
mod tests;
