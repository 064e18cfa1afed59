//! What a fold costs: `cargo bench -p reliability`.

// The bench makes keys of its own.
#![allow(missing_docs, clippy::disallowed_methods)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use record::Record;
use reliability::fold::{History, Policy};
use reliability::kt::{Alpha, interval, lower_bound};

#[allow(dead_code)]
#[path = "../src/fold/tests/party.rs"]
mod party;

use party::{Party, See, joined, origin, outside};

/// Records in one round.
const RECORDS: u64 = 10_000;

/// Observations of a node and of an outside API in turn, and the node's receipts.
fn records() -> Vec<Record> {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let (node, api) = (joined(&provider, "m"), outside("m"));
    let controls = [&caller, &provider]
        .into_iter()
        .flat_map(|party| party.controls.clone());
    let mut records: Vec<Record> = controls.collect();
    for seq in 1..=RECORDS / 4 {
        let receipt = provider.receipt(&node, seq);
        records.push(caller.observe(&node, seq, &See::with_receipt(&receipt)));
        records.push(receipt);
        records.push(caller.observe(&api, 2 * seq - 1, &See::ok()));
        records.push(caller.observe(&api, 2 * seq, &See::ok()));
    }
    records
}

fn fold(criterion: &mut Criterion) {
    let records = records();
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(RECORDS));
    let all = |history: &mut History| {
        for (index, record) in (0..).zip(&records) {
            black_box(history.apply(record, index));
        }
    };
    group.bench_function("apply", |bencher| {
        let fresh = || History::new(Policy::own_log(origin()));
        bencher.iter_batched_ref(fresh, all, BatchSize::LargeInput);
    });
    let mut history = History::new(Policy::own_log(origin()));
    all(&mut history);
    group.throughput(Throughput::Elements(1));
    group.bench_function("report of two endpoints", |bencher| {
        bencher.iter(|| black_box(history.report(Alpha::FIVE_PERCENT)));
    });
    group.bench_function("clone", |bencher| {
        bencher.iter(|| black_box(history.clone()));
    });
    group.finish();
}

fn kt(criterion: &mut Criterion) {
    let alpha = Alpha::FIVE_PERCENT;
    criterion.bench_function("kt/lower bound", |bencher| {
        bencher.iter(|| lower_bound(black_box(990), black_box(10), alpha));
    });
    criterion.bench_function("kt/interval", |bencher| {
        bencher.iter(|| interval(black_box(990), black_box(10), alpha));
    });
}

criterion_group!(benches, fold, kt);
criterion_main!(benches);
