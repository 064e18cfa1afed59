//! Records that were signed here a moment ago, for whoever folds what this signer records.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use record::{Record, RecordId};
use tokio::sync::Notify;

use crate::numbers::lock;

/// The latest records, each until it is taken.
#[derive(Default)]
pub(crate) struct Fresh {
    kept: Mutex<Kept>,
    many: Notify,
}

#[derive(Default)]
struct Kept {
    most: usize,
    /// Boxed, since the table has more room than records.
    by_id: HashMap<RecordId, Box<Record>>,
    /// Oldest first; some may have been taken, but not the first.
    order: VecDeque<RecordId>,
    /// Kept since one was taken.
    untaken: usize,
}

/// Which share of those that may be kept are many: 1 in 4.
const MANY: usize = 4;

impl Fresh {
    pub(crate) fn keep_at_most(&self, most: usize) {
        let mut kept = lock(&self.kept);
        kept.most = most;
        kept.make_room(0);
    }

    pub(crate) fn keep(&self, record: Record) {
        let mut kept = lock(&self.kept);
        if kept.most == 0 {
            return;
        }
        kept.make_room(1);
        kept.order.push_back(record.id);
        kept.by_id.insert(record.id, Box::new(record));
        kept.untaken += 1;
        if kept.untaken == kept.most / MANY {
            self.many.notify_one();
        }
    }

    pub(crate) fn take(&self, id: RecordId) -> Option<Box<Record>> {
        let mut kept = lock(&self.kept);
        let taken = kept.by_id.remove(&id);
        if taken.is_some() {
            kept.untaken = 0;
        }
        kept.forget_taken();
        taken
    }

    /// Resolves when many wait to be taken.
    pub(crate) async fn many(&self) {
        self.many.notified().await;
    }
}

impl Kept {
    fn make_room(&mut self, count: usize) {
        // One that is never taken, since its row never came, holds up those behind it for a while only.
        while self.by_id.len() + count > self.most || self.order.len() + count > 2 * self.most {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.by_id.remove(&oldest);
        }
        self.forget_taken();
    }

    fn forget_taken(&mut self) {
        while let Some(first) = self.order.front()
            && !self.by_id.contains_key(first)
        {
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use record::{Envelope, Statement};
    use ring::rand::SystemRandom;

    use super::*;

    fn record(number: u64) -> Record {
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
        key.sign_record(statement, &random).expect("a record")
    }

    #[test]
    fn the_latest_are_there_once() {
        let fresh = Fresh::default();
        let records: Vec<Record> = (0..4).map(record).collect();
        fresh.keep(records[0].clone());
        assert_eq!(fresh.take(records[0].id), None, "nobody asked for them");
        fresh.keep_at_most(2);
        records.iter().for_each(|record| fresh.keep(record.clone()));
        assert_eq!(fresh.take(records[1].id), None, "it was among the oldest");
        let taken = fresh.take(records[3].id);
        assert_eq!(taken.as_deref(), Some(&records[3]));
        assert_eq!(fresh.take(records[3].id), None, "it was taken");
        let again = Envelope::from_json(&records[2].envelope.to_json());
        let read = again.and_then(Envelope::open).expect("it verifies");
        let taken = fresh.take(read.id);
        assert_eq!(taken.as_deref(), Some(&read), "as reading it would give");
    }

    #[test]
    fn what_was_taken_takes_no_room() {
        let fresh = Fresh::default();
        let records: Vec<Record> = (0..4).map(record).collect();
        fresh.keep_at_most(2);
        fresh.keep(records[0].clone());
        fresh.keep(records[1].clone());
        assert!(fresh.take(records[0].id).is_some() && fresh.take(records[1].id).is_some());
        fresh.keep(records[2].clone());
        fresh.keep(records[3].clone());
        assert_eq!(lock(&fresh.kept).order.len(), 2);
        assert!(
            fresh.take(records[2].id).is_some(),
            "there is room for both"
        );
    }

    #[test]
    fn one_that_nobody_takes_does_not_stay() {
        let fresh = Fresh::default();
        fresh.keep_at_most(2);
        let [stuck, other] = [0, 1].map(record);
        fresh.keep(stuck.clone());
        for _ in 0..20 {
            fresh.keep(other.clone());
            assert!(fresh.take(other.id).is_some());
            assert!(lock(&fresh.kept).order.len() <= 4);
        }
        assert!(fresh.take(stuck.id).is_none());
    }

    #[tokio::test]
    async fn whoever_takes_them_is_told_of_many() {
        let fresh = Fresh::default();
        fresh.keep_at_most(2 * MANY);
        fresh.keep(record(0));
        assert_eq!(fresh.many().now_or_never(), None);
        fresh.keep(record(1));
        fresh.many().await;
    }
}
