//! `longrun route drill`: the last week's calls, each decided again without one provider.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::asking::Ask;

/// Arguments of `route drill`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The provider to do without: the name of its endpoint, its id or origin, or its host. Or an
    /// owner, as `endpoint.owner` names it: then all its endpoints are left out.
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
    let count = |name: &str| drill[name].as_u64().unwrap_or(0);
    let mut lines = vec![format!(
        "The last seven days without {}, call by call: it was asked for {} of {} calls.",
        drill["without"].as_str().unwrap_or("?"),
        count("asked"),
        count("calls"),
    )];
    if drill["is_cut"] == true {
        let days = (count("until_ms") - count("since_ms").min(count("until_ms"))) as f64 / 86_400e3;
        lines.push(format!(
            "Only the last {days:.1} days of them are remembered: about the latest 100,000 attempts."
        ));
    }
    lines.push(format!(
        "Answered well were {}. Answers there would be: {} (95 %: {low} to {high}).",
        count("answered"),
        count("survive")
    ));
    lines.push(format!(
        "Lost are {}, for nobody else could have served them; of {} nothing is known; {} were answered, or \
         failed, elsewhere in fact.",
        count("not_served"),
        count("unknown"),
        count("unchanged"),
    ));
    let unserved = drill["unserved"].as_array().into_iter().flatten();
    lines.extend(unserved.map(|it| {
        let model = it["model"].as_str().unwrap_or("?");
        format!(
            "  {model}: {} calls lost, {} of them were answered",
            it["calls"], it["answered"]
        )
    }));
    let fates = drill["fates"].as_array().into_iter().flatten();
    lines.extend(fates.map(fate));
    lines.push("This takes for granted:".to_owned());
    let assumptions = drill["assumptions"].as_array().into_iter().flatten();
    let words = assumptions.filter_map(Value::as_str);
    lines.extend(words.map(|words| format!("- {words}")));
    lines.join("\n")
}

fn fate(fate: &Value) -> String {
    let text = |name: &str| fate[name].as_str().unwrap_or("?");
    let calls = &fate["calls"];
    let [low, high] = [0, 1].map(|end| &fate["interval"][end]);
    let expected = match fate["expected"].as_u64() {
        Some(expected) => format!("{expected} of {calls} ({low} to {high})"),
        None => format!("anything from {low} to {high}, for nothing is known of it"),
    };
    let ms = |at: usize| {
        let us = fate["first_token_us"][at].as_u64();
        us.map_or_else(|| "?".to_owned(), |us| format!("{} ms", us / 1000))
    };
    let dollars = |micros: &Value| {
        let micros = micros.as_f64();
        micros.map_or_else(|| "?".to_owned(), |micros| format!("${:.4}", micros / 1e6))
    };
    let instead = &fate["cost_instead"];
    let cost = match instead.is_null() {
        true => "?".to_owned(),
        false => format!("{} to {}", dollars(&instead[0]), dollars(&instead[1])),
    };
    format!(
        "  {}: {} would answer {expected}, by {} outcomes of its own, where {} were answered; first token {} \
         instead of {}; cost {cost} instead of {}",
        text("endpoint"),
        text("instead"),
        fate["judged"],
        fate["answered"],
        ms(1),
        ms(0),
        dollars(&fate["cost"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_in_words_says_what_is_lost_and_what_is_assumed() {
        let mut drill = serde_json::json!({
            "without": "https://a.example", "since_ms": 0, "until_ms": 216_000_000, "is_cut": false,
            "calls": 50, "answered": 48, "asked": 31, "unchanged": 1, "not_served": 10, "unknown": 0,
            "survive": 39, "interval": [33, 40],
            "fates": [
                {"endpoint": "https://a.example/m", "instead": "https://b.example/m", "calls": 20,
                 "answered": 19, "judged": 100, "expected": 18, "interval": [13, 20],
                 "first_token_us": [90_000, 120_000], "cost": 1_000_000, "cost_instead": null},
            ],
            "unserved": [{"model": "n", "calls": 10, "answered": 9}],
            "assumptions": ["no shared cause"],
        });
        let text = in_words(&drill);
        for words in [
            "asked for 31 of 50 calls",
            "Answered well were 48. Answers there would be: 39 (95 %: 33 to 40).",
            "Lost are 10,",
            "n: 10 calls lost, 9 of them were answered",
            "https://b.example/m would answer 18 of 20 (13 to 20), by 100 outcomes of its own, where 19 were \
             answered; first token 120 ms instead of 90 ms; cost ? instead of $1.0000",
            "- no shared cause",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("remembered"));
        drill["is_cut"] = true.into();
        drill["fates"][0]["cost_instead"] = serde_json::json!([500_000, 750_000]);
        let text = in_words(&drill);
        assert!(
            text.contains("the last 2.5 days") && text.contains("cost $0.5000 to $0.7500"),
            "{text}"
        );
        assert_eq!(escaped("https://a.b/c d"), "https%3A%2F%2Fa.b%2Fc%20d");
    }
}
