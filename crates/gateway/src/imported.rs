//! Evidence of others, as `longrun history import` left it in a directory: read again when the
//! directory changes, shown beside the gateway's own history and never part of it.
//!
//! The summaries in the directory were written after their histories were verified; the directory is
//! as trusted as the spool. Whose evidence counts is decided here, each time, by the gateway's own
//! trust policy: an observer that is taken out of it no longer counts, whatever was imported.
//! Everything comes from files, so a restart changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use record::{Digest, SignerId};
use reliability::imported::{Evidence, Seen, Summary, Told};
use serde::Serialize;
use tlog::policy::{POLICY_BYTES_MAX, TrustPolicy, TrustedSigner};

use crate::config::ImportedConfig;
use crate::gateway::Gateway;
use crate::merged::ROLE;

/// How often the directory is looked at.
const POLL: Duration = Duration::from_secs(2);
/// At every how many looks files that could not be read are read again although they look the same.
const AGAIN: u64 = 30;
/// Histories that are read; more are refused, all of them.
const HISTORIES_MAX: usize = 1_000;
/// Bytes of the largest summary.
const SUMMARY_BYTES_MAX: u64 = 64 << 20;
/// How summaries end.
const SUMMARY: &str = "json";

/// What others say, under the gateway's policy.
#[derive(Default)]
pub(crate) struct Imported {
    pub(crate) evidence: Evidence,
    histories: Vec<HistoryTold>,
    error: Option<String>,
    /// What it was read from, or could not be; `None` if that was not to be seen.
    read_from: Option<Traces>,
}

/// Imported evidence, as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct ToldImported {
    /// What keeps it from being read; what is shown is then what was read before.
    error: Option<String>,
    histories: Vec<HistoryTold>,
    endpoints: Vec<Told>,
}

/// An imported history.
#[derive(Clone, Serialize)]
struct HistoryTold {
    /// The log that it comes from, and how far it reaches.
    origin: String,
    size: u64,
    digest: Digest,
    records: u64,
    /// It holds signed sums in the place of records.
    of_summaries: bool,
    /// Its observers that the policy names as such, by the names that it gives them.
    observers: Vec<Named>,
    /// Observers that the policy does not name: they do not count.
    not_in_policy: usize,
}

#[derive(Clone, Serialize)]
struct Named {
    id: SignerId,
    name: String,
}

/// Names, times and sizes of the files that were read.
type Traces = Vec<(PathBuf, Option<SystemTime>, u64)>;

impl Imported {
    /// `others` is what these histories and the merged logs say together.
    pub(crate) fn told(&self, others: &Evidence) -> ToldImported {
        ToldImported {
            error: self.error.clone(),
            histories: self.histories.clone(),
            endpoints: others.told(),
        }
    }
}

/// Reads the directory of the configuration in force whenever it changes, for good.
pub(crate) async fn keep_reading(gateway: Arc<Gateway>) {
    for look in 1_u64.. {
        let wanted = gateway.settings().config.imported.clone();
        let before = gateway.histories.imported();
        let own = gateway.recorder.identity().id();
        let read = tokio::task::spawn_blocking(move || {
            let again = look.is_multiple_of(AGAIN);
            renew(wanted.as_ref(), &before, (own, again))
        });
        // A panic was reported where it happened; what was read before stays.
        if let Ok(Some(imported)) = read.await {
            if let Some(error) = &imported.error {
                tracing::warn!(error, "imported histories cannot be read");
            }
            gateway.histories.import(imported);
            let now_ms = gateway.clock.unix_ms();
            gateway.histories.judge(&gateway.catalog(), now_ms);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What is to take the place of what was read before; `None` if nothing changed.
fn renew(
    wanted: Option<&ImportedConfig>,
    before: &Imported,
    (own, again): (SignerId, bool),
) -> Option<Imported> {
    let Some(config) = wanted else {
        let had_some = before.read_from.is_some() || before.error.is_some();
        return had_some.then(Imported::default);
    };
    let traces = traces(config);
    if let (Ok(now), Some(then)) = (&traces, &before.read_from)
        && now == then
        && (before.error.is_none() || !again)
    {
        return None;
    }
    let read_from = traces.as_ref().ok().cloned();
    match traces.and_then(|traces| read(config, &traces, own)) {
        Ok(imported) => Some(Imported {
            read_from,
            ..imported
        }),
        Err(error) if before.error.as_ref() == Some(&error) && before.read_from == read_from => {
            None
        }
        // What cannot be read is not read again at each look: it may be many large files.
        Err(error) => Some(Imported {
            evidence: before.evidence.clone(),
            histories: before.histories.clone(),
            error: Some(error),
            read_from,
        }),
    }
}

/// Reads everything once, and says what is wrong with it.
pub(crate) fn check(config: &ImportedConfig) -> Result<(), String> {
    let nobody = SignerId::from_bytes([0; 32]);
    let read = traces(config).and_then(|traces| read(config, &traces, nobody));
    read.map(drop)
        .map_err(|why| format!("{why}; a gateway starts all the same, without what others saw"))
}

/// The policy first, then the summaries by name. A directory that is not there holds nothing yet.
fn traces(config: &ImportedConfig) -> Result<Traces, String> {
    let mut paths = vec![config.policy_file.clone()];
    match fs::read_dir(&config.dir) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(|error| named(&config.dir, &error))?.path();
                if path.extension().is_some_and(|ending| ending == SUMMARY) {
                    paths.push(path);
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(&config.dir, &error)),
    }
    if paths.len() > HISTORIES_MAX + 1 {
        let many = format!(
            "{} histories; at most {HISTORIES_MAX} are read: take some away with `longrun history \
             forget`",
            paths.len() - 1
        );
        return Err(named(&config.dir, &many));
    }
    paths[1..].sort();
    let trace = |path: PathBuf| match fs::metadata(&path) {
        Ok(about) => Ok((path, about.modified().ok(), about.len())),
        Err(error) => Err(named(&path, &error)),
    };
    paths.into_iter().map(trace).collect()
}

fn read(config: &ImportedConfig, traces: &Traces, own: SignerId) -> Result<Imported, String> {
    let limit = u64::try_from(POLICY_BYTES_MAX).unwrap_or(u64::MAX);
    let policy = bytes(&config.policy_file, limit)?;
    let policy = TrustPolicy::parse(&policy).map_err(|error| named(&config.policy_file, &error))?;
    let mut imported = Imported::default();
    for (path, ..) in &traces[1..] {
        let summary: Summary = serde_json::from_slice(&bytes(path, SUMMARY_BYTES_MAX)?)
            .map_err(|error| named(path, &error))?;
        // Whoever summed up what an observer saw has to be known as well, as anything.
        let counts = |id: SignerId, seen: &Seen| {
            let summed_up = seen.summed_up_by;
            let vouched = summed_up.is_none_or(|by| policy.signer(by).is_some());
            id != own && vouched && observer(&policy, id).is_some()
        };
        let added = imported.evidence.add(&summary, counts);
        added.map_err(|error| named(path, &error))?;
        imported.histories.push(history_told(&summary, &policy));
    }
    Ok(imported)
}

/// A signer that the policy trusts as an observer.
fn observer(policy: &TrustPolicy, id: SignerId) -> Option<&TrustedSigner> {
    let signer = policy.signer(id)?;
    signer
        .roles
        .iter()
        .any(|role| role == ROLE)
        .then_some(signer)
}

fn history_told(summary: &Summary, policy: &TrustPolicy) -> HistoryTold {
    let endpoints = summary.endpoints.iter();
    let ids: std::collections::BTreeSet<SignerId> = endpoints
        .flat_map(|endpoint| endpoint.observers.keys().copied())
        .collect();
    let observers: Vec<Named> = ids
        .iter()
        .filter_map(|id| observer(policy, *id))
        .map(|signer| Named {
            id: signer.id,
            name: signer.name.clone(),
        })
        .collect();
    HistoryTold {
        origin: summary.origin.clone(),
        size: summary.size,
        digest: summary.digest,
        records: summary.records,
        of_summaries: summary.of_summaries,
        not_in_policy: ids.len() - observers.len(),
        observers,
    }
}

fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path)
        .map_err(|error| named(path, &error))?
        .len();
    if length > limit {
        return Err(named(path, &format!("{length} bytes; at most {limit}")));
    }
    fs::read(path).map_err(|error| named(path, &error))
}

fn named(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}
