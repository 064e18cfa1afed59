//! One case: what is asked of whom, how often, and what the answer must be.

use std::time::Duration;

use record::{Digest, hmac_sha256};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::assertion::Assertion;

/// How often a case is asked where it does not say, minutes.
pub const EVERY_MINUTES: u64 = 60;
/// A case is asked at most this often, minutes.
const EVERY_MINUTES_MIN: u64 = 1;

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called here; it is in no record.
    pub name: String,
    /// The model that is asked, at every endpoint that serves it.
    pub model: String,
    /// Only this endpoint, `provider/model`.
    pub endpoint: Option<String>,
    /// What the answer must be.
    pub assertions: Vec<Assertion>,
    written: Written,
}

/// As it stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Value>>,
    /// More members of the request, such as `temperature` and `tools`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every_minutes: Option<u64>,
    assert: Vec<Value>,
}

impl Case {
    /// Reads a line. `model` is asked where it names none.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(line: &str, model: Option<&str>) -> Result<Self, String> {
        let written: Written = serde_json::from_str(line).map_err(|error| error.to_string())?;
        Self::of(written, model)
    }

    fn of(mut written: Written, model: Option<&str>) -> Result<Self, String> {
        if written.prompt.is_some() == written.messages.is_some() {
            return Err("either `prompt` or `messages` is there".to_owned());
        }
        let model = written.model.clone().or(model.map(str::to_owned));
        let model = model.ok_or("it names no `model`; --model says which one for all")?;
        for fixed in ["model", "messages", "stream", "n"] {
            if written.parameters.contains_key(fixed) {
                return Err(format!(
                    "`{fixed}` is not among the parameters that a case can set"
                ));
            }
        }
        let every = written.every_minutes.unwrap_or(EVERY_MINUTES);
        if !(EVERY_MINUTES_MIN..=100_000).contains(&every) {
            return Err("`every_minutes` is not within 1 to 100,000".to_owned());
        }
        if written.assert.is_empty() {
            return Err("`assert` is empty: nothing would be checked".to_owned());
        }
        let mut assertions = Vec::new();
        for (at, source) in written.assert.iter().enumerate() {
            assertions.push(Assertion::read(source).map_err(|why| format!("assert[{at}]: {why}"))?);
        }
        if assertions
            .iter()
            .filter(|it| it.repeats().is_some())
            .count()
            > 1
        {
            return Err("`agreement` is there twice".to_owned());
        }
        written.model = Some(model.clone());
        // A name of its own for every question, so that adding the same file twice changes nothing.
        let asked = json!([
            &written.model,
            &written.endpoint,
            &written.prompt,
            &written.messages,
            &written.parameters
        ]);
        let name = written.name.clone().unwrap_or_else(|| {
            record::sha256(asked.to_string().as_bytes()).to_hex()[..12].to_owned()
        });
        written.name = Some(name.clone());
        Ok(Self {
            name,
            model,
            endpoint: written.endpoint.clone(),
            assertions,
            written,
        })
    }

    /// As it is stored.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(&self.written).unwrap_or_default()
    }

    /// How often it is asked.
    #[must_use]
    pub fn every(&self) -> Duration {
        Duration::from_secs(60 * self.written.every_minutes.unwrap_or(EVERY_MINUTES))
    }

    /// How often the prompt is repeated each time.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.assertions
            .iter()
            .find_map(Assertion::repeats)
            .unwrap_or(1)
    }

    /// The request, as an application would send it.
    pub(crate) fn request(&self) -> Vec<u8> {
        let mut body = self.written.parameters.clone();
        let messages = match (&self.written.messages, &self.written.prompt) {
            (Some(messages), _) => Value::from(messages.clone()),
            (None, prompt) => json!([{"role": "user", "content": prompt}]),
        };
        body.insert("model".to_owned(), Value::from(self.model.as_str()));
        body.insert("messages".to_owned(), messages);
        Value::from(body).to_string().into_bytes()
    }

    /// Case and assertions, under a secret: the same ones have the same digests.
    pub(crate) fn digests(&self, secret: &[u8]) -> (Digest, Digest) {
        let assertions: Vec<&Value> = self.assertions.iter().map(Assertion::source).collect();
        let assertions = json!(assertions).to_string();
        (
            hmac_sha256(secret, &[b"case\n", &*self.request()].concat()),
            hmac_sha256(secret, &[b"assertions\n", assertions.as_bytes()].concat()),
        )
    }
}
