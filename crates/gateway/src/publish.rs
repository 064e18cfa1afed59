//! `publish = "summaries"` or `"records"`: this gateway's word to its log on what strangers may read of its records.
//!
//! It is said at the start and whenever the configuration says something else, and again until the log
//! has taken it. Where the configuration says nothing, nothing is said.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use record::SigningKey;
use record::consent::{Consent, Publish};
use record::control::LogOrigin;
use ring::rand::SystemRandom;

use crate::gateway::Gateway;

/// How often it is looked whether there is something to say.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the log may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Says it for as long as the gateway runs.
pub(crate) async fn keep_saying(gateway: Arc<Gateway>) {
    let mut said = None;
    let mut trouble = None;
    loop {
        let wanted = gateway.settings().config.publish;
        if let Some(publish) = wanted.filter(|_| wanted != said) {
            match say(&gateway, publish).await {
                Ok(()) => {
                    tracing::info!(publish = publish.as_str(), "the log knows what is public");
                    (said, trouble) = (wanted, None);
                }
                Err(why) => {
                    if trouble.as_ref() != Some(&why) {
                        tracing::warn!(why, "the log does not know yet what is public");
                    }
                    trouble = Some(why);
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn say(gateway: &Gateway, publish: Publish) -> Result<(), String> {
    let recorder = &gateway.recorder;
    let (Some(log), Some(url)) = (recorder.home_log(), recorder.home_url()) else {
        return Err("there is no log".to_owned());
    };
    let identity = recorder.identity();
    let mut consent = Consent {
        log: LogOrigin::new(log.name()).map_err(|error| error.to_string())?,
        key: identity.key_id(),
        publish,
        at_ms: gateway.clock.unix_ms(),
    };
    let signature = identity.consent(&consent, gateway.random.as_ref());
    let signature = signature.map_err(|error| error.to_string())?;
    send(gateway, url, consent.to_json(identity.key(), &signature)).await?;
    if publish == Publish::None {
        for key in retired_keys(recorder.directory())? {
            consent.key = key.key_id();
            let signature = key.consent(&consent, gateway.random.as_ref());
            let signature = signature.map_err(|error| error.to_string())?;
            send(gateway, url, consent.to_json(key.public(), &signature)).await?;
        }
    }
    Ok(())
}

/// The instance keys that this directory had before: what they signed stays as public as they said,
/// so whoever takes the word back says so for them too.
///
/// # Errors
/// Which file cannot be read, and why.
pub fn retired_keys(directory: &Path) -> Result<Vec<SigningKey>, String> {
    let keys = directory.join("keys");
    let failed =
        |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut retired = Vec::new();
    for entry in std::fs::read_dir(&keys).map_err(|error| failed(&keys, &error))? {
        let path = entry.map_err(|error| failed(&keys, &error))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !(name.starts_with("instance.") && name.ends_with(".retired.pem")) {
            continue;
        }
        let pem = std::fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
        let key = SigningKey::from_pem(&pem, &SystemRandom::new());
        retired.push(key.map_err(|error| failed(&path, &error))?);
    }
    Ok(retired)
}

async fn send(gateway: &Gateway, url: &str, body: String) -> Result<(), String> {
    let request = Request::post(format!("{url}/longrun/v1/publish"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = gateway.client.request(request).await;
        let answer = answer.map_err(|error| crate::network::innermost(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Err(format!("it answered {status}: {said}"))
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_from_before_are_found_and_no_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = directory.path().join("keys");
        std::fs::create_dir(&keys).expect("made");
        let make = |name: &str| {
            let key = SigningKey::generate(&SystemRandom::new()).expect("randomness");
            std::fs::write(keys.join(name), key.to_pem()).expect("written");
            key.key_id()
        };
        let retired = make("instance.0123456789abcdef.retired.pem");
        for name in [
            "instance.pem",
            "instance.next.pem",
            "root.0123456789abcdef.retired.pem",
        ] {
            make(name);
        }
        let found = retired_keys(directory.path()).expect("readable");
        assert_eq!(
            found.iter().map(SigningKey::key_id).collect::<Vec<_>>(),
            [retired]
        );
    }
}
