//! What callers ask of an endpoint's record, and what they are told when nobody has it.

use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, Running, chat, config, endpoint, in_front_of, prompt};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
/// New evidence steers within this.
const STEERS_WITHIN: Duration = Duration::from_secs(60);

fn asking(provider: &Value) -> String {
    let messages = json!([{"role": "user", "content": prompt()}]);
    json!({"model": MODEL, "messages": messages, "provider": provider}).to_string()
}

async fn route(gateway: &Running, call: &str) -> Value {
    let path = format!("/longrun/v1/calls/{call}/route");
    gateway.get(&path).await.json()
}

#[tokio::test]
async fn nobody_is_asked_who_does_not_meet_what_is_asked_for_and_the_caller_hears_why() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    for _ in 0..3 {
        assert_eq!(gateway.post(chat(true)).await.status, 200);
    }
    let done = |history: &Value| history["endpoints"][0]["successes"] == 3;
    gateway.history_until(done).await;
    let asked_before = upstream.requests().len();

    let refused = gateway
        .post(asking(
            &json!({"min_success": 0.999_9, "min_replayed_share": 0.01}),
        ))
        .await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "no_endpoint_meets");
    let message = error["message"].as_str().expect("words");
    for words in [
        "is below min_success 0.9999",
        "no record carries replays yet",
        "it meets min_success 0.9",
        "or_best",
    ] {
        assert!(message.contains(words), "{message}");
    }
    let told = route(&gateway, &refused.call()).await;
    assert_eq!(
        (&told["verdict"], &told["meeting"]),
        (&json!("none_meets"), &json!(0))
    );
    assert_eq!(told["wish"]["success_ppm_min"], 999_900);
    assert_eq!(told["order"][0]["judged"], 3, "what was refused is shown");
    let by_header = [("x-longrun-min-success", "0.9999")];
    assert_eq!(
        gateway.post_to(CHAT, &chat(false), &by_header).await.status,
        404
    );
    assert_eq!(upstream.requests().len(), asked_before, "nobody was asked");

    let best = json!({"min_success": 0.999_9, "or_best": true, "sort": "reliability"});
    let answer = gateway.post(asking(&best)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let warning = answer.header("x-longrun-warning");
    assert!(warning.contains("below min_success 0.9999"), "{warning}");
    let sent = upstream.requests().pop().expect("a request").body;
    let sent = String::from_utf8(sent).expect("text");
    assert!(!sent.contains("min_success"), "it does not travel: {sent}");

    let met = json!({"min_success": 0.1, "safe": true, "max_latency_ms": 60_000});
    let answer = gateway.post(asking(&met)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.headers.contains_key("x-longrun-warning"));
    assert_eq!(route(&gateway, &answer.call()).await["safe"], true);

    // Arrays too, which serde would read by the order of its fields.
    for bad in [
        json!({"min_success": 99}),
        json!({"min_reliability": 0.9}),
        json!([["a"]]),
        json!([]),
    ] {
        let refused = gateway.post(asking(&bad)).await;
        assert_eq!(refused.json()["error"]["code"], "invalid_preferences");
    }
    gateway.stop().await;
}

/// Figures that are the same put the first of the configuration first; who prefers the other gets that,
/// and the reason that is kept is his.
#[tokio::test]
async fn a_decision_is_kept_with_the_reason_of_the_one_that_was_asked() {
    let (one, other) = (
        Faulty::api(MODEL, Script::Always(Fault::None)).await,
        Faulty::api(MODEL, Script::Always(Fault::None)).await,
    );
    let gateway = in_front_of(&[&one, &other]).await;
    // A call with a demand does not explore.
    let decided = async |preferences: Value| {
        let answer = gateway.post(asking(&preferences)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        route(&gateway, &answer.call()).await
    };
    let told = decided(json!({"min_success": 0.01})).await;
    let best = told["asked_first"].as_str().expect("somebody").to_owned();
    assert_eq!(told["order"][0]["endpoint"], best.as_str(), "{told:#}");
    assert_eq!(told["why"], told["order_why"], "{told:#}");

    let is_best = |upstream: &Faulty| best.starts_with(&format!("{}/", upstream.origin()));
    let second = if is_best(&one) { &other } else { &one };
    let wish = json!({"min_success": 0.01, "order": [second.origin()]});
    let told = decided(wish).await;
    let asked = told["asked_first"].as_str().expect("somebody");
    assert!(
        asked.starts_with(&format!("{}/", second.origin())),
        "{told:#}"
    );
    // Unless the one answer made it the better one.
    let is_first = told["order"][0]["endpoint"] == asked;
    let why = if is_first {
        &told["order_why"]
    } else {
        &json!("preferred")
    };
    assert_eq!(&told["why"], why, "{told:#}");
    gateway.stop().await;
}

/// The best by figures has more than its share, and is asked second; what is kept says so.
#[tokio::test]
async fn a_provider_with_more_than_its_share_steps_aside_and_the_decision_says_so() {
    const CALLS: [u64; 2] = [60, 30];
    let (large, small) = (
        Faulty::api(MODEL, Script::Always(Fault::None)).await,
        Faulty::api(MODEL, Script::Always(Fault::None)).await,
    );
    let mut config = config();
    config.endpoints = vec![endpoint(&large), endpoint(&small)];
    config.routing.max_share_ppm = Some(600_000);
    let gateway = Running::start(config, None).await;
    for (upstream, calls) in [&large, &small].into_iter().zip(CALLS) {
        let only = asking(&json!({"only": [upstream.origin()]}));
        for _ in 0..calls {
            assert_eq!(gateway.post(only.clone()).await.status, 200);
        }
    }
    let begun = Instant::now();
    loop {
        let status = gateway.status().await;
        let judged = |at: usize| status["endpoints"][at]["judged"].as_u64();
        let is_known = [judged(0), judged(1)] == CALLS.map(Some);
        if is_known && status["concentration"]["over"] == json!([large.origin()]) {
            break;
        }
        assert!(begun.elapsed() < STEERS_WITHIN, "{status:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let at = |upstream: &Faulty| json!(format!("{}/{MODEL}", upstream.origin()));
    // A call with a demand does not explore.
    let demands = json!({"min_success": 0.01});
    let answer = gateway.post(asking(&demands)).await;
    let told = route(&gateway, &answer.call()).await;
    assert_eq!(told["order"][0]["endpoint"], at(&large), "{told:#}");
    assert_eq!(told["asked_first"], at(&small), "{told:#}");
    assert_eq!(
        (&told["why"], &told["order_why"], &told["stepped_aside"]),
        (&json!("stepped_aside"), &json!("record"), &json!(true))
    );
    assert_eq!(answer.header("x-longrun-endpoint"), at(&small));

    // Whoever says in which order they are to be asked is asked no questions about shares.
    let ordered = json!({"min_success": 0.01, "order": [large.origin()]});
    let answer = gateway.post(asking(&ordered)).await;
    let told = route(&gateway, &answer.call()).await;
    assert_eq!(
        (&told["asked_first"], &told["stepped_aside"]),
        (&at(&large), &json!(false)),
        "{told:#}"
    );
    gateway.stop().await;
}

/// A misspelt name breaks no call, and is told where the call's decision is.
#[tokio::test]
async fn names_that_nobody_goes_by_are_told_with_the_decision() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    let unmatched = async |preferences: Value| {
        let answer = gateway.post(asking(&preferences)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        route(&gateway, &answer.call()).await["unmatched"].clone()
    };
    let known = upstream.origin();
    let told = unmatched(json!({
        "order": ["OpenAI", known, "azure"], "only": [known, "x".repeat(99)], "ignore": ["groq"],
    }));
    let wanted = json!({
        "order": ["OpenAI", "azure"], "only": ["x".repeat(64)], "ignore": ["groq"],
    });
    assert_eq!(told.await, wanted);
    let many: Vec<String> = (0..99).map(|number| number.to_string()).collect();
    let told = unmatched(json!({"ignore": many})).await;
    assert_eq!(told["ignore"], json!(many[..8]));
    let none = json!({"order": [], "only": [], "ignore": []});
    assert_eq!(unmatched(json!({"order": [known]})).await, none);
    assert_eq!(unmatched(json!({})).await, none);
    gateway.stop().await;
}

#[tokio::test]
async fn new_evidence_steers_within_a_minute_and_demands_reach_fallbacks() {
    let (one, other) = (
        Faulty::api(MODEL, Script::Always(Fault::None)).await,
        Faulty::api(MODEL, Script::Always(Fault::None)).await,
    );
    let gateway = in_front_of(&[&one, &other]).await;
    for _ in 0..10 {
        assert_eq!(gateway.post(chat(false)).await.status, 200);
    }
    let counted = |wanted: u64| {
        move |history: &Value| {
            let each = history["endpoints"].as_array().expect("endpoints").iter();
            each.map(|it| it["calls"].as_u64().unwrap_or(0))
                .sum::<u64>()
                >= wanted
        }
    };
    gateway.history_until(counted(10)).await;
    // Two failures in its record, too few for a breaker: from here on the other is asked.
    one.now(Script::Always(Fault::Status(500)));
    let only = json!({"only": [one.origin()], "allow_fallbacks": false});
    for _ in 0..3 {
        assert_eq!(gateway.post(asking(&only)).await.status, 500);
    }
    let begun = Instant::now();
    let ppm = |status: &Value, at: usize| {
        let endpoint = &status["endpoints"][at];
        endpoint["success_ppm"].as_u64().expect("ppm")
    };
    loop {
        let status = gateway.status().await;
        if ppm(&status, 0) < 600_000 && ppm(&status, 1) > 900_000 {
            break;
        }
        assert!(begun.elapsed() < STEERS_WITHIN, "{status:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The good one fails now, and the bad one would answer: but not to whoever asks for a record.
    one.now(Script::Always(Fault::None));
    other.now(Script::Always(Fault::Status(500)));
    let before = one.requests().len();
    let answer = gateway.post(asking(&json!({"min_success": 0.9}))).await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert_eq!(one.requests().len(), before);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_would_do_and_asked_for_a_pause_is_waited_for() {
    let (good, bad) = (
        Faulty::api(MODEL, Script::Always(Fault::None)).await,
        Faulty::api(MODEL, Script::Always(Fault::Status(500))).await,
    );
    let gateway = in_front_of(&[&good, &bad]).await;
    for (endpoint, calls, status) in [(&good, 10, 200), (&bad, 3, 500)] {
        let only = json!({"only": [endpoint.origin()], "allow_fallbacks": false});
        for _ in 0..calls {
            assert_eq!(gateway.post(asking(&only)).await.status, status);
        }
    }
    let judged = |history: &Value| {
        let endpoints = history["endpoints"].as_array().expect("a list").iter();
        let counted = |of: &str| -> u64 {
            let each = endpoints.clone().map(|it| it[of].as_u64().unwrap_or(0));
            each.sum()
        };
        counted("successes") >= 10 && counted("failures") >= 3
    };
    gateway.history_until(judged).await;
    good.now(Script::Always(Fault::After {
        status: 429,
        seconds: 40,
    }));
    gateway.post(chat(false)).await;
    let asked = (good.requests().len(), bad.requests().len());
    let limited = gateway.post(asking(&json!({"min_success": 0.9}))).await;
    assert_eq!(limited.status, 429, "{}", limited.text());
    assert_eq!(limited.json()["error"]["code"], "endpoints_limited");
    let seconds: u64 = limited.header("retry-after").parse().expect("seconds");
    assert!((1..=40).contains(&seconds), "{seconds}");
    assert_eq!((good.requests().len(), bad.requests().len()), asked);
    gateway.stop().await;
}
