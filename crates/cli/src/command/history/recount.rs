//! A history of summaries: what it says, and bundles of the log counted again at random.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use clap::Args;
use record::control::{Chain, LogPosition};
use record::summary::BUNDLE_ENTRIES;
use record::{Digest, Endpoint, Envelope, KeyId, Record, SignerId};
use reliability::imported::{Seen, Tally};
use reliability::kt::Alpha;
use reliability::share;
use serde_json::{Value, json};
use tlog::checkpoint::Checkpoint;
use tlog::merkle::leaf_hash;
use tlog::multiproof::Rebuild;
use tlog::policy::TrustPolicy;
use tlog::proof::TreeView;
use tlog::summary::{ChainKey, ChainOf, Recount, Summaries, compare};
use tlog::verify::history::{CountedAgain, HistoryCheck, Sample};

use super::spot::Signatures;
use crate::files::{self, Unusable};
use crate::log_files::LogFiles;
use crate::log_scan::Entry;

/// The log that bundles are drawn from.
#[derive(Args, Default)]
pub(crate) struct Against {
    /// The log that summaries are of, to count bundles of it again: a directory, or a URL.
    #[arg(long)]
    log: Option<String>,
    /// The log's key, for a log at a URL; without it the log names its own.
    #[arg(long, requires = "log")]
    log_vkey: Option<String>,
    /// A file with the token that opens the bodies of a log at a URL.
    #[arg(long, value_name = "FILE", requires = "log")]
    read_token: Option<std::path::PathBuf>,
}

/// Bundles that are read at a time: the indices of their entries take 8 MiB.
const BUNDLES_AT_ONCE: usize = 4096;

/// Which bundles were counted again.
pub(crate) struct Recounted {
    sample: Sample,
    log: String,
    counted: CountedAgain,
    /// Entries drawn whose signatures do not hold. That the log took them is the log's fault, and no summary's.
    bad_signatures: u64,
    /// Chains whose signer or observer the policy does not know: nobody can say whose records count, or whose
    /// word it is.
    unknown_chains: usize,
    /// Observers of the policy and endpoints of the file's selection that were met in the bundles drawn, and of
    /// which nobody in the policy has a chain in the file.
    unsummarised: BTreeSet<(SignerId, Endpoint)>,
}

impl Against {
    fn open(&self) -> Result<Option<(String, LogFiles)>> {
        let Some(log) = &self.log else {
            return Ok(None);
        };
        let token = self.read_token.as_deref().map(files::read_text);
        let token = token.transpose()?;
        let token = token.as_deref().map(str::trim);
        let opened = LogFiles::open_any(log, token, self.log_vkey.as_deref())?;
        Ok(Some((log.clone(), opened)))
    }

    /// Counts bundles again and tells `check` which of them are not what a summary says; `None` without a log.
    pub(super) fn recount(
        &self,
        check: &mut HistoryCheck,
        at: &Checkpoint,
        policy: Option<&TrustPolicy>,
        signatures: &Signatures,
    ) -> Result<Option<Recounted>> {
        let Some((name, log)) = self.open()? else {
            return Ok(None);
        };
        let unusable = |why: String| Unusable(format!("{name}: {why}"));
        let policy = policy.ok_or_else(|| {
            unusable("counting again needs a policy, which says whose keys may sign".to_owned())
        })?;
        if log.key().name() != at.origin || log.size() < at.size {
            return Err(unusable(format!(
                "this is {} with {} entries, and the summaries are of {} with {}",
                log.key().name(),
                log.size(),
                at.origin,
                at.size
            ))
            .into());
        }
        let summaries = check.summaries().clone();
        let bundles = summaries.bundles_covered();
        let mut sample = signatures.bundles(bundles)?;
        let drawn: Vec<u64> = (0..bundles).filter(|_| sample.draws_next()).collect();
        let mut counting = Counting::new(&log, at, policy, check);
        for some in drawn.chunks(BUNDLES_AT_ONCE) {
            let entries = some
                .iter()
                .flat_map(|bundle| bundle * BUNDLE_ENTRIES..(bundle + 1) * BUNDLE_ENTRIES);
            let entries: Vec<u64> = entries.collect();
            log.scan(
                Some(&entries),
                |entry| Ok(Read::new(entry)),
                |read| counting.take(read),
            )?;
        }
        counting.finish()?;
        let Counting {
            counted,
            misstated,
            bad_signatures,
            mut met,
            ..
        } = counting;
        let keys = summaries.chains().map(|(key, _)| key);
        let (trusted, unknown): (Vec<_>, Vec<_>) = keys.partition(|key| trusts(policy, key));
        let told: BTreeSet<(SignerId, Endpoint)> = trusted
            .into_iter()
            .map(|(_, observer, endpoint)| (*observer, endpoint.clone()))
            .collect();
        met.retain(|of| check.selection().names(&of.1) && !told.contains(of));
        let counted = CountedAgain {
            drawn: sample.wanted(),
            of: sample.of(),
            ..counted
        };
        check.recounted(counted);
        for (bundle, why) in misstated {
            let first = bundle * BUNDLE_ENTRIES;
            check.misstated(&(first..first + BUNDLE_ENTRIES), why);
        }
        Ok(Some(Recounted {
            unknown_chains: unknown.len(),
            sample,
            log: name,
            counted,
            bad_signatures,
            unsummarised: met,
        }))
    }
}

/// Whether the policy names both the signer and the observer of a chain.
fn trusts(policy: &TrustPolicy, (signer, observer, _): &ChainKey) -> bool {
    policy.signer(*signer).is_some() && policy.signer(*observer).is_some()
}

/// An entry, with its signature looked at.
struct Read {
    index: u64,
    leaf_hash: Digest,
    key: KeyId,
    /// `None` if the body was erased; an error if the signature does not hold.
    record: Option<Result<Record, record::Error>>,
}

impl Read {
    fn new(entry: Entry) -> Self {
        Self {
            index: entry.index,
            leaf_hash: leaf_hash(&entry.body),
            key: entry.leaf.key.key_id(),
            record: entry.envelope.map(Envelope::open),
        }
    }
}

/// Drawn bundles on their way through, one after the other, with one proof for all.
struct Counting<'a> {
    view: TreeView<&'a dyn tlog::tile::TileReader>,
    at: &'a Checkpoint,
    policy: &'a TrustPolicy,
    summaries: &'a Summaries,
    /// The control records of the policy's signers: the policy's, or the file's where those go further.
    chains: BTreeMap<SignerId, &'a Chain>,
    rebuild: Rebuild,
    bundle: Recount,
    counted: CountedAgain,
    met: BTreeSet<(SignerId, Endpoint)>,
    bad_signatures: u64,
    misstated: Vec<(u64, String)>,
}

impl<'a> Counting<'a> {
    fn new(
        log: &'a LogFiles,
        at: &'a Checkpoint,
        policy: &'a TrustPolicy,
        check: &'a HistoryCheck,
    ) -> Self {
        let summaries = check.summaries();
        let observers = summaries.chains().map(|((_, observer, _), _)| *observer);
        let chains = observers.filter_map(|id| {
            let known = &policy.signer(id)?.chain;
            // A file whose control records contradict the policy's fails the check of its signers.
            let goes_on = |it: &&Chain| it.records().starts_with(known.records());
            let longer = check.chain(id).filter(goes_on);
            Some((id, longer.unwrap_or(known)))
        });
        Self {
            view: TreeView::new(log.reader(), log.size()),
            at,
            policy,
            summaries,
            chains: chains.collect(),
            rebuild: Rebuild::new(at.size),
            bundle: Recount::default(),
            counted: CountedAgain::default(),
            met: BTreeSet::new(),
            bad_signatures: 0,
            misstated: Vec::new(),
        }
    }

    /// The hashes of what is passed over.
    fn skip_to(&mut self, index: u64) -> Result<()> {
        let gap = self.view.gap_before(self.rebuild.at()..index, self.at.size);
        let gap = gap.context("a tile of the log")?;
        self.rebuild.skip_to(index, &gap)?;
        // One bundle's way to the root is short; whole trees need not stay in memory.
        self.view.forget();
        Ok(())
    }

    fn take(&mut self, read: Read) -> Result<()> {
        let index = read.index;
        if index.is_multiple_of(BUNDLE_ENTRIES) {
            self.skip_to(index)?;
        }
        self.rebuild.leaf(read.leaf_hash)?;
        match read.record {
            None => self.bundle.erased(read.key),
            Some(Ok(record)) if self.may_sign(&record, index) => self.bundle.record(&record),
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                self.bad_signatures += 1;
                self.bundle.erased(read.key);
            }
        }
        if (index + 1).is_multiple_of(BUNDLE_ENTRIES) {
            self.compare(index / BUNDLE_ENTRIES);
        }
        Ok(())
    }

    fn chain(&self, signer: SignerId) -> Option<&'a Chain> {
        let known = self.policy.signer(signer).map(|signer| &signer.chain);
        self.chains.get(&signer).copied().or(known)
    }

    fn may_sign(&self, record: &Record, index: u64) -> bool {
        let Some(chain) = self.chain(record.signer_id()) else {
            return false;
        };
        let mut homes = chain.home_logs().iter();
        let home = homes.rposition(|log| log.as_str() == self.at.origin);
        let home = home.and_then(|home| u32::try_from(home).ok());
        home.is_some_and(|home| chain.check(record, LogPosition { home, index }).is_ok())
    }

    fn compare(&mut self, bundle: u64) {
        let found = std::mem::take(&mut self.bundle);
        self.met.extend(found.found().cloned());
        let (mut compared, mut lost) = (false, 0u64);
        for (key, chain) in self.summaries.chains() {
            let covered = bundle * BUNDLE_ENTRIES < chain.covers_to();
            if !covered || !trusts(self.policy, key) {
                continue;
            }
            compared = true;
            let keys = self.chain(chain.observer()).map(Chain::instances);
            let is_own = |id: &KeyId| {
                let mut keys = keys.into_iter().flatten();
                keys.any(|span| span.key.key_id() == *id)
            };
            match compare(chain, bundle, &found, is_own) {
                Ok(calls) => lost += calls,
                Err(why) => self
                    .misstated
                    .push((bundle, format!("{}: {why}", chain.endpoint()))),
            }
        }
        self.counted.compared += u64::from(compared);
        self.counted.forgiven += u64::from(lost > 0);
        self.counted.forgiven_calls += lost;
    }

    /// Entries of another log than the file's say nothing.
    fn finish(&mut self) -> Result<()> {
        self.skip_to(self.at.size)?;
        if self.rebuild.root() == Some(self.at.root) {
            return Ok(());
        }
        let why = "the entries that were read do not lead to the checkpoint of the file: this log is another \
                   one, or it shows two faces";
        Err(Unusable(why.to_owned()).into())
    }
}

fn interval_ppm(good: u64, bad: u64) -> [u32; 2] {
    share::of_counts(good, bad, Alpha::FIVE_PERCENT).ends_ppm()
}

/// Whatever the numbers without an outcome were.
fn worst_case_ppm(chain: &ChainOf) -> [u32; 2] {
    let (counts, unknown) = (chain.counts(), chain.unknown());
    let [low, _] = interval_ppm(counts.good, counts.bad.saturating_add(unknown));
    let [_, high] = interval_ppm(counts.good.saturating_add(unknown), counts.bad);
    [low, high]
}

/// What each observer saw by the sums of signers whom the policy names, of observers whom it names.
pub(super) fn tally(summaries: &Summaries, policy: &TrustPolicy) -> Tally {
    let mut tally = Tally::default();
    for (key, chain) in summaries.chains().filter(|(key, _)| trusts(policy, key)) {
        let counts = chain.counts();
        let seen = Seen {
            successes: counts.good,
            failures: counts.bad,
            summed_up_by: None,
        };
        tally.add_sum(chain.endpoint(), chain.observer(), key.0, seen);
    }
    tally
}

/// What summaries say, as JSON.
pub(super) fn to_json(summaries: &Summaries) -> Value {
    let each = summaries.chains().map(|((signer, ..), chain)| {
        let counts = chain.counts();
        json!({
            "signer": signer,
            "observer": chain.observer(),
            "provider": chain.endpoint().provider.to_string(),
            "model": chain.endpoint().model.to_string(),
            "summaries": chain.summaries(),
            "covers_to": chain.covers_to(),
            "calls": counts.calls,
            "successes": counts.good,
            "failures": counts.bad,
            "rate_limited": counts.rate_limited,
            "unknown": chain.unknown(),
            "interval_ppm": interval_ppm(counts.good, counts.bad),
            "worst_case_ppm": worst_case_ppm(chain),
        })
    });
    each.collect()
}

impl Recounted {
    pub(super) fn to_json(&self) -> Value {
        let mut document = super::spot::to_json(&self.sample, "misstated");
        let unsummarised = self.unsummarised.iter().map(|(observer, endpoint)| {
            json!({
                "observer": observer,
                "provider": endpoint.provider.to_string(),
                "model": endpoint.model.to_string(),
            })
        });
        document["log"] = json!(self.log);
        document["compared"] = json!(self.counted.compared);
        document["forgiven"] = json!({
            "bundles": self.counted.forgiven,
            "calls": self.counted.forgiven_calls,
        });
        document["bad_signatures"] = json!(self.bad_signatures);
        document["unknown_chains"] = json!(self.unknown_chains);
        document["unsummarised"] = unsummarised.collect();
        document
    }

    /// One line for each thing that a reader has to know.
    fn in_words(&self) -> Vec<String> {
        let (counted, seed) = (&self.counted, Digest::from_bytes(*self.sample.seed()));
        let mut words = Vec::new();
        if counted.compared == 0 {
            words.push(format!(
                "{} of {} bundles of 256 entries were read in {}, and nothing was compared; seed {seed}",
                counted.drawn, counted.of, self.log
            ));
        } else {
            words.push(format!(
                "{} of {} bundles of 256 entries were counted again in {}; of bundles whose bodies are there it \
                 misses {}; seed {seed}",
                counted.compared,
                counted.of,
                self.log,
                super::spot::misses_in_words(&self.sample, "misstated bundle"),
            ));
        }
        if counted.forgiven > 0 {
            words.push(format!(
                "In {} of them {} calls could not be counted, because their bodies are erased: of those nothing is \
                 shown, and that they are erased is the word of the log.",
                counted.forgiven, counted.forgiven_calls
            ));
        }
        if self.bad_signatures > 0 {
            words.push(format!(
                "{} entries that were read have signatures that do not hold. That is the log's fault; they count like \
                 erased ones.",
                self.bad_signatures
            ));
        }
        if self.unknown_chains > 0 {
            words.push(format!(
                "Of {} chains nothing was counted again, because their signer or observer is not in your policy.",
                self.unknown_chains
            ));
        }
        for (observer, endpoint) in &self.unsummarised {
            words.push(format!(
                "Not summarised: {observer} observed {endpoint} in a bundle that was drawn, and the file has no chain \
                 of it by a signer of your policy."
            ));
        }
        words
    }
}

/// What summaries say, as text.
pub(super) fn print(summaries: &Summaries, size: u64) {
    for (key, chain) in summaries.chains() {
        print_chain(key, chain, size);
    }
    println!(
        "\nIntervals at 95 %. Summaries hold no latency, schema, tools, judgements, epochs, incidents or alarms: those \
         need the records."
    );
}

/// What was counted again of them, as text.
pub(super) fn print_recounted(recounted: Option<&Recounted>) {
    println!();
    match recounted {
        Some(recounted) => recounted
            .in_words()
            .iter()
            .for_each(|line| println!("{line}")),
        None => println!(
            "Nothing was counted again: what a bundle holds is the signer's word. --log with the log's \
             directory or URL draws bundles at random."
        ),
    }
}

fn print_chain((signer, ..): &ChainKey, chain: &ChainOf, size: u64) {
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 10_000.0);
    let counts = chain.counts();
    println!("\n{}", chain.endpoint());
    println!(
        "  by {} summaries of {signer}, of what {} observed, entries 0 to {} of {size}",
        chain.summaries(),
        chain.observer(),
        chain.covers_to()
    );
    println!(
        "  attempts {}, served well {}, failed {} (the provider's fault), 429 {}",
        counts.calls, counts.good, counts.bad, counts.rate_limited
    );
    let [low, high] = interval_ppm(counts.good, counts.bad).map(percent);
    println!("  served well: {low} to {high}");
    if chain.unknown() > 0 {
        let [low, high] = worst_case_ppm(chain).map(percent);
        println!(
            "  {} numbers have no outcome: {low} to {high} whatever they were",
            chain.unknown()
        );
    }
}
