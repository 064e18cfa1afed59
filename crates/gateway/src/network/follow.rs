//! Following a network's log: every entry is hashed, and nothing counts before all of them have the
//! root that the log signed. Bodies come from the part of the log that anyone may read.
//!
//! So a log cannot change or reorder what it said, and one that did is not followed further. It may
//! withhold a *body*, and with it a withdrawal or a revocation: nothing in a leaf says of which kind
//! its record is. An offer ends by itself within hours then. What comes over the wire damaged, or from
//! a copy that lags behind, is no contradiction: it is read again. The log is read from its beginning,
//! about half a kilobyte per record.

use std::collections::{BTreeMap, VecDeque};

use engine::http::Client;
use record::control::LogOrigin;
use record::leaf::leaf_hash;
use record::offer::{Book, Heard};
use record::{Digest, Envelope, KeyId, Predicate, Record, RecordId, sha256};
use serde::Deserialize;
use tlog::bundle::{decode_bodies, decode_entries};
use tlog::checkpoint::SignedCheckpoint;
use tlog::merkle::Frontier;
use tlog::note::{NOTE_BYTES_MAX, NoteVerifier};
use tlog::tile::{Span, WIDTH};

use crate::log_client::{ENTRIES_BYTES_MAX, LogClient, LogError, open};

/// Records that do not count which are told after a step, at most: the latest.
const REFUSED_MAX: usize = 8;
/// Offers that are kept as they were signed, bytes: some fifteen thousand. Who is left out when there are more is drawn by
/// lot, and not remembered over a restart.
const SAID_BYTES_MAX: usize = 16 << 20;
/// Largest bundle of bodies: control records, manifests and offers have less than 64 KiB each.
const BODIES_BYTES_MAX: usize = 257 << 16;

/// A log, as far as it was read.
pub(crate) struct Follower {
    log: LogClient,
    key: Option<NoteVerifier>,
    salt: [u8; 32],
    frontier: Frontier,
    book: Option<Book>,
    /// Whether what was read has the root of a checkpoint.
    agreed: bool,
    /// Whether the log has answered since the start, with a checkpoint under its key.
    answered: bool,
    /// The root that what was read did not have, the last time: if it differs once more, the log
    /// contradicts itself.
    doubted: Option<Digest>,
    /// Why it is not followed further.
    condemned: Option<String>,
    /// The keys that signed the latest records that do not count, and why those do not. Whose they
    /// claim to be is anybody's choice.
    refused: VecDeque<(KeyId, String)>,
    /// The latest offer of each key as it was signed, with its place, by a salted digest of the key.
    said: BTreeMap<Digest, Said>,
    said_bytes: usize,
}

struct Said {
    key: KeyId,
    index: u64,
    envelope: Envelope,
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("the network's log {0}")]
    Log(#[from] LogError),
    #[error("the network's log: its {what} cannot be used: {why}")]
    Unusable { what: &'static str, why: String },
    #[error("the network's log contradicts itself: {0}; no node is taken from it any more")]
    Contradiction(String),
}

impl Follower {
    pub(crate) fn new(log: LogClient, key: Option<NoteVerifier>, salt: [u8; 32]) -> Self {
        Self {
            log,
            key,
            salt,
            frontier: Frontier::default(),
            book: None,
            agreed: false,
            answered: false,
            doubted: None,
            condemned: None,
            refused: VecDeque::new(),
            said: BTreeMap::new(),
            said_bytes: 0,
        }
    }

    /// What stands, as of the last checkpoint that everything agreed with; `None` while that is not
    /// known.
    pub(crate) fn book(&self) -> Option<&Book> {
        self.book.as_ref().filter(|_| self.agreed)
    }

    /// The latest records that turned out not to count, each told once.
    pub(crate) fn refused(&mut self) -> impl Iterator<Item = (KeyId, String)> + '_ {
        self.refused.drain(..)
    }

    /// Entries that were read.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Whether the log has answered since the start, with a checkpoint under its key.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered
    }

    /// The log's key, once it is known.
    pub(crate) fn key(&self) -> Option<&NoteVerifier> {
        self.key.as_ref()
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.is_some()
    }

    /// An offer as it was signed, and its place, if it is the latest of its key and was kept.
    pub(crate) fn said(&self, key: &KeyId, offer: RecordId) -> Option<(u64, &Envelope)> {
        let said = self.said.get(&self.rank(key))?;
        (said.envelope.record_id() == offer).then_some((said.index, &said.envelope))
    }

    /// Lets go of offers of keys that are not meant.
    pub(crate) fn keep_said(&mut self, of: impl Fn(&KeyId) -> bool) {
        self.said.retain(|_, said| of(&said.key));
        let bytes = self.said.values().map(|it| it.envelope.payload().len());
        self.said_bytes = bytes.sum();
    }

    fn keep(&mut self, record: &Record, index: u64) {
        let key = record.key().key_id();
        let envelope = record.envelope.clone();
        self.said_bytes += envelope.payload().len();
        let said = Said {
            key,
            index,
            envelope,
        };
        let mut gone = self.said.insert(self.rank(&key), said);
        loop {
            if let Some(gone) = gone {
                self.said_bytes -= gone.envelope.payload().len();
            }
            if self.said_bytes <= SAID_BYTES_MAX {
                return;
            }
            gone = self.said.pop_last().map(|(_, said)| said);
        }
    }

    fn rank(&self, key: &KeyId) -> Digest {
        sha256(&[self.salt.as_slice(), key.as_bytes()].concat())
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// [`FollowError`]; after a contradiction always that one.
    pub(crate) async fn step(&mut self, client: &Client) -> Result<(), FollowError> {
        if let Some(why) = &self.condemned {
            return Err(FollowError::Contradiction(why.clone()));
        }
        let stepped = self.read_on(client).await;
        if let Err(FollowError::Contradiction(why)) = &stepped {
            (self.condemned, self.book, self.agreed) = (Some(why.clone()), None, false);
        }
        stepped
    }

    async fn read_on(&mut self, client: &Client) -> Result<(), FollowError> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => self.ask_key(client).await?,
        };
        if self.book.is_none() {
            let origin = LogOrigin::new(key.name()).map_err(|e| unusable("origin", &e))?;
            self.book = Some(Book::new(origin, self.salt));
        }
        let note = self.log.get(client, "/checkpoint", NOTE_BYTES_MAX).await?;
        let signed = SignedCheckpoint::open(&note, &key).map_err(|e| unusable("checkpoint", &e))?;
        self.answered = true;
        let (target, have) = (signed.checkpoint(), self.frontier.size());
        if target.size < have {
            let why = format!("an old one of {} entries; {have} were read", target.size);
            return Err(unusable("checkpoint", &why));
        }
        while self.frontier.size() < target.size {
            self.agreed = false;
            let next = Span::of_leaf(self.frontier.size(), target.size);
            let span = next.ok_or_else(|| unusable("size", &"no bundle holds its end"))?;
            let entries = format!("/tile/entries/{span}");
            let bodies = format!("/longrun/v1/public/{span}");
            let entries = self.log.get(client, &entries, ENTRIES_BYTES_MAX).await?;
            let bodies = self.log.get(client, &bodies, BODIES_BYTES_MAX).await?;
            if let Err(why) = self.take(span, &entries, &bodies)? {
                return Err(self.doubt(target.root, why));
            }
            // Hundreds of signatures were verified: others want to run too.
            tokio::task::yield_now().await;
        }
        if self.frontier.root() != target.root {
            let size = self.frontier.size();
            let why = format!("its first {size} entries do not have the root it signed");
            return Err(self.doubt(target.root, why));
        }
        (self.agreed, self.doubted) = (true, None);
        Ok(())
    }

    /// What was read does not fit: it is read from the beginning once more, and then believed to be
    /// what the log says.
    fn doubt(&mut self, root: Digest, why: String) -> FollowError {
        if self.doubted == Some(root) {
            return FollowError::Contradiction(why);
        }
        self.doubted = Some(root);
        (self.frontier, self.book, self.agreed) = (Frontier::default(), None, false);
        unusable("entries", &why)
    }

    /// Takes up a bundle; the inner error is why a body does not fit its entry.
    fn take(
        &mut self,
        span: Span,
        entries: &[u8],
        bodies: &[u8],
    ) -> Result<Result<(), String>, FollowError> {
        let entries = decode_entries(entries, span.width()).map_err(|e| unusable("entries", &e))?;
        let bodies = decode_bodies(bodies, span.width()).map_err(|e| unusable("bodies", &e))?;
        let first = span.index() * u64::from(WIDTH);
        for ((place, entry), body) in (first..).zip(entries).zip(bodies) {
            if place < self.frontier.size() {
                continue;
            }
            self.frontier.push(leaf_hash(entry));
            let (Some(body), Some(book)) = (body, &mut self.book) else {
                continue;
            };
            let record = match open(entry, body) {
                Ok(record) => record,
                Err(error) => return Ok(Err(format!("entry {place}: {error}"))),
            };
            let why = match book.hear(&record, place) {
                Heard::Taken => {
                    if matches!(record.statement.predicate, Predicate::Offer(_)) {
                        self.keep(&record, place);
                    }
                    continue;
                }
                Heard::Passed => continue,
                Heard::Contradicted => {
                    "two offers of its key have the same number and say different \
                                        things; neither is used"
                        .to_owned()
                }
                Heard::Refused(why) => why.to_string(),
            };
            tracing::debug!(place, why, "a record of a network does not count");
            if self.refused.len() >= REFUSED_MAX {
                self.refused.pop_front();
            }
            self.refused.push_back((record.key().key_id(), why));
        }
        Ok(Ok(()))
    }

    async fn ask_key(&mut self, client: &Client) -> Result<NoteVerifier, FollowError> {
        #[derive(Deserialize)]
        struct About {
            vkey: String,
        }
        let about = self
            .log
            .get(client, "/longrun/v1/log", NOTE_BYTES_MAX)
            .await?;
        let about: About =
            serde_json::from_slice(&about).map_err(|e| unusable("description", &e))?;
        let key = NoteVerifier::from_vkey(&about.vkey).map_err(|e| unusable("key", &e))?;
        let (url, vkey) = (self.log.url(), &about.vkey);
        tracing::warn!(
            url,
            vkey,
            "no key was configured for the network's log; taking the one that it names"
        );
        self.key = Some(key.clone());
        Ok(key)
    }
}

fn unusable(what: &'static str, why: &dyn std::fmt::Display) -> FollowError {
    let why = why.to_string();
    FollowError::Unusable { what, why }
}
