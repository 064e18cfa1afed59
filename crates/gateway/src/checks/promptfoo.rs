//! promptfoo configurations, as JSON: what maps becomes cases, and what does not is named.
//!
//! `prompts` with `{{variables}}`, times `tests` with `vars` and `assert`; `providers` say nothing that a
//! gateway could use but, where one is named, the model. (Their reference:
//! <https://www.promptfoo.dev/docs/configuration/reference/>.)

use serde_json::{Map, Value, json};

use super::{Case, Wrong};

/// Reads a configuration.
///
/// # Errors
/// Everything that does not map, with its path.
pub fn read(text: &str, model: Option<&str>) -> Result<Vec<Case>, Vec<Wrong>> {
    let whole: Value =
        serde_json::from_str(text).map_err(|error| vec![Wrong::at("the document", error)])?;
    let Some(members) = whole.as_object() else {
        return Err(vec![Wrong::at("the document", "is not an object")]);
    };
    let mut wrong = Vec::new();
    refuse_others(
        members,
        &[
            "description",
            "prompts",
            "providers",
            "tests",
            "defaultTest",
        ],
        "",
        &mut wrong,
    );
    let model = model
        .map(str::to_owned)
        .or_else(|| model_of(members, &mut wrong));
    let prompts = texts(members, "prompts", &mut wrong);
    let default = members.get("defaultTest").and_then(Value::as_object);
    let mut cases = Vec::new();
    let tests = members.get("tests").and_then(Value::as_array);
    if tests.is_none() {
        wrong.push(Wrong::at("tests", "is no list of tests"));
    }
    for (number, test) in tests.into_iter().flatten().enumerate() {
        let path = format!("tests[{number}]");
        let Some(test) = test.as_object() else {
            wrong.push(Wrong::at(path, "is not an object"));
            continue;
        };
        refuse_others(
            test,
            &["description", "vars", "assert"],
            &format!("{path}."),
            &mut wrong,
        );
        for (at, prompt) in prompts.iter().enumerate() {
            match filled(prompt, [default, Some(test)]) {
                Ok(prompt) => {
                    let assertions: Vec<Value> = [default, Some(test)]
                        .into_iter()
                        .flatten()
                        .filter_map(|test| test.get("assert")?.as_array())
                        .flatten()
                        .cloned()
                        .collect();
                    let mut case = json!({"prompt": prompt, "assert": assertions});
                    if let Some(name) = test.get("description").and_then(Value::as_str) {
                        let many = prompts.len() > 1;
                        let name = if many {
                            format!("{name} #{at}")
                        } else {
                            name.to_owned()
                        };
                        case["name"] = Value::from(name);
                    }
                    match Case::parse(&case.to_string(), model.as_deref()) {
                        Ok(case) => cases.push(case),
                        Err(reason) => wrong.push(Wrong::at(&path, reason)),
                    }
                }
                Err(reason) => wrong.push(Wrong::at(&path, reason)),
            }
        }
    }
    if wrong.is_empty() {
        Ok(cases)
    } else {
        Err(wrong)
    }
}

fn refuse_others(members: &Map<String, Value>, known: &[&str], path: &str, wrong: &mut Vec<Wrong>) {
    let unknown = members
        .keys()
        .filter(|name| !known.contains(&name.as_str()));
    wrong.extend(
        unknown.map(|name| Wrong::at(format!("{path}{name}"), "does not map to anything here")),
    );
}

fn texts(members: &Map<String, Value>, name: &str, wrong: &mut Vec<Wrong>) -> Vec<String> {
    let list = match members.get(name) {
        Some(Value::Array(list)) => list.clone(),
        Some(one @ Value::String(_)) => vec![one.clone()],
        _ => {
            wrong.push(Wrong::at(name, "is neither a text nor a list of texts"));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (at, text) in list.iter().enumerate() {
        match text.as_str() {
            Some(text) if !text.starts_with("file://") => found.push(text.to_owned()),
            Some(_) => wrong.push(Wrong::at(
                format!("{name}[{at}]"),
                "files are not followed; put the text here",
            )),
            None => wrong.push(Wrong::at(format!("{name}[{at}]"), "is not a text")),
        }
    }
    found
}

/// The model of the one provider: `openai:chat:gpt-4o` asks for `gpt-4o`.
fn model_of(members: &Map<String, Value>, wrong: &mut Vec<Wrong>) -> Option<String> {
    let providers = members.get("providers")?;
    let one = match providers {
        Value::Array(list) if list.len() == 1 => list[0].as_str(),
        other => other.as_str(),
    };
    if one.is_none() {
        wrong.push(Wrong::at(
            "providers",
            "is not one provider by name; --model says whom to ask",
        ));
    }
    one.map(|name| name.rsplit(':').next().unwrap_or(name).to_owned())
}

/// A prompt with its variables filled in; later ones go before earlier ones.
fn filled(prompt: &str, tests: [Option<&Map<String, Value>>; 2]) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = prompt;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a `{{` that is not closed")?;
        let name = name.trim();
        let value = tests
            .iter()
            .rev()
            .flatten()
            .find_map(|test| test.get("vars")?.get(name));
        text.push_str(before);
        match value {
            Some(Value::String(value)) => text.push_str(value),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => text.push_str(&value.to_string()),
            Some(_) => return Err(format!("the variable `{name}` is not one text or number")),
            None => return Err(format!("the variable `{name}` is not among the vars")),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}
