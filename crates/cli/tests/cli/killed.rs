//! `longrun gateway` killed with SIGKILL while calls are under way, and started again in the same
//! directory: it is ready each time, no number is lost, and what it resumes is what its records say.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Http, PATIENCE, Place, text};
use faulty::{Fault, Faulty, Script};

#[path = "../../../gateway/tests/gateway/faulty/mod.rs"]
mod faulty;

const MODEL: &str = "sometimes";
const KILLS: u64 = 6;
const CALLERS: usize = 3;
const SEED: u64 = 0x5eed_0010;

/// Calls that claimed to be recorded, by their ids.
type Claimed = Mutex<Vec<String>>;

/// How many answers come between a start and its kill: SplitMix64 (Steele, Lea, Flood 2014).
fn answers_before_kill(round: u64) -> usize {
    let mut z = SEED.wrapping_add((round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % 40).expect("small") + 1
}

/// Calls until the gateway is gone, and keeps the ids of those that it called recorded.
fn call_until_gone(gateway: &str, answered: &AtomicUsize, over: &AtomicBool, claimed: &Claimed) {
    let http = Http::default();
    let url = format!("{gateway}/v1/chat/completions");
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]});
    while !over.load(Ordering::SeqCst) {
        let Ok(answer) = http.try_post(&url, body.to_string()) else {
            return;
        };
        assert_eq!(answer.status, 200, "{}", text(&answer.body));
        let said = answer.json();
        if said["longrun"]["evidence"] == "recorded" {
            let call = answer.header("x-longrun-call").to_owned();
            claimed.lock().expect("whole").push(call);
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// The history once all that was there at the start is folded, and every number has its record or void.
fn settled(http: &Http, gateway: &str) -> Value {
    http.until(&format!("{gateway}/readyz"), |answer| {
        answer.status == 200 && answer.json()["history_read"].is_null()
    });
    let whole = |it: &Value| {
        it["endpoints"][0]["calls"].as_u64() > Some(0) && it["endpoints"][0]["gaps"] == 0
    };
    let url = format!("{gateway}/longrun/v1/history");
    http.until(&url, |answer| whole(&answer.json())).json()
}

#[test]
fn a_killed_gateway_loses_no_number_and_resumes_what_its_records_say() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let upstream = runtime.block_on(Faulty::api(MODEL, Script::Always(Fault::None)));
    let place = Place::default();
    let config = format!(
        "[[endpoint]]\nurl = \"{}\"\nkind = \"openai\"\nmodels = [\"{MODEL}\"]\n",
        upstream.url()
    );
    let http = Http::default();
    let claimed = Claimed::default();
    let start = || {
        let mut server = place.gateway(&config);
        let gateway = server.url("gateway");
        http.until(&format!("{gateway}/readyz"), |answer| answer.status == 200);
        (server, gateway)
    };
    for round in 0..KILLS {
        let (mut server, gateway) = start();
        let (answered, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| call_until_gone(&gateway, &answered, &over, &claimed));
            }
            let begun = Instant::now();
            while answered.load(Ordering::SeqCst) < answers_before_kill(round)
                && begun.elapsed() < PATIENCE
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            server.kill();
            over.store(true, Ordering::SeqCst);
        });
        let enough = answered.load(Ordering::SeqCst) >= answers_before_kill(round);
        assert!(enough, "round {round}: too few answers");
    }

    let (mut server, gateway) = start();
    let claimed = claimed.into_inner().expect("whole");
    assert!(
        claimed.len() as u64 >= KILLS,
        "hardly anything was recorded"
    );
    let (mut found, mut lost) = (0, 0);
    for call in &claimed {
        let url = format!("{gateway}/longrun/v1/calls/{call}");
        match http.until(&url, |answer| answer.status != 202).status {
            200 => found += 1,
            404 => lost += 1,
            other => panic!("{call}: {other}"),
        }
    }
    let history = settled(&http, &gateway);
    let endpoint = &history["endpoints"][0];
    let count = |name: &str| endpoint[name].as_u64().expect("a number");
    assert!(found <= count("calls"), "{found} found: {endpoint:#}");
    // What was answered and not yet on the disk is named by the void of its number.
    assert!(lost <= count("voids"), "{lost} lost: {endpoint:#}");
    assert!(server.interrupt().success());

    let (mut server, gateway) = start();
    let resumed = settled(&http, &gateway);
    assert_eq!(resumed["digest"], history["digest"], "from the journal");
    assert!(server.interrupt().success());
    std::fs::remove_file(place.dir().join("gateway/history.journal")).expect("it was there");
    let (_server, gateway) = start();
    let rebuilt = settled(&http, &gateway);
    assert_eq!(rebuilt["records"], history["records"]);
    assert_eq!(rebuilt["digest"], history["digest"], "from the records");
}
