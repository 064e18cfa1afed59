//! A log over HTTP is killed without warning while clients append, again and again, also while it
//! starts. Whatever was answered is there afterwards, at its index, proven to what is published
//! then; nothing is logged twice, though callers send again what was not answered; and the files
//! hold as they were left.
//!
//! `LONGRUN_KILLS` says how often (200). A failure prints the seed of its directory, with which
//! `LONGRUN_SEED` runs that one alone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Author, append};
use record::leaf::Leaf;
use record::{Digest, RecordId};
use serde_json::Value;
use services::fsck::{self, FsckOptions};
use services::log::{Log, LogOptions};
use services::log_server::{LogServer, ServeOptions};
use services::quota::{Rules, Who};
use tempfile::TempDir;
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::proof::{TreeView, verify_consistency, verify_inclusion};
use tlog::tile::Span;

const CHILD: &str = "LONGRUN_TEST_LOG_KILLED";
/// Clients that append at the same time.
const CALLERS: u64 = 3;
/// Kills of one log. Every check reads all of it, so it must not grow without end.
const KILLS_PER_LOG: u64 = 20;

fn options() -> LogOptions {
    LogOptions {
        origin: Some(common::ORIGIN.to_owned()),
        // Rounds follow close on one another, so that most kills fall into one.
        period: Duration::from_millis(1),
        admission: Rules::new(Who::Anyone),
        ..LogOptions::default()
    }
}

/// Not a test: the process that is killed.
#[test]
#[ignore = "run by kill_9_under_load_loses_nothing"]
fn child() {
    let Some(directory) = std::env::var_os(CHILD) else {
        return;
    };
    let serve = ServeOptions {
        directory: PathBuf::from(directory),
        log: options(),
        listen: "127.0.0.1:0".parse().unwrap(),
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let server = LogServer::bind(serve).await.unwrap();
        let line = format!("listening {}\n", server.address());
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        server.run(std::future::pending()).await.unwrap();
    });
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What a caller was told about one record.
struct Told {
    index: u64,
    id: RecordId,
}

/// Sends batches, each until it is answered, over one life of the log after another.
struct Caller {
    author: Author,
    random: Random,
    next: u64,
    /// Sent or about to be, and not answered: ids and lines.
    waiting: Vec<(RecordId, Vec<u8>)>,
}

impl Caller {
    fn new(seed: u64) -> Self {
        Self {
            author: Author::new(),
            random: Random(seed),
            next: 0,
            waiting: Vec::new(),
        }
    }

    /// Appends until the log is gone. Gives back what was answered, and the last checkpoint.
    fn append(&mut self, address: SocketAddr) -> (Vec<Told>, Option<Checkpoint>) {
        let (mut told, mut last) = (Vec::new(), None);
        let Ok(stream) = TcpStream::connect(address) else {
            return (told, last);
        };
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        loop {
            if self.waiting.is_empty() {
                let count = 1 + self.random.below(40);
                self.waiting = (self.next..self.next + count)
                    .map(|number| self.author.envelope(number))
                    .map(|envelope| (envelope.record_id(), envelope.to_json()))
                    .collect();
                self.next += count;
            }
            let lines: Vec<&[u8]> = self.waiting.iter().map(|(_, line)| &line[..]).collect();
            let Ok(reply) = post(&mut stream, &lines.join(&b'\n')) else {
                return (told, last);
            };
            let ids = self.waiting.drain(..).map(|(id, _)| id);
            last = Some(believe(&reply, ids, &mut told));
        }
    }
}

/// Posts a body and reads the whole answer; an error if the log is gone before.
fn post(stream: &mut BufReader<TcpStream>, body: &[u8]) -> std::io::Result<Value> {
    let gone = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let head = format!(
        "POST /longrun/v1/records HTTP/1.1\r\nhost: log\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .get_mut()
        .write_all(&[head.as_bytes(), body].concat())?;
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(gone());
        }
        let refused = line.starts_with("HTTP/1.1") && !line.contains(" 200 ");
        assert!(!refused, "{line}");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body).unwrap())
}

/// Checks an answer as a caller does, and notes it.
fn believe(
    reply: &Value,
    ids: impl ExactSizeIterator<Item = RecordId>,
    told: &mut Vec<Told>,
) -> Checkpoint {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let note = reply["checkpoint"].as_str().unwrap();
    let signed = SignedCheckpoint::parse(note.as_bytes()).unwrap();
    let checkpoint = signed.checkpoint().clone();
    let entries = reply["entries"].as_array().unwrap();
    assert_eq!(entries.len(), ids.len());
    for (id, entry) in ids.zip(entries) {
        let decode = |text: &Value| STANDARD.decode(text.as_str().unwrap()).unwrap();
        let index = entry["index"].as_u64().unwrap_or_else(|| panic!("{entry}"));
        let leaf = Leaf::parse(&decode(&entry["leaf"])).unwrap();
        assert_eq!(leaf.record_id, id);
        let proof = entry["proof"].as_array().unwrap().iter();
        let proof: Vec<_> = proof
            .map(|hash| Digest::from_slice(&decode(hash)).unwrap())
            .collect();
        verify_inclusion(
            &leaf.hash(),
            index,
            checkpoint.size,
            &proof,
            &checkpoint.root,
        )
        .unwrap();
        told.push(Told { index, id });
    }
    checkpoint
}

/// A log that is killed many times, and all that its callers know.
struct Trial {
    directory: TempDir,
    random: Random,
    callers: Vec<Caller>,
    answered: BTreeMap<u64, RecordId>,
    latest: Option<Checkpoint>,
    /// Kills that left a round half done.
    torn: u64,
}

impl Trial {
    fn new(seed: u64) -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            random: Random(seed),
            callers: (0..CALLERS).map(|n| Caller::new(seed ^ (n + 1))).collect(),
            answered: BTreeMap::new(),
            latest: None,
            torn: 0,
        }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    /// One life: starts the log, appends, and kills it.
    fn live(&mut self) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture", "--quiet"])
            .env(CHILD, self.root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Every fourth dies while it starts, or soon after.
        if self.random.below(4) == 0 {
            std::thread::sleep(Duration::from_micros(self.random.below(40_000)));
            return kill(child);
        }
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address: SocketAddr = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening ")?.1.parse().ok())
            .expect("a log that was killed starts again");
        let life = Duration::from_micros(10_000 + self.random.below(140_000));
        let answers: Vec<_> = std::thread::scope(|scope| {
            let calling = |caller: &'_ mut Caller| caller.append(address);
            let callers = self.callers.iter_mut();
            let threads: Vec<_> = callers.map(|c| scope.spawn(move || calling(c))).collect();
            std::thread::sleep(life);
            kill(child);
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for (told, checkpoint) in answers {
            for Told { index, id } in told {
                let before = self.answered.insert(index, id);
                assert!(before.is_none_or(|before| before == id), "{index} twice");
            }
            let newer = |new: &Checkpoint| self.latest.as_ref().is_none_or(|l| l.size < new.size);
            if let Some(checkpoint) = checkpoint.filter(newer) {
                self.latest = Some(checkpoint);
            }
        }
    }

    /// The files as they were left. They hold once there is a log at all.
    fn check_files(&mut self) {
        let staged = self.root().join("staging");
        let staged = std::fs::read_dir(staged).is_ok_and(|mut files| files.next().is_some());
        self.torn += u64::from(staged);
        if self.latest.is_some() {
            let report = fsck::run(self.root(), &FsckOptions::default(), |_| {}).unwrap();
            let answered = self.answered.last_key_value();
            assert!(answered.is_none_or(|(index, _)| *index < report.size));
        }
    }

    /// The next start: what was answered is there and proven, and nothing was rewritten.
    fn check_answers(&self, new_from: usize) -> u64 {
        let log = Log::open(self.root(), options()).unwrap();
        let published = log.published();
        let Checkpoint { size, root, .. } = &published.checkpoint;
        let view = TreeView::new(log.reader(), *size);
        for (index, id) in self.answered.iter().skip(new_from) {
            let span = Span::of_leaf(*index, *size)
                .unwrap_or_else(|| panic!("entry {index} was answered, the log has {size}"));
            let entries = log.reader().entries(span).unwrap();
            let entry = &entries[usize::try_from(index % 256).unwrap()];
            let leaf = Leaf::parse(entry).unwrap();
            assert_eq!(&leaf.record_id, id, "entry {index} is another");
            let proof = view.inclusion(*index).unwrap();
            verify_inclusion(&leaf.hash(), *index, *size, &proof, root).unwrap();
        }
        if let Some(old) = &self.latest {
            let proof = view.consistency(old.size).unwrap();
            verify_consistency((old.size, &old.root), (*size, root), &proof).unwrap();
        }
        *size
    }

    /// At the end: no record has two entries, and the log goes on.
    fn check_whole(&self) {
        let size = self.check_answers(0);
        let log = Log::open(self.root(), options()).unwrap();
        let mut places: HashMap<RecordId, u64> = HashMap::new();
        let mut index = 0;
        while let Some(span) = Span::of_leaf(index, size) {
            for entry in log.reader().entries(span).unwrap() {
                let id = Leaf::parse(&entry).unwrap().record_id;
                let before = places.insert(id, index);
                assert_eq!(before, None, "a record is logged twice, again at {index}");
                index += 1;
            }
        }
        assert_eq!(index, size);
        let batch = Author::new().submissions(0..3);
        assert_eq!(append(log.sequencer(), batch).unwrap()[0], size);
        log.stop();
        drop(log);
        let report = fsck::run(self.root(), &FsckOptions::default(), |_| {}).unwrap();
        assert_eq!((report.size, report.unpublished), (size + 3, 0));
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Kills one log some times. Gives back how many records were answered and rounds torn.
fn trial(seed: u64, kills: u64) -> (u64, u64) {
    let mut trial = Trial::new(seed);
    for _ in 0..kills {
        let before = trial.answered.len();
        trial.live();
        // Else the next start finds the files as they are, and may die over them as well.
        if trial.random.below(4) > 0 {
            trial.check_files();
            trial.check_answers(before);
        }
    }
    trial.check_whole();
    (trial.answered.len() as u64, trial.torn)
}

/// One log after another: a process that is being spawned holds, for a moment, the locks of all
/// logs that are open here.
#[test]
fn kill_9_under_load_loses_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let kills: u64 = number("LONGRUN_KILLS").unwrap_or(200);
    let seeds = match number("LONGRUN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + kills.div_ceil(KILLS_PER_LOG),
    };
    let (logs, mut answered, mut torn) = (seeds.end - seeds.start, 0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| trial(seed, KILLS_PER_LOG));
        let found = outcome.unwrap_or_else(|_| panic!("again with LONGRUN_SEED={seed}"));
        answered += found.0;
        torn += found.1;
    }
    let shown = format!("{answered} answers and {torn} torn rounds in {logs} logs\n");
    std::io::stdout()
        .lock()
        .write_all(shown.as_bytes())
        .unwrap();
    assert!(
        answered > 100 * logs && torn > 0,
        "{shown}: the test shows little"
    );
}
