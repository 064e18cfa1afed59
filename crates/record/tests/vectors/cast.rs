//! The people of the vectors: fixed keys, fixed times, and the statements they make.

use record::bucket::{duration_us, start_ms, tokens};
use record::content::{Exact, Part, Secret, sse_bytes, token_bytes};
use record::control::{
    Action, Control, Create, Delegate, HomeLog, LogOrigin, Owner, Revoke, RevokeReason, Rotate,
};
use record::forecast::{
    Dimension, Forecast, ForecastBasis, Interval, Objective, Window, WindowLength,
};
use record::judgement::{Answer, CheckedBy, Judgement, Source};
use record::manifest::{Artifact, Basis, Engine, Manifest, Stated};
use record::observation::{
    Conditions, InterToken, LoadClass, Observation, PromptClass, Purpose, ReceiptCheck, Verdict,
    WeekTime,
};
use record::offer::{Offer, OfferedModel, OfferedPrice, TokenPrice};
use record::outcome::{Fault, Outcome};
use record::receipt::{Caller, Executed, Finish, Receipt, ResponseFormat};
use record::summary::{BundleCounts, StreamNumbers, Summary};
use record::void::{OutcomeCounts, Range, Reason, Void, VoidStream};
use record::{
    CallId, Digest, Endpoint, Exchange, HttpStatus, KeyId, Nonce, NumberedKind, Place, Provider,
    PublicKey, RecordId, Result, Seed, Seq, Share, Signer, SignerId, Statement, Temperature, Usage,
    observation, receipt, sha256,
};

use crate::toy_log::ORIGIN;

/// Friday, 2025-11-21, 09:13:20 UTC.
pub const AT_MS: u64 = 1_763_716_400_000;

pub const MODEL: &str = "longrun-demo";

pub const REQUEST: &[u8] = br#"{"model":"longrun-demo","messages":[{"role":"user","content":"17 + 25 = ?"}],"temperature":0}"#;

pub const RESPONSE: &[u8] = br#"{"id":"chatcmpl-1","object":"chat.completion","created":1763716401,"model":"longrun-demo","choices":[{"index":0,"message":{"role":"assistant","content":"42"},"finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":2,"total_tokens":23}}"#;

pub const LONGRUN_MEMBER: &str = r#","longrun":{"call":"0f0e0d0c0b0a09080706050403020100","endpoint":"provider/longrun-demo","evidence":"recorded"}"#;

/// The events of a streamed answer.
pub const CHUNKS: [&str; 4] = [
    r#"{"id":"chatcmpl-2","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    r#"{"id":"chatcmpl-2","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"4"},"finish_reason":null}]}"#,
    r#"{"id":"chatcmpl-2","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"2"},"finish_reason":null}]}"#,
    r#"{"id":"chatcmpl-2","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
];

/// Token ids of the prompt and of the answer.
pub const PROMPT_IDS: [u32; 3] = [1, 417, 65_536];
pub const ANSWER_IDS: [u32; 2] = [42, 2];

pub fn secret() -> Secret {
    let mut bytes = [0; 32];
    for (at, byte) in (0u8..).zip(&mut bytes) {
        *byte = at;
    }
    Secret::from_bytes(bytes)
}

pub fn stream_secret() -> Secret {
    Secret::from_bytes([0xa5; 32])
}

pub fn exact() -> Exact {
    Exact {
        start_ms: AT_MS + 1234,
        queue_us: Some(310),
        ttft_us: Some(41_503),
        total_us: 57_212,
        prompt_tokens: Some(21),
        completion_tokens: Some(2),
        price_micro_credits: Some(23),
    }
}

pub fn streamed_response() -> Vec<u8> {
    sse_bytes(CHUNKS.iter().map(|chunk| chunk.as_bytes()))
}

pub fn tokens_opened() -> Vec<u8> {
    token_bytes(&[&PROMPT_IDS, &ANSWER_IDS]).expect("short")
}

pub fn signer(id: SignerId, key: &PublicKey) -> Signer {
    Signer {
        id: Some(id),
        key: *key,
    }
}

pub fn create(key: &PublicKey, role: &str, recovery: Option<PublicKey>) -> Result<Statement> {
    let create = Create {
        name: format!("Example {role}").parse()?,
        roles: vec![role.parse()?],
        home_log: LogOrigin::new(ORIGIN)?,
        recovery,
    };
    let first = Signer {
        id: None,
        key: *key,
    };
    Statement::new(first, Control::create(start_ms(AT_MS), create))
}

pub fn control(by: Signer, seq: u64, previous: RecordId, action: Action) -> Result<Statement> {
    Statement::new(
        by,
        Control {
            seq: Seq::new(seq)?,
            previous: Some(previous),
            at_ms: start_ms(AT_MS + seq * 10_000),
            action,
        },
    )
}

pub fn delegate(key: &PublicKey) -> Result<Action> {
    Ok(Action::Delegate(Delegate {
        key: *key,
        name: Some("instance 1".parse()?),
    }))
}

pub fn revoke(key_id: KeyId) -> Action {
    Action::Revoke(Revoke {
        key_id,
        reason: RevokeReason::Retired,
    })
}

pub fn rotate(key: &PublicKey) -> Action {
    Action::Rotate(Rotate {
        key: *key,
        recovery: None,
    })
}

pub fn home_log() -> Result<Action> {
    Ok(Action::HomeLog(HomeLog {
        home_log: LogOrigin::new("log2.example/longrun-vectors")?,
    }))
}

pub fn owner(key: &PublicKey) -> Result<Action> {
    Ok(Action::Owner(Owner {
        name: "Example buyer".parse()?,
        key: *key,
        recovery: None,
    }))
}

pub fn manifest(by: Signer) -> Result<Statement> {
    let artifact = |name: &str| -> Result<Artifact> {
        let bytes = format!("the bytes of {name}");
        Ok(Artifact::computed(
            Some(name.parse()?),
            sha256(bytes.as_bytes()),
            bytes.len() as u64,
        ))
    };
    Statement::new(
        by,
        Manifest {
            at_ms: start_ms(AT_MS),
            model: MODEL.parse()?,
            weights: artifact("longrun-demo-f16.gguf")?,
            tokenizer: artifact("tokenizer")?,
            chat_template: artifact("chat template")?,
            precision: stated("f16", Basis::Computed)?,
            kv_precision: stated("f32", Basis::Computed)?,
            engine: Engine {
                name: "longrun".parse()?,
                version: "0.1.0".parse()?,
                basis: Basis::Computed,
            },
            sampler: "Gumbel-max over a counter-based generator; ties to the lowest id".parse()?,
            batch_size: Some(8),
            context_tokens: Some(2048),
        },
    )
}

/// What a node in front of an outside engine can say.
pub fn manifest_declared(by: Signer) -> Result<Statement> {
    Statement::new(
        by,
        Manifest {
            at_ms: start_ms(AT_MS),
            model: "outside-70b".parse()?,
            weights: Artifact::declared(Some("outside-70b".parse()?), None),
            tokenizer: Artifact::declared(None, None),
            chat_template: Artifact::declared(None, None),
            precision: stated("unknown", Basis::Declared)?,
            kv_precision: stated("unknown", Basis::Declared)?,
            engine: Engine {
                name: "unknown".parse()?,
                version: "unknown".parse()?,
                basis: Basis::Declared,
            },
            sampler: "unknown".parse()?,
            batch_size: None,
            context_tokens: None,
        },
    )
}

pub fn offer(by: Signer, manifest: RecordId) -> Result<Statement> {
    Statement::new(by, offer_body(manifest)?)
}

/// One of a node that is reached by its key, and at a web origin besides.
pub fn offer_by_key(by: Signer, manifest: RecordId) -> Result<Statement> {
    let mut offer = offer_body(manifest)?;
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let direct = "direct=203.0.113.7:7413&direct=[2001:db8::7]:7413";
    offer.addresses = vec![
        format!("iroh://{key}?relay=https://relay.example:8443&{direct}").parse()?,
        format!("iroh://{key}?direct=192.0.2.1:65535").parse()?,
        "https://gpu.example".parse()?,
    ];
    Statement::new(by, offer)
}

/// The next one of the same key, which takes it back.
pub fn offer_withdrawn(by: Signer, manifest: RecordId) -> Result<Statement> {
    let mut offer = offer_body(manifest)?;
    offer.seq = Seq::new(AT_MS + 60_000)?;
    offer.withdrawn = true;
    offer.addresses.clear();
    offer.models.clear();
    offer.region = None;
    offer.in_flight_max = None;
    Statement::new(by, offer)
}

fn offer_body(manifest: RecordId) -> Result<Offer> {
    Ok(Offer {
        seq: Seq::new(AT_MS)?,
        from_ms: start_ms(AT_MS),
        until_ms: start_ms(AT_MS + 3_600_000),
        withdrawn: false,
        addresses: vec![
            "https://gpu.example:8443".parse()?,
            "http://[2001:db8::7]:7412".parse()?,
        ],
        models: vec![OfferedModel {
            model: MODEL.parse()?,
            manifest,
            price: OfferedPrice {
                prompt: TokenPrice::new(0)?,
                completion: TokenPrice::new(150_000)?,
            },
        }],
        region: Some("eu-west".parse()?),
        in_flight_max: Some(8),
    })
}

fn stated(value: &str, basis: Basis) -> Result<Stated> {
    Ok(Stated {
        value: value.parse()?,
        basis,
    })
}

pub fn exchange(secret: &Secret, response: Option<&[u8]>) -> Exchange {
    Exchange {
        request: secret.commit(Part::Request, REQUEST),
        response: response.map(|bytes| secret.commit(Part::Response, bytes)),
    }
}

fn place(provider: Provider, seq: u64) -> Result<Place> {
    Ok(Place {
        endpoint: Endpoint {
            provider,
            model: MODEL.parse()?,
        },
        seq: Seq::new(seq)?,
    })
}

/// A receipt of the first exchange.
pub fn receipt_body(by: &Signer, manifest: RecordId, observer: KeyId) -> Result<Receipt> {
    let provider = Provider::Joined(by.id.expect("not a first control record"));
    Ok(Receipt {
        stream: place(provider, 7)?,
        manifest,
        caller: Some(Caller {
            nonce: Nonce::from_bytes([0x33; 16]),
            observer,
            seq: Seq::new(19)?,
        }),
        executed: Executed {
            temperature_ppm: Some(Temperature::nearest(0.0)),
            top_p_ppm: Some(Share::nearest(1.0)),
            seed: Some(Seed(0xffff_ffff_ffff_fffe)),
            max_tokens: Some(256),
            n: 1,
            stop: 0,
            logprobs: None,
            tools: 0,
            response_format: ResponseFormat::Text,
        },
        commitments: receipt::Commitments {
            tokens: Some(secret().commit(Part::Tokens, &tokens_opened())),
            exact: secret().commit(Part::Exact, &exact().to_bytes()),
        },
        usage: Some(Usage {
            prompt_tokens: tokens(21),
            completion_tokens: tokens(2),
        }),
        finish: Some(Finish::Stop),
        outcome: Outcome::Ok,
        http_status: HttpStatus::new(200)?,
        streamed: false,
        timing: receipt::Timing {
            start_ms: start_ms(exact().start_ms),
            queue_us: duration_us(310),
            ttft_us: Some(duration_us(41_503)),
            total_us: duration_us(57_212),
        },
        price_micro_credits: Some(18),
    })
}

/// A full queue: no answer, no caller, no tokens.
pub fn receipt_capacity(by: &Signer, manifest: RecordId) -> Result<Receipt> {
    let mut receipt = receipt_body(by, manifest, KeyId::from_bytes([0; 32]))?;
    receipt.stream.seq = Seq::new(8)?;
    receipt.caller = None;
    receipt.commitments.tokens = None;
    receipt.usage = None;
    receipt.finish = None;
    receipt.outcome = Outcome::Capacity;
    receipt.http_status = HttpStatus::new(503)?;
    receipt.timing.ttft_us = None;
    receipt.price_micro_credits = None;
    Ok(receipt)
}

/// An observation of the first exchange.
pub fn observation_body(provider: Provider, receipt: Option<RecordId>) -> Result<Observation> {
    Ok(Observation {
        stream: place(provider, 19)?,
        call: CallId::from_bytes([
            0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
        ]),
        attempt: 1,
        nonce: Nonce::from_bytes([0x33; 16]),
        receipt,
        receipt_check: ReceiptCheck::Verified,
        outcome: Outcome::Ok,
        fault: None,
        http_status: Some(HttpStatus::new(200)?),
        streamed: false,
        timing: observation::Timing {
            start_ms: start_ms(exact().start_ms),
            ttft_us: Some(duration_us(58_001)),
            inter_token: None,
            total_us: duration_us(58_944),
        },
        usage: Some(Usage {
            prompt_tokens: tokens(21),
            completion_tokens: tokens(2),
        }),
        schema: Verdict::NotChecked,
        tools: Verdict::NotChecked,
        conditions: Conditions {
            prompt: PromptClass::of(21),
            load: LoadClass::of(1),
            region: "eu-west".parse()?,
            week: WeekTime::of(exact().start_ms),
            purpose: None,
        },
        client: Digest::from_bytes([0x44; 32]),
        tls_key: None,
        commitments: observation::Commitments {
            exact: secret().commit(Part::Exact, &exact().to_bytes()),
        },
    })
}

/// The streamed exchange, as the caller saw it.
pub fn observation_streamed(provider: Provider, receipt: RecordId) -> Result<Observation> {
    let mut seen = observation_body(provider, Some(receipt))?;
    seen.stream.seq = Seq::new(20)?;
    seen.call = CallId::from_bytes([0x55; 16]);
    seen.nonce = Nonce::from_bytes([0x66; 16]);
    seen.streamed = true;
    seen.timing.inter_token = Some(InterToken {
        p50_us: duration_us(4_000),
        p90_us: duration_us(6_000),
        p99_us: duration_us(20_000),
    });
    seen.commitments.exact = stream_secret().commit(Part::Exact, &exact().to_bytes());
    Ok(seen)
}

/// An outside API that did not answer in time, then a second attempt elsewhere.
pub fn observation_timeout() -> Result<Observation> {
    let mut seen = observation_body("https://api.example.com".parse()?, None)?;
    seen.receipt_check = ReceiptCheck::NotJoined;
    seen.outcome = Outcome::Timeout;
    seen.fault = Some(Fault::Provider);
    seen.http_status = None;
    seen.stream.seq = Seq::FIRST;
    seen.timing.ttft_us = None;
    seen.timing.total_us = duration_us(30_000_000);
    seen.usage = None;
    seen.tls_key = Some(Digest::from_bytes([0x77; 32]));
    Ok(seen)
}

pub fn void_crash(provider: Provider) -> Result<Void> {
    Ok(Void {
        stream: VoidStream {
            endpoint: place(provider, 1)?.endpoint,
            kind: NumberedKind::Observation,
        },
        at_ms: start_ms(AT_MS + 60_000),
        ranges: vec![
            Range {
                first: Seq::new(21)?,
                last: Seq::new(64)?,
            },
            Range {
                first: Seq::new(70)?,
                last: Seq::new(70)?,
            },
        ],
        reason: Reason::Crash,
        outcomes: OutcomeCounts::unknown(),
    })
}

pub fn void_spool_full(provider: Provider) -> Result<Void> {
    let mut void = void_crash(provider)?;
    void.reason = Reason::SpoolFull;
    void.outcomes.add(Outcome::Ok);
    void.outcomes.add(Outcome::Ok);
    void.outcomes.add(Outcome::Timeout);
    Ok(void)
}

/// Two million entries in, what the observer expects of the next hour at a node.
pub fn forecast_availability(provider: Provider) -> Result<Forecast> {
    Ok(Forecast {
        at_ms: start_ms(AT_MS + 2_590_000),
        endpoint: place(provider, 1)?.endpoint,
        objective: Objective {
            dimension: Dimension::Availability,
            target_ppm: Share::new(990_000)?,
            within_us: None,
        },
        window: Window {
            start_ms: start_ms(AT_MS + 2_800_000),
            length: WindowLength::Hour,
        },
        breach_ppm: Share::new(13_700)?,
        interval: Some(Interval {
            miss_ppm: Share::new(100_000)?,
            lower_ppm: Share::new(991_304)?,
            upper_ppm: Share::new(1_000_000)?,
        }),
        forecaster: "longrun.1".parse()?,
        basis: ForecastBasis {
            log: Some(LogOrigin::new(ORIGIN)?),
            size: 2_000_000,
            root: Some(Digest::from_bytes([0x88; 32])),
        },
    })
}

/// About a time, a week, and an API that has not joined; from records in no log.
pub fn forecast_first_token() -> Result<Forecast> {
    let mut forecast = forecast_availability("https://api.example.com".parse()?)?;
    forecast.objective.dimension = Dimension::FirstToken;
    forecast.objective.target_ppm = Share::new(950_000)?;
    forecast.objective.within_us = Some(duration_us(2_000_000));
    forecast.window.length = WindowLength::Week;
    forecast.interval = None;
    forecast.basis = ForecastBasis {
        log: None,
        size: 312,
        root: None,
    };
    Ok(forecast)
}

/// A check of the observer's own, of an API that has not joined.
pub fn observation_check() -> Result<Observation> {
    let mut seen = observation_body("https://api.example.com".parse()?, None)?;
    seen.stream.seq = Seq::new(41)?;
    seen.call = CallId::from_bytes([0x77; 16]);
    seen.nonce = Nonce::from_bytes([0x99; 16]);
    seen.receipt_check = ReceiptCheck::NotJoined;
    seen.conditions.purpose = Some(Purpose::Check);
    Ok(seen)
}

/// What the application said of the first exchange's answer, an hour later.
pub fn judgement_reported(seen: RecordId, observer: KeyId, by: Provider) -> Result<Judgement> {
    let seen_then = observation_body(by, Some(seen))?;
    Ok(Judgement {
        at_ms: start_ms(AT_MS + 3_600_000),
        endpoint: seen_then.stream.endpoint,
        observer,
        answers: vec![Answer {
            record: seen,
            seq: seen_then.stream.seq,
        }],
        conditions: seen_then.conditions,
        source: Source::Reported,
        correct: Some(false),
        groups: None,
        check: None,
    })
}

/// What two bundles of a log hold about the first exchange's endpoint.
pub fn summary(observer: SignerId, key: KeyId, provider: Provider) -> Result<Summary> {
    let seen = observation_body(provider, None)?;
    Ok(Summary {
        at_ms: start_ms(AT_MS + 7_200_000),
        log: LogOrigin::new(ORIGIN)?,
        endpoint: seen.stream.endpoint,
        observer,
        seq: Seq::new(1)?,
        previous: None,
        from: 0,
        to: 1024,
        bundles: [(0, 200, 190, 6, 1), (3, 256, 256, 0, 0)]
            .map(|(bundle, calls, good, bad, rate_limited)| BundleCounts {
                bundle,
                calls,
                good,
                bad,
                rate_limited,
            })
            .to_vec(),
        streams: vec![StreamNumbers {
            key,
            highest: 460,
            records: 456,
            voided: 2,
            unused: 1,
            missing: 1,
        }],
    })
}

/// The one after it, of bundles that hold nothing about the endpoint.
pub fn summary_of_nothing(before: &record::Record) -> Result<Summary> {
    let record::Predicate::Summary(first) = &before.statement.predicate else {
        unreachable!("a summary comes before it");
    };
    Ok(Summary {
        seq: Seq::new(2)?,
        previous: Some(before.id),
        from: 1024,
        to: 1280,
        bundles: Vec::new(),
        streams: Vec::new(),
        ..Summary::clone(first)
    })
}

/// What the check's assertions said.
pub fn judgement_check(seen: RecordId, observer: KeyId) -> Result<Judgement> {
    let seen_then = observation_check()?;
    Ok(Judgement {
        at_ms: start_ms(AT_MS),
        endpoint: seen_then.stream.endpoint,
        answers: vec![Answer {
            record: seen,
            seq: seen_then.stream.seq,
        }],
        conditions: seen_then.conditions,
        source: Source::Check,
        correct: Some(true),
        check: Some(CheckedBy {
            case: Digest::from_bytes([0xaa; 32]),
            assertions: Digest::from_bytes([0xbb; 32]),
        }),
        ..judgement_reported(seen, observer, "https://api.example.com".parse()?)?
    })
}

/// Five times the same prompt: four answers agree.
pub fn judgement_agreement(seen: RecordId, observer: KeyId) -> Result<Judgement> {
    let mut judged = judgement_check(seen, observer)?;
    judged.correct = None;
    judged.groups = Some(vec![4, 1]);
    for more in 1..5u8 {
        judged.answers.push(Answer {
            record: RecordId::from_bytes([more; 32]),
            seq: Seq::new(41 + u64::from(more))?,
        });
    }
    Ok(judged)
}
