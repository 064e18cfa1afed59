//! Reported outcomes: who may say what of which call, once, and what the history makes of it.

use crate::support::faulty::{Fault, Faulty, Script};
use crate::support::{Answer, MODEL, Running, chat, config, endpoint, in_front_of};
use serde_json::{Value, json};

async fn report(gateway: &Running, call: &str, body: &str) -> Answer {
    let path = format!("/longrun/v1/calls/{call}/outcome");
    gateway.post_to(&path, body, &[]).await
}

/// A call whose observation is on record.
async fn answered(gateway: &Running) -> String {
    let call = gateway.post(chat(false)).await.call();
    gateway.call(&call).await;
    call
}

fn judgements(history: &Value) -> &Value {
    &history["endpoints"][0]["judgements"]
}

#[tokio::test]
async fn a_report_is_recorded_once_and_survives_a_restart() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    let (first, second) = (answered(&gateway).await, answered(&gateway).await);

    let wrong = r#"{"correct":false,"note":"named the wrong river"}"#;
    let told = report(&gateway, &first, wrong).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let told = told.json();
    assert_eq!(told["correct"], false);
    let call = gateway.call(&first).await;
    assert_eq!(told["observation"], call["attempts"][0]["record"]);
    assert_eq!(call["judgements"][0]["record"], told["record"]);
    assert_eq!(call["judgements"][0]["note"], "named the wrong river");
    let signed = call["judgements"][0]["envelope"].to_string();
    assert!(!signed.contains("river"), "the note stays here");

    let again = report(&gateway, &first, r#"{"correct":false}"#).await;
    assert_eq!(
        (again.status, &again.json()["record"]),
        (200, &told["record"])
    );
    let otherwise = report(&gateway, &first, r#"{"correct":true}"#).await;
    assert_eq!(otherwise.status, 409);
    assert_eq!(
        otherwise.json()["error"]["code"],
        "outcome_already_reported"
    );
    // Of several at once, one is recorded.
    let said = r#"{"correct":true}"#;
    let (one, two, three) = tokio::join!(
        report(&gateway, &second, said),
        report(&gateway, &second, said),
        report(&gateway, &second, said)
    );
    assert_eq!(one.json(), two.json());
    assert_eq!(two.json(), three.json());

    let done = |history: &Value| judgements(history)["reported"] == 2;
    let before = gateway.history_until(done).await;
    let kept = judgements(&before);
    assert_eq!(
        (&kept["reported_wrong"], &kept["orphans"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(before["endpoints"][0]["failures"], 0);

    let directory = gateway.stop().await;
    let mut config = config();
    config.endpoints = vec![endpoint(&upstream)];
    let gateway = Running::start_in(directory, config, None).await;
    let after = gateway.history_until(done).await;
    assert_eq!(before["digest"], after["digest"]);
    let again = report(&gateway, &first, r#"{"correct":false}"#).await;
    assert_eq!(again.json()["record"], told["record"]);
    gateway.stop().await;
}

#[tokio::test]
async fn what_cannot_be_reported_says_why() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    let call = answered(&gateway).await;
    for body in [
        "",
        "correct",
        "{}",
        r#"{"correct":"yes"}"#,
        r#"{"correct":true,"verdict":1}"#,
    ] {
        let refused = report(&gateway, &call, body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text().contains("correct"), "{}", refused.text());
    }
    let long = json!({"correct": true, "note": "x".repeat(4097)}).to_string();
    let refused = report(&gateway, &call, &long).await;
    assert_eq!(
        (refused.status, refused.text().contains("4097 bytes")),
        (400, true)
    );
    for nobody in ["x", &"0".repeat(32), &"ab".repeat(16)] {
        let refused = report(&gateway, nobody, r#"{"correct":true}"#).await;
        assert_eq!(refused.status, 404, "{}", refused.text());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_nobody_answered_cannot_be_right_or_wrong() {
    // The second comes with a body, which is an error's and no answer.
    for fault in [Fault::Slam, Fault::Status(500)] {
        let upstream = Faulty::api(MODEL, Script::Always(fault)).await;
        let gateway = in_front_of(&[&upstream]).await;
        let call = gateway.post(chat(false)).await.call();
        gateway.call(&call).await;
        let refused = report(&gateway, &call, r#"{"correct":false}"#).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert_eq!(refused.json()["error"]["code"], "call_without_answer");
        gateway.stop().await;
    }
}
