//! Who may append over HTTP, and how much.
//!
//! Rules are a JSON file, `admission.json` in the log's directory, read again when it changes:
//!
//! ```json
//! {"longrun_admission": 1, "who": "admitted",
//!  "per_key": {"records_per_s": 100, "burst": 1000},
//!  "per_address": {"records_per_s": 1000, "burst": 10000},
//!  "admitted": [{"key": "<key id>", "name": "a node", "quota": {"records_per_s": 50, "burst": 500}}]}
//! ```
//!
//! Admission reaches whom a listed key delegates: a signer's root key is listed once, and its
//! instance keys append at its expense, also after they were rotated.
//!
//! `who` is `admitted` (only the keys listed) or `anyone`. `per_key` holds for keys that are not
//! listed or listed without a quota of their own; without `per_address` addresses are not counted.
//! A key is charged only for records that it signed, whoever sends them and also for those that are
//! logged already: who has copies of a key's records can use up its quota by sending them again, at
//! the expense of an address. The limits are those of a generic cell rate algorithm: `records_per_s` in the long run, `burst` at
//! once. A clock that goes back frees nothing and blocks nobody for longer than a full burst.

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use record::KeyId;
use serde::{Deserialize, Serialize};

use crate::admission::{Refusal, Submission};
use crate::clock::Clock;

mod delegated;

use delegated::Delegated;
pub use delegated::{DELEGATED_FILE, DELEGATED_PER_KEY_MAX};

/// The rules, in a log's directory.
pub const ADMISSION_FILE: &str = "admission.json";
/// The only version there is.
pub const ADMISSION_VERSION: u32 = 1;
/// Bytes of the largest rules that are read.
pub const ADMISSION_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Keys and addresses that are remembered, each. When there are more, those that used nothing
/// lately are forgotten; a stranger who makes up keys pays with a signature for each.
pub const REMEMBERED_MAX: usize = 100_000;
/// Words on publishing by keys that no listed key vouches for, from one address in a day. Keys are free
/// to make, and those whose word is kept have a limit ([`crate::consent::CONSENTS_MAX`]).
pub const WORDS_PER_ADDRESS_MAX: u32 = 64;
const DAY_MS: u64 = 86_400_000;
/// How often the file is looked at, ms.
const LOOK_MS: u64 = 1000;

/// How much somebody may append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// In the long run; at least 1.
    pub records_per_s: u32,
    /// At once; at least 1.
    pub burst: u32,
}

/// Who may append at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Keys that are listed.
    Admitted,
    /// Any key, within limits.
    Anyone,
}

/// A key that is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmittedKey {
    /// The instance or root key that signs.
    pub key: KeyId,
    /// What the log's owner calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its own quota; otherwise that of every key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// Who may append, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    longrun_admission: u32,
    /// Listed keys, or anyone.
    pub who: Who,
    /// For keys without a quota of their own.
    pub per_key: Quota,
    /// For each address that records come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_address: Option<Quota>,
    /// The listed keys.
    #[serde(default)]
    pub admitted: Vec<AdmittedKey>,
}

/// Why rules were refused.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct RulesError {
    path: String,
    reason: String,
}

impl Rules {
    /// Rules for these, with room for a busy node or gateway, and no limit per address.
    #[must_use]
    pub fn new(who: Who) -> Self {
        Self {
            longrun_admission: ADMISSION_VERSION,
            who,
            per_key: Quota {
                records_per_s: 20_000,
                burst: 200_000,
            },
            per_address: None,
            admitted: Vec::new(),
        }
    }

    /// Rules for an open log: anyone may append, and nobody can fill it alone. A stranger who makes
    /// up keys is held by the limit of the address.
    #[must_use]
    pub fn open() -> Self {
        let quota = |records_per_s, burst| Quota {
            records_per_s,
            burst,
        };
        Self {
            per_key: quota(100, 1_000),
            per_address: Some(quota(1_000, 10_000)),
            ..Self::new(Who::Anyone)
        }
    }

    /// Lists a key, or changes its name and quota.
    pub fn admit(&mut self, admitted: AdmittedKey) {
        match self
            .admitted
            .iter_mut()
            .find(|known| known.key == admitted.key)
        {
            Some(known) => *known = admitted,
            None => self.admitted.push(admitted),
        }
    }

    /// Takes a key off the list; whether it was on it.
    pub fn remove(&mut self, key: KeyId) -> bool {
        let before = self.admitted.len();
        self.admitted.retain(|known| known.key != key);
        self.admitted.len() < before
    }

    /// Reads rules.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let rules: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if rules.longrun_admission != ADMISSION_VERSION {
            return Err(format!(
                "version {}; this program reads 1",
                rules.longrun_admission
            ));
        }
        let own = rules.admitted.iter().filter_map(|key| key.quota);
        let quotas = own.chain([rules.per_key]).chain(rules.per_address);
        for Quota {
            records_per_s,
            burst,
        } in quotas
        {
            if records_per_s == 0 || burst == 0 {
                return Err("records_per_s and burst are at least 1".to_owned());
            }
        }
        Ok(rules)
    }

    /// Reads the rules of the log in a directory; `None` if it has none.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn load(directory: &Path) -> Result<Option<Self>, RulesError> {
        let path = directory.join(ADMISSION_FILE);
        let fail = |reason: String| RulesError {
            path: path.display().to_string(),
            reason,
        };
        match fs::metadata(&path) {
            Ok(found) if found.len() > ADMISSION_BYTES_MAX => Err(fail("too large".to_owned())),
            Ok(_) => {
                let bytes = fs::read(&path).map_err(|error| fail(error.to_string()))?;
                Self::parse(&bytes).map(Some).map_err(fail)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// Writes the rules of the log in a directory; a log that runs takes them up within a second
    /// or so.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn save(&self, directory: &Path) -> Result<(), RulesError> {
        let path = directory.join(ADMISSION_FILE);
        let fail = |reason: String| RulesError {
            path: path.display().to_string(),
            reason,
        };
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| fail(error.to_string()))?;
        bytes.push(b'\n');
        store::local::replace_file(&path, &bytes).map_err(|error| fail(error.to_string()))
    }
}

impl Default for Rules {
    /// Nobody until somebody is admitted.
    fn default() -> Self {
        Self::new(Who::Admitted)
    }
}

/// Keeps the rules while a log runs.
pub struct Gate {
    /// Where the rules are; `None` for a gate whose rules do not change.
    directory: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    rules: Rules,
    admitted: HashMap<KeyId, Option<Quota>>,
    delegated: Delegated,
    keys: Meters<KeyId>,
    addresses: Meters<IpAddr>,
    /// A day since 1970, and the words on publishing that each address said on it.
    words: (u64, HashMap<IpAddr, u32>),
    looked_ms: u64,
    modified: Option<SystemTime>,
}

impl Gate {
    /// The gate of the log in a directory: with its rules, or the default ones.
    ///
    /// # Errors
    /// [`RulesError`] if its rules cannot be read.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, RulesError> {
        let modified = modified(directory);
        let rules = Rules::load(directory)?.unwrap_or_default();
        let mut gate = Self::new(rules, clock);
        gate.directory = Some(directory.to_owned());
        let mut state = gate.lock();
        state.modified = modified;
        state.delegated = Delegated::open(directory)?;
        drop(state);
        Ok(gate)
    }

    /// A gate with these rules.
    #[must_use]
    pub fn new(rules: Rules, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            admitted: index(&rules),
            delegated: Delegated::default(),
            rules,
            keys: Meters::default(),
            addresses: Meters::default(),
            words: (0, HashMap::new()),
            looked_ms: clock.unix_ms(),
            modified: None,
        };
        Self {
            directory: None,
            clock,
            state: Mutex::new(state),
        }
    }

    /// Charges an address for records that it sent, before they are looked at. The addresses of an
    /// IPv6 /64 are one: whoever has one of them has all.
    ///
    /// # Errors
    /// [`Refusal`] with `rate_limited`.
    pub fn charge_address(&self, address: IpAddr, records: u32) -> Result<(), Refusal> {
        let address = whole(address);
        let now_ms = self.clock.unix_ms();
        let mut state = self.lock();
        self.look(&mut state, now_ms);
        let Some(quota) = state.rules.per_address else {
            return Ok(());
        };
        match state.addresses.charge(address, records, quota, now_ms) {
            true => Ok(()),
            false => Err(limited(&format!("address {address}"), quota)),
        }
    }

    /// Charges a verified record to the key that signed it, or to the listed key that this one
    /// speaks for. A control record of a listed key, or of one that it was rotated to, is taken note
    /// of: whom it delegates may append at its expense, from the next record on.
    ///
    /// # Errors
    /// [`Refusal`] with `not_admitted` or `rate_limited`; `unavailable` if a delegation could not
    /// be kept.
    pub fn charge(&self, submission: &Submission) -> Result<(), Refusal> {
        self.charge_key(submission.key)?;
        let Some(change) = submission.keys else {
            return Ok(());
        };
        let mut state = self.lock();
        let payer = state.payer(submission.key);
        if !state.admitted.contains_key(&payer) {
            return Ok(());
        }
        let State {
            admitted,
            delegated,
            ..
        } = &mut *state;
        let listed = |key: &KeyId| admitted.contains_key(key);
        delegated.hear(change, submission.key, payer, listed)
    }

    /// Charges a key for one record that it signed.
    ///
    /// # Errors
    /// [`Refusal`] with `not_admitted` or `rate_limited`.
    pub fn charge_key(&self, key: KeyId) -> Result<(), Refusal> {
        let now_ms = self.clock.unix_ms();
        let mut state = self.lock();
        self.look(&mut state, now_ms);
        let key = state.payer(key);
        let quota = match (state.admitted.get(&key), state.rules.who) {
            (Some(own), _) => own.unwrap_or(state.rules.per_key),
            (None, Who::Anyone) => state.rules.per_key,
            (None, Who::Admitted) => {
                return Err(Refusal::new(
                    "not_admitted",
                    format!(
                        "key {key} may not append here yet; ask the log's owner to admit it \
                         (longrun log admit)"
                    ),
                ));
            }
        };
        match state.keys.charge(key, 1, quota, now_ms) {
            true => Ok(()),
            false => Err(limited(&format!("key {key}"), quota)),
        }
    }

    /// Charges a word by which a key lets its records be read ([`crate::consent`]): as for a record,
    /// and where addresses are counted, a key that no listed one vouches for takes one of
    /// [`WORDS_PER_ADDRESS_MAX`].
    ///
    /// # Errors
    /// [`Refusal`] with `not_admitted` or `rate_limited`.
    pub fn charge_word(&self, key: KeyId, address: Option<IpAddr>) -> Result<(), Refusal> {
        self.charge_key(key)?;
        let day = self.clock.unix_ms() / DAY_MS;
        let mut state = self.lock();
        let is_listed = state.admitted.contains_key(&state.payer(key));
        let counted = address.filter(|_| !is_listed && state.rules.per_address.is_some());
        let Some(address) = counted.map(whole) else {
            return Ok(());
        };
        if state.words.0 != day {
            state.words = (day, HashMap::new());
        }
        let words = &mut state.words.1;
        let said = words.get(&address).copied();
        let full = said.is_none() && words.len() >= REMEMBERED_MAX;
        let said = said.unwrap_or(0);
        if full || said >= WORDS_PER_ADDRESS_MAX {
            let message = format!(
                "address {address} may say {WORDS_PER_ADDRESS_MAX} words a day for keys that are \
                 not listed; try again tomorrow"
            );
            return Err(Refusal::new("rate_limited", message));
        }
        words.insert(address, said + 1);
        Ok(())
    }

    /// Changes the rules, in the file and at once.
    ///
    /// # Errors
    /// [`RulesError`] if they cannot be written; then nothing changes.
    pub fn update(&self, change: impl FnOnce(&mut Rules)) -> Result<(), RulesError> {
        let mut state = self.lock();
        let mut rules = state.rules.clone();
        change(&mut rules);
        if let Some(directory) = &self.directory {
            rules.save(directory)?;
            state.modified = modified(directory);
        }
        state.admitted = index(&rules);
        state.rules = rules;
        Ok(())
    }

    /// Who may append, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let state = self.lock();
        let Quota {
            records_per_s,
            burst,
        } = state.rules.per_key;
        let listed = state.admitted.len();
        match state.rules.who {
            Who::Anyone => format!("records of any key, {records_per_s}/s each, {burst} at once"),
            Who::Admitted if listed == 0 => {
                "nobody's records yet: list a key with longrun log admit".to_owned()
            }
            Who::Admitted => format!("records of {listed} admitted keys"),
        }
    }

    /// Reads the rules again if the file changed; rules that cannot be read change nothing.
    fn look(&self, state: &mut State, now_ms: u64) {
        let Some(directory) = &self.directory else {
            return;
        };
        if now_ms.abs_diff(state.looked_ms) < LOOK_MS {
            return;
        }
        state.looked_ms = now_ms;
        let modified = modified(directory);
        if modified == state.modified {
            return;
        }
        match Rules::load(directory) {
            Ok(rules) => {
                state.rules = rules.unwrap_or_default();
                state.admitted = index(&state.rules);
                state.modified = modified;
                tracing::info!(
                    admitted = state.admitted.len(),
                    "took up new rules of admission"
                );
            }
            Err(error) => tracing::warn!(%error, "rules of admission unchanged"),
        }
    }

    /// A poisoned lock only says that another thread panicked; counters are whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The listed key that a key speaks for; otherwise itself.
    fn payer(&self, key: KeyId) -> KeyId {
        let listed = |key: &KeyId| self.admitted.contains_key(key);
        match self.delegated.payer(&key) {
            Some(payer) if !listed(&key) && listed(&payer) => payer,
            _ => key,
        }
    }
}

/// The address that is counted: the first of the /64 for IPv6, and IPv4 as itself in either form.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

fn index(rules: &Rules) -> HashMap<KeyId, Option<Quota>> {
    rules
        .admitted
        .iter()
        .map(|admitted| (admitted.key, admitted.quota))
        .collect()
}

fn modified(directory: &Path) -> Option<SystemTime> {
    fs::metadata(directory.join(ADMISSION_FILE))
        .and_then(|found| found.modified())
        .ok()
}

fn limited(
    who: &str,
    Quota {
        records_per_s,
        burst,
    }: Quota,
) -> Refusal {
    let message = format!("{who} may append {records_per_s} records/s, {burst} at once");
    Refusal::new("rate_limited", message)
}

/// For each of many, the time until which what it used is paid off, µs since 1970.
struct Meters<K> {
    paid_us: HashMap<K, u64>,
}

impl<K> Default for Meters<K> {
    fn default() -> Self {
        Self {
            paid_us: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq> Meters<K> {
    /// Whether there was room; if so, it is used up.
    fn charge(&mut self, who: K, records: u32, quota: Quota, now_ms: u64) -> bool {
        let now_us = now_ms.saturating_mul(1000);
        if self.paid_us.len() >= REMEMBERED_MAX && !self.paid_us.contains_key(&who) {
            self.paid_us.retain(|_, paid_us| *paid_us > now_us);
            if self.paid_us.len() >= REMEMBERED_MAX {
                return false;
            }
        }
        let each_us = 1_000_000 / u64::from(quota.records_per_s).min(1_000_000);
        let full_us = now_us.saturating_add(each_us.saturating_mul(u64::from(quota.burst)));
        let paid_us = self.paid_us.entry(who).or_insert(0);
        // After the clock went back, at most a full burst is owed.
        *paid_us = (*paid_us).clamp(now_us, full_us);
        let after_us = paid_us.saturating_add(each_us.saturating_mul(u64::from(records)));
        if after_us > full_us {
            return false;
        }
        *paid_us = after_us;
        true
    }
}
