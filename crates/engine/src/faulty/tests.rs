use std::time::Instant;

use super::*;
use crate::engine::{AnswerEvent, Basis, Delta, Executed, Finish};
use crate::openai::{FinishReason, Message, Usage};
use crate::sampling::Sampling;

/// Says "a" five times and ends.
struct Steady(Description);

fn steady() -> Arc<Steady> {
    Arc::new(Steady(Description {
        model: "steady".into(),
        weights: None,
        weights_name: None,
        precision: None,
        precision_basis: Basis::Declared,
        kv_precision: None,
        tokenizer: None,
        chat_template: None,
        engine: "test".into(),
        engine_version: "1".into(),
        sampler: None,
        batch_size: None,
        context_length: None,
    }))
}

impl Engine for Steady {
    fn describe(&self) -> &Description {
        &self.0
    }

    fn chat(&self, _: ChatRequest, seed: u64) -> BoxFuture<'_, Result<Answer, EngineError>> {
        let executed = Executed {
            sampling: Sampling {
                seed,
                ..Sampling::GREEDY
            },
            max_tokens: 5,
            stops: Vec::new(),
            prompt_ids: vec![1],
        };
        let delta = AnswerEvent::Delta(Delta {
            text: "a".into(),
            ..Delta::default()
        });
        let finish = AnswerEvent::Finish(Finish {
            reason: FinishReason::Stop,
            usage: Usage::new(1, 5),
            token_ids: vec![0; 5],
        });
        let mut events: Vec<_> = vec![Ok(delta); 5];
        events.push(Ok(finish));
        let answer = Answer::new(executed, Box::pin(stream::iter(events)));
        std::future::ready(Ok(answer)).boxed()
    }
}

fn request() -> ChatRequest {
    ChatRequest {
        model: "steady".into(),
        messages: vec![Message::text("user", "hi")],
        ..ChatRequest::default()
    }
}

#[test]
fn shares_are_what_they_say_and_runs_repeat() {
    let faults = Faults {
        seed: 7,
        delay_min_ms: 10,
        delay_max_ms: 20,
        failure_ppm: 200_000,
        cut_ppm: 100_000,
        cut_after_max: 3,
    };
    let fates: Vec<Fate> = (0..20_000).map(|turn| faults.fate(turn)).collect();
    let failed = fates
        .iter()
        .filter(|fate| fate.fault == Some(Fault::Fail))
        .count();
    let cuts: Vec<u32> = fates
        .iter()
        .filter_map(|fate| match fate.fault {
            Some(Fault::CutAfter(count)) => Some(count),
            _ => None,
        })
        .collect();
    assert!((3_700..4_300).contains(&failed), "{failed}");
    assert!((1_750..2_250).contains(&cuts.len()), "{}", cuts.len());
    assert!(cuts.iter().all(|count| (1..=3).contains(count)) && cuts.contains(&3));
    assert!(fates.iter().all(|fate| (10..=20).contains(&fate.delay_ms)));
    assert!(fates.iter().any(|fate| fate.delay_ms == 10));
    assert!(fates.iter().any(|fate| fate.delay_ms == 20));
    assert!((0..100).all(|turn| faults.fate(turn) == fates[turn as usize]));
    let other = Faults { seed: 8, ..faults };
    assert!((0..100).any(|turn| other.fate(turn) != fates[turn as usize]));
    assert_eq!(
        Faults::NONE.fate(5),
        Fate {
            delay_ms: 0,
            fault: None
        }
    );
}

#[tokio::test]
async fn answers_are_delayed_refused_and_cut() {
    let all = ONE_PPM;
    let slow = Faulty::new(
        steady(),
        Faults {
            delay_min_ms: 30,
            delay_max_ms: 30,
            ..Faults::NONE
        },
    );
    let started = Instant::now();
    let answer = slow.chat(request(), 3).await.expect("an answer");
    assert!(started.elapsed() >= Duration::from_millis(30));
    assert_eq!(answer.executed.sampling.seed, 3);
    assert_eq!(
        answer
            .filter(|event| std::future::ready(event.is_ok()))
            .count()
            .await,
        6
    );
    assert_eq!(slow.describe().model, "steady");

    let failing = Faulty::new(
        steady(),
        Faults {
            failure_ppm: all,
            ..Faults::NONE
        },
    );
    let error = failing.chat(request(), 3).await.expect_err("refused");
    assert!(matches!(error, EngineError::Broken { .. }));

    for (most, seed) in [(1, 0), (4, 1), (100, 2), (100, 3), (100, 4)] {
        let cutting = Faulty::new(
            steady(),
            Faults {
                seed,
                cut_ppm: all,
                cut_after_max: most,
                ..Faults::NONE
            },
        );
        let events: Vec<_> = cutting
            .chat(request(), 3)
            .await
            .expect("starts")
            .collect()
            .await;
        let (last, before) = events.split_last().expect("at least the error");
        assert!(last.is_err());
        assert!(!before.is_empty() && before.len() <= (most as usize).min(5));
        assert!(
            before
                .iter()
                .all(|event| matches!(event, Ok(AnswerEvent::Delta(_))))
        );
    }
}
