//! The parts of `docs/format.md` that are made: between `<!-- made: NAME -->` and `<!-- end -->`.

use std::fmt::Write as _;

use record::bucket::{DurationUs, Tokens};
use record::{Code, Fault, Outcome};
use serde_json::Value;

/// The document with every made part filled in anew.
pub(crate) fn filled(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<!-- made: ") {
        let (before, marked) = rest.split_at(start);
        let name_end = marked.find(" -->").expect("a whole marker");
        let name = &marked["<!-- made: ".len()..name_end];
        let end = marked
            .find("<!-- end -->")
            .expect("an end for every made part");
        let _ = write!(out, "{before}<!-- made: {name} -->\n{}", made(name));
        rest = &marked[end..];
    }
    out + rest
}

fn made(name: &str) -> String {
    match name {
        "codes" => codes(),
        "outcomes" => outcomes(),
        "durations" => list(DurationUs::edges()),
        "tokens" => list(Tokens::edges()),
        kind => members(kind),
    }
}

/// Thousands set apart, as the document writes numbers.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn codes() -> String {
    let mut out = "| Code | Kind |\n|---|---|\n".to_owned();
    for code in Code::ALL {
        let _ = writeln!(out, "| `{code}` | {:?} |", code.kind());
    }
    out
}

fn outcomes() -> String {
    let mut out = "| Outcome | Faults it may carry, the usual one first | Counts against the endpoint with |\n|---|---|---|\n".to_owned();
    for outcome in Outcome::ALL {
        let all: Vec<&str> = outcome
            .faults()
            .iter()
            .map(|fault| fault.as_str())
            .collect();
        let counting = Fault::ALL
            .iter()
            .filter(|fault| outcome.faults().contains(fault))
            .filter(|fault| outcome.counts_against_endpoint(Some(**fault)));
        let counting: Vec<&str> = counting.map(|fault| fault.as_str()).collect();
        let or_none = |words: Vec<&str>| {
            if words.is_empty() {
                "none".to_owned()
            } else {
                words.join(", ")
            }
        };
        let _ = writeln!(
            out,
            "| `{outcome}` | {} | {} |",
            or_none(all),
            or_none(counting)
        );
    }
    out
}

fn list(numbers: impl Iterator<Item = u64>) -> String {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let mut out = "```\n".to_owned();
    for line in numbers.chunks(12) {
        let _ = writeln!(out, "{}", line.join(" "));
    }
    out + "```\n"
}

/// The table of one kind's members, then what its words mean.
fn members(kind: &str) -> String {
    let schema = crate::schema(kind);
    let mut rows = Rows::default();
    rows.object(&schema["properties"]["predicate"], "");
    let mut out = "| Member | Type | | Meaning |\n|---|---|---|---|\n".to_owned();
    out.push_str(&rows.members);
    if !rows.words.is_empty() {
        out.push_str("\n| Word | Value | Meaning |\n|---|---|---|\n");
        out.push_str(&rows.words);
    }
    out
}

#[derive(Default)]
struct Rows {
    members: String,
    words: String,
}

impl Rows {
    fn object(&mut self, schema: &Value, path: &str) {
        let required = schema["required"].as_array().expect("a list");
        for (name, member) in schema["properties"].as_object().expect("an object") {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            // `signer` is the same in every kind and has its own section.
            if path != "signer" {
                self.member(
                    member,
                    &path,
                    required.contains(&Value::from(name.as_str())),
                );
            }
        }
    }

    fn member(&mut self, schema: &Value, path: &str, required: bool) {
        let need = if required { "required" } else { "optional" };
        let meaning = schema["description"].as_str().unwrap_or_default();
        let title = schema["title"].as_str();
        let (kind, inner) = match schema["type"].as_str() {
            Some("array") => ("array", Some((&schema["items"], format!("{path}[]")))),
            Some("object") => (title.unwrap_or("object"), Some((schema, path.to_owned()))),
            _ => (title.expect("leaves have titles"), None),
        };
        let _ = writeln!(self.members, "| `{path}` | {kind} | {need} | {meaning} |");
        for option in schema["oneOf"].as_array().into_iter().flatten() {
            let word = option["const"].as_str().expect("a word");
            let meaning = option["description"].as_str().unwrap_or_default();
            let _ = writeln!(self.words, "| `{path}` | `{word}` | {meaning} |");
        }
        match inner {
            // One member per outcome says nothing that the table of outcomes does not.
            Some(_) if kind == "counts by outcome" => {}
            Some((inner, path)) if inner.get("properties").is_some() => self.object(inner, &path),
            _ => {}
        }
    }
}
