//! Following logs and witnesses over HTTP: honest ones, one with two faces, one that goes back, one
//! with broken tiles, and witnesses that are stale or know another history.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{AT_ONCE, Author, NOON_MS, SetClock, append};
use services::log::{Log, LogOptions};
use services::monitor::{Gravity, Monitor, MonitorError, MonitorOptions, What};
use services::reader::LogReader;
use services::witness::{self, Witness, WitnessOptions};
use store::local::Local;
use tempfile::TempDir;
use tlog::checkpoint::SignedCheckpoint;
use tlog::log_policy::LogPolicy;
use tlog::policy::TrustPolicy;
use tlog::proof::TreeView;
use tlog::tile::Resource;
use tlog::verify::{FileKind, Verdict, verify_file};
use tlog::witness::AddCheckpoint;

/// A log in a directory that is opened, grown and closed again.
struct Directory {
    path: PathBuf,
    author: Author,
}

impl Directory {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            author: Author::new(),
        }
    }

    /// Appends records until the log has this many; gives back its key.
    fn grow(&self, size: u64) -> String {
        let options = LogOptions {
            origin: Some(common::ORIGIN.to_owned()),
            period: AT_ONCE,
            ..LogOptions::default()
        };
        let log = Log::open(&self.path, options).unwrap();
        let from = log.published().checkpoint.size;
        if from < size {
            append(log.sequencer(), self.author.submissions(from..size)).unwrap();
        }
        log.stop();
        log.vkey().to_owned()
    }

    /// The same log in another directory: two copies with one key, free to go different ways.
    fn fork(&self, path: PathBuf) -> Self {
        copy(&self.path, &path);
        Self::new(path)
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        SignedCheckpoint::parse(&fs::read(self.path.join("checkpoint")).unwrap()).unwrap()
    }

    fn request(&self, old_size: u64) -> AddCheckpoint {
        let reader = LogReader::new(Arc::new(
            Local::open_read(&self.path, "longrun log 1\n").unwrap(),
        ));
        let checkpoint = self.checkpoint();
        let view = TreeView::new(&reader, checkpoint.checkpoint().size);
        AddCheckpoint {
            old_size,
            proof: view.consistency(old_size).unwrap(),
            checkpoint,
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Plain files over HTTP, as any static server gives them; which directory can be changed.
#[derive(Clone)]
struct Static {
    address: SocketAddr,
    root: Arc<Mutex<Option<PathBuf>>>,
}

impl Static {
    fn new(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            root: Arc::new(Mutex::new(Some(root.to_owned()))),
        };
        let root = server.root.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let root = root.clone();
                std::thread::spawn(move || {
                    let root = root.lock().unwrap().clone();
                    // A server that is down hangs up.
                    root.map(|root| answer(stream, &root))
                });
            }
        });
        server
    }

    fn show(&self, root: &Path) {
        *self.root.lock().unwrap() = Some(root.to_owned());
    }

    fn hide(&self) {
        *self.root.lock().unwrap() = None;
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

fn answer(mut stream: TcpStream, root: &Path) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/')
        .to_owned();
    while reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    let (status, body) = match fs::read(root.join(path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
}

/// A witness that is asked in this process and looked at over HTTP.
fn served_witness(directory: &Path, vkey: &str, clock: &SetClock) -> (Witness, String) {
    let witness = Witness::open(
        directory,
        WitnessOptions {
            name: Some("witness.example/one".to_owned()),
            logs: vec![tlog::note::NoteVerifier::from_vkey(vkey).unwrap()],
            clock: Arc::new(clock.clone()),
            ..WitnessOptions::default()
        },
    )
    .unwrap();
    let (served, (ready, started)) = (witness.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            witness::serve(&served, listener, std::future::pending()).await;
        });
    });
    let url = format!("http://{}", started.recv().unwrap());
    (witness, url)
}

struct Setting {
    keep: TempDir,
    log: Directory,
    vkey: String,
    server: Static,
    clock: SetClock,
    witness: Option<(Witness, String)>,
}

impl Setting {
    /// A log of this size behind a static server.
    fn new(size: u64) -> Self {
        let keep = TempDir::new().unwrap();
        let log = Directory::new(keep.path().join("log"));
        let vkey = log.grow(size);
        let server = Static::new(&log.path);
        Self {
            keep,
            log,
            vkey,
            server,
            clock: SetClock::at(NOON_MS),
            witness: None,
        }
    }

    fn with_witness(mut self) -> Self {
        let directory = self.keep.path().join("witness");
        self.witness = Some(served_witness(&directory, &self.vkey, &self.clock));
        self
    }

    fn cosign(&self, log: &Directory, old_size: u64) {
        let (witness, _) = self.witness.as_ref().unwrap();
        let request = log.request(old_size).to_bytes();
        witness.add_checkpoint(&request).unwrap();
    }

    fn lines(&self) -> String {
        let mut text = format!("log {} {}\n", self.vkey, self.server.url());
        if let Some((witness, url)) = &self.witness {
            text += &format!("witness w {} {url}\n", witness.vkey());
        }
        text + "quorum none\n"
    }

    fn monitor(&self) -> Monitor {
        self.monitor_of(&self.lines()).unwrap()
    }

    fn monitor_of(&self, lines: &str) -> Result<Monitor, MonitorError> {
        let options = MonitorOptions {
            clock: Arc::new(self.clock.clone()),
            timeout: Duration::from_secs(60),
            ..MonitorOptions::default()
        };
        let policy = LogPolicy::parse(lines.as_bytes()).unwrap();
        Monitor::open(&self.keep.path().join("monitor"), policy, options)
    }

    /// Whether this is evidence, and all there is holds for a stranger who has the log's key.
    fn assert_proven(&self, evidence: &Path) {
        let files = fs::read_dir(self.keep.path().join("monitor/evidence")).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        assert!(files.iter().any(|file| file == evidence), "{files:?}");
        let lines = format!("log {}\nquorum none\n", self.vkey);
        let policy = TrustPolicy::of_logs(LogPolicy::parse(lines.as_bytes()).unwrap());
        for file in files {
            let report = verify_file(&fs::read(file).unwrap(), Some(&policy));
            assert_eq!(report.kind, FileKind::Evidence);
            assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
        }
    }
}

/// What was said of the log (`None`) and of the witness.
fn round(monitor: &mut Monitor) -> Vec<(bool, What)> {
    let findings = monitor.round().unwrap();
    findings
        .into_iter()
        .map(|finding| {
            assert_eq!(finding.origin, common::ORIGIN);
            (finding.witness.is_some(), finding.what)
        })
        .collect()
}

fn split(said: &[(bool, What)]) -> PathBuf {
    let found = said.iter().find_map(|(_, what)| match what {
        What::Split { evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{said:?}"))
}

#[test]
fn an_honest_log_and_its_witness_are_followed_across_restarts() {
    let setting = Setting::new(300).with_witness();
    setting.cosign(&setting.log, 0);
    let mut monitor = setting.monitor();
    assert_eq!(
        round(&mut monitor),
        [
            (false, What::First { size: 300 }),
            (
                true,
                What::Cosigned {
                    size: 300,
                    latest: 300
                }
            ),
            (
                false,
                What::Rebuilt {
                    entries: 300,
                    of: 300
                }
            ),
        ]
    );
    setting.log.grow(1000);
    let said = round(&mut monitor);
    assert_eq!(
        said,
        [
            (
                false,
                What::Grew {
                    from: 300,
                    to: 1000
                }
            ),
            (
                true,
                What::Cosigned {
                    size: 300,
                    latest: 1000
                }
            ),
            (
                false,
                What::Rebuilt {
                    entries: 700,
                    of: 1000
                }
            ),
        ]
    );
    drop(monitor);
    setting.cosign(&setting.log, 300);
    let mut monitor = setting.monitor();
    assert_eq!(
        round(&mut monitor),
        [
            (false, What::Same { size: 1000 }),
            (
                true,
                What::Cosigned {
                    size: 1000,
                    latest: 1000
                }
            ),
        ],
        "nothing is read twice"
    );
    assert!(
        setting.monitor_of(&setting.lines()).is_err(),
        "one at a time"
    );
}

#[test]
fn a_log_with_two_faces_is_proven_and_stays_so() {
    for (first, second) in [(300, 700), (300, 300), (300, 270)] {
        let setting = Setting::new(260);
        let other = setting.log.fork(setting.keep.path().join("other"));
        setting.log.grow(first);
        other.grow(second);
        let mut monitor = setting.monitor();
        assert!(
            round(&mut monitor)
                .iter()
                .all(|(_, what)| what.gravity() == Gravity::Fine)
        );
        setting.server.show(&other.path);
        let mut said = round(&mut monitor);
        if second < first {
            // What it had shown before is gone with its tiles: nothing is proven yet.
            assert!(
                matches!(said[..], [(false, What::Unproven { size: 270, .. })]),
                "{said:?}"
            );
            other.grow(301);
            said = round(&mut monitor);
        }
        let evidence = split(&said);
        setting.assert_proven(&evidence);
        let expected = What::KnownSplit {
            evidence: evidence.clone(),
        };
        assert!(round(&mut monitor).contains(&(false, expected.clone())));
        drop(monitor);
        // Back to the first face: the proof does not go away.
        setting.server.show(&setting.log.path);
        assert!(round(&mut setting.monitor()).contains(&(false, expected)));
        setting.assert_proven(&evidence);
    }
}

#[test]
fn a_face_that_only_a_witness_was_shown_is_proven_once_the_log_passes_it() {
    let setting = Setting::new(260).with_witness();
    let hidden = setting.log.fork(setting.keep.path().join("hidden"));
    setting.log.grow(300);
    hidden.grow(320);
    setting.cosign(&hidden, 0);
    let mut monitor = setting.monitor();
    let said = round(&mut monitor);
    assert!(
        said.iter()
            .any(|(of_witness, what)| *of_witness
                && matches!(what, What::Unproven { size: 320, .. })),
        "{said:?}"
    );
    drop(monitor);
    setting.log.grow(400);
    let mut monitor = setting.monitor();
    setting.assert_proven(&split(&round(&mut monitor)));
}

#[test]
fn a_log_that_goes_back_is_down_or_shows_something_else_is_said_to() {
    let setting = Setting::new(100);
    let old = setting.log.fork(setting.keep.path().join("old"));
    setting.log.grow(300);
    let mut monitor = setting.monitor();
    round(&mut monitor);
    setting.server.show(&old.path);
    // The copy has the tiles of 100 entries only, so that it is the same history cannot be shown.
    let said = round(&mut monitor);
    assert!(
        matches!(said[..], [(false, What::Unproven { size: 100, .. })]),
        "{said:?}"
    );
    // A stale checkpoint beside tiles that went on.
    let stale = old.fork(setting.keep.path().join("stale"));
    copy(&setting.log.path.join("tile"), &stale.path.join("tile"));
    setting.server.show(&stale.path);
    let said = round(&mut monitor);
    assert_eq!(said, [(false, What::WentBack { from: 300, to: 100 })]);
    setting.server.hide();
    let said = round(&mut monitor);
    assert!(matches!(&said[..], [(false, What::Down(_))]), "{said:?}");
    let stranger = Directory::new(setting.keep.path().join("stranger"));
    stranger.grow(5);
    setting.server.show(&stranger.path);
    let said = round(&mut monitor);
    assert!(
        matches!(&said[..], [(false, What::Unusable(_))]),
        "{said:?}"
    );
    fs::write(stranger.path.join("checkpoint"), b"<html>").unwrap();
    let said = round(&mut monitor);
    assert!(
        matches!(&said[..], [(false, What::Unusable(_))]),
        "{said:?}"
    );
    assert!(
        said.iter()
            .all(|(_, what)| what.gravity() == Gravity::Trouble)
    );
    setting.server.show(&setting.log.path);
    assert_eq!(round(&mut monitor), [(false, What::Same { size: 300 })]);
}

#[test]
fn tiles_that_are_truncated_wrong_or_gone_are_named() {
    let setting = Setting::new(1500);
    let tile = |path: &str| setting.log.path.join(path);
    let whole = fs::read(tile("tile/0/002")).unwrap();
    for (what, words) in [
        (Some(&whole[..whole.len() - 1]), "tile/0/002 has 8191 bytes"),
        (Some(&[0; 8192][..]), "tile/0/002 is not that of the tree"),
        (None, "tile/0/002 is missing"),
    ] {
        match what {
            Some(bytes) => fs::write(tile("tile/0/002"), bytes).unwrap(),
            None => fs::remove_file(tile("tile/0/002")).unwrap(),
        }
        let said = round(&mut setting.monitor());
        let bad = said.iter().find_map(|(_, what)| match what {
            What::BadTiles(reason) => Some(reason.clone()),
            _ => None,
        });
        assert!(
            bad.as_ref().is_some_and(|reason| reason.contains(words)),
            "{said:?}"
        );
    }
    fs::write(tile("tile/0/002"), &whole).unwrap();
    let said = round(&mut setting.monitor());
    let rebuilt = What::Rebuilt {
        entries: 1500,
        of: 1500,
    };
    assert!(said.contains(&(false, rebuilt)), "{said:?}");

    // The right edge, without which no root can be computed.
    setting.log.grow(1600);
    let edge = tlog::tile::TileId::in_tree(0, 6, 1600).unwrap();
    let edge = tile(&Resource::Tile(edge).to_string());
    let bytes = fs::read(&edge).unwrap();
    fs::write(&edge, &bytes[..64]).unwrap();
    let said = round(&mut setting.monitor());
    assert!(
        matches!(said[..], [(false, What::Unproven { size: 1600, .. })]),
        "{said:?}"
    );
}

#[test]
fn a_witness_that_is_stale_or_goes_back_or_knows_nothing_is_said_to() {
    let setting = Setting::new(100).with_witness();
    let mut monitor = setting.monitor();
    let said = round(&mut monitor);
    assert!(
        said.iter()
            .any(|(of_witness, what)| *of_witness && matches!(what, What::Unusable(_))),
        "{said:?}"
    );
    setting.cosign(&setting.log, 0);
    let backup = setting.keep.path().join("backup");
    copy(&setting.keep.path().join("witness"), &backup);
    setting.log.grow(200);
    let hour_later = |hours: u64| setting.clock.set(NOON_MS + hours * 3_600_000 + 60_000);
    hour_later(1);
    let said = round(&mut monitor);
    let stale = What::Stale {
        size: 100,
        latest: 200,
        age_s: 3660,
    };
    assert!(said.contains(&(true, stale)), "{said:?}");
    setting.cosign(&setting.log, 100);
    round(&mut monitor);
    drop(monitor);

    // An old copy of the witness comes up in its place.
    let (old, url) = served_witness(&backup, &setting.vkey, &setting.clock);
    let lines = format!(
        "log {} {}\nwitness w {} {url}\nquorum w\n",
        setting.vkey,
        setting.server.url(),
        old.vkey()
    );
    let mut monitor = setting.monitor_of(&lines).unwrap();
    let said = round(&mut monitor);
    let back = What::WentBack { from: 200, to: 100 };
    assert!(said.contains(&(true, back)), "{said:?}");
    let lacking = What::Unwitnessed { size: 200 };
    assert!(said.contains(&(false, lacking)), "{said:?}");
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_reason() {
    let setting = Setting::new(3);
    let refused = |lines: &str| setting.monitor_of(lines).err().unwrap().to_string();
    assert!(refused("quorum none\n").contains("no log to follow"));
    let without = format!("log {}\nquorum none\n", setting.vkey);
    assert!(refused(&without).contains("has no address"));
    round(&mut setting.monitor());
    let state = fs::read_dir(setting.keep.path().join("monitor/state")).unwrap();
    let state = state.map(|entry| entry.unwrap().path()).next().unwrap();
    fs::write(&state, b"{}").unwrap();
    let reason = refused(&setting.lines());
    assert!(
        reason.contains("damaged") && reason.contains("state/"),
        "{reason}"
    );
}
