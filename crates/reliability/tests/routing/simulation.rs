//! A world of endpoints in which one degrades, one flaps and one is new and good, and the policies
//! that are compared in it. Everything follows from the seed.
#![allow(unreachable_pub, reason = "a module of a test and of an example")]

use std::collections::VecDeque;

use reliability::forecast::pool::Pool;
use reliability::route::{Draw, Outcome, Standing, Wish, decide};

const ENDPOINTS: usize = 5;
const SECOND_MS: u64 = 1_000;
const MINUTE_MS: f64 = 60_000.0;
const HOUR_MS: u64 = 3_600_000;
/// Time between two calls.
const STEP_MS: u64 = 10 * SECOND_MS;
/// What the product explores by default.
const EXPLORATION_PPM: u32 = 50_000;

/// Failed calls of each policy in one world; all of them face the same luck.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failures {
    /// Knows every failure rate of the moment.
    pub oracle: u32,
    /// `reliability::route`.
    pub ours: u32,
    /// One after the other.
    pub round_robin: u32,
    /// The smallest discounted mean latency.
    pub least_latency: u32,
    /// The largest share of good answers in the last hour; explores as much as ours.
    pub best_last_hour: u32,
}

/// Seeded random numbers.
struct Luck(Draw);

impl Luck {
    fn unit(&mut self) -> f64 {
        self.0.unit()
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Failure rates over time: from each moment on, the rate.
struct Rates(Vec<(f64, f64)>);

impl Rates {
    fn at(&self, ms: f64) -> f64 {
        let after = self.0.partition_point(|(from, _)| *from <= ms);
        self.0[after.saturating_sub(1)].1
    }

    fn alternating(
        end_ms: f64,
        rates: (f64, f64),
        mut up: impl FnMut() -> f64,
        mut down: impl FnMut() -> f64,
    ) -> Self {
        let mut spans = Vec::new();
        let mut at = 0.0;
        while at < end_ms {
            spans.push((at, rates.0));
            at += up();
            spans.push((at, rates.1));
            at += down();
        }
        Self(spans)
    }
}

/// Failure rates of the endpoints, and when the new one appears.
struct World {
    rates: [Rates; ENDPOINTS],
    latency_us: [f64; ENDPOINTS],
    new_from_ms: f64,
}

/// The endpoint that is new.
const NEW: usize = 3;

impl World {
    fn new(seed: u64, end_ms: f64) -> Self {
        let luck = |number| Luck(Draw::numbered(seed, u64::MAX - number));
        // Clustered outages (Weibull gaps of shape ½ with a mean of 40 hours) and log-normal repairs.
        let (mut gaps, mut repairs) = (luck(1), luck(2));
        let steady = Rates::alternating(
            end_ms,
            (0.006, 0.8),
            || 20.0 * 60.0 * MINUTE_MS * (1.0 - gaps.unit()).ln().powi(2),
            || 60.0 * MINUTE_MS * (1.3 * repairs.normal()).exp(),
        );
        let mut places = luck(3);
        let slide_ms = end_ms * (0.3 + 0.2 * places.unit());
        let new_from_ms = end_ms * (0.35 + 0.2 * places.unit());
        let slides = (0..=12).map(|step| {
            let share = f64::from(step) / 12.0;
            (slide_ms + share * 120.0 * MINUTE_MS, 0.003 + share * 0.347)
        });
        let degrades = Rates(std::iter::once((0.0, 0.003)).chain(slides).collect());
        let (mut ups, mut downs) = (luck(4), luck(5));
        let flaps = Rates::alternating(
            end_ms,
            (0.004, 0.85),
            || ups.exponential(25.0 * MINUTE_MS),
            || downs.exponential(12.0 * MINUTE_MS),
        );
        let constant = |rate| Rates(vec![(0.0, rate)]);
        Self {
            rates: [steady, degrades, flaps, constant(0.002), constant(0.02)],
            latency_us: [450e3, 300e3, 250e3, 400e3, 350e3],
            new_from_ms,
        }
    }

    fn offered(&self, ms: f64) -> impl Iterator<Item = usize> + '_ {
        (0..ENDPOINTS).filter(move |at| *at != NEW || ms >= self.new_from_ms)
    }
}

/// Runs every policy through `calls` calls of the world with this seed.
pub fn run(seed: u64, calls: u64) -> Failures {
    let world = World::new(seed, (calls * STEP_MS) as f64);
    let mut failures = Failures::default();
    let mut ours = Ours::default();
    let mut latency = [1.0f64; ENDPOINTS];
    let mut hours = BestLastHour::default();
    for call in 0..calls {
        let now_ms = call * STEP_MS;
        let ms = now_ms as f64;
        let offered: Vec<usize> = world.offered(ms).collect();
        let mut luck = Luck(Draw::numbered(seed, call));
        let lots: [f64; ENDPOINTS] = std::array::from_fn(|_| luck.unit());
        let delays: [f64; ENDPOINTS] =
            std::array::from_fn(|at| world.latency_us[at] * (0.3 * luck.normal()).exp());
        let fails = |at: usize| lots[at] < world.rates[at].at(ms);

        let by = |a: &&usize, b: &&usize| {
            let rate = |at: usize| world.rates[at].at(ms);
            rate(**a).total_cmp(&rate(**b))
        };
        let best = *offered.iter().min_by(by).expect("some are offered");
        failures.oracle += u32::from(fails(best));

        let turn = offered[usize::try_from(call).expect("small") % offered.len()];
        failures.round_robin += u32::from(fails(turn));

        let quickest = |a: &&usize, b: &&usize| latency[**a].total_cmp(&latency[**b]);
        let quick = *offered.iter().min_by(quickest).expect("some are offered");
        if fails(quick) {
            failures.least_latency += 1;
        } else {
            latency[quick] = if latency[quick] <= 1.0 {
                delays[quick]
            } else {
                0.9 * latency[quick] + 0.1 * delays[quick]
            };
        }

        let chosen = hours.choose(&offered, now_ms, &mut luck);
        failures.best_last_hour += u32::from(fails(chosen));
        hours.learn(chosen, now_ms, !fails(chosen));

        let chosen = ours.choose(&offered, now_ms, Draw::numbered(!seed, call));
        failures.ours += u32::from(fails(chosen));
        ours.learn(chosen, now_ms, !fails(chosen));
    }
    failures
}

struct Ours([Standing; ENDPOINTS]);

impl Default for Ours {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Standing::new(Pool::UNKNOWN)))
    }
}

impl Ours {
    fn choose(&self, offered: &[usize], now_ms: u64, draw: Draw) -> usize {
        let place = |at: &usize| u32::try_from(*at).expect("small");
        let candidates: Vec<_> = offered
            .iter()
            .map(|at| self.0[*at].candidate(place(at), now_ms))
            .collect();
        let wish = Wish {
            exploration_ppm: EXPLORATION_PPM,
            ..Wish::default()
        };
        decide(&candidates, &wish, draw).order[0] as usize
    }

    fn learn(&mut self, at: usize, now_ms: u64, good: bool) {
        self.0[at].observe(now_ms, &Outcome::of(good));
    }
}

#[derive(Default)]
struct BestLastHour([VecDeque<(u64, bool)>; ENDPOINTS]);

impl BestLastHour {
    fn choose(&mut self, offered: &[usize], now_ms: u64, luck: &mut Luck) -> usize {
        if luck.unit() < f64::from(EXPLORATION_PPM) / 1e6 {
            let pick = luck.0.below(offered.len() as u64);
            return offered[usize::try_from(pick).expect("small")];
        }
        for at in offered {
            let seen = &mut self.0[*at];
            while seen.front().is_some_and(|(ms, _)| ms + HOUR_MS < now_ms) {
                seen.pop_front();
            }
        }
        let share = |at: usize| {
            let seen = &self.0[at];
            let good = seen.iter().filter(|(_, good)| *good).count();
            // Nothing in the last hour: what endpoints usually do.
            if seen.is_empty() {
                0.98
            } else {
                good as f64 / seen.len() as f64
            }
        };
        let mut best = (f64::NEG_INFINITY, offered[0]);
        for at in offered {
            // Ties are broken at random.
            let score = share(*at) + 1e-9 * luck.unit();
            if score > best.0 {
                best = (score, *at);
            }
        }
        best.1
    }

    fn learn(&mut self, at: usize, now_ms: u64, good: bool) {
        self.0[at].push_back((now_ms, good));
    }
}

/// Mean of paired differences over seeds, and half the width of its 99 % interval.
pub fn paired(differences: &[f64]) -> (f64, f64) {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let square = |d: &f64| (d - mean) * (d - mean);
    let variance = differences.iter().map(square).sum::<f64>() / (n - 1.0);
    (mean, 2.7 * (variance / n).sqrt())
}
