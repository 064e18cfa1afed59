//! History files: their frames, and the verification of whole ones.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use tlog::history::{HistoryReader, Item};
use tlog::policy::TrustPolicy;
use tlog::verify::Verdict;
use tlog::verify::history::verify_history;

use crate::Target;
use crate::vectors::{file, files};

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "history-item",
        run: decode_item,
        seeds: || {
            let golden = file("history/golden/endpoint.history");
            // A frame is a kind, four bytes of length and a payload: seeds without the length.
            let starts = (0..golden.len().saturating_sub(5)).filter(|at| golden[*at] == b'R');
            let frame = |at: usize| [&golden[at..=at], &golden[at + 5..]].concat();
            let frames = starts.map(frame).take(8).collect::<Vec<_>>();
            [
                frames,
                vec![b"S{}".to_vec(), b"C{}".to_vec(), b"T\0".to_vec()],
            ]
            .concat()
        },
    },
    Target {
        name: "history",
        run: verify,
        seeds: || files(".history"),
    },
];

/// The first byte is the kind of the frame.
fn decode_item(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else {
        return;
    };
    if let Ok(Item::Record(item)) = Item::decode(*kind, payload) {
        assert!(!item.statement.is_empty() && item.signature.len() < 256);
    }
}

static POLICY: LazyLock<TrustPolicy> =
    LazyLock::new(|| TrustPolicy::parse(&file("history/policy.json")).expect("it is a policy"));

/// Statements that somebody signed.
static GENUINE: LazyLock<BTreeSet<Vec<u8>>> = LazyLock::new(|| {
    let all = ["whole", "summaries"].map(|name| file(&format!("history/golden/{name}.history")));
    all.iter().flat_map(|bytes| statements(bytes)).collect()
});

fn statements(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut reader = HistoryReader::open(bytes).ok();
    std::iter::from_fn(move || reader.as_mut()?.next_item().ok().flatten()).filter_map(|item| {
        match item {
            Item::Record(record) => Some(record.statement),
            _ => None,
        }
    })
}

/// Without a policy nothing is valid; under one, only what somebody signed.
fn verify(bytes: &[u8]) {
    if let Ok(found) = verify_history(bytes, None, None) {
        assert_ne!(found.report.verdict, Verdict::Valid);
        assert_eq!(found.unchecked, 0, "every signature was looked at");
    }
    let Ok(found) = verify_history(bytes, Some(&POLICY), None) else {
        return;
    };
    if found.report.verdict == Verdict::Valid {
        assert!(found.findings.is_empty());
        for statement in statements(bytes) {
            assert!(GENUINE.contains(&statement), "a forged record");
        }
    }
}
