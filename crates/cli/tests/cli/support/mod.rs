//! What the tests of the binary share: running `longrun`, finding its address, speaking HTTP.

// Each test target compiles this file and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

mod place;

pub use place::{ANY_PORT, Place, network_of};

/// Longest wait for something that should happen soon.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/cli lies two levels below the root")
        .to_path_buf()
}

pub fn demo_model() -> PathBuf {
    root().join("models/demo/longrun-demo-f16.gguf")
}

/// The binary, with nothing of this machine's environment that could steer it.
pub fn longrun() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longrun"));
    command.env_remove("LONGRUN_LOG");
    command
}

/// Runs to the end and keeps what was printed.
pub fn run(arguments: &[&str]) -> Output {
    longrun().args(arguments).output().expect("the binary runs")
}

/// Runs to an end that must be good, and gives what was printed.
pub fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out
}

/// The second word of the first line that starts with `label`.
pub fn word_after(printed: &str, label: &str) -> String {
    let line = printed.lines().find(|line| line.starts_with(label));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    word.unwrap_or_else(|| panic!("no {label} in {printed}"))
        .to_owned()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A long-running `longrun`; killed when dropped.
pub struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_command(longrun().args(arguments))
    }

    pub fn start_command(command: &mut Command) -> Self {
        Self::start_with_stderr(command, Stdio::inherit())
    }

    pub fn start_with_stderr(command: &mut Command, stderr: Stdio) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// With outputs that are set already; nothing that it prints can be waited for.
    pub fn start_unread(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self {
            child: child.expect("the binary starts"),
            lines: mpsc::channel().1,
            seen: Vec::new(),
        }
    }

    /// Waits for a printed line that starts with `label` and returns the URL in it.
    pub fn url(&mut self, label: &str) -> String {
        self.word(label, "http").trim_end_matches('/').to_owned()
    }

    /// Waits for a printed line that starts with `label` and returns the word in it that starts so.
    pub fn word(&mut self, label: &str, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.seen.iter();
            let mut labelled = lines.filter(|line| line.trim_start().starts_with(label));
            let found = labelled
                .find_map(|line| line.split_whitespace().find(|word| word.starts_with(start)));
            if let Some(word) = found {
                return word.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no line {label:?} was printed; there was {:#?}", self.seen),
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing of the process runs after this.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process can be waited for");
    }

    /// Sends a signal by its name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill is there").success());
    }

    /// Ctrl-C, then waits for the end.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.signal("INT");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .expect("the process can be waited for")
            {
                return status;
            }
            assert!(Instant::now() < deadline, "the process did not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status, headers and body of an answer.
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}", text(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}"))
            .to_str()
            .expect("our headers are text")
    }
}

/// A client with a runtime of its own, so that tests read top to bottom.
pub struct Http {
    runtime: tokio::runtime::Runtime,
    client: engine::http::Client,
    /// What a gateway with keys wants.
    key: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        Self {
            runtime,
            client: engine::http::client(),
            key: None,
        }
    }
}

impl Http {
    /// With this key in every request.
    pub fn with_key(key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..Self::default()
        }
    }

    pub fn get(&self, url: &str) -> Answer {
        self.try_get(url).unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    pub fn try_get(&self, url: &str) -> Result<Answer, String> {
        let request = hyper::Request::get(url)
            .body(Full::default())
            .expect("a usable URL");
        self.send(request)
    }

    pub fn post(&self, url: &str, body: impl Into<Bytes>) -> Answer {
        self.try_post(url, body)
            .unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    pub fn try_post(&self, url: &str, body: impl Into<Bytes>) -> Result<Answer, String> {
        let request = hyper::Request::post(url)
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .map_err(|e| e.to_string())?;
        self.send(request)
    }

    fn send(&self, mut request: hyper::Request<Full<Bytes>>) -> Result<Answer, String> {
        if let Some(key) = &self.key {
            let bearer = format!("Bearer {key}").parse().map_err(|_| "no key")?;
            request.headers_mut().insert("authorization", bearer);
        }
        self.runtime.block_on(async {
            let work = async {
                let answer = self
                    .client
                    .request(request)
                    .await
                    .map_err(|e| e.to_string())?;
                let (head, body) = answer.into_parts();
                let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
                Ok(Answer {
                    status: head.status.as_u16(),
                    headers: head.headers,
                    body,
                })
            };
            tokio::time::timeout(PATIENCE, work)
                .await
                .map_err(|e| e.to_string())?
        })
    }

    /// As [`Self::until`], of a server that may not listen yet.
    pub fn until_there(&self, url: &str, done: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        while self.try_get(url).is_err() {
            assert!(Instant::now() < deadline, "{url} is not there");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.until(url, done)
    }

    /// Asks until `done` says yes; panics after [`PATIENCE`].
    pub fn until(&self, url: &str, done: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(url);
            if done(&answer) {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "{url} stayed at {}",
                text(&answer.body)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A chat request for the demonstration model.
pub fn chat(prompt: &str) -> String {
    serde_json::json!({
        "model": "longrun-demo",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 24,
    })
    .to_string()
}
