//! `summary`: what a stretch of a log holds about an endpoint, counted by bundles of entries.
//!
//! For histories too large to carry their records. A summary says of every bundle of 256 entries how
//! many observations of one observer it holds and how they ended, so whoever can read the log
//! can draw bundles at random and count again. The records need no commitment of their own: a summary
//! speaks of places in the log, and the tree of the log commits to what is there.
//!
//! Summaries of one signer about one endpoint and observer form a chain from the log's first entry on, in which
//! nothing can be left out unseen; that a whole chain is missing does not show. A summary is a statement about records, never counted beside them.

use super::{Body, SubjectNames, Subjects, require_id, subject};
use crate::bucket::StartMs;
use crate::control::LogOrigin;
use crate::digest::{KeyId, RecordId, SignerId};
use crate::endpoint::{Endpoint, Provider, Seq, endpoint_digest};
use crate::error::{Code, Error, Result};
use crate::field::object;
use crate::statement::Signer;

/// Entries of one bundle, as C2SP tlog-tiles has them.
pub const BUNDLE_ENTRIES: u64 = 256;
/// Most entries of one summary.
pub const ENTRIES_MAX: u64 = 65_536;
/// Most streams of one summary; more take further summaries.
pub const STREAMS_MAX: usize = 64;

object! {
    /// A summary.
    pub struct Summary {
        /// When it was made, Unix ms to 10 s; a claim.
        pub at_ms: StartMs,
        /// The log whose entries are counted.
        pub log: LogOrigin,
        /// The endpoint that they are about.
        pub endpoint: Endpoint,
        /// Whose observations are counted.
        pub observer: SignerId,
        /// Its number in the chain of the signer's summaries of this log, endpoint and observer.
        pub seq: Seq,
        /// The summary before it; absent only in the first.
        pub previous: Option<RecordId>,
        /// The first entry that it covers.
        pub from: u64,
        /// The first entry that it does not cover any more.
        pub to: u64,
        /// The bundles in which there is something, in order.
        pub bundles: Vec<BundleCounts>,
        /// The streams that have a record or a void there, by key.
        pub streams: Vec<StreamNumbers>,
    }
    check check;
}

object! {
    /// The observations in one bundle.
    #[derive(Copy)]
    pub struct BundleCounts {
        /// The number of the bundle: its first entry by 256.
        pub bundle: u64,
        /// How many observations.
        pub calls: u32,
        /// Of these, with outcome ok.
        pub good: u32,
        /// Of these, with fault provider.
        pub bad: u32,
        /// Of these, rate-limited.
        pub rate_limited: u32,
    }
    check check;
}

object! {
    /// What became of an observer's numbers about the endpoint, from the log's first entry up to `to`.
    #[derive(Copy)]
    pub struct StreamNumbers {
        /// The instance key that signs the stream.
        pub key: KeyId,
        /// The highest number with a record or a void.
        pub highest: u64,
        /// Numbers with a record.
        pub records: u64,
        /// Numbers voided after a crash or for want of room.
        pub voided: u64,
        /// Numbers voided as never used.
        pub unused: u64,
        /// Numbers up to the highest with neither record nor void.
        pub missing: u64,
    }
    check check;
}

impl BundleCounts {
    fn check(&self) -> Result<()> {
        if self.calls == 0 || u64::from(self.calls) > BUNDLE_ENTRIES {
            let message = "1 to 256; a bundle without any is left out";
            return Err(Error::new(Code::BadValue, message).under("calls"));
        }
        let ended = [self.good, self.bad, self.rate_limited].map(u64::from);
        if ended.into_iter().sum::<u64>() > u64::from(self.calls) {
            return Err(contradiction("calls", "more of them ended than there are"));
        }
        Ok(())
    }
}

impl StreamNumbers {
    fn check(&self) -> Result<()> {
        let all = [self.records, self.voided, self.unused, self.missing];
        let settled = all.into_iter().fold(0, u64::saturating_add);
        // More than the highest where a number has a record and a void: its signer contradicts itself.
        if settled < self.highest || all.into_iter().any(|part| part > self.highest) {
            let message = "each number up to it is in one of the parts at least";
            return Err(contradiction("highest", message));
        }
        Ok(())
    }
}

impl Summary {
    fn check(&self) -> Result<()> {
        for (member, at) in [("from", self.from), ("to", self.to)] {
            if at % BUNDLE_ENTRIES != 0 {
                let message = "whole bundles of 256 entries are summarised";
                return Err(Error::new(Code::BadValue, message).under(member));
            }
        }
        if self.to <= self.from || self.to - self.from > ENTRIES_MAX {
            let message = format!("1 to {ENTRIES_MAX} entries after `from`");
            return Err(contradiction("to", &message));
        }
        let first = self.seq.number() == 1;
        if first != (self.from == 0) {
            return Err(contradiction("from", "the first of a chain begins at 0"));
        }
        if first == self.previous.is_some() {
            let message = "all but the first name the one before";
            return Err(contradiction("previous", message));
        }
        if self.endpoint.provider == Provider::Joined(self.observer) {
            let message = "nobody observes itself";
            return Err(contradiction("observer", message));
        }
        self.check_bundles()?;
        self.check_streams()
    }

    fn check_bundles(&self) -> Result<()> {
        let inside = self.from / BUNDLE_ENTRIES..self.to / BUNDLE_ENTRIES;
        let mut next = inside.start;
        for (index, counts) in self.bundles.iter().enumerate() {
            if counts.bundle < next || counts.bundle >= inside.end {
                let error = contradiction("bundle", "bundles of the stretch, in order, each once");
                return Err(error.at_index(index).under("bundles"));
            }
            next = counts.bundle + 1;
        }
        Ok(())
    }

    fn check_streams(&self) -> Result<()> {
        if self.streams.len() > STREAMS_MAX {
            let message = format!("at most {STREAMS_MAX} streams");
            return Err(Error::new(Code::BadValue, message).under("streams"));
        }
        for (index, pair) in self.streams.windows(2).enumerate() {
            if pair[0].key >= pair[1].key {
                let error = contradiction("key", "keys ascend, each once");
                return Err(error.at_index(index + 1).under("streams"));
            }
        }
        Ok(())
    }
}

impl Body for Summary {
    const SUBJECTS: SubjectNames = SubjectNames {
        positions: &[&["endpoint"]],
        required: 1,
    };

    /// `endpoint`, with the digest of its name: `docs/format.md` has the bytes.
    fn subjects(&self, _signer: &Signer) -> Result<Subjects> {
        let about = subject("endpoint", endpoint_digest(&self.endpoint))?;
        Ok(Subjects::Fixed(vec![about]))
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)
    }
}

fn contradiction(member: &str, message: &str) -> Error {
    Error::new(Code::Contradiction, message).under(member)
}
