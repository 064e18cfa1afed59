//! What keeps calls going when endpoints fail, and what keeps failing endpoints from being run
//! over: breakers, pauses, retries within a budget, places.

use std::time::{Duration, Instant};

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{MODEL, PATIENCE, Running, chat, config, endpoint, start, upstream};
use gateway::config::{EndpointConfig, GatewayConfig};
use serde_json::{Value, json};

fn breaker_of(status: &serde_json::Value, upstream: &Faulty) -> String {
    let endpoints = status["endpoints"].as_array().expect("endpoints");
    let of = endpoints
        .iter()
        .find(|e| e["provider"] == upstream.origin())
        .expect("it is there");
    of["breaker"].as_str().expect("a word").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_keeps_failing_is_left_alone_and_probed_until_it_is_well() {
    let (good, bad) = (
        upstream(Fault::None).await,
        upstream(Fault::Status(500)).await,
    );
    let gateway = start(&[&bad, &good], |_| {}).await;
    let begun = Instant::now();
    while breaker_of(&gateway.status().await, &bad) == "closed" {
        assert_eq!(gateway.post(chat(false)).await.status, 200);
        assert!(begun.elapsed() < PATIENCE, "it never opened");
    }
    let asked = bad.requests().len();
    assert_eq!(asked, gateway::breaker::IN_A_ROW as usize);
    bad.now(Script::Always(Fault::None));
    while breaker_of(&gateway.status().await, &bad) != "closed" {
        assert_eq!(gateway.post(chat(false)).await.status, 200);
        assert!(begun.elapsed() < PATIENCE * 3, "it never closed again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(gateway::breaker::OPEN_MS),
        "it was left alone for a while"
    );
    assert_eq!(bad.requests().len(), asked + 1, "one probe was enough");
}

/// Every third answer fails, which neither opens a breaker in a row nor among the remembered ones. What
/// opens it is that the other one does well; where that one fails as often, nothing does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_does_worse_than_its_peer_is_ejected_and_one_that_does_not_is_not() {
    const CALLS: usize = 60;
    let every_third = || {
        let turns = [Fault::Status(500), Fault::None, Fault::None];
        Script::InTurn(turns.into_iter().cycle().take(CALLS).collect())
    };
    for (peer, ejects) in [(Script::Always(Fault::None), true), (every_third(), false)] {
        let (bad, peer) = (
            Faulty::api(MODEL, every_third()).await,
            Faulty::api(MODEL, peer).await,
        );
        let gateway = start(&[&bad, &peer], |_| {}).await;
        let mut is_ejected = false;
        for _ in 0..CALLS {
            for upstream in [&peer, &bad] {
                let mut body: Value = serde_json::from_str(&chat(false)).expect("JSON");
                body["provider"] = json!({"only": [upstream.origin()]});
                gateway.post(body.to_string()).await;
            }
            let status = gateway.status().await;
            assert_eq!(breaker_of(&status, &peer), "closed", "{status:#}");
            is_ejected = breaker_of(&status, &bad) != "closed";
            if is_ejected {
                break;
            }
        }
        assert_eq!(is_ejected, ejects);
        let asked = bad.requests().len() as u64;
        assert!(asked >= gateway::outlier::ATTEMPTS_MIN, "{asked}: too soon");
    }
}

/// One that hangs keeps nobody waiting who does not need it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_answers_while_an_endpoint_has_not_said_who_it_is() {
    let good = upstream(Fault::None).await;
    // Connections are taken by the system, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", silent.local_addr().expect("an address"));
    let mut hanging = EndpointConfig::at(&url).expect("a URL");
    hanging.models = vec!["awaited".to_owned()];
    let mut config = config();
    config.endpoints = vec![hanging, endpoint(&good)];
    let begun = Instant::now();
    let gateway = Running::start_at_once(config).await;
    assert_eq!(gateway.get("/healthz").await.status, 200);
    let answer = gateway.post(chat(false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.get("/readyz").await.status, 200);
    let handle = gateway.handle.as_ref().expect("running");
    let looked = tokio::time::timeout(Duration::ZERO, handle.looked_around()).await;
    // On a machine that stood still the time to wait may be over.
    assert!(looked.is_err() || begun.elapsed() >= gateway::FIRST_DISCOVERY);
    let awaited = chat(false).replace(MODEL, "awaited");
    let answer = gateway.post(awaited).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "endpoint_unreachable");
    let list = gateway.get("/v1/models").await;
    assert_eq!(list.json()["data"][0]["id"], MODEL);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_endpoint_is_asked_however_often_it_failed() {
    let bad = upstream(Fault::Status(500)).await;
    let gateway = start(&[&bad], |_| {}).await;
    for _ in 0..12 {
        assert_eq!(gateway.post(chat(false)).await.status, 500);
    }
    assert_eq!(bad.requests().len(), 12);
    bad.now(Script::Always(Fault::None));
    assert_eq!(gateway.post(chat(false)).await.status, 200);
    assert_eq!(breaker_of(&gateway.status().await, &bad), "closed");
}

/// Whoever asks for embeddings where there are none must not be able to close an endpoint for chats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_surface_that_an_endpoint_lacks_says_nothing_of_its_others() {
    let lacking = upstream(Fault::Status(404)).await;
    let gateway = start(&[&lacking], |_| {}).await;
    let ask = format!(r#"{{"model":"{MODEL}","input":"x"}}"#);
    for _ in 0..gateway::breaker::IN_A_ROW + 3 {
        let answer = gateway.post_to("/v1/embeddings", &ask, &[]).await;
        assert_eq!(answer.status, 404, "it is the only one, and asked");
    }
    assert_eq!(breaker_of(&gateway.status().await, &lacking), "closed");
    lacking.now(Script::Always(Fault::None));
    assert_eq!(gateway.post(chat(false)).await.status, 200);
    gateway.stop().await;

    // Where there is another, that one is asked from then on; for embeddings alone.
    let having = upstream(Fault::None).await;
    lacking.now(Script::Always(Fault::Status(404)));
    let gateway = start(&[&lacking, &having], |_| {}).await;
    let asked = lacking.requests().len();
    for _ in 0..8 {
        let answer = gateway.post_to("/v1/embeddings", &ask, &[]).await;
        assert_eq!(answer.status, 200);
    }
    assert!(lacking.requests().len() <= asked + 1, "once is enough");
    lacking.now(Script::Always(Fault::None));
    having.now(Script::Always(Fault::Status(500)));
    assert_eq!(gateway.post(chat(false)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_respected_for_as_long_as_it_says() {
    let limit = Fault::After {
        status: 429,
        seconds: 40,
    };
    let limited = upstream(limit).await;
    let gateway = start(&[&limited], |_| {}).await;
    let first = gateway.post(chat(false)).await;
    assert_eq!((first.status, first.header("retry-after")), (429, "40"));
    let second = gateway.post(chat(true)).await;
    assert_eq!(second.status, 429);
    assert_eq!(second.json()["error"]["code"], "endpoints_limited");
    let seconds: u64 = second.header("retry-after").parse().expect("seconds");
    assert!((1..=40).contains(&seconds), "{seconds}");
    assert_eq!(limited.requests().len(), 1, "it was not asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_without_room_is_asked_last() {
    let full = Fault::After {
        status: 503,
        seconds: 40,
    };
    let (good, full) = (upstream(Fault::None).await, upstream(full).await);
    let gateway = start(&[&full, &good], |_| {}).await;
    let begun = Instant::now();
    while full.requests().is_empty() {
        assert_eq!(gateway.post(chat(false)).await.status, 200);
        assert!(begun.elapsed() < PATIENCE);
    }
    for _ in 0..20 {
        assert_eq!(gateway.post(chat(false)).await.status, 200);
    }
    assert_eq!(full.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_other_the_same_endpoint_is_asked_again() {
    for (fault, streamed) in [
        (
            Fault::After {
                status: 500,
                seconds: 0,
            },
            false,
        ),
        (Fault::Slam, true),
        (
            Fault::After {
                status: 429,
                seconds: 0,
            },
            true,
        ),
        (Fault::ErrorInside, false),
    ] {
        let flaky = Faulty::api(MODEL, Script::InTurn(vec![fault, Fault::None])).await;
        let gateway = start(&[&flaky], |config| config.retry.again_max = 1).await;
        let answer = gateway.post(chat(streamed)).await;
        assert_eq!(answer.status, 200, "{fault:?}: {}", answer.text());
        let outcomes = gateway.outcomes(&answer.call()).await;
        assert_eq!(outcomes.len(), 2, "{fault:?}: both attempts are on record");
        assert_eq!(outcomes[1], ("ok".into(), "-".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_pass_in_a_moment_is_not_asked_again() {
    for fault in [
        Fault::Status(400),
        Fault::Status(401),
        Fault::Status(404),
        // It wants to be left alone for 7 s, longer than a call sits through.
        Fault::Status(503),
        Fault::WebPage,
    ] {
        let bad = upstream(fault).await;
        let gateway = start(&[&bad], |config| config.retry.again_max = 1).await;
        assert_ne!(gateway.post(chat(false)).await.status, 200, "{fault:?}");
        assert_eq!(bad.requests().len(), 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_budget_and_after_the_window_nothing_is_tried_twice() {
    let refuse = |adjust: fn(&mut GatewayConfig)| async move {
        let bad = upstream(Fault::Status(500)).await;
        let worse = upstream(Fault::Status(500)).await;
        let gateway = start(&[&bad, &worse], adjust).await;
        assert_eq!(gateway.post(chat(false)).await.status, 500);
        assert_eq!(bad.requests().len() + worse.requests().len(), 1);
    };
    refuse(|config| config.retry.extra_load_ppm = 0).await;
    refuse(|config| config.retry.window = Duration::from_nanos(1)).await;
    refuse(|config| config.limits.attempts_max = 1).await;
}

/// 400 calls to two endpoints that always fail: each would be tried at both. What the budget
/// holds at the start, what the calls earn and what time adds is all that may be added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_not_answered_with_a_storm() {
    const CALLS: usize = 400;
    let (one, other) = (upstream(Fault::Slam).await, upstream(Fault::Slam).await);
    let gateway = start(&[&one, &other], |_| {}).await;
    let begun = Instant::now();
    for _ in 0..CALLS {
        assert_eq!(gateway.post(chat(false)).await.status, 502);
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("short") + 1;
    let extra = one.requests().len() + other.requests().len() - CALLS;
    let most = CALLS / 5 + 10 * (10 + seconds);
    assert!(extra <= most, "{extra} extra attempts, {most} allowed");
    assert!(extra >= 100, "{extra}: it does try");
}

/// Nothing of an answer in one piece comes before its end, so one that hangs looks like one that works: it is
/// left for another endpoint in time, and the last has all the time there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_one_piece_leaves_an_endpoint_that_hangs() {
    let slow = Fault::Slow {
        head_ms: 1_500,
        gap_ms: 0,
    };
    let (hangs, last) = (upstream(Fault::Hang).await, upstream(slow).await);
    let gateway = start(&[&hangs, &last], |config| {
        for endpoint in &mut config.endpoints {
            endpoint.timeouts.whole = Duration::from_millis(500);
            endpoint.timeouts.total = PATIENCE;
        }
    })
    .await;
    let order = json!({"order": [hangs.origin(), last.origin()]});
    let mut body: Value = serde_json::from_str(&chat(false)).expect("JSON");
    body["provider"] = order;
    let answer = gateway.post(body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outcomes = gateway.outcomes(&answer.call()).await;
    let timeout = ("timeout".to_owned(), "provider".to_owned());
    assert_eq!(outcomes, [timeout, ("ok".to_owned(), "-".to_owned())]);

    // Nor is one left that nobody could be asked after, for want of one or of a budget.
    body["provider"] = json!({"only": [last.origin()]});
    assert_eq!(gateway.post(body.to_string()).await.status, 200);
    let other = upstream(Fault::None).await;
    let gateway = start(&[&last, &other], |config| {
        config.retry.extra_load_ppm = 0;
        config.endpoints[0].timeouts.whole = Duration::from_millis(500);
        config.endpoints[0].timeouts.total = PATIENCE;
    })
    .await;
    body["provider"] = json!({"order": [last.origin()]});
    assert_eq!(gateway.post(body.to_string()).await.status, 200);
    assert!(other.requests().is_empty());
}

/// The time to the first token is not that between two pieces: an endpoint may send its head and think.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_before_the_first_token_has_a_time_of_its_own() {
    let thinks = upstream(Fault::Stall(0)).await;
    let gateway = start(&[&thinks], |config| {
        config.endpoints[0].timeouts.gap = Duration::from_millis(100);
        config.endpoints[0].timeouts.first_token = Duration::from_millis(900);
        config.endpoints[0].timeouts.total = PATIENCE;
    })
    .await;
    let begun = Instant::now();
    assert_eq!(gateway.post(chat(true)).await.status, 504);
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
    // From the first token on it is the gap that counts.
    let stalls = upstream(Fault::Stall(2)).await;
    let gateway = start(&[&stalls], |config| {
        config.endpoints[0].timeouts.first_token = PATIENCE;
        config.endpoints[0].timeouts.total = PATIENCE;
    })
    .await;
    let begun = Instant::now();
    let answer = gateway.post(chat(true)).await;
    let stalled = ("timeout".to_owned(), "provider".to_owned());
    assert_eq!(gateway.outcomes(&answer.call()).await, [stalled]);
    assert!(answer.text().contains("stalled"), "{}", answer.text());
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

/// Who asked for a pause while a call was with another endpoint is left alone by that call as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_for_calls_that_are_under_way() {
    let (hangs, limited) = (
        upstream(Fault::Hang).await,
        upstream(Fault::Status(429)).await,
    );
    let gateway = start(&[&hangs, &limited], |config| {
        // Long enough for the other call.
        config.endpoints[0].timeouts.first_token = Duration::from_secs(4);
        config.endpoints[0].timeouts.total = PATIENCE;
    })
    .await;
    let asking = |provider: Value| {
        let mut body: Value = serde_json::from_str(&chat(true)).expect("JSON");
        body["provider"] = provider;
        body.to_string()
    };
    let in_turn = gateway.post(asking(json!({"order": [hangs.origin(), limited.origin()]})));
    let meanwhile = async {
        let begun = Instant::now();
        while hangs.requests().is_empty() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gateway
            .post(asking(json!({"only": [limited.origin()]})))
            .await
    };
    let (in_turn, told) = tokio::join!(in_turn, meanwhile);
    assert_eq!(
        (told.status, in_turn.status),
        (429, 504),
        "{}",
        in_turn.text()
    );
    assert_eq!(limited.requests().len(), 1, "it asked for a pause");
}

/// A 404 about something that one request names says nothing of the endpoint; one about a model or a path does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_request_names_is_not_what_an_endpoint_lacks() {
    const FILE: &str = r#"{"error":{"message":"No such File object: file-abc","type":"invalid_request_error","param":"id","code":null}}"#;
    const MODEL_GONE: &str = r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#;
    let says = |body| Script::Always(Fault::Says { status: 404, body });
    let first = upstream(Fault::None).await;
    let other = upstream(Fault::None).await;
    let gateway = start(&[&first, &other], |_| {}).await;
    let order = json!({"order": [first.origin(), other.origin()]});
    let mut body: Value = serde_json::from_str(&chat(false)).expect("JSON");
    body["provider"] = order;
    for (words, asked_after) in [(FILE, 2), (MODEL_GONE, 1)] {
        first.now(says(words));
        let before = first.requests().len();
        assert_eq!(gateway.post(body.to_string()).await.status, 200);
        first.now(Script::Always(Fault::None));
        assert_eq!(gateway.post(body.to_string()).await.status, 200);
        assert_eq!(first.requests().len() - before, asked_after, "{words}");
    }
}

/// A call that finds no place for its second attempt takes nothing from the budget of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_not_made_costs_nothing() {
    // More than the budget holds: without a share of the calls, 100 and 10 a second.
    const CALLS: usize = 300;
    let (bad, narrow) = (
        upstream(Fault::Status(408)).await,
        upstream(Fault::Stall(1)).await,
    );
    let gateway = start(&[&bad, &narrow], |config| {
        config.retry.extra_load_ppm = 1;
        config.endpoints[0].name = Some("bad".to_owned());
        config.endpoints[1].name = Some("narrow".to_owned());
        config.endpoints[1].offer.concurrency_max = Some(1);
        config.endpoints[1].offer.queue = Duration::ZERO;
        config.endpoints[1].timeouts.gap = PATIENCE;
        config.endpoints[1].timeouts.total = PATIENCE;
    })
    .await;
    let asking = |streamed: bool, provider: Value| {
        let mut body: Value = serde_json::from_str(&chat(streamed)).expect("JSON");
        body["provider"] = provider;
        body.to_string()
    };
    let in_turn = asking(false, json!({"order": ["bad", "narrow"]}));
    let narrow_alone = json!({"only": ["narrow"]});
    let held = gateway.open(asking(true, narrow_alone.clone())).await;
    for _ in 0..CALLS {
        let answer = gateway.post(in_turn.clone()).await;
        assert_eq!(answer.status, 408, "{}", answer.text());
    }
    assert_eq!((bad.requests().len(), narrow.requests().len()), (CALLS, 1));
    drop(held);
    narrow.now(Script::Always(Fault::None));
    let begun = Instant::now();
    while gateway
        .post(asking(false, narrow_alone.clone()))
        .await
        .status
        != 200
    {
        assert!(begun.elapsed() < PATIENCE, "the place is lost");
    }
    assert_eq!(gateway.post(in_turn).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_calls_at_once_than_an_endpoint_takes() {
    let slow = Fault::Slow {
        head_ms: 30,
        gap_ms: 1,
    };
    let narrow = upstream(slow).await;
    let gateway = start(&[&narrow], |config| {
        config.endpoints[0].offer.concurrency_max = Some(2);
        config.endpoints[0].offer.queue = PATIENCE;
    })
    .await;
    let calls = (0..12).map(|number| gateway.post(chat(number % 2 == 0)));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(narrow.most_open(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_where_there_is_a_place_and_waits_only_so_long() {
    let stuck = upstream(Fault::Stall(1)).await;
    let gateway = start(&[&stuck], |config| {
        config.endpoints[0].offer.concurrency_max = Some(1);
        config.endpoints[0].offer.queue = Duration::from_millis(50);
        config.endpoints[0].timeouts.gap = PATIENCE;
        config.endpoints[0].timeouts.total = PATIENCE;
    })
    .await;
    let held = gateway.open(chat(true)).await;
    let refused = gateway.post(chat(false)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.json()["error"]["code"], "endpoints_busy");
    assert_eq!(stuck.requests().len(), 1, "it was not asked");
    // The place is free again once the caller has gone.
    drop(held);
    stuck.now(Script::Always(Fault::None));
    let begun = Instant::now();
    while gateway.post(chat(false)).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the place is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_endpoint_is_passed_over_for_one_with_a_place() {
    let (narrow, wide) = (upstream(Fault::Stall(1)).await, upstream(Fault::None).await);
    let gateway = start(&[&narrow, &wide], |config| {
        config.endpoints[0].offer.concurrency_max = Some(1);
        config.endpoints[0].timeouts.gap = PATIENCE;
        config.endpoints[0].timeouts.total = PATIENCE;
    })
    .await;
    let begun = Instant::now();
    let mut held = Vec::new();
    while narrow.requests().is_empty() {
        held.push(gateway.open(chat(true)).await);
        assert!(begun.elapsed() < PATIENCE);
    }
    for _ in 0..20 {
        let answer = gateway.post(chat(false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(narrow.requests().len(), 1, "its place is taken");
}
