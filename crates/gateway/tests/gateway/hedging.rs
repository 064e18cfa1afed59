//! Hedges: endpoints that are asked beside one that is slow to begin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, PATIENCE, chat, start, upstream};
use gateway::config::{EndpointConfig, EndpointKind, GatewayConfig};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;

const PATH: &str = "/v1/chat/completions";

/// Whoever says nothing is waited for as long as a test waits for anything.
fn patient(config: &mut GatewayConfig) {
    for endpoint in &mut config.endpoints {
        endpoint.timeouts.first_token = PATIENCE;
        endpoint.timeouts.whole = PATIENCE;
        endpoint.timeouts.total = PATIENCE;
    }
}

/// A chat that asks these endpoints in this order.
fn in_order(upstreams: &[&Faulty], streamed: bool) -> String {
    let order: Vec<String> = upstreams.iter().map(|it| it.address.to_string()).collect();
    let provider = serde_json::json!({"order": order});
    chat(streamed).replacen('{', &format!("{{\"provider\":{provider},"), 1)
}

fn seen(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(outcome, fault): &(&str, &str)| ((*outcome).to_owned(), (*fault).to_owned());
    rows.iter().map(owned).collect()
}

async fn until_hung_up_on(upstream: &Faulty) {
    let begun = Instant::now();
    while upstream.abandoned() == 0 {
        assert!(begun.elapsed() < PATIENCE, "it still answers to nobody");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const HUNG_UP_ON: (&str, &str) = ("canceled", "gateway");
const FAILED: (&str, &str) = ("provider_error", "provider");
const OK: (&str, &str) = ("ok", "-");

/// The first endpoint hangs; the second is asked beside it, answers, and the first is hung up on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hedge_answers_and_the_loser_is_canceled_by_the_gateway() {
    for streamed in [false, true] {
        let (slow, good) = (upstream(Fault::Hang).await, upstream(Fault::None).await);
        let gateway = start(&[&slow, &good], patient).await;
        let body = in_order(&[&slow], streamed);
        let hedge = [("x-longrun-hedge-ms", "50")];
        let answer = gateway.post_to(PATH, &body, &hedge).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let outcomes = gateway.outcomes(&answer.call()).await;
        assert_eq!(outcomes, seen(&[HUNG_UP_ON, OK]));
        until_hung_up_on(&slow).await;
    }
}

/// The first hangs, the hedge fails: the next endpoint is asked while the first still hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hedge_that_fails_is_followed_by_another() {
    for streamed in [false, true] {
        let (slow, bad) = (
            upstream(Fault::Hang).await,
            upstream(Fault::Status(500)).await,
        );
        let good = upstream(Fault::None).await;
        let gateway = start(&[&slow, &bad, &good], patient).await;
        let body = in_order(&[&slow, &bad, &good], streamed);
        let hedge = [("x-longrun-hedge-ms", "50")];
        let answer = gateway.post_to(PATH, &body, &hedge).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let outcomes = gateway.outcomes(&answer.call()).await;
        assert_eq!(outcomes, seen(&[HUNG_UP_ON, FAILED, OK]));
        until_hung_up_on(&slow).await;
    }
}

/// Two hang: a third is asked once the first is given up, and is a hedge of the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_two_are_asked_at_once() {
    let (slow, slower) = (upstream(Fault::Hang).await, upstream(Fault::Hang).await);
    let good = upstream(Fault::None).await;
    let gateway = start(&[&slow, &slower, &good], |config| {
        patient(config);
        config.endpoints[0].timeouts.first_token = Duration::from_millis(500);
        config.endpoints[0].timeouts.total = Duration::from_millis(500);
    })
    .await;
    let body = in_order(&[&slow, &slower, &good], false);
    let hedge = [("x-longrun-hedge-ms", "50")];
    let answer = gateway.post_to(PATH, &body, &hedge).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outcomes = gateway.outcomes(&answer.call()).await;
    // Had all three been asked at once, the first would have been hung up on.
    assert_eq!(outcomes, seen(&[("timeout", "provider"), HUNG_UP_ON, OK]));
}

/// What is wrong with the call is wrong everywhere: nobody else is asked, and nobody is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_mistake_ends_a_hedged_call() {
    let (slow, strict) = (
        upstream(Fault::Hang).await,
        upstream(Fault::Status(400)).await,
    );
    let good = upstream(Fault::None).await;
    let gateway = start(&[&slow, &strict, &good], patient).await;
    let body = in_order(&[&slow, &strict, &good], false);
    let hedge = [("x-longrun-hedge-ms", "50")];
    let answer = gateway.post_to(PATH, &body, &hedge).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let outcomes = gateway.outcomes(&answer.call()).await;
    assert_eq!(outcomes, seen(&[HUNG_UP_ON, ("client_error", "client")]));
    assert!(good.requests().is_empty());
}

/// Two attempts are allowed and made; then the first, which is slow, is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hedges_stay_within_the_attempts_of_a_call() {
    // Time for the hedge to be asked and to fail, also on a busy machine.
    let slow = Fault::Slow {
        head_ms: 3000,
        gap_ms: 1,
    };
    let (slow, bad) = (upstream(slow).await, upstream(Fault::Status(500)).await);
    let good = upstream(Fault::None).await;
    let gateway = start(&[&slow, &bad, &good], patient).await;
    let body = in_order(&[&slow, &bad, &good], false);
    let two = [
        ("x-longrun-hedge-ms", "50"),
        ("x-longrun-attempts-max", "2"),
    ];
    let answer = gateway.post_to(PATH, &body, &two).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.outcomes(&answer.call()).await, seen(&[OK, FAILED]));
    assert!(good.requests().is_empty());
}

/// An endpoint that says when a call has come, and hangs up on it on word.
async fn on_word(came: Arc<Notify>, word: Arc<Notify>) -> EndpointConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            came.notify_one();
            word.notified().await;
        }
    });
    let mut endpoint = EndpointConfig::at(&format!("http://{address}")).expect("a URL");
    endpoint.kind = EndpointKind::Openai;
    endpoint.models = vec![MODEL.to_owned()];
    endpoint
}

/// The next in the order has just said that it has no room; the one after it is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_well_keeps_no_other_from_being_a_hedge() {
    let (slow, full) = (upstream(Fault::Hang).await, upstream(Fault::None).await);
    let good = upstream(Fault::None).await;
    let (came, word) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let held = on_word(Arc::clone(&came), Arc::clone(&word)).await;
    let origin = held.origin();
    let gateway = start(&[&slow, &full, &good], |config| {
        config.endpoints.push(held);
        patient(config);
    })
    .await;
    let order = [slow.origin(), origin, full.origin(), good.origin()];
    let provider = serde_json::json!({"order": order});
    let body = chat(false).replacen('{', &format!("{{\"provider\":{provider},"), 1);
    let hedge = [
        ("x-longrun-hedge-ms", "50"),
        ("x-longrun-attempts-max", "3"),
    ];
    let full_meanwhile = async {
        came.notified().await;
        full.now(Script::Always(Fault::Status(503)));
        let only = serde_json::json!({"only": [full.origin()]});
        let only = chat(false).replacen('{', &format!("{{\"provider\":{only},"), 1);
        assert_eq!(gateway.post(only).await.status, 503);
        word.notify_one();
    };
    let (answer, ()) = tokio::join!(gateway.post_to(PATH, &body, &hedge), full_meanwhile);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outcomes = gateway.outcomes(&answer.call()).await;
    assert_eq!(outcomes, seen(&[HUNG_UP_ON, ("truncated", "provider"), OK]));
    assert_eq!((full.requests().len(), good.requests().len()), (1, 1));
}

/// 300 calls to an endpoint that is slow to begin, each of which would be hedged: what the budget holds at
/// the start, what the calls earn and what time adds is all that may be added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hedges_take_no_more_than_the_budget_has() {
    const CALLS: usize = 300;
    // Each has three connections, and a process may have so many files open.
    const AT_ONCE: usize = 50;
    let slow = Fault::Slow {
        head_ms: 400,
        gap_ms: 1,
    };
    let (slow, good) = (upstream(slow).await, upstream(Fault::None).await);
    let gateway = start(&[&slow, &good], |config| {
        patient(config);
        config.retry.extra_load_ppm = 100_000;
    })
    .await;
    let body = in_order(&[&slow], false);
    let hedge = [("x-longrun-hedge-ms", "10")];
    let begun = Instant::now();
    for _ in 0..CALLS / AT_ONCE {
        let calls = (0..AT_ONCE).map(|_| gateway.post_to(PATH, &body, &hedge));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("short") + 1;
    // Nobody is asked there but beside the first.
    let extra = good.requests().len();
    let most = CALLS / 10 + 10 * (10 + seconds);
    assert!(extra <= most, "{extra} extra attempts, {most} allowed");
    assert!(extra >= 50, "{extra}: it does hedge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_hedged_without_a_wish_or_a_budget() {
    let slow = Fault::Slow {
        head_ms: 200,
        gap_ms: 1,
    };
    let (slow, good) = (upstream(slow).await, upstream(Fault::None).await);
    let gateway = start(&[&slow, &good], |config| {
        patient(config);
        config.retry.extra_load_ppm = 0;
    })
    .await;
    let body = in_order(&[&slow], false);
    assert_eq!(gateway.post_to(PATH, &body, &[]).await.status, 200);
    let hedge = [("x-longrun-hedge-ms", "10")];
    assert_eq!(gateway.post_to(PATH, &body, &hedge).await.status, 200);
    assert_eq!((slow.requests().len(), good.requests().len()), (2, 0));
    let typo = [("x-longrun-hegde-ms", "10")];
    let refused = gateway.post_to(PATH, &body, &typo).await;
    assert_eq!(refused.json()["error"]["code"], "unknown_header");
}

/// An endpoint that is hedged is not left: when the hedge fails, it may be the only one that answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_hedged_has_all_the_time() {
    let slow = upstream(Fault::Slow {
        head_ms: 1_500,
        gap_ms: 0,
    })
    .await;
    let bad = upstream(Fault::Status(500)).await;
    let gateway = start(&[&slow, &bad], |config| {
        config.endpoints[0].timeouts.whole = Duration::from_millis(300);
        config.endpoints[0].timeouts.total = PATIENCE;
    })
    .await;
    let order = format!(r#"{{"provider":{{"order":["{}"]}},"#, slow.origin());
    let body = chat(false).replacen('{', &order, 1);
    let hedge = [("x-longrun-hedge-ms", "50")];
    let answer = gateway.post_to("/v1/chat/completions", &body, &hedge).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((slow.requests().len(), bad.requests().len()), (1, 1));
}
