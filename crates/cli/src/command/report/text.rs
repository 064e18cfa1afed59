//! The report as text.

use std::fmt::Write as _;

use serde_json::Value;

use super::Told;
use crate::asking::{duration, percent};
use crate::command::log::utc;

/// The whole report.
pub(super) fn report(told: &Told) -> String {
    let mut out = String::new();
    for line in head(told) {
        out.push_str(&line);
        out.push('\n');
    }
    for endpoint in told.endpoints() {
        let _ = write!(out, "\n{}\n", told.name(endpoint));
        for line in lines(endpoint) {
            let _ = writeln!(out, "  {line}");
        }
    }
    let shares = concentration(told);
    if !shares.is_empty() {
        out.push_str("\nConcentration\n");
        shares.iter().for_each(|line| {
            let _ = writeln!(out, "  {line}");
        });
    }
    let covers = told.account["covers"].as_str().unwrap_or("");
    let _ = write!(out, "\nWhat intervals cover: {covers}.\n");
    out
}

/// What the report is about.
pub(super) fn head(told: &Told) -> Vec<String> {
    let account = &told.account;
    let mut lines = vec![
        format!(
            "From {} to {}, by {}",
            time(&account["since_ms"]),
            time(&account["now_ms"]),
            told.source
        ),
        format!(
            "{} records folded, the latest call ended {}",
            account["records"],
            match account["clock_ms"].as_u64() {
                Some(0) | None => "never".to_owned(),
                Some(ms) => utc(ms / 1000),
            }
        ),
    ];
    if account["trusts_nobody"] == true {
        lines.push("The policy trusts no observer, so nothing is counted.".to_owned());
    }
    let called = told
        .endpoints()
        .iter()
        .any(|it| it["attempts"]["calls"] != 0);
    if !called {
        lines.push("Nobody called in this span, so it says nothing about anyone.".to_owned());
    }
    if let Some(left @ 1..) = account["endpoints_left_out"].as_u64() {
        lines.push(format!(
            "{left} endpoints with fewer attempts are left out."
        ));
    }
    lines
}

/// What is told of one endpoint.
pub(super) fn lines(endpoint: &Value) -> Vec<String> {
    let mut lines = vec![availability(endpoint)];
    lines.push(format!(
        "over its whole history: {} ({} attempts, {} numbers without an outcome)",
        range(&endpoint["lifetime_ppm"]),
        endpoint["calls"],
        endpoint["unknown"],
    ));
    let unknown = if endpoint["unknown_counts"] == true {
        "; numbers without outcome count as failures"
    } else {
        ""
    };
    lines.push(format!(
        "unknown time: {} hours with calls, {} without any{unknown}",
        endpoint["known_hours"], endpoint["unknown_hours"],
    ));
    if endpoint["unilateral"] == true {
        lines.push("only one side keeps records: completeness is its claim alone".to_owned());
    }
    for (name, times) in [("first token", "first_token"), ("whole answer", "total")] {
        lines.push(latency(name, &endpoint[times]));
    }
    lines.extend(schema(endpoint));
    lines.extend(troubles(endpoint));
    lines.extend(each(&endpoint["objectives"]).map(objective));
    for told in each(&endpoint["forecasts"]) {
        lines.extend(each(&told["windows"]).map(|window| forecast(told, window)));
    }
    lines
}

fn availability(endpoint: &Value) -> String {
    let attempts = &endpoint["attempts"];
    let judged = attempts["good"].as_u64().unwrap_or(0) + attempts["bad"].as_u64().unwrap_or(0);
    if judged == 0 {
        return format!(
            "{} attempts in this span, none of which says anything about it",
            attempts["calls"]
        );
    }
    format!(
        "served well: {} of {judged} judged attempts, interval {} ({} attempts, {} answered 429)",
        attempts["good"],
        range(&endpoint["interval_ppm"]),
        attempts["calls"],
        attempts["rate_limited"],
    )
}

fn latency(name: &str, times: &Value) -> String {
    if times["count"] == 0 {
        return format!("{name}: nothing measured");
    }
    format!(
        "{name}: median {}, p90 {}, p95 {}, p99 {} ({} measured)",
        duration(&times["p50_us"]),
        duration(&times["p90_us"]),
        duration(&times["p95_us"]),
        duration(&times["p99_us"]),
        times["count"],
    )
}

/// Dimensions with verdicts, over the whole history.
fn schema(endpoint: &Value) -> Vec<String> {
    let checked = each(&endpoint["dimensions"]).filter(|dimension| {
        let known = ["availability", "first_token", "inter_token"];
        let name = dimension["dimension"].as_str().unwrap_or("");
        !known.contains(&name) && dimension["judged"].as_u64() > Some(0)
    });
    let told: Vec<String> = checked
        .map(|it| {
            let name = it["dimension"].as_str().unwrap_or("?");
            let (judged, held) = (&it["judged"], range(&it["lifetime_ppm"]));
            match it["bad"].as_u64() {
                Some(bad) => format!(
                    "{name}: {bad} of {judged} checked answers failed, {held} held over the whole history"
                ),
                // Repeats agree more or less; none of them fails.
                None => format!(
                    "{name}: {judged} batches of repeats, {held} agreement over the whole history"
                ),
            }
        })
        .collect();
    if told.is_empty() {
        return vec!["schema, tools and correctness: nothing was checked".to_owned()];
    }
    told
}

/// Incidents and alarms.
pub(super) fn troubles(endpoint: &Value) -> Vec<String> {
    let mut lines: Vec<String> = each(&endpoint["incidents"])
        .map(|it| match it["end_ms"].as_u64() {
            Some(_) => format!(
                "incident from {} to {}: {} failed",
                time(&it["start_ms"]),
                time(&it["end_ms"]),
                it["failed"]
            ),
            None => format!(
                "incident since {}, it lasts: {} failed",
                time(&it["start_ms"]),
                it["failed"]
            ),
        })
        .collect();
    lines.extend(each(&endpoint["alarms"]).map(|it| {
        format!(
            "regime alarm at {}: {} is no longer what it was; {}",
            time(&it["at_ms"]),
            it["dimension"].as_str().unwrap_or("?"),
            it["verdict"]["in_words"]
                .as_str()
                .unwrap_or("what came of it is told no longer")
        )
    }));
    if lines.is_empty() {
        lines.push(format!(
            "no incident and no alarm in this span ({} and {} ever)",
            endpoint["incidents_ever"], endpoint["alarms_ever"]
        ));
    }
    lines
}

/// One objective.
pub(super) fn objective(told: &Value) -> String {
    let left = match told["budget_left_thousandths"].as_f64() {
        Some(left) => format!("{:.0} % of the budget of 30 days left", left / 10.0),
        None => "nothing known".to_owned(),
    };
    let burning = each(&told["alarms"]).filter(|alarm| alarm["raised"] == true);
    let burning: Vec<String> = burning
        .map(|alarm| {
            format!(
                "{} ({} times too fast over {} h)",
                alarm["severity"].as_str().unwrap_or("?"),
                alarm["long_thousandths"].as_u64().unwrap_or(0) / 1000,
                alarm["long_s"].as_u64().unwrap_or(0) / 3600,
            )
        })
        .collect();
    let burning = if burning.is_empty() {
        String::new()
    } else {
        format!("; burning: {}", burning.join(", "))
    };
    format!(
        "objective {}: {} wanted, {} reached, {left}{burning}",
        told["objective"].as_str().unwrap_or("?"),
        percent(&told["target_ppm"]),
        percent(&told["good_ppm"]),
    )
}

/// Forecasts of one length, beside what came.
pub(super) fn forecast(told: &Value, window: &Value) -> String {
    let length = window["length"].as_str().unwrap_or("?");
    let name = told["objective"].as_str().unwrap_or("?");
    let scores = &window["scores"];
    if scores["windows"].as_u64().unwrap_or(0) == 0 {
        return format!("forecasts of {name} by {length}: none scored yet");
    }
    let said = |against: &str| scores[against]["verdict"].as_str().unwrap_or("?");
    format!(
        "forecasts of {name} by {length}: {} scored, {} breached; {} of {} intervals covered, mean \
         width {}; against climatology {}, against persistence {}",
        scores["windows"],
        scores["breached"],
        scores["predictability"]["covered"],
        scores["predictability"]["ended"],
        percent(&scores["predictability"]["mean_width_ppm"]),
        said("against_climatology"),
        said("against_persistence"),
    )
}

/// How calls are spread: by a gateway's words, else by the providers of the account.
pub(super) fn concentration(told: &Told) -> Vec<String> {
    let mut lines = Vec::new();
    for window in each(&told.concentration["windows"]) {
        for by in ["provider", "owner", "origin"] {
            if window[by]["attempts"] != 0 {
                let span = window["window"].as_str().unwrap_or("?");
                lines.push(spread(&format!("{by}, last {span}"), &window[by]));
            }
        }
    }
    let own = &told.account["providers"];
    if lines.is_empty() && own["attempts"].as_u64() > Some(0) {
        lines.push(spread("provider, this span", own));
    }
    lines
}

fn spread(name: &str, of: &Value) -> String {
    let effective = of["effective_thousandths"].as_f64().unwrap_or(0.0) / 1000.0;
    let index = of["hhi_ppm"].as_f64().unwrap_or(0.0) / 1e6;
    let parties = each(&of["parties"]).take(3).map(|party| {
        let name = party["name"].as_str().unwrap_or("?");
        format!("{} {}", super::short(name), percent(&party["share_ppm"]))
    });
    let parties: Vec<String> = parties.collect();
    format!(
        "by {name}: {effective:.2} effective (index {index:.3}); {}",
        parties.join(", ")
    )
}

pub(super) fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub(super) fn time(ms: &Value) -> String {
    ms.as_u64()
        .map_or_else(|| "?".to_owned(), |ms| utc(ms / 1000))
}

fn range(ppm: &Value) -> String {
    match ppm.as_array().map(Vec::as_slice) {
        Some([low, high]) => format!("{} to {}", percent(low), percent(high)),
        _ => "nothing known".to_owned(),
    }
}
