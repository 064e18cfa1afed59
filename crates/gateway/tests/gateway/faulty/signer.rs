//! The signing side of a test node: real keys, real control records, manifests and receipts, and
//! every way in which a receipt can be wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use record::bucket::{duration_us, start_ms, tokens};
use record::content::Part;
use record::control::{Action, Control, Create, Delegate, LogOrigin};
use record::manifest::{Artifact, Basis, Engine, Manifest, Stated};
use record::receipt::{Caller, Commitments, Executed, Finish, Receipt, ResponseFormat, Timing};
use record::{
    Endpoint, Envelope, Exchange, HttpStatus, Outcome, Place, Provider, RecordId, Secret, Seq,
    Signer, SignerId, SigningKey, Statement, Usage,
};
use ring::rand::SystemRandom;

use super::{Request, TOKENS};

/// What is wrong with the receipts of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// None is sent.
    Missing,
    /// A bit of the signature is turned.
    BadSignature,
    /// The commitment is to another request.
    OtherRequest,
    /// The commitment is to another response.
    OtherResponse,
    /// The first receipt again.
    Replayed,
    /// It names another number of the observer.
    OtherSeq,
    /// It counts other tokens than the answer.
    OtherUsage,
    /// A key signed it that the provider has not delegated.
    ForeignKey,
    /// It names a manifest that the provider does not publish.
    UnknownManifest,
    /// It is no envelope.
    Garbage,
}

/// A node's identity.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    random: SystemRandom,
    instance: SigningKey,
    foreign: SigningKey,
    pub id: SignerId,
    model: String,
    controls: Vec<Envelope>,
    manifests: Mutex<Vec<Envelope>>,
    /// The manifest that receipts name.
    manifest: Mutex<RecordId>,
    /// Manifests that the description holds.
    told: AtomicU64,
    first: Mutex<Option<String>>,
    seq: AtomicU64,
}

const NOW_MS: u64 = 1_800_000_000_000;

impl Node {
    /// A node whose home log is `origin`.
    pub fn new(model: &str, origin: &str) -> Self {
        let random = SystemRandom::new();
        let key = || SigningKey::generate(&random).expect("a key");
        let (root, instance, foreign) = (key(), key(), key());
        let create = Create {
            name: "test node".parse().expect("a name"),
            roles: vec!["provider".parse().expect("a word")],
            home_log: LogOrigin::new(origin).expect("an origin"),
            recovery: None,
        };
        let first = Statement::new(
            Signer {
                id: None,
                key: *root.public(),
            },
            Control::create(start_ms(NOW_MS), create),
        );
        let first = root
            .sign_statement(&first.expect("valid"), &random)
            .expect("signs");
        let id = SignerId::new(first.record_id().digest());
        let delegate = Control {
            seq: Seq::new(2).expect("a number"),
            previous: Some(first.record_id()),
            at_ms: start_ms(NOW_MS),
            action: Action::Delegate(Delegate {
                key: *instance.public(),
                name: None,
            }),
        };
        let signer = Signer {
            id: Some(id),
            key: *root.public(),
        };
        let second = Statement::new(signer, delegate).expect("valid");
        let second = root.sign_statement(&second, &random).expect("signs");
        let node = Self {
            inner: Arc::new(Inner {
                random,
                instance,
                foreign,
                id,
                model: model.to_owned(),
                controls: vec![first, second],
                manifests: Mutex::default(),
                manifest: Mutex::new(RecordId::from_bytes([0; 32])),
                told: AtomicU64::new(u64::MAX),
                first: Mutex::default(),
                seq: AtomicU64::new(0),
            }),
        };
        node.publish_manifest("f16");
        node
    }

    pub fn id(&self) -> SignerId {
        self.inner.id
    }

    pub fn controls(&self) -> &[Envelope] {
        &self.inner.controls
    }

    /// Everything that it has said about itself.
    pub fn statements(&self) -> Vec<Envelope> {
        let manifests = self.inner.manifests.lock().expect("whole");
        self.inner
            .controls
            .iter()
            .chain(manifests.iter())
            .cloned()
            .collect()
    }

    /// From here on receipts name a new manifest; the description holds it as well.
    pub fn publish_manifest(&self, precision: &str) {
        let computed = || Artifact::computed(None, record::sha256(precision.as_bytes()), 1);
        let stated = |text: &str| Stated {
            value: text.parse().expect("a text"),
            basis: Basis::Computed,
        };
        let manifest = Manifest {
            at_ms: start_ms(NOW_MS),
            model: self.inner.model.parse().expect("a name"),
            weights: computed(),
            tokenizer: computed(),
            chat_template: computed(),
            precision: stated(precision),
            kv_precision: stated("f16"),
            engine: Engine {
                name: "test".parse().expect("a text"),
                version: "1".parse().expect("a text"),
                basis: Basis::Computed,
            },
            sampler: "none".parse().expect("a text"),
            batch_size: None,
            context_tokens: None,
        };
        let statement = Statement::new(self.signer(), manifest).expect("valid");
        let envelope = self
            .inner
            .instance
            .sign_statement(&statement, &self.inner.random)
            .expect("signs");
        *self.inner.manifest.lock().expect("whole") = envelope.record_id();
        self.inner.manifests.lock().expect("whole").push(envelope);
    }

    fn signer(&self) -> Signer {
        Signer {
            id: Some(self.inner.id),
            key: *self.inner.instance.public(),
        }
    }

    /// What `GET /longrun/v1/node` answers.
    pub fn description(&self) -> String {
        let list = |envelopes: &[Envelope]| {
            let json = envelopes
                .iter()
                .map(|e| String::from_utf8(e.to_json()).expect("JSON"));
            json.collect::<Vec<_>>().join(",")
        };
        let manifests = self.inner.manifests.lock().expect("whole");
        format!(
            "{{\"provider\":\"{}\",\"controls\":[{}],\"manifests\":[{}],\"log\":null,\"log_url\":null}}",
            self.inner.id,
            list(&self.inner.controls),
            list(&manifests)
        )
    }

    /// The receipt for an exchange, as one line of JSON.
    pub fn receipt(
        &self,
        flaw: Flaw,
        request: &Request,
        (model, status): (&str, u16),
        response: &[u8],
    ) -> Option<String> {
        match flaw {
            Flaw::Missing => return None,
            Flaw::Garbage => return Some("{\"no\":\"envelope\"}".to_owned()),
            Flaw::Replayed => {
                let first = self.inner.first.lock().expect("whole").clone();
                if first.is_some() {
                    return first;
                }
            }
            _ => {}
        }
        let secret: Secret = request
            .header("x-longrun-secret")?
            .parse()
            .expect("a secret");
        let asked: u64 = request.header("x-longrun-seq")?.parse().expect("a number");
        let caller = Caller {
            nonce: request.header("x-longrun-nonce")?.parse().expect("a nonce"),
            observer: request
                .header("x-longrun-observer")?
                .parse()
                .expect("a key id"),
            seq: Seq::new(if flaw == Flaw::OtherSeq {
                asked + 1
            } else {
                asked
            })
            .expect("a number"),
        };
        let asked: &[u8] = if flaw == Flaw::OtherRequest {
            b"another"
        } else {
            &request.body
        };
        let answered: &[u8] = if flaw == Flaw::OtherResponse {
            b"another"
        } else {
            response
        };
        let exchange = Exchange {
            request: secret.commit(Part::Request, asked),
            response: Some(secret.commit(Part::Response, answered)),
        };
        let streamed = String::from_utf8_lossy(&request.body).contains("\"stream\":true");
        let statement = Statement::about(
            self.signer_for(flaw),
            exchange,
            self.statement(flaw, model, status, caller, streamed),
        );
        let key = if flaw == Flaw::ForeignKey {
            &self.inner.foreign
        } else {
            &self.inner.instance
        };
        let envelope = key
            .sign_statement(&statement.expect("valid"), &self.inner.random)
            .expect("signs");
        let envelope = if flaw == Flaw::BadSignature {
            turned(&envelope)
        } else {
            envelope
        };
        let json = String::from_utf8(envelope.to_json()).expect("JSON");
        *self.inner.first.lock().expect("whole") = Some(json.clone());
        Some(json)
    }

    fn signer_for(&self, flaw: Flaw) -> Signer {
        let key = if flaw == Flaw::ForeignKey {
            &self.inner.foreign
        } else {
            &self.inner.instance
        };
        Signer {
            id: Some(self.inner.id),
            key: *key.public(),
        }
    }

    fn statement(
        &self,
        flaw: Flaw,
        model: &str,
        status: u16,
        caller: Caller,
        streamed: bool,
    ) -> Receipt {
        let ok = status == 200;
        let completion = if flaw == Flaw::OtherUsage {
            500
        } else {
            TOKENS as u64
        };
        let manifest = if flaw == Flaw::UnknownManifest {
            RecordId::from_bytes([9; 32])
        } else {
            *self.inner.manifest.lock().expect("whole")
        };
        Receipt {
            stream: Place {
                endpoint: Endpoint {
                    provider: Provider::Joined(self.inner.id),
                    model: model.parse().expect("a name"),
                },
                seq: Seq::new(self.inner.seq.fetch_add(1, Ordering::SeqCst) + 1).expect("a number"),
            },
            manifest,
            caller: Some(caller),
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
            commitments: Commitments {
                tokens: None,
                exact: record::sha256(b"exact"),
            },
            usage: ok.then(|| Usage {
                prompt_tokens: tokens(5),
                completion_tokens: tokens(completion),
            }),
            finish: ok.then_some(Finish::Stop),
            outcome: if ok {
                Outcome::Ok
            } else {
                Outcome::ProviderError
            },
            http_status: HttpStatus::new(status).expect("a status"),
            streamed,
            timing: Timing {
                start_ms: start_ms(NOW_MS),
                queue_us: duration_us(0),
                ttft_us: None,
                total_us: duration_us(5000),
            },
            price_micro_credits: None,
        }
    }
}

/// The envelope with another valid-looking signature.
fn turned(envelope: &Envelope) -> Envelope {
    let mut signature = envelope.signature().to_vec();
    let last = signature.len() - 1;
    signature[last] ^= 1;
    Envelope::new(envelope.payload().to_vec(), signature).expect("an envelope")
}

pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(text).expect("base64")
}
