//! A log of as many signed observations as one asks for, written as files without a sequencer: what
//! `bench/history` exports and verifies. `cargo run --release -p services --example synthetic_log
//! -- DIR RECORDS`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and may panic"
)]

use std::fs;
use std::path::Path;
use std::thread;

use record::bucket::{duration_us, start_ms, tokens};
use record::control::{Action, Control, Create, Delegate, LogOrigin};
use record::leaf::leaf_body;
use record::observation::{
    Commitments, Conditions, LoadClass, Observation, PromptClass, ReceiptCheck, Timing, Verdict,
    WeekTime,
};
use record::{
    CallId, Endpoint, Envelope, Exchange, HttpStatus, Nonce, Outcome, Place, Seq, Signer,
    SigningKey, Statement, Usage, Word, sha256,
};
use ring::rand::SystemRandom;
use services::layout;
use tlog::bundle::{encode_bodies, encode_entries};
use tlog::checkpoint::Checkpoint;
use tlog::growth::Edge;
use tlog::merkle::leaf_hash;
use tlog::note::NoteSigner;
use tlog::tile::{Resource, Span, WIDTH};

const ORIGIN: &str = "synthetic.longrun.example/log";
const START_MS: u64 = 1_700_000_000_000;
const ENDPOINTS: u64 = 4;
/// Bundles that are signed at once.
const BUNDLES: u64 = 64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a directory");
    let records: u64 = arguments.next().expect("how many").parse().unwrap();
    let dir = Path::new(&dir);
    fs::create_dir_all(dir).unwrap();
    let (root, instance) = (fresh(), fresh());
    let controls = controls(&root, &instance);
    let signer = Signer {
        id: Some(controls[0].clone().open().unwrap().signer_id()),
        key: *instance.public(),
    };
    let key = NoteSigner::from_seed(ORIGIN, &[7; 32]).unwrap();
    let mut edge = Edge::empty();
    let size = records + 2;
    let width = u64::from(WIDTH);
    let mut number = 0;
    while number * width < size {
        let until = (number + BUNDLES).min(size.div_ceil(width));
        let work = (number * width..(until * width).min(size)).collect::<Vec<_>>();
        let envelopes = signed(&work, &controls, &signer, &instance);
        for bundle in envelopes.chunks(usize::from(WIDTH)) {
            write_bundle(dir, number, bundle, &mut edge);
            number += 1;
        }
    }
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root: edge.root(),
    };
    fs::write(dir.join("VERSION"), layout::LOG_VERSION).unwrap();
    fs::write(dir.join(layout::LOG_KEY), key.to_skey().as_bytes()).unwrap();
    let signed = checkpoint.sign(&key).unwrap();
    fs::write(dir.join(layout::CHECKPOINT), signed.to_bytes()).unwrap();
    println!("{size} entries in {}", dir.display());
}

fn fresh() -> SigningKey {
    SigningKey::generate(&SystemRandom::new()).unwrap()
}

fn controls(root: &SigningKey, instance: &SigningKey) -> Vec<Envelope> {
    let sign = |id, control: Control| {
        let signer = Signer {
            id,
            key: *root.public(),
        };
        let statement = Statement::new(signer, control).unwrap();
        root.sign_statement(&statement, &SystemRandom::new())
            .unwrap()
    };
    let create = Create {
        name: "synthetic".parse().unwrap(),
        roles: vec![Word::new("observer").unwrap()],
        home_log: LogOrigin::new(ORIGIN).unwrap(),
        recovery: None,
    };
    let first = sign(None, Control::create(start_ms(START_MS), create));
    let record = first.clone().open().unwrap();
    let delegate = Control {
        seq: Seq::new(2).unwrap(),
        previous: Some(record.id),
        at_ms: start_ms(START_MS),
        action: Action::Delegate(Delegate {
            key: *instance.public(),
            name: None,
        }),
    };
    let second = sign(Some(record.signer_id()), delegate);
    vec![first, second]
}

/// The envelopes of these entries, signed on all cores.
fn signed(
    indices: &[u64],
    controls: &[Envelope],
    signer: &Signer,
    instance: &SigningKey,
) -> Vec<Envelope> {
    let cores = thread::available_parallelism().unwrap().get();
    thread::scope(|scope| {
        let threads: Vec<_> = indices
            .chunks(indices.len().div_ceil(cores))
            .map(|share| {
                scope.spawn(move || {
                    let random = SystemRandom::new();
                    let envelope = |index: &u64| match index.checked_sub(2) {
                        None => controls[usize::try_from(*index).unwrap()].clone(),
                        Some(number) => {
                            let statement = observation(number, signer);
                            instance.sign_statement(&statement, &random).unwrap()
                        }
                    };
                    share.iter().map(envelope).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    })
}

fn write_bundle(dir: &Path, number: u64, envelopes: &[Envelope], edge: &mut Edge) {
    let leaves: Vec<Vec<u8>> = envelopes
        .iter()
        .map(|envelope| {
            let record = envelope.clone().open_unverified().unwrap();
            leaf_body(envelope, record.key())
        })
        .collect();
    let bodies: Vec<Option<&[u8]>> = envelopes.iter().map(|e| Some(e.payload())).collect();
    let span = Span::new(number, u16::try_from(envelopes.len()).unwrap()).unwrap();
    let put = |resource: Resource, bytes: &[u8]| {
        let path = dir.join(resource.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(Resource::Entries(span), &encode_entries(&leaves).unwrap());
    put(Resource::Bodies(span), &encode_bodies(&bodies).unwrap());
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    for tile in edge.append(&hashes) {
        put(Resource::Tile(tile.id), &tile.to_bytes());
    }
}

fn observation(number: u64, signer: &Signer) -> Statement {
    let endpoint = Endpoint {
        provider: "https://api.example.com".parse().unwrap(),
        model: format!("model-{}", number % ENDPOINTS).parse().unwrap(),
    };
    let at_ms = START_MS + number * 500;
    let failed = number.is_multiple_of(97);
    let outcome = if failed {
        Outcome::ProviderError
    } else {
        Outcome::Ok
    };
    let seen = Observation {
        stream: Place {
            endpoint,
            seq: Seq::new(number / ENDPOINTS + 1).unwrap(),
        },
        call: CallId::from_bytes([1; 16]),
        attempt: 1,
        nonce: Nonce::from_bytes([2; 16]),
        receipt: None,
        receipt_check: ReceiptCheck::NotJoined,
        outcome,
        fault: outcome.usual_fault(),
        http_status: Some(HttpStatus::new(if failed { 500 } else { 200 }).unwrap()),
        streamed: false,
        timing: Timing {
            start_ms: start_ms(at_ms),
            ttft_us: Some(duration_us(120_000)),
            inter_token: None,
            total_us: duration_us(800_000 + number % 1000 * 100),
        },
        usage: Some(Usage {
            prompt_tokens: tokens(100),
            completion_tokens: tokens(200),
        }),
        schema: Verdict::NotChecked,
        tools: Verdict::NotChecked,
        conditions: Conditions {
            prompt: PromptClass::Short,
            load: LoadClass::Solo,
            region: Word::new("unknown").unwrap(),
            week: WeekTime::of(at_ms),
            purpose: None,
        },
        client: sha256(b"client"),
        tls_key: None,
        commitments: Commitments {
            exact: sha256(&number.to_be_bytes()),
        },
    };
    let exchange = Exchange {
        request: sha256(&number.to_be_bytes()),
        response: Some(sha256(b"response")),
    };
    Statement::about(signer.clone(), exchange, seen).unwrap()
}
