use std::time::{Duration, Instant};

use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;

use super::*;

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
        Duration::from_secs(5),
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
    let stalls = took_ms.iter().filter(|&&took| took >= 40).count();
    assert!(stalls < 10, "answers took {took_ms:?} ms");
    stop.send(()).expect("the server listens");
    tokio::time::timeout(Duration::from_secs(2), server)
        .await
        .expect("an idle connection does not hold the server up")
        .expect("the server is well");
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = service_fn(|_| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"whole"))))
    });
    let server = tokio::spawn(serve(
        listener,
        service,
        async {
            let _ = stopped.await;
        },
        Duration::from_secs(5),
    ));
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    let client = client();
    let answer = tokio::spawn(client.get(uri.clone()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.send(()).expect("the server listens");
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
