//! Whatever can be said in a statement reads back as it was said.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use record::bucket::{duration_us, start_ms, tokens};
use record::control::LogOrigin;
use record::forecast::{
    Dimension, Forecast, ForecastBasis, Interval, Objective, Window, WindowLength,
};
use record::judgement::{Answer, CheckedBy, Judgement, Source};
use record::observation::{
    Conditions, LoadClass, Observation, PromptClass, Purpose, ReceiptCheck, Verdict, WeekTime,
};
use record::outcome::{Fault, Outcome};
use record::receipt::{Caller, Executed, Finish, Receipt, ResponseFormat};
use record::summary::{BundleCounts, StreamNumbers, Summary};
use record::void::{OutcomeCounts, Range, Reason, Void, VoidStream};
use record::{
    CallId, Digest, Endpoint, Exchange, HttpStatus, KeyId, ModelName, Nonce, NumberedKind, Place,
    Provider, PublicKey, RecordId, Seed, Seq, Share, Signer, SignerId, Statement, Temperature,
    Usage, observation, receipt,
};

const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A key that nobody has: only its form matters here.
fn key() -> PublicKey {
    let prefix = hex::decode("3059301306072a8648ce3d020106082a8648ce3d03010703420004");
    let spki = [prefix.expect("hex"), vec![5; 64]].concat();
    PublicKey::from_spki(&spki).expect("the form of a key")
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn model() -> impl Strategy<Value = ModelName> {
    "\\PC{1,40}".prop_filter_map("a text", |text| ModelName::new(text).ok())
}

fn seq() -> impl Strategy<Value = Seq> {
    (1..=INTEGER_MAX).prop_map(|number| Seq::new(number).expect("in range"))
}

fn status(range: std::ops::Range<u16>) -> impl Strategy<Value = HttpStatus> {
    range.prop_map(|status| HttpStatus::new(status).expect("in range"))
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<(u64, u64)>().prop_map(|(prompt, completion)| Usage {
        prompt_tokens: tokens(prompt),
        completion_tokens: tokens(completion),
    })
}

fn executed() -> impl Strategy<Value = Executed> {
    let numbers = (
        option::of(0u32..=100_000_000),
        option::of(0u32..=1_000_000),
        option::of(any::<u64>()),
        option::of(0..=INTEGER_MAX),
    );
    let counts = (
        1u32..=65_535,
        0u32..=65_535,
        option::of(0u32..=65_535),
        0u32..=65_535,
    );
    (numbers, counts, select(ResponseFormat::ALL)).prop_map(|(numbers, counts, response_format)| {
        let (temperature, top_p, seed, max_tokens) = numbers;
        Executed {
            temperature_ppm: temperature.map(|ppm| Temperature::new(ppm).expect("in range")),
            top_p_ppm: top_p.map(|ppm| Share::new(ppm).expect("in range")),
            seed: seed.map(Seed),
            max_tokens,
            n: counts.0,
            stop: counts.1,
            logprobs: counts.2,
            tools: counts.3,
            response_format,
        }
    })
}

fn caller() -> impl Strategy<Value = Caller> {
    (any::<[u8; 16]>(), any::<[u8; 32]>(), seq()).prop_map(|(nonce, observer, seq)| Caller {
        nonce: Nonce::from_bytes(nonce),
        observer: KeyId::from_bytes(observer),
        seq,
    })
}

/// Ordered times: what comes first is at most what comes last.
fn times() -> impl Strategy<Value = (u64, u64, u64)> {
    (0..INTEGER_MAX, any::<u64>(), any::<u64>())
        .prop_map(|(start, a, b)| (start, a.min(b), a.max(b)))
}

fn receipt_statement() -> impl Strategy<Value = Statement> {
    let who = (
        any::<[u8; 32]>(),
        model(),
        seq(),
        digest(),
        option::of(caller()),
    );
    let what = (
        executed(),
        digest(),
        option::of(digest()),
        usage(),
        select(Finish::ALL),
    );
    let how = (
        select(Outcome::ALL),
        status(200..300),
        any::<bool>(),
        times(),
        option::of(0..=INTEGER_MAX),
    );
    (who, what, how, digest(), digest()).prop_map(|(who, what, how, request, response)| {
        let (id, model, seq, manifest, caller) = who;
        let (executed, exact, tokens, usage, finish) = what;
        let (outcome, http_status, streamed, (start, first, last), price) = how;
        let id = SignerId::from_bytes(id);
        let provider = Provider::Joined(id);
        let body = Receipt {
            stream: Place {
                endpoint: Endpoint { provider, model },
                seq,
            },
            manifest: RecordId::new(manifest),
            caller,
            executed,
            commitments: receipt::Commitments { tokens, exact },
            usage: Some(usage),
            finish: Some(finish),
            outcome: if outcome == Outcome::GatewayError {
                Outcome::Timeout
            } else {
                outcome
            },
            http_status,
            streamed,
            timing: receipt::Timing {
                start_ms: start_ms(start),
                queue_us: duration_us(first),
                ttft_us: Some(duration_us(first)),
                total_us: duration_us(last),
            },
            price_micro_credits: price,
        };
        let signer = Signer {
            id: Some(id),
            key: key(),
        };
        let response = Some(response);
        Statement::about(signer, Exchange { request, response }, body).expect("valid")
    })
}

fn faulted() -> impl Strategy<Value = (Outcome, Option<Fault>)> {
    let pairs: Vec<_> = Outcome::ALL
        .iter()
        .filter(|outcome| **outcome != Outcome::SchemaViolation)
        .flat_map(|outcome| {
            let faults = outcome
                .faults()
                .iter()
                .map(|fault| (*outcome, Some(*fault)));
            let none = outcome.faults().is_empty().then_some((*outcome, None));
            faults.chain(none).collect::<Vec<_>>()
        })
        .collect();
    select(pairs)
}

fn receipt_named() -> impl Strategy<Value = (Provider, ReceiptCheck, Option<RecordId>)> {
    let id = || any::<[u8; 32]>().prop_map(RecordId::from_bytes);
    let joined = || any::<[u8; 32]>().prop_map(|id| Provider::Joined(SignerId::from_bytes(id)));
    let origin =
        "https://[a-z]{1,20}(:[1-9][0-9]{0,2})?".prop_filter_map("no own port", |o| o.parse().ok());
    prop_oneof![
        (joined(), id()).prop_map(|(p, id)| (p, ReceiptCheck::Verified, Some(id))),
        (joined(), option::of(id())).prop_map(|(p, id)| (p, ReceiptCheck::Invalid, id)),
        joined().prop_map(|p| (p, ReceiptCheck::Missing, None)),
        origin.prop_map(|p| (p, ReceiptCheck::NotJoined, None)),
    ]
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let region = "[a-z][a-z0-9_.-]{0,20}";
    let numbers = any::<(u64, u64, u64, bool)>();
    (numbers, region).prop_map(|((tokens, open, now, checks), region)| Conditions {
        prompt: PromptClass::of(tokens),
        load: LoadClass::of(open),
        region: region.parse().expect("a word"),
        week: WeekTime::of(now),
        purpose: checks.then_some(Purpose::Check),
    })
}

fn observation_statement() -> impl Strategy<Value = Statement> {
    let who = (any::<[u8; 32]>(), receipt_named(), model(), seq());
    let call = (any::<[u8; 16]>(), any::<[u8; 16]>(), 1u32..=1000);
    let how = (
        faulted(),
        status(100..600),
        times(),
        option::of(usage()),
        conditions(),
    );
    let rest = (digest(), option::of(digest()), digest(), digest(), digest());
    (who, call, how, rest).prop_map(|(who, call, how, rest)| {
        let (id, (provider, receipt_check, receipt), model, seq) = who;
        let ((outcome, fault), http_status, (start, first, last), usage, conditions) = how;
        let (client, tls_key, exact, request, response) = rest;
        let body = Observation {
            stream: Place {
                endpoint: Endpoint { provider, model },
                seq,
            },
            call: CallId::from_bytes(call.0),
            attempt: call.2,
            nonce: Nonce::from_bytes(call.1),
            receipt,
            receipt_check,
            outcome,
            fault,
            http_status: Some(http_status),
            streamed: true,
            timing: observation::Timing {
                start_ms: start_ms(start),
                ttft_us: Some(duration_us(first)),
                inter_token: Some(observation::InterToken {
                    p50_us: duration_us(first),
                    p90_us: duration_us(first),
                    p99_us: duration_us(last),
                }),
                total_us: duration_us(last),
            },
            usage,
            schema: Verdict::Passed,
            tools: Verdict::NotChecked,
            conditions,
            client,
            tls_key,
            commitments: observation::Commitments { exact },
        };
        let signer = Signer {
            id: Some(SignerId::from_bytes(id)),
            key: key(),
        };
        let response = Some(response);
        Statement::about(signer, Exchange { request, response }, body).expect("valid")
    })
}

fn void_statement() -> impl Strategy<Value = Statement> {
    let steps = vec((2u64..1_000_000, 0u64..1_000_000), 1..20);
    let counted = vec(select(Outcome::ALL), 0..5);
    (any::<[u8; 32]>(), model(), steps, counted).prop_map(|(id, model, steps, counted)| {
        let mut next = 0;
        let mut ranges = Vec::new();
        for (gap, more) in steps {
            let first = next + gap;
            next = first + more;
            let seq = |number| Seq::new(number).expect("small");
            ranges.push(Range {
                first: seq(first),
                last: seq(next),
            });
        }
        let numbers: u64 = ranges.iter().map(Range::count).sum();
        let mut outcomes = OutcomeCounts::unknown();
        for outcome in counted
            .into_iter()
            .take(usize::try_from(numbers).expect("small"))
        {
            outcomes.add(outcome);
        }
        let id = SignerId::from_bytes(id);
        let body = Void {
            stream: VoidStream {
                endpoint: Endpoint {
                    provider: Provider::Joined(id),
                    model,
                },
                kind: NumberedKind::Receipt,
            },
            at_ms: start_ms(next),
            ranges,
            reason: Reason::SpoolFull,
            outcomes,
        };
        Statement::new(
            Signer {
                id: Some(id),
                key: key(),
            },
            body,
        )
        .expect("valid")
    })
}

fn forecast_statement() -> impl Strategy<Value = Statement> {
    let who = (any::<[u8; 32]>(), receipt_named(), model());
    let when = (0..INTEGER_MAX, any::<u64>(), select(WindowLength::ALL));
    let shares = (
        0u32..=1_000_000,
        0u32..=1_000_000,
        0u32..=1_000_000,
        0u32..=1_000_000,
    );
    let what = (select(Dimension::ALL), any::<u64>(), any::<bool>());
    let basis = (any::<bool>(), 0..=INTEGER_MAX, option::of(digest()));
    (who, when, shares, what, basis).prop_map(|(who, when, shares, what, basis)| {
        let (id, (provider, ..), model) = who;
        let (made, start, length) = when;
        let (dimension, within, interval) = what;
        let share = |ppm| Share::new(ppm).expect("in range");
        let body = Forecast {
            at_ms: start_ms(made.min(start)),
            endpoint: Endpoint { provider, model },
            objective: Objective {
                dimension,
                target_ppm: share(shares.0),
                within_us: (dimension != Dimension::Availability).then(|| duration_us(within)),
            },
            window: Window {
                start_ms: start_ms(start.min(INTEGER_MAX)),
                length,
            },
            breach_ppm: share(shares.1),
            interval: interval.then(|| Interval {
                miss_ppm: share(100_000),
                lower_ppm: share(shares.2.min(shares.3)),
                upper_ppm: share(shares.2.max(shares.3)),
            }),
            forecaster: "longrun.1".parse().expect("a word"),
            basis: ForecastBasis {
                log: basis
                    .0
                    .then(|| LogOrigin::new("log.example/a").expect("an origin")),
                size: basis.1,
                root: basis.2.filter(|_| basis.0),
            },
        };
        let signer = Signer {
            id: Some(SignerId::from_bytes(id)),
            key: key(),
        };
        Statement::new(signer, body).expect("valid")
    })
}

fn judgement_statement() -> impl Strategy<Value = Statement> {
    let who = (any::<[u8; 32]>(), receipt_named(), model(), conditions());
    let answers = vec(digest(), 1..=8);
    let what = (0..INTEGER_MAX, 1u64..1 << 40, any::<(bool, bool, bool)>());
    (who, answers, what, (digest(), digest())).prop_map(|(who, answers, what, check)| {
        let (id, (provider, ..), model, conditions) = who;
        let (at, first, (correct, one, reported)) = what;
        let count = if one { 1 } else { answers.len() };
        let answers: Vec<Answer> = (first..)
            .zip(answers)
            .take(count)
            .map(|(seq, record)| Answer {
                record: RecordId::new(record),
                seq: Seq::new(seq).expect("in range"),
            })
            .collect();
        let alone = answers.len() == 1;
        let checked = !(alone && reported);
        let body = Judgement {
            at_ms: start_ms(at),
            endpoint: Endpoint { provider, model },
            observer: KeyId::from_bytes(id),
            conditions,
            source: if checked {
                Source::Check
            } else {
                Source::Reported
            },
            correct: alone.then_some(correct),
            groups: (!alone).then(|| {
                let rest = u32::try_from(answers.len() - 1).expect("small");
                if correct {
                    vec![rest + 1]
                } else {
                    vec![rest, 1]
                }
            }),
            answers,
            check: checked.then_some(CheckedBy {
                case: check.0,
                assertions: check.1,
            }),
        };
        let signer = Signer {
            id: Some(SignerId::from_bytes(id)),
            key: key(),
        };
        Statement::new(signer, body).expect("valid")
    })
}

fn summary_statement() -> impl Strategy<Value = Statement> {
    let who = (
        any::<[u8; 32]>(),
        any::<[u8; 32]>(),
        receipt_named(),
        model(),
    );
    let bundles = vec((0u32..=256, 0u32..=256, any::<bool>()), 0..=128);
    let streams = vec(
        (any::<[u8; 32]>(), [0u64..1 << 40, 0..9, 0..9, 0..9]),
        0..=64,
    );
    let place = (1u64..1 << 40, any::<[u8; 32]>(), 0..INTEGER_MAX);
    (who, bundles, streams, place).prop_map(|(who, counts, mut streams, (seq, before, at))| {
        let (id, observer, (provider, ..), model) = who;
        // Whatever they are cut down to, they are not the same one.
        let observer = match provider.signer() {
            Some(it) if *it.digest().as_bytes() == observer => [!observer[0]; 32],
            _ => observer,
        };
        let from = if seq == 1 { 0 } else { seq * 256 };
        let to = from + 256 * u64::try_from(counts.len().max(1)).expect("few");
        let bundles = (from / 256..)
            .zip(counts)
            .filter(|(_, (calls, ..))| *calls > 0);
        let bundles = bundles.map(|(bundle, (calls, some, good))| BundleCounts {
            bundle,
            calls,
            good: if good { some.min(calls) } else { 0 },
            bad: if good { 0 } else { some.min(calls) },
            rate_limited: calls - some.min(calls),
        });
        streams.sort_unstable();
        streams.dedup_by_key(|(key, _)| *key);
        let streams = streams
            .into_iter()
            .map(|(key, [records, voided, unused, missing])| StreamNumbers {
                key: KeyId::from_bytes(key),
                highest: records + voided + unused + missing,
                records,
                voided,
                unused,
                missing,
            });
        let body = Summary {
            at_ms: start_ms(at),
            log: LogOrigin::new("log.example/a").expect("an origin"),
            endpoint: Endpoint { provider, model },
            observer: SignerId::from_bytes(observer),
            seq: Seq::new(seq).expect("in range"),
            previous: (seq > 1).then(|| RecordId::from_bytes(before)),
            from,
            to,
            bundles: bundles.collect(),
            streams: streams.collect(),
        };
        let signer = Signer {
            id: Some(SignerId::from_bytes(id)),
            key: key(),
        };
        Statement::new(signer, body).expect("valid")
    })
}

fn reads_back(statement: &Statement) -> Result<(), TestCaseError> {
    let payload = statement.to_payload().expect("valid");
    let read = Statement::from_payload(&payload);
    prop_assert_eq!(read.as_ref(), Ok(statement));
    let spaced = serde_json::from_slice::<serde_json::Value>(&payload).expect("JSON");
    let spaced = serde_json::to_vec_pretty(&spaced).expect("JSON");
    let read = Statement::from_payload(&spaced);
    prop_assert_eq!(read.as_ref(), Ok(statement));
    Ok(())
}

/// Numbers as large as they get, every bundle and stream that there is room for.
#[test]
fn the_largest_summary_is_a_statement() {
    let from = INTEGER_MAX / 65_536 * 65_536 - 65_536;
    let full = |bundle| BundleCounts {
        bundle,
        calls: 256,
        good: 100,
        bad: 100,
        rate_limited: 56,
    };
    let numbers = |key: u8| StreamNumbers {
        key: KeyId::from_bytes([key; 32]),
        highest: INTEGER_MAX,
        records: INTEGER_MAX,
        voided: INTEGER_MAX,
        unused: INTEGER_MAX,
        missing: INTEGER_MAX,
    };
    let body = Summary {
        at_ms: start_ms(INTEGER_MAX),
        log: LogOrigin::new("o".repeat(255)).expect("an origin"),
        endpoint: Endpoint {
            provider: Provider::Joined(SignerId::from_bytes([1; 32])),
            model: "\"".repeat(256).parse().expect("a name"),
        },
        observer: SignerId::from_bytes([2; 32]),
        seq: Seq::new(INTEGER_MAX).expect("in range"),
        previous: Some(RecordId::from_bytes([3; 32])),
        from,
        to: from + 65_536,
        bundles: (from / 256..from / 256 + 256).map(full).collect(),
        streams: (0..64).map(numbers).collect(),
    };
    let signer = Signer {
        id: Some(SignerId::from_bytes([4; 32])),
        key: key(),
    };
    let statement = Statement::new(signer, body).expect("valid");
    let payload = statement.to_payload().expect("it fits");
    assert_eq!(Statement::from_payload(&payload), Ok(statement));
}

proptest! {
    #[test]
    fn receipts(statement in receipt_statement()) {
        reads_back(&statement)?;
    }

    #[test]
    fn observations(statement in observation_statement()) {
        reads_back(&statement)?;
    }

    #[test]
    fn forecasts(statement in forecast_statement()) {
        reads_back(&statement)?;
    }

    #[test]
    fn judgements(statement in judgement_statement()) {
        reads_back(&statement)?;
    }

    #[test]
    fn summaries(statement in summary_statement()) {
        reads_back(&statement)?;
    }

    #[test]
    fn voids(statement in void_statement()) {
        reads_back(&statement)?;
    }
}
