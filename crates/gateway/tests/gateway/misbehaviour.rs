//! Every misbehaviour on every surface, plain and streamed: none looks like success, each is on
//! record as what it was, and none is waited for longer than the deadlines allow.

use crate::support::faulty::{Fault, Faulty, Script, Surface};
use crate::support::{MODEL, chat, config, endpoint, in_front_of, upstream};
use serde_json::json;

/// What becomes of a misbehaviour: outcome and fault in an answer in one piece, and in a stream.
/// `None`: the answer is good.
type Row = (Fault, Seen, Seen);
type Seen = Option<(&'static str, &'static str)>;

const OK: Seen = None;
const TRUNCATED: Seen = Some(("truncated", "provider"));
const TIMEOUT: Seen = Some(("timeout", "provider"));
const MALFORMED: Seen = Some(("malformed", "provider"));
const PROVIDER: Seen = Some(("provider_error", "provider"));
const CAPACITY: Seen = Some(("capacity", "provider"));
const LIMITED: Seen = Some(("rate_limited", "client"));

const ROWS: &[Row] = &[
    (Fault::None, OK, OK),
    (Fault::NoDone, OK, OK),
    (
        Fault::Slow {
            head_ms: 5,
            gap_ms: 1,
        },
        OK,
        OK,
    ),
    (Fault::Hang, TIMEOUT, TIMEOUT),
    (Fault::Stall(0), TIMEOUT, TIMEOUT),
    (Fault::Stall(3), TIMEOUT, TIMEOUT),
    (Fault::Cut(0), TRUNCATED, TRUNCATED),
    (Fault::Cut(3), TRUNCATED, TRUNCATED),
    (Fault::EndEarly(0), TRUNCATED, TRUNCATED),
    (Fault::EndEarly(3), TRUNCATED, TRUNCATED),
    (Fault::BadChunk(3), TRUNCATED, TRUNCATED),
    (Fault::Slam, TRUNCATED, TRUNCATED),
    (Fault::Garbage, MALFORMED, MALFORMED),
    (Fault::BadJson, MALFORMED, MALFORMED),
    (Fault::WebPage, MALFORMED, MALFORMED),
    (Fault::WrongType, MALFORMED, MALFORMED),
    (Fault::Hollow, MALFORMED, MALFORMED),
    (Fault::Redirect, MALFORMED, MALFORMED),
    (Fault::Endless, MALFORMED, MALFORMED),
    (Fault::OnlyComments, MALFORMED, TIMEOUT),
    (Fault::HugeEvent, OK, MALFORMED),
    (Fault::ErrorInside, PROVIDER, PROVIDER),
    (Fault::ErrorAfter(3), PROVIDER, PROVIDER),
    (Fault::Status(500), PROVIDER, PROVIDER),
    (
        Fault::After {
            status: 503,
            seconds: 0,
        },
        CAPACITY,
        CAPACITY,
    ),
    (
        Fault::After {
            status: 529,
            seconds: 0,
        },
        CAPACITY,
        CAPACITY,
    ),
    (
        Fault::After {
            status: 429,
            seconds: 0,
        },
        LIMITED,
        LIMITED,
    ),
];

fn ask(surface: Surface, streamed: bool) -> String {
    let asks = match surface {
        Surface::Chat => r#""messages":[{"role":"user","content":"x"}]"#,
        Surface::Completions => r#""prompt":"x""#,
        Surface::Embeddings | Surface::Responses => r#""input":"x""#,
    };
    format!("{{\"model\":\"{MODEL}\",{asks},\"stream\":{streamed}}}")
}

async fn every_row(surface: Surface, streamed: bool) {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let mut config = config();
    config.endpoints = vec![endpoint(&upstream)];
    config.limits.response_max_bytes = 1 << 20;
    let gateway = crate::support::Running::start(config, None).await;
    for (fault, in_one_piece, in_a_stream) in ROWS {
        let what = format!("{fault:?}, {surface:?}, streamed: {streamed}");
        upstream.now(Script::Always(*fault));
        let answer = gateway
            .post_to(surface.path(), &ask(surface, streamed), &[])
            .await;
        let seen = match (streamed, surface, fault) {
            (false, ..) => in_one_piece,
            // Without an end mark, an empty answer looks like one that was cut.
            (true, Surface::Responses, Fault::Hollow) => &TRUNCATED,
            (true, ..) => in_a_stream,
        };
        let (outcome, culprit) = seen.unwrap_or(("ok", "-"));
        let outcomes = gateway.outcomes(&answer.call()).await;
        assert_eq!(outcomes, [(outcome.into(), culprit.into())], "{what}");
        if seen.is_none() {
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            continue;
        }
        if answer.status != 200 {
            let error = &answer.json()["error"];
            assert!(
                error["message"].is_string() && error["type"].is_string(),
                "{what}"
            );
            continue;
        }
        assert!(streamed, "{what}: {}", answer.text());
        let text = answer.text();
        assert!(
            !text.contains("[DONE]") && !text.contains("response.completed"),
            "{what}"
        );
        let last = answer.frames().pop().expect("frames");
        let data = last.split_once("data: ").expect("data").1;
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        // Both forms that clients of `/responses` know, and the one that those of the others know.
        let failed = data["type"] == "response.failed" || data["error"]["message"].is_string();
        assert!(failed, "{what}: {data}");
        assert_eq!(
            last.starts_with("event: "),
            surface == Surface::Responses,
            "{what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats() {
    every_row(Surface::Chat, false).await;
    every_row(Surface::Chat, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions() {
    every_row(Surface::Completions, false).await;
    every_row(Surface::Completions, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings() {
    every_row(Surface::Embeddings, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses() {
    every_row(Surface::Responses, false).await;
    every_row(Surface::Responses, true).await;
}

/// Of several choices all have to be complete: the end of the first is not the end of the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_choice_of_several_is_no_answer() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::OneChoice)).await;
    let gateway = crate::support::in_front_of(&[&upstream]).await;
    for (fault, surface, n, outcome) in [
        (Fault::OneChoice, Surface::Chat, 3, "truncated"),
        (Fault::OneChoice, Surface::Completions, 2, "truncated"),
        (Fault::OneChoice, Surface::Chat, 1, "ok"),
        (Fault::OneChoiceDone, Surface::Chat, 3, "truncated"),
        (Fault::OneChoiceDone, Surface::Completions, 2, "truncated"),
        (Fault::OneChoiceDone, Surface::Chat, 1, "ok"),
    ] {
        upstream.now(Script::Always(fault));
        let body = ask(surface, true).replacen('{', &format!("{{\"n\":{n},"), 1);
        let answer = gateway.post_to(surface.path(), &body, &[]).await;
        assert_eq!(answer.text().contains("[DONE]"), n == 1, "{surface:?} {n}");
        let outcomes = gateway.outcomes(&answer.call()).await;
        assert_eq!(outcomes[0].0, outcome, "{fault:?} {surface:?} {n}");
    }
    // A choice for each of several prompts.
    let body = format!(r#"{{"model":"{MODEL}","prompt":["x","y"],"stream":true}}"#);
    let answer = gateway.post_to("/v1/completions", &body, &[]).await;
    let outcomes = gateway.outcomes(&answer.call()).await;
    assert_eq!(outcomes[0].0, "truncated", "{}", answer.text());
}

/// Whatever opens an answer before its first token does not tie the caller to this endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_before_the_first_token_is_answered_by_another() {
    let bad = Faulty::api(MODEL, Script::Always(Fault::ErrorAfter(0))).await;
    let good = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = crate::support::in_front_of(&[&bad, &good]).await;
    for surface in [Surface::Chat, Surface::Responses] {
        for _ in 0..4 {
            let answer = gateway
                .post_to(surface.path(), &ask(surface, true), &[])
                .await;
            assert_eq!(answer.status, 200, "{surface:?}");
            assert!(answer.text().contains("t7 "), "{}", answer.text());
            assert!(!answer.text().contains("\"error\":{"), "{}", answer.text());
        }
    }
    assert!(!bad.requests().is_empty());
}

/// As OpenRouter sends it.
const FLAGGED: &str = r#"{"error": {"message": "openai/gpt-4o requires moderation on OpenRouter. Your input was flagged for \"harassment\".", "code": 403}}"#;
/// As Gemini sends it.
const NO_KEY: &str = r#"[{
  "error": {
    "code": 400,
    "message": "Please pass a valid API key",
    "status": "INVALID_ARGUMENT"
  }
}
]"#;

/// What a moderation refuses it refuses again, and it says why: the caller is told that, and the endpoint
/// stays as well as it was. A key that is not accepted comes with the same kind of status, and is none of
/// the caller's business.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_the_callers_and_a_bad_key_is_not() {
    let says = |status, body| upstream(Fault::Says { status, body });
    let (refusing, keyless) = (says(403, FLAGGED).await, says(400, NO_KEY).await);
    let good = upstream(Fault::None).await;
    let gateway = in_front_of(&[&refusing, &keyless, &good]).await;
    let in_order = |order: [&Faulty; 2], streamed: bool| {
        let order = order.map(Faulty::origin);
        let preferences = json!({"only": order, "order": order}).to_string();
        let provider = format!("{{\"provider\":{preferences},");
        chat(streamed).replacen('{', &provider, 1)
    };
    // More often than what opens a breaker.
    for number in 0..=gateway::breaker::IN_A_ROW {
        let refused = gateway
            .post(in_order([&refusing, &good], number % 2 == 0))
            .await;
        assert_eq!((refused.status, refused.text().as_str()), (403, FLAGGED));
        let outcomes = gateway.outcomes(&refused.call()).await;
        assert_eq!(outcomes, [("refused".into(), "unknown".into())]);
    }
    assert!(good.requests().is_empty(), "nobody else was asked");
    let status = gateway.status().await;
    assert_eq!(status["endpoints"][0]["breaker"], "closed", "{status:#}");

    for streamed in [false, true] {
        let answer = gateway.post(in_order([&keyless, &good], streamed)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let outcomes = gateway.outcomes(&answer.call()).await;
        let rejected = ("client_error".to_owned(), "gateway".to_owned());
        assert_eq!(outcomes, [rejected, ("ok".to_owned(), "-".to_owned())]);
    }
}

/// What passes looks as if it did: clients go by the status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_means_something_else_is_told_as_what_it_means() {
    const DEGRADED: &str = r#"{"error":{"message":"Function id 'x': DEGRADED function cannot be invoked","type":"bad_request"}}"#;
    const SLOW_DOWN: &str = r#"{"error":{"message":"Rate limit exceeded","type":"forbidden"}}"#;
    for (status, body, told) in [(400, DEGRADED, 503), (403, SLOW_DOWN, 429)] {
        let upstream = upstream(Fault::Says { status, body }).await;
        let gateway = in_front_of(&[&upstream]).await;
        let answer = gateway.post(chat(false)).await;
        assert_eq!((answer.status, answer.text().as_str()), (told, body));
    }
}

/// Ten seeds of everything at once: whatever happens, every call gets an answer or an error, and
/// with a good endpoint beside the bad one, a whole answer. (One without end is ended and not asked for again.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn luck_of_every_kind_is_survived() {
    let good = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    for seed in 0..10 {
        let script = Script::Seeded {
            seed,
            share_ppm: 1_000_000,
        };
        let bad = Faulty::api(MODEL, script).await;
        let mut config = config();
        config.endpoints = vec![endpoint(&bad), endpoint(&good)];
        config.limits.response_max_bytes = 1 << 20;
        let gateway = crate::support::Running::start(config, None).await;
        for number in 0..6 {
            let body = ask(Surface::Chat, number % 2 == 0);
            let path = Surface::Chat.path();
            let answer = gateway.post_to(path, &body, &[]).await;
            if answer.status == 502 {
                assert!(
                    answer.text().contains("answer_too_large"),
                    "{}",
                    answer.text()
                );
                continue;
            }
            assert_eq!(answer.status, 200, "seed {seed}: {}", answer.text());
            let whole = answer.text().contains("t7 ");
            let said = answer.text().contains("\"error\":{");
            assert!(whole != said, "seed {seed}: {}", answer.text());
        }
    }
}
