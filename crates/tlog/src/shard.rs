//! From one shard of a log to the next: the old log's last checkpoint and the new log's key, signed
//! by both logs.
//!
//! ```json
//! {"longrun_shard": 1, "link": "<note>", "final": "<note>"}
//! ```
//!
//! `final` is the old log's last checkpoint, verbatim with its cosignatures. `link` is a signed note
//! of the lines
//!
//! ```text
//! longrun log shard v1
//! old <verifier key>
//! size <entries in the old log>
//! root <base64>
//! new <verifier key>
//! url <where the new log is>
//! ```
//!
//! (without the last if that is not known). No checkpoint can be taken for it, because its first
//! line is no origin of these keys and its second no size. The old log's signature says that it
//! takes nothing after `size` and which log goes on; the new log's that it does go on. Whoever
//! trusts the old key so learns the new one, from files alone. The two logs have two trees: nothing
//! is proven in one by the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::Digest;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointError, SignedCheckpoint, decode_hash};
use crate::note::{Note, NoteError, NoteSigner, NoteVerifier};
use crate::tile::parse_decimal;

/// The only version there is.
pub const SHARD_VERSION: u32 = 1;
/// Bytes of the largest link that is read.
pub const LINK_BYTES_MAX: usize = 2 * 1024 * 1024;
const FIRST_LINE: &str = "longrun log shard v1";

/// Why a link was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It is not of this form.
    #[error("not a link between shards: {0}")]
    Malformed(String),
    /// The note, or a signature on it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The old log's last checkpoint.
    #[error("the final checkpoint: {0}")]
    Final(#[from] CheckpointError),
    /// The link and the last checkpoint say different things.
    #[error("the final checkpoint is not the one that the link names")]
    OtherFinal,
    /// A log cannot follow itself.
    #[error("the two logs must have different names and different keys")]
    SameLog,
}

/// A link that holds: both logs signed it, and the last checkpoint is the old log's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    old: NoteVerifier,
    new: NoteVerifier,
    url: Option<String>,
    last: SignedCheckpoint,
    note: Note,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    longrun_shard: u32,
    link: String,
    r#final: String,
}

/// What the lines of a link say.
struct Said<'a> {
    old: &'a str,
    size: u64,
    root: Digest,
    new: &'a str,
    url: Option<&'a str>,
}

impl Link {
    /// Ends the old log at its last checkpoint and names the new one. Whoever calls this sees to it
    /// that the old log takes nothing more.
    ///
    /// # Errors
    /// [`LinkError`] if the checkpoint is not the old log's, the two are one log, or the address
    /// cannot be written in a line.
    pub fn sign(
        old: &NoteSigner,
        new: &NoteSigner,
        last: &SignedCheckpoint,
        url: Option<&str>,
    ) -> Result<Self, LinkError> {
        last.verify(&old.verifier())?;
        let checkpoint = last.checkpoint();
        let mut text = format!(
            "{FIRST_LINE}\nold {}\nsize {}\nroot {}\nnew {}\n",
            old.verifier().to_vkey(),
            checkpoint.size,
            STANDARD.encode(checkpoint.root.as_bytes()),
            new.verifier().to_vkey()
        );
        if let Some(url) = url {
            text += &format!("url {url}\n");
        }
        let mut note = Note::new(text)?;
        old.sign(&mut note);
        new.sign(&mut note);
        Self::of(note, last.clone())
    }

    /// Reads a link and checks everything that it says, but not whether its logs are known.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LinkError> {
        if bytes.len() > LINK_BYTES_MAX {
            return Err(LinkError::Malformed("it is too large".to_owned()));
        }
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| LinkError::Malformed(error.to_string()))?;
        if file.longrun_shard != SHARD_VERSION {
            return Err(LinkError::Malformed(format!(
                "version {}; this program reads {SHARD_VERSION}",
                file.longrun_shard
            )));
        }
        let note = Note::parse(file.link.as_bytes())?;
        Self::of(note, SignedCheckpoint::parse(file.r#final.as_bytes())?)
    }

    fn of(note: Note, last: SignedCheckpoint) -> Result<Self, LinkError> {
        let said = Said::read(note.text())
            .ok_or_else(|| LinkError::Malformed("its lines are others".to_owned()))?;
        let old = NoteVerifier::from_vkey(said.old)?;
        let new = NoteVerifier::from_vkey(said.new)?;
        if old.name() == new.name() || old.public() == new.public() {
            return Err(LinkError::SameLog);
        }
        for key in [&old, &new] {
            if !note.is_signed_by(key)? {
                return Err(NoteError::Unsigned.into());
            }
        }
        last.verify(&old)?;
        let checkpoint = last.checkpoint();
        if (checkpoint.size, checkpoint.root) != (said.size, said.root) {
            return Err(LinkError::OtherFinal);
        }
        Ok(Self {
            url: said.url.map(str::to_owned),
            old,
            new,
            last,
            note,
        })
    }

    /// The file, in JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = File {
            longrun_shard: SHARD_VERSION,
            link: self.note.to_string(),
            r#final: self.last.note().to_string(),
        };
        // Strings can always be written.
        let mut bytes = serde_json::to_vec_pretty(&file).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The log that ended.
    #[must_use]
    pub fn predecessor(&self) -> &NoteVerifier {
        &self.old
    }

    /// The log that goes on.
    #[must_use]
    pub fn successor(&self) -> &NoteVerifier {
        &self.new
    }

    /// Where the log that goes on is, as far as was known.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The old log's last checkpoint, with its cosignatures.
    #[must_use]
    pub fn last(&self) -> &SignedCheckpoint {
        &self.last
    }

    /// Entries in the old log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.last.checkpoint().size
    }
}

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut item = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let said = Self {
            old: item("old")?,
            size: parse_decimal(item("size")?)?,
            root: decode_hash(item("root")?)?,
            new: item("new")?,
            url: None,
        };
        let url = match lines.next() {
            Some(line) => Some(line.strip_prefix("url ").filter(|url| !url.is_empty())?),
            None => None,
        };
        lines.next().is_none().then_some(Self { url, ..said })
    }
}
