//! `longrun gateway key`: who may call a gateway. A running gateway follows the file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use gateway::keys::{self, Entry, Grant, KeyFile, NewKey};
use recorder::{Clock as _, SystemClock};
use ring::rand::SystemRandom;

use crate::files::{self, Unusable};

/// What to do with keys.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key for a new caller and show it once.
    Add(Add),
    /// Show who has a key and what it may use. Keys themselves cannot be shown again.
    List(Place),
    /// Make a new key for a caller; the old one is good for a while longer.
    Rotate(Rotate),
    /// Take a caller's keys away. Running answers finish.
    Revoke {
        /// What the caller is called.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the keys are.
#[derive(Args)]
pub(crate) struct Place {
    /// The directory of the gateway.
    #[arg(long, default_value = "longrun-gateway")]
    dir: PathBuf,
    /// The key file; where it is not given, the one that `longrun.toml` here names.
    #[arg(long)]
    keys_file: Option<PathBuf>,
}

/// Arguments of `gateway key add`.
#[derive(Args)]
pub(crate) struct Add {
    /// What the caller is called here; it is in no record.
    name: String,
    /// Calls that it may make in a minute.
    #[arg(long)]
    requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers that it may use in a minute.
    #[arg(long)]
    tokens_per_minute: Option<u64>,
    /// What it may spend in a UTC day, in the currency of the endpoints' prices: 2.50, for
    /// instance.
    #[arg(long, value_parser = money)]
    spend_per_day: Option<u64>,
    /// A model that it may ask for; repeat it for more. Without one, all.
    #[arg(long = "model")]
    models: Vec<String>,
    /// It may also read status, history and metrics, open every call, and reload.
    #[arg(long)]
    operator: bool,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `gateway key rotate`.
#[derive(Args)]
pub(crate) struct Rotate {
    /// What the caller is called.
    name: String,
    /// How long the old key stays good, in hours; 0 ends it at once.
    #[arg(long, default_value_t = 24)]
    overlap_hours: u64,
    #[command(flatten)]
    place: Place,
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let now_ms = SystemClock.unix_ms();
        let random = SystemRandom::new();
        match self {
            Self::Add(add) => {
                let grant = Grant {
                    requests_per_minute: add.requests_per_minute,
                    tokens_per_minute: add.tokens_per_minute,
                    spend_per_day_micro: add.spend_per_day,
                    models: add.models,
                };
                let key = add
                    .place
                    .change(|file| file.add(&add.name, grant, add.operator, now_ms, &random))?;
                show(&key);
                if add.spend_per_day.is_some() {
                    eprintln!(
                        "Spending is counted by the prices of the endpoints (`price` in longrun.toml): what one \
                         without a price answers counts as nothing."
                    );
                }
            }
            Self::Rotate(rotate) => {
                let overlap = Duration::from_secs(rotate.overlap_hours.saturating_mul(3600));
                let overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
                let key = rotate
                    .place
                    .change(|file| file.rotate(&rotate.name, overlap_ms, now_ms, &random))?;
                show(&key);
                eprintln!(
                    "The old key is good for another {} h.",
                    rotate.overlap_hours
                );
            }
            Self::Revoke { name, place } => {
                place.change(|file| file.revoke(&name))?;
                println!("revoked   {name}; a running gateway notices within two seconds");
            }
            Self::List(place) => {
                let path = place.path()?;
                let file = read(&path)?.ok_or_else(|| {
                    Unusable(format!("{}: there are no keys yet", path.display()))
                })?;
                file.keys.iter().for_each(|entry| list(entry, now_ms));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Place {
    /// The file that a gateway started here would read: as the command line says, as `longrun.toml` does,
    /// or the one beside the directory.
    fn path(&self) -> Result<PathBuf> {
        if let Some(file) = &self.keys_file {
            return Ok(file.clone());
        }
        let named = configured(Path::new(super::CONFIG_DEFAULT))?;
        Ok(named.unwrap_or_else(|| keys::file_of(&self.dir)))
    }

    /// Changes the file whole; two commands at once wait for each other.
    fn change<T>(
        &self,
        how: impl FnOnce(&mut KeyFile) -> Result<T, gateway::keys::KeyError>,
    ) -> Result<T> {
        let path = self.path()?;
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            files::make_dir(directory)?;
        }
        let lock = path.with_extension("lock");
        let lock = std::fs::File::create(&lock)
            .with_context(|| format!("cannot write {}", lock.display()))?;
        lock.lock().context("cannot lock the key file")?;
        let mut file = read(&path)?.unwrap_or_default();
        let made = how(&mut file).map_err(|error| Unusable(error.to_string()))?;
        files::write_whole(&path, file.to_text().as_bytes())?;
        Ok(made)
    }
}

/// The key file that a configuration names, if it is there and names one. Nothing else of it is looked at: what it
/// takes from the environment may not be at hand here.
fn configured(configuration: &Path) -> Result<Option<PathBuf>> {
    if !configuration.exists() {
        return Ok(None);
    }
    let text = files::read_text(configuration)?;
    let table: toml::Table = text.parse().map_err(|_| {
        let path = configuration.display();
        Unusable(format!("{path}: it is not TOML, so it cannot say where the keys are; mend it, or name --keys-file"))
    })?;
    let named = table.get("keys_file").and_then(toml::Value::as_str);
    let beside = configuration.parent().unwrap_or(Path::new(""));
    Ok(named.map(|file| beside.join(file)))
}

fn read(path: &Path) -> Result<Option<KeyFile>> {
    if let Err(error) = std::fs::metadata(path)
        && error.kind() == ErrorKind::NotFound
    {
        return Ok(None);
    }
    let text = files::read_text(path)?;
    let file = KeyFile::parse(&text);
    Ok(Some(file.map_err(|error| {
        Unusable(format!("{}: {error}", path.display()))
    })?))
}

fn show(key: &NewKey) {
    println!("{}", key.reveal());
    eprintln!("Keep it: it is shown this once, and only its digest is stored.");
}

fn list(entry: &Entry, now_ms: u64) {
    let grant = &entry.grant;
    let mut words = Vec::new();
    if entry.operator {
        words.push("operator".to_owned());
    }
    if let Some(limit) = grant.requests_per_minute {
        words.push(format!("{limit} requests/min"));
    }
    if let Some(limit) = grant.tokens_per_minute {
        words.push(format!("{limit} tokens/min"));
    }
    if let Some(micro) = grant.spend_per_day_micro {
        words.push(format!(
            "{}.{:06} a day",
            micro / 1_000_000,
            micro % 1_000_000
        ));
    }
    if !grant.models.is_empty() {
        words.push(format!("models {}", grant.models.join(", ")));
    }
    let good = entry.secrets.iter().filter(|s| s.is_good(now_ms)).count();
    if good != 1 {
        words.push(format!("{good} keys"));
    }
    if words.is_empty() {
        words.push("no limits".to_owned());
    }
    println!("{:<20} {}", entry.name, words.join("; "));
}

/// An amount of money with at most six decimals, in millionths.
fn money(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let amount = format!("{whole}{part:0<6}").parse::<u64>().ok();
    let plain = !whole.is_empty() && digits(whole) && digits(part) && part.len() <= 6;
    amount
        .filter(|_| plain)
        .ok_or_else(|| "write an amount as 2 or 2.50, with at most six decimals".to_owned())
}

#[cfg(test)]
mod tests {
    use super::money;

    #[test]
    fn money_is_read_to_the_millionth() {
        for (text, micro) in [("2", 2_000_000), ("2.50", 2_500_000), ("0.000001", 1)] {
            assert_eq!(money(text), Ok(micro));
        }
        for text in [
            "",
            ".5",
            "-1",
            "1.0000001",
            "1e3",
            "1.2.3",
            "99999999999999999999",
        ] {
            assert!(money(text).is_err(), "{text}");
        }
    }
}
