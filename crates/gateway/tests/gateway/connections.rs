//! Connections to endpoints: the TLS key that answered is on record, and what becomes of a call
//! where a certificate does not hold, or nobody takes the connection.
//!
//! Which certificates are trusted is read from the environment when a client is made, so the tests
//! over TLS run this file again in one that names an authority of their own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, config, endpoint};
use gateway::config::{EndpointConfig, EndpointKind};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Where the authority's files are, in the environment of the second run.
const OWN_CA: &str = "LONGRUN_TEST_CA_DIR";

/// An authority that the second run trusts, or does not.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What can be wrong with a certificate.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Nothing,
    Expired,
    NotYet,
    Name,
    Issuer,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // One of the same name with another key would be an impostor, not a stranger.
        let common_name = rcgen::DnType::CommonName;
        params.distinguished_name.push(common_name, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("made"))
    }

    /// Writes a certificate for `localhost` with its key, as `NAME.pem` and `NAME.key`; returns the
    /// digest of its public key.
    fn issue(&self, directory: &Path, wrong: Wrong) -> String {
        let name = match wrong {
            Wrong::Name => "other.example",
            _ => "localhost",
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        match wrong {
            Wrong::Expired => params.not_after = rcgen::date_time_ymd(2020, 1, 2),
            Wrong::NotYet => params.not_before = rcgen::date_time_ymd(4000, 1, 1),
            _ => {}
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        let write = |end: &str, text: &str| {
            std::fs::write(directory.join(format!("{wrong:?}.{end}")), text).expect("written");
        };
        write("pem", &certificate.pem());
        write("key", &key.serialize_pem());
        record::sha256(&key.subject_public_key_info()).to_hex()
    }
}

/// Runs the test `name` of this file again, where the authority that `prepare` makes is trusted.
fn again(name: &str, prepare: impl FnOnce(&Path) -> Authority) {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = prepare(directory.path());
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.0.pem()).expect("written");
    let ran = Command::new(std::env::current_exe().expect("this"))
        .args(["--exact", &format!("connections::{name}")])
        .env(OWN_CA, directory.path())
        .env("SSL_CERT_FILE", ca)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

/// An endpoint that shows the certificate that is wrong in this way, in front of an upstream.
async fn over_tls(upstream: &Faulty, directory: &Path, wrong: Wrong) -> EndpointConfig {
    let read = |end| std::fs::read(directory.join(format!("{wrong:?}.{end}"))).expect("there");
    let certificate = CertificateDer::from_pem_slice(&read("pem")).expect("one");
    let key = PrivateKeyDer::from_pem_slice(&read("key")).expect("one");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let to = upstream.address;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut plain = tokio::net::TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut plain).await
            });
        }
    });
    let mut over = endpoint(upstream);
    over.api = format!("https://localhost:{port}/v1")
        .parse()
        .expect("a URL");
    // It is offered whatever it says of itself: then calls meet its certificate.
    over.kind = EndpointKind::Openai;
    over.models = vec![MODEL.to_owned()];
    over
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(future);
}

#[test]
fn an_observation_names_the_tls_key_that_answered() {
    if let Some(directory) = std::env::var_os(OWN_CA) {
        return block_on(tls_keys_are_named(directory.as_ref()));
    }
    again(
        "an_observation_names_the_tls_key_that_answered",
        |directory| {
            let authority = Authority::new("ours");
            let digest = authority.issue(directory, Wrong::Nothing);
            std::fs::write(directory.join("spki.sha256"), digest).expect("written");
            authority
        },
    );
}

async fn tls_keys_are_named(directory: &Path) {
    let failing = Script::InTurn(vec![Fault::None, Fault::None, Fault::Status(500)]);
    let upstream = Faulty::api(MODEL, failing).await;
    let mut config = config();
    config.endpoints = vec![over_tls(&upstream, directory, Wrong::Nothing).await];
    let gateway = Running::start(config, None).await;
    let digest = std::fs::read_to_string(directory.join("spki.sha256")).expect("there");
    // In one piece, streamed, and an error.
    for (streamed, status) in [(false, 200), (true, 200), (false, 500)] {
        let answer = gateway.post(chat(streamed)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let told = gateway.call(&answer.call()).await;
        let payload = &told["attempts"][0]["envelopes"]["observation"]["payload"];
        let payload =
            crate::support::faulty::signer::unbase64(payload.as_str().expect("a payload"));
        let statement: Value = serde_json::from_slice(&payload).expect("JSON");
        assert_eq!(
            statement["predicate"]["tls_key"],
            Value::from(digest.as_str())
        );
    }
    gateway.stop().await;
}

const BROKEN: [Wrong; 4] = [Wrong::Expired, Wrong::NotYet, Wrong::Name, Wrong::Issuer];

#[test]
fn a_certificate_that_does_not_hold_is_told_and_nothing_is_sent() {
    if let Some(directory) = std::env::var_os(OWN_CA) {
        return block_on(certificates_do_not_hold(directory.as_ref()));
    }
    again(
        "a_certificate_that_does_not_hold_is_told_and_nothing_is_sent",
        |directory| {
            let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
            for wrong in BROKEN {
                let issuer = match wrong {
                    Wrong::Issuer => &stranger,
                    _ => &authority,
                };
                issuer.issue(directory, wrong);
            }
            authority.issue(directory, Wrong::Nothing);
            authority
        },
    );
}

async fn certificates_do_not_hold(directory: &Path) {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let well = over_tls(&upstream, directory, Wrong::Nothing).await;
    for wrong in BROKEN {
        let bad = over_tls(&upstream, directory, wrong).await;
        for streamed in [false, true] {
            let mut config = config();
            config.endpoints = vec![bad.clone()];
            let gateway = Running::start(config, None).await;
            let answer = gateway.post(chat(streamed)).await;
            assert_eq!(answer.status, 502, "{wrong:?}: {}", answer.text());
            let error = &answer.json()["error"];
            let message = error["message"].as_str().expect("a message");
            assert!(message.contains("certificate"), "{wrong:?}: {message}");
            // A clock or a root of this machine's own may be what is wrong.
            let fault = match wrong {
                Wrong::NotYet | Wrong::Issuer => "unknown",
                _ => "provider",
            };
            let seen = gateway.outcomes(&answer.call()).await;
            assert_eq!(seen, [("connection".into(), fault.into())], "{wrong:?}");
            gateway.stop().await;
        }
        // Nothing of the request was shown to whoever shows such a certificate.
        assert!(upstream.requests().is_empty(), "{wrong:?}");
    }
    // And another endpoint answers.
    let mut config = config();
    config.endpoints = vec![over_tls(&upstream, directory, Wrong::Expired).await, well];
    let gateway = Running::start(config, None).await;
    for _ in 0..4 {
        assert_eq!(gateway.post(chat(true)).await.status, 200);
    }
    gateway.stop().await;
}

/// A URL whose scheme is not what the port speaks: what it looks like, and what to change, is told to the
/// operator by the status and to a caller by the error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheme_that_the_port_does_not_speak_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    Authority::new("ours").issue(directory.path(), Wrong::Nothing);
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut speaks_tls = over_tls(&upstream, directory.path(), Wrong::Nothing).await;
    let port = speaks_tls.api.port_u16().expect("a port");
    speaks_tls.api = format!("http://localhost:{port}/v1")
        .parse()
        .expect("a URL");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let mut speaks_http = speaks_tls.clone();
    let address = listener.local_addr().expect("an address");
    speaks_http.api = format!("https://{address}/v1").parse().expect("a URL");
    tokio::spawn(axum::serve(listener, axum::Router::new()).into_future());
    for (endpoint, words) in [
        (
            speaks_tls,
            "it speaks TLS: its URL has to begin with https://",
        ),
        (
            speaks_http,
            "it does not speak TLS: if it speaks plain HTTP, its URL has to begin with http://",
        ),
    ] {
        for streamed in [false, true] {
            let mut config = config();
            config.endpoints = vec![endpoint.clone()];
            let gateway = Running::start(config, None).await;
            let answer = gateway.post(chat(streamed)).await;
            assert_eq!(answer.status, 502, "{}", answer.text());
            assert!(answer.text().contains(words), "{}", answer.text());
            let seen = gateway.outcomes(&answer.call()).await;
            assert_eq!(seen, [("connection".into(), "unknown".into())]);
            gateway.stop().await;
        }
        for kind in [EndpointKind::Auto, EndpointKind::Openai] {
            let mut asked = endpoint.clone();
            (asked.kind, asked.models) = (kind, Vec::new());
            let mut config = config();
            config.endpoints = vec![asked];
            let gateway = Running::start(config, None).await;
            let status = gateway.status().await;
            let why = status["endpoints"][0]["why"].as_str().expect("a reason");
            assert!(why.contains(words), "{kind:?}: {why}");
            gateway.stop().await;
        }
    }
}

/// What cannot be told from TLS by what comes back: a server that hangs up on plain HTTP, as those over
/// OpenSSL do, and those that say something about it in plain HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_speak_tls_is_said_to() {
    let said = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for answer in ["", said] {
        for kind in [EndpointKind::Auto, EndpointKind::Openai] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.expect("a port");
            let address = listener.local_addr().expect("an address");
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            let mut asked = EndpointConfig::at(&format!("http://{address}")).expect("a URL");
            asked.kind = kind;
            let mut config = config();
            config.endpoints = vec![asked];
            let gateway = Running::start(config, None).await;
            let status = gateway.status().await;
            let why = status["endpoints"][0]["why"].as_str().expect("a reason");
            let hint = "; if it speaks TLS, its URL has to begin with https://";
            assert!(why.ends_with(hint), "{answer:?}, {kind:?}: {why}");
            gateway.stop().await;
        }
    }
}

/// The same where nobody asks what it serves: the 400 is no mistake of the caller's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_speaks_tls_is_not_the_callers_mistake() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let page = "<html><h1>400 Bad Request</h1>\
                        The plain HTTP request was sent to HTTPS port</html>";
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{page}",
                page.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let mut asked = EndpointConfig::at(&format!("http://{address}")).expect("a URL");
    asked.kind = EndpointKind::Openai;
    asked.models = vec![MODEL.to_owned()];
    let mut config = config();
    config.endpoints = vec![asked];
    let gateway = Running::start(config, None).await;
    for streamed in [false, true] {
        let answer = gateway.post(chat(streamed)).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        let hint = "its URL has to begin with https:// in the configuration of this gateway";
        assert!(answer.text().contains(hint), "{}", answer.text());
        let seen = gateway.outcomes(&answer.call()).await;
        let last = seen.last().expect("an attempt");
        assert_eq!(*last, ("connection".into(), "unknown".into()));
    }
    gateway.stop().await;
}

/// A call to this URL is given up after so long, and that is how it goes on record.
async fn is_given_up(url: &str, wait: Duration) {
    let mut gone = EndpointConfig::at(url).expect("a URL");
    gone.kind = EndpointKind::Openai;
    gone.models = vec![MODEL.to_owned()];
    gone.timeouts.connect = wait;
    let mut config = config();
    config.endpoints = vec![gone];
    let gateway = Running::start(config, None).await;
    let answer = gateway.post(chat(false)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("in time"), "{}", answer.text());
    let seen = gateway.outcomes(&answer.call()).await;
    assert_eq!(seen, [("connection".into(), "network".into())]);
    gateway.stop().await;
}

/// The system takes connections, and nobody shakes hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_does_not_come_about_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    is_given_up(&format!("https://{address}"), Duration::from_millis(300)).await;
    drop(silent);
}

/// A listener whose queue is full takes no connection: the peer's packets are dropped, as by a
/// machine that is gone.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_does_not_come_about_is_given_up() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let listener = socket.listen(1).expect("listens");
    let address = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    let wait = Duration::from_millis(300);
    while let Ok(stream) = tokio::time::timeout(wait, tokio::net::TcpStream::connect(address)).await
    {
        held.push(stream.expect("connects"));
        assert!(held.len() < 1000, "its queue has no end");
    }
    is_given_up(&format!("http://{address}"), wait).await;
}
