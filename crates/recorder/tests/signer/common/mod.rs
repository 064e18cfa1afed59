//! A log that does what it is told, and signers in temporary directories.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use record::bucket::{duration_us, start_ms};
use record::content::Part;
use record::leaf::{leaf_body, leaf_hash};
use record::observation::{
    Commitments, Conditions, LoadClass, Observation, PromptClass, ReceiptCheck, Timing, Verdict,
    WeekTime,
};
use record::{
    CallId, Digest, Endpoint, Envelope, Exchange, HttpStatus, NumberedKind, Outcome, Predicate,
    RecordId,
};
use recorder::{Config, Context, Draft, Entry, HomeLog, Numbered, Recorder, State};
use ring::rand::SystemRandom;
use serde_json::json;
use tlog::checkpoint::Checkpoint;
use tlog::merkle::{node_hash, root};
use tlog::note::NoteSigner;

/// How the log behaves from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// 503 with `Retry-After: 0`.
    Down,
    /// Answers, but the proofs are of another tree.
    Lying,
    /// Answers with a checkpoint under another key.
    Impostor,
    /// Refuses every record for good.
    Refusing,
    /// Has not admitted the signer's key yet.
    Unadmitted,
    /// Has admitted this signer and nobody else.
    Admitting(record::SignerId),
    /// Does not list this key any more.
    Without(record::KeyId),
    /// Takes its time over control records, so that others could overtake them.
    SlowControls,
    /// Takes its time over all but control records.
    SlowOthers,
    /// Would take every second record later.
    Busy,
    /// Takes no request with more than this many records.
    Narrow(usize),
    /// Takes this many records of a request, and the others later.
    Rationing(usize),
}

#[derive(Default)]
pub(crate) struct Logged {
    pub(crate) ids: Vec<RecordId>,
    leaves: Vec<Vec<u8>>,
    index: HashMap<RecordId, usize>,
    pub(crate) requests: usize,
    /// Records in them.
    pub(crate) lines: usize,
}

pub(crate) struct FakeLog {
    pub(crate) url: String,
    pub(crate) vkey: String,
    pub(crate) mood: Arc<Mutex<Mood>>,
    pub(crate) logged: Arc<Mutex<Logged>>,
}

impl FakeLog {
    pub(crate) async fn start() -> FakeLog {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let random = SystemRandom::new();
        let signer = Arc::new(NoteSigner::generate("example.com/log", &random).expect("a key"));
        let vkey = signer.verifier().to_vkey();
        let mood = Arc::new(Mutex::new(Mood::Well));
        let logged = Arc::new(Mutex::new(Logged::default()));
        let state = (signer, mood.clone(), logged.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, state.clone()));
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await;
                });
            }
        });
        FakeLog {
            url,
            vkey,
            mood,
            logged,
        }
    }

    pub(crate) fn home(&self) -> HomeLog {
        HomeLog {
            url: self.url.clone(),
            vkey: self.vkey.clone(),
        }
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().expect("whole") = mood;
    }

    pub(crate) fn ids(&self) -> Vec<RecordId> {
        self.logged.lock().expect("whole").ids.clone()
    }
}

fn is_control(line: &[u8]) -> bool {
    let record = Envelope::from_json(line)
        .and_then(Envelope::open)
        .expect("well signed");
    matches!(record.statement.predicate, Predicate::Control(_))
}

type LogState = (Arc<NoteSigner>, Arc<Mutex<Mood>>, Arc<Mutex<Logged>>);

async fn answer(
    request: Request<hyper::body::Incoming>,
    (signer, mood, logged): LogState,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    assert_eq!(request.uri().path(), "/longrun/v1/records");
    let body = request.into_body().collect().await?.to_bytes();
    let mood = *mood.lock().expect("whole");
    let lines: Vec<&[u8]> = body
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    let controls = lines.iter().any(|line| is_control(line));
    if (mood == Mood::SlowControls && controls) || (mood == Mood::SlowOthers && !controls) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut logged = logged.lock().expect("whole");
    logged.requests += 1;
    logged.lines += lines.len();
    let plain = |status: u16, text: &'static str| {
        let response = Response::builder()
            .status(status)
            .header("retry-after", "0");
        Ok(response
            .body(Full::new(Bytes::from(text)))
            .expect("a response"))
    };
    match mood {
        Mood::Down => return plain(503, "down"),
        Mood::Narrow(most) if lines.len() > most => return plain(413, "too many"),
        _ => {}
    }
    let reply = reply(&signer, mood, &lines, &mut logged);
    Ok(Response::new(Full::new(Bytes::from(reply.to_string()))))
}

fn reply(
    signer: &NoteSigner,
    mood: Mood,
    lines: &[&[u8]],
    logged: &mut Logged,
) -> serde_json::Value {
    let error = |code: &str| json!({"error": {"code": code, "message": "as it was told to"}});
    let mut places = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let record = Envelope::from_json(line)
            .and_then(Envelope::open)
            .expect("well signed");
        places.push(match mood {
            Mood::Refusing => Err(error("bad_signature")),
            Mood::Unadmitted => Err(error("not_admitted")),
            Mood::Admitting(id) if record.signer_id() != id => Err(error("not_admitted")),
            Mood::Without(key) if record.key().key_id() == key => Err(error("not_admitted")),
            Mood::Busy if i % 2 == 1 => Err(error("overloaded")),
            Mood::Rationing(most) if i >= most => Err(error("rate_limited")),
            _ => Ok(*logged.index.entry(record.id).or_insert_with(|| {
                logged.ids.push(record.id);
                logged
                    .leaves
                    .push(leaf_body(&record.envelope, record.key()));
                logged.leaves.len() - 1
            })),
        });
    }
    let hashes: Vec<Digest> = logged.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let mut tree_root = root(&hashes);
    if mood == Mood::Lying {
        tree_root = node_hash(&tree_root, &tree_root);
    }
    let impostor = NoteSigner::from_seed(signer.name(), &[9; 32]).expect("a key");
    let signer = if mood == Mood::Impostor {
        &impostor
    } else {
        signer
    };
    let checkpoint = Checkpoint {
        origin: signer.name().into(),
        size: hashes.len() as u64,
        root: tree_root,
    };
    let note = checkpoint.sign(signer).expect("signed").to_bytes();
    let entries: Vec<_> = places
        .into_iter()
        .map(|place| match place {
            Err(error) => error,
            Ok(index) => json!({
                "id": logged.ids[index].to_hex(),
                "index": index,
                "leaf": STANDARD.encode(&logged.leaves[index]),
                "proof": path(index, &hashes).iter().map(|h| STANDARD.encode(h.as_bytes())).collect::<Vec<_>>(),
            }),
        })
        .collect();
    json!({"checkpoint": String::from_utf8(note).expect("text"), "entries": entries})
}

/// RFC 6962 §2.1.1, as it is written there.
fn path(m: usize, leaves: &[Digest]) -> Vec<Digest> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if m < k {
        (path(m, left), root(right))
    } else {
        (path(m - k, right), root(left))
    };
    path.push(sibling);
    path
}

/// A signer directory that goes when the test does.
pub(crate) struct Signer {
    _directory: tempfile::TempDir,
    pub(crate) config: Config,
}

impl Signer {
    pub(crate) fn new(home: Option<HomeLog>) -> Signer {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(directory.path().join("signer"), "test gateway", "observer");
        config.home_log = home;
        config.spool.linger = Duration::from_millis(1);
        config.shipping.linger = Duration::from_millis(1);
        config.shipping.retry_min = Duration::from_millis(10);
        config.shipping.retry_max = Duration::from_millis(100);
        Signer {
            _directory: directory,
            config,
        }
    }

    pub(crate) fn open(&self) -> Recorder {
        Recorder::open(&self.config, Context::system().expect("randomness")).expect("opens")
    }
}

pub(crate) fn endpoint(model: &str) -> Endpoint {
    Endpoint {
        provider: "https://api.example.com".parse().expect("an origin"),
        model: model.parse().expect("a name"),
    }
}

pub(crate) async fn number(recorder: &Recorder, model: &str) -> Numbered {
    recorder
        .lease(&endpoint(model), NumberedKind::Observation)
        .await
        .expect("a number")
}

/// An observation under this number.
pub(crate) fn draft(number: &Numbered, call: CallId, outcome: Outcome) -> Draft {
    let secret = number.secret();
    let exchange = Exchange {
        request: secret.commit(Part::Request, b"what is asked"),
        response: (outcome == Outcome::Ok).then(|| secret.commit(Part::Response, b"an answer")),
    };
    let observation = Observation {
        stream: number.place(),
        call,
        attempt: 1,
        nonce: number.nonce(),
        receipt: None,
        receipt_check: ReceiptCheck::NotJoined,
        outcome,
        fault: outcome.usual_fault(),
        http_status: HttpStatus::new(200).ok(),
        streamed: false,
        timing: Timing {
            start_ms: start_ms(1_800_000_000_000),
            ttft_us: None,
            inter_token: None,
            total_us: duration_us(20_000),
        },
        usage: None,
        schema: Verdict::NotChecked,
        tools: Verdict::NotChecked,
        conditions: Conditions {
            prompt: PromptClass::Short,
            load: LoadClass::Solo,
            region: "unknown".parse().expect("a word"),
            week: WeekTime::Weekday,
            purpose: None,
        },
        client: secret.commit(Part::Exact, b"client"),
        tls_key: None,
        commitments: Commitments {
            exact: secret.commit(Part::Exact, b"exact"),
        },
    };
    let predicate = observation.into();
    Draft {
        exchange,
        predicate,
        call: Some(call),
        private: b"beside it".to_vec(),
        prompt: false,
    }
}

pub(crate) fn call(tag: u8) -> CallId {
    CallId::from_bytes([tag; 16])
}

/// Records one observation and waits until it is durable.
pub(crate) async fn record_one(
    recorder: &Recorder,
    model: &str,
    tag: u8,
    outcome: Outcome,
) -> RecordId {
    let number = number(recorder, model).await;
    let draft = draft(&number, call(tag), outcome);
    let recorded = recorder.record(number, draft).expect("signed");
    recorded.durable().await.expect("durable").0
}

/// Waits until everything is published.
pub(crate) async fn all_published(recorder: &Recorder) {
    let done = async {
        while recorder.status().await.expect("a status").pending > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done)
        .await
        .expect("published in time");
}

pub(crate) fn is_published(entry: &Entry) -> bool {
    matches!(entry.state, State::Published(_))
}

/// Everything that is kept, in order.
pub(crate) async fn everything(recorder: &Recorder) -> Vec<Entry> {
    let entries = recorder.entries(0, 1_000_000).await.expect("read");
    entries.into_iter().map(|(_, entry)| entry).collect()
}
