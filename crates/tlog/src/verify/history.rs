//! Does this history hold, and is everything in it that it says is in it?
//!
//! Records are [opened](open) one by one, which costs nearly all of the time and may be done on
//! several threads, and handed to a [`HistoryCheck`] in their order. It names what does not hold:
//! which entry of the log, which record, which numbers of which stream. Folding them is the
//! business of whoever calls; only records that opened may be folded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use record::control::Chain;
use record::leaf::{Leaf, leaf_body};
use record::{Digest, Envelope, KeyId, Predicate, Record, SignerId, StreamId};
use serde::Serialize;

use super::place::CheckpointFacts;
use super::report::{Draft, Report, Verdict};
use crate::checkpoint::SignedCheckpoint;
use crate::history::account::{Account, SignerAccount, StreamAccount};
use crate::history::runs::Runs;
use crate::history::{ErasedItem, Header, HistoryError, HistoryReader, Item, Place, Selection};
use crate::merkle::leaf_hash;
use crate::multiproof::{MultiProofError, Rebuild};
use crate::policy::TrustPolicy;
use crate::summary::{BUNDLES_MAX, CHAINS_MAX, Summaries};

mod finding;
mod spot;
mod trust;

pub use finding::{Finding, Findings, LISTED_MAX};
pub use spot::{Sample, miss, sample_size};

/// Streams in one history, and as many again that receipts name: each takes up to 26 KB where it is
/// folded. Beyond that, select endpoints and check several files.
pub const STREAMS_MAX: usize = 20_000;
/// Signers in one history.
pub const SIGNERS_MAX: usize = 20_000;

/// A record out of a history, and the leaf that it must have in the log.
#[derive(Debug)]
pub struct Opened {
    /// The record, if its signature holds or was not looked at.
    pub record: Result<Record, record::Error>,
    /// Whether the signature was looked at.
    pub checked: bool,
    /// The hash of its leaf, if the statement names a key.
    pub leaf_hash: Option<Digest>,
}

/// Reads a record and verifies its signature. Pure, and by far the most costly part.
#[must_use]
pub fn open(signature: Vec<u8>, statement: Vec<u8>) -> Opened {
    open_if(true, signature, statement)
}

/// As [`open`], but the signature is verified only if the record was drawn, or is a control record:
/// everything else rests on those.
#[must_use]
pub fn open_if(drawn: bool, signature: Vec<u8>, statement: Vec<u8>) -> Opened {
    let unread = Envelope::new(statement, signature);
    let record = match unread.and_then(Envelope::open_unverified) {
        Ok(record) => record,
        Err(error) => {
            return Opened {
                record: Err(error),
                checked: true,
                leaf_hash: None,
            };
        }
    };
    let leaf_hash = Some(leaf_hash(&leaf_body(&record.envelope, record.key())));
    let checked = drawn || matches!(record.statement.predicate, Predicate::Control(_));
    let verified = if checked {
        record.envelope.verify(record.key())
    } else {
        Ok(())
    };
    Opened {
        record: verified.map(|()| record),
        checked,
        leaf_hash,
    }
}

/// What a history turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryReport {
    /// Every check by name, and the verdict.
    #[serde(flatten)]
    pub report: Report,
    /// The log.
    pub origin: String,
    /// Entries that the checkpoint covers.
    pub size: u64,
    /// Whether the history is of every entry up to there.
    pub whole: bool,
    /// Records in the file.
    pub records: u64,
    /// Records whose signatures were not looked at, because they were not drawn.
    pub unchecked: u64,
    /// Entries whose body was erased.
    pub erased: u64,
    /// What does not hold, by name; the first of them.
    pub findings: Vec<Finding>,
    /// The numbers of each stream.
    pub streams: Vec<StreamAccount>,
    /// The control records of each signer.
    pub signers: Vec<SignerAccount>,
}

impl HistoryReport {
    /// Whether nothing in the file is wrong, trusted or not.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(
            self.report.verdict,
            Verdict::Valid | Verdict::IntactButUntrusted
        )
    }
}

/// Bundles of a log that were counted again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CountedAgain {
    /// How many were drawn.
    pub drawn: u64,
    /// Of how many.
    pub of: u64,
    /// How many of those drawn were compared with a chain whose signer and observer the policy names.
    pub compared: u64,
    /// How many of those compared could not be counted in full, because bodies of the observer are erased.
    pub forgiven: u64,
    /// The calls that were said of them and not found. Whether they were is not shown.
    pub forgiven_calls: u64,
}

/// A history being verified.
#[derive(Debug)]
pub struct HistoryCheck {
    header: Header,
    /// The tree as far as it goes; `None` once something in it does not fit.
    rebuild: Option<Rebuild>,
    last: Option<u64>,
    account: Account,
    records: u64,
    unchecked: u64,
    erased: u64,
    /// The keys that signed what was erased.
    erased_keys: BTreeSet<KeyId>,
    unauthorised: u64,
    passed_over: u64,
    unauthorised_signer: Option<SignerId>,
    /// What is in the file and was not told of yet; made once all records are there. What is told is
    /// compared as it comes and not kept, so that it takes no memory.
    untold_streams: Option<BTreeMap<StreamId, StreamAccount>>,
    untold_signers: Option<BTreeMap<SignerId, SignerAccount>>,
    summaries: Summaries,
    recounted: Option<CountedAgain>,
    findings: Findings,
}

impl HistoryCheck {
    /// Starts with the header.
    #[must_use]
    pub fn new(header: Header) -> Self {
        let size = header.checkpoint.checkpoint().size;
        Self {
            header,
            rebuild: Some(Rebuild::new(size)),
            last: None,
            account: Account::default(),
            records: 0,
            unchecked: 0,
            erased: 0,
            erased_keys: BTreeSet::new(),
            unauthorised: 0,
            passed_over: 0,
            unauthorised_signer: None,
            untold_streams: None,
            untold_signers: None,
            summaries: Summaries::default(),
            recounted: None,
            findings: Findings::default(),
        }
    }

    /// A record in its place.
    pub fn record(&mut self, place: &Place, opened: &Opened) {
        let index = place.index;
        self.records += 1;
        self.unchecked += u64::from(!opened.checked);
        self.place(place, opened.leaf_hash);
        match &opened.record {
            Ok(record) => self.opened(record, index),
            Err(error) => self.findings.entry("signature", index, error.to_string()),
        }
    }

    /// Whether what was taken so far is within the limits of one history.
    ///
    /// # Errors
    /// [`HistoryError::TooLarge`]; no more is to be read of such a file.
    pub fn is_within_limits(&self) -> Result<(), HistoryError> {
        let (streams, signers) = (self.account.streams_count(), self.account.chains().len());
        if !self.summaries.is_within_limits() {
            return Err(HistoryError::TooLarge(format!(
                "it has more than {CHAINS_MAX} chains of summaries, or they tell of more than {BUNDLES_MAX} \
                 bundles: select endpoints, and check several files"
            )));
        }
        if streams <= STREAMS_MAX && signers <= SIGNERS_MAX {
            return Ok(());
        }
        Err(HistoryError::TooLarge(format!(
            "it has records of more than {STREAMS_MAX} streams or {SIGNERS_MAX} signers, too many \
             for one history: select endpoints, and check several files"
        )))
    }

    /// An entry whose body was erased, in its place.
    pub fn erased(&mut self, item: &ErasedItem) {
        self.erased += 1;
        match Leaf::parse(&item.leaf) {
            Ok(leaf) => {
                self.erased_keys.insert(leaf.key.key_id());
            }
            Err(error) => {
                let index = item.place.index;
                self.findings.entry("leaf", index, error.to_string());
            }
        }
        self.place(&item.place, Some(leaf_hash(&item.leaf)));
    }

    /// The hashes after the last entry.
    pub fn tail(&mut self, gap: &[Digest]) {
        let end = self.size();
        self.skip(end, gap);
    }

    /// The account of a stream, as the file tells it after all of its records.
    pub fn stream(&mut self, told: &StreamAccount) {
        let account = &self.account;
        let untold = self
            .untold_streams
            .get_or_insert_with(|| by_stream(account));
        let found = untold.remove(&told.stream);
        let found = found.unwrap_or_else(|| without_numbers(told));
        if found != *told {
            self.compare_stream(told, &found);
        }
    }

    /// The account of a signer, as the file tells it after all of its records.
    pub fn signer(&mut self, told: &SignerAccount) {
        let account = &self.account;
        let untold = self
            .untold_signers
            .get_or_insert_with(|| by_signer(account));
        let found = untold.remove(&told.signer);
        if found.as_ref() != Some(told) {
            let there = found.map_or(0, |found| found.controls);
            let why = format!(
                "signer {} has {} control records by the account, the last of them {}; {there} \
                 are in the file",
                told.signer, told.controls, told.head
            );
            self.findings.file("numbers", why);
        }
    }

    /// The file cannot be read further.
    pub fn broken(&mut self, error: &HistoryError) {
        self.rebuild = None;
        self.findings.file("format", error.to_string());
    }

    fn size(&self) -> u64 {
        self.header.checkpoint.checkpoint().size
    }

    fn place(&mut self, place: &Place, leaf: Option<Digest>) {
        let Place {
            index,
            from,
            ref gap,
        } = *place;
        if let Some(last) = self.last.filter(|last| index <= *last) {
            let why = if index == last {
                "it is there twice".to_owned()
            } else {
                format!("it comes after entry {last}: entries are in the order of the log")
            };
            self.findings.entry("order", index, why);
            self.rebuild = None;
            return;
        }
        let next = self.last.map_or(0, |last| last + 1);
        if from > next && from <= index {
            let why = "the file had some of them in this place, and they are not here".to_owned();
            self.findings.gap("order", &(next..from), why);
            self.rebuild = None;
        } else if from != next {
            let why = format!("it says that it follows entry {}", from.wrapping_sub(1));
            self.findings.entry("order", index, why);
            self.rebuild = None;
        }
        self.skip(index, gap);
        self.last = Some(index);
        let Some(rebuild) = &mut self.rebuild else {
            return;
        };
        match leaf.map(|leaf| rebuild.leaf(leaf)) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.findings.entry("inclusion", index, error.to_string());
                self.rebuild = None;
            }
            // What cannot be read is named already, by its signature.
            None => self.rebuild = None,
        }
    }

    fn skip(&mut self, to: u64, hashes: &[Digest]) {
        let from = self.last.map_or(0, |last| last + 1);
        if to > from {
            self.passed_over += to - from;
            if self.header.selection.is_whole() {
                self.findings.gap(
                    "complete",
                    &(from..to),
                    "left out, though this is the history of a whole log".to_owned(),
                );
            }
        }
        let Some(rebuild) = &mut self.rebuild else {
            return;
        };
        if let Err(error) = rebuild.skip_to(to, hashes) {
            match &error {
                MultiProofError::Gap { gap, .. } => self.findings.gap(
                    "inclusion",
                    gap,
                    format!("something was left out here, or put in: {error}"),
                ),
                other => self.findings.entry("inclusion", to, other.to_string()),
            }
            self.rebuild = None;
        }
    }

    fn opened(&mut self, record: &Record, index: u64) {
        let is_control = matches!(record.statement.predicate, Predicate::Control(_));
        if !is_control && !self.header.selection.picks(record) {
            let why = "it is about no endpoint of this history's selection".to_owned();
            self.findings.record("selection", index, record.id, why);
        }
        self.account.add(record, index);
        if is_control {
            return;
        }
        if !self.is_authorised(record, index) {
            self.unauthorised += 1;
            self.unauthorised_signer.get_or_insert(record.signer_id());
        } else if let Predicate::Summary(summary) = &record.statement.predicate
            && self.header.selection.summaries
        {
            let origin = &self.header.checkpoint.checkpoint().origin;
            self.summaries.add(summary, record, origin, index);
        }
    }

    /// Whether the signer's control records, as far as they came, let this key sign here.
    fn is_authorised(&self, record: &Record, index: u64) -> bool {
        let origin = &self.header.checkpoint.checkpoint().origin;
        self.account.is_authorised(record, origin, index)
    }

    /// The summaries in the file, as far as they hold.
    #[must_use]
    pub fn summaries(&self) -> &Summaries {
        &self.summaries
    }

    /// What the file says that it is of.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.header.selection
    }

    /// The control records of a signer in the file, as far as they go.
    #[must_use]
    pub fn chain(&self, signer: SignerId) -> Option<&Chain> {
        self.account.chains().get(&signer)
    }

    /// Bundles that the summaries cover were drawn, and counted again.
    pub fn recounted(&mut self, what: CountedAgain) {
        self.recounted = Some(what);
    }

    /// Entries of the log turned out not to be what a summary says.
    pub fn misstated(&mut self, entries: &Range<u64>, why: String) {
        self.findings.gap("summaries", entries, why);
    }

    /// Compares what the file tells with what is in it, and judges the whole. `known` is another
    /// checkpoint of the same log that the verifier has from elsewhere.
    pub fn finish(
        mut self,
        policy: Option<&TrustPolicy>,
        known: Option<&SignedCheckpoint>,
    ) -> HistoryReport {
        let streams: Vec<StreamAccount> = self.account.streams().collect();
        let signers: Vec<SignerAccount> = self.account.signers().collect();
        let promised = self.header.records;
        if self.records != promised {
            let why = format!(
                "the header promises {promised} records, and {} are there",
                self.records
            );
            self.findings.file("complete", why);
        }
        // A file that broke off has no account to compare with.
        if !self.findings.has("format") {
            self.find_untold();
        }
        self.find_broken(policy);
        self.check_root();
        let report = self.draft(policy, known).finish();
        let checkpoint = self.header.checkpoint.checkpoint();
        HistoryReport {
            report,
            origin: checkpoint.origin.clone(),
            size: checkpoint.size,
            whole: self.header.selection.is_whole(),
            records: self.records,
            unchecked: self.unchecked,
            erased: self.erased,
            findings: self.findings.into_listed(),
            streams,
            signers,
        }
    }

    /// A chain of summaries that contradicts itself fails the file if its signer is one that the verifier knows.
    /// Others may write what they like into a log that is open to them, and are told as untrusted.
    fn find_broken(&mut self, policy: Option<&TrustPolicy>) {
        for ((signer, ..), broken) in self.summaries.broken() {
            if policy.is_some_and(|policy| policy.signer(*signer).is_some()) {
                let why = broken.why.clone();
                self.findings
                    .record("summaries", broken.index, broken.id, why);
            }
        }
    }

    fn check_root(&mut self) {
        let Some(rebuild) = &self.rebuild else { return };
        if rebuild.root() == Some(self.header.checkpoint.checkpoint().root) {
            return;
        }
        let why = if self.findings.total() > 0 {
            "what is named here does not lead to the root of the checkpoint"
        } else {
            "every signature holds, and yet the records do not lead to the root of the checkpoint: \
             one was exchanged for another, or a hash or the checkpoint was changed"
        };
        self.findings.file("inclusion", why.to_owned());
    }

    /// A stream's numbers must be what the file says they are.
    fn compare_stream(&mut self, told: &StreamAccount, found: &StreamAccount) {
        let before = self.findings.total();
        for (what, told_runs, found_runs) in [
            ("a record", &told.records, &found.records),
            ("a second record", &told.doubled, &found.doubled),
            ("a void", &told.voided, &found.voided),
            ("a void as unused", &told.unused, &found.unused),
        ] {
            let gone = told_runs.without(found_runs);
            let new = found_runs.without(told_runs);
            let why = format!("{what} by the account, and not in the file");
            self.findings.numbers(told, gone, &why);
            let why = format!("{what} in the file, and not by the account");
            self.findings.numbers(told, new, &why);
        }
        if self.findings.total() == before {
            let stream = &told.stream;
            let why = format!("stream {stream}: its account contradicts itself");
            self.findings.file("numbers", why);
        }
    }

    /// Everything in the file must be in the account.
    fn find_untold(&mut self) {
        let streams = self.untold_streams.take();
        for found in streams
            .unwrap_or_else(|| by_stream(&self.account))
            .into_values()
        {
            let numbers = found.records.with(&found.voided).with(&found.unused);
            let why = "in the file, and their stream not in the account";
            self.findings.numbers(&found, numbers, why);
        }
        let signers = self.untold_signers.take();
        for signer in signers
            .unwrap_or_else(|| by_signer(&self.account))
            .into_keys()
        {
            let why = format!("signer {signer} is in the file, and not in the account");
            self.findings.file("numbers", why);
        }
    }

    fn draft(&self, policy: Option<&TrustPolicy>, known: Option<&SignedCheckpoint>) -> Draft {
        let mut draft = Draft::default();
        let what = if self.header.selection.is_whole() {
            "all entries of a log"
        } else if self.header.selection.summaries {
            "summaries of a log's entries"
        } else {
            "a selection of a log's entries"
        };
        let (records, erased) = (self.records, self.erased);
        let says = [
            ("format", format!("a history: {what}, {records} records")),
            (
                "order",
                "every entry once, in the order of the log".to_owned(),
            ),
            ("signature", self.signatures()),
            (
                "leaf",
                format!("{erased} entries are leaves whose bodies are not there"),
            ),
            (
                "inclusion",
                "one proof leads from all of them to the checkpoint's root".to_owned(),
            ),
            ("selection", "every record belongs to it".to_owned()),
            ("complete", self.completeness()),
            ("numbers", self.numbers()),
            ("summaries", self.counted_again()),
        ];
        let proven = self.rebuild.is_some();
        for (name, reason) in says {
            match self.findings.summary(name) {
                Some(why) => draft.failed(name, why),
                None if name == "inclusion" && !proven => {
                    draft.not_checked(name, "what is named here kept the tree from being rebuilt");
                }
                None if name == "leaf" && erased == 0 => {}
                None if name == "summaries"
                    && self.summaries.is_empty()
                    && self.summaries.broken().is_empty() => {}
                None => draft.passed(name, reason),
            }
        }
        let facts = CheckpointFacts::new(self.header.checkpoint.clone(), policy);
        facts.report(&mut draft, policy);
        trust::check_known(
            &mut draft,
            self.header.checkpoint.checkpoint(),
            known,
            policy,
        );
        trust::check_signers(&mut draft, self, policy);
        trust::say_time(&mut draft, &facts);
        draft.content_not_checked();
        draft
    }

    fn counted_again(&self) -> String {
        let again = match self.recounted {
            None | Some(CountedAgain { drawn: 0, .. }) => {
                "no bundle was counted again, so their counts are their signers' word".to_owned()
            }
            Some(CountedAgain { compared: 0, .. }) => {
                "nothing was compared, for no chain that covers what was drawn has both its signer and its \
                 observer in your policy"
                    .to_owned()
            }
            Some(CountedAgain {
                compared,
                of,
                forgiven: 0,
                ..
            }) => format!("{compared} of {of} bundles, drawn at random, hold what they say"),
            Some(CountedAgain {
                compared,
                of,
                forgiven,
                forgiven_calls,
                ..
            }) => format!(
                "{compared} of {of} bundles were drawn at random, and {} hold what they say; nothing is shown of \
                 {forgiven_calls} calls in the other {forgiven}, whose bodies are erased",
                compared - forgiven
            ),
        };
        let broken = match self.summaries.broken().values().next() {
            None => String::new(),
            Some(first) => format!(
                "; {} chains of signers that you do not know contradict themselves and count for nothing, the first \
                 at entry {}: {}",
                self.summaries.broken().len(),
                first.index,
                first.why
            ),
        };
        format!("each chain from the log's first entry on, without a gap; {again}{broken}")
    }

    fn signatures(&self) -> String {
        let records = self.records;
        match records - self.unchecked {
            all if all == records => {
                format!("all {records} made with the keys that the statements name")
            }
            some => format!(
                "{some} of {records}, drawn at random and all control records, made with the keys \
                 that the statements name; the rest was not looked at"
            ),
        }
    }

    fn completeness(&self) -> String {
        let (size, over) = (self.size(), self.passed_over);
        if self.header.selection.is_whole() {
            format!("every entry up to the checkpoint, {size} of them")
        } else {
            format!(
                "as many records as promised; that {over} other entries of the log are not of this \
                 selection is the exporter's claim, except where a number below would be missing"
            )
        }
    }

    fn numbers(&self) -> String {
        let (mut streams, mut records, mut unknown) = (0u64, 0, 0);
        for stream in self.account.streams() {
            streams += 1;
            records += stream.records.count();
            let lost = stream.voided.count().saturating_add(stream.missing.count());
            unknown = lost.saturating_add(unknown);
        }
        let mut said = format!(
            "{streams} streams: {records} numbers have records, {unknown} are voided or missing"
        );
        let (mut tails, mut numbers) = (0u64, 0u64);
        for (_, highest, named) in self.account.cut_tails() {
            tails += 1;
            numbers = numbers.saturating_add(named - highest);
        }
        if tails > 0 {
            // Writing to a string cannot fail.
            let _ = write!(
                said,
                "; receipts name {numbers} later numbers of {tails} observers' streams that are \
                 not there"
            );
        }
        said
    }
}

fn by_stream(account: &Account) -> BTreeMap<StreamId, StreamAccount> {
    let streams = account.streams();
    streams.map(|found| (found.stream, found)).collect()
}

fn by_signer(account: &Account) -> BTreeMap<SignerId, SignerAccount> {
    let signers = account.signers();
    signers.map(|found| (found.signer, found)).collect()
}

/// The account of a stream of which nothing is in the file.
fn without_numbers(told: &StreamAccount) -> StreamAccount {
    StreamAccount {
        records: Runs::default(),
        doubled: Runs::default(),
        voided: Runs::default(),
        unused: Runs::default(),
        missing: Runs::default(),
        ..told.clone()
    }
}

/// Verifies a whole history in memory, on one thread; see [`HistoryCheck`] for large ones.
///
/// # Errors
/// [`HistoryError::NotAHistory`] for another file, whatever keeps the header from being read, and
/// [`HistoryError::TooLarge`].
pub fn verify_history(
    bytes: &[u8],
    policy: Option<&TrustPolicy>,
    known: Option<&SignedCheckpoint>,
) -> Result<HistoryReport, HistoryError> {
    let mut reader = HistoryReader::open(bytes)?;
    let mut check = HistoryCheck::new(reader.header().clone());
    loop {
        match reader.next_item() {
            Ok(Some(Item::Record(item))) => {
                check.record(&item.place, &open(item.signature, item.statement));
                check.is_within_limits()?;
            }
            Ok(Some(Item::Erased(item))) => check.erased(&item),
            Ok(Some(Item::Tail(gap))) => check.tail(&gap),
            Ok(Some(Item::Stream(told))) => check.stream(&told),
            Ok(Some(Item::Signer(told))) => check.signer(&told),
            Ok(None) => break,
            Err(error) => {
                check.broken(&error);
                break;
            }
        }
    }
    Ok(check.finish(policy, known))
}
