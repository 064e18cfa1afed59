//! No event waits for 40 ms: neither side of the gateway leaves Nagle's algorithm on.
//!
//! Without `TCP_NODELAY` a small write waits for the acknowledgement of the one before, and the
//! other side delays that by 40 ms. The first segments of a connection are acknowledged at once,
//! so only long streams show it.

mod support;

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use support::faulty::{Fault, Faulty, Script};
use support::{MODEL, chat, config, endpoint};

const TOKENS: usize = 120;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn share_above(times: &[Duration], limit: Duration) -> f64 {
    let above = u32::try_from(times.iter().filter(|time| **time > limit).count());
    let all = u32::try_from(times.len());
    f64::from(above.expect("few")) / f64::from(all.expect("few"))
}

/// Events that the endpoint sends 1 ms apart arrive about 1 ms apart: the gaps of several hundred
/// events have a median far below 20 ms, and hardly one is near 40 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_do_not_wait_for_acknowledgements() {
    let paced = Fault::Long {
        tokens: TOKENS,
        gap_us: 1000,
    };
    let upstream = Faulty::api(MODEL, Script::Always(paced)).await;
    let mut config = config();
    let mut endpoint = endpoint(&upstream);
    endpoint.timeouts.total = Duration::from_secs(20);
    endpoint.timeouts.gap = Duration::from_secs(10);
    config.endpoints = vec![endpoint];
    let gateway = support::Running::start(config, None).await;
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let mut body = gateway.open(chat(true)).await.into_body();
        let mut last = None;
        while let Some(frame) = body.frame().await {
            if frame.expect("whole").into_data().is_ok() {
                let now = Instant::now();
                gaps.extend(last.replace(now).map(|last| now - last));
            }
        }
    }
    assert!(
        gaps.len() > 2 * TOKENS,
        "events arrive one by one: {} gaps",
        gaps.len()
    );
    let near = share_above(&gaps, Duration::from_millis(35));
    let median = median(gaps);
    assert!(median < Duration::from_millis(15), "median gap {median:?}");
    assert!(near < 0.1, "{near} of the gaps are near 40 ms");
}

/// A request of several segments reaches the endpoint, and its answer the caller, without a stall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_wait_for_acknowledgements() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = support::in_front_of(&[&upstream]).await;
    let padding = "x".repeat(5000);
    let body = chat(false).replacen('{', &format!("{{\"padding\":\"{padding}\","), 1);
    let mut times = Vec::new();
    for _ in 0..60 {
        let begun = Instant::now();
        assert_eq!(gateway.post(body.clone()).await.status, 200);
        times.push(begun.elapsed());
    }
    let near = share_above(&times, Duration::from_millis(35));
    let median = median(times);
    assert!(median < Duration::from_millis(15), "median time {median:?}");
    assert!(near < 0.1, "{near} of the requests took near 40 ms");
}
