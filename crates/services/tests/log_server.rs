//! The log over HTTP, as a stranger with a socket sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{AT_ONCE, Author};
use record::{Digest, leaf::leaf_hash};
use serde_json::Value;
use services::log::{Log, LogOptions};
use services::log_server::{LINES_MAX, LogServer, REQUEST_BYTES_MAX, ServeError, ServeOptions};
use services::quota::{AdmittedKey, Quota, Rules, Who};
use tempfile::TempDir;
use tlog::bundle::{decode_bodies, decode_entries};
use tlog::checkpoint::SignedCheckpoint;
use tlog::note::NoteVerifier;
use tlog::proof::verify_inclusion;
use tlog::tile::Span;
use tokio::sync::oneshot;

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self
            .headers
            .lines()
            .filter_map(|line| line.split_once(": "));
        lines
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

fn request(address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request =
        format!("{head}\r\nhost: log\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // A server that refuses a large body closes before it has read all of it.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("an HTTP answer");
    let headers = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = headers[9..12].parse().unwrap();
    Answer {
        status,
        headers,
        body: answer[end + 4..].to_vec(),
    }
}

/// A log that listens until it is told to stop.
struct Served {
    address: SocketAddr,
    log: Log,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<(), ServeError>>>,
}

fn options(directory: &Path) -> ServeOptions {
    ServeOptions {
        directory: directory.to_owned(),
        log: LogOptions {
            origin: Some(common::ORIGIN.to_owned()),
            period: AT_ONCE,
            admission: Rules::new(Who::Anyone),
            ..LogOptions::default()
        },
        listen: "127.0.0.1:0".parse().unwrap(),
    }
}

impl Served {
    fn start(directory: &Path) -> Self {
        Self::start_with(options(directory))
    }

    fn start_with(options: ServeOptions) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let server = LogServer::bind(options).await?;
                ready
                    .send((server.address(), server.log().clone()))
                    .unwrap();
                server.run(async { drop(stopped.await) }).await
            })
        });
        let (address, log) = started.recv().expect("it starts");
        Self {
            address,
            log,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn get(&self, path: &str) -> Answer {
        request(self.address, &format!("GET {path} HTTP/1.1"), b"")
    }

    fn post(&self, body: &[u8]) -> Answer {
        request(self.address, "POST /longrun/v1/records HTTP/1.1", body)
    }

    fn stop(mut self) -> Result<(), ServeError> {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

fn lines(author: &Author, numbers: std::ops::Range<u64>) -> Vec<u8> {
    let mut body = Vec::new();
    for number in numbers {
        body.extend_from_slice(&author.envelope(number).to_json());
        body.push(b'\n');
    }
    body
}

#[test]
fn records_go_in_and_come_out_with_proofs() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    let about = served.get("/longrun/v1/log").json();
    let vkey = NoteVerifier::from_vkey(about["vkey"].as_str().unwrap()).unwrap();
    assert_eq!(
        (vkey.name(), about["size"].as_u64()),
        (common::ORIGIN, Some(0))
    );

    let answer = served.post(&lines(&author, 0..300));
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let answer = answer.json();
    let note = answer["checkpoint"].as_str().unwrap();
    let signed = SignedCheckpoint::open(note.as_bytes(), &vkey).unwrap();
    assert_eq!(signed.checkpoint().size, 300);
    let entries = answer["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 300);
    for (number, entry) in (0..).zip(entries) {
        assert_eq!(entry["index"].as_u64(), Some(number));
        assert_eq!(
            entry["id"].as_str(),
            Some(&*author.envelope(number).record_id().to_hex())
        );
        let leaf = STANDARD.decode(entry["leaf"].as_str().unwrap()).unwrap();
        let proof: Vec<Digest> = entry["proof"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hash| {
                Digest::from_slice(&STANDARD.decode(hash.as_str().unwrap()).unwrap()).unwrap()
            })
            .collect();
        verify_inclusion(
            &leaf_hash(&leaf),
            number,
            300,
            &proof,
            &signed.checkpoint().root,
        )
        .unwrap();
    }

    // The same tree through the read path.
    let checkpoint = served.get("/checkpoint");
    assert_eq!(checkpoint.body, note.as_bytes());
    assert_eq!(
        checkpoint.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(
        checkpoint.header("cache-control"),
        Some("public, max-age=1")
    );
    let mut leaves = Vec::new();
    for (path, width) in [("/tile/entries/000", 256), ("/tile/entries/001.p/44", 44)] {
        let bundle = served.get(path);
        assert_eq!(bundle.status, 200);
        assert_eq!(
            bundle.header("content-type"),
            Some("application/octet-stream")
        );
        assert_eq!(
            bundle.header("cache-control"),
            Some("public, max-age=31536000, immutable")
        );
        assert_eq!(bundle.header("access-control-allow-origin"), Some("*"));
        leaves.extend(
            decode_entries(&bundle.body, width)
                .unwrap()
                .into_iter()
                .map(leaf_hash),
        );
    }
    let tiles = [
        served.get("/tile/0/000").body,
        served.get("/tile/0/001.p/44").body,
    ]
    .concat();
    assert_eq!(
        tiles,
        leaves
            .iter()
            .flat_map(|hash| *hash.as_bytes())
            .collect::<Vec<u8>>()
    );
    assert_eq!(tlog::merkle::root(&leaves), signed.checkpoint().root);
    assert_eq!(
        served.get("/tile/1/000.p/1").body,
        tlog::merkle::root(&leaves[..256]).as_bytes()
    );
    served.stop().unwrap();
}

#[test]
fn partial_tiles_that_went_are_cut_from_the_full_ones() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    served.post(&lines(&author, 0..100));
    let before: Vec<_> = ["/tile/0/000.p/100", "/tile/entries/000.p/100"]
        .map(|path| served.get(path).body)
        .into();
    served.post(&lines(&author, 100..200));
    served.post(&lines(&author, 200..300));
    assert!(!directory.path().join("tile/0/000.p/100").exists());
    for (path, before) in ["/tile/0/000.p/100", "/tile/entries/000.p/100"]
        .iter()
        .zip(before)
    {
        let now = served.get(path);
        assert_eq!((now.status, &now.body), (200, &before), "{path}");
    }
    served.stop().unwrap();
}

#[test]
fn what_is_not_a_file_of_the_log_is_not_found() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    served.post(&lines(&author, 0..10));
    for path in [
        "/",
        "/tile",
        "/tile/",
        "/tile/0",
        "/tile/0/000",
        "/tile/0/000.p/11",
        "/tile/0/001.p/1",
        "/tile/00/000.p/10",
        "/tile/0/000.p/010",
        "/tile/1/000.p/1",
        "/tile/entries/000",
        "/tile/../log.key",
        "/tile/..%2flog.key",
        "/tile/%2e%2e/log.key",
        "/log.key",
        "/read.token",
        "/head.sqlite",
        "/bodies/000.p/10",
        "/staging/x",
        "/VERSION",
        "/checkpoint/",
        "/tile/0/%00",
        "/tile/0/%ff",
    ] {
        let answer = served.get(path);
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {}",
            answer.headers
        );
        assert!(
            !answer.body.windows(11).any(|w| w == b"PRIVATE+KEY"),
            "{path}"
        );
    }
    assert_eq!(served.get("/tile/0/000").code(), "not_found");
    let answer = request(served.address, "GET /longrun/v1/records HTTP/1.1", b"");
    assert_eq!(
        (answer.status, answer.code()),
        (405, "method_not_allowed".to_owned())
    );
    let answer = request(served.address, "DELETE /checkpoint HTTP/1.1", b"");
    assert_eq!(answer.status, 405);
    served.stop().unwrap();
}

#[test]
fn bodies_are_for_whoever_has_the_token() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    served.post(&lines(&author, 0..3));
    let token = std::fs::read_to_string(directory.path().join("read.token")).unwrap();
    let token = token.trim_end();
    assert_eq!(token, served.log.read_token());
    let get = |header: &str| {
        request(
            served.address,
            &format!("GET /longrun/v1/bodies/000.p/3 HTTP/1.1{header}"),
            b"",
        )
    };
    for header in [
        String::new(),
        "\r\nauthorization: Bearer ".to_owned(),
        "\r\nauthorization: Bearer x".to_owned(),
        format!("\r\nauthorization: bearer {token}"),
        format!("\r\nauthorization: Bearer {token}0"),
        format!("\r\nauthorization: Bearer {}", &token[1..]),
    ] {
        let answer = get(&header);
        assert_eq!(
            (answer.status, answer.code()),
            (401, "unauthorized".to_owned()),
            "{header}"
        );
    }
    let answer = get(&format!("\r\nauthorization: Bearer {token}"));
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (200, Some("private, no-store"))
    );
    let bodies = decode_bodies(&answer.body, 3).unwrap();
    for (number, body) in (0..).zip(bodies) {
        assert_eq!(body.unwrap(), author.envelope(number).payload());
    }
    served.stop().unwrap();
}

#[test]
fn anyone_may_read_who_signs_and_nothing_that_was_observed() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/record/golden");
    let golden = |name: &str| std::fs::read(vectors.join(format!("{name}.envelope.json"))).unwrap();
    let mut lines = author.envelope(0).to_json();
    let names = ["offer", "receipt-ok", "manifest-computed", "observation-ok"];
    for name in names {
        lines.push(b'\n');
        lines.extend(golden(name));
    }
    served.post(&lines);
    let answer = served.get("/longrun/v1/public/000.p/5");
    assert_eq!(answer.status, 200);
    let bodies = decode_bodies(&answer.body, 5).unwrap();
    let public: Vec<bool> = bodies.iter().map(Option::is_some).collect();
    assert_eq!(public, [true, true, false, true, false]);
    let offer = record::Envelope::from_json(&golden("offer")).unwrap();
    assert_eq!(bodies[1], Some(offer.payload()));
    assert_eq!(served.get("/longrun/v1/public/../read.token").status, 404);
    served.stop().unwrap();
}

#[test]
fn each_bad_record_is_refused_beside_the_good_ones() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    let good = author.envelope(0);
    let text = |envelope: &record::Envelope| String::from_utf8(envelope.to_json()).unwrap();
    // My statement under a stranger's signature.
    let stranger = Author::new().envelope(0);
    let resigned =
        record::Envelope::new(good.payload().to_vec(), stranger.signature().to_vec()).unwrap();
    let large = "x".repeat(70_000);
    let payload = |payload: &str| {
        let payload = STANDARD.encode(payload);
        format!(
            r#"{{"payloadType":"application/vnd.in-toto+json","payload":"{payload}","signatures":[{{"sig":"AAAA"}}]}}"#
        )
    };
    let cases = [
        ("malformed", "not JSON".to_owned()),
        ("malformed", "{}".to_owned()),
        ("malformed", "[]".to_owned()),
        ("malformed", "null".to_owned()),
        ("malformed", text(&good).replace("in-toto", "other")),
        (
            "malformed",
            text(&good).replacen('{', r#"{"payload":"","#, 1),
        ),
        ("malformed", format!("{} x", text(&good))),
        ("too_large", format!(r#"{{"payload":"{large}"}}"#)),
        (
            "bad_signature",
            text(&good).replace("\"signatures\":[", "\"signatures\":[{\"sig\":\"AA==\"},"),
        ),
        ("bad_signature", text(&resigned)),
        ("malformed", payload("{\"_type\":1.5}")),
        ("malformed", payload("{\"a\":1,\"a\":2}")),
        (
            "malformed",
            payload("{\"_type\":\"https://in-toto.io/Statement/v1\"}"),
        ),
    ];
    let mut body = text(&good) + "\n";
    for (_, line) in &cases {
        body += line;
        body += "\n\n";
    }
    body += &text(&author.envelope(1));
    let mut body = body.into_bytes();
    body.extend_from_slice(b"\n{\"payload\":\"\xff\"}");
    let answer = served.post(&body);
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let answer = answer.json();
    let entries = answer["entries"].as_array().unwrap();
    assert_eq!(entries.len(), cases.len() + 3);
    assert_eq!(entries[0]["index"].as_u64(), Some(0));
    assert_eq!(entries[cases.len() + 1]["index"].as_u64(), Some(1));
    for ((code, line), entry) in cases.iter().zip(&entries[1..]) {
        assert_eq!(
            entry["error"]["code"].as_str(),
            Some(*code),
            "{line:.100}: {entry}"
        );
    }
    assert_eq!(
        entries[cases.len() + 2]["error"]["code"].as_str(),
        Some("malformed")
    );
    assert_eq!(served.log.published().checkpoint.size, 2);

    // Nothing but refusals still gets an answer, and no round.
    let answer = served.post(b"{}\n").json();
    assert_eq!(
        answer["entries"][0]["error"]["code"].as_str(),
        Some("malformed")
    );
    assert_eq!(served.log.totals().rounds, 1);
    served.stop().unwrap();
}

/// A signature that verifies does not make a statement of what cannot be one.
#[test]
fn what_is_signed_but_no_statement_is_refused() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    let good = String::from_utf8(author.envelope(0).payload().to_vec()).unwrap();
    let number = "\"seq\":1";
    assert!(good.contains(number), "{good}");
    let changed = |to: &str| good.replace(number, to).into_bytes();
    let mut not_utf8 = good.clone().into_bytes();
    let at = good.find("record 0").unwrap();
    not_utf8[at] = 0xff;
    let payloads = [
        changed("\"seq\":1.0"),
        changed("\"seq\":1e0"),
        changed("\"seq\":-0"),
        changed("\"seq\":1,\"seq\":1"),
        changed("\"seq\":null"),
        [good.as_bytes(), b" x"].concat(),
        not_utf8,
        good.replace("{\"create\"", "{\"destroy\"").into_bytes(),
    ];
    let mut body = Vec::new();
    for payload in &payloads {
        body.extend(author.sign(payload).to_json());
        body.push(b'\n');
    }
    let answer = served.post(&body).json();
    for (payload, entry) in payloads.iter().zip(answer["entries"].as_array().unwrap()) {
        let text = String::from_utf8_lossy(payload);
        assert_eq!(entry["error"]["code"], "malformed", "{text}: {entry}");
    }
    assert_eq!(served.log.published().checkpoint.size, 0);
    served.stop().unwrap();
}

/// Whoever reads it later may know its kind.
#[test]
fn a_record_of_an_unknown_kind_is_logged_as_it_is() {
    let directory = TempDir::new().unwrap();
    let served = Served::start(directory.path());
    let line = include_bytes!("../../../vectors/record/golden/kept-unknown-kind.envelope.json");
    let payload = record::Envelope::from_json(line)
        .unwrap()
        .payload()
        .to_vec();
    let answer = served.post(line).json();
    assert_eq!(answer["entries"][0]["index"], 0, "{answer}");
    let bodies = served
        .log
        .reader()
        .bodies(Span::new(0, 1).unwrap())
        .unwrap();
    assert_eq!(bodies, [Some(payload)]);
    served.stop().unwrap();
}

#[test]
fn requests_that_are_too_large_or_empty_are_refused_whole() {
    let directory = TempDir::new().unwrap();
    let served = Served::start(directory.path());
    let empty = served.post(b"\n \n");
    assert_eq!((empty.status, empty.code()), (400, "malformed".to_owned()));
    let many = served.post(&b"{}\n".repeat(LINES_MAX + 1));
    assert_eq!((many.status, many.code()), (413, "too_large".to_owned()));
    let large = served.post(&vec![b' '; REQUEST_BYTES_MAX + 1]);
    assert_eq!((large.status, large.code()), (413, "too_large".to_owned()));
    served.stop().unwrap();
}

#[test]
fn a_stopped_log_says_that_it_is_unavailable() {
    let directory = TempDir::new().unwrap();
    let (served, author) = (Served::start(directory.path()), Author::new());
    served.post(&lines(&author, 0..1));
    let router = services::log_server::router(served.log.clone());
    served.stop().unwrap();
    // The routes of a log that has stopped, still mounted somewhere.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async { axum::serve(listener, router).await });
    let answer = request(
        address,
        "POST /longrun/v1/records HTTP/1.1",
        &lines(&author, 1..2),
    );
    assert_eq!(
        (answer.status, answer.code()),
        (503, "unavailable".to_owned())
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        request(address, "GET /checkpoint HTTP/1.1", b"").status,
        200
    );
    runtime.shutdown_background();
}

#[test]
fn a_request_under_way_is_finished_when_told_to_stop() {
    let directory = TempDir::new().unwrap();
    let mut slow = options(directory.path());
    slow.log.period = Duration::from_secs(3600);
    let (served, author) = (Served::start_with(slow), Author::new());
    served.post(&lines(&author, 0..1));
    // The next round would start in an hour.
    let (address, body) = (served.address, lines(&author, 1..5));
    let waiting =
        std::thread::spawn(move || request(address, "POST /longrun/v1/records HTTP/1.1", &body));
    while served.log.sequencer().waiting() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    served.stop().unwrap();
    let answer = waiting.join().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["entries"][3]["index"].as_u64(), Some(4));
}

#[test]
fn an_address_in_use_is_named() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(directory.path());
    options.listen = taken.local_addr().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime
        .block_on(LogServer::bind(options))
        .err()
        .expect("the port is taken");
    assert!(
        error
            .to_string()
            .contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
    // Nothing was made in the directory.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn keys_and_addresses_have_quotas() {
    let directory = TempDir::new().unwrap();
    let served = Served::start(directory.path());
    let (admitted, stranger) = (Author::new(), Author::new());
    let mut rules = Rules::new(Who::Admitted);
    let quota = Some(Quota {
        records_per_s: 1,
        burst: 5,
    });
    let key = admitted.record(0).key().key_id();
    rules.admit(AdmittedKey {
        key,
        name: "a node".to_owned(),
        quota,
    });
    rules.save(directory.path()).unwrap();
    let codes = |answer: &Answer| -> Vec<String> {
        let entries = answer.json()["entries"].as_array().unwrap().clone();
        let code = |entry: &Value| {
            entry["error"]["code"]
                .as_str()
                .unwrap_or("logged")
                .to_owned()
        };
        entries.iter().map(code).collect()
    };
    // Rules are taken up within a second or so.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while codes(&served.post(&lines(&stranger, 0..1))) != ["not_admitted"] {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = codes(&served.post(&lines(&admitted, 0..12)));
    assert_eq!(answer[..5], ["logged"; 5]);
    assert!(
        answer.iter().filter(|code| *code == "rate_limited").count() >= 6,
        "{answer:?}"
    );

    rules.per_address = Some(Quota {
        records_per_s: 1,
        burst: 10,
    });
    rules.save(directory.path()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let limited = loop {
        let answer = served.post(&lines(&admitted, 0..11));
        if answer.status != 200 {
            break answer;
        }
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(
        (limited.status, limited.code()),
        (429, "rate_limited".to_owned())
    );
    assert_eq!(limited.header("retry-after"), Some("1"));
    served.stop().unwrap();
}
