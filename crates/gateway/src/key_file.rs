//! The key file of a running gateway: followed, so that keys are added and revoked without a
//! restart; and beside it what each caller has spent, so that a restart is no new day.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::allowance::{Now, Spent};
use crate::callers::Callers;
use crate::follow::Followed;
use crate::gateway::{Gateway, StartError};
use crate::keys::KeyFile;

/// How often the file is looked at; a revoked key opens nothing after about this long.
const POLL: Duration = Duration::from_secs(1);
/// How the file beside the key file is called: as that one, with this ending.
const SPENT_FILE_END: &str = "spent.toml";

/// The key file, and what of it is in force.
pub(crate) struct KeyFileInForce {
    file: Option<Followed>,
    spent: BTreeMap<String, Spent>,
}

#[derive(Default, Serialize, Deserialize)]
struct SpentFile {
    #[serde(default)]
    caller: BTreeMap<String, SpentRow>,
}

#[derive(Serialize, Deserialize)]
struct SpentRow {
    day: u64,
    nano: u64,
}

impl KeyFileInForce {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            file: path.map(Followed::new),
            spent: BTreeMap::new(),
        }
    }

    /// Reads what there is at the start. A file that is not there means that no keys are needed.
    pub(crate) fn open(&mut self, now: Now) -> Result<Callers, StartError> {
        let Some(file) = &mut self.file else {
            return Ok(Callers::open());
        };
        let path = file.path().to_path_buf();
        let unusable = |why: &dyn std::fmt::Display| StartError::Value {
            key: "keys_file",
            reason: format!("{}: {why}", path.display()),
        };
        // From here on only changes are looked at.
        file.changed();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Callers::open()),
            Err(error) => return Err(unusable(&error)),
        };
        let keys = parse(&text).map_err(|error| unusable(&error))?;
        self.spent = read_spent(&spent_path(&path));
        Ok(Callers::new(keys, &self.spent, now))
    }

    /// Follows the file, for good.
    pub(crate) async fn keep_following(mut self, gateway: Arc<Gateway>) {
        let Some(mut file) = self.file.take() else {
            return;
        };
        warn_of_unpriced(&gateway);
        // Until a changed file could be read: a key may have been revoked in it.
        let mut pending = false;
        let mut told = None;
        loop {
            tokio::time::sleep(POLL).await;
            pending |= file.changed();
            if pending {
                let why = adopt(file.path(), &gateway).err();
                pending = why.is_some();
                // It is looked at every second, and said once.
                if let Some(why) = why.as_deref().filter(|_| why != told) {
                    tracing::error!(path = %file.path().display(), why, "the keys stay as they were");
                }
                told = why;
            }
            let spent = gateway.callers.spent();
            if spent != self.spent {
                write_spent(&spent_path(file.path()), &spent);
                self.spent = spent;
            }
        }
    }
}

/// Keeps what was spent up to now, at the end of everything.
pub(crate) fn keep_spent(gateway: &Gateway) {
    if let (Some(path), Some(_)) = (
        &gateway.settings().config.keys_file,
        gateway.callers.count(),
    ) {
        write_spent(&spent_path(path), &gateway.callers.spent());
    }
}

/// Puts what the file says in force, or says why what is stays so.
fn adopt(path: &Path, gateway: &Gateway) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let keys = parse(&text)?;
    tracing::info!(path = %path.display(), keys = keys.keys.len(), "the keys changed");
    gateway.callers.replace(keys, gateway.now());
    warn_of_unpriced(gateway);
    Ok(())
}

/// A limit of spending holds nobody to anything where there is no price to count by.
fn warn_of_unpriced(gateway: &Gateway) {
    let limited = gateway.callers.limited_in_spending();
    let settings = gateway.settings();
    let unpriced = settings.config.endpoints.iter();
    let unpriced: Vec<String> = unpriced
        .filter(|endpoint| {
            let price = endpoint.offer.price;
            (price.prompt, price.completion, price.request) == (None, None, None)
        })
        .map(|endpoint| endpoint.api.to_string())
        .collect();
    if let (Some(key), false) = (limited, unpriced.is_empty()) {
        tracing::warn!(
            key,
            endpoints = unpriced.join(", "),
            "keys are limited in what they spend, and these endpoints have no price: what they answer counts as nothing"
        );
    }
}

/// A file with nothing in it is one that somebody is writing: taken at its word it would lock everybody out,
/// and forget what they have spent.
fn parse(text: &str) -> Result<KeyFile, String> {
    if text.trim().is_empty() {
        return Err("it is empty; `longrun gateway key add` makes keys".to_owned());
    }
    KeyFile::parse(text).map_err(|error| error.to_string())
}

fn spent_path(keys: &Path) -> PathBuf {
    keys.with_extension(SPENT_FILE_END)
}

fn read_spent(path: &Path) -> BTreeMap<String, Spent> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was spent today is not known");
            return BTreeMap::new();
        }
    };
    let file: SpentFile = toml::from_str(&text).unwrap_or_else(|error| {
        let error = error.message();
        tracing::warn!(path = %path.display(), error, "what was spent today is not known");
        SpentFile::default()
    });
    let row = |row: SpentRow| Spent {
        day: row.day,
        nano: row.nano,
    };
    file.caller
        .into_iter()
        .map(|(id, of)| (id, row(of)))
        .collect()
}

fn write_spent(path: &Path, spent: &BTreeMap<String, Spent>) {
    let row = |spent: &Spent| SpentRow {
        day: spent.day,
        nano: spent.nano,
    };
    let caller = spent.iter().map(|(id, of)| (id.clone(), row(of))).collect();
    let text = toml::to_string(&SpentFile { caller }).expect("numbers are TOML");
    let temporary = path.with_extension("toml.tmp");
    // A crash between the two leaves the old file, which is a second older.
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "what was spent cannot be kept");
    }
}
