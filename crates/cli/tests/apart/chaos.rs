//! Nodes, log and gateway are killed, cut off and slowed down at random while callers call; nodes
//! leave and lose their keys. No answer may be lost, and none may come from a node that has gone.
//!
//! `cargo test -p cli --test apart -- --ignored --nocapture chaos`. `LONGRUN_CHAOS_SECONDS` (600) says
//! how long, `LONGRUN_CHAOS_SEED` (1) what happens when. Prints what docs/benchmarks.md holds.

mod callers;
mod parties;
mod plan;
mod reader;
mod reckoning;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::callers::Seen;
use self::parties::{Diary, Gateway, Log, Node};
use self::plan::Plan;
use self::reader::Gone;
use crate::hosts::{self, Host};
use crate::support::{Http, Place, chat};

/// Nodes that join.
const NODES: usize = 6;
/// Callers that call all the time.
const CALLERS: usize = 4;
/// How long everything may take to be as it was before.
const PATIENCE: Duration = Duration::from_secs(120);

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |it| {
        it.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {it}"))
    })
}

#[test]
#[ignore = "ten minutes by default; needs namespaces, ip, tc and nft"]
fn no_answer_is_lost_whatever_happens_to_whom() {
    if !hosts::inside("chaos::no_answer_is_lost_whatever_happens_to_whom") {
        return;
    }
    let seed = setting("LONGRUN_CHAOS_SEED", 1);
    let length = Duration::from_secs(setting("LONGRUN_CHAOS_SECONDS", 600));
    let plan = Plan::new(seed, length);
    println!("chaos     {} s, seed {seed}", length.as_secs());

    let place = Place::default();
    let diary = Diary::default();
    let mut log = Log::start(&place, Host::new("log", 2));
    let mut nodes: Vec<Node> = (0..NODES)
        .map(|number| Node::start(&place, number, &log.url))
        .collect();
    let mut gateway = Gateway::start(&place, Host::new("gateway", 3), &log.url);
    nodes
        .iter_mut()
        .for_each(|node| node.come_under_an_owner(&log.url));
    let key = gateway.key.clone();
    warm_up(&gateway.url, &key);

    let begun = diary.begin();
    let (calling, reading) = (AtomicBool::new(false), AtomicBool::new(false));
    let chat_url = format!("{}/v1/chat/completions", gateway.url);
    let gateway_url = gateway.url.clone();
    let log_url = log.url.clone();
    let (seen, gone): (Vec<Seen>, Vec<Gone>) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| reader::read(&log_url, begun, &reading));
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let (url, key, stop) = (&chat_url, &key, &calling);
                scope.spawn(move || callers::call(number, (url, key), begun, stop))
            })
            .collect();
        let mut driven = Vec::new();
        for (node, events) in nodes.iter_mut().zip(&plan.nodes) {
            driven.push(scope.spawn(|| node.live(events, &diary)));
        }
        driven.push(scope.spawn(|| log.live(&plan.log, &diary)));
        driven.push(scope.spawn(|| gateway.live(&plan.gateway, &diary)));
        let driven: Vec<_> = driven.into_iter().map(|it| it.join()).collect();
        std::thread::sleep(length.saturating_sub(begun.elapsed()));
        calling.store(true, Ordering::Relaxed);
        let seen = callers.into_iter().map(|it| it.join().expect("it ends"));
        let seen = seen.collect();
        // A panic of a party comes after the callers were stopped: nothing hangs.
        driven.into_iter().for_each(|it| it.expect("see above"));
        drained(&gateway_url, &key);
        reading.store(true, Ordering::Relaxed);
        (seen, reader.join().expect("it ends"))
    });
    reckoning::told(&diary, &seen, &gone);
    reckoning::every_answer_is_recorded(&place, (&gateway.url, &key), &diary, &seen);
    nodes.iter_mut().for_each(Node::stop);
    gateway.stop();
    log.stop();
    reckoning::files_hold(&place, &gone);
    reckoning::nobody_answered_who_had_gone(&diary, &seen, &gone);
}

/// Calls until every node has a record that is long enough to be an ordinary endpoint.
fn warm_up(gateway_url: &str, key: &str) {
    let (http, deadline) = (Http::with_key(key), Instant::now() + PATIENCE);
    loop {
        let url = format!("{gateway_url}/v1/chat/completions");
        let _ = http.try_post(&url, chat("What is 3 + 4?"));
        let status = http.get(&format!("{gateway_url}/longrun/v1/status")).json();
        let network = &status["networks"][0];
        if network["ordinary"] == NODES {
            return;
        }
        assert!(Instant::now() < deadline, "{network:#}");
    }
}

/// Waits until the gateway has nothing left that the log has not.
fn drained(gateway_url: &str, key: &str) {
    let (http, deadline) = (Http::with_key(key), Instant::now() + PATIENCE);
    loop {
        let status = http.try_get(&format!("{gateway_url}/longrun/v1/status"));
        let spool = status.map_or_else(Into::into, |it| it.json()["spool"].clone());
        if spool["waiting"] == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "records wait still: {spool:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
