//! Which keys speak for a listed key, as their control records said.
//!
//! Kept beside the rules, so that a log which starts again need not read all its records to know.
//! It only says who pays: which keys count for a signer, folds learn from the records themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use record::KeyId;
use serde::{Deserialize, Serialize};

use super::{ADMISSION_BYTES_MAX, RulesError};
use crate::admission::{KeyChange, KeyWord, Refusal};

/// The delegations, in a log's directory.
pub const DELEGATED_FILE: &str = "delegated.json";
/// Keys that one listed key may have speak for it.
pub const DELEGATED_PER_KEY_MAX: usize = 256;
/// Ended keys that are remembered for each listed key; beyond that those that ended first are
/// forgotten, and their delegations would count again if they were sent again.
const ENDED_PER_KEY_MAX: usize = 4096;
const VERSION: u32 = 1;

/// From each key to the listed key that it speaks for.
#[derive(Default)]
pub(super) struct Delegated {
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    known: Known,
}

#[derive(Default, Clone, PartialEq, Eq)]
struct Known {
    payers: BTreeMap<KeyId, KeyId>,
    /// Those of them that are root keys, so that their control records count.
    roots: BTreeSet<KeyId>,
    /// Listed keys that began or ended others: root keys. A recovery key only rotates, and stays one.
    acted: BTreeSet<KeyId>,
    /// Listed root keys that were rotated away: whoever has an old one ends and begins nothing.
    superseded: BTreeSet<KeyId>,
    /// By listed key: which keys ended, and with which control record.
    ended: BTreeMap<KeyId, BTreeMap<KeyId, u64>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    longrun_delegated: u32,
    keys: BTreeMap<KeyId, KeyId>,
    #[serde(default)]
    roots: BTreeSet<KeyId>,
    #[serde(default)]
    acted: BTreeSet<KeyId>,
    #[serde(default)]
    superseded: BTreeSet<KeyId>,
    #[serde(default)]
    ended: BTreeMap<KeyId, BTreeMap<KeyId, u64>>,
}

impl Delegated {
    pub(super) fn open(directory: &Path) -> Result<Self, RulesError> {
        let path = directory.join(DELEGATED_FILE);
        let fail = |reason: String| RulesError {
            path: path.display().to_string(),
            reason,
        };
        let known = match fs::metadata(&path) {
            Ok(found) if found.len() > ADMISSION_BYTES_MAX => {
                return Err(fail("too large".to_owned()));
            }
            Ok(_) => {
                let bytes = fs::read(&path).map_err(|error| fail(error.to_string()))?;
                parse(&bytes).map_err(fail)?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(fail(error.to_string())),
        };
        Ok(Self {
            path: Some(path),
            known,
        })
    }

    pub(super) fn payer(&self, key: &KeyId) -> Option<KeyId> {
        self.known.payers.get(key).copied()
    }

    /// Takes note of a control record that `by` signed, for whom `payer` pays. Only the listed key
    /// itself and root keys that it was rotated to are obeyed: an instance key delegates nobody. An
    /// old record that is sent again brings nobody back who ended since.
    pub(super) fn hear(
        &mut self,
        change: KeyChange,
        by: KeyId,
        payer: KeyId,
        listed: impl Fn(&KeyId) -> bool,
    ) -> Result<(), Refusal> {
        let obeyed = by == payer || self.known.roots.contains(&by);
        if !obeyed || self.known.superseded.contains(&by) {
            return Ok(());
        }
        let before = self.known.clone();
        if by == payer && !matches!(change.says, KeyWord::Rotates(_)) {
            self.known.acted.insert(by);
        }
        let done = match change.says {
            KeyWord::Begins(key) => self.begin(key, change.seq, payer, listed).map(|_| ()),
            KeyWord::Rotates(key) => {
                let begun = self.begin(key, change.seq, payer, listed);
                if begun == Ok(true) {
                    self.known.roots.insert(key);
                    if self.known.acted.remove(&by) {
                        self.known.superseded.insert(by);
                    }
                }
                if begun.is_ok() && self.known.roots.remove(&by) {
                    self.known.note_end(by, change.seq, payer);
                }
                begun.map(|_| ())
            }
            KeyWord::Ends(key) => {
                if self.known.payers.get(&key) == Some(&payer) {
                    self.known.payers.remove(&key);
                    self.known.roots.remove(&key);
                }
                self.known.note_end(key, change.seq, payer);
                Ok(())
            }
        };
        let kept = done.and_then(|()| {
            if self.known == before {
                Ok(())
            } else {
                self.keep()
            }
        });
        if kept.is_err() {
            self.known = before;
        }
        kept
    }

    /// A key begins to speak for a listed one; whether it does now. One that speaks for another
    /// listed key already stays there: it gains nothing, and its listed key must not lose its quota
    /// to a stranger's record.
    fn begin(
        &mut self,
        key: KeyId,
        seq: u64,
        payer: KeyId,
        listed: impl Fn(&KeyId) -> bool,
    ) -> Result<bool, Refusal> {
        let ended = self
            .known
            .ended
            .get(&payer)
            .and_then(|ended| ended.get(&key));
        if key == payer || ended.is_some_and(|ended| seq <= *ended) {
            return Ok(false);
        }
        if let Some(of) = self.known.payers.get(&key).filter(|of| listed(of)) {
            return Ok(*of == payer);
        }
        let held = self
            .known
            .payers
            .values()
            .filter(|of| **of == payer)
            .count();
        if held >= DELEGATED_PER_KEY_MAX {
            return Err(Refusal::new(
                "too_many_keys",
                format!(
                    "{DELEGATED_PER_KEY_MAX} keys speak for {payer} already; revoke some first"
                ),
            ));
        }
        self.known.payers.insert(key, payer);
        self.known.roots.remove(&key);
        Ok(true)
    }

    fn keep(&self) -> Result<(), Refusal> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let kept = Kept {
            longrun_delegated: VERSION,
            keys: self.known.payers.clone(),
            roots: self.known.roots.clone(),
            acted: self.known.acted.clone(),
            superseded: self.known.superseded.clone(),
            ended: self.known.ended.clone(),
        };
        let unavailable =
            |error: &dyn std::fmt::Display| Refusal::new("unavailable", error.to_string());
        let mut bytes = serde_json::to_vec_pretty(&kept).map_err(|error| unavailable(&error))?;
        bytes.push(b'\n');
        store::local::replace_file(path, &bytes).map_err(|error| unavailable(&error))
    }
}

impl Known {
    fn note_end(&mut self, key: KeyId, seq: u64, payer: KeyId) {
        let ended = self.ended.entry(payer).or_default();
        let last = ended.entry(key).or_insert(seq);
        *last = seq.max(*last);
        if ended.len() > ENDED_PER_KEY_MAX
            && let Some(first) = ended
                .iter()
                .min_by_key(|(_, seq)| **seq)
                .map(|(key, _)| *key)
        {
            ended.remove(&first);
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Known, String> {
    let kept: Kept = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if kept.longrun_delegated != VERSION {
        return Err(format!(
            "version {}; this program reads {VERSION}",
            kept.longrun_delegated
        ));
    }
    Ok(Known {
        payers: kept.keys,
        roots: kept.roots,
        acted: kept.acted,
        superseded: kept.superseded,
        ended: kept.ended,
    })
}
