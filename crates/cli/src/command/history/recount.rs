//! A history of summaries: what it says, and bundles of the log counted again at random.

use anyhow::{Context, Result};
use clap::Args;
use record::summary::BUNDLE_ENTRIES;
use record::{Digest, Envelope, Record};
use reliability::kt::Alpha;
use reliability::share;
use serde_json::{Value, json};
use tlog::checkpoint::Checkpoint;
use tlog::merkle::leaf_hash;
use tlog::multiproof::Rebuild;
use tlog::policy::TrustPolicy;
use tlog::proof::TreeView;
use tlog::summary::{ChainKey, ChainOf, Recount, Summaries, compare};
use tlog::verify::history::{HistoryCheck, Sample};

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

/// Which bundles were counted again.
pub(crate) struct Recounted {
    sample: Sample,
    log: String,
    /// Chains whose observer the policy does not know, so that nobody can say whose records count.
    unknown_observers: usize,
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
        let mut counting = Counting::new(&log, at, policy, &summaries)?;
        let indices: Vec<u64> = drawn
            .iter()
            .flat_map(|bundle| bundle * BUNDLE_ENTRIES..(bundle + 1) * BUNDLE_ENTRIES)
            .collect();
        log.scan(
            Some(&indices),
            |entry| Ok(Read::new(entry)),
            |read| counting.take(read),
        )?;
        let misstated = counting.finish()?;
        check.recounted(sample.wanted(), sample.of());
        for (bundle, why) in misstated {
            let first = bundle * BUNDLE_ENTRIES;
            check.misstated(&(first..first + BUNDLE_ENTRIES), why);
        }
        let known = |chain: &ChainOf| policy.signer(chain.observer()).is_some();
        Ok(Some(Recounted {
            sample,
            log: name,
            unknown_observers: summaries.chains().filter(|(_, it)| !known(it)).count(),
        }))
    }
}

/// An entry, with its signature looked at.
struct Read {
    index: u64,
    leaf_hash: Digest,
    /// `None` if the body was erased; an error in words if the signature does not hold.
    record: Option<Result<Record, String>>,
}

impl Read {
    fn new(entry: Entry) -> Self {
        let opened = |envelope: Envelope| envelope.open().map_err(|error| error.to_string());
        Self {
            index: entry.index,
            leaf_hash: leaf_hash(&entry.body),
            record: entry.envelope.map(opened),
        }
    }
}

/// Drawn bundles on their way through, one after the other, with one proof for all.
struct Counting<'a> {
    view: TreeView<&'a dyn tlog::tile::TileReader>,
    at: &'a Checkpoint,
    policy: &'a TrustPolicy,
    summaries: &'a Summaries,
    rebuild: Rebuild,
    bundle: Recount,
    misstated: Vec<(u64, String)>,
}

impl<'a> Counting<'a> {
    fn new(
        log: &'a LogFiles,
        at: &'a Checkpoint,
        policy: &'a TrustPolicy,
        summaries: &'a Summaries,
    ) -> Result<Self> {
        Ok(Self {
            view: TreeView::new(log.reader(), log.size()),
            at,
            policy,
            summaries,
            rebuild: Rebuild::new(at.size),
            bundle: Recount::default(),
            misstated: Vec::new(),
        })
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
            None => self.bundle.erased(),
            Some(Ok(record)) if self.may_sign(&record, index) => self.bundle.record(&record),
            Some(Ok(_)) => {}
            Some(Err(why)) => {
                let why = format!("the signature of entry {index} does not hold: {why}");
                self.misstated.push((index / BUNDLE_ENTRIES, why));
            }
        }
        if (index + 1).is_multiple_of(BUNDLE_ENTRIES) {
            self.compare(index / BUNDLE_ENTRIES);
        }
        Ok(())
    }

    fn may_sign(&self, record: &Record, index: u64) -> bool {
        let signer = self.policy.signer(record.signer_id());
        signer.is_some_and(|signer| {
            let position = signer.position(&self.at.origin, index);
            position.is_some_and(|position| signer.chain.check(record, position).is_ok())
        })
    }

    fn compare(&mut self, bundle: u64) {
        let found = std::mem::take(&mut self.bundle);
        for (_, chain) in self.summaries.chains() {
            let covered = bundle * BUNDLE_ENTRIES < chain.covers_to();
            if !covered || self.policy.signer(chain.observer()).is_none() {
                continue;
            }
            if let Err(why) = compare(chain, bundle, &found) {
                self.misstated
                    .push((bundle, format!("{}: {why}", chain.endpoint())));
            }
        }
    }

    /// What is not as a summary says, by bundle. Entries of another log than the file's say nothing.
    fn finish(mut self) -> Result<Vec<(u64, String)>> {
        self.skip_to(self.at.size)?;
        if self.rebuild.root() == Some(self.at.root) {
            return Ok(self.misstated);
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
        let mut document = super::spot::to_json(&self.sample);
        document["log"] = json!(self.log);
        document["unknown_observers"] = json!(self.unknown_observers);
        document
    }

    fn in_words(&self) -> String {
        let mut words = format!(
            "{} of {} bundles of 256 entries were counted again in {}; it misses {}; seed {}",
            self.sample.wanted(),
            self.sample.of(),
            self.log,
            super::spot::misses_in_words(&self.sample, "misstated bundle"),
            Digest::from_bytes(*self.sample.seed())
        );
        if self.unknown_observers > 0 {
            let more = format!(
                "; of {} endpoints nothing was counted again, because their observer is not in your policy",
                self.unknown_observers
            );
            words.push_str(&more);
        }
        words
    }
}

/// What summaries say, as text.
pub(super) fn print(summaries: &Summaries, size: u64, recounted: Option<&Recounted>) {
    for (key, chain) in summaries.chains() {
        print_chain(key, chain, size);
    }
    match recounted {
        Some(recounted) => println!("\n{}", recounted.in_words()),
        None => println!(
            "\nNothing was counted again: what a bundle holds is the signer's word. --log with the log's \
             directory or URL draws bundles at random."
        ),
    }
    println!(
        "Intervals at 95 %. Summaries hold no latency, schema, tools, judgements, epochs, incidents or alarms: those \
         need the records."
    );
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
        "  calls {}, served well {}, failed {} (the provider's fault), 429 {}",
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
