//! What became of every number of every stream, and which control records there are.
//!
//! Whoever writes a history makes the account from the log; whoever reads it makes it again from
//! the records in the file, and the two must be equal. So a number whose record was left out is
//! named, unless whoever left it out also changed the account: then it is named as missing.

use std::collections::BTreeMap;

use record::control::{Chain, LogPosition};
use record::void::Reason;
use record::{Endpoint, KeyId, NumberedKind, Predicate, Record, RecordId, SignerId, StreamId};
use serde::{Deserialize, Serialize};

use super::runs::Runs;

/// A stream: what it is about, its kind, and the key that signs it.
pub type StreamKey = (Endpoint, NumberedKind, KeyId);

/// The account of a set of records.
#[derive(Debug, Clone, Default)]
pub struct Account {
    streams: BTreeMap<StreamKey, Numbers>,
    chains: BTreeMap<SignerId, Chain>,
    /// The highest number of an observer's stream that a receipt names.
    named: BTreeMap<StreamKey, u64>,
}

/// The numbers of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// With a record.
    pub records: Runs,
    /// With more than one.
    pub doubled: Runs,
    /// Named by a void after a crash or because there was no room.
    pub voided: Runs,
    /// Named by a void as never used.
    pub unused: Runs,
}

impl Numbers {
    /// The highest number with a record or a void.
    #[must_use]
    pub fn highest(&self) -> u64 {
        let sets = [&self.records, &self.voided, &self.unused];
        sets.into_iter().map(Runs::highest).max().unwrap_or(0)
    }

    /// The numbers up to the highest with neither.
    #[must_use]
    pub fn missing(&self) -> Runs {
        let settled = self.records.with(&self.voided).with(&self.unused);
        settled.missing_up_to(self.highest())
    }
}

/// The account of one stream as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamAccount {
    /// The stream's id.
    pub stream: StreamId,
    /// The instance key that signs it.
    pub key: KeyId,
    /// Provider of the endpoint that it is about.
    pub provider: String,
    /// Model of that endpoint.
    pub model: String,
    /// `receipt` or `observation`.
    pub kind: String,
    /// Numbers with a record.
    pub records: Runs,
    /// Numbers with more than one record: equivocation, or one record logged twice.
    pub doubled: Runs,
    /// Numbers voided after a crash or because there was no room: unknown.
    pub voided: Runs,
    /// Numbers voided as never used.
    pub unused: Runs,
    /// Numbers up to the highest with neither record nor void: unknown.
    pub missing: Runs,
}

impl StreamAccount {
    fn new((endpoint, kind, key): &StreamKey, numbers: &Numbers) -> Self {
        let stream = record::Stream {
            key: *key,
            endpoint: endpoint.clone(),
            kind: *kind,
        };
        Self {
            stream: stream.id(),
            key: *key,
            provider: endpoint.provider.to_string(),
            model: endpoint.model.to_string(),
            kind: kind.as_str().to_owned(),
            records: numbers.records.clone(),
            doubled: numbers.doubled.clone(),
            voided: numbers.voided.clone(),
            unused: numbers.unused.clone(),
            missing: numbers.missing(),
        }
    }
}

/// The control records of one signer as they stand in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerAccount {
    /// Who.
    pub signer: SignerId,
    /// How many, numbered from 1 without gaps.
    pub controls: u64,
    /// The last one.
    pub head: RecordId,
}

impl Account {
    /// Adds a record; those of one signer in the order of the log. Control records that their
    /// chain refuses are part of no account: anybody can write one that names someone else.
    pub fn add(&mut self, record: &Record, index: u64) {
        if let Some((stream, seq)) = record.statement.numbered() {
            let key = (stream.endpoint, stream.kind, stream.key);
            let numbers = self.streams.entry(key).or_default();
            let seq = seq.number();
            if numbers.records.insert(seq, seq) > 0 {
                numbers.doubled.insert(seq, seq);
            }
        }
        match &record.statement.predicate {
            Predicate::Receipt(receipt) => {
                if let Some(caller) = &receipt.caller {
                    let endpoint = receipt.stream.endpoint.clone();
                    let key = (endpoint, NumberedKind::Observation, caller.observer);
                    let highest = self.named.entry(key).or_default();
                    *highest = caller.seq.number().max(*highest);
                }
            }
            Predicate::Void(void) => {
                let stream = void.stream(&record.statement.signer);
                let key = (stream.endpoint, stream.kind, stream.key);
                let numbers = self.streams.entry(key).or_default();
                let set = match void.reason {
                    Reason::Unused => &mut numbers.unused,
                    Reason::Crash | Reason::SpoolFull => &mut numbers.voided,
                };
                for range in &void.ranges {
                    set.insert(range.first.number(), range.last.number());
                }
            }
            Predicate::Control(_) => match self.chains.get_mut(&record.signer_id()) {
                // What a chain refuses leaves it as it was.
                Some(chain) => drop(chain.apply(record, index)),
                None => {
                    if let Ok(chain) = Chain::start(record, index) {
                        self.chains.insert(chain.signer(), chain);
                    }
                }
            },
            _ => {}
        }
    }

    /// How many streams there are, or are named by receipts if that is more.
    #[must_use]
    pub fn streams_count(&self) -> usize {
        self.streams.len().max(self.named.len())
    }

    /// Each stream's numbers, by endpoint, kind and key.
    pub fn streams(&self) -> impl Iterator<Item = StreamAccount> + '_ {
        let streams = self.streams.iter();
        streams.map(|(key, numbers)| StreamAccount::new(key, numbers))
    }

    /// Each signer's control records, by signer.
    pub fn signers(&self) -> impl Iterator<Item = SignerAccount> + '_ {
        self.chains.values().map(|chain| SignerAccount {
            signer: chain.signer(),
            controls: u64::try_from(chain.records().len()).unwrap_or(u64::MAX),
            head: chain.head(),
        })
    }

    /// The numbers of a stream.
    #[must_use]
    pub fn numbers(&self, stream: &StreamKey) -> Option<&Numbers> {
        self.streams.get(stream)
    }

    /// Whether the signer's control records, as far as they came, let this key sign at this place of
    /// the log.
    #[must_use]
    pub fn is_authorised(&self, record: &Record, origin: &str, index: u64) -> bool {
        let Some(chain) = self.chains.get(&record.signer_id()) else {
            return false;
        };
        let home = u32::try_from(chain.home_logs().len() - 1).unwrap_or(u32::MAX);
        let position = LogPosition { home, index };
        chain.home_log().as_str() == origin && chain.check(record, position).is_ok()
    }

    /// The signers' chains.
    #[must_use]
    pub fn chains(&self) -> &BTreeMap<SignerId, Chain> {
        &self.chains
    }

    /// Streams of observers of which receipts name higher numbers than there are records or
    /// voids: the stream, its highest number here, the highest one named.
    pub fn cut_tails(&self) -> impl Iterator<Item = (&StreamKey, u64, u64)> + '_ {
        self.named.iter().filter_map(|(key, named)| {
            let highest = self.streams.get(key).map_or(0, Numbers::highest);
            (*named > highest).then_some((key, highest, *named))
        })
    }
}
