use ring::rand::SystemRandom;

use super::*;
use crate::bucket::start_ms;
use crate::control::{Delegate, HomeLog, Revoke, RevokeReason};
use crate::manifest::{Artifact, Basis, Engine, Manifest, Stated};
use crate::{Seq, Signer, SigningKey, Statement};

/// A signer with its keys, and the chain as its own side sees it.
struct Actor {
    random: SystemRandom,
    root: SigningKey,
    recovery: SigningKey,
    instance: SigningKey,
    create: Record,
}

impl Actor {
    #[expect(clippy::disallowed_methods, reason = "tests bring the randomness")]
    fn new() -> Self {
        let random = SystemRandom::new();
        let key = || SigningKey::generate(&random).expect("randomness");
        let (root, recovery, instance) = (key(), key(), key());
        let create = Control::create(
            start_ms(0),
            Create {
                name: "somebody".parse().expect("short"),
                roles: vec!["provider".parse().expect("a word")],
                home_log: LogOrigin::new("log.example").expect("an origin"),
                recovery: Some(*recovery.public()),
            },
        );
        let signer = Signer {
            id: None,
            key: *root.public(),
        };
        let create = sign(
            &root,
            &Statement::new(signer, create).expect("valid"),
            &random,
        );
        Self {
            random,
            root,
            recovery,
            instance,
            create,
        }
    }

    fn control(&self, by: &SigningKey, seq: u64, previous: RecordId, action: Action) -> Record {
        let control = Control {
            seq: Seq::new(seq).expect("positive"),
            previous: Some(previous),
            at_ms: start_ms(0),
            action,
        };
        let signer = Signer {
            id: Some(self.create.signer_id()),
            key: *by.public(),
        };
        let statement = Statement::new(signer, control).expect("valid");
        sign(by, &statement, &self.random)
    }

    fn delegate(&self, seq: u64, previous: RecordId) -> Record {
        self.control(&self.root, seq, previous, delegate(&self.instance))
    }

    fn manifest(&self) -> Record {
        let stated = || Stated {
            value: "unknown".parse().expect("short"),
            basis: Basis::Declared,
        };
        let manifest = Manifest {
            at_ms: start_ms(0),
            model: "m".parse().expect("short"),
            weights: Artifact::declared(None, None),
            tokenizer: Artifact::declared(None, None),
            chat_template: Artifact::declared(None, None),
            precision: stated(),
            kv_precision: stated(),
            engine: Engine {
                name: "e".parse().expect("short"),
                version: "1".parse().expect("short"),
                basis: Basis::Declared,
            },
            sampler: "unknown".parse().expect("short"),
            batch_size: None,
            context_tokens: None,
        };
        let signer = Signer {
            id: Some(self.create.signer_id()),
            key: *self.instance.public(),
        };
        let statement = Statement::new(signer, manifest).expect("valid");
        sign(&self.instance, &statement, &self.random)
    }
}

fn sign(key: &SigningKey, statement: &Statement, random: &SystemRandom) -> Record {
    let envelope = key.sign_statement(statement, random).expect("signs");
    envelope.open().expect("opens")
}

fn delegate(key: &SigningKey) -> Action {
    Action::Delegate(Delegate {
        key: *key.public(),
        name: None,
    })
}

fn revoke(key: &SigningKey) -> Action {
    Action::Revoke(Revoke {
        key_id: key.key_id(),
        reason: RevokeReason::Compromised,
    })
}

fn rotate(key: &SigningKey) -> Action {
    Action::Rotate(Rotate {
        key: *key.public(),
        recovery: None,
    })
}

fn at(home: u32, index: u64) -> LogPosition {
    LogPosition { home, index }
}

fn code(result: Result<bool>) -> Code {
    result.expect_err("must be refused").code()
}

#[test]
fn a_key_signs_between_the_entries_that_let_it_and_end_it() {
    let actor = Actor::new();
    let mut chain = Chain::start(&actor.create, 10).expect("starts");
    let delegated = actor.delegate(2, chain.head());
    assert_eq!(chain.apply(&delegated, 20), Ok(true));
    let revoked = actor.control(&actor.root, 3, chain.head(), revoke(&actor.instance));
    assert_eq!(chain.apply(&revoked, 30), Ok(true));

    let manifest = actor.manifest();
    let cases = [
        (10, false),
        (20, false),
        (21, true),
        (29, true),
        (30, false),
        (31, false),
    ];
    for (index, valid) in cases {
        assert_eq!(
            chain.check(&manifest, at(0, index)).is_ok(),
            valid,
            "{index}"
        );
    }
    assert_eq!(
        chain.check_now(&manifest).map_err(|error| error.code()),
        Err(Code::NotAuthorised)
    );
    assert_eq!(chain.valid_instances().count(), 0);
    assert_eq!(chain.instances().len(), 1);

    let again = actor.delegate(4, chain.head());
    assert_eq!(chain.apply(&again, 40), Ok(true));
    assert!(chain.check(&manifest, at(0, 35)).is_err());
    assert!(chain.check(&manifest, at(0, 41)).is_ok());
    assert!(chain.check_now(&manifest).is_ok());
}

#[test]
fn the_same_record_twice_changes_nothing_and_another_is_a_fork() {
    let actor = Actor::new();
    let mut chain = Chain::start(&actor.create, 0).expect("starts");
    let delegated = actor.delegate(2, chain.head());
    assert_eq!(chain.apply(&delegated, 1), Ok(true));
    let before = chain.clone();
    assert_eq!(chain.apply(&delegated, 7), Ok(false));
    assert_eq!(chain.apply(&actor.create, 8), Ok(false));

    let other = SigningKey::generate(&actor.random).expect("randomness");
    let fork = actor.control(&actor.root, 2, actor.create.id, delegate(&other));
    assert_eq!(code(chain.apply(&fork, 9)), Code::ChainFork);
    let wrong_previous = actor.control(&actor.root, 3, actor.create.id, delegate(&other));
    assert_eq!(code(chain.apply(&wrong_previous, 9)), Code::ChainFork);
    let gap = actor.control(&actor.root, 4, chain.head(), delegate(&other));
    assert_eq!(code(chain.apply(&gap, 9)), Code::ChainGap);
    assert_eq!(chain, before);
}

#[test]
fn the_log_order_is_the_chain_order() {
    let actor = Actor::new();
    let mut chain = Chain::start(&actor.create, 5).expect("starts");
    let delegated = actor.delegate(2, chain.head());
    assert_eq!(code(chain.apply(&delegated, 5)), Code::ChainGap);
    assert_eq!(code(chain.apply(&delegated, 4)), Code::ChainGap);
    assert_eq!(chain.apply(&delegated, 6), Ok(true));
}

#[test]
fn only_the_root_key_changes_anything() {
    let actor = Actor::new();
    let mut chain = Chain::start(&actor.create, 0).expect("starts");
    let delegated = actor.delegate(2, chain.head());
    assert_eq!(chain.apply(&delegated, 1), Ok(true));
    let third = SigningKey::generate(&actor.random).expect("randomness");
    let by_instance = actor.control(&actor.instance, 3, chain.head(), delegate(&third));
    assert_eq!(code(chain.apply(&by_instance, 2)), Code::NotAuthorised);
    let by_stranger = actor.control(&third, 3, chain.head(), rotate(&third));
    assert_eq!(code(chain.apply(&by_stranger, 2)), Code::NotAuthorised);
    let by_recovery = actor.control(&actor.recovery, 3, chain.head(), delegate(&third));
    assert_eq!(code(chain.apply(&by_recovery, 2)), Code::NotAuthorised);
    let twice = actor.delegate(3, chain.head());
    assert_eq!(code(chain.apply(&twice, 2)), Code::NotAuthorised);
    let nobody = actor.control(&actor.root, 3, chain.head(), revoke(&third));
    assert_eq!(code(chain.apply(&nobody, 2)), Code::NotAuthorised);
    assert!(chain.check_now(&actor.manifest()).is_ok());
}

#[test]
fn a_rotation_by_the_recovery_key_ends_the_instances() {
    let actor = Actor::new();
    let mut chain = Chain::start(&actor.create, 0).expect("starts");
    let delegated = actor.delegate(2, chain.head());
    assert_eq!(chain.apply(&delegated, 1), Ok(true));
    let second = SigningKey::generate(&actor.random).expect("randomness");
    let rotated = actor.control(&actor.root, 3, chain.head(), rotate(&second));
    assert_eq!(chain.apply(&rotated, 2), Ok(true));
    assert_eq!(chain.root(), second.public());
    assert_eq!(chain.valid_instances().count(), 1);

    let by_old_root = actor.control(&actor.root, 4, chain.head(), revoke(&actor.instance));
    assert_eq!(code(chain.apply(&by_old_root, 3)), Code::NotAuthorised);
    let third = SigningKey::generate(&actor.random).expect("randomness");
    let recovered = actor.control(&actor.recovery, 4, chain.head(), rotate(&third));
    assert_eq!(chain.apply(&recovered, 3), Ok(true));
    assert_eq!(chain.root(), third.public());
    assert_eq!(chain.valid_instances().count(), 0);
    assert_eq!(chain.recovery(), Some(actor.recovery.public()));
}

#[test]
fn a_new_home_log_starts_its_own_positions() {
    let actor = Actor::new();
    let mut chain = Chain::start(&actor.create, 900).expect("starts");
    let delegated = actor.delegate(2, chain.head());
    assert_eq!(chain.apply(&delegated, 901), Ok(true));
    let moved = Action::HomeLog(HomeLog {
        home_log: LogOrigin::new("log2.example").expect("an origin"),
    });
    let moved = actor.control(&actor.root, 3, chain.head(), moved);
    assert_eq!(chain.apply(&moved, 950), Ok(true));
    assert_eq!(chain.home_log().as_str(), "log2.example");
    assert!(chain.check(&actor.manifest(), at(1, 0)).is_ok());

    let revoked = actor.control(&actor.root, 4, chain.head(), revoke(&actor.instance));
    assert_eq!(chain.apply(&revoked, 3), Ok(true));
    assert_eq!(chain.position(), at(1, 3));
    assert!(chain.check(&actor.manifest(), at(1, 2)).is_ok());
    assert!(chain.check(&actor.manifest(), at(1, 4)).is_err());
}

#[test]
fn a_new_owner_starts_without_instances() {
    let actor = Actor::new();
    let mut chain = Chain::start(&actor.create, 0).expect("starts");
    let delegated = actor.delegate(2, chain.head());
    assert_eq!(chain.apply(&delegated, 1), Ok(true));
    let buyer = SigningKey::generate(&actor.random).expect("randomness");
    let sold = Action::Owner(Owner {
        name: "buyer".parse().expect("short"),
        key: *buyer.public(),
        recovery: None,
    });
    let sold = actor.control(&actor.root, 3, chain.head(), sold);
    assert_eq!(chain.apply(&sold, 2), Ok(true));
    assert_eq!(chain.signer(), actor.create.signer_id());
    assert_eq!(chain.name().as_str(), "buyer");
    assert_eq!(chain.owner_changes(), &[at(0, 2)]);
    assert_eq!(chain.recovery(), None);
    assert!(chain.check_now(&actor.manifest()).is_err());
    let by_old_recovery = actor.control(&actor.recovery, 4, chain.head(), rotate(&actor.root));
    assert_eq!(code(chain.apply(&by_old_recovery, 3)), Code::NotAuthorised);
}

#[test]
fn foreign_records_are_refused() {
    let (actor, other) = (Actor::new(), Actor::new());
    let mut chain = Chain::of([&actor.create, &actor.delegate(2, actor.create.id)]).expect("folds");
    let foreign = other.delegate(2, other.create.id);
    assert_eq!(code(chain.apply(&foreign, 9)), Code::OtherSigner);
    let error = chain
        .check_now(&other.manifest())
        .expect_err("another signer's");
    assert_eq!(error.code(), Code::OtherSigner);
    let error = Chain::start(&actor.manifest(), 0).expect_err("no control record");
    assert_eq!(error.code(), Code::BadValue);
}
