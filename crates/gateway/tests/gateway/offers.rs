//! Offers that are of no use: each a clear outcome at a real gateway that follows a real log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{MODEL, Running, chat, config};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gateway::config::NetworkConfig;
use http_body_util::{BodyExt, Full};
use record::bucket::start_ms;
use record::challenge::Challenge;
use record::control::{Action, Control, Create, Delegate, LogOrigin, Revoke, RevokeReason};
use record::manifest::{Artifact, Basis, Engine, Manifest, Stated};
use record::offer::{Offer, OfferedModel, OfferedPrice, TokenPrice};
use record::{Envelope, Predicate, RecordId, Seq, Signer, SignerId, SigningKey, Statement};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use services::log::LogOptions;
use services::log_server::{LogServer, ServeOptions};
use services::quota::{Rules, Who};

const ORIGIN: &str = "log.example/offers";
/// Generous, for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("for a while yet")
}

/// A provider with keys of its own, and what it says.
#[derive(Clone)]
pub(crate) struct Party {
    root: Arc<SigningKey>,
    pub(crate) instance: Arc<SigningKey>,
    pub(crate) id: SignerId,
    controls: Vec<Envelope>,
    pub(crate) manifest: Envelope,
}

impl Party {
    pub(crate) fn new(name: &str) -> Self {
        let random = SystemRandom::new();
        let key = || Arc::new(SigningKey::generate(&random).expect("a key"));
        let (root, instance) = (key(), key());
        let create = Create {
            name: name.parse().expect("a name"),
            roles: vec!["provider".parse().expect("a word")],
            home_log: LogOrigin::new(ORIGIN).expect("an origin"),
            recovery: None,
        };
        let begin = Signer {
            id: None,
            key: *root.public(),
        };
        let first = sign(&root, begin, Control::create(start_ms(now_ms()), create));
        let id = SignerId::new(first.record_id().digest());
        let manifest = manifest();
        let by = Signer {
            id: Some(id),
            key: *instance.public(),
        };
        let manifest = sign(&instance, by, manifest);
        let mut party = Self {
            root,
            instance,
            id,
            controls: vec![first],
            manifest,
        };
        let key = *party.instance.public();
        party.control(Action::Delegate(Delegate { key, name: None }));
        party
    }

    pub(crate) fn control(&mut self, action: Action) {
        let control = Control {
            seq: Seq::new(self.controls.len() as u64 + 1).expect("a number"),
            previous: self.controls.last().map(Envelope::record_id),
            at_ms: start_ms(now_ms()),
            action,
        };
        let by = Signer {
            id: Some(self.id),
            key: *self.root.public(),
        };
        self.controls.push(sign(&self.root, by, control));
    }

    fn signed_by(&self, key: &SigningKey, offer: Offer) -> Envelope {
        let by = Signer {
            id: Some(self.id),
            key: *key.public(),
        };
        sign(key, by, offer)
    }

    pub(crate) fn offers(&self, offer: Offer) -> Envelope {
        self.signed_by(&self.instance, offer)
    }
}

fn sign(key: &SigningKey, by: Signer, predicate: impl Into<Predicate>) -> Envelope {
    let statement = Statement::new(by, predicate).expect("valid");
    let signed = key.sign_statement(&statement, &SystemRandom::new());
    signed.expect("signs")
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

pub(crate) fn offer(seq: u64, address: &str, manifest: RecordId) -> Offer {
    let price = OfferedPrice {
        prompt: TokenPrice::new(7_777_777).expect("within bounds"),
        completion: TokenPrice::default(),
    };
    Offer {
        seq: Seq::new(seq).expect("a number"),
        from_ms: start_ms(now_ms() - 60_000),
        until_ms: start_ms(now_ms() + 3_600_000),
        withdrawn: false,
        addresses: vec![address.parse().expect("an origin")],
        models: vec![OfferedModel {
            model: MODEL.parse().expect("short"),
            manifest,
            price,
        }],
        region: None,
        in_flight_max: None,
    }
}

/// A node's HTTP: it proves its key for its own address, describes itself, and answers.
pub(crate) async fn serve(party: Party) -> String {
    serve_with(party, post(answer)).await
}

/// The same with other answers to chats.
pub(crate) async fn serve_with(party: Party, chats: MethodRouter<(Party, String)>) -> String {
    let (listener, address) = port().await;
    let own = format!("http://{address}");
    let router = Router::new()
        .route("/longrun/v1/challenge", post(prove))
        .route("/longrun/v1/node", get(describe))
        .route("/v1/chat/completions", chats)
        .with_state((party, own.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    own
}

pub(crate) async fn port() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

async fn prove(State((party, own)): State<(Party, String)>, asked: Json<Value>) -> Json<Value> {
    let text = |name: &str| asked[name].as_str().expect("a text").to_owned();
    let asked = Challenge {
        nonce: text("nonce").parse().expect("hex"),
        address: own.parse().expect("an origin"),
        provider: party.id,
    };
    let proof = party.instance.prove(&asked, &SystemRandom::new());
    Json(json!({
        "provider": party.id,
        "key": STANDARD.encode(party.instance.public().spki()),
        "signature": STANDARD.encode(proof.expect("signs")),
    }))
}

async fn describe(State((party, _)): State<(Party, String)>) -> Json<Value> {
    let raw = |it: &Envelope| -> Value { serde_json::from_slice(&it.to_json()).expect("JSON") };
    Json(json!({
        "provider": party.id,
        "controls": party.controls.iter().map(raw).collect::<Vec<_>>(),
        "manifests": [raw(&party.manifest)],
    }))
}

async fn answer() -> impl IntoResponse {
    let body = crate::support::faulty::plain_answer(MODEL);
    ([("content-type", "application/json")], body)
}

/// Somebody who answers everything in one way, and how often that was asked.
pub(crate) async fn canned(status: u16, location: &'static str) -> (String, Arc<AtomicUsize>) {
    let (listener, address) = port().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let router = Router::new().fallback(any(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let status = axum::http::StatusCode::from_u16(status).expect("a status");
            (status, [("location", location)])
        }
    }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), asked)
}

pub(crate) async fn log() -> (String, tempfile::TempDir) {
    let (log, directory, _) = log_that_stops().await;
    (log, directory)
}

/// A log, and the task that it ends with.
pub(crate) async fn log_that_stops() -> (String, tempfile::TempDir, tokio::task::JoinHandle<()>) {
    let directory = tempfile::tempdir().expect("a directory");
    let options = ServeOptions {
        directory: directory.path().join("log"),
        log: LogOptions {
            origin: Some(ORIGIN.to_owned()),
            period: Duration::from_millis(20),
            admission: Rules::new(Who::Anyone),
            ..LogOptions::default()
        },
        listen: "127.0.0.1:0".parse().expect("an address"),
    };
    let server = LogServer::bind(options).await.expect("the log opens");
    let url = format!("http://{}", server.address());
    let running = tokio::spawn(async move {
        let _ = server.run(std::future::pending()).await;
    });
    (url, directory, running)
}

/// What the log says to these envelopes.
pub(crate) async fn send(log: &str, envelopes: &[&Envelope]) -> Vec<Value> {
    let lines = envelopes
        .iter()
        .flat_map(|it| [it.to_json(), b"\n".to_vec()].concat());
    let request = hyper::Request::post(format!("{log}/longrun/v1/records"))
        .body(Full::new(Bytes::from(lines.collect::<Vec<u8>>())))
        .expect("a request");
    let answer = engine::http::client().request(request).await;
    let body = answer.expect("the log answers").into_body().collect().await;
    let told: Value = serde_json::from_slice(&body.expect("whole").to_bytes()).expect("JSON");
    told["entries"].as_array().expect("a list").clone()
}

pub(crate) async fn takes(log: &str, party: &Party, more: &[&Envelope]) {
    let mut all: Vec<&Envelope> = party.controls.iter().collect();
    all.push(&party.manifest);
    all.extend(more);
    let told = send(log, &all).await;
    assert!(told.iter().all(|it| it["error"].is_null()), "{told:#?}");
}

pub(crate) fn gateway_config(log: &str, allow_private: bool) -> gateway::config::GatewayConfig {
    let mut config = config();
    let mut network = NetworkConfig::of(log.parse().expect("a URL"));
    network.allow_private = allow_private;
    config.networks = vec![network];
    config
}

/// Waits until the network is as wanted, and gives the reasons by provider, or by the key that signed
/// where it speaks for nobody.
pub(crate) async fn until(
    gateway: &Running,
    wanted: impl Fn(&Value) -> bool,
) -> BTreeMap<String, String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = gateway.get("/longrun/v1/status").await.json();
        let network = &status["networks"][0];
        if wanted(network) {
            let refused = network["refused"].as_array().into_iter().flatten();
            let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
            let whose = |it: &Value| match &it["provider"] {
                Value::Null => text(&it["key"]),
                provider => text(provider),
            };
            return refused.map(|it| (whose(it), text(&it["why"]))).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{network:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A gateway that checked all five offers that stand, and its reasons. A busy machine may answer a
/// check too late, and that node is left alone for an hour: then another gateway looks.
async fn all_checked(log: &str) -> (Running, BTreeMap<String, String>) {
    for _ in 0..5 {
        let gateway = Running::start(gateway_config(log, true), None).await;
        let count = |network: &Value, name: &str| network[name].as_u64().unwrap_or_default();
        let refused = until(&gateway, |network| {
            let checked = count(network, "trying") + count(network, "dropped");
            count(network, "waiting") == 0 && checked == 5
        })
        .await;
        if !refused.values().any(|why| why.contains("in time")) {
            return (gateway, refused);
        }
        gateway.stop().await;
    }
    panic!("no check was answered in time");
}

/// The envelope of an offer that asks 2⁶³ micro-credits, correctly signed.
fn dear(party: &Party, offered: &Envelope) -> Envelope {
    let text = String::from_utf8(offered.payload().to_vec()).expect("JSON");
    assert!(text.contains("7777777"), "{text}");
    let payload = text.replace("7777777", "9223372036854775808").into_bytes();
    let unsigned = Envelope::new(payload.clone(), offered.signature().to_vec());
    let pae = unsigned.expect("an envelope").pae();
    let pem = party.instance.to_pem();
    let der: String = pem.lines().filter(|line| !line.contains("-----")).collect();
    let random = SystemRandom::new();
    let pair = ring::signature::EcdsaKeyPair::from_pkcs8(
        &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &STANDARD.decode(der).expect("base64"),
        &random,
    );
    let signature = pair.expect("a key").sign(&random, &pae).expect("signs");
    Envelope::new(payload, signature.as_ref().to_vec()).expect("an envelope")
}

/// Keys are free to make, and may name any address: the check of one says whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_many_keys_name_is_asked_about_all_of_them_at_once() {
    let (log, _directory) = log().await;
    let honest = Party::new("honest");
    let address = serve(honest.clone()).await;
    let (victim, asked) = canned(404, "").await;
    for number in 0..40 {
        let party = Party::new(&format!("false {number}"));
        let named = if number % 2 == 0 { &address } else { &victim };
        let offered = party.offers(offer(1, named, party.manifest.record_id()));
        takes(&log, &party, &[&offered]).await;
    }
    let offered = honest.offers(offer(1, &address, honest.manifest.record_id()));
    takes(&log, &honest, &[&offered]).await;
    let gateway = Running::start(gateway_config(&log, true), None).await;
    let refused = until(&gateway, |network| {
        network["trying"] == 1 && network["dropped"].as_u64() >= Some(1)
    })
    .await;
    assert!(refused.len() <= 4, "{refused:#?}");
    assert!(asked.load(Ordering::Relaxed) <= 4, "the others wait");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_offer_of_no_use_says_why_and_the_honest_one_is_tried() {
    let (log, _directory) = log().await;
    let random = SystemRandom::new();
    let mut expected: Vec<(String, &str)> = Vec::new();

    let honest = Party::new("honest");
    let address = serve(honest.clone()).await;
    let offered = honest.offers(offer(1, &address, honest.manifest.record_id()));
    takes(&log, &honest, &[&offered]).await;

    let wrong_key = Party::new("wrong key");
    let foreign = SigningKey::generate(&random).expect("a key");
    let offered = wrong_key.signed_by(&foreign, offer(1, &address, honest.manifest.record_id()));
    takes(&log, &wrong_key, &[&offered]).await;
    expected.push((foreign.key_id().to_hex(), "is no valid instance key"));

    let thief = Party::new("another's address");
    let offered = thief.offers(offer(1, &address, thief.manifest.record_id()));
    takes(&log, &thief, &[&offered]).await;
    expected.push((thief.id.to_hex(), "does not hold the key"));

    let elsewhere = Party::new("redirect");
    let (redirect, _) = canned(307, "http://127.0.0.1:1/").await;
    let offered = elsewhere.offers(offer(1, &redirect, elsewhere.manifest.record_id()));
    takes(&log, &elsewhere, &[&offered]).await;
    expected.push((elsewhere.id.to_hex(), "redirects elsewhere"));

    let other = Party::new("another manifest");
    let there = serve(other.clone()).await;
    let offered = other.offers(offer(1, &there, RecordId::from_bytes([9; 32])));
    takes(&log, &other, &[&offered]).await;
    expected.push((other.id.to_hex(), "serves that model under another one"));

    let torn = Party::new("two offers that disagree");
    let there = serve(torn.clone()).await;
    let id = torn.manifest.record_id();
    let two = [offer(5, &there, id), offer(5, &address, id)].map(|it| torn.offers(it));
    takes(&log, &torn, &[&two[0], &two[1]]).await;
    expected.push((torn.instance.key_id().to_hex(), "two offers of its key"));

    let mut revoked = Party::new("revoked key");
    revoked.control(Action::Revoke(Revoke {
        key_id: revoked.instance.key_id(),
        reason: RevokeReason::Compromised,
    }));
    let offered = revoked.offers(offer(1, &address, revoked.manifest.record_id()));
    // The manifest comes before the end of the key, as it would.
    takes(&log, &revoked, &[&offered]).await;
    expected.push((
        revoked.instance.key_id().to_hex(),
        "is no valid instance key",
    ));

    // The buyer of a provider tells the story from before the sale.
    let mut bought = Party::new("the old story");
    let mut tells = bought.clone();
    bought.instance = Arc::new(SigningKey::generate(&random).expect("a key"));
    let key = *bought.instance.public();
    bought.control(Action::Delegate(Delegate { key, name: None }));
    tells.instance = Arc::clone(&bought.instance);
    let there = serve(tells).await;
    let offered = bought.offers(offer(1, &there, bought.manifest.record_id()));
    takes(&log, &bought, &[&offered]).await;
    expected.push((bought.id.to_hex(), "no valid one in the control records"));

    let late = Party::new("expired");
    let (silent, asked) = canned(200, "").await;
    let mut over = offer(1, &silent, late.manifest.record_id());
    over.from_ms = start_ms(now_ms() - 7_200_000);
    over.until_ms = start_ms(now_ms() - 3_600_000);
    takes(&log, &late, &[&late.offers(over)]).await;

    let costly = Party::new("2^63");
    let offered = costly.offers(offer(1, &address, costly.manifest.record_id()));
    takes(&log, &costly, &[]).await;
    let told = send(&log, &[&dear(&costly, &offered)]).await;
    let why = told[0]["error"]["message"].as_str().unwrap_or_default();
    assert!(why.contains("price.prompt: beyond"), "{told:?}");

    let (gateway, refused) = all_checked(&log).await;
    for (provider, says) in &expected {
        let why = refused.get(provider).map_or("", String::as_str);
        assert!(why.contains(says), "{says}: {why:?} of {refused:#?}");
    }
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    assert_eq!(
        asked.load(Ordering::Relaxed),
        0,
        "what is over is not asked"
    );
    let answer = gateway.post(chat(false)).await;
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{}/{MODEL}", honest.id)
    );
    gateway.stop().await;

    // Without leave, nothing inside the gateway's own network is even asked.
    let strict = Running::start(gateway_config(&log, false), None).await;
    let refused = until(&strict, |network| {
        let refused = network["refused"].as_array().into_iter().flatten();
        let mut providers = refused.map(|it| it["provider"].as_str().unwrap_or_default());
        let own = honest.id.to_hex();
        providers.any(|it| it == own) && network["waiting"] == 0
    })
    .await;
    assert!(
        refused[&honest.id.to_hex()].contains("own network"),
        "{refused:#?}"
    );
    strict.stop().await;
}

#[tokio::test]
async fn a_network_that_was_never_read_is_no_unknown_model() {
    let gateway = Running::start(gateway_config("http://127.0.0.1:1", true), None).await;
    let answer = gateway.post(chat(false)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "network_unread");
    gateway.stop().await;
}
