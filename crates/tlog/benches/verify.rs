//! Verification and tree growth on one core. `cargo bench -p tlog --bench verify`.
//!
//! With `-- --beside DIR` only bundles are verified, and they are left in DIR with what others need
//! to verify them too: `bench/verify` compares.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints, and may panic"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use common::{Tiles, World};
use record::Digest;
use record::bundle::{TrustedLog, trusted_root_json};
use tlog::growth::Edge;
use tlog::merkle::leaf_hash;
use tlog::proof::{TreeView, verify_inclusion};
use tlog::verify::{Verdict, Verifier};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let beside = arguments.iter().position(|argument| argument == "--beside");
    bundles(beside.map(|at| Path::new(&arguments[at + 1])));
    if beside.is_none() {
        trees();
    }
}

/// Prints how often a second, by the clock and by the processor time of this thread: the second is
/// what one core does when nothing else runs on it.
fn rate(what: &str, count: u64, work: impl FnOnce()) {
    let (start, cpu) = (Instant::now(), cpu_s());
    work();
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_s() - cpu);
    let count = count as f64;
    println!(
        "{what:<44} {:>9.0} /s by the clock  {:>9.0} /s of one core  {:>8.2} µs each",
        count / wall,
        count / cpu,
        cpu / count * 1e6
    );
}

/// Processor time of this thread; the first field of `schedstat` is nanoseconds.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns: f64 = stat
        .split(' ')
        .next()
        .and_then(|ns| ns.parse().ok())
        .unwrap_or(f64::NAN);
    ns / 1e9
}

/// Records with proofs of a log of a few thousand entries, under a policy that trusts them.
fn bundles(beside: Option<&Path>) {
    const RECORDS: u64 = 4000;
    let mut world = World::new();
    let records: Vec<_> = (2..RECORDS + 2).map(|n| world.signer.say(n)).collect();
    let places: Vec<_> = records
        .iter()
        .map(|record| world.log.append(record))
        .collect();
    let bundle = |(record, place): (_, &u64)| world.log.bundle(record, *place).to_json();
    let files: Vec<_> = records.iter().zip(&places).map(bundle).collect();
    let policy = world.policy();
    if let Some(folder) = beside {
        leave(folder, &world, &files);
    }
    let check = |verifier: &mut Verifier<'_>, file: &[u8]| {
        assert_eq!(verifier.verify_bundle(file).verdict, Verdict::Valid);
    };
    rate("verify a bundle, checkpoint cached", RECORDS, || {
        let mut verifier = Verifier::new(Some(&policy));
        files.iter().for_each(|file| check(&mut verifier, file));
    });
    rate("its signature alone, by ring", RECORDS, || {
        for record in &records {
            record.envelope.verify(record.key()).unwrap();
        }
    });
    rate("verify a bundle, cold", RECORDS, || {
        files
            .iter()
            .for_each(|file| check(&mut Verifier::new(Some(&policy)), file));
    });
}

/// The same bundles, a Sigstore trusted root and the signer's key, for others to verify.
fn leave(folder: &Path, world: &World, files: &[Vec<u8>]) {
    let log = world.log.key.verifier();
    let root = trusted_root_json(&[TrustedLog {
        name: log.name(),
        ed25519: log.public(),
    }]);
    std::fs::write(folder.join("trusted_root.json"), root).unwrap();
    std::fs::write(folder.join("bundles.jsonl"), files.join(&b'\n')).unwrap();
    let key = world.signer.instance.public();
    std::fs::write(folder.join("key.spki"), key.spki()).unwrap();
}

fn trees() {
    const LEAVES: u64 = 1 << 20;
    let leaf = vec![7u8; 489];
    rate("hash a leaf of 489 bytes", LEAVES, || {
        for _ in 0..LEAVES {
            black_box(leaf_hash(black_box(&leaf)));
        }
    });
    let hashes: Vec<Digest> = (0..LEAVES).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let (mut edge, mut tiles) = (Edge::empty(), Tiles::default());
    rate("append a leaf, in rounds of 1000", LEAVES, || {
        for round in hashes.chunks(1000) {
            tiles.write(edge.append(round));
        }
    });
    let root = edge.root();
    let mut proofs = Vec::new();
    rate("prove inclusion, neighbouring leaves", 100_000, || {
        let view = TreeView::new(&tiles, LEAVES);
        proofs = (0..100_000)
            .map(|index| view.inclusion(index).expect("a proof"))
            .collect();
    });
    rate("prove inclusion, one leaf from its tiles", 2000, || {
        for index in 0..2000 {
            let view = TreeView::new(&tiles, LEAVES);
            drop(black_box(view.inclusion(index * 500).expect("a proof")));
        }
    });
    rate("verify inclusion in 2^20 leaves", 100_000, || {
        for (index, proof) in (0..).zip(&proofs) {
            let leaf = &hashes[usize::try_from(index).expect("small")];
            verify_inclusion(leaf, index, LEAVES, proof, &root).expect("it holds");
        }
    });
}
