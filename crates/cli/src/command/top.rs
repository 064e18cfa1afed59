//! `longrun top`: endpoints in the terminal, live; in a pipe, once.
//!
//! The terminal is drawn with plain escape sequences, and put back as it was at the end, at Ctrl-C and
//! when something goes wrong.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::asking::{Ask, duration, percent};
use crate::running;

mod terminal;

use terminal::Terminal;

/// Arguments of `top`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    ask: Ask,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

/// The span that figures are of.
const SPAN_S: u64 = 3600;

const HEAD: [&str; 9] = [
    "ENDPOINT",
    "STATE",
    "ATTEMPTS",
    "SERVED WELL (95 %)",
    "P50",
    "P95",
    "COST",
    "BURN",
    "INCIDENTS",
];

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.ask.json {
            let (status, account) = self.look()?;
            let document = json!({"status": status, "account": account});
            println!("{}", serde_json::to_string_pretty(&document)?);
            return Ok(ExitCode::SUCCESS);
        }
        if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
            let (status, account) = self.look()?;
            for line in screen(&status, &account) {
                println!("{line}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        running::block_on(self.live())
    }

    fn look(&self) -> Result<(Value, Value)> {
        let path = format!("/longrun/v1/account?since_s={SPAN_S}");
        Ok((self.ask.get("/longrun/v1/status")?, self.ask.get(&path)?))
    }

    async fn live(self) -> Result<ExitCode> {
        let stop = running::stop_signal()?;
        tokio::pin!(stop);
        let terminal = Terminal::take()?;
        let mut keys = terminal.keys();
        let every = Duration::from_secs(self.every);
        let ask = std::sync::Arc::new(self);
        loop {
            let asking = std::sync::Arc::clone(&ask);
            let looked = tokio::task::spawn_blocking(move || asking.look());
            let lines = tokio::select! {
                () = &mut stop => break,
                key = keys.recv() => match key {
                    Some(b'q' | b'Q' | 3) | None => break,
                    Some(_) => continue,
                },
                looked = looked => match looked? {
                    Ok((status, account)) => screen(&status, &account),
                    Err(why) => vec![format!("{why:#}"), "Trying again.".to_owned()],
                },
            };
            terminal.draw(&lines, "q quits")?;
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(every) => {}
                key = keys.recv() => if matches!(key, Some(b'q' | b'Q' | 3) | None) {
                    break;
                },
            }
        }
        drop(terminal);
        std::io::stdout().flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Everything that is shown, line by line.
fn screen(status: &Value, account: &Value) -> Vec<String> {
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let (endpoints, known) = (list(status, "endpoints"), list(account, "endpoints"));
    let mut rows: Vec<(u64, [String; 9])> = endpoints
        .iter()
        .map(|endpoint| {
            let same = |it: &&Value| {
                it["provider"] == endpoint["provider"] && it["model"] == endpoint["model"]
            };
            let past = known.iter().find(same).unwrap_or(&Value::Null);
            let attempts = past["attempts"]["calls"].as_u64().unwrap_or(0);
            let mut row = row(endpoint, past);
            // One name may stand for several models.
            let alike = endpoints.iter().filter(|it| it["name"] == endpoint["name"]);
            if let (Some(name), Some(model)) =
                (endpoint["name"].as_str(), endpoint["model"].as_str())
                && alike.count() > 1
            {
                row[0] = format!("{name} {model}");
            }
            (attempts, row)
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    let mut lines = vec![summary(status), String::new()];
    let rows: Vec<[String; 9]> = rows.into_iter().map(|row| row.1).collect();
    if rows.is_empty() {
        lines.push("No endpoint is configured, or none answers yet.".to_owned());
        return lines;
    }
    lines.extend(table(&rows));
    lines.push(String::new());
    lines.push(
        "Attempts (a call may need several), share served well and first token are of the last hour; \
         cost since the start,"
            .to_owned(),
    );
    lines
        .push("by declared prices; burn is the error budget's over an hour, 1x just uses it up in 30 days.".to_owned());
    lines
}

fn summary(status: &Value) -> String {
    let minute: u64 = status["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["calls_last_minute"].as_u64())
        .sum();
    let hour = &status["concentration"]["windows"][0]["provider"];
    let spread = hour["effective_thousandths"]
        .as_f64()
        .map_or_else(String::new, |it| {
            format!(" · {:.1} effective providers", it / 1000.0)
        });
    let trouble = match (&status["log"]["error"], &status["history_error"]) {
        (Value::String(why), _) | (_, Value::String(why)) => format!(" · {why}"),
        _ => String::new(),
    };
    let behind = &status["history_read"];
    let behind = match (&behind["read"], &behind["of"]) {
        (Value::Null, _) => String::new(),
        (read, Value::Null) => format!(" · the history is being read: {read} records"),
        (read, of) => format!(" · the history is being read: {read} of {of} records"),
    };
    let word = if status["log"].is_null() {
        "are kept"
    } else {
        "wait"
    };
    format!(
        "longrun {} · {minute} attempts in the last minute · {} records {word}{spread}{behind}{trouble}",
        status["version"].as_str().unwrap_or("?"),
        status["spool"]["waiting"],
    )
}

fn row(endpoint: &Value, past: &Value) -> [String; 9] {
    let text = |name: &str| endpoint[name].as_str();
    let state = match (text("state"), text("breaker")) {
        (Some("ready"), Some("open")) => "rests",
        (Some("ready"), Some("half_open")) => "tried again",
        (Some("ready"), _) if endpoint["resting"] == true => "rests",
        (state, _) => state.unwrap_or("?"),
    };
    let well = match past["interval_ppm"].as_array().map(Vec::as_slice) {
        Some([low, high]) => format!("{} – {}", percent(low), percent(high)),
        _ => "nothing known".to_owned(),
    };
    let cost = endpoint["cost_micro"].as_f64().filter(|micro| *micro > 0.0);
    let open = past["incidents"].as_array().into_iter().flatten();
    let open = open.filter(|it| it["end_ms"].is_null()).count();
    let incidents = match (past["incidents_ever"].as_u64(), open) {
        (None, _) => "–".to_owned(),
        (Some(ever), 0) => ever.to_string(),
        (Some(ever), _) => format!("{ever}, one lasts"),
    };
    [
        text("name")
            .or(text("model"))
            .or(text("url"))
            .unwrap_or("?")
            .to_owned(),
        state.to_owned(),
        past["attempts"]["calls"].as_u64().unwrap_or(0).to_string(),
        well,
        duration(&past["first_token"]["p50_us"]),
        duration(&past["first_token"]["p95_us"]),
        cost.map_or_else(|| "–".to_owned(), dollars),
        burn(past),
        incidents,
    ]
}

/// Cents, and of less than ten cents what can be told.
fn dollars(micro: f64) -> String {
    let dollars = micro / 1e6;
    if dollars < 0.1 {
        format!("${dollars:.4}")
    } else {
        format!("${dollars:.2}")
    }
}

/// The fastest that any objective burns over an hour.
fn burn(past: &Value) -> String {
    let objectives = past["objectives"].as_array().into_iter().flatten();
    let alarms = objectives
        .filter_map(|it| it["alarms"].as_array())
        .flatten();
    let raised = alarms.clone().any(|alarm| alarm["raised"] == true);
    let hour = alarms.filter(|alarm| alarm["long_s"] == SPAN_S);
    let fastest = hour
        .filter_map(|alarm| alarm["long_thousandths"].as_u64())
        .max();
    match fastest {
        None => "–".to_owned(),
        Some(rate) => {
            let mark = if raised { " !" } else { "" };
            format!("{:.1}x{mark}", rate as f64 / 1000.0)
        }
    }
}

/// Columns as wide as what they hold.
fn table(rows: &[[String; 9]]) -> Vec<String> {
    let head = HEAD.map(str::to_owned);
    let plain = |cell: &str| -> String { cell.chars().filter(|c| !c.is_control()).collect() };
    let all: Vec<[String; 9]> = std::iter::once(&head)
        .chain(rows)
        .map(|row| row.clone().map(|cell| plain(&cell)))
        .collect();
    let width = |at: usize| {
        all.iter()
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    all.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| {
                let fill = " ".repeat(width - cell.chars().count());
                format!("{cell}{fill}")
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_says_what_is_known_and_what_is_not() {
        let status = json!({
        "version": "0", "spool": {"waiting": 2}, "concentration": {"windows": [
            {"provider": {"effective_thousandths": 1500}}]},
        "endpoints": [
            {"provider": "p", "model": "m", "name": "good\u{1b}[2J", "url": "u", "state": "ready",
             "breaker": "closed", "resting": false, "calls_last_minute": 3, "cost_micro": 1_230_000},
            {"provider": null, "model": null, "name": null, "url": "http://new", "state": "unasked",
             "breaker": "closed", "resting": false, "calls_last_minute": 0, "cost_micro": 0},
        ]});
        let account = json!({"endpoints": [
            {"provider": "p", "model": "m", "attempts": {"calls": 40}, "interval_ppm": [900_000, 990_000],
             "first_token": {"p50_us": 118_900, "p95_us": 2_000_000}, "incidents_ever": 2,
             "incidents": [{"start_ms": 1, "end_ms": null}],
             "objectives": [{"alarms": [{"long_s": 3600, "long_thousandths": 15_500, "raised": true}]}]}]});
        let lines = screen(&status, &account);
        assert!(
            lines[0].contains("3 attempts in the last minute")
                && lines[0].contains("1.5 effective")
        );
        assert!(
            lines[3].starts_with("good[2J"),
            "no escape sequence gets through: {}",
            lines[3]
        );
        assert!(lines[2].contains("ATTEMPTS") && !lines[2].contains("CALLS"));
        for part in [
            "90.00 % – 99.00 %",
            "119 ms",
            "2.00 s",
            "$1.23",
            "15.5x !",
            "2, one lasts",
        ] {
            assert!(lines[3].contains(part), "{part} in {}", lines[3]);
        }
        assert!(lines[4].starts_with("http://new") && lines[4].contains("nothing known"));
        let served = |model: &str| json!({"name": "one", "model": model, "provider": "p", "cost_micro": 381});
        let two = screen(
            &json!({"endpoints": [served("a"), served("b")]}),
            &json!({}),
        );
        assert!(
            two[3].starts_with("one a ") && two[4].starts_with("one b "),
            "{two:?}"
        );
        assert!(two[3].contains("$0.0004"), "{two:?}");
        let idle = screen(&json!({"endpoints": []}), &json!({}));
        assert!(idle.last().expect("a line").contains("No endpoint"));
    }
}
