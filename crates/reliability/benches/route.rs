//! A decision among 1,000 endpoints, and what one outcome costs.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use reliability::forecast::pool::Pool;
use reliability::route::{Draw, Outcome, Standing, Wish, decide};
use std::hint::black_box;

const ENDPOINTS: u32 = 1_000;

fn standings() -> Vec<Standing> {
    let one = |at: u32| {
        let mut standing = Standing::new(Pool::UNKNOWN);
        for step in 0..200u32 {
            let good = !(step * 7 + at).is_multiple_of(50 + at % 13);
            standing.observe(u64::from(step) * 1_000, &Outcome::of(good));
        }
        standing
    };
    (0..ENDPOINTS).map(one).collect()
}

fn decisions(criterion: &mut Criterion) {
    let standings = standings();
    let figures = |now_ms| {
        let each = (0..).zip(&standings);
        each.map(|(place, standing)| standing.candidate(place, now_ms))
            .collect::<Vec<_>>()
    };
    let candidates = figures(300_000);
    let wish = Wish {
        exploration_ppm: 50_000,
        ..Wish::default()
    };
    let mut number = 0;
    criterion.bench_function("decide among 1,000 endpoints", |bencher| {
        bencher.iter(|| {
            number += 1;
            decide(black_box(&candidates), &wish, Draw::numbered(7, number))
        });
    });
    criterion.bench_function("figures of 1,000 endpoints", |bencher| {
        bencher.iter(|| figures(black_box(300_000)));
    });
    let mut standing = standings[0].clone();
    let mut now_ms = 300_000;
    criterion.bench_function("one outcome", |bencher| {
        bencher.iter(|| {
            now_ms += 1_000;
            standing.observe(now_ms, black_box(&Outcome::of(true)));
        });
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
