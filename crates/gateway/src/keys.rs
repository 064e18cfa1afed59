//! The file of keys: who may call this gateway, and how much.
//!
//! Only digests of keys are kept. A key is 256 random bits, so plain SHA-256 is enough: the slow,
//! salted functions that passwords need make guessing a *likely* secret expensive, and here no
//! secret is likelier than another; a search through 2²⁵⁶ is out of reach at any speed. A fast
//! digest also keeps the check off the cost of a call.
//!
//! Everything here is pure: text, time and randomness come in. [`KeyFile`] is changed by
//! `longrun gateway key`, and followed by a running gateway (see [`crate::callers`]).

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use record::{Digest, sha256};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

/// How every key starts, so that people and scanners of leaked secrets know one when they see it.
pub const KEY_PREFIX: &str = "sk-longrun-";
/// Longest name of a key, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// How the name of a gateway's key file ends, after that of its directory.
const KEYS_FILE_END: &str = ".keys.toml";

const HEADER: &str = "# Written by `longrun gateway key`; a running gateway follows it. Only \
                      SHA-256 digests of keys are here.\n\n";

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// In the order in which they were added.
    #[serde(default, rename = "key")]
    pub keys: Vec<Entry>,
}

/// One caller: a name, its limits, and the digests of the keys that it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What people call it; unique, and in no record.
    pub name: String,
    /// What its calls belong to: 16 random hex digits, never used again for another caller.
    pub id: CallerId,
    /// When it was added, Unix ms.
    pub created_ms: u64,
    /// Whether it may also read status, history and metrics, open every call, and reload.
    #[serde(default, skip_serializing_if = "is_false")]
    pub operator: bool,
    /// What it may use.
    #[serde(flatten)]
    pub grant: Grant,
    /// The keys that open the door for it: one, and during a rotation the one before.
    #[serde(default, rename = "secret")]
    pub secrets: Vec<KeyDigest>,
}

/// What a caller may use; what is not named is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Calls in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Spending in a UTC day, in millionths of the currency in which endpoints are priced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_per_day_micro: Option<u64>,
    /// Models that may be asked for; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

/// The digest of a key, and until when the key is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDigest {
    /// SHA-256 of the key as it is sent.
    pub sha256: Digest,
    /// Unix ms after which it is refused; none: until it is rotated or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// What the calls of a caller belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId([u8; 8]);

/// A key, to be shown once.
pub struct NewKey(String);

/// Why a key file, or a change of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file is not one.
    #[error("line {line}: {message}")]
    Unreadable {
        /// Counted from 1.
        line: usize,
        /// What is wrong; no line of the file is quoted.
        message: String,
    },
    /// Two callers of one name, one id or one key.
    #[error("\"{0}\" is there twice")]
    Twice(String),
    /// Somebody is called that already.
    #[error(
        "\"{0}\" has a key already: `longrun gateway key rotate {0}` makes a new one for it, \
         `longrun gateway key revoke {0}` takes it away"
    )]
    Taken(String),
    /// A name that is none.
    #[error(
        "\"{0}\" is no name: write 1 to {NAME_CHARS_MAX} letters, digits, \"-\", \"_\" or \".\""
    )]
    Name(String),
    /// Nobody is called that.
    #[error("no key is called \"{0}\"; `longrun gateway key list` shows those there are")]
    Unknown(String),
    /// A limit that would refuse everything.
    #[error("{0} is 0, which would refuse everything; revoke the key instead")]
    Zero(&'static str),
    /// The machine has no randomness.
    #[error("this machine has no randomness")]
    NoRandomness,
}

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError`], naming the line or the caller.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let file: Self = toml::from_str(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start));
            KeyError::Unreadable {
                line: before.unwrap_or("").matches('\n').count() + 1,
                message: error.message().trim().replace('\n', "; "),
            }
        })?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), KeyError> {
        for (at, entry) in self.keys.iter().enumerate() {
            check_name(&entry.name)?;
            entry.grant.check()?;
            let others = &self.keys[..at];
            if others
                .iter()
                .any(|o| o.name == entry.name || o.id == entry.id)
            {
                return Err(KeyError::Twice(entry.name.clone()));
            }
            let mut known = others.iter().flat_map(|o| &o.secrets);
            if entry
                .secrets
                .iter()
                .any(|s| known.any(|k| k.sha256 == s.sha256))
            {
                return Err(KeyError::Twice(entry.name.clone()));
            }
        }
        Ok(())
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let body = toml::to_string(self).expect("strings, numbers and lists are TOML");
        format!("{HEADER}{body}")
    }

    /// Adds a caller and makes its key.
    ///
    /// # Errors
    /// When the name is taken or none, or a limit is 0.
    pub fn add(
        &mut self,
        name: &str,
        grant: Grant,
        operator: bool,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<NewKey, KeyError> {
        check_name(name)?;
        grant.check()?;
        if self.keys.iter().any(|entry| entry.name == name) {
            return Err(KeyError::Taken(name.to_owned()));
        }
        let mut id = [0; 8];
        random.fill(&mut id).map_err(|_| KeyError::NoRandomness)?;
        let key = NewKey::generate(random)?;
        self.keys.push(Entry {
            name: name.to_owned(),
            id: CallerId(id),
            created_ms: now_ms,
            operator,
            grant,
            secrets: vec![key.digest()],
        });
        Ok(key)
    }

    /// Makes a new key for a caller. The old one is good for another `overlap_ms`; one from an
    /// earlier rotation ends when it was to end.
    ///
    /// # Errors
    /// When nobody is called that.
    pub fn rotate(
        &mut self,
        name: &str,
        overlap_ms: u64,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<NewKey, KeyError> {
        let entry = self.named(name)?;
        let key = NewKey::generate(random)?;
        let until_ms = now_ms.saturating_add(overlap_ms);
        for secret in &mut entry.secrets {
            secret.until_ms = Some(secret.until_ms.map_or(until_ms, |was| was.min(until_ms)));
        }
        entry.secrets.retain(|secret| secret.is_good(now_ms));
        entry.secrets.push(key.digest());
        Ok(key)
    }

    /// Removes a caller with all its keys. The file stays, and with it the rule that a key is
    /// needed, even when it was the last one.
    ///
    /// # Errors
    /// When nobody is called that.
    pub fn revoke(&mut self, name: &str) -> Result<(), KeyError> {
        self.named(name)?;
        self.keys.retain(|entry| entry.name != name);
        Ok(())
    }

    fn named(&mut self, name: &str) -> Result<&mut Entry, KeyError> {
        self.keys
            .iter_mut()
            .find(|entry| entry.name == name)
            .ok_or_else(|| KeyError::Unknown(name.to_owned()))
    }
}

impl Grant {
    fn check(&self) -> Result<(), KeyError> {
        for (name, limit) in [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("spend_per_day_micro", self.spend_per_day_micro),
        ] {
            if limit == Some(0) {
                return Err(KeyError::Zero(name));
            }
        }
        Ok(())
    }

    /// Whether a model may be asked for.
    #[must_use]
    pub fn allows(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|allowed| allowed == model)
    }
}

impl KeyDigest {
    /// Whether the key is still good.
    #[must_use]
    pub fn is_good(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until| now_ms < until)
    }
}

impl CallerId {
    /// The 8 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl Serialize for CallerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        u64::from_str_radix(&text, 16)
            .ok()
            .filter(|_| digits)
            .map(|id| Self(id.to_be_bytes()))
            .ok_or_else(|| serde::de::Error::custom("an id is 16 hex digits"))
    }
}

impl NewKey {
    fn generate(random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        random
            .fill(&mut bytes)
            .map_err(|_| KeyError::NoRandomness)?;
        Ok(Self(format!(
            "{KEY_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(bytes)
        )))
    }

    fn digest(&self) -> KeyDigest {
        KeyDigest {
            sha256: digest(&self.0),
            until_ms: None,
        }
    }

    /// The key itself, for its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(…)")
    }
}

/// The key file of a gateway that keeps its records in `directory`: beside it, not in it, because a
/// signer's directory is made by the signer, and keys may be there before.
#[must_use]
pub fn file_of(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(KEYS_FILE_END);
    directory.with_file_name(name)
}

/// The digest under which a key is kept.
#[must_use]
pub fn digest(key: &str) -> Digest {
    sha256(key.as_bytes())
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || !name.chars().all(fits) {
        return Err(KeyError::Name(name.chars().take(NAME_CHARS_MAX).collect()));
    }
    Ok(())
}

/// Serde hands a reference.
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    fn with(name: &str) -> (KeyFile, NewKey) {
        let mut file = KeyFile::default();
        let grant = Grant {
            tokens_per_minute: Some(1000),
            models: vec!["small".to_owned()],
            ..Grant::default()
        };
        let key = file.add(name, grant, false, 5, &SystemRandom::new());
        (file, key.expect("a name that is free"))
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_holds_no_key() {
        let (mut file, key) = with("ci");
        file.add("ops", Grant::default(), true, 6, &SystemRandom::new())
            .expect("free");
        let text = file.to_text();
        assert_eq!(KeyFile::parse(&text), Ok(file.clone()));
        assert!(!text.contains(key.reveal()) && !text.contains(&key.reveal()[11..]));
        assert!(key.reveal().starts_with(KEY_PREFIX) && key.reveal().len() == 11 + 43);
        assert_eq!(file.keys[0].secrets[0].sha256, digest(key.reveal()));
        assert!(!format!("{key:?}").contains(&key.reveal()[11..]));
    }

    #[test]
    fn a_rotation_lets_both_keys_in_for_a_while() {
        let (mut file, old) = with("ci");
        let random = SystemRandom::new();
        let new = file.rotate("ci", 100, 1000, &random).expect("known");
        let good = |file: &KeyFile, key: &NewKey, at| {
            let secrets = &file.keys[0].secrets;
            secrets
                .iter()
                .any(|s| s.sha256 == digest(key.reveal()) && s.is_good(at))
        };
        assert!(good(&file, &old, 1099) && good(&file, &new, 1099));
        assert!(!good(&file, &old, 1100) && good(&file, &new, 1100));
        let newest = file.rotate("ci", 1000, 1050, &random).expect("known");
        assert!(!good(&file, &old, 1100), "an end once set is not put off");
        assert!(good(&file, &new, 2049) && !good(&file, &new, 2050));
        file.rotate("ci", 0, 3000, &random).expect("known");
        assert!(!good(&file, &newest, 3000), "no overlap: at once");
        assert_eq!(file.keys[0].secrets.len(), 1, "those that ended are gone");
        assert_eq!(
            file.rotate("nobody", 0, 0, &random).unwrap_err(),
            KeyError::Unknown("nobody".to_owned())
        );
    }

    #[test]
    fn revoking_the_last_key_leaves_the_file() {
        let (mut file, _) = with("ci");
        file.revoke("ci").expect("known");
        assert!(file.revoke("ci").is_err());
        assert_eq!(KeyFile::parse(&file.to_text()), Ok(KeyFile::default()));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_line_is_quoted() {
        let (file, _) = with("ci");
        let text = file.to_text();
        let second = text.replace(HEADER, "");
        let rows = [
            (format!("{text}{second}"), "\"ci\" is there twice"),
            (
                text.replace("name = \"ci\"", "name = \"c i\""),
                "is no name",
            ),
            (
                text.replace("tokens_per_minute = 1000", "tokens_per_minute = 0"),
                "is 0",
            ),
            (text.replace("id = \"", "id = \"zz"), "line 5: an id"),
            (format!("{text}key = \"sk-secret\"\n"), "line"),
        ];
        for (text, says) in rows {
            let error = KeyFile::parse(&text).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("sk-secret"), "{error}");
        }
        let (mut file, _) = with("ci");
        let random = SystemRandom::new();
        for name in ["", "a b", &"x".repeat(65), "ci"] {
            assert!(file.add(name, Grant::default(), false, 0, &random).is_err());
        }
    }
}
