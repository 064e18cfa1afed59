//! Clients that people already have, unmodified, against the built gateway with keys in force:
//! `openai` for Python, the Vercel `ai` package, the `llm` command and `curl`; and the parser of
//! `prometheus-client` against its metrics.
//!
//! What the demonstration model cannot do (tools, schemas, embeddings) is answered by a scripted
//! upstream, `conformance/clients/upstream.py`. Ignored unless asked for: `scripts/test` installs
//! what they need and runs them.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Server, longrun, root, text};

/// A scripted upstream and a gateway in front of it that wants a key.
struct Pair {
    upstream: Server,
    _gateway: Server,
    url: String,
    dir: tempfile::TempDir,
}

impl Pair {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut upstream = Server::start_command(
            Command::new(python()).arg(root().join("conformance/clients/upstream.py")),
        );
        let config = dir.path().join("longrun.toml");
        let endpoint = format!(
            "[[endpoint]]\nurl = \"{}\"\nkind = \"openai\"\n",
            upstream.url("upstream")
        );
        std::fs::write(&config, endpoint).expect("written");
        // Before the start: a gateway that has seen no key file lets anyone in.
        let directory = dir.path().join("gateway");
        let _operator = key(&directory, &["ops", "--operator"]);
        let mut gateway = Server::start_command(
            longrun()
                .args(["gateway", "--listen", "127.0.0.1:0"])
                .args([
                    Path::new("--config"),
                    &config,
                    Path::new("--dir"),
                    &directory,
                ]),
        );
        let url = gateway.url("gateway");
        Self {
            upstream,
            _gateway: gateway,
            url,
            dir,
        }
    }

    /// A new key; `arguments` are those of `gateway key add`.
    fn key(&self, arguments: &[&str]) -> String {
        let key = key(&self.dir.path().join("gateway"), arguments);
        // The gateway looks at its key file from time to time.
        let deadline = std::time::Instant::now() + support::PATIENCE;
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
    let pair = Pair::start();
    let key = pair.key(&["app"]);
    client("node", &["ai.mjs", &pair.url, &key]);
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn the_llm_command_chats_with_schemas_and_tools() {
    let pair = Pair::start();
    let key = pair.key(&["app"]);
    let home = pair.dir.path().join("llm");
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
