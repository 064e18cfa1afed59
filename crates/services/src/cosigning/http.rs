//! A witness behind a URL.

use std::time::Duration;

use axum::body::Bytes;
use engine::http::Client;
use http_body_util::{BodyExt as _, Full, Limited};
use tlog::note::SignatureLine;
use tlog::witness::parse_cosignatures;
use tokio::runtime::Runtime;

use super::{ClientError, WitnessClient};

/// Bytes of the longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A witness that is asked over HTTP.
pub struct HttpWitness {
    url: String,
    /// Made on the thread that uses it.
    connection: Option<(Runtime, Client)>,
}

impl HttpWitness {
    /// The witness with this submission prefix, such as `https://witness.example/prefix`.
    #[must_use]
    pub fn new(submission_prefix: &str) -> Self {
        let url = format!("{}/add-checkpoint", submission_prefix.trim_end_matches('/'));
        Self {
            url,
            connection: None,
        }
    }
}

impl WitnessClient for HttpWitness {
    fn add_checkpoint(
        &mut self,
        request: &[u8],
        timeout: Duration,
    ) -> Result<Vec<SignatureLine>, ClientError> {
        let unreachable =
            |error: &dyn std::fmt::Display| ClientError::Unreachable(error.to_string());
        if self.connection.is_none() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| unreachable(&error))?;
            self.connection = Some((runtime, engine::http::client()));
        }
        let Some((runtime, client)) = &self.connection else {
            return Err(ClientError::Unreachable("no connection".to_owned()));
        };
        let body = Full::new(Bytes::copy_from_slice(request));
        let request = http::Request::post(&self.url)
            .header("content-type", "text/plain; charset=utf-8")
            .body(body)
            .map_err(|error| unreachable(&error))?;
        let exchange = async {
            let answer = client
                .request(request)
                .await
                .map_err(|error| unreachable(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| unreachable(&error))?.to_bytes();
            Ok((status, body))
        };
        let (status, body) = runtime
            .block_on(async { tokio::time::timeout(timeout, exchange).await })
            .map_err(|_| ClientError::Unreachable(format!("not within {timeout:?}")))??;
        read_answer(status.as_u16(), &body)
    }
}

fn read_answer(status: u16, body: &[u8]) -> Result<Vec<SignatureLine>, ClientError> {
    let said = String::from_utf8_lossy(body)
        .trim_end()
        .chars()
        .take(200)
        .collect::<String>();
    match status {
        200 => parse_cosignatures(body).map_err(|error| ClientError::Refused(error.to_string())),
        409 => match said.parse() {
            Ok(size) => Err(ClientError::Conflict(size)),
            Err(_) => Err(ClientError::Refused(format!("409 without a size: {said}"))),
        },
        422 => Err(ClientError::Inconsistent(said)),
        _ => Err(ClientError::Refused(format!("{status}: {said}"))),
    }
}
