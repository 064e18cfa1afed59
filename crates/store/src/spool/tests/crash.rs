//! A child process appends as fast as it can and is killed without warning. Whatever moment it
//! was, what it was told is durable is there, and every number has one row or is reported lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

const CHILD: &str = "LONGRUN_TEST_SPOOL_CHILD";
const RUNS: u64 = 20;
const STREAMS: [&str; 3] = ["receipt", "observation x", "observation y"];

#[test]
fn killed_at_any_moment_every_number_is_accounted_for() {
    if let Ok(file) = std::env::var(CHILD) {
        return child(Path::new(&file));
    }
    let fixture = Fixture::new();
    let mut seed = 0x5eed_u64;
    let mut voided: BTreeSet<(StreamId, u64)> = BTreeSet::new();
    for run in 0..RUNS {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(20 + (seed >> 33) % 60);
        // Every second child gets to its work, however busy the machine is.
        let acknowledged = run_child(&fixture.file(), life, run % 2 == 0);
        let Opened {
            spool,
            lost,
            resumed,
        } = fixture.open();
        for range in lost.iter().map(|block| block.range) {
            for seq in range.first..range.first + u64::from(range.count) {
                assert!(voided.insert((range.stream, seq)), "{seq} lost twice");
            }
        }
        let settles = lost.iter().map(|block| block.range).collect();
        let void = NewRow {
            settles,
            urgent: true,
            ..row(1_000_000 + run, None)
        };
        append(&spool, void).expect("voided");

        let rows = spool.rows(0, usize::MAX).expect("read");
        let ids: BTreeSet<u64> = rows.iter().map(|row| tag(&row.id)).collect();
        for tag in acknowledged {
            assert!(
                ids.contains(&tag),
                "run {run}: {tag} was acknowledged and is gone"
            );
        }
        let recorded: BTreeSet<_> = rows.iter().filter_map(|row| row.number).collect();
        assert_eq!(
            recorded.len(),
            rows.iter().filter(|row| row.number.is_some()).count()
        );
        assert!(
            recorded.is_disjoint(&voided),
            "a number has a record and a void"
        );
        let mut by_stream: BTreeMap<StreamId, u64> = BTreeMap::new();
        let unused: BTreeSet<_> = resumed
            .iter()
            .map(|block| block.range)
            .flat_map(|it| (it.first..it.first + u64::from(it.count)).map(move |n| (it.stream, n)))
            .collect();
        assert!(unused.is_disjoint(&recorded) && unused.is_disjoint(&voided));
        for (stream, _) in recorded.iter().chain(&voided).chain(&unused) {
            *by_stream.entry(*stream).or_default() += 1;
        }
        let leased: u64 = spool
            .high_marks()
            .expect("read")
            .iter()
            .map(|(_, high)| high)
            .sum();
        assert_eq!(
            by_stream.values().sum::<u64>(),
            leased,
            "run {run}: a number is missing"
        );
    }
}

fn tag(id: &[u8; 32]) -> u64 {
    u64::from_be_bytes(id[..8].try_into().expect("eight bytes"))
}

/// The tags that a child said were durable until it was killed: `life` after it came up or, where it
/// `works`, after the first was.
fn run_child(file: &Path, life: Duration, works: bool) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().expect("known"))
        .args([
            "--exact",
            "spool::tests::crash::killed_at_any_moment_every_number_is_accounted_for",
        ])
        .arg("--nocapture")
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    // The last line may be cut short; a complete one ends in a full stop.
    let durable = |line: String| -> Option<u64> { line.strip_suffix('.')?.parse().ok() };
    let mut lines = lines.map_while(Result::ok);
    let ready = lines.any(|line| line.ends_with("ready"));
    assert!(ready, "the child came up");
    let mut tags: Vec<u64> = Vec::new();
    if works {
        let first = lines.find_map(durable);
        tags.push(first.expect("it works until it is killed"));
    }
    std::thread::sleep(life);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    tags.extend(lines.filter_map(durable));
    tags
}

fn child(file: &Path) {
    let Opened { spool, .. } = Spool::open(file, Limits::default()).expect("opens");
    let base = spool
        .high_marks()
        .expect("read")
        .iter()
        .map(|(_, high)| high)
        .sum::<u64>();
    println!("ready");
    let mut tag = base * 10;
    loop {
        for stream in STREAMS {
            let block = lease(&spool, stream, 16);
            // Every fifth number is never recorded: handed out, and then the kill came.
            for seq in (0..16)
                .filter(|i| i % 5 != 4)
                .map(|i| block.range.first + i)
            {
                tag += 1;
                spool.issue(block.range.stream, seq).expect("marked");
                let done = move |outcome: Result<i64, SpoolError>| {
                    outcome.expect("durable");
                    println!("{tag}.");
                };
                spool
                    .append(row(tag, Some((block.range.stream, seq))), Box::new(done))
                    .expect("room");
            }
        }
    }
}
