//! `longrun log monitor`: follow logs and witnesses, and keep proof if one shows two histories.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use services::clock::{Clock as _, SystemClock};
use services::monitor::{self, Finding, Gravity, MonitorError, MonitorOptions, What};
use tlog::log_policy::LogPolicy;

use crate::files::{self, Unusable};
use crate::running;

/// Exit code when something is not as it should be and nothing is proven against a log.
const TROUBLE: u8 = 3;

/// Arguments of `log monitor`.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 everything that was seen is one history; 1 a log has SIGNED TWO HISTORIES, the \
evidence is kept below the directory and `longrun verify` or `longrun log evidence` proves it to \
anybody; 2 unusable input; 3 nothing is proven, but something could not be checked or is not as it \
should be: a log or witness is down, went back, is stale, serves wrong tiles, or lacks the quorum. \
A monitor shows more the more of them there are, and the more witnesses they ask: one alone can be \
shown a history of its own.")]
pub(crate) struct Monitor {
    /// What was seen is kept here, and evidence; the same directory carries on.
    #[arg(long)]
    dir: PathBuf,
    /// A C2SP tlog-policy: `log VKEY URL` lines for the logs to follow, `witness NAME VKEY URL`
    /// lines for the witnesses to ask, and a `quorum`.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A log to follow, beside those of the policy. Repeat for more.
    #[arg(long, num_args = 2, value_names = ["VKEY", "URL"])]
    log: Vec<String>,
    /// A witness to ask, beside those of the policy, at the prefix that `/<hash>/checkpoint`
    /// follows. Repeat for more.
    #[arg(long, num_args = 2, value_names = ["VKEY", "URL"])]
    witness: Vec<String>,
    /// Look once and end, for scripts.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval_s: u64,
    /// Seconds that a witness may be behind the log.
    #[arg(long, default_value_t = 3600)]
    stale_after_s: u64,
    /// Seconds that each answer may take.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout_s: u64,
}

impl Monitor {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let policy = self.policy()?;
        let stop = Arc::new(AtomicBool::new(false));
        let options = MonitorOptions {
            timeout: Duration::from_secs(self.timeout_s),
            stale_after_s: self.stale_after_s,
            stop: stop.clone(),
            ..MonitorOptions::default()
        };
        let monitor = monitor::Monitor::open(&self.dir, policy, options).map_err(unusable)?;
        let (told, word) = std::sync::mpsc::channel::<()>();
        // The monitor blocks, so it has this thread, and the word to stop comes from another.
        std::thread::spawn(move || {
            let waited = running::block_on(async {
                running::stop_signal()?.await;
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            drop(told);
            waited
        });
        let pause = Duration::from_secs(self.interval_s);
        let wait = || word.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        follow(monitor, self.once, wait)
    }

    /// The policy's text with what the command line adds.
    fn policy(&self) -> Result<LogPolicy> {
        let mut text = match &self.policy {
            Some(file) => files::read_text(file)?,
            None => String::new(),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for pair in self.log.chunks(2) {
            text += &format!("log {}\n", pair.join(" "));
        }
        for (number, pair) in (1..).zip(self.witness.chunks(2)) {
            text += &format!("witness witness-{number} {}\n", pair.join(" "));
        }
        if self.policy.is_none() {
            text += "quorum none\n";
        }
        let named = match &self.policy {
            Some(file) => file.display().to_string(),
            None => "the logs and witnesses that were named".to_owned(),
        };
        LogPolicy::parse(text.as_bytes())
            .map_err(|error| Unusable(format!("{named}: {error}")).into())
    }
}

fn unusable(error: MonitorError) -> anyhow::Error {
    match error {
        MonitorError::Store(error) => error.into(),
        other => Unusable(other.to_string()).into(),
    }
}

/// Looks, says what is new, and waits; until `wait` says that it is over.
fn follow(mut monitor: monitor::Monitor, once: bool, wait: impl Fn() -> bool) -> Result<ExitCode> {
    let mut worst = Gravity::Fine;
    let mut said: HashMap<(String, Option<String>), Vec<What>> = HashMap::new();
    loop {
        let findings = monitor.round().context("what was seen cannot be kept")?;
        let now = utc(SystemClock.unix_ms() / 1000);
        let mut saying: HashMap<_, Vec<What>> = HashMap::new();
        for finding in findings {
            let Finding {
                origin,
                witness,
                what,
            } = finding;
            worst = worst.max(what.gravity());
            let whose = (origin, witness);
            let news = !said.get(&whose).is_some_and(|said| said.contains(&what));
            if once || news || what.gravity() != Gravity::Fine {
                let who = match &whose.1 {
                    Some(witness) => format!("{} (witness {witness})", whose.0),
                    None => whose.0.clone(),
                };
                println!("{now} {who}: {}", in_words(&what));
            }
            saying.entry(whose).or_default().push(what);
        }
        said = saying;
        if once || !wait() {
            break;
        }
    }
    Ok(match worst {
        Gravity::Fine => ExitCode::SUCCESS,
        Gravity::Trouble => ExitCode::from(TROUBLE),
        Gravity::Split => ExitCode::FAILURE,
    })
}

fn in_words(what: &What) -> String {
    match what {
        What::First { size } => format!("first seen, {size} entries; its tiles give its root"),
        What::Same { size } => format!("unchanged, {size} entries"),
        What::Grew { from, to } => format!("grew from {from} to {to} entries, one history"),
        What::Cosigned { size, latest } if size == latest => {
            format!("cosigned {size} entries, the latest")
        }
        What::Cosigned { size, latest } => {
            format!("cosigned {size} of {latest} entries, one history")
        }
        What::Rebuilt { entries, of } => {
            format!("computed {entries} entries' hashes again, {of} in all; they give the root")
        }
        What::Split {
            older,
            newer,
            evidence,
        } => format!(
            "SPLIT VIEW: this log SIGNED TWO HISTORIES, at {older} and at {newer} entries. Do not \
             trust it. The proof is in {}; anybody can check it: longrun verify FILE --policy POLICY",
            evidence.display()
        ),
        What::KnownSplit { evidence } => format!(
            "SPLIT VIEW, known already: this log SIGNED TWO HISTORIES. The proof is in {}",
            evidence.display()
        ),
        What::Down(reason) => format!("DOWN: {reason}"),
        What::Unusable(reason) => format!("UNUSABLE: {reason}"),
        What::WentBack { from, to } => {
            format!("WENT BACK: it had shown {from} entries and shows {to} now")
        }
        What::Unproven { size, reason } => format!(
            "UNPROVEN: its checkpoint at {size} entries is kept and will be tried again: {reason}"
        ),
        What::BadTiles(reason) => format!("BAD TILES: {reason}"),
        What::Unwitnessed { size } => {
            format!("UNWITNESSED: too few witnesses of the policy cosigned it at {size} entries")
        }
        What::Stale {
            size,
            latest,
            age_s,
        } => format!("STALE: cosigned {size} of {latest} entries, {age_s} seconds ago"),
        What::Ended {
            size,
            successor,
            url,
        } => format!(
            "ended at {size} entries; {successor} goes on{}",
            url.as_ref()
                .map_or(String::new(), |url| format!(" at {url}"))
        ),
        What::AfterEnd { end, size } => format!(
            "GREW AFTER ITS END: it has signed that it ended at {end} entries, and {size} since"
        ),
        other => format!("{other:?}"),
    }
}

/// POSIX seconds as UTC, `2026-11-26T18:00:00Z`. The calendar is the proleptic Gregorian one, after
/// Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
pub(crate) fn utc(posix_s: u64) -> String {
    let (days, second) = (posix_s / 86_400 + 719_468, posix_s % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (posix_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(posix_s), expected);
        }
    }
}
