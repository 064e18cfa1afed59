//! Attempts in the shape of records, so that they go through the fold that records go through.
//! Nobody signs them: the key is the curve's generator, whose private half is the number 1, and
//! the signature is one byte. Such a record verifies nowhere, and none of them leaves here.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use record::bucket::{duration_us, start_ms, tokens};
use record::control::{Action, Control, Create, Delegate, LogOrigin};
use record::observation::{
    Commitments, Conditions, LoadClass, Observation, PromptClass, ReceiptCheck, Timing, Verdict,
    WeekTime,
};
use record::{
    CallId, Digest, Endpoint, Envelope, Exchange, HttpStatus, Nonce, Outcome, Place, Predicate,
    PublicKey, Record, Seq, Signer, SignerId, Statement, Usage, Word,
};
use reliability::fold::{Applied, History, Policy};

use super::Attempt;

/// The generator of P-256 (SEC 2, 2.4.2) and its negative, as uncompressed points in hex.
const GENERATOR: [&str; 2] = [
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296b01cbd1c01e58065711814b583f061e9d431cca994cea1313449bf97c840ae0a",
];
/// DER before the point; `docs/format.md`, section 3.
const SPKI_PREFIX: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// A history of attempts that nobody signed.
pub(super) struct Folding {
    history: History,
    signer: Signer,
    numbers: BTreeMap<Endpoint, u64>,
    index: u64,
}

impl Folding {
    pub(super) fn new() -> Result<Self> {
        let [root, instance] = [key(GENERATOR[0])?, key(GENERATOR[1])?];
        let create = Create {
            name: "imported".parse()?,
            roles: vec![Word::new("observer")?],
            home_log: LogOrigin::new("imported")?,
            recovery: None,
        };
        let first = Signer {
            id: None,
            key: root,
        };
        let created = unsigned(&Statement::new(
            first,
            Control::create(start_ms(0), create),
        )?)?;
        let id = created.signer_id();
        let delegate = Control {
            seq: Seq::new(2)?,
            previous: Some(created.id),
            at_ms: start_ms(0),
            action: Action::Delegate(Delegate {
                key: instance,
                name: None,
            }),
        };
        let by_root = Signer {
            id: Some(id),
            key: root,
        };
        let delegated = unsigned(&Statement::new(by_root, delegate)?)?;
        let mut folding = Self {
            history: History::new(Policy::without_log()),
            signer: signer(id, instance),
            numbers: BTreeMap::new(),
            index: 0,
        };
        folding.apply(&created)?;
        folding.apply(&delegated)?;
        Ok(folding)
    }

    /// Folds the next attempt.
    pub(super) fn add(&mut self, attempt: &Attempt) -> Result<()> {
        let number = self.numbers.entry(attempt.endpoint.clone()).or_default();
        *number += 1;
        let place = Place {
            endpoint: attempt.endpoint.clone(),
            seq: Seq::new(*number)?,
        };
        let nothing = Digest::from_bytes([0; 32]);
        let exchange = Exchange {
            request: nothing,
            response: Some(nothing),
        };
        let statement = Statement::about(
            self.signer.clone(),
            exchange,
            Predicate::from(observation(attempt, place)?),
        )?;
        let record = unsigned(&statement)?;
        self.apply(&record)
    }

    pub(super) fn finish(self) -> History {
        self.history
    }

    fn apply(&mut self, record: &Record) -> Result<()> {
        let applied = self.history.apply(record, self.index);
        self.index += 1;
        anyhow::ensure!(applied == Applied::Counted, "not counted: {applied:?}");
        Ok(())
    }
}

fn signer(id: SignerId, key: PublicKey) -> Signer {
    Signer { id: Some(id), key }
}

fn key(point: &str) -> Result<PublicKey> {
    let hex = format!("{SPKI_PREFIX}{point}");
    let bytes: Option<Vec<u8>> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect();
    Ok(PublicKey::from_spki(&bytes.context("hex")?)?)
}

fn unsigned(statement: &Statement) -> Result<Record> {
    let envelope = Envelope::new(statement.to_payload()?, vec![0])?;
    Ok(envelope.open_unverified()?)
}

fn observation(attempt: &Attempt, place: Place) -> Result<Observation> {
    let prompt = attempt.tokens.map_or(0, |(prompt, _)| prompt);
    let joined = attempt.endpoint.provider.signer().is_some();
    let status = match attempt.status {
        Some(status) => Some(HttpStatus::new(status)?),
        None if attempt.outcome == Outcome::Ok => Some(HttpStatus::new(200)?),
        None => None,
    };
    Ok(Observation {
        stream: place,
        call: CallId::from_bytes([0; 16]),
        attempt: 1,
        nonce: Nonce::from_bytes([0; 16]),
        receipt: None,
        receipt_check: if joined {
            ReceiptCheck::Missing
        } else {
            ReceiptCheck::NotJoined
        },
        outcome: attempt.outcome,
        fault: attempt.fault,
        http_status: status,
        streamed: attempt.streamed,
        timing: Timing {
            start_ms: start_ms(attempt.start_ms),
            ttft_us: attempt.ttft_us.map(duration_us),
            inter_token: None,
            total_us: duration_us(attempt.total_us),
        },
        usage: attempt.tokens.map(|(prompt, completion)| Usage {
            prompt_tokens: tokens(prompt),
            completion_tokens: tokens(completion),
        }),
        // What a breach of the schema is told of must have failed it.
        schema: if attempt.outcome == Outcome::SchemaViolation {
            Verdict::Failed
        } else {
            Verdict::NotChecked
        },
        tools: Verdict::NotChecked,
        conditions: Conditions {
            prompt: PromptClass::of(prompt),
            load: LoadClass::Solo,
            region: Word::new("unknown")?,
            week: WeekTime::of(attempt.start_ms),
            purpose: None,
        },
        client: Digest::from_bytes([0; 32]),
        tls_key: None,
        commitments: Commitments {
            exact: Digest::from_bytes([0; 32]),
        },
    })
}
