//! The description of the gateway's HTTP API: an `OpenAPI` 3.1 document
//! (<https://spec.openapis.org/oas/v3.1.0>), made from the table below and the schemas beside it.
//!
//! A test holds the table to the routes that are served, in both directions; others hold the
//! schemas to what is answered. Of OpenAI's own objects only what this gateway reads is described:
//! the rest passes as it is.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

mod headers;

/// What an operation answers with.
#[derive(Clone, Copy)]
enum Body {
    /// JSON of a schema.
    Json(&'static str),
    /// JSON of a schema, or, where that is asked for, a stream of events.
    JsonOrEvents(&'static str),
    /// Text of a kind.
    Text(&'static str),
}

/// Who may ask, where keys are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Anyone,
    Callers,
    Operators,
}

/// A parameter of a query.
#[derive(Clone, Copy)]
struct Parameter {
    name: &'static str,
    what: &'static str,
    kind: &'static str,
    required: bool,
}

/// One operation.
struct Operation {
    method: &'static str,
    path: &'static str,
    who: Who,
    /// Whether it is a call of a model, with the headers of one.
    is_call: bool,
    summary: &'static str,
    /// Schema of the request's body.
    asks: Option<&'static str>,
    /// The parameter of the query.
    query: Option<Parameter>,
    answers: &'static [(u16, &'static str, Body)],
    /// Statuses of errors that are this operation's own.
    errors: &'static [u16],
}

const GET: Operation = Operation {
    method: "get",
    path: "",
    who: Who::Operators,
    is_call: false,
    summary: "",
    asks: None,
    query: None,
    answers: &[],
    errors: &[],
};

/// What may become of a call, beside what its endpoint says.
const CALL: &[u16] = &[
    400, 402, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529,
];
const POST: Operation = Operation {
    method: "post",
    who: Who::Callers,
    errors: CALL,
    ..GET
};
const MODEL_CALL: Operation = Operation {
    is_call: true,
    ..POST
};

const TABLE: &[Operation] = &[
    Operation {
        path: "/v1/chat/completions",
        summary: "A chat, plain or streamed",
        asks: Some("ChatRequest"),
        answers: &[(200, "The answer", Body::JsonOrEvents("ChatCompletion"))],
        ..MODEL_CALL
    },
    Operation {
        path: "/v1/completions",
        summary: "A completion, plain or streamed",
        asks: Some("CompletionRequest"),
        answers: &[(200, "The answer", Body::JsonOrEvents("Completion"))],
        ..MODEL_CALL
    },
    Operation {
        path: "/v1/embeddings",
        summary: "Embeddings",
        asks: Some("EmbeddingsRequest"),
        answers: &[(200, "The embeddings", Body::Json("Embeddings"))],
        ..MODEL_CALL
    },
    Operation {
        path: "/v1/responses",
        summary: "A response, plain or streamed",
        asks: Some("ResponseRequest"),
        answers: &[(200, "The response", Body::JsonOrEvents("Response"))],
        ..MODEL_CALL
    },
    Operation {
        path: "/v1/models",
        who: Who::Callers,
        summary: "The models that there are",
        answers: &[(200, "The models", Body::Json("ModelList"))],
        ..GET
    },
    Operation {
        path: "/v1/models/{model}",
        who: Who::Callers,
        summary: "One model",
        answers: &[(200, "The model", Body::Json("Model"))],
        errors: &[404, 503],
        ..GET
    },
    Operation {
        path: "/healthz",
        who: Who::Anyone,
        summary: "Whether the process is alive",
        answers: &[(200, "It is", Body::Json("Health"))],
        ..GET
    },
    Operation {
        path: "/readyz",
        who: Who::Anyone,
        summary: "Whether it is worth sending calls to",
        answers: &[
            (200, "It is", Body::Json("Readiness")),
            (503, "It is not, and why", Body::Json("Readiness")),
        ],
        ..GET
    },
    Operation {
        path: "/openapi.json",
        who: Who::Anyone,
        summary: "This document",
        answers: &[(200, "The document", Body::Json("OpenApi"))],
        ..GET
    },
    Operation {
        path: "/metrics",
        summary: "Metrics as OpenMetrics text",
        answers: &[(200, "The metrics", Body::Text(crate::metrics::CONTENT_TYPE))],
        errors: &[500],
        ..GET
    },
    Operation {
        path: "/longrun/v1/status",
        summary: "Endpoints, spool, log and recent attempts",
        answers: &[(200, "The status", Body::Json("Status"))],
        errors: &[500],
        ..GET
    },
    Operation {
        path: "/longrun/v1/history",
        summary: "The history of every endpoint, with its digest",
        answers: &[(200, "The history", Body::Json("History"))],
        ..GET
    },
    Operation {
        path: "/longrun/v1/history/merged",
        summary: "What the observers of several logs saw, merged into one history",
        answers: &[(
            200,
            "It, and how each log is followed",
            Body::Json("Merged"),
        )],
        ..GET
    },
    Operation {
        path: "/longrun/v1/forecasts",
        summary: "What is expected of every endpoint, and how good such forecasts were",
        answers: &[(200, "The forecasts", Body::Json("Forecasts"))],
        ..GET
    },
    Operation {
        path: "/longrun/v1/objectives",
        summary: "Error budgets, and how fast they burn",
        answers: &[(200, "The objectives", Body::Json("Objectives"))],
        ..GET
    },
    Operation {
        path: "/longrun/v1/account",
        summary: "What happened in a span",
        query: Some(Parameter {
            name: "since_s",
            what: "How long the span is, seconds; a week where nothing is said",
            kind: "integer",
            required: false,
        }),
        answers: &[(200, "The account", Body::Json("Account"))],
        errors: &[400, 500],
        ..GET
    },
    Operation {
        path: "/longrun/v1/drill",
        summary: "The last week's calls, decided again without one provider",
        query: Some(Parameter {
            name: "without",
            what: "An endpoint's name, a provider's id or origin, the host of an origin, or an owner",
            kind: "string",
            required: true,
        }),
        answers: &[(200, "What would have become of them", Body::Json("Drill"))],
        errors: &[400, 404],
        ..GET
    },
    Operation {
        path: "/longrun/v1/calls/{id}",
        who: Who::Callers,
        summary: "The records of a call",
        answers: &[
            (200, "The records", Body::Json("Call")),
            (202, "Some of them wait for the log", Body::Json("Call")),
        ],
        errors: &[404, 500],
        ..GET
    },
    Operation {
        path: "/longrun/v1/calls/{id}/route",
        who: Who::Callers,
        summary: "Which figures decided where a call went",
        answers: &[(200, "The decision", Body::Json("Route"))],
        errors: &[404],
        ..GET
    },
    Operation {
        path: "/longrun/v1/calls/{id}/outcome",
        summary: "Says whether the answer of a call was right; the first word counts",
        asks: Some("Said"),
        answers: &[(200, "It is on record", Body::Json("Judged"))],
        errors: &[400, 404, 408, 409, 413, 500, 503],
        ..POST
    },
    Operation {
        path: "/longrun/v1/checks",
        summary: "The user's own checks, their budget and what came of them",
        answers: &[(200, "The checks", Body::Json("Checks"))],
        ..GET
    },
    Operation {
        path: "/longrun/v1/checks/run",
        who: Who::Operators,
        summary: "Makes every check due at once",
        answers: &[(202, "They are run, within the budget", Body::Json("Checks"))],
        errors: &[],
        ..POST
    },
    Operation {
        path: "/longrun/v1/reload",
        who: Who::Operators,
        summary: "Reads the configuration again",
        answers: &[(200, "It is in force", Body::Json("Reloaded"))],
        errors: &[409],
        ..POST
    },
];

/// The schemas, by name.
const SCHEMAS: &str = include_str!("openapi/schemas.json");

/// The document.
///
/// # Panics
/// Never: the schemas are part of the program, and a test reads them.
#[must_use]
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in TABLE {
        paths
            .entry(operation.path)
            .or_insert_with(|| json!({}))
            .as_object_mut()
            .expect("made as one")
            .insert(operation.method.to_owned(), operation.describe());
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).expect("the schemas are JSON");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Longrun gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "OpenAI's API in front of endpoints, with a record of what they do. \
                            Where keys are in force they are needed as described; without keys, \
                            whoever reaches the gateway may ask for everything.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": headers::parameters(),
            "headers": headers::answered(),
            "securitySchemes": {
                "caller": {"type": "http", "scheme": "bearer", "description": "Any key"},
                "operator": {"type": "http", "scheme": "bearer", "description": "An operator's key"},
            },
        },
    })
}

/// The document as it is served.
pub(crate) fn served() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    DOCUMENT.clone()
}

impl Operation {
    fn describe(&self) -> Value {
        let mut described = json!({
            "operationId": self.id(),
            "summary": self.summary,
            "parameters": self.parameters(),
            "responses": self.responses(),
        });
        // An empty requirement: where no keys are in force none is needed.
        described["security"] = match self.who {
            Who::Anyone => json!([]),
            Who::Callers => json!([{}, {"caller": []}]),
            Who::Operators => json!([{}, {"operator": []}]),
        };
        if let Some(schema) = self.asks {
            described["requestBody"] = json!({
                "required": true,
                "content": {"application/json": {"schema": reference(schema)}},
            });
        }
        described
    }

    /// The path and method in one word.
    fn id(&self) -> String {
        let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let path: String = self.path.chars().map(word).collect();
        let words: Vec<&str> = path.split('_').filter(|word| !word.is_empty()).collect();
        format!("{}_{}", self.method, words.join("_"))
    }

    fn parameters(&self) -> Vec<Value> {
        let named = self.path.split(['{', '}']).skip(1).step_by(2);
        let path = named.map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": {"type": "string", "minLength": 1},
            })
        });
        let query = self.query.map(|parameter| {
            let mut schema = json!({"type": parameter.kind});
            if parameter.kind == "integer" {
                schema["minimum"] = json!(0);
            }
            json!({
                "name": parameter.name,
                "in": "query",
                "required": parameter.required,
                "description": parameter.what,
                "schema": schema,
            })
        });
        let sent = self.is_call.then(headers::parameters_by_reference);
        path.chain(query)
            .chain(sent.into_iter().flatten())
            .collect()
    }

    fn responses(&self) -> Value {
        let mut responses = Map::new();
        for (status, what, body) in self.answers {
            let content = match body {
                Body::Json(schema) => json!({"application/json": {"schema": reference(schema)}}),
                Body::JsonOrEvents(schema) => json!({
                    "application/json": {"schema": reference(schema)},
                    "text/event-stream": {"schema": reference("Event")},
                }),
                Body::Text(kind) => json!({*kind: {"schema": {"type": "string"}}}),
            };
            let mut described = json!({"description": what, "content": content});
            self.add_headers(*status, &mut described);
            responses.insert(status.to_string(), described);
        }
        // The guard of the door answers 403 to web pages of others; 401 is for keys.
        let door: &[u16] = if self.who == Who::Anyone {
            &[403]
        } else {
            &[401, 403]
        };
        for status in self.errors.iter().chain(door) {
            let mut error = json!({
                "description": reason(*status),
                "content": {"application/json": {"schema": reference("Error")}},
            });
            self.add_headers(*status, &mut error);
            responses.entry(status.to_string()).or_insert(error);
        }
        Value::Object(responses)
    }

    fn add_headers(&self, status: u16, response: &mut Value) {
        // Of a call any error may have one: that of an endpoint keeps its own.
        let comes_back = if self.is_call {
            status >= 400 && status != 401
        } else {
            status == 503 && self.errors.contains(&status)
        };
        let headers = headers::of(status, self.is_call, comes_back);
        if !headers.is_empty() {
            response["headers"] = Value::Object(headers);
        }
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn reason(status: u16) -> &'static str {
    let known = http::StatusCode::from_u16(status).ok();
    known
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Overloaded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every `$ref` in a document.
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    into.insert(to.clone());
                }
                map.values().for_each(|value| references(value, into));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, into)),
            _ => {}
        }
    }

    #[test]
    fn every_component_is_there_and_used() {
        let document = document();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        let mut there = BTreeSet::new();
        for kind in ["schemas", "parameters", "headers"] {
            let components = document["components"][kind].as_object().expect("a map");
            let places = components
                .keys()
                .map(|name| format!("#/components/{kind}/{name}"));
            there.extend(places);
        }
        assert_eq!(used, there);
    }

    #[test]
    fn what_is_served_is_described_and_the_other_way_round() {
        let described: BTreeSet<&str> = TABLE.iter().map(|operation| operation.path).collect();
        let served = crate::http::routes();
        let served: BTreeSet<String> = served.paths.iter().map(|p| p.replace('*', "")).collect();
        let described: BTreeSet<String> = described.into_iter().map(str::to_owned).collect();
        assert_eq!(served, described);
        let ids: BTreeSet<String> = TABLE.iter().map(Operation::id).collect();
        assert_eq!(ids.len(), TABLE.len(), "each operation has its own name");
    }
}
