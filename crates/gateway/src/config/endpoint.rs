//! What an endpoint offers, as its owner declares it: how much at once, under which names, at what
//! price and on which terms. Nothing of this is measured; preferences of callers are held against
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::file::{EndpointTable, Place, duration, positive};

/// How long a call waits for a place when the file says nothing.
pub const QUEUE_DEFAULT: Duration = Duration::from_secs(1);

/// What an endpoint offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Calls that it takes at once; none: as many as come.
    pub concurrency_max: Option<usize>,
    /// How long a call waits for one of these places.
    pub queue: Duration,
    /// Name under which a model is offered → its name at the endpoint.
    pub aliases: BTreeMap<String, String>,
    /// What callers write before the names of its models; aliases are whole names.
    pub prefix: String,
    /// What it costs.
    pub price: Price,
    /// The precision of its weights.
    pub quantization: Option<Quantization>,
    /// Whether it may keep prompts.
    pub data_collection: Option<DataCollection>,
    /// Names of the request's parameters that it understands.
    pub parameters: Option<BTreeSet<String>>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            concurrency_max: None,
            queue: QUEUE_DEFAULT,
            aliases: BTreeMap::new(),
            prefix: String::new(),
            price: Price::default(),
            quantization: None,
            data_collection: None,
            parameters: None,
        }
    }
}

/// Prices in millionths of a US dollar: per million tokens, per request, per image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// A million tokens of prompt.
    pub prompt: Option<u64>,
    /// A million tokens of answer.
    pub completion: Option<u64>,
    /// A request.
    pub request: Option<u64>,
    /// An image.
    pub image: Option<u64>,
}

/// Prices in US dollars, as people write them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dollars {
    prompt: Option<f64>,
    completion: Option<f64>,
    request: Option<f64>,
    image: Option<f64>,
}

/// A million US dollars is a mistake in the unit.
const DOLLARS_MAX: f64 = 1e6;

impl Dollars {
    /// The prices in millionths, rounded; an error names the price that is none.
    pub(crate) fn to_price(self) -> Result<Price, &'static str> {
        let millionths = |name, dollars: Option<f64>| match dollars {
            None => Ok(None),
            Some(dollars) if (0.0..=DOLLARS_MAX).contains(&dollars) => {
                // Within 0 and 10^12, so nothing is lost.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let millionths = (dollars * 1e6).round() as u64;
                Ok(Some(millionths))
            }
            Some(_) => Err(name),
        };
        Ok(Price {
            prompt: millionths("prompt", self.prompt)?,
            completion: millionths("completion", self.completion)?,
            request: millionths("request", self.request)?,
            image: millionths("image", self.image)?,
        })
    }
}

/// The precision of weights, in the words that people know from `OpenRouter`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// 4-bit integers.
    Int4,
    /// 8-bit integers.
    Int8,
    /// 4-bit floating point.
    Fp4,
    /// 6-bit floating point.
    Fp6,
    /// 8-bit floating point.
    Fp8,
    /// 16-bit floating point.
    Fp16,
    /// 16-bit brain floating point.
    Bf16,
    /// 32-bit floating point.
    Fp32,
    /// Not declared.
    Unknown,
}

/// Whether a provider may keep what it is sent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DataCollection {
    /// It may.
    Allow,
    /// It does not.
    Deny,
}

pub(super) fn offer(at: &Place<'_>, table: &EndpointTable) -> Result<Offer, ConfigError> {
    let default = Offer::default();
    let concurrency_max = match &table.concurrency_max {
        None => None,
        Some(value) => {
            const KEY: &str = "endpoint.concurrency_max";
            let count = positive(at, value, KEY)?;
            let count = usize::try_from(count)
                .map_err(|_| at.wrong(value, KEY, "too large for this machine"))?;
            Some(count)
        }
    };
    let price = match &table.price {
        None => Price::default(),
        Some(dollars) => dollars.get_ref().to_price().map_err(|name| {
            let message = format!(
                "{name} is not between 0 and {DOLLARS_MAX} US dollars (per million tokens, per \
                 request or per image)"
            );
            at.wrong(dollars, "endpoint.price", &message)
        })?,
    };
    Ok(Offer {
        concurrency_max,
        queue: match &table.queue_ms {
            None => default.queue,
            Some(value) => duration(at, value, "endpoint.queue_ms")?,
        },
        aliases: aliases(at, table.aliases.as_ref())?,
        prefix: table.prefix.clone().unwrap_or_default(),
        price,
        quantization: table.quantization,
        data_collection: table.data_collection,
        parameters: table.parameters.clone(),
    })
}

fn aliases(
    at: &Place<'_>,
    table: Option<&Spanned<BTreeMap<String, String>>>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let Some(table) = table else {
        return Ok(BTreeMap::new());
    };
    for (alias, model) in table.get_ref() {
        if alias.is_empty() || model.is_empty() {
            let message =
                "a model needs a name; write for instance { \"llama\" = \"meta/llama-3\" }";
            return Err(at.wrong(table, "endpoint.aliases", message));
        }
    }
    Ok(table.get_ref().clone())
}
