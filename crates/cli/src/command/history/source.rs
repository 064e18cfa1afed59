//! Where a history comes from, and which part of it is meant.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use clap::Args;
use record::control::LogOrigin;
use record::{Endpoint, Predicate, Provider, SignerId};
use reliability::account;
use reliability::fold::{History, Policy};
use reliability::forecast::fold::Forecasts;
use tlog::history::{Plan, Planner, Selection};

use crate::files::{self, Unusable};
use crate::log_files::LogFiles;

/// Observers that are named to whoever asked for one that is not there, at most.
const OBSERVERS_NAMED: usize = 10;

/// A log, and what of it.
#[derive(Args)]
pub(super) struct Source {
    /// The directory of a log, or its URL.
    #[arg(long, default_value = "longrun-data/log")]
    pub(super) log: String,
    /// Only this endpoint, PROVIDER/MODEL; may be given several times.
    #[arg(long, value_name = "PROVIDER/MODEL")]
    endpoint: Vec<String>,
    /// Only endpoints of this provider: its id, or the origin of one that has not joined.
    #[arg(long, value_name = "ID|ORIGIN")]
    provider: Vec<Provider>,
    /// The log's key, for a log at a URL; without it the log names its own.
    #[arg(long)]
    log_vkey: Option<String>,
    /// A file with the token that opens the bodies of a log at a URL.
    #[arg(long, value_name = "FILE")]
    read_token: Option<std::path::PathBuf>,
    /// Read what the signers of a log at a URL publish; all other bodies count as erased.
    #[arg(long, conflicts_with = "read_token")]
    pub(super) published: bool,
}

impl Source {
    pub(super) fn open(&self) -> Result<LogFiles> {
        if self.published {
            return LogFiles::open_published(&self.log, self.log_vkey.as_deref());
        }
        let token = self
            .read_token
            .as_deref()
            .map(files::read_text)
            .transpose()?;
        let token = token.as_deref().map(str::trim);
        LogFiles::open_any(&self.log, token, self.log_vkey.as_deref())
    }

    pub(super) fn selection(&self) -> Result<Selection> {
        let endpoints = self.endpoint.iter().map(|text| parse_endpoint(text));
        Ok(Selection {
            providers: self.provider.iter().cloned().collect(),
            endpoints: endpoints.collect::<Result<_>>()?,
            ..Selection::default()
        })
    }
}

/// `PROVIDER/MODEL`, where both may hold slashes: the provider ends at the first slash that leaves
/// a provider before it and is not part of `://`.
fn parse_endpoint(text: &str) -> Result<Endpoint> {
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let slash = text[after_scheme..].find('/').map(|at| after_scheme + at);
    let parsed = slash.and_then(|slash| {
        Some(Endpoint {
            provider: text[..slash].parse().ok()?,
            model: text[slash + 1..].parse().ok()?,
        })
    });
    let unusable = || {
        Unusable(format!(
            "{text}: not an endpoint; give PROVIDER/MODEL as `longrun history show` prints them, \
             such as https://api.example.com/some-model"
        ))
    };
    parsed.ok_or_else(|| unusable().into())
}

/// Which entries of the log the selection is.
pub(super) fn plan(log: &LogFiles, selection: &Selection) -> Result<Plan> {
    let mut planner = Planner::new(selection.clone());
    log.scan(
        None,
        |entry| {
            let Some(envelope) = entry.envelope else {
                return Ok((entry.index, Err(entry.leaf.key.key_id())));
            };
            let index = entry.index;
            let record = envelope
                .open_unverified()
                .with_context(|| format!("entry {index} of the log cannot be read"))?;
            let wanted = selection.wants(&record);
            Ok((index, Ok(wanted.then_some(record))))
        },
        |(index, found)| {
            match found {
                Ok(Some(record)) => planner.record(&record, index),
                Ok(None) => {}
                Err(key) => planner.erased(index, key),
            }
            Ok(())
        },
    )?;
    Ok(planner.finish())
}

/// A log folded.
pub(super) struct Folded {
    pub(super) history: History,
    /// What was foretold in it, and came.
    pub(super) forecasts: Forecasts,
    /// Bodies that were erased.
    pub(super) erased: u64,
}

/// A history under the policy that every record of the log counts whose signer has it as its home,
/// and how many bodies were erased. This is what a history file is folded with as well, so the
/// digests agree. With an `observer` its observations alone count, as its gateway folds them.
pub(super) fn fold(
    log: &LogFiles,
    selection: &Selection,
    observer: Option<SignerId>,
) -> Result<Folded> {
    let origin = log.key().name();
    let history = match observer {
        None => own_log(origin)?,
        Some(observer) => History::new(Policy::own_records(observer, log_origin(origin)?)),
    };
    let mut folded = Folded {
        history,
        forecasts: super::predicted::forecasts(),
        erased: 0,
    };
    // Whose digits were mistyped is not shown a history without a call.
    let (mut is_there, mut others) = (observer.is_none(), BTreeSet::new());
    let plan = if selection.is_whole() {
        None
    } else {
        Some(plan(log, selection)?)
    };
    log.scan(
        plan.as_ref().map(|plan| plan.entries.as_slice()),
        |entry| {
            let index = entry.index;
            let record = entry.envelope.map(record::Envelope::open_unverified);
            let record = record.transpose();
            let record =
                record.with_context(|| format!("entry {index} of the log cannot be read"))?;
            Ok((index, record))
        },
        |(index, record)| {
            match record {
                Some(record) => {
                    if let (Some(wanted), Predicate::Observation(_)) =
                        (observer, &record.statement.predicate)
                    {
                        is_there |= record.signer_id() == wanted;
                        if others.len() < OBSERVERS_NAMED {
                            others.insert(record.signer_id());
                        }
                    }
                    let both = (&mut folded.history, &mut folded.forecasts);
                    account::follow_forecasts(both, &record, index, |_, _| {});
                }
                None => folded.erased += 1,
            }
            Ok(())
        },
    )?;
    if let Some(observer) = observer.filter(|_| !is_there) {
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        let there = if others.is_empty() {
            "nor did anybody else".to_owned()
        } else {
            format!("there are: {}", others.join(", "))
        };
        return Err(Unusable(format!(
            "{observer} observed nothing that is in this log; {there}"
        ))
        .into());
    }
    Ok(folded)
}

/// Nothing folded yet, of the log with this origin.
pub(super) fn own_log(origin: &str) -> Result<History> {
    Ok(History::new(Policy::own_log(log_origin(origin)?)))
}

fn log_origin(origin: &str) -> Result<LogOrigin> {
    LogOrigin::new(origin).context("the log's name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_printed() {
        let id = "ab".repeat(32);
        for (text, provider, model) in [
            (format!("{id}/demo"), id.as_str(), "demo"),
            (
                "https://api.example.com/org/model".to_owned(),
                "https://api.example.com",
                "org/model",
            ),
        ] {
            let endpoint = parse_endpoint(&text).expect("an endpoint");
            assert_eq!(endpoint.provider.to_string(), provider);
            assert_eq!(endpoint.model.to_string(), model);
            assert_eq!(endpoint.to_string(), text);
        }
        for bad in ["demo", "https://api.example.com", "x/demo", "https:///m"] {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
    }
}
