//! Short stories of a fixed form: "The fox found the old key near the river."

use super::{Check, Family, Turn};
use crate::demo::rng::Rng;
use crate::demo::words::{ANIMALS, COLORS, DEEDS, MOODS, PLACES, THINGS};

pub(super) fn draw(rng: &mut Rng) -> Turn {
    let animal = rng.pick(ANIMALS);
    let sentences = rng.between(1, 5);
    let question = match (rng.below(3), sentences) {
        (_, 1) => format!("Write 1 sentence about the {animal}."),
        (0, n) => format!("Tell me a story about the {animal} in {n} sentences."),
        (1, n) => format!("Write {n} sentences about the {animal}."),
        (_, n) => format!("A story about the {animal}, {n} sentences."),
    };
    let story: Vec<String> = (0..sentences).map(|_| sentence(rng, animal)).collect();
    Turn {
        family: Family::Story,
        key: question.clone(),
        question,
        answer: story.join(" "),
        check: Check::Story {
            animal: animal.to_owned(),
            sentences,
        },
    }
}

fn sentence(rng: &mut Rng, animal: &str) -> String {
    match rng.below(3) {
        0 => format!(
            "The {animal} {} the {} {} near the {}.",
            rng.pick(DEEDS),
            rng.pick(COLORS),
            rng.pick(THINGS),
            rng.pick(PLACES)
        ),
        1 => format!(
            "The {animal} was {} and {}.",
            rng.pick(MOODS),
            rng.pick(MOODS)
        ),
        _ => format!("The {animal} {} the {}.", rng.pick(DEEDS), rng.pick(THINGS)),
    }
}

/// Whether `text` is that many sentences of the grammar about this animal.
pub(super) fn follows(text: &str, animal: &str, sentences: usize) -> bool {
    let text = text.trim();
    let Some(body) = text.strip_suffix('.') else {
        return false;
    };
    let parts: Vec<&str> = body.split(". ").collect();
    parts.len() == sentences && parts.iter().all(|part| is_sentence(part, animal))
}

fn is_sentence(text: &str, animal: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["The", a, "was", one, "and", two] => {
            a == animal && MOODS.contains(&one) && MOODS.contains(&two)
        }
        ["The", a, deed, "the", thing] => {
            a == animal && DEEDS.contains(&deed) && THINGS.contains(&thing)
        }
        ["The", a, deed, "the", color, thing, "near", "the", place] => {
            a == animal
                && DEEDS.contains(&deed)
                && COLORS.contains(&color)
                && THINGS.contains(&thing)
                && PLACES.contains(&place)
        }
        _ => false,
    }
}
