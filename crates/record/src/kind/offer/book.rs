//! Which offers stand: the fold of one log's control records and offers.
//!
//! Pure: feed it the records of the log in their order, with their places. It keeps the chains of
//! providers and, for each instance key, the offer with the highest number. What it keeps is
//! bounded: beyond [`BOOK_BYTES_MAX`] of statements, providers are dropped whose salted digest is
//! highest. Who floods a log cannot choose his digests, because the salt is the reader's own, so a
//! provider is as likely to stay among ten thousand false ones as each of them.

use std::collections::BTreeMap;

use super::Offer;
use crate::control::{Action, Chain, Control, LogOrigin, LogPosition};
use crate::digest::{Digest, KeyId, RecordId, SignerId, sha256};
use crate::error::{Code, Error};
use crate::key::PublicKey;
use crate::kind::Predicate;
use crate::statement::Record;

/// Bytes of signed statements that a book keeps, at most: some fifteen thousand providers.
pub const BOOK_BYTES_MAX: usize = 48 << 20;
/// Bytes of one provider's statements, at most; who has more is dropped.
pub const PROVIDER_BYTES_MAX: usize = 1 << 20;
/// Instance keys of one provider whose offers are kept, at most.
pub const KEYS_MAX: usize = 256;
/// How long before its time an offer is taken, ms: clocks differ.
pub const VALID_EARLY_MS: u64 = 10 * 60 * 1000;
/// The role of a signer that may offer.
const PROVIDER: &str = "provider";

/// The offers of one log.
#[derive(Debug, Clone)]
pub struct Book {
    origin: LogOrigin,
    salt: [u8; 32],
    bytes_max: usize,
    bytes: usize,
    /// By salted digest.
    providers: BTreeMap<Digest, Kept>,
    dropped: u64,
}

/// What is kept of one provider.
#[derive(Debug, Clone)]
struct Kept {
    chain: Chain,
    bytes: usize,
    offers: BTreeMap<KeyId, Held>,
}

/// The highest number of a key, and what it says.
#[derive(Debug, Clone)]
struct Held {
    record: RecordId,
    seq: u64,
    bytes: usize,
    /// `None`: withdrawn, or two records with this number.
    offer: Option<Box<Offer>>,
}

/// An offer that stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Whose.
    pub provider: SignerId,
    /// The key that signed it, and that its address must prove.
    pub key: &'a PublicKey,
    /// The offer's record.
    pub record: RecordId,
    /// The offer.
    pub offer: &'a Offer,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It changed what stands.
    Taken,
    /// It is of no concern here, known already, or older than what is known.
    Passed,
    /// The same key has another offer with this number: neither is used.
    Contradicted,
    /// It does not count, and why.
    Refused(Error),
}

impl Book {
    /// An empty book for the log with this origin. `salt` decides who is dropped when there are too
    /// many; make it anew for each book and keep it to yourself.
    pub fn new(origin: LogOrigin, salt: [u8; 32]) -> Self {
        Self::bounded(origin, salt, BOOK_BYTES_MAX)
    }

    /// [`Book::new`] with another bound.
    pub fn bounded(origin: LogOrigin, salt: [u8; 32], bytes_max: usize) -> Self {
        Self {
            origin,
            salt,
            bytes_max,
            bytes: 0,
            providers: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Takes the next record of the log, whose signature was verified, at place `index`.
    pub fn hear(&mut self, record: &Record, index: u64) -> Heard {
        let heard = match &record.statement.predicate {
            Predicate::Control(control) => self.hear_control(record, control, index),
            Predicate::Offer(offer) => self.hear_offer(record, offer, index),
            _ => Heard::Passed,
        };
        self.keep_bounds(&record.signer_id());
        heard
    }

    /// Drops the provider that was heard last if it alone is too large, then the last by rank.
    fn keep_bounds(&mut self, heard: &SignerId) {
        let rank = self.rank(heard);
        let large = self.providers.get(&rank).map_or(0, |kept| kept.bytes) > PROVIDER_BYTES_MAX;
        let mut gone = large.then(|| self.providers.remove(&rank)).flatten();
        loop {
            if let Some(gone) = gone {
                self.bytes -= gone.bytes;
                self.dropped += 1;
            }
            if self.bytes <= self.bytes_max {
                return;
            }
            gone = self.providers.pop_last().map(|(_, kept)| kept);
        }
    }

    fn hear_control(&mut self, record: &Record, control: &Control, index: u64) -> Heard {
        let rank = self.rank(&record.signer_id());
        let bytes = record.envelope.payload().len();
        let Some(kept) = self.providers.get_mut(&rank) else {
            let Action::Create(create) = &control.action else {
                return Heard::Passed;
            };
            let offers = create.roles.iter().any(|role| role.as_str() == PROVIDER);
            // A signer whose home was elsewhere first is not known whole.
            if !offers || create.home_log != self.origin {
                return Heard::Passed;
            }
            return match Chain::start(record, index) {
                Ok(chain) => {
                    let offers = BTreeMap::new();
                    self.bytes += bytes;
                    self.providers.insert(
                        rank,
                        Kept {
                            chain,
                            bytes,
                            offers,
                        },
                    );
                    Heard::Taken
                }
                Err(error) => Heard::Refused(error),
            };
        };
        match kept.chain.apply(record, index) {
            Ok(true) => {
                kept.bytes += bytes;
                self.bytes += bytes;
                Heard::Taken
            }
            Ok(false) => Heard::Passed,
            Err(error) => Heard::Refused(error),
        }
    }

    fn hear_offer(&mut self, record: &Record, offer: &Offer, index: u64) -> Heard {
        let rank = self.rank(&record.signer_id());
        let Some(kept) = self.providers.get_mut(&rank) else {
            let message = "this log has no control records of its signer";
            return Heard::Refused(Error::new(Code::NotAuthorised, message));
        };
        if let Err(error) = kept.check(&self.origin, record, index) {
            return Heard::Refused(error);
        }
        let key = record.key().key_id();
        let seq = offer.seq.number();
        let mut bytes = record.envelope.payload().len();
        let mut heard = Heard::Taken;
        let mut offer = (!offer.withdrawn).then(|| Box::new(offer.clone()));
        if let Some(held) = kept.offers.get(&key) {
            if seq < held.seq || record.id == held.record {
                return Heard::Passed;
            }
            if seq == held.seq {
                (offer, bytes) = (None, 0);
                heard = Heard::Contradicted;
            }
        } else if kept.offers.len() >= KEYS_MAX {
            let message = format!("more than {KEYS_MAX} keys of one provider make offers");
            return Heard::Refused(Error::new(Code::TooManyItems, message));
        }
        let held = Held {
            record: record.id,
            seq,
            bytes,
            offer,
        };
        let before = kept.offers.insert(key, held).map_or(0, |held| held.bytes);
        kept.bytes = kept.bytes + bytes - before;
        self.bytes = self.bytes + bytes - before;
        heard
    }

    /// The offers that stand at `now_ms`: not withdrawn, not contradicted, within their time, by
    /// keys that are valid now, of providers whose home this log still is.
    pub fn standing(&self, now_ms: u64) -> impl Iterator<Item = Standing<'_>> {
        let here = |kept: &&Kept| kept.chain.home_log() == &self.origin;
        self.providers.values().filter(here).flat_map(move |kept| {
            kept.chain.valid_instances().filter_map(move |span| {
                let held = kept.offers.get(&span.key.key_id())?;
                let offer = held.offer.as_deref()?;
                let begun = offer.from_ms.ms() <= now_ms.saturating_add(VALID_EARLY_MS);
                (begun && now_ms < offer.until_ms.ms()).then_some(Standing {
                    provider: kept.chain.signer(),
                    key: &span.key,
                    record: held.record,
                    offer,
                })
            })
        })
    }

    /// What the control records of a provider say.
    pub fn chain(&self, provider: &SignerId) -> Option<&Chain> {
        let kept = self.providers.get(&self.rank(provider))?;
        Some(&kept.chain)
    }

    /// Providers that are kept.
    pub fn providers(&self) -> usize {
        self.providers.len()
    }

    /// Providers that were dropped because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn rank(&self, provider: &SignerId) -> Digest {
        sha256(&[self.salt.as_slice(), provider.as_bytes()].concat())
    }
}

impl Kept {
    fn check(&self, origin: &LogOrigin, record: &Record, index: u64) -> Result<(), Error> {
        if self.chain.home_log() != origin {
            let message = format!("the home log of its signer is {}", self.chain.home_log());
            return Err(Error::new(Code::NotAuthorised, message));
        }
        let position = LogPosition {
            home: self.chain.position().home,
            index,
        };
        self.chain.check(record, position)
    }
}

#[cfg(test)]
mod tests;
