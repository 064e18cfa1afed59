//! Changes of owner, as histories show them.

use reliability::fold::{History, Report};
use serde_json::Value;

/// The providers of a report that changed their owner: id, what they are called now, and the entries
/// of their home logs in which they did.
fn changes(history: &History, report: &Report) -> Vec<(String, String, Vec<u64>)> {
    let mut changed = Vec::new();
    for group in &report.providers {
        let signer = group.name.parse().ok();
        let Some(chain) = signer.and_then(|signer| history.chain(&signer)) else {
            continue;
        };
        let entries: Vec<u64> = chain.owner_changes().iter().map(|it| it.index).collect();
        if !entries.is_empty() {
            changed.push((group.name.clone(), chain.name().to_string(), entries));
        }
    }
    changed
}

/// For programs: `[[provider, name, [entry…]]…]`.
pub(super) fn document(history: &History, report: &Report) -> serde_json::Result<Value> {
    serde_json::to_value(changes(history, report))
}

/// For people; nothing where nobody changed.
pub(super) fn print(history: &History, report: &Report) {
    for (provider, name, entries) in changes(history, report) {
        let entries: Vec<String> = entries.iter().map(u64::to_string).collect();
        println!(
            "\nprovider {provider} changed its owner: entry {} of the log. It is called {name:?} \
             now; what came before was another's work.",
            entries.join(", ")
        );
    }
}
