use ring::rand::SystemRandom;

use super::*;
use crate::bucket::start_ms;
use crate::control::{Create, Delegate, Owner, Revoke, RevokeReason};
use crate::offer::{OfferedModel, OfferedPrice, TokenPrice};
use crate::{Seq, Signer, SigningKey, Statement};

const LOG: &str = "log.example";
const HOUR_MS: u64 = 3_600_000;

fn origin() -> LogOrigin {
    LogOrigin::new(LOG).expect("an origin")
}

/// A node, and what it has said so far.
struct Node {
    random: SystemRandom,
    root: SigningKey,
    instance: SigningKey,
    controls: Vec<Record>,
}

impl Node {
    fn new(role: &str, log: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests bring the randomness")]
        let random = SystemRandom::new();
        let key = || SigningKey::generate(&random).expect("randomness");
        let (root, instance) = (key(), key());
        let create = Create {
            name: "somebody".parse().expect("short"),
            roles: vec![role.parse().expect("a word")],
            home_log: LogOrigin::new(log).expect("an origin"),
            recovery: None,
        };
        let by = Signer {
            id: None,
            key: *root.public(),
        };
        let create = Statement::new(by, Control::create(start_ms(0), create)).expect("valid");
        let create = root.sign_statement(&create, &random).expect("signed");
        let mut node = Self {
            controls: vec![create.open().expect("whole")],
            random,
            root,
            instance,
        };
        let key = *node.instance.public();
        node.control(Action::Delegate(Delegate { key, name: None }));
        node
    }

    fn id(&self) -> SignerId {
        self.controls[0].signer_id()
    }

    fn sign(&self, key: &SigningKey, predicate: impl Into<Predicate>) -> Record {
        let by = Signer {
            id: Some(self.id()),
            key: *key.public(),
        };
        let statement = Statement::new(by, predicate).expect("valid");
        let envelope = key.sign_statement(&statement, &self.random);
        envelope.expect("signed").open().expect("whole")
    }

    fn control(&mut self, action: Action) -> Record {
        let control = Control {
            seq: Seq::new(self.controls.len() as u64 + 1).expect("positive"),
            previous: self.controls.last().map(|record| record.id),
            at_ms: start_ms(0),
            action,
        };
        let record = self.sign(&self.root, control);
        self.controls.push(record.clone());
        record
    }

    fn offer(&self, seq: u64, change: impl FnOnce(&mut Offer)) -> Record {
        self.sign(&self.instance, offer(seq, change))
    }
}

fn offer(seq: u64, change: impl FnOnce(&mut Offer)) -> Offer {
    let free = TokenPrice::default();
    let mut offer = Offer {
        seq: Seq::new(seq).expect("positive"),
        from_ms: start_ms(HOUR_MS),
        until_ms: start_ms(2 * HOUR_MS),
        withdrawn: false,
        addresses: vec!["https://gpu.example".parse().expect("an origin")],
        models: vec![OfferedModel {
            model: "llama".parse().expect("short"),
            manifest: RecordId::from_bytes([1; 32]),
            price: OfferedPrice {
                prompt: free,
                completion: free,
            },
        }],
        region: None,
        in_flight_max: None,
    };
    change(&mut offer);
    offer
}

fn withdraw(offer: &mut Offer) {
    offer.withdrawn = true;
    offer.addresses.clear();
    offer.models.clear();
}

/// A book and the next place in its log.
struct Log {
    book: Book,
    size: u64,
}

impl Log {
    fn with(nodes: &[&Node]) -> Self {
        let book = Book::new(origin(), [0; 32]);
        let mut log = Self { book, size: 0 };
        for control in nodes.iter().flat_map(|node| &node.controls) {
            log.hear(control);
        }
        log
    }

    fn hear(&mut self, record: &Record) -> Heard {
        self.size += 1;
        self.book.hear(record, self.size - 1)
    }

    fn refusal(&mut self, record: &Record) -> Code {
        match self.hear(record) {
            Heard::Refused(error) => error.code(),
            other => panic!("{other:?}"),
        }
    }

    /// The records of the offers that stand at a time.
    fn standing(&self, now_ms: u64) -> Vec<RecordId> {
        self.book.standing(now_ms).map(|it| it.record).collect()
    }

    fn now(&self) -> Vec<RecordId> {
        self.standing(HOUR_MS)
    }
}

#[test]
fn an_offer_stands_within_its_time_and_a_later_one_renews_it() {
    let node = Node::new("provider", LOG);
    let mut log = Log::with(&[&node]);
    let first = node.offer(5, |_| ());
    assert_eq!(log.hear(&first), Heard::Taken);
    let stands = log.book.standing(HOUR_MS).next().expect("one");
    assert_eq!(
        (stands.provider, stands.key),
        (node.id(), node.instance.public())
    );
    assert_eq!(log.standing(HOUR_MS - VALID_EARLY_MS), [first.id]);
    assert!(log.standing(HOUR_MS - VALID_EARLY_MS - 1).is_empty());
    assert_eq!(log.standing(2 * HOUR_MS - 1), [first.id]);
    assert!(log.standing(2 * HOUR_MS).is_empty(), "it is over");

    let renewed = node.offer(6, |offer| offer.until_ms = start_ms(3 * HOUR_MS));
    assert_eq!(log.hear(&renewed), Heard::Taken);
    assert_eq!(log.standing(2 * HOUR_MS), [renewed.id]);
    assert_eq!(log.hear(&first), Heard::Passed, "logged again, and older");
    assert_eq!(log.hear(&renewed), Heard::Passed);
    assert_eq!(log.now(), [renewed.id]);
}

#[test]
fn a_withdrawn_offer_stops_and_older_ones_do_not_come_back() {
    let node = Node::new("provider", LOG);
    let mut log = Log::with(&[&node]);
    log.hear(&node.offer(5, |_| ()));
    assert_eq!(log.hear(&node.offer(6, withdraw)), Heard::Taken);
    assert!(log.now().is_empty());
    let older = node.offer(4, |offer| offer.until_ms = start_ms(4 * HOUR_MS));
    assert_eq!(log.hear(&older), Heard::Passed);
    assert!(log.now().is_empty());
    let again = node.offer(7, |_| ());
    log.hear(&again);
    assert_eq!(log.now(), [again.id]);
}

#[test]
fn of_two_offers_that_disagree_neither_is_used() {
    let node = Node::new("provider", LOG);
    let mut log = Log::with(&[&node]);
    log.hear(&node.offer(5, |_| ()));
    let other = node.offer(5, |offer| offer.in_flight_max = Some(1));
    assert_eq!(log.hear(&other), Heard::Contradicted);
    assert!(log.now().is_empty());
    let next = node.offer(6, |_| ());
    assert_eq!(log.hear(&next), Heard::Taken);
    assert_eq!(log.now(), [next.id], "the signer has made up its mind");
}

#[test]
fn a_revoked_key_and_a_change_of_owner_void_the_offer_at_once() {
    for ends in ["revoke", "owner"] {
        let mut node = Node::new("provider", LOG);
        let mut log = Log::with(&[&node]);
        log.hear(&node.offer(5, |_| ()));
        assert_eq!(log.now().len(), 1);
        let action = if ends == "revoke" {
            Action::Revoke(Revoke {
                key_id: node.instance.key_id(),
                reason: RevokeReason::Compromised,
            })
        } else {
            let key = SigningKey::generate(&node.random).expect("randomness");
            Action::Owner(Owner {
                name: "a buyer".parse().expect("short"),
                key: *key.public(),
                recovery: None,
            })
        };
        let control = node.control(action);
        assert_eq!(log.hear(&control), Heard::Taken);
        assert!(log.now().is_empty(), "{ends}");
        let more = node.offer(6, |_| ());
        assert_eq!(log.refusal(&more), Code::NotAuthorised, "{ends}");
    }
}

#[test]
fn offers_of_wrong_keys_and_strangers_do_not_count() {
    let node = Node::new("provider", LOG);
    let observer = Node::new("observer", LOG);
    let elsewhere = Node::new("provider", "other.example");
    let mut log = Log::with(&[&node, &observer, &elsewhere]);
    assert_eq!(log.book.providers(), 1, "the others are of no concern");
    let by_root = node.sign(&node.root, offer(5, |_| ()));
    assert_eq!(log.refusal(&by_root), Code::NotAuthorised);
    let by_stranger = node.sign(&observer.instance, offer(5, |_| ()));
    assert_eq!(log.refusal(&by_stranger), Code::NotAuthorised);
    for stranger in [&observer, &elsewhere] {
        let offer = stranger.offer(5, |_| ());
        assert_eq!(log.refusal(&offer), Code::NotAuthorised);
    }
    assert!(log.now().is_empty());
}

#[test]
fn the_book_is_bounded_and_who_stays_is_not_the_floods_choice() {
    let honest = Node::new("provider", LOG);
    let flood: Vec<Node> = (0..40).map(|_| Node::new("provider", LOG)).collect();
    let each: usize = honest
        .controls
        .iter()
        .map(|r| r.envelope.payload().len())
        .sum();
    let mut kept = 0;
    for salt in 0..200 {
        let mut book = Book::bounded(origin(), [salt; 32], 20 * each);
        let everybody = flood.iter().take(20).chain([&honest]).chain(&flood[20..]);
        for (at, control) in (0..).zip(everybody.flat_map(|node| &node.controls)) {
            book.hear(control, at);
            assert!(book.bytes <= 20 * each);
        }
        assert!(book.providers() >= 15);
        kept += u32::from(book.chain(&honest.id()).is_some());
    }
    // About 20 of 41 stay: 98 of 200 expected, 7 the standard deviation; wrong once in 10^9.
    assert!((50..150).contains(&kept), "{kept} of 200");
}
