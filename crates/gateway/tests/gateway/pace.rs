//! No event waits for 40 ms: neither side of the gateway leaves Nagle's algorithm on.
//!
//! Without `TCP_NODELAY` a small write waits for the acknowledgement of the one before, and the
//! other side delays that by 40 ms.

use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, chat};
use http_body_util::BodyExt;

/// Streams over one connection.
const STREAMS: usize = 40;
/// Less than the 40 ms that an acknowledgement is delayed, and a lot for what takes a millisecond.
const NO_STALL: Duration = Duration::from_millis(30);

/// What the fastest quarter took at most. The algorithm stalls nearly all, and a machine that is busy
/// with other things only some.
fn lower_quartile(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 4]
}

/// The second of two small events must not wait until the first is acknowledged. The endpoint
/// sends it 1 ms after the first; with Nagle's algorithm on, it would leave the gateway when the
/// delayed acknowledgement of the first arrives, about 40 ms later. (Tried: without `TCP_NODELAY`
/// the median is 40 ms.) Acknowledgements are delayed only on a connection that looks like
/// questions and answers, and only the first of an answer, so many short streams share one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_do_not_wait_for_acknowledgements() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = crate::support::in_front_of(&[&upstream]).await;
    for _ in 0..20 {
        assert_eq!(gateway.post(chat(false)).await.status, 200);
    }
    upstream.now(Script::Always(Fault::Pair));
    let mut gaps = Vec::new();
    for _ in 0..STREAMS {
        let mut body = gateway.open(chat(true)).await.into_body();
        let mut arrivals = Vec::new();
        while let Some(frame) = body.frame().await {
            if frame.expect("whole").into_data().is_ok() {
                arrivals.push(Instant::now());
            }
        }
        // On a busy machine the reader may find both at once: then neither waited.
        match arrivals[..] {
            [] => panic!("a stream without events"),
            [_] => gaps.push(Duration::ZERO),
            [first, second, ..] => gaps.push(second - first),
        }
    }
    let gap = lower_quartile(gaps);
    assert!(gap < NO_STALL, "three of four gaps are {gap:?} or more");
}

/// A request of several segments reaches the endpoint, and its answer the caller, without a stall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_wait_for_acknowledgements() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = crate::support::in_front_of(&[&upstream]).await;
    let padding = "x".repeat(5000);
    let body = chat(false).replacen('{', &format!("{{\"padding\":\"{padding}\","), 1);
    let mut times = Vec::new();
    for _ in 0..60 {
        let begun = Instant::now();
        assert_eq!(gateway.post(body.clone()).await.status, 200);
        times.push(begun.elapsed());
    }
    let time = lower_quartile(times);
    assert!(
        time < NO_STALL,
        "three of four answers took {time:?} or more"
    );
}
