//! What the tests of the gateway share: a gateway on a port of its own, and a caller.

#![allow(dead_code, unreachable_pub)]

#[path = "../faulty/mod.rs"]
pub mod faulty;
pub mod log;
pub mod otlp;

use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::config::{EndpointConfig, GatewayConfig, Timeouts};
use gateway::{Handle, serve};
use http_body_util::{BodyExt, Full};
use recorder::{Config, Context, Recorder};
use serde_json::{Value, json};
use tempfile::TempDir;

use faulty::{Fault, Faulty, Script};

/// Longest wait for something that should happen soon.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const MODEL: &str = "test-model";

/// Deadlines short enough for tests and long enough for a busy machine.
pub const QUICK: Timeouts = Timeouts {
    connect: Duration::from_millis(1000),
    first_token: Duration::from_millis(700),
    gap: Duration::from_millis(700),
    whole: Duration::from_millis(2500),
    total: Duration::from_millis(2500),
};

/// A gateway, its signer, and a client.
pub struct Running {
    pub handle: Option<Handle>,
    pub recorder: Recorder,
    pub url: String,
    pub directory: TempDir,
    client: engine::http::Client,
}

pub fn config() -> GatewayConfig {
    let mut config = GatewayConfig::listening_on("127.0.0.1:0".parse().expect("an address"));
    config.routing.exploration_ppm = 0;
    // Tests that are about asking again say so.
    config.retry.again_max = 0;
    config
}

pub fn endpoint(upstream: &Faulty) -> EndpointConfig {
    let mut endpoint = EndpointConfig::at(&upstream.url()).expect("a URL");
    endpoint.timeouts = QUICK;
    endpoint
}

/// An upstream that always behaves like this.
pub async fn upstream(fault: Fault) -> Faulty {
    Faulty::api(MODEL, Script::Always(fault)).await
}

/// A gateway in front of these upstreams, without a log.
pub async fn in_front_of(upstreams: &[&Faulty]) -> Running {
    start(upstreams, |_| {}).await
}

/// The same, configured further.
pub async fn start(upstreams: &[&Faulty], adjust: impl FnOnce(&mut GatewayConfig)) -> Running {
    let mut config = config();
    config.endpoints = upstreams.iter().map(|one| endpoint(one)).collect();
    adjust(&mut config);
    Running::start(config, None).await
}

impl Running {
    pub async fn start(config: GatewayConfig, home_log: Option<recorder::HomeLog>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, config, home_log).await
    }

    pub async fn start_in(
        directory: TempDir,
        config: GatewayConfig,
        home_log: Option<recorder::HomeLog>,
    ) -> Self {
        let context = Context::system().expect("randomness");
        Self::start_with(directory, config, home_log, context).await
    }

    /// Without waiting for the endpoints, and without a log.
    pub async fn start_at_once(config: GatewayConfig) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let context = Context::system().expect("randomness");
        Self::serving(directory, config, None, context).await
    }

    /// With a clock of the test's own.
    pub async fn start_with(
        directory: TempDir,
        config: GatewayConfig,
        home_log: Option<recorder::HomeLog>,
        context: Context,
    ) -> Self {
        let running = Self::serving(directory, config, home_log, context).await;
        let handle = running.handle.as_ref().expect("running");
        handle.looked_around().await;
        running
    }

    async fn serving(
        directory: TempDir,
        config: GatewayConfig,
        home_log: Option<recorder::HomeLog>,
        context: Context,
    ) -> Self {
        let mut signer = Config::new(directory.path().join("signer"), "test gateway", "observer");
        signer.home_log = home_log;
        signer.spool.pending_rows = config.spool.records_max;
        let recorder = Recorder::open(&signer, context.clone()).expect("a signer");
        let handle = serve(
            config,
            recorder.clone(),
            context,
            [7; 32],
            axum::Router::new(),
        )
        .await
        .expect("the gateway starts");
        let url = format!("http://{}", handle.address());
        let client = engine::http::client();
        Self {
            handle: Some(handle),
            recorder,
            url,
            directory,
            client,
        }
    }

    /// Stops everything in order; the directory stays.
    pub async fn stop(mut self) -> TempDir {
        self.handle.take().expect("running").stop().await;
        self.recorder
            .close(Duration::from_secs(5))
            .await
            .expect("closes");
        self.directory
    }

    pub async fn send(&self, request: hyper::Request<Full<Bytes>>) -> Answer {
        let answer = self
            .client
            .request(request)
            .await
            .expect("the gateway answers");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        let request = hyper::Request::get(format!("{}{path}", self.url));
        self.send(request.body(Full::default()).expect("a request"))
            .await
    }

    pub async fn post(&self, body: impl Into<Bytes>) -> Answer {
        let request = hyper::Request::post(format!("{}/v1/chat/completions", self.url))
            .header("content-type", "application/json");
        self.send(request.body(Full::new(body.into())).expect("a request"))
            .await
    }

    /// Posts to any path, with more headers.
    pub async fn post_to(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = hyper::Request::post(format!("{}{path}", self.url))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        self.send(request.body(body).expect("a request")).await
    }

    /// An open answer, to be read piece by piece or dropped.
    pub async fn open(&self, body: String) -> hyper::Response<hyper::body::Incoming> {
        let request = hyper::Request::post(format!("{}/v1/chat/completions", self.url))
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        self.client
            .request(request)
            .await
            .expect("the gateway answers")
    }

    /// What became of a call, once it is settled: recorded, or published where there is a log.
    pub async fn call(&self, id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(&format!("/longrun/v1/calls/{id}")).await;
            if answer.status == 200 {
                return answer.json();
            }
            assert_eq!(answer.status, 202, "{}", answer.text());
            assert!(begun.elapsed() < PATIENCE, "{}", answer.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Outcome and fault of each attempt of a call.
    pub async fn outcomes(&self, id: &str) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let told = self.call(id).await;
        let attempts = told["attempts"].as_array().expect("attempts").clone();
        attempts
            .iter()
            .map(|a| (word(&a["outcome"]), word(&a["fault"])))
            .collect()
    }

    pub async fn status(&self) -> Value {
        self.get("/longrun/v1/status").await.json()
    }

    pub async fn history(&self) -> Value {
        self.get("/longrun/v1/history").await.json()
    }

    /// Asks for the history until `done` says yes.
    pub async fn history_until(&self, done: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let history = self.history().await;
            if done(&history) {
                return history;
            }
            assert!(begun.elapsed() < PATIENCE, "{history:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A whole answer.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}"));
        value.to_str().expect("text")
    }

    pub fn call(&self) -> String {
        self.header("x-longrun-call").to_owned()
    }

    /// The frames of a stream.
    pub fn frames(&self) -> Vec<String> {
        let text = self.text();
        let frames = text.split_inclusive("\n\n");
        frames.map(str::to_owned).collect()
    }

    /// Payloads of the events of a stream.
    pub fn events(&self) -> Vec<String> {
        let text = self.text();
        let frames = text.split("\n\n").filter(|frame| !frame.is_empty());
        frames
            .map(|frame| frame.trim_start_matches("data: ").to_owned())
            .collect()
    }
}

pub fn prompt() -> &'static str {
    "a prompt that nobody may keep"
}

pub fn chat(streamed: bool) -> String {
    let messages = json!([{"role": "user", "content": prompt()}]);
    if streamed {
        format!(r#"{{"model":"{MODEL}","messages":{messages},"stream":true}}"#)
    } else {
        format!(r#"{{"model":"{MODEL}","messages":{messages}}}"#)
    }
}
