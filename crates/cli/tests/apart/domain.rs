//! A node of the public internet behind TLS: found in a log, checked, asked, and vouched for by its
//! domain, with nothing allowed that is refused by default.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::hosts::{inside, must};
use crate::support::{Http, Place, chat, longrun, text};

/// Of no special purpose (RFC 6890), and only in a network of this test's own.
const PUBLIC: &str = "1.2.3.4";
const DOMAIN: &str = "gpu.example";

#[test]
#[ignore = "needs namespaces, ip, tc and nft"]
fn a_domain_vouches_for_a_node_behind_tls() {
    if !inside("domain::a_domain_vouches_for_a_node_behind_tls") {
        return;
    }
    let place = Place::default();
    must(&format!("ip addr add {PUBLIC}/32 dev lr0"));
    place.write("hosts", &format!("{PUBLIC} {DOMAIN}\n"));
    must(&format!("mount --bind {} /etc/hosts", place.path("hosts")));
    let mut log = place.log("log");
    let log_url = log.url("log");
    let address = format!("https://{DOMAIN}");
    let mut node = place.node(
        "node",
        &[
            "--join",
            &log_url,
            "--address",
            &address,
            "--domain",
            DOMAIN,
        ],
    );
    let behind = node.url("node");
    let behind = behind.trim_start_matches("http://").trim_end_matches("/v1");
    let _proxy = terminate_tls(&place, behind.parse().expect("an address"));

    let authorities = place.path("authority.pem");
    let trusting = [("SSL_CERT_FILE", authorities.as_str())];
    let mut gateway = place.gateway_with(&format!("networks = [\"{log_url}\"]\n"), &trusting);
    let url = gateway.url("gateway");
    let http = Http::default();
    let status = http.until(&format!("{url}/longrun/v1/status"), |it| {
        it.json()["endpoints"][0]["domain"] == DOMAIN
    });
    let endpoint = &status.json()["endpoints"][0];
    assert_eq!(endpoint["url"], format!("{address}/v1"));
    let answer = http.post(
        &format!("{url}/v1/chat/completions"),
        chat("What is 3 + 4?"),
    );
    assert_eq!(answer.status, 200);
    let provider = endpoint["provider"].as_str().expect("an id");
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{provider}/longrun-demo")
    );
    let checked = longrun()
        .envs(trusting)
        .args(["provider", "domain", provider, "--check", DOMAIN])
        .output();
    let said = text(&checked.expect("the binary runs").stdout);
    assert_eq!(said, format!("{DOMAIN} vouches for {provider}\n"));
}

/// What people put in front of a node: TLS with a certificate of an authority that callers trust
/// (`authority.pem`), and the bytes inside passed on to `behind`.
fn terminate_tls(place: &Place, behind: SocketAddr) -> tokio::runtime::Runtime {
    let mut of_authority = CertificateParams::new(Vec::new()).expect("parameters");
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(of_authority, key()).expect("an authority");
    place.write("authority.pem", &authority.pem());
    let own = key();
    let params = CertificateParams::new([DOMAIN.to_owned()]).expect("parameters");
    let certificate = params.signed_by(&own, &authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports them")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(own.serialize_der()).into(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("they belong together")));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind((PUBLIC, 443)));
    let listener = listener.expect("this is root in a network of its own");
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut outside = acceptor.accept(stream).await?;
                let mut inside = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    runtime
}
