//! One event to the webhook, signed as the Standard Webhooks specification has it
//! (<https://github.com/standard-webhooks/standard-webhooks>): `webhook-id`, `webhook-timestamp`
//! (Unix s, of this attempt) and `webhook-signature`, which is `v1,` and the base64 of
//! HMAC-SHA256 over `id.timestamp.body`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::http::Client;
use http::{Request, Uri, header};
use http_body_util::Full;
use ring::hmac;

use super::event::Event;

/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where events go, and the key that signs them.
pub(super) struct Post {
    pub(super) client: Client,
    pub(super) webhook: Uri,
    pub(super) key: Option<hmac::Key>,
}

impl Post {
    /// Posts an event; what went wrong holds nothing of the address.
    pub(super) async fn post(&self, event: &Event, now_ms: u64) -> Result<(), String> {
        let body = serde_json::to_vec(event).map_err(|error| error.to_string())?;
        let seconds = now_ms / 1000;
        let mut request = Request::post(self.webhook.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "longrun-gateway")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", seconds);
        if let Some(key) = &self.key {
            let signature = signature(key, &event.id, seconds, &body);
            request = request.header("webhook-signature", signature);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| error.to_string())?;
        let exchange = self.client.request(request);
        let answer = match tokio::time::timeout(TIMEOUT, exchange).await {
            Err(_) => return Err("it did not answer in time".to_owned()),
            Ok(Err(_)) => return Err("it cannot be reached".to_owned()),
            Ok(Ok(answer)) => answer,
        };
        if answer.status().is_success() {
            return Ok(());
        }
        Err(format!("it answered {}", answer.status()))
    }
}

fn signature(key: &hmac::Key, id: &str, seconds: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::alarms::key_bytes;

    /// The example of the specification's reference libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let key = hmac::Key::new(
            hmac::HMAC_SHA256,
            &key_bytes(&secret).expect("base64 of 24 bytes"),
        );
        let signed = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
