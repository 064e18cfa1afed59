//! A hub and its storage, each on a port of its own, that behave or do not.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;

use super::*;
use crate::embedded::testing::Tiny;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// How the two behave.
#[derive(Clone)]
struct Ways {
    file: Vec<u8>,
    /// What the hub says the digest is.
    sha256: String,
    names: Vec<&'static str>,
    /// Bytes after which the storage breaks off each answer.
    cut_after: Option<usize>,
    ranges: bool,
}

struct Seen {
    host: &'static str,
    path: String,
    headers: HeaderMap,
}

struct World {
    hub: String,
    ways: Arc<Mutex<Ways>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    cache: tempfile::TempDir,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

fn hex_sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

type Body = StreamBody<
    std::pin::Pin<
        Box<dyn futures_core::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>,
    >,
>;

/// A body that breaks off after `cut_after` bytes, or a little before.
fn body(bytes: &[u8], cut_after: Option<usize>) -> Body {
    let kept = cut_after.unwrap_or(bytes.len()).min(bytes.len());
    let data = Ok(Frame::data(Bytes::copy_from_slice(&bytes[..kept])));
    let cut = kept < bytes.len();
    let rest = futures_util::stream::once(async move {
        // The server writes what it has only while it waits for more.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(std::io::Error::other("a cable came loose"))
    });
    let pieces = futures_util::stream::iter([data]);
    StreamBody::new(Box::pin(pieces.chain(rest.take(usize::from(cut)))))
}

fn storage(ways: &Ways, request: &Request<Incoming>) -> Response<Body> {
    let whole = &ways.file;
    let asked = request.headers().get("range").filter(|_| ways.ranges);
    let asked = asked.and_then(|it| it.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = asked else {
        return Response::builder()
            .header("content-length", whole.len())
            .body(body(whole, ways.cut_after))
            .expect("a response");
    };
    let (from, to): (usize, usize) = (from.parse().expect("from"), to.parse().expect("to"));
    let part = &whole[from..=to];
    Response::builder()
        .status(206)
        .header("content-length", part.len())
        .header(
            "content-range",
            format!("bytes {from}-{to}/{}", whole.len()),
        )
        .body(body(part, ways.cut_after))
        .expect("a response")
}

fn hub(ways: &Ways, storage: &str, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let answer = Response::builder();
    if path.starts_with("/api/models/some/model/revision/") {
        let files: Vec<_> = (ways.names.iter())
            .map(|name| serde_json::json!({ "rfilename": name }))
            .collect();
        let told = serde_json::json!({"sha": COMMIT, "siblings": files}).to_string();
        return answer
            .body(body(told.as_bytes(), None))
            .expect("a response");
    }
    if path == "/api/models/some/secret/revision/main" {
        let allowed = request.headers().contains_key("authorization");
        let status = if allowed { 404 } else { 401 };
        return answer
            .status(status)
            .body(body(b"", None))
            .expect("a response");
    }
    // Renamed once; then its own words, and a way to the storage.
    if path.starts_with(&format!("/some/model/resolve/{COMMIT}/")) {
        let there = path.replace("/some/model/", "/new/model/");
        return answer
            .status(307)
            .header("location", there)
            .body(body(b"", None))
            .expect("a response");
    }
    if path.starts_with(&format!("/new/model/resolve/{COMMIT}/")) {
        return answer
            .status(302)
            .header("location", format!("{storage}/signed?key=1"))
            .header("x-repo-commit", COMMIT)
            .header("x-linked-etag", format!("\"{}\"", ways.sha256))
            .header("x-linked-size", ways.file.len())
            .body(body(b"", None))
            .expect("a response");
    }
    answer
        .status(404)
        .body(body(b"", None))
        .expect("a response")
}

async fn start(file: Vec<u8>) -> World {
    let ways = Arc::new(Mutex::new(Ways {
        sha256: hex_sha256(&file),
        file,
        names: vec!["README.md", "tiny.gguf"],
        cut_after: None,
        ranges: true,
    }));
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let mut servers = Vec::new();
    let mut addresses: Vec<String> = Vec::new();
    for host in ["storage", "hub"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let storage_at = addresses.first().cloned().unwrap_or_default();
        addresses.push(format!("http://{}", listener.local_addr().expect("bound")));
        let (ways, seen) = (ways.clone(), seen.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            seen.lock().expect("whole").push(Seen {
                host,
                path: request.uri().path().to_owned(),
                headers: request.headers().clone(),
            });
            let ways = ways.lock().expect("whole").clone();
            let answer = match host {
                "storage" => storage(&ways, &request),
                _ => hub(&ways, &storage_at, &request),
            };
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        servers.push(tokio::spawn(crate::http::serve(
            listener,
            service,
            std::future::pending(),
            Duration::ZERO,
        )));
    }
    World {
        hub: addresses.pop().expect("two"),
        ways,
        seen,
        cache: tempfile::tempdir().expect("a directory"),
        servers,
    }
}

impl World {
    fn hub(&self) -> Hub {
        let cache = self.cache.path().to_owned();
        Hub::new(&self.hub, Some(TOKEN), crate::http::client(), cache)
            .expect("a hub")
            .with_backoff(Duration::from_millis(1))
    }

    async fn fetch(&self, name: &str) -> Result<Fetched, HubError> {
        self.hub()
            .fetch(&name.parse().expect("a name"), &mut |_| {})
            .await
    }

    fn set(&self, change: impl FnOnce(&mut Ways)) {
        change(&mut self.ways.lock().expect("whole"));
    }

    fn taken_from_storage(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("whole");
        (seen.iter().filter(|it| it.host == "storage"))
            .map(|it| {
                it.headers
                    .get("range")
                    .map_or("all", |it| it.to_str().expect("text"))
                    .to_owned()
            })
            .collect()
    }

    fn kept_files(&self) -> Vec<String> {
        let directory = self.cache.path().join("some--model").join(COMMIT);
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

/// A model of more than what is looked at first.
fn model() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let tiny = Tiny {
        layers: 4,
        ..Tiny::default()
    };
    let bytes = std::fs::read(tiny.write(directory.path(), "t.gguf")).expect("bytes");
    assert!(bytes.len() as u64 > 2 * PEEK_BYTES);
    bytes
}

#[tokio::test]
async fn a_file_is_pinned_fetched_checked_and_kept() {
    let world = start(model()).await;
    let got = world.fetch("some/model").await.expect("a file");
    assert_eq!(got.source, format!("hf:some/model:tiny.gguf@{COMMIT}"));
    assert!(!got.offline);
    assert_eq!(
        std::fs::read(&got.path).expect("bytes"),
        world.ways.lock().expect("whole").file
    );
    assert_eq!(world.kept_files(), ["tiny.gguf"]);
    // The token went to the hub and nowhere else.
    for it in world.seen.lock().expect("whole").iter() {
        let told = it.headers.contains_key("authorization");
        assert_eq!(told, it.host == "hub", "{} {}", it.host, it.path);
    }
    // The second time nothing is downloaded.
    let transfers = world.taken_from_storage().len();
    assert_eq!(
        world.fetch("some/model").await.expect("a file").path,
        got.path
    );
    assert_eq!(world.taken_from_storage().len(), transfers);

    // Without a network there is still the copy, and nothing else.
    for server in &world.servers {
        server.abort();
    }
    let closed = "http://127.0.0.1:9";
    let cache = world.cache.path().to_owned();
    let offline = Hub::new(closed, None, crate::http::client(), cache).expect("a hub");
    let fetch = async |name: &str| {
        let name = name.parse().expect("a name");
        offline.fetch(&name, &mut |_| {}).await
    };
    let again = fetch("some/model").await.expect("the copy");
    assert_eq!((again.path, again.offline), (got.path.clone(), true));
    let pinned = fetch(&format!("some/model:tiny.gguf@{COMMIT}"))
        .await
        .expect("the copy");
    assert!(!pinned.offline, "what cannot change needs no asking");
    let said = fetch("some/model:other.gguf")
        .await
        .expect_err("offline")
        .to_string();
    assert!(
        said.contains("cannot be reached") && said.contains("--model"),
        "{said}"
    );
}

#[tokio::test]
async fn what_breaks_off_is_taken_up_where_it_broke() {
    let file = model();
    let length = file.len();
    let world = start(file.clone()).await;
    world.set(|ways| ways.cut_after = Some(300_000));
    let got = world.fetch("some/model:tiny.gguf").await.expect("a file");
    assert_eq!(std::fs::read(&got.path).expect("bytes"), file);
    let parts = world.taken_from_storage();
    assert!(parts.len() >= length / 300_000, "{parts:?}");
    let starts: Vec<u64> = (parts.iter())
        .filter_map(|part| part.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok())
        .collect();
    assert!(starts.is_sorted() && starts[0] == 0 && starts[parts.len() - 1] > PEEK_BYTES);

    // One that never gets further is given up, and what came is kept for the next start.
    let world = start(file.clone()).await;
    world.set(|ways| ways.cut_after = Some(0));
    let said = world
        .fetch("some/model")
        .await
        .expect_err("nothing")
        .to_string();
    assert!(
        said.contains("broke off") && said.contains("start again"),
        "{said}"
    );
    let partial = world
        .cache
        .path()
        .join("some--model")
        .join(COMMIT)
        .join("tiny.gguf.partial");
    std::fs::write(&partial, &file[..2_000_000]).expect("written");
    world.set(|ways| ways.cut_after = None);
    world.fetch("some/model").await.expect("a file");
    let parts = world.taken_from_storage();
    assert_eq!(parts.last(), Some(&format!("bytes=2000000-{}", length - 1)));

    // A server without ranges begins anew each time, and it ends well all the same.
    let world = start(file).await;
    world.set(|ways| ways.ranges = false);
    world.fetch("some/model").await.expect("a file");
    assert_eq!(world.kept_files(), ["tiny.gguf"]);
}

#[tokio::test]
async fn another_file_than_the_hub_stated_is_refused_and_removed() {
    let world = start(model()).await;
    world.set(|ways| ways.sha256 = hex_sha256(b"another file"));
    let said = world
        .fetch("some/model")
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        said.contains(&hex_sha256(b"another file")) && said.contains("removed"),
        "{said}"
    );
    assert!(world.kept_files().is_empty());
    world.set(|ways| ways.sha256 = "no-sha".to_owned());
    let said = world
        .fetch("some/model")
        .await
        .expect_err("refused")
        .to_string();
    assert!(said.contains("no SHA-256"), "{said}");
}

#[tokio::test]
async fn an_architecture_that_is_not_run_is_refused_before_its_weights() {
    let mut file = model();
    let name = b"llama";
    let place = file
        .windows(name.len())
        .position(|it| it == name)
        .expect("named");
    file[place..place + name.len()].copy_from_slice(b"mamba");
    let world = start(file).await;
    let said = world
        .fetch("some/model")
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        said.contains("`mamba`") && said.contains("--upstream"),
        "{said}"
    );
    let first = format!("bytes=0-{}", PEEK_BYTES - 1);
    assert_eq!(world.taken_from_storage(), [first]);
    assert!(world.kept_files().is_empty());
}

#[tokio::test]
async fn what_cannot_be_had_says_what_to_do() {
    let world = start(Vec::new()).await;
    let said = async |name: &str| world.fetch(name).await.expect_err("refused").to_string();
    assert!(said("no/where").await.contains("is not on 127.0.0.1"));
    let told = said("some/secret").await;
    assert!(told.contains("is not on"), "{told}");
    world.set(|ways| ways.names = vec!["a.gguf", "b.gguf", "../evil.gguf"]);
    let told = said("some/model").await;
    assert!(
        told.contains("name one") && told.ends_with("a.gguf, b.gguf"),
        "{told}"
    );
    world.set(|ways| ways.names = vec!["model.safetensors"]);
    assert!(said("some/model").await.contains("no .gguf file"));
    let without = Hub::new(
        &world.hub,
        None,
        crate::http::client(),
        world.cache.path().to_owned(),
    );
    let secret = "some/secret".parse().expect("a name");
    let error = without.expect("a hub").fetch(&secret, &mut |_| {}).await;
    assert!(error.expect_err("refused").to_string().contains("HF_TOKEN"));
    let full = HubError::disk(Path::new("/x"), 7, std::io::ErrorKind::StorageFull.into());
    let told = full.to_string();
    assert!(
        told.contains("takes 7 bytes") && told.contains("LONGRUN_CACHE"),
        "{told}"
    );
    assert!(Hub::new("ftp://x", None, crate::http::client(), PathBuf::new()).is_err());
}

#[test]
fn names_are_read_with_distrust() {
    let read = |text: &str| text.parse::<HubFile>();
    let whole = read("o/n:sub/f.gguf@refs/pr/1").expect("a name");
    assert_eq!(whole.to_string(), "o/n:sub/f.gguf@refs/pr/1");
    assert!(!whole.is_pinned());
    assert!(
        read(&format!("o/n:f.gguf@{COMMIT}"))
            .expect("a name")
            .is_pinned()
    );
    for bad in [
        "",
        "a/b/c",
        "../x",
        "o/n:../f.gguf",
        "o/n:/f.gguf",
        "o/n:f.bin",
        "o/n@",
        "o/n:f.gguf@../x",
        "o n",
        "o/n?x",
        "https://huggingface.co/o/n",
    ] {
        let said = read(bad).expect_err(bad).to_string();
        assert!(said.contains("OWNER/NAME"), "{said}");
    }
}
