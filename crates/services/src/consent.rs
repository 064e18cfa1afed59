//! Which signers let strangers read their records, by their own signed word ([`record::consent`]).
//!
//! Kept beside the log with the signatures, so whoever asks why something was shown gets the answer.
//! A file that cannot be read shows nothing, and takes no word until it is put right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::consent::{Consent, Publish};
use record::control::{Chain, LogOrigin};
use record::{Envelope, KeyId, PublicKey, SignerId};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::Refusal;

/// The consents, in a log's directory.
pub const CONSENT_FILE: &str = "publish.json";
/// Keys whose word is kept, at most.
pub const CONSENTS_MAX: usize = 65_536;
/// How far a signer's clock may be ahead, ms.
pub const AHEAD_MAX_MS: u64 = 10 * 60 * 1000;
const VERSION: u32 = 1;

/// What goes over the wire: a word and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The key, base64 of its SPKI.
    pub key: String,
    /// `none`, `summaries` or `records`.
    pub publish: String,
    /// When it was said, Unix ms.
    pub at_ms: u64,
    /// Base64 of the signature over [`Consent`]'s text.
    pub signature: String,
    /// Where a signer's root or recovery key takes back the word of an instance key that ended, whom
    /// nobody can ask any more, or a thief would answer: that key. Nothing that names this signer and is
    /// signed by that key is shown from then on. Of other signers it says nothing: anybody may name
    /// anybody's key in control records of his own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<KeyId>,
    /// Envelopes of that signer's control records, in order; not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<serde_json::Value>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    longrun_publish: u32,
    keys: BTreeMap<KeyId, Said>,
    /// Those of them that signed a record in this log since. Written with the next word: what a crash
    /// loses of it is noted again with the next record.
    #[serde(default)]
    signed: BTreeSet<KeyId>,
    /// By signer: keys that ended and whose word it took back, and how it said so.
    #[serde(default)]
    taken_back: BTreeMap<SignerId, BTreeMap<KeyId, Said>>,
}

/// The words of all signers of one log.
pub struct Consents {
    path: PathBuf,
    origin: String,
    kept: Mutex<Result<Kept, String>>,
    /// Keys whose word is kept and that are not known to have signed anything.
    idle: RwLock<BTreeSet<KeyId>>,
    /// Those who said another word than `none`.
    open: RwLock<Arc<BTreeMap<KeyId, Publish>>>,
    /// Of these nothing is shown, whatever the key says.
    ended: RwLock<Arc<BTreeSet<(SignerId, KeyId)>>>,
    turns: Arc<Semaphore>,
    /// Keys whose word is kept, at most.
    places: usize,
}

impl Consents {
    /// Those of the log in this directory.
    #[must_use]
    pub fn open(directory: &Path, origin: &str) -> Self {
        let path = directory.join(CONSENT_FILE);
        let kept = read(&path);
        if let Err(why) = &kept {
            tracing::error!(file = %path.display(), why, "nobody's records are shown to strangers");
        }
        let open = kept.as_ref().map_or_else(|_| BTreeMap::new(), open_keys);
        let idle = kept.as_ref().map_or_else(|_| BTreeSet::new(), idle_keys);
        let ended = kept.as_ref().map_or_else(|_| BTreeSet::new(), ended_keys);
        Self {
            path,
            origin: origin.to_owned(),
            kept: Mutex::new(kept),
            idle: RwLock::new(idle),
            open: RwLock::new(Arc::new(open)),
            ended: RwLock::new(Arc::new(ended)),
            turns: Arc::new(Semaphore::new(1)),
            places: CONSENTS_MAX,
        }
    }

    /// The keys of whose records anyone may read some, and which.
    pub fn keys(&self) -> Arc<BTreeMap<KeyId, Publish>> {
        Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A record of this key is logged: where there is no room for another word, its own stays.
    pub fn signed(&self, key: KeyId) {
        let idle = self.idle.read().unwrap_or_else(PoisonError::into_inner);
        let is_news = idle.contains(&key);
        drop(idle);
        if !is_news {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(kept) = kept.as_mut() {
            kept.signed.insert(key);
            self.show(kept);
        }
    }

    /// Takes over what is kept now.
    fn show(&self, kept: &Kept) {
        let open = Arc::new(open_keys(kept));
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = open;
        *self.idle.write().unwrap_or_else(PoisonError::into_inner) = idle_keys(kept);
        let ended = Arc::new(ended_keys(kept));
        *self.ended.write().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    /// Signers and keys of theirs that ended: of what names both nothing is shown.
    pub fn ended(&self) -> Arc<BTreeSet<(SignerId, KeyId)>> {
        Arc::clone(&self.ended.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until no other word is being taken; it is one's turn as long as the permit is held.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Takes a word. The latest of a key holds; what was read in between was read. `charge` is asked
    /// before a key may show something. Whoever takes a word back needs no leave, also with a key that
    /// ended; where nothing of a key is shown, `none` changes nothing and is not kept. Where all places
    /// are taken, the oldest word of a key that never signed a record here makes room.
    ///
    /// # Errors
    /// [`Refusal`]: `malformed`, `bad_signature`, `stale` (another word is as late or later),
    /// `too_many_keys`, `unavailable`, and those of `charge`.
    pub fn hear(
        &self,
        said: Said,
        now_ms: u64,
        charge: impl FnOnce(KeyId) -> Result<(), Refusal>,
    ) -> Result<KeyId, Refusal> {
        let (consent, signer) = self.check(&said, now_ms)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept
            .as_mut()
            .map_err(|why| Refusal::new("unavailable", why.clone()))?;
        if let Some((signer, said_by)) = signer {
            let ended = self.ended();
            if ended.contains(&(signer, consent.key)) {
                return Ok(consent.key);
            }
            if ended.len() >= self.places {
                let why = format!("this log keeps the ends of {} keys at most", self.places);
                return Err(Refusal::new("too_many_keys", why));
            }
            charge(said_by)?;
            let controls = Vec::new();
            let keys = kept.taken_back.entry(signer).or_default();
            keys.insert(consent.key, Said { controls, ..said });
            if let Err(error) = write(&self.path, kept) {
                let keys = kept.taken_back.entry(signer).or_default();
                keys.remove(&consent.key);
                return Err(Refusal::new("unavailable", error));
            }
            self.show(kept);
            return Ok(consent.key);
        }
        match kept.keys.get(&consent.key) {
            Some(before) if *before == said => return Ok(consent.key),
            Some(before) if before.at_ms >= said.at_ms => {
                let why = format!("this key said {} later", before.publish);
                return Err(Refusal::new("stale", why));
            }
            before if consent.publish == Publish::None => {
                if before.is_none_or(|before| before.publish == said.publish) {
                    return Ok(consent.key);
                }
            }
            _ => charge(consent.key)?,
        }
        let mut pushed_out = None;
        if !kept.keys.contains_key(&consent.key) && kept.keys.len() >= self.places {
            let idle = kept
                .keys
                .iter()
                .filter(|(key, _)| !kept.signed.contains(*key));
            let oldest = idle.min_by_key(|(_, said)| said.at_ms).map(|(key, _)| *key);
            let Some(oldest) = oldest else {
                let why = format!("this log keeps the word of {} keys at most", self.places);
                return Err(Refusal::new("too_many_keys", why));
            };
            pushed_out = kept.keys.remove(&oldest).map(|said| (oldest, said));
        }
        let before = kept.keys.insert(consent.key, said);
        if let Err(error) = write(&self.path, kept) {
            match before {
                Some(before) => kept.keys.insert(consent.key, before),
                None => kept.keys.remove(&consent.key),
            };
            kept.keys.extend(pushed_out);
            return Err(Refusal::new("unavailable", error));
        }
        self.show(kept);
        Ok(consent.key)
    }

    /// The word, and the signer who takes one back, if one does.
    fn check(
        &self,
        said: &Said,
        now_ms: u64,
    ) -> Result<(Consent, Option<(SignerId, KeyId)>), Refusal> {
        let malformed = |why: &dyn std::fmt::Display| Refusal::new("malformed", why.to_string());
        let bytes = |name: &str, text: &str| {
            let bytes = STANDARD.decode(text);
            bytes.map_err(|error| malformed(&format!("{name}: {error}")))
        };
        let key = PublicKey::from_spki(&bytes("key", &said.key)?).map_err(|e| malformed(&e))?;
        let publish: Publish = said.publish.parse().map_err(|e| malformed(&e))?;
        if said.at_ms > now_ms.saturating_add(AHEAD_MAX_MS) {
            return Err(malformed(&"at_ms lies in the future"));
        }
        let mut signer = None;
        if let Some(about) = said.about {
            if publish != Publish::None {
                return Err(malformed(&"of another key only `none` can be said"));
            }
            let of =
                speaks_for_ended(&key, about, &said.controls).map_err(|why| malformed(&why))?;
            signer = Some((of, key.key_id()));
        }
        let consent = Consent {
            log: LogOrigin::new(self.origin.clone()).map_err(|e| malformed(&e))?,
            key: said.about.unwrap_or_else(|| key.key_id()),
            publish,
            at_ms: said.at_ms,
        };
        let signature = bytes("signature", &said.signature)?;
        let verified = key.verify(consent.to_string().as_bytes(), &signature);
        let why = "the signature is not of this key over this word for this log";
        verified.map_err(|_| Refusal::new("bad_signature", why))?;
        Ok((consent, signer))
    }
}

/// The signer of these control records, if `key` is its root or recovery key, and `about` an instance
/// key of it that ended.
fn speaks_for_ended(
    key: &PublicKey,
    about: KeyId,
    controls: &[serde_json::Value],
) -> Result<SignerId, String> {
    let open = |it: &serde_json::Value| Envelope::from_json(it.to_string().as_bytes())?.open();
    let records: record::Result<Vec<_>> = controls.iter().map(open).collect();
    let chain = records.and_then(|records| Chain::of(&records));
    let chain = chain.map_err(|error| format!("controls: {error}"))?;
    if chain.root() != key && chain.recovery() != Some(key) {
        return Err("the key is neither root nor recovery key by these control records".to_owned());
    }
    let mut spans = chain.instances().iter();
    let has_ended = spans.any(|span| span.key.key_id() == about)
        && !chain
            .valid_instances()
            .any(|span| span.key.key_id() == about);
    if !has_ended {
        return Err(format!(
            "key {about} has not ended by these control records; it says its own word"
        ));
    }
    Ok(chain.signer())
}

fn ended_keys(kept: &Kept) -> BTreeSet<(SignerId, KeyId)> {
    let signers = kept.taken_back.iter();
    let pairs = signers.flat_map(|(signer, keys)| keys.keys().map(move |key| (*signer, *key)));
    pairs.collect()
}

fn idle_keys(kept: &Kept) -> BTreeSet<KeyId> {
    let keys = kept.keys.keys().filter(|key| !kept.signed.contains(*key));
    keys.copied().collect()
}

fn open_keys(kept: &Kept) -> BTreeMap<KeyId, Publish> {
    // A word that a newer version wrote shows nothing.
    let word = |said: &Said| said.publish.parse().unwrap_or_default();
    let keys = kept.keys.iter().map(|(key, said)| (*key, word(said)));
    keys.filter(|(_, word)| *word != Publish::None).collect()
}

fn read(path: &Path) -> Result<Kept, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Kept {
                longrun_publish: VERSION,
                ..Kept::default()
            });
        }
        Err(error) => return Err(format!("{CONSENT_FILE} cannot be read: {error}")),
    };
    let kept: Kept =
        serde_json::from_slice(&bytes).map_err(|error| format!("{CONSENT_FILE}: {error}"))?;
    if kept.longrun_publish != VERSION {
        let version = kept.longrun_publish;
        return Err(format!(
            "{CONSENT_FILE} is of version {version}; this program reads {VERSION}"
        ));
    }
    Ok(kept)
}

fn write(path: &Path, kept: &Kept) -> Result<(), String> {
    let mut bytes = serde_json::to_vec(kept).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    store::local::replace_file(path, &bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
