//! Whom a verifier trusts: logs with their witnesses, and signers with their keys.
//!
//! A trust policy is a JSON file that comes from outside whatever it judges:
//!
//! ```json
//! {"longrun_policy": 1,
//!  "log_policy": ["log <vkey>", "quorum none"],
//!  "signers": [{"id": "<hex>", "name": "…", "roles": ["provider"], "controls": [<bundle>, …]}]}
//! ```
//!
//! `log_policy` holds the lines of a C2SP tlog-policy. `controls` are the signer's `control`
//! records in the order of its home log, each a Sigstore bundle with its proof; they are checked
//! against the logs of the same policy, because the positions of keys come from them. Unknown
//! members are refused: a misspelt one would silently trust less or more than was meant.

use std::collections::HashMap;
use std::fmt;

use record::control::{Chain, LogOrigin, LogPosition};
use record::{Bundle, Record, SignerId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::checkpoint::SignedCheckpoint;
use crate::log_policy::LogPolicy;
use crate::merkle::leaf_hash;
use crate::proof::verify_inclusion;

/// The only version there is.
pub const POLICY_VERSION: u32 = 1;
/// Bytes of the largest policy file.
pub const POLICY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Signers in one policy.
pub const SIGNERS_MAX: usize = 10_000;

/// Why a trust policy was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trust policy: {0}")]
pub struct PolicyError(String);

/// Whom a verifier trusts.
#[derive(Debug, Clone)]
pub struct TrustPolicy {
    logs: LogPolicy,
    signers: Vec<TrustedSigner>,
    by_id: HashMap<SignerId, usize>,
}

/// A signer that counts.
#[derive(Debug, Clone)]
pub struct TrustedSigner {
    /// The id: that of its first control record.
    pub id: SignerId,
    /// What whoever wrote the policy calls it.
    pub name: String,
    /// What it is trusted as, such as `provider` or `observer`.
    pub roles: Vec<String>,
    /// Its keys and their positions.
    pub chain: Chain,
    /// The control records of which `chain` is made, in order.
    pub controls: Vec<Record>,
}

/// A policy file in the making: what [`TrustPolicy::parse`] reads.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    longrun_policy: u32,
    log_policy: Vec<String>,
    signers: Vec<SignerFile>,
}

/// One signer of a [`PolicyFile`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerFile {
    id: SignerId,
    name: String,
    roles: Vec<String>,
    controls: Vec<Box<RawValue>>,
}

impl PolicyFile {
    /// A policy with these tlog-policy lines and no signers yet.
    #[must_use]
    pub fn new(log_policy: Vec<String>) -> Self {
        Self {
            longrun_policy: POLICY_VERSION,
            log_policy,
            signers: Vec::new(),
        }
    }

    /// Adds a signer with its control records.
    ///
    /// # Errors
    /// [`PolicyError`] if a bundle cannot be written as JSON, which a parsed one always can.
    pub fn add_signer(
        &mut self,
        id: SignerId,
        name: &str,
        roles: &[&str],
        controls: &[Bundle],
    ) -> Result<(), PolicyError> {
        let controls = controls
            .iter()
            .map(|bundle| {
                let json = String::from_utf8_lossy(&bundle.to_json()).into_owned();
                RawValue::from_string(json).map_err(|error| PolicyError(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        self.signers.push(SignerFile {
            id,
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            controls,
        });
        Ok(())
    }

    /// The file, with a newline at its end.
    ///
    /// # Errors
    /// [`PolicyError`] if a part cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, PolicyError> {
        let mut json =
            serde_json::to_vec_pretty(self).map_err(|error| PolicyError(error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }
}

impl TrustPolicy {
    /// Reads a policy file and checks everything in it.
    ///
    /// # Errors
    /// [`PolicyError`] naming the line or the signer.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError(format!("more than {POLICY_BYTES_MAX} bytes")));
        }
        let file: PolicyFile =
            serde_json::from_slice(bytes).map_err(|error| PolicyError(error.to_string()))?;
        if file.longrun_policy != POLICY_VERSION {
            return Err(PolicyError(format!(
                "version {}; this program reads version {POLICY_VERSION}",
                file.longrun_policy
            )));
        }
        if file.signers.len() > SIGNERS_MAX {
            return Err(PolicyError(format!("more than {SIGNERS_MAX} signers")));
        }
        let lines = file.log_policy.join("\n");
        let logs = LogPolicy::parse(lines.as_bytes()).map_err(|e| PolicyError(e.to_string()))?;
        let mut policy = Self::of_logs(logs);
        for signer in file.signers {
            let (id, name) = (signer.id, signer.name.clone());
            if policy.by_id.insert(id, policy.signers.len()).is_some() {
                return Err(PolicyError(format!("signer {id} is listed twice")));
            }
            let (chain, controls) = read_chain(&signer, &policy.logs)
                .map_err(|reason| PolicyError(format!("signer {name} ({id}): {reason}")))?;
            policy.signers.push(TrustedSigner {
                id,
                name,
                roles: signer.roles,
                chain,
                controls,
            });
        }
        Ok(policy)
    }

    /// A policy that trusts logs and no signers.
    #[must_use]
    pub fn of_logs(logs: LogPolicy) -> Self {
        Self {
            logs,
            signers: Vec::new(),
            by_id: HashMap::new(),
        }
    }

    /// Logs, witnesses and quorum.
    #[must_use]
    pub fn logs(&self) -> &LogPolicy {
        &self.logs
    }

    /// The signers that count.
    #[must_use]
    pub fn signers(&self) -> &[TrustedSigner] {
        &self.signers
    }

    /// The signer with this id.
    #[must_use]
    pub fn signer(&self, id: SignerId) -> Option<&TrustedSigner> {
        self.by_id.get(&id).and_then(|at| self.signers.get(*at))
    }
}

impl TrustedSigner {
    /// Where an entry of a log stands among the signer's home logs; `None` if that log was never
    /// one of them.
    #[must_use]
    pub fn position(&self, origin: &str, index: u64) -> Option<LogPosition> {
        let at = self
            .chain
            .home_logs()
            .iter()
            .rposition(|log| log.as_str() == origin)?;
        Some(LogPosition {
            home: u32::try_from(at).ok()?,
            index,
        })
    }

    /// Its control records in a log, each with its place there.
    pub fn controls_in<'a>(
        &'a self,
        log: &'a LogOrigin,
    ) -> impl Iterator<Item = (u64, &'a Record)> {
        let placed = self.chain.positions().iter().zip(&self.controls);
        placed.filter_map(move |(at, control)| {
            let home = usize::try_from(at.home).ok()?;
            let is_here = self.chain.home_logs().get(home) == Some(log);
            is_here.then_some((at.index, control))
        })
    }
}

fn read_chain(signer: &SignerFile, logs: &LogPolicy) -> Result<(Chain, Vec<Record>), String> {
    let (mut chain, mut records) = (None::<Chain>, Vec::new());
    for (number, control) in (1..).zip(&signer.controls) {
        let at = |reason: &dyn fmt::Display| format!("control {number}: {reason}");
        let bundle = Bundle::from_json(control.get().as_bytes()).map_err(|error| at(&error))?;
        let record = bundle.open().map_err(|error| at(&error))?;
        let origin = check_logged(&bundle, logs).map_err(|reason| at(&reason))?;
        match chain.as_mut() {
            None => {
                let first = Chain::start(&record, bundle.entry.index).map_err(|e| at(&e))?;
                check_home(first.home_log(), &origin).map_err(|reason| at(&reason))?;
                chain = Some(first);
            }
            Some(chain) => {
                check_home(chain.home_log(), &origin).map_err(|reason| at(&reason))?;
                let is_new = chain.apply(&record, bundle.entry.index);
                if !is_new.map_err(|error| at(&error))? {
                    continue;
                }
            }
        }
        records.push(record);
    }
    let chain = chain.ok_or("it has no control records")?;
    if chain.signer() != signer.id {
        return Err(format!(
            "its control records are those of {}",
            chain.signer()
        ));
    }
    Ok((chain, records))
}

/// The origin of a log of the policy that has this entry.
fn check_logged(bundle: &Bundle, logs: &LogPolicy) -> Result<String, String> {
    let entry = &bundle.entry;
    let signed = SignedCheckpoint::parse(entry.checkpoint.as_bytes()).map_err(|e| e.to_string())?;
    let checkpoint = signed.checkpoint();
    let log = logs
        .log_that_signed(&signed)
        .map_err(|error| error.to_string())?;
    if log.is_none() {
        return Err(format!(
            "it is logged in {}, which is no log of this policy or did not sign",
            checkpoint.origin
        ));
    }
    verify_inclusion(
        &leaf_hash(&entry.canonical_body),
        entry.index,
        checkpoint.size,
        &entry.hashes,
        &checkpoint.root,
    )
    .map_err(|error| error.to_string())?;
    Ok(checkpoint.origin.clone())
}

fn check_home(home: &LogOrigin, origin: &str) -> Result<(), String> {
    if home.as_str() == origin {
        Ok(())
    } else {
        Err(format!(
            "it is logged in {origin}, but the signer's home log is {home}"
        ))
    }
}
