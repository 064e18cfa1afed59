//! Tokens per second of the embedded engine on the demonstration model, and what surrounds it.
//!
//! `cargo bench -p engine`. Without the model file only the parts that need none are measured.

#![allow(missing_docs)] // criterion's macros

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::embedded::gguf::Dtype;
use engine::embedded::{Model, Overwrite, quantize};
use engine::sampling::{Logits, Sampling, philox4x32_10};
use engine::sse::Splitter;

const ANSWER_TOKENS: usize = 64;

fn models(directory: &Path) -> Vec<(&'static str, Model)> {
    let demo =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/longrun-demo-f16.gguf");
    if !demo.exists() {
        return Vec::new();
    }
    let mut models = vec![("f16", Model::open(&demo, 4096).expect("the model opens"))];
    for to in [Dtype::Q8_0, Dtype::Q4_0] {
        let path = directory.join(to.name());
        quantize(&demo, &path, to, Overwrite::Refuse).expect("a twin");
        models.push((to.name(), Model::open(&path, 4096).expect("the twin opens")));
    }
    models
}

fn ids(count: usize, vocab: usize) -> Vec<u32> {
    (0..count)
        .map(|place| u32::try_from(place * 37 % vocab).expect("small"))
        .collect()
}

fn inference(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut group = c.benchmark_group("inference");
    group.sample_size(20);
    for (name, model) in models(directory.path()) {
        let answer = ids(ANSWER_TOKENS, model.facts().vocab);
        let complete = |prompt: &[u32], sampling: &Sampling| {
            model
                .complete(prompt, ANSWER_TOKENS, sampling)
                .expect("ids")
        };
        // The model may end its turn early: take the prompt it says most about.
        let prompt = (20..40)
            .map(|count| ids(count, model.facts().vocab))
            .max_by_key(|prompt| complete(prompt, &Sampling::GREEDY).len())
            .expect("some prompt");
        group.throughput(Throughput::Elements(ANSWER_TOKENS as u64));
        group.bench_function(BenchmarkId::new("score", name), |b| {
            b.iter(|| model.score(&prompt, &answer, None).expect("scores"));
        });
        let seeded = Sampling::new(1.0, 0.95, 7);
        for (what, sampling) in [("decode", Sampling::GREEDY), ("decode-seeded", seeded)] {
            let tokens = complete(&prompt, &sampling).len();
            group.throughput(Throughput::Elements(tokens as u64));
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter(|| complete(&prompt, &sampling));
            });
        }
    }
    group.finish();
}

fn sampler(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for vocab in [512u32, 32_000, 128_000] {
        let values: Vec<f32> = (0..vocab)
            .map(|id| {
                let [word, ..] = philox4x32_10([id, 0, 0, 0], [3, 0]);
                f32::from(u16::try_from(word >> 16).expect("16 bits")) / 6000.0
            })
            .collect();
        for (name, sampling) in [
            ("greedy", Sampling::GREEDY),
            ("seeded", Sampling::new(1.0, 1.0, 5)),
            ("top-p", Sampling::new(1.0, 0.9, 5)),
        ] {
            group.bench_function(BenchmarkId::new(name, vocab), |b| {
                b.iter(|| Logits::new(&values).expect("numbers").pick(&sampling, 1));
            });
        }
    }
    group.finish();
}

fn splitter(c: &mut Criterion) {
    let frame = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";
    let mut group = c.benchmark_group("sse");
    group.throughput(Throughput::Elements(22));
    group.bench_function("22 events", |b| {
        b.iter_batched(
            Splitter::default,
            |mut splitter| {
                for _ in 0..22 {
                    splitter.push(frame.as_bytes());
                    while let Some(event) = splitter.next_event() {
                        black_box(event.expect("an event"));
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, inference, sampler, splitter);
criterion_main!(benches);
