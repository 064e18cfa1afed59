use super::*;
use record::forecast::Dimension;
use record::manifest::{Artifact, Basis, Engine, Manifest, Stated};
use record::{Fault, Statement};
use ring::rand::SystemRandom;

#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the fold's own tests have it too"
)]
#[path = "../../fold/tests/party.rs"]
mod party;

use party::{Party, See, joined, outside};

const HOUR_MS: u64 = 3_600_000;
/// A full hour.
const FROM_MS: u64 = 500_000 * HOUR_MS;

struct World {
    caller: Party,
    provider: Party,
    seq: u64,
    forecasts: Forecasts,
}

impl World {
    fn new() -> Self {
        let (caller, provider) = (Party::new("caller"), Party::new("provider"));
        Self {
            forecasts: Forecasts::new(caller.id, vec![Rule::availability()]),
            caller,
            provider,
            seq: 0,
        }
    }

    fn endpoint(&self) -> Endpoint {
        joined(&self.provider, "m")
    }

    fn attempt(&mut self, at_ms: u64, outcome: Outcome) {
        self.seq += 1;
        let see = See {
            outcome,
            start_ms: at_ms,
            ..See::ok()
        };
        let record = self.caller.observe(&outside("m"), self.seq, &see);
        self.forecasts.apply(&record);
    }

    /// Attempts every five minutes, the last of them failing.
    fn hour(&mut self, hour: u64, failing: u64) {
        for step in 0..12 {
            let outcome = if step < 12 - failing {
                Outcome::Ok
            } else {
                Outcome::Timeout
            };
            self.attempt(FROM_MS + hour * HOUR_MS + step * 300_000, outcome);
        }
    }

    fn say(&mut self, due: &Due, now_ms: u64) {
        let record = said(&self.caller, due.statement(now_ms, basis()));
        self.forecasts.apply(&record);
    }

    fn hours(&self) -> ToldWindow {
        self.forecasts.told()[0].windows[0].clone()
    }
}

/// A signed statement that is about no exchange.
#[expect(
    clippy::disallowed_methods,
    reason = "tests sign with keys of their own"
)]
fn said(by: &Party, predicate: impl Into<Predicate>) -> Record {
    let statement = Statement::new(by.signer(), predicate).expect("a statement");
    let envelope = by.instance.sign_statement(&statement, &SystemRandom::new());
    envelope.expect("signs").open().expect("verifies")
}

/// What is served, made at some date.
fn manifest(model: &str, date: u64, precision: &str) -> Manifest {
    let stated = |value: &str| Stated {
        value: value.parse().expect("short"),
        basis: Basis::Declared,
    };
    Manifest {
        at_ms: bucket::start_ms(FROM_MS + date * 10_000),
        model: model.parse().expect("a name"),
        weights: Artifact::declared(None, None),
        tokenizer: Artifact::declared(None, None),
        chat_template: Artifact::declared(None, None),
        precision: stated(precision),
        kv_precision: stated("unknown"),
        engine: Engine {
            name: "unknown".parse().expect("short"),
            version: "unknown".parse().expect("short"),
            basis: Basis::Declared,
        },
        sampler: "unknown".parse().expect("short"),
        batch_size: None,
        context_tokens: None,
    }
}

fn basis() -> ForecastBasis {
    ForecastBasis {
        log: None,
        size: 0,
        root: None,
    }
}

#[test]
fn forecasts_are_due_before_their_window_once_and_scored_after_it() {
    let mut world = World::new();
    for hour in 0..30 {
        world.hour(hour, 0);
        let now_ms = FROM_MS + (hour + 1) * HOUR_MS - 60_000;
        let due = world.forecasts.due(now_ms);
        assert!(due.iter().any(|due| due.length == WindowLength::Hour));
        due.iter().for_each(|due| world.say(due, now_ms));
        assert_eq!(world.forecasts.due(now_ms), [], "each is made once");
    }
    let told = world.hours();
    // The last hour's forecast waits, that of the hour before is in its grace.
    assert_eq!((told.scores.windows, told.scores.late), (28, 0));
    assert_eq!(told.scores.breached, 0);
    assert!(told.scores.brier_millionths < 2_000, "{:?}", told.scores);
    assert!(told.current.iter().all(|it| it.breach_ppm < 50_000));
    let early = FROM_MS + 40 * HOUR_MS + 1;
    assert_eq!(world.forecasts.due(early), [], "an hour ahead is too early");
    let silent = FROM_MS + 30 * 24 * HOUR_MS - 1;
    assert_eq!(
        world.forecasts.due(silent),
        [],
        "nothing was heard for weeks"
    );
}

#[test]
fn a_forecast_that_comes_after_its_window_began_is_not_scored() {
    let mut world = World::new();
    (0..3).for_each(|hour| world.hour(hour, 0));
    let now_ms = FROM_MS + 3 * HOUR_MS - 60_000;
    let due = world.forecasts.due(now_ms);
    let hour = due.iter().find(|it| it.length == WindowLength::Hour);
    let hour = hour.expect("one for the next hour").clone();
    world.hour(3, 0);
    // It claims to be of the time before; the log says otherwise.
    world.say(&hour, now_ms);
    (4..6).for_each(|at| world.hour(at, 0));
    let scores = world.hours().scores;
    assert_eq!((scores.windows, scores.late), (0, 1));
    assert_eq!(
        scores.unforetold, 5,
        "hours that are over, past their grace"
    );
}

#[test]
fn only_ones_own_forecasts_of_known_objectives_are_scored() {
    let mut world = World::new();
    (0..3).for_each(|hour| world.hour(hour, 0));
    let now_ms = FROM_MS + 3 * HOUR_MS - 60_000;
    let due = world.forecasts.due(now_ms).remove(0);
    let foreign = said(&world.provider, due.statement(now_ms, basis()));
    world.forecasts.apply(&foreign);
    let mut other = due.statement(now_ms, basis());
    other.objective.target_ppm = Share::nearest(0.5);
    let other = said(&world.caller, other);
    world.forecasts.apply(&other);
    let mut later = due.statement(now_ms, basis());
    later.forecaster = "somebody.2".parse().expect("a word");
    let later = said(&world.caller, later);
    world.forecasts.apply(&later);
    assert!(world.hours().current.is_empty());
    world.say(&due, now_ms);
    assert_eq!(world.hours().current.len(), 1);
}

#[test]
fn trouble_raises_the_probability_and_a_new_regime_forgets_it() {
    let mut world = World::new();
    (0..100).for_each(|hour| world.hour(hour, 0));
    let expected = |world: &World, hour: u64| {
        let due = world.forecasts.due(FROM_MS + hour * HOUR_MS - 1);
        let hour = due.iter().find(|it| it.length == WindowLength::Hour);
        hour.expect("due").expected.issued.breach
    };
    let calm = expected(&world, 100);
    (100..130).for_each(|hour| world.hour(hour, 6));
    let struck = expected(&world, 130);
    assert!(calm < 0.05 && struck > 0.5, "{calm} {struck}");
    assert!(
        world.forecasts.objectives(FROM_MS + 130 * HOUR_MS)[0]
            .standing
            .alarms[0]
            .raised
    );
    world.forecasts.alarm(&outside("m"));
    assert!(expected(&world, 130) < struck);
}

#[test]
fn what_is_judged_depends_on_the_dimension() {
    let world = World::new();
    let seen = |outcome, fault| {
        let see = See {
            fault,
            outcome,
            ..See::ok()
        };
        let record = world.caller.observe(&outside("m"), 1, &see);
        match record.statement.predicate {
            Predicate::Observation(seen) => *seen,
            other => panic!("{other:?}"),
        }
    };
    let mut objective = Rule::availability().objective;
    assert_eq!(judge(&objective, &seen(Outcome::Ok, None)), Some(true));
    assert_eq!(
        judge(&objective, &seen(Outcome::Timeout, None)),
        Some(false)
    );
    assert_eq!(judge(&objective, &seen(Outcome::RateLimited, None)), None);
    let network = Some(Fault::Network);
    assert_eq!(judge(&objective, &seen(Outcome::Timeout, network)), None);
    // It took 20 ms, of which 10 to the first token.
    let took = |within, dimension, objective: &mut Objective| {
        objective.dimension = dimension;
        objective.within_us = Some(bucket::duration_us(within));
        judge(objective, &seen(Outcome::Ok, None))
    };
    let (first, total) = (Dimension::FirstToken, Dimension::Total);
    assert_eq!(took(12_000, first, &mut objective), Some(true));
    assert_eq!(took(8_000, first, &mut objective), Some(false));
    assert_eq!(took(12_000, total, &mut objective), Some(false));
    assert_eq!(took(40_000, total, &mut objective), Some(true));
    assert_eq!(judge(&objective, &seen(Outcome::Timeout, None)), None);
}

#[test]
fn another_manifest_is_another_regime_and_another_date_is_not() {
    let mut world = World::new();
    let endpoint = world.endpoint();
    for seq in 1..=200 {
        let see = See {
            start_ms: FROM_MS + seq * 60_000,
            ..See::ok()
        };
        let record = world.caller.observe(&endpoint, seq, &see);
        world.forecasts.apply(&record);
    }
    let attempts = |world: &World| {
        world.forecasts.kept[&(world.endpoint(), 0)]
            .track
            .attempts()
            .0
    };
    let before = attempts(&world);
    for (date, precision) in [(1, "f16"), (2, "f16"), (3, "q4_0")] {
        let record = said(&world.provider, manifest("m", date, precision));
        world.forecasts.apply(&record);
        let same = (attempts(&world) - before).abs() < 1e-9;
        assert_eq!(same, precision == "f16");
    }
    // So is another owner, of this provider's endpoints alone.
    let before = attempts(&world);
    let caller = Provider::Joined(world.caller.id);
    world.forecasts.owner_changed(&caller);
    assert!((attempts(&world) - before).abs() < 1e-9);
    world.forecasts.owner_changed(&endpoint.provider);
    assert!(attempts(&world) < before / 2.0);
}

#[test]
fn what_endpoints_have_in_common_is_fitted_for_each_objective_apart() {
    let mut world = World::new();
    let mut in_time = Rule::availability();
    in_time.objective = Objective {
        dimension: Dimension::Total,
        within_us: Some(bucket::duration_us(10_000)),
        ..in_time.objective
    };
    world.forecasts = Forecasts::new(world.caller.id, vec![Rule::availability(), in_time]);
    // Every attempt is served well, and none of them in time.
    for step in 0..200 {
        for model in ["a", "b", "c", "d"] {
            let see = See {
                start_ms: FROM_MS + step * HOUR_MS / 4,
                ..See::ok()
            };
            let record = world.caller.observe(&outside(model), step + 1, &see);
            world.forecasts.apply(&record);
        }
    }
    let [served, in_time] = &world.forecasts.pools[..] else {
        panic!("one for each rule");
    };
    assert!(served.attempts.mean < 0.05 && served.breaches[0].mean < 0.05);
    assert!(in_time.attempts.mean > 0.5 && in_time.breaches[0].mean > 0.5);
    assert_eq!(world.forecasts.standings.pool(), served.attempts);
}
