//! Witnesses of our own and how a log asks them: slow ones, absent ones, liars, and those that
//! know better.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use common::{AT_ONCE, Author, MemoryLog, NOON_MS, SetClock, append, key, verifier};
use services::cosigning::{ClientError, CosigningOptions, HttpWitness, WitnessClient};
use services::sequencer::{LogParts, OpenError, Sequencer};
use services::witness::{Witness, WitnessError, WitnessOptions, WitnessParts};
use store::memory::{Effect, Fault, Memory, Operation};
use store::{Blobs as _, Heads};
use tempfile::TempDir;
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::cosignature::{WitnessSigner, WitnessVerifier};
use tlog::log_policy::LogPolicy;
use tlog::merkle::leaf_hash;
use tlog::note::SignatureLine;
use tlog::proof::TreeView;
use tlog::witness::{AddCheckpoint, Refusal};

/// How long a round waits for a witness that it asked: longer than one that is well ever takes, also
/// on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);

fn witness_key(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.example/{number}"), &[100 + number; 32]).unwrap()
}

/// A witness of the test log whose state is in the given memory.
fn witness(number: u8, state: &Memory, clock: &SetClock) -> Witness {
    let state = state.clone();
    Witness::new(WitnessParts {
        key: witness_key(number),
        logs: vec![verifier()],
        heads: Arc::new(move |name| {
            let own = name == record::sha256(common::ORIGIN.as_bytes()).to_hex();
            Arc::new(if own { state.clone() } else { Memory::new() })
        }),
        clock: Arc::new(clock.clone()),
    })
}

/// A policy of these witnesses, `threshold` of which must sign.
fn policy(numbers: &[u8], threshold: usize) -> LogPolicy {
    let mut text = String::new();
    let mut names = String::new();
    for number in numbers {
        text += &format!(
            "witness w{number} {}\n",
            witness_key(*number).verifier().to_vkey()
        );
        names += &format!(" w{number}");
    }
    text += &format!("group all {threshold}{names}\nquorum all\n");
    LogPolicy::parse(text.as_bytes()).unwrap()
}

type Clients = Vec<(WitnessVerifier, Box<dyn WitnessClient>)>;

fn start(log: &MemoryLog, policy: LogPolicy, clients: Clients) -> Result<Sequencer, OpenError> {
    let cosigning = CosigningOptions {
        policy,
        clients,
        timeout: TIMEOUT,
    };
    Sequencer::start(
        LogParts {
            cosigning: Some(cosigning),
            ..log.parts()
        },
        AT_ONCE,
    )
}

fn client(
    number: u8,
    client: impl WitnessClient + 'static,
) -> (WitnessVerifier, Box<dyn WitnessClient>) {
    (witness_key(number).verifier(), Box::new(client))
}

fn cosigned_by(log: &MemoryLog, numbers: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    let note = log.store.read("checkpoint").unwrap().unwrap();
    let signed = SignedCheckpoint::parse(&note).unwrap();
    numbers
        .filter(|n| witness_key(*n).verifier().find(&signed).unwrap().is_some())
        .collect()
}

fn request(log: &MemoryLog, old: u64) -> AddCheckpoint {
    let note = log.store.read("checkpoint").unwrap().unwrap();
    let checkpoint = SignedCheckpoint::parse(&note).unwrap();
    let reader = services::reader::LogReader::new(Arc::new(log.store.clone()));
    let proof = TreeView::new(&reader, checkpoint.checkpoint().size)
        .consistency(old)
        .unwrap();
    AddCheckpoint {
        old_size: old,
        proof,
        checkpoint,
    }
}

#[test]
fn a_log_publishes_with_the_cosignatures_of_its_witnesses() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let states = [Memory::new(), Memory::new()];
    let clients = || {
        (1..=2u8)
            .map(|n| client(n, witness(n, &states[usize::from(n) - 1], &log.clock)))
            .collect()
    };
    let sequencer = start(&log, policy(&[1, 2], 2), clients()).unwrap();
    assert_eq!(cosigned_by(&log, 1..=2), [1, 2], "the empty tree, too");
    for (from, to) in [(0, 1), (1, 300), (300, 301), (301, 900)] {
        append(&sequencer, author.submissions(from..to)).unwrap();
        assert_eq!(sequencer.published().witnessed, Some(true));
        assert_eq!(cosigned_by(&log, 1..=2), [1, 2]);
    }
    log.fsck().unwrap();
    sequencer.stop();
    // Again from what is stored; the witnesses remember.
    let sequencer = start(&log, policy(&[1, 2], 2), clients()).unwrap();
    append(&sequencer, author.submissions(900..901)).unwrap();
    assert_eq!(cosigned_by(&log, 1..=2), [1, 2]);
}

/// Answers when told to, or not at all.
struct Scripted<F>(F);

impl<F> WitnessClient for Scripted<F>
where
    F: FnMut(&[u8], Duration) -> Result<Vec<SignatureLine>, ClientError> + Send,
{
    fn add_checkpoint(
        &mut self,
        request: &[u8],
        timeout: Duration,
    ) -> Result<Vec<SignatureLine>, ClientError> {
        (self.0)(request, timeout)
    }
}

#[test]
fn witnesses_that_are_down_slow_or_lie_hold_nothing_up() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let good = Memory::new();
    let (elsewhere, other_state) = (MemoryLog::new(), Memory::new());
    append(&elsewhere.start().unwrap(), author.submissions(5000..5007)).unwrap();
    let liar = witness(4, &other_state, &log.clock);
    let lie = Witness::add_checkpoint(&liar, &request(&elsewhere, 0).to_bytes()).unwrap();
    // Whoever waits for its first answer waits three times as long as a round may take.
    let (release, held) = mpsc::channel::<()>();
    let clients = vec![
        client(1, witness(1, &good, &log.clock)),
        client(
            2,
            Scripted(|_: &[u8], _| Err(ClientError::Unreachable("down".to_owned()))),
        ),
        client(
            3,
            Scripted(move |_: &[u8], _| {
                let _ = held.recv_timeout(3 * TIMEOUT);
                Err(ClientError::Unreachable("late".to_owned()))
            }),
        ),
        // Its own signature, but of something else.
        client(4, Scripted(move |_: &[u8], _| Ok(vec![lie.clone()]))),
        // Somebody else's signature in its name's place.
        client(
            5,
            Scripted({
                let six = witness_key(6);
                move |request: &[u8], _| {
                    let request = AddCheckpoint::parse(request).unwrap();
                    Ok(vec![six.cosign(&request.checkpoint, 1)])
                }
            }),
        ),
    ];
    let started = Instant::now();
    let sequencer = start(&log, policy(&[1, 2, 3, 4, 5], 2), clients).unwrap();
    assert!(
        started.elapsed() < TIMEOUT,
        "the start asks everybody, once, and waits for nobody longer than three seconds: {:?}",
        started.elapsed()
    );
    let started = Instant::now();
    append(&sequencer, author.submissions(0..10)).unwrap();
    assert!(
        started.elapsed() < TIMEOUT,
        "one that is still busy is not waited for: {:?}",
        started.elapsed()
    );
    let published = sequencer.published();
    assert_eq!(
        (published.checkpoint.size, published.witnessed),
        (10, Some(false))
    );
    assert_eq!(cosigned_by(&log, 1..=6), [1]);
    assert!(
        !published.note.contains("witness.example/4"),
        "a lie is not passed on"
    );
    drop(release);
    log.fsck().unwrap();
}

/// One that answers 409 whatever it is asked, with sizes that make no sense.
#[test]
fn a_witness_that_always_knows_better_holds_nothing_up() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let mut asked = 0u64;
    let stubborn = Scripted(move |_: &[u8], _| {
        asked += 1;
        Err(match asked {
            // A start that is told of something later does not go on.
            1 => ClientError::Unreachable("not yet".to_owned()),
            _ => ClientError::Conflict([0, 3, u64::MAX, 10][usize::try_from(asked % 4).unwrap()]),
        })
    });
    let sequencer = start(&log, policy(&[1], 1), vec![client(1, stubborn)]).unwrap();
    for from in (0..50).step_by(10) {
        append(&sequencer, author.submissions(from..from + 10)).unwrap();
    }
    let published = sequencer.published();
    assert_eq!(
        (published.checkpoint.size, published.witnessed),
        (50, Some(false))
    );
    assert_eq!(cosigned_by(&log, 1..=1), Vec::<u8>::new());
    assert_eq!(log.fsck().unwrap().size, 50);
}

#[test]
fn a_checkpoint_is_published_again_once_witnesses_are_back() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let down = Arc::new(Mutex::new(true));
    let (switch, inner) = (down.clone(), witness(1, &Memory::new(), &log.clock));
    let sometimes = Scripted(move |request: &[u8], timeout| {
        if *switch.lock().unwrap() {
            return Err(ClientError::Unreachable("down".to_owned()));
        }
        WitnessClient::add_checkpoint(&mut inner.clone(), request, timeout)
    });
    let sequencer = start(&log, policy(&[1], 1), vec![client(1, sometimes)]).unwrap();
    append(&sequencer, author.submissions(0..10)).unwrap();
    assert_eq!(sequencer.published().witnessed, Some(false));
    let mut watch = sequencer.watch();
    *down.lock().unwrap() = false;
    // Nothing new comes in, and still the checkpoint gets its cosignature.
    let upgraded = async {
        watch
            .wait_for(|published| published.witnessed == Some(true))
            .await
            .map(|_| ())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), upgraded).await })
        .unwrap()
        .unwrap();
    assert_eq!(cosigned_by(&log, 1..=1), [1]);
    assert_eq!(sequencer.totals().rounds, 1, "the tree did not grow for it");
    // A proof to the cosigned checkpoint is there for the asking.
    assert_eq!(append(&sequencer, author.submissions(3..4)).unwrap(), [3]);
}

#[test]
fn a_log_does_not_start_behind_or_beside_its_witnesses() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let state = Memory::new();
    let clients = || vec![client(1, witness(1, &state, &log.clock))];
    let sequencer = start(&log, policy(&[1], 1), clients()).unwrap();
    append(&sequencer, author.submissions(0..10)).unwrap();
    let snapshot = log.store.snapshot();
    append(&sequencer, author.submissions(10..20)).unwrap();
    sequencer.stop();

    // Everything restored from the same old copy: files and head agree, only the witness knows.
    let restored = MemoryLog {
        store: snapshot,
        clock: log.clock.clone(),
    };
    let before = restored.store.load().unwrap();
    let Err(OpenError::Inconsistent(reason)) = start(&restored, policy(&[1], 1), clients()) else {
        panic!("it opened");
    };
    assert!(
        reason.contains("cosigned this log at 20, ahead of the head at 10"),
        "{reason}"
    );
    assert_eq!(restored.store.load().unwrap(), before);

    // Another history of the same length, and of a greater one.
    for (count, words) in [(20, "another root at 20"), (25, "does not accept the head")] {
        let forked = MemoryLog::new();
        append(
            &forked.start().unwrap(),
            author.submissions(100..100 + count),
        )
        .unwrap();
        let Err(OpenError::Inconsistent(reason)) = start(&forked, policy(&[1], 1), clients())
        else {
            panic!("it opened");
        };
        assert!(reason.contains(words), "{reason}");
    }
    let sequencer = start(&log, policy(&[1], 1), clients()).unwrap();
    append(&sequencer, author.submissions(20..21)).unwrap();
}

#[test]
fn a_witness_says_what_the_protocol_says() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    append(&sequencer, author.submissions(0..10)).unwrap();
    let at_10 = request(&log, 0);
    append(&sequencer, author.submissions(10..300)).unwrap();
    let (state, clock) = (Memory::new(), SetClock::at(NOON_MS));
    let witness = witness(1, &state, &clock);
    let ask = |request: &AddCheckpoint| match witness.add_checkpoint(&request.to_bytes()) {
        Ok(line) => {
            let mut checkpoint = request.checkpoint.clone();
            checkpoint.note_mut().add(line);
            Ok(witness_key(1)
                .verifier()
                .find(&checkpoint)
                .unwrap()
                .unwrap()
                .time_s)
        }
        Err(WitnessError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(ask(&at_10), Ok(NOON_MS / 1000));
    assert_eq!(ask(&at_10), Err(Refusal::Conflict(10)));
    let again = AddCheckpoint {
        old_size: 10,
        proof: vec![],
        ..at_10.clone()
    };
    assert_eq!(
        ask(&again),
        Ok(NOON_MS / 1000),
        "the same checkpoint may be cosigned again"
    );
    let at_300 = request(&log, 10);
    assert_eq!(
        ask(&AddCheckpoint {
            old_size: 9,
            ..at_300.clone()
        }),
        Err(Refusal::Conflict(10))
    );
    assert_eq!(
        ask(&AddCheckpoint {
            old_size: 301,
            ..at_300.clone()
        })
        .unwrap_err()
        .status(),
        400
    );
    let mut wrong = at_300.clone();
    wrong.proof[0] = leaf_hash(b"x");
    assert_eq!(ask(&wrong).unwrap_err().status(), 422);
    assert_eq!(
        ask(&AddCheckpoint {
            proof: vec![],
            ..at_300.clone()
        })
        .unwrap_err()
        .status(),
        422
    );
    let fork = Checkpoint {
        root: leaf_hash(b"x"),
        ..at_10.checkpoint.checkpoint().clone()
    };
    let fork = AddCheckpoint {
        old_size: 10,
        proof: vec![],
        checkpoint: fork.sign(&key()).unwrap(),
    };
    assert_eq!(ask(&fork), Err(Refusal::Conflict(10)));
    let stranger = tlog::note::NoteSigner::from_seed("stranger.example", &[3; 32]).unwrap();
    let strange = Checkpoint {
        origin: "stranger.example".to_owned(),
        ..fork.checkpoint.checkpoint().clone()
    };
    let strange = AddCheckpoint {
        checkpoint: strange.sign(&stranger).unwrap(),
        ..at_300.clone()
    };
    assert_eq!(ask(&strange).unwrap_err().status(), 404);
    let impostor = tlog::note::NoteSigner::from_seed(common::ORIGIN, &[3; 32]).unwrap();
    let forged = at_300.checkpoint.checkpoint().sign(&impostor).unwrap();
    assert_eq!(
        ask(&AddCheckpoint {
            checkpoint: forged,
            ..at_300.clone()
        })
        .unwrap_err()
        .status(),
        403
    );
    for body in ["", "old 1", "old 01\n\n", "old x\n\nnote", "new 1\n\n"] {
        let error = witness.add_checkpoint(body.as_bytes()).unwrap_err();
        assert!(
            matches!(error, WitnessError::Refused(Refusal::Malformed(_))),
            "{body:?}: {error}"
        );
    }

    // The clock goes back; the time of cosignatures does not.
    clock.set(NOON_MS - 3_600_000);
    assert_eq!(ask(&at_300), Ok(NOON_MS / 1000));
    assert_eq!(
        ask(&at_300),
        Err(Refusal::Conflict(300)),
        "what was refused moved nothing, this did"
    );
}

#[test]
fn nothing_is_cosigned_that_is_not_durable_first() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    append(&sequencer, author.submissions(0..10)).unwrap();
    let first = request(&log, 0);
    for effect in [Effect::NotPersisted, Effect::PersistedAnyway] {
        let (state, clock) = (Memory::new(), SetClock::at(NOON_MS));
        let witness = witness(1, &state, &clock);
        state.fail(Fault {
            operation: Operation::Swap,
            path_prefix: String::new(),
            effect,
            after: 0,
        });
        assert!(matches!(
            witness.add_checkpoint(&first.to_bytes()),
            Err(WitnessError::Store(_))
        ));
        // Whatever was kept, the log gets its cosignature in the end.
        let at = if effect == Effect::PersistedAnyway {
            10
        } else {
            0
        };
        let again = AddCheckpoint {
            old_size: at,
            proof: vec![],
            ..first.clone()
        };
        witness.add_checkpoint(&again.to_bytes()).unwrap();
    }
    // Damaged state is said, not started over.
    let state = Memory::new();
    state.swap(None, b"rubbish").unwrap();
    let witness = witness(1, &state, &SetClock::at(NOON_MS));
    let error = witness.add_checkpoint(&first.to_bytes()).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn requests_at_once_never_roll_a_witness_back() {
    let (log, author) = (MemoryLog::new(), Author::new());
    let sequencer = log.start().unwrap();
    let requests: Vec<AddCheckpoint> = (0..30u64)
        .map(|round| {
            append(&sequencer, author.submissions(round * 10..round * 10 + 10)).unwrap();
            request(&log, 0)
        })
        .collect();
    let directory = TempDir::new().unwrap();
    let options = WitnessOptions {
        logs: vec![verifier()],
        ..WitnessOptions::default()
    };
    let witness = Witness::open(directory.path(), options).unwrap();
    let latest = Mutex::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (witness, requests, latest, log) = (&witness, &requests, &latest, &log);
            scope.spawn(move || {
                let reader = services::reader::LogReader::new(Arc::new(log.store.clone()));
                for step in 0..60usize {
                    let request = &requests[(step * 7 + thread * 11) % requests.len()];
                    let size = request.checkpoint.checkpoint().size;
                    let mut old = *latest.lock().unwrap();
                    // Follow the witness where it says it is, as a log would.
                    while old <= size {
                        let proof = TreeView::new(&reader, size).consistency(old).unwrap();
                        let body = AddCheckpoint {
                            old_size: old,
                            proof,
                            ..request.clone()
                        }
                        .to_bytes();
                        match witness.add_checkpoint(&body) {
                            Ok(_) => {
                                let mut latest = latest.lock().unwrap();
                                *latest = size.max(*latest);
                                break;
                            }
                            Err(WitnessError::Refused(Refusal::Conflict(at))) => {
                                assert!(at > old, "it went back from {old} to {at}");
                                old = at;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    let at = *latest.lock().unwrap();
    let stale = AddCheckpoint {
        old_size: 0,
        proof: vec![],
        ..requests[0].clone()
    };
    let refused = witness.add_checkpoint(&stale.to_bytes());
    assert!(matches!(refused, Err(WitnessError::Refused(Refusal::Conflict(size))) if size == at));
}

fn http(address: SocketAddr, head: &str, body: &[u8]) -> (u16, HashMap<String, String>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: w\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let headers = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    (head[9..12].parse().unwrap(), headers, body.to_owned())
}

#[test]
fn a_witness_over_http_and_a_log_that_asks_it() {
    let directory = TempDir::new().unwrap();
    let options = || WitnessOptions {
        name: Some("witness.example/http".to_owned()),
        logs: vec![verifier()],
        ..WitnessOptions::default()
    };
    let witness = Witness::open(directory.path(), options()).unwrap();
    assert!(matches!(
        Witness::open(directory.path(), options()),
        Err(OpenError::Store(_))
    ));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let router = witness.router();
    runtime.spawn(async move { axum::serve(listener, router).await });

    let (log, author) = (MemoryLog::new(), Author::new());
    let vkey = witness.vkey();
    let policy = LogPolicy::parse(format!("witness w {vkey}\nquorum w\n").as_bytes()).unwrap();
    let asked = || -> Clients {
        let verifier = WitnessVerifier::from_vkey(&vkey).unwrap();
        vec![(
            verifier,
            Box::new(HttpWitness::new(&format!("http://{address}/"))),
        )]
    };
    let sequencer = start(&log, policy.clone(), asked()).unwrap();
    append(&sequencer, author.submissions(0..10)).unwrap();
    assert_eq!(sequencer.published().witnessed, Some(true));

    let stale = request(&log, 0).to_bytes();
    let (status, headers, body) = http(address, "POST /add-checkpoint", &stale);
    assert_eq!(
        (status, &*headers["content-type"], &*body),
        (409, "text/x.tlog.size", "10\n")
    );
    assert_eq!(http(address, "POST /add-checkpoint", b"rubbish").0, 400);
    assert_eq!(http(address, "GET /add-checkpoint", b"").0, 405);
    let monitored = record::sha256(common::ORIGIN.as_bytes()).to_hex();
    let (status, _, body) = http(address, &format!("GET /{monitored}/checkpoint"), b"");
    let cosigned = SignedCheckpoint::open(body.as_bytes(), &verifier()).unwrap();
    assert_eq!((status, cosigned.checkpoint().size), (200, 10));
    assert!(
        WitnessVerifier::from_vkey(&vkey)
            .unwrap()
            .find(&cosigned)
            .unwrap()
            .is_some()
    );
    let unknown = record::sha256(b"log.example/unknown").to_hex();
    assert_eq!(
        http(address, &format!("GET /{unknown}/checkpoint"), b"").0,
        404
    );

    // The log starts again and the witness is found where it was.
    sequencer.stop();
    let sequencer = start(&log, policy, asked()).unwrap();
    append(&sequencer, author.submissions(10..300)).unwrap();
    assert_eq!(sequencer.published().witnessed, Some(true));
    drop(sequencer);
    // Waits until its tasks, which hold the witness, are gone.
    runtime.shutdown_timeout(Duration::from_secs(5));

    // The witness forgets nothing either.
    drop(witness);
    let mut options = options();
    options.name = None;
    let witness = Witness::open(directory.path(), options).unwrap();
    assert_eq!(witness.vkey(), vkey);
    let refused = witness.add_checkpoint(&stale);
    assert!(
        matches!(refused, Err(WitnessError::Refused(Refusal::Conflict(300)))),
        "{refused:?}"
    );
}
