//! What caches and browsers are told about a log's public files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{AT_ONCE, Author, append};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use services::log::LogOptions;
use services::log_server::{LogServer, ServeOptions};
use services::retention::Retention;
use tempfile::TempDir;

const FOREVER: &str = "public, max-age=31536000, immutable";

async fn ask(method: &str, url: &str, tag: Option<&str>) -> Response<Vec<u8>> {
    let mut request = http::Request::builder().method(method).uri(url);
    if let Some(tag) = tag {
        request = request.header("if-none-match", tag);
    }
    let request = request.body(Full::new(axum::body::Bytes::new())).unwrap();
    let (head, body) = engine::http::client()
        .request(request)
        .await
        .unwrap()
        .into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Response::from_parts(head, body)
}

fn header<'a>(answer: &'a Response<Vec<u8>>, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[test]
fn caches_are_told_what_never_changes_and_what_does() {
    let directory = TempDir::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime
        .block_on(LogServer::bind(ServeOptions {
            directory: directory.path().to_owned(),
            log: LogOptions {
                period: AT_ONCE,
                ..LogOptions::default()
            },
            listen: "127.0.0.1:0".parse().unwrap(),
        }))
        .unwrap();
    let log = server.log().clone();
    let author = Author::new();
    append(log.sequencer(), author.submissions(0..300)).unwrap();
    Retention::new(None, None, Some(9))
        .save(directory.path())
        .unwrap();
    let base = format!("http://{}", server.address());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(server.run(async { drop(stopped.await) }));
    let get =
        |path: &str, tag: Option<&str>| runtime.block_on(ask("GET", &format!("{base}{path}"), tag));
    for (path, cache, kind) in [
        ("/tile/0/000", FOREVER, "application/octet-stream"),
        ("/tile/0/001.p/44", FOREVER, "application/octet-stream"),
        ("/tile/0/001.p/3", FOREVER, "application/octet-stream"),
        ("/tile/1/000.p/1", FOREVER, "application/octet-stream"),
        (
            "/tile/entries/001.p/44",
            FOREVER,
            "application/octet-stream",
        ),
        (
            "/checkpoint",
            "public, max-age=1",
            "text/plain; charset=utf-8",
        ),
        ("/retention.json", "public, max-age=60", "application/json"),
    ] {
        let answer = get(path, None);
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(header(&answer, "cache-control"), cache, "{path}");
        assert_eq!(header(&answer, "content-type"), kind, "{path}");
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            "*",
            "{path}"
        );
        assert_eq!(
            header(&answer, "x-content-type-options"),
            "nosniff",
            "{path}"
        );
        assert!(!answer.body().is_empty(), "{path}");
        let head = runtime.block_on(ask("HEAD", &format!("{base}{path}"), None));
        assert_eq!(
            (head.status().as_u16(), head.body().len()),
            (200, 0),
            "{path}"
        );
        assert_eq!(
            header(&head, "content-length"),
            answer.body().len().to_string()
        );
        assert_eq!(
            header(&answer, "etag").is_empty(),
            cache == FOREVER,
            "{path}"
        );
    }
    for path in [
        "/tile/0/002",
        "/tile/0/001.p/45",
        "/tile/1/000.p/2",
        "/successor.json",
    ] {
        let answer = get(path, None);
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(
            header(&answer, "cache-control"),
            "no-store",
            "may be there soon: {path}"
        );
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            "*",
            "{path}"
        );
    }

    // Whoever has the checkpoint is not sent it again until there is another.
    let tag = header(&get("/checkpoint", None), "etag").to_owned();
    for known in [&tag[..], &format!("W/{tag}"), &format!("\"x\", {tag}"), "*"] {
        let same = get("/checkpoint", Some(known));
        assert_eq!(
            (same.status().as_u16(), same.body().len()),
            (304, 0),
            "{known}"
        );
        assert_eq!(header(&same, "etag"), tag);
        assert_eq!(header(&same, "cache-control"), "public, max-age=1");
    }
    append(log.sequencer(), author.submissions(300..301)).unwrap();
    let other = get("/checkpoint", Some(&tag));
    assert_eq!(other.status(), 200);
    assert_ne!(header(&other, "etag"), tag);
    stop.send(()).unwrap();
    runtime.block_on(running).unwrap().unwrap();
}
