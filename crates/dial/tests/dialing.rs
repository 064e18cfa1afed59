//! Two endpoints that really connect: directly, through a relay, after a restart; and never to whoever
//! holds another key.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dial::{Dialer, Listener, Options, Relay, RelayOptions};
use engine::http::{ByKey, Client, client_by_key};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use record::{KeyAddress, Origin};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Says back what it was sent, under a name.
struct Node {
    address: KeyAddress,
    listener: Listener,
    quit: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Node {
    async fn start(
        name: &'static str,
        secret: u8,
        udp: Option<SocketAddr>,
        relay: Option<&Origin>,
    ) -> Self {
        let mut listener = Listener::bind(Options {
            secret: [secret; 32],
            relay: relay.cloned(),
            udp,
        })
        .await
        .expect("it opens");
        let relayed = listener.relayed(PATIENCE).await;
        relayed.expect("the relay passes on");
        let service = service_fn(move |request: Request<Incoming>| async move {
            let body = request
                .into_body()
                .collect()
                .await
                .expect("whole")
                .to_bytes();
            let said = [name.as_bytes(), b": ", &body].concat();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
        });
        let connections = listener.connections().expect("given out once");
        let (quit, told) = oneshot::channel::<()>();
        let stop = async {
            let _ = told.await;
        };
        let server = tokio::spawn(engine::http::serve(connections, service, stop, PATIENCE));
        Self {
            address: listener.address().clone(),
            listener,
            quit,
            server,
        }
    }

    async fn stop(self) {
        let _ = self.quit.send(());
        self.server.await.expect("it ends");
        self.listener.close().await;
    }
}

/// Everything is of the public internet here.
fn dialer() -> Dialer {
    Dialer::new(|_| true)
}

fn client(dialer: &Dialer, address: &KeyAddress, private: bool) -> Client {
    client_by_key(ByKey {
        dialer: Arc::new(dialer.clone()),
        address: address.to_string().into(),
        private,
        connect_timeout: Duration::from_secs(20),
    })
}

async fn ask(client: &Client, address: &KeyAddress, said: Vec<u8>) -> Result<Bytes, String> {
    let request = Request::post(format!("{}/v1/echo", address.base()))
        .body(Full::new(Bytes::from(said)))
        .expect("a request");
    let exchange = async {
        let answer = client
            .request(request)
            .await
            .map_err(|error| format!("{error:?}"))?;
        let body = answer.into_body().collect().await;
        body.map(|body| body.to_bytes())
            .map_err(|error| format!("{error:?}"))
    };
    let answered = tokio::time::timeout(PATIENCE, exchange).await;
    answered.map_err(|_| "nothing came".to_owned())?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_key_is_reached_directly_and_nobody_else_is() {
    let node = Node::start("first", 1, Some(LOOPBACK), None).await;
    let dialer = dialer();
    let direct = client(&dialer, &node.address, true);
    // More than one packet, in both directions.
    let large = vec![b'x'; 300_000];
    let said = ask(&direct, &node.address, large.clone())
        .await
        .expect("an answer");
    assert_eq!(said.len(), "first: ".len() + large.len());
    let asked = (0..20).map(|_| ask(&direct, &node.address, b"at once".to_vec()));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.expect("an answer"), "first: at once");
    }

    // The right place, and another key than the one that is held there.
    let other = Node::start("second", 2, Some(LOOPBACK), None).await;
    let (key, places) = (other.address.key(), node.address.direct().to_vec());
    let false_way = KeyAddress::new(key, None, places).expect("an address");
    let refused = client_by_key(ByKey {
        dialer: Arc::new(self::dialer()),
        address: false_way.to_string().into(),
        private: true,
        connect_timeout: Duration::from_secs(3),
    });
    let error = ask(&refused, &false_way, b"?".to_vec())
        .await
        .expect_err("another key");
    assert!(error.contains("Connect"), "{error}");
    // A stranger's direct address is not tried at all.
    let guarded = client(&dialer, &node.address, false);
    let error = ask(&guarded, &node.address, b"?".to_vec())
        .await
        .expect_err("no relay");
    assert!(
        error.contains("strangers are not dialed directly"),
        "{error}"
    );
    dialer.close().await;
    node.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_passes_on_without_udp_and_a_node_that_comes_back_is_found_again() {
    let relay = Relay::serve(RelayOptions {
        listen: LOOPBACK,
        tls: None,
        bytes_per_s_max: None,
    });
    let relay = relay.await.expect("it listens");
    let at = relay.address().expect("bound");
    let url: Origin = format!("http://{at}").parse().expect("an origin");
    let node = Node::start("before", 3, None, Some(&url)).await;
    assert_eq!(node.address.direct(), []);
    let (dialer, address) = (dialer(), node.address.clone());
    let client = client(&dialer, &address, false);
    let said = ask(&client, &address, b"hello".to_vec()).await;
    assert_eq!(said.expect("an answer"), "before: hello");
    node.stop().await;

    let node = Node::start("after", 3, None, Some(&url)).await;
    assert_eq!(node.address, address, "the key and the way are the same");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match ask(&client, &address, b"again".to_vec()).await {
            Ok(said) => break assert_eq!(said, "after: again"),
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
    }
    dialer.close().await;
    node.stop().await;
    relay.close().await;
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let nowhere = Listener::bind(Options {
        secret: [4; 32],
        relay: None,
        udp: None,
    });
    let error = nowhere.await.err().expect("no way").to_string();
    assert!(
        error.contains("neither a relay nor a direct address"),
        "{error}"
    );
    let taken = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let in_use = Listener::bind(Options {
        secret: [4; 32],
        relay: None,
        udp: taken.local_addr().ok(),
    });
    let error = in_use.await.err().expect("in use").to_string();
    assert!(error.contains("cannot open"), "{error}");
}
