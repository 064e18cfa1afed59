//! A log small enough to keep whole, a signer, and a policy that trusts both.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "every test uses another part"
)]

use std::collections::BTreeMap;

use record::control::{Action, Control, Create, Delegate, LogOrigin, SignerName};
use record::void::{OutcomeCounts, Range, Reason, Void, VoidStream};
use record::{
    Bundle, Digest, Endpoint, LogEntry, NumberedKind, Predicate, Record, RecordId, Seq, Signer,
    SignerId, SigningKey, Statement, bucket,
};
use ring::rand::SystemRandom;
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::growth::Edge;
use tlog::merkle::leaf_hash;
use tlog::note::NoteSigner;
use tlog::policy::{PolicyFile, TrustPolicy};
use tlog::proof::TreeView;
use tlog::tile::{Tile, TileError, TileId, TileReader};

pub const AT_MS: u64 = 1_700_000_000_000;

/// Tiles as a log keeps them: a wider one replaces a narrower.
#[derive(Default, Clone)]
pub struct Tiles(pub BTreeMap<(u8, u64), Vec<Digest>>);

impl Tiles {
    pub fn write(&mut self, tiles: Vec<Tile>) {
        for tile in tiles {
            assert_eq!(tile.hashes.len(), usize::from(tile.id.span.width()));
            let key = (tile.id.level, tile.id.span.index());
            if let Some(before) = self.0.insert(key, tile.hashes) {
                assert!(self.0[&key].starts_with(&before), "{key:?} was rewritten");
            }
        }
    }
}

impl TileReader for Tiles {
    fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError> {
        let found = self
            .0
            .get(&(id.level, id.span.index()))
            .ok_or(TileError::Missing(id))?;
        let wide = found.get(..usize::from(id.span.width()));
        wide.map(<[_]>::to_vec).ok_or(TileError::Missing(id))
    }
}

/// A log small enough to keep whole.
pub struct TinyLog {
    pub key: NoteSigner,
    pub edge: Edge,
    pub tiles: Tiles,
    pub leaves: Vec<Vec<u8>>,
}

impl TinyLog {
    pub fn new(origin: &str, seed: u8) -> Self {
        let key = NoteSigner::from_seed(origin, &[seed; 32]).unwrap();
        Self {
            key,
            edge: Edge::empty(),
            tiles: Tiles::default(),
            leaves: Vec::new(),
        }
    }

    pub fn append(&mut self, record: &Record) -> u64 {
        self.append_leaf(record::leaf::leaf_body(&record.envelope, record.key()))
    }

    pub fn append_leaf(&mut self, leaf: Vec<u8>) -> u64 {
        self.tiles.write(self.edge.append(&[leaf_hash(&leaf)]));
        self.leaves.push(leaf);
        self.edge.size() - 1
    }

    pub fn checkpoint(&self) -> SignedCheckpoint {
        let (size, root) = (self.edge.size(), self.edge.root());
        Checkpoint {
            origin: self.key.name().to_owned(),
            size,
            root,
        }
        .sign(&self.key)
        .unwrap()
    }

    pub fn bundle(&self, record: &Record, index: u64) -> Bundle {
        self.bundle_with(record, index, &self.checkpoint())
    }

    pub fn bundle_with(&self, record: &Record, index: u64, signed: &SignedCheckpoint) -> Bundle {
        let Checkpoint { size, root, .. } = signed.checkpoint();
        let verifier = self.key.verifier();
        let entry = LogEntry {
            index,
            log_id: record::bundle::log_id(verifier.name(), verifier.public()),
            tree_size: *size,
            root_hash: *root,
            hashes: TreeView::new(&self.tiles, *size).inclusion(index).unwrap(),
            checkpoint: signed.note().to_string(),
            canonical_body: self.leaves[usize::try_from(index).unwrap()].clone(),
        };
        Bundle::new(record, entry)
    }

    pub fn policy_line(&self) -> String {
        format!("log {}", self.key.verifier().to_vkey())
    }
}

/// A signer with a root key and an instance key.
pub struct Identity {
    pub root: SigningKey,
    pub instance: SigningKey,
    pub id: SignerId,
    pub last: RecordId,
    pub seq: u64,
}

pub fn fresh() -> SigningKey {
    SigningKey::generate(&SystemRandom::new()).unwrap()
}

pub fn sign(key: &SigningKey, id: Option<SignerId>, predicate: impl Into<Predicate>) -> Record {
    let signer = Signer {
        id,
        key: *key.public(),
    };
    let statement = Statement::new(signer, predicate).unwrap();
    key.sign_statement(&statement, &SystemRandom::new())
        .unwrap()
        .open()
        .unwrap()
}

impl Identity {
    pub fn new(home: &TinyLog) -> (Self, Record) {
        let root = fresh();
        let create = Create {
            name: SignerName::new("a provider").unwrap(),
            roles: vec!["provider".parse().unwrap()],
            home_log: LogOrigin::new(home.key.name()).unwrap(),
            recovery: None,
        };
        let record = sign(
            &root,
            None,
            Control::create(bucket::start_ms(AT_MS), create),
        );
        let id = record.signer_id();
        (
            Self {
                root,
                instance: fresh(),
                id,
                last: record.id,
                seq: 1,
            },
            record,
        )
    }

    pub fn control(&mut self, action: Action) -> Record {
        self.seq += 1;
        let control = Control {
            seq: Seq::new(self.seq).unwrap(),
            previous: Some(self.last),
            at_ms: bucket::start_ms(AT_MS),
            action,
        };
        let record = sign(&self.root, Some(self.id), control);
        self.last = record.id;
        record
    }

    pub fn delegate(&mut self) -> Record {
        let key = *self.instance.public();
        self.control(Action::Delegate(Delegate { key, name: None }))
    }

    /// Something said with the instance key.
    pub fn say(&self, number: u64) -> Record {
        self.say_with(&self.instance, number)
    }

    pub fn say_with(&self, key: &SigningKey, number: u64) -> Record {
        let seq = Seq::new(number).unwrap();
        let endpoint: Endpoint = Endpoint {
            provider: record::Provider::Joined(self.id),
            model: "demo".parse().unwrap(),
        };
        let void = Void {
            stream: VoidStream {
                endpoint,
                kind: NumberedKind::Receipt,
            },
            at_ms: bucket::start_ms(AT_MS),
            ranges: vec![Range {
                first: seq,
                last: seq,
            }],
            reason: Reason::Crash,
            outcomes: OutcomeCounts::unknown(),
        };
        sign(key, Some(self.id), void)
    }
}

/// A log with a signer's two control records, one statement, and the policy that trusts both.
pub struct World {
    pub log: TinyLog,
    pub signer: Identity,
    pub record: Record,
    pub index: u64,
    pub controls: Vec<(Record, u64)>,
}

impl World {
    pub fn new() -> Self {
        let mut log = TinyLog::new("log.example", 1);
        let (mut signer, create) = Identity::new(&log);
        let delegate = signer.delegate();
        let controls = [create, delegate]
            .map(|record| (record.clone(), log.append(&record)))
            .into();
        let record = signer.say(1);
        let index = log.append(&record);
        Self {
            log,
            signer,
            record,
            index,
            controls,
        }
    }

    pub fn control(&mut self, action: Action) {
        let record = self.signer.control(action);
        let index = self.log.append(&record);
        self.controls.push((record, index));
    }

    pub fn file(&self, lines: &[String]) -> PolicyFile {
        let mut file = PolicyFile::new(lines.to_vec());
        let bundles: Vec<Bundle> = self
            .controls
            .iter()
            .map(|(record, index)| self.log.bundle(record, *index))
            .collect();
        file.add_signer(self.signer.id, "them", &["provider"], &bundles)
            .unwrap();
        file
    }

    pub fn policy_with(&self, lines: &[String]) -> TrustPolicy {
        TrustPolicy::parse(&self.file(lines).to_json().unwrap()).unwrap()
    }

    pub fn policy(&self) -> TrustPolicy {
        self.policy_with(&[self.log.policy_line(), "quorum none".to_owned()])
    }

    pub fn bundle(&self) -> Bundle {
        self.log.bundle(&self.record, self.index)
    }
}
