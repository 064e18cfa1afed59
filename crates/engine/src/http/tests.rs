use std::time::{Duration, Instant};

use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;

use rcgen::PublicKeyData as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Longer than any test takes, also on a busy machine.
const DRAIN: Duration = Duration::from_secs(60);

/// Answers of a few small events over one connection, again and again: with Nagle's algorithm on
/// at the server, once the connection counts as interactive, the second event of an answer waits
/// some 40 ms for the acknowledgement of the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_events_do_not_stall() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = service_fn(|request: Request<Incoming>| async move {
        assert!(request.extensions().get::<Peer>().is_some());
        let events = futures_util::stream::unfold(0u32, |turn| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let frame = Frame::data(Bytes::from_static(b"data: {}\n\n"));
            (turn < 4).then_some((Ok::<_, Infallible>(frame), turn + 1))
        });
        Ok::<_, Infallible>(Response::new(StreamBody::new(events)))
    });
    let server = tokio::spawn(serve(
        listener,
        service,
        async {
            let _ = stopped.await;
        },
        DRAIN,
    ));
    let client = client();
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    let mut took_ms = Vec::new();
    for _ in 0..40 {
        let started = Instant::now();
        let answer = client.get(uri.clone()).await.expect("an answer");
        answer.into_body().collect().await.expect("a whole body");
        took_ms.push(started.elapsed().as_millis());
    }
    // The algorithm stalls nearly all of them; a machine that is busy with other things, some.
    let stalls = took_ms.iter().filter(|&&took| took >= 40).count();
    assert!(stalls < 30, "answers took {took_ms:?} ms");
    stop.send(()).expect("the server listens");
    tokio::time::timeout(DRAIN / 2, server)
        .await
        .expect("an idle connection does not hold the server up")
        .expect("the server is well");
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (came, word) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (noting, waiting) = (Arc::clone(&came), Arc::clone(&word));
    let service = service_fn(move |_| {
        let (came, word) = (Arc::clone(&noting), Arc::clone(&waiting));
        async move {
            came.notify_one();
            word.notified().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"whole"))))
        }
    });
    let server = tokio::spawn(serve(
        listener,
        service,
        async {
            let _ = stopped.await;
        },
        DRAIN,
    ));
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    let client = client();
    let answer = tokio::spawn(client.get(uri.clone()));
    came.notified().await;
    stop.send(()).expect("the server listens");
    let nobody_listens = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(DRAIN / 2, nobody_listens)
        .await
        .expect("the end has begun");
    word.notify_one();
    let answer = answer.await.expect("joined").expect("an answer");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(body, "whole");
    server.await.expect("the server is well");
    assert!(client.get(uri).await.is_err(), "nobody listens any more");
}

/// Answers every request over TLS, with a certificate for `localhost`.
async fn over_tls(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("a handshake");
                let service = service_fn(|_| async {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hi"))))
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn every_answer_over_tls_names_the_key_of_its_connection() {
    let mut roots = rustls::RootCertStore::empty();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        roots.add(made.cert.der().clone()).expect("a root");
        let spki = made.signing_key.subject_public_key_info();
        let digest = ring::digest::digest(&ring::digest::SHA256, &spki);
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS#8");
        let address = over_tls(made.cert.der().clone(), key).await;
        servers.push((address, digest));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = client_from(tls, Duration::from_secs(60), |_| true);
    // The second answer of each comes over a connection that was kept.
    for (address, digest) in [&servers[0], &servers[0], &servers[1], &servers[1]] {
        let uri: http::Uri = format!("https://localhost:{}/", address.port())
            .parse()
            .expect("a URI");
        let answer = client.get(uri).await.expect("an answer");
        let key = answer.extensions().get::<TlsKey>().expect("noted");
        assert_eq!(key.0, digest.as_ref());
        answer.into_body().collect().await.expect("a body");
    }
}

/// The timers of TCP as the kernel shows them: 2 is that of keep-alive
/// (<https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html>).
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_find_out_when_the_other_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"here"))))
    });
    let server = tokio::spawn(serve(
        listener,
        service,
        std::future::pending(),
        Duration::ZERO,
    ));
    let client = client();
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    let answer = client.get(uri).await.expect("an answer");
    answer.into_body().collect().await.expect("a whole body");
    let port = format!(":{:04X}", address.port());
    // Until the last byte of the answer is acknowledged another timer runs.
    let begun = Instant::now();
    loop {
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
        let fields = sockets
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours: Vec<_> = fields
            .filter(|field| {
                field[3] == "01" && (field[1].ends_with(&port) || field[2].ends_with(&port))
            })
            .collect();
        if ours.len() == 2 && ours.iter().all(|field| field[5].starts_with("02:")) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{ours:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.abort();
}
