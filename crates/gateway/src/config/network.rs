//! `networks = [LOG_URL]` and `[[network]]`: logs in which nodes offer themselves.

use http::Uri;
use serde::Deserialize;
use toml::Spanned;

use super::file::Place;
use super::{ConfigError, base};

/// Highest price that is taken when the file says nothing: a hundred credits per million tokens.
pub const PRICE_MAX_DEFAULT: u64 = 100_000_000;

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Base URL of its log.
    pub log: Uri,
    /// The log's verifier key; without one the log is asked for it, once, at the start.
    pub vkey: Option<String>,
    /// Whether nodes may be at addresses of this machine and of private networks.
    pub allow_private: bool,
    /// Models that are taken from it; empty: any.
    pub models: Vec<String>,
    /// Highest price, in micro-credits per million tokens.
    pub price_max: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkTable {
    log: Spanned<String>,
    vkey: Option<String>,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    models: Vec<String>,
    /// In credits.
    price_max: Option<Spanned<f64>>,
}

impl NetworkConfig {
    /// A network with everything at its default.
    #[must_use]
    pub fn of(log: Uri) -> Self {
        Self {
            log,
            vkey: None,
            allow_private: false,
            models: Vec::new(),
            price_max: PRICE_MAX_DEFAULT,
        }
    }
}

pub(super) fn networks(
    at: &Place<'_>,
    short: &[Spanned<String>],
    tables: &[NetworkTable],
) -> Result<Vec<NetworkConfig>, ConfigError> {
    let mut networks: Vec<NetworkConfig> = Vec::new();
    let mut add = |url: &Spanned<String>, key: &str| {
        let log = base(url.get_ref()).map_err(|e| at.wrong(url, key, &e.to_string()))?;
        if networks.iter().any(|network| network.log == log) {
            return Err(at.wrong(url, key, "this network is listed twice"));
        }
        networks.push(NetworkConfig::of(log));
        Ok(networks.len() - 1)
    };
    let mut places = Vec::new();
    for url in short {
        add(url, "networks")?;
    }
    for table in tables {
        places.push(add(&table.log, "network.log")?);
    }
    for (place, table) in places.into_iter().zip(tables) {
        let network = &mut networks[place];
        network.vkey.clone_from(&table.vkey);
        network.allow_private = table.allow_private;
        network.models.clone_from(&table.models);
        if let Some(credits) = &table.price_max {
            // Ten thousand credits is the most that an offer can ask.
            if !(0.0..=1e4).contains(credits.get_ref()) {
                let message = "not between 0 and 10000 credits per million tokens";
                return Err(at.wrong(credits, "network.price_max", message));
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let micro = (credits.get_ref() * 1e6).round() as u64;
            network.price_max = micro;
        }
    }
    Ok(networks)
}
