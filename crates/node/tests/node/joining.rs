//! A node that offers itself: its offer is renewed, and it sees whether its address leads to it.

use std::sync::Arc;
use std::time::Duration;

use node::{Joining, Lifetime, Node, NodeConfig, Served};
use record::Predicate;
use record::offer::{Offer, OfferedPrice};
use recorder::HomeLog;

use crate::common::{MODEL, recorder_with};
use crate::scripted::Scripted;

/// Nobody listens there: what the node says waits in its spool.
const LOG: &str = "http://127.0.0.1:1";
const VKEY: &str = "log.example+1cc758f9+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

async fn node(directory: &std::path::Path) -> Node {
    let recorder = recorder_with(directory, |config| {
        config.home_log = Some(HomeLog {
            url: LOG.to_owned(),
            vkey: VKEY.to_owned(),
        });
    });
    let config = NodeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        recorder,
        models: vec![Served::engine(Arc::new(Scripted::new(MODEL)))],
    };
    node::serve(config).await.expect("serves")
}

fn joining(addresses: &[String], lifetime: Lifetime) -> Joining {
    let parsed = addresses.iter().map(|it| it.parse().expect("an address"));
    Joining {
        addresses: parsed.collect(),
        region: None,
        price: OfferedPrice {
            prompt: record::offer::TokenPrice::default(),
            completion: record::offer::TokenPrice::default(),
        },
        in_flight_max: None,
        lifetime,
    }
}

/// What it offered so far, in order.
async fn offers(node: &Node) -> Vec<Offer> {
    let records = node.recorder().records(0, 1000).await.expect("reads");
    let offer = |predicate| match predicate {
        Predicate::Offer(offer) => Some(*offer),
        _ => None,
    };
    let each = records.into_iter();
    each.filter_map(|(_, record)| offer(record.statement.predicate))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_renewed_before_it_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = node(directory.path()).await;
    let lifetime = Lifetime {
        valid: Duration::from_secs(120),
        renewed: Duration::from_millis(50),
    };
    let address = format!("http://{}", node.address());
    node.join(joining(&[address], lifetime))
        .await
        .expect("joins");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while offers(&node).await.len() < 3 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let said = offers(&node).await;
    for pair in said.windows(2) {
        assert!(pair[0].seq < pair[1].seq && pair[0].until_ms <= pair[1].until_ms);
        assert!(pair[1].from_ms < pair[0].until_ms, "there is no gap");
        assert_eq!(pair[0].addresses, pair[1].addresses);
    }
    let valid_ms = said[0].until_ms.ms() - said[0].from_ms.ms();
    assert!((110_000..=120_000).contains(&valid_ms), "{valid_ms}");
    node.shutdown(Duration::from_millis(100))
        .await
        .expect("stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sees_whether_its_address_leads_to_it() {
    let (one, two) = (tempfile::tempdir(), tempfile::tempdir());
    let node_one = node(one.expect("a directory").path()).await;
    let other = node(two.expect("a directory").path()).await;
    let at = |node: &Node| format!("http://{}", node.address());
    let nobody = "http://127.0.0.1:1".to_owned();
    // Both say that they are at the other's address as well.
    let addresses = [at(&node_one), at(&other), nobody.clone()];
    for node in [&node_one, &other] {
        let joined = node.join(joining(&addresses, Lifetime::default())).await;
        joined.expect("joins");
    }
    let client = engine::http::client();
    let reached = async |address: &str| {
        let address = address.parse().expect("an address");
        node_one.is_reached_at(&client, &address).await
    };
    assert_eq!(reached(&addresses[0]).await, Ok(()));
    let another = reached(&addresses[1]).await.expect_err("the other's");
    assert!(another.contains("another node"), "{another}");
    let silent = reached(&nobody).await.expect_err("nobody's");
    assert!(silent.contains("refused"), "{silent}");
}
