//! `longrun history compute`: a history of calls that nobody signed.
//!
//! Request logs that people have already are read line by line, each line becomes one attempt, and
//! the attempts are folded as a log's would be. Nothing shows whether any were left out or made
//! up, so everything that is printed is marked `imported`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use record::{Endpoint, Fault, Outcome};
use reliability::fold::History;
use reliability::kt::Alpha;
use serde_json::json;

use super::figures::Figures;
use crate::command::verify::read_policy;
use crate::files::Unusable;

mod litellm;
mod openrouter;
mod plain;
mod receipts;
mod unsigned;
mod when;

/// Attempts in one file.
const ATTEMPTS_MAX: usize = 5_000_000;
/// Bytes of one line.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// A line that claims to be later than this is refused.
const FUTURE_TOLERATED_MS: u64 = 5 * 60 * 1000;
/// The longest call that is believed.
const TOTAL_MAX_US: u64 = 7 * 24 * 3600 * 1_000_000;
/// Complaints that are printed one by one.
const COMPLAINTS_MAX: usize = 20;

/// Arguments of `history compute`.
#[derive(Args)]
#[command(after_help = "\
A plain line is a JSON object: {\"time\": \"2026-11-26T17:00:00Z\", \"provider\": \
\"https://api.example.com\", \"model\": \"m\", \"status\": 200, \"ttft_ms\": 120, \"total_ms\": 900}. \
docs/statistics.md has every member. What is computed is marked imported: nobody signed it.")]
pub(crate) struct Compute {
    /// The file to read; JSON Lines, or for OpenRouter the CSV of its activity page.
    file: PathBuf,
    /// What wrote the file.
    #[arg(long, value_enum, default_value_t)]
    from: Format,
    /// With `--from receipts`: a policy with the control records of those who observed. Without one only
    /// the provider's own word counts.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Leave out lines that cannot be used, and count them, instead of stopping.
    #[arg(long)]
    skip_bad: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Whose log it is.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// Longrun's own line format.
    #[default]
    Plain,
    /// LiteLLM: standard logging payloads, or rows of its table of spend logs, as JSON Lines.
    Litellm,
    /// OpenRouter: the CSV of the activity page, or answers of /api/v1/generation as JSON Lines.
    Openrouter,
    /// Longrun: what `longrun provider receipts --out` wrote, receipts and observations, signed; up to
    /// 200,000 records.
    Receipts,
}

/// One try of one call, as a request log tells it.
#[derive(Debug, Clone, PartialEq)]
struct Attempt {
    start_ms: u64,
    endpoint: Endpoint,
    outcome: Outcome,
    /// The usual one of the outcome, if the log does not say.
    fault: Option<Fault>,
    status: Option<u16>,
    streamed: bool,
    ttft_us: Option<u64>,
    total_us: u64,
    /// Tokens in and out.
    tokens: Option<(u64, u64)>,
}

/// What a line turned out to be.
enum Line {
    Attempt(Box<Attempt>),
    /// Nothing that says anything about an endpoint, such as an answer out of a cache.
    Apart,
}

/// What a whole file turned out to be.
#[derive(Default)]
struct Lines {
    attempts: Vec<Attempt>,
    apart: u64,
    bad: Bad,
}

/// Lines that cannot be used.
#[derive(Default)]
struct Bad {
    count: u64,
    /// The first of them, in words.
    told: Vec<String>,
}

impl Bad {
    fn add(&mut self, number: u64, why: &str) {
        self.count += 1;
        if self.told.len() < COMPLAINTS_MAX {
            self.told.push(format!("line {number}: {why}"));
        }
    }

    /// Refuses the file that they are in, unless they may be left out.
    fn stop_unless(&self, skip_bad: bool, name: &impl std::fmt::Display) -> Result<()> {
        if self.count == 0 || skip_bad {
            return Ok(());
        }
        let more = match self.count.saturating_sub(COMPLAINTS_MAX as u64) {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        Err(Unusable(format!(
            "{name}: lines that cannot be used: {}; --skip-bad leaves them out\n{}{more}",
            self.count,
            self.told.join("\n")
        ))
        .into())
    }
}

impl Compute {
    pub(super) fn run(&self) -> Result<()> {
        let name = self.file.display();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let now_ms = u64::try_from(now_ms).context("the clock is far off")?;
        if let Format::Receipts = self.from {
            let policy = read_policy(self.policy.as_deref())?;
            return receipts::compute(&self.file, policy.as_ref(), (self.skip_bad, self.json));
        }
        if self.policy.is_some() {
            let why =
                "--policy is about signers, and nobody signed this; it goes with --from receipts";
            return Err(Unusable(why.to_owned()).into());
        }
        let lines = read(&self.file, self.from, now_ms)?;
        lines.bad.stop_unless(self.skip_bad, &name)?;
        if lines.attempts.is_empty() {
            return Err(Unusable(format!("{name}: there is no call in it")).into());
        }
        let (apart, bad) = (lines.apart, lines.bad.count);
        let count = lines.attempts.len();
        let history = fold(lines.attempts)?;
        let report = history.report(Alpha::FIVE_PERCENT);
        if self.json {
            let document = json!({"evidence": "imported", "signed": false, "attempts": count,
                "apart": apart, "left_out": bad, "history": report});
            println!("{}", serde_json::to_string_pretty(&document)?);
            return Ok(());
        }
        println!("imported  {count} calls out of {name}");
        println!("          {apart} lines say nothing about an endpoint, {bad} were left out");
        println!("          nobody signed them, and nothing shows whether any are missing");
        println!("digest    {}", report.digest);
        super::print_endpoints(&Figures::of(&report)?, |_| Vec::new());
        Ok(())
    }
}

/// Folds attempts by their start. A log has an order of its own; such a file's lines come as they
/// were written, often at their ends, so they are sorted first (equal ones stay as they are).
fn fold(mut attempts: Vec<Attempt>) -> Result<History> {
    attempts.sort_by_key(|attempt| attempt.start_ms);
    let mut folding = unsigned::Folding::new()?;
    for attempt in &attempts {
        folding.add(attempt)?;
    }
    Ok(folding.finish())
}

fn read(path: &Path, format: Format, now_ms: u64) -> Result<Lines> {
    let unusable = |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", path.display()));
    let input = open(path)?;
    read_lines(input, format, now_ms).map_err(|error| unusable(&format!("{error:#}")).into())
}

fn open(path: &Path) -> Result<BufReader<File>, Unusable> {
    let file = File::open(path).map_err(|error| Unusable(format!("{}: {error}", path.display())));
    file.map(BufReader::new)
}

fn read_lines(mut input: impl BufRead, format: Format, now_ms: u64) -> Result<Lines> {
    let start = input.fill_buf()?;
    let is_json = start.trim_ascii_start().starts_with(b"{");
    if let (Format::Openrouter, false) = (format, is_json) {
        let mut lines = Lines::default();
        openrouter::read_csv(input, |number, line| lines.add(number, line, now_ms))?;
        return Ok(lines);
    }
    let mut lines = Lines::default();
    each_line(input, |number, line| {
        let found = match format {
            Format::Plain => plain::read(line),
            Format::Litellm => litellm::read(line),
            Format::Openrouter => openrouter::read(line),
            Format::Receipts => Err("signed records are not read as unsigned ones".to_owned()),
        };
        lines.add(number, found, now_ms)
    })?;
    Ok(lines)
}

/// Gives the lines that are not blank, with their numbers from 1; none is kept.
fn each_line(
    mut input: impl BufRead,
    mut take: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if !line.ends_with(b"\n") && read as u64 == LINE_BYTES_MAX {
            anyhow::bail!("line {number}: more than {LINE_BYTES_MAX} bytes");
        }
        if !line.trim_ascii().is_empty() {
            take(number, &line)?;
        }
    }
    Ok(())
}

impl Lines {
    fn add(&mut self, number: u64, line: Result<Line, String>, now_ms: u64) -> Result<()> {
        let line = line.and_then(|line| match line {
            Line::Attempt(attempt) => check(&attempt, now_ms).map(|()| Line::Attempt(attempt)),
            apart @ Line::Apart => Ok(apart),
        });
        match line {
            Ok(Line::Attempt(attempt)) => {
                anyhow::ensure!(
                    self.attempts.len() < ATTEMPTS_MAX,
                    "more than {ATTEMPTS_MAX} calls: split the file"
                );
                self.attempts.push(*attempt);
            }
            Ok(Line::Apart) => self.apart += 1,
            Err(why) => self.bad.add(number, &why),
        }
        Ok(())
    }
}

/// What no format may say.
fn check(attempt: &Attempt, now_ms: u64) -> Result<(), String> {
    let Attempt {
        start_ms,
        total_us,
        ttft_us,
        ..
    } = *attempt;
    if start_ms > now_ms + FUTURE_TOLERATED_MS {
        return Err(
            "it is from the future; check the clock that wrote it, and the unit".to_owned(),
        );
    }
    if total_us > TOTAL_MAX_US {
        return Err("it took more than a week; check the unit".to_owned());
    }
    if ttft_us.is_some_and(|ttft_us| ttft_us > total_us) {
        return Err("its first token came after its end".to_owned());
    }
    Ok(())
}

/// The outcome that an HTTP status shows. What a server says of itself is taken for its fault;
/// that is the same rule as the gateway's.
fn of_status(status: u16) -> Option<Outcome> {
    Some(match status {
        200..=299 => Outcome::Ok,
        429 => Outcome::RateLimited,
        408 | 504 => Outcome::Timeout,
        503 | 529 => Outcome::Capacity,
        499 => Outcome::Canceled,
        400..=498 => Outcome::ClientError,
        500..=599 => Outcome::ProviderError,
        _ => return None,
    })
}

/// Milliseconds, which may have a fraction, in microseconds.
fn us_of_ms(ms: f64, what: &str) -> Result<u64, String> {
    us_of_s(ms / 1e3, what)
}

/// Seconds in microseconds.
fn us_of_s(s: f64, what: &str) -> Result<u64, String> {
    if !s.is_finite() || s < 0.0 {
        return Err(format!("{what} is {s}: a duration is at least 0"));
    }
    let us = (s * 1e6).round();
    if us > TOTAL_MAX_US as f64 {
        return Err(format!("{what} is more than a week; check the unit"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and a week"
    )]
    let us = us as u64;
    Ok(us)
}

/// A web origin out of a URL or a host.
fn origin_of(url: &str) -> Result<record::Provider, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = host.rsplit('@').next().unwrap_or(host).to_ascii_lowercase();
    let own_port = if scheme == "http" { ":80" } else { ":443" };
    let host = host.strip_suffix(own_port).unwrap_or(&host);
    let origin = format!("{scheme}://{host}");
    origin
        .parse()
        .map_err(|error: record::Error| format!("{url}: {error}"))
}

#[cfg(test)]
mod tests;
