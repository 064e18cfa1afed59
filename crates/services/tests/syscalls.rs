//! Every system call of a round fails in turn, or the process dies in it; then the files are
//! checked and the log goes on. After Tessera's fault injection with `strace`.
//!
//! `cargo test -p services --test syscalls -- --ignored` needs `strace` and leave to trace. It takes
//! every few calls; with `LONGRUN_EVERY_SYSCALL=1` every single one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{AT_ONCE, Author, append};
use record::leaf::Leaf;
use services::fsck::{self, FsckOptions};
use services::log::{Log, LogOptions};
use tempfile::TempDir;
use tlog::tile::Span;

const DIRECTORY: &str = "LONGRUN_TEST_SYSCALLS";
/// The calls that change files, or that a failing disk answers.
const CALLS: &[&str] = &[
    "openat",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "mkdir",
    "ftruncate",
    "close",
    "flock",
    "fcntl",
];
/// Runs for each kind of call and failure, unless all are asked for.
const SAMPLES: usize = 6;

fn options() -> LogOptions {
    LogOptions {
        origin: Some(common::ORIGIN.to_owned()),
        period: AT_ONCE,
        ..LogOptions::default()
    }
}

/// Not a test: what runs under `strace`. Appends a little and says what was answered.
#[test]
#[ignore = "run by every_system_call_may_fail"]
fn traced() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let Ok(log) = Log::open(Path::new(&directory), options()) else {
        return;
    };
    let author = Author::new();
    for (from, size) in [(1000, 3), (2000, 250), (3000, 300)] {
        let Ok(answer) = log
            .sequencer()
            .submit_and_wait(author.submissions(from..from + size))
        else {
            continue;
        };
        let placed = answer.placed.into_iter().flatten();
        let said: String = placed
            .map(|placed| format!("answered {} {}\n", placed.index, placed.id))
            .collect();
        // The pipe may be what fails.
        let _ = std::io::stdout().lock().write_all(said.as_bytes());
    }
}

/// Runs the child under `strace`; gives back what it said and the trace.
fn run(root: &Path, arguments: &[String]) -> (BTreeMap<u64, String>, String) {
    let trace = root.with_extension("trace");
    let child = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "traced",
            "--ignored",
            "--nocapture",
            "--quiet",
            "--test-threads",
            "1",
        ])
        .env(DIRECTORY, root)
        .stderr(Stdio::null())
        .output()
        .expect("strace is installed");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let answered = said
        .lines()
        .filter_map(|line| line.split_once("answered ")?.1.split_once(' '))
        .filter(|(_, id)| id.len() == 64)
        .map(|(index, id)| (index.parse().unwrap(), id.to_owned()))
        .collect();
    (answered, fs::read_to_string(trace).unwrap_or_default())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// How often the busiest thread makes each call: `when=` counts by thread.
fn counts(trace: &str) -> BTreeMap<&'static str, usize> {
    let mut by_thread: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((call, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        *by_thread.entry((call, thread)).or_default() += 1;
    }
    let most = |call: &&'static str| {
        let of_call = by_thread.iter().filter(|((found, _), _)| found == call);
        of_call
            .map(|(_, count)| *count)
            .max()
            .map(|count| (*call, count))
    };
    CALLS.iter().filter_map(most).collect()
}

#[test]
#[ignore = "needs strace; run by the full test command"]
fn every_system_call_may_fail() {
    let scratch = TempDir::new().unwrap();
    let start = scratch.path().join("start");
    let before = {
        let log = Log::open(&start, options()).unwrap();
        append(log.sequencer(), Author::new().submissions(0..200)).unwrap();
        log.stop();
        log.published().checkpoint.size
    };
    let trial = scratch.path().join("count");
    copy(&start, &trial);
    let trace_all = format!("trace={}", CALLS.join(","));
    let (answered, trace) = run(&trial, &["-e".to_owned(), trace_all.clone()]);
    assert_eq!(answered.len(), 553, "without faults everything is answered");
    let every = std::env::var_os("LONGRUN_EVERY_SYSCALL").is_some();
    let (mut runs, mut answers_lost) = (0, 0);
    for (call, count) in counts(&trace) {
        let step = if every { 1 } else { count.div_ceil(SAMPLES) };
        for number in (1..=count).step_by(step) {
            for failure in ["error=EIO", "error=ENOSPC", "signal=KILL"] {
                let root = scratch
                    .path()
                    .join(format!("{call}-{number}-{}", &failure[6..]));
                copy(&start, &root);
                let inject = format!("inject={call}:{failure}:when={number}");
                let (answered, _) = run(
                    &root,
                    &[
                        "-e".to_owned(),
                        trace_all.clone(),
                        "-e".to_owned(),
                        inject.clone(),
                    ],
                );
                check(&root, before, &answered, &inject);
                runs += 1;
                answers_lost += usize::from(answered.len() < 553);
                fs::remove_dir_all(&root).unwrap();
            }
        }
    }
    assert!(
        runs > 100 && answers_lost > 20,
        "{runs} runs, {answers_lost} with an effect"
    );
}

/// The next start: everything that was answered is there, the files hold, and the log goes on.
fn check(root: &Path, before: u64, answered: &BTreeMap<u64, String>, context: &str) {
    let log = Log::open(root, options()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let size = log.published().checkpoint.size;
    assert!(size >= before, "{context}: the log shrank");
    for (index, id) in answered {
        let span =
            Span::of_leaf(*index, size).unwrap_or_else(|| panic!("{context}: {index} is gone"));
        let entries = log.reader().entries(span).unwrap();
        let leaf = Leaf::parse(&entries[usize::try_from(index % 256).unwrap()]).unwrap();
        assert_eq!(&leaf.record_id.to_hex(), id, "{context}");
    }
    append(log.sequencer(), Author::new().submissions(9000..9003))
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    log.stop();
    drop(log);
    let report = fsck::run(root, &FsckOptions::default(), |_| {})
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(report.size, size + 3, "{context}");
}
