//! `[alarms]`: where news of trouble are posted to.

use std::path::PathBuf;

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use toml::Spanned;

use super::file::{Place, variable};
use super::{ConfigError, Secret, Surroundings};

/// The environment variable with the secret when none is named.
pub const SECRET_ENV: &str = "LONGRUN_ALARMS_SECRET";
/// How a secret begins that is the base64 of its bytes, by the Standard Webhooks specification.
const PREFIX: &str = "whsec_";
/// Fewer bytes could be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// Where alarms go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmsConfig {
    /// The webhook. It may hold a token, so nothing prints more of it than its origin.
    pub webhook: Webhook,
    /// What is posted is signed with this; none: unsigned.
    pub secret: Option<Secret>,
    /// The file that remembers what was posted and what waits; none: memory alone.
    pub state_file: Option<PathBuf>,
}

/// The address of a webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook(pub(crate) Uri);

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Webhook({}/…)", super::origin(&self.0))
    }
}

/// Why alarms cannot be posted like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlarmsError {
    /// The URL.
    #[error("not an http:// or https:// URL without user name and password")]
    Url,
    /// The secret.
    #[error(
        "the secret has fewer than {SECRET_BYTES_MIN} bytes, or \"whsec_\" is not followed by base64; \
         make one with: echo whsec_$(openssl rand -base64 32)"
    )]
    Secret,
}

impl AlarmsConfig {
    /// Posts to `url`, signed with `secret`.
    ///
    /// # Errors
    /// [`AlarmsError`]
    pub fn new(url: &str, secret: Option<Secret>) -> Result<Self, AlarmsError> {
        let uri: Uri = url.trim().parse().map_err(|_| AlarmsError::Url)?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let plain = uri.authority().is_some_and(|a| !a.as_str().contains('@'));
        if !known || !plain {
            return Err(AlarmsError::Url);
        }
        if let Some(secret) = &secret {
            key_bytes(secret)?;
        }
        Ok(Self {
            webhook: Webhook(uri),
            secret,
            state_file: None,
        })
    }
}

/// The bytes of a secret.
pub(crate) fn key_bytes(secret: &Secret) -> Result<Vec<u8>, AlarmsError> {
    let text = secret.reveal();
    let bytes = match text.strip_prefix(PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| AlarmsError::Secret)?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(AlarmsError::Secret);
    }
    Ok(bytes)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlarmsTable {
    webhook: Spanned<String>,
    secret_env: Option<Spanned<String>>,
}

pub(super) fn alarms(
    at: &Place<'_>,
    table: &AlarmsTable,
    around: &dyn Surroundings,
) -> Result<AlarmsConfig, ConfigError> {
    let secret = match &table.secret_env {
        Some(name) => Some(variable(at, name, "alarms.secret_env", around)?),
        None => around
            .variable(SECRET_ENV)
            .map(|value| Secret::new(&value))
            .transpose()
            .map_err(|e| at.wrong(&table.webhook, "alarms", &format!("{SECRET_ENV}: {e}")))?,
    };
    AlarmsConfig::new(table.webhook.get_ref(), secret).map_err(|error| match error {
        AlarmsError::Url => at.wrong(&table.webhook, "alarms.webhook", &error.to_string()),
        AlarmsError::Secret => {
            let place = table.secret_env.as_ref().unwrap_or(&table.webhook);
            at.wrong(place, "alarms.secret_env", &error.to_string())
        }
    })
}
