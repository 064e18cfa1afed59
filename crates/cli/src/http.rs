//! Small, blocking HTTP for commands that ask a server something and print the answer.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::http::request as http_request;

/// An answer larger than this is refused.
const ANSWER_MAX_BYTES: usize = 64 << 20;
/// An answer that takes longer is given up.
const ANSWER_MAX_S: u64 = 60;

/// Status and body of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// What a server said went wrong, or its status where it said nothing readable.
    pub(crate) fn complaint(&self) -> String {
        let said = self
            .json()
            .ok()
            .and_then(|v| Some(v["error"]["message"].as_str()?.to_owned()));
        said.unwrap_or_else(|| format!("HTTP status {}", self.status))
    }
}

/// `GET url`, with a bearer token where one is given; for commands without a runtime.
pub(crate) fn get(url: &str, token: Option<&str>) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(get_async(url, token))
}

/// `POST url` with an empty body, with a bearer token where one is given.
pub(crate) fn post(url: &str, token: Option<&str>) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(send(hyper::Request::post(url), url, token))
}

/// `POST url` with a JSON body.
pub(crate) fn post_json(url: &str, body: String) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let request = hyper::Request::post(url).header("content-type", "application/json");
    runtime.block_on(send_body(request, url, None, Bytes::from(body)))
}

/// `GET url`, with a bearer token where one is given.
pub(crate) async fn get_async(url: &str, token: Option<&str>) -> Result<Answer> {
    send(hyper::Request::get(url), url, token).await
}

async fn send(request: http_request::Builder, url: &str, token: Option<&str>) -> Result<Answer> {
    send_body(request, url, token, Bytes::new()).await
}

async fn send_body(
    request: http_request::Builder,
    url: &str,
    token: Option<&str>,
    body: Bytes,
) -> Result<Answer> {
    let mut request = request;
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(body))
        .with_context(|| format!("{url} is no usable URL"))?;
    let ask = async {
        let answer = engine::http::client()
            .request(request)
            .await
            .with_context(|| format!("{url} does not answer; is it running?"))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES)
            .collect()
            .await
            .map_err(|e| anyhow::anyhow!("{url}: {e}"))?
            .to_bytes();
        Ok(Answer { status, body })
    };
    tokio::time::timeout(Duration::from_secs(ANSWER_MAX_S), ask)
        .await
        .with_context(|| format!("{url} took longer than {ANSWER_MAX_S} s"))?
}
