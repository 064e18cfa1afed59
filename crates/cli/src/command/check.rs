//! `longrun check`: the user's own prompts with assertions, which a gateway asks on a schedule.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use gateway::checks::{self, Budget, Case, Checks};
use serde_json::Value;

use crate::files::{self, Unusable};
use crate::http;

/// How long `run` waits for all results.
const RUN_MAX: Duration = Duration::from_secs(600);

/// What to do with checks.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Add the cases of a file: JSON lines, or a promptfoo configuration as JSON or YAML. A running gateway
    /// follows.
    Add(Add),
    /// Show the cases.
    List(Place),
    /// Take a case away. What was recorded of it stays.
    Remove {
        /// What the case is called.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Ask every case once, now, within the budget, and wait for what comes of it.
    Run(Ask),
    /// Show what checks came to, and what they cost today.
    Status(Ask),
}

/// Where the checks are.
#[derive(Args)]
pub(crate) struct Place {
    /// The directory of the gateway.
    #[arg(long, default_value = "longrun-gateway")]
    dir: PathBuf,
}

/// Arguments of `check add`.
#[derive(Args)]
pub(crate) struct Add {
    /// The file with the cases.
    file: PathBuf,
    /// The model to ask where a case names none.
    #[arg(long)]
    model: Option<String>,
    /// Calls that all checks together may make, per endpoint and UTC day (200 if never said).
    #[arg(long)]
    calls_per_day: Option<u64>,
    /// What they may spend, per endpoint and UTC day, in the currency of the endpoints' prices (1.00 if
    /// never said).
    #[arg(long)]
    spend_per_day: Option<f64>,
    #[command(flatten)]
    place: Place,
}

/// Whom to ask.
#[derive(Args)]
pub(crate) struct Ask {
    /// The gateway.
    #[arg(long, default_value = "http://127.0.0.1:7411")]
    gateway: String,
    /// An operator's key of the gateway, where it wants one.
    #[arg(long, env = "LONGRUN_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Print the JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Add(add) => add.run()?,
            Self::List(place) => {
                let checks = place.read()?;
                if checks.cases.is_empty() {
                    println!("There are no checks; `longrun check add FILE` adds some.");
                }
                checks.cases.iter().for_each(print_case);
            }
            Self::Remove { name, place } => {
                let mut checks = place.read()?;
                let before = checks.cases.len();
                checks.cases.retain(|case| case.name != name);
                if checks.cases.len() == before {
                    bail!("there is no check `{name}`; `longrun check list` shows them");
                }
                place.write(&checks)?;
                println!("removed {name}");
            }
            Self::Run(ask) => return ask.run(),
            Self::Status(ask) => print_told(&ask.told()?, ask.json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Place {
    fn file(&self) -> PathBuf {
        self.dir.join(checks::FILE)
    }

    fn read(&self) -> Result<Checks> {
        let file = self.file();
        if !file.exists() {
            return Ok(Checks::default());
        }
        let text = files::read_text(&file)?;
        let wrong = |wrong| Unusable(format!("{}: {wrong}", file.display()));
        Ok(Checks::parse(&text).map_err(wrong)?)
    }

    fn write(&self, checks: &Checks) -> Result<()> {
        files::make_dir(&self.dir)?;
        files::write_whole(&self.file(), checks.to_text().as_bytes())
    }
}

impl Add {
    fn run(&self) -> Result<()> {
        let cases = read(&self.file, self.model.as_deref())?;
        let mut checks = self.place.read()?;
        let Budget {
            calls_per_day,
            spend_per_day,
            ..
        } = &mut checks.budget;
        *calls_per_day = self.calls_per_day.unwrap_or(*calls_per_day);
        *spend_per_day = self.spend_per_day.unwrap_or(*spend_per_day);
        let count = cases.len();
        let new = checks.add(cases)?;
        // As a gateway will read it: what it would refuse is not written.
        Checks::parse(&checks.to_text())?;
        self.place.write(&checks)?;
        let budget = checks.budget;
        println!(
            "{new} new, {} replaced in {}; {} in all, at most {} calls and {} a day at each endpoint",
            count - new,
            self.place.file().display(),
            checks.cases.len(),
            budget.calls_per_day,
            budget.spend_per_day
        );
        Ok(())
    }
}

fn read(file: &Path, model: Option<&str>) -> Result<Vec<Case>> {
    let mut text = files::read_text(file)?;
    let mut kind = file.to_owned();
    let extension = file.extension().and_then(|it| it.to_str());
    if matches!(extension, Some("yaml" | "yml")) {
        let value: Value = serde_saphyr::from_str(&text)
            .map_err(|error| Unusable(format!("{}: {error}", file.display())))?;
        (text, kind) = (value.to_string(), file.with_extension("json"));
    }
    checks::read(&kind, &text, model).map_err(|all| {
        let lines: Vec<String> = all
            .iter()
            .map(|wrong| format!("{}: {wrong}", file.display()))
            .collect();
        Unusable(format!("nothing is added:\n{}", lines.join("\n"))).into()
    })
}

fn print_case(case: &Case) {
    let kinds: Vec<&str> = case
        .assertions
        .iter()
        .filter_map(|assertion| assertion.source()["type"].as_str())
        .collect();
    println!(
        "{}  {} at {}, every {} min: {}",
        case.name,
        case.model,
        case.endpoint.as_deref().unwrap_or("every endpoint"),
        case.every().as_secs() / 60,
        kinds.join(", ")
    );
}

impl Ask {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.trim_end_matches('/'))
    }

    fn told(&self) -> Result<Value> {
        let url = self.url("/longrun/v1/checks");
        let answer = http::get(&url, self.api_key.as_deref())?;
        if answer.status != 200 {
            bail!("{url}: {}", answer.complaint());
        }
        answer.json()
    }

    fn run(&self) -> Result<ExitCode> {
        let url = self.url("/longrun/v1/checks/run");
        let answer = http::post(&url, self.api_key.as_deref())?;
        if answer.status != 202 {
            bail!("{url}: {}", answer.complaint());
        }
        let begun = std::time::Instant::now();
        let mut told = self.told()?;
        while told["waiting"].as_u64() != Some(0) {
            if begun.elapsed() > RUN_MAX {
                bail!(
                    "not done within {} s; it goes on, and `longrun check status` shows it",
                    RUN_MAX.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(500));
            told = self.told()?;
        }
        print_told(&told, self.json)?;
        let results = told["results"].as_array();
        let failed = results
            .into_iter()
            .flatten()
            .any(|it| it["passed"] == false);
        Ok(ExitCode::from(u8::from(failed)))
    }
}

fn print_told(told: &Value, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(told)?);
        return Ok(());
    }
    if let Some(trouble) = told["trouble"].as_str() {
        println!("the file cannot be used, the checks before stay in force: {trouble}");
    }
    println!(
        "{} cases; at most {} calls and {} a day at each endpoint",
        told["cases"], told["calls_per_day"], told["spend_per_day"]
    );
    for unserved in told["unserved"].as_array().into_iter().flatten() {
        println!("no endpoint serves {}", unserved.as_str().unwrap_or("?"));
    }
    for result in told["results"].as_array().context("no results")? {
        let text = |name: &str| result[name].as_str().unwrap_or_default();
        let verdict = match result["passed"].as_bool() {
            Some(true) => "passed",
            Some(false) => "FAILED",
            None => "-",
        };
        println!(
            "{verdict:<7} {}  {}  {}",
            text("case"),
            text("endpoint"),
            text("why")
        );
        for failed in result["failed"].as_array().into_iter().flatten() {
            println!("        {failed}");
        }
        if result["groups"].is_array() {
            println!("        repeats that agree: {}", result["groups"]);
        }
    }
    for spent in told["endpoints"].as_array().into_iter().flatten() {
        if spent["calls_today"] != 0 {
            let money = spent["spent_today_nano"].as_f64().unwrap_or(0.0) / 1e9;
            println!(
                "today {} calls, {money:.4} at {}",
                spent["calls_today"], spent["endpoint"]
            );
        }
    }
    Ok(())
}
