//! What a log on this machine's disk can do. Each number has one command, to be run on a quiet
//! machine; each takes less than a minute besides building:
//!
//! ```text
//! cargo bench -p services --bench log -- http         durable appends/s, signatures checked, 16 clients over HTTP
//! cargo bench -p services --bench log -- verified     the same, 8 callers in this process
//! cargo bench -p services --bench log -- unverified   durable appends/s in batches of 2,000, no signatures checked;
//!                                                     duplicates found, opening, fsck
//! cargo bench -p services --bench log -- latency      append to published proof over HTTP, p50 and p99
//! cargo bench -p services --bench log -- bytes        bytes written a record at 1, 10, 1,000 and 10,000 records/s
//! cargo bench -p services --bench log -- scale        grows a log to LONGRUN_SCALE entries (a million): memory,
//!                                                     opening, fsck; only when asked for, as ten million
//!                                                     take many minutes and some 15 GB below TMPDIR
//! ```
//!
//! A number includes everything from handing a record in to having its proof: parsing, signature
//! (where it says so), fsync of what the round adds, of every file and directory, of the head in
//! SQLite with `synchronous=FULL`, publishing, proof, and over HTTP the request and the answer.
//! Signing is done before the clock starts. Clients and log share the cores of the machine.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints, and may panic"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::Author;
use record::Envelope;
use services::admission::Submission;
use services::fsck::{self, FsckOptions};
use services::log::{Log, LogOptions};
use services::log_server::{LogServer, ServeOptions};
use services::quota::{Rules, Who};
use services::sequencer::PERIOD;
use tempfile::TempDir;

fn main() {
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    if wanted("http") {
        http();
    }
    if wanted("verified") {
        verified();
    }
    if wanted("unverified") {
        unverified();
    }
    if wanted("latency") {
        latency();
    }
    if wanted("bytes") {
        bytes();
    }
    // Takes minutes and gigabytes: only when asked for.
    if parts.iter().any(|part| part == "scale") {
        scale();
    }
}

fn open(directory: &Path, period: Duration) -> Log {
    Log::open(
        directory,
        LogOptions {
            period,
            ..LogOptions::default()
        },
    )
    .expect("a new log opens")
}

fn rate(what: &str, count: usize, elapsed: Duration) {
    let per_second = count as f64 / elapsed.as_secs_f64();
    println!(
        "{what:<58} {per_second:>10.0} /s   ({count} in {:.2} s)",
        elapsed.as_secs_f64()
    );
}

/// Envelopes in JSON, one a line, signed by one key.
fn signed_lines(count: u64) -> Vec<Vec<u8>> {
    let author = Author::new();
    (0..count)
        .map(|number| author.envelope(number).to_json())
        .collect()
}

/// Records whose signatures nobody checks, to measure everything else. Distinct, and of the size
/// of real ones.
fn unsigned(count: u64) -> Vec<Submission> {
    unsigned_from(&Author::new().envelope(0), 0..count)
}

fn unsigned_from(template: &Envelope, numbers: std::ops::Range<u64>) -> Vec<Submission> {
    let text = String::from_utf8(template.payload().to_vec()).expect("JSON");
    numbers
        .map(|number| {
            let payload = text
                .replace("record 0", &format!("record {number}"))
                .into_bytes();
            let envelope = Envelope::new(payload, template.signature().to_vec()).expect("small");
            Submission::of(&envelope.open_unverified().expect("a statement"))
        })
        .collect()
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the log listens");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Posts lines and reads the whole answer; returns its length.
    fn post(&mut self, lines: &[Vec<u8>]) -> usize {
        let body = lines.join(&b'\n');
        let head = format!(
            "POST /longrun/v1/records HTTP/1.1\r\nhost: log\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).expect("the log reads");
        stream.write_all(&body).expect("the log reads");
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("the log answers");
            assert!(
                !line.starts_with("HTTP/1.1") || line.contains("200"),
                "{line}"
            );
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the whole answer");
        length
    }
}

/// A log over HTTP on loopback, in this process.
fn served<T>(period: Duration, work: impl FnOnce(SocketAddr) -> T) -> T {
    let directory = TempDir::new().expect("a directory");
    let options = ServeOptions {
        directory: directory.path().to_owned(),
        log: LogOptions {
            period,
            admission: Rules::new(Who::Anyone),
            ..LogOptions::default()
        },
        listen: "127.0.0.1:0".parse().expect("an address"),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime
        .block_on(LogServer::bind(options))
        .expect("the log opens");
    let address = server.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(server.run(async { drop(stopped.await) }));
    let result = work(address);
    stop.send(()).expect("it runs");
    runtime
        .block_on(running)
        .expect("no panic")
        .expect("no failure");
    result
}

fn http() {
    let lines = signed_lines(60_000);
    served(PERIOD, |address| {
        let next = AtomicUsize::new(0);
        let batches: Vec<&[Vec<u8>]> = lines.chunks(100).collect();
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut client = Client::connect(address);
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        client.post(batch);
                    }
                });
            }
        });
        rate(
            "HTTP, 16 clients, batches of 100, signatures checked",
            lines.len(),
            start.elapsed(),
        );
    });
}

fn verified() {
    let (lines, directory) = (signed_lines(60_000), TempDir::new().expect("a directory"));
    let log = open(directory.path(), PERIOD);
    let next = AtomicUsize::new(0);
    let batches: Vec<&[Vec<u8>]> = lines.chunks(250).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let admitted = batch.iter().map(|line| Submission::admit(line));
                    let batch = admitted
                        .collect::<Result<Vec<_>, _>>()
                        .expect("good records");
                    log.sequencer().submit_and_wait(batch).expect("logged");
                }
            });
        }
    });
    rate(
        "in process, 8 callers, batches of 250, signatures checked",
        lines.len(),
        start.elapsed(),
    );
}

fn unverified() {
    let (records, directory) = (unsigned(300_000), TempDir::new().expect("a directory"));
    let log = open(directory.path(), PERIOD);
    let next = AtomicUsize::new(0);
    let batches: Vec<&[Submission]> = records.chunks(2000).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    log.sequencer()
                        .submit_and_wait(batch.to_vec())
                        .expect("logged");
                }
            });
        }
    });
    rate(
        "in process, 8 callers, batches of 2000, none checked",
        records.len(),
        start.elapsed(),
    );
    let start = Instant::now();
    log.sequencer()
        .submit_and_wait(records[..2000].to_vec())
        .expect("found");
    rate("duplicates found and proven", 2000, start.elapsed());
    drop(log);
    let start = Instant::now();
    let log = open(directory.path(), PERIOD);
    println!(
        "{:<58} {:>10.1} ms",
        "opening a log of 300,000 entries",
        start.elapsed().as_secs_f64() * 1e3
    );
    drop(log);
    let start = Instant::now();
    let report = fsck::run(directory.path(), &FsckOptions::default(), |_| {}).expect("it holds");
    rate(
        "fsck, leaves, tiles and bodies",
        usize::try_from(report.size).expect("small"),
        start.elapsed(),
    );
}

fn latency() {
    for (clients, pause_ms) in [(1, 300), (20, 20)] {
        let per_client: u64 = if clients == 1 { 20 } else { 200 };
        let lines = signed_lines(clients * per_client);
        let mut waits: Vec<Duration> = served(PERIOD, |address| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = lines
                    .chunks(usize::try_from(per_client).expect("small"))
                    .map(|mine| {
                        scope.spawn(move || {
                            let mut client = Client::connect(address);
                            let mut waits = Vec::new();
                            for line in mine {
                                let start = Instant::now();
                                client.post(std::slice::from_ref(line));
                                waits.push(start.elapsed());
                                std::thread::sleep(Duration::from_millis(pause_ms));
                            }
                            waits
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .flat_map(|thread| thread.join().expect("no panic"))
                    .collect()
            })
        });
        waits.sort_unstable();
        let at =
            |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{:<58} p50 {:>6.1} ms  p99 {:>6.1} ms",
            format!("append to published proof over HTTP, {clients} client(s)"),
            at(0.5),
            at(0.99)
        );
    }
}

/// Bytes written for a record at different rates: what a round costs, shared by its records.
fn bytes() {
    for (records_per_s, per_round, rounds) in [
        (1, 1, 600),
        (10, 1, 600),
        (1000, 100, 60),
        (10_000, 1000, 30),
    ] {
        let directory = TempDir::new().expect("a directory");
        let log = open(directory.path(), Duration::ZERO);
        let records = unsigned(per_round * rounds);
        let content: usize = records.iter().map(|r| r.weight_bytes()).sum();
        for batch in records.chunks(usize::try_from(per_round).expect("small")) {
            log.sequencer()
                .submit_and_wait(batch.to_vec())
                .expect("logged");
        }
        let count = records.len() as f64;
        println!(
            "{:<58} {:>10.0} bytes written a record, {:.0} of them leaf and body",
            format!("at {records_per_s} records/s ({per_round} in a round)"),
            log.totals().bytes_written as f64 / count,
            content as f64 / count
        );
    }
}

/// Memory of this process, MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| {
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<f64>()
            .ok()
    });
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// What grows with the log, and what does not.
fn scale() {
    let goal: u64 =
        std::env::var("LONGRUN_SCALE").map_or(1_000_000, |goal| goal.parse().expect("a number"));
    let (template, directory) = (
        Author::new().envelope(0),
        TempDir::new().expect("a directory"),
    );
    let (mut size, mut next) = (0u64, 100_000u64.min(goal));
    while size < goal {
        let opening = Instant::now();
        let log = open(directory.path(), Duration::ZERO);
        let opened = opening.elapsed();
        let (from, start) = (size, Instant::now());
        while size < next {
            let to = (size + 4000).min(next);
            let batch = unsigned_from(&template, size..to);
            log.sequencer().submit_and_wait(batch).expect("logged");
            size = to;
        }
        let per_second = (size - from) as f64 / start.elapsed().as_secs_f64();
        println!(
            "{size:>10} entries: {:>6.1} MiB resident, opened at {from} in {:.1} ms, {per_second:.0} /s since then",
            resident_mib(),
            opened.as_secs_f64() * 1e3
        );
        next = (next * 10 / 3).min(goal);
    }
    let opening = Instant::now();
    let log = open(directory.path(), Duration::ZERO);
    println!(
        "{goal:>10} entries: {:>6.1} MiB resident, opened in {:.1} ms",
        resident_mib(),
        opening.elapsed().as_secs_f64() * 1e3
    );
    drop(log);
    let start = Instant::now();
    let report = fsck::run(directory.path(), &FsckOptions::default(), |_| {}).expect("it holds");
    rate("fsck of all of it", report.size as usize, start.elapsed());
    println!("{:<58} {:>10.1} MiB", "resident after that", resident_mib());
}
