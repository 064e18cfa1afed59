//! Records that were signed here a moment ago, for whoever folds what this signer records.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use record::{Record, RecordId};
use tokio::sync::Notify;

use crate::numbers::lock;

/// The latest records that are durable, each until it is taken.
#[derive(Default)]
pub(crate) struct Fresh {
    kept: Mutex<Kept>,
    many: Notify,
}

#[derive(Default)]
struct Kept {
    most: usize,
    /// In order of their positions in the spool.
    records: VecDeque<(i64, Arc<Record>)>,
    /// Kept since one was taken.
    untaken: usize,
}

/// What comes next after a position in the spool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// These records, without a gap.
    Here(Vec<(i64, Arc<Record>)>),
    /// Rows that only the spool has, up to the one before this position, if it is known.
    Elsewhere(Option<i64>),
}

/// Which share of those that may be kept are many: 1 in 4.
const MANY: usize = 4;

impl Fresh {
    pub(crate) fn keep_at_most(&self, most: usize) {
        let mut kept = lock(&self.kept);
        kept.most = most;
        while kept.records.len() > most {
            kept.records.pop_front();
        }
    }

    /// Keeps a record that is durable at a position above those before.
    pub(crate) fn keep(&self, position: i64, record: Arc<Record>) {
        let mut kept = lock(&self.kept);
        if kept.most == 0 {
            return;
        }
        if kept.records.len() == kept.most {
            kept.records.pop_front();
        }
        kept.records.push_back((position, record));
        kept.untaken += 1;
        if kept.untaken == kept.most / MANY {
            self.many.notify_one();
        }
    }

    /// Whoever looks for one has mostly had those before it, so it is found at once. One that is not here
    /// costs a look at all, which is little beside verifying it.
    pub(crate) fn take(&self, id: RecordId) -> Option<Arc<Record>> {
        let mut kept = lock(&self.kept);
        let at = kept.records.iter().position(|(_, record)| record.id == id);
        let (_, record) = kept.records.remove(at?)?;
        kept.untaken = 0;
        Some(record)
    }

    /// Takes at most `limit` of what follows on a position.
    pub(crate) fn take_after(&self, position: i64, limit: usize) -> Next {
        let mut kept = lock(&self.kept);
        while kept.records.front().is_some_and(|(n, _)| *n <= position) {
            kept.records.pop_front();
        }
        let next = kept.records.front().map(|(n, _)| *n);
        if next != Some(position + 1) {
            return Next::Elsewhere(next);
        }
        let without_gap = (position + 1..).zip(&kept.records);
        let without_gap = without_gap.take_while(|(wanted, (n, _))| wanted == n);
        let count = without_gap.take(limit).count();
        kept.untaken = 0;
        Next::Here(kept.records.drain(..count).collect())
    }

    /// Resolves when many wait to be taken.
    pub(crate) async fn many(&self) {
        self.many.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use record::{Envelope, Statement};
    use ring::rand::SystemRandom;

    use super::*;

    fn record(number: u64) -> Arc<Record> {
        let random = SystemRandom::new();
        let key = record::SigningKey::generate(&random).expect("a key");
        let signer = record::Signer {
            id: Some(record::SignerId::new(record::sha256(&number.to_be_bytes()))),
            key: *key.public(),
        };
        let seq = record::Seq::FIRST;
        let void = record::void::Void {
            stream: record::void::VoidStream {
                endpoint: record::Endpoint {
                    provider: "https://api.example.com".parse().expect("an origin"),
                    model: "m".parse().expect("a name"),
                },
                kind: record::NumberedKind::Observation,
            },
            at_ms: record::bucket::start_ms(0),
            ranges: vec![record::void::Range {
                first: seq,
                last: seq,
            }],
            reason: record::void::Reason::Crash,
            outcomes: record::void::OutcomeCounts::default(),
        };
        let statement = Statement::new(signer, void).expect("a statement");
        Arc::new(key.sign_record(statement, &random).expect("a record"))
    }

    #[test]
    fn the_latest_are_there_once() {
        let fresh = Fresh::default();
        let records: Vec<_> = (0..4).map(record).collect();
        fresh.keep(1, records[0].clone());
        assert_eq!(fresh.take(records[0].id), None, "nobody asked for them");
        fresh.keep_at_most(2);
        for (position, record) in (1..).zip(&records) {
            fresh.keep(position, record.clone());
        }
        assert_eq!(fresh.take(records[1].id), None, "it was among the oldest");
        let taken = fresh.take(records[3].id);
        assert_eq!(taken.as_ref(), Some(&records[3]));
        assert_eq!(fresh.take(records[3].id), None, "it was taken");
        let again = Envelope::from_json(&records[2].envelope.to_json());
        let read = again.and_then(Envelope::open).expect("it verifies");
        let taken = fresh.take(read.id);
        assert_eq!(taken.as_deref(), Some(&read), "as reading it would give");
    }

    #[test]
    fn what_follows_on_a_position_is_taken_up_to_a_gap() {
        let fresh = Fresh::default();
        fresh.keep_at_most(8);
        assert_eq!(fresh.take_after(0, 8), Next::Elsewhere(None));
        let records: Vec<_> = (0..5).map(record).collect();
        // The row at 4 is of another kind.
        let positions = [1, 2, 3, 5, 6];
        for (position, record) in positions.iter().zip(&records) {
            fresh.keep(*position, record.clone());
        }
        let kept = |from: usize, to: usize| -> Vec<_> {
            let kept = positions.iter().copied().zip(records.iter().cloned());
            kept.skip(from).take(to - from).collect()
        };
        assert_eq!(fresh.take_after(0, 2), Next::Here(kept(0, 2)));
        assert_eq!(fresh.take_after(2, 8), Next::Here(kept(2, 3)));
        assert_eq!(fresh.take_after(3, 8), Next::Elsewhere(Some(5)));
        assert_eq!(
            fresh.take_after(5, 8),
            Next::Here(kept(4, 5)),
            "one that was read elsewhere is let go of"
        );
        assert_eq!(fresh.take_after(6, 8), Next::Elsewhere(None));
    }

    #[tokio::test]
    async fn whoever_takes_them_is_told_of_many() {
        let fresh = Fresh::default();
        fresh.keep_at_most(2 * MANY);
        fresh.keep(1, record(0));
        assert_eq!(fresh.many().now_or_never(), None);
        fresh.keep(2, record(1));
        fresh.many().await;
    }
}
