//! Many callers: keys and what they open, limits, TLS, and a configuration that changes while
//! answers are under way.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{Answer, MODEL, PATIENCE, Running, chat, config, endpoint, in_front_of};
use bytes::Bytes;
use gateway::config::{EndpointConfig, GatewayConfig, Secret, TlsConfig};
use gateway::keys::{Grant, KeyFile};
use gateway::{ReloadError, StartError, serve};
use http_body_util::{BodyExt, Full};
use ring::rand::SystemRandom;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn good() -> Faulty {
    Faulty::api(MODEL, Script::Always(Fault::None)).await
}

/// A gateway with a key file, and the keys of those in it.
pub(crate) async fn with_keys(
    upstream: &Faulty,
    callers: &[(&str, Grant, bool)],
) -> (Running, Vec<String>) {
    with_keys_at(endpoint(upstream), callers).await
}

async fn with_keys_at(
    endpoint: EndpointConfig,
    callers: &[(&str, Grant, bool)],
) -> (Running, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.toml");
    let mut file = KeyFile::default();
    let mut keys = Vec::new();
    for (name, grant, operator) in callers {
        let key = file.add(name, grant.clone(), *operator, 0, &SystemRandom::new());
        keys.push(key.expect("a new name").reveal().to_owned());
    }
    std::fs::write(&path, file.to_text()).expect("written");
    let mut config = config();
    config.endpoints = vec![endpoint];
    config.keys_file = Some(path);
    (Running::start_in(directory, config, None).await, keys)
}

async fn ask(
    gateway: &Running,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: String,
) -> Answer {
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(format!("{}{path}", gateway.url));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.body(Full::new(Bytes::from(body)));
    gateway.send(request.expect("a request")).await
}

async fn ask_chat(gateway: &Running, key: &str) -> Answer {
    ask(
        gateway,
        "POST",
        "/v1/chat/completions",
        Some(key),
        chat(false),
    )
    .await
}

#[tokio::test]
async fn only_who_made_a_call_may_say_what_its_answer_was_worth() {
    let upstream = good().await;
    let none = Grant::default();
    let callers = [("ann", none.clone(), false), ("bob", none, false)];
    let (gateway, keys) = with_keys(&upstream, &callers).await;
    let path = format!(
        "/longrun/v1/calls/{}/outcome",
        ask_chat(&gateway, &keys[0]).await.call()
    );
    let say = |key| {
        ask(
            &gateway,
            "POST",
            &path,
            Some(key),
            r#"{"correct":true}"#.into(),
        )
    };
    assert_eq!(say(&keys[1]).await.status, 404, "not even that it exists");
    let begun = Instant::now();
    // The observation is recorded a moment after the answer.
    let mut own = say(&keys[0]).await;
    while own.status == 409 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
        own = say(&keys[0]).await;
    }
    assert_eq!(own.status, 200, "{}", own.text());
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_opens_its_own_calls_and_nobody_elses() {
    let upstream = good().await;
    let none = Grant::default();
    let callers = [
        ("one", none.clone(), false),
        ("two", none.clone(), false),
        ("ops", none, true),
    ];
    let (gateway, keys) = with_keys(&upstream, &callers).await;
    let [one, two, ops] = [&keys[0], &keys[1], &keys[2]];
    let call = ask_chat(&gateway, one).await.call();
    let path = format!("/longrun/v1/calls/{call}");
    let begun = Instant::now();
    while ask(&gateway, "GET", &path, Some(one), String::new())
        .await
        .status
        != 200
    {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let get = async |path: &str, key: Option<&str>| {
        ask(&gateway, "GET", path, key, String::new()).await.status
    };
    assert_eq!(get(&path, Some(two)).await, 404, "not even that it exists");
    assert_eq!(get(&path, Some(ops)).await, 200);
    assert_eq!(get(&path, None).await, 401);
    for path in ["/longrun/v1/status", "/longrun/v1/history", "/nothing", "/"] {
        assert_eq!(get(path, None).await, 401, "{path}");
        assert_eq!(get(path, Some(one)).await, 403, "{path}");
    }
    assert_eq!(get("/longrun/v1/status", Some(ops)).await, 200);
    assert_eq!(get("/healthz", None).await, 200);
    let refused = ask(
        &gateway,
        "POST",
        "/v1/chat/completions",
        Some("sk-x"),
        chat(false),
    )
    .await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    assert_eq!(upstream.requests().len(), 1, "what is refused goes nowhere");
    let sent = &upstream.requests()[0];
    assert!(
        !sent.head.contains(one.as_str()),
        "the caller's key stays here"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn limits_are_kept_and_told() {
    let upstream = good().await;
    let grant = Grant {
        requests_per_minute: Some(2),
        tokens_per_minute: Some(1_000_000),
        ..Grant::default()
    };
    let other = Grant {
        models: vec!["another".to_owned()],
        ..Grant::default()
    };
    let callers = [("ci", grant, false), ("other", other, false)];
    let (gateway, keys) = with_keys(&upstream, &callers).await;
    let first = ask_chat(&gateway, &keys[0]).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), "2");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "1");
    assert_eq!(ask_chat(&gateway, &keys[0]).await.status, 200);
    let third = ask_chat(&gateway, &keys[0]).await;
    assert_eq!(third.status, 429);
    assert_eq!(third.json()["error"]["code"], "rate_limit_exceeded");
    let wait: u64 = third.header("retry-after").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(upstream.requests().len(), 2);

    let refused = ask_chat(&gateway, &keys[1]).await;
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (403, Some("model_not_allowed"))
    );
    let models = ask(&gateway, "GET", "/v1/models", Some(&keys[1]), String::new()).await;
    assert_eq!(models.json()["data"].as_array().map(Vec::len), Some(0));
    for path in ["/v1/models/another", &format!("/v1/models/{MODEL}")] {
        let none = ask(&gateway, "GET", path, Some(&keys[1]), String::new()).await;
        assert_eq!(none.status, 404);
        assert!(
            none.text().contains("no models are served"),
            "{}",
            none.text()
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn tokens_are_charged_as_the_answer_says() {
    const LIMIT: u64 = 240;
    // 5 of the prompt, 8 of the answer: settled once the attempt is recorded, soon after.
    const USED: u64 = 13;
    let upstream = good().await;
    let grant = Grant {
        tokens_per_minute: Some(LIMIT),
        ..Grant::default()
    };
    let (gateway, keys) = with_keys(&upstream, &[("ci", grant, false)]).await;
    let estimate = chat(false).len() as u64 / 4 + 1;
    assert!(estimate > USED, "so the two can be told apart");
    let begun = Instant::now();
    loop {
        let answer = ask_chat(&gateway, &keys[0]).await;
        let remaining: u64 = answer
            .header("x-ratelimit-remaining-tokens")
            .parse()
            .expect("a number");
        let calls = upstream.requests().len() as u64;
        let came_back = LIMIT * (begun.elapsed().as_secs() + 1) / 60;
        // A call that is not settled yet weighs more, never less.
        let most = (LIMIT + came_back).saturating_sub(USED * calls);
        assert!(remaining <= most, "{remaining} after {calls} calls");
        let least = LIMIT.saturating_sub(USED * (calls - 1) + estimate);
        if calls >= 5 && remaining >= least {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{remaining} after {calls}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_does_not_say_what_it_used_is_paid_for_all_the_same() {
    let upstream = good().await;
    let mut priced = endpoint(&upstream);
    // A token of an answer costs a thousandth.
    priced.offer.price.completion = Some(1_000_000_000);
    let grant = Grant {
        spend_per_day_micro: Some(2_000),
        ..Grant::default()
    };
    let (gateway, keys) = with_keys_at(priced, &[("ci", grant, false)]).await;
    let begun = Instant::now();
    loop {
        let body = format!(r#"{{"model":"{MODEL}","prompt":"x","stream":true}}"#);
        let answer = ask(&gateway, "POST", "/v1/completions", Some(&keys[0]), body).await;
        if answer.status == 429 {
            assert_eq!(answer.json()["error"]["code"], "insufficient_quota");
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(begun.elapsed() < PATIENCE, "nothing was spent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What was spent is known to the next start.
    let directory = gateway.stop().await;
    let spent = std::fs::read_to_string(directory.path().join("keys.spent.toml"));
    assert!(spent.expect("written").contains("nano = "));
}

/// Most clients look for an answer only after they have sent everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_key_learns_so_after_a_long_request_as_well() {
    let upstream = good().await;
    let (gateway, _) = with_keys(&upstream, &[("ci", Grant::default(), false)]).await;
    let address = gateway.url.trim_start_matches("http://");
    let body = vec![b'x'; 900_000];
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connects");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\
         authorization: Bearer wrong\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(&body).await.expect("read by the gateway");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// The same of an answer in one piece: it is as long as it is.
#[tokio::test]
async fn an_answer_that_does_not_say_what_it_used_is_paid_for_by_its_length() {
    // 50 tokens, about.
    const BODY: &str = r#"{"id":"a","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Twelve words that say nothing, so that there is something here to count."},"finish_reason":"stop"}]}"#;
    let says = Fault::Says {
        status: 200,
        body: BODY,
    };
    let upstream = crate::support::upstream(says).await;
    let mut priced = endpoint(&upstream);
    priced.offer.price.completion = Some(1_000_000_000);
    let grant = Grant {
        // Twenty tokens.
        spend_per_day_micro: Some(20_000),
        ..Grant::default()
    };
    let (gateway, keys) = with_keys_at(priced, &[("ci", grant, false)]).await;
    let begun = Instant::now();
    loop {
        let answer = ask_chat(&gateway, &keys[0]).await;
        if answer.status == 429 {
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(begun.elapsed() < PATIENCE, "nothing was spent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // One call is more than the limit; further ones may have come before it was settled.
    assert!(upstream.requests().len() < 15, "a token each");
}

#[tokio::test]
async fn keys_are_added_rotated_and_revoked_while_it_runs() {
    let upstream = good().await;
    let (gateway, keys) = with_keys(&upstream, &[("ci", Grant::default(), false)]).await;
    let path = gateway.directory.path().join("keys.toml");
    let change = |how: &dyn Fn(&mut KeyFile) -> Option<String>| {
        let text = std::fs::read_to_string(&path).expect("there");
        let mut file = KeyFile::parse(&text).expect("valid");
        let key = how(&mut file);
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, file.to_text()).expect("written");
        std::fs::rename(&temporary, &path).expect("renamed");
        key.unwrap_or_default()
    };
    let random = SystemRandom::new();
    let new = change(&|file| {
        let key = file
            .rotate("ci", 3_600_000, now_ms(), &random)
            .expect("known");
        Some(key.reveal().to_owned())
    });
    until(&gateway, &new, 200).await;
    assert_eq!(
        ask_chat(&gateway, &keys[0]).await.status,
        200,
        "both, for an hour"
    );
    // Nor is one that somebody is just writing.
    for text in ["this is no key file", "\n"] {
        std::fs::write(&path, text).expect("written");
        change_is_looked_at().await;
        let status = ask_chat(&gateway, &new).await.status;
        assert_eq!(status, 200, "the keys stay as they were");
    }
    std::fs::write(&path, KeyFile::default().to_text()).expect("written");
    until(&gateway, &new, 401).await;
    assert_eq!(ask_chat(&gateway, &keys[0]).await.status, 401);
    gateway.stop().await;
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("fits")
}

/// Longer than the gateway takes to look at its files again. Only for what must *not* change:
/// too short a wait lets the test pass, never fail.
async fn change_is_looked_at() {
    tokio::time::sleep(Duration::from_millis(2500)).await;
}

async fn until(gateway: &Running, key: &str, status: u16) {
    let begun = Instant::now();
    while ask_chat(gateway, key).await.status != status {
        assert!(begun.elapsed() < PATIENCE, "never {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn start(
    config: gateway::GatewayConfig,
    directory: &Path,
) -> Result<gateway::Handle, StartError> {
    let context = recorder::Context::system().expect("randomness");
    let signer = recorder::Config::new(directory.join("signer"), "test", "observer");
    let recorder = recorder::Recorder::open(&signer, context.clone()).expect("a signer");
    serve(config, recorder, context, [7; 32], axum::Router::new()).await
}

#[tokio::test]
async fn without_keys_it_stays_on_this_machine() {
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = gateway::GatewayConfig::listening_on(everywhere);
    let refused = start(config.clone(), &directory.path().join("1")).await;
    let why = refused.err().expect("refused").to_string();
    assert!(
        why.contains("listen") && why.contains("longrun gateway key add"),
        "{why}"
    );
    config.open = true;
    let open = start(config.clone(), &directory.path().join("2"))
        .await
        .expect("asked for");
    open.stop().await;
    config.open = false;
    let keys = directory.path().join("keys.toml");
    std::fs::write(&keys, KeyFile::default().to_text()).expect("written");
    config.keys_file = Some(keys);
    let keyed = start(config, &directory.path().join("3"))
        .await
        .expect("with keys");
    keyed.stop().await;
}

/// A stream of this endpoint outlasts what is done beside it, also on a busy machine.
fn patient(endpoint: &mut EndpointConfig) {
    endpoint.timeouts.first_token = PATIENCE;
    endpoint.timeouts.gap = PATIENCE;
    endpoint.timeouts.total = PATIENCE;
}

#[tokio::test]
async fn a_new_configuration_drops_no_stream() {
    let slow = Fault::Long {
        tokens: 40,
        gap_us: 25_000,
    };
    let before = Faulty::api(MODEL, Script::Always(slow)).await;
    let after = Faulty::api("another-model", Script::Always(Fault::None)).await;
    let gateway =
        crate::support::start(&[&before], |config| patient(&mut config.endpoints[0])).await;
    let handle = gateway.handle.as_ref().expect("running");
    let mut stream = gateway.open(chat(true)).await;
    assert_eq!(stream.status(), 200);
    let first = stream.body_mut().frame().await;
    assert!(first.is_some_and(|frame| frame.is_ok()));

    let mut next = config();
    next.endpoints = vec![endpoint(&after)];
    handle.reload(next).await.expect("usable");
    let models = gateway.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "another-model");
    assert_eq!(
        gateway.post(chat(false)).await.status,
        404,
        "the old model is gone"
    );
    let body = stream
        .into_body()
        .collect()
        .await
        .expect("to its end")
        .to_bytes();
    let text = String::from_utf8_lossy(&body);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn another_price_does_not_heal_an_endpoint_and_another_key_does() {
    let slow = Fault::Long {
        tokens: 1_000_000,
        gap_us: 1000,
    };
    let busy = Faulty::api(MODEL, Script::Always(slow)).await;
    let failing = Faulty::api("failing", Script::Always(Fault::Status(500))).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&busy), endpoint(&failing)];
    patient(&mut config.endpoints[0]);
    let limit = |config: &mut GatewayConfig, places| {
        config.endpoints[0].offer.concurrency_max = Some(places);
        config.endpoints[0].offer.queue = Duration::from_millis(50);
    };
    limit(&mut config, 1);
    let gateway = Running::start(config.clone(), None).await;
    let handle = gateway.handle.as_ref().expect("running");
    let stream = gateway.open(chat(true)).await;
    for _ in 0..5 {
        let answer = gateway.post(chat(false).replace(MODEL, "failing")).await;
        assert_eq!(answer.status, 500);
    }
    let told = async || {
        let status = gateway.status().await;
        let of = |at: usize| status["endpoints"][at].clone();
        let busy = (of(0)["open"].clone(), of(1)["breaker"].clone());
        (busy, of(0)["standing"].clone())
    };
    let before = told().await;
    assert_eq!(before.0, (1.into(), "open".into()));

    // One place is taken still.
    for endpoint in &mut config.endpoints {
        endpoint.offer.price.prompt = Some(7);
        endpoint.timeouts.gap = Duration::from_secs(3);
    }
    handle.reload(config.clone()).await.expect("usable");
    assert_eq!(told().await, before);
    assert_eq!(gateway.post(chat(true)).await.status, 503);
    let dear = format!(
        r#"{{"provider":{{"max_price":{{"prompt":0.000001}}}},{}"#,
        &chat(false)[1..]
    );
    assert_eq!(
        gateway.post(dear).await.status,
        404,
        "the price is the new one"
    );
    // And now there is a second one.
    limit(&mut config, 2);
    handle.reload(config.clone()).await.expect("usable");
    let second = gateway.open(chat(true)).await;
    assert_eq!(second.status(), 200);
    assert_eq!(told().await.0.0, 2);

    config.endpoints[1].api_key = Some(Secret::new("another").expect("a key"));
    handle.reload(config).await.expect("usable");
    assert_eq!(told().await.0, (2.into(), "closed".into()));
    drop((stream, second));
    gateway.stop().await;
}

#[tokio::test]
async fn a_bad_configuration_is_named_and_the_old_one_runs_on() {
    let upstream = good().await;
    let gateway = in_front_of(&[&upstream]).await;
    let handle = gateway.handle.as_ref().expect("running");
    assert!(matches!(handle.reread().await, Err(ReloadError::NoSource)));
    let reload = async || ask(&gateway, "POST", "/longrun/v1/reload", None, String::new()).await;
    assert_eq!(reload().await.status, 409);
    handle.rereads_with(Box::new(|| {
        Err("longrun.toml:3: limits: no such key".to_owned())
    }));
    let refused = reload().await;
    assert_eq!(refused.status, 409);
    assert!(
        refused.text().contains("longrun.toml:3: limits"),
        "{}",
        refused.text()
    );
    let mut moved = config();
    moved.listen = "127.0.0.1:1".parse().expect("an address");
    let why = handle.reload(moved).await.expect_err("fixed").to_string();
    assert!(why.starts_with("listen cannot change"), "{why}");
    assert_eq!(gateway.post(chat(false)).await.status, 200);
    gateway.stop().await;
}

/// A certificate that signs itself, for the name `localhost`; written where `files` says.
fn certificate(files: &TlsConfig) -> rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&files.key_file, made.signing_key.serialize_pem()).expect("written");
    std::fs::write(&files.cert_file, made.cert.pem()).expect("written");
    made.cert.der().clone()
}

/// Asks over TLS and trusts this certificate alone.
async fn health_over_tls(
    address: std::net::SocketAddr,
    trusted: &rustls::pki_types::CertificateDer<'static>,
) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let name = "localhost".try_into().expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect(name, tcp).await?;
    tls.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let directory: TempDir = tempfile::tempdir().expect("a directory");
    let files = TlsConfig {
        cert_file: directory.path().join("cert.pem"),
        key_file: directory.path().join("key.pem"),
    };
    let mut config = config();
    config.tls = Some(files.clone());
    let refused = start(config.clone(), &directory.path().join("none")).await;
    let why = refused.err().expect("no files").to_string();
    assert!(why.contains("tls") && why.contains("cert.pem"), "{why}");

    let first = certificate(&files);
    let handle = start(config, &directory.path().join("some"))
        .await
        .expect("starts");
    let address = handle.address();
    let answer = health_over_tls(address, &first).await.expect("trusted");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let second = certificate(&files);
    let begun = Instant::now();
    loop {
        match health_over_tls(address, &second).await {
            Ok(answer) => {
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                break;
            }
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        health_over_tls(address, &first).await.is_err(),
        "the old one is gone"
    );
    std::fs::write(&files.key_file, "no key").expect("written");
    change_is_looked_at().await;
    assert!(
        health_over_tls(address, &second).await.is_ok(),
        "a broken file changes nothing"
    );
    handle.stop().await;
}
