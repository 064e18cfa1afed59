//! Making summaries: one pass over a log, for every observer and endpoint in it.
//!
//! Stretches end at multiples of [`ENTRIES_MAX`] and at the last whole bundle. A log that holds summaries of the
//! same signer already is carried on from them: what they cover is counted again (numbers are told from the
//! log's first entry on, and no fewer than were told before), and not said again. A chain that has nothing new
//! to say is carried on when it is [`ENTRIES_MAX`] behind.

use std::collections::{BTreeMap, BTreeSet};

use record::bucket::StartMs;
use record::control::LogOrigin;
use record::summary::{
    BUNDLE_ENTRIES, BundleCounts, ENTRIES_MAX, STREAMS_MAX, StreamNumbers, Summary,
};
use record::{Endpoint, KeyId, NumberedKind, Predicate, Record, RecordId, Seq, SignerId};

use super::{Counts, observed};
use crate::history::Selection;
use crate::history::account::{Account, Numbers};

/// Why no summaries can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// Too many instance keys for one summary.
    #[error(
        "observer {observer} used {streams} instance keys about {endpoint} within {ENTRIES_MAX} entries; one \
         summary has at most {STREAMS_MAX}"
    )]
    Streams {
        /// Whose.
        observer: SignerId,
        /// About what.
        endpoint: Box<Endpoint>,
        /// How many.
        streams: usize,
    },
    /// A record that no log takes.
    #[error(transparent)]
    Record(#[from] record::Error),
}

/// Summaries in the making.
#[derive(Debug)]
pub struct Maker {
    log: LogOrigin,
    signer: SignerId,
    selection: Selection,
    /// Whose observations; everybody's if nobody is named.
    observers: BTreeSet<SignerId>,
    /// Where the last whole bundle ends.
    end: u64,
    account: Account,
    /// Where the stretch under way ends.
    stretch_end: u64,
    pairs: BTreeMap<(SignerId, Endpoint), Pair>,
}

/// One observer and endpoint.
#[derive(Debug, Default)]
struct Pair {
    /// The last summary of them that the log holds: number, record id, where it ended.
    head: Option<(Seq, RecordId, u64)>,
    /// The numbers of each stream as the log's summaries told them last.
    told: BTreeMap<KeyId, StreamNumbers>,
    /// Whether the observer has observed the endpoint at all.
    has_records: bool,
    counts: BTreeMap<u64, Counts>,
    /// Keys with something in the stretch under way, and the last entry of each.
    touched: BTreeMap<KeyId, u64>,
    done: Vec<Part>,
}

/// What one stretch holds of a pair.
#[derive(Debug)]
struct Part {
    from: u64,
    to: u64,
    bundles: Vec<BundleCounts>,
    /// With the last entry of each.
    streams: Vec<(StreamNumbers, u64)>,
}

/// New summaries of one observer and endpoint, in order, to be signed one after the other: each names the one
/// before it, the first one that of [`Stretch::after`].
#[derive(Debug)]
pub struct Stretch {
    /// The last summary that the log holds already.
    pub after: Option<RecordId>,
    /// Without `previous` where that is not known yet.
    pub summaries: Vec<Summary>,
}

impl Maker {
    /// Nothing read yet of the first `size` entries of a log. `signer` will sign; only endpoints of the
    /// `selection` are summarised.
    #[must_use]
    pub fn new(log: LogOrigin, size: u64, signer: SignerId, selection: Selection) -> Self {
        Self {
            log,
            signer,
            selection,
            observers: BTreeSet::new(),
            end: size - size % BUNDLE_ENTRIES,
            account: Account::default(),
            stretch_end: ENTRIES_MAX,
            pairs: BTreeMap::new(),
        }
    }

    /// Summarises what these observed alone; with nobody named, what anybody did.
    #[must_use]
    pub fn of(self, observers: BTreeSet<SignerId>) -> Self {
        Self { observers, ..self }
    }

    /// A record of the log; they come in its order.
    ///
    /// # Errors
    /// [`MakeError::Streams`].
    pub fn record(&mut self, record: &Record, index: u64) -> Result<(), MakeError> {
        while index >= self.stretch_end && self.stretch_end < self.end {
            self.close_stretch(self.stretch_end)?;
            self.stretch_end += ENTRIES_MAX;
        }
        let is_control = matches!(record.statement.predicate, Predicate::Control(_));
        let origin = self.log.as_str();
        if !is_control && !self.account.is_authorised(record, origin, index) {
            return Ok(());
        }
        if let Predicate::Summary(summary) = &record.statement.predicate {
            self.known(summary, record);
        }
        if index >= self.end && !is_control {
            return Ok(());
        }
        self.account.add(record, index);
        let observer = record.signer_id();
        let endpoint = match &record.statement.predicate {
            Predicate::Observation(seen) => &seen.stream.endpoint,
            Predicate::Void(void) if void.stream.kind == NumberedKind::Observation => {
                &void.stream.endpoint
            }
            _ => return Ok(()),
        };
        let is_meant = self.observers.is_empty() || self.observers.contains(&observer);
        if !is_meant || !self.selection.names(endpoint) {
            return Ok(());
        }
        let pair = self.pairs.entry((observer, endpoint.clone())).or_default();
        pair.touched.insert(record.key().key_id(), index);
        if let Some((seen, _)) = observed(record) {
            pair.has_records = true;
            let bundle = index / BUNDLE_ENTRIES;
            pair.counts.entry(bundle).or_default().add(Counts::of(seen));
        }
        Ok(())
    }

    /// A summary of one's own that is in the log already.
    fn known(&mut self, summary: &Summary, record: &Record) {
        if record.signer_id() != self.signer || summary.log != self.log {
            return;
        }
        let key = (summary.observer, summary.endpoint.clone());
        let pair = self.pairs.entry(key).or_default();
        // The log holds them in the order of their numbers, or whoever reads them says so.
        pair.head = Some((summary.seq, record.id, summary.to));
        let told = summary.streams.iter().map(|told| (told.key, *told));
        pair.told.extend(told);
    }

    fn close_stretch(&mut self, to: u64) -> Result<(), MakeError> {
        let from = to.saturating_sub(1) / ENTRIES_MAX * ENTRIES_MAX;
        for ((observer, endpoint), pair) in &mut self.pairs {
            let touched = std::mem::take(&mut pair.touched);
            if touched.len() > STREAMS_MAX {
                return Err(MakeError::Streams {
                    observer: *observer,
                    endpoint: Box::new(endpoint.clone()),
                    streams: touched.len(),
                });
            }
            let streams = touched.into_iter().filter_map(|(key, last)| {
                let stream = (endpoint.clone(), NumberedKind::Observation, key);
                let numbers = self.account.numbers(&stream)?;
                Some((stream_numbers(key, numbers), last))
            });
            let counts = std::mem::take(&mut pair.counts);
            pair.done.push(Part {
                from,
                to,
                bundles: counts
                    .into_iter()
                    .filter_map(|(bundle, counts)| counts.bundle(bundle))
                    .collect(),
                streams: streams.collect(),
            });
        }
        Ok(())
    }

    /// The summaries that are not in the log yet, made at `at_ms`.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn finish(mut self, at_ms: StartMs) -> Result<Vec<Stretch>, MakeError> {
        while self.stretch_end < self.end {
            self.close_stretch(self.stretch_end)?;
            self.stretch_end += ENTRIES_MAX;
        }
        if self.end > 0 {
            self.close_stretch(self.end)?;
        }
        let (log, end) = (self.log, self.end);
        let pairs = self.pairs.into_iter();
        let made = pairs
            .filter(|(_, pair)| pair.has_records)
            .map(|(of, pair)| {
                let after = pair.head.map(|(_, id, _)| id);
                let summaries = pair.summaries(&log, of, at_ms, end)?;
                Ok(Stretch { after, summaries })
            });
        made.filter(|it| !matches!(it, Ok(stretch) if stretch.summaries.is_empty()))
            .collect()
    }
}

impl Pair {
    fn summaries(
        mut self,
        log: &LogOrigin,
        (observer, endpoint): (SignerId, Endpoint),
        at_ms: StartMs,
        end: u64,
    ) -> Result<Vec<Summary>, MakeError> {
        let (mut seq, mut from) = match self.head {
            Some((seq, _, to)) => (seq.number(), to),
            None => (0, 0),
        };
        let done = std::mem::take(&mut self.done);
        let mut parts: BTreeMap<u64, Part> =
            done.into_iter().map(|part| (part.from, part)).collect();
        let mut summaries = Vec::new();
        // Where the pair was not heard of yet there is no part, and a chain begins at 0 all the same.
        while from < end {
            let begin = from - from % ENTRIES_MAX;
            let to = begin.saturating_add(ENTRIES_MAX).min(end);
            let part = parts.remove(&begin);
            let (bundles, streams) = match part {
                Some(part) if part.to == to => (part.bundles, part.streams),
                _ => (Vec::new(), Vec::new()),
            };
            seq += 1;
            summaries.push(Summary {
                at_ms,
                log: log.clone(),
                endpoint: endpoint.clone(),
                observer,
                seq: Seq::new(seq)?,
                previous: None,
                from,
                to,
                bundles: bundles
                    .into_iter()
                    .filter(|it| it.bundle >= from / BUNDLE_ENTRIES)
                    .collect(),
                streams: streams
                    .into_iter()
                    .filter(|(_, last)| *last >= from)
                    .map(|(numbers, _)| match self.told.get(&numbers.key) {
                        Some(told) => at_least(numbers, *told),
                        None => numbers,
                    })
                    .collect(),
            });
            from = to;
        }
        // A chain with nothing new is carried on once in a while only: each step is a record in the log, and so
        // would be news to the next run.
        let is_quiet = summaries
            .iter()
            .all(|it| it.bundles.is_empty() && it.streams.is_empty());
        let is_near = |(_, _, to)| end.saturating_sub(to) < ENTRIES_MAX;
        if is_quiet && self.head.is_some_and(is_near) {
            summaries.clear();
        }
        Ok(summaries)
    }
}

/// Numbers as they were found, but no fewer than were told before: bodies may have been erased since, and what
/// was summarised of them stays told. What was erased later than it was logged and never summarised is missing.
fn at_least(found: StreamNumbers, told: StreamNumbers) -> StreamNumbers {
    let highest = found.highest.max(told.highest);
    let records = found.records.max(told.records);
    let voided = found.voided.max(told.voided);
    let unused = found.unused.max(told.unused);
    let settled = records.saturating_add(voided).saturating_add(unused);
    StreamNumbers {
        key: found.key,
        highest,
        records,
        voided,
        unused,
        missing: highest.saturating_sub(settled),
    }
}

fn stream_numbers(key: KeyId, numbers: &Numbers) -> StreamNumbers {
    StreamNumbers {
        key,
        highest: numbers.highest(),
        records: numbers.records.count(),
        voided: numbers.voided.count(),
        unused: numbers.unused.count(),
        missing: numbers.missing().count(),
    }
}
