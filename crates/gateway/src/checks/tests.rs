//! What is read, what is refused and where, and what holds.

use serde_json::{Value, json};

use super::assertion::{Answered, Assertion};
use super::*;

fn says(text: &str) -> Answered {
    Answered {
        text: text.to_owned(),
        tool_calls: vec![("weather".to_owned(), json!({"city": "Oslo", "days": 2}))],
    }
}

fn holds(assertion: &Value, text: &str) -> Option<bool> {
    Assertion::read(assertion)
        .expect("an assertion")
        .holds(&says(text))
}

#[test]
fn assertions_hold_or_do_not() {
    let schema =
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}});
    for (assertion, good, bad) in [
        (json!({"type": "equals", "value": "42"}), " 42\n", "42."),
        (
            json!({"type": "contains", "value": "Oslo"}),
            "in Oslo",
            "in oslo",
        ),
        (
            json!({"type": "icontains", "value": "OSLO"}),
            "in oslo",
            "in Bergen",
        ),
        (
            json!({"type": "regex", "value": "^[0-9]+$"}),
            "17",
            "seventeen",
        ),
        (json!({"type": "is-json"}), "[1]", "[1"),
        (
            json!({"type": "is-json", "value": schema}),
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
        ),
        (
            json!({"type": "numeric", "value": 1234.5, "tolerance": 0.5}),
            "17 + … = 1,234.6.",
            "1,236",
        ),
        (
            json!({"type": "numeric", "value": -3}),
            "so x = -3",
            "x = 3",
        ),
    ] {
        assert_eq!(holds(&assertion, good), Some(true), "{assertion}");
        assert_eq!(holds(&assertion, bad), Some(false), "{assertion}");
    }
    let called = |name: &str, arguments: Value| {
        holds(
            &json!({"type": "tool-call", "name": name, "arguments": arguments}),
            "",
        )
    };
    assert_eq!(called("weather", json!({"city": "Oslo"})), Some(true));
    assert_eq!(called("weather", json!({"city": "Rome"})), Some(false));
    assert_eq!(called("time", json!({})), Some(false));
    assert_eq!(
        holds(&json!({"type": "agreement"}), "x"),
        None,
        "not about one answer"
    );
}

#[test]
fn answers_that_say_the_same_are_the_same() {
    assert_eq!(
        says("It is\n  Oslo ").normalised(),
        says("it is oslo").normalised()
    );
    let silent = Answered {
        tool_calls: Vec::new(),
        ..says("it is oslo")
    };
    assert_ne!(silent.normalised(), says("it is oslo").normalised());
}

/// A pattern that takes a backtracking matcher 2ⁿ steps, and one that would compile to gigabytes.
#[test]
fn patterns_do_not_blow_up() {
    let text = "a".repeat(100_000) + "!";
    assert_eq!(
        holds(&json!({"type": "regex", "value": "^(a+)+$"}), &text),
        Some(false)
    );
    let huge = json!({"type": "regex", "value": "(((a{1000}){1000}){1000})"});
    assert!(
        Assertion::read(&huge)
            .expect_err("too large")
            .contains("regex")
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let lines = [
        r#"{"prompt":"1 + 1 = ?","model":"m","assert":[{"type":"equals","value":"2"}]}"#,
        r#"{"prompt":"x","model":"m","assert":[{"type":"regex","value":"("}]}"#,
        "",
        r#"{"prompt":"x","model":"m","assert":[{"type":"is-json","value":{"type":"strange"}}]}"#,
        r#"{"prompt":"x","assert":[{"type":"equals","value":"2"}]}"#,
        r#"{"prompt":"x","model":"m","assert":[]}"#,
        r#"{"prompt":"x","model":"m","assert":[{"type":"llm-rubric","value":"nice"}]}"#,
        r#"{"prompt":"x","model":"m","colour":1,"assert":[]}"#,
        "not JSON",
    ];
    let wrong = read(Path::new("cases.jsonl"), &lines.join("\n"), None).expect_err("wrong");
    let places: Vec<&str> = wrong.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "line 2", "line 4", "line 5", "line 6", "line 7", "line 8", "line 9"
        ]
    );
    for (at, word) in [
        (0, "regex"),
        (1, "schema"),
        (2, "--model"),
        (3, "empty"),
        (4, "llm-rubric"),
        (5, "colour"),
    ] {
        assert!(wrong[at].reason.contains(word), "{}", wrong[at]);
    }
}

#[test]
fn a_file_of_promptfoo_maps_or_says_what_does_not() {
    let config = json!({
        "prompts": ["What is {{a}} + {{b}}?", "{{a}} and {{b}} make"],
        "providers": ["openai:chat:gpt-x"],
        "defaultTest": {"assert": [{"type": "icontains", "value": "3"}]},
        "tests": [{"description": "sum", "vars": {"a": 1, "b": "2"}, "assert": [{"type": "regex", "value": "[0-9]"}]}],
    });
    let cases = read(Path::new("p.json"), &config.to_string(), None).expect("it maps");
    assert_eq!(cases.len(), 2);
    assert_eq!(
        (cases[1].name.as_str(), cases[1].model.as_str()),
        ("sum #1", "gpt-x")
    );
    let asked: Value = serde_json::from_slice(&cases[0].request()).expect("JSON");
    assert_eq!(asked["messages"][0]["content"], "What is 1 + 2?");
    assert_eq!(cases[0].assertions.len(), 2);

    let other = json!({
        "prompts": ["file://p.txt", "{{who}}"],
        "outputPath": "x",
        "tests": [{"threshold": 1, "assert": [{"type": "cost", "threshold": 1}]}],
    });
    let wrong = read(Path::new("p.json"), &other.to_string(), Some("m")).expect_err("it does not");
    let places: Vec<&str> = wrong.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(
        places,
        ["outputPath", "prompts[0]", "tests[0].threshold", "tests[0]"]
    );
    assert!(wrong[3].reason.contains("who"), "{}", wrong[3]);
}

#[test]
fn what_is_stored_reads_back_and_a_name_is_replaced() {
    let line = r#"{"name":"sum","prompt":"1 + 1 = ?","model":"m","every_minutes":5,"assert":[{"type":"agreement","repeats":3}]}"#;
    let case = Case::parse(line, None).expect("a case");
    let mut checks = Checks::default();
    assert_eq!(checks.add(vec![case.clone()]), Ok(1));
    assert_eq!(checks.add(vec![case]), Ok(0));
    checks.budget.calls_per_day = 7;
    let again = Checks::parse(&checks.to_text()).expect("its own file");
    assert_eq!(again.to_text(), checks.to_text());
    assert_eq!(
        (again.budget.calls_per_day, again.cases[0].repeats()),
        (7, 3)
    );
    let (one, two) = (again.cases[0].digests(b"a"), again.cases[0].digests(b"b"));
    assert_ne!(one, two, "nobody else can tell which prompt it is");
    assert_eq!(Checks::parse("").expect("nothing").cases.len(), 0);
    assert_eq!(Checks::parse("{}").expect_err("no budget").place, "line 1");
}

#[test]
fn a_budget_is_kept_over_restarts_and_renewed_by_the_day() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("spent.json");
    let budget = Budget {
        calls_per_day: 3,
        spend_per_day: 0.001,
        ..Budget::default()
    };
    let mut spent = spent::Spent::read(&file);
    assert!(spent.take(("free", true), &budget, 0));
    assert!(spent.take(("paid", false), &budget, 0));
    spent.cost("paid", 1_000_000);
    assert!(
        !spent.take(("paid", false), &budget, 0),
        "the money is gone"
    );
    spent.write(&file).expect("written");
    let mut spent = spent::Spent::read(&file);
    let more: Vec<bool> = (0..3)
        .map(|_| spent.take(("free", true), &budget, 1))
        .collect();
    assert_eq!(more, [true, true, false]);
    assert!(
        spent.take(("paid", false), &budget, 86_400_000),
        "another day"
    );
}
