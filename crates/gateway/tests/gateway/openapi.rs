//! `GET /openapi.json` describes what is answered; and schemathesis, which reads it, finds nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::faulty::{Fault, Faulty, Script, Surface};
use crate::support::{Answer, MODEL, Running, chat, in_front_of};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};

async fn honest() -> (Faulty, Running) {
    let upstream = Faulty::api(MODEL, Script::Always(Fault::None)).await;
    let gateway = in_front_of(&[&upstream]).await;
    (upstream, gateway)
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
             response_schema_conformance",
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
