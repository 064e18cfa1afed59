//! A node under test, and a caller who records.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::http::Client;
use engine::sse::{Event, Splitter};
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use node::{Node, NodeConfig, Served};
use record::content::{Commitment, Part};
use record::receipt::Receipt;
use record::{Envelope, Outcome, Predicate, Record, Secret};
use recorder::{Config, Context, Entry, Recorder};
use serde_json::{Value, json};

use crate::scripted::Scripted;

pub(crate) const MODEL: &str = "parrot";
pub(crate) const SECRET: [u8; 32] = [0x5e; 32];

pub(crate) fn recorder(directory: &Path) -> Recorder {
    recorder_with(directory, |_| {})
}

/// A recorder that believes it is this time.
pub(crate) fn recorder_at(directory: &Path, unix_ms: u64) -> Recorder {
    struct At(u64);
    impl recorder::Clock for At {
        fn unix_ms(&self) -> u64 {
            self.0
        }
    }
    let context = Context {
        clock: Arc::new(At(unix_ms)),
        ..Context::system().expect("randomness")
    };
    Recorder::open(&Config::new(directory, "test node", "provider"), context).expect("opens")
}

pub(crate) fn recorder_with(directory: &Path, change: impl FnOnce(&mut Config)) -> Recorder {
    let mut config = Config::new(directory, "test node", "provider");
    config.spool.linger = Duration::from_millis(1);
    change(&mut config);
    Recorder::open(&config, Context::system().expect("randomness")).expect("opens")
}

/// A running node and a client for it.
pub(crate) struct Fixture {
    pub(crate) node: Node,
    pub(crate) asked: Arc<AtomicUsize>,
    pub(crate) canceled: Arc<AtomicUsize>,
    pub(crate) directory: Arc<tempfile::TempDir>,
    client: Client,
}

impl Fixture {
    pub(crate) async fn start() -> Fixture {
        Fixture::with(|_| {}, |_| {}).await
    }

    pub(crate) async fn with(
        config: impl FnOnce(&mut Config),
        served: impl FnOnce(&mut Served),
    ) -> Fixture {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let engine = Scripted::new(MODEL);
        let (asked, canceled) = (engine.asked.clone(), engine.canceled.clone());
        let recorder = recorder_with(&directory.path().join("node"), config);
        let mut model = Served::engine(Arc::new(engine));
        served(&mut model);
        let mut fixture = Fixture::serving(recorder, vec![model], directory).await;
        (fixture.asked, fixture.canceled) = (asked, canceled);
        fixture
    }

    pub(crate) async fn serving(
        recorder: Recorder,
        models: Vec<Served>,
        directory: Arc<tempfile::TempDir>,
    ) -> Fixture {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let node = node::serve(NodeConfig {
            listen,
            recorder,
            models,
        })
        .await
        .expect("serves");
        let client = engine::http::client();
        Fixture {
            node,
            asked: Arc::default(),
            canceled: Arc::default(),
            directory,
            client,
        }
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Response<hyper::body::Incoming> {
        self.client.request(request).await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let request = Request::get(self.url(path))
            .body(Full::default())
            .expect("a request");
        let (head, body) = self.send(request).await.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (
            head.status.as_u16(),
            serde_json::from_slice(&body).expect("JSON"),
        )
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.node.address())
    }

    /// Posts to the chat path, as a caller who records if there is a number.
    pub(crate) async fn post(&self, body: impl Into<Bytes>, seq: Option<u64>) -> Answered {
        self.post_to("/v1/chat/completions", body, seq).await
    }

    /// As [`Fixture::post`], to another path.
    pub(crate) async fn post_to(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        seq: Option<u64>,
    ) -> Answered {
        let body = body.into();
        let mut request = Request::post(self.url(path));
        if let Some(seq) = seq {
            for (name, value) in recording(seq) {
                request = request.header(name, value);
            }
        }
        let response = self
            .send(request.body(Full::new(body.clone())).expect("a request"))
            .await;
        let (head, answer) = response.into_parts();
        Answered {
            status: head.status.as_u16(),
            headers: head.headers,
            request: body,
            body: answer.collect().await.expect("a body").to_bytes(),
        }
    }

    /// Everything recorded about inferences, in order.
    pub(crate) async fn receipts(&self) -> Vec<(Record, Box<Receipt>, Entry)> {
        let entries = self
            .node
            .recorder()
            .entries(0, 100_000)
            .await
            .expect("read");
        entries
            .into_iter()
            .filter_map(
                |(_, entry)| match entry.record.statement.predicate.clone() {
                    Predicate::Receipt(receipt) => Some((entry.record.clone(), receipt, entry)),
                    _ => None,
                },
            )
            .collect()
    }

    /// Waits for the receipt with this number.
    pub(crate) async fn receipt(&self, seq: u64) -> (Record, Box<Receipt>) {
        let found = async {
            loop {
                let all = self.receipts().await;
                let wanted = all
                    .into_iter()
                    .find(|(_, it, _)| it.stream.seq.number() == seq);
                if let Some((record, receipt, _)) = wanted {
                    return (record, receipt);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .expect("a receipt in time")
    }

    /// Waits until the engine was asked so many times.
    pub(crate) async fn asked(&self, count: usize) {
        until(&self.asked, count, "the engine was asked").await;
    }

    pub(crate) async fn canceled(&self, count: usize) {
        until(&self.canceled, count, "the engine was canceled").await;
    }
}

async fn until(counter: &AtomicUsize, count: usize, what: &str) {
    let seen = async {
        while counter.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen)
        .await
        .expect(what);
}

/// The headers of a caller who records.
pub(crate) fn recording(seq: u64) -> [(&'static str, String); 4] {
    [
        (node::SECRET, hex::encode(SECRET)),
        (node::NONCE, hex::encode([7; 16])),
        (node::OBSERVER, hex::encode([8; 32])),
        (node::SEQ, seq.to_string()),
    ]
}

pub(crate) fn chat(says: &str, stream: bool) -> String {
    json!({
        "model": MODEL,
        "stream": stream,
        "messages": [{"role": "user", "content": says}],
    })
    .to_string()
}

/// An answer as the caller has it.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) request: Bytes,
    pub(crate) body: Bytes,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The error's message, after checking its shape.
    pub(crate) fn error(&self) -> String {
        let error = self.json();
        let error = &error["error"];
        assert!(
            error["type"].is_string()
                && error.get("param").is_some()
                && error.get("code").is_some()
        );
        error["message"].as_str().expect("a message").to_owned()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let mut splitter = Splitter::default();
        splitter.push(&self.body);
        std::iter::from_fn(|| splitter.next_event())
            .map(|event| event.expect("small"))
            .collect()
    }

    /// The payloads that count, as a caller would gather them.
    pub(crate) fn payloads(&self) -> Vec<Bytes> {
        let counted = |event: &Event| event.name.is_none() && !event.is_done();
        self.events()
            .into_iter()
            .filter(counted)
            .filter_map(|event| event.data)
            .collect()
    }

    /// The text of all chunks.
    pub(crate) fn text(&self) -> String {
        self.payloads()
            .iter()
            .map(|payload| {
                let chunk: Value = serde_json::from_slice(payload).expect("JSON");
                chunk["choices"][0]["delta"]["content"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.events().last().is_some_and(Event::is_done)
    }

    /// The receipt that came along, opened.
    pub(crate) fn receipt(&self) -> Record {
        let header = self
            .headers
            .get(node::RECEIPT)
            .map(|it| STANDARD.decode(it).expect("base64"));
        let event = self
            .events()
            .into_iter()
            .find(|event| event.is_named(node::RECEIPT_EVENT));
        let json = header.or_else(|| event.map(|event| event.data.expect("data").to_vec()));
        let envelope = Envelope::from_json(&json.expect("a receipt")).expect("an envelope");
        envelope.open().expect("verifies")
    }

    /// The receipt, after checking that it commits to exactly these bytes.
    pub(crate) fn checked(&self, outcome: Outcome, seq: u64) -> Box<Receipt> {
        let record = self.receipt();
        let secret = Secret::from_bytes(SECRET);
        assert_eq!(
            record.statement.request(),
            Some(secret.commit(Part::Request, &self.request))
        );
        let streamed = self.headers["content-type"]
            .as_bytes()
            .starts_with(b"text/event-stream");
        let response = if streamed {
            let mut commitment = Commitment::start(&secret.salt(Part::Response));
            self.payloads()
                .iter()
                .for_each(|payload| commitment.update_event(payload));
            commitment.finish()
        } else {
            secret.commit(Part::Response, &self.body)
        };
        assert_eq!(
            record.statement.response(),
            Some(response),
            "other bytes were sent"
        );
        let Predicate::Receipt(receipt) = record.statement.predicate else {
            panic!("not a receipt")
        };
        assert_eq!(receipt.outcome, outcome);
        assert_eq!(receipt.http_status.code(), self.status);
        let caller = receipt.caller.as_ref().expect("bound");
        assert_eq!(
            (caller.nonce.as_bytes(), caller.seq.number()),
            (&[7; 16], seq)
        );
        assert_eq!(caller.observer.as_bytes(), &[8; 32]);
        receipt
    }
}
