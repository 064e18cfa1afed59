use record::offer::{Offer, OfferedModel, OfferedPrice, TokenPrice};
use record::{Seq, SigningKey, bucket::start_ms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn offer(address: &str, models: &[(&str, u64)]) -> Offer {
    let offered = models.iter().map(|(name, micro)| OfferedModel {
        model: name.parse().expect("short"),
        manifest: RecordId::from_bytes([1; 32]),
        price: OfferedPrice {
            prompt: TokenPrice::default(),
            completion: TokenPrice::new(*micro).expect("within bounds"),
        },
    });
    Offer {
        seq: Seq::FIRST,
        from_ms: start_ms(0),
        until_ms: start_ms(10_000),
        withdrawn: false,
        addresses: vec![address.parse().expect("an origin")],
        models: offered.collect(),
        region: None,
        in_flight_max: Some(0),
    }
}

fn key() -> SigningKey {
    SigningKey::generate(&SystemRandom::new()).expect("randomness")
}

fn taken(network: &NetworkConfig, offer: &Offer) -> Result<EndpointConfig, String> {
    let key = key();
    let standing = StandingOffer {
        provider: SignerId::from_bytes([2; 32]),
        key: key.public(),
        record: RecordId::from_bytes([3; 32]),
        offer,
    };
    let mut all = endpoints(network, true, &standing)?;
    Ok(all.remove(0))
}

fn network() -> NetworkConfig {
    NetworkConfig::of("http://log.example".parse().expect("a URL"))
}

#[test]
fn an_offer_from_inside_is_refused_unless_that_is_allowed() {
    let mut network = network();
    for inside in [
        "http://127.0.0.1:7412",
        "http://10.0.0.7",
        "http://169.254.169.254",
        "http://[::1]:7412",
        "http://[fd00:ec2::254]",
        "http://[::ffff:192.168.0.1]",
    ] {
        let why = taken(&network, &offer(inside, &[("llama", 0)])).expect_err(inside);
        assert!(why.contains("own network"), "{why}");
    }
    let outside = offer("https://gpu.example", &[("llama", 0)]);
    let endpoint = taken(&network, &outside).expect("of the internet");
    assert_eq!(endpoint.api, "https://gpu.example/v1");
    assert_eq!(
        (endpoint.models.len(), endpoint.offer.concurrency_max),
        (1, Some(1))
    );
    network.allow_private = true;
    assert!(taken(&network, &offer("http://127.0.0.1:7412", &[("llama", 0)])).is_ok());
}

#[test]
fn who_is_reached_by_key_alone_is_taken_where_that_is_asked_for_and_through_a_public_relay() {
    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let mut network = network();
    let at = |ways: &str| offer(&format!("iroh://{KEY}?{ways}"), &[("llama", 0)]);
    let relayed = at("relay=https://relay.example&direct=10.0.0.7:7413");
    let endpoint = taken(&network, &relayed).expect("through a relay");
    assert_eq!(endpoint.api.to_string(), format!("iroh://{KEY}/v1"));
    let route = endpoint.by_key.expect("by key");
    assert!(!route.private, "nothing is sent to 10.0.0.7");
    assert_eq!(route.host(), "relay.example");
    for (inside, why) in [
        ("relay=http://127.0.0.1:3340", "own network"),
        ("relay=https://[fd00::1]", "own network"),
        ("direct=10.0.0.7:7413", "no relay"),
        ("direct=1.1.1.1:7413", "no relay"),
    ] {
        let offer = at(inside);
        let error = taken(&network, &offer).expect_err(inside);
        assert!(error.contains(why), "{inside}: {error}");
        network.allow_private = true;
        assert!(taken(&network, &offer).is_ok_and(|it| it.by_key.is_some_and(|r| r.private)));
        network.allow_private = false;
    }
    let key = key();
    let standing = |offer| StandingOffer {
        provider: SignerId::from_bytes([2; 32]),
        key: key.public(),
        record: RecordId::from_bytes([3; 32]),
        offer,
    };
    let off = endpoints(&network, false, &standing(&relayed)).expect_err("not asked for");
    assert!(off.contains("dial_by_key"), "{off}");
    let mut both = relayed.clone();
    both.addresses
        .push("https://gpu.example".parse().expect("an origin"));
    let web = endpoints(&network, false, &standing(&both)).expect("the other address");
    assert_eq!(
        (web.len(), web[0].api.to_string().as_str()),
        (1, "https://gpu.example/v1")
    );
    let all = endpoints(&network, true, &standing(&both)).expect("both");
    assert!(all.len() == 2 && all[0].by_key.is_some() && all[1] == web[0]);
}

#[test]
fn what_costs_too_much_or_is_not_wanted_is_left_out() {
    let mut network = network();
    network.price_max = 1000;
    let both = offer("https://gpu.example", &[("dear", 1001), ("cheap", 1000)]);
    let endpoint = taken(&network, &both).expect("one is cheap enough");
    assert_eq!(endpoint.models, ["cheap"]);
    assert_eq!(endpoint.offer.price.completion, Some(1000));
    let dear = offer("https://gpu.example", &[("dear", 1001)]);
    assert!(
        taken(&network, &dear)
            .expect_err("dear")
            .contains("costs more")
    );
    network.models = vec!["other".to_owned()];
    assert!(
        taken(&network, &both)
            .expect_err("unwanted")
            .contains("no model")
    );
}

/// Somebody who answers every request in the same way, and where.
async fn canned(answer: String) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://localhost:{port}")
        .parse()
        .expect("an origin")
}

fn at(address: Address) -> Membership {
    Membership {
        log: String::new(),
        provider: SignerId::from_bytes([2; 32]),
        key: *key().public(),
        address,
        region: None,
        manifests: BTreeMap::new(),
    }
}

#[tokio::test]
async fn redirects_and_strangers_prove_nothing() {
    let client = engine::http::client();
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhi!\n";
    let proof = serde_json::json!({
        "provider": SignerId::from_bytes([2; 32]),
        "key": STANDARD.encode(key().public().spki()),
        "signature": "MAYCAQECAQE=",
    });
    let proof = proof.to_string();
    let wrong = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{proof}",
        proof.len()
    );
    for (answer, says) in [
        (redirect.to_owned(), "redirects"),
        (page.to_owned(), "proves no key"),
        (wrong, "does not hold the key"),
    ] {
        let member = at(canned(answer).await);
        match member.challenge(&client).await {
            Err(Standing::Refused(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to() {
    let member = at(canned("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()).await);
    let client = engine::http::client_to(TIMEOUTS.connect, reach::is_public);
    match member.challenge(&client).await {
        Err(Standing::Unreachable(why)) => assert!(why.contains("not allowed"), "{why}"),
        other => panic!("{other:?}"),
    }
}
