//! `longrun route`: why a gateway asked which endpoint.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::asking::Ask;

mod drill;

/// What to ask about routing.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print which figures decided where a call went.
    Explain(Explain),
    /// Replay the last week's calls without one provider: each is decided again, by what was known then.
    Drill(drill::Arguments),
}

/// Arguments of `route explain`.
#[derive(Args)]
pub(crate) struct Explain {
    /// The call, from the header `x-longrun-call`.
    call: String,
    #[command(flatten)]
    ask: Ask,
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Explain { call, ask } = match self {
            Self::Explain(explain) => explain,
            Self::Drill(arguments) => {
                arguments.run()?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let route = ask.get(&format!("/longrun/v1/calls/{call}/route"))?;
        if ask.json {
            println!("{}", serde_json::to_string_pretty(&route)?);
        } else {
            println!("{}", explained(&route));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn explained(route: &Value) -> String {
    let text = |name: &str| route[name].as_str().unwrap_or("?");
    let verdict = match text("verdict") {
        "meets" => "it met every wish",
        "best_with_warning" => "nobody met every wish, and it was the best",
        "none_meets" => "nobody met every wish, and nobody was asked",
        other => other,
    };
    let mut because = in_words(text("why")).to_owned();
    if let "preferred" | "probe" | "stepped_aside" = text("why")
        && let Some(best) = route["order"][0]["endpoint"].as_str()
    {
        let why = in_words(text("order_why"));
        because.push_str(&format!(". By the record it had been {best}: {why}"));
    }
    let mut lines = vec![format!(
        "Asked first: {}\nBecause {because}; {verdict} ({} of {} candidates did).\nDraw {} of seed {}.",
        text("asked_first"),
        route["meeting"],
        route["candidates"],
        route["draw"],
        route["seed"],
    )];
    let asked = asked_for(&route["wish"]);
    if !asked.is_empty() {
        lines.push(format!("Asked for: {}.", asked.join(", ")));
    }
    let unmatched = unmatched(&route["unmatched"]);
    if !unmatched.is_empty() {
        lines.push(format!(
            "No endpoint of the model goes by: {}.",
            unmatched.join(", ")
        ));
    }
    for (at, endpoint) in route["order"].as_array().into_iter().flatten().enumerate() {
        lines.push(format!("{:3}. {}", at + 1, figures(endpoint)));
    }
    lines.join("\n")
}

/// A reason of the gateway's, in words.
fn in_words(why: &str) -> &str {
    match why {
        "record" => "its figures were the best",
        "cold" => "it had hardly been tried yet",
        "explored" => "it was this call's turn to explore, and it might be better",
        "preferred" => "the call prefers it",
        "probe" => {
            "its breaker's time was over, and this call was to show whether it is well again"
        }
        "stepped_aside" => {
            "the best stepped aside: its provider has more than routing.max_share_ppm of the last hour's \
             calls"
        }
        other => other,
    }
}

/// What the caller asked of figures.
fn asked_for(wish: &Value) -> Vec<String> {
    let share = |name: &str| Some(wish[name].as_f64()? / 10_000.0).filter(|it| *it > 0.0);
    let mut asked = Vec::new();
    if let Some(percent) = share("success_ppm_min") {
        asked.push(format!("success of {percent:.2} % at least"));
    }
    if wish["safe"] == true {
        asked.push("by the lower end".to_owned());
    }
    if let Some(us) = wish["first_token_us_max"].as_u64() {
        asked.push(format!("a first token within {} ms", us / 1000));
    }
    if let Some(rate) = wish["throughput_min"].as_u64() {
        asked.push(format!("{rate} tokens/s"));
    }
    if let Some(percent) = share("replayed_share_ppm_min") {
        asked.push(format!("{percent:.2} % of answers replayed"));
    }
    asked
}

/// Names in the caller's preferences that name nobody, with the preference.
fn unmatched(unmatched: &Value) -> Vec<String> {
    let lists = ["order", "only", "ignore"].into_iter();
    let named = lists.flat_map(|list| {
        let names = unmatched[list].as_array().into_iter().flatten();
        names.map(move |name| format!("{name} in `{list}`"))
    });
    named.collect()
}

fn figures(endpoint: &Value) -> String {
    let percent = |name: &str| {
        let ppm = endpoint[name].as_f64().unwrap_or(f64::NAN);
        format!("{:.2} %", ppm / 10_000.0)
    };
    let mut parts = vec![format!(
        "{}: success {} ({} to {}) from {} outcomes",
        endpoint["endpoint"].as_str().unwrap_or("?"),
        percent("success_ppm"),
        percent("lower_ppm"),
        percent("upper_ppm"),
        endpoint["judged"],
    )];
    if let Some(us) = endpoint["first_token_us"].as_u64() {
        parts.push(format!("first token {} ms", us / 1000));
    }
    if let Some(rate) = endpoint["throughput"].as_u64() {
        parts.push(format!("{rate} tokens/s"));
    }
    if let Some(observers @ 1..) = endpoint["other_observers"].as_u64() {
        parts.push(format!("by what {observers} other observers saw"));
    }
    if endpoint["resting"] == true {
        parts.push("resting".to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_names_what_decided() {
        let route = serde_json::json!({
            "verdict": "meets", "why": "explored", "meeting": 2, "candidates": 3,
            "seed": 7, "draw": 42, "asked_first": "https://a.example/m",
            "wish": {"success_ppm_min": 990_000, "safe": true, "throughput_min": null},
            "order": [{"endpoint": "https://a.example/m", "success_ppm": 991_000,
                "lower_ppm": 970_000, "upper_ppm": 1_000_000, "judged": 31,
                "first_token_us": 210_000, "throughput": null, "resting": false,
                "other_observers": 24}],
            "unmatched": {"order": ["nobdy"], "only": [], "ignore": ["b.exmaple"]},
        });
        let text = explained(&route);
        assert!(
            text.starts_with("Asked first: https://a.example/m\nBecause it was this call's turn")
        );
        assert!(text.contains("2 of 3 candidates") && text.contains("Draw 42 of seed 7."));
        assert!(text.contains(
            "success 99.10 % (97.00 % to 100.00 %) from 31 outcomes, first token 210 ms, by what 24 \
             other observers saw"
        ));
        assert!(text.contains("Asked for: success of 99.00 % at least, by the lower end."));
        let nobody =
            r#"No endpoint of the model goes by: "nobdy" in `order`, "b.exmaple" in `ignore`."#;
        assert!(text.contains(nobody), "{text}");
    }

    #[test]
    fn an_endpoint_that_the_caller_prefers_was_not_asked_for_its_record() {
        let mut route = serde_json::json!({
            "verdict": "meets", "why": "preferred", "order_why": "record",
            "asked_first": "https://b.example/m",
            "order": [{"endpoint": "https://a.example/m"}, {"endpoint": "https://b.example/m"}],
        });
        let by_record =
            "By the record it had been https://a.example/m: its figures were the best; it met";
        for (why, words) in [
            ("preferred", "Because the call prefers it. "),
            ("probe", "Because its breaker's time was over"),
            ("stepped_aside", "Because the best stepped aside"),
        ] {
            route["why"] = why.into();
            let text = explained(&route);
            assert!(text.contains(words) && text.contains(by_record), "{text}");
        }
        route["why"] = "record".into();
        let text = explained(&route);
        assert!(
            !text.contains("By the record") && !text.contains("goes by"),
            "{text}"
        );
    }
}
