//! A signer process is killed without warning, again and again. Afterwards every number of every
//! stream has exactly one record or is named by exactly one void, and what the process was told
//! is durable is there.
//!
//! `LONGRUN_KILLS` says how often (100); kills come at moments that `LONGRUN_SEED` (42) decides.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[allow(dead_code, reason = "no log is needed here")]
mod common;

use crate::common::*;
use record::{Endpoint, NumberedKind, Outcome, Predicate, RecordId};
use recorder::{Config, Context, Recorder};

const CHILD: &str = "LONGRUN_TEST_RECORDER_CHILD";
const MODELS: [&str; 3] = ["a", "b", "c d"];
/// What a child says before it asks for a new number of each model.
const ASKS: &str = "asks";
/// Of a busy stream's numbers the spool is told so many more than anybody has, at most.
const AHEAD_MAX: u64 = 7;

#[test]
fn killed_at_any_moment_every_number_is_accounted_for() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    if let Ok(directory) = std::env::var(CHILD) {
        return runtime.block_on(child(Path::new(&directory)));
    }
    let signer = Signer::new(None);
    let mut acknowledged: BTreeSet<RecordId> = BTreeSet::new();
    let mut asked: u64 = 0;
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>());
    let number = |name: &str, default| number(name).map_or(default, |n| n.expect("a number"));
    let mut seed = number("LONGRUN_SEED", 42);
    let kills = number("LONGRUN_KILLS", 100);
    for run in 0..kills {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // From the middle of a start, or of the work, which every second child gets to however busy
        // the machine is.
        let life = Duration::from_millis((seed >> 33) % 90);
        let said = run_child(&signer.config.directory, life, run % 2 == 0);
        asked += said.iter().filter(|line| *line == ASKS).count() as u64;
        // A line may be cut short by the kill; a whole one ends in a full stop.
        let whole = said.iter().filter_map(|line| line.strip_suffix('.'));
        acknowledged.extend(whole.filter_map(|id| id.parse::<RecordId>().ok()));
    }
    runtime.block_on(async {
        let recorder = signer.open();
        check(&recorder, &acknowledged, asked + AHEAD_MAX * kills).await;
    });
}

/// No stream may have used more numbers than `used_max`.
async fn check(recorder: &Recorder, acknowledged: &BTreeSet<RecordId>, used_max: u64) {
    let mut covered: BTreeMap<(Endpoint, NumberedKind), BTreeMap<u64, &str>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut cover = |endpoint: &Endpoint, kind, seq, by| {
        let stream = covered.entry((endpoint.clone(), kind)).or_default();
        let before = stream.insert(seq, by);
        assert_eq!(before, None, "{endpoint} {seq} has a {by} as well");
    };
    for entry in everything(recorder).await {
        ids.insert(entry.id());
        match &entry.record.statement.predicate {
            Predicate::Observation(seen) => {
                cover(
                    &seen.stream.endpoint,
                    NumberedKind::Observation,
                    seen.stream.seq.number(),
                    "record",
                );
            }
            Predicate::Void(void) => {
                for range in &void.ranges {
                    for seq in range.first.number()..=range.last.number() {
                        cover(&void.stream.endpoint, void.stream.kind, seq, "void");
                    }
                }
            }
            _ => {}
        }
    }
    let lost: Vec<_> = acknowledged.difference(&ids).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    let marks = recorder.high_marks().await.expect("read");
    assert_eq!(marks.len(), MODELS.len());
    for (endpoint, kind, high) in marks {
        let numbers = covered
            .remove(&(endpoint.clone(), kind))
            .unwrap_or_default();
        let last = numbers.len() as u64;
        assert!(
            numbers.keys().copied().eq(1..=last),
            "{endpoint}: a number is missing"
        );
        // Numbers in somebody's hands and on their way to the disk are voided; never whole blocks.
        assert!(
            last <= used_max,
            "{endpoint}: {last} numbers are used, of {used_max} at most"
        );
        // The rest was leased and never handed out: it goes on there.
        let next = recorder.lease(&endpoint, kind).await.expect("a number");
        assert!(next.seq().number() == last + 1 && last <= high);
        next.give_back();
    }
    assert!(
        covered.is_empty(),
        "records of streams that were never leased"
    );
}

/// The spool is told of a busy stream's numbers some at a time, so a crash may void as many that nobody
/// had; none that somebody had is handed out again.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_busy_stream_at_most_seven_numbers_too_many_are_voided() {
    const HANDED_OUT: usize = 4001;
    let (signer, after) = (Signer::new(None), Signer::new(None));
    let recorder = signer.open();
    let mut held = Vec::new();
    for _ in 0..HANDED_OUT {
        held.push(number(&recorder, "a").await);
    }
    recorder.flush().await.expect("durable");
    // What a process that is killed now leaves.
    copy(&signer.config.directory, &after.config.directory);
    let again = after.open();
    let mut voided = 0;
    for entry in everything(&again).await {
        if let Predicate::Void(void) = &entry.record.statement.predicate {
            let ranges = void.ranges.iter();
            let counts = ranges.map(|range| range.last.number() + 1 - range.first.number());
            voided += counts.sum::<u64>();
        }
    }
    let handed_out = HANDED_OUT as u64;
    assert!(
        (handed_out..=handed_out + AHEAD_MAX).contains(&voided),
        "{voided} voided"
    );
    let next = number(&again, "a").await;
    assert_eq!(next.seq().number(), voided + 1);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("read");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// What a child said until it was killed: `life` after it came up or, where it `works`, after the first
/// records of every model were durable.
fn run_child(directory: &Path, life: Duration, works: bool) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("known"))
        .args([
            "--exact",
            "killed_at_any_moment_every_number_is_accounted_for",
            "--nocapture",
        ])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("here")), "it started");
    let mut said = Vec::new();
    let mut durable = 0;
    while works && durable < MODELS.len() {
        let line = lines.next().expect("it works until it is killed");
        durable += usize::from(line.ends_with('.'));
        said.push(line);
    }
    std::thread::sleep(life);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    said.extend(lines);
    said
}

#[allow(clippy::print_stdout)] // how a child tells its parent
async fn child(directory: &Path) {
    println!("here");
    let config = Config::new(directory, "test gateway", "observer");
    let recorder = Recorder::open(&config, Context::system().expect("randomness")).expect("opens");
    let mut held = Vec::new();
    for i in 0u64.. {
        // The sixth of seven gets the number that the fifth gives back.
        if i % 7 != 5 {
            println!("{ASKS}");
        }
        for model in MODELS {
            let number = number(&recorder, model).await;
            match i % 7 {
                // Still under way when the kill comes.
                3 => held.push(number),
                4 => number.give_back(),
                _ => {
                    let draft = draft(&number, call(1), Outcome::Ok);
                    let recorded = recorder.record(number, draft).expect("signed");
                    tokio::spawn(async move {
                        if let Some((id, _)) = recorded.durable().await {
                            println!("{id}.");
                        }
                    });
                }
            }
        }
        if i % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
