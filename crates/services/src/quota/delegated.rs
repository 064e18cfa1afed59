//! Which keys speak for a listed key, as their control records said.
//!
//! Kept beside the rules, so that a log which starts again need not read all its records to know.
//! It only says who pays: which keys count for a signer, folds learn from the records themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use record::KeyId;
use serde::{Deserialize, Serialize};

use super::{ADMISSION_BYTES_MAX, RulesError};
use crate::admission::Refusal;

/// The delegations, in a log's directory.
pub const DELEGATED_FILE: &str = "delegated.json";
/// Keys that one listed key may have speak for it.
pub const DELEGATED_PER_KEY_MAX: usize = 256;
const VERSION: u32 = 1;

/// From each key to the listed key that it speaks for.
#[derive(Default)]
pub(super) struct Delegated {
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    payers: BTreeMap<KeyId, KeyId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    longrun_delegated: u32,
    keys: BTreeMap<KeyId, KeyId>,
}

impl Delegated {
    pub(super) fn open(directory: &Path) -> Result<Self, RulesError> {
        let path = directory.join(DELEGATED_FILE);
        let fail = |reason: String| RulesError {
            path: path.display().to_string(),
            reason,
        };
        let payers = match fs::metadata(&path) {
            Ok(found) if found.len() > ADMISSION_BYTES_MAX => {
                return Err(fail("too large".to_owned()));
            }
            Ok(_) => {
                let bytes = fs::read(&path).map_err(|error| fail(error.to_string()))?;
                parse(&bytes).map_err(fail)?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(fail(error.to_string())),
        };
        Ok(Self {
            path: Some(path),
            payers,
        })
    }

    pub(super) fn payer(&self, key: &KeyId) -> Option<KeyId> {
        self.payers.get(key).copied()
    }

    /// A key begins to speak for a listed one. One that speaks for another already stays there: it
    /// gains nothing, and its listed key must not lose its quota to a stranger's record.
    pub(super) fn begin(&mut self, key: KeyId, payer: KeyId) -> Result<(), Refusal> {
        if self.payers.contains_key(&key) || key == payer {
            return Ok(());
        }
        let held = self.payers.values().filter(|of| **of == payer).count();
        if held >= DELEGATED_PER_KEY_MAX {
            return Err(Refusal::new(
                "too_many_keys",
                format!(
                    "{DELEGATED_PER_KEY_MAX} keys speak for {payer} already; revoke some first"
                ),
            ));
        }
        self.payers.insert(key, payer);
        let kept = self.keep();
        if kept.is_err() {
            self.payers.remove(&key);
        }
        kept
    }

    /// A key ends to speak for the listed one.
    pub(super) fn end(&mut self, key: KeyId, payer: KeyId) -> Result<(), Refusal> {
        if self.payers.get(&key) != Some(&payer) {
            return Ok(());
        }
        self.payers.remove(&key);
        let kept = self.keep();
        if kept.is_err() {
            self.payers.insert(key, payer);
        }
        kept
    }

    fn keep(&self) -> Result<(), Refusal> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let kept = Kept {
            longrun_delegated: VERSION,
            keys: self.payers.clone(),
        };
        let unavailable =
            |error: &dyn std::fmt::Display| Refusal::new("unavailable", error.to_string());
        let mut bytes = serde_json::to_vec_pretty(&kept).map_err(|error| unavailable(&error))?;
        bytes.push(b'\n');
        store::local::replace_file(path, &bytes).map_err(|error| unavailable(&error))
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<KeyId, KeyId>, String> {
    let kept: Kept = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if kept.longrun_delegated != VERSION {
        return Err(format!(
            "version {}; this program reads {VERSION}",
            kept.longrun_delegated
        ));
    }
    Ok(kept.keys)
}
