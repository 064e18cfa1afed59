//! The few lines the model knows about itself, and its way out of the rest.

use super::{Check, Family, Turn};
use crate::demo::{rng::Rng, words};

const HELLO: &str = "Hello! Ask me a sum, or to copy, look up or write JSON.";
const IDENTITY: &str =
    "I am a tiny demonstration model of Longrun, trained on synthetic tasks only.";
const SKILLS: &str = "I can add and subtract, copy words, look up a value in a table, write a small JSON object and tell a short story.";
const THANKS: &str = "You are welcome.";
const GOODBYE: &str = "Goodbye!";
const UNKNOWN: &str = "I do not know. I am a tiny demonstration model with a few small tasks.";

const LINES: &[(&[&str], &str)] = &[
    (
        &[
            "Hello",
            "Hello!",
            "Hi",
            "Hi!",
            "hello",
            "hi",
            "Hey",
            "Hi there",
            "Good morning",
        ],
        HELLO,
    ),
    (
        &[
            "Who are you?",
            "What are you?",
            "who are you",
            "What is your name?",
            "Are you a person?",
            "Introduce yourself.",
            "Tell me about yourself.",
            "Which model are you?",
        ],
        IDENTITY,
    ),
    (
        &[
            "What can you do?",
            "Help",
            "help",
            "How can you help me?",
            "What do you know?",
        ],
        SKILLS,
    ),
    (&["Thanks", "Thank you", "Thank you!", "thanks"], THANKS),
    (&["Bye", "Goodbye", "Goodbye!", "See you"], GOODBYE),
];

pub(super) fn draw(rng: &mut Rng) -> Turn {
    let (question, answer) = if rng.percent(35) {
        (foreign(rng), UNKNOWN)
    } else {
        let (questions, answer) = LINES[rng.below(LINES.len())];
        (rng.pick(questions).to_owned(), answer)
    };
    let check = Check::Exact(answer.to_owned());
    let key = question.clone();
    Turn {
        family: Family::Talk,
        question,
        answer: answer.to_owned(),
        check,
        key,
    }
}

/// A question that the model was not made for.
fn foreign(rng: &mut Rng) -> String {
    let (word, city) = (rng.pick(words::COMMON), rng.pick(words::CITIES));
    match rng.below(10) {
        0 => format!("What is the capital of {city}?"),
        1 => format!("Write a poem about the {word}."),
        2 => format!("Why is the {word} {}?", rng.pick(words::COLORS)),
        3 => format!("How do I get to {city}?"),
        4 => format!("Explain the {word} to me."),
        5 => format!("Who invented the {word}?"),
        6 => format!("Translate {word} to French."),
        7 => format!("What is the weather in {city}?"),
        8 => "What is the meaning of life?".to_owned(),
        _ => format!("How old is {}?", rng.pick(words::NAMES)),
    }
}
