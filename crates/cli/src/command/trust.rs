//! `longrun trust export`: trust material to hand over separately from records.
//!
//! Three things in one directory: `policy.json` for `longrun verify`, `trusted_root.json` for
//! Sigstore's tools, and `keys/<hint>.pem`, the signers' public keys under the hints that bundles
//! carry. Whoever gets records should get these on another path, or the two prove nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use record::bundle::{TrustedLog, trusted_root_json};
use record::control::Chain;
use record::{Bundle, Envelope, Predicate, Record, SignerId};
use tlog::policy::{PolicyFile, TrustPolicy};

use crate::files;
use crate::log_files::{LogFiles, Logged};

/// What to do with trust material.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write policy, Sigstore trusted root and public keys.
    Export(Export),
}

/// Arguments of `trust export`.
#[derive(Args)]
pub(crate) struct Export {
    /// The directory of a log that you run, or have from its owner.
    #[arg(long)]
    log: PathBuf,
    /// Trust these signers only (ids as printed by `history show`); default: all in the log.
    #[arg(long)]
    signer: Vec<SignerId>,
    /// Where the files go.
    #[arg(long, default_value = "trust")]
    out: PathBuf,
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self::Export(arguments) = self;
        let log = LogFiles::open(&arguments.log)?;
        let summary = export(&log, &arguments.signer, &arguments.out)?;
        println!("log       {}", log.key().to_vkey());
        for (id, name) in &summary {
            println!("signer    {id} {name}");
        }
        println!("wrote     {}", arguments.out.display());
        println!("Hand this over on another path than the records.");
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the trust material of a log and of the signers in it; an empty `only` means all.
pub(super) fn export(
    log: &LogFiles,
    only: &[SignerId],
    out: &Path,
) -> Result<Vec<(SignerId, String)>> {
    let mut chains: BTreeMap<SignerId, (Chain, Vec<Bundle>)> = BTreeMap::new();
    log.each_record(|logged| {
        if matches!(logged.record.statement.predicate, Predicate::Control(_)) {
            add_control(&mut chains, log, logged)?;
        }
        Ok(())
    })?;
    if let Some(missing) = only.iter().find(|id| !chains.contains_key(id)) {
        bail!("signer {missing} has no control record in this log; it may have another home log");
    }
    chains.retain(|id, _| only.is_empty() || only.contains(id));

    let vkey = log.key().to_vkey();
    let mut lines = vec![format!("log {vkey}")];
    lines.extend(log.witness_lines()?);
    let mut policy = PolicyFile::new(lines);
    files::make_dir(&out.join("keys"))?;
    let mut summary = Vec::new();
    for (id, (chain, bundles)) in &chains {
        let roles: Vec<&str> = chain.roles().iter().map(record::Word::as_str).collect();
        let name = chain.name().as_str();
        policy.add_signer(*id, name, &roles, bundles)?;
        let instances = chain.instances().iter().map(|span| &span.key);
        for key in instances.chain([chain.root()]) {
            let path = out.join("keys").join(format!("{}.pem", key.key_id()));
            files::write_whole(&path, key.to_pem().as_bytes())?;
        }
        summary.push((*id, name.to_owned()));
    }
    let json = policy.to_json()?;
    TrustPolicy::parse(&json).context("the policy just made does not hold: please report this")?;
    files::write_whole(&out.join("policy.json"), &json)?;
    let root = TrustedLog {
        name: log.key().name(),
        ed25519: log.key().public(),
    };
    files::write_whole(&out.join("trusted_root.json"), &trusted_root_json(&[root]))?;
    Ok(summary)
}

/// Adds a control record to its signer's chain. One that the chain refuses is left out: anybody
/// whom the log admits can write a control that names someone else's chain.
fn add_control(
    chains: &mut BTreeMap<SignerId, (Chain, Vec<Bundle>)>,
    log: &LogFiles,
    logged: &Logged,
) -> Result<()> {
    let Record { envelope, .. } = &logged.record;
    let verified = match Envelope::clone(envelope).open() {
        Ok(record) => record,
        Err(_) => return Ok(()),
    };
    let signer = verified.signer_id();
    match chains.get_mut(&signer) {
        Some((chain, bundles)) => {
            if chain.apply(&verified, logged.index).unwrap_or(false) {
                bundles.push(log.bundle(&verified, logged.index)?);
            }
        }
        None => {
            if let Ok(chain) = Chain::start(&verified, logged.index) {
                chains.insert(signer, (chain, vec![log.bundle(&verified, logged.index)?]));
            }
        }
    }
    Ok(())
}
