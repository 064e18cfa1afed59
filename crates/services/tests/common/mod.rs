//! Records to log, and stores to log them in.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "every test uses another part"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::control::{Control, Create, LogOrigin, SignerName};
use record::{Envelope, Record, Signer, SigningKey, Statement, bucket};
use ring::rand::SystemRandom;
use ring::signature::EcdsaKeyPair;
use services::admission::Submission;
use services::clock::Clock;
use services::fsck::{self, FsckError, FsckOptions, FsckReport};
use services::sequencer::{Answer, LogParts, OpenError, Sequencer, SubmitError};
use store::memory::Memory;
use store::seen::MemorySeen;
use store::{Blobs, Heads};
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::note::{NoteSigner, NoteVerifier};
use tlog::proof::verify_inclusion;

pub const ORIGIN: &str = "log.example/test";
/// Rounds as fast as they come: tests wait for nothing.
pub const AT_ONCE: Duration = Duration::ZERO;

/// Somebody who signs records.
pub struct Author {
    key: SigningKey,
    random: SystemRandom,
}

impl Author {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        Self {
            key: SigningKey::generate(&random).unwrap(),
            random,
        }
    }

    /// A signed record that differs from all others with another number.
    pub fn envelope(&self, number: u64) -> Envelope {
        let create = Create {
            name: SignerName::new(format!("record {number}")).unwrap(),
            roles: vec!["provider".parse().unwrap()],
            home_log: LogOrigin::new(ORIGIN).unwrap(),
            recovery: None,
        };
        let signer = Signer {
            id: None,
            key: *self.key.public(),
        };
        let control = Control::create(bucket::start_ms(1_700_000_000_000), create);
        let statement = Statement::new(signer, control).unwrap();
        self.key.sign_statement(&statement, &self.random).unwrap()
    }

    /// Any bytes under this author's signature, also those that no signer of ours would sign.
    pub fn sign(&self, payload: &[u8]) -> Envelope {
        let pem = self.key.to_pem();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let pkcs8 = STANDARD.decode(base64).unwrap();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &self.random).unwrap();
        let signature = pair
            .sign(&self.random, &record::envelope::pae(payload))
            .unwrap();
        Envelope::new(payload.to_vec(), signature.as_ref().to_vec()).unwrap()
    }

    pub fn record(&self, number: u64) -> Record {
        self.envelope(number).open().unwrap()
    }

    pub fn submission(&self, number: u64) -> Submission {
        Submission::of(&self.record(number))
    }

    pub fn submissions(&self, numbers: std::ops::Range<u64>) -> Vec<Submission> {
        numbers.map(|number| self.submission(number)).collect()
    }
}

/// A clock that stands where it is put.
#[derive(Clone, Default)]
pub struct SetClock(Arc<AtomicU64>);

impl SetClock {
    pub fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    pub fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub const NOON_MS: u64 = 1_763_640_000_000;

pub fn key() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, &[7; 32]).unwrap()
}

pub fn verifier() -> NoteVerifier {
    key().verifier()
}

/// A log in memory that can be stopped and opened again on what is left.
pub struct MemoryLog {
    pub store: Memory,
    pub clock: SetClock,
}

impl MemoryLog {
    pub fn new() -> Self {
        Self {
            store: Memory::new(),
            clock: SetClock::at(NOON_MS),
        }
    }

    pub fn parts(&self) -> LogParts {
        LogParts {
            blobs: Arc::new(self.store.clone()),
            heads: Arc::new(self.store.clone()),
            seen: Box::new(MemorySeen::default()),
            clock: Arc::new(self.clock.clone()),
            key: key(),
            cosigning: None,
        }
    }

    pub fn start(&self) -> Result<Sequencer, OpenError> {
        Sequencer::start(self.parts(), AT_ONCE)
    }

    /// The published checkpoint.
    pub fn checkpoint(&self) -> Checkpoint {
        let bytes = self
            .store
            .read("checkpoint")
            .unwrap()
            .expect("something is published");
        SignedCheckpoint::open(&bytes, &verifier())
            .unwrap()
            .checkpoint()
            .clone()
    }

    /// The size of the committed tree.
    pub fn committed(&self) -> u64 {
        let head = String::from_utf8(self.store.load().unwrap().expect("a head")).unwrap();
        head.lines().nth(3).expect("the size line").parse().unwrap()
    }

    pub fn fsck(&self) -> Result<FsckReport, FsckError> {
        let options = FsckOptions {
            signatures: true,
            ..FsckOptions::default()
        };
        fsck::check(Arc::new(self.store.clone()), &verifier(), &options, |_| {})
    }
}

/// Checks everything that an answer says.
pub fn check_answer(batch: &[Submission], answer: &Answer) {
    let Checkpoint { size, root, .. } = &answer.published.checkpoint;
    let signed = SignedCheckpoint::parse(answer.published.note.as_bytes()).unwrap();
    assert_eq!(signed.checkpoint(), &answer.published.checkpoint);
    assert_eq!(answer.placed.len(), batch.len());
    for (submission, placed) in batch.iter().zip(&answer.placed) {
        let placed = placed.as_ref().unwrap();
        assert_eq!(placed.id, submission.id());
        let leaf = record::leaf::Leaf::parse(&placed.leaf).unwrap();
        assert_eq!(leaf.record_id, submission.id());
        verify_inclusion(&leaf.hash(), placed.index, *size, &placed.proof, root).unwrap();
    }
}

/// The indices of an answer, checked. A record that was refused fails the batch.
#[allow(clippy::needless_pass_by_value, reason = "a batch is handed over")]
pub fn append(log: &Sequencer, batch: Vec<Submission>) -> Result<Vec<u64>, SubmitError> {
    let answer = log.submit_and_wait(batch.clone())?;
    if let Some(refusal) = answer
        .placed
        .iter()
        .find_map(|placed| placed.as_ref().err())
    {
        return Err(SubmitError::Failed(refusal.to_string()));
    }
    check_answer(&batch, &answer);
    Ok(answer
        .placed
        .into_iter()
        .map(|placed| placed.unwrap().index)
        .collect())
}

/// A store whose writes wait while the gate is shut.
#[derive(Clone, Default)]
pub struct Gated {
    pub store: Memory,
    pub gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Gated {
    pub fn shut(&self) {
        *self.gate.0.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.gate.0.lock().unwrap() = false;
        self.gate.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(shut, |shut| *shut).unwrap());
    }
}

impl Blobs for Gated {
    fn put_new(&self, path: &str, bytes: &[u8]) -> store::Result<()> {
        self.pass();
        self.store.put_new(path, bytes)
    }
    fn put_replace(&self, path: &str, bytes: &[u8]) -> store::Result<()> {
        self.pass();
        self.store.put_replace(path, bytes)
    }
    fn read(&self, path: &str) -> store::Result<Option<Vec<u8>>> {
        self.store.read(path)
    }
    fn delete(&self, path: &str) -> store::Result<()> {
        self.store.delete(path)
    }
    fn list(&self, directory: &str) -> store::Result<Vec<String>> {
        self.store.list(directory)
    }
}
