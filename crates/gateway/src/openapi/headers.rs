//! Headers in the description of the API: those that a caller may send with a call, and those of
//! answers. Both are made of what reads and writes them.

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};

use crate::answer::{CALL_HEADER, ENDPOINT_HEADER, PASSED_ON, WARNING_HEADER};
use crate::callers::{LIMITED, limit_headers};
use crate::wishes::{HEADERS, Takes};

/// What callers may send with a call, by name.
pub(super) fn parameters() -> Map<String, Value> {
    let described = HEADERS.iter().map(|header| {
        let parameter = json!({
            "name": header.name,
            "in": "header",
            "required": false,
            "description": header.what,
            "schema": schema(&header.takes),
        });
        (header.name.to_owned(), parameter)
    });
    described.collect()
}

/// The same as an operation names them.
pub(super) fn parameters_by_reference() -> impl Iterator<Item = Value> {
    let to = |name: &str| json!({"$ref": format!("#/components/parameters/{name}")});
    HEADERS.iter().map(move |header| to(header.name))
}

fn schema(takes: &Takes) -> Value {
    match takes {
        // Words, for not every client writes a boolean in small letters.
        Takes::Flag(_) => json!({"type": "string", "enum": ["true", "false"]}),
        Takes::Share(_) => json!({"type": "number", "minimum": 0, "maximum": 1}),
        Takes::Whole { least, most, .. } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Takes::WholeOrNever { least, most, .. } => json!({
            "type": "integer",
            "anyOf": [{"minimum": 0, "maximum": 0}, {"minimum": least, "maximum": most}],
        }),
    }
}

/// What answers carry, by name.
pub(super) fn answered() -> Map<String, Value> {
    let text = json!({"type": "string"});
    let mut headers = Map::new();
    let mut describe = |name: &str, what: &str, schema: &Value| {
        let header = json!({"description": what, "schema": schema});
        headers.insert(name.to_owned(), header);
    };
    describe(
        CALL_HEADER.as_str(),
        "The call, as /longrun/v1/calls/{id} knows it; on every answer but to whoever was not let in",
        &json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
    );
    describe(
        ENDPOINT_HEADER.as_str(),
        "The endpoint whose answer or error this is, as provider/model; once one was asked",
        &text,
    );
    describe(
        WARNING_HEADER.as_str(),
        "What the endpoint lacks of what was asked for, where the best there is was wished for",
        &text,
    );
    for name in PASSED_ON {
        describe(name, "As the endpoint sent it", &text);
    }
    for what in LIMITED {
        let names = limit_headers(what);
        let parts = [
            "the limit of a minute",
            "what is left of it",
            "the time until all of it is there",
        ];
        for (name, part) in names.iter().zip(parts) {
            let what = format!(
                "Of {what}: {part}, as OpenAI writes it. The key's; without a key the endpoint's, if it \
                 sent one"
            );
            describe(name, &what, &text);
        }
    }
    describe(
        RETRY_AFTER.as_str(),
        "When to come back, seconds",
        &json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
    );
    describe(WWW_AUTHENTICATE.as_str(), "How a key is to be sent", &text);
    headers
}

/// The headers that an answer with `status` may have, to a call of a model or to anything else, as
/// it names them. `comes_back`: it may say when.
pub(super) fn of(status: u16, is_call: bool, comes_back: bool) -> Map<String, Value> {
    let is_let_in = status != 401;
    let mut names = Vec::new();
    if is_call && is_let_in {
        names.extend([CALL_HEADER, ENDPOINT_HEADER, WARNING_HEADER].map(|name| name.to_string()));
        names.extend(LIMITED.into_iter().flat_map(limit_headers));
    }
    if is_call && status == 200 {
        names.extend(PASSED_ON.iter().map(|name| (*name).to_owned()));
    }
    if comes_back {
        names.push(RETRY_AFTER.to_string());
    }
    if !is_let_in {
        names.push(WWW_AUTHENTICATE.to_string());
    }
    let named = names.into_iter().map(|name| {
        let to = json!({"$ref": format!("#/components/headers/{name}")});
        (name, to)
    });
    named.collect()
}
