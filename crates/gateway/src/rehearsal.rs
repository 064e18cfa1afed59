//! What would keep a start from working, found without starting: every file that a start reads is read, nothing
//! listens, nothing is made or changed, and nobody is asked.
//!
//! What only a start can find stays its own: whether the address is free, what the log answers, and what the
//! spool holds, which may be in use.

use std::path::Path;

use recorder::Context;
use tlog::note::NoteVerifier;

use crate::allowance::Now;
use crate::config::GatewayConfig;
use crate::gateway::StartError;
use crate::key_file::KeyFileInForce;
use crate::settings::{Settings, check_reach};
use crate::tls::Certificate;
use crate::{alarms, checks, imported, merged, secret_file};

/// Everything that is wrong with a start by this configuration with this signer directory. Some of it a gateway
/// starts with, without what the file is for.
#[must_use]
pub fn problems(config: &GatewayConfig, directory: &Path, context: &Context) -> Vec<StartError> {
    let mut found = Vec::new();
    let now = Now {
        steady_ms: 0,
        unix_ms: context.clock.unix_ms(),
    };
    match KeyFileInForce::new(config.keys_file.clone()).open(now) {
        Ok(callers) => found.extend(check_reach(config, config.listen, &callers).err()),
        Err(error) => found.push(error),
    }
    let certificate = config.tls.clone().map(Certificate::open).transpose();
    found.extend(certificate.err());
    found.extend(endpoints(config));
    found.extend(keys_of_logs(config));
    let value = |key: &'static str| move |reason: String| StartError::Value { key, reason };
    let merging = config.merged.as_ref();
    let merging = merging.map(|it| merged::check(it, &context.clock));
    found.extend(merging.transpose().err().map(value("merged")));
    let others = config.imported.as_ref().map(imported::check);
    found.extend(others.transpose().err().map(value("imported")));
    let state = config.alarms.as_ref().map(alarms::check);
    found.extend(state.transpose().err().map(value("alarms")));
    let cases = config.checks_file.as_deref().map(checks::check);
    found.extend(cases.transpose().err().map(value("checks")));
    let secret = secret_file(directory);
    found.extend(crate::read_client_secret(&secret).err());
    found
}

/// One by one, so that all are told.
fn endpoints(config: &GatewayConfig) -> impl Iterator<Item = StartError> + '_ {
    config.endpoints.iter().filter_map(|endpoint| {
        let mut alone = config.clone();
        alone.endpoints = vec![endpoint.clone()];
        Settings::new(alone, config.listen, &[]).err()
    })
}

fn keys_of_logs(config: &GatewayConfig) -> impl Iterator<Item = StartError> + '_ {
    let home = config.log.iter().map(|log| (&log.vkey, "vkey".to_owned()));
    let networks = config.networks.iter();
    let networks = networks.map(|it| (&it.vkey, format!("network {}: vkey", it.log)));
    home.chain(networks).filter_map(|(vkey, what)| {
        let error = NoteVerifier::from_vkey(vkey.as_deref()?).err()?;
        Some(StartError::Log(format!("{what}: {error}")))
    })
}
