//! `[merged]`: several logs, folded into one history under a trust policy.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reliability::merge::Rule;
use serde::Deserialize;
use toml::Spanned;

use super::file::{Place, read_token};
use super::{ConfigError, Secret, Surroundings};

/// How long a bucket waits for a silent log when the file says nothing, ms: with the bucket itself
/// short enough for new evidence to be there within a minute, whoever is down.
pub const WAIT_DEFAULT_MS: u64 = 30_000;
/// Longer than an hour is a mistake in the unit.
const WAIT_MAX_S: u64 = 3_600;

/// Several logs, and whose records in them count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedConfig {
    /// The trust policy: its logs, each with a URL, and its signers.
    pub policy_file: PathBuf,
    /// Where the journal lies: which checkpoint was seen when, and in which order they were folded.
    pub dir: PathBuf,
    /// Buckets of log time, and how long they wait.
    pub rule: Rule,
    /// Origin of a log → what opens its bodies; of the others what anyone may read is read.
    pub read_tokens: BTreeMap<String, Secret>,
}

impl MergedConfig {
    /// With everything else at its default.
    #[must_use]
    pub fn new(policy_file: PathBuf, dir: PathBuf) -> Self {
        Self {
            policy_file,
            dir,
            rule: Rule {
                timeout_ms: WAIT_DEFAULT_MS,
                ..Rule::DEFAULT
            },
            read_tokens: BTreeMap::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MergedTable {
    policy_file: PathBuf,
    dir: PathBuf,
    wait_s: Option<Spanned<u64>>,
    #[serde(default)]
    log: Vec<TokenTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenTable {
    origin: Spanned<String>,
    read_token_file: Option<Spanned<PathBuf>>,
    read_token_env: Option<Spanned<String>>,
}

pub(super) fn merged(
    at: &Place<'_>,
    table: &MergedTable,
    around: &dyn Surroundings,
) -> Result<MergedConfig, ConfigError> {
    let mut config = MergedConfig::new(at.beside(&table.policy_file), at.beside(&table.dir));
    if let Some(wait_s) = &table.wait_s {
        if *wait_s.get_ref() > WAIT_MAX_S {
            let message = format!("seconds; at most {WAIT_MAX_S}");
            return Err(at.wrong(wait_s, "merged.wait_s", &message));
        }
        config.rule.timeout_ms = wait_s.get_ref() * 1000;
    }
    for log in &table.log {
        let token = (&log.read_token_file, &log.read_token_env);
        let token = read_token(at, "merged.log", token, around)?.ok_or_else(|| {
            let message = "give read_token_file or read_token_env; a log whose bodies anyone may \
                           read needs no table, only its line in the policy";
            at.wrong(&log.origin, "merged.log.origin", message)
        })?;
        let origin = log.origin.get_ref().clone();
        if config.read_tokens.insert(origin, token).is_some() {
            let message = "this log is listed twice";
            return Err(at.wrong(&log.origin, "merged.log.origin", message));
        }
    }
    Ok(config)
}
