//! A thousand nodes and ten thousand false offers before a real gateway: `cargo test -p cli --test
//! flood -- --ignored --nocapture`. Prints what docs/benchmarks.md holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{Http, Place, chat, network_of};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::bucket::start_ms;
use record::challenge::Challenge;
use record::control::{Action, Control, Create, Delegate, LogOrigin};
use record::manifest::{Artifact, Basis, Engine, Manifest, Stated};
use record::offer::{Offer, OfferedModel, OfferedPrice, TokenPrice};
use record::{Envelope, Predicate, RecordId, Seq, Signer, SignerId, SigningKey, Statement};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use services::admission::Submission;
use services::log::LogOptions;
use services::log_server::{LogServer, ServeOptions};

const ORIGIN: &str = "log.example/flood";
const MODEL: &str = "longrun-demo";
/// Nodes that are there; every second fails whatever it is asked.
const NODES: usize = 1000;
/// Offers without a node behind them, or of somebody else's address.
const FALSE: usize = 10_000;
/// Calls of the measured phase.
const CALLS: usize = 5000;
/// What the gateway may use, MiB.
const MEMORY_MIB_MAX: u64 = 150;
/// What trials may take, in parts per million, by the gateway's default.
const TRIAL_PPM: usize = 20_000;

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("for a while yet")
}

struct Party {
    instance: SigningKey,
    id: SignerId,
    controls: [Envelope; 2],
    manifest: Envelope,
}

impl Party {
    fn new(name: &str, random: &SystemRandom) -> Self {
        let key = || SigningKey::generate(random).expect("a key");
        let (root, instance) = (key(), key());
        let signer = |id, key: &SigningKey| Signer {
            id,
            key: *key.public(),
        };
        let create = Create {
            name: name.parse().expect("a name"),
            roles: vec!["provider".parse().expect("a word")],
            home_log: LogOrigin::new(ORIGIN).expect("an origin"),
            recovery: None,
        };
        let create = Control::create(start_ms(now_ms()), create);
        let first = sign(&root, signer(None, &root), create, random);
        let id = SignerId::new(first.record_id().digest());
        let delegate = Control {
            seq: Seq::new(2).expect("a number"),
            previous: Some(first.record_id()),
            at_ms: start_ms(now_ms()),
            action: Action::Delegate(Delegate {
                key: *instance.public(),
                name: None,
            }),
        };
        let second = sign(&root, signer(Some(id), &root), delegate, random);
        let manifest = sign(&instance, signer(Some(id), &instance), manifest(), random);
        Self {
            id,
            controls: [first, second],
            manifest,
            instance,
        }
    }

    fn offers(&self, address: &str, random: &SystemRandom) -> Envelope {
        let by = Signer {
            id: Some(self.id),
            key: *self.instance.public(),
        };
        let offered = offer(address, self.manifest.record_id());
        sign(&self.instance, by, offered, random)
    }
}

fn sign(
    key: &SigningKey,
    by: Signer,
    predicate: impl Into<Predicate>,
    random: &SystemRandom,
) -> Envelope {
    let statement = Statement::new(by, predicate).expect("valid");
    key.sign_statement(&statement, random).expect("signs")
}

fn manifest() -> Manifest {
    let unknown = || Artifact {
        name: None,
        sha256: None,
        bytes: None,
        basis: Basis::Declared,
    };
    let stated = || Stated {
        value: "unknown".parse().expect("short"),
        basis: Basis::Declared,
    };
    Manifest {
        at_ms: start_ms(now_ms()),
        model: MODEL.parse().expect("short"),
        weights: unknown(),
        tokenizer: unknown(),
        chat_template: unknown(),
        precision: stated(),
        kv_precision: stated(),
        engine: Engine {
            name: "unknown".parse().expect("short"),
            version: "unknown".parse().expect("short"),
            basis: Basis::Declared,
        },
        sampler: "unknown".parse().expect("short"),
        batch_size: None,
        context_tokens: None,
    }
}

fn offer(address: &str, manifest: RecordId) -> Offer {
    Offer {
        seq: Seq::FIRST,
        from_ms: start_ms(now_ms() - 60_000),
        until_ms: start_ms(now_ms() + 7_200_000),
        withdrawn: false,
        addresses: vec![address.parse().expect("an origin")],
        models: vec![OfferedModel {
            model: MODEL.parse().expect("short"),
            manifest,
            price: OfferedPrice {
                prompt: TokenPrice::default(),
                completion: TokenPrice::default(),
            },
        }],
        region: None,
        in_flight_max: None,
    }
}

/// A node at work, and how often it was called.
#[derive(Clone)]
struct There {
    party: Arc<Party>,
    own: String,
    fails: bool,
    calls: Arc<AtomicUsize>,
}

async fn listen() -> (tokio::net::TcpListener, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port; raise the limit of open files (ulimit -n 8192)");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, address)
}

fn serve(listener: tokio::net::TcpListener, there: There) {
    let router = Router::new()
        .route("/longrun/v1/challenge", post(prove))
        .route("/longrun/v1/node", get(describe))
        .route("/v1/chat/completions", post(answer))
        .with_state(there);
    tokio::spawn(async move { axum::serve(listener, router).await });
}

async fn prove(State(there): State<There>, asked: Json<Value>) -> Json<Value> {
    let asked = Challenge {
        nonce: asked["nonce"].as_str().expect("hex").parse().expect("hex"),
        address: there.own.parse().expect("an origin"),
        provider: there.party.id,
    };
    let proof = there.party.instance.prove(&asked, &SystemRandom::new());
    Json(json!({
        "provider": there.party.id,
        "key": STANDARD.encode(there.party.instance.public().spki()),
        "signature": STANDARD.encode(proof.expect("signs")),
    }))
}

async fn describe(State(there): State<There>) -> Json<Value> {
    let raw = |it: &Envelope| -> Value { serde_json::from_slice(&it.to_json()).expect("JSON") };
    Json(json!({
        "provider": there.party.id,
        "controls": there.party.controls.iter().map(raw).collect::<Vec<_>>(),
        "manifests": [raw(&there.party.manifest)],
    }))
}

async fn answer(State(there): State<There>) -> axum::response::Response {
    there.calls.fetch_add(1, Ordering::Relaxed);
    if there.fails {
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    Json(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "7"}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }))
    .into_response()
}

fn memory_mib(process: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line.and_then(|it| it.trim_start_matches(':').split_whitespace().next());
    kib.expect("a size").parse::<u64>().expect("a number") / 1024
}

#[test]
#[ignore = "a minute or two of two cores; measures"]
fn a_flood_of_false_offers_costs_little_and_gains_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let place = Place::default();
    let random = SystemRandom::new();
    let options = ServeOptions {
        directory: place.dir().join("log"),
        log: LogOptions {
            origin: Some(ORIGIN.to_owned()),
            ..LogOptions::default()
        },
        listen: "127.0.0.1:0".parse().expect("an address"),
    };
    let server = runtime.block_on(LogServer::bind(options)).expect("a log");
    let (log, log_url) = (server.log().clone(), format!("http://{}", server.address()));
    runtime.spawn(server.run(std::future::pending()));

    let mut said: Vec<Envelope> = Vec::new();
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let party = Arc::new(Party::new(&format!("node {number}"), &random));
        let (listener, own) = runtime.block_on(listen());
        said.extend(party.controls.iter().cloned());
        said.push(party.manifest.clone());
        said.push(party.offers(&own, &random));
        let there = There {
            party,
            own,
            fails: number % 2 == 1,
            calls: Arc::default(),
        };
        let _guard = runtime.enter();
        serve(listener, there.clone());
        nodes.push(there);
    }
    for number in 0..FALSE {
        let party = Party::new(&format!("false {number}"), &random);
        // Half are nowhere, half name somebody else's address.
        let address = match number % 2 {
            0 => "http://127.0.0.1:1".to_owned(),
            _ => nodes[number % NODES].own.clone(),
        };
        let offered = party.offers(&address, &random);
        said.extend(party.controls);
        said.push(offered);
    }
    // Not by lot of the log: false ones come first, then all are mixed in the lot itself.
    said.rotate_left(NODES * 4);
    for batch in said.chunks(500) {
        let batch = batch.iter().map(|it| {
            let record = it.clone().open().expect("well signed");
            Submission::of(&record)
        });
        let answered = log.sequencer().submit_and_wait(batch.collect());
        answered.expect("the log takes them");
    }
    println!("log       {} records", said.len());

    let ordinary = Arc::new(Party::new("ordinary", &random));
    let (listener, own) = runtime.block_on(listen());
    let ordinary = There {
        party: ordinary,
        own: own.clone(),
        fails: false,
        calls: Arc::default(),
    };
    let _guard = runtime.enter();
    serve(listener, ordinary.clone());
    let config = format!(
        "[[endpoint]]\nurl = \"{own}/v1\"\nkind = \"openai\"\nmodel = \"{MODEL}\"\n\
         {}",
        network_of(&log_url)
    );
    let mut gateway = place.gateway(&config);
    let begun = Instant::now();
    let url = gateway.url("gateway");
    let http = Http::default();
    let network = || http.get(&format!("{url}/longrun/v1/status")).json()["networks"][0].clone();
    let mut known = None;
    let full = loop {
        let now = network();
        if known.is_none() && now["providers"] == (NODES + FALSE) as u64 {
            known = Some(begun.elapsed());
        }
        // Whoever was not there has been let go, or all seats hold nodes that are.
        if known.is_some() && (now["trying"] == 256 || now["waiting"] == 0) {
            break begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{now:#}");
        std::thread::sleep(Duration::from_millis(250));
    };
    let known = known.expect("set before");
    println!(
        "known     {:.1} s: every offer was read and verified",
        known.as_secs_f64()
    );
    println!(
        "tried     {:.1} s: every seat holds a node that is there",
        full.as_secs_f64()
    );
    println!("memory    {} MiB then", memory_mib(gateway.id(), "VmRSS"));

    let mut failed_calls = 0;
    for _ in 0..CALLS {
        let call = http.post(
            &format!("{url}/v1/chat/completions"),
            chat("What is 3 + 4?"),
        );
        failed_calls += usize::from(call.status != 200);
    }
    let strangers: usize = nodes
        .iter()
        .map(|it| it.calls.load(Ordering::Relaxed))
        .sum();
    let again = nodes
        .iter()
        .filter(|it| it.fails && it.calls.load(Ordering::Relaxed) > 1);
    let again = again.count();
    let peak = memory_mib(gateway.id(), "VmHWM");
    println!("trials    {strangers} of {CALLS} calls");
    println!("again     {again} nodes that failed were called a second time");
    println!("unserved  {failed_calls} calls");
    println!("memory    {peak} MiB at most");
    println!("{:#}", network());
    assert_eq!(failed_calls, 0, "a failed trial costs a caller no answer");
    assert!(strangers > 0, "somebody was tried");
    let bound = CALLS * TRIAL_PPM / 1_000_000;
    assert!(
        strangers <= bound + 1,
        "{strangers} trials; the first call may be one"
    );
    assert_eq!(again, 0);
    assert!(known <= Duration::from_secs(60), "{known:?}");
    assert!(peak <= MEMORY_MIB_MAX, "{peak} MiB");
}
