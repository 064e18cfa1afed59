//! What kind of file is this?

use record::bundle::MEDIA_TYPE;
use record::envelope::PAYLOAD_TYPE;
use record::statement::STATEMENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::FILE_BYTES_MAX;
use crate::history::MAGIC;
use crate::tlog_proof::HEADER;

/// The files that verification knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileKind {
    /// A Sigstore bundle: a record with its place in a log.
    Bundle,
    /// A signed statement without proof.
    Envelope,
    /// A log's checkpoint.
    Checkpoint,
    /// A C2SP tlog-proof.
    Proof,
    /// A gateway's answer about one call, with its bundles.
    Call,
    /// A history: many records with one proof.
    History,
    /// A trust policy.
    Policy,
    /// Evidence that a log has signed two histories.
    Evidence,
    /// A statement without a signature.
    Statement,
    /// A Sigstore trusted root.
    TrustedRoot,
    /// Something else.
    Unknown,
}

/// The members that tell JSON files apart; everything else is skipped.
#[derive(Deserialize)]
struct Marks<'a> {
    #[serde(rename = "mediaType", borrow)]
    media_type: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "payloadType", borrow)]
    payload_type: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "_type", borrow)]
    statement_type: Option<std::borrow::Cow<'a, str>>,
    longrun_policy: Option<serde::de::IgnoredAny>,
    longrun_evidence: Option<serde::de::IgnoredAny>,
    attempts: Option<serde::de::IgnoredAny>,
}

impl FileKind {
    /// Looks at a file without verifying anything.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Self {
        if bytes.starts_with(MAGIC) {
            return Self::History;
        }
        if bytes.len() > FILE_BYTES_MAX {
            return Self::Unknown;
        }
        if !bytes.trim_ascii_start().starts_with(b"{") {
            if bytes.starts_with(HEADER.as_bytes()) {
                return Self::Proof;
            }
            let note = bytes.windows(5).any(|window| window == "\n— ".as_bytes());
            return if note {
                Self::Checkpoint
            } else {
                Self::Unknown
            };
        }
        let Ok(marks) = serde_json::from_slice::<Marks<'_>>(bytes) else {
            return Self::Unknown;
        };
        match marks {
            Marks {
                media_type: Some(kind),
                ..
            } if kind == MEDIA_TYPE => Self::Bundle,
            Marks {
                media_type: Some(kind),
                ..
            } if kind.contains("trustedroot") => Self::TrustedRoot,
            Marks {
                payload_type: Some(kind),
                ..
            } if kind == PAYLOAD_TYPE => Self::Envelope,
            Marks {
                longrun_policy: Some(_),
                ..
            } => Self::Policy,
            Marks {
                longrun_evidence: Some(_),
                ..
            } => Self::Evidence,
            Marks {
                attempts: Some(_), ..
            } => Self::Call,
            Marks {
                statement_type: Some(kind),
                ..
            } if kind == STATEMENT_TYPE => Self::Statement,
            _ => Self::Unknown,
        }
    }

    /// Why a file of this kind cannot be verified.
    pub(super) fn why_unusable(self) -> &'static str {
        match self {
            Self::Statement => "a statement without a signature proves nothing; give its bundle",
            Self::TrustedRoot => {
                "a Sigstore trusted root is for other tools; give --policy a trust policy"
            }
            _ => {
                "not a file that can be verified: expected a Sigstore bundle, a DSSE envelope, \
                 a checkpoint, a tlog-proof, a history, the answer of /longrun/v1/calls/<id>, \
                 evidence of a split view or a trust policy"
            }
        }
    }
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    attempts: Vec<Attempt<'a>>,
}

#[derive(Deserialize)]
struct Attempt<'a> {
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    bundles: Option<Signed<'a>>,
    #[serde(borrow, default)]
    envelopes: Option<Signed<'a>>,
}

/// What was signed about an attempt, as bundles or as envelopes.
#[derive(Deserialize)]
struct Signed<'a> {
    #[serde(borrow, default)]
    observation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    receipt: Option<&'a RawValue>,
}

impl<'a> Signed<'a> {
    fn named(self, number: usize) -> impl Iterator<Item = (String, &'a str)> {
        [("observation", self.observation), ("receipt", self.receipt)]
            .into_iter()
            .filter_map(move |(name, signed)| {
                Some((format!("attempt {number}, {name}"), signed?.get()))
            })
    }
}

/// What a gateway's answer about a call holds, with its places in it.
#[derive(Default)]
pub(super) struct Nested<'a> {
    pub(super) bundles: Vec<(String, &'a str)>,
    /// Of attempts that do not wait for a log.
    pub(super) envelopes: Vec<(String, &'a str)>,
}

impl<'a> Nested<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        let call: Call<'_> = serde_json::from_slice(bytes)?;
        let mut found = Self::default();
        for (number, attempt) in (1..).zip(call.attempts) {
            let waits = attempt.state.is_none_or(|it| it.get() == "\"pending\"");
            let bundles = attempt.bundles.into_iter();
            found
                .bundles
                .extend(bundles.flat_map(|it| it.named(number)));
            let envelopes = attempt.envelopes.into_iter().filter(|_| !waits);
            found
                .envelopes
                .extend(envelopes.flat_map(|it| it.named(number)));
        }
        Ok(found)
    }
}
