//! Clients that people already have, unmodified, against the built gateway with keys in force:
//! `openai` for Python and Node.js, the Vercel `ai` package, the `llm` command and `curl`; and the parsers of
//! `prometheus-client` and OpenTelemetry against its metrics and traces.
//!
//! What the demonstration model cannot do (tools, schemas, embeddings) is answered by a scripted
//! upstream, `conformance/clients/upstream.py`. Ignored unless asked for: `scripts/test` installs
//! what they need and runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Http, Place, Server, longrun, root, text};

/// A scripted upstream and a gateway in front of it that wants a key.
struct Pair {
    upstream: Server,
    _gateway: Server,
    url: String,
    place: Place,
}

impl Pair {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more variables in the gateway's environment.
    fn start_with(variables: &[(&str, &str)]) -> Self {
        let place = Place::default();
        let mut upstream = Server::start_command(
            Command::new(python()).arg(root().join("conformance/clients/upstream.py")),
        );
        let url = upstream.url("upstream");
        // A model of its own for streams that stall: no other test ends early on a slow machine.
        let endpoints = format!(
            "[[endpoint]]\nurl = \"{url}\"\nkind = \"openai\"\n\
             [[endpoint]]\nname = \"impatient\"\nurl = \"{url}\"\nkind = \"openai\"\n\
             models = [\"impatient\"]\ntimeouts = {{ gap_ms = 2000 }}\n"
        );
        // Before the start: a gateway that has seen no key file lets anyone in.
        let _operator = key(&place.dir().join("gateway"), &["ops", "--operator"]);
        let mut gateway = place.gateway_with(&endpoints, variables);
        let url = gateway.url("gateway");
        Self {
            upstream,
            _gateway: gateway,
            url,
            place,
        }
    }

    /// A new key; `arguments` are those of `gateway key add`.
    fn key(&self, arguments: &[&str]) -> String {
        let key = key(&self.place.dir().join("gateway"), arguments);
        // The gateway looks at its key file from time to time.
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while self
            .curl(&format!("-H 'authorization: Bearer {key}'"), "/v1/models")
            .0
            != 200
        {
            assert!(
                std::time::Instant::now() < deadline,
                "the key is never let in"
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        key
    }

    /// What `curl` gets: status and body.
    fn curl(&self, options: &str, path: &str) -> (u16, String) {
        let command = format!(
            "curl -sS -w '\\n%{{http_code}}' {options} '{}{path}'",
            self.url
        );
        let output = Command::new("sh").args(["-c", &command]).output();
        let output = output.expect("a shell runs");
        assert!(
            output.status.success(),
            "{command}: {}",
            text(&output.stderr)
        );
        let printed = text(&output.stdout);
        let (body, status) = printed.rsplit_once('\n').expect("the status comes last");
        (status.parse().expect("a status"), body.to_owned())
    }
}

fn key(directory: &Path, arguments: &[&str]) -> String {
    let output = longrun()
        .args(["gateway", "key", "add"])
        .args(arguments)
        .arg("--dir")
        .arg(directory)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn bin(program: &str) -> PathBuf {
    let path = root().join("conformance/.venv/bin").join(program);
    assert!(path.exists(), "{program} is missing: run scripts/test");
    path
}

fn python() -> PathBuf {
    bin("python")
}

/// Runs a client of `conformance/clients/`; what it says is the report, so it is shown.
#[expect(clippy::print_stdout, reason = "the client's own lines are the report")]
fn client(program: &str, arguments: &[&str]) {
    let output = Command::new(bin(program))
        .args(arguments)
        .current_dir(root().join("conformance/clients"))
        .output()
        .expect("the client runs");
    print!("{}", text(&output.stdout));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn openai_for_python_uses_tools_schemas_and_limits() {
    let mut pair = Pair::start();
    let [key, limited] = [pair.key(&["app"]), key_for_one_call(&pair)];
    let upstream = pair.upstream.url("upstream");
    client(
        "python",
        &["openai_full.py", &pair.url, &upstream, &key, &limited],
    );
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn openai_for_python_embeds_and_gets_responses() {
    let pair = Pair::start();
    let key = pair.key(&["app"]);
    client("python", &["openai_more.py", &pair.url, &key]);
}

#[test]
#[ignore = "needs conformance/node_modules; scripts/test makes it"]
fn openai_for_node_does_all_of_it() {
    let mut pair = Pair::start();
    let key = pair.key(&["app"]);
    let upstream = pair.upstream.url("upstream");
    client("node", &["openai_full.mjs", &pair.url, &upstream, &key]);
}

fn key_for_one_call(pair: &Pair) -> String {
    pair.key(&[
        "limited",
        "--requests-per-minute",
        "1",
        "--model",
        "scripted",
    ])
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn the_ai_package_chats_streams_and_calls_tools() {
    let mut pair = Pair::start();
    let key = pair.key(&["app"]);
    let upstream = pair.upstream.url("upstream");
    client("node", &["ai.mjs", &pair.url, &upstream, &key]);
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn the_llm_command_chats_with_schemas_and_tools() {
    let pair = Pair::start();
    let key = pair.key(&["app"]);
    let home = pair.place.dir().join("llm");
    let home = home.to_str().expect("UTF-8");
    client("python", &["llm_client.py", &pair.url, &key, home]);
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn prometheus_reads_the_metrics() {
    let pair = Pair::start();
    let operator = pair.key(&["scraper", "--operator"]);
    let key = pair.key(&["app"]);
    let body = r#"{"model":"scripted","messages":[{"role":"user","content":"hi"}]}"#;
    let options = format!("-H 'authorization: Bearer {key}' -d '{body}'");
    assert_eq!(pair.curl(&options, "/v1/chat/completions").0, 200);
    let names = [
        "longrun_gateway_requests",
        "longrun_gateway_attempts",
        "longrun_gateway_attempt_seconds",
        "longrun_gateway_first_token_seconds",
        "longrun_gateway_endpoint_up",
        "longrun_gateway_history_lower_bound_ratio",
        "longrun_gateway_spool_waiting_records",
        "longrun_gateway_records",
    ];
    let mut arguments = vec!["metrics.py", &pair.url, &operator];
    arguments.extend(names);
    client("python", &arguments);
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn opentelemetrys_own_messages_read_the_traces() {
    let otlp = root().join("conformance/clients/otlp.py");
    let mut receiver = Server::start_command(Command::new(python()).arg(otlp));
    let url = receiver.url("receiver");
    let pair = Pair::start_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        (
            "OTEL_SEMCONV_STABILITY_OPT_IN",
            "gen_ai_latest_experimental",
        ),
    ]);
    let key = pair.key(&["app"]);
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let body = r#"{"model":"scripted","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let options = format!(
        "-H 'authorization: Bearer {key}' -H 'traceparent: 00-{trace}-{parent}-01' -d '{body}'"
    );
    assert_eq!(pair.curl(&options, "/v1/chat/completions").0, 200);
    let both =
        |answer: &crate::support::Answer| answer.json().as_array().is_some_and(|it| it.len() == 2);
    let spans = Http::default().until(&format!("{url}/spans"), both).json();
    let of = |kind: &str| {
        let mut spans = spans.as_array().expect("spans").iter();
        spans
            .find(|it| it["kind"] == kind)
            .expect("one of this kind")
    };
    let (call, attempt) = (of("SPAN_KIND_SERVER"), of("SPAN_KIND_CLIENT"));
    assert_eq!(
        [&call["trace"], &attempt["trace"]],
        [trace, trace],
        "{spans:#}"
    );
    assert_eq!(
        [&call["parent"], &attempt["parent"]],
        [&parent.into(), &call["span"]]
    );
    assert_eq!(
        attempt["attributes"]["gen_ai.response.finish_reasons"][0],
        "stop"
    );
    assert_eq!(attempt["attributes"]["gen_ai.request.stream"], true);
    assert!(attempt["attributes"]["gen_ai.response.time_to_first_chunk"].is_f64());
    assert_eq!(call["attributes"]["longrun.caller"], "app");
    assert_eq!(call["attributes"]["http.response.status_code"], 200);
    assert_eq!(call["resource"]["service.name"], "longrun-gateway");
    assert_eq!(call["resource"]["deployment.environment.name"], "test");
    assert!(!spans.to_string().contains(&key), "{spans:#}");
}

#[test]
#[ignore = "needs curl; scripts/test installs it"]
fn curl_sees_statuses_headers_and_a_stream() {
    let pair = Pair::start();
    let key = pair.key(&["app", "--tokens-per-minute", "100000"]);
    let chat = |more: &str| {
        format!(
            "-i -H 'authorization: Bearer {key}' -d '{{\"model\":\"scripted\",\"messages\":\
             [{{\"role\":\"user\",\"content\":\"hi\"}}]{more}}}'"
        )
    };
    let (status, answer) = pair.curl(&chat(""), "/v1/chat/completions");
    assert_eq!(status, 200, "{answer}");
    for header in [
        "x-longrun-call: ",
        "x-ratelimit-limit-tokens: 100000",
        "content-type: application/json",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    let (_, stream) = pair.curl(&chat(",\"stream\":true"), "/v1/chat/completions");
    assert!(stream.trim_end().ends_with("data: [DONE]"), "{stream}");
    assert_eq!(stream.matches("data: {").count(), 6, "{stream}");
    let (status, refused) = pair.curl("-i -d '{}'", "/v1/chat/completions");
    assert_eq!(status, 401, "{refused}");
    assert!(refused.contains("www-authenticate: Bearer"), "{refused}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(pair.curl("", path).0, 200, "{path}");
    }
    assert_eq!(pair.curl("", "/metrics").0, 401);
}

#[test]
#[ignore = "needs curl; scripts/test installs it"]
fn curl_sees_why_a_stream_broke() {
    let pair = Pair::start();
    let key = pair.key(&["app"]);
    for (prompt, code) in [
        ("break off", "answer_cut"),
        ("stall", "timeout"),
        ("garbled", "upstream_error"),
    ] {
        let options = format!(
            "-H 'authorization: Bearer {key}' -d '{{\"model\":\"impatient\",\"stream\":true,\
             \"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}'"
        );
        let (status, stream) = pair.curl(&options, "/v1/chat/completions");
        assert_eq!(status, 200, "{prompt}: {stream}");
        assert!(stream.contains("\"answer \""), "{prompt}: {stream}");
        let last = stream.trim_end().lines().next_back().unwrap_or_default();
        assert!(last.starts_with("data: {\"error\":"), "{prompt}: {stream}");
        assert!(
            last.contains(&format!("\"code\":\"{code}\"")),
            "{prompt}: {stream}"
        );
        assert!(!stream.contains("[DONE]"), "{prompt}: {stream}");
    }
}
