//! Other people's tools, unmodified, against the built binary: `@sigstore/verify`, the
//! `sigstore-verify` crate, the witness suite of `siglog`, the `openai` packages for Python and
//! Node.js, `curl`, `openssl` and `sha256sum`; and our own verifier in JavaScript beside the binary.
//!
//! Ignored unless asked for: `scripts/test` installs what they need and runs them.

use std::path::Path;
use std::process::Command;

use crate::support::{Http, Place, Server, chat, root, run, text};
use serde_json::Value;

/// One log, one honest node and one gateway, as three processes of their own.
struct Trio {
    _log: Server,
    _node: Server,
    _gateway: Server,
    gateway_url: String,
    place: Place,
}

impl Trio {
    fn start() -> Self {
        let place = Place::default();
        let mut log = place.log("log");
        let log_url = log.url("log");
        let mut node = place.node("node", &["--log", &log_url]);
        let node_url = node.url("node");
        let mut gateway = place.gateway(&format!(
            "[log]\nurl = \"{log_url}\"\nread_token_file = \"log/read.token\"\n\n\
             [[endpoint]]\nurl = \"{node_url}\"\n"
        ));
        let gateway_url = gateway.url("gateway");
        Self {
            _log: log,
            _node: node,
            _gateway: gateway,
            gateway_url,
            place,
        }
    }

    fn api(&self) -> String {
        format!("{}/v1", self.gateway_url)
    }

    fn file(&self, name: &str) -> String {
        self.place.path(name)
    }
}

/// A tool below `conformance/`, with its private Python and Node.js first on the path. What it says
/// is the report, so it is shown.
#[expect(clippy::print_stdout, reason = "the tool's own lines are the report")]
fn tool(program: &str, arguments: &[&str]) {
    let conformance = root().join("conformance");
    let bin = conformance.join(".venv/bin");
    assert!(
        bin.join(program).exists(),
        "{program} is missing: run scripts/test"
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(bin.join(program))
        .args(arguments)
        .current_dir(&conformance)
        .env("PATH", format!("{}:{path}", bin.display()))
        .output()
        .expect("the tool runs");
    print!("{}", text(&output.stdout));
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
}

/// The `sigstore-verify` crate, in a program of its own below `conformance/`.
#[expect(clippy::print_stdout, reason = "the tool's own lines are the report")]
fn sigstore_crate(arguments: &[&str]) {
    let program = "conformance/sigstore_verify/target/debug/sigstore-verify-conformance";
    let output = Command::new(root().join(program)).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run scripts/test"));
    print!("{}", text(&output.stdout));
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
}

fn shell(command: &str, dir: &Path) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(dir)
        .output()
        .expect("a shell runs");
    assert!(
        output.status.success(),
        "{command}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn openai_for_python_chats_streams_and_gets_well_formed_errors() {
    let trio = Trio::start();
    tool("python", &["openai_client.py", &trio.api(), "longrun-demo"]);
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn openai_for_node_chats_streams_and_gets_well_formed_errors() {
    let trio = Trio::start();
    tool("node", &["openai_client.mjs", &trio.api(), "longrun-demo"]);
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn sigstore_accepts_bundles_and_refuses_changed_ones() {
    let trio = Trio::start();
    let http = Http::default();
    let (mut bundles, mut proofs) = (Vec::new(), Vec::new());
    for prompt in ["What is 3 + 4?", "Repeat: red blue"] {
        std::fs::write(trio.file("request"), chat(prompt)).expect("written");
        let answer = http.post(&format!("{}/chat/completions", trio.api()), chat(prompt));
        let call = answer.header("x-longrun-call").to_owned();
        let out = trio.file(&format!("call-{call}"));
        let fetched = run(&[
            "record",
            "fetch",
            &call,
            "--gateway",
            &trio.gateway_url,
            "--out",
            &out,
        ]);
        assert!(fetched.status.success(), "{}", text(&fetched.stderr));
        for kind in ["observation", "receipt"] {
            bundles.push(format!("{out}/attempt-1.{kind}.sigstore.json"));
            proofs.push(format!("{out}/attempt-1.{kind}.tlog-proof"));
        }
        // The artifact that the statements are about.
        let opened = run(&[
            "record",
            "disclose",
            &format!("{out}/attempt-1.receipt.sigstore.json"),
            "--secret",
            &format!("{out}/attempt-1.secret"),
            "--request",
            &trio.file("request"),
            "--openings",
            &trio.file("openings"),
        ]);
        assert!(opened.status.success(), "{}", text(&opened.stdout));
    }
    let trust = trio.file("trust");
    let exported = run(&[
        "trust",
        "export",
        "--log",
        &trio.file("log"),
        "--out",
        &trust,
    ]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let mut arguments = vec!["sigstore_verify.mjs", &trust];
    arguments.extend(bundles.iter().map(String::as_str));
    tool("node", &arguments);
    let opening = trio.file("openings/request.opening");
    for bundle in &bundles[2..] {
        sigstore_crate(&[&trust, &opening, bundle]);
    }

    // The binary and the verifier in JavaScript, on the same files and on damaged copies of them.
    let policy = format!("{trust}/policy.json");
    let longrun = env!("CARGO_BIN_EXE_longrun");
    let mut arguments = vec!["compare_verifiers.mjs", longrun, &policy, "100"];
    arguments.extend(bundles.iter().chain(&proofs).map(String::as_str));
    tool("node", &arguments);
    for file in bundles.iter().chain(&proofs) {
        let verified = run(&["verify", file, "--policy", &policy]);
        let said = text(&verified.stdout);
        assert_eq!(verified.status.code(), Some(0), "{said}");
    }

    // openssl checks the signature over the pre-authentication encoding, sha256sum the openings.
    let bundle: Value =
        serde_json::from_slice(&std::fs::read(&bundles[0]).expect("fetched")).expect("JSON");
    let hint = bundle["verificationMaterial"]["publicKey"]["hint"]
        .as_str()
        .expect("a hint");
    let payload = bundle["dsseEnvelope"]["payload"].as_str().expect("base64");
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"]
        .as_str()
        .expect("base64");
    let command = format!(
        "printf %s '{payload}' | base64 -d > payload && printf %s '{signature}' | base64 -d > sig \
         && t=application/vnd.in-toto+json \
         && {{ printf 'DSSEv1 %d %s %d ' ${{#t}} $t $(wc -c < payload); cat payload; }} > pae \
         && openssl dgst -sha256 -verify {trust}/keys/{hint}.pem -signature sig pae"
    );
    assert!(shell(&command, trio.place.dir()).contains("Verified OK"));
}

#[test]
#[ignore = "needs curl; scripts/test installs it"]
fn curl_and_sha256sum_are_enough_to_open_a_record() {
    let trio = Trio::start();
    let dir = trio.place.dir();
    std::fs::write(dir.join("request"), chat("Repeat: red blue green")).expect("written");
    let curl = format!(
        "curl -sS -D head -o response -H 'content-type: application/json' --data-binary @request \
         {}/chat/completions",
        trio.api()
    );
    shell(&curl, dir);
    let head = std::fs::read_to_string(dir.join("head")).expect("written");
    let call = head
        .lines()
        .find_map(|line| line.strip_prefix("x-longrun-call: "))
        .expect("the call is named first")
        .trim();
    let out = trio.file("call");
    let fetched = run(&[
        "record",
        "fetch",
        call,
        "--gateway",
        &trio.gateway_url,
        "--out",
        &out,
    ]);
    assert!(fetched.status.success(), "{}", text(&fetched.stderr));
    let receipt = format!("{out}/attempt-1.receipt.sigstore.json");
    let opened = run(&[
        "record",
        "disclose",
        &receipt,
        "--secret",
        &format!("{out}/attempt-1.secret"),
        "--request",
        &trio.file("request"),
        "--response",
        &trio.file("response"),
        "--openings",
        &trio.file("openings"),
    ]);
    assert!(opened.status.success(), "{}", text(&opened.stdout));
    let bundle: Value =
        serde_json::from_slice(&std::fs::read(&receipt).expect("fetched")).expect("JSON");
    let payload = bundle["dsseEnvelope"]["payload"].as_str().expect("base64");
    let statement: Value =
        serde_json::from_str(&shell(&format!("printf %s '{payload}' | base64 -d"), dir))
            .expect("JSON");
    for subject in statement["subject"].as_array().expect("subjects") {
        let name = subject["name"].as_str().expect("a name");
        let printed = shell(&format!("sha256sum openings/{name}.opening"), dir);
        let digest = subject["digest"]["sha256"].as_str().expect("a digest");
        assert!(printed.starts_with(digest), "{name}: {printed}");
    }
}

#[test]
#[ignore = "needs conformance/.venv; scripts/test makes it"]
fn the_witness_passes_the_suite_of_siglog() {
    tool(
        "python",
        &["siglog_witness.py", env!("CARGO_BIN_EXE_longrun")],
    );
}
