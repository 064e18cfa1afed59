//! A signer's word on what a log may show of its records to anyone.
//!
//! Bodies lie in the log, private to its owner. Whose they are decides whether strangers may read them:
//! the key that signed them signs this text too, for one log and from one time on. The text begins
//! differently from everything else that these keys sign, so a consent is never a record and a record
//! never a consent.

use std::fmt;
use std::str::FromStr;

use crate::base64;
use crate::digest::KeyId;
use crate::error::{Code, Error};
use crate::key::PublicKey;
use crate::kind::control::LogOrigin;

/// What strangers may read of a key's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Publish {
    /// Nothing but what is public of everybody: control records, manifests, offers.
    #[default]
    None,
    /// Its summaries too.
    Summaries,
    /// Every record.
    Records,
}

impl Publish {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Summaries => "summaries",
            Self::Records => "records",
        }
    }
}

impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Self::None),
            "summaries" => Ok(Self::Summaries),
            "records" => Ok(Self::Records),
            other => Err(Error::new(
                Code::BadValue,
                format!("{other:?} is neither none nor summaries nor records"),
            )),
        }
    }
}

/// What a key says about its records in one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The log's origin.
    pub log: LogOrigin,
    /// Whose records.
    pub key: KeyId,
    /// What strangers may read.
    pub publish: Publish,
    /// When it was said, Unix ms: the latest word holds.
    pub at_ms: u64,
}

impl Consent {
    /// The word as a log is told it: a JSON object.
    #[must_use]
    pub fn to_json(&self, key: &PublicKey, signature: &[u8]) -> String {
        let (key, signature) = (base64::encode(key.spki()), base64::encode(signature));
        let (publish, at_ms) = (self.publish.as_str(), self.at_ms);
        format!(
            r#"{{"key":"{key}","publish":"{publish}","at_ms":{at_ms},"signature":"{signature}"}}"#
        )
    }
}

impl fmt::Display for Consent {
    /// The text that is signed: five lines, each ended by LF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            log,
            key,
            publish,
            at_ms,
        } = self;
        let publish = publish.as_str();
        write!(f, "longrun publish v1\n{log}\n{key}\n{publish}\n{at_ms}\n")
    }
}
