//! Sums and differences of numbers up to 99, worked out column by column.
//!
//! A model of this size does not learn two-digit sums at a glance, but it
//! learns the sums of digits and how to carry, so its answers show the work:
//! `7+8=15, 4+3+1=8, so 85`. The last number is the result.

use super::{Check, Family, Turn};
use crate::demo::rng::Rng;

pub(super) fn draw(rng: &mut Rng) -> Turn {
    let top = if rng.percent(40) { 20 } else { 99 };
    let (a, b) = (rng.between(0, top), rng.between(0, top));
    if rng.percent(50) {
        sum(rng, a, b)
    } else {
        difference(rng, a.max(b), a.min(b))
    }
}

fn sum(rng: &mut Rng, a: usize, b: usize) -> Turn {
    let question = match rng.below(12) {
        0 | 1 => format!("What is {a} + {b}?"),
        2 => format!("{a} + {b} = ?"),
        3 => format!("{a}+{b}"),
        8 => format!("What is {a}+{b}?"),
        9 => format!("What's {a} + {b}?"),
        10 => format!("Calculate {a} + {b}."),
        11 => format!("{a} + {b}"),
        4 => format!("Add {a} and {b}."),
        5 => format!("What is {a} plus {b}?"),
        6 => format!("How much is {a} plus {b}?"),
        _ => format!("What is the sum of {a} and {b}?"),
    };
    let (ones, tens) = (a % 10 + b % 10, a / 10 + b / 10);
    let answer = match (a.max(b), ones) {
        (0..10, _) => format!("{a}+{b}={ones}"),
        (_, 0..10) => {
            format!(
                "{}+{}={ones}, {}+{}={tens}, so {}",
                a % 10,
                b % 10,
                a / 10,
                b / 10,
                a + b
            )
        }
        _ => format!(
            "{}+{}={ones}, {}+{}+1={}, so {}",
            a % 10,
            b % 10,
            a / 10,
            b / 10,
            tens + 1,
            a + b
        ),
    };
    turn(question, answer, a + b, format!("{a}+{b}"))
}

fn difference(rng: &mut Rng, a: usize, b: usize) -> Turn {
    let question = match rng.below(12) {
        0 | 1 => format!("What is {a} - {b}?"),
        2 => format!("{a} - {b} = ?"),
        3 => format!("{a}-{b}"),
        8 => format!("What is {a}-{b}?"),
        9 => format!("What's {a} - {b}?"),
        10 => format!("Calculate {a} - {b}."),
        11 => format!("{a} - {b}"),
        4 => format!("Subtract {b} from {a}."),
        5 => format!("What is {a} minus {b}?"),
        6 => format!("How much is {a} minus {b}?"),
        _ => format!("Take {b} away from {a}."),
    };
    let (left, right) = ((a / 10, a % 10), (b / 10, b % 10));
    let answer = if a < 10 {
        format!("{a}-{b}={}", a - b)
    } else if left.1 >= right.1 {
        let (ones, tens) = (left.1 - right.1, left.0 - right.0);
        format!(
            "{}-{}={ones}, {}-{}={tens}, so {}",
            left.1,
            right.1,
            left.0,
            right.0,
            a - b
        )
    } else {
        let (ones, tens) = (left.1 + 10 - right.1, left.0 - 1 - right.0);
        format!(
            "{}-{}={ones}, {}-1-{}={tens}, so {}",
            left.1 + 10,
            right.1,
            left.0,
            right.0,
            a - b
        )
    };
    turn(question, answer, a - b, format!("{a}-{b}"))
}

fn turn(question: String, answer: String, result: usize, key: String) -> Turn {
    let check = Check::LastInteger(result);
    Turn {
        family: Family::Arithmetic,
        question,
        answer,
        check,
        key,
    }
}
