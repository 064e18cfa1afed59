//! `longrun log` as whoever runs a log, or watches one, uses it.

use std::path::{Path, PathBuf};

use crate::support::{Server, run, text, word_after};
use record::control::{Control, Create, LogOrigin, SignerName};
use record::{Signer, SigningKey, Statement, bucket};
use ring::rand::SystemRandom;
use services::admission::Submission;
use services::log::{Log, LogOptions};

fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// Makes a log and gives back its verifier key.
fn init(dir: &Path, origin: &str) -> String {
    let made = run(&["log", "init", arg(dir), "--origin", origin]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    word_after(&text(&made.stdout), "vkey")
}

fn serve(dir: &Path) -> Server {
    Server::start(&["log", "serve", "--dir", arg(dir), "--listen", "127.0.0.1:0"])
}

fn evidence(dir: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(dir.join("evidence")) {
        Ok(files) => files.map(|f| f.expect("readable").path()).collect(),
        Err(_) => Vec::new(),
    }
}

#[test]
fn a_monitor_says_by_its_exit_code_how_a_log_stands() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (log_dir, monitor_dir) = (dir.path().join("log"), dir.path().join("monitor"));
    let vkey = init(&log_dir, "log.example/watched");
    let mut log = serve(&log_dir);
    let url = log.url("log");
    let look = |url: &str| {
        run(&[
            "log",
            "monitor",
            "--once",
            "--dir",
            arg(&monitor_dir),
            "--log",
            &vkey,
            url,
        ])
    };
    let fine = look(&url);
    assert_eq!(fine.status.code(), Some(0), "{}", text(&fine.stderr));
    assert!(text(&fine.stdout).contains("first seen, 0 entries"));
    assert!(log.interrupt().success());
    let down = look(&url);
    assert_eq!(down.status.code(), Some(3), "{}", text(&down.stdout));
    assert!(text(&down.stdout).contains("DOWN"));
    let unusable = run(&["log", "monitor", "--once", "--dir", arg(&monitor_dir)]);
    assert_eq!(unusable.status.code(), Some(2));
    assert!(evidence(&monitor_dir).is_empty());
}

/// Appends a record of a new signer to the log in a directory.
fn append(dir: &Path, origin: &str) {
    let random = SystemRandom::new();
    let key = SigningKey::generate(&random).expect("randomness");
    let create = Create {
        name: SignerName::new("somebody").expect("a name"),
        roles: vec!["provider".parse().expect("a role")],
        home_log: LogOrigin::new(origin).expect("an origin"),
        recovery: None,
    };
    let signer = Signer {
        id: None,
        key: *key.public(),
    };
    let control = Control::create(bucket::start_ms(1_700_000_000_000), create);
    let statement = Statement::new(signer, control).expect("a statement");
    let envelope = key.sign_statement(&statement, &random).expect("signed");
    let record = envelope.open().expect("it verifies");
    let log = Log::open(dir, LogOptions::default()).expect("the log opens");
    let answer = log
        .sequencer()
        .submit_and_wait(vec![Submission::of(&record)]);
    assert!(answer.expect("logged").placed[0].is_ok());
    log.stop();
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .args(["-r", arg(from), arg(to)])
        .status();
    assert!(copied.expect("cp is there").success());
}

#[test]
fn a_log_that_signs_two_histories_is_proven_to_anybody() {
    let origin = "log.example/two-faces";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let monitor_dir = dir.path().join("monitor");
    let vkey = init(&one, origin);
    append(&one, origin);
    copy(&one, &two);
    append(&one, origin);
    append(&two, origin);
    append(&two, origin);
    let look = |dir: &Path| {
        let mut log = serve(dir);
        let url = log.url("log");
        let policy = monitor_dir.with_extension("policy");
        std::fs::write(&policy, format!("log {vkey} {url}\nquorum none\n")).expect("written");
        let look = ["log", "monitor", "--once", "--dir", arg(&monitor_dir)];
        let looked = run(&[&look[..], &["--policy", arg(&policy)]].concat());
        assert!(log.interrupt().success());
        looked
    };
    assert_eq!(look(&one).status.code(), Some(0));
    let split = look(&two);
    assert_eq!(split.status.code(), Some(1));
    assert!(text(&split.stdout).contains("SIGNED TWO HISTORIES"));
    assert_eq!(look(&one).status.code(), Some(1), "it is not forgotten");

    let files = evidence(&monitor_dir);
    let [file] = &files[..] else {
        panic!("{files:?}")
    };
    let file = arg(file);
    let proven = run(&["log", "evidence", file, "--vkey", &vkey]);
    assert_eq!(proven.status.code(), Some(0), "{}", text(&proven.stdout));
    assert!(text(&proven.stdout).contains("PROVEN: log.example/two-faces has SIGNED TWO"));
    let untrusting = run(&["log", "evidence", file]);
    assert_eq!(untrusting.status.code(), Some(3));
    let policy = dir.path().join("trust/policy.json");
    let out = dir.path().join("trust");
    let export = ["trust", "export", "--log", arg(&one), "--out", arg(&out)];
    assert!(run(&export).status.success());
    let verified = run(&["verify", file, "--policy", arg(&policy)]);
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        text(&verified.stdout)
    );
    assert!(text(&verified.stdout).contains("SIGNED BOTH"));

    let bent = std::fs::read_to_string(file)
        .expect("readable")
        .replacen("\\n2\\n", "\\n3\\n", 1);
    let bent_file = dir.path().join("bent.json");
    std::fs::write(&bent_file, bent).expect("written");
    let refused = run(&["log", "evidence", arg(&bent_file), "--vkey", &vkey]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let garbage = run(&["log", "evidence", arg(&one.join("checkpoint"))]);
    assert_eq!(garbage.status.code(), Some(2));
}

#[test]
fn a_log_is_ended_and_its_successor_found_from_files() {
    let origin = "log.example/2026";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let vkey = init(&old, origin);
    append(&old, origin);
    let stated = run(&[
        "log",
        "retention",
        "--dir",
        arg(&old),
        "--until",
        "2026-12-31",
        "--bodies-days",
        "365",
    ]);
    assert!(stated.status.success(), "{}", text(&stated.stderr));
    let no_day = [
        "log",
        "retention",
        "--dir",
        arg(&old),
        "--until",
        "2026-12-32",
    ];
    assert_eq!(run(&no_day).status.code(), Some(2));

    let shard = [
        "log",
        "shard",
        arg(&old),
        arg(&new),
        "--origin",
        "log.example/2027",
        "--url",
        "https://log.example/2027",
    ];
    assert!(run(&shard).status.success());
    assert!(!old.join("successor.json").exists(), "not without --yes");
    let ended = run(&[&shard[..], &["--yes"]].concat());
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let shown = text(&run(&["log", "show", arg(&old)]).stdout);
    let successor = word_after(&shown, "successor");
    assert!(successor.starts_with("log.example/2027+"), "{shown}");
    assert!(
        shown.contains("until 2026-12-31") && shown.contains("365 days after"),
        "{shown}"
    );
    append(&new, "log.example/2027");
    let shown = text(&run(&["log", "show", arg(&new)]).stdout);
    assert_eq!(word_after(&shown, "continues"), vkey);

    let mut log = serve(&old);
    let url = log.url("log");
    let over_http = text(&run(&["log", "show", &url]).stdout);
    assert_eq!(word_after(&over_http, "successor"), successor);
    // A signer that finds its home log ended is told where to go.
    let config = dir.path().join("longrun.toml");
    let outside = "[[endpoint]]\nurl = \"http://127.0.0.1:1/v1\"\nname = \"x\"\nmodels = [\"m\"]\n";
    std::fs::write(&config, format!("[log]\nurl = \"{url}\"\n\n{outside}")).expect("written");
    let signer = dir.path().join("gateway");
    let gateway = ["gateway", "--config", arg(&config), "--dir", arg(&signer)];
    let refused = run(&gateway);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(
        said.contains("was ended") && said.contains(&successor),
        "{said}"
    );
    assert!(log.interrupt().success());
    for directory in [&old, &new] {
        let checked = run(&["log", "fsck", arg(directory)]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    }
}

/// `python3 -m http.server` over links to the public files; killed when dropped.
struct StaticServer(std::process::Child);

impl StaticServer {
    fn start(log: &Path, public: &Path) -> (Self, String) {
        std::fs::create_dir(public).expect("a new directory");
        for name in ["checkpoint", "tile"] {
            std::os::unix::fs::symlink(log.join(name), public.join(name)).expect("linked");
        }
        let mut python = std::process::Command::new("python3")
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
            .args(["--directory", arg(public)])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("python3 is there");
        let mut line = String::new();
        let stdout = python.stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
            .expect("it says where it listens");
        let port = line.split_whitespace().skip_while(|w| *w != "port").nth(1);
        let url = format!("http://127.0.0.1:{}", port.expect("a port"));
        (Self(python), url)
    }
}

impl Drop for StaticServer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs python3; scripts/test runs it"]
fn any_static_server_is_enough_for_readers_and_monitors() {
    let origin = "log.example/static";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("log");
    let vkey = init(&log, origin);
    append(&log, origin);
    append(&log, origin);
    let (_python, url) = StaticServer::start(&log, &dir.path().join("public"));
    let shown = run(&["log", "show", &url, "--vkey", &vkey]);
    assert_eq!(word_after(&text(&shown.stdout), "size"), "2");
    let monitor_dir = dir.path().join("monitor");
    let look = [
        "log",
        "monitor",
        "--once",
        "--dir",
        arg(&monitor_dir),
        "--log",
        &vkey,
        &url,
    ];
    for words in ["first seen, 2 entries", "grew from 2 to 3 entries"] {
        let looked = run(&look);
        let said = text(&looked.stdout);
        assert!(looked.status.success() && said.contains(words), "{said}");
        append(&log, origin);
    }
}
