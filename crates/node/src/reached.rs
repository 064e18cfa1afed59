//! Whether this node is reached at an address that it offers: it asks itself what gateways ask.
//!
//! It says nothing for sure. Behind a router that does not lead its own addresses back inside, a node does not
//! reach itself where others do; and inside a network it may where others do not.

use std::time::Duration;

use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::http::Client;
use http_body_util::{BodyExt, Full, Limited};
use record::challenge::Challenge;
use record::{Address, Digest, PublicKey};

use crate::offer::{Asked, Proof};
use crate::serve::Node;

/// How long an answer may take, as gateways have it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer.
const BYTES_MAX: usize = 64 << 10;

impl Node {
    /// Asks `address` for the proof that this node's key is there.
    ///
    /// # Errors
    /// What is there instead, in words.
    pub async fn is_reached_at(&self, client: &Client, address: &Address) -> Result<(), String> {
        let asked = tokio::time::timeout(PATIENCE, self.ask_itself(client, address)).await;
        asked.unwrap_or_else(|_| Err("nothing answered in time".to_owned()))
    }

    async fn ask_itself(&self, client: &Client, address: &Address) -> Result<(), String> {
        let recorder = &self.shared.recorder;
        let identity = recorder.identity();
        let mut nonce = [0; 32];
        let filled = recorder.context().random.fill(&mut nonce);
        filled.map_err(|_| "this machine has no randomness".to_owned())?;
        let challenge = Challenge {
            nonce: Digest::from_bytes(nonce),
            address: address.clone(),
            provider: identity.id(),
        };
        let asked = Asked {
            nonce: challenge.nonce.to_hex(),
            address: address.to_string(),
        };
        let body = serde_json::to_vec(&asked).map_err(|error| error.to_string())?;
        let request = Request::post(format!("{}/longrun/v1/challenge", address.base()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = client
            .request(request)
            .await
            .map_err(|error| innermost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let proof: Option<Proof> = serde_json::from_slice(&body).ok();
        let Some(proof) = proof.filter(|_| status.is_success()) else {
            return Err(format!("something else answered, with {status}"));
        };
        let bytes = |text: &str| STANDARD.decode(text).ok();
        let key = bytes(&proof.key).and_then(|key| PublicKey::from_spki(&key).ok());
        let signature = bytes(&proof.signature).unwrap_or_default();
        let text = challenge.to_string();
        let is_own = key.as_ref() == Some(identity.key());
        if is_own && identity.key().verify(text.as_bytes(), &signature).is_ok() {
            return Ok(());
        }
        Err("another node answered, with a key of its own".to_owned())
    }
}

/// The reason at the bottom: hyper's own message leaves it out.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
