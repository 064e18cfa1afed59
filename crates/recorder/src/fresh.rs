//! Records that were signed here a moment ago, for whoever folds what this signer records.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use record::{Record, RecordId};

use crate::numbers::lock;

/// The latest records, each until it is taken.
#[derive(Default)]
pub(crate) struct Fresh(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    most: usize,
    by_id: HashMap<RecordId, Record>,
    /// Oldest first; some may have been taken.
    order: VecDeque<RecordId>,
}

impl Fresh {
    pub(crate) fn keep_at_most(&self, most: usize) {
        let mut kept = lock(&self.0);
        kept.most = most;
        kept.make_room(0);
    }

    pub(crate) fn keep(&self, record: Record) {
        let mut kept = lock(&self.0);
        if kept.most == 0 {
            return;
        }
        kept.make_room(1);
        kept.order.push_back(record.id);
        kept.by_id.insert(record.id, record);
    }

    pub(crate) fn take(&self, id: RecordId) -> Option<Record> {
        lock(&self.0).by_id.remove(&id)
    }
}

impl Kept {
    fn make_room(&mut self, count: usize) {
        while self.order.len() + count > self.most {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.by_id.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(fresh.take(records[3].id).as_ref(), Some(&records[3]));
        assert_eq!(fresh.take(records[3].id), None, "it was taken");
        let again = Envelope::from_json(&records[2].envelope.to_json());
        let read = again.and_then(Envelope::open).expect("it verifies");
        assert_eq!(fresh.take(read.id), Some(read), "as reading it would give");
    }
}
