//! Signers for tests: they sign real records with real keys.

use record::bucket::{duration_us, start_ms};
use record::content::{Part, Secret};
use record::control::{
    Action, Control, Create, Delegate, HomeLog, LogOrigin, Revoke, RevokeReason,
};
use record::judgement::{Answer, CheckedBy, Judgement, Source};
use record::manifest::{Artifact, Basis, Engine, Manifest, Stated};
use record::observation::{
    Commitments, Conditions, LoadClass, Observation, PromptClass, Purpose, ReceiptCheck, Timing,
    Verdict, WeekTime,
};
use record::receipt::{self, Executed, Finish, Receipt, ResponseFormat};
use record::void::{OutcomeCounts, Range, Reason, Void, VoidStream};
use record::{
    CallId, Endpoint, Exchange, Fault, HttpStatus, ModelName, Nonce, NumberedKind, Outcome, Place,
    Predicate, Provider, Record, RecordId, Seq, Signer, SignerId, SigningKey, Statement, Usage,
    Word,
};
use ring::rand::SystemRandom;

/// When tests happen, Unix ms.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// A signer with one instance key.
pub(crate) struct Party {
    random: SystemRandom,
    root: SigningKey,
    pub(crate) instance: SigningKey,
    pub(crate) id: SignerId,
    pub(crate) controls: Vec<Record>,
}

pub(crate) fn origin() -> LogOrigin {
    LogOrigin::new("example.org/log").expect("an origin")
}

impl Party {
    #[expect(clippy::disallowed_methods, reason = "tests make their own keys")]
    pub(crate) fn new(name: &str) -> Self {
        let random = SystemRandom::new();
        let root = SigningKey::generate(&random).expect("a key");
        let instance = SigningKey::generate(&random).expect("a key");
        let create = Create {
            name: name.parse().expect("a name"),
            roles: vec![Word::new("observer").expect("a word")],
            home_log: origin(),
            recovery: None,
        };
        let statement = Statement::new(
            Signer {
                id: None,
                key: *root.public(),
            },
            Control::create(start_ms(START_MS), create),
        )
        .expect("a statement");
        let first = signed(&root, &statement, &random);
        let mut party = Self {
            random,
            root,
            instance,
            id: first.signer_id(),
            controls: vec![first],
        };
        let key = *party.instance.public();
        party.control(Action::Delegate(Delegate { key, name: None }));
        party
    }

    fn control(&mut self, action: Action) -> Record {
        let last = self.controls.last().expect("there is a first one");
        let control = Control {
            seq: Seq::new(self.controls.len() as u64 + 1).expect("a number"),
            previous: Some(last.id),
            at_ms: start_ms(START_MS),
            action,
        };
        let signer = Signer {
            id: Some(self.id),
            key: *self.root.public(),
        };
        let statement = Statement::new(signer, control).expect("a statement");
        let record = signed(&self.root, &statement, &self.random);
        self.controls.push(record.clone());
        record
    }

    pub(crate) fn revoke(&mut self) -> Record {
        let key_id = self.instance.key_id();
        self.control(Action::Revoke(Revoke {
            key_id,
            reason: RevokeReason::Compromised,
        }))
    }

    pub(crate) fn move_home(&mut self, origin: &str) -> Record {
        let home_log = LogOrigin::new(origin).expect("an origin");
        self.control(Action::HomeLog(HomeLog { home_log }))
    }

    pub(crate) fn signer(&self) -> Signer {
        Signer {
            id: Some(self.id),
            key: *self.instance.public(),
        }
    }

    fn about(&self, predicate: impl Into<Predicate>) -> Record {
        let secret = Secret::generate(&self.random).expect("random");
        let exchange = Exchange {
            request: secret.commit(Part::Request, b"request"),
            response: Some(secret.commit(Part::Response, b"response")),
        };
        let statement = Statement::about(self.signer(), exchange, predicate).expect("a statement");
        signed(&self.instance, &statement, &self.random)
    }

    pub(crate) fn observe(&self, endpoint: &Endpoint, seq: u64, with: &See) -> Record {
        self.about(self.observation(endpoint, seq, with))
    }

    /// The same with something else changed.
    pub(crate) fn observe_with(
        &self,
        (endpoint, seq, with): (&Endpoint, u64, &See),
        change: impl FnOnce(&mut Observation),
    ) -> Record {
        let mut seen = self.observation(endpoint, seq, with);
        change(&mut seen);
        self.about(seen)
    }

    fn observation(&self, endpoint: &Endpoint, seq: u64, with: &See) -> Observation {
        let joined = endpoint.provider.signer().is_some();
        let receipt_check = match (joined, with.receipt, with.receipt_invalid) {
            (false, ..) => ReceiptCheck::NotJoined,
            (true, _, true) => ReceiptCheck::Invalid,
            (true, Some(_), false) => ReceiptCheck::Verified,
            (true, None, false) => ReceiptCheck::Missing,
        };
        Observation {
            stream: place(endpoint, seq),
            call: CallId::generate(&self.random).expect("random"),
            attempt: 1,
            nonce: Nonce::generate(&self.random).expect("random"),
            receipt: with.receipt,
            receipt_check,
            outcome: with.outcome,
            fault: with.fault.or(with.outcome.usual_fault()),
            http_status: Some(HttpStatus::new(200).expect("a status")),
            streamed: false,
            timing: Timing {
                start_ms: start_ms(with.start_ms),
                ttft_us: (with.outcome != Outcome::Canceled)
                    .then(|| duration_us(with.total_us / 2)),
                inter_token: None,
                total_us: duration_us(with.total_us),
            },
            usage: None,
            schema: with.schema,
            tools: Verdict::NotChecked,
            conditions: conditions(with),
            client: record::sha256(b"client"),
            tls_key: None,
            commitments: Commitments {
                exact: record::sha256(b"exact"),
            },
        }
    }

    pub(crate) fn receipt(&self, endpoint: &Endpoint, seq: u64) -> Record {
        self.receipt_at(endpoint, seq, START_MS)
    }

    pub(crate) fn receipt_at(&self, endpoint: &Endpoint, seq: u64, at_ms: u64) -> Record {
        self.about(Receipt {
            stream: place(endpoint, seq),
            manifest: RecordId::from_bytes([7; 32]),
            caller: None,
            executed: Executed {
                temperature_ppm: None,
                top_p_ppm: None,
                seed: None,
                max_tokens: None,
                n: 1,
                stop: 0,
                logprobs: None,
                tools: 0,
                response_format: ResponseFormat::Text,
            },
            commitments: receipt::Commitments {
                tokens: None,
                exact: record::sha256(b"exact"),
            },
            usage: Some(Usage {
                prompt_tokens: record::bucket::tokens(3),
                completion_tokens: record::bucket::tokens(4),
            }),
            finish: Some(Finish::Stop),
            outcome: Outcome::Ok,
            http_status: HttpStatus::new(200).expect("a status"),
            streamed: false,
            timing: receipt::Timing {
                start_ms: start_ms(at_ms),
                queue_us: duration_us(0),
                ttft_us: None,
                total_us: duration_us(5000),
            },
            price_micro_credits: None,
        })
    }

    /// What is served under a model's name, in this number format, said at `at_ms`.
    pub(crate) fn manifest(&self, model: &str, precision: &str, at_ms: u64) -> Record {
        let text = |text: &str| text.parse().expect("a short text");
        let stated = |value: &str| Stated {
            value: value.parse().expect("a short text"),
            basis: Basis::Declared,
        };
        let manifest = Manifest {
            at_ms: start_ms(at_ms),
            model: name(model),
            weights: Artifact::declared(Some(text("weights")), None),
            tokenizer: Artifact::declared(None, None),
            chat_template: Artifact::declared(None, None),
            precision: stated(precision),
            kv_precision: stated("unknown"),
            engine: Engine {
                name: "engine".parse().expect("a name"),
                version: "1".parse().expect("a version"),
                basis: Basis::Declared,
            },
            sampler: "greedy".parse().expect("a short text"),
            batch_size: None,
            context_tokens: None,
        };
        let statement = Statement::new(self.signer(), manifest).expect("a statement");
        signed(&self.instance, &statement, &self.random)
    }

    pub(crate) fn void(
        &self,
        endpoint: &Endpoint,
        first: u64,
        last: u64,
        reason: Reason,
    ) -> Record {
        let void = Void {
            stream: VoidStream {
                endpoint: endpoint.clone(),
                kind: NumberedKind::Observation,
            },
            at_ms: start_ms(START_MS),
            ranges: vec![Range {
                first: Seq::new(first).expect("a number"),
                last: Seq::new(last).expect("a number"),
            }],
            reason,
            outcomes: OutcomeCounts::unknown(),
        };
        let statement = Statement::new(self.signer(), void).expect("a statement");
        signed(&self.instance, &statement, &self.random)
    }

    /// What is said of answers of which this party has recorded observations.
    pub(crate) fn judge(
        &self,
        endpoint: &Endpoint,
        answers: &[(&Record, u64)],
        said: Said<'_>,
    ) -> Record {
        let answers = answers.iter().map(|(record, seq)| Answer {
            record: record.id,
            seq: Seq::new(*seq).expect("a number"),
        });
        let digest = record::sha256(b"under a secret");
        let judged = Judgement {
            at_ms: start_ms(START_MS),
            endpoint: endpoint.clone(),
            observer: self.instance.key_id(),
            answers: answers.collect(),
            conditions: conditions(&See::ok()),
            source: match said {
                Said::Reported(_) => Source::Reported,
                Said::Checked(_) | Said::Agree(_) => Source::Check,
            },
            correct: match said {
                Said::Reported(correct) | Said::Checked(correct) => Some(correct),
                Said::Agree(_) => None,
            },
            groups: match said {
                Said::Agree(groups) => Some(groups.to_vec()),
                Said::Reported(_) | Said::Checked(_) => None,
            },
            check: (!matches!(said, Said::Reported(_))).then_some(CheckedBy {
                case: digest,
                assertions: digest,
            }),
        };
        let statement = Statement::new(self.signer(), judged).expect("a statement");
        signed(&self.instance, &statement, &self.random)
    }

    /// A record of a kind that nobody has invented yet.
    pub(crate) fn forecast(&self) -> Record {
        let digest = "ab".repeat(32);
        let payload = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"x","digest":{{"sha256":"{digest}"}}}}],"predicateType":"urn:longrun:horoscope:v1","predicate":{{"signer":{{"id":"{}","key":"{}"}},"stars":5}}}}"#,
            self.id,
            base64(self.instance.public().spki()),
        );
        let envelope = self
            .instance
            .sign(payload.as_bytes(), &self.random)
            .expect("signs");
        envelope.open().expect("verifies")
    }
}

/// What is said of answers.
#[derive(Clone, Copy)]
pub(crate) enum Said<'a> {
    Reported(bool),
    Checked(bool),
    Agree(&'a [u32]),
}

fn conditions(with: &See) -> Conditions {
    Conditions {
        prompt: with.prompt,
        load: LoadClass::Solo,
        region: Word::new("unknown").expect("a word"),
        week: WeekTime::of(with.start_ms),
        purpose: with.purpose,
    }
}

/// What an observation saw.
#[derive(Clone, Copy)]
pub(crate) struct See {
    pub(crate) outcome: Outcome,
    pub(crate) fault: Option<Fault>,
    pub(crate) receipt: Option<RecordId>,
    pub(crate) receipt_invalid: bool,
    pub(crate) start_ms: u64,
    pub(crate) total_us: u64,
    pub(crate) schema: Verdict,
    pub(crate) prompt: PromptClass,
    pub(crate) purpose: Option<Purpose>,
}

impl See {
    pub(crate) fn ok() -> Self {
        Self {
            outcome: Outcome::Ok,
            fault: None,
            receipt: None,
            receipt_invalid: false,
            start_ms: START_MS,
            total_us: 20_000,
            schema: Verdict::NotChecked,
            prompt: PromptClass::Short,
            purpose: None,
        }
    }

    pub(crate) fn failed(outcome: Outcome, fault: Fault) -> Self {
        Self {
            outcome,
            fault: Some(fault),
            ..Self::ok()
        }
    }

    pub(crate) fn with_receipt(receipt: &Record) -> Self {
        Self {
            receipt: Some(receipt.id),
            ..Self::ok()
        }
    }
}

pub(crate) fn joined(provider: &Party, model: &str) -> Endpoint {
    Endpoint {
        provider: Provider::Joined(provider.id),
        model: name(model),
    }
}

pub(crate) fn outside(model: &str) -> Endpoint {
    let provider = "https://api.example.com".parse().expect("an origin");
    Endpoint {
        provider,
        model: name(model),
    }
}

fn name(model: &str) -> ModelName {
    model.parse().expect("a model's name")
}

fn place(endpoint: &Endpoint, seq: u64) -> Place {
    Place {
        endpoint: endpoint.clone(),
        seq: Seq::new(seq).expect("a number"),
    }
}

fn signed(key: &SigningKey, statement: &Statement, random: &SystemRandom) -> Record {
    let envelope = key.sign_statement(statement, random).expect("signs");
    envelope.open().expect("verifies")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
