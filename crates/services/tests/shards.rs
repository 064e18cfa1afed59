//! Ending a log and going on in another, and what everybody sees of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{AT_ONCE, Author, append};
use http_body_util::{BodyExt as _, Full};
use ring::rand::SystemRandom;
use services::fsck::{self, FsckOptions};
use services::log::{Log, LogOptions};
use services::log_server::{LogServer, ServeOptions};
use services::monitor::{Monitor, MonitorOptions, What};
use services::quota::{Rules, Who};
use services::retention::Retention;
use services::sequencer::SubmitError;
use services::shard::{ShardError, ShardOptions, shard};
use tempfile::TempDir;
use tlog::log_policy::LogPolicy;
use tlog::shard::Link;

const SUCCESSOR: &str = "log.example/next";

struct Logs {
    keep: TempDir,
    author: Author,
}

impl Logs {
    fn new(entries: u64) -> Self {
        let logs = Self {
            keep: TempDir::new().unwrap(),
            author: Author::new(),
        };
        logs.grow(&logs.old(), entries);
        logs
    }

    fn old(&self) -> PathBuf {
        self.keep.path().join("old")
    }

    fn next(&self) -> PathBuf {
        self.keep.path().join("new")
    }

    fn options() -> LogOptions {
        LogOptions {
            period: AT_ONCE,
            admission: Rules::new(Who::Anyone),
            ..LogOptions::default()
        }
    }

    fn grow(&self, directory: &Path, size: u64) {
        let log = Log::open(directory, Self::options()).unwrap();
        let from = log.published().checkpoint.size;
        append(log.sequencer(), self.author.submissions(from..size)).unwrap();
        log.stop();
    }

    fn shard(&self) -> Result<Link, ShardError> {
        self.shard_with(false)
    }

    fn shard_with(&self, unwitnessed: bool) -> Result<Link, ShardError> {
        let options = ShardOptions {
            origin: Some(SUCCESSOR.to_owned()),
            url: Some("https://log.example/next".to_owned()),
            unwitnessed,
            random: &SystemRandom::new(),
        };
        shard(&self.old(), &self.next(), &options)
    }
}

fn check(directory: &Path) -> Result<fsck::FsckReport, fsck::FsckError> {
    fsck::run(directory, &FsckOptions::default(), |_| {})
}

fn reason<T>(result: Result<T, ShardError>) -> String {
    result.err().expect("it is refused").to_string()
}

#[test]
fn a_log_that_was_ended_takes_nothing_and_says_where_to_go() {
    let logs = Logs::new(300);
    let link = logs.shard().unwrap();
    assert_eq!((link.size(), link.successor().name()), (300, SUCCESSOR));
    let log = Log::open(&logs.old(), Logs::options()).unwrap();
    assert_eq!(log.published().checkpoint.size, 300);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(log.append(logs.author.submissions(300..301)));
    let said = match refused {
        Err(SubmitError::Stopped(said)) => said,
        other => panic!("{other:?}"),
    };
    let vkey = link.successor().to_vkey();
    assert!(
        said.contains("closed at size 300") && said.contains(&vkey),
        "{said}"
    );
    let past = log
        .sequencer()
        .submit_and_wait(logs.author.submissions(300..301));
    assert!(past.is_err(), "not behind the back of the log either");
    log.stop();
    drop(log);

    let report = check(&logs.old()).unwrap();
    assert_eq!((report.size, report.successor), (300, Some(vkey)));
    // The new log goes on, takes whom the old one took, and points back.
    let rules = Rules::load(&logs.next()).unwrap().unwrap();
    assert_eq!(rules.who, Who::Anyone);
    logs.grow(&logs.next(), 5);
    let report = check(&logs.next()).unwrap();
    assert_eq!((report.size, &*report.origin), (5, SUCCESSOR));
    assert_eq!(report.predecessor, Some(link.predecessor().to_vkey()));
    for (directory, file) in [
        (logs.old(), "successor.json"),
        (logs.next(), "predecessor.json"),
    ] {
        let read = Link::parse(&fs::read(directory.join(file)).unwrap()).unwrap();
        assert_eq!(read, link);
    }
}

#[test]
fn ending_a_log_again_finds_it_done_or_finishes_it() {
    let logs = Logs::new(3);
    let link = logs.shard().unwrap();
    assert_eq!(logs.shard().unwrap(), link, "done already");
    fs::remove_file(logs.next().join("predecessor.json")).unwrap();
    assert_eq!(logs.shard().unwrap(), link);
    assert!(logs.next().join("predecessor.json").exists());

    // Killed before the old log was closed: it is not, and goes on until it is.
    fs::remove_file(logs.old().join("successor.json")).unwrap();
    logs.grow(&logs.old(), 7);
    let later = logs.shard().unwrap();
    assert_eq!((later.size(), later.successor()), (7, link.successor()));
    assert!(
        check(&logs.next()).is_err(),
        "never started: it has no checkpoint"
    );
    Log::open(&logs.next(), Logs::options()).unwrap().stop();
    assert_eq!(check(&logs.next()).unwrap().size, 0);
}

#[test]
fn a_log_is_ended_only_when_it_can_be() {
    let logs = Logs::new(3);
    let running = Log::open(&logs.old(), Logs::options()).unwrap();
    assert!(reason(logs.shard()).contains("in use"));
    running.stop();
    drop(running);
    // Into itself, or into a log that has entries already.
    let options = ShardOptions {
        origin: None,
        url: None,
        unwitnessed: false,
        random: &SystemRandom::new(),
    };
    assert!(shard(&logs.old(), &logs.old(), &options).is_err());
    let other = Logs::new(1);
    assert!(reason(shard(&logs.old(), &other.old(), &options)).contains("has entries already"));
    assert!(shard(&logs.keep.path().join("none"), &logs.next(), &options).is_err());
    assert!(
        !logs.keep.path().join("none").exists(),
        "no log is made of it"
    );

    // Its witnesses have not cosigned the last checkpoint.
    let witness =
        tlog::cosignature::WitnessSigner::from_seed("witness.example/w", &[5; 32]).unwrap();
    let policy = format!(
        "witness w {} http://127.0.0.1:1\nquorum w\n",
        witness.verifier().to_vkey()
    );
    fs::write(logs.old().join("witnesses"), policy).unwrap();
    assert!(reason(logs.shard()).contains("lacks cosignatures"));
    assert!(!logs.old().join("successor.json").exists());
    logs.shard_with(true).unwrap();
    assert!(
        logs.next().join("witnesses").exists(),
        "the new log asks the same"
    );
    let elsewhere = logs.keep.path().join("elsewhere");
    assert!(reason(shard(&logs.old(), &other.old(), &options)).contains("ended before"));
    assert!(
        reason(shard(&logs.old(), &elsewhere, &options)).contains("ended before")
            || !elsewhere.join("log.key").exists()
    );
}

#[test]
fn a_link_that_does_not_fit_is_named_and_the_log_does_not_start() {
    let logs = Logs::new(9);
    logs.shard().unwrap();
    let file = logs.old().join("successor.json");
    let good = fs::read(&file).unwrap();
    let strangers = Logs::new(9);
    strangers.shard().unwrap();
    let others = fs::read(strangers.old().join("successor.json")).unwrap();
    for bad in [&b"{}"[..], &others[..], &good[..good.len() / 2]] {
        fs::write(&file, bad).unwrap();
        let error = Log::open(&logs.old(), Logs::options()).err().unwrap();
        assert!(error.to_string().contains("successor.json"), "{error}");
        let error = check(&logs.old()).unwrap_err().to_string();
        assert!(error.contains("successor.json"), "{error}");
    }
    // A log that went on after its end.
    fs::remove_file(&file).unwrap();
    logs.grow(&logs.old(), 12);
    fs::write(&file, &good).unwrap();
    let error = Log::open(&logs.old(), Logs::options())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("ends the log at 9, and the log is at 12"),
        "{error}"
    );
    assert!(check(&logs.old()).is_err());
}

async fn ask(url: &str, body: Option<&'static str>) -> (u16, String, String) {
    let request = http::Request::builder()
        .method(if body.is_some() { "POST" } else { "GET" })
        .uri(url)
        .body(Full::new(axum::body::Bytes::from(body.unwrap_or_default())))
        .unwrap();
    let answer = engine::http::client().request(request).await.unwrap();
    let header = answer.headers().get("cache-control");
    let cache = header.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, cache, String::from_utf8_lossy(&body).into_owned())
}

#[test]
fn an_ended_log_is_served_watched_and_stopped_like_any_other() {
    let logs = Logs::new(20);
    let retention = Retention::new(None, None, Some(90));
    retention.save(&logs.old()).unwrap();
    let link = logs.shard().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime
        .block_on(LogServer::bind(ServeOptions {
            directory: logs.old(),
            log: Logs::options(),
            listen: "127.0.0.1:0".parse().unwrap(),
        }))
        .unwrap();
    let url = format!("http://{}", server.address());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(server.run(async { drop(stopped.await) }));
    let get = |path: &str| runtime.block_on(ask(&format!("{url}{path}"), None));
    assert_eq!(get("/checkpoint").0, 200);
    assert_eq!(get("/tile/entries/000.p/20").0, 200);
    let (status, cache, body) = get("/successor.json");
    assert_eq!((status, &*cache), (200, "public, max-age=60"));
    assert_eq!(Link::parse(body.as_bytes()).unwrap(), link);
    assert_eq!(get("/predecessor.json").0, 404);
    assert_eq!(
        Retention::parse(get("/retention.json").2.as_bytes()),
        Ok(retention)
    );
    let about: serde_json::Value = serde_json::from_str(&get("/longrun/v1/log").2).unwrap();
    assert_eq!(about["closed"]["size"], 20);
    assert_eq!(about["closed"]["successor"], link.successor().to_vkey());
    let (status, _, body) = runtime.block_on(ask(&format!("{url}/longrun/v1/records"), Some("{}")));
    assert_eq!(status, 410);
    assert!(
        body.contains("\"closed\"") && body.contains(SUCCESSOR),
        "{body}"
    );

    let policy = format!("log {} {url}\nquorum none\n", link.predecessor().to_vkey());
    let options = MonitorOptions {
        timeout: Duration::from_secs(60),
        ..MonitorOptions::default()
    };
    let ended = What::Ended {
        size: 20,
        successor: link.successor().to_vkey(),
        url: Some("https://log.example/next".to_owned()),
    };
    let directory = logs.keep.path().join("monitor");
    let policy = LogPolicy::parse(policy.as_bytes()).unwrap();
    let look = || {
        let options = MonitorOptions {
            timeout: options.timeout,
            ..MonitorOptions::default()
        };
        let mut monitor = Monitor::open(&directory, policy.clone(), options).unwrap();
        let said = monitor.round().unwrap();
        said.into_iter()
            .map(|finding| finding.what)
            .collect::<Vec<_>>()
    };
    let said = look();
    assert!(
        said.contains(&What::First { size: 20 }) && said.contains(&ended),
        "{said:?}"
    );
    assert!(!running.is_finished(), "it goes on serving");
    stop.send(()).unwrap();
    runtime.block_on(running).unwrap().unwrap();

    // It comes up again as if it had never ended, under the same key, and grows.
    fs::remove_file(logs.old().join("successor.json")).unwrap();
    logs.grow(&logs.old(), 25);
    let server = runtime
        .block_on(LogServer::bind(ServeOptions {
            directory: logs.old(),
            log: Logs::options(),
            listen: url.trim_start_matches("http://").parse().unwrap(),
        }))
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(server.run(async { drop(stopped.await) }));
    let said = look();
    assert!(
        said.contains(&What::AfterEnd { end: 20, size: 25 }),
        "{said:?}"
    );
    stop.send(()).unwrap();
    runtime.block_on(running).unwrap().unwrap();
}
