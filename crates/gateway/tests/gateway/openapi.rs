//! `GET /openapi.json` describes what is answered; and schemathesis, which reads it, finds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::callers::with_keys;
use crate::support::faulty::{Fault, Faulty, Script, Surface};
use crate::support::{Answer, MODEL, Running, chat, in_front_of};
use bytes::Bytes;
use gateway::keys::Grant;
use http_body_util::Full;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
/// Headers of any HTTP answer, and for proxies on its way: they say nothing of this API.
const PLAIN: &[&str] = &[
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
    "x-accel-buffering",
];

async fn honest() -> (Faulty, Running) {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    (upstream, gateway)
}

/// What a reference in the document leads to; anything else is itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |to| {
        let found = document.pointer(to.trim_start_matches('#'));
        found.unwrap_or_else(|| panic!("{to} leads nowhere"))
    })
}

/// Holds an answer to what the document says of it.
fn check(document: &Value, (method, path): (&str, &str), answer: &Answer) {
    let operation = &document["paths"][path][method];
    let described = &operation["responses"][answer.status.to_string()];
    assert!(described.is_object(), "{method} {path}: {}", answer.status);
    let kind = answer.header("content-type");
    // Metrics are described with the parameters of their kind, which say its version.
    let content = &described["content"];
    let bare = kind.split(';').next().unwrap_or(kind);
    let kind = if content[kind].is_object() {
        kind
    } else {
        bare
    };
    let schema = &content[kind]["schema"];
    assert!(schema.is_object(), "{method} {path}: {kind}");
    if kind == "application/json" {
        let whole = json!({"allOf": [schema], "components": document["components"]});
        let validator = jsonschema::validator_for(&whole).expect("a schema");
        let wrong: Vec<_> = validator
            .iter_errors(&answer.json())
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{method} {path}: {wrong:#?}");
    }
    for (name, value) in &answer.headers {
        let (name, value) = (name.as_str(), value.to_str().expect("text"));
        if PLAIN.contains(&name) {
            continue;
        }
        let header = resolved(document, &described["headers"][name]);
        let schema = &header["schema"];
        assert!(
            schema.is_object(),
            "{method} {path}: {} has {name}",
            answer.status
        );
        let value = match schema["type"].as_str() {
            Some("integer") => json!(value.parse::<u64>().expect("a number")),
            _ => json!(value),
        };
        let validator = jsonschema::validator_for(schema).expect("a schema");
        assert!(validator.is_valid(&value), "{name}: {value}");
    }
}

/// Schemas of the headers that the document lets a call of a model carry, by name.
fn headers_of_calls(document: &Value, path: &str) -> BTreeMap<String, Value> {
    let parameters = &document["paths"][path]["post"]["parameters"];
    let parameters = parameters.as_array().expect("a list").iter();
    let parameters = parameters.map(|parameter| resolved(document, parameter));
    let headers = parameters.filter(|parameter| parameter["in"] == "header");
    let named = headers.map(|header| {
        let name = header["name"].as_str().expect("a name");
        (name.to_owned(), header["schema"].clone())
    });
    named.collect()
}

/// Values at the edges of what a schema of a header allows, and values just beyond them.
fn edges(schema: &Value) -> (Vec<String>, Vec<String>) {
    let texts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().map(|word| word.as_str().expect("a word"));
        return (words.map(str::to_owned).collect(), texts(&["yes", "1"]));
    }
    let bounds = |range: &Value| {
        let bound = |name: &str| i128::from(range[name].as_u64().expect("a bound"));
        bound("minimum")..=bound("maximum")
    };
    if schema["type"] == "number" {
        assert_eq!(bounds(schema), 0..=1, "a share");
        return (texts(&["0", "0.5", "1"]), texts(&["-0.1", "1.1", "most"]));
    }
    assert_eq!(schema["type"], "integer");
    let ranges: Vec<_> = match schema["anyOf"].as_array() {
        Some(ranges) => ranges.iter().map(bounds).collect(),
        None => vec![bounds(schema)],
    };
    let is_outside = |number: &i128| !ranges.iter().any(|range| range.contains(number));
    let inside = ranges.iter().flat_map(|it| [*it.start(), *it.end()]);
    let beyond = ranges.iter().flat_map(|it| [it.start() - 1, it.end() + 1]);
    let outside = beyond.filter(is_outside).map(|number| number.to_string());
    let mut outside: Vec<String> = outside.collect();
    outside.push("0.5".to_owned());
    (inside.map(|number| number.to_string()).collect(), outside)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_are_read_are_described_and_take_what_is_said() {
    let (_upstream, gateway) = honest().await;
    let document = gateway::openapi::document();
    let described = headers_of_calls(&document, CHAT);
    for surface in Surface::ALL {
        assert_eq!(headers_of_calls(&document, surface.path()), described);
    }
    // The refusal of one that there is not names all that there are.
    let odd = "x-longrun-nothing";
    let refused = gateway.post_to(CHAT, &chat(false), &[(odd, "1")]).await;
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "unknown_header");
    let message = error["message"].as_str().expect("words");
    let words = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let named: BTreeSet<&str> = words
        .filter(|word| word.starts_with("x-longrun-") && *word != odd)
        .collect();
    assert_eq!(named, described.keys().map(String::as_str).collect());
    // Such a stream can be gone on with: no value is refused for the request that it came with.
    let body = json!({"model": MODEL, "stream": true, "temperature": 0,
                      "messages": [{"role": "user", "content": "hi"}]});
    let body = body.to_string();
    for (name, schema) in &described {
        let (inside, outside) = edges(schema);
        for value in &inside {
            let answer = gateway.post_to(CHAT, &body, &[(name, value)]).await;
            assert_ne!(answer.status, 400, "{name}: {value}: {}", answer.text());
            check(&document, ("post", CHAT), &answer);
        }
        for value in &outside {
            let answer = gateway.post_to(CHAT, &body, &[(name, value)]).await;
            assert_eq!(answer.status, 400, "{name}: {value}");
            assert_eq!(answer.json()["error"]["code"], "invalid_header");
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_header_that_is_described_is_sent() {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let grant = Grant {
        requests_per_minute: Some(1),
        tokens_per_minute: Some(1_000_000),
        ..Grant::default()
    };
    let (gateway, keys) = with_keys(&upstream, &[("ann", grant, false)]).await;
    let document = gateway::openapi::document();
    let key = format!("Bearer {}", keys[0]);
    // A demand that nobody meets, and the best there is.
    let headers = [
        ("authorization", key.as_str()),
        ("x-longrun-min-throughput", "4294967295"),
        ("x-longrun-or-best", "true"),
    ];
    let mut sent = BTreeSet::new();
    // With its warning; over the limit of the key; without the key.
    for (headers, status) in [
        (&headers[..], 200),
        (&headers[..1], 429),
        (&headers[..0], 401),
    ] {
        let answer = gateway.post_to(CHAT, &chat(false), headers).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        check(&document, ("post", CHAT), &answer);
        sent.extend(answer.headers.keys().map(|name| name.as_str().to_owned()));
    }
    let described = document["components"]["headers"].as_object();
    let described = described.expect("headers").keys().map(String::as_str);
    let missing: BTreeSet<&str> = described.filter(|name| !sent.contains(*name)).collect();
    // These are there where an endpoint sends them.
    let endpoints = ["openai-processing-ms", "openai-version", "x-request-id"];
    assert_eq!(missing, BTreeSet::from(endpoints));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_as_described() {
    let (upstream, gateway) = honest().await;
    let document = gateway.get("/openapi.json").await.json();
    assert_eq!(document, gateway::openapi::document());
    let mut call = String::new();
    for surface in Surface::ALL {
        let path = surface.path().to_owned();
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}],
                          "prompt": "hi", "input": "hi"});
        for streamed in [false, true] {
            let mut body = body.clone();
            if streamed && surface != Surface::Embeddings {
                body["stream"] = json!(true);
            }
            let answer = gateway.post_to(&path, &body.to_string(), &[]).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            check(&document, ("post", &path), &answer);
            call = answer.call();
        }
        for (body, status) in [("{", 400), (r#"{"model":"x","messages":[]}"#, 404)] {
            let answer = gateway.post_to(&path, body, &[]).await;
            assert!(answer.status == status || answer.status == 400);
            check(&document, ("post", &path), &answer);
        }
    }
    gateway.call(&call).await;
    let outcome = format!("/longrun/v1/calls/{call}/outcome");
    let judged = gateway.post_to(&outcome, r#"{"correct":true}"#, &[]).await;
    assert_eq!(judged.status, 200, "{}", judged.text());
    check(
        &document,
        ("post", "/longrun/v1/calls/{id}/outcome"),
        &judged,
    );
    let paths = document["paths"].as_object().expect("paths");
    for (path, operations) in paths {
        for (method, other) in [("get", "POST"), ("post", "GET")] {
            if operations.get(method).is_none() {
                continue;
            }
            let real = path.replace("{model}", MODEL).replace("{id}", &call);
            let request = |method: &str, path: &str| {
                let request = hyper::Request::builder().method(method);
                let request = request.uri(format!("{}{path}", gateway.url));
                gateway.send(request.body(Full::<Bytes>::default()).expect("a request"))
            };
            let real = match path.as_str() {
                "/longrun/v1/drill" => format!("{real}?without={}", upstream.origin()),
                _ => real,
            };
            let answer = request(&method.to_uppercase(), &real).await;
            check(&document, (method, path), &answer);
            if method == "get" {
                assert_eq!(answer.status, 200, "{path}: {}", answer.text());
                if path.contains('{') {
                    let none = path.replace("{model}", "%FF").replace("{id}", "%FF");
                    check(&document, (method, path), &request("GET", &none).await);
                }
            }
            if operations.as_object().expect("a map").len() == 1 {
                let wrong = request(other, &real).await;
                assert_eq!(wrong.status, 405, "{other} {path}");
                assert_eq!(wrong.json()["error"]["code"], "method_not_allowed");
                let allowed = wrong.header("allow").to_lowercase();
                assert!(
                    allowed.split(',').any(|it| it == method),
                    "{path}: {allowed}"
                );
            }
        }
    }
    for (path, query) in [
        ("/longrun/v1/account", "since_s=-1"),
        ("/longrun/v1/drill", ""),
        ("/longrun/v1/drill", "without=nobody"),
    ] {
        let odd = gateway.get(&format!("{path}?{query}")).await;
        assert_ne!(odd.status, 200);
        check(&document, ("get", path), &odd);
    }
    gateway.stop().await;
}

fn schemathesis() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = root.join("conformance/.venv/bin/schemathesis");
    assert!(
        program.exists(),
        "{} is missing: run scripts/test",
        program.display()
    );
    program
}

/// The document as it is served, but for the model: one that is there, so that calls get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
async fn schemathesis_finds_nothing() {
    let (_upstream, gateway) = honest().await;
    let mut document = gateway.get("/openapi.json").await.json();
    let schemas = document["components"]["schemas"]
        .as_object_mut()
        .expect("a map");
    for (name, schema) in schemas {
        if name.ends_with("Request") {
            schema["properties"]["model"] = json!({"const": MODEL});
        }
    }
    // One call that is known, beside those that are not.
    let call = gateway.post(chat(false)).await.call();
    gateway.call(&call).await;
    for (path, method) in [("", "get"), ("/route", "get"), ("/outcome", "post")] {
        let path = format!("/longrun/v1/calls/{{id}}{path}");
        let id = &mut document["paths"][path][method]["parameters"][0];
        id["schema"] = json!({"enum": [call, "unknown"]});
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).expect("written");
    let mut command = Command::new(schemathesis());
    command
        .arg("run")
        .arg(&file)
        .args(["--url", &gateway.url, "--seed", "1", "--max-examples", "15"])
        .args(["--phases", "examples,coverage,fuzzing", "--no-color"])
        .args(["--generation-database", "none"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,\
             response_schema_conformance,response_headers_conformance",
        ])
        .current_dir(directory.path());
    let ran = tokio::task::spawn_blocking(move || command.output());
    let ran = ran.await.expect("no panic").expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    println!("{said}");
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{errors}");
    // It would also be content with nothing to do.
    let calls = gateway.status().await["spool"]["recorded"].as_u64();
    assert!(calls > Some(20), "calls got through: {calls:?}");
    assert_eq!(gateway.post(chat(false)).await.status, 200);
    gateway.stop().await;
}
