//! The schemas against the reader, with a validator that nobody here wrote.
//!
//! What the reader accepts, the schema accepts. What the reader refuses, the schema refuses too,
//! but for what a schema cannot say; those codes are listed.

use std::collections::BTreeMap;

use record::{Code, KINDS, Statement};
use serde_json::{Value, json};

/// Codes of refusals that no JSON Schema expresses here: members that must agree, digests that
/// follow from other members, base64 and curve arithmetic, and what is no longer visible once
/// the JSON is read.
const BEYOND_SCHEMA: [Code; 9] = [
    Code::Contradiction,
    Code::BadSubject,
    Code::DuplicateKey,
    Code::NotInteger,
    Code::IntegerRange,
    Code::TooDeep,
    Code::TooLarge,
    Code::StringTooLong,
    Code::TooManyItems,
];

struct Schemas(BTreeMap<String, jsonschema::Validator>);

impl Schemas {
    fn load() -> Self {
        let one = |kind: &&str| {
            let schema = crate::schema(kind);
            let validator = jsonschema::draft202012::new(&schema).expect("a schema");
            (format!("urn:longrun:{kind}:v1"), validator)
        };
        Self(KINDS.iter().map(one).collect())
    }

    /// `None` for kinds without a schema.
    fn accepts(&self, statement: &Value) -> Option<bool> {
        let kind = statement["predicateType"].as_str()?;
        Some(self.0.get(kind)?.is_valid(statement))
    }

    fn compare(&self, statement: &Value, what: &str) {
        let Some(accepted) = self.accepts(statement) else {
            return;
        };
        let bytes = serde_json::to_vec(statement).expect("JSON");
        match Statement::from_payload(&bytes) {
            Ok(_) => assert!(accepted, "the reader accepts, the schema refuses: {what}"),
            Err(error) => {
                let beyond = BEYOND_SCHEMA.contains(&error.code()) || by_hand(&error);
                assert!(
                    !accepted || beyond,
                    "the schema accepts, the reader refuses: {what}: {error}"
                );
            }
        }
    }
}

/// Refusals of single places that the schema leaves to the reader.
fn by_hand(error: &record::Error) -> bool {
    let ends = [
        // Ports above 65535, and the scheme's own port.
        "provider",
        // How many there may be.
        "roles",
        "ranges",
        "answers",
        "addresses",
        "models",
        "addresses[0]",
        "addresses[1]",
        "attempt",
        "executed.n",
        "executed.stop",
        "executed.logprobs",
        "executed.tools",
        "streams",
        "].calls",
        // Multiples of 256.
        "predicate.from",
        "predicate.to",
        // Of a control record: absent in the first, there in all others.
        "signer.id",
    ];
    ends.iter().any(|end| error.path().ends_with(end))
}

fn payloads(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = crate::root().join("vectors/record").join(folder);
    let entries = std::fs::read_dir(folder).expect("readable");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut found: Vec<(String, Vec<u8>)> = paths
        .filter(|path| path.to_string_lossy().ends_with(".payload.json"))
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read(&path).expect("readable"),
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn the_schemas_accept_the_golden_statements() {
    let schemas = Schemas::load();
    for (name, bytes) in payloads("golden") {
        let statement: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_ne!(schemas.accepts(&statement), Some(false), "{name}");
    }
}

#[test]
fn schema_and_reader_agree_on_the_broken_statements() {
    let schemas = Schemas::load();
    for (name, bytes) in payloads("broken") {
        // Another reader may not even parse these, or forget what was wrong with them.
        if let Ok(statement) = serde_json::from_slice::<Value>(&bytes) {
            schemas.compare(&statement, &name);
        }
    }
}

#[test]
fn schema_and_reader_agree_on_every_single_change() {
    let schemas = Schemas::load();
    let hex = "0".repeat(64);
    let replacements = [
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(7),
        json!(1000),
        json!(9_007_199_254_740_991_i64),
        json!(""),
        json!("x"),
        json!("OK"),
        json!("a b"),
        json!("tab\there"),
        json!("https://api.example.com"),
        json!(hex),
        json!([]),
        json!([1]),
        json!({}),
        json!({"x": 1}),
    ];
    let mut changes = 0;
    for (name, bytes) in payloads("golden") {
        let statement: Value = serde_json::from_slice(&bytes).expect("JSON");
        for pointer in pointers(&statement) {
            let what = format!("{name} at {pointer}");
            schemas.compare(&without(&statement, &pointer), &format!("{what} removed"));
            for replacement in &replacements {
                let mut changed = statement.clone();
                *changed.pointer_mut(&pointer).expect("there") = replacement.clone();
                schemas.compare(&changed, &format!("{what} = {replacement}"));
                changes += 1;
            }
            let mut more = statement.clone();
            if let Some(Value::Object(object)) = more.pointer_mut(&pointer) {
                object.insert("one_more".to_owned(), json!("x"));
                schemas.compare(&more, &format!("{what} with one more member"));
            }
        }
    }
    assert!(changes > 5000, "{changes}");
}

/// JSON pointers to everything below the top.
fn pointers(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((pointer, value)) = open.pop() {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(object) => object.iter().map(|(name, v)| (name.clone(), v)).collect(),
            Value::Array(items) => {
                let numbered = items.iter().enumerate();
                numbered.map(|(index, v)| (index.to_string(), v)).collect()
            }
            _ => Vec::new(),
        };
        for (name, child) in children {
            let pointer = format!("{pointer}/{name}");
            found.push(pointer.clone());
            open.push((pointer, child));
        }
    }
    found
}

fn without(value: &Value, pointer: &str) -> Value {
    let mut value = value.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("below the top");
    match value.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.remove(name);
        }
        Some(Value::Array(items)) => {
            items.remove(name.parse().expect("an index"));
        }
        _ => {}
    }
    value
}
