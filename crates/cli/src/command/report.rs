//! `longrun report`: what happened in the last hours or days, as text, as JSON, or as one HTML file
//! with plots that needs nothing else.
//!
//! A running gateway is asked, or a log is folded here: both give the same account, but for what only
//! a gateway knows (names and owners of endpoints, its own objectives, calls under way).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use record::Record;
use record::control::LogOrigin;
use reliability::account::{self, Account};
use reliability::fold::{History, Policy};
use reliability::forecast::fold::{Forecasts, Rule};
use reliability::level::Alpha;
use reliability::timeline::Timeline;
use serde_json::{Value, json};

use crate::asking::Ask;
use crate::files::{self, Unusable};
use crate::log_files::LogFiles;

mod html;
mod plot;
mod text;

/// Arguments of `report`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How far back: for instance 90m, 24h or 7d; at most 31d.
    #[arg(long, default_value = "7d", value_name = "SPAN")]
    since: String,
    #[command(flatten)]
    ask: Ask,
    /// Fold this log (a directory, or a URL) instead of asking a gateway.
    #[arg(long, conflicts_with = "gateway")]
    log: Option<String>,
    /// A file with the token that opens the bodies of a log at a URL.
    #[arg(long, value_name = "FILE", requires = "log")]
    read_token: Option<PathBuf>,
    /// The log's key, for a log at a URL; without it the log names its own.
    #[arg(long, requires = "log")]
    log_vkey: Option<String>,
    /// Write one HTML file with plots; it needs nothing from elsewhere and runs no script.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Everything that a report is written from.
pub(super) struct Told {
    /// The account, as `GET /longrun/v1/account` has it.
    pub(super) account: Value,
    /// `concentration` of a gateway's status; null without a gateway.
    pub(super) concentration: Value,
    /// Provider, model and name of the endpoints that have one.
    pub(super) names: Vec<(String, String, String)>,
    /// Where it comes from.
    pub(super) source: String,
}

impl Told {
    /// What to call an endpoint: the name that its operator gave it, else its model and provider.
    pub(super) fn name(&self, endpoint: &Value) -> String {
        let text = |name: &str| endpoint[name].as_str().unwrap_or("?");
        let (provider, model) = (text("provider"), text("model"));
        let named = self
            .names
            .iter()
            .find(|(p, m, _)| p == provider && m == model);
        match named {
            Some((.., name)) => format!("{name} ({model})"),
            None => format!("{model} at {}", short(provider)),
        }
    }

    pub(super) fn endpoints(&self) -> &[Value] {
        self.account["endpoints"]
            .as_array()
            .map_or(&[], Vec::as_slice)
    }
}

/// The beginning of a provider's id; an origin whole.
fn short(provider: &str) -> String {
    let is_id = provider.len() == 64 && provider.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id {
        format!("{}…", &provider[..12])
    } else {
        provider.to_owned()
    }
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let since_ms = span_ms(&self.since)?;
        let told = match &self.log {
            Some(log) => self.of_log(log, since_ms)?,
            None => self.of_gateway(since_ms)?,
        };
        if let Some(file) = &self.html {
            files::write_whole(file, html::page(&told).as_bytes())?;
            println!("wrote {}", file.display());
        }
        if self.ask.json {
            let document = json!({
                "source": told.source,
                "account": told.account,
                "concentration": told.concentration,
            });
            println!("{}", serde_json::to_string_pretty(&document)?);
        } else if self.html.is_none() {
            print!("{}", text::report(&told));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn of_gateway(&self, since_ms: u64) -> Result<Told> {
        let path = format!("/longrun/v1/account?since_s={}", since_ms / 1000);
        let account = self.ask.get(&path)?;
        let mut status = self.ask.get("/longrun/v1/status")?;
        let endpoints = status["endpoints"].as_array();
        let names = endpoints.into_iter().flatten().filter_map(|it| {
            let text = |name: &str| Some(it[name].as_str()?.to_owned());
            Some((text("provider")?, text("model")?, text("name")?))
        });
        Ok(Told {
            names: names.collect(),
            account,
            concentration: status["concentration"].take(),
            source: format!("gateway {}", self.ask.gateway),
        })
    }

    fn of_log(&self, log: &str, since_ms: u64) -> Result<Told> {
        let token = self
            .read_token
            .as_deref()
            .map(files::read_text)
            .transpose()?;
        let token = token.as_deref().map(str::trim);
        let opened = LogFiles::open_any(log, token, self.log_vkey.as_deref())?;
        let mut fold = Fold::of(LogOrigin::new(opened.key().name())?);
        opened.scan(
            None,
            |entry| {
                let record = entry.envelope.map(record::Envelope::open_unverified);
                Ok((entry.index, record.transpose()?))
            },
            |(index, record)| {
                if let Some(record) = record {
                    fold.apply(&record, index);
                }
                Ok(())
            },
        )?;
        let now_ms = recorder::Context::system()?.clock.unix_ms();
        let account = fold.account(now_ms.saturating_sub(since_ms), now_ms);
        Ok(Told {
            account: serde_json::to_value(&account)?,
            concentration: Value::Null,
            names: Vec::new(),
            source: format!("log {log}"),
        })
    }
}

/// The folds of a log. Forecasts are those of the first observer in it, against 99 % served well.
struct Fold {
    history: History,
    timeline: Timeline,
    forecasts: Forecasts,
}

impl Fold {
    fn of(origin: LogOrigin) -> Self {
        Self {
            history: History::new(Policy::own_log(origin)),
            timeline: Timeline::default(),
            forecasts: Forecasts::of_first_observer(vec![Rule::availability()]),
        }
    }

    fn apply(&mut self, record: &Record, index: u64) {
        let all = (&mut self.history, &mut self.forecasts, &mut self.timeline);
        account::follow(all, record, index);
    }

    fn account(&self, since_ms: u64, now_ms: u64) -> Account {
        let all = (&self.history, &self.forecasts, &self.timeline);
        Account::of(all, since_ms, now_ms, Alpha::FIVE_PERCENT)
    }
}

/// A span in ms from `90m`, `24h` or `7d`.
fn span_ms(text: &str) -> Result<u64> {
    const MAX_MS: u64 = reliability::timeline::SPAN_MAX_MS;
    let unusable = |why: &str| {
        Unusable(format!(
            "--since {text}: {why}; write for instance 24h or 7d"
        ))
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(unusable("it has to end in m, h or d").into()),
    };
    let number: u64 = digits.parse().map_err(|_| unusable("not a number"))?;
    match number.checked_mul(unit_ms) {
        Some(ms) if (60_000..=MAX_MS).contains(&ms) => Ok(ms),
        _ => Err(unusable("at least 1m and at most 31d are kept").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, ms) in [
            ("90m", 5_400_000),
            ("24h", 86_400_000),
            ("31d", 2_678_400_000),
        ] {
            assert_eq!(span_ms(text).expect(text), ms);
        }
        for bad in [
            "",
            "7",
            "d",
            "0d",
            "32d",
            "1w",
            "-1h",
            "99999999999999999999d",
        ] {
            assert!(span_ms(bad).is_err(), "{bad}");
        }
    }

    /// A log that nobody wrote to yet: said in words, with every section in its place.
    #[test]
    fn nothing_is_reported_as_nothing() {
        let origin = LogOrigin::new("log.example/empty").expect("a name");
        let account = Fold::of(origin).account(0, 1_790_000_000_000);
        let told = Told {
            account: serde_json::to_value(&account).expect("JSON"),
            concentration: Value::Null,
            names: Vec::new(),
            source: "log DIR".to_owned(),
        };
        assert!(text::report(&told).contains("Nobody called in this span"));
        let page = html::page(&told);
        assert!(page.contains("Nobody called in this span") && page.ends_with("</html>\n"));
    }
}
