//! `longrun route drill`: what the last week would have been without one provider.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::asking::Ask;

/// Arguments of `route drill`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The provider to do without: the name of its endpoint, its id or origin, or its host.
    #[arg(long, value_name = "PROVIDER")]
    without: String,
    #[command(flatten)]
    ask: Ask,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<()> {
        let path = format!("/longrun/v1/drill?without={}", escaped(&self.without));
        let drill = self.ask.get(&path)?;
        if self.ask.json {
            println!("{}", serde_json::to_string_pretty(&drill)?);
        } else {
            println!("{}", in_words(&drill));
        }
        Ok(())
    }
}

/// As a value in a query (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = text.bytes().map(|byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    each.collect()
}

fn in_words(drill: &Value) -> String {
    let [low, high] = [0, 1].map(|end| &drill["interval"][end]);
    let mut lines = vec![
        format!(
            "The last seven days without {}: {} of {} answers came from there.",
            drill["without"].as_str().unwrap_or("?"),
            drill["lost"],
            drill["answers"]
        ),
        format!(
            "Answers there would be: {} (95 %: {low} to {high}). Nobody else serves {} of them; of \
             {} nothing is known.",
            drill["survive"], drill["not_served"], drill["unknown"]
        ),
    ];
    let fates = drill["fates"].as_array().into_iter().flatten();
    lines.extend(fates.map(fate));
    lines.push("This takes for granted:".to_owned());
    let assumptions = drill["assumptions"].as_array().into_iter().flatten();
    let words = assumptions.filter_map(Value::as_str);
    lines.extend(words.map(|words| format!("- {words}")));
    lines.join("\n")
}

fn fate(fate: &Value) -> String {
    let endpoint = fate["endpoint"].as_str().unwrap_or("?");
    let answers = &fate["answers"];
    let Some(instead) = fate["instead"].as_str() else {
        return format!("  {endpoint}: {answers} answers, and nobody else serves it");
    };
    let [low, high] = [0, 1].map(|end| &fate["interval"][end]);
    let expected = match fate["expected"].as_u64() {
        Some(expected) => format!("{expected} of {answers} ({low} to {high})"),
        None => format!("anything from {low} to {high}, for nothing is known of it"),
    };
    let ms = |at: usize| {
        let us = fate["first_token_us"][at].as_u64();
        us.map_or_else(|| "?".to_owned(), |us| format!("{} ms", us / 1000))
    };
    let dollars = |at: usize| {
        let micros = fate["cost"][at].as_f64();
        micros.map_or_else(|| "?".to_owned(), |micros| format!("${:.4}", micros / 1e6))
    };
    format!(
        "  {endpoint}: {instead} would answer {expected}, by {} outcomes of its own; first token {} \
         instead of {}; cost {} instead of {}",
        fate["judged"],
        ms(1),
        ms(0),
        dollars(1),
        dollars(0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_in_words_says_what_is_lost_and_what_is_assumed() {
        let drill = serde_json::json!({
            "without": "https://a.example", "answers": 50, "lost": 30, "not_served": 10,
            "unknown": 0, "survive": 39, "interval": [33, 40],
            "fates": [
                {"endpoint": "https://a.example/m", "answers": 20, "instead": "https://b.example/m",
                 "judged": 100, "expected": 19, "interval": [13, 20],
                 "first_token_us": [90_000, 120_000], "cost": [1_000_000, null]},
                {"endpoint": "https://a.example/n", "answers": 10, "instead": null},
            ],
            "assumptions": ["no shared cause"],
        });
        let text = in_words(&drill);
        for words in [
            "30 of 50 answers",
            "39 (95 %: 33 to 40). Nobody else serves 10",
            "https://b.example/m would answer 19 of 20 (13 to 20), by 100 outcomes of its own; first \
             token 120 ms instead of 90 ms; cost ? instead of $1.0000",
            "https://a.example/n: 10 answers, and nobody else serves it",
            "- no shared cause",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(escaped("https://a.b/c d"), "https%3A%2F%2Fa.b%2Fc%20d");
    }
}
