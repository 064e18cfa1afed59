//! What an answer must be. Names and shapes are promptfoo's where it has them.
//!
//! Patterns are matched in linear time (the `regex` crate), within a stated size; a schema is
//! compiled when it is read, and follows no references to files or the network.

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// Largest compiled pattern, bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Most repeats of a prompt.
pub const REPEATS_MAX: u64 = 16;

/// One assertion.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// As it was written.
    source: Value,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equals(String),
    Contains {
        part: String,
        any_case: bool,
    },
    Matches(Regex),
    Json(Option<std::sync::Arc<jsonschema::Validator>>),
    Numeric {
        value: f64,
        tolerance: f64,
    },
    ToolCall {
        name: String,
        arguments: Option<Value>,
    },
    /// Of repeats; it says nothing about one answer.
    Agreement {
        repeats: u64,
    },
}

/// What an endpoint answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// The text.
    pub text: String,
    /// Names and arguments of the tools that it calls.
    pub tool_calls: Vec<(String, Value)>,
}

impl Answered {
    /// Reads the first choice of a chat completion.
    #[must_use]
    pub fn of(completion: &Value) -> Option<Self> {
        let message = completion.pointer("/choices/0/message")?;
        let calls = message["tool_calls"].as_array();
        let calls = calls.into_iter().flatten().map(|call| {
            let arguments = call["function"]["arguments"].as_str().unwrap_or("");
            (
                call["function"]["name"].as_str().unwrap_or("").to_owned(),
                serde_json::from_str(arguments).unwrap_or(Value::Null),
            )
        });
        Some(Self {
            text: message["content"].as_str().unwrap_or("").to_owned(),
            tool_calls: calls.collect(),
        })
    }

    /// The same for answers that say the same: letter case and white space at its ends and in between
    /// do not count, and calls of tools do.
    #[must_use]
    pub fn normalised(&self) -> String {
        let words: Vec<String> = self
            .text
            .split_whitespace()
            .map(str::to_lowercase)
            .collect();
        format!(
            "{}\n{}",
            words.join(" "),
            Value::from_iter(
                self.tool_calls
                    .iter()
                    .map(|(name, arguments)| Value::from(vec![
                        Value::from(name.as_str()),
                        arguments.clone()
                    ]),)
            )
        )
    }
}

impl Assertion {
    /// Reads `{"type": …, "value": …}`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(source: &Value) -> Result<Self, String> {
        let members = source
            .as_object()
            .ok_or("an assertion is an object with a `type`")?;
        let kind = members.get("type").and_then(Value::as_str);
        let kind = kind.ok_or("an assertion needs a `type`")?;
        let (test, allowed): (Test, &[&str]) = match kind {
            "equals" => (Test::Equals(text(members)?), &["value"]),
            "contains" | "icontains" => {
                let any_case = kind == "icontains";
                let part = text(members)?;
                (Test::Contains { part, any_case }, &["value"])
            }
            "regex" => {
                let pattern = text(members)?;
                let compiled = RegexBuilder::new(&pattern)
                    .size_limit(PATTERN_BYTES_MAX)
                    .build();
                (
                    Test::Matches(compiled.map_err(|e| format!("regex: {e}"))?),
                    &["value"],
                )
            }
            "is-json" => {
                let schema = members.get("value").map(schema).transpose()?;
                (Test::Json(schema.map(std::sync::Arc::new)), &["value"])
            }
            "numeric" => {
                let value = number(members, "value")?;
                let tolerance = match members.get("tolerance") {
                    None => 0.0,
                    Some(_) => number(members, "tolerance")?,
                };
                (Test::Numeric { value, tolerance }, &["value", "tolerance"])
            }
            "tool-call" => {
                let name = members.get("name").and_then(Value::as_str);
                let name = name.ok_or("tool-call needs a `name`")?.to_owned();
                let arguments = members.get("arguments").cloned();
                (Test::ToolCall { name, arguments }, &["name", "arguments"])
            }
            "agreement" => {
                let repeats = members.get("repeats").map_or(Some(5), Value::as_u64);
                let repeats = repeats.filter(|n| (2..=REPEATS_MAX).contains(n));
                let repeats =
                    repeats.ok_or(format!("`repeats` is a number from 2 to {REPEATS_MAX}"))?;
                (Test::Agreement { repeats }, &["repeats"])
            }
            other => {
                return Err(format!(
                    "the assertion `{other}` is not known here; there are equals, contains, icontains, regex, \
                 is-json, numeric, tool-call, agreement"
                ));
            }
        };
        let unknown = members
            .keys()
            .find(|it| *it != "type" && !allowed.contains(&it.as_str()));
        match unknown {
            Some(member) => Err(format!("{kind}: the member `{member}` has no meaning here")),
            None => Ok(Self {
                source: source.clone(),
                test,
            }),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// How often the prompt is repeated, if this is about agreement.
    #[must_use]
    pub fn repeats(&self) -> Option<u64> {
        match self.test {
            Test::Agreement { repeats } => Some(repeats),
            _ => None,
        }
    }

    /// Whether an answer holds up; `None` if that is not what this is about.
    #[must_use]
    pub fn holds(&self, answer: &Answered) -> Option<bool> {
        let text = answer.text.as_str();
        Some(match &self.test {
            Test::Equals(wanted) => text.trim() == wanted.trim(),
            Test::Contains {
                part,
                any_case: false,
            } => text.contains(part),
            Test::Contains {
                part,
                any_case: true,
            } => text.to_lowercase().contains(&part.to_lowercase()),
            Test::Matches(pattern) => pattern.is_match(text),
            Test::Json(schema) => serde_json::from_str::<Value>(text.trim())
                .is_ok_and(|value| schema.as_ref().is_none_or(|schema| schema.is_valid(&value))),
            Test::Numeric { value, tolerance } => {
                last_number(text).is_some_and(|found| (found - value).abs() <= *tolerance)
            }
            Test::ToolCall { name, arguments } => answer.tool_calls.iter().any(|(called, with)| {
                called == name
                    && arguments
                        .as_ref()
                        .is_none_or(|wanted| includes(with, wanted))
            }),
            Test::Agreement { .. } => return None,
        })
    }
}

/// The last number of a text: what a worked answer ends with. Commas between digits are dropped.
fn last_number(text: &str) -> Option<f64> {
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | ',' | 'e' | 'E');
    let words = text.split(|c| !plain(c)).rev();
    words
        .map(|word| word.trim_matches(|c: char| matches!(c, '.' | ',' | 'e' | 'E' | '+')))
        .find_map(|word| word.replace(',', "").parse().ok())
        .filter(|number: &f64| number.is_finite())
}

/// Whether a value has all that is wanted; objects may have more.
fn includes(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Object(value), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| value.get(name).is_some_and(|value| includes(value, wanted))),
        _ => value == wanted,
    }
}

fn text(members: &Map<String, Value>) -> Result<String, String> {
    let value = members.get("value").and_then(Value::as_str);
    value
        .map(str::to_owned)
        .ok_or("`value` is a text".to_owned())
}

fn number(members: &Map<String, Value>, name: &str) -> Result<f64, String> {
    let value = members.get(name).and_then(Value::as_f64);
    value.ok_or(format!("`{name}` is a number"))
}

fn schema(value: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::validator_for(value).map_err(|error| format!("is-json: the schema: {error}"))
}
