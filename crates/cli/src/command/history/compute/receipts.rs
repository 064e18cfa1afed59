//! Records that a provider handed over: its receipts, and what callers handed back to it.
//!
//! They are signed, and each signature is looked at, but no log orders them: they are folded by the
//! times that they claim. A provider's control records are in the file. Those of its callers are not,
//! so a policy says which keys are theirs; without one their observations count nowhere.

use std::io::BufRead;
use std::path::Path;

use anyhow::{Result, ensure};
use record::{Bundle, Envelope, Predicate, Record, RecordId};
use reliability::fold::{Applied, History, Observers, Policy};
use reliability::kt::Alpha;
use serde_json::json;
use tlog::policy::TrustPolicy;

use super::super::figures::Figures;
use super::{Bad, each_line};
use crate::files::Unusable;

/// Records in one file: they are held until they are in order.
const RECORDS_MAX: usize = 200_000;

/// What a file of records turned out to be.
#[derive(Default)]
struct Handed {
    records: Vec<Record>,
    bad: Bad,
    receipts: u64,
    observations: u64,
}

/// What became of them.
struct Folded {
    history: History,
    /// Observations whose signer the policy does not name, or whose key may not sign for it.
    strangers: u64,
}

/// Folds the file and prints what it comes to.
pub(super) fn compute(
    path: &Path,
    policy: Option<&TrustPolicy>,
    (skip_bad, as_json): (bool, bool),
) -> Result<()> {
    let name = path.display();
    let handed =
        read(super::open(path)?).map_err(|error| Unusable(format!("{name}: {error:#}")))?;
    handed.bad.stop_unless(skip_bad, &name)?;
    if handed.receipts + handed.observations == 0 {
        return Err(Unusable(format!("{name}: there is no receipt in it")).into());
    }
    let (receipts, observations, bad) = (handed.receipts, handed.observations, handed.bad.count);
    let Folded { history, strangers } = fold(handed.records, policy);
    let report = history.report(Alpha::FIVE_PERCENT);
    if as_json {
        let document = json!({"evidence": "imported", "signed": true, "receipts": receipts,
            "observations": observations, "strangers": strangers, "left_out": bad,
            "history": report});
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!("imported  {receipts} receipts and {observations} observations out of {name}");
    println!("          {bad} lines were left out");
    println!(
        "          all are signed; no log orders them, and none shows that nothing was left out"
    );
    if strangers > 0 {
        println!(
            "          {strangers} observations are in no figure: {}",
            match policy {
                Some(_) => "the policy does not name their signers, or their keys had ended",
                None => "give --policy with the control records of whoever observed",
            }
        );
    }
    println!("digest    {}", report.digest);
    super::super::print_endpoints(&Figures::of(&report)?, |of| {
        let receipts = &of.receipts;
        vec![format!(
            "receipts: {} in the file, {} of them observed, {} the provider's word alone",
            receipts.logged, receipts.joined, of.receipts_unobserved
        )]
    });
    Ok(())
}

fn read(input: impl BufRead) -> Result<Handed> {
    let mut handed = Handed::default();
    each_line(input, |number, line| {
        match open(line.trim_ascii()) {
            Ok(record) => {
                ensure!(
                    handed.records.len() < RECORDS_MAX,
                    "more than {RECORDS_MAX} records, which are too many to put into order here; \
                     `longrun history export` takes a history of any size from a log"
                );
                match &record.statement.predicate {
                    Predicate::Receipt(_) => handed.receipts += 1,
                    Predicate::Observation(_) => handed.observations += 1,
                    _ => {}
                }
                handed.records.push(record);
            }
            Err(why) => handed.bad.add(number, &why),
        }
        Ok(())
    })?;
    Ok(handed)
}

/// A bundle or an envelope whose signature holds.
fn open(line: &[u8]) -> Result<Record, String> {
    let opened = match Bundle::from_json(line) {
        Ok(bundle) => bundle.open(),
        Err(no_bundle) => match Envelope::from_json(line) {
            Ok(envelope) => envelope.open(),
            // Of what is neither, the reason is told that is about what it looks like.
            Err(no_envelope) => {
                let looks_like_one = line.windows(9).any(|part| part == b"mediaType");
                Err(if looks_like_one {
                    no_bundle
                } else {
                    no_envelope
                })
            }
        },
    };
    opened.map_err(|error| error.to_string())
}

/// Folds records in the order of the times that they claim; what claims one time stays as it came.
fn fold(mut records: Vec<Record>, policy: Option<&TrustPolicy>) -> Folded {
    let known = || policy.into_iter().flat_map(TrustPolicy::signers);
    records.extend(known().flat_map(|signer| signer.controls.iter().cloned()));
    records.sort_by_key(order);
    // A file names nobody: control records in it make no observer one that counts.
    let mut history = History::new(Policy {
        observers: Observers::Only(known().map(|signer| signer.id).collect()),
        ..Policy::without_log()
    });
    let mut strangers = 0;
    let mut seen = std::collections::HashSet::<RecordId>::new();
    for (index, record) in (0..).zip(records) {
        // The policy and the file may both hold a signer's control records.
        if !seen.insert(record.id) {
            continue;
        }
        let applied = history.apply(&record, index);
        let observed = matches!(record.statement.predicate, Predicate::Observation(_));
        let refused = matches!(applied, Applied::NotAuthorised | Applied::OtherObserver);
        strangers += u64::from(observed && refused);
    }
    Folded { history, strangers }
}

/// Records by the end that they claim, Unix ms; control records before what their keys sign. What is
/// sent to a file beside these says nothing of calls, and comes last.
fn order(record: &Record) -> (u64, u8) {
    let end_ms = |timing_ms: u64, total_us: u64| timing_ms.saturating_add(total_us / 1000);
    match &record.statement.predicate {
        Predicate::Control(control) => (control.at_ms.ms(), 0),
        Predicate::Manifest(manifest) => (manifest.at_ms.ms(), 1),
        Predicate::Receipt(receipt) => {
            let timing = &receipt.timing;
            (end_ms(timing.start_ms.ms(), timing.total_us.us()), 1)
        }
        Predicate::Observation(seen) => {
            let timing = &seen.timing;
            (end_ms(timing.start_ms.ms(), timing.total_us.us()), 1)
        }
        _ => (u64::MAX, 1),
    }
}
