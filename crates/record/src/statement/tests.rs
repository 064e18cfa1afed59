use super::*;
use crate::bucket::{INTEGER_MAX, start_ms};
use crate::endpoint::{Endpoint, Provider};
use crate::forecast::{Dimension, Forecast, ForecastBasis, Objective, Window, WindowLength};
use crate::value::Share;
use crate::void::{OutcomeCounts, Range, Reason, Void, VoidStream};

/// A key that nobody has: only its form matters here.
fn signer() -> Signer {
    let prefix = hex::decode("3059301306072a8648ce3d020106082a8648ce3d03010703420004");
    let spki = [prefix.expect("hex"), vec![5; 64]].concat();
    Signer {
        id: Some(SignerId::from_bytes([1; 32])),
        key: PublicKey::from_spki(&spki).expect("the form of a key"),
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        provider: Provider::Joined(SignerId::from_bytes([1; 32])),
        model: "a".parse().expect("a name"),
    }
}

fn unknown(kind: &str, value: impl Into<Value<'static>>) -> Statement {
    Statement {
        subjects: vec![subject("thing", Digest::from_bytes([2; 32])).expect("a name")],
        signer: signer(),
        predicate: Predicate::Unknown {
            kind: kind.to_owned(),
            value: value.into(),
        },
    }
}

fn refused(statement: &Statement) -> (Code, String) {
    let error = statement.to_payload().expect_err("no reader takes it");
    (error.code(), error.path().to_owned())
}

#[test]
fn what_a_reader_refuses_of_an_unknown_kind_is_not_written() {
    let nested =
        |levels: usize| (0..levels).fold(Value::from("x"), |inner, _| Value::Array(vec![inner]));
    let x = |value: Value<'static>| unknown("audit:v1", Object::new().with("x", value));
    let text = |bytes: usize| Value::from("x".repeat(bytes));
    let list = |items: usize| Value::Array(vec![Value::Bool(true); items]);
    let texts = Value::Array(vec![text(4096); 12]);
    let max = INTEGER_MAX.cast_signed();

    // Statement and predicate are two levels.
    for fits in [nested(14), text(4096), list(1024), Value::Integer(-max)] {
        assert!(x(fits).to_payload().is_ok());
    }
    let refusals = [
        (
            nested(15),
            Code::TooDeep,
            "predicate.x[0][0][0][0][0][0][0][0][0][0][0][0][0][0]",
        ),
        (
            nested(1000),
            Code::TooDeep,
            "predicate.x[0][0][0][0][0][0][0][0][0][0][0][0][0][0]",
        ),
        (text(4097), Code::StringTooLong, "predicate.x"),
        (list(1025), Code::TooManyItems, "predicate.x"),
        (Value::Integer(-max - 1), Code::IntegerRange, "predicate.x"),
        (texts, Code::TooLarge, ""),
    ];
    for (value, code, path) in refusals {
        assert_eq!(refused(&x(value)), (code, path.to_owned()));
    }
    let long_name = unknown("audit:v1", Object::new().with("n".repeat(4097), "x"));
    assert_eq!(refused(&long_name).0, Code::StringTooLong);
    let no_object = unknown("audit:v1", "x");
    assert_eq!(
        refused(&no_object),
        (Code::WrongType, "predicate".to_owned())
    );
    let no_kind = unknown("a\"b", Object::new());
    assert_eq!(
        refused(&no_kind),
        (Code::BadValue, "predicateType".to_owned())
    );
    let not_so = unknown("void:v1", Object::new());
    assert_eq!(
        refused(&not_so),
        (Code::Missing, "predicate.stream".to_owned())
    );
}

#[test]
fn what_a_reader_refuses_of_a_known_kind_is_not_written() {
    let seq = |number| Seq::new(number).expect("in range");
    let range = |at: u64| Range {
        first: seq(10 * at),
        last: seq(10 * at + 1),
    };
    let void = |ranges: u64| Void {
        stream: VoidStream {
            endpoint: endpoint(),
            kind: NumberedKind::Receipt,
        },
        at_ms: start_ms(0),
        ranges: (1..=ranges).map(range).collect(),
        reason: Reason::Crash,
        outcomes: OutcomeCounts::unknown(),
    };
    let voided = |ranges| Statement::new(signer(), void(ranges)).expect("fits its signer");
    assert!(voided(256).to_payload().is_ok());
    let path = || "predicate.ranges".to_owned();
    assert_eq!(refused(&voided(257)), (Code::BadValue, path()));
    assert_eq!(refused(&voided(1025)), (Code::TooManyItems, path()));
    assert_eq!(refused(&voided(3000)), (Code::TooLarge, String::new()));

    let share = Share::new(0).expect("in range");
    let forecast = |size| Forecast {
        at_ms: start_ms(0),
        endpoint: endpoint(),
        objective: Objective {
            dimension: Dimension::Availability,
            target_ppm: share,
            within_us: None,
        },
        window: Window {
            start_ms: start_ms(0),
            length: WindowLength::Day,
        },
        breach_ppm: share,
        interval: None,
        forecaster: "longrun.1".parse().expect("a word"),
        basis: ForecastBasis {
            log: None,
            size,
            root: None,
        },
    };
    let forecast = |size| Statement::new(signer(), forecast(size)).expect("fits its signer");
    assert!(forecast(INTEGER_MAX).to_payload().is_ok());
    for size in [INTEGER_MAX + 1, u64::MAX] {
        let path = "predicate.basis.size".to_owned();
        assert_eq!(refused(&forecast(size)), (Code::IntegerRange, path));
    }
}

#[test]
fn an_unknown_kind_keeps_its_members_and_their_order() {
    let written = unknown(
        "audit:v1",
        Object::new()
            .with(
                "z",
                Value::Array(vec![Value::Bool(false), "\u{1}\"é".into()]),
            )
            .with("signer", Object::new().with("id", "another"))
            .with(
                "a",
                Object::new()
                    .with("y", Value::Integer(-7))
                    .with("b", Object::new()),
            ),
    );
    let payload = written.to_payload().expect("it can be read");
    let predicate = String::from_utf8(payload.clone()).expect("text");
    let (_, predicate) = predicate.split_once(r#""predicate":"#).expect("its member");
    let id = SignerId::from_bytes([1; 32]);
    let key = crate::base64::encode(signer().key.spki());
    let wanted = format!(
        r#"{{"signer":{{"id":"{id}","key":"{key}"}},"z":[false,"\u0001\"é"],"a":{{"y":-7,"b":{{}}}}}}}}"#
    );
    assert_eq!(predicate, wanted);
    let read = Statement::from_payload(&payload).expect("as it was written");
    assert_eq!(read.to_payload(), Ok(payload));
}
