//! What a record costs: to sign, to open, to check against its leaf.
//!
//! `cargo bench -p record`. Inputs are the golden vectors, so sizes are those of real records.
#![expect(
    clippy::disallowed_methods,
    reason = "the shell around the core: reads the vectors"
)]
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use record::content::{Part, Secret};
use record::{Bundle, Envelope, SigningKey, Statement, leaf};
use ring::rand::SystemRandom;

fn vector(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors/record")
        .join(name);
    std::fs::read(&path).expect("a vector")
}

fn records(bench: &mut Criterion) {
    let random = SystemRandom::new();
    let pem = String::from_utf8(vector("keys/observer-instance.pem")).expect("text");
    let key = SigningKey::from_pem(&pem, &random).expect("a key");
    let json = vector("golden/observation-ok.envelope.json");
    let payload = vector("golden/observation-ok.payload.json");
    let envelope = Envelope::from_json(&json).expect("an envelope");
    let statement = Statement::from_payload(&payload).expect("a statement");
    let bundle = vector("bundle/observation-ok.sigstore.json");

    let mut group = bench.benchmark_group("observation");
    group.bench_function("read statement", |b| {
        b.iter(|| Statement::from_payload(black_box(&payload)));
    });
    group.bench_function("write statement", |b| {
        b.iter(|| black_box(&statement).to_payload());
    });
    group.bench_function("sign statement", |b| {
        b.iter(|| key.sign_statement(black_box(&statement), &random));
    });
    group.bench_function("sign bytes", |b| {
        b.iter(|| key.sign(black_box(&payload), &random));
    });
    group.bench_function("verify signature", |b| {
        b.iter(|| envelope.verify(black_box(key.public())));
    });
    group.bench_function("open from JSON", |b| {
        b.iter(|| Envelope::from_json(black_box(&json)).and_then(Envelope::open));
    });
    group.bench_function("open from JSON, signature not verified", |b| {
        b.iter(|| Envelope::from_json(black_box(&json)).and_then(Envelope::open_unverified));
    });
    group.bench_function("leaf", |b| {
        b.iter(|| leaf::leaf_body(black_box(&envelope), key.public()));
    });
    group.bench_function("open bundle, proof not verified", |b| {
        b.iter(|| Bundle::from_json(black_box(&bundle)).and_then(|bundle| bundle.open()));
    });
    group.finish();
}

fn content(bench: &mut Criterion) {
    let secret = Secret::from_bytes([7; 32]);
    let body = vec![b'x'; 16 * 1024];
    let mut group = bench.benchmark_group("content");
    group.throughput(Throughput::Bytes(16 * 1024));
    group.bench_function("commit 16 KiB", |b| {
        b.iter(|| secret.commit(Part::Response, black_box(&body)));
    });
    group.finish();
}

criterion_group!(benches, records, content);
criterion_main!(benches);
