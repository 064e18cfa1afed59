//! Forecasts: made before their window, scored after it, from the records alone; and objectives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, config, endpoint};
use recorder::{Clock, Context};
use serde_json::Value;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// A full hour.
const FULL_MS: u64 = 500_000 * HOUR_MS;
/// Forecasts are looked for every few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

struct Hands(AtomicU64);

impl Clock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

async fn start(upstream: &Faulty, hands: &Arc<Hands>, directory: tempfile::TempDir) -> Running {
    let mut config = config();
    config.endpoints = vec![endpoint(upstream)];
    let context = Context {
        clock: Arc::clone(hands) as Arc<dyn Clock>,
        ..Context::system().expect("randomness")
    };
    Running::start_with(directory, config, None, context).await
}

/// Asks for the forecasts of the hour until `done` says yes.
async fn hour_until(gateway: &Running, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let told = gateway.get("/longrun/v1/forecasts").await.json();
        let hour = &told["forecasts"][0]["windows"][0];
        if done(hour) {
            return hour.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{told:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn calls(gateway: &Running, count: usize) {
    for _ in 0..count {
        assert_eq!(gateway.post(chat(false)).await.status, 200);
    }
}

#[tokio::test]
async fn an_hour_is_foretold_then_scored_and_a_restart_changes_nothing() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let hands = Arc::new(Hands(AtomicU64::new(FULL_MS - 5 * MINUTE_MS)));
    let gateway = start(&upstream, &hands, tempfile::tempdir().expect("a directory")).await;

    calls(&gateway, 3).await;
    let told = hour_until(&gateway, |hour| !hour["current"][0].is_null()).await;
    let forecast = &told["current"][0];
    assert_eq!(forecast["start_ms"], FULL_MS);
    assert!(forecast["breach_ppm"].as_u64().expect("a number") < 200_000);
    let objectives = gateway.get("/longrun/v1/objectives").await.json();
    assert_eq!(objectives[0]["month"]["good"], 3, "{objectives:#}");
    assert_eq!(objectives[0]["budget_left_thousandths"], 1000);
    assert_eq!(objectives[0]["alarms"][0]["raised"], false);

    hands.0.store(FULL_MS + 5 * MINUTE_MS, Ordering::Relaxed);
    calls(&gateway, 2).await;
    // The hour is over, and its records have had time to arrive.
    hands.0.store(FULL_MS + 80 * MINUTE_MS, Ordering::Relaxed);
    calls(&gateway, 1).await;
    let told = hour_until(&gateway, |hour| hour["scores"]["windows"] == 1).await;
    assert_eq!(told["scores"]["breached"], 0);
    assert_eq!(told["scores"]["late"], 0);
    assert_eq!(
        told["scores"]["against_climatology"]["verdict"],
        "too few windows"
    );

    let directory = gateway.stop().await;
    let again = start(&upstream, &hands, directory).await;
    let anew = hour_until(&again, |hour| hour["scores"]["windows"] == 1).await;
    assert_eq!(anew["scores"], told["scores"]);
    again.stop().await;
}
