use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Value<'_>> {
    Value::from_slice(text.as_bytes(), &STATEMENT)
}

fn refused(text: &str) -> (Code, String) {
    let error = read(text).expect_err(text);
    (error.code(), error.path().to_owned())
}

#[test]
fn refuses_what_readers_disagree_about() {
    let cases = [
        (r#"{"a":1,"a":1}"#, Code::DuplicateKey, "a"),
        (r#"{"a":1,"\u0061":1}"#, Code::DuplicateKey, "a"),
        (r#"{"x":[0,{"a":1,"a":1}]}"#, Code::DuplicateKey, "x[1].a"),
        (r#"{"a":1.0}"#, Code::NotInteger, "a"),
        (r#"{"a":1e3}"#, Code::NotInteger, "a"),
        (r#"{"a":1E3}"#, Code::NotInteger, "a"),
        (r#"{"a":-0}"#, Code::NotInteger, "a"),
        (r#"{"a":9007199254740992}"#, Code::IntegerRange, "a"),
        (r#"{"a":-9007199254740992}"#, Code::IntegerRange, "a"),
        (r#"{"a":99999999999999999999999}"#, Code::IntegerRange, "a"),
        (r#"{"a":null}"#, Code::Null, "a"),
        (r#"{"a":01}"#, Code::Syntax, "a"),
        (r#"{"a":-}"#, Code::Syntax, "a"),
        (r#"{"a":+1}"#, Code::Syntax, "a"),
        (r#"{"a":"\ud800"}"#, Code::Syntax, "a"),
        (r#"{"a":"\ud800\u0041"}"#, Code::Syntax, "a"),
        (r#"{"a":"\udc00"}"#, Code::Syntax, "a"),
        (r#"{"a":"\x"}"#, Code::Syntax, "a"),
        (r#"{"a":"\u12"}"#, Code::Syntax, "a"),
        ("{\"a\":\"\n\"}", Code::Syntax, "a"),
        (r#"{"a":1,}"#, Code::Syntax, ""),
        (r#"{"a" 1}"#, Code::Syntax, ""),
        (r#"{a:1}"#, Code::Syntax, ""),
        (r#"[1,]"#, Code::Syntax, "[1]"),
        (r#"[1 2]"#, Code::Syntax, ""),
        (r#"{"a":1} x"#, Code::Trailing, ""),
        (r#"{}{}"#, Code::Trailing, ""),
        ("\u{feff}{}", Code::Syntax, ""),
        (r#"{"a":tru}"#, Code::Syntax, "a"),
        (r#"NaN"#, Code::Syntax, ""),
        (r#""open"#, Code::Syntax, ""),
        ("", Code::Syntax, ""),
    ];
    for (text, code, path) in cases {
        assert_eq!(refused(text), (code, path.to_owned()), "{text}");
    }
    let error = Value::from_slice(b"{\"a\":\"\xff\"}", &STATEMENT).expect_err("not UTF-8");
    assert_eq!(error.code(), Code::Utf8);
}

#[test]
fn limits_hold_at_their_edge() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(read(&nested(STATEMENT.depth)).is_ok());
    assert_eq!(refused(&nested(STATEMENT.depth + 1)).0, Code::TooDeep);
    assert_eq!(refused(&nested(20_000)).0, Code::TooDeep);

    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    assert!(read(&text(STATEMENT.string_bytes)).is_ok());
    assert_eq!(
        refused(&text(STATEMENT.string_bytes + 1)).0,
        Code::StringTooLong
    );

    let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
    assert!(read(&list(STATEMENT.items)).is_ok());
    assert_eq!(refused(&list(STATEMENT.items + 1)).0, Code::TooManyItems);

    let padded = |bytes: usize| " ".repeat(bytes - 1) + "0";
    assert!(read(&padded(STATEMENT.bytes)).is_ok());
    assert_eq!(refused(&padded(STATEMENT.bytes + 1)).0, Code::TooLarge);
}

#[test]
fn duplicates_are_found_among_many_members() {
    let mut members: Vec<String> = (0..200).map(|n| format!("\"m{n}\":{n}")).collect();
    assert!(read(&format!("{{{}}}", members.join(","))).is_ok());
    members.push("\"m3\":0".to_owned());
    assert_eq!(
        refused(&format!("{{{}}}", members.join(","))),
        (Code::DuplicateKey, "m3".to_owned())
    );
}

#[test]
fn the_ends_of_the_integers_are_in() {
    assert_eq!(
        read("9007199254740991"),
        Ok(Value::Integer(9_007_199_254_740_991))
    );
    assert_eq!(
        read("-9007199254740991"),
        Ok(Value::Integer(-9_007_199_254_740_991))
    );
    assert_eq!(read(" 0 "), Ok(Value::Integer(0)));
}

#[test]
fn escapes_resolve() {
    assert_eq!(
        read(r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#),
        Ok(Value::from("\"\\/\u{8}\u{c}\n\r\té😀"))
    );
}

/// The reader looks at strings in words of eight bytes: no place in a word may be overlooked.
#[test]
fn no_byte_of_a_string_is_overlooked() {
    for (place, byte) in (0..20).flat_map(|place| (0u8..=127).map(move |byte| (place, byte))) {
        let mut text = "é".repeat(5) + &"a".repeat(20) + "é";
        text.insert(10 + place, char::from(byte));
        let quoted = format!("\"{text}\"");
        let found = read(&quoted);
        match byte {
            b'"' | b'\\' => assert!(found.is_err(), "{byte} at {place}"),
            0..0x20 => {
                let error = found.expect_err("control characters are refused");
                assert!(
                    error
                        .to_string()
                        .ends_with(&format!("(byte {})", 11 + place))
                );
            }
            _ => assert_eq!(found, Ok(Value::from(text))),
        }
    }
}

fn any_value() -> impl Strategy<Value = Value<'static>> {
    let max = INTEGER_MAX.cast_signed();
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-max..=max).prop_map(Value::Integer),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            proptest::collection::vec((any::<String>(), inner), 0..8).prop_map(|members| {
                let mut object = Object::new();
                for (name, value) in members {
                    object.set(name, value);
                }
                Value::Object(object)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in any_value()) {
        let bytes = value.to_bytes();
        prop_assert_eq!(Value::from_slice(&bytes, &STATEMENT), Ok(value));
    }

    #[test]
    fn a_value_is_held_to_limits_as_its_text_is(
        value in any_value(),
        (bytes, depth) in (0..400_usize, 0..6_usize),
        (string_bytes, items) in (0..40_usize, 1..8_usize),
        far in prop_oneof![Just(0_i64), (INTEGER_MAX.cast_signed() - 1)..(INTEGER_MAX.cast_signed() + 2)],
    ) {
        let value = match value {
            Value::Integer(_) => Value::Integer(-far),
            other => other,
        };
        let limits = Limits { bytes, depth, string_bytes, items };
        let text = value.to_bytes();
        let read = Value::from_slice(&text, &limits);
        let mut out = Writer::new(&limits, 0);
        out.value(&value);
        let written = out.within_limits();
        prop_assert_eq!(written.is_ok(), read.is_ok(), "{:?} {:?}", written, read);
        // What is too deep is not written to its end, and so not counted.
        if text.len() <= limits.bytes {
            prop_assert_eq!(written.err(), read.err());
        }
    }

    #[test]
    fn an_independent_reader_agrees(value in any_value()) {
        let bytes = value.to_bytes();
        let theirs: serde_json::Value = serde_json::from_slice(&bytes).expect("valid JSON");
        let again = serde_json::to_vec(&theirs).expect("serialises");
        prop_assert_eq!(Value::from_slice(&again, &STATEMENT), Ok(value));
    }

    #[test]
    fn accepted_text_is_accepted_by_an_independent_reader(text in "[\\[\\]{}:,\"\\\\a0-9.eE +-]{0,40}") {
        if read(&text).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }
}
